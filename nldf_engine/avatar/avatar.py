"""An avatar on disk: a folder of safetensors, JSON and one picture. Nothing in it is ever unpickled.

avatar.json         schema, system, configuration, camera, audio front-end, provenance, consent, digests
model.safetensors   the field, the region of its rays and the torso
background.png      what stood behind the speaker
track.safetensors   poses [T, 4, 4] and eye_openness [T], the default motion; torso [T, 2, 3] if tracked,
                    upper [T, E] if the field is conditioned on codes of brows and gaze
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.overrides import TorchFunctionMode

from nldf_engine.audio import FrontendConfig
from nldf_engine.avatar.provenance import Consent, Origin
from nldf_engine.base.errors import FileProblem
from nldf_engine.base.files import (
    atomic_folder,
    check_name,
    check_writable,
    inside,
    read_json,
    sha256,
    write_json,
)
from nldf_engine.base.json import encode
from nldf_engine.geometry.cameras import Camera
from nldf_engine.geometry.poses import check_poses
from nldf_engine.geometry.tracks import Track
from nldf_engine.media.pictures import encode_png, read_picture
from nldf_engine.rendering.fields import Driver
from nldf_engine.rendering.portrait import Portrait
from nldf_engine.systems.common.torso import LARGEST_PLATE
from nldf_engine.systems.registry import build_head, read_torso

SCHEMA = 1
FORMAT = "nldf-avatar"
FILES = ("model.safetensors", "track.safetensors", "background.png")
# How the tensors of `nn.grid.GridEncoding` end.
GRID_TABLE = ".table"
_IN_PLACE = (Tensor.mul_, Tensor.normal_, Tensor.uniform_)
RETRAIN = "copy the whole folder again, or train the avatar again"


@dataclass
class Avatar:
    """Everything that rendering needs.

    Args:
        portrait: field, region and torso.
        camera: the camera of the training video, at the size that was trained.
        frontend: how audio becomes features.
        background: uint8 [H, W, 3].
        poses: [T, 4, 4] float32, the default motion.
        eye_openness: [T] float32 that goes with it.
        provenance: where it comes from: dataset hash, versions, training metrics (JSON).
        torso_motion: [T, 2, 3] float32, the torso's tracked motion that goes with it, or None.
        consent: who agreed to it.
        upper: [T, E] float32, codes of brows, lids and gaze, where the field is conditioned on them.
        name, digest: the folder's name, and SHA-256 over its files' digests; set by `load`.
    """

    portrait: Portrait
    camera: Camera
    frontend: FrontendConfig
    background: np.ndarray
    poses: Tensor
    eye_openness: Tensor
    provenance: dict[str, Any] = field(default_factory=dict)
    torso_motion: Tensor | None = None
    consent: Consent = field(default_factory=Consent)
    upper: Tensor | None = None
    name: str = "unsaved"
    digest: str = ""

    @property
    def system(self) -> str:
        """Name of the system: 'nldf', 'adnerf', ..."""
        return self.portrait.head.system

    @property
    def info(self) -> dict[str, Any]:
        """What avatar.json says, the files' digests left out."""
        return {
            "format": FORMAT,
            "schema": SCHEMA,
            "system": self.system,
            "config": encode(self.portrait.head.config),
            "camera": self.camera.to_json(),
            "audio": self.frontend.to_json(),
            "torso": self.portrait.torso.describe(),
            "frames": len(self.poses),
            "provenance": self.provenance,
            "consent": self.consent.to_json(),
        }

    @property
    def origin(self) -> Origin:
        """What a video of it says of where it comes from."""
        return Origin(self.name, self.digest, self.system, self.consent)

    def track(self, predict: Callable[[Tensor], Tensor]) -> Track:
        """How it moves by itself, on the CPU; a torso that was not tracked moves as predicted from poses."""
        poses = self.poses.cpu()
        torso = predict(poses) if self.torso_motion is None else self.torso_motion.cpu()
        upper = None if self.upper is None else self.upper.cpu()
        return Track(poses, self.eye_openness.cpu(), torso, upper=upper)

    def save(self, path: str | Path) -> None:
        """Writes the folder, whole or not at all; an older avatar at `path` is replaced.

        Deletes the evaluation of an older avatar there as well: its metrics would mislead.

        Raises:
            FileProblem: the folder can't be written, or `path` is a folder that is no avatar.
        """
        path = check_target(path)
        with atomic_folder(path) as folder:
            state = {name: _stored(name, value) for name, value in self.portrait.state_dict().items()}
            save_file(state, folder / "model.safetensors")
            track = {
                "poses": self.poses.cpu().contiguous(),
                "eye_openness": self.eye_openness.cpu().contiguous(),
            }
            if self.torso_motion is not None:
                track["torso"] = self.torso_motion.cpu().contiguous()
            if self.upper is not None:
                track["upper"] = self.upper.cpu().contiguous()
            save_file(track, folder / "track.safetensors")
            (folder / "background.png").write_bytes(encode_png(self.background))
            digests = {name: sha256(folder / name) for name in FILES}
            write_json(folder / "avatar.json", {**self.info, "files": digests})

    @classmethod
    def load(cls, path: str | Path) -> Avatar:
        """Reads and checks the folder: schema, digests, names, shapes, finiteness.

        Raises:
            FileProblem: anything in it is missing, damaged, of a newer schema or not what it says.
        """
        path = check_name(path)
        if not path.is_dir():
            raise FileProblem(
                path, "there is no such folder", "give an avatar folder, as `nldf train` writes it"
            )
        if not (path / "avatar.json").is_file():
            raise FileProblem(path, "it holds no avatar.json, so it is no avatar", "`nldf train` makes one")
        info = read_json(path / "avatar.json")
        _check_header(path, info)
        _check_digests(path, info)
        try:
            camera = Camera.from_json(info["camera"])
            if max(camera.width, camera.height) > LARGEST_PLATE:
                raise ValueError(
                    f"camera: sides must be at most {LARGEST_PLATE} pixels, got {info['camera']}"
                )
            frontend = FrontendConfig.from_json(info["audio"])
            consent = Consent.from_json(info.get("consent"))
            portrait = _empty_portrait(info)
        except (ValueError, TypeError, KeyError) as error:
            raise FileProblem(path / "avatar.json", f"it can't be used ({error})", RETRAIN) from error
        tensors = _read_tensors(path / "model.safetensors", portrait.state_dict())
        try:
            portrait.load_state_dict(tensors, assign=True)
        except ValueError as error:
            raise FileProblem(path / "model.safetensors", f"it can't be used ({error})", RETRAIN) from error
        portrait.eval().requires_grad_(False)
        basis = portrait.head.driver.part("upper")
        track = _read_track(path / "track.safetensors", info["frames"], 0 if basis is None else basis.dim)
        background = read_picture(path / "background.png", RETRAIN)
        digest = hashlib.sha256("".join(info["files"][name] for name in FILES).encode()).hexdigest()
        return cls(
            portrait, camera, frontend, background, track["poses"], track["eye_openness"],
            info["provenance"], track.get("torso"), consent, track.get("upper"), path.resolve().name, digest,
        )  # fmt: skip


def _read_track(path: Path, frames: int, codes: int) -> dict[str, Tensor]:
    """The tensors of an avatar's track, checked.

    Args:
        path: of the file.
        frames: T, how many frames it has.
        codes: E, how many codes of the upper face the avatar's field takes; 0 for none.

    Returns:
        "poses" [T, 4, 4] and "eye_openness" [T]; "torso" [T, 2, 3], where it was tracked, and "upper" [T, E].

    Raises:
        FileProblem: a tensor is missing, of another shape, or not finite.
    """
    track = _read_tensors(path, None)
    for name in ("poses", "eye_openness"):
        if name not in track:
            held = ", ".join(sorted(track)) or "none"
            raise FileProblem(path, f"the tensor {name!r} is missing; it holds {held}", RETRAIN)
    try:
        track["poses"] = poses = check_poses(track["poses"])
        track["eye_openness"] = eyes = track["eye_openness"].float()
        if len(poses) != frames:
            raise ValueError(f"poses: avatar.json says {frames} frames, got {len(poses)}")
        if eyes.shape != poses.shape[:1] or not bool(torch.isfinite(eyes).all()):
            raise ValueError(f"eye_openness: expected {len(poses)} finite values, got {list(eyes.shape)}")
        torso, upper = track.get("torso"), track.get("upper")
        if torso is not None and tuple(torso.shape) != (len(poses), 2, 3):
            raise ValueError(f"torso: expected {[len(poses), 2, 3]}, got {list(torso.shape)}")
        wanted, came = [len(poses), codes] if codes else [], [] if upper is None else list(upper.shape)
        if came != wanted:
            raise ValueError(f"upper: expected {wanted or 'none'}, got {came or 'none'}")
    except ValueError as error:
        raise FileProblem(path, f"it can't be used ({error})", RETRAIN) from error
    return {**track, "upper": upper.float()} if upper is not None else track


def _stored(name: str, value: Tensor) -> Tensor:
    """A tensor as it is written: grids in half precision, which halves the file and hardly moves a pixel."""
    value = value.detach().cpu()
    fits = name.endswith(GRID_TABLE) and bool((value.abs() < torch.finfo(torch.float16).max).all())
    return (value.half() if fits else value).contiguous()


def check_target(path: str | Path) -> Path:
    """The path, where an avatar can be written to.

    Raises:
        FileProblem: it has no name of its own, or something else than an avatar is there.
    """
    path = Path(path)
    if not path.name:
        raise FileProblem(path, "an avatar needs a folder of its own", "give a path such as avatars/me")
    if path.exists() and not (path / "avatar.json").is_file() and (not path.is_dir() or any(path.iterdir())):
        raise FileProblem(
            path, "it exists and is no avatar, so it is not replaced", "choose another output path"
        )
    return check_writable(check_name(path), folder=True)


def _check_header(path: Path, info: Any) -> None:
    if not isinstance(info, dict) or info.get("format") != FORMAT:
        raise FileProblem(path / "avatar.json", f"it does not say format {FORMAT!r}", RETRAIN)
    schema = info.get("schema")
    if isinstance(schema, int) and schema > SCHEMA:
        raise FileProblem(
            path, f"its schema is {schema}, and this version reads up to {SCHEMA}", "upgrade nldf_engine"
        )
    if schema != SCHEMA:
        raise FileProblem(path / "avatar.json", f"schema: expected {SCHEMA}, got {schema!r}", RETRAIN)
    frames = info.get("frames")
    if isinstance(frames, bool) or not isinstance(frames, int) or frames < 1:
        raise FileProblem(
            path / "avatar.json", f"frames: expected a number of at least 1, got {frames!r}", RETRAIN
        )
    if not isinstance(info.get("provenance"), dict):
        came = type(info.get("provenance")).__name__
        raise FileProblem(path / "avatar.json", f"provenance: expected an object, got {came}", RETRAIN)


def _check_digests(path: Path, info: dict[str, Any]) -> None:
    files = info.get("files")
    if not isinstance(files, dict) or set(files) != set(FILES):
        raise FileProblem(
            path / "avatar.json", f"files: expected digests of {', '.join(FILES)}, got {files!r}", RETRAIN
        )
    for name, digest in files.items():
        target = inside(path, name)
        if not target.is_file():
            raise FileProblem(path / name, "it is missing from the avatar", RETRAIN)
        if sha256(target) != digest:
            raise FileProblem(
                path / name, "its content is not what avatar.json says (cut short or changed)", RETRAIN
            )


class _Undrawn(TorchFunctionMode):
    """Leaves out what weights begin with: without memory PyTorch's compiler is asked for it, and that takes
    seconds to import.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = {} if kwargs is None else kwargs
        if getattr(func, "__module__", "") == "torch.nn.init":
            return given["tensor"] if "tensor" in given else args[0]
        return args[0] if func in _IN_PLACE else func(*args, **given)


def _empty_portrait(info: dict[str, Any]) -> Portrait:
    """The portrait without memory for its weights: shapes are checked before anything is allocated."""
    with torch.device("meta"), _Undrawn():
        head = build_head(str(info.get("system")), info.get("config"))
        torso = read_torso(info.get("torso"))
        if not isinstance(head.driver, Driver):
            raise ValueError("config: its conditions hold a head_pose, so it is a torso's network")
        torso.check_head(head)
        return Portrait(head, torso)


def _read_tensors(path: Path, expected: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
    """The tensors of a file; with `expected`, just those names, shapes and dtypes, all finite."""
    try:
        with safe_open(path, "pt") as stream:
            names = set(stream.keys())
            if expected is not None:
                if missing := set(expected) - names:
                    raise FileProblem(
                        path, f"the tensor {min(missing)!r} is missing ({len(missing)} are)", RETRAIN
                    )
                if unknown := names - set(expected):
                    raise FileProblem(
                        path, f"it holds a tensor {min(unknown)!r} that no part of the model has", RETRAIN
                    )
                for name, like in expected.items():
                    shape = stream.get_slice(name).get_shape()
                    if list(shape) != list(like.shape):
                        raise FileProblem(
                            path, f"{name}: expected shape {list(like.shape)}, got {list(shape)}", RETRAIN
                        )
            tensors = {name: stream.get_tensor(name) for name in names}
    except (SafetensorError, OSError) as error:
        raise FileProblem(path, f"it is no readable safetensors file ({error})", RETRAIN) from error
    if expected is not None:
        for name, value in tensors.items():
            if name.endswith(GRID_TABLE) and value.dtype == torch.float16:
                tensors[name] = value.to(expected[name].dtype)
    for name, value in tensors.items():
        if expected is not None and value.dtype != expected[name].dtype:
            raise FileProblem(path, f"{name}: expected {expected[name].dtype}, got {value.dtype}", RETRAIN)
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise FileProblem(path, f"{name} holds NaN or infinity", RETRAIN)
    return tensors
