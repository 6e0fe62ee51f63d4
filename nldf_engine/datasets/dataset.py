"""The dataset folder: one speaker's video, track, label maps, background and sound.

    dataset.json        what it is (`DatasetInfo`)
    video.mp4           the frames, H.264, with the sound for viewing
    audio.wav           16 kHz mono PCM16
    track.safetensors   poses, landmarks, eye_openness, valid, and whatever else was tracked
    parsing.mkv         lossless label maps (`LABELS`)
    background.png      the scene without the person
    report.json/.png    what was measured; not read back by anything here

Image coordinates are pixels of the dataset's size, the first pixel's centre at (0.5, 0.5).
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from nldf_engine.audio import FrontendConfig, features, load_audio
from nldf_engine.base.clock import SAMPLE_RATE
from nldf_engine.base.errors import FileProblem
from nldf_engine.base.files import as_file_problem, atomic_folder, check_name, inside, write_json
from nldf_engine.base.roomy import roomy_bytes
from nldf_engine.datasets.features import keep_features, kept_features
from nldf_engine.datasets.format import (
    CHANGED,
    EDITABLE,
    LABELS,
    NEEDED,
    PREPARE_AGAIN,
    SCHEMA,
    TRACK,
    VALIDATION,
    DatasetInfo,
    changed_files,
    check_sizes,
    check_target,
    check_track,
    describe_files,
    near_far,
    read_info,
    read_track,
    wav_length,
    write_wav,
)
from nldf_engine.media.pictures import encode_png, read_picture
from nldf_engine.media.video import VideoWriter, decode, labels_of, probe

T = TypeVar("T")

__all__ = ["LABELS", "Dataset", "DatasetInfo", "near_far", "write_dataset"]


class Dataset:
    """One opened dataset; big arrays are decoded at first use and kept.

    A layout of another project is a subclass (`datasets.foreign`): it fills in the same attributes and
    overrides what reads the files, `pictures`, `label_maps`, `plate`, `sound`, `compute_features` and `hash`.

    Args:
        path: the folder.
        info: its description.
        track: "poses" [T, 4, 4], "landmarks" [T, 478, 2] in pixels, "eye_openness" [T], "valid" [T] bool, and
            whatever else was tracked, which becomes `extra`.

    Attributes:
        lists: [T] int64, the list that each frame stands in, below 0 for none; all are in one here. A layout
            that lists the frames of each split by themselves says so.

    Example:
        dataset = Dataset.open("data/speaker")
        frames, poses = dataset.frames(size=256), dataset.poses[dataset.indices("fit")]
    """

    def __init__(self, path: Path, info: DatasetInfo, track: dict[str, np.ndarray]) -> None:
        self.path, self.info, self.camera = path, info, info.camera
        self.poses = track["poses"]
        self.landmarks = track["landmarks"]
        self.eye_openness = track["eye_openness"]
        self.valid = track["valid"]
        self.extra = {k: v for k, v in track.items() if k not in TRACK}
        self.lists = np.zeros(info.frames, np.int64)
        self._cache: dict[Any, np.ndarray] = {}

    def __len__(self) -> int:
        return self.info.frames

    @classmethod
    def open(cls, path: str | Path) -> Dataset:
        """Opens a folder that `nldf prepare` wrote, and checks all that takes no decoding of it whole.

        `open_dataset` opens folders of other projects as well.

        Raises:
            FileProblem: something is missing, damaged, of the wrong shape, newer, or outside the folder.
        """
        path = check_name(path)
        if not path.is_dir():
            what = "it is a file, and a dataset is a folder" if path.exists() else "there is no such folder"
            raise FileProblem(path, what, "make one with: nldf prepare VIDEO -o FOLDER")
        if not (path / "dataset.json").exists():
            missing = "it is no dataset: dataset.json is missing"
            raise FileProblem(path, missing, "make one with: nldf prepare VIDEO -o FOLDER")
        info = read_info(path)
        for name in NEEDED:
            if not inside(path, name).is_file():
                raise FileProblem(path / name, "it is missing", PREPARE_AGAIN)
        check_sizes(path, info.files)
        track = read_track(path / "track.safetensors", info.frames)
        for name in ("video.mp4", "parsing.mkv"):
            _check_video(path / name, info)
        wav_length(path / "audio.wav")
        return cls(path, info, track)

    # What a layout reads in its own way. Nothing below this block knows what is in the folder.

    def pictures(self, start: int = 0, stop: int | None = None) -> Iterator[np.ndarray]:
        """Frames [start, stop), or all, decoded one by one: uint8 [H, W, 3] RGB, or larger by padding.

        Raises:
            FileProblem: a file is damaged, or has another number of frames than it should.
        """
        shots = self._counted("video.mp4", decode(self.path / "video.mp4"))
        return (shot.picture() for shot in islice(shots, start, stop))

    def label_maps(self) -> Iterator[np.ndarray]:
        """All label maps one by one, uint8 [H, W], values of `LABELS`.

        Raises:
            FileProblem: a file is damaged, or holds something else.
        """
        path = self.path / "parsing.mkv"
        for label in self._counted("parsing.mkv", labels_of(path)):
            if int(label.max()) not in LABELS.values():
                raise FileProblem(path, f"it holds the label {label.max()}", PREPARE_AGAIN)
            yield label

    def plate(self) -> np.ndarray:
        """The scene without the person, uint8 [H, W, 3] RGB.

        Raises:
            FileProblem: it is no picture of that size.
        """
        path, (width, height) = self.path / "background.png", self.info.size
        remedy = f"put a picture of {width} x {height} pixels there, or {PREPARE_AGAIN}"
        picture = read_picture(path, remedy)
        if picture.shape[1::-1] != (width, height):
            came = f"it is {picture.shape[1]} x {picture.shape[0]}, and must be {width} x {height}"
            raise FileProblem(path, came, remedy)
        return picture

    def sound(self) -> np.ndarray:
        """The sound that goes with the frames, float32 [N] mono at 16 kHz.

        Raises:
            FileProblem: there is none, or it is damaged.
        """
        return load_audio(self.path / "audio.wav")

    def compute_features(self, config: FrontendConfig) -> np.ndarray:
        """Audio features of one front-end, float32 [T, W, D]; kept beside the data where it can be written.

        Raises:
            FileProblem: there is no sound to compute them from.
        """
        name = "features_" + re.sub(r"[^A-Za-z0-9-]+", "-", str(config.name)) + ".safetensors"
        digest = hashlib.sha256((self.path / "audio.wav").read_bytes())
        digest.update(json.dumps(config.to_json(), sort_keys=True).encode())
        kept = kept_features(self.path / name, digest.hexdigest(), len(self))
        if kept is not None:
            return kept
        made = features(self.audio(), config, frames=len(self)).copy()
        keep_features(self.path / name, digest.hexdigest(), made)
        return made

    def hash(self) -> str:
        """SHA-256 over the description and every file of the data: which data a model was trained on."""
        digest = hashlib.sha256()
        for name in ("dataset.json", *NEEDED):
            with open(self.path / name, "rb") as stream:
                while block := stream.read(1 << 20):
                    digest.update(block)
        return digest.hexdigest()

    # What every layout has.

    @property
    def filmed_width(self) -> float:
        """How many pixels of the camera the frames' width spans; their own width where nothing says so.

        Frames that were enlarged from fewer show no more than those did.
        """
        crop = self.info.source.get("crop")
        filmed = float(crop[2]) if isinstance(crop, list) and len(crop) == 3 else float("inf")
        return min(filmed, self.info.size[0])

    def scaled_size(self, width: int | None) -> tuple[int, int]:
        """(width, height) of the frames scaled down to a width; their own size where it is None.

        Raises:
            ValueError: the width is not in 1..the dataset's own.
        """
        size = self.info.size
        if width is None or width == size[0]:
            return (size[0], size[1])
        if not 1 <= width <= size[0]:
            raise ValueError(f"size: expected 1 to {size[0]}, the width of {self.path}, got {width}")
        return width, max(1, round(size[1] * width / size[0]))

    def frames(self, size: int | None = None, chosen: np.ndarray | None = None) -> np.ndarray:
        """The video, uint8 [T, h, w, 3] RGB; `size` is the width, scaled down by area.

        With `chosen`, numbers of frames [N], the others are black, and take no memory.

        Raises:
            ValueError: the width is not in 1..the dataset's own.
            FileProblem: a file is damaged.
        """
        scaled = self.scaled_size(size)

        def load() -> np.ndarray:
            shape = (*scaled[::-1], 3)
            return self._stacked(
                self.pictures(), shape, lambda picture: self._shrunk(picture, scaled), chosen
            )

        return self._cached(("frames", scaled, _key(chosen)), load)

    def read_frames(self, start: int, stop: int, size: int | None = None) -> Iterator[np.ndarray]:
        """Frames [start, stop) of `frames(size)`, decoded one by one and not kept."""
        scaled = self.scaled_size(size)
        for picture in self.pictures(start, stop):
            yield self._shrunk(picture, scaled)

    def labels(self, size: int | None = None, chosen: np.ndarray | None = None) -> np.ndarray:
        """The label maps, uint8 [T, h, w], values of `LABELS`; scaled by nearest neighbour.

        With `chosen`, numbers of frames [N], the others are background, and take no memory.

        Raises:
            ValueError: the width is not in 1..the dataset's own.
            FileProblem: a file is damaged.
        """
        scaled = self.scaled_size(size)

        def one(label: np.ndarray) -> np.ndarray:
            import cv2

            if scaled == self.info.size:
                return label
            return np.asarray(cv2.resize(label, scaled, interpolation=cv2.INTER_NEAREST_EXACT))

        def load() -> np.ndarray:
            return self._stacked(self.label_maps(), scaled[::-1], one, chosen)

        return self._cached(("labels", scaled, _key(chosen)), load)

    def background(self, size: int | None = None) -> np.ndarray:
        """The scene without the person, uint8 [h, w, 3] RGB; `size` as in `frames`."""
        scaled = self.scaled_size(size)
        return self._cached(("background", scaled), lambda: self._shrunk(self.plate(), scaled))

    def audio(self) -> np.ndarray:
        """The sound, float32 [N] mono at 16 kHz; see `sound`."""
        return self._cached("audio", self.sound)

    def audio_features(self, frontend: str | FrontendConfig = "mel") -> np.ndarray:
        """Features of one front-end, float32 [T, W, D]; see `compute_features`.

        Args:
            frontend: a name or a FrontendConfig of nldf_engine.audio.
        """
        config = FrontendConfig(name=frontend) if isinstance(frontend, str) else frontend
        # What is kept beside the data says which weights it was made with.
        config = config if config.kind.weights is None else config.resolve()
        return self._cached(("features", str(config)), lambda: self.compute_features(config))

    def torso_motion(self) -> np.ndarray | None:
        """Tracked torso motion, float32 [T, 2, 3] in units of the frame's width; None where it has none."""
        if "torso" not in self.extra:
            return None
        motion = np.array(self.extra["torso"], np.float32)
        motion[:, :, 2] /= self.info.size[0]
        return motion

    @property
    def face_points(self) -> np.ndarray | None:
        """The mesh of the speaker's face at rest, float64 [468 or 478, 3], metres in head space; None where
        the dataset holds none."""
        found = next((self.extra[name] for name in ("shape", "rest_points") if name in self.extra), None)
        return None if found is None else np.asarray(found, np.float64)

    def indices(self, split: str) -> np.ndarray:
        """int64 indices of the frames with a face in "train", "heldout", "validation", "fit" or "all".

        "validation" is the last tenth of "train"; "fit" is the rest of it.

        Raises:
            ValueError: an unknown split.
        """
        first, last = self.info.splits["train"]
        cut = last - round((last - first) * VALIDATION)
        ranges = {
            **{name: (part[0], part[1]) for name, part in self.info.splits.items()},
            "fit": (first, cut),
            "validation": (cut, last),
            "all": (0, len(self)),
        }
        if split not in ranges:
            raise ValueError(
                f"Dataset.indices: split must be one of {', '.join(sorted(ranges))}, got {split!r}"
            )
        begin, end = ranges[split]
        return begin + np.flatnonzero(self.valid[begin:end])

    def check_unchanged(self) -> None:
        """Checks that the data is what `prepare` wrote, byte for byte; an edited background is.

        Costs one reading of the folder. `open` does without: it compares sizes only.

        Raises:
            FileProblem: a file has another content than dataset.json says.
        """
        for name in changed_files(self.path, self.info.files):
            if name not in EDITABLE:
                raise FileProblem(self.path / name, CHANGED, f"copy the dataset again, or {PREPARE_AGAIN}")

    def _counted(self, name: str, items: Iterator[T]) -> Iterator[T]:
        """The first T items; FileProblem at their end where there are more or fewer in the file `name`."""
        count = 0
        for item in items:
            count += 1
            if count <= len(self):
                yield item
        if count != len(self):
            counts = f"it has {count} frames, and dataset.json says {len(self)}"
            raise FileProblem(self.path / name, counts, PREPARE_AGAIN)

    def _stacked(
        self, items: Iterable[np.ndarray], shape: tuple[int, ...], made: Callable[[np.ndarray], np.ndarray],
        chosen: np.ndarray | None,
    ) -> np.ndarray:  # fmt: skip
        """T items as uint8 [T, *shape], those chosen `made` into that, others zero; see `roomy_bytes`."""
        wanted = np.full(len(self), chosen is None)
        wanted[() if chosen is None else chosen] = True
        whole = roomy_bytes((len(self), *shape))
        for k, item in enumerate(items):  # all are read: a damaged file is told
            if wanted[k]:
                whole[k] = made(item)
        return whole

    def _shrunk(self, picture: np.ndarray, scaled: tuple[int, int]) -> np.ndarray:
        """A picture without the padding that H.264 needs, scaled to (width, height) by area."""
        import cv2

        width, height = self.info.size
        picture = np.ascontiguousarray(picture[:height, :width])
        if scaled == (width, height):
            return picture
        return np.asarray(cv2.resize(picture, scaled, interpolation=cv2.INTER_AREA))

    def _cached(self, key: Any, load: Callable[[], np.ndarray]) -> np.ndarray:
        if key not in self._cache:
            self._cache[key] = load()
        return self._cache[key]


def _check_video(path: Path, info: DatasetInfo) -> None:
    """Checks size and number of frames of the video or the label maps, as far as the header says them."""
    video, whole = probe(path), path.name == "video.mp4"
    even = (info.size[0] + info.size[0] % 2, info.size[1] + info.size[1] % 2)  # H.264 pads odd sizes
    if (video.width, video.height) != (even if whole else tuple(info.size)):
        came, wanted = f"{video.width} x {video.height}", f"{info.size[0]} x {info.size[1]}"
        raise FileProblem(path, f"its frames are {came}, and dataset.json says {wanted}", PREPARE_AGAIN)
    if abs(video.frames - info.frames) > (0 if whole else 1):
        counts = f"it has {video.frames} frames, and dataset.json says {info.frames}"
        raise FileProblem(path, counts, PREPARE_AGAIN)


def write_dataset(
    path: str | Path,
    info: DatasetInfo,
    *,
    video: Iterable[np.ndarray] | Path,
    labels: Iterable[np.ndarray] | Path,
    background: np.ndarray,
    audio: np.ndarray,
    track: Mapping[str, np.ndarray],
    report: Mapping[str, Any] | None = None,
    report_image: np.ndarray | None = None,
    crf: int = 14,
) -> Dataset:
    """Writes a dataset folder whole, replacing an older one, or leaves everything as it was.

    Args:
        path: the folder.
        info: its `files` are filled in here.
        video: T frames uint8 [H, W, 3], streamed; or a finished mp4 to copy.
        labels: T maps uint8 [H, W] of `LABELS` values, streamed in step with `video`; or a finished mkv.
        background: uint8 [H, W, 3].
        audio: float [N] mono at 16 kHz.
        track: "poses" [T, 4, 4], "landmarks" [T, 478, 2], "eye_openness" [T], "valid" [T], and extras.
        report: for report.json.
        report_image: uint8 [h, w, 3] for report.png.
        crf: H.264 quality of the frames, lower is better.

    Raises:
        ValueError: a shape or dtype does not fit `info`.
        FileProblem: the folder can't be written.
    """
    from safetensors.numpy import save

    path = check_target(Path(path))
    tensors = check_track(dict(track), info.frames, ValueError)
    width, height = info.size
    if background.shape != (height, width, 3) or background.dtype != np.uint8:
        raise ValueError(
            f"write_dataset: background must be uint8 {(height, width, 3)}, got {background.shape}"
        )
    if audio.ndim != 1 or not np.isfinite(audio).all():
        raise ValueError(f"write_dataset: audio must be finite and [N], got shape {audio.shape}")
    with as_file_problem(path), atomic_folder(path) as folder:
        if isinstance(video, Path) or isinstance(labels, Path):
            if not (isinstance(video, Path) and isinstance(labels, Path)):
                raise ValueError("write_dataset: give video and labels both as files or both as frames")
            shutil.copyfile(video, folder / "video.mp4")
            shutil.copyfile(labels, folder / "parsing.mkv")
        else:
            _encode(folder, info, video, labels, audio, crf)
        write_wav(folder / "audio.wav", audio)
        (folder / "track.safetensors").write_bytes(save(tensors))
        for name, picture in (("background.png", background), ("report.png", report_image)):
            if picture is not None:
                (folder / name).write_bytes(encode_png(picture))
        write_json(folder / "report.json", dict(report or {}))
        described = replace(info, files=describe_files(folder), schema=SCHEMA)
        write_json(folder / "dataset.json", described.to_json())
        Dataset.open(folder)
    return Dataset.open(path)


def _encode(
    folder: Path,
    info: DatasetInfo,
    video: Iterable[np.ndarray],
    labels: Iterable[np.ndarray],
    audio: np.ndarray,
    crf: int,
) -> None:
    sound = (audio.astype(np.float32), SAMPLE_RATE) if audio.size else None
    with (
        VideoWriter(folder / "video.mp4", *info.size, fps=info.fps, audio=sound, crf=crf) as frames_out,
        VideoWriter(folder / "parsing.mkv", *info.size, fps=info.fps, codec="ffv1") as labels_out,
    ):
        for frame, label in zip(video, labels, strict=True):
            frames_out.write(frame)
            labels_out.write(label)
        if frames_out.frames != info.frames:
            raise ValueError(f"write_dataset: info says {info.frames} frames, got {frames_out.frames}")


def _key(chosen: np.ndarray | None) -> bytes | None:
    return None if chosen is None else np.asarray(chosen).tobytes()
