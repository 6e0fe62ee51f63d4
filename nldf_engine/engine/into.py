"""A clip inside the video that its avatar was filmed in: heads are pasted into the frames of the source."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from nldf_engine.base.ahead import make_ahead
from nldf_engine.base.clock import FPS
from nldf_engine.base.timing import stage
from nldf_engine.engine.clip import Frames
from nldf_engine.engine.edits.edit import Edit
from nldf_engine.engine.renderer import Renderer, Scene
from nldf_engine.geometry.cameras import Camera
from nldf_engine.geometry.loops import plan_loop
from nldf_engine.geometry.rotations import head_numbers, poses_of
from nldf_engine.geometry.tracks import Track, smooth_motion
from nldf_engine.media.planes import Colours, Planes
from nldf_engine.media.playback import play
from nldf_engine.media.video import decode, make_converter, probe, rgb_of
from nldf_engine.rendering.footage import Footage
from nldf_engine.rendering.paste import REGIONS, Paste

# Frames of the source that are decoded in advance, by a second thread: of a clip, and for one that may not
# pause where the source jumps and is read from an earlier key frame on, at most so many, and so many bytes.
DECODED_AHEAD = 3
LIVE_AHEAD, LIVE_BYTES = 64, 96 << 20
# Standard deviation in frames under which the region's outline is evened: landmarks jitter, a rim must not.
STEADY = 1.5
# Cameras whose focal lengths or middles differ by more than this share of the width are not the same.
SAME_CAMERA = 2e-3

UpperOf = Callable[[np.ndarray, np.ndarray, np.ndarray, Camera], np.ndarray]


class Staging:
    """How footage drives a clip, of T frames or without end.

    Args:
        footage: the source.
        frames: T; None for as long as anybody asks.
        camera: the avatar's.
        region: "head", "face" or "mouth" (see `rendering.paste`).
        upper: codes [N, E] of brows, lids and gaze of landmarks, poses and eyes seen by a camera (see
            `Engine.upper`); None where the avatar has none.

    Attributes:
        footage, region: as given.
        loop: which of the footage's frames are shown.

    Raises:
        ValueError: the footage was seen by another camera than the avatar, or is too short to loop.
    """

    def __init__(
        self, footage: Footage, frames: int | None, camera: Camera, region: str, upper: UpperOf | None = None
    ) -> None:
        _check_camera(footage.camera, camera)
        self.footage, self.region = footage, region
        try:
            loop = plan_loop(footage.poses, footage.eyes, footage.usable, frames, footage.shots)
        except ValueError as error:
            how_long = "without end" if frames is None else f"for {frames / FPS:.1f} s"
            raise ValueError(f"into: {footage.path} can't be shown {how_long}: {error}") from None
        self.loop = loop
        numbers = head_numbers(torch.from_numpy(footage.poses)).numpy()
        poses = poses_of(torch.from_numpy(loop.blended(numbers)))
        eyes, torso, landmarks = (
            loop.blended(values).astype(np.float32)
            for values in (footage.eyes, footage.torso, footage.landmarks)
        )
        codes = None if upper is None else upper(landmarks, poses.numpy(), eyes, footage.camera)
        self._track = Track(
            poses, torch.from_numpy(eyes), torch.from_numpy(torso),
            upper=None if codes is None else torch.from_numpy(codes),
        )  # fmt: skip
        self._squares = loop.blended(footage.places)
        # Behind its last step, a plan that is repeated goes on with the first of those that are.
        onward = landmarks[loop.places(np.arange(len(loop) + (math.ceil(4 * STEADY) if loop.cycle else 0)))]
        even = smooth_motion(torch.from_numpy(onward), STEADY).numpy()[: len(loop)]
        self._outlines = even / footage.camera.width

    def track(self, index: Tensor) -> Track:
        """Head, eyes, torso and upper face in the frames numbered `index` [N] int64."""
        place = torch.from_numpy(self.loop.places(index.numpy()))
        own = self._track
        upper = None if own.upper is None else own.upper[place]
        return Track(own.poses[place], own.eyes[place], own.torso[place], upper=upper)

    def spot(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Where the square is in a frame, float64 [2, 3] as the footage has it, and the face's landmarks in
        it, float32 [478, 2], evened over time, in units of its side."""
        place = int(self.loop.places(np.array(number)))
        return self._squares[place], self._outlines[place]

    def played(self) -> Iterator[Planes]:
        """The footage's frames in the loop's order, each of its own memory."""
        return play(self.footage.path, self.loop.steps(), FPS, self.footage.first)


class Pasting:
    """Pastes an avatar's pictures into the footage of a staging, in their order.

    Args:
        staging: how the footage is shown.
        live: there may be no pause where the footage jumps.

    Attributes:
        staging: as given.
        size: (width, height) of the frames.

    Raises:
        FileProblem: the footage can't be read.
    """

    def __init__(self, staging: Staging, live: bool = False) -> None:
        self.staging = staging
        info = probe(staging.footage.path)
        self.size, ahead = (info.width, info.height), DECODED_AHEAD
        if live:
            ahead = max(ahead, min(LIVE_AHEAD, LIVE_BYTES // (info.width * info.height * 3 // 2)))
        self._source = make_ahead(staging.played(), ahead)
        self._number = 0
        self._paste: Paste | None = None
        self._converter = make_converter()

    def __call__(self, number: int, picture: np.ndarray) -> Planes:
        """Frame `number`, later than the one before, with a picture uint8 [S, S, 3] in it.

        Raises:
            FileProblem: the footage can't be read.
        """
        for _ in range(number - self._number):
            next(self._source)
        frame, self._number = next(self._source), number + 1
        place, outline = self.staging.spot(number)
        if self._paste is None:
            self._paste = Paste(REGIONS[self.staging.region], frame.colours)
        with stage("paste"):
            self._paste(frame.turned(self.staging.footage.turns), picture, place, outline)
        return frame

    def shown(self, number: int, picture: np.ndarray) -> np.ndarray:
        """As a call, but uint8 [H, W, 3] RGB."""
        return rgb_of(self(number, picture), self._converter)

    def close(self) -> None:
        """Ends the reading in advance."""
        with contextlib.suppress(ValueError):  # another thread takes a frame just now
            self._source.close()


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
    """Checks what else a clip or session was given beside footage.

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
        renderer, scene: of the avatar's pictures, under the track of `staging`.
        staging: how the source drives them.

    Attributes:
        pictures: the avatar's alone.
        staging: as given.

    Raises:
        FileProblem: the source can't be read.
    """

    def __init__(self, renderer: Renderer, scene: Scene, staging: Staging) -> None:
        super().__init__(renderer, scene)
        self.pictures, self.staging = Frames(renderer, scene), staging
        info = probe(staging.footage.path)
        self.shape = (len(scene), info.height, info.width, 3)

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
        with closing(Pasting(self.staging)) as pasting:
            for number, picture in enumerate(self.pictures.reused(1)):
                yield pasting.shown(number, picture)

    def film(self, buffers: int) -> Iterator[Planes]:
        """The frames in turn, each of its own memory: the decoder's."""
        with closing(Pasting(self.staging)) as pasting:
            for number, picture in enumerate(self.pictures.reused(1)):
                yield pasting(number, picture)
