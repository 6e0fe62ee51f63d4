"""Makes the asset of the sync judge (nldf_engine/nn/sync.py), and measures it on speakers it has not met.

    python scripts/sync_judge.py train nldf_engine/assets/sync/judge.safetensors DATASET [DATASET ...]
    python scripts/sync_judge.py leave-out DATASET [DATASET ...] --names speaker_01 grid

DATASETs are folders that `nldf prepare` wrote, one clip each, whose sound is in time with the lips (check it
first: public clips are often off by 100 ms and more). `train` prints the digest that nldf_engine/nn/sync.py
expects; of clips of 12 seconds and more the held-out part is left out, so that avatars of these speakers can
be judged on it. `leave-out` trains for every name without the clips whose name begins so, and prints how
often the judge picks the true of 11 windows on those, and the offset that it finds. `--level-only` shows how
far loudness alone gets.

Feature rows are kept in --cache, so that a second run takes minutes.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from nldf_engine.audio import whisper
from nldf_engine.audio.windows import windows
from nldf_engine.base.files import atomic_path, sha256
from nldf_engine.base.progress import Bar
from nldf_engine.datasets import open_dataset
from nldf_engine.evaluation.metrics.judged_sync import LONGEST_OFFSET, mean_similarities, retrieval
from nldf_engine.geometry.face_mesh import INNER_LIP, LIPS, OUTER_LIP
from nldf_engine.nn.sync import (
    APART,
    FRAMES,
    FRONTEND,
    SyncJudge,
    cosine,
    cut,
    draw_negatives,
    info_nce,
    last_rows,
    lip_movement,
)
from nldf_engine.training.sounds import copied_rows

COPIES, COPIED = 4, 0.6
LONG = 300  # frames from which on the held-out part is left out
CLIPS, WINDOWS = 4, 64  # a step
STEPS, RATE, WARM_UP, DECAY = 400, 2e-3, 30, 1e-2
# Lower than equation 8 has it: of three left-out speakers, a judge picks 0.947 of the windows then, and 0.914
# where it learned at 0.5.
TEMPERATURE = 0.15
# Rows, in standard deviations: another microphone or room, and anything else.
BAND_NOISE, ENTRY_NOISE = 0.15, 0.5
# Lips: how far they open, in which proportions, turned by radians, and the detector's noise in eye distances.
OPENING, PROPORTION, TURN, POINT_NOISE = 0.3, 0.1, 0.1, 0.003


@dataclass
class Clip:
    """A clip.

    Args:
        name: of its folder.
        movement: [F, 40, 2] lips.
        rows: [1 + C, F, 2, D] of the sound and its copies.
        starts: first frames of windows that may be learned from, all of whose faces were found.
        every: first frames of all windows with faces.
    """

    name: str
    movement: Tensor
    rows: Tensor
    starts: Tensor
    every: Tensor


def rows_of(path: Path, number: int, cache: Path) -> Tensor:
    """[1 + C, F, 2, D] rows of a dataset's sound and of its copies, from the cache where they are there."""
    kept = cache / f"{path.name}-{whisper.DIGEST[:12]}-{COPIES}.npy"
    if not kept.is_file():
        data = open_dataset(path)
        sound, frames = data.audio(), len(data)
        copies = copied_rows(
            sound, COPIES, np.random.default_rng(number), lambda samples: whisper.rows(samples, FRONTEND)
        )
        made = [data.audio_features(FRONTEND), *(windows(rows, frames) for rows in copies)]
        cache.mkdir(parents=True, exist_ok=True)
        with atomic_path(kept) as temporary, temporary.open("wb") as stream:
            np.save(stream, np.stack([last_rows(torch.from_numpy(one)).numpy() for one in made]))
    return torch.from_numpy(np.load(kept))


def load_clip(path: Path, number: int, cache: Path, frames: int, level_only: bool) -> Clip:
    """A dataset as a judge of `frames` a window learns from it."""
    data = open_dataset(path)
    movement = lip_movement(torch.from_numpy(data.landmarks).double()).float()
    seen = torch.from_numpy(data.valid) & movement.isfinite().all(-1).all(-1)
    rows = rows_of(path, number, cache)
    learned = seen.clone()
    if len(data) >= LONG:
        learned[data.indices("heldout")] = False
    starts, every = (cut(mask, frames).all(1).nonzero()[:, 0] for mask in (learned, seen))
    return Clip(path.name, movement, rows[..., -1:] if level_only else rows, starts, every)


def varied_lips(lips: Tensor) -> Tensor:
    """Windows of lips [N, T, 40, 2] as of another face: mirrored or not, opening further, turned a little."""
    size = len(OUTER_LIP)
    assert len(INNER_LIP) == size and len(LIPS) == 2 * size
    about = lips - lips.mean(1, keepdim=True)
    if torch.rand(()) < 0.5:  # the points go round from the right corner, the left one is halfway
        order = [(size // 2 - k) % size for k in range(size)]
        about = about[:, :, order + [size + k for k in order]] * torch.tensor([-1.0, 1.0])
    scale = torch.exp(OPENING * torch.randn(1) + PROPORTION * torch.randn(2))
    angle = TURN * torch.randn(())
    turn = torch.stack([torch.stack([angle.cos(), angle.sin()]), torch.stack([-angle.sin(), angle.cos()])])
    return (about * scale) @ turn + POINT_NOISE * torch.randn_like(about)


def batch(clip: Clip, frames: int, spread: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(starts [N], lips [N, T, 40, 2], rows [N, T, 2, D]) of windows of one clip."""
    starts = clip.starts[torch.randperm(len(clip.starts))[:WINDOWS]]
    which = int(torch.randint(1, len(clip.rows), ())) if torch.rand(()) < COPIED else 0
    within = starts[:, None] + torch.arange(frames)
    rows = clip.rows[which][within]
    noise = BAND_NOISE * torch.randn(rows.shape[-1]) + ENTRY_NOISE * torch.randn_like(rows)
    return starts, varied_lips(clip.movement[within]), rows + spread * noise


def train(clips: Sequence[Clip], steps: int, frames: int, temperature: float = TEMPERATURE) -> SyncJudge:
    """A judge that has learned from the clips."""
    torch.manual_seed(0)
    heard = torch.cat([clip.rows[0].flatten(0, 1) for clip in clips])
    judge = SyncJudge(frames, heard.shape[1])
    judge.spread.copy_(heard.std(0).clamp_min(1e-6))
    long = [clip for clip in clips if len(clip.starts) >= 2 * APART + 1]
    shares = torch.tensor([float(len(clip.starts)) for clip in long]) ** 0.75
    optimizer = torch.optim.AdamW(judge.parameters(), RATE, weight_decay=DECAY)
    judge.train()
    with Bar("train the judge", steps, "step") as bar:
        for step in range(steps):
            for group in optimizer.param_groups:
                rise = min(1.0, (step + 1) / WARM_UP)
                group["lr"] = RATE * rise * (0.5 + 0.5 * math.cos(math.pi * step / steps))
            drawn = torch.multinomial(shares, CLIPS, replacement=True)
            parts = [batch(long[k], frames, judge.spread) for k in drawn.tolist()]
            sizes = [len(starts) for starts, _, _ in parts]
            lips = judge.lips(torch.cat([part[1] for part in parts])).split(sizes)
            audio = judge.audio(torch.cat([part[2] for part in parts])).split(sizes)
            losses = [
                info_nce(ours, theirs, theirs[draw_negatives(part[0])], temperature)
                for ours, theirs, part in zip(lips, audio, parts, strict=True)
            ]
            loss = torch.stack(losses).mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            bar.step(note=f"{float(loss.detach()):.3f}")
    return judge.eval().requires_grad_(False)


@torch.no_grad()
def similarities(judge: SyncJudge, clip: Clip) -> np.ndarray:
    """[S, S] of all windows of a clip; rows whose faces were not found are NaN."""
    audio = judge.audio(cut(clip.rows[0], judge.frames))
    found = np.full((len(audio), len(audio)), np.nan)
    lips = judge.lips(cut(clip.movement, judge.frames)[clip.every])
    found[clip.every.numpy()] = cosine(lips, audio).numpy()
    return found


def leave_out(
    clips: Sequence[Clip], names: Sequence[str], steps: int, frames: int, temperature: float
) -> None:
    """Prints what judges that did not learn from the named clips make of those."""
    for name in names:
        left = [clip for clip in clips if clip.name.startswith(name)]
        judge = train([clip for clip in clips if not clip.name.startswith(name)], steps, frames, temperature)
        found = [similarities(judge, clip) for clip in left]
        shares, counts = [], []
        for one in found:
            share = retrieval(one)
            shares.append(math.nan if share is None else share)
            counts.append(int(np.isfinite(one).all(1).sum()))
        offsets = [int(np.nanargmax(mean_similarities(one))) - LONGEST_OFFSET for one in found]
        share = float(np.average(shares, weights=counts))
        print(f"{name}: {share:.3f} of {sum(counts)} windows, offsets {offsets}", flush=True)


def main() -> None:
    """Reads the command line, and trains or measures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("job", choices=("train", "leave-out"))
    parser.add_argument("paths", nargs="+", type=Path, help="the asset (train), then the datasets")
    parser.add_argument("--names", nargs="+", default=["speaker"], help="beginnings of clips' names")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--frames", type=int, default=FRAMES)
    parser.add_argument("--temperature", type=float, default=TEMPERATURE)
    parser.add_argument("--cache", type=Path, default=Path(".cache/sync"))
    parser.add_argument("--level-only", action="store_true")
    given = parser.parse_args()
    out, folders = (given.paths[0], given.paths[1:]) if given.job == "train" else (None, given.paths)
    clips = [
        load_clip(path, number, given.cache, given.frames, given.level_only)
        for number, path in enumerate(sorted(folders))
    ]
    if out is None:
        leave_out(clips, given.names, given.steps, given.frames, given.temperature)
        return
    judge = train(clips, given.steps, given.frames, given.temperature)
    tensors = {name: value.half().contiguous() for name, value in judge.state_dict().items()}
    sizes = json.dumps({"frames": judge.frames, "dim_in": judge.dim_in})
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(out) as temporary:
        temporary.write_bytes(save(tensors, {"weights": whisper.DIGEST, "sizes": sizes}))
    print(out, sha256(out))


if __name__ == "__main__":
    main()
