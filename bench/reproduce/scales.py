"""How large everything is: the papers' sizes, what two CPU cores can do, and what a test can wait for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from bench.reproduce.cells import SOME_BOUNDS, Cell, conditions_of
from nldf_engine.training import Recipe, find_preset
from nldf_engine.training.recipe import changed, describe_settings

# A torso's field is no part of these experiments: the dataset's plate stands in every row.
HEAD_ALONE = {"torso.kind": "plate"}
# (what, at the papers' sizes, at a scale).
Difference = tuple[str, str, str]
# Settings that change nothing without a torso's field, and without motion codes.
OF_A_TORSO = "torso."
OF_MOTION = ("driving.motion_noise", "driving.speech_steps")
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
    speaker: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (
            sorted(self.marks) != list(self.marks)
            or not 1 <= self.marks[0] <= self.marks[-1] <= self.student.steps
        ):
            raise ValueError(
                f"marks: expected rising steps of at most {self.student.steps}, got {self.marks}"
            )

    def differences(self) -> list[Difference]:
        """In what the settings of `NAMED` differ from the papers'."""
        pairs = {name: (getattr(PAPER, name), getattr(self, name)) for name in NAMED}
        return [
            (NAMED[name], _listed(then), _listed(now)) for name, (then, now) in pairs.items() if now != then
        ]

    def teach(self) -> Cell:
        """The one teacher of all students, an AD-NeRF."""
        return Cell("adnerf", self.teacher, self.teacher_network, shared=True)

    def learn(self, taught: bool = True, recipe: Mapping[str, Any] | None = None, **network: Any) -> Cell:
        """A student, a light field.

        Args:
            taught: whether it has the teacher.
            recipe: settings of its recipe to change (`training.recipe.changed`).
            network: settings of its network to change.
        """
        return Cell(
            "nldf", changed(self.student, {"distillation.on": taught, **(recipe or {})}),
            {**self.network, "depth": self.depths[-1], **network}, self.teach() if taught else None,
        )  # fmt: skip


def recipe_of(preset: str, **changes: Any) -> Recipe:
    """A preset's recipe with settings changed, of the head alone."""
    return changed(find_preset(preset).recipe, {**HEAD_ALONE, **changes})


def network_of(preset: str) -> dict[str, Any]:
    """A preset's network settings beside `bounds` and `conditions`, as a `Cell` takes them."""
    found = find_preset(preset)
    config = found.config(SOME_BOUNDS, conditions_of(found.recipe))
    names = (one.name for one in fields(config))
    return {name: getattr(config, name) for name in names if name not in ("bounds", "conditions")}


PAPER = Scale(
    "paper",
    student=recipe_of("nldf-88"),
    teacher=recipe_of("adnerf"),
    network={"width": 256, "points": 16, "frequencies": 0, "segments": 4},
    depths=(28, 50, 88),
    teacher_network={"segments": 8},
    marks=(25_000, 50_000, 100_000),
)  # fmt: skip

CPU = Scale(
    "cpu",
    student=recipe_of(
        "nldf-small", size=64, steps=2000, rays=1024, pool_batch=256,
        pool_capacity=16384, motion_codes=0, distilled_frames=150,
    ),
    teacher=recipe_of("adnerf-small", size=64, steps=1000, rays=384, frames=2, motion_codes=0),
    network={"width": 48, "points": 16, "frequencies": 0, "segments": 4},
    depths=(28, 50, 88),
    teacher_network={
        "width": 48, "depth": 5, "skip": 2, "view_layers": 1, "position_frequencies": 9,
        "direction_frequencies": 2, "coarse": 16, "fine": 24, "density": "softplus", "density_scale": 40.0,
        "segments": 8,
    },
    marks=(500, 1000, 2000),
    every=8,
)  # fmt: skip

TINY = Scale(
    "tiny",
    student=recipe_of(
        "nldf-tiny", steps=40, rays=128, pool_batch=32, pool_capacity=512,
        motion_codes=0, distilled_frames=4,
    ),
    teacher=recipe_of("adnerf-tiny", steps=20, rays=128, motion_codes=0),
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
    speaker={"seconds": 3.0, "size": 64, "seed": 1},
)  # fmt: skip

SCALES = {scale.name: scale for scale in (TINY, CPU, PAPER)}


def compared(parts: Mapping[str, tuple[Cell, Cell]]) -> list[Difference]:
    """In what trainings differ from the papers': by the part's name, ours and that of the paper's sizes."""
    out: list[Difference] = []
    for who, (ours, theirs) in parts.items():
        now, then = _settings(ours), _settings(theirs)
        out += [(f"{who}: {n}", str(then[n]), str(now[n])) for n in now if n in then and now[n] != then[n]]
    return out


def _settings(cell: Cell) -> dict[str, Any]:
    """A cell's recipe, by path, and its network, without what has no effect."""
    recipe = {setting.path: setting.value for setting in describe_settings(cell.recipe)}
    conditions = conditions_of(cell.recipe)
    config = asdict(cell.config(conditions=conditions))
    network = _flat({k: v for k, v in config.items() if k not in ("bounds", "conditions")})
    idle = () if cell.recipe.driving.motion_codes else OF_MOTION
    return {k: v for k, v in recipe.items() if not k.startswith(OF_A_TORSO) and k not in idle} | network


def _flat(value: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """By path."""
    out: dict[str, Any] = {}
    for name, item in value.items():
        out |= _flat(item, f"{where}{name}.") if isinstance(item, Mapping) else {f"{where}{name}": item}
    return out


def _listed(value: Any) -> str:
    return ", ".join(f"{item:g}" for item in value) if isinstance(value, tuple) else str(value)
