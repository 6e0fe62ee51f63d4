"""The page in a headless Chromium with a microphone of a file: pictures, sound, and lips against it."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from bench.live.browser import browser
from bench.live.client import speech
from bench.live.options import Options
from bench.live.server import serving
from nldf_engine.datasets.format import write_wav

# The page's player is watched: when, on the audio clock, each tick's sound is played, and its level; for each
# picture that is shown, when, and how the lower half of its middle looks.
WATCH = """
nldf.watch = (player) => {
  nldf.sounds = []; nldf.pictures = [];
  const small = new OffscreenCanvas(64, 64), drawing = small.getContext("2d", {willReadFrequently: true});
  player.onsound = (number, samples, moment) => {
    let power = 0;
    for (const value of samples) power += value * value / 1073741824;
    nldf.sounds.push([moment, Math.sqrt(power / samples.length)]);
  };
  player.onpicture = (time, ears) => {
    drawing.drawImage(player.canvas, 0, 0, 64, 64);
    const pixels = drawing.getImageData(20, 34, 24, 16).data;
    nldf.pictures.push([time, ears, Array.from(pixels).filter((_, k) => k % 4 === 1)]);
  };
};
document.getElementById("poses").value = "still";
document.getElementById("start").click();
"""
RATE_OF_CURVES = 100.0
FURTHEST = 0.4


def lag_of(sounds: np.ndarray, times: np.ndarray, mouths: np.ndarray) -> tuple[float, float]:
    """(seconds by which the mouth's movement comes after the sound's level, their correlation there).

    Args:
        sounds: [n, 2] time and level of pieces of 40 ms.
        times: [m] when pictures were shown.
        mouths: [m, p] pixels about the mouth.
    """
    grid = np.arange(times[0], times[-1], 1 / RATE_OF_CURVES)
    level = np.interp(grid, sounds[:, 0] + 0.02, np.log(sounds[:, 1] + 1e-3))
    parts = mouths - np.median(mouths, 0)
    opening = np.interp(grid, times + 0.02, np.linalg.norm(parts, axis=1))
    reach, best = round(FURTHEST * RATE_OF_CURVES), (0.0, -1.0)
    middle = slice(reach, len(grid) - reach)
    for shift in range(-reach, reach + 1):
        moved = opening[middle.start + shift : middle.stop + shift]
        found = float(np.corrcoef(level[middle], moved)[0, 1])
        best = max(best, (shift / RATE_OF_CURVES, found), key=lambda pair: pair[1])
    return best


async def measure(url: str, microphone: Path, options: Options) -> dict[str, Any]:
    """What the page says of itself."""
    async with browser(f"{url}/", microphone) as page:
        await asyncio.sleep(1.0)
        await page.run(WATCH)
        for _ in range(200):
            if await page.run("nldf.state") == "on":
                break
            await asyncio.sleep(0.1)
        await page.run("document.getElementById('microphone').click()")
        await asyncio.sleep(options.seconds)
        if options.picture is not None:
            await page.photograph(options.picture)
        await page.run("nldf.counted = {...nldf.player.statistics}")
        found = await page.run(
            "({sounds: nldf.sounds, pictures: nldf.pictures, counted: nldf.counted, session: nldf.session})"
        )
        await page.run("document.getElementById('interrupt').click()")
        await asyncio.sleep(0.5)
        found["interrupted"] = await page.run("nldf.log.interrupted.length")
        found["said"] = page.said
    return dict(found)


def browser_table(options: Options) -> dict[str, Any]:
    """Headless Chromium with a microphone: what arrives, and how lips and sound lie against each other."""
    with tempfile.TemporaryDirectory() as folder:
        microphone = Path(folder) / "microphone.wav"
        write_wav(microphone, speech(30.0).astype(np.float32) / 32_768)
        with serving(options.avatars, 1, "--demo") as server:
            found = asyncio.run(measure(server.url, microphone, options))
    sounds, pictures = np.array(found["sounds"]), found["pictures"]
    times = np.array([time for time, _, _ in pictures])
    shown = np.array([ears - time for time, ears, _ in pictures])
    lag, correlation = lag_of(sounds, times, np.array([mouth for _, _, mouth in pictures], float))
    counted = found["counted"]
    return {
        "ticks": counted["ticks"], "pictures": len(pictures),
        "pictures a second": len(pictures) / max(1e-9, times[-1] - times[0]),
        "loud pieces (%)": 100 * float((sounds[:, 1] > 0.01).mean()),
        "came too late": counted["late"],
        "picture shown after its sound (ms)": {
            "p50": 1000 * float(np.median(shown)), "p95": 1000 * float(np.percentile(shown, 95))
        },
        "lips after the level of the sound (ms)": 1000 * lag, "correlation there": correlation,
        "interruptions answered": found["interrupted"], "errors in the page": len(found["said"]),
        "server": found["session"]["counters"],
    }  # fmt: skip
