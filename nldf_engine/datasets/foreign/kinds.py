"""What sets the four layouts apart, and which of them a folder is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nldf_engine.base.errors import NldfError
from nldf_engine.base.files import read_json
from nldf_engine.geometry.transforms import TRANSFORMS, root_of


@dataclass(frozen=True)
class Kind:
    """One layout.

    Args:
        name: as the command line calls it.
        title: as its authors do.
        half_pixel: added to its principal point: 0.5 where its rays go through whole pixel numbers,
            0 where they go through pixel centres as ours do.
        ordinals: its `img_id` counts tracked frames and not pictures, so that it is wrong after the
            first picture without a face.
        derived: folders that its own code reads and ours does not need, with the endings of their files.
        features: files of audio features, the usual one first.
        rects: boxes that each frame carries, [x, y, width, height].
        blinks: the eyes come from au.csv.
    """

    name: str
    title: str
    half_pixel: float
    ordinals: bool
    derived: dict[str, str]
    features: tuple[str, ...]
    rects: tuple[str, ...] = ()
    blinks: bool = False


_RAD = {"gt_imgs": ".jpg", "torso_imgs": ".png"}
KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("adnerf", "AD-NeRF", 0.5, False, {"head_imgs": ".jpg", "com_imgs": ".jpg"}, ("aud.npy",),
             ("face_rect",)),
        Kind("dfrf", "DFRF", 0.5, False, {"com_imgs": ".jpg", "torso_imgs": ".jpg"}, ("aud.npy",),
             ("face_rect", "lip_rect")),
        Kind("radnerf", "RAD-NeRF", 0.0, True, _RAD, ("aud_ds.npy", "aud.npy", "aud_eo.npy")),
        Kind("ernerf", "ER-NeRF", 0.0, True, _RAD, ("aud_ds.npy", "aud.npy", "aud_eo.npy", "aud_hu.npy"),
             blinks=True),
    )
}  # fmt: skip
# Pictures of whole frames, best first: the video's own, then the person before the clean background.
PICTURES = ("ori_imgs", "com_imgs", "gt_imgs")


def detect(folder: str | Path) -> Kind | None:
    """The layout of a folder; None where it is none of them."""
    root = root_of(folder)
    found = [root / name for name in TRANSFORMS if (root / name).is_file()]
    if not found:
        return None
    keys = _keys(found[0])
    if (root / "au.csv").exists() or (root / "aud_hu.npy").exists():
        return KINDS["ernerf"]
    if (root / "gt_imgs").is_dir() or any((root / "torso_imgs").glob("*.png")):
        return KINDS["radnerf"]
    if "lip_rect" in keys:
        return KINDS["dfrf"]
    if "face_rect" in keys or (root / "head_imgs").is_dir() or (root / "com_imgs").is_dir():
        return KINDS["adnerf"]
    return KINDS["radnerf"]


def _keys(path: Path) -> set[str]:
    try:
        value: Any = read_json(path)
        return set(value["frames"][0])
    except (NldfError, KeyError, IndexError, TypeError):
        return set()
