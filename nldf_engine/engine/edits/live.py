"""Head poses that arrive one by one, from a head tracker or a game pad, while their frames are made."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import torch
from torch import Tensor

from nldf_engine.engine.edits.head import EditedTrack, HeadEdit
from nldf_engine.geometry.poses import check_poses
from nldf_engine.geometry.rotations import head_numbers, poses_of
from nldf_engine.geometry.tracks import PoseFilter, Track

# The share of its way to where a live pose wants it that a torso goes in a frame: heavier than the head.
TORSO_SHARE = 0.17
EXPECTED = "expected a pose [4, 4] (camera to head) or a HeadEdit"


LivePoses = Iterable[Tensor | np.ndarray | HeadEdit]
"""Poses [4, 4] (camera to head) or head edits that arrive one by one."""


def is_live(poses: Any) -> TypeGuard[LivePoses]:
    """Whether poses come one by one: an iterator, or what gives one and is no array, list or path."""
    whole = isinstance(poses, str | Path | Tensor | np.ndarray | list | tuple) or hasattr(poses, "__array__")
    return isinstance(poses, Iterable) and not whole


class LiveTrack:
    """A track whose frames are taken once each and in their order; every one takes one item.

    An item is a pose [4, 4] float, camera to head, or a `HeadEdit` whose numbers are added to the avatar's
    own track. Behind the last item its pose, or edit, stays. The torso follows a pose with some delay, as
    shoulders do; beyond the training video the same holds as for a `HeadEdit`.

    Args:
        items: where they come from.
        edited: the avatar's own track under the edit of the whole stream, whose `smooth` calms the items by
            a causal filter.
    """

    def __init__(self, items: Iterable[Any], edited: EditedTrack) -> None:
        self._items: Iterator[Any] = iter(items)
        self._edited = edited
        self._poses, self._offsets = PoseFilter(edited.edit.smooth), PoseFilter(edited.edit.smooth)
        self._count = 0
        self._said = False
        self._last: Tensor | HeadEdit | None = None
        self._torso: Tensor | None = None

    def __call__(self, number: int) -> Track:
        """The one frame `number` of the stream; the next item is taken.

        Raises:
            TypeError, ValueError: the item is no pose and no plain `HeadEdit`, or there never was one.
        """
        index, item = torch.tensor([number]), self._next()
        track, edit = self._edited.base(index), self._edited.edit
        if isinstance(item, HeadEdit):
            edit = self._joined(edit, item)
        else:
            pose = self._poses.push(item)[None]
            wanted = self._edited.predict(pose)
            self._torso = wanted if self._torso is None else torch.lerp(self._torso, wanted, TORSO_SHARE)
            track = Track(pose, track.eyes, self._torso)
        own = isinstance(item, HeadEdit)
        moved = dataclasses.replace(self._edited, base=lambda _: track, edit=edit, own=own)
        if not self._said:
            self._said = moved.warn(index)
        return moved(index)

    def under(self, edited: EditedTrack) -> LiveTrack:
        """The same items under another edit of the stream, from the next frame on; this one ends here."""
        made = copy.copy(self)
        made._edited = edited
        if edited.edit.smooth != self._edited.edit.smooth:
            made._poses, made._offsets = PoseFilter(edited.edit.smooth), PoseFilter(edited.edit.smooth)
        return made

    def _next(self) -> Tensor | HeadEdit:
        try:
            given = next(self._items)
        except StopIteration:
            if self._last is None:
                raise ValueError(f"poses: {EXPECTED} for the first frame, the iterator gave none") from None
            return self._last
        self._last = _checked(given, f"poses: item {self._count}")
        self._count += 1
        return self._last

    def _joined(self, edit: HeadEdit, item: HeadEdit) -> HeadEdit:
        """The stream's edit with an item's numbers added, filtered as poses are."""
        # Offsets are a small motion of their own, so what calms a pose calms them.
        calm = self._offsets.push(poses_of(item.offsets(torch.zeros(1)))[0])
        yaw, pitch, roll, *place = head_numbers(calm[None])[0].tolist()
        shift = tuple(a + b for a, b in zip(edit.shift, place, strict=True))
        return dataclasses.replace(
            edit, yaw=edit.yaw + yaw, pitch=edit.pitch + pitch, roll=edit.roll + roll, shift=shift
        )


def _checked(given: Any, name: str) -> Tensor | HeadEdit:
    if isinstance(given, HeadEdit):
        if given.curve is not None or given.smooth or given.centred or given.limit != HeadEdit().limit:
            raise ValueError(
                f"{name}: a HeadEdit for one frame has angles and a shift alone; give its curve, smooth, "
                "centred and limit to the stream: edit=Edit(HeadEdit(...))"
            )
        return given
    try:
        pose = given if isinstance(given, Tensor) else torch.as_tensor(np.asarray(given))
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name}: {EXPECTED}, got {type(given).__name__}") from error
    if tuple(pose.shape) != (4, 4):
        raise ValueError(f"{name}: {EXPECTED}, got an array of shape {list(pose.shape)}")
    return check_poses(pose[None], name)[0]
