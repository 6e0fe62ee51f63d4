"""Poses that arrive one by one: each frame takes one, the newest, and bad ones are named by their number."""

import warnings
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from avatars import tiny_avatar
from nldf_engine.engine import Engine
from nldf_engine.engine.edits import Edit, HeadEdit, PoseWarning
from nldf_engine.engine.edits.live import TORSO_SHARE, is_live
from nldf_engine.geometry.rotations import head_numbers, poses_of

RATE = 16000
SOUND = np.sin(np.arange(RATE) / 9).astype(np.float32)
CHUNKS = [SOUND[first : first + 640] for first in range(0, RATE, 640)]


@pytest.fixture(scope="module")
def engine() -> Engine:
    made = tiny_avatar(size=12)
    made.portrait.torso.fit_motion(made.poses, torch.eye(2, 3).repeat(len(made.poses), 1, 1))
    made.portrait.torso.motion_weights[3, 2] = 0.5
    return Engine(made, torch.device("cpu"))


def swaying(frames: int, degrees: float) -> torch.Tensor:
    """[T, 4, 4] of a head that sways by two centimetres at the most, and turns by so many degrees."""
    numbers = torch.zeros(frames, 6, dtype=torch.float64)
    numbers[:, 0] = degrees * torch.sin(torch.arange(frames) / 4)
    numbers[:, 3] = 0.018 * torch.sin(torch.arange(frames) / 4 + 1) if degrees else 0
    numbers[:, 5] = 0.8
    return poses_of(numbers)


def streamed(engine: Engine, poses: object, **settings: object) -> np.ndarray:
    return np.stack(list(engine.stream(CHUNKS, poses, **settings)))


def rendered(engine: Engine, poses: object, **settings: object) -> np.ndarray:
    return np.asarray(engine.render((SOUND, RATE), poses, **settings).frames)


def test_frames_show_the_poses_in_their_order(engine: Engine) -> None:
    """A held pose gives the frames of `render`, and a moving head those of its poses, whatever they are."""
    still = swaying(25, 0.0)
    assert int(np.abs(streamed(engine, iter(still)).astype(int) - rendered(engine, still)).max()) <= 1
    bare = Engine(tiny_avatar(size=12), torch.device("cpu"))
    bare.avatar.portrait.torso.present.fill_(False)
    moved = swaying(25, 1.5)
    for items in (iter(moved), (pose.numpy() for pose in moved), iter(moved.double().tolist())):
        off = streamed(bare, items).astype(int) - rendered(bare, moved)
        assert int(np.abs(off).max()) <= 1
    assert int(np.abs(streamed(bare, iter(moved.flip(0))).astype(int) - rendered(bare, moved)).max()) > 3


def test_edits_are_added_to_the_own_track(engine: Engine) -> None:
    """HeadEdits that arrive give the frames of the same edit of the whole clip, on top of the stream's."""
    twice = streamed(
        engine, iter([HeadEdit(yaw=1.0)] * 30), edit=Edit(HeadEdit(yaw=0.5, shift=(0.004, 0, 0)))
    ).astype(int)
    whole = Edit(HeadEdit(yaw=1.5, shift=(0.004, 0, 0)))
    assert int(np.abs(twice - rendered(engine, None, edit=whole)).max()) <= 1
    assert int(np.abs(twice - rendered(engine, None)).max()) > 3


def test_a_pose_is_taken_when_its_frame_is_drawn(engine: Engine) -> None:
    """One item a frame and none beforehand, though sound comes in longer pieces; the last one stays."""
    taken: list[int] = []

    def tracker() -> Iterator[torch.Tensor]:
        for number, pose in enumerate(swaying(10, 1.0)):
            taken.append(number)
            yield pose

    with engine.stream([SOUND], tracker()) as frames:
        shown = []
        for frame in frames:
            shown.append(frame)
            assert len(taken) == min(len(shown), 10)
    assert len(shown) == 25
    longer = swaying(10, 1.0).tolist()
    longer += [longer[-1]] * 15
    assert np.array_equal(streamed(engine, iter(longer))[-1], shown[-1])


def test_the_torso_follows_a_pose_with_a_delay(engine: Engine) -> None:
    """After a jump of the head the torso goes its share of the way each frame, and arrives."""
    from nldf_engine.engine.edits import Editor

    a, b = swaying(2, 0.0), poses_of(torch.tensor([[0, 0, 0, 0.01, 0, 0.8]]))
    live = Editor(engine.renderer, None, iter([a[0], *[b[0]] * 40])).live
    assert live is not None
    places = torch.stack([live(number).torso[0, 0, 2] for number in range(41)])
    start, end = float(places[0]), float(engine.renderer.portrait.torso.predict_motion(b)[0, 0, 2])
    assert abs(end - start) > 1e-3
    assert float(places[1]) == pytest.approx(start + TORSO_SHARE * (end - start), rel=1e-3)
    assert float(places[-1]) == pytest.approx(end, rel=1e-2)


def test_smoothing_calms_what_arrives(engine: Engine) -> None:
    """With the stream's `smooth`, a trembling head trembles less; a head edit's numbers too."""
    from nldf_engine.engine.edits import Editor

    torch.manual_seed(0)
    yaws = torch.randn(60).tolist()

    def turned(yaw: float) -> torch.Tensor:
        return poses_of(torch.tensor([[yaw, 0, 0, 0, 0, 0.8]]))[0]

    for make in (turned, lambda yaw: HeadEdit(yaw=yaw)):
        spread = []
        for smooth in (0.0, 4.0):
            poses = iter([make(yaw) for yaw in yaws])
            live = Editor(engine.renderer, Edit(HeadEdit(smooth=smooth)), poses).live
            assert live is not None
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", PoseWarning)
                seen = torch.cat([head_numbers(live(number).poses) for number in range(60)])[10:, 0]
            spread.append(float(seen.diff().std()))
        assert spread[1] < 0.5 * spread[0]


def test_what_lies_beyond_the_training_video_is_said_once(engine: Engine) -> None:
    """A far pose warns when it comes, with its value and no share of frames, and no second time."""
    far = swaying(25, 30.0)
    with pytest.warns(PoseWarning, match=r"yaw reaches .* degrees \(trained: [^)]*\);") as seen:
        streamed(engine, iter(far))
    assert len(seen) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        streamed(engine, iter(far), edit=Edit(HeadEdit(limit="off")))


@pytest.mark.parametrize(
    ("item", "kind", "word"),
    [
        (np.eye(3, dtype=np.float32), ValueError, r"item 2: expected a pose \[4, 4\].*shape \[3, 3\]"),
        (swaying(5, 0), ValueError, r"item 2: .*\[5, 4, 4\]"),
        (np.full((4, 4), np.nan, np.float32), ValueError, "item 2: .*NaN"),
        (2 * np.eye(4, dtype=np.float32), ValueError, "item 2: .*rotation"),
        (np.eye(4, dtype=int), ValueError, "item 2: .*floating"),
        ("yaw", (TypeError, ValueError), "item 2: expected a pose"),
        (None, (TypeError, ValueError), "item 2: expected a pose"),
        (object(), (TypeError, ValueError), "item 2: expected a pose"),
        ([[1, 2], [3]], TypeError, "item 2: expected a pose"),
        (HeadEdit(smooth=2), ValueError, "item 2: .*give its curve, smooth"),
    ],
)
def test_a_bad_item_is_named(engine: Engine, item: object, kind: type, word: str) -> None:
    """The error names the item's number, what was expected and what came, behind the frames before it."""
    good, got = swaying(2, 0), []
    with pytest.raises(kind, match=word):
        for frame in engine.stream(CHUNKS, iter([*good, item])):
            got.append(frame)
    assert len(got) == 2


def test_what_can_not_be_is_said_at_once(engine: Engine) -> None:
    """No pose at all, centring, a clip that is not streamed, and the tracker's own errors."""
    with pytest.raises(ValueError, match="gave none"):
        next(engine.stream(CHUNKS, iter([])))
    with pytest.raises(ValueError, match="centred"):
        engine.stream(CHUNKS, iter([]), edit=Edit(HeadEdit(centred=True)))
    with pytest.raises(ValueError, match=r"poses: .*Engine\.stream.*generator"):
        engine.render((SOUND, RATE), (pose for pose in swaying(25, 0)))

    def gone() -> Iterator[torch.Tensor]:
        yield swaying(1, 0)[0]
        raise OSError("the tracker is gone")

    with pytest.raises(OSError, match="tracker"):
        streamed(engine, gone(), ahead=2)


def test_which_poses_are_live() -> None:
    """Iterators and what gives one are; arrays, lists, paths and words are tracks."""

    class Tracker:
        def __iter__(self) -> Iterator[np.ndarray]:
            return iter([])

    assert all(is_live(given) for given in (iter([]), (x for x in []), Tracker(), map(int, [])))
    known = (None, "still", np.zeros((1, 4, 4)), torch.zeros(1, 4, 4), [[1.0]], ())
    assert not any(is_live(given) for given in known)
