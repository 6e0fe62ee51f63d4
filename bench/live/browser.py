"""A headless Chromium, driven through its DevTools protocol: one page, evaluated and photographed."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp

NAMES = ("chromium", "chromium-browser", "google-chrome")
START_SECONDS = 60.0


def find_browser() -> str | None:
    """The program, or None where there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Page:
    """The one page of a browser."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket, self._ids = socket, itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self.said: list[str] = []

    async def read(self) -> None:
        async for message in self._socket:
            given = json.loads(message.data)
            if "id" in given:
                future = self._waiting.pop(given["id"], None)
                if future is not None and not future.done():
                    future.set_result(given)
            elif given.get("method") == "Runtime.consoleAPICalled":
                self.said.append(
                    " ".join(str(a.get("value", a.get("description"))) for a in given["params"]["args"])
                )
            elif given.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded"):
                self.said.append(json.dumps(given["params"])[:600])

    async def call(self, method: str, **parameters: Any) -> Any:
        number = next(self._ids)
        self._waiting[number] = future = asyncio.get_running_loop().create_future()
        await self._socket.send_str(json.dumps({"id": number, "method": method, "params": parameters}))
        given = await asyncio.wait_for(future, 60)
        if "error" in given:
            raise RuntimeError(f"{method}: {given['error']}")
        return given["result"]

    async def run(self, script: str) -> Any:
        """The value of an expression; a promise is awaited. A person is taken to have clicked."""
        made = await self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True
        )
        if "exceptionDetails" in made:
            raise RuntimeError(json.dumps(made["exceptionDetails"])[:800])
        return made["result"].get("value")

    async def photograph(self, path: Path) -> None:
        kind = {"format": "png"} if path.suffix == ".png" else {"format": "jpeg", "quality": 86}
        path.write_bytes(base64.b64decode((await self.call("Page.captureScreenshot", **kind))["data"]))


@contextlib.asynccontextmanager
async def browser(
    url: str, microphone: Path | None = None, size: tuple[int, int] = (980, 1010), webgl: bool = False
) -> AsyncIterator[Page]:
    """A page at `url`, so many pixels wide and high; its microphone plays a wav file over and over. WebGL is
    drawn by the processor, and takes all of it.

    Raises:
        RuntimeError: there is no browser, or it did not start.
    """
    program = find_browser()
    if program is None:
        raise RuntimeError(f"no browser: expected one of {', '.join(NAMES)} on the path")
    with tempfile.TemporaryDirectory() as folder:
        drawn = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader"] if webgl else ["--disable-gpu"]
        fake = [] if microphone is None else [f"--use-file-for-fake-audio-capture={microphone}"]
        process = await asyncio.create_subprocess_exec(
            program, "--headless=new", "--no-sandbox", *drawn, "--use-fake-device-for-media-stream",
            "--use-fake-ui-for-media-stream", "--autoplay-policy=no-user-gesture-required", "--no-first-run",
            "--remote-debugging-port=0", f"--user-data-dir={folder}",
            f"--window-size={size[0]},{size[1]}", *fake, url,
            stderr=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        try:
            port = await asyncio.wait_for(_port(Path(folder)), START_SECONDS)
            async with aiohttp.ClientSession() as http:
                async with http.get(f"http://127.0.0.1:{port}/json") as answer:
                    targets = [item for item in await answer.json() if item["type"] == "page"]
                address = targets[0]["webSocketDebuggerUrl"]
                async with http.ws_connect(address, max_msg_size=0) as socket:
                    page = Page(socket)
                    reader = asyncio.create_task(page.read())
                    try:
                        await page.call("Runtime.enable")
                        await page.call("Log.enable")
                        yield page
                    finally:
                        reader.cancel()
                        await asyncio.gather(reader, return_exceptions=True)
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await process.wait()


async def _port(folder: Path) -> int:
    while True:
        with contextlib.suppress(FileNotFoundError, IndexError, ValueError):
            return int((folder / "DevToolsActivePort").read_text().splitlines()[0])
        await asyncio.sleep(0.1)
