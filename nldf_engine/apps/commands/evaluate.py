"""`nldf evaluate`: avatar + dataset -> figures, a side-by-side video and a contact sheet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from tyro.conf import Positional

from nldf_engine.apps.command import (
    Command,
    Device,
    Json,
    check_device,
    checking_flags,
    optional,
    output,
    positive,
    save_figures,
    value,
)


@dataclass(frozen=True)
class Evaluate(Command):
    """Measure an avatar against the frames of a dataset that it has not seen.

    Every figure on the lips comes a second time with audio from elsewhere in the clip: an avatar
    whose lips follow the audio must score worse there.
    """

    examples: ClassVar[tuple[str, ...]] = (
        "nldf evaluate avatars/me data/speaker",
        "nldf evaluate avatars/me data/speaker --frames 100 -o report --json figures.json",
    )

    reads: ClassVar[tuple[str, ...]] = ("avatar", "dataset")
    fills: ClassVar[tuple[str, ...]] = ("out",)

    avatar: Annotated[Path, Positional, value("AVATAR")]
    """folder written by nldf train"""
    dataset: Annotated[Path, Positional, value("DATASET")]
    """the dataset to compare with"""
    split: Literal["heldout", "validation", "fit", "train", "all"] = "heldout"
    """which part of the dataset; no training learns from heldout; train is fit and validation"""
    frames: Annotated[int | None, optional("N")] = None
    """at most N frames; by default the whole part"""
    torso: Literal["tracked", "predicted"] = "tracked"
    """whether the torso's tracked motion in those frames goes with their poses, or is predicted from them"""
    out: Annotated[Path | None, output("FOLDER", required=False)] = None
    """folder of the report with its pictures; by default AVATAR/evaluation/SPLIT"""
    size: Annotated[int | None, optional("N")] = None
    """width to render and compare at, in pixels; by default the avatar's, at most the dataset's"""
    device: Device = "auto"
    """where to render"""
    json: Json = None
    """write the figures here, too"""

    def run(self) -> int:
        """Measures, and prints the figures one a line."""
        positive(frames=self.frames, size=self.size)
        check_device(self.device)
        from nldf_engine.evaluation import EvaluateConfig, evaluate

        with checking_flags():
            config = EvaluateConfig(self.split, self.frames, self.size, device=self.device, torso=self.torso)
        figures = evaluate(self.avatar, self.dataset, self.out, config)
        width = max(map(len, figures))
        for name, figure in figures.items():
            shown = f"{figure:.4g}" if isinstance(figure, float) else "-" if figure is None else figure
            print(f"{name:<{width}}  {shown}")
        save_figures(self.json, figures)
        return 0
