"""The motion of the mouth as a few numbers a frame: tracked in the video, or told by speech.

A field that is conditioned on the audio itself has to learn what a mouth looks like and when it opens
from the same minute of speech, and learns the second poorly. Here the two are apart: the field sees
tracked motion codes, which say exactly how the mouth stands in each frame, and a `SpeechNet` learns the
codes from the audio. Each half can be looked at, edited and replaced alone.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nldf_engine.base.face_mesh import CHIN, LANDMARKS, LIPS, LOWER_INNER, UPPER_INNER
from nldf_engine.nn.speech import SpeechNet
from nldf_engine.rendering.cameras import Camera
from nldf_engine.rendering.fields import Conditions

MOUTH = LIPS + CHIN
_UPPER, _LOWER = MOUTH.index(UPPER_INNER), MOUTH.index(LOWER_INNER)


class MotionBasis(nn.Module):
    """Mouth landmarks in head space as mean + codes * scale * components: a principal component analysis.

    Args:
        codes: K.

    Buffers: `depth` [L] metres, where along the head's z axis each landmark lies; `mean` [L, 2] and
    `components` [K, L, 2] (orthonormal over L and 2), metres; `scale` [K], metres, so that each code has
    unit variance over the frames that the basis was fitted to.
    """

    depth: Tensor
    mean: Tensor
    components: Tensor
    scale: Tensor

    def __init__(self, codes: int) -> None:
        super().__init__()
        self.register_buffer("depth", torch.zeros(len(MOUTH)))
        self.register_buffer("mean", torch.zeros(len(MOUTH), 2))
        self.register_buffer("components", torch.zeros(codes, len(MOUTH), 2))
        self.register_buffer("scale", torch.ones(codes))

    def place(self, landmarks: Tensor, poses: Tensor, camera: Camera) -> Tensor:
        """Mouth landmarks in head space: where their rays meet the planes z = depth.

        Args:
            landmarks: [T, 478, 2] pixels of `camera`.
            poses: [T, 4, 4] camera to head.
            camera: the view that the landmarks are seen in.

        Returns:
            [T, L, 2] metres, in double precision's rounding to float32.

        Raises:
            ValueError: landmarks of another shape.
        """
        if landmarks.dim() != 3 or tuple(landmarks.shape[1:]) != (LANDMARKS, 2):
            raise ValueError(f"landmarks: expected [T, {LANDMARKS}, 2], got {list(landmarks.shape)}")
        seen, poses = landmarks[:, list(MOUTH)].double(), poses.double()
        focal = seen.new_tensor([camera.fx, camera.fy])
        center = seen.new_tensor([camera.cx, camera.cy])
        views = torch.cat([(seen - center) / focal, torch.ones_like(seen[..., :1])], -1)
        directions = views @ poses[:, :3, :3].transpose(1, 2)
        origins = poses[:, None, :3, 3]
        distance = (self.depth.double() - origins[..., 2]) / directions[..., 2]
        return (origins[..., :2] + distance[..., None] * directions[..., :2]).float()

    def encode(self, placed: Tensor) -> Tensor:
        """Codes [T, K] of landmarks in head space [T, L, 2]."""
        return torch.einsum("tli,kli->tk", placed - self.mean, self.components) / self.scale

    def decode(self, codes: Tensor) -> Tensor:
        """Landmarks in head space [T, L, 2] of codes [T, K]."""
        return self.mean + torch.einsum("tk,kli->tli", codes * self.scale, self.components)

    def opening(self, codes: Tensor) -> Tensor:
        """[T] metres between the inner lips; below 0 where they are pressed together."""
        placed = self.decode(codes)
        return placed[:, _LOWER, 1] - placed[:, _UPPER, 1]


class MotionEncoder(nn.Module):
    """Motion codes of a clip: the tracked ones where the conditions hold them, else the speech's.

    Args:
        codes: K.
        audio_dim, audio_window: of the audio features.
    """

    def __init__(self, codes: int, audio_dim: int, audio_window: int) -> None:
        super().__init__()
        self.basis = MotionBasis(codes)
        self.speech = SpeechNet(audio_dim, audio_window, codes)
        # Trained by itself, ahead of the field (training.motion), and never by the field's losses.
        self.speech.requires_grad_(False)

    def forward(self, conditions: Conditions, index: Tensor) -> Tensor:
        """[N, K] for the frames `index` [N] of the clip."""
        if conditions.motion is not None:
            return conditions.motion[index]
        if len(index) == len(conditions):
            return self.speech.encode_clip(conditions.audio)[index]
        return self.speech.encode_clip(conditions.audio, index)
