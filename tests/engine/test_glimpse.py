"""Single frames of a sound: they are those of the whole clip, under any setting and in any order."""

import numpy as np
import pytest
import torch

from avatars import tiny_avatar
from landmark_avatars import landmark_avatar
from nldf_engine.apps.cli.bundled import bundled_avatar
from nldf_engine.engine import Engine
from nldf_engine.engine.edits import (
    Edit,
    Editor,
    EyesEdit,
    Gate,
    HeadEdit,
    LandmarkEdit,
    MouthEdit,
    UpperEdit,
)
from nldf_engine.engine.glimpse import Glimpse
from nldf_engine.engine.scenes import Given, Setting

FRAMES = 40


def windows_of(engine: Engine) -> np.ndarray:
    like = engine.renderer.silence(FRAMES)
    return np.abs(np.random.default_rng(3).normal(size=like.shape)).astype(np.float32)


def setting(engine: Engine, edit: Edit | None, size: int) -> Setting:
    camera = engine.renderer.camera(size)
    behind, plate = engine.renderer.backdrop(None, "clean", camera)
    return Setting(camera, Editor(engine.renderer, edit), behind, plate)


def differences(engine: Engine, edit: Edit | None, given: Given | None = None, size: int = 24) -> list[int]:
    """The largest difference of each glimpsed frame from the clip's, in grey levels."""
    windows = windows_of(engine)
    glimpse, how = Glimpse(engine.renderer, windows), setting(engine, edit, size)
    tracks = {} if given is None else {"eyes": given.eyes, "torso": given.torso, "motion": given.motion}
    clip = engine.render(windows, edit=edit, size=size, **tracks)
    found = []
    for number in (FRAMES - 1, 0, 17, 3):
        alone = engine.renderer.frame(glimpse.scene(number, how, given), 0).astype(int)
        found.append(int(np.abs(alone - clip.frames[number]).max()))
    return found


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine.load(bundled_avatar())


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "edit",
    [
        None,
        Edit(HeadEdit(yaw=6, limit="clamp"), EyesEdit("natural"), MouthEdit(1.3, {"jaw": 1.0})),
        Edit(mouth=MouthEdit(gate=Gate()), upper=UpperEdit(brows=2.0)),
    ],
    ids=["plain", "head and mouth", "gate and brows"],
)
def test_a_frame_alone_is_that_of_the_clip(engine: Engine, edit: Edit | None) -> None:
    """To the rounding of the codes."""
    assert max(differences(engine, edit)) <= 1


def test_given_tracks_count_as_in_a_clip(engine: Engine) -> None:
    """Eyes, torso and motion codes of the whole sound are cut to the frame."""
    torso = torch.eye(2, 3).repeat(FRAMES, 1, 1)
    torso[:, 0, 2] = torch.linspace(0, 0.2, FRAMES)
    codes = torch.linspace(-1, 1, FRAMES)[:, None].repeat(1, engine.motion_codes)
    given = Given(torch.linspace(0.1, 0.3, FRAMES), torso, motion=codes)
    assert max(differences(engine, None, given)) <= 1


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_follows_a_sound_from_its_beginning_is_followed() -> None:
    """The landmarks of a frame depend on all that came before it."""
    made = Engine(landmark_avatar(), torch.device("cpu"))
    assert max(differences(made, Edit(landmarks=LandmarkEdit(jaw=4.0, limit="clamp")))) <= 1


def test_frames_beyond_the_ends_are_refused() -> None:
    """So are features of another front-end, and none at all."""
    made = Engine(tiny_avatar(), torch.device("cpu"))
    glimpse = Glimpse(made.renderer, windows_of(made))
    with pytest.raises(IndexError, match="frame 40 of a sound of 40"):
        glimpse.scene(40, setting(made, None, 24))
    with pytest.raises(ValueError, match="another audio front-end"):
        Glimpse(made.renderer, np.zeros((4, 16, 7), np.float32))
    with pytest.raises(ValueError, match="at least one frame"):
        Glimpse(made.renderer, np.zeros((0, 16, 29), np.float32))
