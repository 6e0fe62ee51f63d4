"""The main interface: load an avatar, give it audio and poses, get a clip.

engine = Engine.load("avatars/me")
engine.render("speech.wav").save("out.mp4")
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from nldf_engine import audio as audio_module
from nldf_engine.audio import FRONTENDS
from nldf_engine.avatar import Avatar
from nldf_engine.base.clock import FPS, SAMPLE_RATE
from nldf_engine.engine.clip import Clip, Frames
from nldf_engine.engine.edits.edit import Edit, Editor
from nldf_engine.engine.edits.live import LivePoses, is_live
from nldf_engine.engine.into import PastedFrames, Staging, check_into
from nldf_engine.engine.live import LiveSession
from nldf_engine.engine.profile import Profile, profile
from nldf_engine.engine.renderer import NO_LANDMARKS, NO_MOTION, NO_UPPER, Poses, Renderer
from nldf_engine.engine.scenes import Given, Setting, landmarks_of, scene_of
from nldf_engine.engine.session import FrameStream, Session, Sound
from nldf_engine.geometry.cameras import Camera
from nldf_engine.geometry.landmark_files import check_landmarks
from nldf_engine.geometry.poses import check_values
from nldf_engine.geometry.tracks import Track
from nldf_engine.ops.device import choose_device
from nldf_engine.rendering.backgrounds import Background
from nldf_engine.rendering.fields import Conditions
from nldf_engine.rendering.footage import Footage

Audio = str | Path | np.ndarray | Tensor | tuple[np.ndarray, int]
"""The path of a sound or video file, (samples [N] or [N, channels], rate), a features file (.npy), or
features [T, 16, D] of the avatar's front-end."""


class Engine:
    """Renders an avatar. Made with `Engine.load`.

    It does not modify the avatar: several engines may share one, each with its own device, backend and
    precision. Those on the avatar's device share its weights; one on another device has a copy there.

    Args:
        avatar: what to render.
        device: where to render.
        backend: "native" (compiled kernels) or "reference" (plain PyTorch, slow).
        precision: "auto", "fp32", "int16", "int8" or "fp16" (see `Engine.load`).
        sparse: see `Engine.load`.

    Attributes:
        renderer: what draws the frames; it owns the modules.

    Raises:
        ValueError: see `Renderer`.
    """

    def __init__(
        self, avatar: Avatar, device: torch.device, backend: str = "native", precision: str = "auto",
        sparse: bool = False,
    ) -> None:  # fmt: skip
        self.renderer = Renderer(avatar, device, backend, precision, sparse)

    @classmethod
    def load(
        cls, path: str | Path, device: str = "auto", precision: str = "auto", backend: str = "native",
        sparse: bool = False,
    ) -> Engine:  # fmt: skip
        """Loads an avatar folder.

        Args:
            path: the folder that `nldf train` wrote.
            device: "auto" (a GPU where there is one), "cpu", "cuda" or "cuda:N".
            precision: "fp32" computes in float32. "int16" computes the products of a residual MLP's body, and
                of the networks behind grids, in integers, on the CPU: 1.7 times as fast for a deep MLP, 1.4
                for nldf-fast, at over 65 dB PSNR to float32. "int8" does so in 8 bits: 1.8 and 1.6 times as
                fast again on processors with AVX-512 VNNI, at about 50 dB for the MLP and 52 to 57 for
                nldf-fast. "fp16" uses the fused kernels on CUDA, which are not yet measured on a GPU. "auto"
                is what the environment's NLDF_PRECISION says; else "fp16" on a GPU of capability 8.0 or
                newer, and on a CPU "int8" with AVX-512 VNNI where the avatar's pictures in it are within
                53 dB of those in float32, "int16" with AVX2 or AVX-512 VNNI where they are within 50 dB; and
                "fp32" elsewhere.
            backend: "native" or "reference".
            sparse: radiance fields skip the rays and samples that their coarse pass finds empty or hidden. A
                trained head renders about 1.3 times as fast, at over 70 dB PSNR to the full rendering; with
                a torso field, whose two passes agree less, at over 50 dB (`examples/compare.py`).

        Raises:
            FileProblem: the folder is no usable avatar.
            MissingBackend: a device or backend that is not there.
            ValueError: an unknown device, precision or backend; see `Renderer` for more.
        """
        return cls(Avatar.load(path), choose_device(device), backend, precision, sparse)

    @property
    def avatar(self) -> Avatar:
        """The avatar that is rendered, unchanged."""
        return self.renderer.avatar

    @property
    def device(self) -> torch.device:
        """The device that renders."""
        return self.renderer.device

    @property
    def backend(self) -> str:
        """The backend: "native" or "reference"."""
        return self.renderer.backend

    @property
    def precision(self) -> str:
        """The precision: "fp32", "int16", "int8" or "fp16"."""
        return self.renderer.precision

    def describe(self) -> dict[str, Any]:
        """How it renders: system, size, device, precision, the network's kernel, multiply-adds a ray."""
        return self.renderer.describe()

    def features(self, audio: Audio) -> tuple[np.ndarray, tuple[np.ndarray, int] | None]:
        """Features [T, 16, D] for any audio that `render` takes, and the sound that goes with them.

        Those that it computes are a read-only view (see `audio.features`).

        Raises:
            FileProblem: the file can't be read.
            ValueError: features of another shape than the avatar's front-end makes.
        """
        if isinstance(audio, Tensor) and (audio.device.type != "cpu" or audio.requires_grad):
            raise ValueError("audio: expected features on the CPU and without gradient; call .detach().cpu()")
        if isinstance(audio, np.ndarray | Tensor):
            array = np.asarray(audio, np.float32)
            if array.ndim != 3 or not len(array) or not np.isfinite(array).all():
                raise ValueError(
                    f"audio: expected finite features [T, 16, D], a path or (samples, rate), "
                    f"got an array of shape {list(array.shape)}"
                )
            return array, None
        if isinstance(audio, str | Path) and Path(audio).suffix.lower() == ".npy":
            return audio_module.load_features(audio), None
        sound = audio_module.read_sound(audio)
        return audio_module.features(audio_module.speech_of(*sound), self.avatar.frontend), sound

    @property
    def motion_codes(self) -> int:
        """K, the number of motion codes of the mouth a frame; 0 where audio conditions the head directly."""
        return self.renderer.motion_codes

    @property
    def upper_codes(self) -> int:
        """E, the number of codes of brows, lids and gaze a frame; 0 where the head takes none."""
        return self.renderer.upper_codes

    def motion(self, audio: Audio) -> np.ndarray:
        """The mouth's motion codes [T, K] float32 for any audio that `render` takes, to read or edit.

        Raises:
            FileProblem: the file can't be read.
            ValueError: the avatar has no motion codes.

        Example:
            >>> codes = engine.motion("speech.wav")                 # doctest: +SKIP
            >>> codes[:, 1] = 0                                     # doctest: +SKIP
            >>> clip = engine.render("speech.wav", motion=codes)    # doctest: +SKIP
        """
        features = torch.tensor(self.features(audio)[0]).to(self.device)
        still = torch.zeros(len(features), device=self.device)
        return self.renderer.speech_codes(Conditions(features, still)).cpu().numpy()

    def upper(
        self,
        landmarks: ArrayLike | Tensor,
        poses: ArrayLike | Tensor,
        eyes: ArrayLike | Tensor,
        camera: Camera,
    ) -> np.ndarray:
        """Codes [T, E] float32 of brows, lids and gaze as they were tracked in a video of this person.

        Args:
            landmarks: [T, 478, 2] pixels of `camera`.
            poses: [T, 4, 4] camera to head.
            eyes: [T] eye openness.
            camera: the view of the video.

        Raises:
            ValueError: the avatar has no such codes, or landmarks of another shape.
        """
        basis = self.renderer.upper_basis
        if basis is None:
            raise ValueError(
                "upper: this avatar has no codes of the upper face; --set upper_codes=4 trains them"
            )
        seen, turned, open_ = (
            torch.as_tensor(np.asarray(values, np.float32)).to(self.device)
            for values in (landmarks, poses, eyes)
        )
        return basis.track(seen, turned, camera, open_).cpu().numpy()

    def landmarks(self, audio: Audio, eyes: ArrayLike | Tensor | None = None) -> np.ndarray:
        """The face's 68 landmarks [T, 68, 3] float32 for any audio that `render` takes, to read or edit.

        They are in iBUG's order (`geometry.face_mesh.MARKS`), metres in head space: x to the picture's
        right, y down, z away from the camera. `geometry.landmark_files` keeps them in files.

        Args:
            audio: as for `render`.
            eyes: [T] eye openness; None for that of the avatar's own track.

        Raises:
            FileProblem: the file can't be read.
            ValueError: the avatar is not driven by landmarks, or eyes of another shape.

        Example:
            >>> track = engine.landmarks("speech.wav")                      # doctest: +SKIP
            >>> track[:, 17:27, 1] -= 0.003                                 # doctest: +SKIP
            >>> clip = engine.render("speech.wav", landmarks=track)         # doctest: +SKIP
        """
        if self.renderer.landmark_part is None:
            raise ValueError(NO_LANDMARKS)
        windows = self.features(audio)[0]
        own = Editor(self.renderer).track(torch.arange(len(windows))).eyes
        open_ = own if eyes is None else check_values("eyes", eyes, [len(windows)])
        return landmarks_of(self.renderer, windows, open_).cpu().numpy()

    def render(
        self,
        audio: Audio,
        poses: Poses = None,
        *,
        background: Background = None,
        size: int | None = None,
        eyes: ArrayLike | Tensor | None = None,
        motion: ArrayLike | Tensor | None = None,
        mouth: float = 1.0,
        torso: ArrayLike | Tensor | None = None,
        upper: ArrayLike | Tensor | None = None,
        landmarks: ArrayLike | Tensor | None = None,
        edit: Edit | None = None,
        edges: str = "clean",
        into: Footage | None = None,
        region: str = "face",
    ) -> Clip:
        """A clip of the avatar speaking. Frames are rendered when they are read.

        `eyes`, `motion`, `torso`, `upper` and `landmarks` replace a track of the clip, frame by frame;
        `edit` is applied after that.

        Args:
            audio: path of a sound or video file, (samples, rate), a features file (.npy), or features
                [T, 16, D] of the avatar's front-end.
            poses: None or "track", "still", a path (pose file or dataset), or [T, 4, 4] camera-to-head.
            background: None (the avatar's own), "transparent", a colour, a picture's path or uint8 [H, W, 3].
            size: width in pixels; the avatar's own where None.
            eyes: [T] eye openness (lid gap over eye width; 0 is closed), instead of the avatar's own track
                and of `edit.eyes`.
            motion: [T, K] motion codes of the mouth, in standard deviations, instead of those predicted
                from the audio (see `Engine.motion`).
            mouth: how far the mouth moves: 1 as predicted from the speech, 0 closed lips at rest, at most 3.
                Shorthand for `edit.mouth` with this gain; give only one of the two.
            torso: [T, 2, 3] motion of the torso in units of the frame's width. None takes the tracked
                motion where poses are the avatar's own track or its training dataset's, else predicts it from
                the poses.
            upper: [T, E] codes of brows, lids and gaze, in standard deviations, instead of the avatar's
                own track (see `Engine.upper`).
            landmarks: [T, 68, 3] metres in head space, instead of those made of audio and eyes (see
                `Engine.landmarks`); those beyond the training video's give a warning.
            edit: changes to how head, eyes, brows and mouth move (see `engine.edits`). Poses beyond
                those of the training video then give a warning.
            edges: with a background that is not the avatar's own, "clean" removes the colour that the own
                one left on hair and outline (`rendering.matte`); "fast" keeps it, and takes a third of the
                time.
            into: the video that the avatar was filmed in (`datasets.footage_of`): heads are pasted into its
                frames, which keep their size, and are looped where the sound is longer. It has poses, eyes,
                torso and background; `edit` may not move the head.
            region: how much of the picture is the avatar's then: "head", "face" or "mouth".

        Returns:
            Clip of round(seconds * 25) frames.

        Raises:
            FileProblem: a file that can't be used.
            ValueError: a wrong shape, size or value, or codes for an avatar that has none.

        Example:
            >>> engine = Engine.load("avatars/me")                      # doctest: +SKIP
            >>> clip = engine.render("speech.wav", background="navy")   # doctest: +SKIP
            >>> clip.save("out.mp4")                                    # doctest: +SKIP
        """
        if is_live(poses):
            raise ValueError(
                "poses: an iterator of poses is for Engine.stream; here expected [T, 4, 4] at once, "
                f"got {type(poses).__name__}"
            )
        renderer = self.renderer
        camera = renderer.camera(size)
        behind, plate = renderer.backdrop(background, edges, camera)
        editor = Editor(renderer, edit, poses, mouth)
        if into is not None:
            check_into(region, poses, background, edit)
        features, sound = self.features(audio)
        frames = len(features)
        staging = None if into is None else self._staged(into, region, frames)
        if staging is not None:
            editor = Editor(renderer, edit, staging.track, mouth)
        editor.warn(frames)
        given = self._given(frames, sound, eyes, torso, upper, motion, landmarks)
        scene = scene_of(renderer, features, Setting(camera, editor, behind, plate), given)
        if staging is None:
            return Clip(Frames(renderer, scene), sound)
        return Clip(PastedFrames(renderer, scene, staging), sound)

    def _staged(self, into: Footage, region: str, frames: int | None = None) -> Staging:
        """How footage drives a clip of so many frames, or a session."""
        upper = self.upper if self.upper_codes else None
        return Staging(into, frames, self.renderer.avatar.camera, region, upper)

    def _given(
        self, frames: int, sound: tuple[np.ndarray, int] | None, eyes: ArrayLike | Tensor | None,
        torso: ArrayLike | Tensor | None, upper: ArrayLike | Tensor | None,
        motion: ArrayLike | Tensor | None, landmarks: ArrayLike | Tensor | None,
    ) -> Given:  # fmt: skip
        """The tracks of `render` that take the place of a clip's own, checked."""
        return Given(
            None if eyes is None else check_values("eyes", eyes, [frames]),
            None if torso is None else check_values("torso", torso, [frames, 2, 3]),
            None if upper is None else _codes("upper", upper, frames, self.upper_codes, NO_UPPER),
            None
            if motion is None
            else _codes("motion", motion, frames, self.motion_codes, NO_MOTION).to(self.device),
            sound,
            None if landmarks is None else self._landmarks(landmarks, frames),
        )

    def _landmarks(self, landmarks: ArrayLike | Tensor, frames: int) -> Tensor:
        if self.renderer.landmark_part is None:
            raise ValueError(NO_LANDMARKS)
        given = check_landmarks(landmarks)
        if len(given) != frames:
            raise ValueError(f"landmarks: expected {frames} frames, as the sound has, got {len(given)}")
        return given.to(self.device)

    def open_track(
        self, poses: Poses = None, smooth: float = 0.0, centred: bool = False
    ) -> Callable[[Tensor], Track]:
        """How head, eyes and torso move under `poses` (as in `render`), for any frame numbers [N] int64.

        Args:
            poses: as in `render`.
            smooth, centred: see `edits.HeadEdit`.

        Raises:
            FileProblem, ValueError: poses that can't be used.
        """
        return self.renderer.open_track(poses, smooth, centred)

    @property
    def latency(self) -> float:
        """Seconds of sound that a frame needs beyond its own time: the delay of `stream`.

        Frame t can be rendered when the sound up to t / 25 + latency has arrived. It is the look-ahead of the
        front-end and of the driver. Sound of another rate than 16 kHz takes an eighth of a second more.

        Raises:
            ValueError: the avatar's audio front-end can't stream.
        """
        return self.renderer.latency

    def session(
        self, poses: Poses | LivePoses = None, *, background: Background = None, size: int | None = None,
        mouth: float = 1.0, edit: Edit | None = None, edges: str = "clean", into: Footage | None = None,
        region: str = "face",
    ) -> Session:  # fmt: skip
        """A session: sound is pushed in as it arrives, and frames come out; see `Session`.

        Args:
            poses, background, size, mouth, edit, edges, into, region: as in `stream`; poses, background and
                edit may be replaced while it runs.

        Raises:
            FileProblem: a file that can't be used.
            ValueError: a wrong shape, size or value, or the avatar's audio front-end can't stream.

        Example:
            >>> session = engine.session(size=256)                      # doctest: +SKIP
            >>> for frame in session.push(samples):                     # doctest: +SKIP
            ...     show(frame.picture, at=frame.time)
            >>> session.background = "navy"                             # doctest: +SKIP
        """
        return Session(
            self.renderer, poses, background=background, size=size, mouth=mouth, edit=edit, edges=edges,
            staging=None if into is None else self._staged(into, region),
        )  # fmt: skip

    def live(
        self, poses: Poses | LivePoses = None, *, into: Footage | None = None, region: str = "face",
        **settings: Any,
    ) -> LiveSession:  # fmt: skip
        """A live conversation: sound is pushed in at any pace, frames with their sound come out on a clock.

        Args:
            poses, into, region: as in `stream`.
            settings: see `LiveSession`.

        Raises:
            FileProblem: a file that can't be used.
            TypeError: an unknown setting.
            ValueError: a wrong shape, size or value, or the avatar's audio front-end can't stream.

        Example:
            >>> live = engine.live(rate=24_000, size=256)               # doctest: +SKIP
            >>> live.push((samples, 24_000))                            # doctest: +SKIP
            >>> frame = live.take()                                     # doctest: +SKIP
            >>> live.interrupt()                                        # doctest: +SKIP
        """
        staging = None if into is None else self._staged(into, region)
        return LiveSession(self.renderer, poses, staging=staging, **settings)

    def stream(
        self, chunks: Iterable[Sound], poses: Poses | LivePoses = None, *, background: Background = None,
        size: int | None = None, mouth: float = 1.0, edit: Edit | None = None, edges: str = "clean",
        ahead: int = 0, into: Footage | None = None, region: str = "face",
    ) -> FrameStream:  # fmt: skip
        """Frames of a sound that is still arriving, each as early as possible (see `latency`).

        They equal the frames that `render` gives for the whole sound (in int16 but for one level of 255 in
        few pixels, in int8 a few). Frame k is at k / 25 s of the sound.
        When the chunks end, the last frames are rendered as if silence followed. It is lazy, like a
        generator: a chunk is taken when a frame needs it.

        Args:
            chunks: pieces of sound of any length: float32 [N] mono at 16 kHz, or (samples, rate).
            poses, background, size, mouth, edit, edges: as in `render`; poses are looped as often as
                needed. Poses may also be an iterator, such as a head tracker or a game pad, that gives each
                frame's pose [4, 4], or a `HeadEdit` to add to the avatar's own track, when the frame is
                drawn (`engine.edits.live`).
            ahead: how many frames a second thread renders in advance; 0 for no thread.
            into, region: as in `render`; since nobody knows for how long, the video is looped as soon as it
                can be done well, also where it would have lasted.

        Returns:
            FrameStream, an iterator of uint8 [H, W, 3] (4 when transparent).

        Raises:
            FileProblem: a file that can't be used.
            ValueError: a wrong shape, size or value, or the avatar's audio front-end can't stream.

        Example:
            >>> with engine.stream(microphone(), ahead=2) as frames:    # doctest: +SKIP
            ...     for frame in frames:
            ...         show(frame, at=frames.time)
        """
        session = self.session(
            poses, background=background, size=size, mouth=mouth, edit=edit, edges=edges, into=into,
            region=region,
        )  # fmt: skip
        return FrameStream(session, chunks, ahead)

    def profile(
        self, audio: Audio, poses: Poses = None, *, frames: int = 50, size: int | None = None,
        encode: bool = True,
    ) -> Profile:  # fmt: skip
        """Measures the time of each stage of a frame, over the first frames of a sound.

        On a GPU every stage synchronises with the device at both ends. Where the front-end streams, the sound
        arrives in chunks of 40 ms and "audio" is what each frame costs; else it is an equal share of the
        whole sound's cost.

        Args:
            audio, poses, size: as for `render`.
            frames: how many are measured, after some for warm-up; fewer where the sound is shorter.
            encode: also encode to H.264, into a temporary file.

        Raises:
            FileProblem, ValueError: as `render`; or no frame is left to measure.
        """
        wait = torch.cuda.synchronize if self.device.type == "cuda" else None
        return profile(
            lambda: self._begin_frames(audio, poses, size), frames=frames, encode=encode, wait=wait
        )  # fmt: skip

    def _begin_frames(
        self, audio: Audio, poses: Poses, size: int | None
    ) -> tuple[Iterator[np.ndarray], float]:
        """The frames of a sound, and the seconds a frame that its features took before the first one."""
        streams = FRONTENDS[self.avatar.frontend.name].stream is not None
        if streams and not isinstance(audio, np.ndarray | Tensor) and Path(str(audio)).suffix != ".npy":
            speech = audio_module.speech_of(*audio_module.read_sound(audio))
            step = round(SAMPLE_RATE / FPS)
            chunks = (speech[first : first + step] for first in range(0, len(speech), step))
            return self.stream(chunks, poses, size=size), 0.0
        start = time.perf_counter()
        clip = self.render(audio, poses, size=size)
        return iter(clip.frames), (time.perf_counter() - start) / len(clip)


def _codes(name: str, values: ArrayLike | Tensor, frames: int, count: int, missing: str) -> Tensor:
    """Checks codes [T, count]; `missing` is the error where the avatar has none."""
    if not count:
        raise ValueError(missing)
    return check_values(name, values, [frames, count])
