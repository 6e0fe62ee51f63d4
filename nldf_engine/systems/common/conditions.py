"""The per-frame code: which drivers make it, and their sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from nldf_engine.nn.pose import PoseEncoder, pose_dim
from nldf_engine.rendering.fields import Conditions, Driver, check_windows
from nldf_engine.systems.common.drivers import AudioDriver, EyesDriver, IdentityDriver
from nldf_engine.systems.common.motion import MotionEncoder, UpperBasis


@dataclass(frozen=True)
class ConditionConfig:
    """Sizes of the per-frame code.

    Args:
        audio_dim: features a row of the audio window (29 for mel and DeepSpeech).
        audio_window: rows of the audio window (16; 2 for HuBERT features of ER-NeRF folders).
        audio_code: size of the audio code (64 in AD-NeRF).
        attention_frames: neighbouring frames that the attention fuses (8 in AD-NeRF).
        attention_by_list: neighbours are those that a dataset lists, split by split, as for a network that
            AD-NeRF's own program trained; otherwise those that the frames' numbers give.
        eyes: condition on eye openness as well.
        motion: K, motion codes that drive the mouth in the audio code's place; 0 for the papers' audio net
            and attention.
        speech: the network from audio to motion codes, of `nn.speech.SPEECH_NETS`.
        upper: E, codes of brows, lids and gaze; 0 for a face that only speaks and blinks.
        identity: size of the learned code of a speaker; only runs over several datasets have any.
        speakers: how many speakers such a run has.
        head_pose: for a field that does not move with the head (AD-NeRF 3.4): L of the encoded pose that
            follows the head's code. 0 for the head's own field.
    """

    audio_dim: int = 29
    audio_window: int = 16
    audio_code: int = 64
    attention_frames: int = 8
    attention_by_list: bool = False
    eyes: bool = True
    motion: int = 0
    speech: str = "conv"
    upper: int = 0
    identity: int = 0
    speakers: int = 0
    head_pose: int = 0

    @property
    def code_dim(self) -> int:
        """Size of the whole code."""
        pose = pose_dim(self.head_pose) if self.head_pose else 0
        return (self.motion or self.audio_code) + self.upper + int(self.eyes) + self.identity + pose


class FrameEncoder(Driver):
    """Speech, brows and gaze, the speaker, and eye openness to one code, in this order.

    Speech comes in through AD-NeRF's audio net and attention over neighbours, or, with `config.motion`, as
    motion codes. Further drivers are added by subclassing `make_drivers`.

    Args:
        config: which drivers, and their sizes.

    Attributes:
        drivers: the names of the drivers, each an attribute, in the order of the code.
    """

    def __init__(self, config: ConditionConfig) -> None:
        super().__init__()
        self.config = config
        self.drivers: list[str] = []
        for name, driver in self.make_drivers(config).items():
            setattr(self, name, driver)
            self.drivers.append(name)
        self.dim = sum(driver.dim for driver in self.parts)

    def make_drivers(self, config: ConditionConfig) -> dict[str, Driver]:
        """The drivers by name, in the order of the code."""
        made: dict[str, Driver] = {}
        if config.motion:
            made["motion"] = MotionEncoder(
                config.motion, config.audio_dim, config.audio_window, config.speech
            )
        else:
            made["audio"] = AudioDriver(
                config.audio_dim, config.audio_code, config.attention_frames, config.audio_window,
                config.attention_by_list,
            )  # fmt: skip
        if config.upper:
            made["upper"] = UpperBasis(config.upper)
        if config.identity:
            made["identity"] = IdentityDriver(config.speakers, config.identity)
        if config.eyes:
            made["eyes"] = EyesDriver()
        return made

    @property
    def parts(self) -> list[Driver]:
        """The drivers in the order of the code."""
        return [cast(Driver, getattr(self, name)) for name in self.drivers]

    @property
    def reach(self) -> tuple[int, int]:
        """See `Driver`: the furthest of the parts."""
        reaches = [part.reach for part in self.parts]
        return max((before for before, _ in reaches), default=0), max(
            (after for _, after in reaches), default=0
        )

    def forward(self, conditions: Conditions, index: Tensor) -> Tensor:
        """[N, dim] for the frames `index` [N] of the clip.

        Raises:
            ValueError: the audio features have another shape than the network was built for.
        """
        check_windows(conditions.audio, (self.config.audio_window, self.config.audio_dim))
        return torch.cat([part(conditions, index) for part in self.parts], 1)


def make_encoder(config: ConditionConfig) -> FrameEncoder | PoseEncoder:
    """What makes a field's codes: of speech and eyes, or for a torso of the head's code and pose."""
    return PoseEncoder(config.head_pose) if config.head_pose else FrameEncoder(config)
