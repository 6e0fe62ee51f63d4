"""What goes between the server and its workers, and the frames of the websocket.

Between processes: msgpack behind a length of four bytes. Nothing is unpickled.

To a client of the websocket, each tick is one binary message, little-endian:

    offset  type  what
    0       u8    1, the kind and version of the message
    1       u8    flags: 1 speaking, 2 the picture stands alone (JPEG, or a key frame of H.264), 4 an
                  utterance ends in this sound
    2       u16   epoch: how many interruptions came before, modulo 65536
    4       u32   number of the tick, from 0; its time is number / 25 s
    8       f64   position: seconds of the current utterance, at the end of this sound
    16      f32   seconds of sound that wait in the queue
    20      f32   seconds that the server took for the tick
    24      u32   P, bytes of the picture; 0 where it was left out: show the last one on
    28      u32   S, bytes of the sound
    32      P     the picture
    32+P    S     sound, mono: 16-bit PCM at the session's rate, or a packet of Opus
"""

from __future__ import annotations

import asyncio
import struct
from typing import Any, BinaryIO, TypeAlias

import msgspec

HEADER = struct.Struct("<BBHIdffII")
SPEAKING, KEY, ENDED = 1, 2, 4
LENGTH = struct.Struct("<I")
LARGEST = 256 << 20  # a raw picture of 4096 pixels has 64 MB


class Message(msgspec.Struct, array_like=True, tag=True):
    """Base of all messages; `session` is the number of the session that it is about."""


class Open(Message):
    """Begins a session; answered by `Reply`."""

    call: int
    session: int
    avatar: str
    rate: int
    size: int | None
    video: str
    quality: int
    sound: str
    room: bool
    queue: float


class Close(Message):
    """Ends a session."""

    session: int


class Run(Message):
    """Lets the clock of a session run, or stops it while nobody takes its frames."""

    session: int
    on: bool


class Sound(Message):
    """Sound for a session: 16-bit PCM, interleaved."""

    session: int
    rate: int
    channels: int
    samples: bytes


class Finish(Message):
    """The utterance ends here."""

    session: int


class Trim(Message):
    """Drops the oldest sound beyond so many seconds."""

    session: int
    seconds: float


class Interrupt(Message):
    """Drops everything that was not given out; answered by `Reply`."""

    call: int
    session: int


class Change(Message):
    """Replaces edit, background or poses; answered by `Reply`. `what` names the property."""

    call: int
    session: int
    what: str
    value: Any


class Welcome(Message):
    """A worker is ready; what its avatars are, by name."""

    avatars: dict[str, dict[str, Any]]


class Failed(Message):
    """A worker can't start."""

    problem: str


class Reply(Message):
    """The answer to a call: a value, or the problem with it."""

    call: int
    value: Any = None
    problem: str = ""


class Tick(Message):
    """A frame of a session and its sound."""

    session: int
    epoch: int
    number: int
    flags: int
    position: float
    queued: float
    received: int
    work: float
    picture: bytes
    sound: bytes
    ended: tuple[float, ...]


class Statistics(Message):
    """Counters of a session, once a second."""

    session: int
    counters: dict[str, Any]


class Over(Message):
    """A session can't go on; why, for its client."""

    session: int
    reason: str


ToWorker: TypeAlias = Open | Close | Run | Sound | Finish | Trim | Interrupt | Change
FromWorker: TypeAlias = Welcome | Failed | Reply | Tick | Statistics | Over
OfSession: TypeAlias = Tick | Statistics | Over
_encoder = msgspec.msgpack.Encoder()
_to_worker: msgspec.msgpack.Decoder[ToWorker] = msgspec.msgpack.Decoder(ToWorker)
_from_worker: msgspec.msgpack.Decoder[FromWorker] = msgspec.msgpack.Decoder(FromWorker)


def packed(message: Message) -> bytes:
    """A message with its length before it."""
    body = _encoder.encode(message)
    return LENGTH.pack(len(body)) + body


def read_to_worker(stream: BinaryIO) -> ToWorker | None:
    """The next message to a worker; None at the end of the stream."""
    head = stream.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    (length,) = LENGTH.unpack(head)
    body = stream.read(length)
    return _to_worker.decode(body) if len(body) == length else None


async def read_from_worker(stream: asyncio.StreamReader) -> FromWorker | None:
    """The next message of a worker; None when it has ended."""
    try:
        (length,) = LENGTH.unpack(await stream.readexactly(LENGTH.size))
        if length > LARGEST:
            raise ValueError(f"message of a worker: expected at most {LARGEST} bytes, got {length}")
        return _from_worker.decode(await stream.readexactly(length))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


def client_frame(tick: Tick) -> bytes:
    """A tick as the websocket's clients get it (see the table above)."""
    head = HEADER.pack(
        1, tick.flags, tick.epoch % 65_536, tick.number, tick.position, tick.queued, tick.work,
        len(tick.picture), len(tick.sound),
    )  # fmt: skip
    return b"".join((head, tick.picture, tick.sound))
