"""Video in and out: any clock, rotation, shape and damage; whole files or none."""

from __future__ import annotations

import gc
import os
import resource
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from nldf_engine.base.errors import FileProblem
from nldf_engine.media.video import (
    VideoWriter,
    decode,
    frames_at,
    probe,
    read_audio_track,
    read_frames,
    read_labels,
)


def flat(level: int, width: int = 64, height: int = 48) -> np.ndarray:
    return np.full((height, width, 3), level, np.uint8)


def tone(seconds: float, rate: int = 16000) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate).astype(np.float32)


def write(path: Path, frames: list[np.ndarray], fps: float = 25.0, **options: object) -> Path:
    height, width = frames[0].shape[:2]
    with VideoWriter(path, width, height, fps, crf=8, **options) as out:  # type: ignore[arg-type]
        for frame in frames:
            out.write(frame)
    return path


def write_at(
    path: Path, times: list[float], levels: list[int], turn: int = 0, aspect: Fraction | None = None
) -> Path:
    """A file whose frames carry their own timestamps, a rotation flag and a pixel aspect."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=1000, options={"crf": "8"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        if turn:
            stream.set_display_rotation(turn)
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        for time, level in zip(times, levels, strict=True):
            picture = flat(level)
            picture[:8, :8] = 255  # marks the corner
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = round(time * 1000), Fraction(1, 1000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def test_pictures_of_h264_are_whole(tmp_path: Path) -> None:
    """Threads of the encoder share out pictures, which are not cut into slices: those cost bits and time."""
    made = write(tmp_path / "a.mp4", [flat(level) for level in range(0, 240, 20)]).read_bytes()
    assert (
        b" threads=4 " in made
        and b" sliced_threads=0 " in made
        and len(list(frames_at(tmp_path / "a.mp4"))) == 12
    )


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "h264"), ("a.mkv", "ffv1-rgb")])
def test_decoded_frames_need_no_garbage_collector(tmp_path: Path, name: str, codec: str) -> None:
    """A frame goes when the last one lets it go, keyframe or not: large ones would pile up in between."""
    write(tmp_path / name, [flat(level) for level in range(0, 200, 10)], codec=codec)
    gc.collect()
    before = {id(thing) for thing in gc.get_objects()}
    gc.disable()
    try:
        for shot in decode(tmp_path / name):
            shot.planes()
            shot.picture()
        del shot
        left = [t for t in gc.get_objects() if type(t).__name__ == "VideoFrame" and id(t) not in before]
    finally:
        gc.enable()
    assert len(left) <= 2  # the first one's, and the decoder's


@pytest.mark.parametrize(
    ("side", "crf", "said"), [(64, None, b"crf=16.0"), (1000, None, b"crf=20.0"), (1000, 11, b"crf=11.0")]
)
def test_quality_goes_by_the_size_unless_it_is_said(
    tmp_path: Path, side: int, crf: int | None, said: bytes
) -> None:
    """x264 writes into the file what it was asked for."""
    picture = np.full((side, side, 3), 90, np.uint8)
    with VideoWriter(tmp_path / "a.mp4", side, side, crf=crf) as writer:
        writer.write(picture)
    assert said in (tmp_path / "a.mp4").read_bytes()


@pytest.mark.parametrize("crf", [-1, 52])
def test_a_quality_that_there_is_not_is_named(tmp_path: Path, crf: int) -> None:
    """Before anything is written."""
    with pytest.raises(ValueError, match=rf"crf: expected 0 \(best\) to 51, got {crf}"):
        VideoWriter(tmp_path / "a.mp4", 64, 64, crf=crf)


@pytest.mark.parametrize(("preset", "search"), [("veryfast", b" me=dia "), ("fast", b" me=hex ")])
def test_a_preset_searches_as_far_as_it_pays(tmp_path: Path, preset: str, search: bytes) -> None:
    """The preset of clips looks for motion close by; those that take longer look as x264 has it."""
    assert search in write(tmp_path / "a.mp4", [flat(level) for level in (0, 90)], preset=preset).read_bytes()


@pytest.mark.parametrize("rate", [12, 24, 25, 29.97, 30, 50, 60])
def test_clock(tmp_path: Path, rate: float) -> None:
    """Whatever the source rate, frame k is the one on screen at k/25 s, and the length stays."""
    count = round(2 * rate)
    path = write(tmp_path / "a.mp4", [flat(2 * k + 10) for k in range(count)], rate)
    seen = [float(frame.mean()) for frame in frames_at(path)]
    assert len(seen) == round(count / rate * 25)
    wanted = [2 * min(count - 1, int((k / 25 + 0.002) * rate)) + 10 for k in range(len(seen))]
    assert np.abs(np.array(seen) - wanted).max() < 1.5


def test_variable_rate(tmp_path: Path) -> None:
    """Uneven timestamps are followed, not counted."""
    times = [0.0, 0.1, 0.12, 0.5, 0.9]
    path = write_at(tmp_path / "a.mkv", times, [40, 80, 120, 160, 200])
    seen = [round(float(f[24:].mean()) / 40) for f in frames_at(path)]
    wanted = [int(np.searchsorted(times, k / 25 + 0.002, side="right")) for k in range(len(seen))]
    assert seen == wanted
    assert len(seen) in (23, 24)  # the last frame's own length is not stated


@pytest.mark.parametrize(("turn", "corner"), [(90, "bottom left"), (-90, "top right"), (180, "bottom right")])
def test_rotation_flag(tmp_path: Path, turn: int, corner: str) -> None:
    """A rotation flag is applied: size and corner are those that a player shows."""
    path = write_at(tmp_path / "a.mp4", [k / 25 for k in range(5)], [50] * 5, turn=turn)
    info, frame = probe(path), next(frames_at(path))
    upright = (64, 48) if turn == 180 else (48, 64)
    assert (info.width, info.height) == frame.shape[1::-1] == upright
    rows = slice(-6, None) if "bottom" in corner else slice(0, 6)
    columns = slice(-6, None) if "right" in corner else slice(0, 6)
    assert frame[rows, columns].mean() > 220
    assert (frame > 200).all(-1).mean() < 0.05
    assert info.rotation == -turn % 360


def test_wide_pixels(tmp_path: Path) -> None:
    """Non-square pixels are stretched to square ones."""
    path = write_at(tmp_path / "a.mp4", [0, 0.04], [50, 50], aspect=Fraction(4, 3))
    assert (probe(path).width, probe(path).height) == (85, 48)


@pytest.mark.parametrize(("width", "height"), [(64, 48), (65, 47), (2, 2), (33, 64)])
def test_colours_and_sizes(tmp_path: Path, width: int, height: int) -> None:
    """Colours survive H.264 to within 3 levels at any size; odd sizes gain one repeated row or column."""
    frame = np.zeros((height, width, 3), np.uint8) + np.array([200, 90, 40], np.uint8)
    path = write(tmp_path / "a.mp4", [frame] * 3)
    back = read_frames(path)
    assert back.shape == (3, height + height % 2, width + width % 2, 3)
    assert np.abs(back[:, :height, :width].astype(int) - frame).max() <= 3


def test_labels_are_lossless(tmp_path: Path) -> None:
    """Label maps come back bit by bit, also at odd sizes."""
    maps = np.random.default_rng(0).integers(0, 4, (7, 31, 45), dtype=np.uint8)
    write(tmp_path / "a.mkv", list(maps), codec="ffv1")
    assert np.array_equal(read_labels(tmp_path / "a.mkv"), maps)
    with pytest.raises(FileProblem, match="8-bit gray"):
        read_labels(write(tmp_path / "b.mkv", [flat(3)]))


def test_alpha_round_trip(tmp_path: Path) -> None:
    """VP9 with alpha keeps the mask; read without alpha it lies over white."""
    y, x = np.mgrid[:48, :64]
    mask = (((x - 32) ** 2 + (y - 24) ** 2) < 300).astype(np.uint8) * 255
    frame = np.dstack([flat(40), mask])
    path = write(tmp_path / "a.webm", [frame] * 5, codec="vp9a", audio=(tone(0.2), 16000))
    back = np.stack(list(frames_at(path, alpha=True)))
    assert back.shape == (5, 48, 64, 4)
    assert (np.abs(back[..., 3].astype(int) - mask) > 128).mean() < 0.01
    assert np.abs(back[:, 20:28, 28:36, :3].astype(int) - 40).max() < 6
    assert next(frames_at(path))[0, 0].min() > 245
    assert probe(path).has_audio


@pytest.mark.parametrize(
    ("rate", "seconds", "channels"), [(16000, 2.0, 1), (8000, 0.5, 1), (44100, 5.0, 2), (48000, 0.2, 6)]
)
def test_sound_ends_with_picture(tmp_path: Path, rate: int, seconds: float, channels: int) -> None:
    """Sound of any rate, length and channel count ends within one frame of the picture."""
    sound = np.repeat(tone(seconds, rate)[:, None], channels, 1)
    path = write(tmp_path / "a.mp4", [flat(9)] * 51, audio=(sound, rate))
    samples, back = read_audio_track(path)
    assert abs(len(samples) / back - 51 / 25) < 1 / 25
    kept = samples[: int(min(seconds, 2) * back), 0]
    assert 0.3 < float(np.abs(kept[len(kept) // 4 : -len(kept) // 4]).max()) < 0.7
    silent = samples[int((seconds + 0.05) * back) :]
    assert not len(silent) or np.abs(silent).max() < 0.02


@pytest.mark.parametrize(
    ("rate", "channels", "kept", "left"),
    [
        *((32000, 1, 32000, 1), (44100, 2, 44100, 2), (48000, 6, 48000, 6), (96000, 2, 96000, 2)),
        *((48000, 8, 48000, 1), (16000, 2, 48000, 2), (22050, 1, 48000, 1), (48000, 5, 48000, 1)),
    ],
)
def test_sound_keeps_its_rate_and_channels(
    tmp_path: Path, rate: int, channels: int, kept: int, left: int
) -> None:
    """Rates from 32 kHz on and the usual layouts stay; a click in the last channel keeps its time."""
    sound = np.zeros((2 * rate, channels), np.float32)
    sound[rate : rate + rate // 200, -1] = 0.9
    samples, back = read_audio_track(write(tmp_path / "a.mp4", [flat(9)] * 50, audio=(sound, rate)))
    assert (back, samples.shape[1]) == (kept, left)
    click = np.flatnonzero(np.abs(samples[:, -1]) > 0.3 * np.abs(samples[:, -1]).max())
    assert abs((click[0] + click[-1]) / 2 / back - 1.0025) < 0.003
    assert abs(len(samples) / back - 2) < 1 / 25
    if left > 1:
        others, last = (float(np.square(samples[:, part]).sum()) for part in (slice(0, -1), slice(-1, None)))
        assert others < 0.05 * last


def test_sound_is_in_step(tmp_path: Path) -> None:
    """A click at one second is found at one second after encoding and decoding."""
    sound = np.zeros(32000, np.float32)
    sound[16000:16080] = 0.9
    samples, rate = read_audio_track(write(tmp_path / "a.mp4", [flat(9)] * 50, audio=(sound, 16000)))
    assert abs(int(np.argmax(np.abs(samples[:, 0]))) / rate - 1.0) < 0.01


def test_tags(tmp_path: Path) -> None:
    """Metadata is found in the file again."""
    path = write(tmp_path / "a.mp4", [flat(1)], metadata={"comment": "made by a test", "generator": "nldf"})
    with av.open(str(path)) as container:
        assert container.metadata["comment"] == "made by a test"
        assert container.metadata["generator"] == "nldf"


def test_other_clock(tmp_path: Path) -> None:
    """Frames can be dropped and retimed by a clock of one's own."""
    path = write(tmp_path / "a.mp4", [flat(10 * k) for k in range(12)], 30.0)
    clock = np.array([0, 1, 2, np.nan, 3, 4, 5, 6, 7, np.nan, 8, 9]) / 25
    levels = [round(float(f.mean()) / 10) for f in frames_at(path, times=clock)]
    assert levels == [0, 1, 2, 4, 5, 6, 7, 8, 10, 11]


def broken(tmp_path: Path, kind: str) -> Path:
    good = write(tmp_path / "good.mp4", [flat((k * 37) % 251, 320, 240) for k in range(60)])
    path = tmp_path / f"{kind}.mp4"
    if kind == "cut":
        path.write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    elif kind == "header only":
        path.write_bytes(good.read_bytes()[:200])
    elif kind == "text":
        path.write_text("this is no video\n" * 100)
    elif kind == "empty":
        path.touch()
    elif kind == "folder":
        path.mkdir()
    elif kind == "noise":
        path.write_bytes(np.random.default_rng(0).bytes(20000))
    elif kind == "sound only":
        with av.open(str(path), "w") as out:
            stream = out.add_stream("aac", rate=16000)
            frame = av.AudioFrame.from_ndarray(tone(1)[None], format="fltp", layout="mono")
            frame.sample_rate = 16000
            out.mux(stream.encode(frame))
            out.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    "kind", ["cut", "header only", "text", "empty", "folder", "missing", "noise", "sound only"]
)
def test_bad_files(tmp_path: Path, kind: str) -> None:
    """What is no readable video is refused by name, by probing and by reading."""
    path = broken(tmp_path, kind)
    for read in (probe, lambda p: list(frames_at(p)), read_frames):
        with pytest.raises(FileProblem) as caught:
            read(path)
        assert str(path) in str(caught.value)


def test_cut_matroska(tmp_path: Path) -> None:
    """A file cut in half whose container has no table of contents is noticed while reading."""
    noise = np.random.default_rng(0).integers(0, 255, (100, 48, 64, 3), dtype=np.uint8)
    good = write(tmp_path / "a.mkv", list(noise))
    half = tmp_path / "b.mkv"
    half.write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    with pytest.raises(FileProblem, match=r"can be read|damaged"):
        list(frames_at(half))


def test_jumping_timestamps(tmp_path: Path) -> None:
    """A clock that jumps by hours is refused instead of repeating one frame a million times."""
    path = write_at(tmp_path / "a.mkv", [0, 0.04, 90000.0], [10, 20, 30])
    with pytest.raises(FileProblem, match="timestamps jump"):
        list(frames_at(path))


def test_silent_film(tmp_path: Path) -> None:
    """A video without sound says so when its sound is read."""
    with pytest.raises(FileProblem, match="no audio track"):
        read_audio_track(write(tmp_path / "a.mp4", [flat(1)] * 3))


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_interrupted_writing(tmp_path: Path, error: type[BaseException]) -> None:
    """Ctrl-C or any error while writing leaves no file, and an older one as it was."""
    path = write(tmp_path / "a.mp4", [flat(1)] * 3)
    before = path.read_bytes()
    for target in (path, tmp_path / "b.mp4"):
        with pytest.raises(error), VideoWriter(target, 64, 48, audio=(tone(1), 16000)) as out:
            for k in range(40):
                out.write(flat(k))
            raise error
    assert [f.name for f in tmp_path.iterdir()] == ["a.mp4"]
    assert path.read_bytes() == before


@pytest.mark.parametrize("limit", [4000, 60000])
def test_full_disk(tmp_path: Path, limit: int) -> None:
    """A disk that fills up, early or late, gives a clear error and leaves nothing."""
    code = f"""
import resource, signal, numpy as np
from nldf_engine.media.video import VideoWriter
from nldf_engine.base.errors import FileProblem
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
rng = np.random.default_rng(0)
try:
    with VideoWriter({str(tmp_path / "a.mp4")!r}, 128, 128, crf=4) as out:
        for _ in range(40):
            out.write(rng.integers(0, 255, (128, 128, 3), dtype=np.uint8))
except FileProblem as error:
    print("refused:", error)
"""
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != limit
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert "refused:" in done.stdout and "disk is full" in done.stdout, done.stdout + done.stderr
    assert list(tmp_path.iterdir()) == []


def test_wrong_arguments(tmp_path: Path) -> None:
    """Wrong frames, codecs, endings and folders are refused with what was expected."""
    with pytest.raises(ValueError, match="codec must be"):
        VideoWriter(tmp_path / "a.mp4", 8, 8, codec="divx")
    with pytest.raises(ValueError, match="is written to"):
        VideoWriter(tmp_path / "a.avi", 8, 8)
    with pytest.raises(ValueError, match="expected uint8"), VideoWriter(tmp_path / "a.mp4", 8, 8) as out:
        out.write(np.zeros((8, 9, 3), np.uint8))
    with pytest.raises(ValueError, match="not one frame"), VideoWriter(tmp_path / "a.mp4", 8, 8):
        pass
    (tmp_path / "file").touch()
    with pytest.raises(FileProblem), VideoWriter(tmp_path / "file" / "a.mp4", 8, 8):
        pass
    assert [f.name for f in tmp_path.iterdir()] == ["file"]


def test_decode_is_lazy(tmp_path: Path) -> None:
    """Passing over frames converts none of them, and times rise from zero."""
    path = write(tmp_path / "a.mp4", [flat(k) for k in range(10)])
    shots = list(decode(path))
    assert [round(s.time * 25) for s in shots] == list(range(10))
    assert shots[3].gray(16).shape == (16, 16)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores can't be chosen on this system")
def test_a_file_does_not_depend_on_the_cores(tmp_path: Path) -> None:
    """Written by a process that may use one core, and by one that may use all: the same bytes."""
    frames = np.random.default_rng(0).integers(0, 255, (30, 256, 256, 3), dtype=np.uint8)
    cores, made = os.sched_getaffinity(0), []
    try:
        for name, chosen in (("one", {min(cores)}), ("all", cores)):
            os.sched_setaffinity(0, chosen)
            with VideoWriter(tmp_path / f"{name}.mp4", 256, 256) as writer:
                for frame in frames:
                    writer.write(frame)
            made.append((tmp_path / f"{name}.mp4").read_bytes())
    finally:
        os.sched_setaffinity(0, cores)
    assert made[0] == made[1]
