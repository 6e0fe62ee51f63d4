"""The ablations of Gaussian landmarks: each stage by itself, as `bench.gaussian_landmark` measures it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from bench.gaussian_landmark import fields, speech
from bench.reproduce.scales import Difference, Scale
from bench.reproduce.table import Row, Table
from bench.reproduce.trials import Trial

# By scale: the preset, optimiser steps of stage 1 (None for the preset's) and of a field, frames measured.
SIZES: dict[str, dict[str, Any]] = {
    "paper": {"preset": "gaussian-landmark", "speech": None, "field": 100_000, "frames": 100},
    "cpu": {"preset": "gaussian-landmark-small", "speech": None, "field": 250, "frames": 25},
    "tiny": {"preset": "gaussian-landmark-tiny", "speech": 4, "field": 4, "frames": 3},
}
NAMES = {
    "loss_learned": ("loss learned from ↓", 3), "loss_unseen": ("loss unseen ↓", 3),
    "seconds_epoch": ("s an epoch ↓", 2), "lips_mm": ("lips, mm ↓", 2), "ssim_head": ("head SSIM ↑", 4),
}  # fmt: skip


def differences(scale: Scale) -> list[Difference]:
    """In presets, steps and frames."""
    ours, theirs = SIZES[scale.name], SIZES["paper"]
    said = {"preset": "preset", "speech": "stage 1: steps", "field": "stage 2: steps", "frames": "frames"}
    own = "the preset's"
    return [
        (f"Gaussian landmarks: {what}", str(theirs[name] or own), str(ours[name] or own))
        for name, what in said.items()
        if ours[name] != theirs[name]
    ]


def _options(scale: Scale, stage: str, weights: Path | None, cache: Path) -> speech.Options:
    sizes = SIZES[scale.name]
    return speech.Options(
        sizes[stage], 1, frames=sizes["frames"], cache=cache, weights=weights, preset=sizes["preset"]
    )


def encoders(scale: Scale) -> Table:
    """Table II of gaussian landmarks: encoder of the landmarks, and alignment bias, of stage 1."""
    published = {
        ("mlp", True): (0.624, 81.45), ("transformer", True): (0.252, 85.19),
        ("transformer", False): (0.251, 66.69),
    }  # fmt: skip

    def measure(
        encoder: str, bias: bool, data: Path, seed: int, weights: Path | None, cache: Path
    ) -> dict[str, float]:
        return speech.encoder_row(data, encoder, bias, seed, _options(scale, "speech", weights, cache))

    rows = tuple(
        Row(
            speech.encoder_label(encoder, bias),
            Trial("stage-1", {**SIZES[scale.name], "encoder": encoder, "bias": bias},
                  partial(measure, encoder, bias)),
            paper={"loss_learned": loss, "seconds_epoch": seconds},
        )
        for (encoder, bias), (loss, seconds) in published.items()
    )  # fmt: skip
    return Table(
        "landmark-encoders", "Encoder of the landmarks, and alignment bias", "gaussian_landmark, table II",
        "the transformer encoder converges faster than the MLP, and the alignment bias only costs time.",
        rows, rows[-1].label, ("loss_learned", "loss_unseen", "lips_mm", "seconds_epoch"),
    )  # fmt: skip


def encodings(scale: Scale) -> Table:
    """Table III of gaussian landmarks: how landmarks condition the field, at equal steps."""
    published = {
        "gamma": (28.32, 1.017), "mlp": (34.84, 0.049), "isotropic": (34.95, 0.037),
        "gaussian-flat": (34.01, 0.056), "gaussian": (35.16, 0.035),
    }  # fmt: skip

    def measure(kind: str, data: Path, seed: int, weights: Path | None, cache: Path) -> dict[str, float]:
        return fields.encoding_row(data, kind, seed, _options(scale, "field", weights, cache))

    rows = tuple(
        Row(
            fields.NAMES[kind],
            Trial("stage-2", {**SIZES[scale.name], "encoding": kind}, partial(measure, kind)),
            paper={"psnr_head": psnr, "lpips": lpips},
        )
        for kind, (psnr, lpips) in published.items()
    )  # fmt: skip
    return Table(
        "landmark-encodings", "How landmarks condition the field",
        "gaussian_landmark, table III; the paper's numbers are of its whole pictures",
        "gamma of the landmarks alone hardly learns; equations (7) and (8a) are best, and (8a) needs the "
        "depth.",
        rows, fields.NAMES["gaussian"], ("psnr_head", "psnr_mouth", "ssim_head", "lpips"),
    )  # fmt: skip


TABLES: dict[str, Callable[[Scale], Table]] = {
    "landmark-encoders": encoders,
    "landmark-encodings": encodings,
}
