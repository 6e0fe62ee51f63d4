"""What was found in a foreign folder: its frames, camera and files, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from nldf_engine.base.errors import FileProblem
from nldf_engine.datasets.foreign.kinds import Kind
from nldf_engine.datasets.problems import Problem
from nldf_engine.geometry.cameras import Camera

FEWEST = 0.9  # share of the frames that must have all their files


@dataclass
class Findings:
    """What was found. Anything below `problems` is only there where no problem is an error.

    Args:
        folder: where the transforms are.
        kind: the layout.
        problems: in the order in which they were found.
        ids, audio_ids: [N] `img_id` and `aud_id` of the listed frames, in the order of the ids; put right
            where the layout counts tracked frames only.
        poses: [N, 4, 4] ours, float64.
        held: [N] bool, listed for validation.
        rects: by name, [N, 4] boxes x, y, width, height.
        eyes: [N] eye openness that `nldf export` wrote beside the poses; None in folders of others.
        usable: [N] bool, frames that have all their files.
        pictures: the folder of the whole frames.
        camera, near, far: of the dataset.
        files: by folder name, {id: path} of numbered files.
        features: the audio features' file, None where there is none.
    """

    folder: Path
    kind: Kind
    problems: list[Problem] = field(default_factory=list)
    ids: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    audio_ids: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    poses: np.ndarray = field(default_factory=lambda: np.zeros((0, 4, 4)))
    held: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))
    usable: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))
    rects: dict[str, np.ndarray] = field(default_factory=dict)
    eyes: np.ndarray | None = None
    pictures: str = "ori_imgs"
    camera: Camera | None = None
    near: float = 0.0
    far: float = 0.0
    files: dict[str, dict[int, Path]] = field(default_factory=dict)
    features: Path | None = None

    def add(self, where: str, what: str, remedy: str, severity: str = "error") -> None:
        """Notes a problem with the file or folder `where`."""
        self.problems.append(Problem(str(self.folder / where), what, remedy, severity))

    def note(self, problems: Iterable[FileProblem]) -> None:
        """Notes what keeps files from being used, each as an error."""
        self.problems += [Problem(str(p.path), p.problem, p.remedy) for p in problems]

    @property
    def errors(self) -> list[Problem]:
        """The problems that make the folder unusable."""
        return [problem for problem in self.problems if problem.severity == "error"]
