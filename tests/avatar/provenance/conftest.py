"""A short signed clip, and certificates as an authority would issue them."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from avatars import tiny_avatar
from nldf_engine.avatar import Avatar
from nldf_engine.avatar.provenance import Consent
from nldf_engine.engine import Engine
from nldf_engine.engine.clip import Clip

pytest.importorskip("c2pa", reason="c2pa-python is not installed: no manifest can be signed or read")


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    """Twelve frames of an avatar that was saved with a consent record, and loaded again."""
    folder = tmp_path_factory.mktemp("avatars") / "ada"
    avatar = tiny_avatar()
    avatar.consent = Consent("given", "Ada Lovelace", "2026-01-31", "may be used in lectures")
    avatar.save(folder)
    features = np.random.default_rng(0).random((12, 16, 29)).astype(np.float32)
    return Engine(Avatar.load(folder), torch.device("cpu")).render(features)


@pytest.fixture(scope="session")
def signed(clip: Clip, configuration: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The clip as mp4, signed with the local credentials; not to be changed."""
    return clip.save(tmp_path_factory.mktemp("signed") / "out.mp4")


Issue = Callable[..., tuple[Path, Path, Path]]


@pytest.fixture
def issue(tmp_path: Path) -> Issue:
    """Issues a signer's certificate by an authority of its own: (chain, key, authority), PEM files."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    makers = {
        "es256": lambda: ec.generate_private_key(ec.SECP256R1()),
        "es384": lambda: ec.generate_private_key(ec.SECP384R1()),
        "ps256": lambda: rsa.generate_private_key(65537, 2048),
        "ed25519": ed25519.Ed25519PrivateKey.generate,
    }

    def make(
        kind: str = "es256", purpose: str = "1.3.6.1.5.5.7.3.4", days: int = 30, password: bytes | None = None
    ) -> tuple[Path, Path, Path]:
        above, key = ec.generate_private_key(ec.SECP256R1()), makers[kind]()
        begin = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=1)
        root = x509.Name(
            [x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "Analytical Engines"),
             x509.NameAttribute(x509.NameOID.COMMON_NAME, "root")]
        )  # fmt: skip
        leaf = x509.Name(
            [x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "Analytical Engines"),
             x509.NameAttribute(x509.NameOID.COMMON_NAME, "Charles Babbage")]
        )  # fmt: skip

        def certificate(name: x509.Name, public: object, is_signer: bool) -> bytes:
            rights = dict.fromkeys(
                ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
                 "encipher_only", "decipher_only", "crl_sign"), False,
            )  # fmt: skip
            rights |= {"digital_signature": is_signer, "key_cert_sign": not is_signer}
            builder = (
                x509.CertificateBuilder(root, name, public, x509.random_serial_number())
                .not_valid_before(begin)
                .not_valid_after(begin + datetime.timedelta(days=days if is_signer else 365))
                .add_extension(x509.BasicConstraints(not is_signer, None), True)
                .add_extension(x509.KeyUsage(**rights), True)
                .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), False)
                .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(above.public_key()), False)
            )
            if is_signer:
                builder = builder.add_extension(
                    x509.ExtendedKeyUsage([x509.ObjectIdentifier(purpose)]), False
                )
            return builder.sign(above, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

        authority = certificate(root, above.public_key(), False)
        lock = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
        files = {
            "chain.pem": certificate(leaf, key.public_key(), True) + authority,
            "key.pem": key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock),
            "authority.pem": authority,
        }
        folder = tmp_path / f"{kind}{purpose}{days}{bool(password)}"
        folder.mkdir()
        for name, content in files.items():
            (folder / name).write_bytes(content)
        return folder / "chain.pem", folder / "key.pem", folder / "authority.pem"

    return make
