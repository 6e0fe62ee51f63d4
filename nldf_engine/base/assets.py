"""Files that come with the package: where they are, and that they are what was shipped."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from nldf_engine.base.errors import FileProblem

if TYPE_CHECKING:
    from torch import Tensor

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


def load_tensors(path: Path, sha256: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a shipped safetensors file, half precision as float32, and what its header says.

    Raises:
        FileProblem: as `read_asset`.
    """
    import torch
    from safetensors.torch import load

    content = read_asset(path, sha256)
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    tensors = {
        name: value.float() if value.dtype == torch.float16 else value
        for name, value in load(content).items()
    }
    return tensors, header.get("__metadata__", {})
