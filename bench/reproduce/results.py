"""Tables of what was measured: means over seeds, beside the paper's numbers, and what of it is noise."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

from bench.reproduce import tables as papers
from bench.reproduce.lab import Lab
from bench.reproduce.table import Table
from bench.timing import environment

KEPT = (
    "frames", "size", "psnr", "psnr_foreground", "psnr_head", "psnr_mouth", "ssim", "ssim_head", "ssim_mouth",
    "lpips", "lmd_centred", "lmd_centred_shuffled", "lip_correlation", "lip_correlation_shuffled", "au_upper",
    "sync_offset", "sync_confidence", "seconds_per_frame",
)  # fmt: skip
NAMES = {
    "psnr": ("PSNR ↑", 2), "ssim": ("SSIM ↑", 4), "lpips": ("LPIPS ↓", 4), "psnr_head": ("head PSNR ↑", 2),
    "psnr_mouth": ("mouth PSNR ↑", 2), "ssim_mouth": ("mouth SSIM ↑", 4), "lmd_centred": ("lips, px ↓", 2),
    "lip_correlation": ("lip corr. ↑", 2), "flops_speedup": ("fewer FLOPs ↑", 2),
    "seconds_per_frame": ("s a frame ↓", 3), **papers.NAMES,
}  # fmt: skip
COSTS = ("flops_speedup", "seconds_per_frame", "seconds_epoch")  # no draw of a seed
CONFIDENCE = 0.95


def gather(lab: Lab, tables: Sequence[Table], seeds: int) -> dict[str, Any]:
    """Everything that is reported, as JSON: the cells, and every table's rows.

    What is not trained yet is left out, so that a table can be looked at while others are being trained.
    """
    cells: dict[str, Any] = {}
    made: dict[str, Any] = {}
    for table in tables:
        rows = []
        for row in table.rows:
            found = (
                []
                if row.cell is None
                else [c for c in lab.seeds(row.cell, seeds) if lab.record(c) is not None]
            )
            kept = dict.fromkeys((*KEPT, *table.metrics))
            measured = [{name: lab.measure(c, row.step).get(name) for name in kept} for c in found]
            rows.append(
                {"label": row.label, "cells": [c.name(lab.hash) for c in found], "step": row.step,
                 "absent": row.absent, "paper": dict(row.paper), "measured": measured}
            )  # fmt: skip
            for cell in (one for c in found for one in (*c.needs, c)):
                record = lab.record(cell)
                assert record is not None
                cells[cell.name(lab.hash)] = {k: v for k, v in record.items() if k != "measured"}
        if table.race:
            _add_race(lab, table, rows)
        made[table.name] = {
            "title": table.title, "source": table.source, "claim": table.claim, "reference": table.reference,
            "metrics": list(table.metrics), "rows": rows,
        }  # fmt: skip
    info = lab.data.info
    return {
        "made": time.strftime("%Y-%m-%d"), "scale": lab.scale.name,
        "differences": papers.differences(lab.scale, made),
        "dataset": {"hash": lab.hash, "frames": info.frames, "size": list(info.size), "splits": info.splits,
                    "seconds": round(info.frames / info.fps, 1), "kind": info.source.get("kind", "video")},
        "environment": environment(), "noise": noise(made), "tables": made, "cells": cells,
    }  # fmt: skip


def _add_race(lab: Lab, table: Table, rows: list[dict[str, Any]]) -> None:
    """Speed, and how many fewer operations a ray takes, of the rows' avatars with seed 0."""
    trained = {r.label: r.cell for r in table.rows if r.cell is not None and lab.record(r.cell) is not None}
    if table.reference not in trained:
        return
    ran = lab.race(trained)
    most = ran[table.reference]["macs_per_ray"]
    for row in rows:
        if row["label"] in ran:
            one = ran[row["label"]]
            row["race"] = one
            for measured in row["measured"]:
                measured["seconds_per_frame"] = one["seconds_per_frame"]
                measured["flops_speedup"] = most / one["macs_per_ray"]


def noise(tables: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """By metric: `sd`, its standard deviation over seeds, and `freedom`, how well that is known.

    Pooled over all cells that were trained with several seeds, each once, at its end: what a training shows
    at an earlier step is no further evidence.
    """
    groups: dict[tuple, list[dict]] = {}
    for table in tables.values():
        for row in table["rows"]:
            if len(row["measured"]) > 1 and row["step"] is None:
                groups[tuple(row["cells"])] = row["measured"]
    out = {}
    for name in (name for name in NAMES if name not in COSTS):
        columns = [[m[name] for m in many if m.get(name) is not None] for many in groups.values()]
        columns = [column for column in columns if len(column) > 1]
        freedom = sum(len(column) - 1 for column in columns)
        if freedom:
            squares = sum(statistics.variance(column) * (len(column) - 1) for column in columns)
            out[name] = {"sd": math.sqrt(squares / freedom), "freedom": freedom}
    return out


def mean(row: Mapping[str, Any], name: str) -> float | None:
    """A row's metric, its mean over the seeds; None where there is none."""
    values = [m[name] for m in row["measured"] if m.get(name) is not None]
    return statistics.fmean(values) if values else None


def least_difference(
    found: Mapping[str, Any], row: Mapping[str, Any], other: Mapping[str, Any], name: str
) -> float | None:
    """By how much two rows' means must differ to be distinguished (95 %, Student's t); None if unknown."""
    from scipy.stats import t

    known = found["noise"].get(name)
    counts = len(row["measured"]), len(other["measured"])
    if known is None or not min(counts):
        return None
    spread = known["sd"] * math.sqrt(1 / counts[0] + 1 / counts[1])
    return float(t.ppf((1 + CONFIDENCE) / 2, known["freedom"]) * spread)
