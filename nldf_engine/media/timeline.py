"""One clock for the sound and the picture of a file.

Time 0 is the first picture that can be decoded: a recording that was cut between keyframes begins with
packets that show nothing, and with sound that belongs to them. Where the time stamps start again, as in
streams that were joined by appending one file to the other, the later part is moved on behind the earlier,
sound and picture by the same amount.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from nldf_engine.base.errors import FileProblem
from nldf_engine.media.containers import JOIN_AGAIN, RECORD_AGAIN, check_file, opened, pictures_of, sounds_of
from nldf_engine.media.headers import top_boxes

# Seconds by which the stamp of a packet falls behind its forerunner's where a new part begins. Decoding
# stamps of one stream only rise within a part.
BACK = 0.5
# Beside those that FFmpeg says of, what is read on behind its end, with the stamps of another beginning.
READ_ON = {"matroska"}
LAPPED = {"aac", "wmav1", "wmav2"}


class _Fallback:
    """Counts the parts of one stream by the decoding stamps of its packets."""

    def __init__(self) -> None:
        self.part = 0
        self._last: Fraction | None = None

    def push(self, packet: Any) -> int:
        """The number of the part that the packet is in."""
        if packet.dts is not None:
            time = packet.dts * Fraction(packet.time_base)
            if self._last is not None and time < self._last - Fraction(BACK):
                self.part += 1
            self._last = time
        return self.part


@dataclass(frozen=True)
class Timeline:
    """Where the parts of a file are on one clock.

    Args:
        shifts: [P] seconds that are added to the stamps of each part; (0,) where they never start again.
        seconds: of the pictures of all parts together; 0 where there is one part, whose header says it.
    """

    shifts: tuple[Fraction, ...] = (Fraction(0),)
    seconds: float = 0.0

    def clock(self) -> Clock:
        """For the packets of one stream, in their order."""
        return Clock(self.shifts)


@dataclass
class Clock:
    """Corrects the stamps of one stream's packets.

    Args:
        shifts: see `Timeline`.
    """

    shifts: tuple[Fraction, ...]
    _seen: _Fallback = field(default_factory=_Fallback)

    @property
    def part(self) -> int:
        """The number of the part that the last packet was in."""
        return self._seen.part

    def correct(self, packet: Any) -> Any:
        """The packet, with stamps on the one clock."""
        if len(self.shifts) == 1:
            return packet
        shift = self.shifts[min(self._seen.push(packet), len(self.shifts) - 1)]
        ticks = round(shift / Fraction(packet.time_base)) if packet.time_base else 0
        if packet.pts is not None:
            packet.pts += ticks
        if packet.dts is not None:
            packet.dts += ticks
        return packet


def timeline_of(path: str | Path, again: str = RECORD_AGAIN) -> Timeline:
    """Walks over the packets of a file whose stamps may start again; of others nothing is read.

    Args:
        path: of the file.
        again: the remedy where it can't be opened.

    Raises:
        FileProblem: it can't be opened; the stamps of sound and picture start again at different places.
    """
    stat = check_file(path, again).stat()
    return _walked(Path(path), again, (stat.st_size, stat.st_mtime_ns))


def _may_start_again(container: Any, path: Path) -> bool:
    from av.format import Flags

    formats = set(container.format.name.split(","))
    if "mov" in formats:  # in fragments, as recorders write them; of others FFmpeg reads the first alone
        names = [name for name, _ in top_boxes(path)]
        return b"moof" in names and names.count(b"moov") > 1
    return bool(Flags.ts_discont & Flags(int(container.format.flags)) or READ_ON & formats)


@functools.lru_cache(maxsize=8)
def _walked(path: Path, again: str, _: tuple[int, int]) -> Timeline:
    """`timeline_of` a file of this size and age."""
    with opened(path, again) as container:
        if not _may_start_again(container, path):
            return Timeline()
        streams = [*pictures_of(container)[:1], *sounds_of(container)]
        if not streams:
            return Timeline()
        counters = {stream.index: _Fallback() for stream in streams}
        spans: dict[int, list[list[Fraction]]] = {stream.index: [] for stream in streams}
        for packet in container.demux(*streams):
            if packet.dts is None or packet.pts is None:
                continue
            index, base = packet.stream.index, Fraction(packet.time_base)
            part = counters[index].push(packet)
            begin, end = packet.pts * base, (packet.pts + (packet.duration or 0)) * base
            if part == len(spans[index]):
                spans[index].append([begin, end])
            span = spans[index][part]
            span[0], span[1] = min(span[0], begin), max(span[1], end)
    used = [found for found in spans.values() if found]
    if not used or max(map(len, used)) == 1:
        return Timeline()
    if len({len(found) for found in used}) > 1:
        at = min(float(found[0][1] - found[0][0]) for found in used)
        what = f"its time stamps start again at {at:.1f} s, and not alike in sound and picture"
        raise FileProblem(path, what, JOIN_AGAIN)
    shifts, reached = [Fraction(0)], max(found[0][1] for found in used)
    for part in range(1, len(used[0])):
        shifts.append(reached - min(found[part][0] for found in used))
        reached = max(found[part][1] for found in used) + shifts[-1]
    pictures = used[0]
    return Timeline(tuple(shifts), float(pictures[-1][1] + shifts[-1] - pictures[0][0]))


def first_picture(path: str | Path) -> Fraction | None:
    """The stamp in seconds of the first picture that can be decoded; None where there is none."""
    import av

    with opened(path, RECORD_AGAIN) as container:
        for stream in pictures_of(container)[:1]:
            if stream.codec_context is None or not stream.time_base:
                return None
            for packet in container.demux(stream):
                try:
                    frames = packet.decode()
                except av.error.FFmpegError:
                    continue
                for frame in frames:
                    return Fraction(0) if frame.pts is None else frame.pts * Fraction(stream.time_base)
    return None


def own_zero(path: str | Path, index: int) -> Fraction | None:
    """The stamp in seconds that the sound of a file without pictures begins at; None for its first block's.

    AAC and WMA hold a block of what was before the sound, and of their containers hardly any but MP4 says so.

    Args:
        path: of the file.
        index: of the stream.
    """
    with opened(path, RECORD_AGAIN) as container:
        stream = container.streams[index]
        if stream.codec_context is None or stream.codec_context.name not in LAPPED:
            return None
        if "mov" in container.format.name:
            return None
        base = Fraction(stream.time_base)
        for packet in container.demux(stream):
            if packet.pts is not None and packet.pts < 0:  # Matroska of late
                return None
            if packet.duration:
                return (stream.start_time or 0) * base + packet.duration * base
    return None
