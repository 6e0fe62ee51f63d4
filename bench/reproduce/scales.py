"""How large everything is: the papers' sizes, what two CPU cores can do, and what a test can wait for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from bench.reproduce.cells import SOME_BOUNDS, Cell
from nldf_engine.models import ConditionConfig
from nldf_engine.training.presets import Recipe, adnerf, adnerf_small, adnerf_tiny, nldf_88, nldf_small, nldf_tiny

# A torso's field is no part of these experiments: the dataset's plate stands in every row.
HEAD_ALONE = {"torso": "plate"}


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
        faces: find the faces in the frames, for the figures of the lips.
        needs_data: whether there has to be a dataset; else a synthetic speaker is made.
    """

    name: str
    student: Recipe
    teacher: Recipe
    network: Mapping[str, Any]
    depths: tuple[int, int, int]
    teacher_network: Mapping[str, Any]
    marks: tuple[int, int, int]
    every: int = 1
    faces: bool = True
    needs_data: bool = True
    speaker: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if sorted(self.marks) != list(self.marks) or not 1 <= self.marks[0] <= self.marks[-1] <= self.student.steps:
            raise ValueError(f"marks: expected rising steps of at most {self.student.steps}, got {self.marks}")

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
        nldf_small().recipe, **HEAD_ALONE, size=64, steps=2400, rays=1024, pool_batch=256, pool_capacity=16384,
        motion_codes=0, distilled_frames=200,
    ),
    teacher=replace(adnerf_small().recipe, **HEAD_ALONE, size=64, steps=2000, rays=512, motion_codes=0),
    network={"width": 48, "points": 16, "frequencies": 0, "segments": 4},
    depths=(28, 50, 88),
    teacher_network={
        "width": 64, "depth": 5, "skip": 2, "view_layers": 1, "position_frequencies": 9,
        "direction_frequencies": 2, "coarse": 24, "fine": 24, "density": "softplus", "density_scale": 40.0,
        "segments": 8,
    },
    marks=(600, 1200, 2400),
    every=4,
)  # fmt: skip

TINY = Scale(
    "tiny",
    student=replace(
        nldf_tiny().recipe, **HEAD_ALONE, steps=40, rays=128, pool_batch=32, pool_capacity=512, motion_codes=0,
        distilled_frames=4,
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
    faces=False,
    needs_data=False,
    speaker={"seconds": 3.0, "size": 64, "seed": 1},
)  # fmt: skip

SCALES = {scale.name: scale for scale in (TINY, CPU, PAPER)}


def differences(scale: Scale, paper: Scale = PAPER) -> list[str]:
    """`student's steps: 600000 -> 3000` of everything in which a scale differs from the papers' sizes."""
    out = []
    for title, ours, theirs in (
        ("student's ", asdict(scale.student), asdict(paper.student)),
        ("student's ", dict(scale.network), dict(paper.network)),
        ("teacher's ", asdict(scale.teacher), asdict(paper.teacher)),
        ("teacher's ", _whole(scale.teach()), _whole(paper.teach())),
    ):
        out += [f"{title}{name}: {theirs[name]} -> {ours[name]}" for name in ours if ours[name] != theirs[name]]
    if scale.depths != paper.depths:
        out.append(f"depths of table 3: {paper.depths} -> {scale.depths}")
    if scale.every != paper.every:
        out.append(f"scored held-out frames: every one -> every {scale.every}th")
    return out


def _whole(cell: Cell) -> dict[str, Any]:
    """A network's settings, defaults included."""
    config = asdict(cell.make(SOME_BOUNDS, ConditionConfig(), build=False))
    return {name: value for name, value in config.items() if name not in ("bounds", "conditions")}
