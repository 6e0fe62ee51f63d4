"""What is in a foreign folder: its frames, camera, splits and files, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from nldf_engine.datasets.foreign.checks import check
from nldf_engine.datasets.foreign.findings import Findings
from nldf_engine.datasets.foreign.kinds import KINDS, PICTURES, detect
from nldf_engine.geometry.transforms import (
    AGAIN,
    HELD_OUT,
    TRANSFORMS,
    Listing,
    intrinsics,
    read_listing,
    root_of,
    some,
    usual_bounds,
)


def scan(folder: str | Path) -> Findings:
    """Finds out what is in a foreign folder, without decoding its pictures.

    Raises:
        ValueError: it is none of the layouts (see `detect`).
    """
    kind = detect(folder)
    if kind is None:
        raise ValueError(f"scan: {folder} is none of {', '.join(k.title for k in KINDS.values())}")
    found = Findings(root_of(folder), kind)
    listing = read_listing(found.folder)
    _read_frames(found, listing)
    if not len(found.ids):
        return found
    _list_files(found)
    if not _names(found):
        return found
    _true_numbers(found)
    _find_camera(found, listing.headers)
    if found.camera is None:
        return found
    check(found)
    return found


def _read_frames(found: Findings, listing: Listing) -> None:
    """Takes over what the transforms files list, and notes what is wrong with it."""
    found.note(listing.problems)
    if "transforms.json" in listing.headers:
        count = len(listing.headers["transforms.json"]["frames"])
        what = f"all frames are in one file; the last {count - int(count * HELD_OUT)} are held out"
        found.add("transforms.json", what, "", "note")
    frames = listing.frames
    if not frames:
        return
    found.ids, found.held = listing.ids, listing.held
    found.audio_ids = np.array([frame.get("aud_id", frame["img_id"]) for frame in frames], np.int64)
    found.poses, problems = listing.poses()
    found.note(problems)
    eyes = [frame.get("eye_openness") for frame in frames]
    if all(isinstance(value, float) and 0 <= value <= 1 for value in eyes):
        found.eyes = np.array(eyes, np.float32)
    for name in found.kind.rects:
        boxes = [frame.get(name) for frame in frames]
        good = [
            isinstance(b, list) and len(b) == 4 and all(type(v) in (int, float) for v in b) for b in boxes
        ]
        if all(good):
            found.rects[name] = np.array(boxes, np.float64)
        else:
            what = f"{some(found.ids[~np.array(good)], len(frames))} have no {name} of four numbers"
            remedy = f"nldf needs nothing done; {found.kind.title} itself needs it"
            found.add(TRANSFORMS[0], what, remedy, "warning")


def numbered(folder: Path, ending: str) -> dict[int, Path]:
    """{number: path} of the files `0.jpg`, `1.jpg`, ...; padded names are none, as for the layouts' code."""
    if not folder.is_dir():
        return {}
    return {
        int(p.stem): p
        for p in folder.iterdir()
        if p.suffix == ending and p.stem.isascii() and p.stem.isdigit() and str(int(p.stem)) == p.stem
    }


def _list_files(found: Findings) -> None:
    folder = found.folder
    for name in (*PICTURES, *found.kind.derived):
        found.files[name] = numbered(folder / name, found.kind.derived.get(name, ".jpg"))
    found.files["parsing"] = numbered(folder / "parsing", ".png")
    found.files["lms"] = numbered(folder / "ori_imgs", ".lms")
    found.features = next((folder / n for n in found.kind.features if (folder / n).is_file()), None)


def _names(found: Findings) -> bool:
    """Whether the pictures have names that count; notes what is wrong with names that are nearly right."""
    name, ids = PICTURES[0], set(found.ids.tolist())
    counted = [p for p in (found.folder / name).glob("*") if p.stem.isascii() and p.stem.isdigit()]
    padded = sorted(p.name for p in counted if str(int(p.stem)) != p.stem)
    if len(padded) > len(counted) // 2:
        what = f"{len(padded)} names are padded with zeros ({padded[0]}), and the layout counts 0.jpg, 1.jpg"
        found.add(name, what, "rename pictures and .lms without leading zeros, and those of parsing too")
        return False
    there = set(found.files[name])
    if there and there == {number + 1 for number in ids}:
        what = (
            f"its pictures are numbered {min(there)} to {max(there)}, the frames {min(ids)} to {max(ids)}, "
            "as if counted from 1: each pose would be paired with its neighbour's picture"
        )
        found.add(name, what, "number pictures, .lms and parsing from 0, as img_id does")
        return False
    return True


def _true_numbers(found: Findings) -> None:
    """Puts the numbers right of a layout that counts the tracked frames and calls that `img_id`."""
    ids, tracked = found.ids, np.array(sorted(found.files["lms"]))
    if not found.kind.ordinals or not np.array_equal(ids, np.arange(len(ids))):
        return
    if len(tracked) == len(ids) and not np.array_equal(tracked, ids):
        shifted = int((tracked != ids).sum())
        first = int(tracked[tracked != ids][0])
        found.ids = tracked
        found.audio_ids = tracked.copy()
        what = (
            f"its img_id counts the frames that have landmarks: {shifted} of {len(ids)} poses, from picture "
            f"{first} on, are paired with the wrong picture; they are read with their true numbers"
        )
        remedy = f"nldf needs nothing done; {found.kind.title} itself trains on the shifted poses"
        found.add(TRANSFORMS[0], what, remedy, "warning")


def _find_camera(found: Findings, metas: dict[str, dict[str, Any]]) -> None:
    import cv2

    name, meta = next(iter(metas.items()))
    found.pictures = next((p for p in PICTURES if found.files[p]), "ori_imgs")
    first = next(iter(sorted(found.files[found.pictures].items())), None)
    if first is None:
        held = sorted(p.name for p in (found.folder / "ori_imgs").glob("*") if p.suffix != ".lms")[:2]
        what = "there are no pictures 0.jpg, 1.jpg, ... in any of " + ", ".join(PICTURES)
        remedy = "save them as JPEGs of the same numbers" if held else AGAIN
        found.add("ori_imgs", what + (f"; it holds {', '.join(held)}" if held else ""), remedy)
        return
    picture = cv2.imread(str(first[1]), cv2.IMREAD_COLOR)
    if picture is None:
        found.add(f"{found.pictures}/{first[1].name}", "it is no readable picture", AGAIN)
        return
    try:
        size = (picture.shape[1], picture.shape[0])
        found.camera = intrinsics(meta, size, found.kind.half_pixel)
        for other, second in metas.items():
            if intrinsics(second, size, found.kind.half_pixel) != found.camera:
                found.add(other, f"its focal length or centre differs from that of {name}", AGAIN)
    except ValueError as error:
        found.add(name, str(error), AGAIN)
        return
    near, far = usual_bounds(found.poses)
    found.near, found.far = _written_bounds(found.folder) or (near, far)


def _written_bounds(folder: Path) -> tuple[float, float] | None:
    """(near, far) of the layout's own configuration, where it has one."""
    for name in ("HeadNeRF_config.txt", "config.txt", "TorsoNeRF_config.txt"):
        path = folder / name
        if not path.is_file() or path.stat().st_size > 1 << 16:
            continue
        pairs = (line.partition("=") for line in path.read_text("utf-8", "replace").splitlines())
        values = {key.strip(): text.strip() for key, _, text in pairs}
        try:
            near, far = float(values["near"]), float(values["far"])
        except (KeyError, ValueError):
            continue
        if 0 < near < far < 1000:
            return near, far
    return None
