"""By how much the lips come after the sound, found by the network that 25 speakers taught to predict lips.

Loudness says little of when a mouth opens. The shared predictor (`training.prior`) says from the sound how
lips should move; where what it says of the sound, shifted, agrees best with the tracked lips is the lag. On
the held-out parts of real speakers, 2.5 to 12 s long, that is within 25 ms of where another predictor puts
it, with a correlation of 0.56 to 0.66 and at most 0.31 elsewhere; sounds of other clips reach 0.34 at most.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from nldf_engine.base.clock import FPS, SAMPLE_RATE
from nldf_engine.datasets.problems import Problem
from nldf_engine.geometry.cameras import Camera

LONGEST = 60.0  # seconds that are measured, from the middle of the video
WIDEST = 2.0  # seconds that are looked to either side
SLOW = 25  # frames: what changes more slowly is no speech
APART = 0.16  # seconds from the best lag, from which on another one is elsewhere
LEAST = 75  # frames with lips that overlap with sound at any lag, below which nothing is said
ELSEWHERE = 50  # lags elsewhere that must be known: a second's worth
# Correlation at the lag, and how far it must stand out of what is elsewhere. Sounds of other clips of the
# same set reach 0.34, and stand out by 0.17 (210 pairs of 6 to 10 s).
SURE, MARGIN = 0.38, 0.2
SMALLEST_SHIFT = 30.0  # ms: less is left as it is


@dataclass(frozen=True)
class Sync:
    """What was found.

    Args:
        lag: ms by which the lips come after the sound; None where it can't be told.
        correlation: of predicted and tracked lips at the best lag.
        elsewhere: the highest one at other lags.
        why: where it can't be told, in a few words.
    """

    lag: float | None
    correlation: float = 0.0
    elsewhere: float = 0.0
    why: str = ""

    def metrics(self) -> dict[str, Any]:
        """For the report."""
        return {
            "lip_lag_ms": None if self.lag is None else round(self.lag, 1),
            "lip_correlation": round(self.correlation, 3),
            "lip_correlation_elsewhere": round(self.elsewhere, 3),
            **({"lip_lag_unknown": self.why} if self.why else {}),
        }


def chosen_shift(setting: str, found: Sync) -> float:
    """ms that the sound is moved later by (negative: earlier), given `PrepareConfig.sync`."""
    if setting == "off":
        return 0.0
    if setting == "auto":
        return 0.0 if found.lag is None or abs(found.lag) < SMALLEST_SHIFT else found.lag
    return float(setting)


def shifted(samples: np.ndarray, rate: int, milliseconds: float) -> np.ndarray:
    """Samples [N, ...] moved later by so many ms: silence before them, or their beginning cut off."""
    count = round(milliseconds / 1000 * rate)
    if count <= 0:
        return samples[-count:]
    return np.concatenate([np.zeros((count, *samples.shape[1:]), samples.dtype), samples])


def measure_sync(
    samples: np.ndarray,
    landmarks: np.ndarray,
    poses: np.ndarray,
    shape: np.ndarray,
    camera: Camera,
    valid: np.ndarray,
) -> Sync:
    """Finds the lag.

    Args:
        samples: [N] float32, mono at 16 kHz.
        landmarks: [T, 478, 2+], pixels of `camera`; poses: [T, 4, 4]; shape: [478, 3] in head space, metres.
        valid: bool [T], which of them count.
    """
    from nldf_engine.audio import is_silent

    total = len(valid)
    first = max(0, (total - round(LONGEST * FPS)) // 2)
    part = slice(first, first + round(LONGEST * FPS))
    heard = samples[round(part.start / FPS * SAMPLE_RATE) : round(part.stop / FPS * SAMPLE_RATE)]
    if is_silent(heard):
        return Sync(None, why="the sound is silent")
    lips, along = _lips(landmarks[part], poses[part], shape, camera, valid[part])
    if lips is None:
        return Sync(None, why=f"it shows lips in fewer than {LEAST} frames")
    predicted = [codes * along for codes in _predicted(heard, len(lips))]
    return best_lag(lips, predicted, valid[part])


def best_lag(lips: np.ndarray, predicted: list[np.ndarray], valid: np.ndarray) -> Sync:
    """The lag at which predictions agree best with lips.

    Args:
        lips: [T, Q] metres along shared components.
        predicted: two of [T, Q], of the sound as it is and moved later by half a frame.
        valid: [T] bool, where lips are known.
    """
    lips, predicted = _quick(lips), [_quick(each) for each in predicted]
    widest = round(WIDEST * FPS)
    lags, scores = [], []
    for frames in range(-widest, widest + 1):
        here = slice(max(0, frames), len(lips) + min(0, frames))
        there = slice(max(0, -frames), len(lips) + min(0, -frames))
        known = valid[here]
        for half, said in enumerate(predicted):
            a, b = lips[here][known], said[there][known]
            power = float(np.sqrt((a**2).sum() * (b**2).sum()))
            enough = known.sum() >= LEAST and power > 0
            lags.append((frames + half / 2) / FPS)
            scores.append(float((a * b).sum()) / power if enough else -1.0)
    score, lag = np.array(scores), np.array(lags)
    if score.max() <= -1:
        return Sync(None, why=f"fewer than {LEAST} frames show lips while there is sound")
    best = int(score.argmax())
    others = score[(np.abs(lag - lag[best]) > APART) & (score > -1)]
    if len(others) < ELSEWHERE:
        return Sync(None, float(score[best]), why="it is too short to be compared at other lags")
    elsewhere = float(others.max())
    finer = 0.0
    if 0 < best < len(score) - 1 and min(score[best - 1], score[best + 1]) > -1:
        before, at, after = score[best - 1 : best + 2]
        bend = before - 2 * at + after
        finer = float(0.5 * (before - after) / bend * (lag[1] - lag[0])) if bend < 0 else 0.0
    correlation = float(score[best])
    if correlation < SURE or correlation - elsewhere < MARGIN:
        return Sync(None, correlation, elsewhere, "lips and sound agree nowhere well enough")
    return Sync(1000 * (float(lag[best]) + finer), correlation, elsewhere)


def _quick(values: np.ndarray) -> np.ndarray:
    """[T, Q] without what changes slowly."""
    from scipy.ndimage import uniform_filter1d

    made: np.ndarray = values - uniform_filter1d(values, SLOW, axis=0, mode="nearest")
    return made


def _lips(
    landmarks: np.ndarray, poses: np.ndarray, shape: np.ndarray, camera: Camera, valid: np.ndarray
) -> tuple[np.ndarray | None, np.ndarray]:
    """Lips [T, Q] along the shared components, metres, and their spread [Q]; None where few are known."""
    from nldf_engine.geometry.landmark_tracks import on_planes
    from nldf_engine.systems.common.motion import MOUTH
    from nldf_engine.training.prior import lip_prior

    components = lip_prior().components
    if valid.sum() < LEAST:
        return None, np.zeros(len(components))
    seen = torch.from_numpy(landmarks[:, list(MOUTH), :2]).float()
    depth = torch.from_numpy(np.asarray(shape[list(MOUTH), 2], np.float32))
    placed = on_planes(seen, torch.from_numpy(poses).float(), camera, depth).float()
    along = torch.einsum("tli,qli->tq", placed, components).numpy()
    known = along[valid]
    return np.where(valid[:, None], along - known.mean(0), 0.0), known.std(0)


def _predicted(samples: np.ndarray, frames: int) -> list[np.ndarray]:
    """Two of [frames, Q]: codes predicted for a sound, and for it moved later by half a frame."""
    from nldf_engine.audio import FrontendConfig
    from nldf_engine.audio.windows import windows
    from nldf_engine.nn.speech import LipNet
    from nldf_engine.training.prior import lip_prior

    prior = lip_prior()
    frontend = FrontendConfig(prior.frontend)
    rows = frontend.kind.rows(samples, frontend)
    heard = [windows(shown, frames) for shown in (rows, np.concatenate([np.zeros_like(rows[:1]), rows]))]
    count, numbers = heard[0].shape[1:]
    state = prior.state(count, frontend.ahead)
    net = LipNet(numbers, count, len(prior.components), len(state["rows.1.bias"]))
    net.load_state_dict(state)
    with torch.inference_mode():
        return [net.eval().encode_clip(torch.from_numpy(np.array(each))).numpy() for each in heard]


def sync_problems(found: Sync, shift: float, setting: str) -> list[Problem]:
    """What a person should know of sound against lips.

    Args:
        found: what was measured.
        shift: ms that the sound was moved later by.
        setting: `PrepareConfig.sync`.
    """
    if found.lag is None:
        moved = f"; moved by {shift:.0f} ms as given" if shift else ""
        what = f"whether sound and lips are in time can't be told ({found.why}){moved}"
        return [Problem("sync", what, "give the shift with --sync MS where you know it", "note")]
    late = "before" if found.lag > 0 else "after"
    said = f"the sound comes {abs(found.lag):.0f} ms {late} the lips"
    if shift:
        off = abs(found.lag - shift)
        severity = "note" if off <= 2 * SMALLEST_SHIFT else "warning"
        what = f"{said}; moved by {shift:.0f} ms"
        return [Problem("sync", what, "" if severity == "note" else "leave --sync to auto", severity)]
    if abs(found.lag) < 2 * SMALLEST_SHIFT:
        return []
    return [Problem("sync", said, f"prepare with --sync auto, or shift the sound ({setting} now)", "warning")]
