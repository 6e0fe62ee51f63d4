"""From speech to landmarks, frame by frame (gaussian landmark 4.B): two encoders and a decoder in a loop.

f_a = E_aud(sound), f_l[i] = E_lm(landmarks[i]), landmarks[i + 1] = D(f_l[1..i], f_a[1..i + 1]): what the
network made is what it goes on from. Landmarks are displacements from the speaker's mean, all in one unit,
and the last layer begins at zero: so an untrained network rests at the mean (the two remedies of 4.B against
faces that stand still).

Shapes: N stretches, T frames, W rows of a window, D features a row, P landmarks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nldf_engine.nn.autoregressive import Decoder, DecoderSizes
from nldf_engine.nn.speech import REACH, SPEECH_NETS

ENCODERS = ("transformer", "mlp")


@dataclass(frozen=True)
class LandmarkSpeechSizes:
    """Sizes of a `LandmarkSpeech`; the defaults are the paper's.

    Args:
        landmarks: which encoder takes the landmarks: "transformer" (convolution and Transformer encoder with
            a class token) or "mlp", of the paper's table II.
        decoder: of the decoder, and of all widths.

    Raises:
        ValueError: an unknown encoder.
    """

    landmarks: str = "transformer"
    decoder: DecoderSizes = field(default_factory=DecoderSizes)

    def __post_init__(self) -> None:
        if self.landmarks not in ENCODERS:
            raise ValueError(f"landmarks: expected one of {', '.join(ENCODERS)}, got {self.landmarks!r}")


class ClassTokenEncoder(nn.Module):
    """E_lm: two strided convolutions along the landmarks, then a Transformer encoder layer over what they
    leave and a class token, whose output is the frame's feature.

    Args:
        points: P.
        sizes: of the decoder that takes the features.
    """

    def __init__(self, points: int, sizes: DecoderSizes) -> None:
        super().__init__()
        width = sizes.width
        self.convolutions = nn.Sequential(
            nn.Conv1d(3, width, 3, stride=2, padding=1), nn.GELU(), nn.Conv1d(width, width, 3, 2, 1)
        )
        tokens = ((points + 1) // 2 + 1) // 2
        self.first = nn.Parameter(0.02 * torch.randn(width))
        self.places = nn.Parameter(0.02 * torch.randn(tokens + 1, width))
        self.layer = nn.TransformerEncoderLayer(
            width, sizes.heads, sizes.hidden, sizes.dropout, batch_first=True
        )

    def forward(self, points: Tensor) -> Tensor:
        """[B, C] of points [B, P, 3]."""
        tokens = self.convolutions(points.transpose(1, 2)).transpose(1, 2)
        tokens = torch.cat([self.first.expand(len(tokens), 1, -1), tokens], 1) + self.places
        return cast(Tensor, self.layer(tokens)[:, 0])


def mlp_encoder(points: int, sizes: DecoderSizes) -> nn.Sequential:
    """E_lm of the paper's ablation: [B, C] of points [B, P, 3] by Linear, ReLU, Linear."""
    width = sizes.width
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * points, width), nn.ReLU(), nn.Linear(width, width))


class LandmarkSpeech(nn.Module):
    """From windows of audio features to displacements of P landmarks.

    Args:
        audio_dim, audio_window: D and W.
        audio_net: E_aud, of `nn.speech.SPEECH_NETS`, over the front-end's features.
        points: P.
        sizes: of the rest.

    Buffers: `spread` [3 P, 3 P] and `spread_bias` [3 P], a linear map of what comes out of the loop; none at
    first. It is applied behind the loop, which goes on from what it made itself: so a map that is fitted to a
    trained network changes what is shown, and nothing that was learned.

    Raises:
        ValueError: an unknown network, or a size below one.
    """

    spread: Tensor
    spread_bias: Tensor

    def __init__(
        self, audio_dim: int, audio_window: int, audio_net: str, points: int, sizes: LandmarkSpeechSizes
    ) -> None:
        super().__init__()
        if audio_net not in SPEECH_NETS:
            raise ValueError(f"audio_net: expected one of {', '.join(SPEECH_NETS)}, got {audio_net!r}")
        self.points, self.sizes, width = points, sizes, sizes.decoder.width
        self.sound = SPEECH_NETS[audio_net](audio_dim, audio_window, width)
        made = ClassTokenEncoder if sizes.landmarks == "transformer" else mlp_encoder
        self.landmarks = made(points, sizes.decoder)
        self.decoder = Decoder(sizes.decoder)
        self.out = nn.Linear(width, 3 * points)
        self.register_buffer("spread", torch.eye(3 * points))
        self.register_buffer("spread_bias", torch.zeros(3 * points))
        self.reset()

    def reset(self) -> None:
        """New random weights; the last layer's are zero, and nothing is spread."""
        for part in self.modules():
            again = getattr(part, "reset_parameters", None) or getattr(part, "_reset_parameters", None)
            if again is not None:
                again()
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        nn.init.eye_(self.spread)
        nn.init.zeros_(self.spread_bias)

    def forward(self, windows: Tensor, before: Tensor) -> Tensor:
        """[N, T, P, 3] displacements, each after the one before it, before they are spread.

        Args:
            windows: [N, T + 2 REACH, W, D] of the frames and their neighbours (see `nn.speech.ClipNet`).
            before: [N, T, P, 3] displacements of the frame before each: true ones, or its own.
        """
        return self.after(self.sound(windows), before)

    def after(self, sound: Tensor, before: Tensor) -> Tensor:
        """As `forward`, of the sound's features [N, T, C]."""
        count, frames = before.shape[:2]
        inputs = self.landmarks(before.flatten(0, 1)).view(count, frames, -1)
        made: Tensor = self.out(self.decoder(inputs, sound))
        return made.view(count, frames, self.points, 3)

    @torch.no_grad()
    def speak(self, sound: Tensor) -> Tensor:
        """[N, T, P, 3] that the network makes of the sound's features [N, T, C], from rest, going on from its
        own; spread."""
        loop = SpeechLoop(self, len(sound))
        return torch.stack([loop.step(sound[:, number]) for number in range(sound.shape[1])], 1)

    @torch.no_grad()
    def decode(self, features: Tensor) -> Tensor:
        """[T, P, 3] of a whole clip's features [T, W, D], with silence before and behind it."""
        return self.speak(self.sound.encode_clip(features)[None])[0]


class SpeechLoop:
    """The running loop of N sequences: from sound to displacements, from rest.

    Args:
        net: in evaluation mode, where nothing is to be dropped.
        sequences: N.
    """

    def __init__(self, net: LandmarkSpeech, sequences: int = 1) -> None:
        self._net, self._past = net, net.decoder.begin(sequences)
        self._last = net.out.weight.new_zeros(sequences, net.points, 3)

    def step(self, sound: Tensor) -> Tensor:
        """[N, P, 3] of the next frame, of its sound [N, C]."""
        net = self._net
        made = net.out(net.decoder.step(self._past, net.landmarks(self._last), sound))
        self._last = made.view(self._last.shape)
        return F.linear(made, net.spread, net.spread_bias).view(self._last.shape)


class SpeechFollower:
    """Displacements of one sequence while its windows arrive; the same as `LandmarkSpeech.decode` of all of
    them.

    A frame is ready when the windows of the `REACH` frames after it are there. Time a frame is constant and
    memory bounded, however long it runs.

    Args:
        net: in evaluation mode.
    """

    def __init__(self, net: LandmarkSpeech) -> None:
        self._net, self._loop = net, SpeechLoop(net)
        self._near: Tensor | None = None  # [<= 2 REACH, W, D] windows that the next frames need once more

    @torch.no_grad()
    def push(self, windows: Tensor, last: bool = False) -> Tensor:
        """[n, P, 3] of the frames that became ready with the next windows [m, W, D]; `last` ends the
        sequence."""
        net = self._net
        silence = windows.new_zeros(REACH, *windows.shape[1:])
        near = torch.cat(
            [silence if self._near is None else self._near, windows, *([silence] if last else [])]
        )
        self._near = near[max(0, len(near) - 2 * REACH) :].clone()
        ready = len(near) - 2 * REACH
        if ready < 1:
            return windows.new_zeros(0, net.points, 3)
        sound = net.sound.encode_clip(near)[REACH:-REACH]
        return torch.stack([self._loop.step(sound[number : number + 1])[0] for number in range(ready)])
