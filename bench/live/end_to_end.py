"""The page in headless browsers, spoken to by a microphone: what arrives, when, and lips against sound."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from bench.live.browser import browser, find_browser
from bench.live.client import RATE, speech
from bench.live.firefox import find_firefox, firefox
from bench.live.lips import SIDE, Spoken, offset_at, spoken
from bench.live.options import Options
from bench.live.server import serving
from nldf_engine.base.clock import FPS
from nldf_engine.datasets.format import write_wav

WATCH = (Path(__file__).parent / "watch.js").read_text(encoding="utf-8")
WAYS = ("websocket", "webrtc")
OPENED = 1.0  # seconds until the page is there
AFTER = 1.0  # seconds behind the speech
WINDOW = (700, 760)  # pixels of the page
LONGEST = 3.0  # seconds from what was spoken to when it is heard
GATE = 0.040
"""Seconds between lips and sound that are too much."""


class Page(Protocol):
    """A page of some browser; `said` is what it logged."""

    said: list[str]

    async def run(self, script: str) -> Any:
        """The value of an expression."""
        ...

    async def photograph(self, path: Path) -> None:
        """Writes what is seen."""
        ...


@dataclass(frozen=True)
class Voice:
    """What the browsers' microphones say.

    Args:
        spoken: the speech, and what it looks like.
        file: the same as a wav file.
    """

    spoken: Spoken
    file: Path


@contextlib.asynccontextmanager
async def _chromium(url: str, voice: Voice) -> AsyncIterator[tuple[Page, bool]]:
    async with browser(url, voice.file, WINDOW) as page:
        yield page, False


@contextlib.asynccontextmanager
async def _firefox(url: str, voice: Voice) -> AsyncIterator[tuple[Page, bool]]:
    """Its fake microphone has no file: the page is given one that plays the speech."""
    async with firefox(url, WINDOW) as page:
        yield page, True


Opened = AbstractAsyncContextManager[tuple[Page, bool]]
BROWSERS: dict[str, tuple[Callable[[], str | None], Callable[[str, Voice], Opened]]] = {
    "chromium": (find_browser, _chromium), "firefox": (find_firefox, _firefox),
}  # fmt: skip
"""How each is found, and how it opens a page; with it, whether the page's microphone needs a sound."""


async def measure(
    url: str, opened: Callable[[str, Voice], Opened], way: str, voice: Voice, picture: Path | None
) -> dict[str, Any]:
    """What `watch.js` noted while the speech was said by file, and then by the microphone."""
    seconds = len(voice.spoken.speech) / RATE
    told = {
        "way": way, "side": SIDE, "box": voice.spoken.box, "seconds": seconds + AFTER,
        "sound": base64.b64encode(voice.file.read_bytes()).decode(),
    }  # fmt: skip
    async with opened(f"{url}/", voice) as (page, fake):
        await asyncio.sleep(OPENED)
        await page.run(f"({WATCH})({json.dumps({**told, 'fake': fake})})")
        await asyncio.sleep(seconds / 2)
        if picture is not None:
            await page.photograph(picture)
        await asyncio.sleep(1.5 * seconds + 2 * AFTER)
        await page.run("nldf.watching")
        found = await page.run("nldf.watched")
        await page.run("document.getElementById('interrupt').click()")
        await asyncio.sleep(0.5)
        found["logged"] = page.said
    return dict(found)


def _sound(given: dict[str, Any], rate: float, voice: Spoken) -> tuple[np.ndarray, np.ndarray]:
    """(middles, offsets) as `Spoken.places`, by the audio clock, of what a tap noted."""
    samples = np.frombuffer(base64.b64decode(given["samples"]), "<i2").astype(np.float32) / 32_768
    ends = np.array(given["times"])
    # Pieces follow each other without a gap: the clock's time of the first sample, from all of them.
    begun = float(np.median(ends - np.arange(1, len(ends) + 1) * (len(samples) / len(ends)) / rate))
    middles, offsets = voice.places(samples, rate)
    return middles + begun, offsets + begun


def lips(noted: dict[str, Any], voice: Spoken) -> np.ndarray:
    """[N] seconds by which each of N pictures was shown later than its sound was heard; NaN where unclear."""
    pictures, rate = noted["pictures"], noted["rate"]
    _, _, width, height = voice.box
    grey = [np.frombuffer(base64.b64decode(item["grey"]), np.uint8) for item in pictures]
    now = np.array([item["now"] for item in pictures]) / 1000
    # The audio clock at a moment of the page's moves in steps, and is never ahead.
    lead = float(np.percentile(np.array([item["clock"] for item in pictures]) - now, 95))
    late = np.array([item["late"] for item in pictures])
    out = np.array([item["out"] for item in pictures])
    heard = np.where(out[:, 0] > 0, out[:, 0] + now - out[:, 1] / 1000, now + lead - late)
    about = heard - offset_at(heard, *_sound(noted["ears"], rate, voice))
    return voice.lags(np.stack(grey).reshape(-1, height, width), about)


def answered(noted: dict[str, Any], voice: Spoken) -> np.ndarray:
    """[n] seconds from what a microphone said to when it was heard, in pieces of half a second."""
    rate, pictures = noted["rate"], noted["pictures"]
    middles, spoke = _sound(noted["mic"], rate, voice)
    found = _sound(noted["ears"], rate, voice)
    late = float(np.median([item["late"] for item in pictures]))
    # A microphone's sound is there when the clock is, and what is played is heard `late`.
    heard = offset_at(middles - spoke, found[0] - found[1], found[1])
    after = heard - spoke
    # A fake microphone says its file again and again: what was heard before belongs to another time.
    return after[(after > 0) & (after < LONGEST)] + late


def spread(values: np.ndarray) -> dict[str, float]:
    """5th, 50th and 95th percentile of seconds, in milliseconds."""
    known = 1000 * values[np.isfinite(values)]
    if not len(known):
        return {"p5": np.nan, "p50": np.nan, "p95": np.nan}
    return {f"p{share}": float(np.percentile(known, share)) for share in (5, 50, 95)}


def row(found: dict[str, Any], voice: Spoken) -> dict[str, Any]:
    """A row of the table: one browser by one way."""
    said, spoke, ahead = found["said"], found["spoken"], found["session"]["latency"]
    times = np.array([item["now"] for item in said["pictures"]]) / 1000
    apart = lips(said, voice)
    known = apart[np.isfinite(apart)]
    # A picture is shown so much later than its sound, which ends 40 ms after it begins.
    beyond = answered(spoke, voice) - ahead - 1 / FPS + (float(np.median(known)) if len(known) else np.nan)
    made = {
        "pictures": len(times), "pictures a second": len(times) / max(1e-9, float(times[-1] - times[0])),
        "of these known": len(known),
        "lips after their sound (ms)": spread(apart),
        "beyond 40 ms (%)": 100 * float((np.abs(known) > GATE).mean()) if len(known) else np.nan,
        "from microphone to picture, beyond the look-ahead (ms)": spread(beyond),
        "look-ahead (ms)": 1000 * ahead, "errors in the page": len(found["logged"]),
    }  # fmt: skip
    if said.get("ahead"):  # a tap of WebRTC's sound has buffers that the browser's own player has not
        own = -np.array(said["ahead"]) / 1000
        made["lips after their sound, by the browser's own account (ms)"] = spread(own)
    if said["counted"] is not None:
        made["came too late"] = said["counted"]["late"]
    return made


def browser_table(options: Options) -> dict[str, Any]:
    """Headless Chromium and Firefox with a microphone, by websocket and WebRTC: lips, sound and latency."""
    table: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        said = speech(options.seconds)
        voice = Voice(spoken(options.avatars[0], said), Path(folder) / "microphone.wav")
        write_wav(voice.file, voice.spoken.speech)
        with serving(options.avatars, 1, "--demo") as server:
            for name, (find, opened) in BROWSERS.items():
                if options.browser not in (None, name):
                    continue
                for way in WAYS:
                    if find() is None:
                        table[f"{name}, {way}"] = "it is not installed"
                        continue
                    picture = options.picture if not table else None
                    found = asyncio.run(measure(server.url, opened, way, voice, picture))
                    table[f"{name}, {way}"] = made = row(found, voice.spoken)
                    print(f"{name}, {way}: {made}", file=sys.stderr, flush=True)
    return table
