"""What is asked of the opacity inside, outside and behind the head, and how often blinks are looked at."""

import dataclasses

import pytest
import torch

from nldf_engine.audio import FrontendConfig
from nldf_engine.datasets.dataset import LABELS, Dataset
from nldf_engine.rendering.fields import Conditions
from nldf_engine.rendering.portrait import Portrait
from nldf_engine.systems.common.conditions import ConditionConfig
from nldf_engine.training import find_preset
from nldf_engine.training.look import HIDDEN_WEIGHT, Look, weigh_mask
from nldf_engine.training.objectives import _Sampler, squared
from nldf_engine.training.parts import HeadPart
from nldf_engine.training.presets import Recipe
from nldf_engine.training.sampling import Shares
from nldf_engine.training.scene import TrainingScene
from nldf_engine.training.start import make_plate_or_layer

SIZE = 32


@pytest.fixture(scope="module")
def scene(synthetic_dataset: Dataset) -> TrainingScene:
    torch.manual_seed(0)
    return TrainingScene(synthetic_dataset, SIZE, FrontendConfig(), torch.device("cpu"), learned_torso=True)


def recipe(**changes: object) -> Recipe:
    return dataclasses.replace(find_preset("nldf-fast-tiny").recipe, **changes)  # type: ignore[arg-type]


def test_deep_is_where_no_background_is_near(scene: TrainingScene) -> None:
    """A pixel is deep where it and its four neighbours show the speaker; the frame's border wraps nowhere."""
    frames = scene.fit[:2]
    every = torch.arange(SIZE * SIZE).expand(2, -1)
    person = (scene.labels[frames] != LABELS["background"]).float()
    beside = [person.roll(step, axis) for axis in (1, 2) for step in (-1, 1)]
    want = person * torch.stack(beside).amin(0)
    got = scene.deep(frames, every).view(2, SIZE, SIZE) * person
    inner = (slice(None), slice(1, -1), slice(1, -1))
    assert torch.equal(got[inner], want[inner]) and 0.05 < float(got.mean()) < float(person.mean())


def test_opacity_weighs_more_well_inside_and_outside(scene: TrainingScene) -> None:
    """Errors are weighed by outside_weight off the mask, inside_weight deep in it, and 1 on its rim."""
    batch = scene.sample(scene.fit[:2], 200, Shares(0.5, frame=0.5))
    deep = scene.deep(batch.frames, batch.pixels) * batch.mask
    weight = torch.where(batch.mask > 0, 1.0, 3.0) + 6.0 * deep
    assert weight.unique().tolist() == [1.0, 3.0, 7.0]
    error = torch.rand(2, 200)
    got = weigh_mask(error, batch.mask, batch, scene, recipe(outside_weight=3.0, inside_weight=7.0))
    torch.testing.assert_close(got, (weight * error).mean())
    plain = weigh_mask(error, batch.mask, batch, scene, recipe(outside_weight=1.0, inside_weight=1.0))
    assert float(plain) == pytest.approx(float(error.mean()))


def test_the_torso_behind_the_head_is_told_the_plates_guess(scene: TrainingScene) -> None:
    """Where the head is, a learned torso is held to the plate; elsewhere it is not."""
    preset = find_preset("nldf-fast-tiny")
    model = preset.model(scene.bounds, ConditionConfig())
    torso = make_plate_or_layer(scene)
    look = Look(HeadPart(Portrait(model, scene.region, torso), scene), recipe(), torso)
    batch = scene.sample(scene.fit[:2], 300, Shares(0.6, frame=0.4))
    motions, poses = scene.motions[batch.frames], scene.poses[batch.frames]
    plate, dense = scene.torso.sample(scene.pixels[batch.pixels] / SIZE, motions, poses)
    on_head = batch.labels == LABELS["head"]
    assert 0 < float(on_head.float().mean()) < 1 and float(dense[on_head].max()) > 0.9
    premultiplied = plate * dense[..., None]
    assert float(look._hidden(batch, premultiplied, dense)) == 0
    off = premultiplied.clone()
    off[~on_head] += 1
    assert float(look._hidden(batch, off, dense)) == 0
    off[on_head] += 1
    expected = float(squared(off - premultiplied)[on_head].sum()) / batch.labels.numel()
    assert float(look._hidden(batch, off, dense)) == pytest.approx(expected, rel=1e-5)
    assert HIDDEN_WEIGHT > 0


def test_blinks_are_found_and_drawn_more_often(scene: TrainingScene) -> None:
    """blink_share of the frames are those with lids on their way; a video without blinks has none."""
    eyes = torch.full((len(scene.poses),), 0.3)
    before, shut = scene.conditions, scene.fit[torch.tensor([4, 5, 30])]
    eyes[shut] = torch.tensor([0.12, 0.02, 0.19])
    try:
        scene.conditions = Conditions(before.audio, eyes)
        assert torch.equal(scene.blinks(), shut)
        model = find_preset("nldf-fast-tiny").model(scene.bounds, ConditionConfig())
        part = HeadPart(Portrait(model, scene.region, scene.torso), scene)
        share = {}
        for wanted in (0.0, 0.25):
            torch.manual_seed(0)
            sampler = _Sampler(part, recipe(blink_share=wanted, rays=64, frames=8))
            drawn = torch.cat([sampler.draw()[0].frames for _ in range(60)])
            share[wanted] = float(torch.isin(drawn, shut).float().mean())
        usual = 3 / len(scene.fit)
        assert share[0.0] < 3 * usual and share[0.25] == pytest.approx(0.25 + 0.75 * usual, abs=0.06)
        scene.conditions = Conditions(before.audio, eyes.clamp_min(0.2))
        assert not len(scene.blinks())
    finally:
        scene.conditions = before
