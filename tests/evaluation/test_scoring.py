"""Chunks: the same figures for any number of threads, and a run that was stopped goes on where it was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nldf_engine.evaluation import EvaluateConfig, RealClip, evaluate_clip
from nldf_engine.evaluation import chunks as chunks_module
from nldf_engine.evaluation.chunks import Chunk, ChunkStore, cut, packed, unpacked
from nldf_engine.evaluation.frame_source import FrameSource

PLAIN = EvaluateConfig(pictures=False)


@pytest.fixture(autouse=True)
def short_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of 9 frames, so that 40 make five of them."""
    monkeypatch.setattr(chunks_module, "LENGTH", 9)


def identified(painter: Any, **options: Any) -> Any:
    renderer = painter(**options)
    renderer.identity = "a painter"
    return renderer


def figures(found: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in found.items() if key not in ("seconds_per_frame", "inputs")}


def noisy(frame: np.ndarray) -> np.ndarray:
    return (frame // 2 + 30).astype(np.uint8)


def test_the_figures_do_not_depend_on_the_threads_nor_on_the_chunks(
    painted: RealClip, painter: Any, pixel_detector: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One thread, four threads, and one chunk of everything: the same figures to the last digit."""
    found = [
        figures(evaluate_clip(painted, painter(noisy), tmp_path / str(workers), {}, config, pixel_detector))
        for workers in (1, 4)
        for config in [EvaluateConfig(pictures=False, workers=workers)]
    ]
    monkeypatch.setattr(chunks_module, "LENGTH", 1000)
    found.append(
        figures(evaluate_clip(painted, painter(noisy), tmp_path / "whole", {}, PLAIN, pixel_detector))
    )
    assert found[0] == found[1]
    # Means over chunks of a running sum differ by rounding alone; nothing else may.
    assert found[0].pop("flicker") == pytest.approx(found[2].pop("flicker"), abs=1e-9)
    assert found[0] == {**found[2], "flicker_real": found[0]["flicker_real"]}


@pytest.mark.parametrize("pictures", [False, True])
def test_a_stopped_run_goes_on_where_it_was(
    painted: RealClip, painter: Any, pixel_detector: Any, without: Callable[..., RealClip], tmp_path: Path,
    pictures: bool,
) -> None:  # fmt: skip
    """Ctrl-C in the middle keeps what is finished; the second run renders the rest alone, and agrees."""
    clip = without(painted, identity="a clip")
    config = EvaluateConfig(pictures=pictures, workers=1)
    whole = evaluate_clip(
        clip, identified(painter, change=noisy), tmp_path / "whole", {}, PLAIN, pixel_detector
    )
    made = []

    def stopping(frame: np.ndarray) -> np.ndarray:
        made.append(1)
        if len(made) == 31:
            raise KeyboardInterrupt
        return noisy(frame)

    with pytest.raises(KeyboardInterrupt):
        evaluate_clip(
            clip, identified(painter, change=stopping), tmp_path / "out", {}, config, pixel_detector
        )
    kept = list((tmp_path / "out").rglob("*.safetensors"))
    assert len(kept) >= 1 and {p.name for p in (tmp_path / "out").iterdir()} == {"unfinished"}

    seen = []

    class Frames:
        """Frames that can be indexed, and tell which were."""

        def __init__(self, frames: list[np.ndarray], name: str) -> None:
            self.frames, self.name = frames, name

        def __len__(self) -> int:
            return len(self.frames)

        def __getitem__(self, index: int) -> np.ndarray:
            seen.append((self.name, index))
            return self.frames[index]

    inner = painter(noisy)

    def renderer(features: np.ndarray, poses: np.ndarray, eyes: np.ndarray) -> Frames:
        name = "true" if np.array_equal(features, clip.features[: len(features)]) else "wrong"
        return Frames(list(inner(features, poses, eyes)), name)

    renderer.backend, renderer.device, renderer.identity = "reference", "cpu", "a painter"
    found = evaluate_clip(clip, renderer, tmp_path / "out", {}, config, pixel_detector)
    assert figures(found) == figures(whole)
    assert min(index for name, index in seen if name == "true" and index > 0) > 0
    assert len([1 for name, index in seen if name == "true"]) < 40
    assert not (tmp_path / "out" / "unfinished").exists()


def test_a_finished_report_is_taken_as_it_is_unless_something_changed(
    painted: RealClip, painter: Any, pixel_detector: Any, without: Callable[..., RealClip], tmp_path: Path
) -> None:
    """The same inputs render nothing again; another avatar, other frames or --fresh render everything."""
    clip = without(painted, identity="a clip")
    first = evaluate_clip(clip, identified(painter), tmp_path, {}, PLAIN, pixel_detector)
    again = identified(painter)
    assert evaluate_clip(clip, again, tmp_path, {}, PLAIN, pixel_detector) == first and again.calls == []
    other = identified(painter)
    other.identity = "another painter"
    evaluate_clip(clip, other, tmp_path, {}, PLAIN, pixel_detector)
    assert other.calls == [1, 40, 40]
    for changed, config in (
        (without(clip, identity="another clip"), PLAIN), (clip, EvaluateConfig(pictures=False, fresh=True)),
        (clip, EvaluateConfig(pictures=False, every=2)), (without(clip, valid=np.ones(40, bool)), PLAIN),
    ):  # fmt: skip
        renderer = identified(painter)
        evaluate_clip(changed, renderer, tmp_path, {}, config, pixel_detector)
        assert renderer.calls == [1, 40, 40]


def test_every_nth_frame_is_scored_at_its_true_time(
    painted: RealClip, painter: Any, pixel_detector: Any, tmp_path: Path
) -> None:
    """Every fourth of 40 frames: ten, under their own numbers, with the lag still in milliseconds."""
    import json

    config = EvaluateConfig(pictures=False, every=4)
    found = evaluate_clip(painted, painter(), tmp_path, {}, config, pixel_detector)
    frames = json.loads((tmp_path / "frames.json").read_text())
    assert found["frames"] == 10 and found["every"] == 4
    assert frames["frame"] == list(range(160, 200, 4))
    assert found["psnr"] == 100.0 and found["lip_lag_ms"] == pytest.approx(0, abs=1)


def test_foreign_speech_is_a_third_rendering(
    painted: RealClip, painter: Any, pixel_detector: Any, without: Callable[..., RealClip], tmp_path: Path
) -> None:
    """With somebody else's features the lips are scored once more, and worse than with their own."""
    rng = np.random.default_rng(0)
    strange = np.broadcast_to(rng.integers(0, 12, 40)[:, None, None], painted.features.shape)
    renderer = painter()
    clip = without(painted, foreign=strange.astype(np.float32))
    found = evaluate_clip(clip, renderer, tmp_path, {}, PLAIN, pixel_detector)
    assert renderer.calls == [1, 40, 40, 40]
    assert found["lmd"] == 0 and found["lmd_foreign"] > 5
    assert found["lip_correlation_foreign"] < 0.6 and found["frames_without_face_foreign"] == 0


def test_faces_of_the_real_frames_are_found_once_for_several_renderers(
    painted: RealClip, painter: Any, pixel_detector: Any, tmp_path: Path
) -> None:
    """A shared memory saves the second renderer the real frames' tracking, and changes no figure."""
    known: dict[tuple[int, int], np.ndarray] = {}
    first = evaluate_clip(painted, painter(noisy), tmp_path / "a", {}, PLAIN, pixel_detector, known)
    pixel_detector.closed = 0
    second = evaluate_clip(painted, painter(noisy), tmp_path / "b", {}, PLAIN, pixel_detector, known)
    assert figures(first) == figures(second)
    assert len(known) == 5 and pixel_detector.closed == 1 + 2 * 5  # rendered and shuffled, five chunks each


def test_chunks_cover_every_frame_once() -> None:
    """They follow each other without a gap, and look back no further than the start."""
    for count in (0, 1, 9, 10, 40):
        parts = cut(count)
        assert [k for c in parts for k in range(c.start, c.stop)] == list(range(count))
        assert all(c.first >= 0 for c in parts)


def test_a_store_gives_back_what_it_was_given_and_nothing_else(tmp_path: Path) -> None:
    """Arrays and frames come back bit for bit; another key, another chunk or a damaged file are nothing."""
    store, chunk = ChunkStore(tmp_path / "kept", "key"), Chunk(0, 3, 0)
    frames = list(np.random.default_rng(0).integers(0, 256, (3, 17, 13, 3), dtype=np.uint8))
    values = {"faces": np.full((3, 478, 2), np.nan, np.float32), "seconds": np.array([0.5, 3.0])}
    store.put("rendered", chunk, values | packed(frames))
    found = store.get("rendered", chunk)
    assert found is not None and np.array_equal(np.stack(unpacked(found)), np.stack(frames))
    assert np.array_equal(found["faces"], values["faces"], equal_nan=True)
    assert store.get("rendered", Chunk(0, 4, 0)) is None and store.get("shuffled", chunk) is None
    assert ChunkStore(tmp_path / "kept", "another").get("rendered", chunk) is None
    assert ChunkStore(tmp_path / "kept", None).get("rendered", chunk) is None
    (path,) = (tmp_path / "kept").iterdir()
    path.write_bytes(path.read_bytes()[:40])
    assert store.get("rendered", chunk) is None
    store.clear()
    assert not (tmp_path / "kept").exists()


def test_a_source_that_yields_one_array_again_and_again_is_copied() -> None:
    """Frames of an iterator that reuses its memory keep their own values; going back is an error."""

    def reused() -> Any:
        frame = np.zeros((2, 2, 3), np.uint8)
        for value in range(20):
            frame[:] = value
            yield frame

    source = FrameSource(reused, 20, (2, 2, 3))
    first, second = source[3], source[7]
    assert first.max() == 3 and second.max() == 7 and source[3] is first
    with pytest.raises(IndexError, match="went by"):
        source[5]
    assert (source.made, source.seconds > 0) == (8, True)
