"""What is minimised: an objective draws a batch and returns its loss, all inside one `forward`.

One `forward` is what DistributedDataParallel wraps, so that gradients are averaged over processes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nldf_engine.nn.audio import neighbour_index
from nldf_engine.nn.noise import normal_like
from nldf_engine.ops import native
from nldf_engine.rendering.fields import Conditions
from nldf_engine.training import distributed
from nldf_engine.training.recipe import OpacityLoss, Recipe
from nldf_engine.training.scene import Batch
from nldf_engine.training.targets import TrainTarget


@dataclass(frozen=True)
class StepLoss:
    """A step's loss to differentiate, and losses to log: detached scalars, "pixel" among them."""

    total: Tensor
    logged: dict[str, Tensor]


class Objective(nn.Module, ABC):
    """The loss of a system. What is trained and drawn from belongs to it, and so it sees everything it needs.

    Submodules are trained: the network itself, and what the objective adds (`added`).

    Attributes:
        share: of the budget of steps or minutes that is used, 0 to 1; the trainer sets it before each step.
        settled: the share from which on the loss is the one that the run is for. Weights of before are not
            kept as the best, however good their validation.
    """

    share: float = 0.0
    settled: float = 0.0

    @abstractmethod
    def forward(self, generator: torch.Generator) -> StepLoss:
        """Draws a batch by `generator` (on the CPU) and returns its loss."""
        ...

    def added(self) -> list[nn.Parameter]:
        """Parameters that are trained beside the portrait, and are no part of the avatar."""
        return []

    def begin(self, frames: Tensor) -> None:
        """Frames [F] are trained on from now on as well."""

    def state(self) -> dict[str, Tensor]:
        """Tensors beyond the portrait's that a resumed run needs."""
        return {}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continues from `state`."""


def squared(error: Tensor) -> Tensor:
    """Sum over the colour channels of the squared error: [..., 3] to [...]; nldf eq. (8) a ray."""
    return error.square().sum(-1)


def weigh_opacity(error: Tensor, mask: Tensor, batch: Batch, loss: OpacityLoss) -> Tensor:
    """The mean of an opacity's squared error [F, P], weighted by where its mask [F, P] is empty and full."""
    outside, inside = loss.outside_weight, loss.inside_weight
    if outside != 1:
        error = error * (outside + (1 - outside) * mask)
    if inside != 1:
        error = error * (1 + (inside - 1) * mask * batch.interior)
    return error.mean()


class RayBatches:
    """Draws a step's frames and rays, and the codes that go with them.

    Args:
        target: what is trained.
        recipe: rays, shares and noise.
    """

    def __init__(self, target: TrainTarget, recipe: Recipe) -> None:
        self.target, self.scene, self.recipe = target, target.scene, recipe
        self._blinks = target.scene.frame_pool, target.scene.blinks()

    def draw(self, generator: torch.Generator, first: Tensor | None = None) -> tuple[Batch, Tensor]:
        """A batch of `sampling.frames` frames and their codes [F, C]; of several processes each has its part
        of every frame's rays.

        `first` is a set of which half of the frames are taken.
        """
        sampling = self.recipe.sampling
        frames = self.frames(generator, first)
        count = distributed.rounded(max(1, sampling.rays // sampling.frames))
        pixels = distributed.share(self.target.draw(frames, count, sampling, generator), 1)
        code = self.codes(frames, generator)
        return self.target.batch(frames, pixels, code), code

    def frames(self, generator: torch.Generator, first: Tensor | None = None) -> Tensor:
        """[F] frame numbers; see `draw`."""
        count, share = self.recipe.sampling.frames, self.recipe.sampling.blink_share
        pool = self.scene.frame_pool
        frames = pool[torch.randint(len(pool), (count,), generator=generator)]
        if first is not None and len(first):
            # An odd number is rounded up or down in turn by chance: with one frame a step, every other one.
            half = (count + int(torch.rand((), generator=generator) < 0.5)) // 2
            frames[:half] = first[torch.randint(len(first), (half,), generator=generator)]
        if self._blinks[0] is not pool:
            self._blinks = pool, self.scene.blinks()
        blinks = self._blinks[1]
        if share and len(blinks):
            often = torch.rand(count, generator=generator) < share
            frames[often] = blinks[torch.randint(len(blinks), (int(often.sum()),), generator=generator)]
        return frames

    def codes(self, frames: Tensor, generator: torch.Generator) -> Tensor:
        """[F, C] codes of frames [F], with the recipe's noise."""
        conditions = self.conditions(frames, generator)
        return self.target.codes(conditions, native.send(frames, self.scene.device), generator)

    def conditions(self, frames: Tensor, generator: torch.Generator) -> Conditions:
        """The clip's conditions, with the recipe's noise on what drives the mouth in `frames` [F]."""
        conditions, driving = self.scene.conditions, self.recipe.driving
        if conditions.motion is not None:
            noise = driving.motion_noise * normal_like(conditions.motion, generator)
            return conditions.replaced(motion=conditions.motion + noise)
        if not driving.audio_noise:
            return conditions
        # Only the windows that these frames read get noise: to find them on the CPU waits for no device.
        audio = conditions.audio
        read = neighbour_index(frames.reshape(-1).cpu(), self._neighbours(), len(audio)).unique()
        read = read[read < len(audio)]
        noise = driving.audio_noise * torch.randn(len(read), *audio.shape[1:], generator=generator)
        return conditions.replaced(audio=audio.index_add(0, read.to(audio.device), noise.to(audio.device)))

    def _neighbours(self) -> int:
        """Windows about a frame that its code is made of."""
        return int(self.target.field.config.conditions.attention_frames)
