"""What only decoding shows of a foreign folder: damage, sizes, and colours that mean something else."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from nldf_engine.base.errors import FileProblem
from nldf_engine.datasets.dataset import LABELS
from nldf_engine.datasets.foreign.dataset import labels_from
from nldf_engine.datasets.foreign.findings import Findings
from nldf_engine.datasets.foreign.marks import PIXEL, read_marks
from nldf_engine.datasets.foreign.scan import scan
from nldf_engine.datasets.problems import Problem
from nldf_engine.geometry.transforms import AGAIN
from nldf_engine.media.pictures import read_levels

PARSE_AGAIN = "run the layout's face parsing again"
INNER = slice(27, 68)  # landmarks of nose, eyes and mouth, which no neck and no hair can cover
ON_HEAD = 0.5  # share of them that must be on the head


def examine(folder: str | Path) -> list[Problem]:
    """All that is wrong with a foreign folder; every file is decoded once."""
    found = scan(folder)
    if found.camera is not None and len(found.ids):
        _decode(found)
    if not found.errors:
        found.add(
            ".", f"it is a folder of {found.kind.title}, {len(found.ids)} frames, read as it is", "", "note"
        )
    return found.problems


@dataclass
class _Seen:
    """What the label maps hold, of all frames together.

    Args:
        pixels, face: by value of `LABELS`, pixels of all maps, and landmarks of the inner face on them.
    """

    pixels: np.ndarray = field(default_factory=lambda: np.zeros(len(LABELS), np.int64))
    face: np.ndarray = field(default_factory=lambda: np.zeros(len(LABELS), np.int64))

    def add(self, labels: np.ndarray, marks: Path | None) -> None:
        """Counts a map uint8 [H, W], under the landmarks in a file."""
        self.pixels += np.bincount(labels.ravel(), minlength=len(LABELS))
        if marks is None:
            return
        try:
            points = read_marks(marks)[INNER] + PIXEL
        except (ValueError, OSError):
            return  # noted when the landmarks are read
        x, y = points[np.isfinite(points).all(1)].astype(int).T
        inside = (x >= 0) & (y >= 0) & (x < labels.shape[1]) & (y < labels.shape[0])
        self.face += np.bincount(labels[y[inside], x[inside]], minlength=len(LABELS))


def _decode(found: Findings) -> None:
    import cv2

    assert found.camera is not None
    size, seen = (found.camera.height, found.camera.width), _Seen()
    folders = dict.fromkeys((found.pictures, "parsing", *found.kind.derived))
    for name in folders:
        for number in found.ids.tolist():
            path = found.files[name].get(number)
            if path is None:
                continue
            where = f"{name}/{path.name}"
            try:
                picture = read_levels(path, cv2.IMREAD_UNCHANGED, AGAIN)
            except FileProblem as error:
                found.add(where, error.problem, error.remedy)
                break
            if picture.shape[:2] != size:
                came = f"it is {picture.shape[1]} x {picture.shape[0]}, the pictures {size[1]} x {size[0]}"
                found.add(where, came, AGAIN, "error" if name in (found.pictures, "parsing") else "warning")
            elif name == "torso_imgs" and path.suffix == ".png" and picture.shape[2:] != (4,):
                found.add(where, "it has no alpha channel", f"nldf needs nothing done; {AGAIN}", "warning")
            elif name == "parsing":
                try:
                    seen.add(labels_from(path), found.files["lms"].get(number))
                except FileProblem as error:
                    found.add(where, error.problem, error.remedy)
                else:
                    continue
            else:
                continue
            break  # one of each folder is enough
    _labels(found, seen)
    for number, path in sorted(found.files["lms"].items()):
        try:
            read_marks(path)
        except (ValueError, OSError) as error:
            found.add(f"ori_imgs/{number}.lms", str(error), "run the layout's landmark step again")
            break
    plate = found.folder / "bc.jpg"
    if plate.is_file():
        try:
            picture = read_levels(plate, cv2.IMREAD_COLOR, AGAIN)
        except FileProblem as error:
            found.add("bc.jpg", error.problem, error.remedy)
            return
        if picture.shape[:2] != size:
            came = f"it is {picture.shape[1]} x {picture.shape[0]}, the pictures {size[1]} x {size[0]}"
            found.add("bc.jpg", came, "scale it to the pictures' size")


def _labels(found: Findings, seen: _Seen) -> None:
    """Colours that each mean something may still mean something else, which no single map shows."""
    for name, color in (("background", "white"), ("head", "blue")):
        if seen.pixels.any() and not seen.pixels[LABELS[name]]:
            most = max(LABELS, key=lambda label: int(seen.pixels[LABELS[label]]))
            share = 100 * seen.pixels[LABELS[most]] / seen.pixels.sum()
            what = f"no pixel of any map is {color}, which is {name}; {share:.0f} % are {most}"
            remedy = f"{PARSE_AGAIN}: white background, blue head, green neck, red torso"
            found.add("parsing", what, remedy)
            return
    if not seen.face.any():
        return
    share = seen.face / seen.face.sum()
    if share[LABELS["head"]] >= ON_HEAD:
        return
    on = max(LABELS, key=lambda label: int(seen.face[LABELS[label]]))
    what = (
        f"{100 * share[LABELS['head']]:.0f} % of the face's landmarks are on the head (blue) and "
        f"{100 * share[LABELS[on]]:.0f} % on the {on}"
    )
    if on == "torso":
        what += ": red and blue are swapped, as where a picture goes from RGB to BGR unseen"
        remedy = "write each map with its channels reversed: cv2.imwrite(p, cv2.imread(p)[..., ::-1])"
        found.add("parsing", what, remedy)
    else:
        found.add("parsing", what, f"{PARSE_AGAIN} on the pictures that the landmarks are of", "severe")
