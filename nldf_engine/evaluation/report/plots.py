"""Curves over the frames of a clip as SVG, and the frames that a person should look at first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from nldf_engine.base.html import COLOURS, text

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 1000, 190, 52, 20, 34, 24
EACH = 3
"""How many of the worst frames each figure names."""
APART = 5
"""Frames that two named ones lie apart at least: neighbours fail alike."""


@dataclass(frozen=True)
class Plot:
    """A chart: its title, its unit, and (figure, label, dashed) of each curve."""

    title: str
    unit: str
    curves: tuple[tuple[str, str, bool], ...]


_MOUTHS_OFF = (("lmd_centred", "rendered", False), ("lmd_centred_shuffled", "shifted audio", True))
PLOTS = (
    Plot("PSNR", "dB", (
        ("psnr", "full frame", False), ("psnr_head", "head", False), ("psnr_mouth", "mouth", False),
        ("psnr_neck", "neck", True),
    )),
    Plot("Lip gap", "eye distances", (
        ("lip_gap_real", "real", False), ("lip_gap_rendered", "rendered", False),
        ("lip_gap_shuffled", "shifted audio", True),
    )),
    Plot("Lips off by, mouths centred", "px at 512", _MOUTHS_OFF),
    Plot("SSIM", "", (("ssim", "full frame", False), ("ssim_mouth", "mouth", False))),
    Plot("LPIPS", "", (("lpips", "AlexNet", False), ("lpips_vgg", "VGG16", False))),
)  # fmt: skip


def _values(per_frame: Mapping[str, Sequence[Any]], name: str) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in per_frame[name]], float)


def _ticks(low: float, high: float) -> np.ndarray:
    """Three to six round numbers within a range."""
    span = high - low
    step = 10.0 ** np.floor(np.log10(span)) if span > 0 else 1.0
    for factor in (0.2, 0.5, 1.0, 2.0):
        if span / (step * factor) <= 5:
            step *= factor
            break
    return np.arange(np.ceil(low / step - 1e-9), np.floor(high / step + 1e-9) + 1) * step + 0.0


def _lines(values: np.ndarray, x: np.ndarray, y: np.ndarray, style: str) -> str:
    """Polylines that leave holes where nothing is known."""
    known = np.flatnonzero(np.isfinite(values))
    made = ""
    for run in np.split(known, np.flatnonzero(np.diff(known) > 1) + 1):
        if len(run):
            run = np.repeat(run, 2) if len(run) == 1 else run
            points = " ".join(f"{x[k]:.1f},{y[k]:.1f}" for k in run)
            made += f'<polyline points="{points}" style="{style}"/>'
    return made


def plot(spec: Plot, per_frame: Mapping[str, Sequence[Any]]) -> str:
    """The chart, or nothing where no curve of it has a value.

    Args:
        spec: what it shows.
        per_frame: `frame` and one list a figure; None leaves a hole.
    """
    found = [
        (_values(per_frame, name), label, dashed) for name, label, dashed in spec.curves if name in per_frame
    ]
    found = [entry for entry in found if np.isfinite(entry[0]).any()]
    if not found:
        return ""
    low = min(float(np.nanmin(values)) for values, _, _ in found)
    high = max(float(np.nanmax(values)) for values, _, _ in found)
    margin = 0.05 * (high - low) or 0.5
    low, high = low - margin, high + margin
    width, height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    count = len(per_frame["frame"])
    x = LEFT + width * np.arange(count) / max(1, count - 1)
    body = ""
    for tick in _ticks(low, high):
        level = TOP + height * (high - tick) / (high - low)
        body += f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{level:.1f}" y2="{level:.1f}"/>'
        body += text(LEFT - 6, level + 4, f"{tick:.4g}", "end")
    for k in np.unique(np.linspace(0, count - 1, min(count, 8)).round().astype(int)):
        body += text(x[k], HEIGHT - 6, str(per_frame["frame"][k]), "middle")
    place, said = LEFT + 9.0 * len(spec.title) + 40 + 8.0 * len(spec.unit), []
    for order, (values, label, dashed) in enumerate(found):
        colour = COLOURS[order % len(COLOURS)]
        style = f"stroke:{colour}" + (";stroke-dasharray:5 3" if dashed else "")
        y = TOP + height * (high - np.nan_to_num(values)) / (high - low)
        body += _lines(values, x, y, style)
        mean = f"{label} {np.nanmean(values):.3g}"
        body += (
            f'<line x1="{place:.0f}" x2="{place + 22:.0f}" y1="14" y2="14" style="{style};stroke-width:2"/>'
        )
        body += text(place + 27, 18, mean)
        place += 50 + 7.2 * len(mean)
        said.append(f"{mean} on average")
    unit = f", {spec.unit}" if spec.unit else ""
    what = f"{spec.title}{unit} over the frames: {'; '.join(said)}"
    return (
        f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(what)}" '
        f'data-left="{LEFT}" data-width="{width}" font-size="13" font-family="sans-serif">'
        f'<text x="{LEFT}" y="18" font-weight="600">{escape(spec.title + unit)}</text>{body}'
        f'<line class="now" x1="{LEFT}" x2="{LEFT}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/></svg>'
    )


def worst(per_frame: Mapping[str, Sequence[Any]]) -> list[tuple[int, str]]:
    """Places (not frame numbers) of the frames to look at first, and why.

    The lowest PSNR of the frame and of the mouth, the lips furthest off, and the largest jumps of PSNR
    from one frame to the next.
    """
    chosen: list[tuple[int, str]] = []

    def add(score: np.ndarray, say: Any) -> None:
        taken: list[int] = []
        for place in np.argsort(-np.nan_to_num(score, nan=-np.inf), kind="stable"):
            if len(taken) == EACH or not np.isfinite(score[place]):
                break
            if all(abs(place - other) >= APART for other in taken):
                taken.append(int(place))
                chosen.append((int(place), say(int(place))))

    for name, label in (("psnr", "full frame"), ("psnr_mouth", "mouth")):
        if name in per_frame:
            values = _values(per_frame, name)
            add(-values, lambda k, v=values, t=label: f"{t}: {v[k]:.2f} dB")
    if "lmd_centred" in per_frame:
        values = _values(per_frame, "lmd_centred")
        add(values, lambda k, v=values: f"lips off by {v[k]:.2f} px, centred")
    values = _values(per_frame, "psnr")
    jump = np.concatenate([[np.nan], np.abs(np.diff(values))]) if len(values) else values
    add(np.where(jump > 0, jump, np.nan), lambda k: f"jumps by {jump[k]:.2f} dB from the frame before")
    return chosen
