"""Makes packages as pip would install them, for what is found by entry points."""

from __future__ import annotations

from pathlib import Path

import pytest


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, code: str, entry_points: str) -> Path:
    """A package of one module on the path; returns the folder of its metadata.

    Args:
        folder: where it lies.
        monkeypatch: takes the folder off the path again.
        name: of package and module.
        code: of the module.
        entry_points: content of entry_points.txt.
    """
    (folder / f"{name}.py").write_text(code)
    about = folder / f"{name}-0.1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1\n")
    (about / "entry_points.txt").write_text(entry_points)
    monkeypatch.syspath_prepend(folder)
    return about
