"""Camera poses for a clip: the avatar's own track looped without a jump, a still one, or a file's.

A pose is camera-to-head, [4, 4]: the head stands still and the camera moves (AD-NeRF 3.1).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from nldf_engine.base.errors import FileProblem
from nldf_engine.base.files import read_json

LOOP_BLEND_FRAMES = 25
LARGEST_FILE = 256 << 20
ORTHONORMAL_TOLERANCE = 1e-2


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


def load_poses(path: str | Path) -> Tensor:
    """[T, 4, 4] poses of a .npy, .json (nested lists) or .safetensors file, or of a dataset folder.

    Raises:
        FileProblem: the file is missing, of another kind, damaged, or holds no valid poses.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "track.safetensors"
    if not path.is_file():
        raise FileProblem(
            path, "there is no such file", "give a pose file, a dataset folder, 'track' or 'still'"
        )
    if path.stat().st_size > LARGEST_FILE:
        raise FileProblem(path, f"it has {path.stat().st_size} bytes, more than a pose file can have")
    mend = "write [T, 4, 4] float32 camera-to-head matrices as .npy, .safetensors (tensor 'poses') or .json"
    kind = path.suffix.lower()
    try:
        if kind == ".npy":
            value = torch.from_numpy(np.load(path, allow_pickle=False).astype(np.float32))
        elif kind == ".safetensors":
            with safe_open(path, "pt") as stream:
                if "poses" not in stream.keys():  # noqa: SIM118 (safe_open is no mapping)
                    raise FileProblem(path, "it holds no tensor named 'poses'", mend)
                value = stream.get_tensor("poses")
        elif kind == ".json":
            value = torch.tensor(read_json(path, LARGEST_FILE), dtype=torch.float32)
        else:
            raise FileProblem(path, f"pose files end in .npy, .safetensors or .json, not {kind!r}", mend)
        return check_poses(value)
    except (ValueError, TypeError, OSError, EOFError, SafetensorError, json.JSONDecodeError) as error:
        raise FileProblem(path, f"it holds no usable poses ({error})", mend) from error


def _rotation_blend(a: Tensor, b: Tensor, share: Tensor) -> Tensor:
    """Rotations [N, 3, 3] between a and b; close ones, so the chord's projection serves for the arc."""
    mixed = a + share[:, None, None] * (b - a)
    u, _, v = torch.linalg.svd(mixed)
    return u @ v


@dataclass(frozen=True)
class LoopedTrack:
    """A track without end: what `loop_track` gives, for any frame number.

    Args:
        poses: [P + P, 4, 4]: the track, then the track as it is played ever after, begun by a seam.
        eyes: [P + P] eye openness along with them.
    """

    poses: Tensor
    eyes: Tensor

    @classmethod
    def of(cls, poses: Tensor, eyes: Tensor) -> LoopedTrack:
        """The endless form of poses [P, 4, 4] and eyes [P]."""
        length = len(poses)
        blend = min(LOOP_BLEND_FRAMES, length // 3)
        if blend < 1:
            later, later_eyes = poses[:1].expand_as(poses), eyes[:1].expand_as(eyes)
            return cls(torch.cat([poses, later]), torch.cat([eyes, later_eyes]))
        ramp = (torch.arange(blend) + 1) / (blend + 1)
        share = 1 - ramp * ramp * (3 - 2 * ramp)
        # Behind its end the track is thought to go on as its own past turned about its last pose, so that
        # the head neither stops nor turns back at once. Eyes are mirrored: they can't close beyond closed.
        past = torch.arange(length - 2, length - 2 - blend, -1)
        rotation, place = poses[:, :3, :3], poses[:, :3, 3]
        onward = rotation[-1] @ rotation[past].transpose(1, 2) @ rotation[-1]
        later, later_eyes = poses.clone(), eyes.clone()
        later[:blend, :3, :3] = _rotation_blend(rotation[:blend], onward, share)
        later[:blend, :3, 3] += share[:, None] * (2 * place[-1] - place[past] - place[:blend])
        later_eyes[:blend] += share * (eyes[past] - eyes[:blend])
        return cls(torch.cat([poses, later]), torch.cat([eyes, later_eyes]))

    def at(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Poses [N, 4, 4] and eyes [N] of the frames numbered `index` [N] int64, from 0 to any number."""
        length = len(self.poses) // 2
        place = torch.where(index < length, index, length + index % length)
        return self.poses[place], self.eyes[place]


def loop_track(poses: Tensor, eyes: Tensor, frames: int) -> tuple[Tensor, Tensor]:
    """A track repeated to `frames` frames without a jump; a longer one is cut.

    After its end the track is blended into its beginning over a second, rotations on the rotation group.
    What frame t shows does not depend on `frames`, so a stream shows the same as a clip of known length.

    Args:
        poses: [T, 4, 4].
        eyes: [T] eye openness.
        frames: how many to return, at least 1.

    Returns:
        poses [frames, 4, 4] and eyes [frames].
    """
    return LoopedTrack.of(poses, eyes).at(torch.arange(frames))


def open_poses(
    spec: str | Path | Tensor | np.ndarray | None, track: Tensor, eyes: Tensor
) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """Poses [N, 4, 4] and eye openness [N] of the frames numbered [N], for a clip of any length.

    Args:
        spec: None or "track" (the avatar's own), "still" (its most central pose; the eyes go on as in the
            track), the path of a pose file or dataset, or [T, 4, 4].
        track: [T, 4, 4], the avatar's own poses.
        eyes: [T], the avatar's own eye openness.

    Raises:
        FileProblem: the file can't be used.
        ValueError: given poses are no rigid motions.
    """
    own = LoopedTrack.of(track, eyes)
    if spec is None or (isinstance(spec, str) and spec == "track"):
        return own.at
    if isinstance(spec, str) and spec == "still":
        place = track[:, :3, :].flatten(1)
        central = int((place - place.median(0).values).square().sum(1).argmin())
        poses = track[central : central + 1]
    elif isinstance(spec, str | Path):
        poses = load_poses(spec)
    else:
        poses = check_poses(torch.as_tensor(spec))
    given = LoopedTrack.of(poses, torch.zeros(len(poses)))
    return lambda index: (given.at(index)[0], own.at(index)[1])


def resolve_poses(
    spec: str | Path | Tensor | np.ndarray | None, track: Tensor, eyes: Tensor, frames: int
) -> tuple[Tensor, Tensor]:
    """Poses [frames, 4, 4] and eye openness [frames] of a clip; see `open_poses`.

    A shorter track than the clip is looped; a longer one is cut.
    """
    return open_poses(spec, track, eyes)(torch.arange(frames))
