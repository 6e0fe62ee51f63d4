"""Finished steps kept on disk, so that an interrupted preparation goes on where it stopped."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from nldf_engine.base.errors import FileProblem
from nldf_engine.base.files import atomic_path, read_json, write_json

Result = tuple[dict[str, np.ndarray], dict[str, Any]]


class Steps:
    """A cache folder of step results, valid for one key (the video and the settings).

    Args:
        folder: the cache; a cache of another key is emptied.
        key: what the results depend on.

    Attributes:
        resumed: names of the steps that were found finished.
        seconds: wall and CPU seconds of each step when it ran, also those of an earlier run.
    """

    def __init__(self, folder: Path, key: dict[str, Any]) -> None:
        self.folder, self.resumed = folder, list[str]()
        self.seconds: dict[str, dict[str, float]] = {}
        try:
            kept = read_json(folder / "key.json") if (folder / "key.json").exists() else None
        except FileProblem:
            kept = None
        if kept != key:
            shutil.rmtree(folder, ignore_errors=True)
            write_json(folder / "key.json", key)

    def path(self, name: str) -> Path:
        """A file of the cache."""
        return self.folder / name

    def run(self, name: str, work: Callable[[], Result], files: tuple[str, ...] = ()) -> Result:
        """The result of `work`, from the cache where it was finished before.

        Args:
            name: of the step.
            work: returns (arrays, json-able figures); may write `files` into the cache folder first.
            files: names that must exist for a cached result to count.
        """
        kept = self._load(name, files)
        if kept is not None:
            if not self.resumed:
                print(f"resuming from {self.folder}: what was finished is not done again", file=sys.stderr)
            self.resumed.append(name)
            return kept
        wall, cpu = time.monotonic(), time.process_time()
        arrays, figures = work()
        self.seconds[name] = {
            "wall": round(time.monotonic() - wall, 2),
            "cpu": round(time.process_time() - cpu, 2),
        }
        self._save(name, arrays, figures)
        return arrays, figures

    def _load(self, name: str, files: tuple[str, ...]) -> Result | None:
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            kept = read_json(self.folder / f"{name}.json")
            arrays = load_file(str(self.folder / f"{name}.safetensors"))
            self.seconds[name] = kept["seconds"]
            figures = kept["figures"]
        except (FileProblem, SafetensorError, OSError, KeyError, TypeError):
            return None
        return (arrays, figures) if all((self.folder / f).is_file() for f in files) else None

    def _save(self, name: str, arrays: dict[str, np.ndarray], figures: dict[str, Any]) -> None:
        from safetensors.numpy import save

        with atomic_path(self.folder / f"{name}.safetensors") as temporary:
            temporary.write_bytes(save({k: np.ascontiguousarray(v) for k, v in arrays.items()}))
        # The json comes last: its presence says that the step is whole.
        write_json(self.folder / f"{name}.json", {"figures": figures, "seconds": self.seconds[name]})

    def remove(self) -> None:
        """Deletes the cache."""
        shutil.rmtree(self.folder, ignore_errors=True)
