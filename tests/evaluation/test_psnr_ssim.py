import math
import sys

import numpy as np
import pytest

from nldf_engine.base.errors import MissingBackend
from nldf_engine.evaluation.metrics.psnr import PSNR_CAP, psnr, squared_error
from nldf_engine.evaluation.metrics.ssim import ssim, ssim_map
from nldf_engine.evaluation.metrics.statistics import mean


def noisy_pair(height: int = 40, width: int = 56) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    real = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    noise = rng.normal(0, 20, real.shape)
    return np.clip(real + noise, 0, 255).astype(np.uint8), real


@pytest.mark.parametrize("step", [1, 7, 128])
def test_psnr_of_a_constant_difference_has_its_closed_form(step: int) -> None:
    """A difference of d of 255 everywhere gives 20 log10(255 / d) dB."""
    real = np.full((9, 5, 3), 100, np.uint8)
    assert psnr(real + np.uint8(step), real) == pytest.approx(20 * math.log10(255 / step), abs=1e-9)


def test_psnr_of_equal_frames_is_the_cap() -> None:
    """Equal frames score the stated cap, a finite number that JSON can hold."""
    _, real = noisy_pair()
    assert psnr(real, real) == PSNR_CAP == 100.0


def test_psnr_does_not_wrap_around_in_uint8() -> None:
    """Black against white is 0 dB in either order."""
    black, white = np.zeros((3, 3, 3), np.uint8), np.full((3, 3, 3), 255, np.uint8)
    assert psnr(black, white) == psnr(white, black) == 0.0


def test_masked_psnr_counts_the_mask_alone() -> None:
    """Errors outside the mask don't count; a mask without pixels has no PSNR."""
    real = np.zeros((8, 8, 3), np.uint8)
    rendered = real.copy()
    rendered[:4] = 255
    rendered[4:] = 51
    where = np.zeros((8, 8), bool)
    where[4:] = True
    assert psnr(rendered, real, where) == pytest.approx(20 * math.log10(5))
    assert math.isnan(psnr(rendered, real, np.zeros((8, 8), bool)))


def test_psnr_agrees_with_scikit_image() -> None:
    """The full-frame PSNR is scikit-image's."""
    metrics = pytest.importorskip("skimage.metrics", reason="scikit-image is not installed")
    rendered, real = noisy_pair()
    assert psnr(rendered, real) == pytest.approx(metrics.peak_signal_noise_ratio(real, rendered), abs=1e-9)


@pytest.mark.parametrize("size", [(11, 11), (12, 40), (40, 56)])
def test_ssim_agrees_with_scikit_image(size: tuple[int, int]) -> None:
    """SSIM is scikit-image's with Gaussian weights and population covariance, from the smallest size on."""
    metrics = pytest.importorskip("skimage.metrics", reason="scikit-image is not installed")
    rendered, real = noisy_pair(*size)
    expected = metrics.structural_similarity(
        real / 255.0, rendered / 255.0, channel_axis=2, data_range=1.0, gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False,
    )  # fmt: skip
    assert ssim(rendered, real) == pytest.approx(expected, abs=1e-6)


def test_ssim_of_a_window_is_the_formula() -> None:
    """At a pixel: the formula over its 11x11 window with Gaussian weights, written out; mean of colours."""
    rendered, real = noisy_pair()
    weights = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    window = np.outer(weights, weights) / weights.sum() ** 2
    values = []
    for colour in range(3):
        a, b = (frame[15:26, 20:31, colour] / 255.0 for frame in (rendered, real))
        mean_a, mean_b = (window * a).sum(), (window * b).sum()
        spread_a, spread_b = (window * (a - mean_a) ** 2).sum(), (window * (b - mean_b) ** 2).sum()
        shared = (window * (a - mean_a) * (b - mean_b)).sum()
        c1, c2 = 0.01**2, 0.03**2
        likeness = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
        values.append(likeness * (2 * shared + c2) / (spread_a + spread_b + c2))
    similarity = ssim_map(rendered, real)
    assert similarity[20, 25] == pytest.approx(np.mean(values), abs=1e-12)
    assert np.isnan(similarity[:5]).all() and np.isnan(similarity[:, -5:]).all()
    assert np.isfinite(similarity[5:-5, 5:-5]).all()


def test_without_scikit_image_the_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing library is an error that says how to install it."""
    monkeypatch.setitem(sys.modules, "skimage.metrics", None)
    with pytest.raises(MissingBackend, match=r"nldf_engine\[evaluate\]"):
        ssim(*noisy_pair())


def test_ssim_is_one_for_equal_frames_and_falls_with_blur() -> None:
    """Equal frames score 1; the more a frame is blurred, the less it scores."""
    import cv2

    _, real = noisy_pair()
    scores = [ssim(cv2.GaussianBlur(real, (0, 0), sigma), real) for sigma in (0.4, 0.8, 1.6)]
    assert ssim(real, real) == pytest.approx(1.0, abs=1e-12)
    assert 1.0 > scores[0] > scores[1] > scores[2]


@pytest.mark.parametrize(
    "wrong", [np.zeros((8, 8, 3), np.float32), np.zeros((8, 8), np.uint8), np.zeros((8, 9, 3), np.uint8)]
)
def test_wrong_frames_are_refused(wrong: np.ndarray) -> None:
    """Another dtype or shape raises an error that names the argument."""
    with pytest.raises(ValueError, match="rendered: expected"):
        squared_error(wrong, np.zeros((8, 8, 3), np.uint8))


def test_ssim_refuses_frames_smaller_than_its_window() -> None:
    """A frame of 10 pixels has no SSIM."""
    small = np.zeros((10, 30, 3), np.uint8)
    with pytest.raises(ValueError, match="at least 11x11"):
        ssim(small, small)


def test_mean_leaves_out_what_is_not_finite() -> None:
    """NaN frames don't count; without any value there is no mean."""
    assert mean([1.0, math.nan, 2.0]) == 1.5
    assert mean([]) is None
