"""What `nldf bench` shows of its rows: a table for a terminal, and one page of HTML with charts.

A row is what `bench/timing.py` makes: a timing, a stage of one, a count of operations, or an absence.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nldf_engine.base.html import render, write_html

Row = Mapping[str, Any]
BUSY = 0.5  # other processes a core that make a machine busy
TEMPLATE = Path(__file__).parent / "templates" / "bench.html"
COLUMNS = ("", "time", "p95", "a second", "FLOP a unit", "GFLOP/s", "mm", "GB/s", "copy", "ratio by round")


def seconds(value: float) -> str:
    """A time with a unit that fits.

    Example:
        >>> seconds(0.00123), seconds(2.5)
        ('1.23 ms', '2.5 s')
    """
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if value >= 0.9995 * scale:
            return f"{value / scale:.3g} {unit}"
    return f"{value / 1e-9:.3g} ns"


def count(value: float) -> str:
    """A number with a prefix that fits.

    Example:
        >>> count(11_336_000.0), count(950)
        ('11.3 M', '950')
    """
    for prefix, scale in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= 0.9995 * scale:
            return f"{value / scale:.3g} {prefix}"
    return f"{value:.3g}"


def cases(rows: Sequence[Row]) -> Iterator[tuple[str, str, list[Row]]]:
    """(suite, case, its rows on one device), in order."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["suite"], row["case"], row.get("device") or ""), []).append(row)
    for (suite, case, _), members in groups.items():
        yield suite, case, members


def versus(row: Row) -> str:
    """How the row's contestant compares with the first of its race."""
    if row.get("first_over_this") is None:
        return ""
    low, high = row["quartiles"]
    if row["first_over_this"] < 1:
        return f"{1 / row['first_over_this']:.2f}x as fast as {row['first']} [{1 / high:.2f}-{1 / low:.2f}]"
    return f"{row['first']} is {row['first_over_this']:.2f}x as fast [{low:.2f}-{high:.2f}]"


def table(rows: Sequence[Row]) -> str:
    """The rows as text."""
    lines = []
    for suite, case, members in cases(rows):
        timed = [row for row in members if row["kind"] == "timing"]
        where = ""
        if timed:
            first = timed[0]
            kernel = first["isa"] or "CUDA"
            turns = f"{first['rounds']} rounds"
            turns += f" of {first['calls']} calls" if first.get("calls", 1) > 1 else ""
            where = f"  ({first['device']}, {kernel}, {first['threads']} threads, {turns})"
        lines.append(f"{suite}  {case}{where}")
        lines += [_line(row) for row in members]
    return "\n".join(lines)


def _line(row: Row) -> str:
    name = f"    {row['name']:<22}"
    if row["kind"] == "absent":
        return f"{name}not run: {row['note']}"
    if row["kind"] == "count":
        return f"{name}{count(row['flops_per_unit'])}FLOP/{_one(row)}, counted; {row['note']}"
    if row["kind"] == "stage":
        times = f"{seconds(row['p50_s']):>10}  p95 {seconds(row['p95_s']):>8}"
        return f"{name}{times}  {row['share']:5.0%} of the time"
    parts = [f"{seconds(row['median_s']):>10}", f"{count(row['per_second']):>8} {row['unit']}/s"]
    if row["gflops"]:
        parts.append(f"{row['gflops']:8.3g} GFLOP/s {row['ceiling_share']:4.0%} of mm")
    if row["gb_per_s"]:
        parts.append(f"{row['gb_per_s']:6.3g} GB/s {row['copy_share']:4.0%} of copy")
    if row.get("peak_ram_bytes"):
        parts.append(f"p95 {seconds(row['p95_s'])}  peak memory {row['peak_ram_bytes'] / 2**20:.0f} MiB")
    ran = row.get("kernel")
    ran = f"by {ran}" if ran and ran != row.get("isa") else ""
    return "  ".join([name + parts[0], *parts[1:], *filter(None, [ran, versus(row)])])


def _one(row: Row) -> str:
    return str(row["unit"]).removesuffix("s")


def busy(environment: Row) -> str:
    """A warning where other processes took the machine's time; empty where they didn't."""
    waiting, cores = environment.get("load"), environment.get("cores")
    if waiting is None or not cores or waiting < BUSY * cores:
        return ""
    return (
        f"The machine was busy when this began ({waiting:.1f} processes on {cores} cores): rates are too "
        "low. Ratios hold better, yet code that often waits for all of its threads suffers most: with "
        "OMP_NUM_THREADS=1 there is nothing to wait for."
    )


def machine(environment: Row) -> list[tuple[str, str]]:
    """The machine and the versions, as (what, value)."""
    kernels = environment.get("kernels") or {}
    cores, threads = environment.get("cores"), environment.get("threads")
    pairs = [
        ("made", environment.get("made")),
        (
            "processor",
            environment.get("processor") and f"{environment['processor']}, {cores} cores, {threads} threads",
        ),
        ("system", environment.get("system")),
        ("GPU", environment.get("gpu") or (environment.get("device") or {}).get("name")),
        ("CPU kernels", kernels.get("cpu_isa")),
        ("CUDA kernels", ", ".join(kernels.get("cuda_archs") or []) or None),
        ("nldf_engine", environment.get("nldf_engine")),
        ("torch", environment.get("torch")),
        ("numpy", environment.get("numpy")),
        ("python", environment.get("python")),
    ]
    return [(name, str(value)) for name, value in pairs if value]


def summary(figures: Row) -> str:
    """Everything a terminal shows: the machine, the rows, what failed."""
    environment = figures["environment"]
    suites: Mapping[str, Row] = figures["suites"]
    rows = [row for suite in suites.values() for row in suite["rows"]]
    lines = [f"{name:<14}{value}" for name, value in machine(environment)]
    lines += [text for text in (busy(environment),) if text]
    lines += ["", table(rows), ""]
    for name, suite in suites.items():
        lines += [f"{name}  {item['case']}  FAILED: {item['detail']}" for item in suite["problems"]]
    for reason, number in _skipped(suites).items():
        lines.append(f"not run: {number} cases: {reason}")
    lines.append(
        f"{len(rows)} rows of {len(suites)} suites in {figures['seconds']:.0f} s ({figures['pace']})"
    )
    return "\n".join(lines)


def _skipped(suites: Mapping[str, Row]) -> dict[str, int]:
    reasons: dict[str, int] = {}
    for suite in suites.values():
        for item in suite["skipped"]:
            reason = item["detail"].removeprefix("Skipped: ")
            reasons[reason] = reasons.get(reason, 0) + 1
    return reasons


def page(figures: Row) -> str:
    """One HTML page, which loads nothing.

    Raises:
        MissingBackend: jinja2 is not installed.
    """
    return render(TEMPLATE, **_values(figures))


def write_page(folder: str | Path, figures: Row) -> Path:
    """Writes `bench.html` into the folder, whole or not at all; returns its path.

    Raises:
        MissingBackend: jinja2 is not installed.
        FileProblem: it can't be written.
    """
    return write_html(Path(folder) / "bench.html", TEMPLATE, **_values(figures))


def _values(figures: Row) -> dict[str, Any]:
    """What the template shows."""
    environment = figures["environment"]
    suites: Mapping[str, Row] = figures["suites"]
    return {
        "title": "nldf bench", "scope": _scope(figures), "machine": machine(environment),
        "warning": busy(environment), "head": COLUMNS, "skipped": _skipped(suites),
        "suites": [_suite(n, s) for n, s in suites.items() if s["rows"] or s["problems"]],
    }  # fmt: skip


def _scope(figures: Row) -> str:
    rows = sum(len(suite["rows"]) for suite in figures["suites"].values())
    spent = f" in {figures['seconds']:.0f} s" if figures.get("seconds") else ""
    return f"{rows} rows of {len(figures['suites'])} suites{spent}, pace {figures['pace']}"


def _suite(name: str, suite: Row) -> dict[str, Any]:
    charts, tables = [], []
    for _, case, members in cases(suite["rows"]):
        charts += [chart for chart in [_chart(name, case, members)] if chart]
        timed = next((row for row in members if row["kind"] == "timing"), None)
        where = f" · {timed['device']} {timed['isa'] or ''} · {timed['threads']} threads" if timed else ""
        tables.append((case + where, [_table_row(row) for row in members]))
    return {"name": name, "problems": suite["problems"], "charts": charts, "cases": tables}


def _table_row(row: Row) -> dict[str, Any]:
    """A row's name, its cells, and a note that takes the rest of the columns."""
    if row["kind"] == "absent":
        return {"name": row["name"], "cells": [], "note": f"not run: {row['note']}"}
    if row["kind"] == "count":
        note = f"{count(row['flops_per_unit'])}FLOP a {_one(row)}, counted: {row['note']}"
        return {"name": row["name"], "cells": [], "note": note}
    shares = [None if row[key] is None else f"{row[key]:.0%}" for key in ("ceiling_share", "copy_share")]
    note = f"{row['share']:.0%} of the frame" if row["kind"] == "stage" else versus(row)
    if row.get("peak_ram_bytes"):
        note = f"{row['note']}; peak memory {row['peak_ram_bytes'] / 2**20:.0f} MiB"
    cells = [
        seconds(row["median_s"]), seconds(row["p95_s"]),
        "" if row["kind"] == "stage" else f"{count(row['per_second'])} {row['unit']}",
        count(row["flops_per_unit"]) if row["flops_per_unit"] else "",
        f"{row['gflops']:.3g}" if row["gflops"] else "", shares[0] or "" if row["gflops"] else "",
        f"{row['gb_per_s']:.3g}" if row["gb_per_s"] else "", shares[1] or "",
    ]  # fmt: skip
    return {"name": row["name"], "cells": cells, "note": note}


def _chart(suite: str, case: str, rows: Sequence[Row]) -> dict[str, Any] | None:
    """What is easier seen than read: a frame's stages, the cost over a parameter, rates in a race."""
    stages = [(row["name"], row["share"]) for row in rows if row["kind"] == "stage"]
    if stages:
        return {"kind": "stack", "title": f"{case}: where a frame's time goes", "parts": stages}
    timed = [row for row in rows if row["kind"] == "timing"]
    if suite == "sweep" and len(timed) > 1:
        parts = [(row["name"].split()[-1], row["median_s"], seconds(row["median_s"])) for row in timed]
        return {"kind": "bars", "title": f"time a frame over {case}", "parts": parts, "race": False}
    if suite in ("renderers", "resmlp") and len(timed) > 1:
        parts = [(row["name"], row["per_second"], count(row["per_second"])) for row in timed]
        return {"kind": "bars", "title": f"{case}: {timed[0]['unit']}/s", "parts": parts, "race": True}
    return None
