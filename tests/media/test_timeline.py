"""Sound and picture on one clock, whatever the time stamps of a file do; which of several tracks it is."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.filter import Graph

from clapper import CLAPS, clicks, film_claps, flashes, remux
from nldf_engine.base.errors import FileProblem
from nldf_engine.media.containers import opened
from nldf_engine.media.sound import load_audio
from nldf_engine.media.soundtrack import find_soundtrack, read_audio_track
from nldf_engine.media.timeline import timeline_of
from nldf_engine.media.video import VideoWriter, decode, frames_at, probe

FRAME = 1 / 25
PACKET = 188  # bytes of a packet of an MPEG transport stream


def in_step(path: Path, count: int) -> None:
    """Checks that each of `count` flashes has its click within 20 ms."""
    seen, heard = flashes(path), clicks(path)
    assert len(seen) == len(heard) == count, (seen, heard)
    assert np.abs(seen - heard).max() < 0.02, (seen, heard)


def test_a_stream_that_begins_between_keyframes(tmp_path: Path) -> None:
    """Cut between two keyframes, the sound begins earlier than the first picture that can be decoded."""
    whole = film_claps(tmp_path / "whole.ts", gop=50).read_bytes()
    path = tmp_path / "cut.ts"
    path.write_bytes(whole[len(whole) // 6 // PACKET * PACKET :])
    with opened(path) as container:
        starts = [float(s.start_time * s.time_base) for s in container.streams]
    first = flashes(path)
    assert 0 < len(first) < len(CLAPS)
    in_step(path, len(first))
    # Its packets of pictures begin earlier than what can be shown: the header's start is another moment.
    assert probe(path).seconds < 6 - min(starts) + 1.5
    assert probe(path).seconds == pytest.approx(len(list(frames_at(path))) * FRAME, abs=0.05)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_a_gap_in_the_stamps_of_the_sound_is_silence(tmp_path: Path, name: str) -> None:
    """What a recorder lost of the sound is silence at its place: before and behind it all is in time."""
    path = film_claps(tmp_path / name, lost=(2.0, 3.0))
    kept = [t for t in CLAPS if not 2 <= t < 3]
    heard = clicks(path)
    assert np.abs(heard - kept).max() < 0.02, heard
    with pytest.warns(UserWarning, match=r"a gap of 1\.0 s in all, the first at 2\.0 s"):
        samples, rate = read_audio_track(path)
    assert len(samples) / rate == pytest.approx(6.0, abs=0.05)
    assert np.abs(samples[int(2.1 * rate) : int(2.9 * rate)]).max() == 0
    # As sound to be rendered, too: such a file is no truncated one.
    with pytest.warns(UserWarning, match="a gap"):
        assert len(load_audio(path)) == pytest.approx(6 * 16000, abs=800)


def test_blocks_that_overlap_are_cut(tmp_path: Path) -> None:
    """Where stamps rise more slowly than the sound lasts, later sound keeps the time of its stamps."""
    source, path = film_claps(tmp_path / "a.mkv"), tmp_path / "b.mkv"

    def earlier(packet: Any) -> int:
        slower = 0.3 * min(max(0.0, float(packet.pts * packet.time_base) - 2.0), 1.0)
        return -round(slower / packet.time_base) if packet.stream.type == "audio" else 0

    remux(source, path, earlier)
    track = find_soundtrack(path)
    track.read()
    assert track.gaps.cut == pytest.approx(0.3, abs=0.05) and not track.gaps.silences
    assert "0.3 s of the sound lie over other sound" in track.all_notes()[0]
    late = [t - 0.3 for t in CLAPS if t > 3.1]
    assert np.abs(clicks(path)[-len(late) :] - late).max() < 0.045


@pytest.mark.parametrize("name", ["b.mp4", "b.mkv", "b.ts"])
@pytest.mark.parametrize("late", ["audio", "video"])
def test_a_track_that_begins_later(tmp_path: Path, name: str, late: str) -> None:
    """Sound or pictures that begin 0.8 s late are late by that, and by no more."""
    source, path = film_claps(tmp_path / "a.mkv"), tmp_path / name
    remux(source, path, lambda p: round(Fraction(4, 5) / p.time_base) if p.stream.type == late else 0)
    seen, heard = flashes(path), clicks(path)
    moved = 0.8 if late == "audio" else -0.8
    kept = [t for t in CLAPS if t + moved >= 0]
    assert np.abs(seen - CLAPS).max() < 0.045
    assert np.abs(heard - np.array(kept) - moved).max() < 0.02


@pytest.mark.parametrize("kind", [".ts", ".mkv"])
def test_stamps_that_start_again(tmp_path: Path, kind: str) -> None:
    """Two streams joined by appending one to the other: both are used, and in step."""
    whole, path = film_claps(tmp_path / f"one{kind}"), tmp_path / f"two{kind}"
    path.write_bytes(2 * whole.read_bytes())
    in_step(path, 2 * len(CLAPS))
    assert probe(path).seconds == pytest.approx(12, abs=0.15)
    assert len(list(frames_at(path))) == pytest.approx(300, abs=4)
    assert len(load_audio(path)) / 16000 == pytest.approx(12, abs=0.15)
    assert len(timeline_of(path).shifts) == 2 and timeline_of(whole).shifts == (0,)


def test_recordings_in_fragments_that_were_joined(tmp_path: Path) -> None:
    """MP4 in fragments goes on behind the end of the first, in step; other MP4 does not, and is refused."""
    source = film_claps(tmp_path / "one.mp4", gop=25)
    live, path = tmp_path / "live.mp4", tmp_path / "two.mp4"
    remux(source, live, options={"movflags": "frag_keyframe+empty_moov+default_base_moof"})
    path.write_bytes(2 * live.read_bytes())
    seen, heard = flashes(path), clicks(path)
    # FFmpeg skips what is as long as the first fragment, a second, at the joint: of sound and picture alike.
    assert len(seen) >= 2 * len(CLAPS) - 1 and seen[-1] == pytest.approx(6 + CLAPS[-1], abs=0.1)
    assert all(np.abs(heard - time).min() < 0.02 for time in seen), (seen, heard)
    path.write_bytes(2 * source.read_bytes())
    for read in (probe, load_audio):
        with pytest.raises(FileProblem, match="two files or more"):
            read(path)


@pytest.mark.parametrize("speed", [1.01, 0.99])
def test_a_clock_that_drifts(tmp_path: Path, speed: float) -> None:
    """Stamps that run a hundredth faster or slower than the samples: the sound keeps up with them."""
    source, path = film_claps(tmp_path / "a.mkv"), tmp_path / "b.mkv"
    remux(source, path, lambda p: round(p.pts * speed) - p.pts if p.stream.type == "audio" else 0)
    heard = clicks(path)
    nearest = [np.abs(heard - time * speed).min() for time in CLAPS]
    assert np.sort(nearest)[:5].max() < 0.025, nearest  # one click may lie in what is cut


@pytest.mark.parametrize("size", [480, 2048])
def test_stamps_that_wander_are_no_drift(tmp_path: Path, size: int) -> None:
    """Stamps that come and go by 25 ms within 3 s leave the sound whole, however long its packets are."""
    path, rate = tmp_path / "a.mka", 48000
    sound = np.random.default_rng(0).integers(-9000, 9000, (1, 10 * rate), np.int16)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("pcm_s16le", rate=rate, layout="mono")
        for first in range(0, sound.shape[1], size):
            frame = av.AudioFrame.from_ndarray(sound[:, first : first + size], "s16", "mono")
            frame.sample_rate, frame.pts, frame.time_base = rate, first, Fraction(1, rate)
            for packet in stream.encode(frame):
                packet.dts, packet.time_base = first, Fraction(1, rate)
                packet.pts = first + rate + round(0.025 * rate * np.sin(2 * np.pi * first / rate / 3))
                out.mux(packet)
    track = find_soundtrack(path)
    assert len(track.read()[0]) == sound.shape[1]
    assert not track.gaps.silences and not track.gaps.cut


def test_parts_that_do_not_agree_are_refused(tmp_path: Path) -> None:
    """A second part without sound: no shift serves both, and the message says what to do."""
    one = film_claps(tmp_path / "one.ts").read_bytes()
    mute = film_claps(tmp_path / "mute.ts", tracks=()).read_bytes()
    (tmp_path / "two.ts").write_bytes(one + mute)
    with pytest.raises(FileProblem, match=r"start again at 6\.\d s, and not alike.*concat"):
        find_soundtrack(tmp_path / "two.ts")


@pytest.mark.parametrize(
    ("tracks", "default", "words"),
    [
        (("silence", "claps"), 0, "2 audio tracks; the second is used, since the first is silent"),
        (("room", "claps"), 0, "2 audio tracks; the second is used, since the first is silent"),
        (("tone", "claps"), 1, "2 audio tracks; the second is used"),
        (("silence", "silence", "claps"), 1, "3 audio tracks; the third is used, since the second and the"),
        (("claps", "tone"), 0, "2 audio tracks; the first is used"),
    ],
)
def test_one_of_several_sounds(tmp_path: Path, tracks: tuple[str, ...], default: int, words: str) -> None:
    """The default track, or the first that is not silent; which one is said."""
    path = film_claps(tmp_path / "a.mkv", tracks=tracks, default=default)
    in_step(path, len(CLAPS))
    with pytest.warns(UserWarning, match=words):
        load_audio(path)


def test_one_of_several_pictures(tmp_path: Path) -> None:
    """The default picture, which is not the first, and a line that says so."""
    path = film_claps(tmp_path / "a.mkv", pictures=("gray", "claps"))
    in_step(path, len(CLAPS))
    assert probe(path).tracks == "it has 2 pictures; the second is used"
    assert not probe(film_claps(tmp_path / "b.mkv")).tracks


@pytest.mark.parametrize(
    "name", ["12:30.mp4", "http:a.mp4", "file:x.mp4", "-a.mp4", "a%03d.mp4", "\udce9.mp4"]
)
def test_any_name_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A relative name with a colon is no address, and one that is no UTF-8 is a name: written and read."""
    monkeypatch.chdir(tmp_path)
    with VideoWriter(name, 16, 16, audio=(np.ones(8000, np.float32) / 2, 16000)) as out:
        for _ in range(10):
            out.write(np.zeros((16, 16, 3), np.uint8))
    assert probe(name).frames == 10 and load_audio(name).max() > 0.4
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.flv", "a.avi", "a.asf"])
def test_a_film_that_breaks_off_is_told(tmp_path: Path, name: str) -> None:
    """Half of a copy is refused, as a sound and as pictures; the whole is read."""
    whole = film_claps(tmp_path / name)
    assert len(load_audio(whole)) == pytest.approx(96000, abs=2000) and len(list(decode(whole))) == 150
    half = tmp_path / f"half{whole.suffix}"
    half.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    for read in (load_audio, lambda path: list(decode(path))):
        with pytest.raises(FileProblem, match=r"cut short|ends at|only .* can be read|can't be read"):
            read(half)


@pytest.mark.parametrize("name", ["a.mkv", "a.flv"])
def test_a_header_without_sizes_is_compared_with_the_last_packet(tmp_path: Path, name: str) -> None:
    """Where a file says only how long it is, as recorders write it, its end says that it is cut."""
    whole = film_claps(tmp_path / name).read_bytes()
    half = tmp_path / f"half{Path(name).suffix}"
    plain = whole.replace(b"filesize", b"anything").replace(b"DURATION", b"anything")
    assert plain != whole
    half.write_bytes(plain[: len(whole) // 2])
    for read in (load_audio, lambda path: list(decode(path))):
        with pytest.raises(FileProblem, match=r"cut short|ends at"):
            read(half)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.flv"])
def test_a_sound_that_ends_before_the_picture_is_whole(tmp_path: Path, name: str) -> None:
    """The length in a header may be the picture's."""
    path = film_claps(tmp_path / name, lost=(3.5, 7.0))
    assert len(load_audio(path)) == pytest.approx(3.5 * 16000, abs=1000) and len(list(decode(path))) == 150


def test_fields_are_woven(tmp_path: Path) -> None:
    """Interlaced video comes without combs at its own rate and times; progressive video is left alone."""

    def picture(time: float) -> np.ndarray:
        x = np.arange(128)[None] - 60 - 200 * np.sin(time)
        return np.repeat(np.where(x % 64 < 32, 200, 50).astype(np.uint8), 96, 0)

    path, marked = tmp_path / "a.mpg", Graph()
    source = marked.add_buffer(width=128, height=96, format="yuv420p", time_base=Fraction(1, 25))
    marked.link_nodes(source, marked.add("setfield", "tff"), marked.add("buffersink")).configure()
    with av.open(str(path), "w") as out:
        stream = out.add_stream(
            "mpeg2video", rate=25, options={"flags": "+ildct+ilme", "top": "1", "qscale": "2"}
        )
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 128, 96, "yuv420p", 8_000_000
        for k in range(20):
            woven = picture(k / 25)
            woven[1::2] = picture((k + 0.5) / 25)[1::2]
            frame = av.VideoFrame.from_ndarray(np.repeat(woven[..., None], 3, 2), "rgb24")
            frame = frame.reformat(format="yuv420p")
            frame.pts, frame.time_base = k, Fraction(1, 25)
            marked.vpush(frame)
            out.mux(stream.encode(marked.vpull()))
        out.mux(stream.encode(None))
    info, frames = probe(path), np.stack(list(frames_at(path))).astype(float)[..., 1]
    assert info.interlaced and not probe(film_claps(tmp_path / "b.mp4")).interlaced
    assert len(frames) == 20

    def combs(of: np.ndarray) -> float:
        return float(np.abs(of[1:-1] - (of[:-2] + of[2:]) / 2).mean())

    with av.open(str(path)) as raw:
        stored = [f.to_ndarray(format="gray").astype(float) for f in raw.decode(video=0)]
    assert min(map(combs, stored[5:15])) > 5 * max(map(combs, frames[5:15]))
    for k in (5, 10, 15):
        assert np.abs(frames[k] - picture(k / 25)).mean() < 8
