import numpy as np
import pytest

from nldf_engine.evaluation.metrics.lips import lip_gap, lip_scores, mouth_distance
from nldf_engine.evaluation.metrics.statistics import correlation
from nldf_engine.geometry.face_mesh import LIPS
from tests.evaluation import mouths


def faces(gaps: np.ndarray) -> np.ndarray:
    """Landmarks whose inner lips stand `gaps` pixels apart, between eye corners 100 pixels apart."""
    return mouths.faces(gaps / mouths.EYES)


GAPS = np.array([0.0, 4.0, 12.0, 20.0, 7.0, 1.0])


def test_lips_are_the_face_meshs_own() -> None:
    """The 40 lip points are the ones that mediapipe's own contours connect."""
    connections = pytest.importorskip(
        "mediapipe.python.solutions.face_mesh_connections", reason="mediapipe is not installed"
    )
    assert len(LIPS) == 40
    assert set(LIPS) == {point for pair in connections.FACEMESH_LIPS for point in pair}


def test_a_moved_face_has_a_distance_but_no_centred_one() -> None:
    """Moving everything by (3, 4) gives a distance of 5, and 0 once centred."""
    real = faces(GAPS)
    moved = real + np.array([3, 4])
    assert mouth_distance(moved, real) == pytest.approx(np.full(6, 5.0))
    assert mouth_distance(moved, real, centred=True) == pytest.approx(np.zeros(6), abs=1e-9)


def test_one_moved_lip_point_counts_one_fortieth() -> None:
    """The distance is the mean over the 40 points, and no other landmark counts."""
    real = faces(GAPS)
    moved = real.copy()
    moved[:, 61, 0] += 8
    moved[:, 1] += 500  # the tip of the nose
    assert mouth_distance(moved, real) == pytest.approx(np.full(6, 8 / 40))


def test_lip_gap_is_relative_to_the_eyes_and_ignores_size() -> None:
    """20 pixels between eye corners 100 apart are 0.2, at any scale of the picture."""
    assert lip_gap(faces(GAPS)) == pytest.approx(GAPS / 100)
    assert lip_gap(3 * faces(GAPS)) == pytest.approx(GAPS / 100)


def test_correlation_agrees_with_numpy_and_skips_missing_faces() -> None:
    """Pearson's correlation over the frames where both faces were found."""
    rng = np.random.default_rng(1)
    a = rng.normal(size=50)
    b = a + rng.normal(size=50)
    expected = np.corrcoef(np.delete(a, [3, 8]), np.delete(b, [3, 8]))[0, 1]
    a[3], b[8] = np.nan, np.nan
    value, reason = correlation(a, b)
    assert value == pytest.approx(expected) and reason == ""


def test_lips_that_follow_score_one_and_lips_that_do_the_opposite_minus_one() -> None:
    """Same gaps: distance 0, correlation 1; mirrored gaps: correlation -1."""
    same = lip_scores(faces(GAPS), faces(GAPS))
    assert same["lmd"] == 0 and same["lip_correlation"] == pytest.approx(1)
    assert lip_scores(faces(20 - GAPS), faces(GAPS))["lip_correlation"] == pytest.approx(-1)


@pytest.mark.parametrize(
    ("rendered", "reason"),
    [(faces(np.full(6, 5.0)), "stays constant"), (np.full((6, 478, 2), np.nan), "no frame had a face")],
)
def test_figures_without_meaning_are_none_with_a_reason(rendered: np.ndarray, reason: str) -> None:
    """Lips that never move, or no face at all, give no correlation and say why."""
    scores = lip_scores(rendered, faces(GAPS))
    assert scores["lip_correlation"] is None
    assert reason in str(scores["reason"])


def test_two_frames_are_too_few_to_correlate() -> None:
    """Two points always correlate fully, so nothing is claimed from them."""
    value, reason = correlation(np.array([0.0, 1.0]), np.array([0.0, 5.0]))
    assert value is None and "needs 3 frames" in reason


def test_wrong_shapes_are_refused() -> None:
    """68 landmarks, or clips of different lengths, raise an error that names the argument."""
    with pytest.raises(ValueError, match=r"rendered: expected landmarks \[T,478,2\]"):
        mouth_distance(np.zeros((2, 68, 2)), faces(GAPS))
    with pytest.raises(ValueError, match="expected 6 frames"):
        mouth_distance(faces(GAPS[:2]), faces(GAPS))
