"""Distances between faces, action units and lags: against closed forms."""

from pathlib import Path

import numpy as np
import pytest

from nldf_engine.base.errors import FileProblem
from nldf_engine.evaluation.metrics.action_units import (
    LOWER_UNITS,
    UNITS,
    UPPER_UNITS,
    action_unit_errors,
    action_units,
)
from nldf_engine.evaluation.metrics.face_distance import align, aligned_mouth_distance, face_distance
from nldf_engine.evaluation.metrics.lip_lag import lagged_correlations, lip_sync
from nldf_engine.evaluation.metrics.lips import lip_scores, lip_velocity
from nldf_engine.evaluation.metrics.optional.openface import openface_errors, read_openface
from nldf_engine.geometry.face_mesh import LIPS, RIGID


def heads(count: int = 12, seed: int = 0) -> np.ndarray:
    """Landmarks of an upright face that moves a little, and talks; pixels."""
    rng = np.random.default_rng(seed)
    face = rng.uniform(150, 350, (478, 2))
    face[33], face[263] = (200, 220), (300, 220)
    moving = np.broadcast_to(face, (count, 478, 2)).copy()
    moving[:, LIPS] += rng.normal(0, 4, (count, len(LIPS), 2))
    return moving


def moved(points: np.ndarray, turn: float, scale: float, shift: tuple[float, float]) -> np.ndarray:
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return scale * points @ rotation.T + shift


def test_a_turned_grown_and_moved_head_is_aligned_exactly() -> None:
    """Any similarity costs the plain distances a lot and the aligned ones nothing."""
    real = heads()
    away = moved(real, 0.2, 1.15, (12.0, -7.0))
    assert align(away, real) == pytest.approx(real)
    assert aligned_mouth_distance(away, real).max() < 1e-9
    assert face_distance(away, real, aligned=True).max() < 1e-9
    assert face_distance(away, real).min() > 10
    scores = lip_scores(away, real)
    assert scores["lmd"] > 10 and scores["lmd_aligned"] < 1e-9 and scores["face_lmd_aligned"] < 1e-9


def test_alignment_is_the_least_squares_fit() -> None:
    """It agrees with numpy's solution of the linear system over the rigid points."""
    real, ours = heads(1, 1), heads(1, 2)
    p, q = ours[0, RIGID], real[0, RIGID]
    rows = np.concatenate(
        [np.stack([p[:, 0], -p[:, 1], np.ones(len(p)), np.zeros(len(p))], 1),
         np.stack([p[:, 1], p[:, 0], np.zeros(len(p)), np.ones(len(p))], 1)]
    )  # fmt: skip
    a, b, x, y = np.linalg.lstsq(rows, np.concatenate([q[:, 0], q[:, 1]]), rcond=None)[0]
    expected = ours[0] @ np.array([[a, -b], [b, a]]).T + (x, y)
    assert align(ours, real)[0] == pytest.approx(expected)


def test_lips_do_not_move_the_alignment() -> None:
    """A mouth that opens by 8 pixels keeps its 8 pixels: the fit looks at rigid points alone."""
    real = heads()
    open_ = real.copy()
    open_[:, LIPS, 1] += 8
    assert aligned_mouth_distance(open_, real) == pytest.approx(np.full(12, 8.0))


def test_velocity_correlation_is_one_for_the_same_motion_anywhere() -> None:
    """The same talk, elsewhere and larger, moves alike; another does not; the opposite is negative."""
    real = heads(60)
    assert lip_scores(moved(real, 0, 1.3, (9, 9)), real)["lip_velocity_correlation"] == pytest.approx(1)
    assert abs(lip_scores(heads(60, 5), real)["lip_velocity_correlation"]) < 0.2
    still = np.broadcast_to(real[:1], real.shape)
    assert lip_scores(2 * still - real, real)["lip_velocity_correlation"] == pytest.approx(-1)
    assert lip_velocity(real).shape == (59, 80)


def test_missing_faces_are_left_out_everywhere() -> None:
    """A frame without a face has no distance, and the figures are those of the other frames."""
    real, ours = heads(20), heads(20, 1)
    ours[4] = np.nan
    kept = np.delete(np.arange(20), 4)
    scores, expected = lip_scores(ours, real), lip_scores(ours[kept], real[kept])
    for key in ("lmd", "lmd_aligned", "face_lmd", "face_lmd_aligned"):
        assert scores[key] == pytest.approx(expected[key])
    assert action_unit_errors(ours, real)["AU25"] == pytest.approx(
        action_unit_errors(ours[kept], real[kept])["AU25"]
    )


@pytest.mark.parametrize(
    ("unit", "point", "by"),
    [("AU25", 14, (0, 6)), ("AU26", 152, (0, 6)), ("AU17", 152, (0, -6)), ("AU10", 0, (0, -6)),
     ("AU01", 107, (0, -6)), ("AU02", 70, (0, -6)), ("AU04", 107, (6, 0)), ("AU15", 61, (0, 6))],
)  # fmt: skip
def test_each_unit_rises_with_its_own_motion(unit: str, point: int, by: tuple[int, int]) -> None:
    """Moving the point that a unit is named for raises that unit, at any turn and size of the face."""
    face = heads(1)
    places = {107: (235, 190), 336: (265, 190), 70: (195, 195), 300: (305, 195), 133: (230, 220),
              362: (270, 220), 2: (250, 270), 0: (250, 285), 13: (250, 290), 14: (250, 292), 17: (250, 300),
              61: (220, 291), 291: (280, 291), 152: (250, 340)}  # fmt: skip
    for number, place in places.items():
        face[0, number] = place
    acting = face.copy()
    acting[0, point] += by
    before, after = action_units(face)[unit], action_units(acting)[unit]
    expected = 0.06 if unit in ("AU25", "AU26", "AU17", "AU10", "AU04") else 0.03  # of two sides, one moved
    assert after - before == pytest.approx(expected, abs=1e-9)
    assert action_units(moved(acting, 0.3, 1.4, (5, 5)))[unit] == pytest.approx(after)


def test_errors_are_means_over_frames_and_units() -> None:
    """The lower and the upper face are the means of their units, each the mean absolute difference."""
    real, ours = heads(9), heads(9, 3)
    found = action_unit_errors(ours, real)
    for name in UNITS:
        assert found[name] == pytest.approx(
            np.abs(action_units(ours)[name] - action_units(real)[name]).mean()
        )
    assert found["au_lower"] == pytest.approx(np.mean([found[name] for name in LOWER_UNITS]))
    assert found["au_upper"] == pytest.approx(np.mean([found[name] for name in UPPER_UNITS]))
    assert set(LOWER_UNITS) | set(UPPER_UNITS) == set(UNITS)


def openface(path: Path, au25: list[float], success: list[int]) -> Path:
    lines = ["frame, timestamp, confidence, success, AU25_r, AU45_r, AU25_c"]
    lines += [
        f"{k + 1}, {k / 25}, 0.9, {s}, {v}, {2 * v}, 1"
        for k, (v, s) in enumerate(zip(au25, success, strict=True))
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_openfaces_tables_are_compared_frame_by_frame(tmp_path: Path) -> None:
    """Mean absolute error of intensities where both have a face; the lower face alone makes the figure."""
    real = openface(tmp_path / "real.csv", [0, 1, 2, 3], [1, 1, 1, 1])
    ours = openface(tmp_path / "ours.csv", [0.5, 1, 5, 2], [1, 1, 0, 1])
    found = openface_errors(ours, real)
    assert found == {
        "au_openface": pytest.approx(0.5),
        "AU25": pytest.approx(0.5),
        "AU45": pytest.approx(1.0),
    }
    assert np.isnan(read_openface(ours)["AU25"][2])


@pytest.mark.parametrize(
    ("content", "says"),
    [("a, b\n1, 2\n", "no column of intensities"), ("AU25_r\nx\n", "no table of numbers"),
     ("AU25_r, AU26_r\n1\n", "don't all have"), ("AU01_r\n1\n", "no unit of the lower face"),
     (None, "no such file")],
)  # fmt: skip
def test_a_table_that_is_none_is_refused(tmp_path: Path, content: str | None, says: str) -> None:
    """What is wrong with the file is said, with its name."""
    real = openface(tmp_path / "real.csv", [1.0], [1])
    path = tmp_path / "mine.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(FileProblem, match=says) as error:
        openface_errors(path, real)
    assert error.value.path == path


def talk(count: int, seed: int = 0) -> np.ndarray:
    """A lip gap as of speech: smoothed noise."""
    noise = np.random.default_rng(seed).normal(size=count + 8)
    return np.convolve(noise, np.hanning(7), mode="same")[4:-4]


@pytest.mark.parametrize("late", [-7, -1, 0, 3, 12])
def test_lag_is_found_to_the_frame(late: int) -> None:
    """Lips so many frames late: that lag in milliseconds, a peak of 1, far above chance."""
    whole = talk(240)
    found = lip_sync(whole[20:220], whole[20 - late : 220 - late], 25.0)
    assert found.lag_ms == pytest.approx(40 * late, abs=10)
    assert found.peak == pytest.approx(1.0) and found.chance is not None and found.chance < 0.6


def test_half_a_frame_of_lag_is_seen() -> None:
    """A lag between two frames is refined by the parabola: within 6 ms."""
    from scipy.signal import resample

    fine = resample(talk(200), 400)
    assert lip_sync(fine[::2], fine[1::2], 25.0).lag_ms == pytest.approx(-20, abs=6)


def test_foreign_lips_stay_about_chance() -> None:
    """Two talks that have nothing in common: of 20 pairs, hardly any peak is above what chance reaches."""
    found = [lip_sync(talk(250, k), talk(250, 100 + k), 25.0) for k in range(20)]
    assert sum(one.peak > one.chance for one in found) <= 4


def test_lagged_correlations_agree_with_numpy() -> None:
    """Each lag is Pearson's correlation of the overlapping parts, frames without a face left out."""
    a, b = talk(50, 1), talk(50, 2)
    b[10] = np.nan
    found = lagged_correlations(a, b, 3)
    keep = np.delete(np.arange(48), 8)
    assert found[3 + 2] == pytest.approx(np.corrcoef(a[:48][keep], b[2:][keep])[0, 1])
    keep = np.delete(np.arange(49), 10)
    assert found[3 - 1] == pytest.approx(np.corrcoef(a[1:][keep], b[:49][keep])[0, 1])


def test_lips_that_never_move_have_no_lag_and_a_reason() -> None:
    """A constant gap, or two frames: nothing, and why."""
    assert "stays constant" in lip_sync(talk(60), np.ones(60), 25.0).reason
    short = lip_sync(talk(2), talk(2), 25.0)
    assert short.lag_ms is None and short.reason
    with pytest.raises(ValueError, match="expected 60 frames"):
        lip_sync(talk(60), talk(50), 25.0)
