"""Sanity checks: metrics on degraded copies of the real frames, where it is known how each must change.

    identical   the frames as they are
    blurred     Gaussian blur of 1/128 of the width
    noisy       Gaussian noise of 10 of 255, of a fixed seed
    displaced   the picture moved right by 1/64 of the width
    late        the frames of 5 frames earlier
    foreign     the frames from half the clip away: another sentence
    flickering  every second frame 4 of 255 brighter
    mumbling    the lips' gap closed to half its height, by warping the mouth
    still       one frame with parted lips, all the time

The last two need landmarks of the clip, and are left out where it has none.

A claim is a relation between two metrics that any sound measurement keeps. Claims are checked and reported.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nldf_engine.base.files import write_json
from nldf_engine.base.html import number, require_jinja, write_html
from nldf_engine.evaluation.clip_evaluation import evaluate_clip
from nldf_engine.evaluation.config import EvaluateConfig
from nldf_engine.evaluation.landmark_detector import Detector, FaceMesh
from nldf_engine.evaluation.metrics.lips import lip_gap
from nldf_engine.evaluation.mouth_warp import narrowed
from nldf_engine.evaluation.real_clip import RealClip, real_clip
from nldf_engine.evaluation.renderers import PlayedVideo
from nldf_engine.evaluation.report.page import TEMPLATES
from nldf_engine.evaluation.scoring import RealFaces
from nldf_engine.nn.sync import NEGATIVES

BLUR, MOVE = 1 / 128, 1 / 64  # of the width
NOISE, FLICKER = 10, 4  # of 255
LATE = 5  # frames
GAIN = 0.5  # of the lips' gap
CHANCE = round(1 / (1 + NEGATIVES), 3)  # of picking the true one of the judge's windows
PARTED = 80  # per cent of the frames whose lips are nearer than in the still one
SHOWN = (
    ("psnr", 2), ("psnr_foreground", 2), ("psnr_head", 2), ("psnr_mouth", 2), ("psnr_neck", 2), ("ssim", 3),
    ("lpips", 4), ("fid", 2), ("lmd", 2), ("lmd_centred", 2), ("lmd_aligned", 2), ("face_lmd", 2),
    ("face_lmd_aligned", 2), ("lip_correlation", 3), ("lip_velocity_correlation", 3),
    ("lip_amplitude_ratio", 2), ("lip_distribution", 3), ("lip_closed_auc", 3), ("lip_closed_f1", 3),
    ("lip_closures_bilabial", 2), ("lip_lag_ms", 0),
    ("lip_peak", 3), ("lip_chance", 3), ("au_lower", 4), ("au_upper", 4), ("jitter_ratio", 2),
    ("jitter_mouth", 2), ("flicker", 2),
    ("sync_retrieval", 3), ("sync_offset_frames", 0), ("sync_offset_margin", 2),
    ("sync_offset", 0), ("sync_confidence", 2),
)  # fmt: skip
VERDICTS = {True: "holds", False: "does not hold", None: "not measured"}

Frames = Callable[[], Iterator[np.ndarray]]


def _blurred(frames: Frames) -> Iterator[np.ndarray]:
    import cv2

    for frame in frames():
        yield cv2.GaussianBlur(frame, (0, 0), BLUR * frame.shape[1])


def _noisy(frames: Frames) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(0)
    for frame in frames():
        noise = rng.normal(0, NOISE, frame.shape)
        yield np.clip(np.round(frame + noise), 0, 255).astype(np.uint8)


def _displaced(frames: Frames) -> Iterator[np.ndarray]:
    for frame in frames():
        by = max(1, round(MOVE * frame.shape[1]))
        yield np.pad(frame, ((0, 0), (by, 0), (0, 0)), mode="edge")[:, : frame.shape[1]]


def _late(frames: Frames) -> Iterator[np.ndarray]:
    waiting: list[np.ndarray] = []
    for frame in frames():
        waiting = waiting or [frame] * LATE
        waiting.append(frame)
        yield waiting.pop(0)


def _foreign(frames: Frames, count: int) -> Iterator[np.ndarray]:
    # Half the clip is decoded twice rather than held.
    yield from itertools.islice(frames(), count // 2, None)
    yield from itertools.islice(frames(), count // 2)


def _flickering(frames: Frames) -> Iterator[np.ndarray]:
    for index, frame in enumerate(frames()):
        yield np.minimum(frame.astype(np.int16) + FLICKER * (index % 2), 255).astype(np.uint8)


def _mumbling(frames: Frames, landmarks: np.ndarray) -> Iterator[np.ndarray]:
    for frame, points in zip(frames(), landmarks, strict=True):
        yield narrowed(frame, points, GAIN)


def _still(frames: Frames, index: int, count: int) -> Iterator[np.ndarray]:
    held = next(itertools.islice(frames(), index, None))
    yield from itertools.repeat(held, count)


def _parted(gaps: np.ndarray) -> int:
    """The frame whose lip gap of [T] is nearest to the `PARTED` percentile of those known."""
    return int(np.nanargmin(np.abs(gaps - np.nanpercentile(gaps, PARTED))))


def degraded(clip: RealClip) -> dict[str, Frames]:
    """What makes the frames of each control, by its name."""
    frames, landmarks = clip.frames, clip.landmarks
    made = {
        "identical": frames,
        "blurred": lambda: _blurred(frames),
        "noisy": lambda: _noisy(frames),
        "displaced": lambda: _displaced(frames),
        "late": lambda: _late(frames),
        "foreign": lambda: _foreign(frames, len(clip)),
        "flickering": lambda: _flickering(frames),
    }
    if landmarks is not None:
        gaps = np.where(clip.valid, lip_gap(landmarks), np.nan)
        made["mumbling"] = lambda: _mumbling(frames, landmarks)
        if np.isfinite(gaps).any():
            made["still"] = lambda: _still(frames, _parted(gaps), len(clip))
    return made


@dataclass(frozen=True)
class Claim:
    """`metric` of control `a` is above (or below, or near) that of control `b`, or a number.

    Args:
        metric: its key.
        a: a control.
        relation: ">", "<" or "~", which allows `within`.
        b: another control, or a number.
        within: how far apart "~" lets both be.
    """

    metric: str
    a: str
    relation: str
    b: str | float
    within: float = 0.0

    def holds(self, found: dict[str, dict[str, Any]]) -> bool | None:
        """Whether it does; None where a metric or a control is missing."""
        ours = found.get(self.a, {}).get(self.metric)
        theirs = found.get(self.b, {}).get(self.metric) if isinstance(self.b, str) else self.b
        if ours is None or theirs is None:
            return None
        if self.relation == "~":
            return bool(abs(ours - theirs) <= self.within)
        return bool(ours > theirs if self.relation == ">" else ours < theirs)

    def __str__(self) -> str:
        near = f" (± {self.within:g})" if self.relation == "~" else ""
        return f"{self.metric}: {self.a} {self.relation} {self.b}{near}"


def _opening_claims() -> list[Claim]:
    """How far the lips open and where they close."""
    return [
        Claim("lip_amplitude_ratio", "identical", "~", 1.0, 0.05),
        Claim("lip_amplitude_ratio", "late", "~", 1.0, 0.25),
        Claim("lip_amplitude_ratio", "foreign", "~", 1.0, 0.25),
        Claim("lip_amplitude_ratio", "mumbling", "~", GAIN, 0.2),
        Claim("lip_amplitude_ratio", "still", "<", 0.2),
        Claim("lip_correlation", "mumbling", ">", "foreign"),
        Claim("lip_distribution", "identical", "<", 0.1),
        Claim("lip_distribution", "late", "<", "mumbling"),
        Claim("lip_distribution", "foreign", "<", "mumbling"),
        Claim("lip_distribution", "still", ">", "late"),
        Claim("lip_closed_auc", "identical", ">", 0.98), Claim("lip_closed_auc", "late", "<", "identical"),
        Claim("lip_closed_auc", "mumbling", ">", "foreign"), Claim("lip_closed_auc", "still", "~", 0.5, 0.2),
        Claim("lip_closed_f1", "identical", ">", 0.95), Claim("lip_closed_f1", "late", "<", "identical"),
        Claim("lip_closed_f1", "foreign", "<", "blurred"), Claim("lip_closed_f1", "still", "<", "blurred"),
        Claim("lip_closures_bilabial", "still", "<", "identical"),
    ]  # fmt: skip


def _sync_claims() -> list[Claim]:
    """How the lips fit the sound, where the judge can tell."""
    return [
        *(Claim("sync_retrieval", name, ">", "foreign") for name in ("identical", "blurred", "displaced")),
        Claim("sync_retrieval", "mumbling", ">", "foreign"),
        Claim("sync_retrieval", "identical", ">", "still"),
        Claim("sync_retrieval", "late", "<", "identical"),
        Claim("sync_retrieval", "foreign", "~", CHANCE, 0.12),
        Claim("sync_retrieval", "still", "~", CHANCE, 0.12),
        Claim("sync_offset_frames", "identical", "~", 0.0, 1.0),
        Claim("sync_offset_frames", "late", "~", float(LATE), 1.0),
        Claim("sync_offset_margin", "foreign", "<", "identical"),
        Claim("sync_offset_margin", "still", "<", "identical"),
    ]  # fmt: skip


def claims(fps: float) -> list[Claim]:
    """What must hold at `fps` scored frames a second."""
    made = [Claim("psnr", "identical", "~", 100.0), Claim("ssim", "identical", "~", 1.0, 1e-9)]
    for name in ("blurred", "noisy", "displaced", "late", "foreign", "flickering"):
        made += [Claim(key, name, "<", "identical") for key in ("psnr", "psnr_mouth", "psnr_head", "ssim")]
        made += [Claim(key, name, ">", "identical") for key in ("lpips", "fid")]
    made += [
        Claim("lpips", "blurred", ">", "flickering"),  # PSNR forgives blur, a perceptual distance does not
        Claim("psnr", "foreign", "<", "late"),
        Claim("lmd", "identical", "~", 0.0, 0.2), Claim("lmd_centred", "identical", "~", 0.0, 0.2),
        Claim("lmd", "displaced", ">", 4.0),  # moved by 8 pixels at 512
        Claim("lmd_centred", "displaced", "<", 2.0), Claim("lmd_aligned", "displaced", "<", 2.0),
        Claim("face_lmd", "displaced", ">", 4.0), Claim("face_lmd_aligned", "displaced", "<", 2.0),
        Claim("lmd_centred", "foreign", ">", "blurred"), Claim("lmd_centred", "foreign", ">", "noisy"),
        Claim("au_lower", "foreign", ">", "blurred"),
        Claim("lip_correlation", "identical", ">", 0.98), Claim("lip_correlation", "blurred", ">", 0.8),
        Claim("lip_correlation", "displaced", ">", 0.8), Claim("lip_correlation", "foreign", "<", "blurred"),
        Claim("lip_velocity_correlation", "identical", ">", 0.95),
        Claim("lip_velocity_correlation", "foreign", "<", "blurred"),
        Claim("lip_lag_ms", "identical", "~", 0.0, 1.0),
        Claim("lip_peak", "late", ">", 0.9), Claim("lip_peak", "foreign", "<", "blurred"),
        Claim("sync_confidence", "foreign", "<", "identical"),
    ]  # fmt: skip
    made += [*_opening_claims(), *_sync_claims()]
    made += [
        Claim("flicker", "flickering", ">", "identical"), Claim("flicker", "noisy", ">", "identical"),
        Claim("jitter_ratio", "identical", "~", 1.0, 0.05),
    ]  # fmt: skip
    if fps >= 25:
        made.append(Claim("lip_lag_ms", "late", "~", 1000 * LATE / fps, 500 / fps))
    return made


def controls_of(
    clip: RealClip, out: Path, config: EvaluateConfig, detector: Callable[[], Detector] | None = FaceMesh
) -> dict[str, Any]:
    """As `controls`, of a clip that is loaded already."""
    require_jinja()
    real_faces: RealFaces = {}
    metrics: dict[str, dict[str, Any]] = {}
    for name, frames in degraded(clip).items():
        header = {"control": name, "avatar": name, "dataset": "the clip itself"}
        player = PlayedVideo(frames, f"control {name}")
        metrics[name] = evaluate_clip(clip, player, out / name, header, config, detector, real_faces)
    checked: list[dict[str, Any]] = [
        {"claim": str(c), "holds": c.holds(metrics)} for c in claims(clip.fps / config.every)
    ]
    found: dict[str, Any] = {"controls": metrics, "claims": checked}
    write_json(out / "controls.json", found)
    names, rows = _rows(found)
    listed = [(item["claim"], VERDICTS[item["holds"]]) for item in checked]
    write_html(
        out / "controls.html", TEMPLATES / "controls.html", title="Do the metrics measure?", names=names,
        rows=rows, claims=listed,
    )  # fmt: skip
    return found


def controls(
    dataset: str | Path,
    out: str | Path,
    config: EvaluateConfig | None = None,
    detector: Callable[[], Detector] | None = FaceMesh,
) -> dict[str, Any]:
    """Scores every control on a dataset's frames: a report each in `out/NAME`, and a table in `out`.

    Args:
        dataset: its folder.
        out: folder for `controls.json`, `controls.html` and the reports.
        config: `split`, `frames`, `every`, `size`, `pictures`, `weights`, `phones`, `workers` and `fresh` are
            read.
        detector: as for `evaluate`.

    Returns:
        `controls`: the metrics by control; `claims`: each claim and whether it holds (None: not measured).

    Raises:
        FileProblem, MissingBackend, ValueError: as `evaluate`.
    """
    from nldf_engine.datasets import open_dataset

    config, data = config or EvaluateConfig(), open_dataset(dataset)
    width = config.size or data.camera.width
    clip = real_clip(data, config.split, config.frames, width, "mel", phones=config.phones)
    return controls_of(clip, Path(out), config, detector)


def _rows(found: dict[str, Any]) -> tuple[list[str], list[tuple[str, ...]]]:
    metrics = found["controls"]
    rows = [
        (key, *(number(one.get(key), digits) for one in metrics.values()))
        for key, digits in SHOWN
        if any(one.get(key) is not None for one in metrics.values())
    ]
    return list(metrics), rows


def _verdicts(found: dict[str, Any]) -> tuple[int, list[str], list[str]]:
    """(claims that hold, those that don't, those whose metric is missing)."""
    broken = [item["claim"] for item in found["claims"] if item["holds"] is False]
    missing = [item["claim"] for item in found["claims"] if item["holds"] is None]
    return len(found["claims"]) - len(broken) - len(missing), broken, missing


def table(found: dict[str, Any]) -> str:
    """The controls side by side as text, and which claims hold."""
    names, rows = _rows(found)
    lines = [f"{'':<26}" + "".join(f"{name:>12}" for name in names)]
    lines += [f"{key:<26}" + "".join(f"{cell:>12}" for cell in cells) for key, *cells in rows]
    holding, broken, missing = _verdicts(found)
    lines += ["", f"{holding} claims hold, {len(broken)} do not, {len(missing)} could not be checked"]
    lines += [f"does not hold: {claim}" for claim in broken]
    return "\n".join(lines)
