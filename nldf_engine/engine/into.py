"""A clip inside the video that its avatar was filmed in: heads are pasted into the frames of the source."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import islice

import numpy as np
import torch

from nldf_engine.base.ahead import make_ahead
from nldf_engine.base.clock import FPS
from nldf_engine.base.timing import stage
from nldf_engine.engine.clip import Frames
from nldf_engine.engine.edits.edit import Edit
from nldf_engine.engine.renderer import Renderer, Scene
from nldf_engine.geometry.cameras import Camera
from nldf_engine.geometry.loops import plan_loop
from nldf_engine.geometry.rotations import head_numbers, poses_of
from nldf_engine.geometry.tracks import smooth_motion
from nldf_engine.media.planes import Colours, Planes
from nldf_engine.media.playback import play
from nldf_engine.media.video import decode, make_converter, probe, rgb_of
from nldf_engine.rendering.footage import Footage
from nldf_engine.rendering.paste import REGIONS, Paste

# Frames of the source that are decoded in advance, by a second thread.
DECODED_AHEAD = 3
# Standard deviation in frames under which the region's outline is evened: landmarks jitter, a rim must not.
STEADY = 1.5
# Cameras whose focal lengths or middles differ by more than this share of the width are not the same.
SAME_CAMERA = 2e-3


class Staging:
    """How footage drives a clip of T frames.

    Args:
        footage: the source.
        frames: T.
        camera: the avatar's.

    Attributes:
        loop: which of the footage's frames are shown.
        poses: float32 [T, 4, 4]; eyes: float32 [T]; torso: float32 [T, 2, 3]; landmarks: float32
            [T, 478, 2] pixels of the footage's camera; places: float64 [T, 2, 3], as the footage has them.

    Raises:
        ValueError: the footage was seen by another camera than the avatar, or is too short to loop.
    """

    def __init__(self, footage: Footage, frames: int, camera: Camera) -> None:
        _check_camera(footage.camera, camera)
        self.footage = footage
        try:
            self.loop = plan_loop(footage.poses, footage.eyes, footage.usable, frames, footage.shots)
        except ValueError as error:
            raise ValueError(
                f"into: {footage.path} can't be shown for {frames / FPS:.1f} s: {error}"
            ) from None
        numbers = head_numbers(torch.from_numpy(footage.poses)).numpy()
        self.poses = poses_of(torch.from_numpy(self.loop.blended(numbers))).numpy()
        self.eyes = self.loop.blended(footage.eyes).astype(np.float32)
        self.torso = self.loop.blended(footage.torso).astype(np.float32)
        self.landmarks = self.loop.blended(footage.landmarks).astype(np.float32)
        self.places = self.loop.blended(footage.places)

    def played(self) -> Iterator[Planes]:
        """The footage's frames in the loop's order, each of its own memory."""
        loop, begin = self.loop, self.footage.first
        return play(self.footage.path, begin + loop.first, begin + loop.second, loop.share, FPS)


def _check_camera(source: Camera, own: Camera) -> None:
    def shares(camera: Camera) -> np.ndarray:
        return np.array([camera.fx, camera.fy, camera.cx, camera.cy]) / camera.width

    if np.abs(shares(source) - shares(own)).max() > SAME_CAMERA:
        raise ValueError(
            "into: the dataset was prepared with another camera than the avatar's: expected focal length and "
            f"middle {shares(own).round(4).tolist()} of the width, got {shares(source).round(4).tolist()}; "
            "take the dataset that the avatar was trained on"
        )


def check_into(region: str, poses: object, background: object, edit: Edit | None) -> None:
    """Checks what else `Engine.render` was given beside `into`.

    Raises:
        ValueError: an unknown region, or an argument that footage leaves no room for.
    """
    if region not in REGIONS:
        raise ValueError(f"region: expected one of {', '.join(REGIONS)}, got {region!r}")
    head = None if edit is None or edit.head is None or not edit.head.moves else edit.head
    for name, value in {"poses": poses, "background": background, "edit.head": head}.items():
        if value is not None:
            raise ValueError(f"{name}: with `into`, head and background are the video's; leave it out")


class PastedFrames(Frames):
    """Frames of a clip at the source's own size: the source's, with the avatar's head, face or mouth.

    They are made in their order; a frame further on is reached over all before it.

    Args:
        renderer, scene: of the avatar's pictures, under the poses of `staging`.
        staging: how the source drives them.
        region: "head", "face" or "mouth" (see `rendering.paste`).

    Attributes:
        pictures: the avatar's alone.
        outlines: float32 [T, 478, 2], the face's landmarks as they are pasted by, in units of the square.

    Raises:
        FileProblem: the source can't be read.
    """

    def __init__(self, renderer: Renderer, scene: Scene, staging: Staging, region: str) -> None:
        super().__init__(renderer, scene)
        self.pictures, self.staging, self.region = Frames(renderer, scene), staging, region
        info = probe(staging.footage.path)
        self.shape = (len(scene), info.height, info.width, 3)
        even = smooth_motion(torch.from_numpy(staging.landmarks), STEADY).numpy()
        self.outlines = even / staging.footage.camera.width

    def numbered(self, chosen: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
        """See `Frames`: in rising order."""
        wanted, last = set(chosen), max(chosen, default=-1)
        made = islice(enumerate(self), last + 1)
        return ((number, frame) for number, frame in made if number in wanted)

    @property
    def colours(self) -> Colours:
        """The source's own, where they can be kept."""
        with closing(decode(self.staging.footage.path)) as shots:
            return next(shots).planes().colours

    def __iter__(self) -> Iterator[np.ndarray]:
        return self.reused(1)

    def reused(self, buffers: int) -> Iterator[np.ndarray]:
        """The frames in turn, each of its own memory."""
        converter = make_converter()
        return (rgb_of(frame, converter) for frame in self.film(buffers))

    def film(self, buffers: int) -> Iterator[Planes]:
        """The frames in turn, each of its own memory: the decoder's."""
        footage, places = self.staging.footage, self.staging.places
        paste: Paste | None = None
        with closing(make_ahead(self.staging.played(), DECODED_AHEAD)) as source:
            pictures = self.pictures.reused(1)
            for picture, frame, place, outline in zip(pictures, source, places, self.outlines, strict=True):
                paste = paste or Paste(REGIONS[self.region], frame.colours)
                with stage("paste"):
                    paste(frame.turned(footage.turns), picture, place, outline)
                yield frame
