"""The motion of a face as a few numbers a frame: the mouth's, tracked in the video or predicted from speech,
and that of brows, lids and gaze, which speech does not predict.

A field that is conditioned on the audio itself has to learn what a mouth looks like and when it opens
from the same minute of speech, and learns the second poorly. Here the two are apart: the field sees
tracked motion codes, which give the exact shape of the mouth in each frame, and a speech network learns the
codes from the audio. Each half can be looked at, edited and replaced alone.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nldf_engine.geometry.cameras import Camera
from nldf_engine.geometry.face_mesh import (
    BROWS,
    CHIN,
    EYE_RIMS,
    IRISES,
    LANDMARKS,
    LIPS,
    LOWER_INNER,
    UPPER_INNER,
)
from nldf_engine.geometry.landmark_tracks import on_planes
from nldf_engine.geometry.rotations import head_numbers
from nldf_engine.nn.speech import REACH, SPEECH_NETS
from nldf_engine.rendering.fields import Conditions, Driver

MOUTH = LIPS + CHIN
# A gaze is one point an eye, but moves more of the picture than a point of a brow.
UPPER_FACE = BROWS + EYE_RIMS + 4 * IRISES
# Standard deviations beyond which a code of the upper face is a slip of the tracking.
UPPER_LIMIT = 4.0
_UPPER, _LOWER = MOUTH.index(UPPER_INNER), MOUTH.index(LOWER_INNER)


class LandmarkBasis(nn.Module):
    """Landmarks in head space as mean + codes * scale * components: a principal component analysis.

    Args:
        codes: K.
        landmarks: numbers of the L landmarks.

    Buffers: `depth` [L] metres, where along the head's z axis each landmark is; `mean` [L, 2] and
    `components` [K, L, 2] (orthonormal over L and 2), metres; `scale` [K], metres, so that each code has
    unit variance over the frames that the basis was fitted to.
    """

    depth: Tensor
    mean: Tensor
    components: Tensor
    scale: Tensor

    def __init__(self, codes: int, landmarks: tuple[int, ...]) -> None:
        super().__init__()
        self.landmarks = landmarks
        count = len(landmarks)
        self.register_buffer("depth", torch.zeros(count))
        self.register_buffer("mean", torch.zeros(count, 2))
        self.register_buffer("components", torch.zeros(codes, count, 2))
        self.register_buffer("scale", torch.ones(codes))

    def place(self, landmarks: Tensor, poses: Tensor, camera: Camera) -> Tensor:
        """The landmarks in head space: where their rays meet the planes z = depth.

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
        return on_planes(landmarks[:, list(self.landmarks)], poses, camera, self.depth)

    def encode(self, placed: Tensor) -> Tensor:
        """Codes [T, K] of landmarks in head space [T, L, 2]."""
        return torch.einsum("tli,kli->tk", placed - self.mean, self.components) / self.scale

    def decode(self, codes: Tensor) -> Tensor:
        """Landmarks in head space [T, L, 2] of codes [T, K]."""
        return self.mean + torch.einsum("tk,kli->tli", codes * self.scale, self.components)


class MotionBasis(LandmarkBasis):
    """The mouth: lips and chin."""

    def __init__(self, codes: int) -> None:
        super().__init__(codes, MOUTH)

    def opening(self, codes: Tensor) -> Tensor:
        """[T] metres between the inner lips; below 0 where they are pressed together."""
        placed = self.decode(codes)
        return placed[:, _LOWER, 1] - placed[:, _UPPER, 1]


class UpperBasis(LandmarkBasis, Driver):
    """Brows, lids and gaze: their motion that blinks do not explain.

    The openness of the eyes is a condition by itself, which can be edited alone, so the landmarks' part that
    goes with it is taken off. What goes with the pose stays: some of it is the pose's own error, but people
    raise their brows as they nod, and a code that lacks this in one part of a video has it twice in another.

    Buffers, beside `LandmarkBasis`': `slopes` [13, L, 2], metres for one of each number that is taken off
    (openness; the head's six numbers in degrees and metres, and their squares), about `usual` [13]. Fits
    leave the head's at 0; avatars of earlier fits have them.
    """

    slopes: Tensor
    usual: Tensor

    def __init__(self, codes: int) -> None:
        super().__init__(codes, UPPER_FACE)
        self.dim = codes
        self.register_buffer("slopes", torch.zeros(13, len(UPPER_FACE), 2))
        self.register_buffer("usual", torch.zeros(13))

    def take(self, other: UpperBasis) -> None:
        """Becomes the first codes of another basis, which has at least as many."""
        mine = self.state_dict()
        for name, value in other.state_dict().items():
            mine[name].copy_(value[: self.dim] if name in ("components", "scale") else value)

    def track(self, landmarks: Tensor, poses: Tensor, camera: Camera, eyes: Tensor) -> Tensor:
        """Codes [T, K] of a tracked video, 0 where its landmarks are unknown; as `place`, and `eyes` [T]."""
        placed = self.place(landmarks, poses, camera)
        own = placed - torch.einsum("tn,nli->tli", self.explained(poses, eyes), self.slopes)
        return self.encode(own).nan_to_num(0).clamp(-UPPER_LIMIT, UPPER_LIMIT)

    def forward(self, conditions: Conditions, index: Tensor) -> Tensor:
        """See `Driver`: the track "upper" as it is, a face at rest where there is none."""
        if conditions.upper is None:
            return conditions.audio.new_zeros(len(index), self.dim)
        # A teacher and its student may look at one clip, and one of them at more codes.
        return conditions.upper[index, : self.dim]

    def explained(self, poses: Tensor, eyes: Tensor) -> Tensor:
        """The numbers [T, 13] that are taken off, about the usual ones."""
        head = head_numbers(poses).to(eyes)
        return torch.cat([eyes[:, None], head, head.square()], 1) - self.usual


class MotionEncoder(Driver):
    """Motion codes of a clip: the tracked ones where the conditions hold them, else the speech's.

    Args:
        codes: K.
        audio_dim, audio_window: of the audio features.
        speech: which network predicts codes from them, of `nn.speech.SPEECH_NETS`.

    Raises:
        ValueError: an unknown network.
    """

    def __init__(self, codes: int, audio_dim: int, audio_window: int, speech: str = "conv") -> None:
        super().__init__()
        if speech not in SPEECH_NETS:
            raise ValueError(f"speech: expected one of {', '.join(SPEECH_NETS)}, got {speech!r}")
        self.dim = codes
        self.basis = MotionBasis(codes)
        self.speech = SPEECH_NETS[speech](audio_dim, audio_window, codes)
        # Trained by itself, ahead of the field (training.motion), and never by the field's losses.
        self.speech.requires_grad_(False)

    @property
    def reach(self) -> tuple[int, int]:
        """See `Driver`."""
        return REACH, REACH

    def forward(self, conditions: Conditions, index: Tensor) -> Tensor:
        """[N, K] for the frames `index` [N] of the clip."""
        if conditions.motion is not None:
            return conditions.motion[index]
        if len(index) == len(conditions):
            return self.speech.encode_clip(conditions.audio)[index]
        return self.speech.encode_clip(conditions.audio, index)
