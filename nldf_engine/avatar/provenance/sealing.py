"""Signing: a C2PA manifest into a finished mp4 or mov."""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path
from typing import Any

import numpy as np

from nldf_engine.avatar.provenance.credentials import Credentials
from nldf_engine.avatar.provenance.origin import Origin
from nldf_engine.base.errors import FileProblem
from nldf_engine.base.files import atomic_path, printable
from nldf_engine.media.pictures import encode_png

FORMATS = {".mp4": "video/mp4", ".m4v": "video/x-m4v", ".mov": "video/quicktime"}
# The network is never used, and no thumbnail is made.
SETTINGS: dict[str, Any] = {
    "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False, "verify_after_sign": True},
    "builder": {"thumbnail": {"enabled": False}},
}
PROFILE = (
    "use a certificate for C2PA: key usage digitalSignature, extended key usage e-mail protection or C2PA "
    "claim signing, issued by an authority whose certificate follows it in the file"
)


def can_seal() -> bool:
    """Whether the library that signs is installed."""
    return importlib.util.find_spec("c2pa") is not None


def check_credentials(credentials: Credentials) -> None:
    """Signs a picture of one pixel in memory: a certificate that C2PA refuses is known before the work.

    Raises:
        FileProblem: it is refused.
    """
    picture = io.BytesIO(encode_png(np.zeros((1, 1, 3), np.uint8)))
    _sign(Path("certificate"), Origin("check", "", "check"), credentials, "image/png", picture, io.BytesIO())


def seal(path: str | Path, origin: Origin, credentials: Credentials, title: str | None = None) -> None:
    """Puts a signed C2PA manifest into the file, whole or not at all; what plays stays bit for bit the same.

    Args:
        path: an .mp4, .m4v or .mov.
        origin: what made it.
        credentials: what signs.
        title: the name that the manifest gives the file; its own by default.

    Raises:
        FileProblem: another kind of file, a damaged one, or C2PA refuses the certificate.

    Example:
        >>> seal("out.mp4", engine.avatar.origin, find_credentials())   # doctest: +SKIP
    """
    path = Path(path)
    kind = FORMATS.get(path.suffix.lower())
    if kind is None:
        known = ", ".join(FORMATS)
        raise FileProblem(path, f"manifests go into {known}, not {path.suffix!r}", f"write one of {known}")
    with atomic_path(path) as signed, open(path, "rb") as source, open(signed, "w+b") as target:
        _sign(path, origin, credentials, kind, source, target, title)


def _sign(
    path: Path, origin: Origin, credentials: Credentials, kind: str, source: Any, target: Any,
    title: str | None = None,
) -> None:  # fmt: skip
    import c2pa

    information = c2pa.C2paSignerInfo(
        alg=credentials.algorithm.encode(),
        sign_cert=credentials.chain,
        private_key=credentials.key,
        ta_url=None,
    )
    try:
        with (
            c2pa.Context.from_dict(SETTINGS) as context,
            c2pa.Signer.from_info(information) as signer,
            c2pa.Builder(origin.manifest(printable(title or path.name), kind), context) as builder,
        ):
            builder.sign(signer, kind, source, target)
    except c2pa.C2paError as error:
        said = " ".join(str(error).split())
        remedy = PROFILE if "signingCredential" in said or "ertificate" in said else "render it again"
        raise FileProblem(path, f"it can't be signed ({said})", remedy) from error
