"""Landmarks of a frame: given, or made of what drives the face: speech moves outline and lips, the openness
of the eyes the lids, and the rest stays as it usually is.

Between the two stages of the system (gaussian landmark, figure 1) there is nothing but the landmarks: they
are looked at, edited and replaced alone, as the track "landmarks".
"""

from __future__ import annotations

import torch
from torch import Tensor

from nldf_engine.geometry.face_mesh import (
    MARKS,
    MARKS_EYES,
    MARKS_LOWER_INNER,
    MARKS_SPEECH,
    MARKS_UPPER_INNER,
)
from nldf_engine.nn.landmarks import LandmarkSpeech, LandmarkSpeechSizes, SpeechFollower
from nldf_engine.nn.speech import REACH
from nldf_engine.rendering.fields import Conditions, Driver, Follower

# A landmark that hardly moves, or whose depth is not seen, has a spread of so many metres: the tracker's
# noise.
SMALLEST_SPREAD = 2e-4
# The range of the training frames leaves out this share of them at either end: strays are no range.
OUTSIDE = 0.005
SPOKEN = "spoken"
"""The track [T, 37, 3] of the landmarks that follow speech, which `LandmarkDriver.follow` makes."""


class LandmarkDriver(Driver):
    """The 68 landmarks of each frame, [N, 68, 3] metres in head space, as a code [N, 204].

    They are the track "landmarks" [T, 68, 3] where the conditions hold one. Else outline and lips are the
    track "spoken" [T, 37, 3], or what the speech network makes of the clip's sound from its beginning; lids
    go with the eyes' openness; the others are usual.

    Args:
        audio_dim, audio_window: of the audio features.
        audio_net: the encoder of the sound, of `nn.speech.SPEECH_NETS`.
        sizes: of the speech network.

    Buffers, metres: `usual` [68, 3], the mean over the training frames; `spread` [68, 3], the standard
    deviation, at least `SMALLEST_SPREAD`; `low` and `high` [68, 3], between which nearly all of them are;
    `unit` [], the root of the mean square by which the 37 leave their mean; `lids` [12, 3], by how much the
    rims of the eyes move for one of openness, about `usual_eyes` [].
    """

    usual: Tensor
    spread: Tensor
    low: Tensor
    high: Tensor
    unit: Tensor
    lids: Tensor
    usual_eyes: Tensor
    dim = 3 * len(MARKS)

    def __init__(
        self,
        audio_dim: int,
        audio_window: int,
        audio_net: str = "conv",
        sizes: LandmarkSpeechSizes | None = None,
    ) -> None:
        super().__init__()
        shape = len(MARKS), 3
        self.register_buffer("usual", torch.zeros(shape))
        self.register_buffer("spread", torch.full(shape, SMALLEST_SPREAD))
        self.register_buffer("low", torch.zeros(shape))
        self.register_buffer("high", torch.zeros(shape))
        self.register_buffer("unit", torch.tensor(1e-3))
        self.register_buffer("lids", torch.zeros(len(MARKS_EYES), 3))
        self.register_buffer("usual_eyes", torch.tensor(0.0))
        self.speech = LandmarkSpeech(
            audio_dim, audio_window, audio_net, len(MARKS_SPEECH), sizes or LandmarkSpeechSizes()
        )
        # Trained by itself, ahead of the field (training.landmarks), and never by the field's losses.
        self.speech.requires_grad_(False)

    def train(self, mode: bool = True) -> LandmarkDriver:
        """As `nn.Module.train`, but dropout is that training's alone which the speech network has by
        itself."""
        super().train(mode)
        self.speech.eval()
        return self

    @property
    def reach(self) -> tuple[int, int]:
        """See `Driver`. What came before is the follower's."""
        return REACH, REACH

    @torch.no_grad()
    def fit(self, track: Tensor, eyes: Tensor) -> None:
        """Fits all buffers to the training frames.

        Args:
            track: [N, 68, 3] metres, of the frames that are trained on.
            eyes: [N] their eye openness.
        """
        track, eyes = track.to(self.usual), eyes.to(self.usual)
        self.usual.copy_(track.mean(0))
        self.spread.copy_(track.std(0).clamp_min(SMALLEST_SPREAD))
        self.low.copy_(track.quantile(OUTSIDE, 0))
        self.high.copy_(track.quantile(1 - OUTSIDE, 0))
        moved = track - self.usual
        self.unit.copy_(moved[:, list(MARKS_SPEECH)].square().mean().sqrt().clamp_min(SMALLEST_SPREAD))
        self.usual_eyes.copy_(eyes.mean())
        about = eyes - self.usual_eyes
        power = about.square().sum().clamp_min(1e-6)
        self.lids.copy_(torch.einsum("n,nli->li", about, moved[:, list(MARKS_EYES)]) / power)

    def displacements(self, track: Tensor) -> Tensor:
        """[..., 37, 3] what the speech network makes, of landmarks [..., 68, 3]: less the usual, in units."""
        return (track - self.usual)[..., list(MARKS_SPEECH), :] / self.unit

    def spoken(self, displacements: Tensor) -> Tensor:
        """[..., 37, 3] metres, of the speech network's displacements [..., 37, 3]."""
        return self.usual[list(MARKS_SPEECH)] + self.unit * displacements

    def follow(self) -> Follower:
        """See `Driver`: makes the track "spoken" of a sound while it arrives."""
        return _SpokenFollower(self)

    def landmarks(self, conditions: Conditions, index: Tensor) -> Tensor:
        """[N, 68, 3] float32 metres in head space, of the frames `index` [N] of a clip."""
        given = conditions.get("landmarks")
        if given is not None:
            return given[index]
        made = self.usual.repeat(len(index), 1, 1)
        about = conditions.eyes[index] - self.usual_eyes
        made[:, list(MARKS_EYES)] += about[:, None, None] * self.lids
        spoken = conditions.get(SPOKEN)
        if spoken is None and len(index):
            heard = conditions.audio[: int(index.max()) + 1 + REACH]
            spoken = self.spoken(self.speech.decode(heard))
        if spoken is not None:
            made[:, list(MARKS_SPEECH)] = spoken[index]
        return made

    def forward(self, conditions: Conditions, index: Tensor) -> Tensor:
        """See `Driver`: [N, 204], the landmarks x, y, z one after the other, metres."""
        return self.landmarks(conditions, index).flatten(1)


class _SpokenFollower:
    """See `LandmarkDriver.follow`."""

    def __init__(self, driver: LandmarkDriver) -> None:
        self._driver, self._speech = driver, SpeechFollower(driver.speech)

    def push(self, windows: Tensor, last: bool) -> dict[str, Tensor]:
        """See `Follower`."""
        return {SPOKEN: self._driver.spoken(self._speech.push(windows, last))}


def lip_opening(landmarks: Tensor) -> Tensor:
    """[...] metres between the middles of the inner lips, of landmarks [..., 68, 3]; below 0 where they
    cross."""
    return landmarks[..., MARKS_LOWER_INNER, 1] - landmarks[..., MARKS_UPPER_INNER, 1]
