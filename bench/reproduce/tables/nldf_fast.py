"""How much to film for nldf-fast, with and without a start that other speakers taught, and which seconds of
a longer video to take; of no paper."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bench.reproduce.cells import Cell
from bench.reproduce.scales import Difference, Scale, network_of
from bench.reproduce.table import Row, Table
from bench.reproduce.tables.dfrf import SPEECHLESS
from bench.reproduce.tables.dfrf import base as references_base
from nldf_engine.training import find_preset
from nldf_engine.training.recipe import changed

# By scale: the preset, what its recipe has otherwise, the start's steps, and seconds of video.
SIZES: dict[str, dict[str, Any]] = {
    "paper": {"preset": "nldf-fast", "recipe": {}, "start": 8000, "seconds": (10.0, 20.0, 40.0)},
    "cpu": {"preset": "nldf-fast", "start": 800, "seconds": (10.0, 20.0, 40.0),
            "recipe": {"size": 128, "steps": 800, "rays": 4096, "sound_copies": 0,
                       "sharpening.weight": 0.0}},
    "tiny": {"preset": "nldf-fast-tiny", "start": 8, "seconds": (1.0, 2.0),
             "recipe": {"steps": 8, "spread": False}},
}  # fmt: skip


def cell(scale: Scale, seconds: float | None, begun: bool, chosen: str | int = "first") -> Cell:
    """The dataset's speaker from so much video; `begun`: with the start of the scale's synthetic speakers;
    `chosen`: see `Cell`."""
    sizes = SIZES[scale.name]
    given = {**sizes["recipe"], "driving.shared_basis": True, "driving.identity_codes": 0}
    recipe, network = changed(find_preset(sizes["preset"]).recipe, given), network_of(sizes["preset"])
    start = None
    if begun:
        of_start = {**SPEECHLESS, "steps": sizes["start"], "driving.sound_copies": 0}
        speakers = references_base(scale).speakers
        start = Cell(
            "nldf-fast", changed(recipe, of_start), network, speakers=speakers, shared=True, note="a start"
        )  # fmt: skip
    return Cell("nldf-fast", recipe, network, seconds=seconds, base=start, chosen=chosen)


def differences(scale: Scale) -> list[Difference]:
    """None: there is no paper."""
    return []


def film(scale: Scale) -> Table:
    """Seconds of video for nldf-fast, with random weights and with a start that others taught."""
    rows = tuple(
        Row(f"{s:g} s, {'a shared start' if begun else 'random weights'}", cell(scale, s, begun))
        for begun in (False, True)
        for s in SIZES[scale.name]["seconds"]
    )
    return Table(
        "film", "How much to film for nldf-fast", "no paper's: what a user asks",
        "none; held-out frames are the same in all rows.", rows, rows[0].label,
    )  # fmt: skip


def stretch(scale: Scale) -> Table:
    """The seconds that `nldf train --seconds` chooses, against the first ones and drawn ones."""
    seconds = SIZES[scale.name]["seconds"][0]
    ways: dict[str, str | int] = {"the first": "first", "the best": "best"}
    ways |= {f"drawn, {number}": number for number in (1, 2, 3)}
    rows = tuple(
        Row(f"{label} ({seconds:g} s)", cell(scale, seconds, False, chosen)) for label, chosen in ways.items()
    )
    return Table(
        "stretch", "Which seconds of a video to train on", "no paper's: `nldf train --seconds`",
        "none; the best ones cover mouths and poses of the whole video best.", rows, rows[0].label,
    )  # fmt: skip


TABLES: dict[str, Callable[[Scale], Table]] = {"film": film, "stretch": stretch}
