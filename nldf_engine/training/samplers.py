"""Which pixels a step sees: rays by shares of mouth, eyes, head, speaker, frame and region; patches; frames.

Every random number comes from a generator that the caller owns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from nldf_engine.datasets.dataset import LABELS
from nldf_engine.geometry.face_mesh import LEFT_EYE, OUTER_LIP, RIGHT_EYE
from nldf_engine.ops import draw_pixels
from nldf_engine.training.recipe import Sampling

MOUTH_MARGIN = 0.03
EYE_MARGIN = 0.02
REJECTION_ROUNDS = 20
CANDIDATES = 4


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


def in_labels(labels: Tensor, own: Sequence[int]) -> Tensor:
    """Bool of the shape of `labels`: which are among `own`; several times as fast as torch.isin."""
    inside = torch.zeros(labels.shape, dtype=torch.bool)
    for label in own:
        inside |= labels == label
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
        head = self._rows(lambda frame: in_labels(frame, self.own))
        self._sums = self._rows(lambda frame: frame != LABELS["background"]), head
        # Frames that show nothing of what is trained.
        self._bare = set((head[:, -1] == 0).nonzero()[:, 0].tolist())
        self.mouths = self._boxes(landmarks[:, list(OUTER_LIP)], MOUTH_MARGIN)
        self.eyes = [self._boxes(landmarks[:, list(eye)], EYE_MARGIN) for eye in (RIGHT_EYE, LEFT_EYE)]
        self._every_box = torch.stack([self.mouths, *self.eyes])

    def _rows(self, where: Callable[[Tensor], Tensor]) -> Tensor:
        """[T, H] int32: in how many pixels of a row and those above it `where` holds, frame by frame."""
        every = [where(frame).sum(-1, dtype=torch.int32) for frame in self.labels]
        return torch.stack(every).cumsum(1, dtype=torch.int32)

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
        even = torch.rand(len(frames), count - region, 2, generator=generator)
        parts = mouth, eyes // 2, eyes - eyes // 2, person, everywhere, face
        pixels = draw_pixels(
            even, frames, self.labels, *self._sums, self._every_box, parts, LABELS["background"], self.own
        )
        numbers = frames.tolist()
        for row, frame in enumerate(numbers):
            if frame in self._bare:
                pixels[row, count - region - face :] = self._in_region(frame, face, generator)
        if not region:
            return pixels
        return torch.cat([pixels, torch.stack([self._in_region(f, region, generator) for f in numbers])], 1)

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
        inside = in_labels(frame, names)
        rows, columns = inside.any(1).nonzero()[:, 0], inside.any(0).nonzero()[:, 0]
        if len(rows):
            box.copy_(torch.stack([columns[0], rows[0], columns[-1], rows[-1]]))
    return found


def whole_frames(frames: Tensor, height: int, width: int) -> tuple[Tensor, tuple[int, int]]:
    """[F, H * W], every pixel number of frames [F], and their grid (H, W)."""
    return torch.arange(height * width).expand(len(frames), -1), (height, width)
