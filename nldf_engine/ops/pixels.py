"""Pixels of a training video: which ones a step sees, and what is known of them; on the CPU."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nldf_engine.ops import native
from nldf_engine.ops.check import Checker
from nldf_engine.ops.reference import pixels_look_reference, pixels_reference

PARTS = 6
_BYTES = {"labels": torch.uint8, "pictures": torch.uint8, "seen": torch.uint8}
_WHOLE = dict.fromkeys(("frames", "pixels", "boxes"), torch.int64)
_SUMS = dict.fromkeys(("speaker", "own"), torch.int32)


class Looked(NamedTuple):
    """What is known of pixels [F, P]: see `look_at_pixels`."""

    target: Tensor
    behind: Tensor
    points: Tensor
    mask: Tensor
    interior: Tensor
    guess: Tensor
    dense: Tensor
    labels: Tensor


def _bits(labels: Sequence[int]) -> int:
    return sum(1 << label for label in set(labels))


def _pixels(
    even: Tensor, frames: Tensor, labels: Tensor, speaker: Tensor, own: Tensor, boxes: Tensor,
    parts: Sequence[int], background: int, of_own: Sequence[int],
) -> Tensor:  # fmt: skip
    made = _pixels_fake(even, frames)
    held = array("q", parts)
    native.launch(
        "pixels",
        {"even": even, "frames": frames, "labels": labels, "speaker": speaker, "own": own, "boxes": boxes},
        {"pixels": made}, {**_BYTES, **_WHOLE, **_SUMS},
        parts=held.buffer_info()[0], count=even.shape[0], drawn=even.shape[1], total=labels.shape[0],
        height=labels.shape[1], width=labels.shape[2], background=background, labels_own=_bits(of_own),
    )  # fmt: skip
    return made


def _pixels_fake(even: Tensor, frames: Tensor, *_: Any) -> Tensor:
    return frames.new_empty(even.shape[:2])


def _look(
    background: Tensor, frames: Tensor, pixels: Tensor, pictures: Tensor, labels: Tensor, plate: Tensor,
    motions: Tensor, reach: int, empty: int, of_own: Sequence[int],
) -> Tensor:  # fmt: skip
    made = _look_fake(background, frames, pixels)
    looked = _views(made, pixels.shape)
    native.launch(
        "pixels_look",
        {
            "background": background, "frames": frames, "pixels": pixels, "pictures": pictures,
            "labels": labels, "plate": plate, "motions": motions,
        },
        {
            **{name: value for name, value in looked._asdict().items() if name != "labels"},
            "seen": looked.labels,
        },
        {**_BYTES, **_WHOLE}, count=pixels.shape[0], drawn=pixels.shape[1], height=labels.shape[1],
        width=labels.shape[2], reach=reach, background_label=empty, labels_own=_bits(of_own),
    )  # fmt: skip
    return made


def _look_fake(background: Tensor, frames: Tensor, pixels: Tensor, *_: Any) -> Tensor:
    return background.new_empty(pixels.numel() * _ROW, dtype=torch.uint8)


# Floats of a pixel by name, and bytes with its label.
_FLOATS = {"target": 3, "behind": 3, "points": 2, "mask": 1, "interior": 1, "guess": 3, "dense": 1}
_ROW = 4 * sum(_FLOATS.values()) + 1


def _views(made: Tensor, shape: torch.Size) -> Looked:
    """The arrays that lie in one memory."""
    count, start, views = shape.numel(), 0, []
    for size in _FLOATS.values():
        end = start + 4 * count * size
        views.append(made[start:end].view(torch.float32).view(*shape, *([size] if size > 1 else [])))
        start = end
    return Looked._make([*views, made[start:].view(shape)])


_call_pixels = native.register(
    "pixels(Tensor even, Tensor frames, Tensor labels, Tensor speaker, Tensor own, Tensor boxes, int[] parts,"
    " int background, int[] of_own) -> Tensor",
    _pixels,
    _pixels_fake,
)
_call_look = native.register(
    "pixels_look(Tensor background, Tensor frames, Tensor pixels, Tensor pictures, Tensor labels,"
    " Tensor plate, Tensor motions, int reach, int empty, int[] of_own) -> Tensor",
    _look,
    _look_fake,
)


def draw_pixels(
    even: Tensor, frames: Tensor, labels: Tensor, speaker: Tensor, own: Tensor, boxes: Tensor,
    parts: Sequence[int], background: int, of_own: Sequence[int], *, backend: str = "native",
) -> Tensor:  # fmt: skip
    """Pixel numbers of frames, drawn part by part: from three boxes, from what is not background, from the
    whole frame, and from the labels `of_own`; where a frame has none of what is asked for, from the whole
    frame.

    Args:
        even: [F, P, 2] float32 drawn evenly from [0, 1).
        frames: [F] int64.
        labels: [T, H, W] uint8.
        speaker, own: [T, H] int32, how many pixels of a row and those above it are not background, and have
            one of the labels `of_own`.
        boxes: [3, T, 4] int64, x0, y0, x1, y1, rims included.
        parts: how many pixels of a frame each of the six parts has, P together.
        background, of_own: labels.
        backend: "native" or "reference".

    Returns:
        [F, P] int64, row by row.

    Raises:
        TypeError, ValueError: an argument doesn't fit.
        MissingBackend: the kernel isn't built.
    """
    check = Checker("draw_pixels")
    check.tensor("even", even, ("F", "P", 2))
    if len(parts) != PARTS or sum(parts) != even.shape[1] or min(parts) < 0:
        raise ValueError(
            f"draw_pixels: parts must be {PARTS} numbers of sum {even.shape[1]}, got {list(parts)}"
        )
    given = even, frames, labels, speaker, own, boxes, parts, background, of_own
    if not native.use_native("draw_pixels", backend):
        return pixels_reference(*given)
    return _call_pixels(*given)


def look_at_pixels(
    background: Tensor, frames: Tensor, pixels: Tensor, pictures: Tensor, labels: Tensor, plate: Tensor,
    motions: Tensor, reach: int, empty: int, of_own: Sequence[int], device: torch.device,
    *, backend: str = "native",
) -> Looked:  # fmt: skip
    """What is known of pixels of a video, brought to a device as one.

    Args:
        background: [H, W, 3] float32.
        frames: [F] int64.
        pixels: [F, P] int64, row by row.
        pictures: [T, H, W, 3] uint8.
        labels: [T, H, W] uint8.
        plate: [H, W, 4] float32, colour and opacity of a torso.
        motions: [T, 2, 3] float32, from plate to frame, in units of the width.
        reach: pixels about the speaker that are not its interior.
        empty: the label of the background.
        of_own: labels of the mask.
        device: where it is wanted.
        backend: "native" or "reference".

    Returns:
        target and behind [F, P, 3], colours in [0, 1]; points [F, P, 2], the pixels' middles; mask and
        interior [F, P], 1 or 0; guess [F, P, 3] and dense [F, P], the plate's colour times its opacity, and
        this; labels [F, P] uint8.

    Raises:
        TypeError, ValueError: an argument doesn't fit.
        MissingBackend: the kernel isn't built.
    """
    given = background, frames, pixels, pictures, labels, plate, motions, reach, empty, of_own
    return unpack_pixels(native.send(pack_pixels(*given, backend=backend), device), pixels.shape)


def pack_pixels(
    background: Tensor, frames: Tensor, pixels: Tensor, pictures: Tensor, labels: Tensor, plate: Tensor,
    motions: Tensor, reach: int, empty: int, of_own: Sequence[int], *, backend: str = "native",
) -> Tensor:  # fmt: skip
    """What `look_at_pixels` finds, as bytes in one memory of the CPU; see there."""
    check = Checker("look_at_pixels")
    check.tensor("background", background, ("H", "W", 3))
    check.tensor("plate", plate, ("H", "W", 4))
    given = background, frames, pixels, pictures, labels, plate, motions, reach, empty, of_own
    if native.use_native("look_at_pixels", backend):
        return _call_look(*given)
    found = pixels_look_reference(*given)
    return torch.cat([value.contiguous().view(torch.uint8).flatten() for value in found])


def unpack_pixels(packed: Tensor, shape: torch.Size) -> Looked:
    """The arrays that `pack_pixels` packed of pixels of this shape, (F, P): views, on any device."""
    return _views(packed, shape)
