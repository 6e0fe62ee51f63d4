"""A `Dataset` as a folder that AD-NeRF or RAD-NeRF reads without its own preparation."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nldf_engine.base.errors import FileProblem
from nldf_engine.base.files import as_file_problem, atomic_folder
from nldf_engine.base.progress import track
from nldf_engine.datasets.dataset import LABELS, Dataset
from nldf_engine.datasets.foreign.dataset import ForeignDataset
from nldf_engine.datasets.foreign.kinds import KINDS, Kind
from nldf_engine.datasets.foreign.marks import PIXEL, to_marks
from nldf_engine.datasets.format import write_wav
from nldf_engine.geometry.transforms import turn
from nldf_engine.media.pictures import encode_png

LAYOUTS = ("adnerf", "radnerf")
QUALITY = 100  # of the JPEGs, without halved colours
PARSING = {"background": (255, 255, 255), "head": (0, 0, 255), "neck": (0, 255, 0), "torso": (255, 0, 0)}


@dataclass(frozen=True)
class Export:
    """What `export_layout` wrote.

    Args:
        folder: where.
        layout: its name.
        frames: pictures written.
        listed: of them in train and held-out transforms.
        features: the features' file.
        lost: what the layout has no place for, in sentences.
    """

    folder: Path
    layout: str
    frames: int
    listed: tuple[int, int]
    features: str
    lost: list[str] = field(default_factory=list)


def export_layout(dataset: Dataset, layout: str, folder: str | Path) -> Export:
    """Writes a dataset as a folder of another project, whole or not at all.

    Frame k becomes picture k. Frames without a face get a picture but no landmarks, and no transforms
    list them, which is how both layouts treat them.

    Args:
        dataset: what to write.
        layout: "adnerf" or "radnerf".
        folder: a path where nothing is, or an empty folder.

    Raises:
        ValueError: an unknown layout.
        FileProblem: the folder can't be written, or the layout can't hold the dataset's camera.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"export_layout: layout must be one of {', '.join(LAYOUTS)}, got {layout!r}")
    kind, folder = KINDS[layout], Path(folder)
    camera = dataset.camera
    if camera.fx != camera.fy:
        raise FileProblem(
            dataset.path,
            f"its focal lengths differ (fx {camera.fx:g}, fy {camera.fy:g}), and {kind.title} has one",
            "prepare the video with square pixels",
        )  # fmt: skip
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        # Not even an older one of that kind: trained networks are in its logs.
        raise FileProblem(
            folder, "it exists, and is never replaced", "choose another output path, or delete it"
        )
    with as_file_problem(folder), atomic_folder(folder) as target:
        _pictures(dataset, kind, target)
        features = _sound(dataset, kind, target)
        listed = _transforms(dataset, kind, target)
        if layout == "adnerf":
            _configs(dataset, folder, target)
    return Export(folder, layout, len(dataset), listed, features, _lost(dataset, kind, features))


def _pictures(dataset: Dataset, kind: Kind, target: Path) -> None:
    for name in ("ori_imgs", "parsing", *kind.derived):
        (target / name).mkdir()
    colors = np.zeros((len(LABELS), 3), np.uint8)
    for name, color in PARSING.items():
        colors[LABELS[name]] = color
    plate = dataset.background()
    _save_jpeg(target / "bc.jpg", plate)
    labels, points = dataset.labels(), to_marks(dataset.landmarks.astype(np.float64)) - PIXEL
    frames = dataset.read_frames(0, len(dataset))
    for number, frame in enumerate(track(frames, f"export {kind.name}", len(dataset))):
        label = labels[number]
        _save_jpeg(target / "ori_imgs" / f"{number}.jpg", frame)
        (target / "parsing" / f"{number}.png").write_bytes(encode_png(colors[label]))
        if dataset.valid[number]:
            lines = "".join(f"{x:.6f} {y:.6f}\n" for x, y in points[number])
            (target / "ori_imgs" / f"{number}.lms").write_text(lines, encoding="ascii")
        person = np.where((label != LABELS["background"])[..., None], frame, plate)
        if kind.name == "adnerf":
            head = np.where((label == LABELS["head"])[..., None], frame, plate)
            _save_jpeg(target / "head_imgs" / f"{number}.jpg", head)
            _save_jpeg(target / "com_imgs" / f"{number}.jpg", person)
        else:
            body = (label == LABELS["neck"]) | (label == LABELS["torso"])
            alpha = np.where(body, 255, 0).astype(np.uint8)[..., None]
            torso = np.concatenate([frame * (alpha > 0), alpha], 2)
            _save_jpeg(target / "gt_imgs" / f"{number}.jpg", person)
            (target / "torso_imgs" / f"{number}.png").write_bytes(encode_png(torso))


def _save_jpeg(path: Path, picture: np.ndarray) -> None:
    """Writes uint8 [H, W, 3] RGB at full chroma resolution."""
    import cv2

    settings = [cv2.IMWRITE_JPEG_QUALITY, QUALITY, cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
                cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]  # fmt: skip
    done, data = cv2.imencode(".jpg", np.ascontiguousarray(picture[..., ::-1]), settings)
    if not done:
        raise FileProblem(path, "the picture could not be encoded")
    path.write_bytes(data.tobytes())


def _sound(dataset: Dataset, kind: Kind, target: Path) -> str:
    """Writes sound and features; the name of the features' file."""
    own = isinstance(dataset, ForeignDataset) and dataset.found.features is not None
    try:
        write_wav(target / "aud.wav", dataset.audio())
    except FileProblem:
        if not own:  # features alone are enough for both layouts
            raise
    rows = dataset.audio_features("precomputed" if own else "mel")
    by_size = {44: "aud_eo.npy"} if kind.name == "radnerf" else {}
    name = by_size.get(rows.shape[2], kind.features[0])
    np.save(target / name, np.ascontiguousarray(rows, np.float32), allow_pickle=False)
    return name


def _transforms(dataset: Dataset, kind: Kind, target: Path) -> tuple[int, int]:
    camera = dataset.camera
    matrices = turn(dataset.poses)
    points = to_marks(dataset.landmarks.astype(np.float64)) - PIXEL
    counts = []
    for name, split in (("train", "train"), ("val", "heldout")):
        frames: list[dict[str, Any]] = []
        for k in dataset.indices(split).tolist():
            row: dict[str, Any] = {"img_id": k, "aud_id": k, "transform_matrix": matrices[k].tolist()}
            # Not of the layouts, whose loaders pass over it: what their landmarks say less exactly.
            row["eye_openness"] = float(np.clip(dataset.eye_openness[k], 0, 1))
            if "face_rect" in kind.rects:
                row["frame_id"] = k  # AD-NeRF's test of a head needs it, and focal_length
                row["face_rect"] = face_rect(points[k], camera.width, camera.height)
            frames.append(row)
        head: dict[str, Any] = {
            "focal_len": camera.fx, "cx": camera.cx - kind.half_pixel, "cy": camera.cy - kind.half_pixel,
            "w": camera.width, "h": camera.height,
        }  # fmt: skip
        if "face_rect" in kind.rects:
            head["focal_length"] = camera.fx
        text = json.dumps({**head, "frames": frames}, indent=2, allow_nan=False) + "\n"
        (target / f"transforms_{name}.json").write_text(text, encoding="utf-8")
        counts.append(len(frames))
    return counts[0], counts[1]


def face_rect(points: np.ndarray, width: int, height: int) -> list[int]:
    """AD-NeRF's box [x, y, width, height] about a face, of its landmarks [68, 2] in pixels.

    It is centred on the middle of the face's width and the top of the nose, reaches 1.5 times as far as
    the landmarks to both sides and 1.15 times as far as the chin up and down, and stays in the picture.
    """
    left, right = points[:, 0].min(), points[:, 0].max()
    middle, top = int((left + right) / 2), int(points[27, 1])
    half_width, half_height = int(1.5 * (right - middle)), int(1.15 * (points[8, 1] - top))
    x, y = max(0, middle - half_width), max(0, top - half_height)
    return [x, y, min(width - 1 - x, 2 * half_width), min(height - 1 - y, 2 * half_height)]


def _configs(dataset: Dataset, folder: Path, target: Path) -> None:
    near, far = dataset.info.near, dataset.info.far
    identity, home = folder.name, folder.resolve()
    skip = max(1, len(dataset.indices("heldout")) // 7)
    for name, part, tail in (
        ("HeadNeRF_config.txt", "head", f"testskip = {skip}"),
        ("TorsoNeRF_config.txt", "com", f"testskip = {skip}"),
        ("TorsoNeRFTest_config.txt", "com", "with_test = 1\ntest_pose_file = transforms_val.json"),
    ):
        lines = f"expname = {identity}_{part}\ndatadir = {home}\nbasedir = {home / 'logs'}\n"
        lines += f"near = {near}\nfar = {far}\n"
        (target / name).write_text(lines + tail + "\n", encoding="utf-8")
    for part in ("head", "com"):
        (target / "logs" / f"{identity}_{part}").mkdir(parents=True)


def _lost(dataset: Dataset, kind: Kind, features: str) -> list[str]:
    lost = [
        "410 of the 478 landmarks: a .lms file has 68",
        "H.264 frames became JPEGs of quality 100",
    ]
    if dataset.extra:
        lost.append(f"tracked tensors beside the poses: {', '.join(sorted(dataset.extra))}")
    if kind.name == "radnerf":
        lost.append("near and far: RAD-NeRF has a box instead")
    if not isinstance(dataset, ForeignDataset):
        lost.append(f"{features} holds mel features of the size of DeepSpeech's, and not DeepSpeech's own")
    return lost
