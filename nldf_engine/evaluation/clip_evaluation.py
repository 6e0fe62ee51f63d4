"""One renderer on one clip: measures, and writes the report's folder."""

from __future__ import annotations

import contextlib
import math
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from nldf_engine.base.errors import FileProblem
from nldf_engine.base.files import read_json, write_json
from nldf_engine.base.html import require_jinja
from nldf_engine.base.results import key_of
from nldf_engine.base.version import __version__
from nldf_engine.evaluation.chunks import ChunkStore, installation_hash
from nldf_engine.evaluation.clip_metrics import clip_metrics, viseme_times
from nldf_engine.evaluation.config import DEFINITIONS, EvaluateConfig
from nldf_engine.evaluation.frame_scores import FrameScores
from nldf_engine.evaluation.landmark_detector import LANDMARK_SIZE, Detector, FaceMesh
from nldf_engine.evaluation.metric_suite import MetricSuite, metric_suite
from nldf_engine.evaluation.metrics.regions import mouth_box
from nldf_engine.evaluation.real_clip import RealClip
from nldf_engine.evaluation.renderers import Renderer
from nldf_engine.evaluation.report.comparison_video import ComparisonVideo
from nldf_engine.evaluation.report.contact_sheet import Sample, contact_sheet
from nldf_engine.evaluation.report.curves import draw_curves, svg_of
from nldf_engine.evaluation.report.drawing import require_matplotlib, save_png
from nldf_engine.evaluation.report.page import write_page
from nldf_engine.evaluation.scoring import OnFrame, RealFaces, score_frames
from nldf_engine.evaluation.variants import variants_of
from nldf_engine.geometry.face_mesh import LIPS

SAMPLES = 6
NUMBERS = ("metrics.json", "frames.json")
HEADLINE_LIPS = (
    ("lmd_centred", "centred distance", " px"), ("lip_correlation", "correlation", ""),
    ("lip_amplitude_ratio", "amplitude", ""), ("lip_closed_f1", "closed F1", ""),
)  # fmt: skip
PICTURES = ("contact_sheet.png", "curves.png", "comparison.mp4", "report.html")


def evaluate_clip(
    clip: RealClip,
    renderer: Renderer,
    out: Path,
    header: dict[str, Any],
    config: EvaluateConfig,
    detector: Callable[[], Detector] | None = FaceMesh,
    real_faces: RealFaces | None = None,
) -> dict[str, Any]:
    """Measures a renderer and writes the report; `evaluate` without the loading.

    Args:
        clip: the real frames and their conditions.
        renderer: what is scored. Where it has an `identity` (a hash of all that its frames depend on), and
            the clip too, finished chunks are stored in `OUT/unfinished` until the report is written, and a
            report that was made from the same inputs is returned as it is.
        out: folder for the report.
        header: what to say of where both come from.
        config: how.
        detector: makes the landmark detector of one run of frames, or None.
        real_faces: faces of the clip's real frames, shared by the reports of several renderers.

    Returns:
        The metrics; one that could not be measured is None, and `<metric>_reason` says why.

    Raises:
        FileProblem, MissingBackend, ValueError: as `evaluate`.
    """
    _check_writable(out)
    if config.pictures:
        require_matplotlib()
        require_jinja()
    suite = metric_suite(clip, config, detector)
    key = _key(clip, renderer, header, config, suite)
    if key is not None and not config.fresh:
        finished = _finished(out, key, config.pictures)
        if finished is not None:
            return finished
    store = ChunkStore(out / "unfinished", None if config.fresh else key)
    variants, shift = variants_of(clip, renderer)
    with contextlib.ExitStack() as stack:
        on_frame = stack.enter_context(_comparison(clip, out, config.every)) if config.pictures else None
        scores = score_frames(
            clip, variants, suite, every=config.every, workers=config.workers, store=store,
            samples=_sampled(clip, config.every), on_frame=on_frame, real_faces=real_faces,
        )  # fmt: skip
    metrics = clip_metrics(clip, scores, suite, [variant.name for variant in variants], config.every)
    metrics |= {"shuffled_shift": shift, **header, "backend": renderer.backend, "device": renderer.device}
    metrics |= {"version": __version__, "inputs": key}
    if getattr(renderer, "recorded", False):
        metrics |= {"seconds_per_frame": None, "seconds_per_frame_reason": "it was rendered elsewhere"}
    per_frame = _per_frame(clip, scores)
    if config.pictures:
        title, subtitle = _headline(metrics)
        contact_sheet(out / "contact_sheet.png", _samples(clip, scores), title, subtitle, clip.fps)
        figure = draw_curves(per_frame, title, subtitle)
        save_png(figure, out / "curves.png")
        write_page(out, title, metrics, per_frame, svg_of(figure))
    write_json(out / "frames.json", per_frame)
    write_json(out / "metrics.json", {**metrics, "definitions": DEFINITIONS})
    store.clear()
    return metrics


@contextlib.contextmanager
def _comparison(clip: RealClip, out: Path, every: int) -> Iterator[OnFrame]:
    """Writes `comparison.mp4` from what is passed on frame by frame."""
    sound = (clip.samples, clip.rate) if len(clip.samples) else None
    path = out / "comparison.mp4"
    with ComparisonVideo(path, clip.width, clip.height, clip.fps / every, sound) as video:

        def on_frame(index: int, real: np.ndarray, rendered: np.ndarray, scored: bool, psnr: float) -> None:
            video.write(real, rendered, f"{psnr:.2f} dB" if scored else "not scored")

        yield on_frame


def _sampled(clip: RealClip, every: int) -> list[int]:
    """Numbers of up to `SAMPLES` scored frames, evenly spread."""
    scored = np.flatnonzero(clip.valid & (np.arange(len(clip)) % every == 0))
    count = min(SAMPLES, len(scored))
    return [int(n) for n in scored[((np.arange(count) + 0.5) * len(scored) / count).astype(int)]]


def _per_frame(clip: RealClip, scores: FrameScores) -> dict[str, Any]:
    """What `frames.json` holds: one list a metric, null where a frame has none."""
    times = viseme_times(clip, scores.index)
    return {
        "fps": clip.fps,
        "frame": [clip.start + int(index) for index in scores.index],
        "scored": [bool(clip.valid[index]) for index in scores.index],
        **{name: _numbers(values) for name, values in scores.curves().items()},
        **({} if times is None else {"viseme": times.of_frames()}),
    }


def _key(
    clip: RealClip, renderer: Renderer, header: dict[str, Any], config: EvaluateConfig, suite: MetricSuite
) -> str | None:
    """Hash of all that the metrics depend on; None where either side has no identity."""
    identity = getattr(renderer, "identity", None)
    if clip.identity is None or identity is None:
        return None
    weights = [(path, Path(path).stat().st_size) for path in suite.files]
    has_faces = suite.detector is not None
    parts = (identity, renderer.backend, renderer.device, clip.identity, clip.start, len(clip), config.every)
    return key_of(
        *parts, [clip.width, clip.height], *clip.conditions(), clip.valid, clip.foreign, header, weights,
        [(p.start, p.end, p.name) for p in clip.phones or ()], has_faces, installation_hash(),
    )[:32]  # fmt: skip


def _finished(out: Path, key: str, pictures: bool) -> dict[str, Any] | None:
    """The metrics of the report in `out`, where it is whole and was made from these inputs."""
    if not all((out / name).is_file() for name in (*NUMBERS, *(PICTURES if pictures else ()))):
        return None
    with contextlib.suppress(FileProblem):
        metrics = read_json(out / "metrics.json")
        if isinstance(metrics, dict) and metrics.get("inputs") == key:
            return {name: value for name, value in metrics.items() if name != "definitions"}
    return None


def _check_writable(out: Path) -> None:
    """Finds out before the rendering, not after it, that the report can't be written."""
    remedy = "name another folder for the report"
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except FileExistsError as error:
        raise FileProblem(out, "it is a file, and the report needs a folder", remedy) from error
    except OSError as error:
        raise FileProblem(out, f"the report can't be written there ({error.strerror})", remedy) from error


def _samples(clip: RealClip, scores: FrameScores) -> list[Sample]:
    samples = []
    places = {int(index): place for place, index in enumerate(scores.index)}
    for index, (real, rendered) in sorted(scores.samples.items()):
        place = places[index]
        points = np.full((len(LIPS), 2), np.nan)
        if clip.landmarks is not None:
            points = clip.landmarks[index][list(LIPS)]
        elif "real" in scores.faces:
            points = scores.faces["real"][place][list(LIPS)] * max(clip.width, clip.height) / LANDMARK_SIZE
        mouth = mouth_box(points, clip.width, clip.height)
        psnr, psnr_mouth = (float(scores.image[name][place]) for name in ("psnr", "psnr_mouth"))
        samples.append(Sample(clip.start + index, real, rendered, psnr, psnr_mouth, mouth))
    return samples


def _headline(metrics: dict[str, Any]) -> tuple[str, str]:
    """Title and subtitle of the pictures and of the page."""

    def shown(key: str, form: str, unit: str = "") -> str:
        value = metrics.get(key)
        return "–" if value is None else f"{value:{form}}{unit}"

    width, height = metrics["size"]
    names = f"{metrics.get('avatar', 'renderer')} on {metrics.get('dataset', 'clip')}"
    split = f", {metrics['split']}" if metrics.get("split") else ""
    title = f"{names}{split}: {metrics['frames']} frames at {width}×{height}"
    parts = [
        f"PSNR {shown('psnr', '.2f', ' dB')} (foreground {shown('psnr_foreground', '.2f')}, "
        f"mouth {shown('psnr_mouth', '.2f')})",
        f"SSIM {shown('ssim', '.3f')}",
    ]
    if "lmd_shuffled" in metrics:
        both = (
            f"{name} {shown(key, '.2f')} / {shown(f'{key}_shuffled', '.2f')}{unit}"
            for key, name, unit in HEADLINE_LIPS
        )
        parts.append(f"lips, true / wrong audio: {', '.join(both)}")
    if metrics["seconds_per_frame"] is not None and not metrics.get("reference"):
        parts.append(f"{1000 * metrics['seconds_per_frame']:.1f} ms a frame")
    return title, "    ".join(parts)


def _numbers(values: np.ndarray) -> list[float | None]:
    return [round(float(value), 6) if math.isfinite(value) else None for value in values]
