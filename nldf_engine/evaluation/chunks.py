"""The unit of work of an evaluation: a run of frames, scored on threads and stored on disk until the end.

Chunks don't depend on the number of threads, so neither do the values: a face is tracked anew in
every chunk, from `WARM_UP` frames before it on (measured on a talking person: landmarks then differ by
less than 0.07 px at 512 from those of one unbroken track).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from nldf_engine.base.files import atomic_path, make_folder, sha256
from nldf_engine.evaluation.landmark_detector import Detector
from nldf_engine.geometry.face_mesh import LANDMARKS

LENGTH, WARM_UP = 100, 8


@dataclass(frozen=True)
class Chunk:
    """Scored frames [start, stop) of a sequence, and `warm` frames before them that are only tracked."""

    start: int
    stop: int
    warm: int

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def first(self) -> int:
        """The first frame that is read."""
        return self.start - self.warm


def cut(count: int) -> list[Chunk]:
    """The chunks of a sequence of `count` frames.

    Example:
        >>> [(c.start, c.stop, c.warm) for c in cut(230)]
        [(0, 100, 0), (100, 200, 8), (200, 230, 8)]
    """
    return [
        Chunk(start, min(start + LENGTH, count), min(WARM_UP, start)) for start in range(0, count, LENGTH)
    ]


def track(frames: Sequence[np.ndarray], warm: int, detector: Callable[[], Detector]) -> np.ndarray:
    """Landmarks of a chunk: [len(frames) - warm, 478, 2] float32, pixels at 512, NaN without a face."""
    own = detector()
    try:
        points = [own(frame) for frame in frames]
    finally:
        own.close()
    return np.stack(points[warm:]) if len(points) > warm else np.empty((0, LANDMARKS, 2), np.float32)


def digest(*parts: Any) -> str:
    """SHA-256 over arrays and whatever JSON can hold."""
    made = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            made.update(f"{part.dtype}{part.shape}".encode())
            made.update(np.ascontiguousarray(part).tobytes())
        else:
            made.update(json.dumps(part, sort_keys=True, default=str).encode())
        made.update(b"\0")
    return made.hexdigest()


@cache
def installation_hash() -> str:
    """SHA-256 over the package's own code and kernels: results of other code are not reused."""
    import nldf_engine

    root = Path(nldf_engine.__file__).parent
    files = sorted(path for path in root.rglob("*") if path.suffix in (".py", ".so", ".pyd"))
    return digest([(str(path.relative_to(root)), sha256(path)) for path in files])


class ChunkStore:
    """Values of chunks beside the report, so that an evaluation that was stopped goes on where it was.

    Args:
        folder: where; it is made with the first result, and removed by `clear`.
        key: hash of everything that the results depend on; None keeps nothing.
    """

    def __init__(self, folder: Path | None, key: str | None) -> None:
        self._folder = folder if key is not None else None
        self._key = digest(LENGTH, WARM_UP, key)[:24]

    def _path(self, variant: str, chunk: Chunk) -> Path | None:
        if self._folder is None:
            return None
        return self._folder / f"{variant}-{chunk.start:06d}-{chunk.stop:06d}-{self._key}.safetensors"

    def get(self, variant: str, chunk: Chunk) -> dict[str, np.ndarray] | None:
        """The stored values of a chunk of a variant, or None. A damaged file counts as none."""
        from safetensors import SafetensorError
        from safetensors.numpy import load

        path = self._path(variant, chunk)
        if path is None or not path.is_file():
            return None
        try:
            return dict(load(path.read_bytes()))
        except (SafetensorError, OSError, ValueError, KeyError):
            return None

    def put(self, variant: str, chunk: Chunk, values: dict[str, np.ndarray]) -> None:
        """Keeps a chunk's results, whole or not at all."""
        from safetensors.numpy import save

        path = self._path(variant, chunk)
        if path is None:
            return
        make_folder(path.parent)
        with atomic_path(path) as temporary:
            temporary.write_bytes(save({name: np.ascontiguousarray(v) for name, v in values.items()}))

    def lacks(self, variant: str, chunks: Sequence[Chunk]) -> bool:
        """Whether any of the variant's chunks is not stored."""
        return any(self.get(variant, chunk) is None for chunk in chunks)

    def clear(self) -> None:
        """Removes everything that a store ever kept in the folder, and the folder if it is empty then."""
        if self._folder is None or not self._folder.is_dir():
            return
        for path in self._folder.glob("*-*-*-*.safetensors"):
            path.unlink(missing_ok=True)
        if not any(self._folder.iterdir()):
            self._folder.rmdir()


def packed(frames: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Frames as arrays that a store keeps, losslessly compressed.

    Raises:
        ValueError: a frame that is not uint8 [H, W, 3].
    """
    import cv2

    pieces = []
    for frame in frames:
        ok, data = cv2.imencode(".png", frame[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])
        if not ok:
            raise ValueError(f"frames: expected uint8 [H,W,3], got {frame.dtype} {list(frame.shape)}")
        pieces.append(data.ravel())
    ends = np.cumsum([len(piece) for piece in pieces], dtype=np.int64)
    return {"frames": np.concatenate(pieces) if pieces else np.empty(0, np.uint8), "frame_ends": ends}


def unpacked(values: dict[str, np.ndarray]) -> list[np.ndarray]:
    """The frames of `packed`, uint8 [H, W, 3]."""
    import cv2

    pieces = np.split(values["frames"], values["frame_ends"][:-1]) if len(values["frame_ends"]) else []
    return [np.ascontiguousarray(cv2.imdecode(piece, cv2.IMREAD_COLOR)[..., ::-1]) for piece in pieces]
