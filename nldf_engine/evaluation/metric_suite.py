"""The metrics that this machine can measure, and why others are missing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from nldf_engine.base.errors import MissingBackend
from nldf_engine.evaluation.config import EvaluateConfig
from nldf_engine.evaluation.landmark_detector import Detector
from nldf_engine.evaluation.metrics.judged_sync import rate_problem
from nldf_engine.evaluation.metrics.optional.fid import InceptionFeatures
from nldf_engine.evaluation.metrics.optional.lpips import load_lpips
from nldf_engine.evaluation.metrics.optional.syncnet import FPS, SyncScorer
from nldf_engine.evaluation.metrics.ssim import require_ssim
from nldf_engine.evaluation.real_clip import RealClip
from nldf_engine.nn.sync import ASSET, SyncJudge, sync_judge


@dataclass(frozen=True)
class MetricSuite:
    """What the frames are measured with; whatever is None or left out is not measured.

    Args:
        detector: makes the landmark detector of one run of frames.
        lpips: by the name of its column, LPIPS of (rendered, real) uint8 frames.
        inception: FID's features [2048] of a uint8 frame.
        sync: SyncNet; it needs crops of the faces.
        judge: the package's own judge of lips and sound.
        reasons: by metric ("lpips", "lpips_vgg", "fid", "lips", "sync", "judge"), why it will be null; empty
            text where it is measured.
        files: the weight files in use.
    """

    detector: Callable[[], Detector] | None = None
    lpips: dict[str, Callable[[np.ndarray, np.ndarray], float]] = field(default_factory=dict)
    inception: Callable[[np.ndarray], np.ndarray] | None = None
    sync: SyncScorer | None = None
    judge: SyncJudge | None = None
    reasons: dict[str, str] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)


def metric_suite(
    clip: RealClip, config: EvaluateConfig, detector: Callable[[], Detector] | None
) -> MetricSuite:
    """Finds out what can be measured here.

    Raises:
        FileProblem: a file of weights is there but can't be used, or the package's is not as shipped.
        MissingBackend: scikit-image, which SSIM of every frame needs, is not installed.
    """
    require_ssim()
    reasons: dict[str, str] = {}
    files: list[str] = []
    lpips: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {}
    for name, net in (("lpips", "alex"), ("lpips_vgg", "vgg")):
        model, reasons[name] = load_lpips(config.weights, clip.width, clip.height, net)
        if model is not None:
            lpips[name] = model
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
    reasons["judge"] = reasons["lips"] or rate_problem(clip.rate, rate)
    judge = None if reasons["judge"] else sync_judge()
    files += [str(ASSET)] if judge is not None else []
    return MetricSuite(detector, lpips, inception, sync, judge, reasons, files)


def _usable(detector: Callable[[], Detector] | None) -> tuple[Callable[[], Detector] | None, str]:
    if detector is None:
        return None, "no landmark detector was given"
    try:
        detector().close()
    except MissingBackend as error:
        return None, str(error)
    return detector, ""
