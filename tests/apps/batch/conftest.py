"""A folder with what jobs read, made once; every test gets a copy."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from avatars import tiny_avatar
from nldf_engine.datasets.format import write_wav


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An avatar, two sounds of 0.8 seconds, and a folder that stands for a dataset."""
    folder = tmp_path_factory.mktemp("batch")
    (folder / "data").mkdir()
    tiny_avatar().save(folder / "avatar")
    time = np.arange(int(0.8 * 16000)) / 16000
    for name, pitch in (("a.wav", 200), ("b.wav", 260)):
        write_wav(folder / name, 0.3 * np.sin(2 * np.pi * pitch * time) * np.sin(9 * time))
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy of that."""
    return Path(shutil.copytree(made, tmp_path / "batch"))


@pytest.fixture
def job_file(folder: Path) -> Callable[..., Path]:
    """Writes a job file; a value that is no text as JSON."""

    def write(jobs: Any, name: str = "jobs.json") -> Path:
        path = folder / name
        path.write_text(jobs if isinstance(jobs, str) else json.dumps(jobs), encoding="utf-8")
        return path

    return write


@pytest.fixture
def render() -> Callable[..., dict[str, Any]]:
    """A render job with some flags."""

    def job(output: str, **flags: Any) -> dict[str, Any]:
        return {"render": {"avatar": "avatar", "audio": "a.wav", "output": output, "size": 24, **flags}}

    return job
