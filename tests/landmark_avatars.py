"""A small avatar that is driven by landmarks, for tests of what edits, gives and reads them."""

from __future__ import annotations

import torch

from avatars import tiny_avatar
from nldf_engine.avatar import Avatar
from nldf_engine.geometry.face_mesh import MARKS
from nldf_engine.geometry.face_template import rest_landmarks
from nldf_engine.nn.autoregressive import DecoderSizes
from nldf_engine.nn.landmarks import LandmarkSpeechSizes
from nldf_engine.rendering.fields import Conditions, Driver
from nldf_engine.systems.gaussian_landmark.driver import LandmarkDriver

SIZES = LandmarkSpeechSizes("mlp", DecoderSizes(16, 2, 16, 5, 20))


def talking_track(frames: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    """Landmarks [T, 68, 3] of a face whose lower lip and lids move, and its eye openness [T]."""
    track = torch.from_numpy(rest_landmarks()[list(MARKS)]).float().repeat(frames, 1, 1)
    time = torch.arange(frames)
    track[:, [55, 56, 57, 58, 59, 65, 66, 67], 1] += 0.005 * (1 + torch.sin(time / 3))[:, None]
    eyes = 0.28 - 0.2 * (time % 20 == 7)
    track[:, [37, 38, 43, 44], 1] -= 0.03 * (eyes - 0.28)[:, None]
    return track, eyes


def talking_driver(audio_dim: int = 29, audio_window: int = 16) -> LandmarkDriver:
    """Fitted to `talking_track`; its untrained network moves the face by about a millimetre."""
    torch.manual_seed(0)
    driver = LandmarkDriver(audio_dim, audio_window, "conv", SIZES)
    driver.fit(*talking_track())
    torch.nn.init.normal_(driver.speech.out.weight, std=0.1)
    return driver.eval()


class MarkedCode(Driver):
    """A field's code that is a linear map of the landmarks."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.landmarks = talking_driver()
        self.map = torch.nn.Linear(self.landmarks.dim, dim, bias=False)
        torch.nn.init.normal_(self.map.weight, std=30.0)

    @property
    def reach(self) -> tuple[int, int]:
        return self.landmarks.reach

    def forward(self, conditions: Conditions, index: torch.Tensor) -> torch.Tensor:
        usual = self.landmarks.usual.flatten()
        return self.map(self.landmarks(conditions, index) - usual)


def landmark_avatar() -> Avatar:
    """`avatars.tiny_avatar`, driven by landmarks."""
    avatar = tiny_avatar()
    field = avatar.portrait.head.field
    field.encoder = MarkedCode(field.encoder.dim).eval()
    return avatar
