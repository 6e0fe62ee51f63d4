"""Files that come with the package: where they are, and that they are what was shipped."""

from __future__ import annotations

import hashlib
from pathlib import Path

from nldf_engine.base.errors import FileProblem

# Not importlib.resources: of an editable installation, which lives in two folders, it makes no real path.
ASSETS = Path(__file__).resolve().parent.parent / "assets"
REMEDY = "install the package again: pip install --force-reinstall --no-deps nldf_engine"


def read_asset(path: Path, sha256: str) -> bytes:
    """The bytes of a shipped file.

    Args:
        path: the file, usually in `ASSETS`.
        sha256: hexadecimal SHA-256 of what was shipped.

    Raises:
        FileProblem: it is missing, can't be read, or holds something else.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise FileProblem(path, f"the installation lacks it ({error.strerror})", REMEDY) from error
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise FileProblem(
            path,
            f"it is not the file that was shipped (SHA-256 {found[:12]}... of {len(content)} bytes, expected "
            f"{sha256[:12]}...)",
            REMEDY,
        )
    return content
