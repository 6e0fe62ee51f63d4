"""Results on disk that are valid for one key, so that interrupted or repeated work continues where it was.

    results = Results(folder, key_of(settings, sha256(video)))
    found = results.get("pose")                      # None: not made yet, damaged, or of another key
    if found is None:
        results.put("pose", {"poses": poses}, {"error_px": 0.4})
    results.clear()

An entry is one file `NAME.safetensors`: tensors, and in its metadata the key and values that JSON can hold.
It is written whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nldf_engine.base.files import atomic_path

if TYPE_CHECKING:
    from torch import Tensor

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class Result:
    """An entry: numpy arrays or torch tensors by name, and values that JSON can hold by name."""

    tensors: dict[str, Any]
    values: dict[str, Any]


def key_of(*parts: Any) -> str:
    """A key: SHA-256 over arrays (dtype, shape and content) and whatever JSON can hold, as hexadecimal text.

    Example:
        >>> key_of("a", 1) == key_of("a", 1), key_of("a", 1) == key_of("a", 2)
        (True, False)
    """
    made = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            made.update(f"{part.dtype}{part.shape}".encode())
            made.update(np.ascontiguousarray(part).tobytes())
        else:
            made.update(json.dumps(part, sort_keys=True, default=str).encode())
        made.update(b"\0")
    return made.hexdigest()


class Results:
    """Named results of one key in a folder.

    Args:
        folder: where; it is made with the first result. None keeps nothing.
        key: stands for everything that the results depend on: entries of another key are none.
        shared: the folder holds other files as well: `clear` refuses to delete it.
    """

    def __init__(self, folder: Path | None, key: str, shared: bool = False) -> None:
        self.folder, self._key, self._shared = folder, key, shared

    def get(self, name: str, framework: str = "numpy") -> Result | None:
        """The entry, or None where there is none of this key that can be read.

        Args:
            name: of the entry.
            framework: "numpy" or "torch": what the tensors come as; torch's on the CPU.

        Raises:
            ValueError: a name that is no plain file name, or an unknown framework.
        """
        if framework not in ("numpy", "torch"):
            raise ValueError(f"framework: expected 'numpy' or 'torch', got {framework!r}")
        path = self._path(name)
        if path is None or not path.is_file():
            return None
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(str(path), framework={"numpy": "np", "torch": "pt"}[framework]) as stored:
                metadata = stored.metadata() or {}
                if metadata.get("key") != self._key:
                    return None
                names = list(stored.keys())
                values = json.loads(metadata.get("values", "{}"))
                return Result({tensor: stored.get_tensor(tensor) for tensor in names}, values)
        except (SafetensorError, OSError, ValueError):
            return None

    def has(self, name: str) -> bool:
        """Whether `get` would find the entry; reads its header alone.

        Raises:
            ValueError: a name that is no plain file name.
        """
        path = self._path(name)
        return path is not None and _stored_key(path) == self._key

    def put(
        self, name: str, tensors: Mapping[str, np.ndarray | Tensor], values: Mapping[str, Any] | None = None
    ) -> None:
        """Writes an entry, whole or not at all, over an older one of its name.

        Args:
            name: of the entry.
            tensors: all numpy arrays or all torch tensors.
            values: what JSON can hold, by name.

        Raises:
            ValueError: a name that is no plain file name, or values with NaN or infinity.
            TypeError: values that JSON can't hold.
            FileProblem: it can't be written.
        """
        path = self._path(name)
        if path is None:
            return
        metadata = {"key": self._key}
        if values:
            metadata["values"] = json.dumps(dict(values), allow_nan=False)
        arrays = [value for value in tensors.values() if isinstance(value, np.ndarray)]
        if len(arrays) == len(tensors):
            from safetensors.numpy import save

            content = save({key: np.ascontiguousarray(value) for key, value in tensors.items()}, metadata)
        else:
            from safetensors.torch import save as save_torch

            content = save_torch(
                {key: value.detach().cpu().contiguous() for key, value in tensors.items()},  # type: ignore[union-attr]
                metadata,
            )
        with atomic_path(path) as temporary:
            temporary.write_bytes(content)

    def stale(self) -> bool:
        """Whether the folder holds a readable entry of another key, or of an older format."""
        if self.folder is None or not self.folder.is_dir():
            return False
        found = (_stored_key(path) for path in self.folder.glob("*.safetensors"))
        return any(key is not None and key != self._key for key in found)

    def clear(self) -> None:
        """Deletes the entries of every key, damaged ones included, and the folder where it is empty then.

        Raises:
            ValueError: the folder is shared.
        """
        if self._shared:
            raise ValueError(f"shared: {self.folder} holds other files as well, and can't be cleared")
        if self.folder is None or not self.folder.is_dir():
            return
        for path in self.folder.glob("*.safetensors"):
            path.unlink(missing_ok=True)
        if not any(self.folder.iterdir()):
            self.folder.rmdir()

    def lacks(self, names: Iterable[str]) -> bool:
        """Whether any of the entries is none."""
        return not all(self.has(name) for name in names)

    def _path(self, name: str) -> Path | None:
        if NAME.fullmatch(name) is None:
            raise ValueError(f"name: expected letters, digits, '_', '-' and '.', got {name!r}")
        return None if self.folder is None else self.folder / f"{name}.safetensors"


def _stored_key(path: Path) -> str | None:
    """The key of an entry, empty where it has none; None where there is no file, or a damaged one."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        return None
    try:
        with safe_open(str(path), framework="np") as stored:
            return (stored.metadata() or {}).get("key", "")
    except (SafetensorError, OSError, ValueError):
        return None
