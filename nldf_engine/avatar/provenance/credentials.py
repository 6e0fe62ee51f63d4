"""The certificate and key that sign a video: the user's own, or local ones that are made once.

Searched for in this order: what the call gives, the environment variables NLDF_SIGN_CERT and NLDF_SIGN_KEY,
the folder `signing` of the user's configuration. Where that folder is empty, it is filled with a key
and a certificate of a local authority: C2PA does not take certificates that sign themselves.
"""

from __future__ import annotations

import datetime
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nldf_engine.base.errors import FileProblem
from nldf_engine.base.files import atomic_folder

ALGORITHMS = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}
# C2PA demands one of these purposes in the signer's certificate: e-mail protection, which every version of
# the standard takes, and C2PA's own "claim signing".
PURPOSES = ("1.3.6.1.5.5.7.3.4", "1.3.6.1.4.1.62558.2.1")
YEARS = 10
FILES = ("certificate.pem", "key.pem", "authority.pem")
OWN = "give a certificate and the key that belongs to it: --sign-cert CERT.pem --sign-key KEY.pem"


@dataclass(frozen=True)
class Credentials:
    """What signs.

    Args:
        chain: PEM of the signer's certificate, then of those above it.
        key: PEM of its private key (PKCS#8, not encrypted); never printed.
        algorithm: as C2PA names it: "es256", "es384", "es512", "ps256" or "ed25519".
        local: made here, known to no one else.
    """

    chain: bytes
    key: bytes = field(repr=False)
    algorithm: str
    local: bool = False


def config_folder() -> Path:
    """The user's configuration: $NLDF_CONFIG, else nldf_engine in the system's usual place."""
    if named := os.environ.get("NLDF_CONFIG"):
        return Path(named)
    if sys.platform == "win32":
        return Path(os.environ.get("APPDATA") or Path.home()) / "nldf_engine"
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "nldf_engine"


def find_credentials(cert: str | Path | None = None, key: str | Path | None = None) -> Credentials:
    """The credentials to sign with; local ones are made where there are none yet.

    Args:
        cert, key: PEM files of the signer's certificate chain and private key, or both None. A password
            of the key is read from the environment variable NLDF_SIGN_PASSWORD.

    Raises:
        ValueError: one of the two without the other.
        FileProblem: a file can't be read, they do not belong together, or the certificate is not valid now.
    """
    if (cert is None) != (key is None):
        raise ValueError("sign_cert and sign_key belong together: give both, or neither")
    if cert is not None and key is not None:
        return _read(Path(cert), Path(key))
    named = os.environ.get("NLDF_SIGN_CERT"), os.environ.get("NLDF_SIGN_KEY")
    if any(named):
        if not all(named):
            raise ValueError("NLDF_SIGN_CERT and NLDF_SIGN_KEY belong together: set both, or neither")
        return _read(Path(str(named[0])), Path(str(named[1])))
    folder = config_folder() / "signing"
    if (folder / FILES[1]).is_file():
        return _read(folder / FILES[0], folder / FILES[1], local=(folder / FILES[2]).is_file())
    return _make_local(folder)


def local_authority() -> bytes | None:
    """PEM of this user's local authority, where credentials were made here."""
    path = config_folder() / "signing" / FILES[2]
    return path.read_bytes() if path.is_file() else None


def check_anchors(pem: bytes) -> bytes:
    """Certificates of authorities, as they were given.

    Raises:
        ValueError: they can't be read.
    """
    from cryptography import x509

    try:
        x509.load_pem_x509_certificates(pem)
        pem.decode("ascii")
    except ValueError as error:
        raise ValueError(f"trusted: expected certificates in PEM form ({error})") from error
    return pem


def _make_local(folder: Path) -> Credentials:
    files = _new_credentials()
    try:
        with atomic_folder(folder) as temporary:
            for name, content in files.items():
                # The key is never readable by others, not even for a moment.
                with open(os.open(temporary / name, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as stream:
                    stream.write(content)
        folder.chmod(0o700)
    except FileProblem as problem:
        sys.stderr.write(f"{problem} This video is signed with a key that is used once and not kept.\n")
    except OSError:
        # Another process has made them at this very moment: a folder that is not empty is not replaced.
        if not (folder / FILES[1]).is_file():
            raise
        return _read(folder / FILES[0], folder / FILES[1], local=True)
    return Credentials(files[FILES[0]], files[FILES[1]], "es256", local=True)


def _new_credentials() -> dict[str, bytes]:
    """A fresh key, its certificate, and the authority that issued it, whose own key is not kept."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    keys = {role: ec.generate_private_key(ec.SECP256R1()) for role in ("authority", "signer")}
    mark = x509.SubjectKeyIdentifier.from_public_key(keys["signer"].public_key()).digest.hex()[:8]
    names = {
        role: x509.Name(
            [
                x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "nldf_engine, local and unverified"),
                x509.NameAttribute(x509.NameOID.COMMON_NAME, f"{role} {mark}"),
            ]
        )
        for role in keys
    }
    begin = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(hours=1)

    def certificate(role: str, purposes: tuple[str, ...] = ()) -> bytes:
        public, above = keys[role].public_key(), keys["authority"]
        rights = dict.fromkeys(
            ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"), False
        )
        rights |= {"encipher_only": False, "decipher_only": False, "crl_sign": not purposes}
        rights |= {"digital_signature": bool(purposes), "key_cert_sign": not purposes}
        builder = (
            x509.CertificateBuilder(names["authority"], names[role], public, x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(begin + datetime.timedelta(days=365 * YEARS))
            .add_extension(x509.BasicConstraints(not purposes, None if purposes else 0), critical=True)
            .add_extension(x509.KeyUsage(**rights), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(above.public_key()), critical=False
            )
        )
        if purposes:
            oids = [x509.ObjectIdentifier(oid) for oid in purposes]
            builder = builder.add_extension(x509.ExtendedKeyUsage(oids), critical=False)
        return builder.sign(above, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    authority = certificate("authority")
    return {
        FILES[0]: certificate("signer", PURPOSES) + authority,
        FILES[1]: _plain(keys["signer"]),
        FILES[2]: authority,
    }


def _plain(key: Any) -> bytes:
    from cryptography.hazmat.primitives import serialization

    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return bytes(key.private_bytes(pem, pkcs8, serialization.NoEncryption()))


def _read(cert: Path, key: Path, local: bool = False) -> Credentials:
    """Credentials of two PEM files, checked against each other and the clock.

    Raises:
        FileProblem: see `find_credentials`.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    chain, secret = _bytes(cert), _bytes(key)
    try:
        leaf = x509.load_pem_x509_certificates(chain)[0]
    except ValueError as error:
        raise FileProblem(cert, f"it holds no certificate in PEM form ({error})", OWN) from error
    password = os.environ.get("NLDF_SIGN_PASSWORD")
    try:
        private = serialization.load_pem_private_key(secret, password.encode() if password else None)
    except (ValueError, TypeError) as error:
        remedy = "set NLDF_SIGN_PASSWORD where the key is encrypted, or " + OWN
        raise FileProblem(key, f"it holds no readable private key in PEM form ({error})", remedy) from error
    if private.public_key() != leaf.public_key():
        raise FileProblem(key, f"it is not the key of the certificate in {cert}", OWN)
    now = datetime.datetime.now(datetime.timezone.utc)
    if not leaf.not_valid_before_utc <= now <= leaf.not_valid_after_utc:
        days = f"{leaf.not_valid_before_utc:%Y-%m-%d} to {leaf.not_valid_after_utc:%Y-%m-%d}"
        remedy = f"delete the folder {cert.parent}: new ones are made then" if local else OWN
        raise FileProblem(cert, f"the certificate is valid from {days} only", remedy)
    if isinstance(private, ec.EllipticCurvePrivateKey) and private.curve.name in ALGORITHMS:
        algorithm = ALGORITHMS[private.curve.name]
    elif isinstance(private, rsa.RSAPrivateKey):
        algorithm = "ps256"
    elif isinstance(private, ed25519.Ed25519PrivateKey):
        algorithm = "ed25519"
    else:
        raise FileProblem(key, "C2PA signs with RSA, Ed25519 or EC keys of P-256, P-384 or P-521", OWN)
    return Credentials(chain, _plain(private), algorithm, local)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise FileProblem(path, f"it can't be read ({error.strerror})", OWN) from error
