"""The picture of the viewer: python docs/screenshot.py --picture docs/images/viewer.jpg

Starts the viewer with the bundled avatar and a synthetic voice, opens it in a headless Chromium, plays for a
few seconds and takes a picture. Chromium has to be on the path.
"""

from __future__ import annotations

import argparse
import base64
import json
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from websockets.sync.client import connect

from nldf_engine.apps.cli.bundled import bundled_avatar
from nldf_engine.audio import speech_of
from nldf_engine.datasets.format import write_wav
from nldf_engine.synthetic import synthesise_speech

SECONDS, SIZE, PORT = 8.0, (1280, 760), 8765
# Of a notice that this browser draws without a GPU.
CLOSE = "document.querySelector('[class*=Notification] button')?.click()"
# Waits in seconds: for the page, and for the full picture.
OPENED, SETTLED = 15, 5


class Tab:
    """A page of Chromium, over its DevTools protocol."""

    def __init__(self, address: str) -> None:
        self._socket, self._count = connect(address, max_size=None), 0

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """The result of one command."""
        self._count += 1
        self._socket.send(json.dumps({"id": self._count, "method": method, "params": params}))
        while (answer := json.loads(self._socket.recv())).get("id") != self._count:
            pass
        return dict(answer.get("result", {}))

    def press(self, text: str) -> None:
        """Clicks the button with that text."""
        find = (
            f"[...document.querySelectorAll('button')].find(b => b.textContent.trim() == {json.dumps(text)})"
        )
        self.call("Runtime.evaluate", expression=f"{find}.click()", userGesture=True)


def photograph(page: str, out: Path) -> None:
    """Plays the viewer at an address, pauses it, and writes what is seen."""
    with tempfile.TemporaryDirectory() as folder:
        command = (
            *("chromium", "--headless=new", "--no-sandbox", "--use-angle=swiftshader"),
            *("--enable-unsafe-swiftshader", "--remote-debugging-port=0", f"--user-data-dir={folder}"),
        )
        browser = subprocess.Popen([*command, "about:blank"], stderr=subprocess.PIPE, text=True)
        try:
            assert browser.stderr is not None
            lines = (re.search(r"listening on ws://([^/]+)/", line) for line in browser.stderr)
            host = next(found[1] for found in lines if found)
            with urllib.request.urlopen(f"http://{host}/json") as answer:
                tabs = json.load(answer)
            tab = Tab(next(each["webSocketDebuggerUrl"] for each in tabs if each["type"] == "page"))
            width, height = SIZE
            tab.call(
                "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
                mobile=False,
            )  # fmt: skip
            tab.call("Page.navigate", url=page)
            time.sleep(OPENED)
            tab.call("Runtime.evaluate", expression=CLOSE)
            tab.press("play")
            time.sleep(SECONDS / 2)
            tab.press("pause")
            time.sleep(SETTLED)
            taken = tab.call("Page.captureScreenshot", format="jpeg", quality=88)
            out.write_bytes(base64.b64decode(taken["data"]))
        finally:
            browser.terminate()
            browser.wait()


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
            photograph(viewer.stdout.readline().split()[0], out)
        finally:
            viewer.terminate()
            viewer.wait()
    print(f"{out}: {out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
