"""Reading any video upright and on an even clock; `VideoWriter` beside it writes.

Everything goes through PyAV, frame by frame: no function but `read_frames` and `read_labels` holds more
than a few frames. Arrays are uint8, RGB order.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from nldf_engine.base.clock import FPS
from nldf_engine.base.errors import FileProblem
from nldf_engine.media.containers import (
    COPY_AGAIN,
    LARGEST_LOSS,
    RECORD_AGAIN,
    breaks_off,
    check_file,
    check_whole,
    opened,
    ordinal,
    pictures_of,
)
from nldf_engine.media.deinterlace import COMBED, Deinterlacer, combing
from nldf_engine.media.grading import graded, is_hdr
from nldf_engine.media.pictures import over_white
from nldf_engine.media.planes import BT709, HIGH, UNSAID, Colours, Planes, is_plain, views
from nldf_engine.media.soundtrack import read_audio_track
from nldf_engine.media.timeline import Timeline, first_picture, timeline_of
from nldf_engine.media.video_writer import VideoWriter

LARGEST_SIDE = 8192  # pixels; beyond it a header is taken for a damaged one
LONGEST_GAP = 10.0  # seconds between two frames' timestamps; beyond it the file is damaged
WORTH_SEEKING = 1.0  # seconds; a beginning that is shorter is decoded and passed over
JITTER = 0.002  # seconds; containers round timestamps to milliseconds

Orientation = tuple[int, int, int, int]
UPRIGHT: Orientation = (1, 0, 0, 1)

__all__ = [
    "Shot",
    "VideoInfo",
    "VideoWriter",
    "check_file",
    "decode",
    "frames_at",
    "labels_of",
    "make_converter",
    "pictures_at",
    "probe",
    "read_audio_track",
    "read_frames",
    "read_labels",
    "rgb_of",
    "shots_at",
]


@dataclass(frozen=True)
class VideoInfo:
    """What a video is, after its rotation flag and pixel aspect are applied.

    `fps` is the average rate of the file, `frames` its own frame count (estimated where the file does
    not say), `seconds` the picture's length, `rotation` the clockwise turn in degrees that the flag
    asks for, `codec` the picture codec's name, `hdr` whether colours are PQ or HLG encoded (and read as
    BT.709), `interlaced` whether it is stored in fields (and read with them woven into frames), `tracks`
    which of several pictures it is, in words.
    """

    width: int
    height: int
    fps: float
    frames: int
    seconds: float
    rotation: int
    has_audio: bool
    codec: str
    hdr: bool = False
    interlaced: bool = False
    tracks: str = ""


def _video_stream(container: Any, path: Path) -> Any:
    import av

    streams = pictures_of(container)
    if not streams:
        raise FileProblem(path, "it has no video track", "give a file with a moving picture in it")
    stream = streams[0]
    context = stream.codec_context
    if context is None:
        raise FileProblem(path, "its video codec is unknown to this build of FFmpeg", RECORD_AGAIN)
    if not (0 < context.width <= LARGEST_SIDE and 0 < context.height <= LARGEST_SIDE):
        size = f"{context.width} x {context.height}"
        raise FileProblem(
            path, f"its picture is {size}, beyond 1..{LARGEST_SIDE} pixels a side", RECORD_AGAIN
        )
    entries = stream.index_entries
    if len(entries) and container.format.name.startswith("mov"):
        end = max(entry.pos + entry.size for entry in (entries[i] for i in range(len(entries))))
        if end > path.stat().st_size:
            raise FileProblem(
                path,
                f"it is cut short ({path.stat().st_size} bytes of at least {end})",
                COPY_AGAIN,
            )
    check_whole(path)
    if isinstance(context, av.VideoCodecContext):
        stream.thread_type = "AUTO"
    return stream


def _orientation(frame: Any) -> Orientation:
    """The 2x2 part (signs only) of the display matrix: upright = M applied to picture coordinates."""
    data = frame.side_data.get("DISPLAYMATRIX")
    matrix = np.frombuffer(b"" if data is None else bytes(data), dtype="<i4")
    if matrix.size >= 5:
        a, b, c, d = (int(v) for v in np.round(matrix[[0, 1, 3, 4]] / 65536.0))
        if abs(a * d - b * c) == 1:
            return a, b, c, d
    return UPRIGHT


def make_converter() -> Any:
    """What converts colours and sizes of av frames; made once, since making one costs more than using it."""
    from av.video.reformatter import VideoReformatter

    return VideoReformatter()


def _upright(picture: np.ndarray, orientation: Orientation) -> np.ndarray:
    a, b, c, d = orientation
    # Display x = a x + c y, display y = b x + d y.
    if a == 0:
        picture, a, d = picture.swapaxes(0, 1), c, b
    return picture[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]


def _turn(orientation: Orientation) -> int:
    a, b, _, _ = orientation
    return round(float(np.degrees(np.arctan2(b, a)))) % 360


def _see_through(frame: Any) -> bool:
    return any(component.is_alpha for component in frame.format.components)


def _conversion(frame: Any, aspect: Fraction | None) -> dict[str, Any]:
    """What a converter is given besides the format: square pixels, and what the colours are."""
    width, height = frame.width, frame.height
    if aspect and aspect > 0 and aspect != 1:
        # Stretch, never shrink: no detail is lost.
        width, height = (round(width * aspect), height) if aspect > 1 else (width, round(height / aspect))
    options: dict[str, Any] = {"width": width, "height": height, "threads": 1}
    if "yuv" in frame.format.name and frame.colorspace == UNSAID:
        options["src_colorspace"] = "ITU709" if frame.height >= HIGH else "ITU601"
    return options


def _planes(frame: Any, aspect: Fraction | None, converter: Any, orientation: Orientation) -> Planes:
    """A decoded frame as upright planes of square pixels, in its own colours where they can be kept."""
    colours = Colours.of(frame)
    if not is_plain(frame, aspect):
        colours, options = BT709, _conversion(frame, aspect)
        if _see_through(frame) or is_hdr(int(frame.color_trc or 0)):
            picture = _picture(frame, aspect, False, converter, orientation)
            frame, orientation = video_frame(picture), UPRIGHT
            options = {"threads": 1}
        frame = converter.reformat(
            frame, format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG", **options
        )
    return Planes.of((_upright(part, orientation) for part in views(frame)), colours)


def video_frame(picture: np.ndarray) -> Any:
    """An av frame of a picture uint8 [H, W, 3]."""
    import av

    return av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")


def rgb_of(planes: Planes, converter: Any) -> np.ndarray:
    """Planes as uint8 [H, W, 3], just as `frames_at` gives the frame that they were taken from.

    Args:
        converter: of `make_converter`, kept from picture to picture.
    """
    return _picture(planes.frame, None, False, converter, UPRIGHT)


def _picture(
    frame: Any, aspect: Fraction | None, alpha: bool, converter: Any, orientation: Orientation
) -> np.ndarray:
    """A decoded frame as upright uint8 RGB(A) with square pixels; transparency is composited over white.

    `converter` is kept from frame to frame, since making one costs more than using it.
    """
    options = _conversion(frame, aspect)
    see_through, transfer = _see_through(frame), int(frame.color_trc or 0)
    if is_hdr(transfer):
        deep = converter.reformat(frame, format="rgb48le", **options).to_ndarray()
        picture, see_through = graded(deep, transfer, int(frame.color_primaries or 0)), False
    else:
        form = "rgba" if see_through else "rgb24"
        picture = converter.reformat(frame, format=form, **options).to_ndarray()
    if alpha:
        if not see_through:
            picture = np.dstack([picture, np.full(picture.shape[:2], 255, np.uint8)])
    elif see_through:
        picture = over_white(picture)
    return np.ascontiguousarray(_upright(picture, orientation))


def _pictures(container: Any, stream: Any, timeline: Timeline, fields: Deinterlacer) -> Iterator[Any]:
    """Yields every frame that can be decoded, its fields woven; and how many packets are damaged at the end.

    Yields:
        av frames, and last of all (packets, damaged packets).
    """
    import av

    context = stream.codec_context
    if stream.codec_context.name == "vp9" and stream.metadata.get("alpha_mode") == "1":
        context = av.CodecContext.create("libvpx-vp9", "r")  # FFmpeg's own decoder drops the alpha plane
    clock = timeline.clock()
    packets = bad = 0
    for packet in container.demux(stream):
        packets += 1
        try:
            frames = context.decode(clock.correct(packet) if packet.size else None)
        except av.error.FFmpegError:
            bad += 1
            continue
        for frame in frames:
            yield from fields.push(frame)
    yield from fields.flush()
    yield packets, bad


def _decoded(
    container: Any, stream: Any, path: Path, timeline: Timeline, fields: Deinterlacer,
    first: Fraction | None = None,
) -> Iterator[tuple[Fraction, Fraction, Any]]:  # fmt: skip
    """(time, duration, frame) in rising order of time, in seconds from the first frame, or from `first`."""
    usual = 1 / Fraction(stream.average_rate or stream.guessed_rate or FPS)
    last: Fraction | None = None
    packets = bad = used = passed = 0
    for frame in _pictures(container, stream, timeline, fields):
        if isinstance(frame, tuple):
            packets, bad = frame
            continue
        base = frame.time_base or stream.time_base
        time = last + usual if last is not None else Fraction(0)
        if frame.pts is not None and base:
            time = frame.pts * Fraction(base)
        if last is not None and time <= last:
            passed += 1
            continue
        if first is not None and last is not None and time - last > LONGEST_GAP:
            what = f"its timestamps jump by {float(time - last):.0f} s at {float(last - first):.1f} s"
            raise FileProblem(path, what, RECORD_AGAIN)
        first = time if first is None else first
        span = Fraction(frame.duration * base) if frame.duration and base else usual
        yield time - first, span, frame
        used, last = used + 1, time
    if first is None or last is None:
        raise FileProblem(path, "not one frame of it can be decoded", RECORD_AGAIN)
    if bad > max(2, LARGEST_LOSS * packets):
        raise FileProblem(path, f"{bad} of its {packets} packets are damaged", RECORD_AGAIN)
    if passed > max(2, LARGEST_LOSS * (used + passed)):
        what = f"the time stamps of {passed} of its {used + passed} frames do not rise"
        raise FileProblem(path, what, RECORD_AGAIN)
    stated, read = _seconds(container, stream), float(last - first + usual)
    if stated and stream.start_time is not None:  # what lies before the first keyframe shows nothing
        stated -= max(0.0, float(first - stream.start_time * Fraction(stream.time_base)))
    if read < 0.9 * stated - 1.0:
        lost = f"it says {stated:.1f} s, and only {read:.1f} s can be read"
        raise FileProblem(path, lost, COPY_AGAIN)
    broken = None if stated or read > (container.duration or 0) / 1e6 - 1.0 else breaks_off(path)
    if broken:
        raise FileProblem(path, f"it says {broken[0]:.1f} s, and ends at {broken[1]:.1f} s", COPY_AGAIN)


def _seconds(container: Any, stream: Any) -> float:
    """The picture's length as the file states it; 0 where it does not."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    tag = stream.metadata.get("DURATION", "")
    with contextlib.suppress(ValueError):
        hours, minutes, seconds = tag.split(":")
        return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
    if container.duration and not container.streams.audio:
        return float(container.duration) / 1e6
    return 0.0


def probe(path: str | Path) -> VideoInfo:
    """What a video is, from its headers and its first frame.

    Raises:
        FileProblem: the file is missing, empty, cut short, has no video track, or can't be decoded.
    """
    path = Path(path)
    timeline = timeline_of(path)
    with opened(path) as container:
        stream = _video_stream(container, path)
        fields = Deinterlacer(stream)
        _, _, frame = next(_decoded(container, stream, path, timeline, fields))
        orientation = _orientation(frame)
        shot = Shot(0.0, 0.0, frame, stream.sample_aspect_ratio, make_converter(), orientation)
        height, width = shot.picture().shape[:2]
        rotation, hdr = _turn(orientation), is_hdr(int(frame.color_trc or 0))
        audio, name = bool(container.streams.audio), stream.codec_context.name
        seconds, count = timeline.seconds or _seconds(container, stream), stream.frames
        if seconds and frame.pts is not None and frame.time_base and stream.start_time is not None:
            lead = frame.pts * frame.time_base - stream.start_time * stream.time_base
            seconds = max(1 / FPS, seconds - max(0.0, float(lead)))
        fps = float(stream.average_rate or stream.guessed_rate or 0)
        count = 0 if timeline.seconds else count
        interlaced, several = fields.used, pictures_of(container)
        tracks = ""
        if len(several) > 1:
            which = ordinal(container.streams.video, stream)
            tracks = f"it has {len(several)} pictures; {which} is used"
    if not seconds or not fps:  # live recordings state nothing: walk over the packets, undecoded
        with opened(path) as container:
            stream = _video_stream(container, path)
            stamps = [p.pts for p in container.demux(stream) if p.pts is not None]
            if len(stamps) > 1:
                seconds = (
                    float((max(stamps) - min(stamps)) * stream.time_base) * len(stamps) / (len(stamps) - 1)
                )
                fps, count = len(stamps) / seconds, len(stamps)
    fps = fps or FPS
    seconds = seconds or max(1, count) / fps
    count = count or max(1, round(seconds * fps))
    return VideoInfo(width, height, fps, count, seconds, rotation, audio, name, hdr, interlaced, tracks)


@dataclass(frozen=True)
class Shot:
    """A decoded frame before any conversion: cheap to pass over."""

    time: float  # seconds from the first frame
    span: float  # seconds it stays on screen
    frame: Any
    aspect: Fraction | None
    converter: Any
    orientation: Orientation

    def picture(self, alpha: bool = False) -> np.ndarray:
        """The upright frame, uint8 [H, W, 3], or [H, W, 4] with `alpha` (else over white)."""
        return _picture(self.frame, self.aspect, alpha, self.converter, self.orientation)

    def planes(self) -> Planes:
        """The upright frame as planes of their own memory; in its own colours where those can be kept."""
        return _planes(self.frame, self.aspect, self.converter, self.orientation)

    def combed(self) -> bool:
        """Whether the frame as stored looks woven of two moments, as interlaced video does."""
        if self.frame.height < 8:
            return False
        light = self.converter.reformat(self.frame, format="gray", threads=1).to_ndarray()
        return combing(light) > COMBED

    def gray(self, size: int) -> np.ndarray:
        """The frame as stored, scaled to uint8 [size, size] gray; for comparing frames."""
        small = self.converter.reformat(self.frame, format="gray", width=size, height=size, threads=1)
        return small.to_ndarray()


def decode(path: str | Path, after: float = 0.0) -> Generator[Shot, None, None]:
    """Yields every decodable frame of a video in rising order of time.

    Args:
        path: the video.
        after: seconds; frames before it are of no interest, and left out as far as the file allows.

    Raises:
        FileProblem: as `probe`, and where a file turns out to be damaged on the way.
    """
    path = Path(path)
    timeline = timeline_of(path)
    found = None
    if after > WORTH_SEEKING and len(timeline.shifts) == 1:
        shots = _from_keyframe(path, timeline, after)
        # A file without a true index: the seek went too far, or nowhere.
        with contextlib.suppress(FileProblem, StopIteration):
            found = next(shots)
    if found is not None and found.time <= after:
        yield found
        yield from shots
        return
    with opened(path) as container:
        stream = _video_stream(container, path)
        yield from _shots(container, stream, path, timeline, None)


def _shots(
    container: Any, stream: Any, path: Path, timeline: Timeline, first: Fraction | None
) -> Iterator[Shot]:
    converter, fields, orientation, turned = make_converter(), Deinterlacer(stream), UPRIGHT, None
    for time, span, frame in _decoded(container, stream, path, timeline, fields, first):
        # Not of every frame: one that was asked for its matrix refers to itself, and waits for the garbage
        # collector. The angle alone costs nothing.
        if frame.rotation != turned:
            orientation, turned = _orientation(frame), frame.rotation
        yield Shot(float(time), float(span), frame, stream.sample_aspect_ratio, converter, orientation)


def _from_keyframe(path: Path, timeline: Timeline, after: float) -> Iterator[Shot]:
    """The frames from the last keyframe on before a time; none where the file has no index."""
    import av

    first = first_picture(path)
    with opened(path) as container:
        stream = _video_stream(container, path)
        if first is None or len(stream.index_entries) < 2:
            return
        try:
            container.seek(int((first + Fraction(after)) / stream.time_base), stream=stream)
        except av.error.FFmpegError:
            return
        yield from _shots(container, stream, path, timeline, first)


def shots_at(
    path: str | Path, fps: float = FPS, times: np.ndarray | None = None, first: int = 0
) -> Generator[Shot, None, None]:
    """Yields for every tick of an even clock the frame that is on screen then; see `frames_at`.

    A frame that stays on screen is yielded again, the same object.
    """
    pending: Shot | None = None
    end, k = 0.0, 0
    shots = decode(path, first / fps if times is None else 0.0)
    for index, shot in enumerate(shots):
        end = shot.time + shot.span
        time = shot.time if times is None else float(times[index]) if index < len(times) else np.nan
        if not np.isfinite(time):
            continue
        if pending is None and times is None:  # the ticks before were left out
            k = max(k, math.ceil((time - JITTER) * fps))
        while pending is not None and k < (time - JITTER) * fps:
            if k >= first:
                yield pending
            k += 1
        pending = shot
    if pending is not None:
        for _ in range(max(1, round(end * fps)) - max(k, first)):
            yield pending


def frames_at(
    path: str | Path, fps: float | None = FPS, alpha: bool = False, times: np.ndarray | None = None,
    first: int = 0,
) -> Iterator[np.ndarray]:  # fmt: skip
    """Yields upright frames on an even clock: frame k is the one on screen at time k/fps.

    Time 0 is the first frame; there are round(seconds * fps) frames, at least one. Any source rate,
    also a variable one, comes out right, since only timestamps count.

    Args:
        path: any container and codec that FFmpeg reads.
        fps: frames a second; None yields every frame of the file, untouched by its clock.
        alpha: True yields [H, W, 4]; otherwise transparent parts are composited over white.
        times: another clock, rising: seconds for every decoded frame; NaN drops the frame.
        first: the frame to begin with; those before it are left out as far as the file allows.

    Yields:
        uint8 [H, W, 3] RGB (or [H, W, 4]).

    Raises:
        FileProblem: as `decode`.
    """
    if fps is None:
        yield from (shot.picture(alpha) for shot in islice(decode(path), first, None))
        return
    for _, shown in pictures_at(path, fps, alpha, times, first):
        yield shown


def pictures_at(
    path: str | Path, fps: float = FPS, alpha: bool = False, times: np.ndarray | None = None, first: int = 0
) -> Iterator[tuple[Shot, np.ndarray]]:
    """Yields what `shots_at` yields, with its picture as `frames_at` yields it."""
    last: Shot | None = None
    for shot in shots_at(path, fps, times, first):
        if shot is not last:
            shown, last = shot.picture(alpha), shot
        yield shot, shown


def read_frames(path: str | Path, size: int | tuple[int, int] | None = None) -> np.ndarray:
    """All frames of a file, in its own order and rate: uint8 [T, H, W, 3].

    Args:
        path: the video.
        size: a width and height (one number: both) to scale to while reading, by area.

    Raises:
        FileProblem: as `frames_at`.
    """
    import cv2

    target = (size, size) if isinstance(size, int) else size
    frames = []
    for frame in frames_at(path, fps=None):
        if target and frame.shape[1::-1] != target:
            frame = cv2.resize(frame, target, interpolation=cv2.INTER_AREA)
        frames.append(frame)
    return np.stack(frames)


def labels_of(path: str | Path) -> Iterator[np.ndarray]:
    """Yields the label maps of a gray lossless video, exactly as written: uint8 [H, W].

    Raises:
        FileProblem: the file is missing or damaged, or holds anything but 8-bit gray.
    """
    for shot in decode(path):
        if shot.frame.format.name != "gray":
            held = f"label maps are 8-bit gray, and it holds {shot.frame.format.name}"
            raise FileProblem(path, held, "run nldf prepare again")
        yield shot.frame.to_ndarray()


def read_labels(path: str | Path) -> np.ndarray:
    """All maps of `labels_of`: uint8 [T, H, W]."""
    return np.stack(list(labels_of(path)))
