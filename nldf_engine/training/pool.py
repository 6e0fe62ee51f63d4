"""The active pool: the rays that the light field finds hardest, trained again in every step (nldf 3.5)."""

from __future__ import annotations

import torch
from torch import Tensor


class ActivePool:
    """A bounded set of (frame, pixel) rays with their latest loss.

    Rays of a step whose loss is among the highest `share` enter; when the pool is full, they take the
    places of its easiest rays. What is drawn gets its loss renewed, so that a learned ray can leave.

    Args:
        capacity: rays that it holds at most.
        share: j, the share of offered rays that enters.
    """

    def __init__(self, capacity: int, share: float) -> None:
        if capacity < 1 or not 0 < share <= 1:
            raise ValueError(
                f"ActivePool: expected capacity >= 1 and 0 < share <= 1, got {capacity}, {share}"
            )
        self.capacity, self.share = capacity, share
        self.frames = torch.empty(0, dtype=torch.long)
        self.pixels = torch.empty(0, dtype=torch.long)
        self.losses = torch.empty(0)

    def __len__(self) -> int:
        return len(self.losses)

    def offer(self, frames: Tensor, pixels: Tensor, losses: Tensor) -> None:
        """Offers a step's rays: frame numbers [N], pixel numbers [N], losses [N]."""
        count = max(1, int(len(losses) * self.share)) if len(losses) else 0
        hardest = losses.topk(count).indices
        frames, pixels, losses = frames[hardest], pixels[hardest], losses[hardest]
        room = max(0, self.capacity - len(self))
        if room > 0:
            self.frames = torch.cat([self.frames, frames[:room]])
            self.pixels = torch.cat([self.pixels, pixels[:room]])
            self.losses = torch.cat([self.losses, losses[:room]])
        frames, pixels, losses = frames[room:], pixels[room:], losses[room:]
        if len(losses):
            easiest = self.losses.topk(min(len(losses), len(self)), largest=False).indices
            count = len(easiest)
            harder = losses[:count] > self.losses[easiest]
            slots = easiest[harder]
            self.frames[slots] = frames[:count][harder]
            self.pixels[slots] = pixels[:count][harder]
            self.losses[slots] = losses[:count][harder]

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """(slots, frames, pixels), each [N], of up to `count` rays drawn evenly by `generator`."""
        slots = (
            torch.randint(len(self), (min(count, len(self)),), generator=generator)
            if len(self)
            else torch.empty(0, dtype=torch.long)
        )
        return slots, self.frames[slots], self.pixels[slots]

    def renew(self, slots: Tensor, losses: Tensor) -> None:
        """Sets the losses of drawn rays again."""
        self.losses[slots] = losses

    def state(self) -> dict[str, Tensor]:
        """Tensors that `restore` takes back."""
        return {"frames": self.frames, "pixels": self.pixels, "losses": self.losses}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continues from `state`."""
        self.frames, self.pixels, self.losses = state["frames"], state["pixels"], state["losses"]
