"""Whole clips of the speaker: their ground truth, rendered frames, a dataset folder or a plain video."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from nldf_engine.base.progress import Bar
from nldf_engine.datasets.dataset import Dataset, near_far, write_dataset
from nldf_engine.datasets.format import DatasetInfo, check_target
from nldf_engine.geometry.cameras import Camera
from nldf_engine.geometry.face_template import rest_landmarks
from nldf_engine.media.video import VideoWriter
from nldf_engine.media.video_writer import CRF
from nldf_engine.synthetic.config import SyntheticConfig
from nldf_engine.synthetic.motion import Motion, speaker_motion
from nldf_engine.synthetic.proportions import Proportions
from nldf_engine.synthetic.speaker import Controls, Speaker
from nldf_engine.synthetic.voice import Speech, synthesise_speech

CHUNK = 8  # frames a task of a worker process
SHEET = 6  # pictures across the report's contact sheet
Frames = Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class GroundTruth:
    """What is exactly known of a synthetic clip of T frames.

    Args:
        speech: sound and phonemes.
        visemes: float32 [T, 4]: jaw_open, lip_width, lip_round, lip_close.
        motion: poses, torso, eyes, brows, breath.
        camera: at the clip's size.
        landmarks: float32 [T, 478, 2] in pixels; points: float32 [T, 478, 3] the same in head space.
        rest_points: float64 [478, 3] of the face at rest.
        background: uint8 [H, W, 3].
        torso_affine: float32 [T, 2, 3], pixels of the reference frame to pixels of each frame.
        torso_reference: the reference frame.
    """

    speech: Speech
    visemes: np.ndarray
    motion: Motion
    camera: Camera
    landmarks: np.ndarray
    points: np.ndarray
    rest_points: np.ndarray
    background: np.ndarray
    torso_affine: np.ndarray
    torso_reference: int


def plan(config: SyntheticConfig) -> tuple[Speech, np.ndarray, Motion]:
    """Speech, visemes [T, 4] and motion of a clip, without rendering it."""
    speech = synthesise_speech(config.text, config.frames / config.fps, config.seed)
    visemes = speech.visemes(config.fps, config.frames)
    return speech, visemes, speaker_motion(speech, config.frames, config.fps, config.seed)


def controls_at(visemes: np.ndarray, motion: Motion, frame: int) -> Controls:
    """The face of one frame."""
    jaw, width, rounded, close = (float(v) for v in visemes[frame])
    eyes, brows, breath = (float(v[frame]) for v in (motion.eyes, motion.brows, motion.breath))
    return Controls(jaw, width, rounded, close, eyes, brows, breath)


_workers: dict[tuple[int, int, Proportions], Speaker] = {}


def _render(
    look: tuple[int, int, Proportions], tasks: list[tuple[Controls, np.ndarray, np.ndarray]]
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Renders some frames; runs in this process or another."""
    if look not in _workers:
        _workers[look] = Speaker(*look)
    speaker, made = _workers[look], []
    for controls, pose, torso in tasks:
        picture = speaker.render(controls, pose, torso)
        made.append((picture.image, picture.labels, picture.landmarks, picture.points))
    return made


def render_frames(config: SyntheticConfig, visemes: np.ndarray, motion: Motion) -> Frames:
    """Yields (image uint8 [H, W, 3], labels uint8 [H, W], landmarks [478, 2], points [478, 3]) in order.

    The frames do not depend on how many processes render them.
    """
    look = config.size, config.palette, config.proportions
    tasks = [
        (controls_at(visemes, motion, k), motion.poses[k], motion.torso[k]) for k in range(config.frames)
    ]
    chunks = [tasks[k : k + CHUNK] for k in range(0, len(tasks), CHUNK)]
    if config.workers == 1 or len(chunks) == 1:
        for task in tasks:
            yield from _render(look, [task])
        return
    workers = min(config.workers, len(chunks))
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        waiting: list[Future[Any]] = []
        try:
            for chunk in chunks:
                waiting.append(pool.submit(_render, look, chunk))
                if len(waiting) > 2 * workers:  # so that memory does not grow with the clip
                    yield from waiting.pop(0).result()
            for future in waiting:
                yield from future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def torso_affine(motion: Motion, config: SyntheticConfig) -> tuple[np.ndarray, int, float]:
    """The torso's motion in the picture, fitted to its own points by least squares.

    Returns:
        affine: float32 [T, 2, 3], pixels (x, y, 1) of the reference frame to pixels of frame t.
        reference: the frame nearest to rest.
        residual: root mean square of what an affine map can't follow, pixels.
    """
    speaker = Speaker(config.size, config.palette, config.proportions)
    points = speaker.torso_points()
    rest = motion.torso.mean(0)
    reference = int(np.abs(motion.torso - rest).sum((1, 2)).argmin())
    seen = [
        speaker.project_torso(points, motion.torso[k], float(motion.breath[k])) for k in range(config.frames)
    ]
    base = np.concatenate([seen[reference], np.ones((len(points), 1))], 1)
    solve = np.linalg.pinv(base)
    affine = np.stack([(solve @ view).T for view in seen])
    off = np.stack([base @ a.T - view for a, view in zip(affine, seen, strict=True)])
    return affine.astype(np.float32), reference, float(np.sqrt(np.square(off).sum(-1).mean()))


def _truth(
    config: SyntheticConfig,
    speech: Speech,
    visemes: np.ndarray,
    motion: Motion,
    marks: list[tuple[np.ndarray, np.ndarray]],
) -> GroundTruth:
    speaker = Speaker(config.size, config.palette, config.proportions)
    affine, reference, _ = torso_affine(motion, config)
    return GroundTruth(
        speech=speech,
        visemes=visemes,
        motion=motion,
        camera=speaker.camera,
        landmarks=np.stack([m[0] for m in marks]),
        points=np.stack([m[1] for m in marks]),
        rest_points=config.proportions.apply(rest_landmarks()),
        background=speaker.background,
        torso_affine=affine,
        torso_reference=reference,
    )


def make_synthetic_video(out: str | Path, config: SyntheticConfig | None = None) -> GroundTruth:
    """Writes an mp4 of the speaker with sound, as a person would film one, and returns what is known of it.

    Raises:
        FileProblem: the file can't be written.
        ValueError: the text holds nothing to say.
    """
    config = config or SyntheticConfig()
    speech, visemes, motion = plan(config)
    marks: list[tuple[np.ndarray, np.ndarray]] = []
    sound = (speech.samples, speech.rate)
    with (
        VideoWriter(out, config.size, config.size, config.fps, audio=sound, crf=CRF) as writer,
        Bar("rendering the speaker", config.frames, "frame") as bar,
    ):
        for image, _, landmarks, points in render_frames(config, visemes, motion):
            writer.write(image)
            marks.append((landmarks, points))
            bar.step()
    return _truth(config, speech, visemes, motion, marks)


class _Sheet:
    """The report's contact sheet, filled as frames come.

    Attributes:
        picture: uint8 [2 size, SHEET size, 3].
    """

    def __init__(self, config: SyntheticConfig) -> None:
        self.size = config.size
        self.shown = np.linspace(0, config.frames - 1, 2 * SHEET).round().astype(int)
        self.picture = np.zeros((2 * config.size, SHEET * config.size, 3), np.uint8)

    def see(self, number: int, image: np.ndarray) -> None:
        """Takes frame `number`, uint8 [size, size, 3], where the sheet shows it."""
        for place in np.flatnonzero(self.shown == number):
            y, x = (self.size * k for k in divmod(int(place), SHEET))
            self.picture[y : y + self.size, x : x + self.size] = image


def _track(
    config: SyntheticConfig, motion: Motion, visemes: np.ndarray, landmarks: np.ndarray
) -> dict[str, np.ndarray]:
    """The tensors of a dataset's track, the torso's motion apart."""
    return {
        "poses": motion.poses,
        "landmarks": landmarks,
        "eye_openness": motion.eyes,
        "valid": np.ones(len(landmarks), bool),
        "visemes": visemes,
        "rest_points": config.proportions.apply(rest_landmarks()).astype(np.float32),
        "brows": motion.brows,
        "torso_poses": motion.torso.astype(np.float32),
    }


def _info(config: SyntheticConfig, speech: Speech, motion: Motion, camera: Camera) -> DatasetInfo:
    """What dataset.json says of a clip."""
    import nldf_engine

    near, far = near_far(motion.poses)
    return DatasetInfo(
        frames=config.frames,
        size=(config.size, config.size),
        camera=camera,
        near=near,
        far=far,
        fps=config.fps,
        source={"kind": "synthetic"},
        audio={"seconds": speech.seconds, "rate": speech.rate, "frontend": config.audio_frontend},
        provenance={"tool": "nldf synthetic", "version": nldf_engine.__version__, "config": config.to_json()},
    )


def make_synthetic_dataset(out: str | Path, config: SyntheticConfig | None = None) -> Dataset:
    """Writes a dataset folder of the speaker with exact poses, landmarks and label maps.

    Besides what every dataset has, its track holds "torso" [T, 2, 3] and "torso_reference" [1],
    "visemes" [T, 4], "rest_points" [478, 3] (landmarks of the face at rest, head space), "brows" [T] and
    "torso_poses" [T, 4, 4].

    Raises:
        FileProblem: the folder can't be written.
        ValueError: the text holds nothing to say.
    """
    config = config or SyntheticConfig()
    check_target(Path(out))  # before the work, not after it
    begun = time.monotonic()
    speech, visemes, motion = plan(config)
    affine, reference, residual = torso_affine(motion, config)
    speaker = Speaker(config.size, config.palette, config.proportions)
    # The writer wants the landmarks before the frames; they cost little without a picture.
    landmarks = np.stack(
        [speaker.landmarks(controls_at(visemes, motion, k), motion.poses[k])[0] for k in range(config.frames)]
    )
    info = _info(config, speech, motion, speaker.camera)
    labels: list[np.ndarray] = []
    sheet = _Sheet(config)

    def pictures() -> Iterator[np.ndarray]:
        with Bar("rendering the speaker", config.frames, "frame") as bar:
            for k, (image, label, _, _) in enumerate(render_frames(config, visemes, motion)):
                labels.append(label)
                sheet.see(k, image)
                yield image
                bar.step()

    def maps() -> Iterator[np.ndarray]:
        for _ in range(config.frames):
            yield labels.pop(0)

    track = {
        **_track(config, motion, visemes, landmarks),
        "torso": affine,
        "torso_reference": np.array([reference], np.int64),
    }
    report = {
        "synthetic": True,
        "frames": config.frames,
        "blinks": len(motion.blinks),
        "phonemes": len(speech.phonemes),
        "torso_residual_pixels": residual,
        "plan_seconds": round(time.monotonic() - begun, 2),
    }
    return write_dataset(
        out,
        info,
        video=pictures(),
        labels=maps(),
        background=speaker.background,
        audio=speech.samples,
        track=track,
        report=report,
        report_image=sheet.picture,
    )
