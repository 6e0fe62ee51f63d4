"""What a pasted clip costs, stage by stage and all together, and how well the rest of the picture is kept."""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from nldf_engine.base.clock import FPS
from nldf_engine.engine import Engine
from nldf_engine.engine.clip import Clip
from nldf_engine.engine.into import PastedFrames
from nldf_engine.media.planes import Planes
from nldf_engine.media.video import shots_at
from nldf_engine.media.video_writer import PRESETS, VideoWriter
from nldf_engine.rendering.footage import Footage
from nldf_engine.rendering.paste import REGIONS, Paste

LOOKED_AT = 10  # every so many frames are compared with the source
KEPT_BYTES = 400 << 20  # of frames that are held at a time, so that stages can be timed one by one

Row = dict[str, Any]


@contextmanager
def _timed(rows: dict[str, Row], name: str, frames: int) -> Iterator[None]:
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    rows[name] = {"ms": 1e3 * wall / frames, "cpu ms": 1e3 * cpu / frames}


def stages(clip: Clip, presets: list[str]) -> dict[str, Row]:
    """Milliseconds a frame of each stage, by the clock and of all cores, each stage running alone.

    Args:
        clip: pasted.
        presets: of the encoder.
    """
    frames: PastedFrames = clip.frames  # type: ignore[assignment]
    height, width = frames.shape[1:3]
    count = max(4, min(len(clip), KEPT_BYTES // (2 * height * width)))
    rows: dict[str, Row] = {}
    with _timed(rows, "decode", count):
        shown = list(islice(frames.staging.played(), count))
    with _timed(rows, "head", count):
        pictures = [picture.copy() for picture in islice(frames.pictures.reused(1), count)]
    paste = Paste(REGIONS[frames.staging.region], shown[0].colours)
    with _timed(rows, "paste", count):
        for number, (frame, picture) in enumerate(zip(shown, pictures, strict=True)):
            paste(frame.turned(frames.staging.footage.turns), picture, *frames.staging.spot(number))
    for preset in presets:
        with tempfile.TemporaryDirectory() as folder, _timed(rows, f"encode {preset}", count):
            path = Path(folder) / "out.mp4"
            with VideoWriter(path, width, height, preset=preset, colours=shown[0].colours) as writer:
                for frame in shown:
                    writer.write(frame)
    return rows


def together(clip: Clip, preset: str, folder: Path) -> Row:
    """Frames a second from sound to file, sealing left out, and the file's size.

    Args:
        clip: what is saved.
        preset: of the encoder.
        folder: where the file is left, as PRESET.mp4.
    """
    path, rows = folder / f"{preset}.mp4", dict[str, Row]()
    with _timed(rows, "", len(clip)):
        clip.save(path, provenance=False, preset=preset)
    row = rows[""]
    return {
        "frames/s": 1e3 / row["ms"],
        "cpu ms": row["cpu ms"],
        "kB/s": path.stat().st_size / 1e3 * FPS / len(clip),
    }


def kept(clip: Clip, made: Path) -> float:
    """PSNR in dB of the brightness of a saved clip against its source, where nothing was pasted.

    Args:
        clip: pasted; made: the file that it was saved to.
    """
    frames: PastedFrames = clip.frames  # type: ignore[assignment]
    source = frames.staging.played()
    errors = []
    for number, (own, pasted, shot) in enumerate(zip(source, frames.film(1), shots_at(made), strict=False)):
        if number % LOOKED_AT == 0:
            errors.append(_error(own, pasted, shot.planes()))
    return float(10 * np.log10(255**2 / np.mean(errors)))


def _error(own: Planes, pasted: Planes, saved: Planes) -> float:
    outside = own.parts[0] == pasted.parts[0]
    apart = own.parts[0][outside].astype(np.float32) - saved.parts[0][outside]
    return float(np.square(apart).mean())


def measure(
    engine: Engine, footage: Footage, sound: Path, region: str, frames: int, presets: list[str],
    say: Callable[[str], object] = print,
) -> dict[str, Any]:  # fmt: skip
    """Everything, for one region.

    Args:
        engine: of the avatar; footage: of its source; sound: a file that lasts for `frames`.
        region: see `rendering.paste.REGIONS`.
        presets: of the encoder, see `PRESETS`.
        say: takes each line as it is known.

    Raises:
        ValueError: an unknown region, or a sound that is too short.
    """
    samples = engine.features(sound)[0]
    if len(samples) < frames:
        raise ValueError(f"sound: expected {frames / FPS:g} s at least, got {len(samples) / FPS:g} s")
    own, clip = engine.render(samples[:frames]), engine.render(samples[:frames], into=footage, region=region)
    height, width = clip.frames.shape[1:3]
    say(f"{width} x {height}, {region}, head {own.frames.shape[2]}, {frames} frames")
    rows = stages(clip, presets)
    for name, row in rows.items():
        say(f"  {name:<20} {row['ms']:6.1f} ms, {row['cpu ms']:6.1f} ms of all cores")
    found: dict[str, Any] = {"size": [width, height], "region": region, "frames": frames, "stages": rows}
    with tempfile.TemporaryDirectory() as folder:
        alone = together(own, PRESETS[1], Path(folder))
        say(f"  the head alone       {alone['frames/s']:6.1f} frames/s")
        found["alone"], found["together"] = alone, {}
        for preset in presets:
            row = together(clip, preset, Path(folder))
            row["psnr outside"] = kept(clip, Path(folder) / f"{preset}.mp4")
            found["together"][preset] = row
            say(
                f"  into it, {preset:<12}{row['frames/s']:6.1f} frames/s, {row['cpu ms']:.1f} ms of cores,"
                f" {row['kB/s']:.0f} kB/s, {row['psnr outside']:.1f} dB outside"
            )
    found["peak MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    say(f"  peak memory {found['peak MB']} MB")
    return found
