"""Steps of a preparation: what was finished is not done again, and what can't be trusted is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nldf_engine.base.files import write_json
from nldf_engine.prepare.steps import Steps

KEY = {"video": "abc", "size": 64}


def pose(calls: list[str]) -> Any:
    def work() -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        calls.append("pose")
        return {"poses": np.eye(4, dtype=np.float32)}, {"error_px": 0.25}

    return work


def test_a_finished_step_is_taken_from_the_cache(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same arrays, values and seconds; a line says that it resumes; another key starts afresh."""
    calls: list[str] = []
    first = Steps(tmp_path / "out.partial", KEY)
    arrays, values = first.run("pose", pose(calls))
    again = Steps(tmp_path / "out.partial", dict(KEY))
    found, kept = again.run("pose", pose(calls))
    assert calls == ["pose"] and again.resumed == ["pose"] and again.seconds == first.seconds
    assert np.array_equal(found["poses"], arrays["poses"]) and kept == values == {"error_px": 0.25}
    assert "resuming from" in capsys.readouterr().err
    (tmp_path / "out.partial" / "video.mp4").touch()
    other = Steps(tmp_path / "out.partial", {**KEY, "size": 32})
    assert list(other.folder.iterdir()) == []
    other.run("pose", pose(calls))
    assert calls == ["pose", "pose"] and other.resumed == []
    other.remove()
    assert not other.folder.exists()


def test_a_step_whose_files_are_gone_or_damaged_is_done_again(tmp_path: Path) -> None:
    """A result counts only with the files that it names, and only where it can be read."""
    calls: list[str] = []
    Steps(tmp_path, KEY).run("pose", pose(calls), ("stable.mp4",))
    Steps(tmp_path, KEY).run("pose", pose(calls), ("stable.mp4",))
    assert calls == ["pose"] * 2
    (tmp_path / "stable.mp4").touch()
    Steps(tmp_path, KEY).run("pose", pose(calls), ("stable.mp4",))
    assert calls == ["pose"] * 2
    path = tmp_path / "pose.safetensors"
    path.write_bytes(path.read_bytes()[:50])
    Steps(tmp_path, KEY).run("pose", pose(calls), ("stable.mp4",))
    assert calls == ["pose"] * 3 and (tmp_path / "stable.mp4").exists()


def test_a_cache_of_an_older_format_is_emptied(tmp_path: Path) -> None:
    """Results and a key in files of their own, as they were written once, are not resumed from."""
    from safetensors.numpy import save_file

    folder, calls = tmp_path / "out.partial", list[str]()
    folder.mkdir()
    write_json(folder / "key.json", KEY)
    write_json(folder / "pose.json", {"figures": {}, "seconds": {"wall": 1.0, "cpu": 1.0}})
    save_file({"poses": np.zeros(3)}, folder / "pose.safetensors")
    arrays, _ = Steps(folder, KEY).run("pose", pose(calls))
    assert calls == ["pose"] and np.array_equal(arrays["poses"], np.eye(4))
    assert [path.name for path in folder.iterdir()] == ["pose.safetensors"]
