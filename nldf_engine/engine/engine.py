"""The face of the package: load an avatar, give it audio and poses, get a clip.

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
from nldf_engine.engine.profile import Profile, profile
from nldf_engine.engine.renderer import NO_MOTION, NO_UPPER, Poses, Renderer
from nldf_engine.engine.scenes import Given, Setting, scene_of
from nldf_engine.engine.session import FrameStream, Session, Sound
from nldf_engine.geometry.cameras import Camera
from nldf_engine.geometry.poses import check_values
from nldf_engine.geometry.tracks import Track
from nldf_engine.ops.device import choose_device
from nldf_engine.rendering.backgrounds import Background
from nldf_engine.rendering.fields import Conditions

Audio = str | Path | np.ndarray | Tensor | tuple[np.ndarray, int]
"""The path of a sound or video file, (samples [N] or [N, channels], rate), a features file (.npy), or
features [T, 16, D] of the avatar's front-end."""


class Engine:
    """Renders an avatar. Made with `Engine.load`.

    It changes nothing of the avatar: several engines may share one, each with its own device, backend and
    precision, and the weights are in memory once on every device.

    Args:
        avatar: what to render.
        device: where.
        backend: "native" (compiled kernels) or "reference" (plain PyTorch, slow).
        precision: "auto", "fp32", "int16" or "fp16" (see `Engine.load`).
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
            precision: "auto" or "fp32" compute in float32; "int16" multiplies the body of a residual MLP
                in integers, on the CPU: about twice as fast where it is deep, and over 65 dB close; "fp16"
                takes the fused kernels on CUDA, which are not yet measured on a GPU.
            backend: "native" or "reference".
            sparse: radiance fields leave out the rays and samples that their coarse pass finds empty or
                hidden. A trained head is drawn about 1.3 times as fast, over 70 dB close, and so is one on a
                torso's field, whose two passes agree less: over 50 dB (`examples/compare.py`).

        Raises:
            FileProblem: the folder is no usable avatar.
            MissingBackend: a device or backend that is not there.
            ValueError: an unknown device, precision or backend.
        """
        return cls(Avatar.load(path), choose_device(device), backend, precision, sparse)

    @property
    def avatar(self) -> Avatar:
        """What is rendered, as it was given."""
        return self.renderer.avatar

    @property
    def device(self) -> torch.device:
        """Where it is rendered."""
        return self.renderer.device

    @property
    def backend(self) -> str:
        """What computes: "native" or "reference"."""
        return self.renderer.backend

    @property
    def precision(self) -> str:
        """What it is computed in: "fp32", "int16" or "fp16"."""
        return self.renderer.precision

    def describe(self) -> dict[str, Any]:
        """What renders: system, size, device, precision, the kernel of its network, multiply-adds a ray."""
        return self.renderer.describe()

    def features(self, audio: Audio) -> tuple[np.ndarray, tuple[np.ndarray, int] | None]:
        """Features [T, 16, D] for any audio that `render` takes, and the sound that goes with them.

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
        """K, how many motion codes of the mouth a frame has; 0 where the audio drives the head itself."""
        return self.renderer.motion_codes

    @property
    def upper_codes(self) -> int:
        """E, how many codes of brows, lids and gaze a frame has; 0 where the head takes none."""
        return self.renderer.upper_codes

    def motion(self, audio: Audio) -> np.ndarray:
        """The mouth's motion codes [T, K] float32 for any audio that `render` takes, to look at or to edit.

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
        edit: Edit | None = None,
        edges: str = "clean",
    ) -> Clip:
        """A clip of the avatar speaking. Nothing is rendered before its frames are read.

        `eyes`, `motion`, `torso` and `upper` replace a track of the clip, frame by frame; `edit` then changes
        what is there.

        Args:
            audio: path of a sound or video file, (samples, rate), a features file (.npy), or features
                [T, 16, D] of the avatar's front-end.
            poses: None or "track", "still", a path (pose file or dataset), or [T, 4, 4] camera-to-head.
            background: None (the avatar's own), "transparent", a colour, a picture's path or uint8 [H, W, 3].
            size: width in pixels; the avatar's own where None.
            eyes: [T] eye openness (lid gap over eye width; 0 is closed) in the place of the avatar's own
                track and of `edit.eyes`.
            motion: [T, K] motion codes of the mouth, in standard deviations, in the place of those predicted
                from the audio (see `Engine.motion`).
            mouth: how far the mouth moves: 1 as predicted from the speech, 0 closed lips at rest, at most 3.
                Short for `edit.mouth` with this gain, and not together with it.
            torso: [T, 2, 3] motion of the torso in units of the frame's width. Where None, it comes with the
                avatar's own track or that of the dataset it was trained on, or is predicted from the poses.
            upper: [T, E] codes of brows, lids and gaze, in standard deviations, in the place of the avatar's
                own track (see `Engine.upper`).
            edit: changes to how head, eyes, brows and mouth move (see `engine.edits`). Poses beyond the
                training video's are then warned of.
            edges: before another background than the avatar's own, "clean" takes the own one's light from
                hair and rim (`rendering.matte`); "fast" leaves it there, in a third of the time.

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
                "poses: poses that arrive one by one drive Engine.stream; here expected [T, 4, 4] at once, "
                f"got {type(poses).__name__}"
            )
        renderer = self.renderer
        camera = renderer.camera(size)
        behind, plate = renderer.backdrop(background, edges, camera)
        editor = Editor(renderer, edit, poses, mouth)
        features, sound = self.features(audio)
        frames = len(features)
        editor.warn(frames)
        given = Given(
            None if eyes is None else check_values("eyes", eyes, [frames]),
            None if torso is None else check_values("torso", torso, [frames, 2, 3]),
            None if upper is None else _codes("upper", upper, frames, self.upper_codes, NO_UPPER),
            None
            if motion is None
            else _codes("motion", motion, frames, self.motion_codes, NO_MOTION).to(self.device),
            sound,
        )
        scene = scene_of(renderer, features, Setting(camera, editor, behind, plate), given)
        return Clip(Frames(renderer, scene), sound)

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
        """Seconds of sound beyond its moment that a frame needs: what `stream` lags behind by.

        Frame t can be rendered when the sound up to t / 25 + latency has come: the front-end's look-ahead
        and that of the code's neighbours. Sound of another rate than 16 kHz takes an eighth of a second more.

        Raises:
            ValueError: the avatar's audio front-end can't stream.
        """
        return self.renderer.latency

    def session(
        self, poses: Poses | LivePoses = None, *, background: Background = None, size: int | None = None,
        mouth: float = 1.0, edit: Edit | None = None, edges: str = "clean",
    ) -> Session:  # fmt: skip
        """A session: sound is pushed in as it comes, and frames come out; see `Session`.

        Args:
            poses, background, size, mouth, edit, edges: as in `stream`; poses, background and edit may be
                replaced while it runs.

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
            self.renderer, poses, background=background, size=size, mouth=mouth, edit=edit, edges=edges
        )

    def stream(
        self, chunks: Iterable[Sound], poses: Poses | LivePoses = None, *, background: Background = None,
        size: int | None = None, mouth: float = 1.0, edit: Edit | None = None, edges: str = "clean",
        ahead: int = 0,
    ) -> FrameStream:  # fmt: skip
        """Frames of a sound that is still arriving, each as soon as it can be known (see `latency`).

        They are the frames that `render` gives for the whole sound. Frame k belongs to k / 25 s of the
        sound. When the chunks end, silence lies beyond, and the rest follows. It is as lazy as a
        generator: who takes frames slowly takes chunks slowly.

        Args:
            chunks: pieces of sound of any length: float32 [N] mono at 16 kHz, or (samples, rate).
            poses, background, size, mouth, edit, edges: as in `render`; poses are looped for as long as it
                takes. Or an iterator that gives each frame's pose [4, 4], or a `HeadEdit` to add to the own
                track, when the frame is drawn: a head tracker, a game pad (`engine.edits.live`).
            ahead: how many frames a second thread makes ahead of their use; none where 0.

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
            poses, background=background, size=size, mouth=mouth, edit=edit, edges=edges
        )  # fmt: skip
        return FrameStream(session, chunks, ahead)

    def profile(
        self, audio: Audio, poses: Poses = None, *, frames: int = 50, size: int | None = None,
        encode: bool = True,
    ) -> Profile:  # fmt: skip
        """Where a frame's time goes, stage by stage, of the first frames of a sound.

        On a GPU every stage waits for the device at both ends. Where the front-end streams, the sound comes
        in by 40 ms and "audio" is what each frame costs; else it is an equal share of the whole sound's cost.

        Args:
            audio, poses, size: as for `render`.
            frames: how many are measured, behind some others that warm up; fewer where the sound is shorter.
            encode: also encode to H.264, into a file that is thrown away.

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
        """The frames of a sound, and the seconds a frame that were spent on its features beforehand."""
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
    """[T, count] codes that an avatar was given, where its head takes any."""
    if not count:
        raise ValueError(missing)
    return check_values(name, values, [frames, count])
