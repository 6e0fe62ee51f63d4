"""The tables of dfrf. A base is trained on synthetic speakers; every row's speaker is new to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from bench.reproduce.cells import Cell
from bench.reproduce.scales import PAPER, Difference, Scale, compared, network_of, recipe_of
from bench.reproduce.table import Row, Table, paper_size, quality
from nldf_engine.systems.dfrf.fusion import FusionSizes
from nldf_engine.systems.dfrf.references import ExtractorSizes
from nldf_engine.systems.dfrf.warp import WarpSizes
from nldf_engine.training import Recipe
from nldf_engine.training.recipe import changed

# Heads of other shapes than the modelled one: width, length, jaw.
SHAPES = ((1.0, 1.0, 1.0), (1.1, 0.93, 1.08), (0.92, 1.06, 0.9), (1.06, 1.05, 0.94), (0.95, 0.96, 1.06))
SPEECHLESS = {"driving.adapt_steps": 1, "driving.speech_steps": 1, "driving.spread": False}
"""Of a base: what its speakers' speech networks learn is used by nobody."""


@dataclass(frozen=True)
class Sizes:
    """How large the tables' trainings are at a scale.

    Args:
        recipe: of a new speaker, with the whole budget.
        base_recipe: of the base.
        network: of both.
        budgets: optimiser steps of a new speaker in table 4; the last one is every other table's.
        base_steps: of the base.
        speakers: synthetic ones of the base.
        speaker_seconds, speaker_size: of each.
        fast: preset of the light field with a grid that table 4 compares as well, and what it has otherwise.
        seconds: of the new speaker's video, in tables 1, 3 and 4.
    """

    recipe: Recipe
    base_recipe: Recipe
    network: Mapping[str, Any]
    budgets: tuple[int, int, int]
    base_steps: int
    speakers: int
    speaker_seconds: float
    speaker_size: int
    fast: tuple[str, Mapping[str, Any]]
    seconds: float = 15.0


def _small(size: int, base_steps: int, rays: int, speech: int, spread: bool = True) -> dict[str, Recipe]:
    """Recipes of a new speaker and of a base, as `dfrf-small` is trained. A base's speech is never used."""
    given = {"size": size, "sampling.rays": rays, "validation.times": 2, "driving.sound_copies": 0}
    return {
        "recipe": recipe_of("dfrf-small", **given, adapt_steps=speech, speech_steps=speech, spread=spread),
        "base_recipe": recipe_of(
            "dfrf-small", **given, **SPEECHLESS, steps=base_steps,
            **{"references.own_share": 0.2, "validation.frames": 1},
        ),
    }  # fmt: skip


def _network(
    width: int, depth: int, features: int, warp: tuple[int, int], samples: int, frequencies: int
) -> dict[str, Any]:
    return {
        **network_of("dfrf-small"), "width": width, "depth": depth, "skip": depth // 2,
        "position_frequencies": frequencies, "coarse": samples, "fine": samples,
        "extractor": ExtractorSizes(features, features, 3, 3), "warp": WarpSizes(warp, 0.02),
        "fusion": FusionSizes(2, features, 2, 12),
    }  # fmt: skip


SIZES = {
    "paper": Sizes(
        recipe_of("dfrf"), recipe_of("dfrf", steps=400_000), network_of("dfrf"),
        budgets=(1000, 10_000, 40_000), base_steps=400_000, speakers=3, speaker_seconds=60.0,
        speaker_size=512, fast=("nldf-fast", {"size": 512}),
    ),
    "cpu": Sizes(
        **_small(128, 1500, 160, 200), network=_network(48, 4, 16, (24, 12), 12, 5),
        budgets=(30, 150, 600), base_steps=1500, speakers=5, speaker_seconds=16.0, speaker_size=128,
        fast=("nldf-fast", {"size": 128, "rays": 4096, "sharpening.weight": 0.0}),
    ),
    "tiny": Sizes(
        **_small(32, 20, 64, 5, spread=False), network=_network(16, 3, 8, (8, 4), 8, 4),
        budgets=(4, 8, 12), base_steps=20, speakers=2, speaker_seconds=2.0, speaker_size=64, seconds=1.5,
        fast=("nldf-fast-tiny", {}),
    ),
}  # fmt: skip


def base(scale: Scale, warp: bool = True) -> Cell:
    """The base of a scale: synthetic speakers that differ in shape and colours."""
    sizes = SIZES[scale.name]
    speakers = tuple(
        {"seconds": sizes.speaker_seconds, "size": sizes.speaker_size, "seed": 100 + number,
         "proportions": dict(zip(("width", "length", "jaw"), SHAPES[number], strict=True))}
        for number in range(sizes.speakers)
    )  # fmt: skip
    recipe = changed(sizes.base_recipe, {"steps": sizes.base_steps, "references.warp": warp})
    note = "" if warp else "no warp"
    return Cell("dfrf", recipe, sizes.network, speakers=speakers, shared=True, note=note)


def new_speaker(
    scale: Scale, steps: int | None = None, from_base: bool = True, seconds: float | None = None,
    note: str = "", **settings: Any,
) -> Cell:  # fmt: skip
    """A run for the dataset's speaker.

    Args:
        scale: says all sizes.
        steps: optimiser steps; the largest budget's where None.
        from_base: begin from the base, or from nothing.
        seconds: of the video; the scale's where None.
        note: for the summary.
        settings: of the recipe's references.
    """
    sizes = SIZES[scale.name]
    given = {f"references.{name}": value for name, value in settings.items()}
    recipe = changed(sizes.recipe, {"steps": steps or sizes.budgets[-1], **given})
    begun = base(scale, settings.get("warp", True)) if from_base else None
    length = sizes.seconds if seconds is None else seconds
    return Cell("dfrf", recipe, sizes.network, seconds=length, base=begun, note=note)


def from_scratch(scale: Scale) -> Cell:
    """A run on the whole video, from nothing."""
    return replace(new_speaker(scale, from_base=False), seconds=None)


def alike(scale: Scale) -> dict[str, Any]:
    """Settings that make another system's run comparable: lips driven in the same way, pictures as large."""
    recipe = SIZES[scale.name].recipe
    return {"driving": recipe.driving, "size": recipe.size}


def adnerf(scale: Scale, steps: int) -> Cell:
    """AD-NeRF on the new speaker's video."""
    recipe = replace(scale.teacher, steps=steps, **alike(scale))
    return replace(scale.teach(), recipe=recipe, seconds=SIZES[scale.name].seconds, shared=False)


def light_fields(scale: Scale, steps: int) -> dict[str, Cell]:
    """A light field without a teacher and `nldf-fast` on that video, each with at most the multiply-adds of
    so many steps of DFRF's."""
    sizes, like = SIZES[scale.name], new_speaker(scale, steps)
    student, (preset, given) = scale.learn(taught=False), sizes.fast
    cells = {
        "NLDF": replace(student, recipe=replace(student.recipe, **alike(scale))),
        "nldf-fast": Cell(
            "nldf-fast", replace(recipe_of(preset, **given), **alike(scale)), network_of(preset)
        ),
    }  # fmt: skip
    return {name: replace(as_much(cell, like), seconds=sizes.seconds) for name, cell in cells.items()}


def as_much(cell: Cell, like: Cell) -> Cell:
    """A training with the multiply-adds of another, and not more steps than it has by itself."""
    steps = max(1, round(cell.recipe.steps * min(1.0, like.work / cell.work)))
    return replace(cell, recipe=replace(cell.recipe, steps=steps))


def differences(scale: Scale) -> list[Difference]:
    """Of a new speaker's run and of the base's, in speakers and budgets."""
    parts = {
        "DFRF": (new_speaker(scale), new_speaker(PAPER)), "DFRF's base": (base(scale), base(PAPER)),
    }  # fmt: skip
    ours, theirs = SIZES[scale.name], SIZES[PAPER.name]
    named = {"base's speakers, seconds each": "speaker_seconds", "seconds of video": "seconds"}
    out = [
        (what, str(getattr(theirs, name)), str(getattr(ours, name)))
        for what, name in named.items() if getattr(ours, name) != getattr(theirs, name)
    ]  # fmt: skip
    return [
        *compared(parts), *out,
        ("base's speakers", "3 videos of 60 s, real", f"{ours.speakers} synthetic ones"),
        *scale.differences(),
    ]  # fmt: skip


def references(scale: Scale) -> Table:
    """Table 1 of dfrf: how many reference pictures."""
    paper = {1: (31.03, 0.019), 2: (31.19, 0.019), 4: (31.23, 0.019), 6: (31.23, 0.020)}
    rows = tuple(
        Row(f"N = {count}", new_speaker(scale, note=f"N {count}", count=count),
            paper={"psnr": psnr, "lpips": lpips})
        for count, (psnr, lpips) in paper.items()
    )  # fmt: skip
    return Table(
        "dfrf-references",
        "Reference pictures, N",
        "dfrf, table 1",
        "the number of references hardly matters: within 0.2 dB of PSNR.",
        rows,
        "N = 4",
    )


def warp(scale: Scale) -> Table:
    """Table 3 of dfrf: with and without the audio-conditioned warp (test set A)."""
    rows = (
        Row("without", new_speaker(scale, note="no warp", warp=False), paper=quality(29.50, 0.907, 0.057)),
        Row("with", new_speaker(scale), paper=quality(29.66, 0.911, 0.053)),
    )
    return Table(
        "dfrf-warp", "Warp of points in the references", "dfrf, table 3, test set A",
        "with the warp lips follow the sound clearly better, and pictures are slightly better.", rows,
        "without",
    )  # fmt: skip


def few_shot(scale: Scale) -> Table:
    """Table 4 of dfrf: a new speaker from a base, from nothing, and by other systems, at three budgets."""
    theirs_adnerf = ((27.38, 0.901, 0.084), (29.14, 0.931, 0.057), (29.45, 0.936, 0.039))
    theirs_dfrf = ((28.96, 0.933, 0.040), (29.33, 0.935, 0.043), (29.48, 0.937, 0.037))
    sizes, rows = SIZES[scale.name], []

    def label(name: str, steps: int, theirs: int) -> str:
        return f"{name}, {steps} steps{paper_size(steps, theirs, 'steps')}"

    budgets = list(zip(sizes.budgets, SIZES["paper"].budgets, theirs_adnerf, theirs_dfrf, strict=True))
    for name, cell in light_fields(scale, sizes.budgets[-1]).items():
        what = f"{name}, {cell.recipe.steps} steps, as much as {sizes.budgets[-1]} of DFRF's at most"
        rows.append(Row(what, cell))
    for steps, theirs, numbers, _ in budgets:
        rows.append(Row(label("AD-NeRF", steps, theirs), adnerf(scale, steps), paper=quality(*numbers)))
    for steps, theirs, _, _ in budgets:
        cell = new_speaker(scale, steps, from_base=False)
        rows.append(Row(label("DFRF from nothing", steps, theirs), cell))
    for steps, theirs, _, numbers in budgets:
        cell = new_speaker(scale, steps)
        rows.append(Row(label("DFRF from a base", steps, theirs), cell, paper=quality(*numbers)))
    return Table(
        "dfrf-few-shot", "A new speaker from 15 s of video", "dfrf, table 4, test set A, without its NeRF",
        "from a base, a thousand steps give better LPIPS and lips than AD-NeRF's ten thousand.",
        tuple(rows), rows[-1].label,
    )  # fmt: skip


def length(scale: Scale) -> Table:
    """Table 2 of dfrf: how much video a system needs."""
    adnerf = ((31.21, 0.948, 0.039), (31.32, 0.947, 0.041), (30.90, 0.949, 0.040))
    dfrf = ((30.95, 0.948, 0.036), (30.75, 0.947, 0.036), (30.96, 0.949, 0.036))
    rows = []
    for name, make, published in (
        ("AD-NeRF", lambda s: replace(scale.teach(), seconds=s), adnerf),
        ("DFRF", lambda s: new_speaker(scale, seconds=s), dfrf),
    ):
        for s, theirs, numbers in zip(scale.lengths, (10, 15, 20), published, strict=True):
            label = f"{name}, {s:g} s{paper_size(s, theirs, 's')}"
            rows.append(Row(label, make(s), paper=quality(*numbers)))
    return Table(
        "length", "How much video is needed",
        "dfrf, table 2, without its rows of a NeRF without audio",
        "with 10 s AD-NeRF's pictures suffer little and its lips much; DFRF, which begins from many "
        "speakers, keeps both.",
        tuple(rows), rows[2].label,
    )  # fmt: skip


TABLES: dict[str, Callable[[Scale], Table]] = {
    "length": length,
    "dfrf-references": references,
    "dfrf-warp": warp,
    "dfrf-few-shot": few_shot,
}
