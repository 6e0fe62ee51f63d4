"""The face of the package: load an avatar, give it audio and poses, get a clip.

engine = Engine.load("avatars/me")
engine.render("speech.wav").save("out.mp4")
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor

from nldf_engine import audio as audio_module
from nldf_engine.avatar import Avatar
from nldf_engine.base.errors import FileProblem
from nldf_engine.base.files import atomic_folder
from nldf_engine.base.progress import track
from nldf_engine.base.video import VideoWriter
from nldf_engine.nn.resmlp import ResMLP
from nldf_engine.ops.device import choose_device
from nldf_engine.rendering.backgrounds import resolve_background
from nldf_engine.rendering.cameras import Camera
from nldf_engine.rendering.fields import Conditions
from nldf_engine.rendering.portrait import Layer, to_uint8
from nldf_engine.rendering.poses import resolve_poses, resolve_torso
from nldf_engine.rendering.torso import smooth_motion

FPS = 25.0
LARGEST_SIDE = 4096
WIDEST_MOUTH = 3.0
# Shoulders follow the head with more weight behind them: what is predicted from its pose is smoothed so.
TORSO_SMOOTHING = 3.0
# Pictures of a sequence: only a folder of these is ever replaced.
PICTURE_NAME = re.compile(r"\d{5,}\.png")


@dataclass(frozen=True)
class _Scene:
    """All that a frame needs, worked out once a clip."""

    camera: Camera
    poses: Tensor
    codes: Tensor
    motions: Tensor
    background: Tensor | None


class Frames:
    """Frames of a clip, rendered when they are asked for: uint8 [T, H, W, 3] (4 when transparent).

    Behaves like a read-only array: `len`, indexing by number or slice, iteration, `numpy.asarray`.
    """

    def __init__(self, engine: Engine, scene: _Scene) -> None:
        self._engine, self._scene = engine, scene
        channels = 4 if scene.background is None else 3
        self.shape = (len(scene.poses), scene.camera.height, scene.camera.width, channels)
        self.dtype = np.dtype(np.uint8)

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
            for place, number in enumerate(chosen):
                out[place] = self._engine._frame(self._scene, number)
            return out
        if not -len(self) <= index < len(self):
            raise IndexError(f"frame {index} of a clip of {len(self)} frames")
        return self._engine._frame(self._scene, index % len(self))

    def __iter__(self) -> Iterator[np.ndarray]:
        for number in range(len(self)):
            yield self._engine._frame(self._scene, number)

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        out = self[:]
        return out if dtype is None else out.astype(dtype)


@dataclass(frozen=True)
class Clip:
    """A rendered clip; its frames are made when they are read.

    Args:
        frames: uint8 [T, H, W, 3], or [T, H, W, 4] with straight alpha for a transparent clip.
        audio: (samples, rate) that belongs to it, or None when features drove it.
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

    def save(self, path: str | Path, crf: int = 16) -> Path:
        """Writes the clip, whole or not at all.

        Args:
            path: `.mp4` or `.mov` (H.264 + AAC), `.webm` (VP9, with alpha when transparent), or a folder
                (no ending) for a PNG sequence `00000.png`, ...
            crf: the encoder's quality, 0 (best) to 51.

        Returns:
            the path.

        Raises:
            FileProblem: another ending, a transparent clip as mp4, or an unwritable place.
        """
        path = Path(path)
        kind = path.suffix.lower()
        if not kind:
            return self._save_pictures(path)
        if kind not in (".mp4", ".mov", ".webm"):
            raise FileProblem(
                path, f"a clip can't be written as {kind!r}", "end it in .mp4, .webm or no ending"
            )
        if self.transparent and kind != ".webm":
            raise FileProblem(
                path, "an mp4 has no transparency", "write a .webm, or a folder (no ending) for PNG pictures"
            )
        codec = "vp9a" if kind == ".webm" else "h264"
        _, height, width, _ = self.frames.shape
        tags = {"comment": "Synthetic: this person's speech and motion were generated by nldf_engine."}
        with VideoWriter(
            path, width, height, fps=self.fps, audio=self.audio, codec=codec, crf=crf, metadata=tags
        ) as writer:
            for frame in track(self.frames, f"render {path.name}", unit="frame"):
                writer.write(frame if self.transparent or codec != "vp9a" else _opaque(frame))
        return path

    def _save_pictures(self, path: Path) -> Path:
        import cv2

        if path.exists() and not (
            path.is_dir() and all(PICTURE_NAME.fullmatch(p.name) for p in path.iterdir())
        ):
            raise FileProblem(
                path, "it exists and holds something else than pictures", "choose another folder"
            )
        order = cv2.COLOR_RGBA2BGRA if self.transparent else cv2.COLOR_RGB2BGR
        with atomic_folder(path) as folder:
            for number, frame in enumerate(track(self.frames, f"render {path.name}", unit="frame")):
                ok, png = cv2.imencode(".png", cv2.cvtColor(frame, order))
                if not ok:
                    raise FileProblem(path, f"frame {number} could not be written as PNG")
                (folder / f"{number:05d}.png").write_bytes(png.tobytes())
        return path


def _opaque(frame: np.ndarray) -> np.ndarray:
    return np.concatenate([frame, np.full_like(frame[..., :1], 255)], -1)


class Engine:
    """Renders an avatar. Made with `Engine.load`.

    Args:
        avatar: what to render.
        device: where.
        backend: "native" (compiled kernels) or "reference" (their slow PyTorch twins).
        precision: "auto" or "fp32", or "int16" (see `Engine.load`).
    """

    def __init__(
        self, avatar: Avatar, device: torch.device, backend: str = "native", precision: str = "auto"
    ) -> None:
        if precision not in ("auto", "fp32", "int16"):
            raise ValueError(f"precision: expected 'auto', 'fp32' or 'int16', got {precision!r}")
        if backend not in ("native", "reference"):
            raise ValueError(f"backend: expected 'native' or 'reference', got {backend!r}")
        self.avatar, self.device, self.backend = avatar, device, backend
        self._portrait = avatar.portrait.to(device).eval()
        self._portrait.field.backend = backend  # type: ignore[attr-defined]
        self._portrait.torso.backend = backend
        self.precision = "int16" if precision == "int16" else "fp32"
        networks = [m for m in self._portrait.modules() if isinstance(m, ResMLP)]
        if self.precision == "int16" and (not networks or device.type != "cpu" or backend != "native"):
            raise ValueError(
                "precision: 'int16' needs an avatar with a residual MLP, device 'cpu' and backend 'native', "
                f"got a {avatar.system} avatar, {device} and {backend!r}"
            )
        for network in networks:
            network.precision = self.precision

    @classmethod
    def load(
        cls, path: str | Path, device: str = "auto", precision: str = "auto", backend: str = "native"
    ) -> Engine:
        """Loads an avatar folder.

        Args:
            path: the folder that `nldf train` wrote.
            device: "auto" (a GPU where there is one), "cpu", "cuda" or "cuda:N".
            precision: "auto" or "fp32" compute in float32; "int16" multiplies the body of a residual MLP
                in integers, on the CPU: about twice as fast where it is deep, and over 65 dB close.
            backend: "native" or "reference".

        Raises:
            FileProblem: the folder is no usable avatar.
            MissingBackend: a device or backend that is not there.
            ValueError: an unknown device, precision or backend.
        """
        return cls(Avatar.load(path), choose_device(device), backend, precision)

    def describe(self) -> dict[str, Any]:
        """What renders, and with what: system, size, device, backend, precision, multiply-adds a ray."""
        camera = self.avatar.camera
        return {
            "system": self.avatar.system,
            "size": [camera.width, camera.height],
            "device": str(self.device),
            "backend": self.backend,
            "precision": self.precision,
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
        samples = audio_module.load_audio(audio)
        return audio_module.features(samples, self.avatar.frontend), (samples, audio_module.SAMPLE_RATE)

    @property
    def motion_codes(self) -> int:
        """K, numbers a frame that tell the mouth's motion; 0 where the audio drives the field itself."""
        return int(self._portrait.field.config.conditions.motion)  # type: ignore[attr-defined]

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
            raise ValueError(
                "motion, mouth: this avatar is driven by audio without motion codes; train one with them "
                "(--set motion_codes=8)"
            )
        every = torch.arange(len(conditions), device=self.device)
        return self._portrait.field.encoder.motion(conditions, every)  # type: ignore[attr-defined]

    def _moved(self, conditions: Conditions, motion: Any, mouth: float) -> Conditions:
        """The conditions with motion codes where those are given or scaled."""
        if isinstance(mouth, bool) or not isinstance(mouth, int | float) or not 0 <= mouth <= WIDEST_MOUTH:
            raise ValueError(f"mouth: expected a number from 0 to {WIDEST_MOUTH:g}, got {mouth!r}")
        if motion is None and mouth == 1:
            return conditions
        codes = self._speech(conditions)
        if motion is not None:
            given = torch.tensor(np.asarray(motion, np.float32), device=self.device)
            if given.shape != codes.shape or not bool(torch.isfinite(given).all()):
                raise ValueError(
                    f"motion: expected finite values {list(codes.shape)}, got {list(given.shape)}"
                )
            codes = given
        return Conditions(conditions.audio, conditions.eyes, mouth * codes)

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
    ) -> Clip:
        """A clip of the avatar speaking. Nothing is rendered before its frames are read.

        Args:
            audio: path of a sound or video file, (samples, rate), a features file (.npy), or features
                [T, 16, D] of the avatar's front-end.
            poses: None or "track", "still", a path (pose file or dataset), or [T, 4, 4] camera-to-head.
            background: None (the avatar's own), "transparent", a colour, a picture's path or uint8 [H, W, 3].
            size: width in pixels; the avatar's own where None.
            eyes: [T] eye openness; the avatar's own track where None.
            motion: [T, K] motion codes of the mouth in the audio's place (see `Engine.motion`).
            mouth: how far the mouth moves: 1 as told by the speech, 0 a mouth at rest.
            torso: [T, 2, 3] motion of the torso in units of the frame's width. Where None, it comes with the
                avatar's own track or that of the dataset it was trained on, or is predicted from the poses.

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
        camera = self.avatar.camera
        if size is not None:
            if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= LARGEST_SIDE:
                raise ValueError(f"size: expected a width of 1 to {LARGEST_SIDE} pixels, got {size!r}")
            camera = camera.scaled(size)
        features, sound = self.features(audio)
        frames = len(features)
        avatar = self.avatar
        track_poses, track_eyes = resolve_poses(poses, avatar.poses.cpu(), avatar.eye_openness.cpu(), frames)
        if eyes is not None:
            track_eyes = torch.as_tensor(np.asarray(eyes, np.float32))
            if track_eyes.shape != (frames,) or not bool(torch.isfinite(track_eyes).all()):
                raise ValueError(f"eyes: expected {frames} finite values, got {list(track_eyes.shape)}")
        conditions = Conditions(torch.tensor(features), track_eyes).to(self.device)
        conditions = self._moved(conditions, motion, mouth)
        track_poses = track_poses.to(self.device)
        scene = _Scene(
            camera,
            track_poses,
            self._portrait.field.encode_frames(conditions),
            self._torso(poses, torso, track_poses),
            self._place(resolve_background(background, avatar.background, camera.height, camera.width)),
        )
        return Clip(Frames(self, scene), sound)

    def _torso(self, spec: Any, given: Any, poses: Tensor) -> Tensor:
        """[T, 2, 3] torso motion on the device: given, tracked with the poses, or predicted from them."""
        frames, avatar = len(poses), self.avatar
        if given is not None:
            motion = torch.tensor(np.asarray(given, np.float32))
            if motion.shape != (frames, 2, 3) or not bool(torch.isfinite(motion).all()):
                raise ValueError(f"torso: expected finite [{frames}, 2, 3], got {list(motion.shape)}")
            return motion.to(self.device)
        tracked = resolve_torso(spec, avatar.poses.cpu(), avatar.torso_motion, frames)
        if tracked is not None:
            return tracked.to(self.device)
        return smooth_motion(self._portrait.torso.predict_motion(poses), TORSO_SMOOTHING)

    def _place(self, background: Tensor | None) -> Tensor | None:
        return None if background is None else background.to(self.device)

    @torch.no_grad()
    def _frame(self, scene: _Scene, number: int) -> np.ndarray:
        what = (scene.camera, scene.poses[number], scene.codes[number], scene.motions[number])
        if scene.background is not None:
            return self._portrait.picture(*what, scene.background, self.backend).cpu().numpy()
        picture = _straight(self._portrait.layer(*what, self.backend))
        return to_uint8(picture).cpu().numpy()


def _straight(layer: Layer) -> Tensor:
    """[H, W, 4]: straight (not premultiplied) colour and alpha."""
    alpha = layer.alpha.clamp(0, 1)[..., None]
    return torch.cat([torch.where(alpha > 1 / 512, layer.color / alpha.clamp_min(1 / 512), 0.0), alpha], -1)
