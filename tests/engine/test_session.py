"""Sessions and streams: a sound in, piece by piece; the frames of `render` out, as early as promised."""

import itertools
import threading
import time
from collections import deque
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from avatars import tiny_avatar
from nldf_engine.apps.cli.bundled import bundled_avatar
from nldf_engine.audio import FrontendConfig
from nldf_engine.avatar import Avatar
from nldf_engine.base.errors import FileProblem
from nldf_engine.engine import Engine, Frame, Renderer, Session
from nldf_engine.engine.edits import Edit, Editor, EyesEdit, Gate, HeadEdit, MouthEdit
from nldf_engine.engine.scenes import RETURNING
from nldf_engine.geometry.rotations import poses_of
from nldf_engine.rendering.fields import Bounds
from nldf_engine.rendering.heads import RayHead
from nldf_engine.rendering.portrait import Portrait
from nldf_engine.systems.common.conditions import ConditionConfig
from nldf_engine.systems.nldf.model import LightField, LightFieldConfig

RATE = 16000


def avatar_with_attention() -> Avatar:
    """The tiny avatar, with louder audio codes: of an untrained net's, a picture shows next to nothing."""
    avatar = tiny_avatar(size=8)
    with torch.no_grad():
        avatar.portrait.head.driver.audio.net.encoder_fc1[2].weight.mul_(50)
    return avatar


def avatar_with_motion() -> Avatar:
    """The same with a field that motion codes drive."""
    plain = tiny_avatar(size=8)
    torch.manual_seed(1)
    conditions = ConditionConfig(motion=4)
    field = LightField(
        LightFieldConfig(Bounds(0.6, 1.0), conditions, width=16, depth=4, points=4, frequencies=2)
    )
    with torch.no_grad():
        field.encoder.motion.speech.out[1].weight.mul_(50)
    head = RayHead(field, plain.portrait.head.region)
    portrait = Portrait(head, plain.portrait.torso).eval()
    return Avatar(
        portrait, plain.camera, plain.frontend, plain.background, plain.poses, plain.eye_openness, {}
    )


ENGINES = {"attention": avatar_with_attention, "motion": avatar_with_motion}


@pytest.fixture(scope="module", params=list(ENGINES))
def engine(request: pytest.FixtureRequest) -> Engine:
    """An engine with either way from the sound to the code of a frame."""
    return Engine(ENGINES[request.param](), torch.device("cpu"))


def speech(seconds: float, rate: int = RATE) -> np.ndarray:
    """Something with syllables and pauses, and a level that rises, so that the running level matters."""
    time = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(5).standard_normal(len(time))
    loud = np.clip(np.sin(2 * np.pi * 2.3 * time), 0, 1) * (0.02 + 0.1 * time / max(1, seconds))
    return (loud * (np.sin(2 * np.pi * 200 * time) + 0.3 * noise)).astype(np.float32)


def cut(samples: np.ndarray, size: int) -> list[np.ndarray]:
    return [samples[first : first + size] for first in range(0, len(samples), size)]


def distance(a: np.ndarray, b: np.ndarray) -> int:
    assert a.shape == b.shape, f"{a.shape} and {b.shape}"
    return int(np.abs(a.astype(int) - b.astype(int)).max())


@pytest.mark.parametrize(("seconds", "size"), [(0.1, 1), (0.5, 37), (2.2, 640), (12.3, 4000), (12.3, 16000)])
def test_a_stream_gives_the_frames_of_the_whole_sound(engine: Engine, seconds: float, size: int) -> None:
    """For chunks of one sample to a second, frames equal those of `render` to one grey level.

    Twelve seconds reach beyond the ten that the voice's level looks back, and beyond the track's end.
    """
    sound = speech(seconds)
    want = np.asarray(engine.render((sound, RATE)).frames)
    got = np.stack(list(engine.stream(cut(sound, size))))
    assert distance(got, want) <= 1


def test_the_comparison_can_tell_frames_apart(engine: Engine) -> None:
    """Where the sound comes 40 ms later, frames are further off than a grey level."""
    sound = speech(1.0)
    want = np.asarray(engine.render((sound, RATE), "still").frames)
    got = np.stack(list(engine.stream([np.zeros(640, np.float32), sound], "still")))
    assert distance(got[: len(want)], want) > 3 and distance(got[8 : len(want)], want[7:-1]) <= 1


@pytest.mark.parametrize("count", [1, 319, 320, 416, 417, 480, 2656, 4000, 4321])
def test_short_sounds_have_their_frames(engine: Engine, count: int) -> None:
    """Sounds shorter than the look-ahead have round(seconds * 25) frames, at least one, as in `render`."""
    sound = speech(1.0)[:count]
    want = np.asarray(engine.render((sound, RATE)).frames)
    empty = np.zeros(0, np.float32)
    assert distance(np.stack(list(engine.stream([empty, sound[:100], empty, sound[100:], empty]))), want) <= 1


def test_no_sound_has_no_frames(engine: Engine) -> None:
    """No chunks, or empty ones alone, give no frame and no error."""
    assert list(engine.stream([])) == list(engine.stream([np.zeros(0, np.float32)] * 3)) == []


def test_other_settings_hold_as_in_render(engine: Engine) -> None:
    """Size, background, transparency, poses and the mouth's travel are those of `render`."""
    sound, poses = speech(0.5), torch.eye(4).repeat(7, 1, 1)
    poses[:, 2, 3] = -torch.linspace(0.7, 0.9, 7)
    settings: list[dict[str, object]] = [
        {"size": 12, "background": "navy", "poses": "still"},
        {"background": "transparent", "poses": poses},
    ]
    if engine.motion_codes:
        settings.append({"mouth": 0.5})
    for setting in settings:
        want = np.asarray(engine.render((sound, RATE), **setting).frames)
        assert distance(np.stack(list(engine.stream(cut(sound, 640), **setting))), want) <= 1


@pytest.mark.parametrize(("rate", "kind"), [(48000, np.float32), (44100, np.int16), (8000, np.float64)])
def test_other_rates_are_resampled_as_in_render(engine: Engine, rate: int, kind: type) -> None:
    """(samples, rate) chunks, stereo too, give the frames of the whole sound at that rate."""
    sound = np.stack([speech(1.5, rate), 0.5 * speech(1.5, rate)], 1)
    sound = (sound * 20000).astype(kind) if kind is np.int16 else sound.astype(kind)
    want = np.asarray(engine.render((sound, rate)).frames)
    got = np.stack(list(engine.stream((piece, rate) for piece in cut(sound, rate // 30))))
    assert distance(got, want) <= 1


def needed(engine: Engine, rate: int = RATE) -> list[float]:
    """Seconds of sound that had come when each frame came out, by steps of ten milliseconds."""
    came, step = 0, rate // 100

    def chunks() -> Iterator[tuple[np.ndarray, int]]:
        nonlocal came
        for piece in cut(speech(2.0, rate), step):
            came += len(piece)
            yield piece, rate
        came = 1 << 30

    return [came / rate for _ in engine.stream(chunks())]


def test_a_frame_is_there_when_its_latency_has_passed(engine: Engine) -> None:
    """Frame t comes with the chunk that completes t / 25 + latency seconds, and not before."""
    ahead = 2 if engine.motion_codes else 3
    assert engine.latency == pytest.approx(2656 / RATE + ahead / 25)
    inside = [(t, came) for t, came in enumerate(needed(engine)) if came < 2.1]
    assert len(inside) == 1 + int((2 - engine.latency) * 25)
    for t, came in inside:
        assert t / 25 + engine.latency - 1e-9 <= came < t / 25 + engine.latency + 0.0100001
    assert [came for came in needed(engine) if came > 2.1], "the rest follows when the sound has ended"


def test_resampling_takes_an_eighth_of_a_second_more(engine: Engine) -> None:
    """At 48 kHz and 8 kHz a frame waits for no more than 0.125 s of sound beyond the stated latency."""
    for rate in (8000, 48000):
        times = [(t, came) for t, came in enumerate(needed(engine, rate)) if came < 2.1]
        assert times and all(came <= t / 25 + engine.latency + 0.125 + 0.01 for t, came in times)


def test_frames_know_their_time(engine: Engine) -> None:
    """Frame k belongs to k / 25 s of the sound."""
    with engine.stream(cut(speech(0.4), 640)) as frames:
        times = [frames.time for _ in frames]
    assert times == pytest.approx([k / 25 for k in range(10)]) and frames.number == 9
    assert frames.latency == engine.latency


def held(value: object, seen: set[int]) -> int:
    """Bytes of all arrays and tensors that an object leads to, but not its renderer's and its editor's."""
    while isinstance(value, np.ndarray) and value.base is not None:
        value = value.base  # a view keeps all of it
    if id(value) in seen or isinstance(value, Renderer | Editor | Portrait):
        return 0
    seen.add(id(value))
    if isinstance(value, np.ndarray | torch.Tensor):
        return value.nbytes
    if isinstance(value, dict):
        return sum(held(item, seen) for item in value.values())
    if isinstance(value, list | tuple | deque):
        return sum(held(item, seen) for item in value)
    return held(vars(value), seen) if hasattr(value, "__dict__") else 0


def test_memory_and_work_do_not_grow_with_the_sound(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a minute a session holds no more than after seventeen seconds, and less than a megabyte."""
    monkeypatch.setattr(engine.renderer, "frame", lambda *_: np.zeros(0, np.uint8))
    session, sizes = engine.session(), []
    for chunk in cut(np.tile(speech(10.0), 6), 16000):
        session.push(chunk[:4000])
        session.push(chunk[4000:])
        sizes.append(held(session, set()))
    assert sizes[3] < 0.5 * sizes[-1], "nothing was counted"
    assert max(sizes) <= 1.01 * max(sizes[:18]) and max(sizes) < 1e6


def test_a_slow_consumer_holds_up_the_chunks(engine: Engine) -> None:
    """Chunks are taken as frames are asked for: after the first frame no more than its look-ahead is gone."""
    taken = 0

    def chunks() -> Iterator[np.ndarray]:
        nonlocal taken
        for piece in cut(speech(2.0), 160):
            taken += 1
            yield piece

    frames = engine.stream(chunks())
    next(frames)
    assert taken == int(np.ceil(engine.latency * 100))
    frames.close()


def test_rendering_ahead_gives_the_same_and_stays_bounded(engine: Engine) -> None:
    """`ahead` changes no frame, and never renders more than that many frames beyond the one in use."""
    sound, drawn = speech(1.0), 0
    want = np.stack(list(engine.stream(cut(sound, 640))))
    assert distance(np.stack(list(engine.stream(cut(sound, 640), ahead=3))), want) == 0
    original = engine.renderer.frame

    def counted(*arguments: object) -> np.ndarray:
        nonlocal drawn
        drawn += 1
        return original(*arguments)  # type: ignore[arg-type]

    engine.renderer.frame = counted  # type: ignore[method-assign]
    try:
        with engine.stream(cut(sound, 640), ahead=3) as frames:
            for used, _ in enumerate(frames, 1):
                time.sleep(0.01)
                assert drawn <= used + 4
                if used == 6:
                    break
    finally:
        del engine.renderer.frame
    assert not [thread for thread in threading.enumerate() if thread.name == "nldf-ahead"]


@pytest.mark.parametrize("ahead", [0, 2])
def test_an_error_in_the_chunks_reaches_the_consumer(engine: Engine, ahead: int) -> None:
    """What the source of the sound raises comes out behind the frames before it; threads end."""

    def chunks() -> Iterator[np.ndarray]:
        yield speech(1.0)
        raise OSError("the microphone is gone")

    got = 0
    with pytest.raises(OSError, match="microphone"):
        for _ in engine.stream(chunks(), ahead=ahead):
            got += 1
    assert got == 1 + int((1 - engine.latency) * 25)
    assert not [thread for thread in threading.enumerate() if thread.name == "nldf-ahead"]


def test_wrong_arguments_are_named_at_once(engine: Engine) -> None:
    """Bad settings are refused by the call, before a chunk is taken; bad chunks when they come."""
    silence = np.zeros(640, np.float32)
    for arguments, word in (
        ({"size": 0}, "size"),
        ({"poses": np.eye(4)}, "poses"),
        ({"ahead": -1}, "ahead"),
        ({"mouth": 9}, "mouth"),
    ):
        with pytest.raises(ValueError, match=word):
            engine.stream([silence], **arguments)
    with pytest.raises(FileProblem, match=r"none\.npy"):
        engine.stream([silence], "none.npy")
    for bad, kind, word in (
        (silence * np.nan, ValueError, "finite"),
        ([0.0, 1.0], TypeError, "chunks"),
        ((silence, 16000.5), TypeError, "rate"),
        (silence.astype(np.int64), TypeError, "int64"),
    ):
        with pytest.raises(kind, match=word):
            list(engine.stream([bad]))
    with pytest.raises(ValueError, match="as before"):
        list(engine.stream([(silence, 16000), (silence, 8000)]))


@pytest.mark.parametrize("name", ["wav2vec2", "precomputed"])
def test_front_ends_that_need_the_whole_sound_say_so(name: str) -> None:
    """The message names the front-end and those that can stream."""
    avatar = tiny_avatar(size=8)
    avatar = Avatar(
        avatar.portrait, avatar.camera, FrontendConfig(name, dim=29), avatar.background, avatar.poses,
        avatar.eye_openness, {},
    )  # fmt: skip
    engine = Engine(avatar, torch.device("cpu"))
    with pytest.raises(ValueError, match=rf"{name}.*can't stream.*mel"):
        engine.stream([])
    with pytest.raises(ValueError, match="can't stream"):
        _ = engine.latency


def pictures(frames: list[Frame]) -> np.ndarray:
    return np.stack([frame.picture for frame in frames])


def pushed(session: Session, pieces: list[np.ndarray]) -> list[Frame]:
    return [frame for piece in pieces for frame in session.push(piece)]


def test_a_session_gives_the_frames_of_a_stream_with_their_numbers(engine: Engine) -> None:
    """Pushed sound and `finish` give a stream's frames; frames and session know numbers and moments."""
    sound = speech(1.0)
    session = engine.session("still", background="navy")
    assert session.number == -1 and session.time == 0 and session.latency == engine.latency
    frames = pushed(session, cut(sound, 700))
    assert frames[-1].number == session.number and frames[-1].time == session.time == frames[-1].number / 25
    frames += session.finish()
    assert [frame.number for frame in frames] == list(range(25))
    want = np.stack(list(engine.stream(cut(sound, 700), "still", background="navy")))
    assert distance(pictures(frames), want) == 0
    assert session.finish() == [] and session.push(np.zeros(0, np.float32)) == []


def test_frames_are_drawn_when_they_are_taken(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lazy form draws one frame at a time; what is not taken comes with the next sound's."""
    sound, drawn, original = speech(1.0), [], engine.renderer.frame
    monkeypatch.setattr(engine.renderer, "frame", lambda *given: drawn.append(0) or original(*given))
    session = engine.session()
    frames = session.frames(sound)
    assert not drawn
    first = [next(frames), next(frames)]
    assert len(drawn) == 2
    rest = session.finish()
    assert [frame.number for frame in first + rest] == list(range(25)) and list(frames) == []
    monkeypatch.undo()
    whole = engine.session()
    assert distance(pictures(first + rest), pictures(whole.push(sound) + whole.finish())) == 0


def sway(frames: int) -> torch.Tensor:
    numbers = torch.zeros(frames, 6, dtype=torch.float64)
    numbers[:, 3], numbers[:, 5] = 0.015 * torch.sin(torch.arange(frames) / 4), 0.8
    return poses_of(numbers)


@pytest.fixture(scope="module")
def bundled() -> Engine:
    return Engine.load(bundled_avatar(), "cpu")


EDIT = Edit(
    HeadEdit(yaw=1.0, limit="clamp"), EyesEdit("natural", seed=4), MouthEdit(1.3, {"width": 0.5}, gate=Gate())
)
SETTINGS: list[dict[str, object]] = [
    {"edit": EDIT},
    {"background": "navy"},
    {"background": "transparent"},
    {"poses": "still"},
    {"edit": Edit(mouth=MouthEdit(gate=Gate(hold=0.4))), "background": "lime", "poses": sway(50)},
]


@pytest.mark.filterwarnings("ignore:head poses lead beyond")
@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: "-".join(setting))
def test_what_is_changed_acts_from_the_next_frame_on(bundled: Engine, setting: dict[str, object]) -> None:
    """Frames behind a change are those of a session with these settings from the start, gate included.

    Between pushes, and within the frames of one; those before it stay, and all goes back again.
    """
    # Speech, a second of silence, speech: so that the gate's state at the change matters.
    sound = np.concatenate([speech(0.9), np.zeros(16000, np.float32), speech(0.6)])
    pieces = cut(sound, 1600)

    def session(**given: object) -> Session:
        return bundled.session(size=32, **given)  # type: ignore[arg-type]

    plain, other = (
        [frame.picture for frame in (*pushed(made, pieces), *made.finish())]
        for made in (session(), session(**setting))
    )
    assert plain[30].shape != other[30].shape or (plain[30] != other[30]).any(), "the setting shows nothing"
    changed = session()
    frames = pushed(changed, pieces[:13])
    at = len(frames)
    for name, value in setting.items():
        setattr(changed, name, value)
    lazily = changed.frames(np.concatenate(pieces[13:]))
    frames += [next(lazily) for _ in range(7)]
    back = len(frames)
    for name in setting:
        setattr(changed, name, None)
    frames += [*lazily, *changed.finish()]
    assert len(frames) == len(plain) == 62 and 20 < at < back < 40
    for frame in frames:
        want = (other if at <= frame.number < back else plain)[frame.number]
        assert frame.picture.shape == want.shape, frame.number
        assert int(np.abs(frame.picture.astype(int) - want).max()) <= 1, frame.number


def test_a_bad_change_leaves_what_was(engine: Engine) -> None:
    """A setting that can't be is refused when it is set, and the session goes on under the one before."""
    session = engine.session("still", background="navy")
    frames = session.push(speech(0.5))
    for name, value, word in (
        ("background", np.zeros((3, 3)), "background"),
        ("poses", np.eye(4), "poses"),
        ("poses", "none.npy", "none"),
    ):
        with pytest.raises((ValueError, FileProblem), match=word):
            setattr(session, name, value)
    if not engine.motion_codes:
        with pytest.raises(ValueError, match="mouth"):
            session.edit = Edit(mouth=MouthEdit(1.3))
    assert session.poses == "still" and session.background == "navy" and session.edit == Edit()
    want = np.stack(list(engine.stream([speech(0.5)], "still", background="navy")))
    assert distance(pictures(frames + session.finish()), want) == 0


def test_an_interruption_drops_the_sound_and_the_next_one_is_an_utterance(engine: Engine) -> None:
    """Nothing of the dropped sound is shown; after a few frames all are those of the new sound alone."""
    loud, sound = speech(2.0), speech(1.0)[::-1].copy()
    session = engine.session("still")
    taken = session.push(loud[:9600])
    lazily = session.frames(loud[9600:])
    taken += [next(lazily), next(lazily)]
    session.interrupt()
    assert list(lazily) == []
    after = session.push(sound) + session.finish()
    assert [frame.number for frame in taken + after] == list(range(len(taken) + 25))
    alone = engine.session("still")
    want = pictures(alone.push(sound) + alone.finish())
    assert distance(pictures(after[RETURNING:]), want[RETURNING:]) <= 1
    jump = np.abs(want[0].astype(int) - taken[-1].picture).max()
    eased = [taken[-1], *after[: RETURNING + 1]]
    steps = [int(np.abs(a.picture.astype(int) - b.picture).max()) for a, b in itertools.pairwise(eased)]
    assert jump > 3 and max(steps) < jump


def test_utterances_follow_each_other(engine: Engine) -> None:
    """Behind `finish` the next sound is another one, whatever its rate, on a clock that goes on."""
    session = engine.session("still")
    first = session.push(speech(0.6)) + session.finish()
    second = session.push((speech(0.4, 8000), 8000)) + session.finish()
    assert [frame.number for frame in first + second] == list(range(25))
    assert second[0].time == pytest.approx(0.6)
    want = engine.render((speech(0.4, 8000), 8000), "still").frames[:]
    assert distance(pictures(second), want) <= 1


def test_live_poses_go_on_under_another_edit(engine: Engine) -> None:
    """Replacing the edit takes no pose twice and skips none."""
    taken: list[int] = []

    def tracker() -> Iterator[torch.Tensor]:
        for number, pose in enumerate(sway(40)):
            taken.append(number)
            yield pose

    session = engine.session(tracker())
    frames = session.push(speech(0.7))
    assert len(taken) == len(frames) > 5
    session.edit = Edit(eyes=EyesEdit("none"))
    frames += session.push(speech(0.5)) + session.finish()
    assert taken == list(range(len(frames)))
