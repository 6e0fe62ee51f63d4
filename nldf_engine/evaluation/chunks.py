"""The unit of work of an evaluation: a run of frames, scored on threads and stored on disk until the end.

Chunks don't depend on the number of threads, so neither do the values: a face is tracked again in
every chunk, from `WARM_UP` frames before it on (measured on a talking person: landmarks then differ by
less than 0.07 px at 512 from those of one unbroken track).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from nldf_engine.base.files import sha256
from nldf_engine.base.results import Results, key_of
from nldf_engine.evaluation.landmark_detector import Detector
from nldf_engine.geometry.face_mesh import LANDMARKS
from nldf_engine.media.pictures import encode_png

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


@cache
def installation_hash() -> str:
    """SHA-256 over the package's own code and kernels: results of other code are not reused."""
    import nldf_engine

    root = Path(nldf_engine.__file__).parent
    files = sorted(path for path in root.rglob("*") if path.suffix in (".py", ".so", ".pyd"))
    return key_of([(str(path.relative_to(root)), sha256(path)) for path in files])


class ChunkStore:
    """Values of chunks beside the report, so that an evaluation that was stopped continues where it was.

    Args:
        folder: where; it is made with the first chunk, and deleted by `clear`.
        key: hash of everything that the values depend on; None keeps nothing.
    """

    def __init__(self, folder: Path | None, key: str | None) -> None:
        self._results = Results(folder if key is not None else None, key_of(LENGTH, WARM_UP, key))

    def get(self, variant: str, chunk: Chunk) -> dict[str, np.ndarray] | None:
        """The stored values of a chunk of a variant, or None. A damaged file counts as none."""
        found = self._results.get(_name(variant, chunk))
        return None if found is None else found.tensors

    def put(self, variant: str, chunk: Chunk, values: dict[str, np.ndarray]) -> None:
        """Stores a chunk's values, whole or not at all.

        Raises:
            FileProblem: they can't be written.
        """
        self._results.put(_name(variant, chunk), values)

    def lacks(self, variant: str, chunks: Sequence[Chunk]) -> bool:
        """Whether any of the variant's chunks is not stored."""
        return self._results.lacks(_name(variant, chunk) for chunk in chunks)

    def clear(self) -> None:
        """Deletes every chunk that was ever stored in the folder, and the folder if it is empty then."""
        self._results.clear()


def _name(variant: str, chunk: Chunk) -> str:
    return f"{variant}-{chunk.start:06d}-{chunk.stop:06d}"


def packed(frames: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Frames as arrays that a store keeps, losslessly compressed.

    Raises:
        ValueError: a frame that is not uint8 [H, W, 3].
    """
    pieces = []
    for frame in frames:
        pieces.append(np.frombuffer(encode_png(frame, compression=1), np.uint8))
    ends = np.cumsum([len(piece) for piece in pieces], dtype=np.int64)
    return {"frames": np.concatenate(pieces) if pieces else np.empty(0, np.uint8), "frame_ends": ends}


def unpacked(values: dict[str, np.ndarray]) -> list[np.ndarray]:
    """The frames of `packed`, uint8 [H, W, 3]."""
    import cv2

    pieces = np.split(values["frames"], values["frame_ends"][:-1]) if len(values["frame_ends"]) else []
    return [np.ascontiguousarray(cv2.imdecode(piece, cv2.IMREAD_COLOR)[..., ::-1]) for piece in pieces]
