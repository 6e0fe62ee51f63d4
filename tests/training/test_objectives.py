"""Losses: what they are of, and which parts of the network they train."""

import pytest
import torch

from fields import head_target, seeded
from nldf_engine.audio import FrontendConfig
from nldf_engine.datasets.dataset import LABELS, Dataset
from nldf_engine.systems.adnerf.objective import RadianceObjective
from nldf_engine.systems.nldf.objective import LightFieldObjective
from nldf_engine.training import find_preset
from nldf_engine.training.distill import SegmentTargets
from nldf_engine.training.objective import RayBatches, squared
from nldf_engine.training.recipe import Driving, Recipe, Sampling
from nldf_engine.training.samplers import label_boxes
from nldf_engine.training.scene import Batch, RayScene, head_and_neck
from nldf_engine.training.targets import HeadTarget, region_pixels


@pytest.fixture(scope="module")
def scene(synthetic_dataset: Dataset) -> RayScene:
    torch.manual_seed(0)
    return RayScene(synthetic_dataset, 32, FrontendConfig(), torch.device("cpu"))


def tiny(scene: RayScene) -> HeadTarget:
    return head_target(scene, "nldf-tiny")


def sample(scene: RayScene, frames: torch.Tensor, rays: int, shares: Sampling) -> Batch:
    return scene.batch(frames, scene.draw(frames, rays, shares, seeded()))


def light_field(
    scene: RayScene, targets: SegmentTargets | None = None, **settings: str
) -> LightFieldObjective:
    torch.manual_seed(0)
    preset = find_preset("nldf-tiny", settings)
    return LightFieldObjective(head_target(scene, preset), preset.recipe, targets)


def test_a_batch_holds_the_videos_pixels_and_rays(scene: RayScene) -> None:
    """Targets are the frame's colours at the drawn pixels; the rays go through those pixels' centres."""
    torch.manual_seed(0)
    frames = scene.fit[:2]
    batch = sample(scene, frames, 50, Sampling(face_share=0.8, mouth_share=0.2))
    x, y = batch.pixels % 32, batch.pixels // 32
    expected = scene.frames[frames[:, None], y, x].float() / 255
    assert torch.equal(batch.target, expected)
    camera = scene.camera
    for row, frame in enumerate(frames.tolist()):
        pose = scene.poses[frame]
        points = batch.rays.origins[row] + 0.8 * batch.rays.directions[row]
        seen = (points - pose[:3, 3]) @ pose[:3, :3]
        u = camera.fx * seen[:, 0] / seen[:, 2] + camera.cx
        torch.testing.assert_close(u, x[row] + 0.5, atol=1e-3, rtol=0)


def test_most_rays_of_a_batch_are_in_the_head(scene: RayScene) -> None:
    """With a face share of 0.9, nine of ten rays hit the head's mask or the box about the lips."""
    torch.manual_seed(0)
    batch = sample(scene, scene.fit[:8], 200, Sampling(face_share=0.9, mouth_share=0.1))
    assert float(batch.mask.mean()) > 0.85


def test_the_region_covers_every_head_pixel(scene: RayScene) -> None:
    """No pixel of a head in the training part lies outside of the rays that are rendered."""
    for frame in scene.fit[::7].tolist():
        shown = head_and_neck(scene.labels[frame]).reshape(-1).nonzero()[:, 0]
        inside = torch.isin(shown, region_pixels(tiny(scene), frame))
        assert float(inside.float().mean()) > 0.995


def test_pool_rays_do_not_train_the_audio_net(scene: RayScene) -> None:
    """The pool's loss reaches the light field and leaves the audio net alone (section 3.5)."""
    objective = light_field(scene)
    objective(seeded())
    assert objective.pool is not None and len(objective.pool) > 0
    loss = objective._pool_loss(objective.pool, seeded(1))
    assert loss is not None
    loss.backward()
    grads = {name: p.grad for name, p in objective.loss.model.named_parameters()}
    assert all(grad is None for name, grad in grads.items() if name.startswith("encoder"))
    assert all(grad is not None for name, grad in grads.items() if name.startswith("network"))


def test_the_step_trains_audio_and_field(scene: RayScene) -> None:
    """The drawn rays' loss reaches every part of the network."""
    objective = light_field(scene, active_pool="off")
    objective(seeded()).total.backward()
    assert all(p.grad is not None for p in objective.loss.model.parameters())


def test_segment_loss_is_zero_for_a_perfect_student(scene: RayScene) -> None:
    """Targets made by the network itself cost nothing; others cost their squared distance (eq. 6)."""
    objective = light_field(scene, active_pool="off")
    frame = int(scene.fit[3])
    pixels = region_pixels(tiny(scene), frame)
    with torch.no_grad():
        code = objective.loss.model.encode_frames(scene.conditions, torch.tensor([frame]))
        own = objective.loss.model(scene.rays(torch.tensor([frame]), pixels[None]), code)
    batch = scene.batch(torch.tensor([frame]), pixels[None])
    for shift in (0.0, 0.1):
        targets = SegmentTargets(
            torch.tensor([frame]), [pixels], [(own.segments[0] + shift).half()], [own.opacity[0].half()]
        )
        loss = float(objective._segment_loss(batch, own, targets))
        # Four segments of three channels, each off by the shift.
        assert loss == pytest.approx(12 * shift**2, abs=2e-3)


def test_unknown_rays_have_no_segment_target(scene: RayScene) -> None:
    """A pixel that the teacher did not render is left out."""
    targets = SegmentTargets(
        torch.tensor([5]), [torch.tensor([2, 4, 8])], [torch.zeros(3, 4, 3).half()], [torch.zeros(3).half()]
    )
    _, _, known = targets.look_up(5, torch.tensor([0, 2, 4, 5, 8, 99]))
    assert known.tolist() == [False, True, True, False, True, False]
    assert 5 in targets and 6 not in targets


def test_the_teacher_is_trained_in_both_passes(scene: RayScene) -> None:
    """Coarse and fine networks both get gradients from one step."""
    torch.manual_seed(0)
    preset = find_preset("adnerf-tiny")
    objective = RadianceObjective(head_target(scene, preset), preset.recipe)
    loss = objective(seeded())
    loss.total.backward()
    assert all(p.grad is not None for p in objective.model.parameters())
    assert set(loss.logged) == {"pixel", "coarse", "opacity"}


def test_squared_error_sums_over_channels() -> None:
    """Eq. (8): the squared norm of a colour difference."""
    assert squared(torch.tensor([[1.0, 2.0, 2.0]])).tolist() == [9.0]


def test_noise_is_drawn_where_it_is_heard_and_nowhere_else(scene: RayScene) -> None:
    """The windows that the drawn frames' codes read carry the recipe's noise, all others carry none."""
    sampler = RayBatches(tiny(scene), Recipe(size=32, steps=1, driving=Driving(audio_noise=0.5)))
    frames = scene.fit[torch.tensor([20, 3, 20])]
    heard = torch.cat([torch.arange(int(f) - 4, int(f) + 4) for f in frames]).unique()
    heard = heard[heard >= 0]
    moved = sampler.conditions(sampler.noise(frames, seeded())).audio - scene.conditions.audio
    silent = torch.ones(len(moved), dtype=torch.bool)
    silent[heard] = False
    assert (moved[silent] == 0).all() and (moved[heard] != 0).any((1, 2)).all()
    assert float(moved[heard].std()) == pytest.approx(0.5, rel=0.1)


SHARP = {"sharpening.weight": "0.05", "sharpening.side": "32", "sharpening.patches": "2"}


def test_patches_count_from_their_share_of_the_budget_on(scene: RayScene) -> None:
    """Before it the loss is what it is without; from it on a perceptual distance is logged and trained."""
    plain, sharp = light_field(scene), light_field(scene, **SHARP, **{"sharpening.begin": "0.5"})
    assert plain.patches is None and sharp.patches is not None
    sharp.share = 0.49
    before = sharp(seeded())
    assert "perceptual" not in before.logged and torch.equal(before.total, plain(seeded()).total)
    sharp.share = 0.5
    after = sharp(seeded())
    assert after.logged["perceptual"] > 0 and after.total > before.total
    after.total.backward()
    assert all(p.grad is None for p in sharp.patches.distance.parameters())
    grads = [p.grad for p in sharp.loss.model.parameters() if p.grad is not None]
    assert grads and all(bool(g.isfinite().all()) for g in grads)


def test_patches_bring_a_field_closer_as_people_see_it(scene: RayScene) -> None:
    """Steps on the patches' distance alone make it smaller, in patches that were not trained on."""
    objective = light_field(scene, **SHARP)
    patches = objective.patches
    assert patches is not None

    def distance() -> float:
        with torch.no_grad():
            return sum(float(patches(patches.draw_inputs(seeded(100 + n)))[1]) for n in range(4)) / 4

    first = distance()
    optimizer = torch.optim.Adam(objective.loss.model.parameters(), 3e-3)
    for n in range(25):
        optimizer.zero_grad()
        patches(patches.draw_inputs(seeded(n)))[1].backward()
        optimizer.step()
    assert distance() < 0.9 * first


def test_patches_lie_about_speaker_lips_and_eyes(scene: RayScene) -> None:
    """Boxes of the speaker, of lips and of eyes by their shares."""
    sampler = scene.sampler(lambda frame, pixels: torch.ones_like(pixels, dtype=torch.bool))
    own = ("head", "neck", "torso")
    frames = scene.fit[:1].repeat(400)
    drawn = sampler.places(frames, own, 0.3, 0.2, seeded())
    first = int(frames[0])
    lips = (drawn == sampler.mouths[first]).all(1)
    eyes = (drawn == sampler.eyes[0][first]).all(1) | (drawn == sampler.eyes[1][first]).all(1)
    assert abs(float(lips.float().mean()) - 0.3) < 0.07 and abs(float(eyes.float().mean()) - 0.2) < 0.06
    whole = label_boxes(scene.labels[first : first + 1], own)
    assert bool((drawn[~(lips | eyes)] == whole).all())


def test_boxes_are_about_their_labels(scene: RayScene) -> None:
    """The first and last rows and columns with a label; all of a frame that has none."""
    labels = torch.zeros(2, 9, 12, dtype=torch.uint8)
    labels[0, 2:5, 3:9] = LABELS["head"]
    labels[0, 6, 10] = LABELS["torso"]
    assert label_boxes(labels, ("head",)).tolist() == [[3, 2, 8, 4], [0, 0, 11, 8]]
    assert label_boxes(labels, ("head", "torso")).tolist()[0] == [3, 2, 10, 6]
