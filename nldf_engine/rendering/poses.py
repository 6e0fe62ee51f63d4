"""Camera poses for a clip: the avatar's own track looped without a jump, a still one, or a file's.

A pose is camera-to-head, [4, 4]: the head stands still and the camera moves (AD-NeRF 3.1).
"""

from __future__ import annotations

import json
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


def _rounds(length: int, frames: int) -> tuple[Tensor, Tensor, int, Tensor]:
    """Place of every frame in a looped track, whether it lies on a seam, the period, the old end's share."""
    blend = min(LOOP_BLEND_FRAMES, length // 3)
    period = length - blend
    ramp = (torch.arange(blend) + 1) / (blend + 1)
    index = torch.arange(frames)
    place = index % period
    # The first round starts on the track itself: only later rounds come from an end.
    return place, (index // period > 0) & (place < blend), period, 1 - ramp * ramp * (3 - 2 * ramp)


def loop_values(values: Tensor, frames: int) -> Tensor:
    """[frames, ...]: a track of numbers [T, ...] looped as `loop_track` loops poses."""
    if frames <= len(values):
        return values[:frames]
    if len(values) < 3:
        return values[:1].expand(frames, *values.shape[1:]).contiguous()
    place, on_seam, period, share = _rounds(len(values), frames)
    share = share.view(-1, *[1] * (values.dim() - 1))
    seam = values[: len(share)] + share * (values[period:] - values[: len(share)])
    looped = values[place].clone()
    looped[on_seam] = seam[place[on_seam]]
    return looped


def loop_track(poses: Tensor, eyes: Tensor, frames: int) -> tuple[Tensor, Tensor]:
    """A track repeated to `frames` frames without a jump.

    The end of every round is blended into its beginning over a second, rotations on the rotation group.

    Args:
        poses: [T, 4, 4].
        eyes: [T] eye openness.
        frames: how many to return, at least 1.

    Returns:
        poses [frames, 4, 4] and eyes [frames].
    """
    looped = loop_values(poses, frames)
    if frames > len(poses) >= 3:
        place, on_seam, period, share = _rounds(len(poses), frames)
        first, last = poses[: len(share), :3, :3], poses[period:, :3, :3]
        looped[on_seam, :3, :3] = _rotation_blend(first, last, share)[place[on_seam]]
    return looped, loop_values(eyes, frames)


def _central(poses: Tensor) -> int:
    place = poses[:, :3, :].flatten(1)
    return int((place - place.median(0).values).square().sum(1).argmin())


def still_track(poses: Tensor, eyes: Tensor, frames: int) -> tuple[Tensor, Tensor]:
    """One pose for all frames, the track's most central one; the eyes go on as in the track."""
    return poses[_central(poses)].expand(frames, 4, 4).contiguous(), loop_track(poses, eyes, frames)[1]


def resolve_poses(
    spec: str | Path | Tensor | np.ndarray | None, track: Tensor, eyes: Tensor, frames: int
) -> tuple[Tensor, Tensor]:
    """Poses and eye openness for a clip of `frames` frames.

    Args:
        spec: None or "track" (the avatar's own), "still", the path of a pose file or dataset, or [T, 4, 4].
            A shorter track than the clip is looped; a longer one is cut.
        track: [T, 4, 4], the avatar's own poses.
        eyes: [T], the avatar's own eye openness.
        frames: length of the clip.

    Raises:
        FileProblem: the file can't be used.
        ValueError: given poses are no rigid motions.
    """
    if spec is None or (isinstance(spec, str) and spec == "track"):
        return loop_track(track, eyes, frames)
    if isinstance(spec, str) and spec == "still":
        return still_track(track, eyes, frames)
    if isinstance(spec, str | Path):
        poses = load_poses(spec)
    else:
        poses = check_poses(torch.as_tensor(spec))
    own_eyes = loop_track(track, eyes, frames)[1]
    return loop_track(poses, torch.zeros(len(poses)), frames)[0], own_eyes


def load_torso(path: str | Path) -> Tensor | None:
    """[T, 2, 3] torso motion of a dataset folder in units of the frame's width; None where it has none.

    Raises:
        FileProblem: the folder's track or description is damaged.
    """
    path = Path(path)
    if not path.is_dir() or not (path / "dataset.json").is_file():
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


def resolve_torso(spec: object, track: Tensor, torso: Tensor | None, frames: int) -> Tensor | None:
    """Tracked torso motion [frames, 2, 3] that goes with the poses of `resolve_poses`; None: predict it.

    A torso's motion counts from a frame of its own dataset, so another speaker's means nothing here: a
    dataset's is taken where its poses begin with the avatar's own.

    Args:
        spec: as for `resolve_poses`.
        track: [T, 4, 4], the avatar's own poses.
        torso: [T, 2, 3], the avatar's own torso motion, or None.
        frames: length of the clip.

    Raises:
        FileProblem: a dataset's torso track can't be used.
    """
    if torso is None:
        return None
    if spec is None or (isinstance(spec, str) and spec == "track"):
        return loop_values(torso, frames)
    if isinstance(spec, str) and spec == "still":
        return torso[_central(track)].expand(frames, 2, 3).contiguous()
    if isinstance(spec, str | Path) and (moved := load_torso(spec)) is not None:
        poses = load_poses(spec)
        own = len(poses) == len(moved) >= len(track) and torch.equal(poses[: len(track)], track)
        return loop_values(moved, frames) if own else None
    return None
