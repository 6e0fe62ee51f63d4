import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from nldf_engine.evaluation.metrics.lip_opening import lip_amplitude_ratio, lip_distribution
from nldf_engine.evaluation.metrics.lips import lip_gap
from nldf_engine.evaluation.metrics.statistics import correlation
from tests.evaluation.mouths import faces, half_gain, late, mean_mouth, speech

REAL = speech()


@pytest.mark.parametrize("size", [0.2, 1.0, 3.0])
def test_a_mouth_at_half_gain_has_half_the_amplitude_and_the_full_correlation(size: float) -> None:
    """Half the motion about its mean: 0.5, where the correlation still is 1; for small and large faces."""
    ours, theirs = lip_gap(faces(half_gain(REAL), size)), lip_gap(faces(REAL))
    assert lip_amplitude_ratio(ours, theirs)[0] == pytest.approx(0.5)
    assert correlation(ours, theirs)[0] == pytest.approx(1.0)
    expected = 0.5 * np.abs(np.sort(REAL) - REAL.mean()).mean() / REAL.std()
    assert lip_distribution(ours, theirs)[0] == pytest.approx(expected)


def test_a_late_mouth_has_the_same_amplitude_and_distribution() -> None:
    """Three frames late, going round: both metrics ignore when the mouth opens."""
    assert lip_amplitude_ratio(late(REAL), REAL)[0] == pytest.approx(1.0)
    assert lip_distribution(late(REAL), REAL)[0] == pytest.approx(0.0, abs=1e-12)


def test_a_still_mean_mouth_has_no_amplitude() -> None:
    """The mean mouth: ratio 0, and the distribution is off by the real one's mean deviation."""
    assert lip_amplitude_ratio(mean_mouth(REAL), REAL)[0] == pytest.approx(0.0, abs=1e-9)
    deviation = np.abs(REAL - REAL.mean()).mean() / REAL.std()
    assert lip_distribution(mean_mouth(REAL), REAL)[0] == pytest.approx(deviation)
    assert deviation > 0.5


def test_the_distribution_agrees_with_scipy_and_is_off_by_one_where_all_gaps_are() -> None:
    """scipy's Wasserstein distance over the standard deviation; a shift by it is 1."""
    other = speech(seed=5) * 1.3
    expected = wasserstein_distance(other, REAL) / REAL.std()
    assert lip_distribution(other, REAL)[0] == pytest.approx(expected)
    assert lip_distribution(REAL + REAL.std(), REAL)[0] == pytest.approx(1.0)


def test_frames_without_either_face_are_left_out() -> None:
    """NaN in either clip takes the frame out of both."""
    ours, theirs = half_gain(REAL), REAL.copy()
    ours[3], theirs[[8, 9]] = np.nan, np.nan
    kept = np.delete(np.arange(len(REAL)), [3, 8, 9])
    for metric in (lip_amplitude_ratio, lip_distribution):
        assert metric(ours, theirs) == metric(ours[kept], theirs[kept])


@pytest.mark.parametrize("metric", [lip_amplitude_ratio, lip_distribution])
@pytest.mark.parametrize(
    ("real", "reason"),
    [
        (np.full(6, 0.05), "the real lips do not move"),
        (np.zeros(6), "the real lips do not move"),
        (np.full(6, np.nan), "there are 0"),
        (np.array([0.0, 0.1]), "needs 3 frames"),
        (np.zeros(0), "there are 0"),
    ],
)
def test_real_lips_that_say_nothing_give_a_reason(metric, real: np.ndarray, reason: str) -> None:  # type: ignore[no-untyped-def]
    """Still lips, no face, two frames and none: None, and why."""
    value, why = metric(np.linspace(0, 0.1, len(real)), real)
    assert value is None and reason in why


@pytest.mark.parametrize("metric", [lip_amplitude_ratio, lip_distribution])
def test_other_lengths_are_refused(metric) -> None:  # type: ignore[no-untyped-def]
    """Clips of different lengths are an error that names both."""
    with pytest.raises(ValueError, match="expected 400 frames, as many as the real ones, got 3"):
        metric(REAL[:3], REAL)
