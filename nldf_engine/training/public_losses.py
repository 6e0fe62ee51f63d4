"""Losses of a run that use public weights of other networks, and the record of which they were."""

from __future__ import annotations

import sys

from nldf_engine.base.errors import FileProblem
from nldf_engine.nn.perceptual import PictureLoss, picture_loss
from nldf_engine.nn.weights import VGG16
from nldf_engine.training.stages import Run


def run_picture_loss(run: Run, blocks: int, used: bool = True) -> PictureLoss:
    """The perceptual loss of a run, which is not trained: VGG16's, or its substitute.

    Args:
        run: notes which it is; standard error says so where it is the substitute.
        blocks: of VGG16 that are compared.
        used: the loss has a weight; else nothing is noted or said.

    Raises:
        FileProblem: the folder of weights, or VGG16's file in it, can't be used; or a folder is given and
            the file is neither there nor in torch's cache.
    """
    perceptual, why = picture_loss(run.config.weights, blocks)
    if used:
        if why and run.config.weights is not None:
            raise FileProblem(
                run.config.weights, f"it does not hold {VGG16.name}",
                f"save it there, from {VGG16.source}, or leave out the folder: {perceptual.name} serve then",
            )  # fmt: skip
        if why and run.notes.get("perceptual_loss") != perceptual.name:
            sys.stderr.write(f"the perceptual loss is {perceptual.name}, in VGG16's place: {why}\n")
        run.notes["perceptual_loss"] = perceptual.name
    return perceptual.requires_grad_(False)
