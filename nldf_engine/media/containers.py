"""Opening any file of sound or pictures, and which of its streams are meant."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from nldf_engine.base.errors import FileProblem
from nldf_engine.media.headers import appended_at, missing_lengths, promised_bytes

COPY_AGAIN = "copy, download or record the whole file again"
JOIN_AGAIN = (
    "join the parts with ffmpeg's concat demuxer (ffmpeg -f concat -i list.txt), or prepare them one by one"
)
LENGTH_IN_HEADER = {"matroska", "flv"}  # of all streams together, and not of each
# What a file may be shorter than its header says.
MISSING_SECONDS, MISSING_SHARE = 0.25, 0.02
LARGEST_LOSS = 0.05  # share of packets that may fail to decode
DEFAULT = 0x1  # FFmpeg's flag of the stream that a player takes
COVER = 0x400  # FFmpeg's flag of a still picture beside the sound
SOUND_AGAIN = "record or export the sound again (WAV is a safe choice)"
RECORD_AGAIN = "record or export the video again (MP4 with H.264 is a safe choice)"


def check_file(path: str | Path, remedy: str = RECORD_AGAIN) -> Path:
    """`path` as a Path; FileProblem when it is missing, a folder, empty, or may not be read."""
    path = Path(path)
    if path.is_dir():
        raise FileProblem(path, "it is a folder, and a file was expected", "name a file in it")
    if not path.is_file():
        raise FileProblem(path, "there is no such file", "check the spelling of the path")
    if path.stat().st_size == 0:
        raise FileProblem(path, "it is empty (0 bytes)", remedy)
    if not os.access(path, os.R_OK):
        raise FileProblem(path, "it can't be read (no permission)", "give yourself the right to read it")
    return path


def location(path: str | Path) -> str:
    """A path as FFmpeg takes it: `file:` before it, so that a colon in a name makes no address of it.

    Example:
        >>> location("12:30.wav")
        'file:12:30.wav'
    """
    return f"file:{os.fspath(path)}"


def reading(file: str | IO[bytes]) -> Any:
    """An av container for reading, whatever the bytes of its tags: see `tags_of`.

    Args:
        file: a `location`, or an open file.

    Raises:
        av.error.FFmpegError: FFmpeg can't read it.
    """
    import av

    # From PyAV 19 on a container takes such tags by itself, and no longer asks.
    asked: dict[str, Any] = (
        {} if int(av.__version__.split(".")[0]) >= 19 else {"metadata_errors": "surrogateescape"}
    )
    return av.open(file, "r", **asked)


def tags_of(container: Any) -> dict[str, str]:
    """The tags of an av container by their names in small letters; what is no UTF-8 as U+FFFD."""
    return {
        key.lower(): value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        for key, value in container.metadata.items()
    }


class _Mended(io.FileIO):
    """A file with other bytes in its header than it has: what `missing_lengths` says."""

    def __init__(self, path: Path, changes: list[tuple[int, bytes]]) -> None:
        super().__init__(path)
        self._changes = changes

    def read(self, size: int | None = -1, /) -> bytes:
        """As any file's."""
        begin, data = self.tell(), bytearray(super().read(size) or b"")
        for place, wanted in self._changes:
            for at, value in enumerate(wanted, place - begin):
                if 0 <= at < len(data):
                    data[at] = value
        return bytes(data)


@contextlib.contextmanager
def opened(path: str | Path, remedy: str = RECORD_AGAIN) -> Iterator[Any]:
    """An av container for reading; FFmpeg's errors, also those inside the block, become FileProblem."""
    import av

    path = check_file(path, remedy)
    changes = missing_lengths(path)
    try:
        with contextlib.ExitStack() as held:
            file = held.enter_context(_Mended(path, changes)) if changes else location(path)
            yield held.enter_context(reading(file))
    except av.error.FFmpegError as error:
        raise FileProblem(path, f"it can't be read as audio or video ({error.strerror})", remedy) from error


def pictures_of(container: Any) -> list[Any]:
    """The streams of moving pictures, the one that a player takes first; covers of music are left out."""
    return _by_default([s for s in container.streams.video if not s.disposition.value & COVER])


def sounds_of(container: Any) -> list[Any]:
    """The streams of sound, the one that a player takes first."""
    return _by_default(list(container.streams.audio))


def _by_default(streams: list[Any]) -> list[Any]:
    """Those flagged as the default first, else in their order."""
    return sorted(streams, key=lambda stream: not stream.disposition.value & DEFAULT)


def ordinal(streams: Any, stream: Any) -> str:
    """ "the first", "the second", ... of the streams of one kind, counted as the file has them."""
    place = [each.index for each in streams].index(stream.index)
    words = ("first", "second", "third", "fourth", "fifth", "sixth")
    return f"the {words[place]}" if place < len(words) else f"number {place + 1}"


def check_whole(path: Path) -> None:
    """Compares a file with what its header says of its size.

    Raises:
        FileProblem: it is shorter; or a second file was appended to it, which would not be read.
    """
    promised, present = promised_bytes(path), path.stat().st_size
    if promised is not None and present < promised * (1 - MISSING_SHARE):
        raise FileProblem(path, f"it is cut short ({present} of {promised} bytes)", COPY_AGAIN)
    behind = appended_at(path)
    if behind is not None:
        what = (
            f"it is two files or more, one behind the other, of which only the first {behind} bytes are read"
        )
        raise FileProblem(path, what, JOIN_AGAIN)


def breaks_off(path: Path) -> tuple[float, float] | None:
    """(seconds that a file says it has, seconds that it has), where it ends before all its streams should.

    None where it does not, or where its header does not say. A stream may end earlier than the others: all
    packets are walked over, and nothing is decoded.
    """
    with opened(path) as container:
        if not LENGTH_IN_HEADER & set(container.format.name.split(",")) or not container.duration:
            return None
        stated, begin = container.duration / 1e6, (container.start_time or 0) / 1e6
        reached = 0.0
        for packet in container.demux():
            if packet.pts is not None and packet.time_base:
                end = float((packet.pts + (packet.duration or 0)) * packet.time_base)
                reached = max(reached, end - begin)
    return (stated, reached) if reached < stated * (1 - MISSING_SHARE) - MISSING_SECONDS else None


def stated_seconds(path: str | Path) -> float | None:
    """How long a file of sound or pictures says that it is, about; None where it says nothing.

    Raises:
        FileProblem: it can't be read as either.
    """
    with opened(path, SOUND_AGAIN) as container:
        return None if container.duration is None else container.duration / 1e6
