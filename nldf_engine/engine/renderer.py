"""The renderer: renders frames of one avatar, one at a time, with its own modules that share the weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nldf_engine import ops
from nldf_engine.audio import look_ahead_seconds
from nldf_engine.avatar import Avatar
from nldf_engine.base.clock import FPS
from nldf_engine.base.timing import stage
from nldf_engine.engine.onepass import STRETCH, OnePass
from nldf_engine.engine.precision import (
    CHECKED_SIDE,
    MOST_CHECKED,
    WHERE,
    check_finite,
    chosen,
    holds,
    is_wrong,
    psnr_to_float32,
    warn_given_up,
)
from nldf_engine.engine.ring import Ring
from nldf_engine.engine.sharing import share_weights
from nldf_engine.engine.unseen import without_unseen
from nldf_engine.geometry.cameras import Camera
from nldf_engine.geometry.tracks import Track, open_track, smooth_motion
from nldf_engine.nn.planes import PlanesModule
from nldf_engine.nn.resmlp import ResMLP
from nldf_engine.rendering.backgrounds import Background, resolve_background
from nldf_engine.rendering.fields import Conditions, check_windows
from nldf_engine.rendering.layer import View, Views, intrinsics_of, straight, to_uint8
from nldf_engine.rendering.matte import clean_layer
from nldf_engine.rendering.portrait import Portrait
from nldf_engine.systems.common.motion import MotionBasis, UpperBasis

Poses = str | Path | np.ndarray | Tensor | list[Any] | tuple[Any, ...] | Callable[[Tensor], Track] | None
"""Head poses that are known beforehand: None or "track", "still", a path (pose file or dataset), [T, 4, 4]
camera to head, or a function of frame numbers [N] int64, from 0 to any one, that gives the whole motion."""

LARGEST_SIDE = 4096
# What a CPU draws of a clip at once, in frames and in pixels of all of them.
MOST_AT_ONCE, PIXELS_AT_ONCE = 8, 1 << 20
# Strength of the smoothing of predicted torso motion, in frames: shoulders have more inertia than the head.
TORSO_SMOOTHING = 3.0
NO_MOTION = (
    "motion, mouth: this avatar is driven by audio without motion codes; train one with them "
    "(--set motion_codes=8)"
)
NO_UPPER = (
    "upper: this avatar has no codes of brows and gaze; train one with them (--set upper_codes=4, the "
    "default of nldf-fast)"
)
NO_LANDMARKS = (
    "landmarks: this avatar is not driven by landmarks, expected one that is; see the systems of nldf train "
    "--help, or change its mouth by motion, mouth or edit.mouth"
)


@dataclass(frozen=True)
class Scene:
    """All inputs of T frames, computed once; tensors are on the renderer's device.

    Args:
        portrait: the modules that render.
        camera: size and intrinsics of the frames.
        poses: [T, 4, 4] camera to head.
        codes: [T, C] per-frame codes that condition the head.
        motions: [T, 2, 3] affine motion of the torso, plate to frame, in units of the frame's width.
        background: [H, W, 3] float32, or None for transparent frames.
        views: [T, 4] intrinsics fx, fy, cx, cy of the head's camera in units of the frame's width, where an
            edit changes them; None: those of `camera` in every frame.
        plate: [H, W, 3] float32, the avatar's own background, to remove it from soft edges before another
            background; None for no cleaning.
    """

    portrait: Portrait
    camera: Camera
    poses: Tensor
    codes: Tensor
    motions: Tensor
    background: Tensor | None
    views: Tensor | None = None
    plate: Tensor | None = None

    def __len__(self) -> int:
        return len(self.poses)

    def head_camera(self, number: int) -> Camera:
        """The camera that the head of frame `number` is rendered with."""
        if self.views is None:
            return self.camera
        width, height = self.camera.width, self.camera.height
        return Camera(width, height, *(width * self.views[number]).tolist())

    def view(self, number: int) -> View:
        """Camera, head pose and torso motion of frame `number`."""
        return View(self.head_camera(number), self.poses[number], self.motions[number])

    @cached_property
    def one_pass(self) -> OnePass | None:
        """The frames as the fused portrait kernel draws them; None where it can't. Decided once."""
        if self.background is None or self.plate is not None or not len(self):
            return None
        first = self._prepared(0, min(STRETCH, len(self)))
        return None if first is None else OnePass(self._stretch, first, len(self))

    @ops.one_thread()
    def _prepared(self, first: int, last: int) -> ops.PortraitFrames | None:
        """The frames first ... last - 1 as the fused kernel draws them, None where it can't."""
        assert self.background is not None
        device, count = self.poses.device, last - first
        if self.views is None:
            intrinsics = intrinsics_of(self.camera, device).expand(count, 4)
        else:
            intrinsics = (self.camera.width * self.views[first:last]).to(device)
        views = Views(intrinsics, self.poses[first:last], self.motions[first:last])
        return self.portrait.frames(views, self.codes[first:last], self.background)

    def _stretch(self, first: int, last: int) -> ops.PortraitFrames:
        frames = self._prepared(first, last)
        if frames is None:
            raise RuntimeError(
                "scene: its networks have changed so that they need another kernel; make it anew"
            )
        return frames


class Renderer:
    """Renders frames of an avatar.

    It has its own modules: this renderer's device, backend and precision affect neither the avatar nor its
    other renderers. On the avatar's device they share its weights.

    Args:
        avatar: what to render.
        device: where it renders.
        backend: "native" (compiled kernels) or "reference" (plain PyTorch, slow).
        precision: "auto", "fp32", "int16", "int8" or "fp16" (see `Engine.load`).
        sparse: radiance fields skip rays and samples that are empty or occluded (see `Engine.load`).

    Attributes:
        avatar, device, backend: as given.
        precision: the one in use: "fp32", "int16", "int8" or "fp16".
        portrait: the modules.

    Raises:
        ValueError: an unknown precision or backend, or one that the avatar or the device does not have; or,
            in another precision than float32, NaN or infinity in a tensor of the avatar, which is named.
    """

    def __init__(
        self, avatar: Avatar, device: torch.device, backend: str = "native", precision: str = "auto",
        sparse: bool = False,
    ) -> None:  # fmt: skip
        tried, optional = chosen(precision, device)
        if backend not in ("native", "reference"):
            raise ValueError(f"backend: expected 'native' or 'reference', got {backend!r}")
        self.avatar, self.device, self.backend = avatar, device, backend
        self.portrait = share_weights(avatar.portrait).to(device).eval()
        self.portrait.use_backend(backend)
        self.precision = "fp32"
        self._kernels = self._set_precision(tried, optional)
        marched: list[Any] = [m for m in self.portrait.modules() if hasattr(m, "sparse")]
        if sparse and not marched:
            raise ValueError(f"sparse: only radiance fields have samples to skip, not {avatar.system}")
        for field in marched:
            field.sparse = sparse

    def _set_precision(self, tried: tuple[str, ...], optional: bool) -> list[ResMLP | PlanesModule]:
        """Sets the precision of the modules that have one: the first of those tried; where that is optional,
        the first that holds, or float32 where none does. Returns all modules that fused kernels compute."""
        networks = [m for m in self.portrait.modules() if isinstance(m, ResMLP)]
        planes = [m for m in self.portrait.modules() if isinstance(m, PlanesModule)]
        kernels: list[ResMLP | PlanesModule] = [*networks, *planes]
        head = self.portrait.head
        native, known = ops.native.use_native("Engine", self.backend), dict[int, Tensor]()
        if tried != ("fp32",):
            check_finite(self.portrait, self.avatar.name)
        for precision, after in zip(tried, (*tried[1:], "fp32"), strict=True):
            own = [head] if precision in head.precisions else []
            parts: list[Any] = [*kernels, *own]
            wanted = WHERE.get(precision)
            if not (parts and self.device.type == wanted and native):
                if precision == "fp32" or optional:
                    break
                raise ValueError(
                    f"precision: {precision!r} needs an avatar with a residual MLP or grids (fp16: or a "
                    f"2-D renderer), device {wanted!r} and backend 'native', got a {self.avatar.system} "
                    f"avatar, {self.device} and {self.backend!r}"
                )
            self._compute_in(precision, parts)
            if not optional:
                return kernels
            psnr = self._psnr_to_float32(parts, not networks and not own, known)
            if holds(precision, psnr):
                return kernels
            # More bits may be what an avatar needs; behind the last precision there are none.
            if precision == tried[-1] or is_wrong(psnr):
                kernel = kernels[0].kernel(self.device, self.backend) if kernels else "torch"
                warn_given_up(precision, self.device, kernel, psnr, after)
        self._compute_in("fp32", parts)
        return kernels

    def _compute_in(self, precision: str, parts: list[Any]) -> None:
        self.precision = precision
        for part in parts:
            part.precision = precision

    def _psnr_to_float32(self, parts: list[Any], one_pass: bool, known: dict[int, Tensor]) -> float:
        camera = self.avatar.camera
        pose = self.avatar.poses[0].to(self.device)
        motion = self.own_motion[0].to(self.device)
        side = min(camera.width, MOST_CHECKED) if one_pass else CHECKED_SIDE
        return psnr_to_float32(self.portrait, camera, pose, motion, parts, side, known)

    def describe(self) -> dict[str, Any]:
        """System, size, device, backend, precision, kernel, multiply-adds per ray and audio front-end."""
        camera = self.avatar.camera
        return {
            "system": self.avatar.system,
            "size": [camera.width, camera.height],
            "device": str(self.device),
            "backend": self.backend,
            "precision": self.precision,
            "kernel": self._kernels[0].kernel(self.device, self.backend) if self._kernels else "torch",
            "macs_per_ray": self.portrait.head.macs,
            "audio": self.avatar.frontend.to_json(),
        }

    # Conditioning of a frame.

    @property
    def motion_basis(self) -> MotionBasis | None:
        """The landmark basis of the mouth's motion codes; None for heads without such codes."""
        part = self.portrait.head.driver.part("motion")
        return None if part is None else part.basis

    @property
    def upper_basis(self) -> UpperBasis | None:
        """The landmark basis of the codes of brows, lids and gaze; None for heads without such codes."""
        basis: UpperBasis | None = self.portrait.head.driver.part("upper")
        return basis

    @property
    def motion_codes(self) -> int:
        """K, how many motion codes of the mouth a frame has; 0 where the head is conditioned on audio."""
        part = self.portrait.head.driver.part("motion")
        return 0 if part is None else int(part.dim)

    @property
    def upper_codes(self) -> int:
        """E, how many codes of brows, lids and gaze a frame has; 0 for heads without such codes."""
        basis = self.upper_basis
        return 0 if basis is None else basis.dim

    @property
    def reach(self) -> tuple[int, int]:
        """(before, after): how many neighbouring frames the code of a frame depends on."""
        return self.portrait.head.driver.reach

    @property
    def latency(self) -> float:
        """Look-ahead: seconds of audio after its own time that a frame needs (see `Engine.latency`).

        Raises:
            ValueError: the avatar's audio front-end can't stream.
        """
        return look_ahead_seconds(self.avatar.frontend) + self.reach[1] / FPS

    @torch.no_grad()
    @ops.one_thread()
    def codes(self, conditions: Conditions, index: Tensor | None = None) -> Tensor:
        """[N, C] codes of the frames `index` [N] of a clip (all where None), on the renderer's device."""
        return self.portrait.head.encode_frames(conditions, index)

    @torch.no_grad()
    @ops.one_thread()
    def speech_codes(self, conditions: Conditions) -> Tensor:
        """[T, K] motion codes of the mouth: the conditions' own, or those predicted from their audio.

        Raises:
            ValueError: the avatar has no motion codes.
        """
        part = self.portrait.head.driver.part("motion")
        if part is None:
            raise ValueError(NO_MOTION)
        codes: Tensor = part(conditions, torch.arange(len(conditions), device=self.device))
        return codes

    @property
    def landmark_part(self) -> Any:
        """The driver's part that makes landmarks (`Driver.part`); None for heads without."""
        return self.portrait.head.driver.part("landmarks")

    @torch.no_grad()
    @ops.one_thread()
    def landmarks(self, conditions: Conditions) -> Tensor:
        """[T, 68, 3] metres in head space: the conditions' own, or those made of their audio and eyes.

        Raises:
            ValueError: the avatar is not driven by landmarks.
        """
        part = self.landmark_part
        if part is None:
            raise ValueError(NO_LANDMARKS)
        made: Tensor = part.landmarks(conditions, torch.arange(len(conditions), device=self.device))
        return made

    def check_windows(self, windows: np.ndarray | Tensor) -> None:
        """Checks that windows [T, W, D] are as the avatar's network takes them.

        Raises:
            ValueError: they come from another front-end.
        """
        config = self.portrait.head.config.conditions
        check_windows(windows, (config.audio_window, config.audio_dim))

    def silence(self, frames: int = 1) -> np.ndarray:
        """[frames, W, D] float32: all-zero windows of audio features, as the padding outside of a clip."""
        config = self.portrait.head.config.conditions
        return np.zeros((frames, config.audio_window, config.audio_dim), np.float32)

    # How head and torso move.

    @torch.no_grad()
    @ops.one_thread()
    def predict_motion(self, poses: Tensor, smooth: float = 0.0) -> Tensor:
        """[T, 2, 3] on the CPU: torso motion predicted from poses [T, 4, 4]; `smooth` as in `open_track`."""
        return smooth_motion(self.portrait.torso.predict_motion(poses.to(self.device)), smooth).cpu()

    def open_track(
        self, poses: Poses, smooth: float = 0.0, centred: bool = False
    ) -> Callable[[Tensor], Track]:
        """A function from frame numbers [N] int64 to the `Track` of head, eyes and torso, on the CPU.

        Args:
            poses: see `Poses`.
            smooth: strength of the Gaussian smoothing of the poses, in frames.
            centred: move poses that are not the avatar's so that their median is that of the avatar's track.

        Raises:
            FileProblem, ValueError: poses that can't be used.
        """

        def predict(of: Tensor) -> Tensor:
            return self.predict_motion(of, TORSO_SMOOTHING)

        return open_track(poses, self.avatar.track(predict), predict, smooth, centred)

    @cached_property
    def own_motion(self) -> Tensor:
        """[T, 2, 3] on the CPU: torso motion in the avatar's own track."""
        avatar = self.avatar
        if avatar.torso_motion is not None:
            return avatar.torso_motion.cpu()
        return self.predict_motion(avatar.poses)

    @cached_property
    def edited_portrait(self) -> Portrait:
        """The portrait for head poses outside of the training track (see `without_unseen`); made once."""
        avatar, device = self.avatar, self.device
        still = Conditions(torch.from_numpy(self.silence()), avatar.eye_openness[:1]).to(device)
        return without_unseen(
            self.portrait, avatar.camera, avatar.poses.to(device), self.own_motion.to(device),
            self.codes(still)[0],
        )  # fmt: skip

    # Frames.

    def camera(self, size: int | None = None) -> Camera:
        """The avatar's camera at a width in pixels; at its own where None.

        Raises:
            ValueError: see `check_size`.
        """
        width = check_size(size)
        return self.avatar.camera if width is None else self.avatar.camera.scaled(width)

    def backdrop(
        self, background: Background, edges: str, camera: Camera
    ) -> tuple[Tensor | None, Tensor | None]:
        """The background, and the avatar's own one where it is to be removed from soft edges.

        Args:
            background: None (the avatar's own), "transparent", a colour, a picture's path or uint8 [H, W, 3].
            edges: "clean" or "fast" (see `Engine.render`).
            camera: of the frame.

        Returns:
            (background, plate), each [H, W, 3] float32 or None; a background of None is transparent.

        Raises:
            FileProblem: the picture can't be read.
            ValueError: unknown edges, or an array of another shape or dtype.
        """
        if edges not in ("clean", "fast"):
            raise ValueError(f"edges: expected 'clean' or 'fast', got {edges!r}")
        own, size = self.avatar.background, (camera.height, camera.width)
        behind = resolve_background(background, own, *size)
        plate = resolve_background(None, own, *size) if edges == "clean" and background is not None else None
        placed = [None if picture is None else picture.to(self.device) for picture in (behind, plate)]
        return placed[0], placed[1]

    def canvas(self, scene: Scene) -> Tensor | None:
        """A scratch buffer for the frames of a scene, for one thread at a time; None where none is used."""
        if scene.background is None or scene.one_pass is not None:
            return None
        return torch.empty_like(scene.background)

    def frames(self, scene: Scene, buffers: int) -> Iterator[np.ndarray]:
        """The frames of a scene in turn, as `frame` gives them, in the memory of `buffers` of them: each is
        overwritten that much later. On a GPU the next ones are drawn and copied meanwhile.

        Args:
            scene: of this renderer.
            buffers: at least 1.
        """
        size = scene.camera.height, scene.camera.width
        frames = scene.one_pass
        if frames is not None and frames.device_type == "cuda":
            return Ring((*size, 3), self.device, buffers).frames(frames.draw, len(scene))
        if frames is not None:
            return _in_turn(frames, len(scene), (*size, 3), buffers)
        shape = (*size, 4 if scene.background is None else 3)
        ring = [np.empty(shape, np.uint8) for _ in range(buffers)]
        canvas = self.canvas(scene)
        return (self.frame(scene, number, ring[number % buffers], canvas) for number in range(len(scene)))

    def frame(
        self, scene: Scene, number: int, out: np.ndarray | None = None, canvas: Tensor | None = None
    ) -> np.ndarray:
        """Frame `number` of a scene: uint8 [H, W, 3], or [H, W, 4] with straight alpha when transparent.

        Args:
            scene: of this renderer.
            number: of the frame, from 0.
            out: array that the frame is written into, uint8 of the same shape; a new one where None.
            canvas: scratch buffer from `canvas(scene)`.
        """
        frames = scene.one_pass
        if frames is None:
            return self._layered(scene, number, out, canvas)
        shape = scene.camera.height, scene.camera.width, 3
        if out is None:
            out = np.empty(shape, np.uint8)
        elif out.shape != shape or out.dtype != np.uint8 or not out.flags.c_contiguous:
            raise ValueError(
                f"out: expected contiguous uint8 {list(shape)}, got {out.dtype} {list(out.shape)}"
            )
        with stage("network"):
            if frames.device_type == "cpu":
                frames.draw(number, 1, out.ctypes.data)
            else:
                drawn, place = frames.at(number)
                torch.from_numpy(out).copy_(drawn.picture(place))
        return out

    @torch.no_grad()
    def _layered(
        self, scene: Scene, number: int, out: np.ndarray | None, canvas: Tensor | None
    ) -> np.ndarray:
        """See `frame`; layer by layer."""
        view, code = scene.view(number), scene.codes[number]
        into = None if out is None else torch.from_numpy(out)
        if scene.background is not None and scene.plate is None:
            made = scene.portrait.picture(view, code, scene.background, into, canvas)
        else:
            layer = scene.portrait.layer(view, code)
            with stage("composite"):
                layer = layer if scene.plate is None else clean_layer(layer, scene.plate)
                picture = straight(layer) if scene.background is None else layer.over(scene.background)
            with stage("pixels"):
                made = to_uint8(picture, into)
        return made.cpu().numpy() if out is None else out


def drawn_at_once(height: int, width: int) -> int:
    """How many frames of a clip a CPU draws in one call."""
    return max(1, min(MOST_AT_ONCE, PIXELS_AT_ONCE // (height * width)))


def _in_turn(frames: OnePass, count: int, shape: tuple[int, int, int], buffers: int) -> Iterator[np.ndarray]:
    """See `Renderer.frames`: several at once, for threads wait for each other at the end of each call."""
    held = drawn_at_once(shape[0], shape[1])
    ring = np.empty((1 + -(-(buffers - 1) // held), held, *shape), np.uint8)
    for first in range(0, count, held):
        slot, drawn = ring[first // held % len(ring)], min(held, count - first)
        with stage("network"):
            frames.draw(first, drawn, slot.ctypes.data)
        yield from slot[:drawn]


def check_size(size: int | None) -> int | None:
    """Checks a width to render at and returns it (None: the avatar's own).

    Raises:
        ValueError: it is not an integer in [1, LARGEST_SIDE].
    """
    if size is not None and (
        isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= LARGEST_SIDE
    ):
        raise ValueError(f"size: expected a width of 1 to {LARGEST_SIDE} pixels, got {size!r}")
    return size
