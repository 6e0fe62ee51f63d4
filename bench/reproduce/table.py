"""What a table is: what each of its rows changes, and what the paper reports for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bench.reproduce.cells import Cell
from bench.reproduce.trials import Trial

QUALITY = ("psnr", "ssim", "lpips", "psnr_head", "psnr_mouth", "ssim_mouth")
LIPS = ("lmd_centred", "lip_correlation")


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Args:
        label: what is changed.
        cell: the training, or the trial, that is measured, with seed 0; None where the engine has no such
            system.
        step: at which of its steps; None for its end.
        paper: the paper's numbers, by the names of `nldf evaluate`.
        absent: why there is no cell.
    """

    label: str
    cell: Cell | Trial | None
    step: int | None = None
    paper: Mapping[str, float] = field(default_factory=dict)
    absent: str = ""

    def __post_init__(self) -> None:
        if (self.cell is None) != bool(self.absent):
            raise ValueError(f"row {self.label!r}: expected either a cell or the reason why there is none")


@dataclass(frozen=True)
class Table:
    """An experiment.

    Args:
        name: as on the command line.
        title: one line.
        source: where in which paper.
        claim: what the paper concludes from it.
        rows: in the paper's order.
        reference: label of the row that the others are compared with.
        metrics: the columns.
        race: time the rows' avatars against each other, too.
    """

    name: str
    title: str
    source: str
    claim: str
    rows: tuple[Row, ...]
    reference: str
    metrics: tuple[str, ...] = (*QUALITY, *LIPS)
    race: bool = False

    def __post_init__(self) -> None:
        if self.reference not in [row.label for row in self.rows]:
            raise ValueError(f"table {self.name}: it has no row {self.reference!r} to compare with")


def quality(psnr: float, ssim: float, lpips: float) -> dict[str, float]:
    """The paper's numbers of a row, by the names of `nldf evaluate`."""
    return {"psnr": psnr, "ssim": ssim, "lpips": lpips}


def paper_size(ours: float, paper: float, unit: str) -> str:
    """What a label says of the paper's own size, where it is another."""
    return "" if ours == paper else f" (paper: {paper:,} {unit})".replace(",", " ")
