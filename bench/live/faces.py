"""Whether each of several sessions shows its own avatar, saying its own sound: against `Engine.render`."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np

from bench.live.client import RATE, Tick, client, speech
from bench.live.options import Options
from bench.live.server import serving
from nldf_engine.apps.server.encoders import Raw
from nldf_engine.engine import Engine
from nldf_engine.engine.edits import Edit, Gate, MouthEdit

SECONDS = 3.0
SIZE = 64
EACH = 2
"""Sessions of each avatar."""


async def measure(url: str, avatars: list[str]) -> list[list[Tick]]:
    """The ticks of EACH sessions an avatar, all at once, each with a sound of its own."""

    async def one(number: int) -> list[Tick]:
        name = avatars[number % len(avatars)]
        async with client(url, keep=True, avatar=name, video="raw", size=SIZE) as made:
            await made.push(speech(SECONDS, number + 1))
            while not made.ticks or made.ticks[-1].number < 25 * (SECONDS + 1):
                await asyncio.sleep(0.05)
        return made.ticks

    return list(await asyncio.gather(*(one(number) for number in range(EACH * len(avatars)))))


def compare(ticks: list[Tick], engine: Engine, size: int | None = SIZE) -> list[int]:
    """Each picture's largest difference, grey levels, from that of `Engine.render`; 255 for another size."""
    if [tick.number for tick in ticks] != list(range(len(ticks))):
        raise RuntimeError("ticks were lost on the way: the client was too slow")
    heard = np.concatenate([np.frombuffer(tick.sound, "<i2") for tick in ticks]).astype(np.float32) / 32_768
    gated = engine.motion_codes and engine.avatar.frontend.kind.levels is not None
    edit = Edit(mouth=MouthEdit(gate=Gate())) if gated else None
    want = engine.render((heard, RATE), size=size, edit=edit).frames
    known = len(ticks) - 12  # the last ones look ahead of what was given out
    found = []
    for number, tick in enumerate(ticks[:known]):
        if tick.picture:
            seen = Raw.decode(tick.picture).astype(int)
            found.append(int(np.abs(seen - want[number]).max()) if seen.shape == want[number].shape else 255)
    return found


def faces(options: Options) -> dict[str, Any]:
    """Two sessions of each avatar at once; every picture is compared with the one that `render` makes."""
    table: dict[str, Any] = {}
    with serving(options.avatars, options.workers) as server:
        names = [folder.resolve().name for folder in options.avatars]
        every = asyncio.run(measure(server.url, names))
    for number, ticks in enumerate(every):
        found = compare(ticks, Engine.load(options.avatars[number % len(names)]))
        table[f"session {number + 1}, {names[number % len(names)]}"] = {
            "pictures": len(found), "equal to 2 grey levels (%)": 100 * float(np.mean(np.array(found) <= 2)),
            "largest difference": max(found),
        }  # fmt: skip
    return table
