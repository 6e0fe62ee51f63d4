"""`evaluate`: avatar + dataset -> figures as JSON, a contact sheet, curves and a side-by-side video."""

from __future__ import annotations

import contextlib
import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nldf_engine import __version__
from nldf_engine.base.errors import FileProblem, MissingBackend
from nldf_engine.base.files import sha256, write_json
from nldf_engine.evaluation.clip import RealClip, Renderer, check_same_view, real_clip
from nldf_engine.evaluation.landmarks import Detector, FaceMesh
from nldf_engine.evaluation.lips import LIPS, lip_scores
from nldf_engine.evaluation.measure import FrameScores, measure
from nldf_engine.evaluation.metrics import PSNR_CAP, mean, mouth_box
from nldf_engine.evaluation.perceptual import load_lpips
from nldf_engine.evaluation.pictures import Comparison, Sample, contact_sheet, curves, require_matplotlib

if TYPE_CHECKING:
    from nldf_engine.engine import Engine

COLUMNS = 6
LIP_KEYS = ("lmd", "lmd_centred", "lip_correlation")
DEFINITIONS = {
    "frames": "frames scored: the valid ones of the stretch first_frame..last_frame",
    "psnr": f"dB, mean over the frames of each frame's PSNR on uint8 colours; equal frames: {PSNR_CAP:g}",
    "psnr_foreground": "the same over the pixels whose label is not background",
    "psnr_mouth": "the same over the box around the real lips, widened by 2 % and 3 % of the frame",
    "psnr_neck": "the same over the band about the borders of head, neck and torso, 3 % of the frame's width "
    "to either side",
    "ssim": "Gaussian window 11, sigma 1.5, mean over colours and frames",
    "lpips": "LPIPS 0.1, AlexNet, mean over the frames",
    "lmd": "mean distance of the 40 lip landmarks, pixels where the frame's longer side is 512",
    "lmd_centred": "the same after each mouth's centre was subtracted",
    "lip_correlation": "Pearson correlation over time of the inner lip gap over the outer eye distance",
    "*_shuffled": "the same frames and poses, with the audio of the frame shuffled_shift frames on, going "
    "round within the stretch: lips that follow the audio score worse here",
    "torso": "what moved it: the motion tracked in the scored frames, as their poses are, or a prediction "
    "from the poses",
    "seconds_per_frame": "rendering alone, mean over the stretch, after one frame to warm up",
}


@dataclass(frozen=True)
class EvaluateConfig:
    """How to evaluate.

    Args:
        split: "heldout" (the last fifth, which no training learns from), "validation", "fit", "train", "all".
        frames: only the first that many valid frames of the split; None takes them all. They are
            consecutive, since the lips are scored over time.
        size: width to render and compare at, in pixels; None takes the avatar's.
        torso: "tracked": the torso's tracked motion in the scored frames goes with their poses as part of
            what drives them, where the dataset is the avatar's own and holds it; "predicted": from the poses.
        pictures: write the contact sheet, the curves and the side-by-side video, too.
        lpips_weights: AlexNet's weights, a file; None looks in torch's cache.
        device: "auto", "cpu", "cuda" or "cuda:N".
        precision: as for `Engine.load`.
        backend: "native" or "reference".

    Raises:
        ValueError: fewer than 2 frames, or a size below 16.
    """

    split: str = "heldout"
    frames: int | None = None
    size: int | None = None
    torso: str = "tracked"
    pictures: bool = True
    lpips_weights: Path | None = None
    device: str = "auto"
    precision: str = "auto"
    backend: str = "native"

    def __post_init__(self) -> None:
        if self.frames is not None and self.frames < 2:
            raise ValueError(f"frames: an evaluation needs at least 2, got {self.frames}")
        if self.torso not in ("tracked", "predicted"):
            raise ValueError(f"torso: expected 'tracked' or 'predicted', got {self.torso!r}")
        if self.size is not None and self.size < 16:
            raise ValueError(f"size: expected at least 16 pixels, got {self.size}")


class EngineRenderer:
    """An `Engine` as the renderer to score, at one size.

    Args:
        engine: a loaded engine.
        size: width in pixels.
        torso: [T, 2, 3] tracked torso motion of the clip's frames from its first one on, or None to have it
            predicted from the poses.
    """

    def __init__(self, engine: Engine, size: int, torso: np.ndarray | None = None) -> None:
        self._engine, self._size, self._torso = engine, size, torso
        self.backend, self.device = engine.backend, str(engine.device)

    def __call__(self, features: np.ndarray, poses: np.ndarray, eyes: np.ndarray) -> Any:
        """Lazy frames, uint8 [T, H, W, 3]."""
        torso = None if self._torso is None else self._torso[: len(poses)]
        return self._engine.render(features, poses, eyes=eyes, size=self._size, torso=torso)


def evaluate(
    avatar: str | Path,
    dataset: str | Path,
    out: str | Path | None = None,
    config: EvaluateConfig | None = None,
    renderer: Renderer | None = None,
    detector: Callable[[], Detector] | None = FaceMesh,
) -> dict[str, Any]:
    """Scores an avatar against the frames of a dataset and writes the report.

    Written into `out`, each file whole or not at all: `metrics.json` (what is returned, and what each
    figure means), `frames.json` (one value a frame), and, unless switched off, `contact_sheet.png`,
    `curves.png` and `comparison.mp4`.

    Args:
        avatar: the avatar's folder.
        dataset: the dataset's folder.
        out: folder for the report; `AVATAR/evaluation/SPLIT` where None.
        config: how.
        renderer: scores this renderer instead of the avatar's own engine.
        detector: makes the landmark detector of one sequence. Without mediapipe the lips' figures are
            null and `lmd_reason` says so. None leaves them out.

    Returns:
        The figures; a figure that could not be had is None, and `<figure>_reason` says why.

    Raises:
        FileProblem: avatar or dataset can't be used or don't belong together, `out` can't be written.
        MissingBackend: the pictures are wanted and can't be drawn, or a device is missing.
        ValueError: an argument out of range, or a split with fewer than two valid frames.

    Example:
        >>> evaluate("avatars/me", "data/speaker")["psnr"]      # doctest: +SKIP
        29.87
    """
    from nldf_engine.avatar import Avatar
    from nldf_engine.data.dataset import Dataset
    from nldf_engine.engine import Engine

    config = config or EvaluateConfig()
    avatar, dataset = Path(avatar), Path(dataset)
    if renderer is None:
        engine = Engine.load(avatar, config.device, config.precision, config.backend)
        subject = engine.avatar
    else:
        subject = Avatar.load(avatar)
    data = Dataset.open(dataset)
    data.check_unchanged()
    camera = subject.camera if config.size is None else subject.camera.scaled(config.size)
    check_same_view(dataset, data.camera, camera)
    clip = real_clip(data, config.split, config.frames, camera.width, subject.frontend)
    own = subject.provenance.get("dataset") == data.hash()
    torso = clip.torso if own and config.torso == "tracked" else None
    header = {
        "split": config.split,
        "torso": "predicted" if torso is None else "tracked",
        "avatar": avatar.resolve().name,
        "avatar_hash": sha256(avatar / "avatar.json"),
        "system": subject.system,
        "dataset": dataset.resolve().name,
        "dataset_hash": data.hash(),
        "trained_on_hash": subject.provenance.get("dataset"),
        "trained_on_this_dataset": own,
    }
    out = Path(out) if out is not None else avatar / "evaluation" / config.split
    return report(
        clip, renderer or EngineRenderer(engine, camera.width, torso), out, header, config, detector
    )


def report(
    clip: RealClip,
    renderer: Renderer,
    out: Path,
    header: dict[str, Any],
    config: EvaluateConfig,
    detector: Callable[[], Detector] | None = FaceMesh,
) -> dict[str, Any]:
    """Measures and writes the report; `evaluate` without the loading.

    Args:
        clip: the real frames and their conditions.
        renderer: what is scored.
        out: folder for the report.
        header: what to say of where both come from.
        config: `pictures` and `lpips_weights` are read.
        detector: makes the landmark detector of one sequence, or None.

    Raises:
        FileProblem, MissingBackend, ValueError: as `evaluate`.
    """
    _check_writable(out)
    if config.pictures:
        require_matplotlib()
    lpips, lpips_reason = load_lpips(config.lpips_weights, clip.width, clip.height)
    detector, lips_reason = _usable(detector)
    known = np.flatnonzero(clip.valid)
    columns = min(COLUMNS, len(known))
    shown = known[((np.arange(columns) + 0.5) * len(known) / columns).astype(int)]
    with contextlib.ExitStack() as stack:
        onlooker = None
        if config.pictures:
            video = stack.enter_context(
                Comparison(
                    out / "comparison.mp4", clip.width, clip.height, clip.fps, (clip.samples, clip.rate)
                )
            )

            def onlooker(
                index: int, real: np.ndarray, rendered: np.ndarray, scored: bool, psnr: float
            ) -> None:
                video.write(real, rendered, f"{psnr:.2f} dB" if scored else "not scored")

        scores = measure(
            clip, renderer, detector=detector, lpips=lpips, keep=map(int, shown), onlooker=onlooker
        )
    figures = {**_figures(clip, scores, lpips_reason, lips_reason), **header}
    figures |= {"backend": renderer.backend, "device": renderer.device, "version": __version__}
    if config.pictures:
        title, subtitle = _headline(figures)
        contact_sheet(out / "contact_sheet.png", _samples(clip, scores), title, subtitle, clip.fps)
        curves(out / "curves.png", scores.curves(), title, subtitle, clip.start, clip.fps)
    per_frame = {name: _numbers(values) for name, values in scores.curves().items()}
    indices = [clip.start + index for index in range(len(clip))]
    write_json(
        out / "frames.json",
        {"fps": clip.fps, "frame": indices, "scored": [bool(value) for value in clip.valid], **per_frame},
    )
    write_json(out / "metrics.json", {**figures, "definitions": DEFINITIONS})
    return figures


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


def _usable(detector: Callable[[], Detector] | None) -> tuple[Callable[[], Detector] | None, str]:
    if detector is None:
        return None, "no landmark detector was given"
    try:
        detector().close()
    except MissingBackend as error:
        return None, str(error)
    return detector, ""


def _figures(clip: RealClip, scores: FrameScores, lpips_reason: str, lips_reason: str) -> dict[str, Any]:
    """The figures of DESIGN's list in its order, then what one needs to judge them."""
    figures: dict[str, Any] = {"frames": int(clip.valid.sum()), "size": [clip.width, clip.height]}

    def put(key: str, value: Any, reason: str) -> None:
        figures[key] = value
        if value is None:
            figures[f"{key}_reason"] = reason

    put("psnr", mean(scores.image["psnr"]), "")
    put("psnr_foreground", mean(scores.image["psnr_foreground"]), "no frame has a foreground label")
    put("psnr_mouth", mean(scores.image["psnr_mouth"]), "no frame has its lips inside the picture")
    put("psnr_neck", mean(scores.image["psnr_neck"]), "no frame's labels have head, neck and torso meet")
    put("ssim", mean(scores.image["ssim"]), "")
    put("lpips", mean(scores.image["lpips"]) if "lpips" in scores.image else None, lpips_reason)
    for ending, landmarks in (("", scores.rendered), ("_shuffled", scores.shuffled)):
        values: dict[str, Any] = {"reason": lips_reason}
        if landmarks is not None and scores.real is not None:
            values = lip_scores(landmarks, scores.real)
        for key in LIP_KEYS:
            put(key + ending, values.get(key), values["reason"])
    figures["seconds_per_frame"] = scores.seconds_per_frame
    figures |= {"first_frame": clip.start, "last_frame": clip.start + len(clip) - 1}
    figures["frames_invalid"] = int((~clip.valid).sum())
    for name in ("real", "rendered", "shuffled"):
        found = getattr(scores, name)
        missing = None if found is None else int((~np.isfinite(found[clip.valid]).all(axis=(1, 2))).sum())
        figures[f"frames_without_face_{name}"] = missing
    figures["shuffled_shift"] = scores.shift
    return figures


def _samples(clip: RealClip, scores: FrameScores) -> list[Sample]:
    samples = []
    for index, (real, rendered) in sorted(scores.kept.items()):
        mouth = mouth_box(clip.landmarks[index][list(LIPS)], clip.width, clip.height)
        psnr, psnr_mouth = (float(scores.image[name][index]) for name in ("psnr", "psnr_mouth"))
        samples.append(Sample(clip.start + index, real, rendered, psnr, psnr_mouth, mouth))
    return samples


def _headline(figures: dict[str, Any]) -> tuple[str, str]:
    def shown(key: str, form: str, unit: str = "") -> str:
        value = figures[key]
        return "–" if value is None else f"{value:{form}}{unit}"

    width, height = figures["size"]
    names = f"{figures.get('avatar', 'renderer')} on {figures.get('dataset', 'clip')}"
    title = f"{names}, {figures.get('split', '')}: {figures['frames']} frames at {width}×{height}"
    parts = [
        f"PSNR {shown('psnr', '.2f', ' dB')} (foreground {shown('psnr_foreground', '.2f')}, "
        f"mouth {shown('psnr_mouth', '.2f')})",
        f"SSIM {shown('ssim', '.3f')}",
        f"lips, true / wrong audio: centred distance {shown('lmd_centred', '.2f')} / "
        f"{shown('lmd_centred_shuffled', '.2f')} px, correlation {shown('lip_correlation', '.2f')} / "
        f"{shown('lip_correlation_shuffled', '.2f')}",
        f"{1000 * figures['seconds_per_frame']:.1f} ms a frame",
    ]
    return title, "    ".join(parts)


def _numbers(values: np.ndarray) -> list[float | None]:
    return [round(float(value), 6) if math.isfinite(value) else None for value in values]
