"""From metrics of frames to metrics of a clip: each a number, or null with the reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np

from nldf_engine.evaluation.frame_scores import FrameScores
from nldf_engine.evaluation.metric_suite import MetricSuite
from nldf_engine.evaluation.metrics.action_units import action_unit_errors
from nldf_engine.evaluation.metrics.jitter import jitter_scores, mouth_jitter
from nldf_engine.evaluation.metrics.judged_sync import JudgedSync, JudgeScorer
from nldf_engine.evaluation.metrics.lip_closure import lip_closed_auc, lip_closed_f1, lips_closed
from nldf_engine.evaluation.metrics.lip_lag import lip_sync
from nldf_engine.evaluation.metrics.lip_opening import lip_amplitude_ratio, lip_distribution
from nldf_engine.evaluation.metrics.lips import lip_gap, lip_scores
from nldf_engine.evaluation.metrics.optional.fid import frechet_distance
from nldf_engine.evaluation.metrics.regions import REGIONS
from nldf_engine.evaluation.metrics.statistics import mean
from nldf_engine.evaluation.metrics.visemes import VisemeTimes, lip_closures_bilabial, viseme_errors
from nldf_engine.evaluation.real_clip import RealClip

LIP_KEYS = ("lmd", "lmd_centred", "lip_correlation")
FACE_KEYS = ("lmd_aligned", "face_lmd", "face_lmd_aligned", "lip_velocity_correlation")
SYNC_KEYS = ("lip_lag_ms", "lip_peak", "lip_chance")
JUDGED_KEYS = ("sync_retrieval", "sync_offset_frames", "sync_offset_margin")
GAP_METRICS: dict[str, Callable[[np.ndarray, np.ndarray], tuple[float | None, str]]] = {
    "lip_amplitude_ratio": lip_amplitude_ratio,
    "lip_distribution": lip_distribution,
    "lip_closed_auc": lip_closed_auc,
    "lip_closed_f1": lip_closed_f1,
}
"""By key, what gives (value, reason) of the rendered and the real lip gaps."""
NO_PHONES = "no phone times were given (--phones FILE)"
NO_REGION = {
    "foreground": "no frame has a foreground label",
    "head": "no frame shows a head",
    "mouth": "no frame has its lips inside the picture",
    "neck": "no frame's labels have head, neck and torso meet",
}


class _Metrics(dict[str, Any]):
    def put(self, key: str, value: Any, reason: str) -> None:
        """A metric, and where it is None the reason."""
        self[key] = value
        if value is None:
            self[f"{key}_reason"] = reason


def clip_metrics(
    clip: RealClip, scores: FrameScores, suite: MetricSuite, variants: list[str], every: int
) -> dict[str, Any]:
    """The metrics of the report in its order, then what one needs to judge them.

    Args:
        clip: the real frames.
        scores: of its frames.
        suite: what it was measured with.
        variants: their names, "rendered" first.
        every: which frames were scored.
    """
    metrics, valid = _Metrics(), clip.valid[scores.index]
    metrics |= {"frames": int(valid.sum()), "size": [clip.width, clip.height]}
    metrics.put("psnr", mean(scores.image["psnr"]), "no frame was scored")
    for region in REGIONS:
        metrics.put(f"psnr_{region}", mean(scores.image[f"psnr_{region}"]), NO_REGION[region])
    metrics.put("ssim", mean(scores.image["ssim"]), "no frame was scored")
    for region in REGIONS:
        metrics.put(f"ssim_{region}", mean(scores.image[f"ssim_{region}"]), NO_REGION[region])
    for name in ("lpips", "lpips_vgg"):
        value = mean(scores.image[name]) if name in scores.image else None
        metrics.put(name, value, suite.reasons.get(name, ""))
    _put_fid(metrics, scores, suite)
    rate = clip.fps / every
    for name in variants:
        _put_lips(metrics, scores, name, suite.reasons["lips"], rate)
        _put_openings(metrics, clip, scores, name, suite.reasons["lips"])
    _put_real_closures(metrics, clip, scores, suite.reasons["lips"])
    _put_face(metrics, scores, suite)
    _put_jitter(metrics, clip, scores, suite)
    _put_judged_sync(metrics, clip, scores, suite)
    _put_sync(metrics, clip, scores, suite)
    metrics["seconds_per_frame"] = scores.seconds_per_frame if np.isfinite(scores.seconds_per_frame) else None
    metrics |= {"first_frame": clip.start, "last_frame": clip.start + len(clip) - 1, "every": every}
    metrics["frames_invalid"] = int((~valid).sum())
    for name in ("real", *variants):
        found = scores.faces.get(name)
        missing = None if found is None else int((~np.isfinite(found[valid]).all(axis=(1, 2))).sum())
        metrics[f"frames_without_face_{name}"] = missing
    return dict(metrics)


def _put_fid(metrics: _Metrics, scores: FrameScores, suite: MetricSuite) -> None:
    real, rendered = scores.features.get("real"), scores.features.get("rendered")
    value = None
    if real is not None and rendered is not None and len(real) > 1:
        value = frechet_distance(rendered, real)
    metrics.put("fid", value, suite.reasons.get("fid", "it needs two frames"))


def _put_lips(metrics: _Metrics, scores: FrameScores, variant: str, lips_reason: str, fps: float) -> None:
    ending = "" if variant == "rendered" else f"_{variant}"
    values: dict[str, Any] = {"reason": lips_reason}
    if variant in scores.faces and "real" in scores.faces:
        real, ours = scores.faces["real"], scores.faces[variant]
        values = lip_scores(ours, real)
        sync = lip_sync(lip_gap(real), lip_gap(ours), fps)
        values |= {"lip_lag_ms": sync.lag_ms, "lip_peak": sync.peak, "lip_chance": sync.chance}
        values["reason"] = values["reason"] or sync.reason or "the stretch is too short for it"
    for key in (*LIP_KEYS, *FACE_KEYS, *SYNC_KEYS):
        metrics.put(key + ending, values.get(key), values["reason"])


def viseme_times(clip: RealClip, index: np.ndarray) -> VisemeTimes | None:
    """The phones of a clip beside its frames `index` [S]; None where it has none."""
    return None if clip.phones is None else VisemeTimes(clip.phones, clip.seconds(index))


def _put_openings(
    metrics: _Metrics, clip: RealClip, scores: FrameScores, variant: str, lips_reason: str
) -> None:
    """How far the lips open, where they close, and both by viseme."""
    ending = "" if variant == "rendered" else f"_{variant}"
    times = viseme_times(clip, scores.index)
    if variant not in scores.faces or "real" not in scores.faces:
        for key in (*GAP_METRICS, "lip_closures_bilabial"):
            metrics.put(key + ending, None, lips_reason)
        return
    ours, theirs = lip_gap(scores.faces[variant]), lip_gap(scores.faces["real"])
    for key, measure in GAP_METRICS.items():
        metrics.put(key + ending, *measure(ours, theirs))
    share = (None, NO_PHONES) if times is None else lip_closures_bilabial(ours, times)
    metrics.put(f"lip_closures_bilabial{ending}", *share)
    if times is not None:
        metrics[f"visemes{ending}"] = viseme_errors(ours, theirs, times)


def _put_real_closures(metrics: _Metrics, clip: RealClip, scores: FrameScores, lips_reason: str) -> None:
    """What the real lips do, to judge the rendered ones by."""
    times, faces = viseme_times(clip, scores.index), scores.faces.get("real")
    no_face = lips_reason or "no real frame had a face found"
    closed = None if faces is None else mean(lips_closed(lip_gap(faces)))
    metrics.put("lip_closed_real", closed, no_face)
    share: tuple[float | None, str] = (None, no_face)
    if faces is not None:
        share = (None, NO_PHONES) if times is None else lip_closures_bilabial(lip_gap(faces), times)
    metrics.put("lip_closures_bilabial_real", *share)


def _put_face(metrics: _Metrics, scores: FrameScores, suite: MetricSuite) -> None:
    errors: dict[str, float | None] = {}
    reason = suite.reasons["lips"] or "no frame had a face found in both the real and the rendered picture"
    if "rendered" in scores.faces and "real" in scores.faces:
        errors = action_unit_errors(scores.faces["rendered"], scores.faces["real"])
    metrics.put("au_lower", errors.pop("au_lower", None), reason)
    metrics.put("au_upper", errors.pop("au_upper", None), reason)
    if errors:
        metrics["action_units"] = errors


def _put_jitter(metrics: _Metrics, clip: RealClip, scores: FrameScores, suite: MetricSuite) -> None:
    """Jitter about the poses, where there are any; of the lips about their centre in any case."""
    values: dict[str, Any] = {"reason": suite.reasons["lips"] or "two plain videos have no poses"}
    real, ours = scores.faces.get("real"), scores.faces.get("rendered")
    if real is not None and ours is not None:
        if clip.camera is not None:
            _, poses, _ = clip.conditions()
            values = asdict(jitter_scores(ours, real, poses[scores.index], clip.camera))
        else:
            values |= {"jitter_mouth": mouth_jitter(ours), "jitter_mouth_real": mouth_jitter(real)}
    for key in ("jitter", "jitter_real", "jitter_ratio", "jitter_mouth", "jitter_mouth_real"):
        metrics.put(key, values.get(key), values["reason"] or "too few frames in a row have a face")
    flicker = scores.flicker
    for name in ("rendered", "real"):
        value = None if flicker is None else flicker[name]
        metrics.put(
            f"flicker{'_real' * (name == 'real')}", value, "no pixel is known to be background in every frame"
        )


def _put_judged_sync(metrics: _Metrics, clip: RealClip, scores: FrameScores, suite: MetricSuite) -> None:
    """How the lips of every variant fit the clip's own sound, and how the real ones do."""
    scorer = None
    if suite.judge is not None and scores.faces:
        scorer = JudgeScorer(suite.judge, clip.samples, len(clip))
    for name in dict.fromkeys(("rendered", "real", *scores.faces)):
        ending = "" if name == "rendered" else f"_{name}"
        found = JudgedSync(None, None, None, suite.reasons.get("judge", "") or "no frame had a face found")
        if scorer is not None and name in scores.faces:
            found = scorer(scores.faces[name])
        for key, value in zip(JUDGED_KEYS, (found.retrieval, found.offset, found.margin), strict=True):
            metrics.put(key + ending, value, found.reason)


def _put_sync(metrics: _Metrics, clip: RealClip, scores: FrameScores, suite: MetricSuite) -> None:
    for name in ("rendered", "real", *(n for n in scores.crops if n not in ("rendered", "real"))):
        ending = "" if name == "rendered" else f"_{name}"
        score = None
        if suite.sync is not None and name in scores.crops and clip.rate == 16000:
            score = suite.sync(scores.crops[name], clip.samples)
        values = asdict(score) if score is not None else {}
        reason = (
            suite.reasons.get("sync", "") or "the stretch has fewer than six frames with a face and sound"
        )
        for key in ("offset", "confidence", "distance"):
            metrics.put(f"sync_{key}{ending}", values.get(key), reason)
