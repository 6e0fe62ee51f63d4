"""Engine: audio and poses in, frames out, in sync and over any background."""

import subprocess
import sys
import wave
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from avatars import tiny_avatar
from nldf_engine import ops
from nldf_engine.apps.cli.bundled import bundled_avatar
from nldf_engine.base.errors import FileProblem, MissingBackend
from nldf_engine.engine import Engine
from nldf_engine.media.video import probe, read_audio_track, read_frames

RATE = 16000


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(tiny_avatar(), torch.device("cpu"))


def tone(seconds: float, rate: int = RATE, channels: int = 1) -> np.ndarray:
    t = np.arange(int(seconds * rate)) / rate
    wave = (0.3 * np.sin(2 * np.pi * 220 * t * (1 + 0.2 * np.sin(7 * t)))).astype(np.float32)
    return wave if channels == 1 else np.stack([wave] * channels, 1)


@pytest.mark.parametrize("seconds", [0.02, 0.2, 1.0, 2.017])
def test_a_clip_has_the_length_of_its_audio(engine: Engine, seconds: float) -> None:
    """Any length of audio gives round(seconds * 25) frames, and at least one."""
    clip = engine.render((tone(seconds), RATE))
    assert len(clip) == max(1, round(seconds * 25))
    assert clip.frames[0].shape == (24, 24, 3) and clip.frames[0].dtype == np.uint8


@pytest.mark.parametrize(("rate", "channels"), [(8000, 1), (44100, 2), (48000, 2)])
def test_any_rate_and_channel_count_drives_it(engine: Engine, rate: int, channels: int) -> None:
    """The number of frames follows the duration, whatever the sampling."""
    assert len(engine.render((tone(1.2, rate, channels), rate))) == 30


def test_frames_are_lazy_repeatable_and_sliceable(engine: Engine) -> None:
    """Indexing, slicing and iterating give the same pictures, rendered on demand."""
    clip = engine.render((tone(0.4), RATE))
    every = np.asarray(clip.frames)
    assert every.shape == clip.frames.shape == (10, 24, 24, 3)
    assert (clip.frames[-1] == every[9]).all() and (clip.frames[2:6:2] == every[2:6:2]).all()
    assert all((a == b).all() for a, b in zip(clip, every, strict=True))
    with pytest.raises(IndexError):
        clip.frames[10]


def test_native_and_reference_backends_agree(engine: Engine) -> None:
    """The compiled kernels and their PyTorch references give the same picture to within a grey level."""
    slow = Engine(tiny_avatar(), torch.device("cpu"), backend="reference")
    fast, reference = (e.render((tone(0.2), RATE)).frames[:] for e in (engine, slow))
    assert np.abs(fast.astype(int) - reference.astype(int)).max() <= 1


def test_it_says_which_kernel_computes() -> None:
    """A fused network is told by its instruction set; a reference's and one without a kernel by "torch"."""
    cpu, isa = torch.device("cpu"), ops.backends()["cpu_isa"]
    for avatar, native in ((tiny_avatar(), isa), (tiny_avatar("adnerf"), "torch")):
        assert Engine(avatar, cpu).describe()["kernel"] == native
        assert Engine(avatar, cpu, backend="reference").describe()["kernel"] == "torch"
    assert Engine.load(bundled_avatar(), "cpu").describe()["kernel"] == isa


def test_int16_gives_the_same_picture_and_only_where_it_can() -> None:
    """The integer body stays within a grey level, says so, and is refused where nothing computes it."""
    integer, single = (
        Engine(tiny_avatar(), torch.device("cpu"), precision=precision) for precision in ("int16", "fp32")
    )
    assert integer.describe()["precision"] == "int16" and single.describe()["precision"] == "fp32"
    got, want = (e.render((tone(0.2), RATE)).frames[:] for e in (integer, single))
    assert np.abs(got.astype(int) - want.astype(int)).max() <= 1
    with pytest.raises(ValueError, match="precision: 'int16' needs"):
        Engine(tiny_avatar("adnerf"), torch.device("cpu"), precision="int16")
    with pytest.raises(ValueError, match="precision: 'int16' needs"):
        Engine(tiny_avatar(), torch.device("cpu"), "reference", "int16")


def test_audio_changes_the_picture_and_background_lies_behind(engine: Engine) -> None:
    """Other audio moves the face; another background shows only where neither head nor torso is."""
    a = engine.render((tone(0.4), RATE), poses="still", background="black").frames[5].astype(int)
    b = (
        engine.render((tone(0.4)[::-1].copy() * 0.1, RATE), poses="still", background="black")
        .frames[5]
        .astype(int)
    )
    white = engine.render((tone(0.4), RATE), poses="still", background="white").frames[5].astype(int)
    assert np.abs(a - b).max() > 0
    assert (white[0, 0] == 255).all() and (a[0, 0] == 0).all()
    assert np.abs(white[-1, 0] - a[-1, 0]).max() <= 1, "the torso's corner hides the background"


def test_transparent_frames_compose_to_the_opaque_ones(engine: Engine) -> None:
    """Straight alpha laid over a colour gives the clip that was rendered over that colour."""
    clear = engine.render((tone(0.2), RATE), background="transparent").frames[3].astype(float)
    navy = engine.render((tone(0.2), RATE), background="navy").frames[3].astype(float)
    alpha = clear[..., 3:] / 255
    composed = alpha * clear[..., :3] + (1 - alpha) * np.array([0, 0, 128.0])
    inside = (alpha[..., 0] > 0.1) & (clear[..., :3].max(-1) < 255) & (navy.max(-1) < 255)
    assert inside.sum() > 20 and np.abs(composed - navy)[inside].max() <= 4


def test_the_mp4_is_in_sync(engine: Engine, tmp_path: Path) -> None:
    """Video and audio of the written file end within one frame of each other, at the right length."""
    engine.render((tone(1.03, 48000, 2), 48000)).save(tmp_path / "out.mp4")
    info = probe(tmp_path / "out.mp4")
    samples, rate = read_audio_track(tmp_path / "out.mp4")
    assert (info.width, info.height, info.frames) == (24, 24, 26) and info.fps == pytest.approx(25)
    assert abs(len(samples) / rate - info.frames / 25) <= 1 / 25 + 1024 / rate


@pytest.mark.parametrize(("rate", "channels"), [(44100, 2), (48000, 1), (8000, 1)])
def test_the_mp4_has_the_users_own_sound(engine: Engine, tmp_path: Path, rate: int, channels: int) -> None:
    """What is heard is the given sound, not the 16 kHz mono of the features: 10 kHz and stereo survive."""
    time = np.arange(round(1.2 * rate)) / rate
    high = 0.4 * np.sin(2 * np.pi * min(10000, 0.4 * rate) * time)
    sound = np.stack([high, np.zeros_like(high)], 1)[:, :channels].astype(np.float32)
    engine.render((sound, rate)).save(tmp_path / "out.mp4")
    samples, back = read_audio_track(tmp_path / "out.mp4")
    assert (back, samples.shape[1]) == (48000 if rate < 32000 else rate, channels)
    middle = samples[back // 4 : back]
    spectrum = np.abs(np.fft.rfft(middle[:, 0] * np.hanning(len(middle))))
    assert spectrum.argmax() * back / len(middle) == pytest.approx(min(10000, 0.4 * rate), abs=5)
    assert np.abs(middle[:, 0]).max() == pytest.approx(0.4, abs=0.08)
    assert channels == 1 or np.abs(middle[:, 1]).max() < 0.02
    assert abs(len(samples) / back - 30 / 25) <= 1 / 25


def test_webm_and_pictures_keep_transparency(engine: Engine, tmp_path: Path) -> None:
    """A PNG sequence carries alpha exactly; a WebM decodes with the right number of frames."""
    clip = engine.render((tone(0.2), RATE), background="transparent")
    clip.save(tmp_path / "pictures")
    names = sorted(p.name for p in (tmp_path / "pictures").iterdir())
    assert names == [f"{i:05d}.png" for i in range(5)]
    first = cv2.imread(str(tmp_path / "pictures" / "00000.png"), cv2.IMREAD_UNCHANGED)
    assert (cv2.cvtColor(first, cv2.COLOR_BGRA2RGBA) == clip.frames[0]).all()
    clip.save(tmp_path / "out.webm")
    assert len(read_frames(tmp_path / "out.webm")) == 5


def test_unwritable_outputs_leave_nothing(engine: Engine, tmp_path: Path) -> None:
    """A wrong ending, a transparent mp4, a folder with other things: clear errors, nothing half-written."""
    clear = engine.render((tone(0.1), RATE), background="transparent")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("x")
    for name in ("out.mp4", "out.gif", "mine"):
        with pytest.raises(FileProblem, match=name):
            clear.save(tmp_path / name)
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]


def test_a_full_disk_leaves_nothing(engine: Engine, tmp_path: Path) -> None:
    """When writing fails in the middle, no file and no temporary file stays behind."""
    clip = engine.render((tone(0.2), RATE))
    original = engine.renderer.frame

    def fails(scene: object, number: int, *buffers: object) -> np.ndarray:
        if number == 3:
            raise OSError(28, "No space left on device")
        return original(scene, number, *buffers)

    engine.renderer.frame = fails  # type: ignore[method-assign]
    try:
        with pytest.raises((FileProblem, OSError), match="space"):
            clip.save(tmp_path / "out.mp4")
    finally:
        del engine.renderer.frame
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"size": 0}, "size"),
        ({"size": "big"}, "size"),
        ({"poses": np.eye(4)}, "poses"),
        ({"poses": np.full((5, 4, 4), np.nan)}, "NaN"),
        ({"background": np.zeros((3, 3))}, "background"),
        ({"eyes": [0.1, 0.2]}, "eyes"),
    ],
)
def test_wrong_arguments_are_named(engine: Engine, arguments: dict[str, object], word: str) -> None:
    """The message says which argument, what was expected and what came."""
    with pytest.raises(ValueError, match=word):
        engine.render((tone(0.2), RATE), **arguments)


def test_features_of_another_front_end_are_refused(engine: Engine) -> None:
    """Features with another number of bands say that the front-end differs; NaN features are refused."""
    assert len(engine.render(np.zeros((7, 16, 29), np.float32))) == 7
    with pytest.raises(ValueError, match="front-end"):
        engine.render(np.zeros((7, 16, 44), np.float32))
    with pytest.raises(ValueError, match="finite"):
        engine.render(np.full((7, 16, 29), np.nan, np.float32))


def test_missing_devices_are_refused_not_replaced() -> None:
    """Asking for a GPU that is not there is an error; so is a device of no known kind."""
    from nldf_engine.ops.device import choose_device

    if not torch.cuda.is_available():
        with pytest.raises(MissingBackend, match="cuda"):
            choose_device("cuda")
    with pytest.raises(ValueError, match="device"):
        choose_device("abacus")


def test_silent_audio_renders(engine: Engine) -> None:
    """Digital silence gives finite pictures."""
    frames = engine.render((np.zeros(RATE // 2, np.float32), RATE)).frames[:]
    assert frames.shape[0] == 12 or frames.shape[0] == 13


def test_ctrl_c_while_rendering_leaves_nothing(tmp_path: Path) -> None:
    """An interrupted save removes what it had begun."""
    program = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r})
import numpy as np, torch
from avatars import tiny_avatar
from nldf_engine.engine import Engine
engine = Engine(tiny_avatar(), torch.device("cpu"))
original = engine.renderer.frame
def interrupted(scene, number, *buffers):
    if number == 4: raise KeyboardInterrupt
    return original(scene, number, *buffers)
engine.renderer.frame = interrupted
engine.render((np.zeros(16000, np.float32), 16000)).save({str(tmp_path / "out.mp4")!r})
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "KeyboardInterrupt" in done.stderr and list(tmp_path.iterdir()) == []


def test_an_hour_fits_into_a_gigabyte(tmp_path: Path) -> None:
    """A sound of an hour is held once, its windows not at all; random rows stand in for the front-end's."""
    path = tmp_path / "hour.wav"
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE)
        minute = np.random.default_rng(0).integers(-9999, 9999, 60 * RATE, np.int16).tobytes()
        for _ in range(60):
            out.writeframes(minute)
    program = """
import dataclasses, sys
import numpy as np
from nldf_engine.audio import FRONTENDS
from nldf_engine.apps.cli.bundled import bundled_avatar
from nldf_engine.engine import Engine
def rows(samples, config):
    return np.random.default_rng(0).standard_normal((len(samples) // 320, 65), np.float32)
FRONTENDS["whisper"] = dataclasses.replace(FRONTENDS["whisper"], rows=rows)
def peak():  # not ru_maxrss, which begins with what the process held that started this one
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) // 1024
engine = Engine.load(bundled_avatar())
loaded = peak()
clip = engine.render(sys.argv[1])
assert clip.frames[len(clip) - 1].any()
print(len(clip), peak(), loaded)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    frames, megabytes, loaded = map(int, done.stdout.split())
    libraries = max(0, loaded - 400)  # torch for CUDA is larger by itself
    assert frames == 3600 * 25 and megabytes < 1000 + libraries


def test_features_may_lie_in_memory_in_any_way(engine: Engine) -> None:
    """Reversed, transposed, read-only and overlapping windows give the frames of the same numbers."""
    made = engine.features((tone(0.4), RATE))[0]
    assert not made.flags.writeable
    wanted = np.asarray(engine.render(np.array(made)).frames)
    for given in (made, np.array(made)[::-1][::-1], made[::-1].copy()[::-1], np.asfortranarray(made)):
        assert (np.asarray(engine.render(given).frames) == wanted).all()
