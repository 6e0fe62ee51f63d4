import numpy as np
import pytest

from nldf_engine.evaluation.mouth_warp import narrowed

HEIGHT, WIDTH = 120, 160


def mouth(gap: int, angle: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """A white mouth, 60 wide and `gap` high, on a grey face, turned by `angle` radians; and its landmarks."""
    cos, sin = np.cos(angle), np.sin(angle)
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    u = (x - 80) * cos + (y - 70) * sin
    v = -(x - 80) * sin + (y - 70) * cos
    frame = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    frame[(abs(u) < 30) & (abs(v) < gap / 2)] = 255
    points = np.full((478, 2), 80.0)

    def put(number: int, along: float, below: float) -> None:
        points[number] = (80 + along * cos - below * sin, 70 + along * sin + below * cos)

    for number, along, below in (
        (13, 0, -gap / 2), (14, 0, gap / 2), (61, -30, 0), (291, 30, 0), (33, -40, -50), (263, 40, -50),
    ):  # fmt: skip
        put(number, along, below)
    return frame, points


def height(frame: np.ndarray) -> float:
    """How high the white mouth is in the middle column, in pixels; a grey edge counts in part."""
    return float((frame[:, WIDTH // 2, 0].astype(float) - 90).clip(0).sum() / 165)


@pytest.mark.parametrize("gain", [0.25, 0.5, 0.75, 1.0])
def test_the_gap_is_gain_times_as_high(gain: float) -> None:
    """In the mouth's middle 20 pixels become 20 times the gain, about the same middle."""
    frame, points = mouth(20)
    made = narrowed(frame, points, gain)
    assert made.shape == frame.shape and made.dtype == np.uint8
    assert height(made) == pytest.approx(20 * gain, abs=1.0)
    assert np.flatnonzero(made[:, 80, 0] > 170).mean() == pytest.approx(69.5, abs=0.5)


def test_a_turned_head_is_narrowed_along_its_own_axis() -> None:
    """At 30 degrees: the area of the mouth's middle third is halved."""
    frame, points = mouth(20, np.pi / 6)
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    middle = abs((x - 80) * np.cos(np.pi / 6) + (y - 70) * np.sin(np.pi / 6)) < 8
    before, after = ((image[middle] > 170).sum() for image in (frame, narrowed(frame, points, 0.5)))
    assert after / before == pytest.approx(0.5, abs=0.08)


def test_what_is_far_from_the_mouth_stays_as_it_is() -> None:
    """Beyond the fade not a pixel changes, and a gain of 1 changes none at all."""
    rng = np.random.default_rng(0)
    _, points = mouth(20)
    frame = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    made = narrowed(frame, points, 0.5)
    assert (made != frame).any()
    np.testing.assert_array_equal(made[:20], frame[:20])
    np.testing.assert_array_equal(made[:, :30], frame[:, :30])
    np.testing.assert_array_equal(narrowed(frame, points, 1.0), frame)


def test_a_closed_mouth_and_a_frame_without_a_face_stay_as_they_are() -> None:
    """Nothing to narrow, nothing known, and corners that coincide."""
    frame, points = mouth(0)
    np.testing.assert_array_equal(narrowed(frame, points, 0.5), frame)
    frame, points = mouth(20)
    lost = points.copy()
    lost[14] = np.nan
    np.testing.assert_array_equal(narrowed(frame, lost, 0.5), frame)
    points[61] = points[291]
    np.testing.assert_array_equal(narrowed(frame, points, 0.5), frame)


@pytest.mark.parametrize("gain", [0.0, -1.0, 1.5, float("nan")])
def test_a_gain_outside_its_range_is_refused(gain: float) -> None:
    """Lips can't be opened by it, nor closed entirely."""
    with pytest.raises(ValueError, match=r"gain: expected a number in \(0, 1\]"):
        narrowed(*mouth(20), gain)
