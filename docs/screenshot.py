"""The picture of the viewer: python -m docs.screenshot --picture docs/images/viewer.jpg

Starts the viewer with the bundled avatar and a synthetic voice, opens it in a headless Chromium, plays for a
few seconds and takes a picture. Chromium has to be on the path.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.live.browser import Page, browser
from nldf_engine.apps.cli.bundled import bundled_avatar
from nldf_engine.audio import speech_of
from nldf_engine.datasets.format import write_wav
from nldf_engine.synthetic import synthesise_speech

SECONDS, SIZE, PORT = 8.0, (1280, 760), 8765
# Of a notice that this browser draws without a GPU.
CLOSE = "document.querySelector('[class*=Notification] button')?.click()"
# Waits in seconds: for the page, and for the full picture.
OPENED, SETTLED = 15, 5


async def press(page: Page, text: str) -> None:
    """Clicks the button with that text."""
    find = f"[...document.querySelectorAll('button')].find(b => b.textContent.trim() == {json.dumps(text)})"
    await page.run(f"{find}.click()")


async def photograph(address: str, out: Path) -> None:
    """Plays the viewer at an address, pauses it, and writes what is seen."""
    async with browser(address, size=SIZE, webgl=True) as page:
        width, height = SIZE
        await page.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        await asyncio.sleep(OPENED)
        await page.run(CLOSE)
        await press(page, "play")
        await asyncio.sleep(SECONDS / 2)
        await press(page, "pause")
        await asyncio.sleep(SETTLED)
        await page.photograph(out)


def main() -> None:
    """Reads the flag."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--picture", type=Path, required=True, help="file to write, a .jpg")
    out = parser.parse_args().picture
    with tempfile.TemporaryDirectory() as folder:
        voice = Path(folder) / "speech.wav"
        speech = synthesise_speech(seconds=SECONDS)
        write_wav(voice, speech_of(speech.samples[:, None], speech.rate))
        words = ("-m", "nldf_engine", "view", str(bundled_avatar()), str(voice), "--port", str(PORT))
        viewer = subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, text=True)
        try:
            assert viewer.stdout is not None
            asyncio.run(photograph(viewer.stdout.readline().split()[0], out))
        finally:
            viewer.terminate()
            viewer.wait()
    print(f"{out}: {out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
