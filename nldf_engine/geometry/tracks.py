"""How a person moves while speaking: head, eyes, brows and torso, looped for clips of any length."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nldf_engine.geometry.poses import check_poses, load_poses, load_torso
from nldf_engine.geometry.rotations import head_numbers, poses_of, smooth_poses

LOOP_BLEND_FRAMES = 25


@dataclass(frozen=True)
class Track:
    """The motion of T frames.

    Args:
        poses: [T, 4, 4] camera to head.
        eyes: [T] eye openness.
        torso: [T, 2, 3] motion of the torso, plate to frame, in units of the frame's width.
        views: [T, 4] fx, fy, cx, cy of the head's picture in units of the frame's width, where it is not seen
            with the avatar's camera.
        upper: [T, E] codes of brows, lids and gaze, where the avatar's field is told them.
    """

    poses: Tensor
    eyes: Tensor
    torso: Tensor
    views: Tensor | None = None
    upper: Tensor | None = None


def smooth_motion(motion: Tensor, frames: float) -> Tensor:
    """Motions [T, 2, 3] under a Gaussian over time with a standard deviation of `frames`; 0 leaves them."""
    if frames <= 0 or len(motion) < 2:
        return motion
    reach = max(1, round(3 * frames))
    steps = torch.arange(-reach, reach + 1, dtype=motion.dtype, device=motion.device)
    weights = torch.exp(-0.5 * (steps / frames).square())
    track = motion.flatten(1).t()[:, None]
    padded = F.pad(track, (reach, reach), mode="replicate")
    smooth = F.conv1d(padded, (weights / weights.sum())[None, None])
    return smooth[:, 0].t().reshape(motion.shape).contiguous()


def _rotation_blend(a: Tensor, b: Tensor, share: Tensor) -> Tensor:
    """Rotations [N, 3, 3] between a and b; close ones, so the chord's projection serves for the arc."""
    mixed = a + share[:, None, None] * (b - a)
    u, _, v = torch.linalg.svd(mixed)
    return u @ v


@dataclass(frozen=True)
class LoopedTrack:
    """A track without end, for any frame number.

    Args:
        track: of P + P frames: the track, then the track as it is played ever after, begun by a seam.
    """

    track: Track

    @classmethod
    def of(cls, track: Track) -> LoopedTrack:
        """The endless form of a track of P frames.

        After its end it is blended into its beginning over a second, rotations on the rotation group. What
        frame t shows does not depend on a clip's length, so a stream shows the same as a whole clip.
        """
        poses, eyes, torso, upper = track.poses, track.eyes, track.torso, track.upper
        length = len(poses)
        blend = min(LOOP_BLEND_FRAMES, length // 3)
        later_upper = upper
        if blend < 1:
            later_upper = None if upper is None else upper[:1].expand_as(upper)
            later, later_eyes, later_torso = (v[:1].expand_as(v) for v in (poses, eyes, torso))
        else:
            ramp = (torch.arange(blend) + 1) / (blend + 1)
            share = 1 - ramp * ramp * (3 - 2 * ramp)
            # Behind its end the track is thought to go on as its own past turned about its last pose, so that
            # the head neither stops nor turns back at once. Eyes are mirrored: closed is as far as they go.
            past = torch.arange(length - 2, length - 2 - blend, -1)
            rotation, place = poses[:, :3, :3], poses[:, :3, 3]
            onward = rotation[-1] @ rotation[past].transpose(1, 2) @ rotation[-1]
            later, later_eyes, later_torso = poses.clone(), eyes.clone(), torso.clone()
            later[:blend, :3, :3] = _rotation_blend(rotation[:blend], onward, share)
            later[:blend, :3, 3] += share[:, None] * (2 * place[-1] - place[past] - place[:blend])
            later_eyes[:blend] += share * (eyes[past] - eyes[:blend])
            later_torso[:blend] += share[:, None, None] * (2 * torso[-1] - torso[past] - torso[:blend])
            if upper is not None:
                later_upper = upper.clone()
                later_upper[:blend] += share[:, None] * (upper[past] - upper[:blend])
        both = None if upper is None or later_upper is None else torch.cat([upper, later_upper])
        return cls(
            Track(
                torch.cat([poses, later]),
                torch.cat([eyes, later_eyes]),
                torch.cat([torso, later_torso]),
                upper=both,
            )
        )

    def at(self, index: Tensor) -> Track:
        """The frames numbered `index` [N] int64, from 0 to any number."""
        length = len(self.track.poses) // 2
        place = torch.where(index < length, index, length + index % length)
        track = self.track
        upper = None if track.upper is None else track.upper[place]
        return Track(track.poses[place], track.eyes[place], track.torso[place], upper=upper)


def _central(poses: Tensor) -> int:
    place = poses[:, :3, :].flatten(1)
    return int((place - place.median(0).values).square().sum(1).argmin())


def recentred(poses: Tensor, onto: Tensor) -> Tensor:
    """Poses [T, 4, 4] whose six head numbers (`geometry.rotations`) have the medians of `onto`'s [N, 4, 4].

    Another camera's focal length is not known, so the distances' spread is kept and not their scale.
    """
    numbers = head_numbers(poses)
    return poses_of(numbers + head_numbers(onto).median(0).values - numbers.median(0).values)


def open_track(
    spec: str | Path | Tensor | np.ndarray | Sequence[object] | None,
    own: Track,
    predict: Callable[[Tensor], Tensor],
    smooth: float = 0.0,
    centred: bool = False,
) -> Callable[[Tensor], Track]:
    """The motion of the frames numbered [N], for a clip of any length.

    Args:
        spec: None or "track" (the avatar's own), "still" (its most central pose; eyes and brows go on as
            in the track), the path of a pose file or dataset, or [T, 4, 4]. What is shorter than the clip is
            looped.
            A torso's motion counts from a frame of its own dataset, so another speaker's means nothing here:
            a dataset's is taken where its poses begin with the avatar's own.
        own: the avatar's own.
        predict: torso motion [T, 2, 3] of poses [T, 4, 4] that come without.
        smooth: strength of `geometry.rotations.smooth_poses`, in frames; a tracked torso is smoothed alike.
        centred: move poses that are not the avatar's own so that their median is that of its own.

    Raises:
        FileProblem: the file can't be used.
        ValueError: given poses are no rigid motions.
    """
    calm = replace(own, poses=smooth_poses(own.poses, smooth), torso=smooth_motion(own.torso, smooth))
    looped = LoopedTrack.of(calm)
    torso: Tensor | None = None
    if spec is None or (isinstance(spec, str) and spec == "track"):
        return looped.at
    if isinstance(spec, str) and spec == "still":
        central = _central(own.poses)
        poses, torso = own.poses[central : central + 1], own.torso[central : central + 1]
    elif isinstance(spec, str | Path):
        poses = load_poses(spec)
        tracked = load_torso(spec)
        count = len(own.poses)
        if tracked is not None and len(tracked) == len(poses) >= count:
            torso = tracked if torch.equal(poses[:count], own.poses) else None
    else:
        poses = check_poses(torch.as_tensor(spec))
    if centred and torso is None:
        poses = recentred(poses, own.poses)
    if smooth > 0:
        poses = smooth_poses(poses, smooth)
        torso = None if torso is None else smooth_motion(torso, smooth)
    given = LoopedTrack.of(Track(poses, torch.zeros(len(poses)), predict(poses) if torso is None else torso))

    def at(index: Tensor) -> Track:
        moved = given.at(index)
        return replace(looped.at(index), poses=moved.poses, torso=moved.torso)

    return at
