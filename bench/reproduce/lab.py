"""Where cells are trained and measured: a folder that remembers what is done.

DIR/cells/nldf-0123456789/cell.json     what it is, what it took, and its metrics at every step measured
                          avatar        and avatar-STEP beside it, avatar.training, metrics-STEP
DIR/races                               how long frames of trained cells take
DIR/targets                             a teacher's segment colours, for all its students
DIR/speakers                            synthetic speakers of bases
DIR/shared                              what several trials share
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.reproduce.cells import Cell
from bench.reproduce.race import race
from bench.reproduce.scales import Scale
from bench.reproduce.trials import Trial
from bench.timing import environment
from nldf_engine.base.errors import FileProblem
from nldf_engine.base.files import atomic_folder, make_folder, read_json, write_json
from nldf_engine.base.progress import clock
from nldf_engine.base.results import Results, key_of
from nldf_engine.datasets.dataset import Dataset
from nldf_engine.datasets.format import NEEDED
from nldf_engine.datasets.stretch import best_stretch
from nldf_engine.evaluation import EvaluateConfig, evaluate
from nldf_engine.evaluation.landmark_detector import FaceMesh
from nldf_engine.synthetic import SyntheticConfig, make_synthetic_dataset
from nldf_engine.synthetic.proportions import Proportions
from nldf_engine.training import TrainConfig, train

MOST_SEEDS = 16
FACES_FROM = 128  # pixels, width of the smallest pictures in which lips can be found


class Lab:
    """Trains and measures cells on one dataset.

    Args:
        folder: where everything is kept.
        data: the dataset.
        scale: says at which steps students are kept, and how frames are scored.
        device: "auto", "cpu" or "cuda".
        weights: folder with public weights, for LPIPS.
    """

    def __init__(
        self, folder: Path, data: Dataset, scale: Scale, device: str = "auto", weights: Path | None = None
    ) -> None:
        self.folder, self.data, self.scale, self.device, self.weights = folder, data, scale, device, weights
        self.hash = data.hash()
        self._faces: dict[int, dict[tuple[int, int], np.ndarray]] = {}

    def place(self, cell: Cell | Trial) -> Path:
        """The cell's folder."""
        return self.folder / "cells" / cell.name(self.hash)

    def avatar(self, cell: Cell, step: int | None = None) -> Path:
        """The avatar of a cell at a step; None for its end."""
        return self.place(cell) / ("avatar" if step in (None, cell.recipe.steps) else f"avatar-{step}")

    def dataset(self, cell: Cell) -> Path:
        """The dataset's folder; for a cell of some seconds, a copy whose training part is these.

        The held-out part is the same in all.

        Raises:
            FileProblem: the training part is shorter.
        """
        if cell.seconds is None:
            return self.data.path
        info = self.data.info
        first, last = info.splits["train"]
        length = round(cell.seconds * info.fps)
        if first + length > last:
            raise FileProblem(
                self.data.path,
                f"its training part has {(last - first) / info.fps:g} s, and {cell.seconds:g} s are wanted",
                "prepare a longer video",
            )  # fmt: skip
        if cell.chosen == "best":
            first = best_stretch(self.data, cell.seconds).first
        elif cell.chosen != "first":
            first += int(np.random.default_rng(int(cell.chosen)).integers(last - first - length + 1))
        path = self.folder / "cuts" / f"{self.hash[:10]}-{first}-{cell.seconds:g}s"
        if not path.is_dir():
            with atomic_folder(path) as folder:
                for name in NEEDED:
                    shutil.copyfile(self.data.path / name, folder / name)
                files = {name: stated for name, stated in info.files.items() if name in NEEDED}
                cut = replace(info, splits={**info.splits, "train": [first, first + length]}, files=files)
                write_json(folder / "dataset.json", cut.to_json())
        return path

    def speakers(self, cell: Cell) -> list[Path]:
        """The datasets of a cell: the lab's, or the synthetic speakers of a base, made once."""
        if not cell.speakers:
            return [self.dataset(cell)]
        paths = []
        for given in cell.speakers:
            path = self.folder / "speakers" / key_of(given)[:10]
            if not path.is_dir():
                shape = Proportions(**given.get("proportions", {}))
                make_synthetic_dataset(path, SyntheticConfig(**{**given, "proportions": shape}))
            paths.append(path)
        return paths

    def race(self, cells: Mapping[str, Cell]) -> dict[str, dict[str, Any]]:
        """How long a frame takes with the avatars of trained cells, in turns; measured once and kept."""
        keys = [[name, cell.key(self.hash)] for name, cell in cells.items()]
        key = key_of(keys)
        results = Results(self.folder / "races", key)
        found = results.get(key[:16])
        if found is not None:
            return found.values
        avatars = {name: self.avatar(cell) for name, cell in cells.items()}
        values = race(avatars, self.data, self.device)
        results.put(key[:16], {}, values)
        return values

    def record(self, cell: Cell | Trial) -> dict[str, Any] | None:
        """What is known of a cell whose training has ended; None before."""
        path = self.place(cell) / "cell.json"
        return read_json(path) if path.is_file() else None

    def seeds(self, cell: Cell | Trial, least: int) -> Sequence[Cell | Trial]:
        """The cell with seeds 0 to `least` - 1, and with every further one that is finished."""
        return [c for c in cell.with_seeds(MOST_SEEDS) if c.seed < least or self.record(c) is not None]

    def train_all(self, cells: Iterable[Cell | Trial]) -> None:
        """Trains what is not trained yet, what others need first, and says how long that may take."""
        waiting = [cell for cell in with_needed(cells) if self.record(cell) is None]
        left, done, began = sum(cell.work for cell in waiting), 0.0, time.monotonic()
        for number, cell in enumerate(waiting, 1):
            spent = time.monotonic() - began
            rest = f", about {clock(spent / done * left)} left" if done else ""
            sys.stderr.write(f"[{number}/{len(waiting)}] {cell.name(self.hash)}: {cell.summary}{rest}\n")
            self.train(cell) if isinstance(cell, Cell) else self.try_out(cell)
            left, done = left - cell.work, done + cell.work

    def train(self, cell: Cell) -> dict[str, Any]:
        """Trains a cell, or goes on with it where it was stopped; returns its record."""
        place = make_folder(self.place(cell))
        config = TrainConfig(
            teacher=None if cell.teacher is None else self.avatar(cell.teacher),
            seed=cell.seed, device=self.device, resume=True, targets=self.folder / "targets",
            keep=self._marks(cell), base=None if cell.base is None else self.avatar(cell.base),
            audio_frontend=self.data.info.audio["frontend"] if cell.speakers else None,
            weights=self.weights if cell.recipe.uses_weights else None,
        )  # fmt: skip
        with _spending(place / "spent.json") as spent:
            result = train(cell.preset(place.name), self.speakers(cell), self.avatar(cell), config)
        record = {
            "name": place.name, "summary": cell.summary, "cell": asdict(cell), "seed": cell.seed,
            "dataset": self.hash, "steps": result.steps, **spent,
            "validation_psnr": result.validation_psnr, "history": result.history,
            "environment": environment(), "measured": {},
        }  # fmt: skip
        write_json(place / "cell.json", record)
        return record

    def try_out(self, trial: Trial) -> dict[str, Any]:
        """Trains and measures a trial; returns its record. One that is stopped begins anew."""
        place = make_folder(self.place(trial))
        with _spending(place / "spent.json") as spent:
            measured = trial.measure(self.data.path, trial.seed, self.weights, self.folder / "shared")
        record = {
            "name": place.name, "summary": trial.summary, "cell": dict(trial.settings), "seed": trial.seed,
            "dataset": self.hash, "steps": None, **spent, "validation_psnr": None, "history": [],
            "environment": environment(), "measured": {"end": measured},
        }  # fmt: skip
        write_json(place / "cell.json", record)
        return record

    def _marks(self, cell: Cell) -> tuple[int, ...]:
        """The steps before its end at which a cell's avatar is kept: table 2 needs a student's."""
        return tuple(s for s in self.scale.marks if s < cell.recipe.steps and cell.distils)

    def measure(self, cell: Cell | Trial, step: int | None = None) -> dict[str, Any]:
        """The metrics of a trained cell at a step on the held-out frames, from its record where they are; a
        trial's are all there."""
        record = self.record(cell)
        assert record is not None, "it is measured after its training"
        if isinstance(cell, Trial):
            return record["measured"]["end"]
        at = str(step or cell.recipe.steps)
        if at not in record["measured"]:
            config = EvaluateConfig(
                every=self.scale.every, pictures=False, device=self.device, weights=self.weights
            )
            record["measured"][at] = evaluate(
                self.avatar(cell, step), self.dataset(cell), self.place(cell) / f"metrics-{at}", config,
                detector=FaceMesh if cell.recipe.size >= FACES_FROM else None,
                real_faces=self._faces.setdefault(cell.recipe.size, {}),
            )  # fmt: skip
            write_json(self.place(cell) / "cell.json", record)
        return record["measured"][at]


def with_needed(cells: Iterable[Cell | Trial]) -> list[Cell | Trial]:
    """The cells and what they need, each once, a teacher or a base before the first that begins with it."""
    found: dict[str, Cell | Trial] = {}
    for cell in cells:
        for one in (*cell.needs, cell):
            found.setdefault(one.key(""), one)
    return list(found.values())


@contextmanager
def _spending(path: Path) -> Iterator[dict[str, float]]:
    """Wall and CPU seconds spent inside and in earlier sittings, kept in `path` however it ends."""
    before = read_json(path) if path.is_file() else {"wall_seconds": 0.0, "cpu_seconds": 0.0, "sittings": 0}
    wall, cpu = time.perf_counter(), time.process_time()
    spent: dict[str, float] = {}
    try:
        yield spent
    finally:
        spent |= {
            "wall_seconds": round(before["wall_seconds"] + time.perf_counter() - wall, 1),
            "cpu_seconds": round(before["cpu_seconds"] + time.process_time() - cpu, 1),
            "sittings": before["sittings"] + 1,
        }
        write_json(path, spent)
