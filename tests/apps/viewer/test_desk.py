"""One browser's desk without a browser: states become frames, the time line runs, paths are kept."""

import functools
import json
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from nldf_engine.apps.viewer.artist import Artist, Pace
from nldf_engine.apps.viewer.camera_path import CameraPath, Key
from nldf_engine.apps.viewer.codes import FADE, CodeEdit, changed
from nldf_engine.apps.viewer.controls import controls_of
from nldf_engine.apps.viewer.desk import Desk
from nldf_engine.apps.viewer.picture import AvatarPictures, Picture
from nldf_engine.apps.viewer.playhead import Playhead
from nldf_engine.apps.viewer.recording import Stopped, record
from nldf_engine.apps.viewer.state import PATH, STILL, ViewState
from nldf_engine.apps.viewer.take import Take, loudness, silent_take, sound_take
from nldf_engine.apps.viewer.turning import head_of_camera
from nldf_engine.engine import Engine
from nldf_engine.geometry.poses import load_poses
from nldf_engine.geometry.rotations import head_numbers
from nldf_engine.media.video import probe

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


CONTROLS = functools.cache(controls_of)


class Wall:
    """What a browser would show."""

    def __init__(self) -> None:
        self.pictures: list[tuple[Picture, bool]] = []
        self.problems: list[Exception] = []
        self.full = threading.Event()

    def show(self, picture: Picture, full: bool) -> None:
        self.pictures.append((picture, full))
        if full:
            self.full.set()


def desk_of(engine: Engine, take: Take | None, clock, wall: Wall | None = None) -> Desk:
    wall = wall or Wall()
    own = Engine(engine.avatar, engine.device)
    return Desk(own, take, CONTROLS(engine), wall.show, wall.problems.append, clock)


# States and pictures.


def test_a_state_is_the_frame_that_render_makes(bundled: Engine, tone: Take) -> None:
    """Under edits, a background and a changed code; and the recorded clip is the same."""
    pictures = AvatarPictures(bundled, tone, CONTROLS(bundled))
    state = ViewState(
        {"yaw": 5.0, "mouth": 1.4, "brows": 1.0},
        12,
        STILL,
        background="navy",
        codes=(CodeEdit(0, 8, 16, 2.0),),
    )
    drawn = pictures.draw(state, 64)
    assert drawn.pixels.shape == (64, 64, 3) and drawn.psnr is None and drawn.frame == 12
    clip = pictures.clip(state, 64)
    assert len(clip) == len(tone) and clip.audio is not None
    # The recording cleans the outline of its old background; the viewer is fast.
    inner = slice(24, 44), slice(24, 40)
    difference = np.abs(clip.frames[12].astype(int) - drawn.pixels)[inner]
    assert difference.max() <= 6
    plain = pictures.draw(ViewState({}, 12, STILL, background="navy"), 64)
    assert np.abs(plain.pixels.astype(int) - drawn.pixels)[inner].max() > 40


def test_states_do_not_stick(bundled: Engine, tone: Take) -> None:
    """The same state is the same picture, whatever was drawn in between."""
    pictures = AvatarPictures(bundled, tone, CONTROLS(bundled))
    states = [
        ViewState({"yaw": yaw, "jaw": jaw}, frame) for yaw, jaw, frame in ((0, 0, 3), (9, 2, 3), (9, 2, 20))
    ]
    first = [pictures.draw(state, 48).pixels for state in states]
    again = [pictures.draw(state, 48).pixels for state in reversed(states)]
    for one, other in zip(first, reversed(again), strict=True):
        np.testing.assert_array_equal(one, other)
    assert np.abs(first[0].astype(int) - first[1]).max() > 30


def test_a_take_is_measured(bundled: Engine, tone: Take) -> None:
    """A tone is loud throughout, silence is not; a take that is too long is refused with what to do."""
    assert len(loudness(tone)) == len(tone) == 25 and loudness(tone).min() > 0.15
    assert loudness(silent_take(bundled)).max() == 0
    with pytest.raises(ValueError, match=r"long\.wav: it lasts 700 s, and the viewer plays up to 600 s"):
        sound_take(bundled, (np.zeros(700 * 8000, np.int16), 8000), "long.wav")


def test_a_recording_is_a_video_with_sound(bundled: Engine, tone: Take, tmp_path: Path) -> None:
    """As long as the sound; it can be ended on the way, and says how far it is."""
    clip, shares = AvatarPictures(bundled, tone, CONTROLS(bundled)).clip(ViewState(), 64), []
    (tmp_path / "clip.mp4").write_bytes(record(clip, lambda share: shares.append(share) is None))
    info = probe(tmp_path / "clip.mp4")
    assert (info.frames, info.width, info.has_audio) == (25, 64, True)
    assert shares == [k / 25 for k in range(25)]
    with pytest.raises(Stopped):
        record(clip, lambda share: share < 0.3)


# The desk.


def test_two_desks_on_one_avatar_do_not_disturb_each_other(bundled: Engine, tone: Take, clock) -> None:
    one, other = desk_of(bundled, tone, clock), desk_of(bundled, tone, clock)
    before = other.pictures.draw(other.state, 48).pixels
    one.set("yaw", 12.0)
    one.set("mouth", 2.0)
    one.change(background="lime", motion=STILL)
    one.seek(9)
    assert other.state.values == {} and other.state.frame == 0 and other.state.background is None
    np.testing.assert_array_equal(other.pictures.draw(other.state, 48).pixels, before)
    assert np.abs(one.pictures.draw(one.state, 48).pixels.astype(int) - before).max() > 50


def test_numbers_are_held_and_words_checked(bundled: Engine, tone: Take, clock) -> None:
    desk = desk_of(bundled, tone, clock)
    desk.set("mouth", 1e9)
    desk.set("jaw", float("nan"))
    assert desk.state.values == {"mouth": 3.0, "jaw": 0.0}
    for bad in (("nose", 1.0), ("blink", "wink")):
        with pytest.raises(ValueError, match=bad[0]):
            desk.set(*bad)
    with pytest.raises(ValueError, match="motion: expected one of"):
        desk.change(motion="as in the video")
    with pytest.raises(ValueError, match="shown: expected one of rendered"):
        desk.change(shown="real, rendered, error")
    with pytest.raises(ValueError, match="8 motion codes, got 8"):
        desk.add_codes(CodeEdit(8, 0, 3, 1.0))
    assert desk.state.codes == () and desk.state.motion == "as in training"


def test_another_take_keeps_the_sliders(bundled: Engine, tone: Take, clock) -> None:
    """What belongs to the old sound goes: its codes, the place on the time line."""
    desk = desk_of(bundled, tone, clock)
    desk.set("yaw", 5.0)
    desk.add_codes(CodeEdit(1, 0, 5, 1.0))
    desk.seek(20)
    desk.say(silent_take(desk.engine))
    assert desk.state.values == {"yaw": 5.0} and desk.state.codes == () and desk.state.frame == 0
    assert desk.playhead.frames == 250


def test_a_drag_turns_the_head(tiny: Engine, clock) -> None:
    """By the angle that the camera went; no further than the sliders; a wheel moves it away."""
    desk = desk_of(tiny, None, clock)
    front = np.array([0.0, 0, 0, 1])[[3, 0, 1, 2]]  # looks along z, as an OpenCV camera in front of the face

    def orbit(degrees: float, away: float = 0.8) -> tuple[np.ndarray, np.ndarray]:
        half, angle = np.radians(degrees) / 2, np.radians(degrees)
        return np.array([np.cos(half), 0, np.sin(half), 0]), away * np.array(
            [-np.sin(angle), 0, -np.cos(angle)]
        )

    assert head_of_camera(front, np.array([0, 0, -0.8])) == pytest.approx([0, 0, 0, 0, 0, 0.8])
    assert desk.drag(*orbit(0)) == {}
    moved = desk.drag(*orbit(1.5))
    assert list(moved) == ["yaw"] and abs(moved["yaw"]) == pytest.approx(1.5, abs=1e-6)
    shown = head_numbers(desk.engine.open_track(None)(torch.tensor([0])).poses)[0]
    assert desk.pictures.head(desk.state)[0] == pytest.approx(float(shown[0]) + moved["yaw"], abs=1e-4)
    assert desk.drag(*orbit(170)) == {}  # no hand drags that far at once
    desk.turning.rest()
    desk.drag(*orbit(10))
    desk.drag(*orbit(60))
    yaw = next(c for c in desk.pictures.controls if c.name == "yaw")
    assert desk.state.values["yaw"] in (yaw.low, yaw.high)
    assert desk.drag(*orbit(60, 0.81))["z"] == pytest.approx(0.01, abs=1e-6)
    with pytest.raises(ValueError, match="finite pose"):
        desk.drag(np.full(4, np.nan), np.zeros(3))


def test_the_playhead_runs_pauses_and_ends(clock) -> None:
    head = Playhead(50, clock)
    head.play()
    clock.time += 0.5
    assert head.playing and head.frame == 12
    head.pause()
    clock.time += 5
    assert not head.playing and head.frame == 12
    head.seek(40)
    head.play()
    clock.time += 5
    assert head.frame == 49 and not head.playing
    head.play()  # from the beginning
    assert head.frame == 0 and head.playing
    head.seek(-3)
    assert head.frame == 0
    head.seek(1000)
    assert head.frame == 49


# Camera paths and codes.


def test_a_path_goes_through_its_keys_and_not_beyond() -> None:
    heads = [
        (0.0, 0.0, 0.0, 0.0, 0.0, 0.8),
        (10.0, 2.0, 0.0, 0.01, 0.0, 0.7),
        (10.0, 0.0, -1.0, 0.0, 0.0, 0.9),
    ]
    path = CameraPath()
    for frame, head in zip((30, 5, 20), (heads[2], heads[0], heads[1]), strict=True):
        path = path.with_key(Key(frame, head))
    assert [key.frame for key in path.keys] == [5, 20, 30]
    numbers = head_numbers(path.poses(40)).numpy()
    for frame, head in zip((5, 20, 30), heads, strict=True):
        assert numbers[frame] == pytest.approx(head, abs=1e-4)
    assert numbers[0] == pytest.approx(heads[0], abs=1e-4) and numbers[39] == pytest.approx(
        heads[2], abs=1e-4
    )
    assert numbers[:, 0].max() < 10.001 and (np.diff(numbers[5:21, 0]) > -1e-4).all()
    assert [key.frame for key in path.without(18).keys] == [5, 30]
    with pytest.raises(ValueError, match="no key frames yet"):
        CameraPath().poses(3)
    with pytest.raises(ValueError, match="six finite numbers"):
        path.with_key(Key(3, (1.0, 2.0)))


def test_a_path_is_previewed_and_saved_for_render(bundled: Engine, tone: Take, clock, tmp_path: Path) -> None:
    """Key frames hold the head as it was set; the file is what `nldf render --poses` reads."""
    desk = desk_of(bundled, tone, clock)
    desk.change(motion=STILL)
    with pytest.raises(ValueError, match="no key frames yet"):
        desk.preview_path()
    desk.set_key()
    desk.seek(20)
    desk.set("yaw", 8.0)
    desk.set_key()
    first, last = (key.head for key in desk.state.path.keys)
    assert last[0] - first[0] == pytest.approx(8) and last[1:] == pytest.approx(first[1:])
    desk.preview_path()
    assert desk.state.motion == PATH and desk.state.values == {} and desk.playhead.playing
    clock.time += 10
    assert desk.pictures.head(desk.state) == pytest.approx(last, abs=1e-3)
    (tmp_path / "path.json").write_text(desk.state.path.to_json(len(tone)), encoding="ascii")
    read = load_poses(tmp_path / "path.json")
    torch.testing.assert_close(read, desk.state.path.poses(len(tone)), atol=1e-6, rtol=0)
    assert len(json.loads(desk.state.path.to_json(3))) == 3
    desk.drop_key()
    desk.drop_key()
    assert desk.state.path.keys == () and desk.state.motion == "as in training"


def test_codes_change_over_a_stretch_and_fade() -> None:
    codes = torch.zeros(30, 3)
    made = changed(codes, [CodeEdit(1, 10, 14, 2.0), CodeEdit(1, 12, 12, -0.5)])
    assert made[:, [0, 2]].abs().max() == 0 and codes.abs().max() == 0
    assert made[10, 1] == pytest.approx(1.5 + 0.5 * (1 - (0.5 + 0.5 * np.cos(np.pi * 2 / FADE))), abs=1e-6)
    assert made[: 10 - FADE, 1].abs().max() == 0 and made[12 + FADE + 3 :, 1].abs().max() < 1e-6
    with pytest.raises(ValueError, match="a code of 0 to 2, got 3"):
        changed(codes, [CodeEdit(3, 0, 1, 1.0)])
    for bad in ((0, 5, 4, 1.0), (0, -1, 4, 1.0), (0, 0, 4, 9.0), (0, 0, 4, float("nan"))):
        with pytest.raises(ValueError, match="codes: expected"):
            CodeEdit(*bad)


# Drawing in the background.


def test_small_while_it_moves_and_full_when_it_is_still(tiny: Engine, silence: Take) -> None:
    """A change is shown small at once and at full width after a moment; the newest state wins."""
    wall = Wall()
    desk = desk_of(tiny, silence, time.monotonic, wall)
    desk.artist.pace = Pace(24, goal=10.0)
    desk.start()
    try:
        for turn in range(20):
            desk.set("yaw", float(turn) / 10)
        assert wall.full.wait(60)
    finally:
        desk.close()
    assert not wall.problems
    *moving, (last, full) = wall.pictures
    assert full and last.pixels.shape == (24, 24, 3) and 1 <= len(moving) <= 21
    expected = desk.pictures.draw(desk.state)
    np.testing.assert_array_equal(last.pixels, expected.pixels)


def test_a_state_that_cannot_be_drawn_is_reported_and_the_next_is_drawn() -> None:
    shown, problems, done = [], [], threading.Event()

    def draw(state: int, width: int | None) -> int:
        if state < 0:
            raise ValueError("negative")
        return state

    def show(picture: int, full: bool) -> None:
        shown.append(picture)
        done.set()

    artist = Artist(
        draw, show, lambda error: (problems.append(str(error)), done.set()), Pace(8), lambda: None
    )
    artist.start()
    artist.change(-1)
    assert done.wait(60) and problems[0] == "negative"
    done.clear()
    artist.change(7)
    assert done.wait(60)
    artist.stop()
    assert shown[0] == 7


def test_the_pace_finds_the_width_that_keeps_up() -> None:
    """At a microsecond a pixel the largest square under 40 ms is 192; on a slow machine, the smallest."""
    for cost, width in ((1e-6, 192), (1e-5, 128), (1e-9, 512)):
        pace = Pace(512, goal=0.04)
        assert pace.widths == (128, 192, 256, 384, 512)
        for _ in range(30):
            pace.took(cost * pace.width**2)
        assert pace.width == width
    assert Pace(64).widths == (64,)
