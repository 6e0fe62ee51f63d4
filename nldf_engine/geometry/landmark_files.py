"""Tracks of the 68 landmarks as files that people edit: one tensor [T, 68, 3], and what its numbers mean.

A .safetensors file holds the tensor "landmarks" and the metadata `MEANING`. A .npy file holds the array
alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from nldf_engine.base.errors import FileProblem
from nldf_engine.base.files import atomic_path
from nldf_engine.geometry.face_mesh import LANDMARKS, MARKS, MARKS_JAW

MEANING = {
    "format": "nldf-landmarks", "schema": "1", "order": "ibug-68", "space": "head", "units": "metres",
    "axes": "x right, y down, z away from the camera", "frames_per_second": "25",
}  # fmt: skip
"""Metadata of a file; a file with other values of order, space or units is refused."""
LARGEST_FILE = 1 << 30
# Between the temples a face measures so much, metres.
NARROWEST_FACE, WIDEST_FACE = 0.06, 0.3
WRITE_SO = (
    "write [T, 68, 3] float32 in metres of head space as .safetensors (tensor 'landmarks') or .npy; nldf "
    "landmarks writes such a file"
)


def check_landmarks(values: Any) -> Tensor:
    """Landmarks as [T, 68, 3] float32 of their own, refused where they are something else.

    Args:
        values: metres in head space, in iBUG's order.

    Raises:
        ValueError: another shape (2-D landmarks and those of the whole mesh are explained), NaN or infinity,
            other units than metres, y pointing upwards, or another order.
    """
    given = np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values)
    if given.dtype.kind not in "fiu":
        raise ValueError(f"landmarks: expected floating point numbers, got {given.dtype}")
    shape = list(given.shape)
    if given.ndim != 3 or shape[1:] != [len(MARKS), 3] or not shape[0]:
        raise ValueError(f"landmarks: expected [T, {len(MARKS)}, 3], got {shape}{_why(shape)}")
    track = torch.tensor(np.ascontiguousarray(given, np.float32))
    finite = track.flatten(1).isfinite().all(1)
    if not bool(finite.all()):
        bad = int((~finite).nonzero()[0, 0])
        raise ValueError(
            f"landmarks: frame {bad} holds NaN or infinity ({int((~finite).sum())} of {len(track)} do); "
            "interpolate them (geometry.landmark_tracks.between)"
        )
    _check_meaning(track)
    return track


def _why(shape: list[int]) -> str:
    """What landmarks of a wrong shape probably are."""
    if shape[-1:] == [2]:
        return (
            "; those are 2-D: pixels have no depth. Place them in head space with the video's poses "
            "(geometry.landmark_tracks.landmark_track)"
        )
    if shape[1:2] and shape[1] in (LANDMARKS, LANDMARKS - 10):
        return "; those are the whole face mesh: take its points geometry.face_mesh.MARKS"
    return ""


def _check_meaning(track: Tensor) -> None:
    """Raises where the numbers [T, 68, 3] can't be metres of head space in iBUG's order."""
    middle = track.median(0).values
    width = float((middle[MARKS_JAW[-1]] - middle[MARKS_JAW[0]]).norm())
    if not NARROWEST_FACE <= width <= WIDEST_FACE:
        metres = 1e-3 * width
        unit = (
            "millimetres: divide by 1000"
            if NARROWEST_FACE <= metres <= WIDEST_FACE
            else "pixels or another unit"
        )
        raise ValueError(
            f"landmarks: expected metres, with {NARROWEST_FACE:g} to {WIDEST_FACE:g} between the temples, "
            f"got {width:.4g}; these look like {unit}"
        )
    chin, bridge = middle[8], middle[27]
    if chin[1] < bridge[1]:
        raise ValueError(
            "landmarks: expected y to grow downwards, and the chin is above the nose; negate y and z"
        )
    if not bool(middle[36, 0] < middle[45, 0]) or not bool(middle[48, 0] < middle[54, 0]):
        raise ValueError(
            "landmarks: expected iBUG's order, in which eyes and lips begin at the picture's left; these "
            "begin at its right, or are in another order"
        )
    heights = [float(middle[part, 1].mean()) for part in (slice(17, 27), slice(36, 48), slice(48, 68), 8)]
    if heights != sorted(heights):  # of brows, eyes, lips and chin
        raise ValueError("landmarks: expected iBUG's order (jaw, brows, nose, eyes, lips), got another one")


def check_ending(path: str | Path) -> Path:
    """The path, where it ends as a file that `save_landmarks` writes.

    Raises:
        FileProblem: it ends in something else.
    """
    path = Path(path)
    if path.suffix.lower() != ".safetensors":
        raise FileProblem(path, "tracks of landmarks end in .safetensors", "choose such a name")
    return path


def save_landmarks(path: str | Path, landmarks: Any) -> None:
    """Writes a track [T, 68, 3] as .safetensors, whole or not at all.

    Raises:
        ValueError: see `check_landmarks`.
        FileProblem: the file can't be written, or its name ends in something else.
    """
    path = check_ending(path)
    track = check_landmarks(landmarks)
    with atomic_path(path) as temporary:
        save_file({"landmarks": track}, temporary, MEANING)


def load_landmarks(path: str | Path) -> Tensor:
    """[T, 68, 3] float32 of a .safetensors or .npy file.

    Raises:
        FileProblem: the file is missing, too large, of another kind, damaged, or holds something else.
    """
    path = Path(path)
    if not path.is_file():
        raise FileProblem(path, "there is no such file", "nldf landmarks AVATAR AUDIO -o FILE writes one")
    if path.stat().st_size > LARGEST_FILE:
        raise FileProblem(
            path, f"it has {path.stat().st_size} bytes, more than a track of landmarks can have"
        )
    kind = path.suffix.lower()
    try:
        if kind == ".npy":
            return check_landmarks(np.load(path, allow_pickle=False))
        if kind != ".safetensors":
            raise FileProblem(
                path, f"tracks of landmarks end in .safetensors or .npy, not {kind!r}", WRITE_SO
            )
        return check_landmarks(_read(path))
    except (ValueError, TypeError, OSError, EOFError, SafetensorError) as error:
        raise FileProblem(path, f"it holds no usable landmarks ({error})", WRITE_SO) from error


def _read(path: Path) -> Tensor:
    with safe_open(path, "pt") as stream:
        if "landmarks" not in stream.keys():  # noqa: SIM118 (safe_open is no mapping)
            raise ValueError("no tensor named 'landmarks'")
        stated = stream.metadata() or {}
        for name in ("order", "space", "units"):
            if stated.get(name, MEANING[name]) != MEANING[name]:
                raise ValueError(f"its {name}: expected {MEANING[name]!r}, got {stated[name]!r}")
        return stream.get_tensor("landmarks")
