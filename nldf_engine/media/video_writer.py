"""Writing video: H.264 with AAC, lossless FFV1 label maps, and VP9 with alpha; whole or not at all."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from nldf_engine.base.clock import FPS
from nldf_engine.base.errors import FileProblem
from nldf_engine.base.files import FULL_DISK, atomic_path
from nldf_engine.media.containers import location, opened
from nldf_engine.media.planes import BT709, Colours, Planes
from nldf_engine.media.sound_feed import BLOCK, SoundFeed

# Quality of x264 and VP9 by their own scale. 16 is nearly transparent. Of large pictures fewer details are
# seen, and encoding takes most of the time: 20 takes half the bytes, 2 dB less, and less of that time.
CRF, LARGE_CRF, CRF_RANGE = 16, 20, (0, 51)


@dataclass(frozen=True)
class _Codec:
    encoder: str
    pixels: str
    channels: tuple[int, ...]
    options: dict[str, str]
    audio: str
    endings: tuple[str, ...]
    large: dict[str, str] = field(default_factory=dict)  # options in the place of those, of large pictures
    threads: str = "SLICE"  # what each works on, where the encoder has both: part of a picture, or a picture


_CODECS = {
    "h264": _Codec(
        "libx264",
        "yuv420p",
        (3,),
        {"preset": "fast", "crf": str(CRF)},
        "aac",
        (".mp4", ".mov", ".m4v", ".mkv"),
        {"preset": "superfast", "crf": str(LARGE_CRF)},
        "FRAME",
    ),
    "ffv1": _Codec(
        "ffv1", "gray", (), {"level": "3", "coder": "1", "context": "1", "g": "1"}, "flac", (".mkv",)
    ),
    "ffv1-rgb": _Codec("ffv1", "bgr0", (3,), {"level": "3", "g": "1"}, "flac", (".mkv",)),
    "ffv1-rgba": _Codec("ffv1", "bgra", (4,), {"level": "3", "g": "1"}, "flac", (".mkv",)),
    "vp9a": _Codec(
        "libvpx-vp9",
        "yuva420p",
        (4,),
        {"crf": str(CRF), "b": "0", "deadline": "good", "cpu-used": "5", "row-mt": "1", "auto-alt-ref": "0"},
        "libopus",
        (".webm",),
        {"crf": str(LARGE_CRF)},
    ),
}
# Beside a preset: what moves in pictures of a speaker goes a pixel or two; a wider search finds nothing more.
_BESIDE = {"veryfast": {"motion-est": "dia"}}
# Of smaller pictures x264's look ahead reads memory that nobody wrote, so that files differ from run to run.
UNSURE = 128
# Pixels of a picture from which on encoding takes longer than all else.
LARGE = 1_000_000
# An encoder's own choice follows from the cores that it may use, and the file from how many threads it takes.
THREADS = 4


# Of x264, from the one that takes longest. At 1920 x 1080 the last three take about 40, 28 and 15 ms of one
# core a frame; at the same crf their files are 1, 2.1 and 3.8 times as large, at 53.7, 56.5 and 55.6 dB PSNR.
PRESETS = ("medium", "fast", "veryfast", "superfast", "ultrafast")


def check_crf(crf: int | None) -> None:
    """Checks a quality of the encoder; None is one.

    Raises:
        ValueError: it is not within `CRF_RANGE`.
    """
    if crf is not None and not CRF_RANGE[0] <= crf <= CRF_RANGE[1]:
        raise ValueError(f"crf: expected {CRF_RANGE[0]} (best) to {CRF_RANGE[1]}, got {crf}")


def check_preset(preset: str | None) -> None:
    """Checks a preset of the H.264 encoder; None is one.

    Raises:
        ValueError: it is none of `PRESETS`.
    """
    if preset is not None and preset not in PRESETS:
        raise ValueError(f"preset: expected one of {', '.join(PRESETS)}, got {preset!r}")


class VideoWriter:
    """Streams frames into a file that appears only when everything went well.

    Args:
        path: the file to write; its ending chooses the container (.mp4 .mov .m4v
            .mkv; labels .mkv; alpha .webm).
        width, height: of the frames, in pixels; an odd size is padded by one row or column (the edge
            repeated) where the codec needs it.
        fps: frames a second.
        audio: (samples float [N] or [N, channels], samples a second); cut or padded with silence to the
            length of the picture. H.264 keeps rates of 32 kHz and more as they are, all else is written at
            48 kHz; one, two and six (5.1) channels stay, other numbers are averaged to one.
        codec: "h264" (RGB in, yuv420p and AAC out), "ffv1" (gray [H, W], lossless), "ffv1-rgb" and
            "ffv1-rgba" (RGB and RGBA, lossless), or "vp9a" (RGBA in, VP9 with alpha and Opus out).
        crf: quality, 0 to 51, lower is better; None is 16, which is nearly transparent, and 20 from a
            megapixel on.
        preset: how much the H.264 encoder looks for smaller files, one of `PRESETS`; None chooses by the
            size of the pictures. Quality is `crf`'s.
        colours: of `Planes` that are written, and of the file.
        metadata: container tags.
        finish: called with the finished file before it takes its place; what it raises leaves nothing.

    Raises:
        ValueError: an unknown codec, preset or quality, a wrong ending, or a frame of the wrong shape or
            dtype.
        FileProblem: the file can't be written (no permission, full disk); nothing is left of it then.

    Example:
        with VideoWriter("out.mp4", 512, 512, audio=(samples, 16000)) as writer:
            for frame in frames:
                writer.write(frame)
    """

    def __init__(
        self,
        path: str | Path,
        width: int,
        height: int,
        fps: float = FPS,
        audio: tuple[np.ndarray, int] | None = None,
        codec: str = "h264",
        crf: int | None = None,
        metadata: dict[str, str] | None = None,
        finish: Callable[[Path], None] | None = None,
        preset: str | None = None,
        colours: Colours = BT709,
    ) -> None:
        check_preset(preset)
        check_crf(crf)
        if codec not in _CODECS:
            raise ValueError(f"VideoWriter: codec must be one of {', '.join(_CODECS)}, got {codec!r}")
        self._spec = _CODECS[codec]
        self.path = Path(path)
        if self.path.suffix.lower() not in self._spec.endings:
            endings = " or ".join(self._spec.endings)
            raise ValueError(f"VideoWriter: {codec} is written to {endings}, got {self.path.name!r}")
        if width < 1 or height < 1 or fps <= 0:
            raise ValueError(f"VideoWriter: size and rate must be positive, got {width} x {height} at {fps}")
        self.width, self.height, self.fps = width, height, Fraction(fps).limit_denominator(1001)
        self._crf, self._metadata, self.frames = crf, metadata or {}, 0
        self._finish, self._temporary = finish, self.path
        self._preset, self._colours = preset, colours
        self._sound = None if audio is None else SoundFeed(*audio, self._spec.audio)
        self._stack = contextlib.ExitStack()
        self._container: Any = None
        self._converter: Any = None

    def __enter__(self) -> VideoWriter:
        import av
        from av.video.reformatter import VideoReformatter

        self._converter = VideoReformatter()
        temporary = self._temporary = self._stack.enter_context(atomic_path(self.path))
        try:
            options = {"movflags": "+faststart+use_metadata_tags"} if self.path.suffix != ".webm" else {}
            # Else Matroska writes a random number into every file, and no dataset has the same hash twice.
            bitexact = {"fflags": "+bitexact"} if self.path.suffix == ".mkv" else {}
            self._container = av.open(
                location(temporary), "w", options=options if "mp4" in self.path.suffix else bitexact
            )
            self._container.metadata.update(self._metadata)
            settings = dict(self._spec.options)
            if self.width * self.height >= LARGE:
                settings |= self._spec.large
            if self._preset is not None and "preset" in settings:
                settings["preset"] = self._preset
            settings |= _BESIDE.get(settings.get("preset", ""), {})
            if self._spec.encoder == "libx264" and min(self.width, self.height) < UNSURE:
                settings["mbtree"] = "0"
            if self._crf is not None and "crf" in settings:
                settings["crf"] = str(self._crf)
            even = 2 if "420" in self._spec.pixels else 1
            video = self._container.add_stream(self._spec.encoder, rate=self.fps, options=settings)
            video.width, video.height = -(-self.width // even) * even, -(-self.height // even) * even
            video.pix_fmt = self._spec.pixels
            video.codec_context.time_base = 1 / self.fps
            video.codec_context.thread_count, video.codec_context.thread_type = THREADS, self._spec.threads
            if "yuv" in self._spec.pixels:
                self._colours.tag(video.codec_context)
            self._video, self._audio = video, None
            if self._sound is not None:
                self._audio = self._sound.stream(self._container)
        except BaseException as error:
            self._abandon(error)
            raise self._problem(error) from error
        return self

    def write(self, frame: np.ndarray | Planes) -> None:
        """Appends one frame.

        Args:
            frame: uint8 [H, W, 3] RGB, [H, W, 4] RGBA for vp9a and ffv1-rgba, [H, W] for ffv1; or, for h264,
                planes in the colours of the file, which are stored as they are.
        """
        import av

        picture = self._stored(frame) if isinstance(frame, Planes) else self._converted(frame)
        picture.pts, picture.time_base = self.frames, 1 / self.fps
        try:
            self._container.mux(self._video.encode(picture))
            self.frames += 1
            self._send_sound()
        except av.error.FFmpegError as error:
            raise self._problem(error) from error

    def _stored(self, planes: Planes) -> Any:
        """The av frame of planes."""
        if planes.shape != (self.height, self.width) or planes.colours != self._colours:
            raise ValueError(
                f"VideoWriter.write: expected planes of {(self.height, self.width)} in {self._colours}, "
                f"got {planes.shape} in {planes.colours}"
            )
        if planes.frame.height == self._video.height and planes.frame.width == self._video.width:
            return planes.frame
        padded = Planes.empty(self._video.height, self._video.width, self._colours)
        for own, part in zip(padded.parts, planes.parts, strict=True):
            rows, columns = own.shape[0] - part.shape[0], own.shape[1] - part.shape[1]
            own[:] = np.pad(part, [(0, rows), (0, columns)], mode="edge")
        return padded.frame

    def _converted(self, frame: np.ndarray) -> Any:
        """The av frame of a picture, in the pixel format of the codec."""
        import av

        shape = (self.height, self.width, *self._spec.channels)
        if frame.dtype != np.uint8 or frame.shape != shape:
            raise ValueError(f"VideoWriter.write: expected uint8 {shape}, got {frame.dtype} {frame.shape}")
        rows, columns = self._video.height - self.height, self._video.width - self.width
        if rows or columns:
            frame = np.pad(frame, [(0, rows), (0, columns), (0, 0)][: frame.ndim], mode="edge")
        kind = {0: "gray", 3: "rgb24", 4: "rgba"}[frame.shape[2] if frame.ndim == 3 else 0]
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format=kind)
        if kind == "gray":
            return picture
        if "yuv" not in self._spec.pixels:
            return self._converter.reformat(picture, format=self._spec.pixels, threads=1)
        return self._converter.reformat(
            picture, format=self._spec.pixels, dst_colorspace="ITU709", dst_color_range="MPEG", threads=1
        )

    def _send_sound(self, last: bool = False) -> None:
        """Encodes the sound up to the picture written so far, so that the file interleaves."""
        if self._audio is None or self._sound is None:
            return
        until = round(self.frames / self.fps * self._sound.rate)
        if not last:
            until -= (until - self._sound.sent) % BLOCK
        self._sound.send(self._container, self._audio, until)

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if value is None:
            try:
                if not self.frames:
                    raise ValueError(f"VideoWriter: not one frame was written to {self.path}")
                self._send_sound(last=True)
                self._container.mux(self._video.encode(None))
                if self._audio is not None:
                    self._container.mux(self._audio.encode(None))
                self._container.close()
                if self._finish is not None:
                    self._finish(self._temporary)
                self._stack.close()
            except BaseException as error:
                self._abandon(error)
                raise self._problem(error) from error
        else:
            self._abandon(value)

    def _abandon(self, error: BaseException) -> None:
        """Closes what is open and removes the file in the making."""
        if self._container is not None:
            with contextlib.suppress(Exception):
                self._container.close()
        with contextlib.suppress(type(error)):
            self._stack.__exit__(type(error), error, error.__traceback__)

    def _problem(self, error: BaseException) -> BaseException:
        return _unwritten(self.path, error)


def _unwritten(path: Path, error: BaseException) -> BaseException:
    """An error of FFmpeg while it writes, as one about the file; any other as it is."""
    import av

    if not isinstance(error, av.error.FFmpegError):
        return error
    if error.errno in FULL_DISK:
        return FileProblem(path, "the disk is full", "free some space, or choose another output path")
    return FileProblem(
        path, f"the video can't be written ({error.strerror})", "choose another output path or size"
    )


def with_sound(video: str | Path, path: str | Path, audio: tuple[np.ndarray, int]) -> None:
    """Writes the pictures of `video` to `path` as they are, not encoded again, with a sound of their length.

    Args:
        video: with H.264 pictures, such as `VideoWriter` wrote.
        path: .mp4, .mov, .m4v or .mkv.
        audio: as for `VideoWriter`.

    Raises:
        FileProblem: `video` can't be read, or `path` can't be written; nothing is left of it then.
    """
    sound = SoundFeed(*audio, "aac")
    with opened(video) as source, atomic_path(path) as temporary:
        try:
            _copied(source, temporary, sound)
        except BaseException as error:
            raise _unwritten(Path(path), error) from error


def _copied(source: Any, temporary: Path, sound: SoundFeed) -> None:
    """The pictures of an open container, and a sound, into a file."""
    import av

    pictures = source.streams.video[0]
    options = {"movflags": "+faststart"} if temporary.suffix != ".mkv" else {"fflags": "+bitexact"}
    with av.open(location(temporary), "w", options=options) as out:
        video_out = out.add_stream_from_template(pictures)
        audio_out = sound.stream(out)
        for packet in source.demux(pictures):
            if packet.dts is None:
                continue
            end = round(float((packet.pts + packet.duration) * packet.time_base) * sound.rate)
            packet.stream = video_out
            out.mux(packet)
            sound.send(out, audio_out, end)
        out.mux(audio_out.encode(None))
