"""From cells to files: trains what is missing, and writes metrics, page, plot and sheets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.reproduce.cells import Cell
from bench.reproduce.lab import Lab, with_needed
from bench.reproduce.markdown import page
from bench.reproduce.pictures import plot, sheet
from bench.reproduce.results import gather
from bench.reproduce.table import Table
from bench.reproduce.trials import Trial
from nldf_engine.base.files import atomic_path, write_json


def cells_of(tables: Sequence[Table], seeds: int) -> list[Cell | Trial]:
    """Every training that the tables need, each once: all of one seed before any of the next."""
    cells = [row.cell for table in tables for row in table.rows if row.cell is not None]
    return with_needed(
        sorted((one for cell in cells for one in cell.with_seeds(seeds)), key=lambda c: c.seed)
    )


def plan(tables: Sequence[Table], seeds: int) -> str:
    """What would be trained, a line a cell."""
    cells = cells_of(tables, seeds)
    whole = sum(cell.work for cell in cells)
    lines = [f"{100 * cell.work / whole:5.1f} %  {cell.summary}" for cell in cells]
    return "\n".join([*lines, f"{len(cells)} trainings, {whole:.3g} multiply-adds"])


def report(lab: Lab, tables: Sequence[Table], seeds: int, command: str, training: bool = True) -> Path:
    """Trains what is not trained yet, and writes the report; returns the page's path.

    Into the lab's folder go `tables.json`, `tables.md`, `tables.png`, and a `TABLE.png` of held-out faces
    each.
    """
    if training:
        lab.train_all(cells_of(tables, seeds))
    found = gather(lab, tables, seeds)
    write_json(lab.folder / "tables.json", found)
    path = lab.folder / "tables.md"
    with atomic_path(path) as temporary:
        temporary.write_text(page(found, command), encoding="utf-8")
    if any(row["measured"] for table in found["tables"].values() for row in table["rows"]):
        plot(lab.folder / "tables.png", found)
        for table in tables:
            sheet(lab.folder / f"{table.name}.png", lab, table)
    return path
