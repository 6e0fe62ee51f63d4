import numpy as np
import pytest

from nldf_engine.evaluation.metrics.lip_closure import (
    CLOSED_GAP,
    lip_closed_auc,
    lip_closed_f1,
    lips_closed,
)
from nldf_engine.evaluation.metrics.lips import lip_gap
from tests.evaluation.mouths import faces, half_gain, late, mean_mouth, speech

REAL = speech()


@pytest.mark.parametrize("size", [0.2, 1.0, 3.0])
def test_the_same_lips_agree_fully_at_any_size_of_the_face(size: float) -> None:
    """AUC and F1 are 1, whether the face is small or large in the picture."""
    ours, theirs = lip_gap(faces(REAL, size)), lip_gap(faces(REAL))
    assert 0.1 < lips_closed(theirs).mean() < 0.5
    assert lip_closed_auc(ours, theirs)[0] == 1.0 and lip_closed_f1(ours, theirs)[0] == 1.0


def test_a_mouth_at_half_gain_ranks_fully_and_never_closes() -> None:
    """Half the motion about the mean keeps the order of the frames, but the lips meet in none."""
    assert half_gain(REAL).min() > CLOSED_GAP
    assert lip_closed_auc(half_gain(REAL), REAL)[0] == 1.0
    assert lip_closed_f1(half_gain(REAL), REAL)[0] == 0.0


def test_a_mean_mouth_is_chance() -> None:
    """Equal gaps count half: 0.5; and a mean mouth is closed nowhere, a shut one everywhere."""
    closed = float((REAL < CLOSED_GAP).mean())
    assert lip_closed_auc(mean_mouth(REAL), REAL)[0] == 0.5
    assert lip_closed_f1(mean_mouth(REAL), REAL)[0] == 0.0
    assert lip_closed_f1(0 * REAL, REAL)[0] == pytest.approx(2 * closed / (1 + closed))


def test_late_and_foreign_lips_score_lower() -> None:
    """Three frames late is worse than in time, another sentence is chance."""
    delayed, foreign = lip_closed_auc(late(REAL), REAL)[0], lip_closed_auc(speech(seed=9), REAL)[0]
    assert delayed is not None and foreign is not None
    assert 0.5 < delayed < 0.95 and abs(foreign - 0.5) < 0.15
    first, second = lip_closed_f1(late(REAL), REAL)[0], lip_closed_f1(speech(seed=9), REAL)[0]
    assert first is not None and second is not None and second < first < 0.9


def test_the_area_is_the_share_of_pairs_in_order() -> None:
    """Counted pair by pair, ties half, over the frames that have both faces."""
    rng = np.random.default_rng(3)
    ours, theirs = rng.integers(0, 6, 60) / 40, rng.integers(0, 6, 60) / 40
    ours[4], theirs[9] = np.nan, np.nan
    both = np.isfinite(ours) & np.isfinite(theirs)
    a, closed = ours[both], theirs[both] < CLOSED_GAP
    pairs = [(x < y) + 0.5 * (x == y) for x in a[closed] for y in a[~closed]]
    assert lip_closed_auc(ours, theirs)[0] == pytest.approx(np.mean(pairs))
    hits = ((a < CLOSED_GAP) & closed).sum()
    assert lip_closed_f1(ours, theirs)[0] == pytest.approx(2 * hits / ((a < CLOSED_GAP).sum() + closed.sum()))


@pytest.mark.parametrize("metric", [lip_closed_auc, lip_closed_f1])
@pytest.mark.parametrize(
    ("real", "reason"),
    [
        (np.zeros(6), "closed in every frame"),
        (np.full(6, 0.1), "closed in no frame"),
        (np.full(6, np.nan), "no frame had a face"),
        (np.zeros(0), "no frame had a face"),
    ],
)
def test_without_both_classes_there_is_a_reason(metric, real: np.ndarray, reason: str) -> None:  # type: ignore[no-untyped-def]
    """Only closed, only open, or no frames: None, and why."""
    value, why = metric(np.full(len(real), 0.05), real)
    assert value is None and reason in why


def test_two_frames_are_enough_and_missing_faces_stay_unknown() -> None:
    """One closed and one open frame can be ranked; a frame without a face is neither."""
    assert lip_closed_auc(np.array([0.3, 0.1]), np.array([0.0, 0.1]))[0] == 0.0
    np.testing.assert_array_equal(lips_closed(np.array([0.0, np.nan, 0.1])), [1, np.nan, 0])
