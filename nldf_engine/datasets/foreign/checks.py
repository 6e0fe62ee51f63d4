"""What can be wrong with a foreign folder, in sentences, as far as it shows without decoding (`decode`)."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np

from nldf_engine.audio import load_audio
from nldf_engine.audio.precomputed import load_features
from nldf_engine.base.clock import FPS, SAMPLE_RATE
from nldf_engine.base.errors import FileProblem
from nldf_engine.datasets.foreign.findings import FEWEST, Findings
from nldf_engine.datasets.foreign.marks import read_blinks, read_marks
from nldf_engine.geometry.transforms import AGAIN, TRANSFORMS, check_facing, depths, some, usual_bounds
from nldf_engine.media.video import probe

FEW_ROWS = 4  # audio rows that end before the frames do: two windows' worth is usual
SOUND_SLACK = 0.5  # seconds
SHALLOW, DEEP = 0.2, 4.0  # metres from camera to head that make sense
BOUND_SLACK = 0.1  # metres
# What the layouts' own code takes: numbers of rows and features in a frame's window.
WINDOWS = {"aud.npy": (16, 29), "aud_ds.npy": (16, 29), "aud_eo.npy": (16, 44), "aud_hu.npy": (2, 1024)}
LABELS_OF_SOUNDS = 16  # columns of the (N, 16) labels of sounds that RAD-NeRF's --emb takes
DERIVED_NOTE = "nldf needs nothing done, it works from parsing and bc.jpg; {} itself needs them"


def check(found: Findings) -> None:
    """Notes what is wrong and shows without decoding, and marks the frames that have all their files."""
    _pictures(found)
    _cameras(found)
    _splits(found)
    _features(found)
    _sound(found)
    _rects(found)
    _blinks(found)


def _pictures(found: Findings) -> None:
    ids, count = found.ids, len(found.ids)
    usable = np.ones(count, bool)
    needed = {
        found.pictures: (found.pictures, "pictures", AGAIN),
        "parsing": ("parsing", "label maps, which say where head, neck and torso are",
                    "run the layout's face parsing, or nldf prepare on the video"),
        "lms": ("ori_imgs", "landmarks (.lms), which say where mouth and eyes are",
                "run the layout's landmark step, or nldf prepare on the video"),
    }  # fmt: skip
    for key, (where, what, remedy) in needed.items():
        there = np.array([int(i) in found.files[key] for i in ids])
        usable &= there
        if there.all():
            continue
        few = there.mean() < FEWEST
        text = f"{some(ids[~there], count)} have no {what}" + ("" if few else "; they are left out")
        found.add(where, text, remedy, "error" if few else "warning")
    found.usable = usable
    if found.pictures != "ori_imgs":
        what = "it is missing: the frames are read from " + found.pictures + ", before the clean background"
        found.add("ori_imgs", what, "keep the video's own pictures to train on the true background", "note")
    for name, ending in found.kind.derived.items():
        missing = [int(i) for i in ids if int(i) not in found.files[name]]
        if missing and name != found.pictures:
            text = f"{some(missing, count)} have no {name}/N{ending}"
            found.add(name, text, DERIVED_NOTE.format(found.kind.title), "note")
    if not (found.folder / "bc.jpg").is_file():
        found.add("bc.jpg", "the clean background is missing", AGAIN)


def _cameras(found: Findings) -> None:
    assert found.camera is not None
    camera = found.camera
    where = TRANSFORMS[0] if (found.folder / TRANSFORMS[0]).is_file() else TRANSFORMS[2]
    try:
        check_facing(found.folder, found.poses)
    except FileProblem as problem:
        found.note([problem])
        return
    middle = float(depths(found.poses).mean())
    if not SHALLOW < middle < DEEP:
        what = f"the head is {middle:.3g} m from the camera on average; 0.5 to 1.5 is usual"
        remedy = "write translations in metres (those of the face tracker divided by 10)"
        found.add(where, what, remedy, "error" if middle > 1000 else "severe")
    near, far = usual_bounds(found.poses)
    if found.near > near + BOUND_SLACK or found.far < middle + BOUND_SLACK:
        what = f"near {found.near:.3f} and far {found.far:.3f} cut the head, which is {middle:.3f} m away"
        found.add("HeadNeRF_config.txt", what, f"write near = {near:.4f} and far = {far:.4f}", "severe")
    half = found.kind.half_pixel
    for name, centre, side in (
        ("cx", camera.cx - half, camera.width),
        ("cy", camera.cy - half, camera.height),
    ):
        if abs(centre - side / 2) > 0.15 * side:
            what = f"{name} is {centre:g} and the pictures measure {side}: the centre is far from the middle"
            found.add(where, what, "write cx and cy for the size of the pictures", "severe")
        elif found.kind.ordinals and 2 * int(centre) != side:
            what = (
                f"pictures measure {side}, and {found.kind.title} takes 2 * int({name}) = {2 * int(centre)}"
            )
            found.add(
                where,
                what,
                "nldf needs nothing done; write w and h beside it for the layout's own code",
                "note",
            )


def _splits(found: Findings) -> None:
    train, held = found.ids[~found.held], found.ids[found.held]
    for name, part in (("training", train), ("validation", held)):
        if not len(part):
            found.add(TRANSFORMS[int(name != "training")], f"there are no {name} frames", AGAIN)
            return
    inside = (found.ids >= held[0]) & (found.ids <= held[-1]) & ~found.held
    if inside.any():
        what = (
            f"{some(found.ids[inside], len(train))} for training are among the validation frames; they are "
            "left out, since a frame beside a held-out one says too much of it"
        )
        found.add(TRANSFORMS[1], what, "hold out frames in one piece, as the layouts do", "warning")
        found.usable &= ~inside
    if not found.errors and not (found.usable & ~found.held).any():
        found.add(TRANSFORMS[0], "no training frame is usable", AGAIN)


def _features(found: Findings) -> None:
    folder, names = found.folder, found.kind.features
    if found.features is None:
        found.add(
            names[0], f"no audio features ({' or '.join(names)})",
            f"nldf needs nothing done with aud.wav there; {found.kind.title} itself needs them", "note",
        )  # fmt: skip
        return
    if found.features.name != names[0]:
        what = f"the features are in {found.features.name}, and {found.kind.title} looks for {names[0]}"
        if found.features.name == "aud.npy":
            found.add(
                found.features.name,
                what,
                f"nldf needs nothing done; rename it to {names[0]} for the layout",
                "note",
            )
    highest = int(found.audio_ids.max()) + 1
    for name in names:
        if not (folder / name).is_file():
            continue
        try:
            rows = len(load_features(folder / name))
        except FileProblem as error:
            found.add(name, *_of_features(folder / name, found, error))
            continue
        if rows < highest:
            lacking = int((found.audio_ids >= rows).sum())
            severity = "note" if highest - rows <= FEW_ROWS else "severe"
            what = (
                f"it has {rows} rows and the frames need {highest}: {lacking} frames at the end get "
                "its last row, as the layout's own code does"
            )
            found.add(name, what, "extract the features from the whole sound again", severity)


def _of_features(path: Path, found: Findings, error: FileProblem) -> tuple[str, str]:
    """What is wrong with a file of features, and the remedy; its name says which windows it should have."""
    try:
        shape = np.load(path, mmap_mode="r", allow_pickle=False).shape
    except (ValueError, EOFError, OSError, SyntaxError, TypeError, OverflowError):
        return error.problem, error.remedy
    if len(shape) != 2:
        return error.problem, error.remedy
    rows, width = WINDOWS[path.name]
    what = f"its shape is {shape}, and {found.kind.title} takes (N, {rows}, {width}) there"
    if shape[1] == LABELS_OF_SOUNDS:
        what += "; (N, 16) are labels of sounds, for its --emb"
        return what, "extract features instead of labels, or take the file away: the sound is enough for nldf"
    return what, f"save a window of {rows} rows about each frame, not rows alone, or take the file away"


def _sound(found: Findings) -> None:
    path = sound_of(found.folder)
    if path is None:
        severity = "error" if found.features is None else "warning"
        what = "there is no sound (aud.wav)"
        if found.features is not None:
            what += (
                "; an avatar trained here can only be driven by features files like " + found.features.name
            )
        found.add("aud.wav", what, "put the video's sound there, 16 kHz wav", severity)
        return
    if path.suffix != ".wav":
        found.add(path.name, "there is no aud.wav; the sound of this video is used", "", "note")
    try:
        seconds = len(load_audio(path)) / SAMPLE_RATE
    except FileProblem as error:
        found.add(path.name, error.problem, error.remedy)
        return
    wanted = (int(found.audio_ids.max()) + 1) / FPS
    if seconds < wanted - SOUND_SLACK:
        what = f"the sound lasts {seconds:.2f} s, and the frames reach {wanted:.2f} s at {FPS:g} a second"
        remedy = f"extract pictures and sound again from a video of {FPS:g} frames a second"
        found.add(path.name, what, remedy, "severe")


def sound_of(folder: Path) -> Path | None:
    """The sound of a foreign folder: aud.wav, or else the one video that is there."""
    if (folder / "aud.wav").is_file():
        return folder / "aud.wav"
    videos = sorted(folder.glob("*.mp4"))
    with contextlib.suppress(FileProblem):
        if len(videos) == 1 and probe(videos[0]).has_audio:
            return videos[0]
    return None


def _rects(found: Findings) -> None:
    """A face_rect that is [y, x, height, width] shows where it leaves the landmarks that it should hold."""
    assert found.camera is not None
    sides = np.array([found.camera.width, found.camera.height])
    for name, boxes in found.rects.items():
        outside = (boxes < 0).any(1) | (boxes[:, :2] + boxes[:, 2:] > sides + 1).any(1)
        as_is, swapped = [], []
        for box, number in list(zip(boxes, found.ids, strict=True))[:: max(1, len(boxes) // 50)]:
            path = found.files["lms"].get(int(number))
            if path is None:
                continue
            try:
                points = read_marks(path)
            except (ValueError, OSError):
                continue
            points = points[48:] if name == "lip_rect" else points[17:]
            as_is.append(_share(points, box))
            swapped.append(_share(points, box[[1, 0, 3, 2]]))
        if as_is and np.mean(swapped) > np.mean(as_is) + 0.1:
            what = (
                f"{name} holds {100 * np.mean(as_is):.0f} % of the landmarks if read as x, y, width, height; "
                f"{100 * np.mean(swapped):.0f} % if read as y, x, height, width: it is transposed"
            )
            remedy = f"nldf needs nothing done; write x, y, width, height for {found.kind.title}"
            found.add(TRANSFORMS[0], what, remedy, "warning")
        elif outside.any():
            what = f"{name} leaves the picture in {some(found.ids[outside], len(found.ids))}"
            found.add(TRANSFORMS[0], what, "clip it to the picture for the layout's own code", "note")


def _share(points: np.ndarray, box: np.ndarray) -> float:
    inside = (points >= box[:2]) & (points <= box[:2] + box[2:])
    return float(inside.all(1).mean())


def _blinks(found: Findings) -> None:
    if not found.kind.blinks:
        return
    path = found.folder / "au.csv"
    remedy = "run OpenFace's FeatureExtraction on the video and save its csv as au.csv"
    if not path.is_file():
        what = "it is missing: eye openness comes from the landmarks"
        found.add("au.csv", what, f"nldf needs nothing done; for {found.kind.title}: {remedy}", "warning")
        return
    try:
        rows = len(read_blinks(path))
    except ValueError as error:
        found.add("au.csv", str(error), remedy)
        return
    if rows <= int(found.ids.max()):
        lacking = found.ids[found.ids >= rows]
        what = f"it has {rows} rows; {some(lacking, len(found.ids))} are behind them and keep its last value"
        found.add("au.csv", what, remedy + ", all frames of it", "warning")
