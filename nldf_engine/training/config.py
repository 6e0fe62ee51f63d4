"""The settings of a run beside its preset, and what comes out of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nldf_engine.avatar.provenance import Consent
from nldf_engine.base.seeds import check_seed
from nldf_engine.ops.products import check_products

LONGEST_MINUTES = 60 * 24 * 365


@dataclass(frozen=True)
class TrainConfig:
    """The settings of a run beside its preset.

    Args:
        teacher: an avatar whose fields teach (systems with distillation only).
        head: an avatar whose trained head is taken as it is; only the torso's field is trained.
        base: file of a base to begin from, or the output of the run that made it, or "bundled", where one
            comes with the package for the preset (`training.bases`).
        seconds: train on so many seconds of each dataset alone, those that cover its training part best
            (`datasets.stretch`); on all of it where None. Held-out frames stay the same.
        size: width of the training pictures; the preset's where None.
        steps: optimiser steps of the head; the preset's where None.
        minutes: a time budget instead of steps; head and torso share it as they share the steps.
        device: "auto", "cpu" or "cuda".
        resume: continue from the checkpoint.
        seed: of weights and sampling.
        overrides: settings of the recipe to change (`training.recipe.setting_path`), as text.
        consent: who agreed to the avatar; the teacher's record, or none, where None.
        keep: steps of the head at which the avatar is written beside, as AVATAR-STEP: with the weights that
            the run would have kept had it been stopped there, without a torso's field, and with the speech
            network that was not trained on the validation split. The run itself is the same with and without.
        targets: folder of the teacher's targets, for students of one teacher to share; the run's own where
            None.
        audio_frontend: what turns speech into features, as `FrontendConfig.parse` reads it; what the datasets
            were prepared with where None.
        look_ahead: milliseconds of sound that a frame may wait for when the avatar is streamed; the
            front-end's usual ones where None.
        graphs: on a GPU, replay steps as CUDA graphs where a preset's steps allow it; the course of a run is
            the same with and without, but for rounding.
        matmul: on a GPU, how torch computes the steps' matrix products and convolutions: "tf32", from
            operands of 10 bits, or "fp32" (`ops.products`). What validates and renders is not concerned.
        weights: folder with public weights of networks that a system's losses use, such as VGG16's; torch's
            cache is searched as well.

    Raises:
        TypeError, ValueError: the seed is no integer of 0 to 2^32 - 1.
        ValueError: a step to keep is below 1, a budget that is none, seconds that are no positive number, or
            an unknown kind of matrix products.
    """

    teacher: Path | None = None
    head: Path | None = None
    base: str | Path | None = None
    seconds: float | None = None
    size: int | None = None
    steps: int | None = None
    minutes: float | None = None
    device: str = "auto"
    resume: bool = False
    seed: int = 0
    overrides: Mapping[str, str] = field(default_factory=dict)
    consent: Consent | None = None
    keep: tuple[int, ...] = ()
    targets: Path | None = None
    audio_frontend: str | None = None
    look_ahead: float | None = None
    weights: Path | None = None
    graphs: bool = True
    matmul: str = "tf32"

    def __post_init__(self) -> None:
        check_seed(self.seed)
        check_products("matmul", self.matmul)
        if self.seconds is not None and not 0 < self.seconds < float("inf"):
            raise ValueError(f"seconds: expected more than 0, got {self.seconds}")
        if min(self.keep, default=1) < 1:
            raise ValueError(f"keep: expected steps of 1 or more, got {min(self.keep)}")


@dataclass(frozen=True)
class TrainResult:
    """What came out.

    Args:
        avatar: the folder; of a run over several datasets, the first speaker's.
        steps, seconds: spent in all trained stages (validation and preparation left out).
        validation_psnr: the best on the validation split, dB, full frame, while it was not trained on.
        history: of the first trained stage, see `RunState`.
        torso_history: the same of the stage behind it; empty where there is none.
        avatars: the folders of all speakers.
        base: the file of the base that was made, or None.
    """

    avatar: Path
    steps: int
    seconds: float
    validation_psnr: float
    history: list[dict[str, float]]
    torso_history: list[dict[str, float]] = field(default_factory=list)
    avatars: tuple[Path, ...] = ()
    base: Path | None = None
