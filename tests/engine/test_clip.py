"""A clip's file is written by a second thread: the same frames, in memory that is used again."""

import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from avatars import tiny_avatar
from nldf_engine.base.errors import FileProblem
from nldf_engine.engine import Engine
from nldf_engine.engine.clip import PRESET, Clip
from nldf_engine.media.video import VideoWriter, read_frames
from nldf_engine.rendering.layer import to_uint8


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(tiny_avatar(), torch.device("cpu"))


@pytest.fixture(scope="module")
def clip(engine: Engine) -> Clip:
    return engine.render(np.random.default_rng(0).random((23, 16, 29)).astype(np.float32))


def test_the_file_holds_the_frames_in_order(clip: Clip, tmp_path: Path) -> None:
    """The mp4 equals, frame by frame, one that is written without any second thread."""
    with VideoWriter(tmp_path / "in_turn.mp4", 24, 24, preset=PRESET) as writer:
        for frame in clip.frames:
            writer.write(frame)
    clip.save(tmp_path / "clip.mp4")
    pairs = list(zip(read_frames(tmp_path / "in_turn.mp4"), read_frames(tmp_path / "clip.mp4"), strict=True))
    assert len(pairs) == 23 and all((a == b).all() for a, b in pairs)
    clip.save(tmp_path / "pictures")
    assert len(list((tmp_path / "pictures").iterdir())) == 23
    assert not [thread for thread in threading.enumerate() if thread.name == "nldf-behind"]


@pytest.mark.parametrize("background", [None, "transparent"])
def test_reused_memory_changes_no_frame(engine: Engine, background: str | None) -> None:
    """Frames in a ring of three equal those in memory of their own, and come in the ring's arrays; each stays
    for two further ones."""
    features = np.random.default_rng(0).random((37, 16, 29)).astype(np.float32)
    frames = engine.render(features, background=background).frames
    places: set[int] = set()
    held: list[tuple[np.ndarray, np.ndarray]] = []
    for frame, want in zip(frames.reused(3), frames, strict=True):
        held = [*held[-2:], (frame, want)]
        for kept, expected in held:
            np.testing.assert_array_equal(kept, expected)
        places.add(frame.ctypes.data)
    assert len(places) == 3


def test_an_encoder_that_fails_leaves_nothing(
    clip: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error in the second thread is raised by `save`; no file, no half of one and no thread stays."""
    original, seen = VideoWriter.write, []

    def fails(self: VideoWriter, frame: np.ndarray) -> None:
        seen.append(threading.current_thread().name)
        if len(seen) == 5:
            raise OSError(28, "No space left on device")
        original(self, frame)

    monkeypatch.setattr(VideoWriter, "write", fails)
    with pytest.raises(FileProblem, match="disk is full"):
        clip.save(tmp_path / "out.mp4")
    assert set(seen) == {"nldf-behind"} and len(seen) == 5
    assert list(tmp_path.iterdir()) == []
    assert not [thread for thread in threading.enumerate() if thread.name == "nldf-behind"]


def test_a_profile_names_where_the_time_goes(engine: Engine) -> None:
    """Every stage of every frame has a time, together no more than the frame's own."""
    features = np.random.default_rng(0).random((9, 16, 29)).astype(np.float32)
    profile = engine.profile(features, frames=5)
    assert profile.frames == 5 and profile.size == (24, 24)
    assert set(profile.stages) == {"audio", "rays", "network", "composite", "pixels", "encode"}
    for number, total in enumerate(profile.total):
        parts = [values[number] for values in profile.stages.values()]
        assert min(parts) > 0 and sum(parts) <= total * 1.001
    assert 0 < profile.percentile(50) <= profile.percentile(95) <= max(profile.total)
    with pytest.raises(ValueError, match="frames"):
        engine.profile(features, frames=0)
    with pytest.raises(ValueError, match="audio"):
        engine.profile(features[:3])


def test_a_picture_is_its_layers_over_the_background() -> None:
    """`Portrait.picture` is `layer(...).over(background)`: with a torso, without one, and with no head."""
    engine = Engine(tiny_avatar(), torch.device("cpu"))
    scene, portrait = engine.render(np.ones((5, 16, 29), np.float32)).frames.scene, engine.renderer.portrait
    assert scene.background is not None
    drawn = (scene.view(3), scene.codes[3])
    with torch.no_grad():
        for torso, head in ((True, True), (False, True), (True, False)):
            portrait.torso.present.fill_(torso)
            if not head:
                portrait.head.region.clear()
            want = to_uint8(portrait.layer(*drawn).over(scene.background)).int()
            assert int((portrait.picture(*drawn, scene.background).int() - want).abs().max()) <= 1
