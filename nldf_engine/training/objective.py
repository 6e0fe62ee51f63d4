"""What is minimised: an objective draws a batch and returns its loss, all inside one `forward`.

One `forward` is what DistributedDataParallel wraps, so that gradients are averaged over processes.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nldf_engine.nn.audio import neighbour_index
from nldf_engine.ops import native
from nldf_engine.rendering.fields import Conditions
from nldf_engine.training import distributed
from nldf_engine.training.recipe import OpacityLoss, Recipe
from nldf_engine.training.scene import Batch, Tensors, sent
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

    def no_graph_reason(self) -> str:
        """Why steps can't be recorded as CUDA graphs (`training.graphs`); empty where they can.

        They can where a step is split into `draw_inputs`, which runs on the host, and `loss_of`, which runs
        on the device.
        """
        return "it draws random numbers while it computes its loss"

    def draw_inputs(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Everything that a step draws, chooses and looks up on the CPU, by name.

        Raises:
            TypeError: its steps are not split.
        """
        raise TypeError(f"{type(self).__name__}: its steps are not split: {self.no_graph_reason()}")

    def loss_of(self, inputs: Tensors) -> StepLoss:
        """The loss that `forward` would return, of what `draw_inputs` gave, sent to the device.

        It doesn't wait for the device, and nothing that it reads changes from step to step but `inputs` and
        the parameters.

        Raises:
            TypeError: its steps are not split.
        """
        raise TypeError(f"{type(self).__name__}: its steps are not split: {self.no_graph_reason()}")

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
        inputs = self.draw_inputs(generator, first)
        batch, code = self.seen(sent(inputs, self.scene.device), generator)
        return dataclasses.replace(batch, drawn=(inputs["frames"], inputs["pixels"])), code

    def draw_inputs(self, generator: torch.Generator, first: Tensor | None = None) -> dict[str, Tensor]:
        """What `draw` draws and looks up, on the CPU."""
        sampling = self.recipe.sampling
        frames = self.frames(generator, first)
        count = distributed.rounded(max(1, sampling.rays // sampling.frames))
        pixels = distributed.share(self.target.draw(frames, count, sampling, generator), 1)
        return self.looked(frames, pixels, generator)

    def looked(self, frames: Tensor, pixels: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """What `seen` takes of pixel numbers [F, P] of frames [F], on the CPU."""
        return self.target.look(frames, pixels) | self.noise(frames, generator)

    def seen(self, inputs: Tensors, generator: torch.Generator | None = None) -> tuple[Batch, Tensor]:
        """A batch and codes.

        Args:
            inputs: what `draw_inputs` or `looked` gave, sent to the device.
            generator: for targets whose codes draw noise of their own.
        """
        code = self.target.codes(self.conditions(inputs), inputs["frames"], generator)
        return self.target.seen(inputs, code), code

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
        device = self.scene.device
        conditions = self.conditions(sent(self.noise(frames, generator), device))
        return self.target.codes(conditions, native.send(frames, device), generator)

    def noise(self, frames: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Standard normal noise on what drives the mouth in `frames` [F], on the CPU: of the motion codes, or
        of the audio windows that these frames read, and which they are."""
        conditions = self.scene.conditions
        if conditions.motion is not None:
            shape, dtype = conditions.motion.shape, conditions.motion.dtype
            return {"motion noise": torch.randn(shape, dtype=dtype, generator=generator)}
        if not self.recipe.driving.audio_noise:
            return {}
        shape = conditions.audio.shape
        read = neighbour_index(frames.reshape(-1).cpu(), self._neighbours(), shape[0]).unique()
        read = read[read < shape[0]]
        return {"read": read, "audio noise": torch.randn(len(read), *shape[1:], generator=generator)}

    def conditions(self, noise: Tensors) -> Conditions:
        """The clip's conditions under `noise`, times what the recipe has of it."""
        conditions, driving = self.scene.conditions, self.recipe.driving
        if conditions.motion is not None:
            moved = conditions.motion + driving.motion_noise * noise["motion noise"]
            return conditions.replaced(motion=moved)
        if "read" not in noise:
            return conditions
        added = driving.audio_noise * noise["audio noise"]
        return conditions.replaced(audio=conditions.audio.index_add(0, noise["read"], added))

    def _neighbours(self) -> int:
        """Windows about a frame that its code is made of."""
        return int(self.target.field.config.conditions.attention_frames)
