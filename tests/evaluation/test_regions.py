"""Where a metric is measured: masks from labels, masks from landmarks, and metrics that stay inside."""

import numpy as np
import pytest

from nldf_engine.datasets.dataset import LABELS
from nldf_engine.evaluation.frame_metrics import image_metrics
from nldf_engine.evaluation.metrics import regions
from nldf_engine.evaluation.metrics.flicker import flicker
from nldf_engine.evaluation.metrics.psnr import psnr_of_error
from nldf_engine.evaluation.metrics.regions import NECK_MARGIN, mouth_box, neck_band, region_masks
from nldf_engine.evaluation.metrics.ssim import ssim, ssim_map

SHAPE = (100, 120)
NOBODY = np.full((478, 2), np.nan)


def labels() -> np.ndarray:
    """A head over a neck over a torso."""
    made = np.zeros(SHAPE, np.uint8)
    made[10:50, 40:80], made[50:60, 50:70], made[60:, 20:100] = 1, 2, 3
    return made


def face() -> np.ndarray:
    """Landmarks on an ellipse's surface, upright, chin at 152, forehead at 10, jaw below."""
    rng = np.random.default_rng(0)
    angles, radii = rng.uniform(0, 2 * np.pi, 478), np.sqrt(rng.uniform(0, 1, 478))
    points = np.stack([60 + 18 * radii * np.cos(angles), 45 + 25 * radii * np.sin(angles)], 1)
    points[10], points[152] = (60, 20), (60, 70)
    for number, share in zip(regions.JAW, np.linspace(-1, 1, len(regions.JAW)), strict=True):
        points[number] = (60 + 16 * share, 70 - 12 * share**2)
    return points


def test_masks_follow_the_labels() -> None:
    """Foreground and head are their labels; the neck's band is what lies near both head and body."""
    masks = region_masks(labels(), NOBODY, SHAPE)
    assert np.array_equal(masks["foreground"], labels() > 0) and np.array_equal(masks["head"], labels() == 1)
    assert np.array_equal(masks["neck"], neck_band(labels())) and masks["neck"][50, 60]
    assert not masks["mouth"].any()


def test_masks_without_labels_follow_the_face() -> None:
    """Head is the face and a margin; the neck's band lies below the jaw; no face, no regions."""
    masks = region_masks(None, face(), SHAPE)
    assert masks["head"][45, 60] and masks["head"][20, 60] and not masks["head"][45, 100]
    assert masks["neck"][75, 60] and not masks["neck"][60, 60] and not masks["neck"][95, 60]
    assert masks["mouth"].any() and not masks["foreground"].any()
    assert not any(mask.any() for mask in region_masks(None, NOBODY, SHAPE).values())


def test_an_error_counts_in_its_regions_alone() -> None:
    """Spoilt torso below the band: foreground suffers, head, neck and their SSIM are untouched."""
    rng = np.random.default_rng(1)
    real = rng.integers(0, 200, (*SHAPE, 3), dtype=np.uint8)
    rendered = real.copy()
    rendered[80:] += 40
    found = image_metrics(rendered, real, labels(), NOBODY)
    assert found["psnr_head"] == found["psnr_neck"] == 100.0
    assert found["ssim_head"] == found["ssim_neck"] == pytest.approx(1)
    assert found["psnr_foreground"] < found["psnr"] < 30 and found["ssim_foreground"] < 0.995
    assert np.isnan(found["psnr_mouth"]) and np.isnan(found["ssim_mouth"])


def test_ssim_of_a_region_is_the_maps_mean_there() -> None:
    """The map agrees with scikit-image's own map; a region's SSIM is its mean; the edges don't count."""
    metrics = pytest.importorskip("skimage.metrics", reason="scikit-image is not installed")
    rng = np.random.default_rng(2)
    real = rng.integers(0, 256, (40, 44, 3), dtype=np.uint8)
    rendered = np.clip(real + rng.normal(0, 25, real.shape), 0, 255).astype(np.uint8)
    _, whole = metrics.structural_similarity(
        real / 255.0, rendered / 255.0, channel_axis=2, data_range=1.0, gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False, full=True,
    )  # fmt: skip
    similarity = ssim_map(rendered, real)
    assert similarity[5:-5, 5:-5] == pytest.approx(whole.mean(2)[5:-5, 5:-5], abs=1e-6)
    assert np.isnan(similarity[:5]).all() and np.isnan(similarity[:, -5:]).all()
    where = np.zeros((40, 44), bool)
    where[:20, 10:30] = True
    assert ssim(rendered, real, where) == pytest.approx(whole.mean(2)[5:20, 10:30].mean(), abs=1e-6)


def test_labels_of_another_size_are_refused() -> None:
    """A label map that is not the frame's names both sizes."""
    with pytest.raises(ValueError, match=r"labels: expected the frame's size \[100, 120\]"):
        region_masks(np.zeros((10, 10), np.uint8), NOBODY, SHAPE)


def test_flicker_counts_where_three_valid_frames_meet() -> None:
    """Frames that switch by 4 have a second difference of 8; what touches an invalid frame does not count."""
    frames = [np.full((2, 2, 3), 50 + 4 * (k % 2), np.uint8) for k in range(9)]
    calm = [np.full((2, 2, 3), 50, np.uint8)] * 9
    frames[4] = np.full((2, 2, 3), 255, np.uint8)
    found = flicker(np.ones((2, 2), bool), (frames, calm), np.arange(9) != 4)
    assert found.tolist() == [64.0, 0.0, 4.0]
    assert flicker(np.ones((2, 2), bool), (frames, calm), np.arange(9) % 3 != 0).tolist() == [0.0, 0.0, 0.0]


def speaker(size: int) -> np.ndarray:
    """A head above a neck above a torso, in the middle of a frame."""
    labels = np.full((size, size), LABELS["background"], np.uint8)
    third = size // 3
    labels[third // 2 : third, third : 2 * third] = LABELS["head"]
    labels[third : 2 * third, 4 * size // 10 : 6 * size // 10] = LABELS["neck"]
    labels[2 * third :, size // 10 : 9 * size // 10] = LABELS["torso"]
    return labels


def test_the_band_follows_the_seams_and_not_the_outline() -> None:
    """It reaches the stated share of the width to either side of a seam, and knows no other border."""
    labels = speaker(200)
    band = neck_band(labels)
    reach = round(NECK_MARGIN * 200)
    column = band[:, 100]
    assert column[66 - 1 - reach : 66 + 1 + reach].all() and column[132 - 1 - reach : 132 + 1 + reach].all()
    assert column.sum() == 4 * (reach + 1)
    assert not band[:50].any() and not band[150:].any() and not band[99, :70].any()
    assert band[132, 80 - reach] and not band[132, 30], "shoulders apart from the neck have no seam"
    assert not neck_band(np.zeros((40, 40), np.uint8)).any()


def test_errors_count_in_the_band_alone() -> None:
    """A gap below the chin is felt; the same error in the face is not."""
    band = neck_band(speaker(200))
    gap, face = np.zeros((200, 200)), np.zeros((200, 200))
    gap[64:68, 90:110] = 1
    face[40:44, 90:110] = 1
    assert psnr_of_error(gap, band) < 20 and psnr_of_error(face, band) == 100


def test_mouth_box_has_its_margins_and_stays_inside() -> None:
    """The box is the lips' extent plus 2 % and 3 % of the frame, cut at the frame's edge."""
    lips = np.array([[100.0, 120.0], [140.0, 130.0]])
    rows, columns = mouth_box(lips, 200, 200)
    assert (columns.start, columns.stop, rows.start, rows.stop) == (96, 145, 114, 137)
    rows, columns = mouth_box(lips + np.array([55, 65]), 200, 200)
    assert (columns.start, columns.stop, rows.start, rows.stop) == (151, 200, 179, 200)


@pytest.mark.parametrize("lips", [np.full((2, 2), np.nan), np.full((2, 2), -50.0), np.full((2, 2), 900.0)])
def test_mouth_box_without_lips_in_the_frame_is_empty(lips: np.ndarray) -> None:
    """Lips that are unknown or outside give a box without pixels."""
    assert np.zeros((200, 200))[mouth_box(lips, 200, 200)].size == 0
