"""Retrieval and offset, on a judge that learned from made-up speakers whose lips follow their loudness."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nldf_engine.audio import FrontendConfig, features
from nldf_engine.evaluation import EvaluateConfig, RealClip, evaluate_clip, metric_suite
from nldf_engine.evaluation.clip_metrics import JUDGED_KEYS
from nldf_engine.evaluation.controls import LATE, claims
from nldf_engine.evaluation.metrics.judged_sync import (
    JudgeScorer,
    mean_similarities,
    rate_problem,
    retrieval,
)  # fmt: skip
from nldf_engine.geometry.face_mesh import INNER_LIP, OUTER_LIP
from nldf_engine.geometry.face_template import rest_landmarks
from nldf_engine.nn.sync import SyncJudge, cut, draw_negatives, info_nce, last_rows, lip_movement
from tests.evaluation.mouths import speech

FRAMES, CHANCE = 300, 1 / 11
LOWER = [*OUTER_LIP[1:10], *INNER_LIP[1:10]]
NO_PICTURES = EvaluateConfig(pictures=False)


def sound_of(gaps: np.ndarray, seed: int) -> np.ndarray:
    """Noise whose loudness follows the gaps [F]: [640 F] float32."""
    envelope = np.interp(np.arange(640 * len(gaps)) / 640, np.arange(len(gaps)) + 0.5, gaps)
    noise = np.random.default_rng(seed).normal(0, 1, len(envelope))
    return np.asarray((envelope + 0.01) * noise, np.float32)


def lips_of(gaps: np.ndarray, size: float = 300.0) -> np.ndarray:
    """[F, 478, 2] of a face whose lower lips go down by the gaps, in eye distances of 0.09 m."""
    points = np.repeat(rest_landmarks()[None, :, :2], len(gaps), axis=0)
    points[:, LOWER, 1] += 0.09 * gaps[:, None]
    return size * (points + 0.2)


@pytest.fixture(scope="module")
def judge() -> SyncJudge:
    """Half a minute of speech, a hundred steps."""
    torch.manual_seed(0)
    made = SyncJudge(15, 29, width=16, dim_out=16, ways=4, dropout=0.0)
    made.frontend = FrontendConfig("mel")
    gaps = speech(800, seed=9)
    heard = torch.from_numpy(features(sound_of(gaps, 9), made.frontend).copy())
    made.spread.copy_(last_rows(heard).std((0, 1)))
    audio = cut(last_rows(heard), 15)
    lips = cut(lip_movement(torch.from_numpy(lips_of(gaps))).float(), 15)
    optimizer = torch.optim.Adam(made.parameters(), 3e-3)
    for _ in range(100):
        starts = torch.randperm(len(lips))[:64]
        sound = made.audio(audio[starts])
        loss = info_nce(made.lips(lips[starts]), sound, sound[draw_negatives(starts)], 0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return made.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def scorer(judge: SyncJudge) -> JudgeScorer:
    """Of the sound of a speaker that the judge has not met."""
    return JudgeScorer(judge, sound_of(speech(FRAMES), 0), FRAMES)


@pytest.mark.parametrize("size", [100.0, 3000.0])
def test_the_true_lips_are_picked_at_no_offset(scorer: JudgeScorer, size: float) -> None:
    """Small and large faces alike: most windows find their own sound, and the offset is none."""
    found = scorer(lips_of(speech(FRAMES), size))
    assert found.reason == "" and found.retrieval is not None and found.margin is not None
    assert found.retrieval > 0.8 and found.offset == 0 and found.margin > 0.3


@pytest.mark.parametrize("late", [-4, 3, 11])
def test_late_and_early_lips_have_that_offset_and_are_picked_less(scorer: JudgeScorer, late: int) -> None:
    """Positive where the lips come late; retrieval at the right time needs lips at the right time."""
    found = scorer(lips_of(np.roll(speech(FRAMES), late)))
    true = scorer(lips_of(speech(FRAMES)))
    assert found.offset == late and found.retrieval is not None and true.retrieval is not None
    assert found.retrieval < true.retrieval - 0.1


def test_the_lips_of_other_speech_are_picked_by_chance(scorer: JudgeScorer) -> None:
    """Another sentence: about 1 of 11, and no offset stands out."""
    found = [scorer(lips_of(speech(FRAMES, seed))) for seed in (3, 4, 5, 6)]
    assert np.mean([one.retrieval or 0.0 for one in found]) == pytest.approx(CHANCE, abs=0.06)
    true = scorer(lips_of(speech(FRAMES)))
    assert max(one.margin for one in found) < 0.5 * true.margin  # type: ignore[type-var, operator]


def test_a_still_mouth_is_picked_by_chance(scorer: JudgeScorer) -> None:
    """Lips that do not move fit no moment better than another, with the detector's noise or without."""
    still = lips_of(np.full(FRAMES, 0.1))
    found, noisy = scorer(still), scorer(still + np.random.default_rng(0).normal(0, 0.02, still.shape))
    assert found.retrieval == pytest.approx(CHANCE, abs=0.02)
    assert noisy.retrieval == pytest.approx(CHANCE, abs=0.06)
    assert found.margin < 0.1  # type: ignore[operator]


def test_lips_that_mumble_are_still_in_time(scorer: JudgeScorer) -> None:
    """Half the motion: the offset stays, and so does most of the retrieval."""
    gaps = speech(FRAMES)
    found = scorer(lips_of(gaps.mean() + 0.5 * (gaps - gaps.mean())))
    assert found.offset == 0 and found.retrieval is not None and found.retrieval > 0.6


def test_the_claims_of_the_controls_hold(scorer: JudgeScorer) -> None:
    """Late, foreign, mumbling and still copies of the true lips: each claim about them holds."""
    gaps = speech(FRAMES)
    lips = {
        "identical": gaps, "late": np.roll(gaps, LATE), "foreign": np.roll(gaps, FRAMES // 2),
        "mumbling": gaps.mean() + 0.5 * (gaps - gaps.mean()), "still": np.full(FRAMES, 0.1),
    }  # fmt: skip
    figures = {}
    for name, values in lips.items():
        found = scorer(lips_of(values))
        figures[name] = dict(zip(JUDGED_KEYS, (found.retrieval, found.offset, found.margin), strict=True))
    told = {str(one): one.holds(figures) for one in claims(25.0) if one.metric in JUDGED_KEYS}
    assert [claim for claim, holds in told.items() if holds is False] == []
    assert sum(holds is True for holds in told.values()) == 10
    assert told["sync_offset_frames: late ~ 5.0 (± 1)"] and told["sync_retrieval: identical > still"]


def test_windows_with_a_frame_without_a_face_are_left_out(scorer: JudgeScorer) -> None:
    """One lost frame costs the windows that hold it; with no window left there is a reason."""
    points = lips_of(speech(FRAMES))
    points[100] = np.nan
    lost = ~np.isfinite(scorer.similarity(points)).all(1)
    assert np.flatnonzero(lost).tolist() == list(range(86, 101))
    assert scorer(points).offset == 0
    points[::10] = np.nan
    found = scorer(points)
    assert (found.retrieval, found.offset, found.margin) == (None, None, None)
    assert "stretches of 15 frames have a face" in found.reason
    with pytest.raises(ValueError, match="expected 300 frames"):
        scorer(points[:40])


@pytest.mark.parametrize(
    ("samples", "frames", "reason"),
    [
        (np.zeros(0, np.float32), 100, "no sound"),
        (np.zeros(64000, np.float32), 100, "silent"),
        (np.ones(640 * 20, np.float32), 20, "20 frames, and it needs 25"),
    ],
)
def test_what_cannot_be_judged_has_a_reason(
    judge: SyncJudge, samples: np.ndarray, frames: int, reason: str
) -> None:
    """No sound, silence, and a stretch that is too short."""
    found = JudgeScorer(judge, samples, frames)(lips_of(np.zeros(frames)))
    assert found.retrieval is None and found.offset is None and reason in found.reason


def test_rates_that_do_not_fit_have_a_reason() -> None:
    """25 frames a second and 16 kHz, or the reason."""
    assert rate_problem(16000, 25.0) == ""
    assert "25 frames a second, these are 12.5" in rate_problem(16000, 12.5)
    assert "16000 Hz, this has 44100" in rate_problem(44100, 25.0)


def test_retrieval_is_the_mean_over_all_draws() -> None:
    """Against every draw of 3 others, one by one; ties are broken evenly, and rows without lips left out."""
    values = np.random.default_rng(1).integers(0, 5, (9, 9)).astype(float)
    values[4] = np.nan
    shares = []
    for own in (n for n in range(9) if n != 4):
        rest = [k for k in range(9) if abs(k - own) >= 3]
        if len(rest) < 3:
            continue
        draws = [values[own, list(some)] for some in combinations(rest, 3)]
        top = [(values[own, own] >= draw).all() / (1 + (draw == values[own, own]).sum()) for draw in draws]
        shares.append(np.mean(top))
    assert retrieval(values, 3, 3) == pytest.approx(np.mean(shares))
    assert retrieval(np.zeros((60, 60))) == pytest.approx(CHANCE)
    assert retrieval(np.zeros((15, 15))) is None
    with pytest.raises(ValueError, match=r"expected \[S, S\]"):
        retrieval(np.zeros((3, 4)))


def test_mean_similarities_follow_the_diagonals() -> None:
    """Lips d frames late fit the sound d frames before; shifts with too few windows are unknown."""
    late = np.eye(30, k=-4)
    found = mean_similarities(late, 22)
    assert int(np.nanargmax(found)) - 22 == 4 and found[26] == 1.0
    assert np.isnan(found[[0, 1, 43, 44]]).all() and np.isfinite(found[2:43]).all()


def test_the_report_holds_the_judges_metrics(
    judge: SyncJudge, painted: RealClip, painter: Any, pixel_detector: Any, tmp_path: Path,
    without: Callable[..., RealClip], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Rendered, real, shuffled and foreign; null with a reason at another rate, without a face or sound."""
    monkeypatch.setattr(metric_suite, "sync_judge", lambda: judge)
    sound = sound_of(painted.features[:, 0, 0] / 100, 0)
    clip = without(painted, samples=sound, foreign=painted.features[::-1].copy(), valid=np.ones(40, bool))
    found = evaluate_clip(clip, painter(), tmp_path / "a", {}, NO_PICTURES, pixel_detector)
    for key in ("sync_retrieval", "sync_offset_frames", "sync_offset_margin"):
        assert found[key] is not None and found[f"{key}_real"] is not None
        assert found[f"{key}_shuffled"] is not None and found[f"{key}_foreign"] is not None
    assert 0 <= found["sync_retrieval"] <= 1 and -15 <= found["sync_offset_frames"] <= 15
    assert found["sync_offset_margin_shuffled"] != found["sync_offset_margin"]
    slow = EvaluateConfig(pictures=False, every=2)
    found = evaluate_clip(clip, painter(), tmp_path / "b", {}, slow, pixel_detector)
    assert found["sync_retrieval"] is None and "25 frames a second" in found["sync_retrieval_reason"]
    blind = evaluate_clip(clip, painter(), tmp_path / "c", {}, NO_PICTURES, None)
    assert blind["sync_retrieval_real"] is None and "detector" in blind["sync_retrieval_real_reason"]
    quiet = without(clip, samples=np.zeros(0, np.float32))
    found = evaluate_clip(quiet, painter(), tmp_path / "d", {}, NO_PICTURES, pixel_detector)
    assert found["sync_offset_frames"] is None and "no sound" in found["sync_offset_frames_reason"]
    assert math.isfinite(found["psnr"])
