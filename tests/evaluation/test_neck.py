"""The neck band: where it lies, and that it feels an error there and no other."""

import numpy as np

from nldf_engine.datasets.dataset import LABELS
from nldf_engine.evaluation.metrics.neck import NECK_MARGIN, neck_band
from nldf_engine.evaluation.metrics.quality import psnr_of_error


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
