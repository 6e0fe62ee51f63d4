"""The report of one renderer on one clip: figures as JSON, pictures, a video, and a page with all of it."""

from __future__ import annotations

import contextlib
import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from nldf_engine.base.errors import FileProblem
from nldf_engine.base.files import read_json, write_json
from nldf_engine.base.version import __version__
from nldf_engine.evaluation.chunks import Store, digest, installation_hash
from nldf_engine.evaluation.clip import RealClip, Renderer
from nldf_engine.evaluation.config import DEFINITIONS, EvaluateConfig
from nldf_engine.evaluation.measure import FrameScores, Take, measure
from nldf_engine.evaluation.metrics.landmarks import Detector, FaceMesh
from nldf_engine.evaluation.metrics.lips import LIPS
from nldf_engine.evaluation.metrics.quality import mouth_box
from nldf_engine.evaluation.report.page import write_page
from nldf_engine.evaluation.report.pictures import (
    Comparison,
    Sample,
    contact_sheet,
    curves,
    require_matplotlib,
)
from nldf_engine.evaluation.report.summary import Kit, figures_of, gather_kit

COLUMNS = 6
FIGURES = ("metrics.json", "frames.json")
PICTURES = ("contact_sheet.png", "curves.png", "comparison.mp4", "report.html")


def report(
    clip: RealClip,
    renderer: Renderer,
    out: Path,
    header: dict[str, Any],
    config: EvaluateConfig,
    detector: Callable[[], Detector] | None = FaceMesh,
    known: dict[tuple[int, int], np.ndarray] | None = None,
) -> dict[str, Any]:
    """Measures and writes the report; `evaluate` without the loading.

    Args:
        clip: the real frames and their conditions.
        renderer: what is scored. Where it has an `identity` (a hash of all that its frames depend on), and
            the clip too, finished parts are kept in `OUT/unfinished` until the report is written, and a
            report that was made from the same inputs is taken as it is.
        out: folder for the report.
        header: what to say of where both come from.
        config: how.
        detector: makes the landmark detector of one run of frames, or None.
        known: faces of the clip's real frames, shared by the reports of several renderers.

    Returns:
        The figures; a figure that could not be had is None, and `<figure>_reason` says why.

    Raises:
        FileProblem, MissingBackend, ValueError: as `evaluate`.
    """
    _check_writable(out)
    if config.pictures:
        require_matplotlib()
    kit = gather_kit(clip, config, detector)
    key = _key(clip, renderer, header, config, kit)
    if key is not None and not config.fresh:
        finished = _finished(out, key, config.pictures)
        if finished is not None:
            return finished
    store = Store(out / "unfinished", None if config.fresh else key)
    scored = np.flatnonzero(clip.valid & (np.arange(len(clip)) % config.every == 0))
    columns = min(COLUMNS, len(scored))
    shown = scored[((np.arange(columns) + 0.5) * len(scored) / columns).astype(int)]
    takes, shift = _takes(clip, renderer)
    with contextlib.ExitStack() as stack:
        onlooker = None
        if config.pictures:
            sound = (clip.samples, clip.rate) if len(clip.samples) else None
            video = stack.enter_context(
                Comparison(out / "comparison.mp4", clip.width, clip.height, clip.fps / config.every, sound)
            )

            def onlooker(
                index: int, real: np.ndarray, rendered: np.ndarray, scored: bool, psnr: float
            ) -> None:
                video.write(real, rendered, f"{psnr:.2f} dB" if scored else "not scored")

        scores = measure(
            clip, takes, kit.tools, every=config.every, workers=config.workers, store=store,
            keep=map(int, shown), onlooker=onlooker, known=known,
        )  # fmt: skip
    names = [take.name for take in takes]
    figures = figures_of(clip, scores, kit, names, config.every)
    figures |= {"shuffled_shift": shift, **header, "backend": renderer.backend, "device": renderer.device}
    figures |= {"version": __version__, "inputs": key}
    if getattr(renderer, "recorded", False):
        figures |= {"seconds_per_frame": None, "seconds_per_frame_reason": "it was rendered elsewhere"}
    per_frame: dict[str, Any] = {
        "fps": clip.fps,
        "frame": [clip.start + int(index) for index in scores.index],
        "scored": [bool(clip.valid[index]) for index in scores.index],
        **{name: _numbers(values) for name, values in scores.curves().items()},
    }
    if config.pictures:
        title, subtitle = _headline(figures)
        contact_sheet(out / "contact_sheet.png", _samples(clip, scores), title, subtitle, clip.fps)
        curves(out / "curves.png", scores.curves(), title, subtitle, clip.start, clip.fps, config.every)
        write_page(out, title, figures, per_frame)
    write_json(out / "frames.json", per_frame)
    write_json(out / "metrics.json", {**figures, "definitions": DEFINITIONS})
    store.clear()
    return figures


def _takes(clip: RealClip, renderer: Renderer) -> tuple[list[Take], int | None]:
    """The renderings: with the clip's own audio, with shifted, and with foreign audio where there is any.

    What only plays frames (`recorded`) has no audio that could be changed.
    """
    features, poses, eyes = clip.conditions()
    if getattr(renderer, "recorded", False):
        return [Take("rendered", lambda: renderer(features, poses, eyes))], None
    wrong, shift = clip.shifted_features()
    takes = [
        Take(
            "rendered",
            lambda: renderer(features, poses, eyes),
            lambda: renderer(features[:1], poses[:1], eyes[:1]),
        ),
        Take("shuffled", lambda: renderer(wrong, poses, eyes)),
    ]
    foreign = clip.foreign
    if foreign is not None:
        takes.append(Take("foreign", lambda: renderer(foreign, poses, eyes)))
    return takes, shift


def _key(
    clip: RealClip, renderer: Renderer, header: dict[str, Any], config: EvaluateConfig, kit: Kit
) -> str | None:
    """Hash of all that the figures depend on; None where either side has no identity."""
    identity = getattr(renderer, "identity", None)
    if clip.identity is None or identity is None:
        return None
    weights = [(path, Path(path).stat().st_size) for path in kit.files]
    has_faces = kit.tools.detector is not None
    parts = (identity, renderer.backend, renderer.device, clip.identity, clip.start, len(clip), config.every)
    return digest(
        *parts, [clip.width, clip.height], *clip.conditions(), clip.valid, clip.foreign, header, weights,
        has_faces, installation_hash(),
    )[:32]  # fmt: skip


def _finished(out: Path, key: str, pictures: bool) -> dict[str, Any] | None:
    """The figures of the report in `out`, where it is whole and was made from these inputs."""
    if not all((out / name).is_file() for name in (*FIGURES, *(PICTURES if pictures else ()))):
        return None
    with contextlib.suppress(FileProblem):
        figures = read_json(out / "metrics.json")
        if isinstance(figures, dict) and figures.get("inputs") == key:
            return {name: value for name, value in figures.items() if name != "definitions"}
    return None


def _check_writable(out: Path) -> None:
    """Finds out before the rendering, not after it, that the report can't be written."""
    mend = "name another folder for the report"
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except FileExistsError as error:
        raise FileProblem(out, "it is a file, and the report needs a folder", mend) from error
    except OSError as error:
        raise FileProblem(out, f"the report can't be written there ({error.strerror})", mend) from error


def _samples(clip: RealClip, scores: FrameScores) -> list[Sample]:
    samples = []
    places = {int(index): place for place, index in enumerate(scores.index)}
    for index, (real, rendered) in sorted(scores.kept.items()):
        place = places[index]
        points = np.full((len(LIPS), 2), np.nan)
        if clip.landmarks is not None:
            points = clip.landmarks[index][list(LIPS)]
        elif "real" in scores.faces:
            points = scores.faces["real"][place][list(LIPS)] * max(clip.width, clip.height) / 512
        mouth = mouth_box(points, clip.width, clip.height)
        psnr, psnr_mouth = (float(scores.image[name][place]) for name in ("psnr", "psnr_mouth"))
        samples.append(Sample(clip.start + index, real, rendered, psnr, psnr_mouth, mouth))
    return samples


def _headline(figures: dict[str, Any]) -> tuple[str, str]:
    def shown(key: str, form: str, unit: str = "") -> str:
        value = figures.get(key)
        return "–" if value is None else f"{value:{form}}{unit}"

    width, height = figures["size"]
    names = f"{figures.get('avatar', 'renderer')} on {figures.get('dataset', 'clip')}"
    split = f", {figures['split']}" if figures.get("split") else ""
    title = f"{names}{split}: {figures['frames']} frames at {width}×{height}"
    parts = [
        f"PSNR {shown('psnr', '.2f', ' dB')} (foreground {shown('psnr_foreground', '.2f')}, "
        f"mouth {shown('psnr_mouth', '.2f')})",
        f"SSIM {shown('ssim', '.3f')}",
    ]
    if "lmd_shuffled" in figures:
        parts.append(
            f"lips, true / wrong audio: centred distance {shown('lmd_centred', '.2f')} / "
            f"{shown('lmd_centred_shuffled', '.2f')} px, correlation {shown('lip_correlation', '.2f')} / "
            f"{shown('lip_correlation_shuffled', '.2f')}"
        )
    if figures["seconds_per_frame"] is not None and not figures.get("reference"):
        parts.append(f"{1000 * figures['seconds_per_frame']:.1f} ms a frame")
    return title, "    ".join(parts)


def _numbers(values: np.ndarray) -> list[float | None]:
    return [round(float(value), 6) if math.isfinite(value) else None for value in values]
