"""The codes: where each is, what changes it, and what does not."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from nldf_engine.systems.headnerf.codes import CodeSizes, FaceDriver, LipDriver
from systems.headnerf.heads import CONDITIONS, SIZES, clip

EVERY = torch.arange(20)


def driver() -> FaceDriver:
    torch.manual_seed(0)
    return FaceDriver(CONDITIONS, SIZES).eval()


def changed_parts(before: torch.Tensor, after: torch.Tensor) -> set[str]:
    return {
        name for name, place in SIZES.places().items() if not torch.equal(before[:, place], after[:, place])
    }


def test_places_fill_the_code() -> None:
    """Codes follow each other without gaps."""
    places = SIZES.places()
    assert list(places) == ["expression", "lip", "identity", "albedo", "illumination"]
    ends = [place.stop for place in places.values()]
    assert [place.start for place in places.values()] == [0, *ends[:-1]]
    assert ends[-1] == SIZES.dim == 25
    assert driver()(clip(), EVERY).shape == (20, ends[-1])


@pytest.mark.parametrize(
    ("track", "part"),
    [
        ({"motion": torch.ones(20, 4)}, "expression"),
        ({"upper": torch.ones(20, 2)}, "expression"),
        ({"strength": torch.full((20,), 0.5)}, "expression"),
        ({"identity": torch.ones(20, dtype=torch.int64)}, "identity"),
        ({"albedo": torch.ones(20, dtype=torch.int64)}, "albedo"),
        ({"light": torch.ones(20, 3)}, "illumination"),
    ],
)
def test_each_track_changes_its_own_code_alone(track: dict[str, torch.Tensor], part: str) -> None:
    """Motion, brows and strength change the expression; a number the identity, another one the albedo."""
    made = driver()
    assert changed_parts(made(clip(), EVERY), made(clip(**track), EVERY)) == {part}


def test_audio_changes_the_lips_code_alone() -> None:
    """With tracked motion the sound reaches the face by the lip sync module; without it by the motion too."""
    made, conditions = driver(), clip()
    other = conditions.replaced(audio=conditions.audio + 1)
    assert changed_parts(made(conditions, EVERY), made(other, EVERY)) == {"lip"}
    silent = {"motion": None}
    before, after = made(conditions.replaced(**silent), EVERY), made(other.replaced(**silent), EVERY)
    assert changed_parts(before, after) == {"lip", "expression"}


def test_no_strength_is_the_usual_face() -> None:
    """At strength 0 every frame has the usual face, whose code is zero; at 2 it is twice as far from it."""
    made, conditions = driver(), clip()
    made.expression.usual.copy_(made.face(conditions, EVERY).mean(0))
    place = SIZES.places()["expression"]
    one, none, two = (
        made(conditions.replaced(strength=torch.full((20,), s)), EVERY)[:, place] for s in (1.0, 0.0, 2.0)
    )
    assert not none.any() and float(one.abs().max()) > 0
    torch.testing.assert_close(two, 2 * one)
    torch.testing.assert_close(one, made(conditions, EVERY)[:, place])
    torch.testing.assert_close(one.mean(0), torch.zeros(one.shape[1]), atol=1e-5, rtol=0)


def test_chosen_frames_have_the_codes_of_the_whole_clip() -> None:
    """A stream, which sees a part of the clip at a time, gets the same codes."""
    made, conditions = driver(), clip().replaced(motion=None)
    some = torch.tensor([0, 7, 19])
    torch.testing.assert_close(made(conditions, some), made(conditions, EVERY)[some])
    assert made.reach == made.face.reach


def test_lips_codes_have_one_length() -> None:
    """The direction is what cosines compare (eq. 9); the length is that of the other codes."""
    made = driver()
    lips = made(clip(), EVERY)[:, SIZES.places()["lip"]]
    torch.testing.assert_close(lips.norm(dim=1), torch.full((20,), SIZES.lip**0.5))


def test_the_lip_module_keeps_still_while_the_head_trains() -> None:
    """No dropout in training mode: a resumed run draws nothing else than one that was never stopped."""
    made = driver().train()
    assert made.lip is not None and not any(module.training for module in made.lip.module.modules())
    first, second = made(clip(), EVERY), made(clip(), EVERY)
    assert torch.equal(first, second)


def test_windows_are_the_last_rows_in_order() -> None:
    """A window of 16 rows is 8 frames of two rows; an odd row is left out at the beginning."""
    made = LipDriver(3, 17, 4)
    audio = torch.arange(17.0)[:, None].expand(17, 3)[None]
    assert made.windows(audio)[0, :, :, 0].flatten().tolist() == list(range(1, 17))


def test_what_can_not_be_is_refused() -> None:
    """Short windows name the remedy; sizes below one are refused; without lips there is no module."""
    with pytest.raises(ValueError, match=r"audio_window: .* got 2; train without it \(--set sync_weight=0\)"):
        FaceDriver(dataclasses.replace(CONDITIONS, audio_window=2), SIZES)
    with pytest.raises(ValueError, match="CodeSizes"):
        CodeSizes(identity=0)
    made = FaceDriver(CONDITIONS, dataclasses.replace(SIZES, lip=0))
    assert made.lip is None and made(clip(), EVERY).shape == (20, made.dim)
