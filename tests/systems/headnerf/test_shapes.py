"""Frames in the shape of another speaker."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fields import seeded
from nldf_engine.audio import FrontendConfig
from nldf_engine.datasets.dataset import Dataset
from nldf_engine.rendering.region import HeadRegion
from nldf_engine.synthetic import SyntheticConfig, make_synthetic_dataset
from nldf_engine.synthetic.proportions import Proportions
from nldf_engine.systems.headnerf.objective.shapes import FaceShapes
from nldf_engine.training.samplers import whole_frames
from nldf_engine.training.scene import Batch, RayScene, Scenes
from systems.headnerf.test_objective import objective


@pytest.fixture(scope="session")
def broad(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The speaker of `twin` with a broader and shorter head: the same words, poses and colours."""
    config = SyntheticConfig(
        seconds=3.0, size=64, seed=1, looks=3, audio_frontend="mel", proportions=Proportions(1.1, 0.93, 1.08)
    )
    return make_synthetic_dataset(tmp_path_factory.mktemp("broad") / "speaker", config)


@pytest.fixture
def pair(twin: Dataset, broad: Dataset) -> Scenes:
    return Scenes([RayScene(data, 64, FrontendConfig(), torch.device("cpu")) for data in (twin, broad)])


def frames_of(scene: RayScene, frames: Tensor) -> Batch:
    pixels, grid = whole_frames(frames, scene.camera.height, scene.camera.width)
    return scene.batch(frames, pixels, grid=grid)


@pytest.mark.parametrize(("own", "other"), [(0, 1), (1, 0)])
def test_a_frame_in_anothers_shape_is_what_the_other_looks_like(pair: Scenes, own: int, other: int) -> None:
    """Two heads that differ in shape alone: warped, the one's frames are much nearer to the other's."""
    frames = pair[0].fit[[5, 30]]
    batch, wanted = frames_of(pair[own], frames), frames_of(pair[other], frames)
    made = FaceShapes(pair).reshaped(pair[own], other, batch)
    assert made.identity == other and batch.identity == own
    both = ((wanted.mask > 0) | (made.mask > 0.5))[..., None]

    def apart(seen: Tensor) -> float:
        return float(((seen - wanted.target).square() * both).sum() / both.sum())

    assert apart(made.target) < 0.4 * apart(batch.target)
    overlap = (made.mask.round() != wanted.mask).float().mean() / (batch.mask != wanted.mask).float().mean()
    assert float(overlap) < 0.5
    assert set(made.labels.unique().tolist()) <= set(batch.labels.unique().tolist())


def test_ones_own_shape_changes_nothing(scenes: Scenes) -> None:
    """Two speakers whose faces are alike: a frame in the other's shape is that frame."""
    batch = frames_of(scenes[0], torch.tensor([4, 5]))
    made = FaceShapes(scenes).reshaped(scenes[0], 1, batch)
    assert torch.allclose(made.target, batch.target, atol=1e-4) and torch.equal(made.labels, batch.labels)


def test_a_dataset_without_a_shape_takes_no_part(pair: Scenes, monkeypatch: pytest.MonkeyPatch) -> None:
    assert FaceShapes(pair).others(0) == [1]
    monkeypatch.delitem(pair[1].dataset.extra, "rest_points")
    shapes = FaceShapes(pair)
    assert shapes.others(0) == [] and shapes.others(1) == []
    assert objective_shape(pair, 1.0) == 0


def objective_shape(scenes: Scenes, share: float) -> int:
    made = objective(scenes, reshape_share=share)
    return made._shape(seeded(1))


def test_a_share_of_the_steps_is_in_anothers_shape(pair: Scenes) -> None:
    """With that speaker's identity and all other codes of the frame's own; no picture is swapped then."""
    assert objective_shape(pair, 1.0) == 1 and objective_shape(pair, 0.0) == 0
    made = objective(pair, reshape_share=1, swap_share=1, swap_after=0, relight_share=0)
    made.head.driver.identity.table.data.normal_(generator=seeded(3))
    loss = made(seeded())
    assert "swap" not in loss.logged
    loss.total.backward()
    own, other = made.head.driver.identity.table.grad.abs().amax(1)
    assert float(own) == 0 < float(other)
    albedo = made.head.driver.albedo.table.grad.abs().amax(1)
    assert float(albedo[0]) > 0 == float(albedo[1])


def test_a_torso_learns_nothing_of_a_frame_in_anothers_shape(twin: Dataset, broad: Dataset) -> None:
    device = torch.device("cpu")
    learned = [RayScene(data, 32, FrontendConfig(), device, learned_torso=True) for data in (twin, broad)]
    for share in (0, 1):
        made = objective(Scenes(learned), reshape_share=share, torso="layer", sync_weight=0, swap_share=0)
        loss = made(seeded())
        loss.total.backward()
        assert made.torso is not None and ("torso" in loss.logged) == (share == 0)
        learns = any(p.grad is not None and bool(p.grad.any()) for p in made.torso.parameters())
        assert learns == (share == 0)


def test_a_region_takes_in_anothers(pair: Scenes) -> None:
    """Whoever lends a shape has room: heads of a run share the cells of all."""
    one, two = HeadRegion(), HeadRegion()
    one.clear()
    two.clear()
    one.occupancy[3, 4], two.occupancy[5, 6] = 1, 1
    one.include(two)
    assert one.occupancy.nonzero().tolist() == [[3, 4], [5, 6]]
    with pytest.raises(ValueError, match=r"expected a map of 0.4 m, got 0.5 m"):
        one.include(HeadRegion(0.5))
