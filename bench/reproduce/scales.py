"""How large everything is: the papers' sizes, what two CPU cores can do, and what a test can wait for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from bench.reproduce.cells import SOME_BOUNDS, Cell
from nldf_engine.systems.registry import ConditionConfig
from nldf_engine.training.presets import (
    Recipe,
    adnerf,
    adnerf_small,
    adnerf_tiny,
    nldf_88,
    nldf_small,
    nldf_tiny,
)

# A torso's field is no part of these experiments: the dataset's plate stands in every row.
HEAD_ALONE = {"torso": "plate"}
# Settings that change nothing without a torso's field, and without motion codes.
OF_A_TORSO = ("torso", "torso_steps", "torso_in_front", "torso_follows")
OF_MOTION = ("motion_noise", "speech_steps")
NAMED = {
    "depths": "depths of table 3", "marks": "steps at which table 2 measures", "lengths": "seconds of video",
    "every": "every so many held-out frames are scored",
}  # fmt: skip


@dataclass(frozen=True)
class Scale:
    """How large the experiments are.

    Args:
        name: as on the command line.
        student, teacher: recipes.
        network: of the student, but for its depth.
        depths: the three of table 3; the last one is every other table's.
        teacher_network: with as many segments as any student has at most, of which students learn sums.
        marks: the steps at which table 2 measures.
        every: only every so many held-out frames are scored.
        lengths: of the video, seconds, that the table of lengths trains on.
        faces: find the faces in the frames, for the figures of the lips.
        speaker: the synthetic speaker that is made where no dataset is given; none where empty.

    Raises:
        ValueError: marks that don't rise, or lie beyond the training's end.
    """

    name: str
    student: Recipe
    teacher: Recipe
    network: Mapping[str, Any]
    depths: tuple[int, int, int]
    teacher_network: Mapping[str, Any]
    marks: tuple[int, int, int]
    every: int = 1
    lengths: tuple[float, float, float] = (10.0, 15.0, 20.0)
    faces: bool = True
    speaker: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (
            sorted(self.marks) != list(self.marks)
            or not 1 <= self.marks[0] <= self.marks[-1] <= self.student.steps
        ):
            raise ValueError(
                f"marks: expected rising steps of at most {self.student.steps}, got {self.marks}"
            )

    def teach(self) -> Cell:
        """The one teacher of all students, an AD-NeRF."""
        return Cell(self.teacher, self.teacher_network)

    def learn(self, depth: int | None = None, taught: bool = True, **changes: Any) -> Cell:
        """A student; `changes` go to its recipe or, where they are none of its fields, to its network."""
        known = {item.name for item in fields(Recipe)}
        recipe = {name: value for name, value in changes.items() if name in known}
        network = {name: value for name, value in changes.items() if name not in known}
        return Cell(
            replace(self.student, distillation=taught, **recipe),
            {**self.network, "depth": depth or self.depths[-1], **network},
            self.teach() if taught else None,
        )


PAPER = Scale(
    "paper",
    student=replace(nldf_88().recipe, **HEAD_ALONE),
    teacher=replace(adnerf().recipe, **HEAD_ALONE),
    network={"width": 256, "points": 16, "frequencies": 0, "segments": 4},
    depths=(28, 50, 88),
    teacher_network={"segments": 8},
    marks=(25_000, 50_000, 100_000),
)  # fmt: skip

CPU = Scale(
    "cpu",
    student=replace(
        nldf_small().recipe, **HEAD_ALONE, size=64, steps=2000, rays=1024, pool_batch=256,
        pool_capacity=16384, motion_codes=0, distilled_frames=150,
    ),
    teacher=replace(
        adnerf_small().recipe, **HEAD_ALONE, size=64, steps=1000, rays=384, frames=2, motion_codes=0,
    ),
    network={"width": 48, "points": 16, "frequencies": 0, "segments": 4},
    depths=(28, 50, 88),
    teacher_network={
        "width": 48, "depth": 5, "skip": 2, "view_layers": 1, "position_frequencies": 9,
        "direction_frequencies": 2, "coarse": 16, "fine": 24, "density": "softplus", "density_scale": 40.0,
        "segments": 8,
    },
    marks=(500, 1000, 2000),
    every=4,
    faces=False,  # of 30 pixels: too small to find lips in
)  # fmt: skip

TINY = Scale(
    "tiny",
    student=replace(
        nldf_tiny().recipe, **HEAD_ALONE, steps=40, rays=128, pool_batch=32, pool_capacity=512,
        motion_codes=0, distilled_frames=4,
    ),
    teacher=replace(adnerf_tiny().recipe, **HEAD_ALONE, steps=20, rays=128, motion_codes=0),
    network={"width": 16, "points": 16, "frequencies": 0, "segments": 4},
    depths=(4, 6, 8),
    teacher_network={
        "width": 16, "depth": 3, "skip": 1, "view_layers": 1, "position_frequencies": 4,
        "direction_frequencies": 1, "coarse": 8, "fine": 8, "density": "softplus", "density_scale": 40.0,
        "segments": 8,
    },
    marks=(10, 20, 40),
    every=4,
    lengths=(1.0, 1.5, 2.0),
    faces=False,
    speaker={"seconds": 3.0, "size": 64, "seed": 1},
)  # fmt: skip

SCALES = {scale.name: scale for scale in (TINY, CPU, PAPER)}


def differences(scale: Scale, paper: Scale = PAPER) -> list[tuple[str, str, str]]:
    """(what, at the papers' sizes, at this scale) of everything in which a scale differs from the papers."""
    out = []
    for who, ours, theirs in (
        ("student", scale.learn(), paper.learn()), ("teacher", scale.teach(), paper.teach())
    ):  # fmt: skip
        now, then = _settings(ours), _settings(theirs)
        out += [(f"{who}: {n}", str(then[n]), str(now[n])) for n in now if n in then and now[n] != then[n]]
    for name in ("depths", "marks", "lengths", "every"):
        now, then = getattr(scale, name), getattr(paper, name)
        if now != then:
            out.append((NAMED[name], _listed(then), _listed(now)))
    return out


def _settings(cell: Cell) -> dict[str, Any]:
    """A cell's recipe and network, without what is not in force."""
    config = asdict(cell.make(SOME_BOUNDS, ConditionConfig(), build=False))
    idle = {"bounds", "conditions", *OF_A_TORSO, *(OF_MOTION if not cell.recipe.motion_codes else ())}
    if cell.recipe.system == "adnerf":
        idle |= {"segment_weight", "distillation", "distilled_frames", "active_pool"}
        idle |= {name for name in asdict(cell.recipe) if name.startswith("pool_")}
    return {k: v for k, v in {**asdict(cell.recipe), **config}.items() if k not in idle}


def _listed(value: Any) -> str:
    return ", ".join(f"{item:g}" for item in value) if isinstance(value, tuple) else str(value)
