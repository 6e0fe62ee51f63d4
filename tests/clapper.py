"""A film whose picture flashes when its sound clicks, in any container, with any damage to its clock."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from nldf_engine.media.soundtrack import find_soundtrack
from nldf_engine.media.video import decode

RATE, FPS = 48000, 25
CLAPS = (0.72, 1.56, 2.64, 3.2, 4.44, 5.24)


def clap_sound(seconds: float) -> np.ndarray:
    """[N] float32 at RATE: 10 ms of a loud tone at each clap, over faint noise."""
    sound = 1e-3 * np.random.default_rng(0).standard_normal(round(seconds * RATE))
    for time in CLAPS:
        begin, count = round(time * RATE), RATE // 100
        if begin + count <= len(sound):
            sound[begin : begin + count] += 0.8 * np.sin(np.arange(count) / 4)
    return sound.astype(np.float32)


def _packets(stream, sound: np.ndarray, lost: tuple[float, float]):
    """AAC packets of a sound, without those inside `lost` seconds."""
    frame = av.AudioFrame.from_ndarray(sound[None], "fltp", "mono")
    frame.sample_rate, frame.pts, frame.time_base = RATE, 0, Fraction(1, RATE)
    resampler = av.AudioResampler("fltp", "mono", RATE, frame_size=1024)
    pieces = [*resampler.resample(frame), *resampler.resample(None)]
    packets = [packet for piece in [*pieces, None] for packet in stream.encode(piece)]
    return [p for p in packets if not lost[0] <= float(p.pts * p.time_base) < lost[1]]


def film_claps(
    path: Path,
    seconds: float = 6.0,
    gop: int = 50,
    tracks: tuple[str, ...] = ("claps",),
    default: int = 0,
    lost: tuple[float, float] = (0.0, 0.0),
    pictures: tuple[str, ...] = ("claps",),
) -> Path:
    """Writes the film.

    Args:
        gop: frames from one keyframe to the next.
        tracks: of sound, "claps", "silence", "room" (its noise) or "tone"; the one numbered `default` is
            flagged so.
        lost: seconds from and to which packets of the sound are left out.
        pictures: of each stream of pictures, "claps" or "gray"; the last one is flagged as the default.
    """
    with av.open(str(path), "w") as out:
        videos, audios = [], []
        for number, _ in enumerate(pictures):
            video = out.add_stream(
                "libx264", rate=FPS, options={"g": str(gop), "sc_threshold": "0", "bf": "0"}
            )
            video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
            video.disposition = int(number == len(pictures) - 1)
            videos.append(video)
        for number, _ in enumerate(tracks):
            audio = out.add_stream("aac", rate=RATE, layout="mono")
            audio.disposition = int(number == default)
            audios.append(audio)
        packets = []
        for video, kind in zip(videos, pictures, strict=True):
            for k in range(round(seconds * FPS)):
                flash = kind == "claps" and any(abs(k / FPS - t) < 0.5 / FPS for t in CLAPS)
                frame = av.VideoFrame.from_ndarray(
                    np.full((64, 64, 3), 250 if flash else 60, np.uint8), "rgb24"
                )
                frame = frame.reformat(format="yuv420p")
                frame.pts, frame.time_base = k, Fraction(1, FPS)
                packets += video.encode(frame)
            packets += video.encode(None)
        time = np.arange(round(seconds * RATE)) / RATE
        sounds = {
            "claps": clap_sound(seconds),
            "silence": np.zeros(len(time), np.float32),
            "room": (3e-4 * np.random.default_rng(1).standard_normal(len(time))).astype(np.float32),
            "tone": (0.2 * np.sin(2 * np.pi * 440 * time)).astype(np.float32),
        }
        for audio, kind in zip(audios, tracks, strict=True):
            packets += _packets(audio, sounds[kind], lost)
        for packet in sorted(packets, key=lambda p: float(p.dts * p.time_base)):
            out.mux(packet)
    return path


def remux(source: Path, path: Path, moved: Callable[[Any], int] = lambda packet: 0, **options: Any) -> None:
    """Copies the packets of a film into another file.

    Args:
        source, path: the film, and where to.
        moved: by how much the stamps of a packet are moved, in its time base.
        options: of `av.open`.
    """
    with av.open(str(source)) as given, av.open(str(path), "w", **options) as out:
        streams = {s.index: out.add_stream_from_template(s) for s in given.streams}
        for packet in given.demux():
            if packet.dts is None:
                continue
            by = moved(packet)
            packet.pts, packet.dts = packet.pts + by, packet.dts + by
            packet.stream = streams[packet.stream.index]
            out.mux(packet)


def flashes(path: Path) -> np.ndarray:
    """Seconds of the bright frames."""
    return np.array([shot.time for shot in decode(path) if shot.gray(16).mean() > 150])


def clicks(path: Path) -> np.ndarray:
    """Seconds of the clicks in the sound that is found."""
    samples, rate = find_soundtrack(path).read()
    loud = np.flatnonzero(np.abs(samples[:, 0]) > 0.4) / rate
    return loud[np.diff(loud, prepend=-1) > 0.1]
