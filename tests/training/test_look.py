"""What is asked of the opacity inside, outside and behind the head, and how often blinks are looked at."""

import pytest
import torch

from fields import head_target, seeded
from nldf_engine.audio import FrontendConfig
from nldf_engine.datasets.dataset import LABELS, Dataset
from nldf_engine.rendering.fields import Conditions, RayColors
from nldf_engine.systems.common.torso_layer import TorsoLayer
from nldf_engine.systems.nldf.objective.rays import HIDDEN_WEIGHT, LightFieldLoss
from nldf_engine.systems.nldf_fast.recipe import FastRecipe
from nldf_engine.training import find_preset
from nldf_engine.training.objective import RayBatches, squared, weigh_opacity
from nldf_engine.training.recipe import OpacityLoss, Sampling, with_parts
from nldf_engine.training.scene import Batch, RayScene
from nldf_engine.training.stages import plate_or_layer

SIZE = 32


@pytest.fixture(scope="module")
def scene(synthetic_dataset: Dataset) -> RayScene:
    torch.manual_seed(0)
    return RayScene(synthetic_dataset, SIZE, FrontendConfig(), torch.device("cpu"), learned_torso=True)


def recipe() -> FastRecipe:
    made = find_preset("nldf-fast-tiny").recipe
    assert isinstance(made, FastRecipe)
    return made


def sample(scene: RayScene, rays: int, shares: Sampling) -> Batch:
    frames = scene.fit[:2]
    return scene.batch(frames, scene.draw(frames, rays, shares, seeded()))


def test_the_interior_is_where_no_background_is_near(scene: RayScene) -> None:
    """A pixel is interior where it and its four neighbours show the speaker; borders wrap nowhere."""
    frames = scene.fit[:2]
    every = torch.arange(SIZE * SIZE).expand(2, -1)
    person = (scene.labels[frames] != LABELS["background"]).float()
    beside = [person.roll(step, axis) for axis in (1, 2) for step in (-1, 1)]
    want = person * torch.stack(beside).amin(0)
    got = scene.batch(frames, every).interior.view(2, SIZE, SIZE) * person
    inner = (slice(None), slice(1, -1), slice(1, -1))
    assert torch.equal(got[inner], want[inner]) and 0.05 < float(got.mean()) < float(person.mean())


def test_opacity_weighs_more_well_inside_and_outside(scene: RayScene) -> None:
    """Errors are weighed by outside_weight off the mask, inside_weight deep in it, and 1 on its rim."""
    batch = sample(scene, 200, Sampling(face_share=0.5, frame_share=0.5))
    deep = batch.interior * batch.mask
    weight = torch.where(batch.mask > 0, 1.0, 3.0) + 6.0 * deep
    assert weight.unique().tolist() == [1.0, 3.0, 7.0]
    error = torch.rand(2, 200)
    got = weigh_opacity(error, batch.mask, batch, OpacityLoss(1.0, 3.0, 7.0))
    torch.testing.assert_close(got, (weight * error).mean())
    plain = weigh_opacity(error, batch.mask, batch, OpacityLoss(1.0, 1.0, 1.0))
    assert float(plain) == pytest.approx(float(error.mean()))


def test_the_torso_behind_the_head_is_told_the_plates_guess(
    scene: RayScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the head is, a learned torso is held to the plate; elsewhere it is not."""
    torso = plate_or_layer(scene)
    assert isinstance(torso, TorsoLayer)
    look = LightFieldLoss(head_target(scene, "nldf-fast-tiny", torso), recipe(), torso)
    batch = sample(scene, 300, Sampling(face_share=0.6, frame_share=0.4))
    motions, poses = scene.motions[batch.frames], scene.poses[batch.frames]
    plate, dense = scene.torso.sample(scene.pixels[batch.pixels] / SIZE, motions, poses)
    on_head = batch.labels == LABELS["head"]
    assert 0 < float(on_head.float().mean()) < 1 and float(dense[on_head].max()) > 0.9
    premultiplied = (plate * dense[..., None]).contiguous()
    nothing = RayColors(torch.zeros(2, 300, 1, 3), torch.zeros(2, 300))

    def opacity_loss(color: torch.Tensor) -> float:
        monkeypatch.setattr(look, "_torso", lambda *_: (color, dense))
        monkeypatch.setattr(look, "_seen", lambda *_: nothing)
        return float(look(batch, torch.zeros(2, 1), look.noise(2, seeded()), 1.0)[1].opacity)

    least = opacity_loss(premultiplied)
    off = premultiplied.clone()
    off[~on_head] += 1
    assert opacity_loss(off) == least
    off[on_head] += 1
    expected = float(squared(off - premultiplied)[on_head].sum()) / batch.labels.numel()
    assert opacity_loss(off) - least == pytest.approx(HIDDEN_WEIGHT * expected, rel=1e-4)


def test_blinks_are_found_and_drawn_more_often(scene: RayScene) -> None:
    """blink_share of the frames are those with lids on their way; a video without blinks has none."""
    eyes = torch.full((len(scene.poses),), 0.3)
    before, shut = scene.conditions, scene.fit[torch.tensor([4, 5, 30])]
    eyes[shut] = torch.tensor([0.12, 0.02, 0.19])
    try:
        scene.conditions = Conditions(before.audio, eyes)
        assert torch.equal(scene.blinks(), shut)
        target = head_target(scene, "nldf-fast-tiny")
        share = {}
        for wanted in (0.0, 0.25):
            changes = {"blink_share": wanted, "rays": 64, "frames": 8}
            sampler, generator = RayBatches(target, with_parts(recipe(), sampling=changes)), seeded()
            drawn = torch.cat([sampler.draw(generator)[0].frames for _ in range(60)])
            share[wanted] = float(torch.isin(drawn, shut).float().mean())
        usual = 3 / len(scene.fit)
        assert share[0.0] < 3 * usual and share[0.25] == pytest.approx(0.25 + 0.75 * usual, abs=0.06)
        scene.conditions = Conditions(before.audio, eyes.clamp_min(0.2))
        assert not len(scene.blinks())
    finally:
        scene.conditions = before
