"""A rendered clip: frames that are made when they are read, and how they become a file."""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np

from nldf_engine.avatar.provenance import Credentials, Origin, can_seal, find_credentials, seal
from nldf_engine.avatar.provenance.origin import COMMENT
from nldf_engine.avatar.provenance.sealing import FORMATS, check_credentials
from nldf_engine.base.ahead import Behind
from nldf_engine.base.clock import FPS
from nldf_engine.base.errors import FileProblem
from nldf_engine.base.files import atomic_folder, check_writable
from nldf_engine.base.progress import track
from nldf_engine.base.timing import stage
from nldf_engine.engine.renderer import Renderer, Scene, drawn_at_once
from nldf_engine.media.pictures import encode_png
from nldf_engine.media.planes import BT709, Colours, Planes
from nldf_engine.media.video import VideoWriter
from nldf_engine.media.video_writer import LARGE, check_crf, check_preset

# Frames between the renderer and the encoder, at least: enough to even out a slow frame on either side.
WAITING = 3
# Of x264, for clips of less than a megapixel: half the time of the writer's "fast", for files 6 to 12 %
# smaller at the same crf and .3 to .7 dB farther from what was rendered.
PRESET = "veryfast"
# Pictures of a sequence: only a folder of these is ever replaced.
PICTURE_NAME = re.compile(r"\d{5,}\.png")


class Frames:
    """Frames of a clip, rendered when they are read: uint8 [T, H, W, 3] (4 when transparent).

    Behaves like a read-only array: `len`, indexing by number or slice, iteration, `numpy.asarray`.

    Args:
        renderer: what renders them.
        scene: what they show; pose of head and torso in each frame.

    Attributes:
        renderer, scene: as given.
        shape: (T, H, W, 3), or (T, H, W, 4) when transparent.
        dtype: uint8.
    """

    def __init__(self, renderer: Renderer, scene: Scene) -> None:
        self.renderer, self.scene = renderer, scene
        channels = 4 if scene.background is None else 3
        self.shape = (len(scene), scene.camera.height, scene.camera.width, channels)
        self.dtype = np.dtype(np.uint8)

    @property
    def origin(self) -> Origin:
        """What makes them: the avatar, and who agreed to it."""
        return self.renderer.avatar.origin

    def __len__(self) -> int:
        return self.shape[0]

    @overload
    def __getitem__(self, index: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, index: slice) -> np.ndarray: ...
    def __getitem__(self, index: int | slice) -> np.ndarray:
        if isinstance(index, slice):
            chosen = range(*index.indices(len(self)))
            out = np.empty((len(chosen), *self.shape[1:]), np.uint8)
            places = {number: place for place, number in enumerate(chosen)}
            for number, frame in self.numbered(chosen):
                out[places[number]] = frame
            return out
        if not -len(self) <= index < len(self):
            raise IndexError(f"frame {index} of a clip of {len(self)} frames")
        return next(frame for _, frame in self.numbered((index % len(self),)))

    def numbered(self, chosen: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
        """The frames of these numbers with their numbers, in an order that suits how they are made."""
        return ((number, self.renderer.frame(self.scene, number)) for number in chosen)

    def __iter__(self) -> Iterator[np.ndarray]:
        for number in range(len(self)):
            yield self.renderer.frame(self.scene, number)

    def reused(self, buffers: int) -> Iterator[np.ndarray]:
        """The frames in turn, in the memory of `buffers` frames: a frame is overwritten that much later.

        For loops that are done with a frame soon: no large memory is allocated after the first ones.
        """
        return self.renderer.frames(self.scene, buffers)

    def film(self, buffers: int) -> Iterator[np.ndarray] | Iterator[Planes]:
        """As `reused`, in the form that a video file takes with the least work."""
        return self.reused(buffers)

    @property
    def colours(self) -> Colours:
        """Those of the file that `film` is written to."""
        return BT709

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        out = self[:]
        return out if dtype is None else out.astype(dtype)


@dataclass(frozen=True)
class Clip:
    """A rendered clip; its frames are made when they are read.

    Args:
        frames: uint8 [T, H, W, 3], or [T, H, W, 4] with straight alpha for a transparent clip.
        audio: (samples [N, channels], rate) that belongs to it, as it was given; None when features drove it.
        fps: frames a second.
    """

    frames: Frames
    audio: tuple[np.ndarray, int] | None
    fps: float = FPS

    def __len__(self) -> int:
        return len(self.frames)

    def __iter__(self) -> Iterator[np.ndarray]:
        return iter(self.frames)

    @property
    def transparent(self) -> bool:
        """Whether the frames carry alpha."""
        return self.frames.shape[3] == 4

    def save(
        self,
        path: str | Path,
        crf: int | None = None,
        provenance: bool = True,
        credentials: Credentials | None = None,
        preset: str | None = None,
    ) -> Path:
        """Writes the clip, whole or not at all.

        Args:
            path: `.mp4` or `.mov` (H.264 + AAC), `.webm` (VP9, with alpha when transparent), or a folder
                (no ending) for a PNG sequence `00000.png`, ...
            crf: the encoder's quality, 0 (best) to 51; None is 16, and 20 from a megapixel on.
            provenance: sign a manifest into .mp4 and .mov that says what made them, and write the same into
                the tags of every file. Without it, only the comment that it is synthetic stays.
            credentials: what signs; those of `provenance.find_credentials` where None.
            preset: of the H.264 encoder, from "medium" (the smallest file) to "ultrafast"; None is
                "veryfast", and "superfast" from a megapixel on. Quality is `crf`'s.

        Returns:
            the path.

        Raises:
            FileProblem: another ending, a transparent clip as mp4, an unwritable place, or credentials that
                C2PA does not take.
        """
        path = check_clip_path(path, self.transparent)
        check_preset(preset)
        check_crf(crf)
        kind = path.suffix.lower()
        if not kind:
            return self._save_pictures(path, provenance)
        codec = "vp9a" if kind == ".webm" else "h264"
        _, height, width, _ = self.frames.shape
        if preset is None and height * width < LARGE:
            preset = PRESET
        origin = self.frames.origin
        tags = origin.tags() if provenance else {"comment": COMMENT}
        with VideoWriter(
            path,
            width,
            height,
            fps=self.fps,
            audio=self.audio,
            codec=codec,
            crf=crf,
            metadata=tags,
            finish=self._sealing(path, credentials) if provenance else None,
            preset=preset,
            colours=self.frames.colours if codec == "h264" else BT709,
        ) as writer:
            if codec == "h264":
                self._send(writer.write, path.name, self.frames.film)
            elif self.transparent:
                self._send(writer.write, path.name, self.frames.reused)
            else:
                self._send(lambda frame: writer.write(_opaque(frame)), path.name, self.frames.reused)
        return path

    def _send(self, use: Callable[[Any], object], name: str, make: Callable[[int], Iterator[Any]]) -> None:
        """Renders here while a second thread writes: the encoders leave Python's lock while they work."""

        def timed(frame: Any) -> None:
            with stage("encode"):
                use(frame)

        # As many as are drawn at once, so that neither side waits.
        waiting = max(WAITING, drawn_at_once(*self.frames.shape[1:3]))
        # One frame is rendered and one written while the others wait: none of them is overwritten early.
        with Behind(timed, waiting) as behind:
            for frame in track(make(waiting + 2), f"render {name}", len(self), unit="frame"):
                behind.put(frame)

    def _sealing(self, path: Path, credentials: Credentials | None) -> Callable[[Path], None] | None:
        """What signs the finished file, checked before anything is rendered; None where nothing can."""
        if path.suffix.lower() not in FORMATS:
            sys.stderr.write(f"{path}: {path.suffix} holds no signed manifest, only unprotected tags\n")
            return None
        if not can_seal():
            install = f"{sys.executable} -m pip install c2pa-python"
            sys.stderr.write(f"{path}: no signed manifest, only unprotected tags. To fix it: {install}\n")
            return None
        credentials = credentials or find_credentials()
        if not credentials.local:
            check_credentials(credentials)
        return lambda finished: seal(finished, self.frames.origin, credentials, path.name)

    def _save_pictures(self, path: Path, provenance: bool) -> Path:
        with atomic_folder(path) as folder:
            numbers = itertools.count()

            def write(frame: np.ndarray) -> None:
                number = next(numbers)
                png = encode_png(frame)
                marked = self.frames.origin.mark_png(png) if provenance else png
                (folder / f"{number:05d}.png").write_bytes(marked)

            self._send(write, path.name, self.frames.reused)
        return path


def check_clip_path(path: str | Path, transparent: bool) -> Path:
    """The path, where a clip can be saved; to be called before anything is rendered.

    Raises:
        FileProblem: an ending that is not written, or one without transparency, or a place where nothing
            can be written or something else would be lost.
    """
    path = Path(path)
    kind = path.suffix.lower()
    if kind not in ("", ".mp4", ".mov", ".webm"):
        raise FileProblem(path, f"a clip can't be written as {kind!r}", "end it in .mp4, .webm or no ending")
    if transparent and kind in (".mp4", ".mov"):
        raise FileProblem(
            path, f"{kind} has no transparency", "write a .webm, or a folder (no ending) for PNG pictures"
        )
    if kind:
        return check_writable(path)
    if not path.name or (
        path.exists() and not (path.is_dir() and all(PICTURE_NAME.fullmatch(p.name) for p in path.iterdir()))
    ):
        raise FileProblem(path, "it exists and holds something else than pictures", "choose another folder")
    return check_writable(path, folder=True)


def _opaque(frame: np.ndarray) -> np.ndarray:
    return np.concatenate([frame, np.full_like(frame[..., :1], 255)], -1)
