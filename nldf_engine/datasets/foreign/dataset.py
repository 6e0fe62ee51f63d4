"""A foreign folder as a `Dataset`: nothing is copied, converted on disk or written beside it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nldf_engine.audio import FrontendConfig, features, load_audio
from nldf_engine.audio.precomputed import load_features
from nldf_engine.base.clock import FPS, SAMPLE_RATE
from nldf_engine.base.errors import FileProblem
from nldf_engine.datasets.dataset import LABELS, Dataset, DatasetInfo
from nldf_engine.datasets.foreign.checks import sound_of
from nldf_engine.datasets.foreign.findings import Findings
from nldf_engine.datasets.foreign.marks import (
    PIXEL,
    eye_openness,
    from_blinks,
    read_blinks,
    read_marks,
    to_mesh,
)
from nldf_engine.datasets.foreign.scan import scan
from nldf_engine.geometry.transforms import AGAIN, TRANSFORMS
from nldf_engine.media.pictures import read_levels

# By which of red, green and blue are bright: white, blue, green, red. Black hair and a grey inner mouth,
# as relatives of these layouts paint them, are parts of the head.
_COLORS = {0b111: "background", 0b001: "head", 0b010: "neck", 0b100: "torso", 0b000: "head"}
_TABLE = np.full(8, 255, np.uint8)
for _code, _label in _COLORS.items():
    _TABLE[_code] = LABELS[_label]


def labels_from(path: Path) -> np.ndarray:
    """The label map, uint8 [H, W] of `LABELS`, of a parsing picture.

    Raises:
        FileProblem: it is no picture, or has colours that mean nothing.
    """
    import cv2

    picture = read_levels(path, cv2.IMREAD_COLOR, "run the layout's face parsing again")
    bright = picture > 127
    labels = _TABLE[bright[..., 2] * 4 + bright[..., 1] * 2 + bright[..., 0]]
    if (labels == 255).any():
        y, x = np.argwhere(labels == 255)[0]
        color = picture[y, x, ::-1].tolist()
        what = (
            f"the colour {color} at ({x}, {y}) is none of blue head, green neck, red torso, white background"
        )
        raise FileProblem(path, what, "run the layout's face parsing again")
    return labels


class ForeignDataset(Dataset):
    """A folder of another project, seen as a dataset of ours.

    Frame k is picture `first + k`. Frames that the layout does not list, or that lack a file, keep their
    number and are not valid.

    Args:
        path: the folder as it was named.
        found: what is in it, without errors.
    """

    def __init__(self, path: Path, found: Findings) -> None:
        assert found.camera is not None
        self.found = found
        pictures = found.files[found.pictures]
        self.first = int(min(found.ids[0], min(pictures)))
        frames = int(max(found.ids[-1], max(pictures))) - self.first + 1
        places = found.ids - self.first
        near = _nearest(places, frames)
        held, train = places[found.held], places[~found.held]
        begin, end = int(held[0]), int(held[-1]) + 1
        splits = {"train": [0, begin], "heldout": [begin, end if (train > end).any() else frames]}
        if train[0] > held[-1]:  # held out before
            splits = {"train": [int(train[0]), frames], "heldout": [0, int(train[0])]}
        # The audio row of every frame, listed or not: rows run with the frames.
        shift = int(np.median(found.audio_ids - places))
        self.rows = np.arange(frames) + shift
        self.rows[places] = found.audio_ids
        sound = sound_of(found.folder)
        audio: dict[str, Any] = {"frontend": "mel" if sound is not None else "precomputed"}
        if sound is None and found.features is not None:
            audio["dim"] = int(np.load(found.features, mmap_mode="r", allow_pickle=False).shape[2])
        info = DatasetInfo(
            frames, (found.camera.width, found.camera.height), found.camera, found.near, found.far,
            fps=FPS, splits=splits, audio=audio,
            source={"layout": found.kind.name, "folder": path.resolve().name, "first_frame": self.first},
        )  # fmt: skip
        usable = np.zeros(frames, bool)
        usable[places] = found.usable
        points, eyes = self._marks(frames)
        if found.eyes is not None:
            eyes = np.interp(np.arange(frames), places, found.eyes).astype(np.float32)
        track = {
            "poses": found.poses[near].astype(np.float32),
            "landmarks": to_mesh(points),
            "eye_openness": eyes,
            "valid": usable,
        }
        super().__init__(path, info, track)
        self.lists = np.full(frames, -1)
        self.lists[places] = found.held

    def _marks(self, frames: int) -> tuple[np.ndarray, np.ndarray]:
        """Landmarks [T, 68, 2] and eye openness [T]; a frame without has those of its neighbours."""
        found = self.found
        known = {n - self.first: p for n, p in found.files["lms"].items() if 0 <= n - self.first < frames}
        at = np.array(sorted(known))
        try:
            read = np.stack([read_marks(known[k]) for k in at.tolist()]) + PIXEL
        except (ValueError, OSError) as error:
            raise FileProblem(found.folder / "ori_imgs", f"a .lms file can't be read ({error})",
                              "run the layout's landmark step again") from error  # fmt: skip
        flat = read.reshape(len(at), -1)
        every = np.arange(frames)
        points = np.stack([np.interp(every, at, column) for column in flat.T], 1).reshape(frames, -1, 2)
        eyes = eye_openness(points)
        csv = found.folder / "au.csv"
        if found.kind.blinks and csv.is_file():
            blinks = read_blinks(csv)
            eyes = from_blinks(blinks[np.minimum(every + self.first, len(blinks) - 1)])
        return points, eyes

    @classmethod
    def open(cls, path: str | Path) -> ForeignDataset:
        """Opens a folder of AD-NeRF, DFRF, RAD-NeRF or ER-NeRF.

        Raises:
            FileProblem: it can't be used; the message is the first error that `nldf validate` prints.
            ValueError: it is none of the four layouts.
        """
        found = scan(path)
        if found.errors:
            first, more = found.errors[0], len(found.errors) - 1
            rest = f" ({more} more: nldf validate {path})" if more else ""
            raise FileProblem(first.where, first.what + rest, first.remedy)
        return cls(Path(path), found)

    def pictures(self, start: int = 0, stop: int | None = None) -> Iterator[np.ndarray]:
        """Frames [start, stop), or all, one by one: uint8 [H, W, 3] RGB; black where there is no picture."""
        black = np.zeros((self.info.size[1], self.info.size[0], 3), np.uint8)
        for path in self._paths(self.found.pictures, start, stop):
            yield black if path is None else self._picture(path)

    def label_maps(self) -> Iterator[np.ndarray]:
        """All label maps one by one, uint8 [H, W] of `LABELS`; background where the folder has none."""
        none = np.zeros((self.info.size[1], self.info.size[0]), np.uint8)
        for path in self._paths("parsing"):
            if path is None:
                yield none
                continue
            label = labels_from(path)
            if label.shape != none.shape:
                wanted = f"{self.info.size[0]} x {self.info.size[1]}"
                came = f"it is {label.shape[1]} x {label.shape[0]}, the pictures {wanted}"
                raise FileProblem(path, came, "run the layout's face parsing again")
            yield label

    def plate(self) -> np.ndarray:
        """The scene without the person, uint8 [H, W, 3] RGB, from bc.jpg."""
        return self._picture(self.found.folder / "bc.jpg")

    def sound(self) -> np.ndarray:
        """The sound that goes with the frames, float32 [N] mono at 16 kHz.

        Raises:
            FileProblem: the folder has none.
        """
        path = sound_of(self.found.folder)
        if path is None:
            raise FileProblem(
                self.found.folder / "aud.wav", "there is no sound", "put the video's sound there, 16 kHz wav"
            )
        # Frame 0 need not be the first of the video.
        first = max(0, int(np.median(self.rows - np.arange(len(self)))))
        start, length = round(first * SAMPLE_RATE / FPS), round(len(self) * SAMPLE_RATE / FPS)
        return np.ascontiguousarray(load_audio(path)[start : start + length])

    def compute_features(self, config: FrontendConfig) -> np.ndarray:
        """Features of one front-end, float32 [T, W, D]; "precomputed" are those of the folder itself.

        Frames after the last row of the folder's features have that row, as in the layouts' own code.

        Raises:
            FileProblem: the folder has no such features, or no sound to compute them from.
        """
        if config.name != "precomputed":
            return features(self.audio(), config, frames=len(self)).copy()
        came = []
        for name in self.found.kind.features:
            path = self.found.folder / name
            if path.is_file():
                rows = load_features(path)
                if config.dim in (0, rows.shape[2]):
                    return np.ascontiguousarray(rows[np.clip(self.rows, 0, len(rows) - 1)])
                came.append(f"{name} has {rows.shape[2]} features a row")
        what = "; ".join(came) or "there are no audio features"
        wanted = f"; {config.dim} were asked for" if config.dim else ""
        raise FileProblem(self.found.folder, what + wanted, "extract them with the layout's own program")

    def composed(self, frames: Sequence[int]) -> np.ndarray:
        """Frames as AD-NeRF and DFRF train on them, the person before the clean background: uint8
        [N, H, W, 3] RGB, from com_imgs.

        Raises:
            FileProblem: the folder lacks one, or it has another size.
        """
        paths = self.found.files.get("com_imgs", {})
        numbers = [self.first + frame for frame in frames]
        missing = [number for number in numbers if number not in paths]
        if missing:
            where = self.found.folder / "com_imgs" / f"{missing[0]}.jpg"
            raise FileProblem(where, "there is no such picture", "run the layout's preparation again")
        return np.stack([self._picture(paths[number]) for number in numbers])

    def hash(self) -> str:
        """SHA-256 over the transforms, the sound, the features and the frames' pictures."""
        digest = hashlib.sha256()
        names = [*TRANSFORMS, "aud.wav", "au.csv", *self.found.kind.features]
        paths = [self.found.folder / name for name in names]
        pictures = sorted(self.found.files[self.found.pictures].items())
        for path in [*(p for p in paths if p.is_file()), *(p for _, p in pictures)]:
            digest.update(path.name.encode())
            digest.update(path.read_bytes())
        return digest.hexdigest()

    def _paths(self, folder: str, start: int = 0, stop: int | None = None) -> Iterator[Path | None]:
        """The files of frames [start, stop) in one of its folders; None where a frame has none."""
        for k in range(len(self))[start:stop]:
            yield self.found.files[folder].get(self.first + k)

    def _picture(self, path: Path) -> np.ndarray:
        import cv2

        picture = read_levels(path, cv2.IMREAD_COLOR, AGAIN)
        if picture.shape[1::-1] != self.info.size:
            came = f"{picture.shape[1]} x {picture.shape[0]}"
            wanted = f"it must be {self.info.size[0]} x {self.info.size[1]}, and is {came}"
            raise FileProblem(path, wanted, AGAIN)
        return np.ascontiguousarray(picture[..., ::-1])


def _nearest(places: np.ndarray, frames: int) -> np.ndarray:
    """[frames] for every frame the index of the listed frame that is nearest to it."""
    after = np.searchsorted(places, np.arange(frames)).clip(0, len(places) - 1)
    before = (after - 1).clip(0)
    closer = np.abs(places[before] - np.arange(frames)) <= np.abs(places[after] - np.arange(frames))
    return np.where(closer, before, after)
