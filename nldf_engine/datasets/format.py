"""The files of a dataset folder: which there are, what they hold, and the checks that their contents pass."""

from __future__ import annotations

import wave
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from nldf_engine.base.clock import FPS, SAMPLE_RATE
from nldf_engine.base.errors import FileProblem
from nldf_engine.base.files import atomic_path, check_name, check_writable, inside, read_json, sha256
from nldf_engine.base.json import decode, encode
from nldf_engine.geometry.cameras import Camera
from nldf_engine.geometry.face_mesh import LANDMARKS

SCHEMA = 2
LABELS = {"background": 0, "head": 1, "neck": 2, "torso": 3}
HELD_OUT = 0.2  # share of the frames, at the end, that only `evaluate` reads
VALIDATION = 0.1  # share of the training part, at its end, that chooses the best checkpoint
DEPTH_MARGIN = 0.2  # metres before and behind the head's origin that rays are sampled in
JSON_LIMIT = 4 << 20
PREPARE_AGAIN = "run nldf prepare again"

NEEDED = ("track.safetensors", "video.mp4", "audio.wav", "parsing.mkv", "background.png")
"""Without one of these a folder is no dataset; the hash of a dataset goes over them in this order."""

REPORTS = ("report.json", "report.png")
EDITABLE = ("background.png", *REPORTS)
"""Files that people may edit: another content is noted and is no error, and their size is free."""

CHANGED = "its content is not what dataset.json says: it was changed or damaged since it was written"


def check_target(path: Path) -> Path:
    """The path, where a dataset may be written: nothing there, an empty folder, or an older dataset.

    Raises:
        FileProblem: something else is there, which must not be replaced.
    """
    if path.exists() and not (path / "dataset.json").is_file() and (not path.is_dir() or any(path.iterdir())):
        raise FileProblem(
            path, "it exists and is no dataset, so it is not replaced", "choose another output path"
        )
    return check_writable(check_name(path), folder=True)


def training_frames(frames: int) -> int:
    """How many of a clip's frames, from its beginning, are the training part; at least one."""
    return max(1, round(frames * (1 - HELD_OUT)))


@dataclass(frozen=True)
class FileStamp:
    """What dataset.json says of one file.

    Args:
        bytes: its size.
        sha256: the digest of its content, hexadecimal.
    """

    bytes: int
    sha256: str


@dataclass(frozen=True)
class DatasetInfo:
    """What dataset.json says.

    Args:
        frames: T, at least 1.
        size: (width, height) in pixels.
        camera: intrinsics at that size.
        near, far: depths in metres along a ray between which the head is; 0 < near < far.
        fps: frames a second.
        splits: frame ranges [first, last) named "train" and "heldout"; empty means the usual cut.
        source: where the frames came from (file name, SHA-256, crop, ...).
        audio: about the sound (seconds, front-end, ...).
        provenance: tool, version and settings that made the dataset.
        files: bytes and SHA-256 of each file at writing, to notice a copy that was cut short or changed.

    Raises:
        ValueError: a value is out of its range.
    """

    frames: int
    size: tuple[int, int]
    camera: Camera
    near: float
    far: float
    fps: float = FPS
    splits: dict[str, list[int]] = field(default_factory=dict)
    source: dict[str, Any] = field(default_factory=dict)
    audio: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    files: dict[str, FileStamp] = field(default_factory=dict)
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
        return {**encode(self), "size": list(self.size)}

    @classmethod
    def from_json(cls, value: Any) -> DatasetInfo:
        """Reads what `to_json` wrote; unknown keys are refused.

        Raises:
            ValueError: a key is missing or unknown, or a value is of the wrong kind or range.
        """
        unknown = set(value) - set(cls.__dataclass_fields__) if isinstance(value, dict) else ()
        if unknown:  # by their names alone: the whole object is long
            raise ValueError(f"dataset: unknown keys {', '.join(sorted(unknown))}")
        return decode(cls, value, "dataset")


def read_info(path: Path) -> DatasetInfo:
    """Reads and checks dataset.json of the folder `path`; FileProblem when it is wrong or newer."""
    target = inside(path, "dataset.json")
    value = read_json(target, JSON_LIMIT)
    schema = value.get("schema") if isinstance(value, dict) else None
    if isinstance(schema, int) and schema > SCHEMA:
        newer = f"its schema is {schema}, and this version reads {SCHEMA}"
        raise FileProblem(path / "dataset.json", newer, "upgrade nldf_engine")
    if isinstance(schema, bool) or not isinstance(schema, int) or schema < SCHEMA:
        raise FileProblem(
            path / "dataset.json", f"its schema is {schema!r}, expected {SCHEMA}", PREPARE_AGAIN
        )
    try:
        return DatasetInfo.from_json(value)
    except (ValueError, TypeError) as error:
        raise FileProblem(path / "dataset.json", str(error), PREPARE_AGAIN) from error


def near_far(poses: np.ndarray, margin: float = DEPTH_MARGIN) -> tuple[float, float]:
    """Depths in metres between which the head is: the median camera distance -+ `margin`.

    Args:
        poses: [T, 4, 4] camera-to-head.
    """
    distance = float(np.median(np.linalg.norm(np.asarray(poses, np.float64)[:, :3, 3], axis=1)))
    return round(max(0.05 * distance, distance - margin), 4), round(distance + margin, 4)


def describe_files(folder: Path) -> dict[str, FileStamp]:
    """Bytes and SHA-256 of each file of a dataset, for dataset.json."""
    present = [folder / name for name in (*NEEDED, *REPORTS) if (folder / name).is_file()]
    return {path.name: FileStamp(path.stat().st_size, sha256(path)) for path in present}


def check_sizes(folder: Path, files: dict[str, FileStamp]) -> None:
    """Checks what costs no reading: that each file has the size that it was written with.

    Raises:
        FileProblem: one is shorter or longer.
    """
    for name in NEEDED:
        came = (folder / name).stat().st_size
        if name in files and name not in EDITABLE and came != files[name].bytes:
            short = f"it has {came} bytes, and dataset.json says {files[name].bytes}"
            raise FileProblem(folder / name, short, f"copy the dataset again, or {PREPARE_AGAIN}")


def changed_files(folder: Path, files: dict[str, FileStamp]) -> list[str]:
    """Names of the files whose content is not what dataset.json says; reads every one of them."""
    return [
        name
        for name, stamp in files.items()
        if name in (*NEEDED, *REPORTS) and (folder / name).is_file() and sha256(folder / name) != stamp.sha256
    ]


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


def read_track(path: Path, frames: int) -> dict[str, np.ndarray]:
    """Reads and checks track.safetensors; FileProblem when it is damaged or does not fit `frames`."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        tensors = load_file(str(path))
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise FileProblem(path, f"it is damaged ({error})", PREPARE_AGAIN) from error
    return check_track(tensors, frames, lambda text: FileProblem(path, text, PREPARE_AGAIN))


def write_wav(path: Path, samples: np.ndarray) -> None:
    """Writes float samples [N] in [-1, 1] as 16 kHz mono PCM16."""
    with atomic_path(path) as temporary:
        encode_wav(str(temporary), samples)


def encode_wav(target: str | BinaryIO, samples: np.ndarray) -> None:
    """The same into a file by its name, or into an open one."""
    with closing(wave.open(target, "wb")) as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(SAMPLE_RATE)
        out.writeframes((np.clip(samples, -1, 1) * 32767).round().astype("<i2").tobytes())


def wav_length(path: Path) -> int:
    """The number of samples of a 16 kHz mono PCM16 file; FileProblem when it is anything else."""
    try:
        with closing(wave.open(str(path), "rb")) as sound:
            kind = (sound.getnchannels(), sound.getsampwidth(), sound.getframerate())
            count = sound.getnframes()
    except (wave.Error, EOFError) as error:
        raise FileProblem(path, f"it is no readable wav file ({error})", PREPARE_AGAIN) from error
    if kind != (1, 2, SAMPLE_RATE):
        came = f"{kind[0]} channels of {8 * kind[1]} bits at {kind[2]} Hz"
        raise FileProblem(path, f"expected mono 16 bits at {SAMPLE_RATE} Hz, got {came}", PREPARE_AGAIN)
    if path.stat().st_size < 2 * count:
        raise FileProblem(path, "it is cut short", PREPARE_AGAIN)
    return count
