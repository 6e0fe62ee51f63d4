"""Sound against lips: a known lag is found, unrelated sound is not told a lag, and what is done about it."""

from __future__ import annotations

import numpy as np
import pytest

from nldf_engine.prepare import PrepareConfig
from nldf_engine.prepare.sync import Sync, best_lag, chosen_shift, measure_sync, shifted, sync_problems

FPS = 25


def lips(frames: int, seed: int = 0) -> np.ndarray:
    """[2 frames, Q] metres, at 50 Hz: syllables, in a few components of falling strength."""
    rng = np.random.default_rng(seed)
    raw = rng.standard_normal((2 * frames + 40, 5))
    kernel = np.hanning(13)
    smooth = np.stack([np.convolve(column, kernel, "same") for column in raw.T], 1)[20:-20]
    return 1e-3 * smooth * [1.0, 0.6, 0.4, 0.2, 0.1]


def said(track: np.ndarray, milliseconds: float, noise: float, seed: int = 1) -> list[np.ndarray]:
    """What a predictor says of a sound whose lips come so much later, and of it half a frame later."""
    rows = round(milliseconds / 20)
    rng = np.random.default_rng(seed)
    moved = np.roll(track, -rows, axis=0) + noise * track.std() * rng.standard_normal(track.shape)
    return [moved[::2], np.roll(moved, 1, axis=0)[::2]]


@pytest.mark.parametrize("milliseconds", [-480, -240, -100, 0, 60, 140, 500, 1800])
def test_a_known_lag_is_found(milliseconds: int) -> None:
    """Within 20 ms in 8 s of lips, of which a predictor that is often wrong explains a part."""
    track = lips(200)
    found = best_lag(track[::2], said(track, milliseconds, 0.8), np.ones(200, bool))
    assert found.lag == pytest.approx(milliseconds, abs=20)
    assert found.correlation > 0.4 and found.elsewhere < found.correlation - 0.2


def test_frames_without_lips_do_not_count() -> None:
    """A third of the frames hold nonsense and are marked: the lag is found from the others."""
    track = lips(300)
    seen, valid = track[::2].copy(), np.ones(300, bool)
    seen[100:200], valid[100:200] = 5e-3, False
    assert best_lag(seen, said(track, 120, 0.5), valid).lag == pytest.approx(120, abs=20)


def test_unrelated_sound_is_not_told_a_lag() -> None:
    """Sound of somebody else, or hardly any lips: it can't be told, and the reason is given."""
    for seed in range(2, 8):
        found = best_lag(lips(200)[::2], said(lips(200, seed), 0, 0.3), np.ones(200, bool))
        assert found.lag is None and "agree nowhere" in found.why
    short = best_lag(lips(80)[::2], said(lips(80), 0, 0.1), np.ones(80, bool))
    assert short.lag is None and "too short" in short.why
    few = np.zeros(200, bool)
    few[:60] = True
    assert "fewer than 75 frames" in best_lag(lips(200)[::2], said(lips(200), 0, 0.1), few).why


def test_silence_is_not_told_a_lag() -> None:
    """Without sound nothing is measured."""
    from nldf_engine.geometry.cameras import Camera

    blank = np.zeros((100, 478, 2), np.float32)
    camera, valid = Camera(64, 64, 60.0, 60.0, 32.0, 32.0), np.ones(100, bool)
    poses, shape = np.tile(np.eye(4, dtype=np.float32), (100, 1, 1)), np.zeros((478, 3))
    found = measure_sync(np.zeros(64000, np.float32), blank, poses, shape, camera, valid)
    assert found == Sync(None, why="the sound is silent")


def test_sound_is_moved() -> None:
    """Later: silence before it; earlier: its beginning is cut; of any number of channels."""
    sound = np.arange(1, 9, dtype=np.float32)
    assert shifted(sound, 1000, 3).tolist() == [0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]
    assert shifted(sound, 1000, -3).tolist() == [4, 5, 6, 7, 8]
    assert shifted(sound, 1000, 0).tolist() == sound.tolist()
    assert shifted(np.ones((8, 2), np.float32), 1000, 2).shape == (10, 2)


def test_what_is_done_and_said() -> None:
    """auto moves by what was found, off and a small lag by nothing, a number by itself; each is reported."""
    late, small, unknown = Sync(120.0, 0.6, 0.1), Sync(-20.0, 0.6, 0.1), Sync(None, 0.2, 0.15, "why")
    assert [chosen_shift("auto", each) for each in (late, small, unknown)] == [120.0, 0.0, 0.0]
    assert chosen_shift("off", late) == 0 and chosen_shift("-80", late) == -80
    (done,) = sync_problems(late, 120.0, "auto")
    assert done.severity == "note" and "120 ms before the lips; moved by 120 ms" in done.what
    (left,) = sync_problems(late, 0.0, "off")
    assert left.severity == "warning" and "--sync auto" in left.remedy
    (wrong,) = sync_problems(late, -80.0, "-80")
    assert wrong.severity == "warning"
    assert not sync_problems(small, 0.0, "auto")
    assert "can't be told (why)" in sync_problems(unknown, 0.0, "auto")[0].what
    for setting in ("auto", "off", "120", "-80.5"):
        assert PrepareConfig(sync=setting).sync == setting
    for setting in ("on", "", "9000", "nan"):
        with pytest.raises(ValueError, match="sync must be auto, off"):
            PrepareConfig(sync=setting)
