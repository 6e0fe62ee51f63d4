"""Patches of a light field beside single rays, compared as people see them (`Sharpening`)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nldf_engine.datasets.dataset import LABELS
from nldf_engine.nn.perceptual import LpipsLoss
from nldf_engine.systems.nldf.objective.rays import LightFieldLoss
from nldf_engine.training import distributed
from nldf_engine.training.objective import RayBatches
from nldf_engine.training.samplers import PatchSampler
from nldf_engine.training.scene import Tensors

SPEAKER = tuple(name for name in LABELS if name != "background")


class PatchTerm(nn.Module):
    """Squares of neighbouring pixels, each of another frame, and their LPIPS to the video.

    Args:
        loss: how a batch is seen, of what, and by which recipe.
        batches: draws codes.

    Attributes:
        share: how many rays the patches of a step have, over those that it draws singly.
    """

    def __init__(self, loss: LightFieldLoss, batches: RayBatches) -> None:
        super().__init__()
        self.loss, self.batches = loss, batches
        scene, self.sharpening = loss.scene, loss.recipe.sharpening
        height, width = scene.camera.height, scene.camera.width
        self._patches = PatchSampler(height, width, min(self.sharpening.side, height, width))
        self.distance = LpipsLoss().to(scene.device)
        self.share = self.sharpening.patches * self._patches.side**2 / loss.recipe.sampling.rays

    def draw_inputs(self, generator: torch.Generator) -> dict[str, Tensor]:
        """What a step draws and looks up, on the CPU."""
        sharpening, scene = self.sharpening, self.loss.scene
        count = distributed.rounded(sharpening.patches)
        drawn = torch.randint(len(scene.frame_pool), (count,), generator=generator)
        frames = distributed.share(scene.frame_pool[drawn])
        shares = sharpening.mouth_share, sharpening.eyes_share
        places = scene.patch_places(frames, SPEAKER, *shares, generator)
        pixels, _ = self._patches.draw(frames, generator, places)
        inputs = self.batches.looked(frames, pixels, generator)
        return inputs | self.loss.noise(len(frames), generator)

    def forward(self, inputs: Tensors, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """The loss of the patches' colours, and their mean perceptual distance to the video.

        Args:
            inputs: what `draw_inputs` gave, sent to the device.
            generator: for targets whose codes draw noise of their own.
        """
        batch, code = self.batches.seen(inputs, generator)
        _, compared, _ = self.loss(batch, code, inputs, 0.0)
        grid = self._patches.side, self._patches.side
        made, real = (
            colors.unflatten(1, grid).permute(0, 3, 1, 2)
            for colors in (batch.target + compared.error, batch.target)
        )
        return compared.total, self.distance(made, real)
