"""Makes the lip prior (nldf_engine/training/prior.py) and the projection of the front-end "whisper".

    python scripts/lip_prior.py OUT DATASET [DATASET ...] [--without NAME] [--steps 3000]

DATASETs are folders that `nldf prepare` wrote, one speaker each, whose sound is in time with the lips (check
it first: public clips are often off by 100 ms and more). Writes OUT/projection.safetensors and
OUT/prior.safetensors. Of clips of 12 seconds and more the held-out part is left out, so that avatars of these
speakers can be measured on it. `--without` leaves a speaker out, to measure what the prior does for others.

Two passes: the first learns the projection of Whisper's 512 numbers to 64 together with a network from these
to the lips of all speakers; the second trains the network that is shipped on the projected rows.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from nldf_engine.audio import FrontendConfig, whisper
from nldf_engine.audio.windows import WINDOW
from nldf_engine.base.progress import Bar
from nldf_engine.datasets import open_dataset
from nldf_engine.geometry.face_mesh import LOWER_INNER, UPPER_INNER
from nldf_engine.nn.speech import REACH, LipNet
from nldf_engine.systems.common.motion import MOUTH, MotionBasis
from nldf_engine.training.motion import placed_landmarks
from nldf_engine.training.prior import shared_codes
from nldf_engine.training.sounds import copied_rows
from nldf_engine.training.speech import code_error

COMPONENTS, NUMBERS, WIDTH = 12, 64, 128
COPIES, COPIED = 4, 0.3
LONG = 300  # frames from which on the held-out part is left out
STRETCH, STRETCHES = 64, 16
RATE, WARM_UP, DECAY = 2e-3, 50, 1e-2
BAND_NOISE, ENTRY_NOISE = 0.15, 0.5


@dataclass
class Speaker:
    """A clip.

    Args:
        name: of its folder.
        rows: [1 + C, R, D + 1] of the sound and its copies.
        placed: [T, L, 2] lips and chin in head space.
        usable: [T] bool.
    """

    name: str
    rows: Tensor
    placed: Tensor
    usable: Tensor
    codes: Tensor | None = None

    def starts(self, length: int) -> Tensor:
        """First frames of stretches that are nine tenths usable."""
        total = F.pad(self.usable.float().cumsum(0), (1, 0))
        share = (total[length:] - total[:-length]) / length
        return (share >= min(0.9, float(share.max()))).nonzero()[:, 0]


def unprojected(samples: np.ndarray) -> np.ndarray:
    """[R, 513] rows without the projection."""
    weights = whisper.Weights(whisper.bundled_weights().encoder, None, "")
    return whisper.rows(samples, FrontendConfig("whisper"), weights)


def load(path: Path, number: int, cache: Path) -> Speaker:
    """A dataset's rows, copies included, and lips."""
    data = open_dataset(path)
    kept = cache / f"{path.name}.npy"
    if kept.is_file():
        rows = np.load(kept)
    else:
        sound = np.asarray(data.audio(), np.float32)
        copies = copied_rows(sound, COPIES, np.random.default_rng(number), unprojected)
        rows = np.stack([unprojected(sound), *copies]).astype(np.float16)
        np.save(kept, rows)
    basis = MotionBasis(COMPONENTS)
    placed = placed_landmarks(basis, data)
    usable = torch.from_numpy(data.valid.copy()) & placed.flatten(1).isfinite().all(1)
    if len(data) >= LONG:
        usable[data.info.splits["train"][1] :] = False
    return Speaker(path.name, torch.from_numpy(rows.astype(np.float32)), placed, usable)


def fit_components(speakers: list[Speaker]) -> tuple[Tensor, Tensor]:
    """[Q, L, 2] orthonormal components of all speakers' lips, and their spread [Q] in metres."""
    moved = []
    for one in speakers:
        own = one.placed[one.usable].flatten(1)
        moved.append((own - own.mean(0)) * min(1.0, math.sqrt(250 / len(own))))
    every = torch.cat(moved).double()
    _, singular, found = torch.linalg.svd(every, full_matrices=False)
    components = found[:COMPONENTS].float().view(COMPONENTS, -1, 2)
    gap = components[:, MOUTH.index(LOWER_INNER), 1] - components[:, MOUTH.index(UPPER_INNER), 1]
    components = components * torch.where(gap < 0, -1.0, 1.0)[:, None, None]
    return components, (singular[:COMPONENTS] / math.sqrt(len(every))).float()


def explained(components: Tensor, speaker: Speaker) -> float:
    """The share of the motion of a speaker's lips that components [Q, L, 2] hold."""
    moved = speaker.placed[speaker.usable].flatten(1)
    moved = moved - moved.mean(0)
    along = moved @ components.flatten(1).t()
    return float(along.square().sum() / moved.square().sum())


class Windows(nn.Module):
    """Rows [N, 2 (T + 2 REACH - 1) + 16, D] to a LipNet's windows, projected where it has a projection."""

    def __init__(self, dim: int, projected: bool) -> None:
        super().__init__()
        self.projection = nn.Linear(dim - 1, NUMBERS, bias=False) if projected else None
        self.net = LipNet((NUMBERS if projected else dim - 1) + 1, WINDOW, COMPONENTS, WIDTH)

    def forward(self, rows: Tensor) -> Tensor:
        """[N, T, Q]."""
        if self.projection is not None:
            rows = torch.cat([self.projection(rows[..., :-1]), rows[..., -1:]], -1)
        return self.net(rows.unfold(1, WINDOW, 2).transpose(2, 3))


def train(
    model: Windows, speakers: list[Speaker], steps: int, copied: float, weight: Tensor, opening: Tensor
) -> None:
    """Trains on stretches of all speakers and their copies."""
    torch.manual_seed(0)
    before = WINDOW // 2 + 2 * REACH
    padded = [F.pad(one.rows, (0, 0, before, 4 * STRETCH)) for one in speakers]
    spread = torch.cat([one.rows[0] for one in speakers]).std(0)
    lengths = [min(STRETCH, len(one.usable)) for one in speakers]
    starts = [one.starts(length) for one, length in zip(speakers, lengths, strict=True)]
    share = torch.tensor([math.sqrt(min(len(first), 400)) for first in starts])
    optimizer = torch.optim.AdamW(model.parameters(), RATE, weight_decay=DECAY)
    model.train()
    with Bar("train the prior", steps, "step") as bar:
        for step in range(steps):
            for group in optimizer.param_groups:
                fall = 0.5 + 0.5 * math.cos(math.pi * step / steps)
                group["lr"] = RATE * min(1.0, (step + 1) / WARM_UP) * fall
            rows, codes, usable = [], [], []
            for number in torch.multinomial(share, STRETCHES, True).tolist():
                one, length = speakers[number], lengths[number]
                first = int(starts[number][torch.randint(len(starts[number]), ())])
                sound = int(torch.randint(1, 1 + COPIES, ())) if float(torch.rand(())) < copied else 0
                seen = 2 * (STRETCH + 2 * REACH - 1) + WINDOW
                rows.append(padded[number][sound, 2 * first : 2 * first + seen])
                codes.append(F.pad(one.codes[first : first + length], (0, 0, 0, STRETCH - length)))
                usable.append(F.pad(one.usable[first : first + length], (0, STRETCH - length)))
            batch, known = torch.stack(rows), torch.stack(usable)
            bands = BAND_NOISE * torch.randn(STRETCHES, 1, batch.shape[-1])
            batch = batch + spread * (bands + ENTRY_NOISE * torch.randn_like(batch))
            error = model(batch) - torch.stack(codes)
            loss = code_error(error, known, weight, opening)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            bar.step(note=f"{float(loss.detach()):.3f}")
    model.eval().requires_grad_(False)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("datasets", type=Path, nargs="+")
    parser.add_argument("--without", action="append", default=[], help="leave this speaker out")
    parser.add_argument(
        "--steps", type=int, default=3000, help="of the second pass; half as many of the first"
    )
    parser.add_argument("--projection", type=Path, help="use this one, and leave out the first pass")
    parser.add_argument("--copied", type=float, default=COPIED, help="share of stretches from copies")
    parser.add_argument("--cache", type=Path, help="folder of the rows; OUT/rows where it is not given")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    cache = given.cache or given.out / "rows"
    cache.mkdir(exist_ok=True)
    speakers = [load(path, number, cache) for number, path in enumerate(given.datasets)]
    speakers = [one for one in speakers if one.name not in given.without]
    components, scale = fit_components(speakers)
    for shown in (8, COMPONENTS):
        shares = [explained(components[:shown], one) for one in speakers]
        print(f"{shown} shared components hold {min(shares):.2f} to {max(shares):.2f} of a speaker's motion")
    for one in speakers:
        one.codes = shared_codes(components, one.placed, one.usable.nonzero()[:, 0]).nan_to_num(0)
    weight = (scale / scale[0]).square()
    gap = components[:, MOUTH.index(LOWER_INNER), 1] - components[:, MOUTH.index(UPPER_INNER), 1]
    opening = gap * scale
    opening = opening / opening.norm()
    if given.projection is not None:
        projection = load_file(given.projection)["projection"]
    else:
        first = Windows(speakers[0].rows.shape[-1], True)
        train(first, speakers, given.steps // 2, given.copied, weight, opening)
        projection = first.projection.weight
        every = torch.cat([one.rows[0, :, :-1] for one in speakers]) @ projection.t()
        projection = projection / every.std(0)[:, None]
    save_file({"projection": projection.contiguous()}, given.out / "projection.safetensors")
    for one in speakers:
        one.rows = torch.cat([one.rows[..., :-1] @ projection.t(), one.rows[..., -1:]], -1)
    second = Windows(NUMBERS + 1, False)
    train(second, speakers, given.steps, given.copied, weight, opening)
    state = {name: value.half().contiguous() for name, value in second.net.state_dict().items()}
    told = {
        "ahead": str(FrontendConfig("whisper").ahead),
        "frontend": "whisper",
        "speakers": str(len(speakers)),
    }
    save_file({"components": components.contiguous(), **state}, given.out / "prior.safetensors", told)


if __name__ == "__main__":
    main()
