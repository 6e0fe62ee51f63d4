"""Finished steps kept on disk, so that an interrupted preparation continues where it stopped."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from nldf_engine.base.files import make_folder
from nldf_engine.base.results import Results, key_of

Result = tuple[dict[str, np.ndarray], dict[str, Any]]


class Steps:
    """A cache folder of step results, valid for one key (the video and the settings).

    Args:
        folder: the cache; a cache of another key, or of an older format, is emptied.
        key: what the results depend on.

    Attributes:
        resumed: names of the steps that were found finished.
        seconds: wall and CPU seconds of each step when it ran, also those of an earlier run.

    Raises:
        FileProblem: the folder can't be made.
    """

    def __init__(self, folder: Path, key: dict[str, Any]) -> None:
        self.folder, self.resumed = folder, list[str]()
        self.seconds: dict[str, dict[str, float]] = {}
        self._results = Results(folder, key_of(key))
        if self._results.stale():
            self.remove()
        make_folder(folder)

    def path(self, name: str) -> Path:
        """A file of the cache."""
        return self.folder / name

    def run(self, name: str, work: Callable[[], Result], files: tuple[str, ...] = ()) -> Result:
        """The result of `work`, from the cache where it was finished before.

        Args:
            name: of the step.
            work: returns (arrays, values that JSON can hold); may write `files` into the cache folder first.
            files: names that must exist for a cached result to count.
        """
        found = self._results.get(name)
        if found is not None and all((self.folder / file).is_file() for file in files):
            if not self.resumed:
                print(f"resuming from {self.folder}: what was finished is not done again", file=sys.stderr)
            self.resumed.append(name)
            self.seconds[name] = found.values["seconds"]
            return found.tensors, found.values["figures"]
        wall, cpu = time.monotonic(), time.process_time()
        arrays, values = work()
        self.seconds[name] = {
            "wall": round(time.monotonic() - wall, 2),
            "cpu": round(time.process_time() - cpu, 2),
        }
        self._results.put(name, arrays, {"figures": values, "seconds": self.seconds[name]})
        return arrays, values

    def remove(self) -> None:
        """Deletes the cache with the files that steps wrote into it."""
        shutil.rmtree(self.folder, ignore_errors=True)
