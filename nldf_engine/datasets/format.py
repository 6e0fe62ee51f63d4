"""What a dataset folder's files hold, and the checks that their contents pass."""

from __future__ import annotations

import contextlib
import errno
import wave
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nldf_engine.base.errors import FileProblem
from nldf_engine.base.files import atomic_path, check_writable, inside, read_json
from nldf_engine.datasets.contents import check_stated
from nldf_engine.geometry.cameras import Camera
from nldf_engine.geometry.face_mesh import LANDMARKS
from nldf_engine.media.video_writer import FULL_DISK

SCHEMA = 2
OLDEST_SCHEMA = 1  # the same but for `files`, which held sizes alone
LABELS = {"background": 0, "head": 1, "neck": 2, "torso": 3}
HELD_OUT = 0.2  # share of the frames, at the end, that only `evaluate` reads
VALIDATION = 0.1  # share of the training part, at its end, that chooses the best checkpoint
DEPTH_MARGIN = 0.2  # metres before and behind the head's origin that rays look at
AUDIO_RATE = 16_000
JSON_LIMIT = 4 << 20
PREPARE_AGAIN = "run nldf prepare again"


def check_target(path: Path) -> Path:
    """The path, where a dataset may be written: nothing there, an empty folder, or an older dataset.

    Raises:
        FileProblem: something else is there, which must not be replaced.
    """
    if path.exists() and not (path / "dataset.json").is_file() and (not path.is_dir() or any(path.iterdir())):
        raise FileProblem(
            path, "it exists and is no dataset, so it is not replaced", "choose another output path"
        )
    return check_writable(path, folder=True)


def training_frames(frames: int) -> int:
    """How many of a clip's frames, from its beginning, are the training part; at least one."""
    return max(1, round(frames * (1 - HELD_OUT)))


@dataclass(frozen=True)
class DatasetInfo:
    """What dataset.json says.

    Args:
        frames: T, at least 1.
        size: (width, height) in pixels.
        camera: intrinsics at that size.
        near, far: depths in metres along a ray between which the head lies; 0 < near < far.
        fps: frames a second.
        splits: frame ranges [first, last) named "train" and "heldout"; empty means the usual cut.
        source: where the frames came from (file name, SHA-256, crop, ...).
        audio: about the sound (seconds, front-end, ...).
        provenance: tool, version and settings that made the dataset.
        files: bytes and SHA-256 of each file at writing, to notice a copy that was cut short or changed; in
            schema 1 the bytes alone.

    Raises:
        ValueError: a value is out of its range.
    """

    frames: int
    size: tuple[int, int]
    camera: Camera
    near: float
    far: float
    fps: float = 25.0
    splits: dict[str, list[int]] = field(default_factory=dict)
    source: dict[str, Any] = field(default_factory=dict)
    audio: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    files: dict[str, Any] = field(default_factory=dict)
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        if self.frames < 1:
            raise ValueError(f"DatasetInfo: frames must be at least 1, got {self.frames}")
        if (self.camera.width, self.camera.height) != tuple(self.size):
            raise ValueError(
                f"DatasetInfo: the camera is {self.camera.width} x {self.camera.height}, size is {self.size}"
            )
        if not 0 < self.near < self.far < 1000:
            raise ValueError(f"DatasetInfo: need 0 < near < far < 1000, got {self.near} and {self.far}")
        if not 0 < self.fps < 1000:
            raise ValueError(f"DatasetInfo: fps must be in (0, 1000), got {self.fps}")
        if not self.splits:
            cut = training_frames(self.frames)
            object.__setattr__(self, "splits", {"train": [0, cut], "heldout": [cut, self.frames]})
        for name in ("train", "heldout"):
            part = self.splits.get(name)
            if not (isinstance(part, list) and len(part) == 2 and 0 <= part[0] <= part[1] <= self.frames):
                raise ValueError(
                    f"DatasetInfo: split {name!r} must be [first, last] within {self.frames} frames"
                )
        train, heldout = self.splits["train"], self.splits["heldout"]
        if max(train[0], heldout[0]) < min(train[1], heldout[1]):
            raise ValueError(f"DatasetInfo: the splits overlap: train {train}, heldout {heldout}")

    def to_json(self) -> dict[str, Any]:
        """A dictionary that `from_json` reads back."""
        return {**asdict(self), "size": list(self.size), "camera": self.camera.to_json()}

    @classmethod
    def from_json(cls, value: Any) -> DatasetInfo:
        """Reads what `to_json` wrote; unknown keys are refused.

        Raises:
            ValueError: a key is missing or unknown, or a value is of the wrong kind or range.
        """
        if not isinstance(value, dict):
            raise ValueError(f"expected an object, got {type(value).__name__}")
        known = set(cls.__dataclass_fields__)
        missing = {"frames", "size", "camera", "near", "far"} - set(value)
        if missing or set(value) - known:
            raise ValueError(f"missing keys {sorted(missing)}, unknown keys {sorted(set(value) - known)}")
        for key in ("frames", "near", "far", "fps"):
            if key in value and (isinstance(value[key], bool) or not isinstance(value[key], int | float)):
                raise ValueError(f"{key} must be a number, got {value[key]!r}")
        for key in ("splits", "source", "audio", "provenance", "files"):
            if not isinstance(value.get(key, {}), dict):
                raise ValueError(f"{key} must be an object")
        check_stated(value.get("files", {}))
        size = value["size"]
        if not (isinstance(size, list) and len(size) == 2 and all(isinstance(n, int) for n in size)):
            raise ValueError(f"size must be [width, height], got {size!r}")
        for part in value.get("splits", {}).values():
            if not (isinstance(part, list) and len(part) == 2 and all(isinstance(n, int) for n in part)):
                raise ValueError(f"a split must be [first, last], got {part!r}")
        made = {**value, "camera": Camera.from_json(value["camera"]), "size": (size[0], size[1])}
        return cls(**{**made, "frames": int(value["frames"])})


def near_far(poses: np.ndarray, margin: float = DEPTH_MARGIN) -> tuple[float, float]:
    """Depths in metres between which the head lies: the median camera distance -+ `margin`.

    Args:
        poses: [T, 4, 4] camera-to-head.
    """
    distance = float(np.median(np.linalg.norm(np.asarray(poses, np.float64)[:, :3, 3], axis=1)))
    return round(max(0.05 * distance, distance - margin), 4), round(distance + margin, 4)


def write_wav(path: Path, samples: np.ndarray) -> None:
    """Writes float samples [N] in [-1, 1] as 16 kHz mono PCM16."""
    with atomic_path(path) as temporary, closing(wave.open(str(temporary), "wb")) as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(AUDIO_RATE)
        out.writeframes((np.clip(samples, -1, 1) * 32767).round().astype("<i2").tobytes())


TRACK: dict[str, tuple[tuple[int, ...], str]] = {
    "poses": ((4, 4), "float32"),
    "landmarks": ((LANDMARKS, 2), "float32"),
    "eye_openness": ((), "float32"),
    "valid": ((), "bool"),
}


def check_track(tensors: dict[str, np.ndarray], frames: int, error: Any) -> dict[str, np.ndarray]:
    """The tensors, contiguous and in their dtypes; raises `error(text)` when one is missing or wrong."""
    for name, (shape, dtype) in TRACK.items():
        if name not in tensors:
            raise error(f"the tensor {name!r} is missing; it holds {', '.join(sorted(tensors)) or 'none'}")
        value = np.asarray(tensors[name])
        if value.shape != (frames, *shape):
            raise error(f"{name} must be {(frames, *shape)}, got {value.shape}")
        if dtype == "bool" and value.dtype != np.bool_ and not np.isin(value, (0, 1)).all():
            raise error(f"{name} must be true or false, got {value.dtype}")
        tensors[name] = value.astype(dtype)
    tensors = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
    for name, value in tensors.items():
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            where = np.argwhere(~np.isfinite(value))[0].tolist()
            raise error(f"{name} holds a value that is not finite, the first at {where}")
    rotation = tensors["poses"][:, :3, :3].astype(np.float64)
    off = np.abs(rotation @ rotation.transpose(0, 2, 1) - np.eye(3)).max(axis=(1, 2))
    off = np.maximum(off, np.abs(tensors["poses"][:, 3] - np.array([0, 0, 0, 1.0])).max(axis=1))
    if (off > 1e-3).any() or (np.linalg.det(rotation) < 0).any():
        raise error(
            f"poses must be rigid camera-to-head matrices; pose {int(off.argmax())} is off by {off.max():.3g}"
        )
    return tensors


@contextlib.contextmanager
def told_plainly(path: Path) -> Iterator[None]:
    """A full disk or a forbidden folder inside the block becomes a FileProblem about `path`."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL_DISK:
            mend = "free some space, or choose another output path"
            raise FileProblem(path, "it can't be written: the disk is full", mend) from error
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            mend = "choose an output path that you may write to"
            raise FileProblem(path, f"it can't be written ({error.strerror})", mend) from error
        raise


def read_info(path: Path) -> DatasetInfo:
    """Reads and checks dataset.json of the folder `path`; FileProblem when it is wrong or newer."""
    target = inside(path, "dataset.json")
    value = read_json(target, JSON_LIMIT)
    schema = value.get("schema") if isinstance(value, dict) else None
    if isinstance(schema, int) and schema > SCHEMA:
        newer = f"its schema is {schema}, and this version reads up to {SCHEMA}"
        raise FileProblem(path / "dataset.json", newer, "upgrade nldf_engine")
    if isinstance(schema, bool) or not isinstance(schema, int) or schema < OLDEST_SCHEMA:
        raise FileProblem(
            path / "dataset.json", f"its schema is {schema!r}, expected {SCHEMA}", PREPARE_AGAIN
        )
    try:
        return DatasetInfo.from_json(value)
    except (ValueError, TypeError) as error:
        raise FileProblem(path / "dataset.json", str(error), PREPARE_AGAIN) from error


def read_track(path: Path, frames: int) -> dict[str, np.ndarray]:
    """Reads and checks track.safetensors; FileProblem when it is damaged or does not fit `frames`."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        tensors = load_file(str(path))
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise FileProblem(path, f"it is damaged ({error})", PREPARE_AGAIN) from error
    return check_track(tensors, frames, lambda text: FileProblem(path, text, PREPARE_AGAIN))


def wav_length(path: Path) -> int:
    """The number of samples of a 16 kHz mono PCM16 file; FileProblem when it is anything else."""
    try:
        with closing(wave.open(str(path), "rb")) as sound:
            kind = (sound.getnchannels(), sound.getsampwidth(), sound.getframerate())
            count = sound.getnframes()
    except (wave.Error, EOFError) as error:
        raise FileProblem(path, f"it is no readable wav file ({error})", PREPARE_AGAIN) from error
    if kind != (1, 2, AUDIO_RATE):
        came = f"{kind[0]} channels of {8 * kind[1]} bits at {kind[2]} Hz"
        raise FileProblem(path, f"expected mono 16 bits at {AUDIO_RATE} Hz, got {came}", PREPARE_AGAIN)
    if path.stat().st_size < 2 * count:
        raise FileProblem(path, "it is cut short", PREPARE_AGAIN)
    return count
