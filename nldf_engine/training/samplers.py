"""Which pixels a step sees: rays by shares of mouth, eyes, head, speaker, frame and region; patches; frames.

Every random number comes from a generator that the caller owns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from nldf_engine.datasets.dataset import LABELS
from nldf_engine.geometry.face_mesh import LEFT_EYE, OUTER_LIP, RIGHT_EYE
from nldf_engine.training.recipe import Sampling

MOUTH_MARGIN = 0.03
EYE_MARGIN = 0.02
REJECTION_ROUNDS = 20
CANDIDATES = 4
# Pixel numbers that are kept of all frames together: 256 MB.
MOST_KEPT = 1 << 26


def in_boxes(boxes: Sequence[Tensor], frames: Tensor, pixels: Tensor, width: int) -> Tensor:
    """[F, P] bool: where pixel numbers [F, P] of frames [F] lie in one of the boxes.

    Args:
        boxes: each [T, 4], x0, y0, x1, y1 in pixels, rims included.
        frames: [F], on the device of the boxes.
        pixels: [F, P] row-major pixel numbers.
        width: of the frames, pixels.
    """
    x, y = pixels % width, pixels // width
    inside = torch.zeros(pixels.shape, dtype=torch.bool, device=pixels.device)
    for every in boxes:
        box = every[frames].to(pixels.device)[..., None]
        inside |= (x >= box[:, 0]) & (x <= box[:, 2]) & (y >= box[:, 1]) & (y <= box[:, 3])
    return inside


class PixelSampler:
    """Draws pixel numbers.

    Args:
        labels: [T, H, W] uint8, `datasets.dataset.LABELS`.
        landmarks: [T, 478, 2] pixels of these frames.
        in_region: frame number and pixels [N] to [N] bool, whether their rays may meet what is trained.
        own: labels of what is trained, of which the share of the face is drawn.
    """

    def __init__(
        self, labels: Tensor, landmarks: Tensor, in_region: Callable[[int, Tensor], Tensor],
        own: tuple[str, ...] = ("head",),
    ) -> None:  # fmt: skip
        self.labels, self.in_region = labels, in_region
        self.own = [LABELS[name] for name in own]
        self.height, self.width = labels.shape[1:]
        self._kept: dict[int, Tensor] = {}
        self._room = MOST_KEPT
        self.mouths = self._boxes(landmarks[:, list(OUTER_LIP)], MOUTH_MARGIN)
        self.eyes = [self._boxes(landmarks[:, list(eye)], EYE_MARGIN) for eye in (RIGHT_EYE, LEFT_EYE)]

    def _boxes(self, points: Tensor, margin: float) -> Tensor:
        """[T, 4] x0, y0, x1, y1 about points [T, N, 2], pixels; the margin is a share of the width."""
        margin *= self.width
        boxes = torch.cat([points.amin(1) - margin, points.amax(1) + margin], 1).nan_to_num(0)
        limit = torch.tensor([self.width, self.height] * 2) - 1
        return torch.minimum(boxes.clamp_min(0), limit).long()

    def places(
        self, frames: Tensor, own: Sequence[str], mouth: float, eyes: float, generator: torch.Generator
    ) -> Tensor:
        """[F, 4] boxes about which the patches of frames [F] lie (`PatchSampler.draw`).

        Args:
            frames: [F], on the CPU.
            own: labels of what is trained, about which the other patches lie.
            mouth, eyes: shares of the patches that lie about lips and about one of the eyes instead.
            generator: draws them, on the CPU.
        """
        boxes = label_boxes(self.labels[frames], own)
        coin = torch.rand(len(frames), generator=generator)
        side = torch.randint(2, (len(frames),), generator=generator)
        own_eyes = torch.stack(self.eyes)[side, frames]
        on_mouth = coin < mouth
        on_eye = ~on_mouth & (coin < mouth + eyes)
        boxes[on_mouth], boxes[on_eye] = self.mouths[frames][on_mouth], own_eyes[on_eye]
        return boxes

    def draw(self, frames: Tensor, count: int, shares: Sampling, generator: torch.Generator) -> Tensor:
        """[F, count] pixel numbers of frames [F], drawn by `generator` (on the CPU)."""
        mouth, eyes = int(count * shares.mouth_share), int(count * shares.eyes_share)
        face = int(count * shares.face_share) - mouth - eyes
        person, everywhere = int(count * shares.person_share), int(count * shares.frame_share)
        if (
            shares.face_share + shares.person_share + shares.frame_share > 1 - 1e-6
        ):  # rounding leaves none to the region
            everywhere = count - mouth - eyes - face - person
        region = count - mouth - eyes - face - person - everywhere
        parts = [
            self._in_boxes(
                (self.mouths, *self.eyes), frames, (mouth, eyes // 2, eyes - eyes // 2), generator
            ),
            self._on_speaker(frames, person, generator),
            torch.randint(self.height * self.width, (len(frames), everywhere), generator=generator),
        ]
        if face + region:
            parts.append(torch.stack([self._on_own(int(f), face, region, generator) for f in frames]))
        return torch.cat(parts, 1)

    def _in_boxes(
        self, boxes: Sequence[Tensor], frames: Tensor, counts: Sequence[int], generator: torch.Generator
    ) -> Tensor:
        """[F, sum of counts] pixels of frames [F], so many drawn evenly from each of the boxes [T, 4]."""
        drawn = [torch.rand(len(frames), count, 2, generator=generator) for count in counts]
        own = torch.stack([box[frames] for box in boxes], 1)
        box = own.repeat_interleave(torch.tensor(counts), 1)
        size = box[..., 2:] - box[..., :2] + 1
        spot = box[..., :2] + (torch.cat(drawn, 1) * size).long()
        return spot[..., 1] * self.width + spot[..., 0]

    def _on_speaker(self, frames: Tensor, count: int, generator: torch.Generator) -> Tensor:
        """[F, count] pixels that are not background, by rejection; a small speaker's rows are filled up."""
        if not count:
            return torch.empty(len(frames), 0, dtype=torch.long)
        shape = (len(frames), CANDIDATES * count)
        spots = torch.randint(self.height * self.width, shape, generator=generator)
        flat = frames[:, None] * (self.height * self.width) + spots
        hit = self.labels.view(-1).take(flat) != LABELS["background"]
        # The first hits of every row, and behind them, where there are too few, misses.
        hits = hit.cumsum(1)
        misses = torch.arange(1, CANDIDATES * count + 1) - hits + hits[:, -1:]
        place = torch.where(hit, hits, misses) - 1
        return torch.empty_like(spots).scatter_(1, place, spots)[:, :count]

    def _on_own(self, frame: int, face: int, region: int, generator: torch.Generator) -> Tensor:
        own = self._own(frame)
        if not len(own):
            return self._in_region(frame, face + region, generator)
        inside = own[torch.randint(len(own), (face,), generator=generator)].long()
        return torch.cat([inside, self._in_region(frame, region, generator)]) if region else inside

    def _own(self, frame: int) -> Tensor:
        """[N] int32 numbers of the pixels that are drawn from; kept, because a mask has far more of them."""
        if frame in self._kept:
            return self._kept[frame]
        on = torch.zeros(self.height, self.width, dtype=torch.bool)
        for label in self.own:  # several times as fast as torch.isin
            on |= self.labels[frame] == label
        found = on.reshape(-1).nonzero()[:, 0].int()
        if self._room >= len(found):
            self._room -= len(found)
            self._kept[frame] = found
        return found

    def _in_region(self, frame: int, count: int, generator: torch.Generator) -> Tensor:
        """[count] pixels whose rays may meet the head, by rejection: rays of whole frames would cost more."""
        every = self.height * self.width
        kept = torch.empty(0, dtype=torch.long)
        for _ in range(REJECTION_ROUNDS):
            if len(kept) >= count:
                break
            wanted = CANDIDATES * (count - len(kept)) + 16
            candidates = torch.randint(every, (wanted,), generator=generator)
            kept = torch.cat([kept, candidates[self.in_region(frame, candidates)]])
        # A head that fills next to nothing of the frame: the row still has to be full.
        missing = torch.randint(every, (max(0, count - len(kept)),), generator=generator)
        return torch.cat([kept[:count], missing])


class PatchSampler:
    """Square patches at random places and scales, for losses that need neighbouring pixels.

    Args:
        height, width: of the frames, pixels.
        side: of a patch, rays.
        scales: (least, most) distance between neighbouring rays, pixels; drawn evenly in between.

    Raises:
        ValueError: patches that do not fit into the frame.
    """

    def __init__(self, height: int, width: int, side: int, scales: tuple[float, float] = (1.0, 1.0)) -> None:
        least, most = scales
        if not (side >= 1 and 1 <= least <= most) or (side - 1) * least + 1 > min(height, width):
            raise ValueError(
                f"PatchSampler: expected patches within {width} x {height}, got {side} rays of {scales}"
            )
        self.height, self.width, self.side, self.scales = height, width, side, scales

    def draw(
        self, frames: Tensor, generator: torch.Generator, about: Tensor | None = None
    ) -> tuple[Tensor, tuple[int, int]]:
        """[F, side^2] pixel numbers of one patch a frame [F], row by row, and their grid (side, side).

        Args:
            frames: [F] frame numbers.
            generator: draws scales and places, on the CPU.
            about: [F, 4] boxes x0, y0, x1, y1, pixels, in which the patches' middles are, as far as the
                frame's borders allow; None for anywhere.
        """
        least, most = self.scales
        most = min(most, (min(self.height, self.width) - 1) / max(1, self.side - 1))
        scale = least + max(0.0, most - least) * torch.rand(len(frames), 1, generator=generator)
        steps = torch.arange(self.side)[None] * scale  # [F, side]
        room = torch.tensor([self.height, self.width]) - 1 - steps[:, -1:]
        place = torch.rand(len(frames), 2, generator=generator)
        if about is None:
            corner = place * room
        else:
            low, high = about[:, [1, 0]].float(), about[:, [3, 2]].float()
            middle = low + place * (high - low)
            corner = torch.minimum((middle - steps[:, -1:] / 2).clamp_min(0), room)
        rows = (corner[:, :1] + steps).round().long().clamp_(max=self.height - 1)
        columns = (corner[:, 1:] + steps).round().long().clamp_(max=self.width - 1)
        return (rows[:, :, None] * self.width + columns[:, None]).flatten(1), (self.side, self.side)


def label_boxes(labels: Tensor, own: Sequence[str]) -> Tensor:
    """[F, 4] int64 x0, y0, x1, y1 about the named labels in each of the frames [F, H, W]; the whole frame
    without one."""
    height, width = labels.shape[1:]
    names = [LABELS[name] for name in own]
    found = torch.tensor([0, 0, width - 1, height - 1]).repeat(len(labels), 1)
    for box, frame in zip(found, labels, strict=True):
        inside = torch.zeros(height, width, dtype=torch.bool)
        for name in names:
            inside |= frame == name
        rows, columns = inside.any(1).nonzero()[:, 0], inside.any(0).nonzero()[:, 0]
        if len(rows):
            box.copy_(torch.stack([columns[0], rows[0], columns[-1], rows[-1]]))
    return found


def whole_frames(frames: Tensor, height: int, width: int) -> tuple[Tensor, tuple[int, int]]:
    """[F, H * W], every pixel number of frames [F], and their grid (H, W)."""
    return torch.arange(height * width).expand(len(frames), -1), (height, width)
