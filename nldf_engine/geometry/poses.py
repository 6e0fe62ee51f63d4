"""Camera poses for a clip: the avatar's own track looped without a jump, a still one, or a file's.

A pose is camera-to-head, [4, 4]: the head is fixed and the camera moves (AD-NeRF 3.1).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from nldf_engine.base.errors import FileProblem
from nldf_engine.base.files import read_json
from nldf_engine.geometry.transforms import TRANSFORMS, file_poses, folder_poses, root_of

LARGEST_FILE = 256 << 20
ORTHONORMAL_TOLERANCE = 1e-2
FARTHEST = 10.0  # metres to the head, beyond which other units are taken for the reason
WRITE_SO = "write [T, 4, 4] float32 camera-to-head matrices as .npy, .safetensors (tensor 'poses') or .json"


def check_poses(poses: Tensor, name: str = "poses") -> Tensor:
    """The poses as [T, 4, 4] float32, refused where they are no rigid motions.

    Raises:
        ValueError: wrong shape, no frames, NaN or infinity, a part that is no rotation, or a last row
            other than 0 0 0 1.
    """
    if poses.dim() != 3 or tuple(poses.shape[1:]) != (4, 4) or not len(poses):
        raise ValueError(f"{name}: expected [T, 4, 4] with T at least 1, got {list(poses.shape)}")
    if not poses.is_floating_point():
        raise ValueError(f"{name}: expected floating point numbers, got {poses.dtype}")
    if poses.device.type != "cpu" or poses.requires_grad:
        raise ValueError(f"{name}: expected a tensor on the CPU without gradient; call .detach().cpu()")
    poses = poses.float()
    finite = torch.isfinite(poses).flatten(1).all(1)
    if not bool(finite.all()):
        bad = int((~finite).nonzero()[0, 0])
        raise ValueError(f"{name}: frame {bad} holds NaN or infinity ({int((~finite).sum())} frames do)")
    rotation = poses[:, :3, :3].double()
    error = (rotation @ rotation.transpose(1, 2) - torch.eye(3, dtype=torch.float64)).abs().amax((1, 2))
    mirrored = torch.linalg.det(rotation) < 0
    if float(error.max()) > ORTHONORMAL_TOLERANCE or bool(mirrored.any()):
        bad = int(mirrored.nonzero()[0, 0]) if bool(mirrored.any()) else int(error.argmax())
        raise ValueError(
            f"{name}: frame {bad} is no rigid motion: its upper left 3 x 3 part must be a rotation "
            f"(expected camera-to-head matrices with OpenCV axes)"
        )
    last = torch.tensor([0.0, 0, 0, 1])
    if float((poses[:, 3] - last).abs().max()) > 1e-4:
        raise ValueError(f"{name}: the last row of every pose must be 0 0 0 1")
    return poses


def check_view(poses: Tensor) -> Tensor:
    """The poses [T, 4, 4], refused where most of them show no face: other units, or other axes.

    Raises:
        ValueError: the head is farther away than FARTHEST, or behind the camera, or shows its back.
    """
    place = poses[:, :3, 3]
    distance = float(place.norm(dim=1).median())
    if distance > FARTHEST:
        raise ValueError(
            f"the head is {distance:.0f} m away: are these millimetres? Translations are in metres"
        )
    depth = -(poses[:, :3, 2] * place).sum(1)
    if float(depth.median()) < 0 or float(poses[:, 2, 2].median()) < 0:
        raise ValueError(
            "the cameras look away from the face: these look like OpenGL axes (y up, z backwards). Negate "
            "the second and third column of each matrix"
        )
    return poses


def _read_numpy(path: Path) -> Tensor:
    return torch.from_numpy(np.load(path, allow_pickle=False).astype(np.float32))


def _read_safetensors(path: Path) -> Tensor:
    with safe_open(path, "pt") as stream:
        if "poses" not in stream.keys():  # noqa: SIM118 (safe_open is no mapping)
            raise FileProblem(path, "it holds no tensor named 'poses'", WRITE_SO)
        return stream.get_tensor("poses")


def _read_json(path: Path) -> Tensor:
    """Nested lists, or a transforms file of another project."""
    value = read_json(path, LARGEST_FILE)
    if isinstance(value, dict):
        return torch.from_numpy(file_poses(path, value))
    return torch.tensor(value, dtype=torch.float32)


READERS: dict[str, Callable[[Path], Tensor]] = {
    ".npy": _read_numpy,
    ".safetensors": _read_safetensors,
    ".json": _read_json,
}
"""What reads the poses [T, 4, 4] of a file, by its ending."""


def load_poses(path: str | Path) -> Tensor:
    """[T, 4, 4] float32 poses of a file or folder.

    Args:
        path: a file that `READERS` has an ending for; a JSON file holds nested lists, or is a transforms
            file of AD-NeRF, DFRF, RAD-NeRF or ER-NeRF. Or a dataset folder, or a folder of those projects,
            of which all listed frames are taken.

    Raises:
        FileProblem: the file is missing, of another kind, damaged, or holds no valid poses.
    """
    path = Path(path)
    if path.is_dir():
        track, root = path / "track.safetensors", root_of(path)
        if not track.exists() and any((root / name).is_file() for name in TRANSFORMS):
            return check_poses(torch.from_numpy(folder_poses(path)))
        path = track
    if not path.is_file():
        raise FileProblem(
            path, "there is no such file", "give a pose file, a dataset folder, 'track' or 'still'"
        )
    if path.stat().st_size > LARGEST_FILE:
        raise FileProblem(path, f"it has {path.stat().st_size} bytes, more than a pose file can have")
    kind = path.suffix.lower()
    if kind not in READERS:
        raise FileProblem(path, f"pose files end in .npy, .safetensors or .json, not {kind!r}", WRITE_SO)
    try:
        return check_view(check_poses(READERS[kind](path)))
    except (ValueError, TypeError, OSError, EOFError, SafetensorError) as error:
        raise FileProblem(path, f"it holds no usable poses ({error})", WRITE_SO) from error


def load_torso(path: str | Path) -> Tensor | None:
    """[T, 2, 3] torso motion of a dataset folder in units of the frame's width; None where it has none.

    Raises:
        FileProblem: the folder's track or description is damaged.
    """
    path = Path(path)
    if not all((path / name).is_file() for name in ("dataset.json", "track.safetensors")):
        return None
    try:
        with safe_open(path / "track.safetensors", "pt") as stream:
            if "torso" not in stream.keys():  # noqa: SIM118 (safe_open is no mapping)
                return None
            motion = stream.get_tensor("torso").float()
        width = float(read_json(path / "dataset.json", LARGEST_FILE)["size"][0])
        if motion.dim() != 3 or tuple(motion.shape[1:]) != (2, 3) or not bool(torch.isfinite(motion).all()):
            raise ValueError(f"torso: expected finite [T, 2, 3], got {list(motion.shape)}")
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise FileProblem(path, f"it holds no usable torso track ({error})", "prepare it again") from error
    motion[:, :, 2] /= width
    return motion


def check_values(name: str, values: Any, shape: list[int]) -> Tensor:
    """The values of the argument `name` as a float32 tensor of its own.

    Raises:
        ValueError: they have another shape, or are not finite.
    """
    given = torch.tensor(np.ascontiguousarray(values, np.float32))
    if list(given.shape) != shape or not bool(torch.isfinite(given).all()):
        raise ValueError(f"{name}: expected finite values {shape}, got {list(given.shape)}")
    return given
