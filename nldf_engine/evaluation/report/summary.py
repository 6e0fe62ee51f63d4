"""From figures of frames to figures of a clip: each a number, or null with the reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from nldf_engine.base.errors import MissingBackend
from nldf_engine.evaluation.clip import RealClip
from nldf_engine.evaluation.config import EvaluateConfig
from nldf_engine.evaluation.measure import FrameMetric, FrameScores, Instruments
from nldf_engine.evaluation.metrics.action_units import action_unit_errors
from nldf_engine.evaluation.metrics.fid import frechet_distance
from nldf_engine.evaluation.metrics.inception import InceptionFeatures
from nldf_engine.evaluation.metrics.jitter import jitter_scores, mouth_jitter
from nldf_engine.evaluation.metrics.landmarks import Detector
from nldf_engine.evaluation.metrics.lips import lip_gap, lip_scores
from nldf_engine.evaluation.metrics.lipsync import lip_sync
from nldf_engine.evaluation.metrics.perceptual import load_lpips
from nldf_engine.evaluation.metrics.quality import mean
from nldf_engine.evaluation.metrics.regions import REGIONS
from nldf_engine.evaluation.metrics.syncnet import FPS, SyncScorer

LIP_KEYS = ("lmd", "lmd_centred", "lip_correlation")
FACE_KEYS = ("lmd_aligned", "face_lmd", "face_lmd_aligned", "lip_velocity_correlation")
SYNC_KEYS = ("lip_lag_ms", "lip_peak", "lip_chance")
NO_REGION = {
    "foreground": "no frame has a foreground label",
    "head": "no frame shows a head",
    "mouth": "no frame has its lips inside the picture",
    "neck": "no frame's labels have head, neck and torso meet",
}


@dataclass
class Kit:
    """The instruments that this machine has, and why others are missing.

    Args:
        tools: for `measure`.
        sync: SyncNet, or None.
        reasons: by figure, why it will be null.
        files: the weight files in use.
    """

    tools: Instruments
    sync: SyncScorer | None = None
    reasons: dict[str, str] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)


def gather_kit(clip: RealClip, config: EvaluateConfig, detector: Callable[[], Detector] | None) -> Kit:
    """Finds out what can be measured here.

    Raises:
        FileProblem: a file of weights is there but can't be used.
    """
    reasons: dict[str, str] = {}
    files: list[str] = []
    metrics: dict[str, FrameMetric] = {}
    for name, net in (("lpips", "alex"), ("lpips_vgg", "vgg")):
        model, reasons[name] = load_lpips(config.weights, clip.width, clip.height, net)
        if model is not None:
            metrics[name] = model
            files += map(str, model.files)
    inception = sync = None
    try:
        inception = InceptionFeatures(config.weights)
        files.append(str(inception.path))
    except MissingBackend as error:
        reasons["fid"] = str(error)
    detector, reasons["lips"] = _usable(detector)
    rate = clip.fps / config.every
    if detector is None:
        reasons["sync"] = reasons["lips"]
    elif rate != FPS:
        reasons["sync"] = f"SyncNet needs {FPS} frames a second, these are {rate:g}"
    else:
        try:
            sync = SyncScorer(config.weights)
            files.append(str(sync.path))
        except MissingBackend as error:
            reasons["sync"] = str(error)
    return Kit(Instruments(detector, metrics, inception, sync is not None), sync, reasons, files)


def _usable(detector: Callable[[], Detector] | None) -> tuple[Callable[[], Detector] | None, str]:
    if detector is None:
        return None, "no landmark detector was given"
    try:
        detector().close()
    except MissingBackend as error:
        return None, str(error)
    return detector, ""


class _Figures(dict[str, Any]):
    def put(self, key: str, value: Any, reason: str) -> None:
        """A figure, and where it is None the reason."""
        self[key] = value
        if value is None:
            self[f"{key}_reason"] = reason


def figures_of(clip: RealClip, scores: FrameScores, kit: Kit, takes: list[str], every: int) -> dict[str, Any]:
    """The figures of DESIGN's list in its order, then what one needs to judge them.

    Args:
        clip: what was repeated.
        scores: of `measure`.
        kit: what it was measured with.
        takes: the names of the renderings, "rendered" first.
        every: which frames were scored.
    """
    figures, valid = _Figures(), clip.valid[scores.index]
    figures |= {"frames": int(valid.sum()), "size": [clip.width, clip.height]}
    figures.put("psnr", mean(scores.image["psnr"]), "no frame was scored")
    for region in REGIONS:
        figures.put(f"psnr_{region}", mean(scores.image[f"psnr_{region}"]), NO_REGION[region])
    figures.put("ssim", mean(scores.image["ssim"]), "no frame was scored")
    for region in REGIONS:
        figures.put(f"ssim_{region}", mean(scores.image[f"ssim_{region}"]), NO_REGION[region])
    for name in ("lpips", "lpips_vgg"):
        value = mean(scores.image[name]) if name in scores.image else None
        figures.put(name, value, kit.reasons.get(name, ""))
    _put_fid(figures, scores, kit)
    rate = clip.fps / every
    for name in takes:
        _put_lips(figures, scores, name, kit.reasons["lips"], rate)
    _put_face(figures, scores, kit)
    _put_jitter(figures, clip, scores, kit)
    _put_sync(figures, clip, scores, kit)
    figures["seconds_per_frame"] = scores.seconds_per_frame if np.isfinite(scores.seconds_per_frame) else None
    figures |= {"first_frame": clip.start, "last_frame": clip.start + len(clip) - 1, "every": every}
    figures["frames_invalid"] = int((~valid).sum())
    for name in ("real", *takes):
        found = scores.faces.get(name)
        missing = None if found is None else int((~np.isfinite(found[valid]).all(axis=(1, 2))).sum())
        figures[f"frames_without_face_{name}"] = missing
    return dict(figures)


def _put_fid(figures: _Figures, scores: FrameScores, kit: Kit) -> None:
    real, rendered = scores.features.get("real"), scores.features.get("rendered")
    value = None
    if real is not None and rendered is not None and len(real) > 1:
        value = frechet_distance(rendered, real)
    figures.put("fid", value, kit.reasons.get("fid", "it needs two frames"))


def _put_lips(figures: _Figures, scores: FrameScores, take: str, lips_reason: str, fps: float) -> None:
    ending = "" if take == "rendered" else f"_{take}"
    values: dict[str, Any] = {"reason": lips_reason}
    if take in scores.faces and "real" in scores.faces:
        real, ours = scores.faces["real"], scores.faces[take]
        values = lip_scores(ours, real)
        sync = lip_sync(lip_gap(real), lip_gap(ours), fps)
        values |= {"lip_lag_ms": sync.lag_ms, "lip_peak": sync.peak, "lip_chance": sync.chance}
        values["reason"] = values["reason"] or sync.reason or "the stretch is too short for it"
    for key in (*LIP_KEYS, *FACE_KEYS, *SYNC_KEYS):
        figures.put(key + ending, values.get(key), values["reason"])


def _put_face(figures: _Figures, scores: FrameScores, kit: Kit) -> None:
    errors: dict[str, float | None] = {}
    reason = kit.reasons["lips"] or "no frame had a face found in both the real and the rendered picture"
    if "rendered" in scores.faces and "real" in scores.faces:
        errors = action_unit_errors(scores.faces["rendered"], scores.faces["real"])
    figures.put("au_lower", errors.pop("au_lower", None), reason)
    figures.put("au_upper", errors.pop("au_upper", None), reason)
    if errors:
        figures["action_units"] = errors


def _put_jitter(figures: _Figures, clip: RealClip, scores: FrameScores, kit: Kit) -> None:
    """Trembling about the poses, where there are any; of the lips about their centre in any case."""
    values: dict[str, Any] = {"reason": kit.reasons["lips"] or "two plain videos have no poses"}
    real, ours = scores.faces.get("real"), scores.faces.get("rendered")
    if real is not None and ours is not None:
        if clip.camera is not None:
            _, poses, _ = clip.conditions()
            values = asdict(jitter_scores(ours, real, poses[scores.index], clip.camera))
        else:
            values |= {"jitter_mouth": mouth_jitter(ours), "jitter_mouth_real": mouth_jitter(real)}
    for key in ("jitter", "jitter_real", "jitter_ratio", "jitter_mouth", "jitter_mouth_real"):
        figures.put(key, values.get(key), values["reason"] or "too few frames in a row have a face")
    flicker = scores.flicker
    for name in ("rendered", "real"):
        value = None if flicker is None else flicker[name]
        figures.put(
            f"flicker{'_real' * (name == 'real')}", value, "no pixel is known to be background in every frame"
        )


def _put_sync(figures: _Figures, clip: RealClip, scores: FrameScores, kit: Kit) -> None:
    for name in ("rendered", "real", *(n for n in scores.crops if n not in ("rendered", "real"))):
        ending = "" if name == "rendered" else f"_{name}"
        score = None
        if kit.sync is not None and name in scores.crops and clip.rate == 16000:
            score = kit.sync(scores.crops[name], clip.samples)
        values = asdict(score) if score is not None else {}
        reason = kit.reasons.get("sync", "") or "the stretch has fewer than six frames with a face and sound"
        for key in ("offset", "confidence", "distance"):
            figures.put(f"sync_{key}{ending}", values.get(key), reason)
