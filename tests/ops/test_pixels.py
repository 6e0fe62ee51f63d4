"""ops.draw_pixels and ops.look_at_pixels: which pixels of a video a step sees, and what is known of them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nldf_engine import ops
from nldf_engine.ops.reference import pixels_look_reference, pixels_reference

FRAMES, HEIGHT, WIDTH = 5, 20, 37
PARTS, OWN = (10, 3, 0, 25, 7, 15), (1, 4)


def video() -> tuple[Tensor, Tensor]:
    """Labels of frames, the third without any of OWN, the last of background alone; boxes in them."""
    g = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 5, (FRAMES, HEIGHT, WIDTH), generator=g).to(torch.uint8)
    labels[:, 3:5] = 0
    labels[2] = torch.where((labels[2] == 1) | (labels[2] == 4), 2, labels[2])
    labels[4] = 0
    low = torch.stack([torch.randint(0, 10, (3, FRAMES), generator=g) for _ in range(2)], -1)
    return labels, torch.cat([low, low + torch.randint(0, 9, low.shape, generator=g)], -1)


def sums(inside: Tensor) -> Tensor:
    return inside.sum(-1, dtype=torch.int32).cumsum(1, dtype=torch.int32)


def drawing() -> tuple:
    labels, boxes = video()
    even = torch.rand(4, sum(PARTS), 2, generator=torch.Generator().manual_seed(1))
    even[:, ::9], even[:, 5::9] = 0.0, 1 - 2.0**-24
    own = (labels == 1) | (labels == 4)
    frames = torch.tensor([3, 0, 2, 4])
    return even, frames, labels, sums(labels != 0), sums(own), boxes, PARTS, 0, OWN


def test_draws_as_its_reference():
    """The same numbers give the same pixels, those at the ends included."""
    given = drawing()
    assert torch.equal(ops.draw_pixels(*given), pixels_reference(*given))


def test_every_pixel_that_is_wanted_is_drawn():
    """Evenly spaced numbers over so many pixels as there are find each of them once."""
    labels, boxes = video()
    speaker, own = sums(labels != 0), sums((labels == 1) | (labels == 4))
    count = int(speaker[1, -1])
    even = ((torch.arange(count) + 0.5) / count)[None, :, None].repeat(1, 1, 2)
    parts = (0, 0, 0, count, 0, 0)
    got = ops.draw_pixels(even, torch.tensor([1]), labels, speaker, own, boxes, parts, 0, OWN)
    assert torch.equal(got[0], (labels[1].flatten() != 0).nonzero()[:, 0])


def looking() -> tuple:
    g = torch.Generator().manual_seed(2)
    labels, _ = video()
    labels[:, 6:15, 8:25] = 1
    pictures = torch.randint(0, 256, (FRAMES, HEIGHT, WIDTH, 3), generator=g).to(torch.uint8)
    background, plate = torch.rand(HEIGHT, WIDTH, 3, generator=g), torch.rand(HEIGHT, WIDTH, 4, generator=g)
    motions = torch.eye(2, 3).repeat(FRAMES, 1, 1) + 0.1 * torch.randn(FRAMES, 2, 3, generator=g)
    pixels = torch.arange(HEIGHT * WIDTH).repeat(3, 1)
    return background, torch.tensor([3, 0, 4]), pixels, pictures, labels, plate, motions, 2, 0, OWN


def test_looks_as_its_reference():
    """Every pixel of frames has the colours, labels, neighbours and plate that the reference finds."""
    given = looking()
    got = ops.look_at_pixels(*given, torch.device("cpu"))
    for name, ours, want in zip(got._fields, got, pixels_look_reference(*given), strict=True):
        assert ours.dtype == want.dtype and ours.shape == want.shape, name
        torch.testing.assert_close(
            ours, want, rtol=0, atol=2e-5 if name in ("guess", "dense") else 0, msg=name
        )
    assert 0 < float(got.interior.mean()) < 1 and 0 < float(got.mask.mean()) < 1


def test_what_is_known_lies_in_one_memory():
    """All of it goes to a device as one copy."""
    got = ops.look_at_pixels(*looking(), torch.device("cpu"))
    assert len({value.untyped_storage().data_ptr() for value in got}) == 1


def test_opcheck():
    """Schema, fake tensors and dispatch of both operations hold."""
    torch.library.opcheck(torch.ops.nldf.pixels.default, drawing())
    torch.library.opcheck(torch.ops.nldf.pixels_look.default, looking())


def test_bad_input_is_named():
    """A wrong argument raises an error that names it."""
    given = drawing()
    with pytest.raises(ValueError, match="draw_pixels: parts must be 6 numbers of sum 60, got"):
        ops.draw_pixels(*given[:6], (1, 2, 3), *given[7:])
    looked = looking()
    with pytest.raises(ValueError, match=r"look_at_pixels: plate must have the shape \[H=20, W=37, 4\]"):
        ops.look_at_pixels(*looked[:5], torch.rand(2, 2, 4), *looked[6:], torch.device("cpu"))
