"""The extractor's pre-training: faces stand still, pairs share one property alone, and it learns to tell
them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fields import seeded
from nldf_engine.geometry.face_mesh import LEFT_EYE_OUTER, RIGHT_EYE_OUTER
from nldf_engine.systems.headnerf.codes import CodeSizes
from nldf_engine.systems.headnerf.extractor import FACTORS, CodeExtractor
from nldf_engine.systems.headnerf.objective.contrast import (
    FaceBank,
    Samples,
    contrast,
    drawn_looks,
    fitted,
    references,
    train_extractor,
)
from nldf_engine.systems.headnerf.objective.faces import (
    Looks,
    changed_faces,
    cut_faces,
    face_frames,
    light_track,
    measured_light,
)
from nldf_engine.training.scene import Scenes

SIZES = CodeSizes(5, 7, 4, 3, 6)


def test_eyes_stand_still(scenes: Scenes) -> None:
    """In a face's coordinates the outer corners are at the same places in every frame; unknown ones are
    held."""
    landmarks = torch.from_numpy(scenes[0].dataset.landmarks).float()
    maps = face_frames(landmarks)
    inverse = torch.linalg.inv(maps[:, :, :2])
    for eye in (RIGHT_EYE_OUTER, LEFT_EYE_OUTER):
        places = (inverse @ (landmarks[:, eye] - maps[:, :, 2])[..., None])[..., 0]
        torch.testing.assert_close(places, places[:1].expand_as(places), atol=1e-4, rtol=0)
    gone = landmarks.clone()
    gone[5] = np.nan
    assert torch.equal(face_frames(gone)[5], maps[4]) or torch.equal(face_frames(gone)[5], maps[6])
    with pytest.raises(ValueError, match="landmarks: expected a face in at least one frame"):
        face_frames(torch.full((3, 478, 2), torch.nan))


def test_light_is_measured_as_it_was_added(scenes: Scenes) -> None:
    """Slopes that are put on faces come out of the measurement; the track counts from the usual light."""
    cut = cut_faces(scenes[0], scenes[0].fit[:4])
    plain = Looks.none(4)
    light = torch.tensor([[-0.3, 0, 0], [-0.2, 0.2, 0], [-0.2, 0, 0.2], [-0.2, -0.1, 0.1]])
    before, after = (
        measured_light(changed_faces(cut, Looks(plain.stretch, plain.tint, one)))
        for one in (plain.light, light)
    )
    torch.testing.assert_close(after - before, light, atol=0.05, rtol=0)
    track = light_track(scenes[0])
    assert track.shape == (100, 3)
    every = torch.cat([measured_light(changed_faces(part[None], Looks.none(1))) for part in cut])
    assert float((track[:40:10] - every).abs().max()) < 0.1, "low-passed, not counted from anything"


def test_a_speakers_usual_light_is_taken_off(scenes: Scenes) -> None:
    """So faces of speakers under other lights are drawn under one."""
    usual = torch.tensor([[0.0, 0.0, 0.0], [0.3, 0.1, -0.1]])
    whole, plain = FaceBank(scenes, usual), FaceBank(scenes, torch.zeros(2, 3))
    samples = Samples(torch.tensor([0, 1]), torch.tensor([3, 3]), Looks.none(2))
    moved = measured_light(whole.pictures(samples)) - measured_light(plain.pictures(samples))
    assert float(moved[0].abs().max()) < 1e-6
    torch.testing.assert_close(moved[1], -usual[1], atol=0.06, rtol=0)


def test_a_pair_shares_its_factor_alone(scenes: Scenes) -> None:
    """Anchor and positive have one thing in common; the changed anchor has all but that."""
    bank = FaceBank(scenes, torch.zeros(2, 3))
    for factor in FACTORS:
        anchor, positive, changed = bank.triples(factor, 8, seeded())
        same = {
            "stretch": torch.equal(anchor.looks.stretch, positive.looks.stretch),
            "tint": torch.equal(anchor.looks.tint, positive.looks.tint),
            "light": torch.equal(anchor.looks.light, positive.looks.light),
        }
        own = {"identity": "stretch", "albedo": "tint", "illumination": "light"}.get(factor)
        assert [name for name, equal in same.items() if equal] == ([own] if own else [])
        kept = {
            "stretch": torch.equal(anchor.looks.stretch, changed.looks.stretch),
            "tint": torch.equal(anchor.looks.tint, changed.looks.tint),
            "light": torch.equal(anchor.looks.light, changed.looks.light),
        }
        assert [name for name, equal in kept.items() if not equal] == ([own] if own else [])
        if factor == "expression":
            assert torch.equal(anchor.speaker, changed.speaker)
            assert not torch.equal(anchor.frame, changed.frame)


def test_another_speakers_same_expression_is_found(scenes: Scenes) -> None:
    """Of two speakers with one script, the frame of the same moment is the most alike, or shows the same
    face."""
    bank = FaceBank(scenes, torch.zeros(2, 3))
    samples = bank.anyone(40, seeded())
    first = samples.speaker == 0
    found = bank.alike(samples, 1 - samples.speaker)[first]
    visemes = [torch.from_numpy(scene.dataset.extra["visemes"]) for scene in scenes]
    own, theirs = (
        visemes[who][bank.numbers[who][frames]] for who, frames in ((0, samples.frame[first]), (1, found))
    )
    shared = samples.frame[first] < len(bank.numbers[1])
    apart = (own - theirs).abs()[shared].mean()
    chance = (own - theirs.roll(5, 0)).abs()[shared].mean()
    assert float(apart) < 0.5 * float(chance)


def test_the_extractor_learns_to_tell_pairs(scenes: Scenes, capsys: pytest.CaptureFixture[str]) -> None:
    """Its loss falls well below chance, log 16, and it says how often it is right."""
    torch.manual_seed(0)
    bank = FaceBank(scenes, torch.zeros(2, 3))
    extractor = train_extractor(bank, SIZES, 80, seeded())
    after = contrast(extractor, bank, 16, seeded(3))
    assert float(torch.stack(list(after.values())).mean()) < 0.75 * np.log(16)
    assert "picks the pair" in capsys.readouterr().err
    assert not any(p.requires_grad for p in extractor.parameters())
    known = references(extractor, scenes[1], torch.zeros(3), seeded())
    assert known.expression.shape == (75, 7) and known.light_map.shape == (3, 3)
    assert float(known.identity.norm()) == pytest.approx(5**0.5, rel=1e-5)
    assert float(known.expression[scenes[1].fit].mean(0).abs().max()) < 1e-5
    assert float(known.seen_expression[scenes[1].fit].mean(0).abs().max()) > 1e-3
    lit = known.light_map @ torch.tensor([0.3, 0.0, 0.0])
    assert float(lit.norm()) > 0.05, "brightness moves the illumination code"


def test_clothes_and_backdrop_are_not_looked_at() -> None:
    """Corners of the picture change no code, its middle does."""
    torch.manual_seed(0)
    extractor, faces = CodeExtractor(SIZES), torch.rand(1, 3, 48, 48)
    corner, middle = faces.clone(), faces.clone()
    corner[..., :4, :4], middle[..., 20:24, 20:24] = 1, 1
    before = extractor(faces)["albedo"]
    assert torch.equal(extractor(corner)["albedo"], before)
    assert not torch.equal(extractor(middle)["albedo"], before)
    with pytest.raises(ValueError, match="faces: expected"):
        extractor(torch.rand(1, 3, 32, 32))


def test_looks_are_drawn_by_the_generator() -> None:
    """Tints have no brightness of their own, and a seed draws the same again."""
    first, second = drawn_looks(9, seeded(4)), drawn_looks(9, seeded(4))
    assert torch.equal(first.tint, second.tint) and torch.equal(first.light, second.light)
    torch.testing.assert_close(first.tint.sum(1), torch.zeros(9), atol=1e-6, rtol=0)


def test_regression_finds_a_linear_map() -> None:
    """The weight of what is exactly linear, wherever both are counted from."""
    torch.manual_seed(0)
    x, weight, bias = torch.randn(200, 5), torch.randn(3, 5), torch.randn(3)
    found = fitted(x, x @ weight.t() + bias, ridge=1e-9)
    torch.testing.assert_close(found, weight, atol=1e-4, rtol=1e-4)
