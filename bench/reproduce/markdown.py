"""The result as a page of Markdown: every table with the paper's numbers beside ours, and what differs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.reproduce.results import NAMES, least_difference, mean
from nldf_engine.base.progress import clock

DASH = "–"
NO_LPIPS = "- LPIPS: its public weights are not on the machine that made this (`--weights FOLDER`)."


def page(found: Mapping[str, Any], command: str) -> str:
    """The whole page.

    Args:
        found: what `results.gather` returns.
        command: what made it, as typed.
    """
    data, machine = found["dataset"], found["environment"]
    parts = [
        f"# The papers' tables at scale `{found['scale']}`, {found['made']}",
        f"Made by `{command}`.",
        f"Dataset: {data['kind']}, {data['frames']} frames ({data['seconds']:g} s) of {data['size'][0]}x"
        f"{data['size'][1]}, hash `{data['hash'][:12]}`. Machine: {machine['processor']}, "
        f"{machine['threads']} of {machine['cores']} cores, torch {machine['torch']}, nldf_engine "
        f"{machine['nldf_engine']}.",
        "**Ours** are means over the scored held-out frames and the seeds; **paper** are the papers' own "
        "numbers, of other videos at other sizes: what compares is the order of the rows and the sign of a "
        f"difference, never two numbers across. {_noise_note(found)}",
    ]
    parts += [table(found, name) for name in found["tables"]]
    lines = "\n".join(f"| {' | '.join(one)} |" for one in found["differences"])
    parts.append(f"## What differs from the papers' sizes\n\n| | paper | here |\n|---|---|---|\n{lines}")
    parts.append("## Cells\n\n" + _cells(found))
    return "\n\n".join(parts) + "\n"


def table(found: Mapping[str, Any], name: str) -> str:
    """One table, with its heading and the paper's claim."""
    made = found["tables"][name]
    rows = made["rows"]
    reference = next(row for row in rows if row["label"] == made["reference"])
    columns = [
        c for c in made["metrics"] if any(mean(row, c) is not None or c in row["paper"] for row in rows)
    ]
    head = ["", *(f"{NAMES[c][0]}" for c in columns), "seeds"]
    published = [c for c in columns if any(c in row["paper"] for row in rows)]
    head += [f"paper: {NAMES[c][0]}" for c in published]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for row in rows:
        ours = [_ours(found, row, reference, c) for c in columns]
        paper = [_number(row["paper"].get(c), c) for c in published]
        lines.append(f"| {' | '.join([row['label'], *ours, str(len(row['measured']) or DASH), *paper])} |")
    absent: dict[str, list[str]] = {}
    for row in rows:
        if row["absent"]:
            absent.setdefault(row["absent"], []).append(row["label"])
    notes = [f"- {'; '.join(labels)}: {reason}." for reason, labels in absent.items()]
    if "lpips" in columns and all(mean(row, "lpips") is None for row in rows):
        notes.append(NO_LPIPS)
    text = (
        f"## {made['title']} ({name})\n\n{made['source']}. The claim: {made['claim']} Ours are "
        f"compared with the row *{made['reference']}*.\n\n" + "\n".join(lines)
    )
    return text + ("\n\n" + "\n".join(notes) if notes else "")


def _ours(found: Mapping[str, Any], row: Mapping[str, Any], reference: Mapping[str, Any], name: str) -> str:
    """The metric, and where the noise is known whether it can be distinguished from the reference row's."""
    value, other = mean(row, name), mean(reference, name)
    shown = _number(value, name)
    if row is reference or value is None or other is None:
        return shown
    least = least_difference(found, row, reference, name)
    if least is None:
        return shown
    return f"{shown} ≈" if abs(value - other) < least else f"**{shown}**"


def _number(value: float | None, name: str) -> str:
    return DASH if value is None else f"{value:.{NAMES[name][1]}f}"


def _noise_note(found: Mapping[str, Any]) -> str:
    known = found["noise"].get("psnr")
    if known is None:
        return "Every training ran with one seed, so no difference here can be distinguished from noise."
    sds = ", ".join(
        f"{NAMES[n][0][:-2]} {found['noise'][n]['sd']:.{NAMES[n][1] + 1}f}" for n in found["noise"]
    )
    return (
        f"From the trainings that ran with several seeds ({known['freedom']} degrees of freedom) one "
        f"training's standard deviation is: {sds}. **≈** marks a difference to the row compared with that "
        "this noise explains (95 %, Student's t), bold one that it doesn't."
    )


def _cells(found: Mapping[str, Any]) -> str:
    head = (
        "| cell | what | steps | validation PSNR | wall | CPU | sittings |\n|---|---|---|---|---|---|---|\n"
    )
    return head + "\n".join(
        f"| `{name}` | {cell['summary']} | {cell['steps'] or DASH} | "
        f"{_number(cell['validation_psnr'], 'psnr')} | "
        f"{clock(cell['wall_seconds'])} | {clock(cell['cpu_seconds'])} | {cell['sittings']:.0f} |"
        for name, cell in found["cells"].items()
    )
