"""Do lips and sound belong together? A lip encoder and an audio encoder into one space, by contrast.

The lip sync module of the disentangled HeadNeRF (section 3.4): windows of the lips' movement and of audio
features are embedded, cosine similarity compares them (equation 9), and InfoNCE with one positive and N = 10
negatives at temperature 0.5 trains them (equation 8). A system can train its lips with the same loss: the
gradient reaches the landmarks.

Shapes: F frames of a clip, N windows, T frames of one, D audio features a row and two rows a frame, C
numbers of an embedding; 40 lip landmarks (`geometry.face_mesh.LIPS`) of a face's 478.

    judge = sync_judge()
    lips = judge.lips(cut(lip_movement(landmarks), judge.frames))
    audio = judge.audio(cut(last_rows(features(samples, judge.frontend)), judge.frames))
    similarity = cosine(lips, audio)

`scripts/sync_judge.py` makes the asset.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nldf_engine.audio import whisper
from nldf_engine.audio.frontends import FrontendConfig
from nldf_engine.audio.windows import STRIDE
from nldf_engine.base.assets import ASSETS, load_tensors
from nldf_engine.base.errors import FileProblem
from nldf_engine.geometry.face_mesh import LANDMARKS, LEFT_EYE_OUTER, LIPS, RIGHT_EYE_OUTER, RIGID
from nldf_engine.geometry.face_template import rest_landmarks

ASSET = ASSETS / "sync" / "judge.safetensors"
DIGEST = "956bfbea6c2e2d68d3aceb81fde13f5047605072dd5f08e1e12b3f1f25597eb6"
FRONTEND = FrontendConfig("whisper", ahead=4)
"""What makes the judge's features, whatever an avatar's front-end is.

The last two rows of a frame's window describe the 40 ms from its moment on.
"""
FRAMES, ROW_NUMBERS = 20, 65
TEMPERATURE, NEGATIVES, APART = 0.5, 10, 10
SMALLEST = 1e-12
# Lips move by some hundredths of the distance between the eyes.
MOVEMENT_SCALE = 20.0


def lip_movement(landmarks: Tensor, points: Sequence[int] = LIPS) -> Tensor:
    """The lips, or other points, relative to the face, in units that are the same for everyone.

    A similarity of the plane (turn, size, shift) moves the face's rigid points onto those of a face at rest
    whose outer eye corners are 1 apart; the points follow it. Where the head is and how large is cancelled,
    turns out of the plane are not.

    Args:
        landmarks: [..., 478, 2] pixels; NaN where no face was found.
        points: numbers of N landmarks; the 40 of the lips.

    Returns:
        [..., N, 2] outer eye distances; NaN where no face was found.

    Raises:
        ValueError: another shape.
    """
    if landmarks.dim() < 2 or tuple(landmarks.shape[-2:]) != (LANDMARKS, 2):
        raise ValueError(f"landmarks: expected [..., {LANDMARKS}, 2], got {list(landmarks.shape)}")
    rest = torch.from_numpy(rest_landmarks())[:, :2].to(landmarks)
    rest = rest / (rest[RIGHT_EYE_OUTER] - rest[LEFT_EYE_OUTER]).norm()
    target, rigid = rest[list(RIGID)], landmarks[..., list(RIGID), :]
    here, there = rigid.mean(-2, keepdim=True), target.mean(-2)
    p, q = rigid - here, target - there
    power = p.square().sum((-2, -1)).clamp_min(SMALLEST)
    cosine = (p * q).sum((-2, -1)) / power
    sine = (p[..., 0] * q[..., 1] - p[..., 1] * q[..., 0]).sum(-1) / power
    turn = torch.stack([torch.stack([cosine, sine], -1), torch.stack([-sine, cosine], -1)], -2)
    return (landmarks[..., list(points), :] - here) @ turn + there


def last_rows(features: Tensor) -> Tensor:
    """[F, 2, D] the rows of a frame's own time, of audio windows [F, 16, D] made with `FRONTEND`.

    Raises:
        ValueError: another number of axes, or fewer than two rows.
    """
    if features.dim() != 3 or features.shape[1] < STRIDE:
        raise ValueError(
            f"features: expected [F, W, D] with W of at least {STRIDE}, got {list(features.shape)}"
        )
    return features[:, -STRIDE:]


def cut(values: Tensor, length: int) -> Tensor:
    """Every window of `length` consecutive frames: [F - length + 1, length, ...] of [F, ...], none where F is
    less.

    Raises:
        ValueError: a length below one.

    Example:
        >>> cut(torch.arange(4), 3).tolist()
        [[0, 1, 2], [1, 2, 3]]
    """
    if length < 1:
        raise ValueError(f"length: expected at least 1, got {length}")
    if len(values) < length:
        return values.new_empty(0, length, *values.shape[1:])
    return values.unfold(0, length, 1).movedim(-1, 1)


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """[N, M] cosine similarity of embeddings [N, C] and [M, C] (equation 9)."""
    return F.normalize(a, dim=1) @ F.normalize(b, dim=1).t()


def info_nce(lips: Tensor, audio: Tensor, negatives: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """The mean over N anchors of -log softmax of the true audio among itself and K others (equation 8).

    Args:
        lips: [N, C] embeddings of lips, the anchors.
        audio: [N, C] of the audio of the same windows.
        negatives: [N, K, C] of audio of other windows.
        temperature: by which cosine similarities are divided.

    Returns:
        A scalar; log(K + 1) where nothing is known, below it where lips and audio agree.

    Raises:
        ValueError: shapes that do not fit, no anchor, or a temperature that is not positive.
    """
    fits = negatives.dim() == 3 and (len(negatives), negatives.shape[2]) == tuple(lips.shape)
    if not fits or lips.shape != audio.shape or not len(lips):
        raise ValueError(
            "info_nce: expected lips [N, C], audio [N, C] and negatives [N, K, C] with N of at least 1, got "
            f"{list(lips.shape)}, {list(audio.shape)} and {list(negatives.shape)}"
        )
    if not temperature > 0:
        raise ValueError(f"temperature: expected more than 0, got {temperature}")
    others = torch.cat([audio[:, None], negatives], 1)
    near = F.cosine_similarity(lips[:, None], others, dim=2) / temperature
    return F.cross_entropy(near, near.new_zeros(len(near), dtype=torch.int64))


def draw_negatives(
    starts: Tensor, count: int = NEGATIVES, apart: int = APART, generator: torch.Generator | None = None
) -> Tensor:
    """Which windows of a clip serve each as negatives: [N, count] numbers of windows, drawn at random.

    Args:
        starts: [N] first frames of the windows, all of one clip: what tells clips apart must not help.
        count: K, how many each gets; with repetitions where there are fewer.
        apart: frames by which negatives are at least away.
        generator: draws them; torch's own where None.

    Raises:
        ValueError: a window has no other that far away.
    """
    far = (starts[:, None] - starts[None]).abs() >= apart
    if not bool(far.any(1).all()):
        raise ValueError(f"starts: expected windows {apart} frames apart for each, got {starts.tolist()}")
    return torch.multinomial(
        far.float(), count, replacement=int(far.sum(1).min()) < count, generator=generator
    )


class SyncJudge(nn.Module):
    """Both encoders.

    Args:
        frames: T, of a window.
        dim_in: D, features a row.
        width: channels of the hidden layers.
        dim_out: C.
        ways: in how many ways the lips are seen to move, before their order in time is looked at.
        dropout: share of channels dropped while training.

    Attributes:
        frames: as given.
        frontend: what makes its features.

    Raises:
        ValueError: a size below one.
    """

    spread: Tensor

    def __init__(
        self, frames: int = FRAMES, dim_in: int = ROW_NUMBERS, width: int = 64, dim_out: int = 64,
        ways: int = 16, dropout: float = 0.3,
    ) -> None:  # fmt: skip
        super().__init__()
        if min(frames, dim_in, width, dim_out, ways) < 1:
            raise ValueError(
                f"SyncJudge: sizes must be at least 1, got frames={frames}, dim_in={dim_in}, width={width}, "
                f"dim_out={dim_out}, ways={ways}"
            )
        self.frames, self.dim_in, self.frontend = frames, dim_in, FRONTEND
        self.lip_ways = nn.Linear(2 * len(LIPS), ways, bias=False)
        self.lip_times = nn.Sequential(
            nn.Conv1d(ways, width, 5, padding=2), nn.GELU(), nn.Dropout(dropout),
            nn.Flatten(), nn.Linear(width * frames, dim_out),
        )  # fmt: skip
        self.register_buffer("spread", torch.ones(dim_in))
        self.audio_rows = nn.Linear(dim_in, width)
        self.audio_times = nn.Sequential(
            nn.GELU(), nn.Dropout(dropout),
            nn.Conv1d(width, width, 4, stride=STRIDE, padding=1), nn.GELU(), nn.Dropout(dropout),
            nn.Flatten(), nn.Linear(width * frames, dim_out),
        )  # fmt: skip

    def lips(self, movement: Tensor) -> Tensor:
        """[N, C] of windows of lips.

        Args:
            movement: [N, T, 40, 2] as `lip_movement` gives it; the mean over each window is taken out here.

        Raises:
            ValueError: another shape.
        """
        if movement.dim() != 4 or tuple(movement.shape[1:]) != (self.frames, len(LIPS), 2):
            raise ValueError(
                f"movement: expected [N, {self.frames}, {len(LIPS)}, 2], got {list(movement.shape)}"
            )
        about = MOVEMENT_SCALE * (movement - movement.mean(1, keepdim=True))
        made: Tensor = self.lip_times(self.lip_ways(about.flatten(2)).transpose(1, 2))
        return made

    def audio(self, windows: Tensor) -> Tensor:
        """[N, C] of windows of audio.

        Args:
            windows: [N, T, 2, D], the `last_rows` of T frames.

        Raises:
            ValueError: another shape.
        """
        if windows.dim() != 4 or tuple(windows.shape[1:]) != (self.frames, STRIDE, self.dim_in):
            raise ValueError(
                f"windows: expected [N, {self.frames}, {STRIDE}, {self.dim_in}], got {list(windows.shape)}"
            )
        rows = self.audio_rows(windows.flatten(1, 2) / self.spread)
        made: Tensor = self.audio_times(rows.transpose(1, 2))
        return made


@functools.lru_cache(maxsize=1)
def sync_judge() -> SyncJudge:
    """The judge that comes with the package, frozen; its gradient still reaches the lips.

    Raises:
        FileProblem: the file is missing or another than was shipped, or it was trained on features of other
            weights of the front-end.
    """
    tensors, stated = load_tensors(ASSET, DIGEST)
    if stated["weights"] != whisper.DIGEST:
        raise FileProblem(
            ASSET,
            f"it was trained on features of other weights of the front-end 'whisper' (SHA-256 "
            f"{stated['weights'][:12]}..., and {whisper.DIGEST[:12]}... was expected)",
            "train it again: python scripts/sync_judge.py",
        )
    judge = SyncJudge(**json.loads(stated["sizes"]))
    judge.load_state_dict(tensors)
    return judge.eval().requires_grad_(False)
