"""A headless Firefox, driven through WebDriver BiDi: one page, evaluated and photographed."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp

NAMES = ("firefox-esr", "firefox")
START_SECONDS = 60.0
# Sound plays without a click; a microphone is there, and nobody is asked for it.
PREFERENCES = {
    "media.autoplay.default": 0, "media.autoplay.blocking_policy": 0, "media.navigator.streams.fake": True,
    "media.navigator.permission.disabled": True, "browser.shell.checkDefaultBrowser": False,
    "media.peerconnection.ice.obfuscate_host_addresses": False, "media.peerconnection.ice.loopback": True,
    "datareporting.policy.dataSubmissionEnabled": False, "app.update.enabled": False,
}  # fmt: skip


def find_firefox() -> str | None:
    """The program, or None where there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class FirefoxPage:
    """The one page of a Firefox: `bench.live.browser.Page`'s counterpart."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket, self._ids = socket, itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._context = ""
        self.said: list[str] = []

    async def read(self) -> None:
        async for message in self._socket:
            given = json.loads(message.data)
            if given.get("id") is not None:
                future = self._waiting.pop(given["id"], None)
                if future is not None and not future.done():
                    future.set_result(given)
            elif given.get("method") == "log.entryAdded":
                self.said.append(str(given["params"].get("text"))[:600])

    async def call(self, method: str, **parameters: Any) -> Any:
        number = next(self._ids)
        self._waiting[number] = future = asyncio.get_running_loop().create_future()
        await self._socket.send_str(json.dumps({"id": number, "method": method, "params": parameters}))
        given = await asyncio.wait_for(future, 60)
        if given["type"] == "error":
            raise RuntimeError(f"{method}: {given['error']}: {given['message']}")
        return given["result"]

    async def open(self, url: str, size: tuple[int, int]) -> None:
        """Begins a session, and shows a page in it."""
        await self.call("session.new", capabilities={})
        await self.call("session.subscribe", events=["log.entryAdded"])
        self._context = (await self.call("browsingContext.getTree"))["contexts"][0]["context"]
        view = {"width": size[0], "height": size[1]}
        await self.call("browsingContext.setViewport", context=self._context, viewport=view)
        await self.call("browsingContext.navigate", context=self._context, url=url, wait="complete")

    async def run(self, script: str) -> Any:
        """The value of an expression, as JSON knows it; a promise is awaited. A person is taken to have
        clicked."""
        made = await self.call(
            "script.evaluate", expression=f"(async () => JSON.stringify(await ({script})))()",
            target={"context": self._context}, awaitPromise=True, userActivation=True,
        )  # fmt: skip
        if made["type"] == "exception":
            raise RuntimeError(made["exceptionDetails"]["text"][:800])
        return json.loads(made["result"]["value"]) if "value" in made["result"] else None

    async def photograph(self, path: Path) -> None:
        kind = {"type": "image/png"} if path.suffix == ".png" else {"type": "image/jpeg", "quality": 0.86}
        made = await self.call("browsingContext.captureScreenshot", context=self._context, format=kind)
        path.write_bytes(base64.b64decode(made["data"]))


@contextlib.asynccontextmanager
async def firefox(url: str, size: tuple[int, int] = (980, 1010)) -> AsyncIterator[FirefoxPage]:
    """A page at `url`, so many pixels wide and high.

    Firefox has no clock for sound without a sound device: it plays to a PulseAudio of its own, into nothing.

    Raises:
        RuntimeError: there is no Firefox or no PulseAudio, or it did not start.
    """
    program = find_firefox()
    if program is None:
        raise RuntimeError(f"no browser: expected one of {', '.join(NAMES)} on the path")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, _sound_device(folder) as device:
        lines = [f'user_pref("{name}", {json.dumps(value)});' for name, value in PREFERENCES.items()]
        (Path(folder) / "user.js").write_text("\n".join(lines))
        process = await asyncio.create_subprocess_exec(
            program, "--headless", "--no-remote", "--profile", folder, "--remote-debugging-port", "0",
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "HOME": folder, "PULSE_SERVER": device},
        )  # fmt: skip
        tasks: list[asyncio.Task[None]] = []
        try:
            address = await asyncio.wait_for(_address(process), START_SECONDS)
            tasks.append(asyncio.create_task(_empty(process)))
            async with (
                aiohttp.ClientSession() as http,
                http.ws_connect(f"{address}/session", max_msg_size=0) as socket,
            ):
                page = FirefoxPage(socket)
                tasks.append(asyncio.create_task(page.read()))
                await page.open(url, size)
                yield page
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await process.wait()


@contextlib.contextmanager
def _sound_device(folder: str) -> Iterator[str]:
    """The address of a sound server that plays into nothing, in real time."""
    program = shutil.which("pulseaudio")
    if program is None:
        raise RuntimeError("no sound device for Firefox: install pulseaudio")
    address = f"{folder}/pulse"
    process = subprocess.Popen(
        [program, "-n", "--exit-idle-time=-1", "--use-pid-file=no", "-L", "module-null-sink",
         "-L", f"module-native-protocol-unix socket={address} auth-anonymous=1"],
        env={**os.environ, "HOME": folder, "PULSE_RUNTIME_PATH": folder},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield f"unix:{address}"
    finally:
        process.terminate()
        process.wait()


async def _address(process: asyncio.subprocess.Process) -> str:
    assert process.stderr is not None
    while line := await process.stderr.readline():
        if found := re.search(rb"WebDriver BiDi listening on (ws://\S+)", line):
            return found[1].decode()
    raise RuntimeError("Firefox ended before it listened")


async def _empty(process: asyncio.subprocess.Process) -> None:
    """What it says would fill its pipe."""
    assert process.stderr is not None
    while await process.stderr.readline():
        pass
