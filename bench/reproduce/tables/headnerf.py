"""The ablation of the disentangled HeadNeRF."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bench.reproduce.cells import Cell
from bench.reproduce.scales import PAPER, Difference, Scale, compared, network_of
from bench.reproduce.table import Row, Table
from nldf_engine.training import find_preset
from nldf_engine.training.recipe import changed

# By scale: the preset whose sizes it has, and what is smaller.
SIZES: dict[str, tuple[str, dict[str, Any]]] = {
    "paper": ("headnerf", {}),
    "cpu": ("headnerf-small", {"steps": 800}),
    "tiny": ("headnerf-tiny", {"steps": 8, "extractor_steps": 2, "sync_steps": 2, "speech_steps": 5,
                               "adapt_steps": 5}),
}  # fmt: skip
PUBLISHED = {
    "full": (30.16, 0.937), "without the lip sync module": (29.58, 0.916),
    "without disentangling": (29.31, 0.904),
}  # fmt: skip
CHANGED: dict[str, dict[str, Any]] = {
    "full": {}, "without the lip sync module": {"losses.sync_weight": 0.0},
    "without disentangling": {"losses.disentangle_weight": 0.0},
}  # fmt: skip


def head(scale: Scale, label: str = "full") -> Cell:
    """A training of the dataset's speaker; `label` says what is left out."""
    preset, smaller = SIZES[scale.name]
    recipe = changed(find_preset(preset).recipe, {**smaller, **CHANGED[label]})
    return Cell("headnerf", recipe, network_of(preset), note="" if label == "full" else label)


def differences(scale: Scale) -> list[Difference]:
    """Of the full model."""
    return [*compared({"HeadNeRF": (head(scale), head(PAPER))}), *scale.differences()]


def modules(scale: Scale) -> Table:
    """Table 2 of headnerf: without the lip sync module, and without disentangling."""
    rows = tuple(
        Row(label, head(scale, label), paper={"psnr": psnr, "ssim": ssim})
        for label, (psnr, ssim) in PUBLISHED.items()
    )
    return Table(
        "headnerf-modules", "Lip sync module and disentangling", "headnerf, table 2",
        "without the lip sync module lips follow the sound much worse; without disentangling pictures are "
        "worse.", rows, "full",
    )  # fmt: skip


TABLES: dict[str, Callable[[Scale], Table]] = {"headnerf-modules": modules}
