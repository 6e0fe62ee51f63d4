"""Editing how the head moves (AD-NeRF 3.5): offsets and curves on any track, and how far the avatar can go.

What a field has seen is a range of head poses. Within it, an edited pose is rendered like any other. Where
the head's *place* leads beyond, the head is drawn at the nearest place it knows, and its picture is moved and
scaled instead: exact for the middle of the head, and no network is queried beyond what it learned. Where its
*angles* lead beyond, nothing can stand in for what was never seen: one warning says so, and
`limit="clamp"` holds them.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nldf_engine.engine.edits.curves import Curve
from nldf_engine.geometry.cameras import Camera
from nldf_engine.geometry.rotations import HEAD_NUMBERS, UNITS, head_numbers, poses_of
from nldf_engine.geometry.tracks import Track

HEAD_WIDTH = 0.15  # metres; what a shift in head widths counts in
LIMITS = ("warn", "clamp", "off")
# The training track's range leaves out so many of its frames at either end: a tracker's strays are no range.
OUTSIDE = 0.005
# A head's place costs nothing to hold, since its picture is moved instead: well inside what was often seen.
RARE = 0.1
# A held value ends so far beyond the range, as a share of its width; at least so wide is every range.
KNEE = 0.15
NARROWEST = (4.0, 4.0, 4.0, 0.02, 0.02, 0.04)
SAID_FROM = 0.01  # of the frames beyond the range
# Where the neck begins, metres in head space: what the torso has to keep to.
NECK = (0.0, 0.10, 0.03)
# A torso is moved about this point, in units of the frame's width, when its motion is held in range.
TORSO_POINT = (0.5, 0.85)


class PoseWarning(UserWarning):
    """Poses lead beyond what the avatar was trained on."""


def hold_between(values: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Values held between low and high: inside nothing changes; beyond, they come to rest softly, `KNEE` of
    the range's width outside."""
    knee = KNEE * (high - low)
    over, under = (values - high).clamp_min(0), (low - values).clamp_min(0)
    inside = torch.maximum(torch.minimum(values, high), low)
    return inside + knee * (torch.tanh(over / knee) - torch.tanh(under / knee))


@dataclass(frozen=True)
class HeadEdit:
    """Changes to a track of head poses; every one works on every track.

    Args:
        yaw, pitch, roll: degrees that are added: the face turns to the picture's right, rises, the top of the
            head tips to the right.
        shift: (x, y, z) metres that are added: right, down, away from the camera. `HEAD_WIDTH` is one head.
        curve: columns of these names (x, y, z for the shift), added as well, frame by frame.
        smooth: strength in frames, the standard deviation of a Gaussian on the rotation group; 0 is off.
        centred: move a foreign track so that its median pose is the avatar's own.
        limit: beyond the training track's range, "warn" says so once, "clamp" also holds what is beyond
            (softly: it comes to rest a little outside), "off" does neither.

    Raises:
        ValueError: a number that is not finite, a negative strength, an unknown limit or column.
    """

    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0)
    curve: Curve | None = None
    smooth: float = 0.0
    centred: bool = False
    limit: str = "warn"

    def __post_init__(self) -> None:
        if len(self.shift) != 3:
            raise ValueError(f"HeadEdit: shift is x, y, z in metres, got {self.shift!r}")
        numbers = zip(HEAD_NUMBERS, (self.yaw, self.pitch, self.roll, *self.shift), strict=True)
        for name, value in (*numbers, ("smooth", self.smooth)):
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise ValueError(f"HeadEdit: {name} must be a finite number, got {value!r}")
        if self.smooth < 0:
            raise ValueError(f"HeadEdit: smooth must be at least 0 frames, got {self.smooth!r}")
        if self.limit not in LIMITS:
            raise ValueError(f"HeadEdit: limit is {', '.join(LIMITS)}, got {self.limit!r}")
        if self.curve is not None:
            self.curve.check(HEAD_NUMBERS)

    @property
    def moves(self) -> bool:
        """Whether it changes any track at all."""
        constant = any((self.yaw, self.pitch, self.roll, *self.shift))
        return bool(constant or self.curve is not None or self.smooth or self.centred)

    def offsets(self, index: Tensor) -> Tensor:
        """[N, 6] float64, what is added to the head's numbers in the frames `index` [N]."""
        constant = torch.tensor([self.yaw, self.pitch, self.roll, *self.shift], dtype=torch.float64)
        added = constant.repeat(len(index), 1)
        for place, name in enumerate(HEAD_NUMBERS):
            column = None if self.curve is None else self.curve.at(name, index)
            if column is not None:
                added[:, place] += column
        return added


@dataclass(frozen=True)
class HeadRange:
    """Where the head was in the training track.

    Args:
        low, high: [6] float64 of `HEAD_NUMBERS`.
    """

    low: Tensor
    high: Tensor

    @classmethod
    def of(cls, poses: Tensor, outside: float = OUTSIDE) -> HeadRange:
        """The range of poses [T, 4, 4], without the outermost share `outside` at either end."""
        numbers = head_numbers(poses)
        low, high = numbers.quantile(outside, 0), numbers.quantile(1 - outside, 0)
        missing = (torch.tensor(NARROWEST, dtype=torch.float64) - (high - low)).clamp_min(0) / 2
        return cls(low - missing, high + missing)

    def hold(self, numbers: Tensor) -> Tensor:
        """Numbers [T, 6] held in the range: inside nothing changes; beyond, they come to rest softly."""
        return hold_between(numbers, self.low, self.high)

    def shrunk(self) -> HeadRange:
        """The range whose held values come to rest at this one's ends."""
        knee = KNEE / (1 + 2 * KNEE) * (self.high - self.low)
        return HeadRange(self.low + knee, self.high - knee)

    def beyond(self, numbers: Tensor, checked: Tensor) -> str:
        """Which of the numbers [T, 6] are out of range, in one line; empty where almost none is.

        Args:
            numbers: of the head.
            checked: [6] bool, which of them to look at.
        """
        said = []
        for place, name in enumerate(HEAD_NUMBERS):
            if not checked[place]:
                continue
            low, high, values = float(self.low[place]), float(self.high[place]), numbers[:, place]
            share = float(((values < low) | (values > high)).double().mean())
            if share <= SAID_FROM:
                continue
            worst = float(values.min() if low - values.min() > values.max() - high else values.max())
            digits = 1 if UNITS[place] == "degrees" else 3
            often = f" in {100 * share:.0f} % of the frames" if len(values) > 1 else ""
            said.append(
                f"{name} reaches {worst:.{digits}f} {UNITS[place]} (trained: {low:.{digits}f} to "
                f"{high:.{digits}f}){often}"
            )
        return "; ".join(said)


def _split(motion: Tensor) -> Tensor:
    """[T, 6] of torso motions [T, 2, 3]: linear parts, and the place of `TORSO_POINT`, so that a turn about
    it is no shift."""
    point = motion.new_tensor(TORSO_POINT)
    return torch.cat([motion[:, :, :2].flatten(1), motion[:, :, :2] @ point + motion[:, :, 2]], 1).double()


def motion_range(trained: Tensor) -> HeadRange:
    """The range in which `hold_motion` holds a torso, of its motion in the training track [N, 2, 3]."""
    known = _split(trained)
    low, high = known.quantile(OUTSIDE, 0), known.quantile(1 - OUTSIDE, 0)
    wide = (high - low).clamp_min(1e-3)
    return HeadRange(high - wide, high)


def hold_motion(motion: Tensor, trained: HeadRange) -> Tensor:
    """Torso motions [T, 2, 3] held in the range of the trained ones (`motion_range`), each entry apart.

    Inside nothing changes.
    """
    held = trained.hold(_split(motion)).to(motion.dtype)
    linear, place = held[:, :4].view(-1, 2, 2), held[:, 4:]
    return torch.cat([linear, (place - linear @ motion.new_tensor(TORSO_POINT))[:, :, None]], 2)


@dataclass(frozen=True)
class Trained:
    """What an avatar's training track holds edits to.

    Args:
        range: of the head.
        places: the same, for the head's place where its picture is moved instead.
        motion: of the torso.
    """

    range: HeadRange
    places: HeadRange
    motion: HeadRange

    @classmethod
    def of(cls, poses: Tensor, motion: Tensor) -> Trained:
        """The ranges of poses [T, 4, 4] and torso motions [T, 2, 3]."""
        return cls(HeadRange.of(poses), HeadRange.of(poses, RARE).shrunk(), motion_range(motion))


def _seen_at(camera: Camera, numbers: Tensor) -> Tensor:
    """[T, 2] where the head's middle is seen, units of the frame's width."""
    focal = numbers.new_tensor([camera.fx, camera.fy]) / camera.width
    center = numbers.new_tensor([camera.cx, camera.cy]) / camera.width
    return focal * numbers[:, 3:5] / numbers[:, 5:] + center


def picture_of(camera: Camera, wanted: Tensor, known: Tensor) -> Tensor:
    """[T, 4] fx, fy, cx, cy (units of the frame's width) that show a head at `known` as if at `wanted`.

    The picture is scaled by z_known / z_wanted and moved so that the head's middle ends where it is
    wanted: a weak perspective, right to first order in the head's depth over its distance.

    Args:
        camera: the view.
        wanted, known: [T, 6] head numbers.
    """
    scale = known[:, 5:] / wanted[:, 5:]
    focal = known.new_tensor([camera.fx, camera.fy]) / camera.width
    center = known.new_tensor([camera.cx, camera.cy]) / camera.width
    moved = _seen_at(camera, wanted) - scale * (_seen_at(camera, known) - center)
    return torch.cat([scale * focal, moved], 1)


def _neck(poses: Tensor) -> Tensor:
    """[T, 2] where the neck begins, as tangents of its angles to the camera's axis."""
    away = torch.tensor(NECK, dtype=torch.float64) - poses[:, :3, 3].double()
    place = (poses[:, :3, :3].double().transpose(1, 2) @ away[:, :, None])[:, :, 0]
    return place[:, :2] / place[:, 2:]


def lean(camera: Camera, views: Tensor, poses: Tensor, felt: Tensor) -> Tensor:
    """[T, 2, 3]: how a torso has to move for its neck to follow a head beyond what the torso knows of.

    The frame's lower edge stays where it is, for nothing is known of what is below: the torso leans and
    stretches from there, in proportion to the height above it.

    Args:
        camera: the view.
        views: [T, 4] of `picture_of`.
        poses: [T, 4, 4] camera to head, as rendered under `views`.
        felt: [T, 4, 4] the poses that the torso answers to.
    """
    focal = views.new_tensor([camera.fx, camera.fy]) / camera.width
    center = views.new_tensor([camera.cx, camera.cy]) / camera.width
    before, after = focal * _neck(felt) + center, views[:, :2] * _neck(poses) + views[:, 2:]
    bottom = camera.height / camera.width
    height = (bottom - before[:, 1]).clamp_min(0.05)
    moved = (after - before) / height[:, None]
    affine = torch.eye(2, 3, dtype=torch.float64).repeat(len(poses), 1, 1)
    affine[:, :, 1] -= moved
    affine[:, :, 2] += bottom * moved
    return affine


@dataclass(frozen=True)
class EditedTrack:
    """A track under a `HeadEdit`, for any frame numbers.

    Args:
        base: the track as `geometry.tracks.open_track` gives it.
        edit: what is changed.
        trained: the ranges of the training track.
        camera: the avatar's.
        predict: torso motion [T, 2, 3] of poses [T, 4, 4], frame by frame, without smoothing.
        own: whether the track is the training track itself, which only an edit leads beyond its range.
    """

    base: Callable[[Tensor], Track]
    edit: HeadEdit
    trained: Trained
    camera: Camera
    predict: Callable[[Tensor], Tensor]
    own: bool = False

    def _numbers(self, poses: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """The wanted head numbers [N, 6], and those that the head is drawn at [N, 6]."""
        wanted = head_numbers(poses) + self.edit.offsets(index)
        # Nothing is behind the camera.
        wanted[:, 5] = wanted[:, 5].clamp_min(0.25 * float(self.trained.range.low[5]))
        if self.edit.limit == "off":
            return wanted, wanted
        if self.edit.limit == "clamp":
            held = self.trained.range.hold(wanted)
            return held, held
        return wanted, torch.cat([wanted[:, :3], self.trained.places.hold(wanted)[:, 3:]], 1)

    def __call__(self, index: Tensor) -> Track:
        """The frames numbered `index` [N]."""
        track = self.base(index)
        if not len(index):
            return track
        wanted, known = self._numbers(track.poses, index)
        poses = poses_of(known)
        # The shoulders' share of the edit: what their prediction makes of it, held in its own range. Angles
        # count as far as they were seen; the neck is no steeper than it ever was.
        felt = poses_of(self.trained.range.hold(known))
        torso = track.torso + (self.predict(felt) - self.predict(track.poses))
        torso = hold_motion(torso, self.trained.motion)
        if self.edit.limit == "off":
            return replace(track, poses=poses, torso=torso)
        views = picture_of(self.camera, wanted, known)
        leaning = lean(self.camera, views, poses, felt)
        linear = leaning[:, :, :2] @ torso.double()
        linear[:, :, 2] += leaning[:, :, 2]
        moved = None if bool((wanted == known).all()) else views.float()
        return replace(track, poses=poses, torso=linear.float(), views=moved)

    def warn(self, index: Tensor) -> bool:
        """Warns of frames `index` [N] outside of the training track's range; returns whether any is."""
        if self.edit.limit == "off":
            return False
        offsets = self.edit.offsets(index)
        wanted = head_numbers(self.base(index).poses) + offsets
        said = self.trained.range.beyond(wanted, (offsets != 0).any(0) | (not self.own))
        if said:
            if self.edit.limit == "clamp":
                end = "; held there"
            else:
                end = "; expect flaws there, or hold it with limit 'clamp' (--pose-limit clamp)"
            warnings.warn(f"head poses lead beyond the training video: {said}{end}", PoseWarning, 3)
        return bool(said)
