"""Scoring any video against the real one: rate, length, size and sound are made equal by stated rules.

- Rate: both are sampled on one clock of 25 frames a second (or another, on request); a frame is the
  one on screen at that time, whatever the file's own rate.
- Length: from time 0 of both (a lead of the real video can be skipped) to the end of the shorter one.
- Size: both are compared at the smaller of the two widths, scaled down by area; the aspect must be the
  same within 1 %.
- Sound: that of the rendered video, else of the real one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from nldf_engine.base.clock import FPS, SAMPLE_RATE
from nldf_engine.base.errors import FileProblem
from nldf_engine.base.files import sha256
from nldf_engine.evaluation.clip_evaluation import evaluate_clip
from nldf_engine.evaluation.config import EvaluateConfig
from nldf_engine.evaluation.landmark_detector import Detector, FaceMesh
from nldf_engine.evaluation.metrics.optional.openface import openface_errors
from nldf_engine.evaluation.real_clip import RealClip, phones_between
from nldf_engine.evaluation.renderers import PlayedVideo
from nldf_engine.media.video import VideoInfo, frames_at, probe

ASPECT = 0.01


@dataclass(frozen=True)
class VideoPair:
    """Two videos to compare.

    Args:
        rendered: the video that is scored.
        reference: the real one.
        fps: frames a second that both are compared at.
        skip: seconds of the reference that come before the rendered video's first frame.
        openface: OpenFace's csv of (rendered, reference), or None.

    Raises:
        ValueError: a rate that is not positive, or a lead below zero.
    """

    rendered: Path
    reference: Path
    fps: float = float(FPS)
    skip: float = 0.0
    openface: tuple[Path, Path] | None = None

    def __post_init__(self) -> None:
        if not self.fps > 0:
            raise ValueError(f"fps: expected a positive rate, got {self.fps}")
        if not self.skip >= 0:
            raise ValueError(f"skip: expected seconds of at least 0, got {self.skip}")


def _size(pair: VideoPair, rendered: VideoInfo, real: VideoInfo, width: int | None) -> tuple[int, int]:
    ours, theirs = rendered.width / rendered.height, real.width / real.height
    if abs(ours / theirs - 1) > ASPECT:
        raise FileProblem(
            pair.rendered,
            f"its frames are {rendered.width}x{rendered.height}, another aspect than the "
            f"{real.width}x{real.height} of {pair.reference}",
            "crop either video so that both show the same picture",
        )
    smaller = min((rendered, real), key=lambda info: info.width)
    if width is None or width == smaller.width:
        return smaller.width, smaller.height
    if width > smaller.width:
        raise FileProblem(
            pair.rendered if smaller is rendered else pair.reference,
            f"its frames are {smaller.width} pixels wide, too few to compare {width} with",
            f"compare at a size of at most {smaller.width} (--size {smaller.width})",
        )
    return width, max(1, round(width * smaller.height / smaller.width))


def _scaled(
    path: Path, size: tuple[int, int], fps: float, first: int, count: int
) -> Callable[[], Iterator[np.ndarray]]:
    def play() -> Iterator[np.ndarray]:
        import cv2

        for frame in islice(frames_at(path, fps), first, first + count):
            small = frame
            if frame.shape[1::-1] != size:
                small = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
            yield np.ascontiguousarray(small)

    return play


def _length(path: Path, fps: float) -> int:
    """Frames on the clock; counted by decoding, since headers only estimate."""
    return sum(1 for _ in frames_at(path, fps))


def _sound(pair: VideoPair, rendered: VideoInfo, real: VideoInfo, seconds: float) -> tuple[np.ndarray, str]:
    from nldf_engine.audio import load_audio

    for path, info, skip, name in (
        (pair.rendered, rendered, 0.0, "rendered"), (pair.reference, real, pair.skip, "reference"),
    ):  # fmt: skip
        if info.has_audio:
            first = round(skip * SAMPLE_RATE)
            return load_audio(path)[first : first + round(seconds * SAMPLE_RATE)], name
    return np.zeros(0, np.float32), "none"


def evaluate_videos(
    pair: VideoPair,
    out: str | Path,
    config: EvaluateConfig | None = None,
    detector: Callable[[], Detector] | None = FaceMesh,
) -> dict[str, Any]:
    """Scores one video against another and writes the report, as `evaluate` does for an avatar.

    Without label maps the head and the neck's band follow the face's landmarks, and there is no metric of
    the foreground; without a renderer there is no wrong audio, and `lip_chance` is the control.

    Args:
        pair: both videos.
        out: folder for the report.
        config: `frames`, `size`, `every`, `pictures`, `weights`, `phones`, `workers` and `fresh` are read.
        detector: as for `evaluate`.

    Raises:
        FileProblem: a video can't be read, their aspects differ, fewer than two frames are common, or the
            table of phones can't be used.
        MissingBackend: the pictures are wanted and a library that draws them is missing.
    """
    config = config or EvaluateConfig()
    rendered, real = probe(pair.rendered), probe(pair.reference)
    size = _size(pair, rendered, real, config.size)
    first = round(pair.skip * pair.fps)
    lengths = _length(pair.rendered, pair.fps), _length(pair.reference, pair.fps) - first
    count = min(lengths)
    if config.frames is not None:
        count = min(count, config.frames)
    if count < 2:
        raise FileProblem(
            pair.reference if lengths[1] < 2 else pair.rendered,
            f"{max(0, count)} frames are common to both videos, and an evaluation needs at least 2",
            "give videos of the same stretch, or skip less of the reference",
        )
    phones = None
    if config.phones is not None:
        phones = phones_between(config.phones, first / pair.fps, (first + count - 1) / pair.fps)
    samples, source = _sound(pair, rendered, real, count / pair.fps)
    none = np.zeros((count, 1, 1), np.float32)
    hashes = sha256(pair.rendered), sha256(pair.reference)
    clip = RealClip(
        _scaled(pair.reference, size, pair.fps, first, count), None, None, np.ones(count, bool), none,
        np.tile(np.eye(4, dtype=np.float32), (count, 1, 1)), np.ones(count, np.float32), samples, SAMPLE_RATE,
        pair.fps, first, size=size, identity=hashes[1], phones=phones,
    )  # fmt: skip
    header: dict[str, Any] = {
        "avatar": pair.rendered.name, "dataset": pair.reference.name, "rendered": pair.rendered.name,
        "reference": pair.reference.name, "rendered_hash": hashes[0], "reference_hash": hashes[1],
        "fps": pair.fps, "rendered_fps": rendered.fps, "reference_fps": real.fps,
        "rendered_size": [rendered.width, rendered.height], "reference_size": [real.width, real.height],
        "rendered_frames": lengths[0], "reference_frames": lengths[1], "skip": pair.skip, "sound": source,
    }  # fmt: skip
    if pair.openface is not None:
        header |= {"au_openface_units": openface_errors(*pair.openface)}
        header["au_openface"] = header["au_openface_units"].pop("au_openface")
    player = PlayedVideo(_scaled(pair.rendered, size, pair.fps, 0, count), hashes[0])
    return evaluate_clip(clip, player, Path(out), header, config, detector)
