"""How a U-Net torso is trained about a finished head (gaussian landmark 4.C): smooth L1 and VGG16's features.

A system offers it by "unet" among its recipe's `torsos`, a `UnetRecipe` as the recipe's `unet`, and
`with_unet` about its stages. The heads are drawn once a frame and kept.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nldf_engine.datasets.dataset import LABELS
from nldf_engine.nn.perceptual import PictureLoss
from nldf_engine.rendering.layer import View
from nldf_engine.rendering.portrait import Portrait
from nldf_engine.systems.common.torso_unet import UnetConfig, UnetTorso
from nldf_engine.training import distributed
from nldf_engine.training.objective import Objective, StepLoss, squared
from nldf_engine.training.public_losses import run_picture_loss
from nldf_engine.training.recipe import Recipe, check_range, check_weights, value_at
from nldf_engine.training.stages import Run, Stage, Subject, is_torso_trained


@dataclass(frozen=True)
class UnetRecipe:
    """How a U-Net torso is trained. The defaults are the paper's.

    Args:
        widths: channels of its levels, from the picture's size down.
        deformable: how many of the lowest levels have a deformable convolution.
        groups: of it.
        plate: the head stands before the scene's plate in the picture that is completed; in the paper it does
            not.
        rate, final_rate: Adam's, decayed exponentially from one to the other.
        frames: frames a step.
        most_heads: frames whose heads are drawn at most, evenly spread; they are kept in memory.
        pixel_weight: of the smooth L1.
        perceptual_weight: of the perceptual loss.
        perceptual_blocks: blocks of VGG16 that are compared, 1 to 4; a head's own perceptual loss, where it
            has one, is the U-Net's as well.
        perceptual_side: of the squares that it compares, pixels.
        perceptual_share: share of the steps that it is computed in.
        matte_weight: of the cross entropy of the speaker's opacity.
    """

    widths: tuple[int, ...] = (32, 64, 128, 256, 256)
    deformable: int = 2
    groups: int = 8
    plate: bool = False
    rate: float = 1e-3
    final_rate: float = 1e-4
    frames: int = 2
    most_heads: int = 2000
    pixel_weight: float = 1.0
    perceptual_weight: float = 1.0
    perceptual_blocks: int = 3
    perceptual_side: int = 512
    perceptual_share: float = 1.0
    matte_weight: float = 1.0

    def __post_init__(self) -> None:
        check_range("unet.frames", self.frames, 1, 1024)
        check_range("most_heads", self.most_heads, 1, 10**6)
        check_range("unet.rate", self.rate, 1e-9, 1)
        check_range("unet.final_rate", self.final_rate, 1e-9, 1)
        check_range("perceptual_blocks", self.perceptual_blocks, 1, 4)
        check_range("perceptual_side", self.perceptual_side, 8, 4096)
        check_range("perceptual_share", self.perceptual_share, 0, 1)
        check_weights(
            pixel_weight=self.pixel_weight, perceptual_weight=self.perceptual_weight,
            matte_weight=self.matte_weight,
        )  # fmt: skip
        UnetConfig(1, 1, self.widths, self.deformable, self.groups)


SMALL_UNET = UnetRecipe(
    (16, 32, 64, 96), 2, 4, plate=True, most_heads=200, pixel_weight=10.0, perceptual_weight=0.1,
    perceptual_side=64, perceptual_share=0.3, matte_weight=0.5,
)  # fmt: skip
"""For pictures of 128 pixels on a CPU."""
TINY_UNET = dataclasses.replace(
    SMALL_UNET, widths=(8, 16, 16), deformable=1, groups=2, rate=4e-3, perceptual_side=16
)
"""For tests."""


class UnetLoss(Objective):
    """Smooth L1 and perceptual loss of the colours against whole frames, background included, and the
    cross entropy of the speaker's opacity against the labels.

    Args:
        subject: the speaker; the head is trained, the torso is a `UnetTorso`.
        recipe: weights and sizes.
        perceptual: the loss of features.

    Raises:
        TypeError: another kind of torso.
    """

    def __init__(self, subject: Subject, recipe: UnetRecipe, perceptual: PictureLoss) -> None:
        super().__init__()
        torso = subject.portrait.torso
        if not isinstance(torso, UnetTorso):
            raise TypeError(f"portrait.torso: expected a UnetTorso, got {type(torso).__name__}")
        self.torso, self.recipe, self.perceptual = torso, recipe, perceptual
        self.scene = subject.scene
        # In a list, so that it is no part of what this objective trains.
        self._head = [subject.portrait.head]
        self._kept: dict[int, Tensor] = {}

    def forward(self, generator: torch.Generator) -> StepLoss:
        """See `Objective`: whole frames."""
        pool, scene, weights = self.pool(), self.scene, self.recipe
        drawn = torch.randint(len(pool), (weights.frames,), generator=generator)
        frames = pool[distributed.share(drawn, what="unet.frames")]
        heads = torch.stack([self.head(int(frame)) for frame in frames]).float() / 255
        color, logit = self.torso.complete(heads[..., :3], heads[..., 3])
        target = scene.frames[frames].to(scene.device).float() / 255
        losses = {"photometric": weights.pixel_weight * F.smooth_l1_loss(color, target)}
        if weights.perceptual_weight and torch.rand((), generator=generator) < weights.perceptual_share:
            rendered, real = self.crops(color, target, generator)
            losses["perceptual"] = weights.perceptual_weight * self.perceptual(rendered, real)
        speaker = (scene.labels[frames] != LABELS["background"]).float().to(scene.device)
        matte = F.binary_cross_entropy_with_logits(logit, speaker)
        losses["matte"] = weights.matte_weight * matte
        total = torch.stack(list(losses.values())).sum()
        logged = {name: value.detach() for name, value in losses.items()}
        return StepLoss(total, {"pixel": squared(color - target).mean().detach(), **logged})

    def crops(self, color: Tensor, target: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Squares [N, 3, S, S] of both pictures [N, H, W, 3] at one place that is drawn."""
        height, width = color.shape[1:3]
        side = min(self.recipe.perceptual_side, height, width)
        top, left = (int(torch.randint(end - side + 1, (), generator=generator)) for end in (height, width))
        rendered, real = (
            x[:, top : top + side, left : left + side].permute(0, 3, 1, 2) for x in (color, target)
        )
        return rendered, real

    def pool(self) -> Tensor:
        """[N] frames that are drawn from, at most `most_heads`."""
        every = self.scene.frame_pool
        count = min(self.recipe.most_heads, len(every))
        return every[torch.linspace(0, len(every) - 1, count).long()]

    @torch.no_grad()
    def head(self, frame: int) -> Tensor:
        """[H, W, 4] uint8, what is completed in a frame: premultiplied colours and opacity."""
        if frame not in self._kept:
            scene, head = self.scene, self._head[0]
            number = torch.tensor([frame], device=scene.device)
            training = head.training
            head.eval()
            code = head.encode_frames(scene.conditions, number)[0]
            pose, motion = (x[frame].to(scene.device) for x in (scene.poses, scene.motions))
            view = View(scene.camera, pose, motion)
            layer = self.torso.begun(view, code, head.draw(view, code))
            head.train(training)
            both = torch.cat([layer.color, layer.alpha[..., None]], -1)
            self._kept[frame] = (both * 255).round_().clamp_(0, 255).to(torch.uint8)
        return self._kept[frame]


def make_unet(subject: Subject, recipe: UnetRecipe) -> UnetTorso:
    """An untrained U-Net torso for a speaker, in front of the training video's background."""
    scene = subject.scene
    size = scene.camera.height, scene.camera.width
    torso = UnetTorso(UnetConfig(*size, recipe.widths, recipe.deformable, recipe.groups, recipe.plate))
    torso.place(scene.background, scene.torso)
    return torso


def wants_unet(run: Run) -> bool:
    """Whether a U-Net torso is trained after the head: it is chosen, and the video shows a torso.

    Raises:
        FileProblem: a head is given, and there is no torso to train about it.
    """
    return run.recipe.torso.kind == "unet" and is_torso_trained(run, True)


def with_unet(run: Run, stages: Sequence[Stage], perceptual: PictureLoss | None = None) -> list[Stage]:
    """The stages, and that of a U-Net torso behind the head's where one is wanted.

    Args:
        run: of the stages; its recipe has a `UnetRecipe` as `unet`.
        stages: of the system, one of them "head".
        perceptual: the loss of features, where the run has one already.

    Raises:
        FileProblem: see `wants_unet`; or the folder of weights, or VGG16's file in it, can't be used.
        ValueError: a U-Net torso in a run over several datasets.
    """
    if not wants_unet(run):
        return list(stages)
    if len(run.scenes) > 1:
        raise ValueError(
            f"dataset: a U-Net torso is trained for one speaker, got {len(run.scenes)} datasets; use --set "
            "torso=plate"
        )
    recipe: UnetRecipe = value_at(run.recipe, "unet")
    if perceptual is None:
        perceptual = run_picture_loss(run, recipe.perceptual_blocks, bool(recipe.perceptual_weight))
    behind = [stage.name for stage in stages].index("head") + 1
    return [*stages[:behind], unet_stage(recipe, perceptual), *stages[behind:]]


def unet_stage(recipe: UnetRecipe, perceptual: PictureLoss) -> Stage:
    """The stage that trains a U-Net torso about the head of a run's speaker; to come behind the head's."""
    made: list[UnetTorso] = []

    def build(run: Run) -> None:
        made.append(make_unet(run.subjects[0], recipe))

    def start(run: Run) -> None:
        subject = run.subjects[0]
        subject.portrait.head.requires_grad_(False)
        subject.portrait = Portrait(subject.portrait.head, made[0]).to(run.device)

    def objective(run: Run, subject: Subject) -> Objective:
        return UnetLoss(subject, recipe, perceptual.to(run.device))

    def changed(of: Recipe) -> Recipe:
        rates: Any = {"learning_rate": recipe.rate, "final_learning_rate": recipe.final_rate}
        return dataclasses.replace(of.for_torso(), **rates)

    kind: Callable[[Run, Subject], Objective] = objective
    return Stage("torso", build, kind, "torso.steps", start, changed, 2, "torso", "'s torso")
