"""The codes of a frame: identity, expression, lips, albedo, illumination (headnerf 3.2).

Identity and albedo are one learned vector a speaker. Expression and illumination change from frame to frame;
here they are linear in numbers that are tracked in a video and known, or predicted from speech, when an
avatar renders: the motion of mouth, brows, lids and gaze, and the light's brightness and slopes. What a
training frame shows beyond them is learned beside (`objective.offsets`) and in no avatar. The lips' code is
the audio feature of the lip sync module (headnerf 3.4).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nldf_engine.audio.windows import STRIDE
from nldf_engine.nn.sync import SyncJudge
from nldf_engine.rendering.fields import Conditions, Driver
from nldf_engine.systems.common.conditions import ConditionConfig, FrameEncoder
from nldf_engine.systems.common.drivers import IdentityDriver

LIGHT_NUMBERS = 3
"""Of a frame's light: brightness, slope to the picture's right, slope downwards; natural logarithms, the
slopes over 0.1 m of the face."""
SHORTEST_LIPS = 4


@dataclass(frozen=True)
class CodeSizes:
    """How many numbers each code has. The defaults are HeadNeRF's (Hong et al. 2022), and 64 for the lips.

    Args:
        identity: of a speaker's shape.
        expression: of what the face does.
        albedo: of a speaker's colours.
        illumination: of the light.
        lip: of the lip sync module's audio feature; 0 for none.

    Raises:
        ValueError: another size than the lips' below one, or the lips' below zero.
    """

    identity: int = 100
    expression: int = 79
    albedo: int = 100
    illumination: int = 27
    lip: int = 64

    def __post_init__(self) -> None:
        if min(self.identity, self.expression, self.albedo, self.illumination) < 1 or self.lip < 0:
            raise ValueError(f"CodeSizes: expected sizes of at least 1, and lip of at least 0, got {self}")

    @property
    def dim(self) -> int:
        """Size of the whole code."""
        return self.expression + self.lip + self.identity + self.albedo + self.illumination

    def places(self) -> dict[str, slice]:
        """Where each code is in the whole one.

        Example:
            >>> CodeSizes(2, 3, 4, 5, 0).places()["albedo"]
            slice(5, 9, None)
        """
        found, start = {}, 0
        for name in ("expression", "lip", "identity", "albedo", "illumination"):
            found[name] = slice(start, start + getattr(self, name))
            start += getattr(self, name)
        return found


class LightDriver(Driver):
    """The illumination code: linear in the light's numbers.

    They are the slopes of the speaker's usual light, counted from the mean over the speakers of a run, and
    the track "light" [T, 3], counted from the usual. So a speaker's colours are the same under anybody's
    light. How bright a speaker usually is stays with the albedo: one video can't tell a dark skin from little
    light.

    Args:
        code: size of the code.
    """

    def __init__(self, code: int) -> None:
        super().__init__()
        self.dim = code
        self.linear = nn.Linear(LIGHT_NUMBERS, code, bias=False)
        self.usual = UsualLight()

    def forward(self, conditions: Conditions, index: Tensor) -> Tensor:
        """See `Driver`."""
        light = conditions.get("light")
        numbers = self.usual.numbers.expand(len(index), -1)
        made: Tensor = self.linear(numbers if light is None else numbers + light[index])
        return made


class UsualLight(nn.Module):
    """The light that a speaker is usually under; each speaker of a run has an own.

    Buffer: `numbers` [3], counted from the mean over the speakers; its brightness is 0.
    """

    numbers: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("numbers", torch.zeros(LIGHT_NUMBERS))


def check_window(rows: int) -> None:
    """Checks that an audio window of so many rows is long enough for lips to move in.

    Raises:
        ValueError: it isn't.
    """
    if rows < STRIDE * SHORTEST_LIPS:
        raise ValueError(
            f"audio_window: the lip sync module expects at least {STRIDE * SHORTEST_LIPS} rows a frame, "
            f"got {rows}; train without it (--set sync_weight=0) or with another front-end"
        )


class LipDriver(Driver):
    """The lips' code F_lip: the audio feature of a lip sync module for the frame's own audio window.

    A window of W rows is W / 2 frames of two rows, which is what the module compares lips with, so a frame
    needs no more audio than its own window.

    Args:
        audio_dim: D, features a row.
        audio_window: W, rows.
        code: size of the code.

    Raises:
        ValueError: windows too short for lips to move in.
    """

    def __init__(self, audio_dim: int, audio_window: int, code: int) -> None:
        super().__init__()
        check_window(audio_window)
        self.dim = code
        self.module = SyncJudge(audio_window // STRIDE, audio_dim, dim_out=code)

    def train(self, mode: bool = True) -> LipDriver:
        """As `nn.Module.train`, but dropout is the stage's alone that trains the module by itself."""
        super().train(mode)
        self.module.eval()
        return self

    def windows(self, audio: Tensor) -> Tensor:
        """[N, T, 2, D] for the module, of audio windows [N, W, D]."""
        frames = self.module.frames
        return audio[:, -STRIDE * frames :].reshape(len(audio), frames, STRIDE, audio.shape[2])

    def forward(self, conditions: Conditions, index: Tensor) -> Tensor:
        """See `Driver`; each code has the length sqrt(dim), its direction is what eq. (9) compares."""
        feature = self.module.audio(self.windows(conditions.audio[index]))
        return F.normalize(feature, dim=1) * self.dim**0.5


class ExpressionMap(nn.Module):
    """The expression code: linear in what drives the face. Each speaker of a run has its own, into one code.

    It is counted from the speaker's usual face, whose code is zero: so what tells the faces of two speakers
    at rest apart has no other place than the identity.

    Args:
        face: size of what drives the face.
        code: size of the code.

    Buffers: `usual` [face], the mean of what drives the face over the training frames.
    """

    usual: Tensor

    def __init__(self, face: int, code: int) -> None:
        super().__init__()
        self.register_buffer("usual", torch.zeros(face))
        self.linear = nn.Linear(face, code, bias=False)

    def forward(self, face: Tensor, strength: Tensor | None = None) -> Tensor:
        """[N, code] of what drives the face [N, face], which leaves the usual by `strength` [N]."""
        made: Tensor = self.linear(face - self.usual)
        return made if strength is None else strength[:, None] * made


class FaceDriver(Driver):
    """All codes of a frame, in the order of `CodeSizes.places`.

    Beside the tracks of `Conditions` it knows "identity" and "albedo" [T] int64, the number of the speaker
    whose shape and colours are shown; "light" [T, 3] (see `LightDriver`); and "strength" [T] float32, by
    which the expression leaves the usual one.

    Args:
        conditions: what drives the expression: motion codes or audio, upper face, eyes.
        sizes: of the codes.
    """

    def __init__(self, conditions: ConditionConfig, sizes: CodeSizes) -> None:
        super().__init__()
        self.sizes, self.dim = sizes, sizes.dim
        self.face = FrameEncoder(dataclasses.replace(conditions, identity=0))
        self.expression = ExpressionMap(self.face.dim, sizes.expression)
        speakers = max(1, conditions.speakers)
        self.identity = IdentityDriver(speakers, sizes.identity)
        self.albedo = IdentityDriver(speakers, sizes.albedo, "albedo")
        self.illumination = LightDriver(sizes.illumination)
        self.lip: LipDriver | None = None
        if sizes.lip:
            self.lip = LipDriver(conditions.audio_dim, conditions.audio_window, sizes.lip)

    @property
    def reach(self) -> tuple[int, int]:
        """See `Driver`."""
        return self.face.reach

    def part(self, name: str) -> Any:
        """See `Driver`; motion and upper face are parts of what drives the expression."""
        if name == "usual light":
            return self.illumination.usual
        own = super().part(name)
        return self.face.part(name) if own is None else own

    def forward(self, conditions: Conditions, index: Tensor) -> Tensor:
        """[N, dim] for the frames `index` [N] of the clip.

        Raises:
            ValueError: the audio features have another shape than the network was built for.
        """
        strength = conditions.get("strength")
        expression = self.expression(
            self.face(conditions, index), None if strength is None else strength[index]
        )
        parts = [expression]
        if self.lip is not None:
            parts.append(self.lip(conditions, index))
        parts += [self.identity(conditions, index)]
        parts += [self.albedo(conditions, index), self.illumination(conditions, index)]
        return torch.cat(parts, 1)
