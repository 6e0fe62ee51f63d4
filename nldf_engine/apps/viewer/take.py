"""What an avatar says in the viewer: a sound with its features, and the video that it is compared with."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nldf_engine.apps.viewer.frames import FramesByNumber, frames_of
from nldf_engine.audio import read_sound, speech_of
from nldf_engine.base.clock import FPS, SAMPLE_RATE
from nldf_engine.base.errors import FileProblem
from nldf_engine.datasets.dataset import Dataset
from nldf_engine.engine import Engine
from nldf_engine.engine.scenes import Given
from nldf_engine.evaluation.real_clip import check_same_view

SILENT_SECONDS = 10.0
LONGEST_SECONDS = 600.0


@dataclass(frozen=True, eq=False)
class Take:
    """A sound, ready to be spoken.

    Args:
        name: for a person.
        features: [T, W, D] float32 of the avatar's front-end.
        sound: (samples [N, channels], rate); None for silence.
        poses: [T, 4, 4] of the video that it belongs to; None without one.
        given: tracks of that video.
        real: its frames.
    """

    name: str
    features: np.ndarray
    sound: tuple[np.ndarray, int] | None = None
    poses: Tensor | None = None
    given: Given = field(default_factory=Given)
    real: FramesByNumber | None = None

    def __len__(self) -> int:
        return len(self.features)

    @property
    def seconds(self) -> float:
        """How long it is."""
        return len(self) / FPS


def silent_take(engine: Engine) -> Take:
    """Silence of SILENT_SECONDS: zeros, as beyond the ends of any sound."""
    return Take("silence", engine.renderer.silence(round(SILENT_SECONDS * FPS)))


def sound_take(engine: Engine, audio: str | Path | tuple[np.ndarray, int], name: str) -> Take:
    """A sound file, or (samples, rate).

    Raises:
        FileProblem: the file can't be read.
        ValueError: it is longer than LONGEST_SECONDS.
    """
    samples, rate = read_sound(audio)
    if len(samples) > LONGEST_SECONDS * rate:
        raise ValueError(
            f"{name}: it lasts {len(samples) / rate:.0f} s, and the viewer plays up to {LONGEST_SECONDS:.0f} "
            "s; cut it, or render it: nldf render"
        )
    features, sound = engine.features((samples, rate))
    return Take(name, features, sound, given=Given(sound=sound))


def dataset_take(engine: Engine, dataset: Dataset) -> Take:
    """A dataset's sound, poses and tracked face, with its frames to compare with.

    The torso and the codes of brows and gaze are those of the dataset where the avatar was trained on it.

    Raises:
        FileProblem: its camera is another than the avatar's, or something in it can't be used.
    """
    try:
        check_same_view(dataset.path, dataset.camera, engine.avatar.camera)
    except FileProblem as problem:
        remedy = "give the dataset that the avatar was trained on"
        raise FileProblem(problem.path, problem.problem, remedy) from problem
    features = dataset.audio_features(engine.avatar.frontend)
    torso = upper = None
    if engine.avatar.provenance.get("dataset") == dataset.hash():
        moved = dataset.torso_motion()
        torso = None if moved is None else torch.from_numpy(moved)
        if engine.upper_codes:
            tracked = dataset.landmarks, dataset.poses, dataset.eye_openness
            upper = torch.from_numpy(engine.upper(*tracked, dataset.camera))
    sound = dataset.audio()[:, None], SAMPLE_RATE
    eyes = torch.from_numpy(np.asarray(dataset.eye_openness, np.float32))
    poses = torch.from_numpy(np.asarray(dataset.poses, np.float32))
    given = Given(eyes=eyes, torso=torso, upper=upper, sound=sound)
    return Take(dataset.path.name, features, sound, poses, given, frames_of(dataset))


def loudness(take: Take) -> np.ndarray:
    """[T] float64: the root mean square of the sound in each frame; zeros for silence."""
    if take.sound is None:
        return np.zeros(len(take))
    mono, step = speech_of(*take.sound), round(SAMPLE_RATE / FPS)
    whole = np.zeros(len(take) * step)
    whole[: min(len(whole), len(mono))] = mono[: len(whole)]
    return np.asarray(np.sqrt(np.square(whole.reshape(len(take), step)).mean(1)))
