"""A clip in stretches: they are the clip, pixel by pixel, and its file byte by byte."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from avatars import tiny_avatar
from nldf_engine.base.errors import FileProblem
from nldf_engine.engine import Clip, Engine
from nldf_engine.engine.parts import JoinedFrames, Part, save_part
from nldf_engine.media.video import frames_at

SECONDS = 1.4


@pytest.fixture(scope="module")
def engine() -> Engine:
    import torch

    return Engine(tiny_avatar(), torch.device("cpu"))


def clip_of(engine: Engine, background: str | None) -> Clip:
    time = np.arange(int(SECONDS * 16000)) / 16000
    sound = (0.3 * np.sin(1400 * time) * np.sin(9 * time)).astype(np.float32)
    return engine.render((sound, 16000), size=26, background=background)


@pytest.mark.parametrize(("background", "ending"), [(None, "mp4"), ("transparent", "webm"), ("red", "")])
def test_joined_stretches_are_the_clip(
    engine: Engine, tmp_path: Path, background: str | None, ending: str
) -> None:
    """Frames and files are those of one process, whatever the container, with alpha too."""
    clip = clip_of(engine, background)
    paths = [tmp_path / f"{number}.mkv" for number in range(3)]
    counts = [save_part(clip, Part(number, 3, 0.4), path) for number, path in enumerate(paths)]
    assert counts == [10, 10, 15] and len(clip) == 35
    joined = replace(clip, frames=JoinedFrames(clip.frames, paths))
    assert np.array_equal(joined.frames[:], clip.frames[:]) and np.array_equal(
        joined.frames[17], clip.frames[17]
    )
    names = [name if not ending else f"{name}.{ending}" for name in ("whole", "joined")]
    for made, name in zip((clip, joined), names, strict=True):
        made.save(tmp_path / name, provenance=False)
    whole, other = (tmp_path / name for name in names)
    if ending == "mp4":
        assert whole.read_bytes() == other.read_bytes()
    elif ending:  # Matroska writes a random number into every file
        read = [list(frames_at(path, fps=None, alpha=True)) for path in (whole, other)]
        assert len(read[0]) == 35 and np.array_equal(*read)
    else:
        assert [p.read_bytes() for p in sorted(whole.iterdir())] == [
            p.read_bytes() for p in sorted(other.iterdir())
        ]


def test_other_stretches_are_refused(engine: Engine, tmp_path: Path) -> None:
    """One that is missing, one of another clip, and one that is cut short."""
    clip = clip_of(engine, None)
    paths = [tmp_path / f"{number}.mkv" for number in range(2)]
    for number, path in enumerate(paths):
        save_part(clip, Part(number, 2, 0.4), path)
    for wrong in (paths[:1], [*paths, paths[0]], [paths[1], paths[1]]):
        with pytest.raises(FileProblem, match="these stretches are not those of a clip of 35 frames"):
            list(JoinedFrames(clip.frames, wrong))
    save_part(
        engine.render((np.zeros(16000, np.float32), 16000), size=20), Part(0, 1, 1), tmp_path / "small.mkv"
    )
    with pytest.raises(FileProblem, match="stretches are not those"):
        list(JoinedFrames(clip.frames, [tmp_path / "small.mkv"]))
    paths[0].write_bytes(paths[0].read_bytes()[:900])
    with pytest.raises(FileProblem, match=r"0\.mkv"):
        list(JoinedFrames(clip.frames, paths))


def test_parts_cover_a_clip() -> None:
    """Every frame is in one part, also where the sound turns out shorter or longer than its file said."""
    for total in (35, 30, 29, 80):
        frames = [number for n in range(3) for number in Part(n, 3, 0.4).frames(total)]
        assert frames == list(range(total))
    for wrong in ((3, 3, 0.4), (-1, 3, 0.4), (0, 1, 0.0)):
        with pytest.raises(ValueError, match="part: expected"):
            Part(*wrong)


def test_a_part_without_frames_is_refused(engine: Engine, tmp_path: Path) -> None:
    """A stretch behind the clip's end leaves no file."""
    with pytest.raises(FileProblem, match="none for stretch 3 of 3"):
        save_part(clip_of(engine, None), Part(2, 3, 2.0), tmp_path / "2.mkv")
    assert not list(tmp_path.iterdir())
