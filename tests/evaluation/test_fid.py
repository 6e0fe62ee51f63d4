"""FID: the Fréchet distance in closed form, and Inception's network as the public weights name it."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from nldf_engine.base.errors import MissingBackend
from nldf_engine.evaluation.metrics.optional.fid import Inception, InceptionFeatures, frechet_distance
from tests.evaluation.weight_files import random_like


def whitened(count: int, features: int, seed: int) -> np.ndarray:
    """Rows whose mean is exactly 0 and whose covariance is exactly the unit matrix."""
    rows = np.random.default_rng(seed).normal(size=(count, features))
    rows -= rows.mean(0)
    return rows @ np.linalg.inv(np.linalg.cholesky(np.cov(rows, rowvar=False))).T


def test_gaussians_along_the_axes_have_their_closed_form() -> None:
    """Diagonal covariances: |m1 - m2|^2 + sum (s1 - s2)^2."""
    ours, theirs = np.array([1.0, 2.0, 0.5, 0.0]), np.array([3.0, 2.0, 0.1, 0.7])
    means = np.array([1.0, -2.0, 0.0, 4.0])
    first, second = whitened(50, 4, 0) * ours, whitened(70, 4, 1) * theirs + means
    assert frechet_distance(first, second) == pytest.approx((means**2).sum() + ((ours - theirs) ** 2).sum())


def test_it_is_the_matrix_root_of_the_definition() -> None:
    """Full covariances: the trace of scipy's matrix root of C1 C2, for either order of the sets."""
    from scipy.linalg import sqrtm

    rng = np.random.default_rng(2)
    first = rng.normal(size=(40, 6)) @ rng.normal(size=(6, 6))
    second = rng.normal(size=(30, 6)) @ rng.normal(size=(6, 6)) + rng.normal(size=6)
    c1, c2 = (np.cov(x, rowvar=False) for x in (first, second))
    shift = first.mean(0) - second.mean(0)
    expected = shift @ shift + np.trace(c1 + c2 - 2 * np.real(sqrtm(c1 @ c2)))
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(second, first) == pytest.approx(expected, rel=1e-9)


def test_fewer_frames_than_features_have_a_distance() -> None:
    """Singular covariances are no trouble: equal sets are 0 apart, a constant offset its square."""
    rows = np.random.default_rng(3).normal(size=(5, 300))
    assert frechet_distance(rows, rows) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(rows, rows + 0.5) == pytest.approx(300 * 0.25)


@pytest.mark.parametrize("wrong", [np.zeros((1, 4)), np.zeros((5, 3)), np.full((5, 4), np.nan)])
def test_sets_that_have_no_distance_are_refused(wrong: np.ndarray) -> None:
    """One row, another number of features, or NaN name the argument."""
    with pytest.raises(ValueError, match="second: expected"):
        frechet_distance(np.zeros((5, 4)), wrong)


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> InceptionFeatures:
    """The network with random weights, through a file as the public one is named."""
    folder = tmp_path_factory.mktemp("weights")
    state = random_like(Inception()) | {"fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}
    torch.save(state, folder / "pt_inception-2015-12-05-6726825d.pth")
    return InceptionFeatures(folder)


def test_the_network_is_the_public_one() -> None:
    """Names, shapes and count of parameters are those of Inception v3 without its classifier."""
    state = Inception().state_dict()
    assert sum(
        v.numel() for n, v in state.items() if n.endswith(("conv.weight", "bn.weight", "bn.bias"))
    ) == (21_785_568)
    assert state["Mixed_6e.branch7x7dbl_5.conv.weight"].shape == (192, 192, 1, 7)
    assert state["Mixed_7c.branch3x3dbl_3b.conv.weight"].shape == (384, 384, 3, 1)
    assert state["Mixed_7a.branch7x7x3_4.bn.running_var"].shape == (192,)
    assert len(state) == 94 * 6


def test_pools_leave_the_padding_out_and_the_last_block_takes_the_maximum(
    features: InceptionFeatures,
) -> None:
    """What tells TensorFlow's network of 2015 from the later one, on a block's pooling branch."""
    network = features._network
    x = torch.rand(1, 192, 5, 5, generator=torch.Generator().manual_seed(4))
    counted = functional.avg_pool2d(functional.pad(torch.ones(1, 1, 5, 5), (1,) * 4), 3, 1) * 9
    summed = functional.avg_pool2d(functional.pad(x, (1,) * 4), 3, 1) * 9
    expected = network.Mixed_5b.get_submodule("branch_pool")(summed / counted)
    assert torch.allclose(network.Mixed_5b(x)[:, -32:], expected, atol=1e-5)
    x = torch.rand(1, 2048, 3, 3, generator=torch.Generator().manual_seed(5))
    expected = network.Mixed_7c.get_submodule("branch_pool")(functional.max_pool2d(x, 3, 1, 1))
    assert torch.allclose(network.Mixed_7c(x)[:, -192:], expected, atol=1e-5)


def test_a_frame_has_2048_features_whatever_its_size(features: InceptionFeatures) -> None:
    """The same picture twice has the same features; another one others."""
    frame = np.random.default_rng(6).integers(0, 256, (30, 44, 3), dtype=np.uint8)
    first, again, other = features(frame), features(frame.copy()), features(255 - frame)
    assert first.shape == (2048,) and np.array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3


def test_without_weights_there_is_a_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    """No file: the error names it and where it comes from."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(MissingBackend, match=r"pt_inception-2015-12-05-6726825d\.pth"):
        InceptionFeatures()
