"""How a person moves while speaking: head, eyes, brows and torso, smoothed, and looped for any length."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nldf_engine.base.clock import FPS
from nldf_engine.geometry.poses import check_poses, load_poses, load_torso
from nldf_engine.geometry.rotations import (
    exponential,
    head_numbers,
    logarithm,
    nearest_rotation,
    pose_from_head,
    poses_of,
)

LOOP_BLEND_FRAMES = 25
# How a One Euro filter follows: its cutoff rises by so much for each radian (or metre, times 3) a second.
ONE_EURO_SLOPE = 1.5
ONE_EURO_SPEED_CUTOFF = 1.0


@dataclass(frozen=True)
class Track:
    """The motion of T frames.

    Args:
        poses: [T, 4, 4] camera to head.
        eyes: [T] eye openness.
        torso: [T, 2, 3] motion of the torso, plate to frame, in units of the frame's width.
        views: [T, 4] fx, fy, cx, cy of the head's picture in units of the frame's width, where it is not seen
            with the avatar's camera.
        upper: [T, E] codes of brows, lids and gaze, where the avatar's field is conditioned on them.
    """

    poses: Tensor
    eyes: Tensor
    torso: Tensor
    views: Tensor | None = None
    upper: Tensor | None = None


def smooth_motion(motion: Tensor, frames: float) -> Tensor:
    """Values [T, ...] under a Gaussian over time: zero phase, so nothing lags.

    Beyond its ends the track is taken to be constant.

    Args:
        motion: such as a torso's motions [T, 2, 3].
        frames: standard deviation; 0 leaves them.
    """
    if frames <= 0 or len(motion) < 2:
        return motion
    reach = max(1, round(3 * frames))
    steps = torch.arange(-reach, reach + 1, dtype=motion.dtype, device=motion.device)
    weights = torch.exp(-0.5 * (steps / frames).square())
    track = motion.flatten(1).t()[:, None]
    padded = F.pad(track, (reach, reach), mode="replicate")
    smooth = F.conv1d(padded, (weights / weights.sum())[None, None])
    return smooth[:, 0].t().reshape(motion.shape).contiguous()


def smooth_poses(poses: Tensor, frames: float) -> Tensor:
    """Poses [T, 4, 4] under a Gaussian over time, as `smooth_motion` has it.

    The rotation of frame t becomes the chordal mean of its neighbours': the rotation nearest to the weighted
    mean of their matrices, which no choice of Euler angles bends. Of the head's place it is the plain mean.

    Args:
        poses: camera to head.
        frames: standard deviation; 0 leaves the poses as they are.
    """
    if frames <= 0 or len(poses) < 2:
        return poses
    rotation = poses[:, :3, :3].double().transpose(1, 2)  # the head's, in the camera's view
    place = -(rotation @ poses[:, :3, 3:].double())[:, :, 0]
    mean = nearest_rotation(smooth_motion(rotation, frames))
    return pose_from_head(mean, smooth_motion(place, frames)).to(poses.dtype)


class PoseFilter:
    """A causal filter for poses that arrive one by one: One Euro (Casiez 2012) on rotation group and place.

    A head at rest is held still, a quick turn is followed at once: the cutoff rises with the speed, which
    comes from the logarithm of the turn since the last frame and not from differences of angles.

    Args:
        frames: strength; the standard deviation of the Gaussian that calms a head at rest about as much.
        rate: poses a second.

    Raises:
        ValueError: a negative strength.
    """

    def __init__(self, frames: float, rate: float = FPS) -> None:
        if frames < 0:
            raise ValueError(f"frames: expected a strength of at least 0, got {frames!r}")
        self._step = 1 / rate
        # Of white noise a Gaussian leaves 1 / (2 sqrt(pi) frames), one pole a / (2 - a): the a that do alike.
        left = min(1.0, 1 / (2 * math.sqrt(math.pi) * frames)) if frames else 1.0
        share = 2 * left / (1 + left)
        self._cutoff = share / max(1e-9, 1 - share) / (2 * math.pi * self._step)
        self._rotation: np.ndarray | None = None
        self._place = self._speed = self._turning = np.zeros(3)
        logarithm(np.eye(3))  # so that its library is imported now, and not while a frame is due

    def push(self, pose: Tensor) -> Tensor:
        """The filtered pose [4, 4] of the next one, on the CPU."""
        given = pose.double().numpy()
        rotation = given[:3, :3].T
        place = -(rotation @ given[:3, 3])
        if self._rotation is None:
            self._rotation, self._place = rotation, place
            return pose
        turn, shift = logarithm(self._rotation.T @ rotation), place - self._place
        calm = self._share(ONE_EURO_SPEED_CUTOFF)
        self._turning = self._turning + calm * (turn / self._step - self._turning)
        self._speed = self._speed + calm * (shift / self._step - self._speed)
        by_turn = self._share(self._cutoff + ONE_EURO_SLOPE * float(np.linalg.norm(self._turning)))
        by_place = self._share(self._cutoff + 3 * ONE_EURO_SLOPE * float(np.linalg.norm(self._speed)))
        self._rotation = self._rotation @ exponential(by_turn * turn)
        self._place = self._place + by_place * shift
        return pose_from_head(torch.from_numpy(self._rotation), torch.from_numpy(self._place)).to(pose.dtype)

    def _share(self, cutoff: float) -> float:
        slope = 2 * math.pi * cutoff * self._step
        return slope / (1 + slope)


def _rotation_blend(a: Tensor, b: Tensor, share: Tensor) -> Tensor:
    """Rotations [N, 3, 3] between a and b; close ones, so the chord's projection serves for the arc."""
    return nearest_rotation(a + share[:, None, None] * (b - a))


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
            # Behind its end the track is continued by its own past, turned about its last pose, so that
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
    spec: str | Path | Tensor | np.ndarray | Sequence[object] | Callable[[Tensor], Track] | None,
    own: Track,
    predict: Callable[[Tensor], Tensor],
    smooth: float = 0.0,
    centred: bool = False,
) -> Callable[[Tensor], Track]:
    """The motion of the frames numbered [N], for a clip of any length.

    Args:
        spec: None or "track" (the avatar's own), "still" (its most central pose; eyes and brows continue as
            in the track), the path of a pose file or dataset, or [T, 4, 4]. What is shorter than the clip is
            looped. Or a function that gives it all, as this one does: it is taken as it is.
            A torso's motion counts from a frame of its own dataset, so another speaker's means nothing here:
            a dataset's is taken where its poses begin with the avatar's own.
        own: the avatar's own.
        predict: torso motion [T, 2, 3] of poses [T, 4, 4] that come without.
        smooth: strength of `smooth_poses`, in frames; a tracked torso is smoothed alike.
        centred: move poses that are not the avatar's own so that their median is that of its own.

    Raises:
        FileProblem: the file can't be used.
        ValueError: given poses are no rigid motions, or a function is to be smoothed or centred.
    """
    if callable(spec):
        if smooth or centred:
            raise ValueError("poses: a function of frame numbers can't be smoothed or centred; let it be so")
        return spec
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
