"""The face of the package: load an avatar, give it audio and poses, get a clip.

engine = Engine.load("avatars/me")
engine.render("speech.wav").save("out.mp4")
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nldf_engine import audio as audio_module
from nldf_engine import ops
from nldf_engine.avatar import Avatar
from nldf_engine.base.timing import stage
from nldf_engine.datasets.foreign import driving_poses
from nldf_engine.engine.clip import FPS, LARGEST_SIDE, Clip, Frames, Scene, check_clip_path, check_size
from nldf_engine.engine.edits.edit import NO_MOTION, Edit, Editor
from nldf_engine.engine.edits.upper import NO_UPPER
from nldf_engine.engine.profile import Profile, profile
from nldf_engine.engine.session import FrameStream, Setting, latency, render_stream
from nldf_engine.geometry.cameras import Camera
from nldf_engine.geometry.poses import check_values
from nldf_engine.geometry.tracks import Track, open_track, smooth_motion
from nldf_engine.nn.planes import PlanesModule
from nldf_engine.nn.resmlp import ResMLP
from nldf_engine.ops.device import choose_device
from nldf_engine.rendering.backgrounds import resolve_background
from nldf_engine.rendering.fields import Conditions
from nldf_engine.rendering.layer import straight
from nldf_engine.rendering.matte import clean_layer
from nldf_engine.rendering.portrait import Portrait, to_uint8
from nldf_engine.systems.common.motion import UpperBasis

__all__ = [
    "FPS", "LARGEST_SIDE", "Clip", "Engine", "Frames", "check_clip_path", "check_size", "choose_device",
]  # fmt: skip
# Shoulders follow the head with more weight behind them: what is predicted from its pose is smoothed so.
TORSO_SMOOTHING = 3.0
PRECISIONS = {"auto": "fp32", "fp32": "fp32", "int16": "int16", "fp16": "fp16"}
# Where each precision beside fp32 is computed.
WHERE = {"int16": "cpu", "fp16": "cuda"}


class Engine:
    """Renders an avatar. Made with `Engine.load`.

    Args:
        avatar: what to render.
        device: where.
        backend: "native" (compiled kernels) or "reference" (their slow PyTorch twins).
        precision: "auto", "fp32", "int16" or "fp16" (see `Engine.load`).
        sparse: see `Engine.load`.
    """

    def __init__(
        self, avatar: Avatar, device: torch.device, backend: str = "native", precision: str = "auto",
        sparse: bool = False,
    ) -> None:  # fmt: skip
        if precision not in PRECISIONS:
            known = ", ".join(map(repr, PRECISIONS))
            raise ValueError(f"precision: expected one of {known}, got {precision!r}")
        if backend not in ("native", "reference"):
            raise ValueError(f"backend: expected 'native' or 'reference', got {backend!r}")
        self.avatar, self.device, self.backend = avatar, device, backend
        self._edited_portrait: Portrait | None = None  # see engine.edits.unseen
        self._portrait = avatar.portrait.to(device).eval()
        self._portrait.field.backend = backend  # type: ignore[attr-defined]
        self._portrait.torso.backend = backend
        self.precision = PRECISIONS[precision]
        self._networks = [m for m in self._portrait.modules() if isinstance(m, ResMLP)]
        wanted = WHERE.get(self.precision, device.type)
        planes = [m for m in self._portrait.modules() if isinstance(m, PlanesModule)]
        self._computing: list[ResMLP | PlanesModule] = [*self._networks, *planes]
        chosen: list[ResMLP | PlanesModule] = [*self._networks, *(planes if self.precision == "fp16" else [])]
        fits = chosen and device.type == wanted and ops.native.use_native("Engine", backend)
        if self.precision != "fp32" and not fits:
            raise ValueError(
                f"precision: {precision!r} needs an avatar with a residual MLP (fp16: or grids), device "
                f"{wanted!r} and backend 'native', got a {avatar.system} avatar, {device} and {backend!r}"
            )
        for network in chosen:
            network.precision = self.precision
        marched: list[Any] = [m for m in self._portrait.modules() if hasattr(m, "sparse")]
        if sparse and not marched:
            raise ValueError(f"sparse: only radiance fields have samples to leave out, not {avatar.system}")
        for field in marched:
            field.sparse = sparse

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
                torso's field, of which both passes tell less alike: over 50 dB (`examples/compare.py`).

        Raises:
            FileProblem: the folder is no usable avatar.
            MissingBackend: a device or backend that is not there.
            ValueError: an unknown device, precision or backend.
        """
        return cls(Avatar.load(path), choose_device(device), backend, precision, sparse)

    def describe(self) -> dict[str, Any]:
        """What renders: system, size, device, precision, the kernel of its network, multiply-adds a ray."""
        camera = self.avatar.camera
        return {
            "system": self.avatar.system,
            "size": [camera.width, camera.height],
            "device": str(self.device),
            "backend": self.backend,
            "precision": self.precision,
            "kernel": self._computing[0].kernel(self.device, self.backend) if self._computing else "torch",
            "macs_per_ray": int(self._portrait.field.macs),  # type: ignore[attr-defined]
            "audio": self.avatar.frontend.to_json(),
        }

    def features(self, audio: Any) -> tuple[np.ndarray, tuple[np.ndarray, int] | None]:
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
        """K, numbers a frame that tell the mouth's motion; 0 where the audio drives the field itself."""
        return int(self._portrait.field.config.conditions.motion)  # type: ignore[attr-defined]

    @property
    def upper_codes(self) -> int:
        """E, numbers a frame that tell brows, lids and gaze; 0 where the field is not told them."""
        return int(self._portrait.field.config.conditions.upper)  # type: ignore[attr-defined]

    @torch.no_grad()
    def motion(self, audio: Any) -> np.ndarray:
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
        return self._speech(Conditions(features, still)).cpu().numpy()

    def _speech(self, conditions: Conditions) -> Tensor:
        if not self.motion_codes:
            raise ValueError(NO_MOTION)
        every = torch.arange(len(conditions), device=self.device)
        return self._portrait.field.encoder.motion(conditions, every)  # type: ignore[attr-defined]

    def upper(self, landmarks: Any, poses: Any, eyes: Any, camera: Camera) -> np.ndarray:
        """Codes [T, E] float32 of brows, lids and gaze as they were tracked in a video of this person.

        Args:
            landmarks: [T, 478, 2] pixels of `camera`.
            poses: [T, 4, 4] camera to head.
            eyes: [T] eye openness.
            camera: the view of the video.

        Raises:
            ValueError: the avatar's field is not told them, or landmarks of another shape.
        """
        if not self.upper_codes:
            raise ValueError(
                "upper: this avatar has no codes of the upper face; --set upper_codes=4 trains them"
            )
        basis: UpperBasis = self._portrait.field.encoder.upper  # type: ignore[attr-defined]
        given = (torch.as_tensor(np.asarray(values, np.float32)) for values in (landmarks, poses, eyes))
        landmarks, poses, eyes = (values.to(self.device) for values in given)
        return basis.track(landmarks, poses, camera, eyes).cpu().numpy()

    @torch.no_grad()
    def render(
        self,
        audio: Any,
        poses: Any = None,
        *,
        background: Any = None,
        size: int | None = None,
        eyes: Any = None,
        motion: Any = None,
        mouth: float = 1.0,
        torso: Any = None,
        upper: Any = None,
        edit: Edit | None = None,
        edges: str = "clean",
    ) -> Clip:
        """A clip of the avatar speaking. Nothing is rendered before its frames are read.

        Args:
            audio: path of a sound or video file, (samples, rate), a features file (.npy), or features
                [T, 16, D] of the avatar's front-end.
            poses: None or "track", "still", a path (pose file or dataset), or [T, 4, 4] camera-to-head.
            background: None (the avatar's own), "transparent", a colour, a picture's path or uint8 [H, W, 3].
            size: width in pixels; the avatar's own where None.
            eyes: [T] eye openness; the avatar's own track, or `edit.eyes`, where None.
            motion: [T, K] motion codes of the mouth in the audio's place (see `Engine.motion`).
            mouth: how far the mouth moves: 1 as told by the speech, 0 closed lips at rest.
            torso: [T, 2, 3] motion of the torso in units of the frame's width. Where None, it comes with the
                avatar's own track or that of the dataset it was trained on, or is predicted from the poses.
            edit: changes to how head, eyes, brows and mouth move (see `engine.edits`). Poses beyond the
                training video's are then warned of.
            edges: before another background than the avatar's own, "clean" takes the own one's light from
                hair and rim (`rendering.matte`); "fast" leaves it there, in a third of the time.

        Returns:
            Clip of round(seconds * 25) frames.

        Raises:
            FileProblem: a file that can't be used.
            ValueError: a wrong shape, size or value.

        Example:
            >>> engine = Engine.load("avatars/me")                      # doctest: +SKIP
            >>> clip = engine.render("speech.wav", background="navy")   # doctest: +SKIP
            >>> clip.save("out.mp4")                                    # doctest: +SKIP
        """
        camera = self._camera(size)
        behind, plate = self._plates(background, edges, camera)
        editor = Editor(self, edit, mouth)
        features, sound = self.features(audio)
        frames = len(features)
        every = torch.arange(frames)
        editor.warn(poses, frames)
        driven = editor.track(poses)(every)
        lids = driven.eyes if eyes is None else check_values("eyes", eyes, [frames])
        moved = driven.torso if torso is None else check_values("torso", torso, [frames, 2, 3])
        told = driven.upper
        if upper is not None:
            told = editor.upper(every, _codes("upper", upper, frames, self.upper_codes))
        motion = (
            None if motion is None else _codes("motion", motion, frames, self.motion_codes).to(self.device)
        )
        conditions = Conditions(torch.tensor(features), lids, upper=told).to(self.device)
        free = editor.free(features, sound)
        conditions = editor.conditions(conditions, motion, every, free)
        scene = Scene(
            camera,
            driven.poses.to(self.device),
            self._portrait.field.encode_frames(conditions),
            moved.to(self.device),
            behind,
            driven.views,
            plate,
            editor.portrait,
        )
        return Clip(Frames(self, scene), sound)

    @torch.no_grad()
    def open_track(self, poses: Any, smooth: float = 0.0, centred: bool = False) -> Callable[[Tensor], Track]:
        """How head, eyes and torso move under `poses` (as in `render`), for any frame numbers [N] int64.

        Args:
            poses: as in `render`.
            smooth, centred: see `editing.HeadEdit`.
        """
        avatar = self.avatar

        def predict(of: Tensor) -> Tensor:
            motion = self._portrait.torso.predict_motion(of.to(self.device))
            return smooth_motion(motion, TORSO_SMOOTHING).cpu()

        return open_track(driving_poses(poses), avatar.track(predict), predict, smooth, centred)

    @property
    def latency(self) -> float:
        """Seconds of sound beyond its moment that a frame needs: what `stream` lags behind by.

        Frame t can be rendered when the sound up to t / 25 + latency has come: the front-end's look-ahead
        and that of the code's neighbours. Sound of another rate than 16 kHz takes an eighth of a second more.

        Raises:
            ValueError: the avatar's audio front-end can't stream.
        """
        return latency(self)

    def stream(
        self, chunks: Iterable[Any], poses: Any = None, *, background: Any = None, size: int | None = None,
        mouth: float = 1.0, edit: Edit | None = None, edges: str = "clean", ahead: int = 0,
    ) -> FrameStream:  # fmt: skip
        """Frames of a sound that is still arriving, each as soon as it can be known (see `latency`).

        They are the frames that `render` gives for the whole sound. Frame k belongs to k / 25 s of the
        sound. When the chunks end, silence lies beyond, and the rest follows. It is as lazy as a
        generator: who takes frames slowly takes chunks slowly.

        Args:
            chunks: pieces of sound of any length: float32 [N] mono at 16 kHz, or (samples, rate).
            poses, background, size, mouth, edit, edges: as in `render`; poses are looped for as long as it
                takes. Or an iterator that is asked for each frame's pose [4, 4], or a `HeadEdit` to add
                to the own track, when the frame is drawn: a head tracker, a game pad (`engine.edits.live`).
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
        editor = Editor(self, edit, mouth)
        camera = self._camera(size)
        behind, plate = self._plates(background, edges, camera)
        editor.warn(poses)
        live = editor.live(poses)
        setting = Setting(camera, None if live else poses, behind, editor, plate, live)
        return render_stream(self, chunks, setting, ahead)

    def profile(self, audio: Any, **options: Any) -> Profile:
        """Where a frame's time goes, stage by stage; see `nldf_engine.engine.profile.profile`."""
        return profile(self, audio, **options)

    def _camera(self, size: int | None) -> Camera:
        camera = self.avatar.camera
        return camera if check_size(size) is None else camera.scaled(size)  # type: ignore[arg-type]

    def _plates(self, background: Any, edges: str, camera: Camera) -> tuple[Tensor | None, Tensor | None]:
        """What lies behind (None: transparent), and the own plate where edges are to be cleaned of it."""
        if edges not in ("clean", "fast"):
            raise ValueError(f"edges: expected 'clean' or 'fast', got {edges!r}")
        own, size = self.avatar.background, (camera.height, camera.width)
        behind = resolve_background(background, own, *size)
        plate = resolve_background(None, own, *size) if edges == "clean" and background is not None else None
        placed = [None if picture is None else picture.to(self.device) for picture in (behind, plate)]
        return placed[0], placed[1]

    def _canvas(self, scene: Scene) -> Tensor | None:
        """Memory to draw one frame of a scene after the other in; the caller's alone."""
        return None if scene.background is None else torch.empty_like(scene.background)

    @torch.no_grad()
    def _frame(
        self, scene: Scene, number: int, out: np.ndarray | None = None, canvas: Tensor | None = None
    ) -> np.ndarray:
        """Frame `number` of a scene, into `out` uint8 by way of `canvas` float32 where those are given."""
        drawn = scene.view(number), scene.poses[number], scene.codes[number], scene.motions[number]
        into = None if out is None else torch.from_numpy(out)
        portrait = self._portrait if scene.portrait is None else scene.portrait
        if scene.background is not None and scene.plate is None:
            made = portrait.picture(*drawn, scene.background, self.backend, into, canvas)
        else:
            layer = portrait.layer(*drawn, self.backend)
            with stage("composite"):
                layer = layer if scene.plate is None else clean_layer(layer, scene.plate)
                picture = straight(layer) if scene.background is None else layer.over(scene.background)
            with stage("pixels"):
                made = to_uint8(picture, into)
        return made.cpu().numpy() if out is None else out


def _codes(name: str, values: Any, frames: int, count: int) -> Tensor:
    """[T, count] codes that an avatar was given, where its field takes any."""
    if not count:
        raise ValueError(NO_UPPER if name == "upper" else NO_MOTION)
    return check_values(name, values, [frames, count])
