"""What drives a face, made into one code a frame: speech, directly or as motion codes, brows and eyes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nldf_engine.nn.audio import AudioEncoder
from nldf_engine.nn.pose import PoseEncoder, pose_dim
from nldf_engine.nn.speech import REACH
from nldf_engine.rendering.fields import Conditions
from nldf_engine.systems.common.motion import MotionEncoder, UpperBasis

# Open eyes have a lid gap of about a quarter of their width; the code holds it on a scale near one.
EYES_SCALE = 4.0


@dataclass(frozen=True)
class ConditionConfig:
    """Sizes of the per-frame code.

    Args:
        audio_dim: features a row of the audio window (29 for mel and DeepSpeech).
        audio_window: rows of the audio window (16; 2 for HuBERT features of ER-NeRF folders).
        audio_code: size of the audio code (64 in AD-NeRF).
        attention_frames: neighbouring frames that the attention fuses (8 in AD-NeRF).
        eyes: condition on eye openness as well.
        motion: K, motion codes that drive the mouth in the audio code's place; 0 for the papers' audio net
            and attention.
        upper: E, codes of brows, lids and gaze; 0 for a face that only speaks and blinks.
        head_pose: for a field that does not move with the head (AD-NeRF 3.4): L of the encoded pose that
            stands behind the head's code. 0 for the head's own field.
    """

    audio_dim: int = 29
    audio_window: int = 16
    audio_code: int = 64
    attention_frames: int = 8
    eyes: bool = True
    motion: int = 0
    upper: int = 0
    head_pose: int = 0

    @property
    def code_dim(self) -> int:
        """Size of the whole code."""
        pose = pose_dim(self.head_pose) if self.head_pose else 0
        return (self.motion or self.audio_code) + self.upper + int(self.eyes) + pose


class FrameEncoder(nn.Module):
    """Speech, brows and gaze, and eye openness to codes, in this order.

    Speech comes in through AD-NeRF's audio net and attention over neighbours (its 3.2 and 3.6), or, with
    `config.motion`, as motion codes.
    """

    def __init__(self, config: ConditionConfig) -> None:
        super().__init__()
        self.config = config
        if config.motion:
            self.motion = MotionEncoder(config.motion, config.audio_dim, config.audio_window)
        else:
            self.audio = AudioEncoder(
                config.audio_dim, config.audio_code, config.attention_frames, window=config.audio_window
            )
        if config.upper:
            self.upper = UpperBasis(config.upper)

    @property
    def reach(self) -> tuple[int, int]:
        """How many frames before and after a frame its code depends on."""
        if self.config.motion:
            return REACH, REACH
        frames = self.config.attention_frames
        return frames // 2, frames - frames // 2 - 1

    def forward(self, conditions: Conditions, index: Tensor | None = None) -> Tensor:
        """[N, code_dim] for the frames `index` [N] of the clip; all of them where it is None.

        Raises:
            ValueError: the audio features have another shape than the network was built for.
        """
        expected = (self.config.audio_window, self.config.audio_dim)
        if tuple(conditions.audio.shape[1:]) != expected:
            raise ValueError(
                f"audio: expected features [T, {expected[0]}, {expected[1]}], got "
                f"{list(conditions.audio.shape)}; they come from another audio front-end than the avatar's"
            )
        if index is None:
            index = torch.arange(len(conditions), device=conditions.audio.device)
        if self.config.motion:
            code = self.motion(conditions, index)
        else:
            code = self.audio.encode_clip(conditions.audio, index)
        parts = [code]
        if self.config.upper:
            at_rest = code.new_zeros(len(index), self.config.upper)
            # A teacher and its student may look at one clip, and one of them at more codes.
            told = None if conditions.upper is None else conditions.upper[index, : self.config.upper]
            parts.append(at_rest if told is None else told)
        if self.config.eyes:
            parts.append(self.scale_eyes(conditions.eyes[index, None]))
        return torch.cat(parts, 1)

    @staticmethod
    def scale_eyes(eyes: Tensor) -> Tensor:
        """Eye openness as the code holds it."""
        return EYES_SCALE * eyes


def make_encoder(config: ConditionConfig) -> FrameEncoder | PoseEncoder:
    """What makes a field's codes: of speech and eyes, or for a torso of the head's code and pose."""
    return PoseEncoder(config.head_pose) if config.head_pose else FrameEncoder(config)


def encode_frames(
    encoder: FrameEncoder | PoseEncoder, conditions: Conditions, index: Tensor | None
) -> Tensor:
    """[N, C] codes of the frames `index` of a clip (all where None).

    Raises:
        TypeError: the field is no head's: its codes are made of the head's.
    """
    if isinstance(encoder, PoseEncoder):
        raise TypeError("encode_frames: this field takes the head's code and pose, by `encoder(code, poses)`")
    return encoder(conditions, index)
