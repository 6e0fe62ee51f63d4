"""Transforms files, the lists of frames and cameras of AD-NeRF, DFRF, RAD-NeRF and ER-NeRF, <-> ours.

Theirs: camera-to-head matrices with OpenGL axes (x right, y up, looking along -z), in a head space
whose y points up and whose z points out of the face. Ours: OpenCV axes (x right, y down, z forward) on
both sides. The two differ by the same half turn about x before and behind the matrix, which flips signs
and rounds nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nldf_engine.base.errors import FileProblem
from nldf_engine.base.files import read_json
from nldf_engine.geometry.cameras import Camera

TRANSFORMS = ("transforms_train.json", "transforms_val.json", "transforms.json")
AGAIN = "run the layout's own preparation again, or nldf prepare on the video"
RIGID = 1e-2  # what a matrix may be off a rotation; less is rounding, and projected away
LARGEST_ID = 1 << 20
HELD_OUT = 10 / 11  # where a single transforms file is cut: as AD-NeRF's preparation does
HALF_TURN = np.diag([1.0, -1.0, -1.0, 1.0])
NEAR_MARGIN, FAR_MARGIN = 0.2, 0.4  # metres before and behind the head's mean depth, as AD-NeRF writes them


def turn(poses: np.ndarray) -> np.ndarray:
    """Their matrices [..., 4, 4] as ours, or ours as theirs: the turn is its own inverse.

    Example:
        >>> turn(np.eye(4))[2, 2], bool((turn(turn(np.eye(4))) == np.eye(4)).all())
        (1.0, True)
    """
    return HALF_TURN @ np.asarray(poses, np.float64) @ HALF_TURN


def off_rigid(poses: np.ndarray) -> np.ndarray:
    """[T] by how much matrices [T, 4, 4] are no rotation with a translation; infinite for a mirroring."""
    rotation = poses[:, :3, :3]
    off = np.abs(rotation @ rotation.transpose(0, 2, 1) - np.eye(3)).max(axis=(1, 2))
    off = np.maximum(off, np.abs(poses[:, 3] - [0, 0, 0, 1]).max(axis=1))
    return np.where(np.linalg.det(rotation) < 0, np.inf, off)


def rigid(poses: np.ndarray) -> np.ndarray:
    """[T, 4, 4] the nearest rotations, for matrices that rounding took a little off."""
    u, _, v = np.linalg.svd(poses[:, :3, :3])
    out = poses.copy()
    out[:, :3, :3] = u @ v
    return out


def depths(poses: np.ndarray) -> np.ndarray:
    """[T] how far in front of the camera the origin of head space is, metres, of our poses [T, 4, 4]."""
    return -np.einsum("ti,ti->t", poses[:, :3, 2], poses[:, :3, 3])


def usual_bounds(poses: np.ndarray) -> tuple[float, float]:
    """(near, far) as AD-NeRF's preparation chooses them from our poses [T, 4, 4]."""
    middle = float(depths(poses).mean())
    return max(0.05 * middle, middle - NEAR_MARGIN), middle + FAR_MARGIN


def intrinsics(meta: Mapping[str, Any], size: tuple[int, int], half_pixel: float) -> Camera:
    """The camera of a transforms file.

    Args:
        meta: its `focal_len`, `fl_x` and `fl_y`, or `camera_angle_x` and `camera_angle_y`; `cx`, `cy`.
        size: (width, height) of the pictures.
        half_pixel: see `Kind`.

    Raises:
        ValueError: no focal length, or a value that is no positive number.
    """

    def number(key: str) -> float:
        value = meta[key]
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"{key} must be a number, and is {value!r}")
        return float(value)

    width, height = size
    if "focal_len" in meta:
        fx = fy = number("focal_len")
    elif "fl_x" in meta or "fl_y" in meta:
        fx, fy = number("fl_x" if "fl_x" in meta else "fl_y"), number("fl_y" if "fl_y" in meta else "fl_x")
    elif "camera_angle_x" in meta or "camera_angle_y" in meta:
        sides = {"camera_angle_x": width, "camera_angle_y": height}
        found = [s / (2 * math.tan(number(k) / 2)) for k, s in sides.items() if k in meta]
        fx, fy = found[0], found[-1]
    else:
        raise ValueError("it gives no focal length (focal_len, fl_x or camera_angle_x)")
    if min(fx, fy) <= 0:
        raise ValueError(f"the focal length must be positive, and is {min(fx, fy):g}")
    cx = number("cx") + half_pixel if "cx" in meta else width / 2
    cy = number("cy") + half_pixel if "cy" in meta else height / 2
    return Camera(width, height, fx, fy, cx, cy)


def root_of(folder: str | Path) -> Path:
    """The folder that holds the transforms: DFRF keeps them in `0` of the speaker's folder."""
    folder = Path(folder)
    here = any((folder / name).is_file() for name in TRANSFORMS)
    return folder / "0" if not here and any((folder / "0" / n).is_file() for n in TRANSFORMS) else folder


def some(ids: np.ndarray | list[int], count: int) -> str:
    """'3 of 24 frames (the first: 7)'."""
    first = sorted(int(i) for i in ids)[0]
    return f"{len(ids)} of {count} frames (the first: {first})"


@dataclass(frozen=True)
class Listing:
    """What the transforms files of a folder list.

    Args:
        folder: where they are.
        headers: the whole object of each file that lists frames, by its name.
        frames: [N] their entries in the order of `img_id`; none where one of them can't be read.
        held: [N] bool, listed for validation.
        problems: what keeps the files from being read.
    """

    folder: Path
    headers: dict[str, dict[str, Any]] = field(default_factory=dict)
    frames: list[dict[str, Any]] = field(default_factory=list)
    held: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))
    problems: list[FileProblem] = field(default_factory=list)

    @property
    def ids(self) -> np.ndarray:
        """[N] int64 `img_id` of the frames."""
        return np.array([frame["img_id"] for frame in self.frames], np.int64)

    def poses(self) -> tuple[np.ndarray, list[FileProblem]]:
        """[N, 4, 4] float64 poses of ours, and what is wrong with them as a list.

        Matrices that are a little off a rotation are brought to the nearest one.
        """
        matrices = np.array([frame["transform_matrix"] for frame in self.frames], np.float64)
        ids, problems = self.ids, []
        twice = ids[1:][ids[1:] == ids[:-1]]
        if len(twice):
            what = (
                f"img_id {twice[0]} is listed more than once ({len(twice)} such), "
                "so the splits may share frames"
            )
            remedy = "list each frame once, in one split"
            problems.append(FileProblem(self.folder / TRANSFORMS[0], what, remedy))
        poses, off = turn(matrices), off_rigid(matrices)
        bad = off > RIGID
        if bad.any():
            first = int(np.flatnonzero(bad)[0])
            kind = "mirrors" if np.isinf(off[first]) else f"is off a rotation by {off[first]:.2g}"
            what = f"{some(ids[bad], len(ids))} have a transform_matrix that is not rigid: it {kind}"
            remedy = "write camera-to-world matrices with a pure rotation"
            problems.append(FileProblem(self.folder / TRANSFORMS[int(self.held[first])], what, remedy))
        elif (off > 1e-6).any():
            poses = rigid(poses)
        return poses, problems


def read_listing(folder: str | Path) -> Listing:
    """Reads the transforms files in a folder; what is wrong with them is in `problems`."""
    folder, single = Path(folder), TRANSFORMS[2]
    names = [name for name in TRANSFORMS[:2] if (folder / name).is_file()] or [single]
    listing = Listing(folder)
    if names[0] != single and len(names) == 1:
        missing = next(name for name in TRANSFORMS[:2] if name not in names)
        what = "it is missing, and the other split is there"
        listing.problems.append(FileProblem(folder / missing, what, AGAIN))
    rows: list[tuple[dict[str, Any], bool]] = []
    readable = True
    for name in names:
        try:
            value = read_json(folder / name)
        except FileProblem as error:
            remedy = "copy the file again, or " + AGAIN
            listing.problems.append(FileProblem(folder / name, error.problem, remedy))
            continue
        frames = value.get("frames") if isinstance(value, dict) else None
        if not isinstance(frames, list) or not frames:
            listing.problems.append(FileProblem(folder / name, "it lists no frames", AGAIN))
            continue
        listing.headers[name] = value
        cut = len(frames) if name != single else int(len(frames) * HELD_OUT)
        rows += [(frame, name == TRANSFORMS[1] or place >= cut) for place, frame in enumerate(frames)]
        problem = _unreadable(frames)
        if problem:
            listing.problems.append(FileProblem(folder / name, problem, AGAIN))
            readable = False
    if not readable or not rows:
        return listing
    rows.sort(key=lambda row: int(row[0]["img_id"]))
    held = np.array([held for _, held in rows])
    return Listing(folder, listing.headers, [frame for frame, _ in rows], held, listing.problems)


def _unreadable(frames: list[Any]) -> str:
    """What is wrong with the first entry of a list that can't be read; empty where all can."""
    for place, frame in enumerate(frames):
        try:
            for key in ("img_id", "aud_id"):
                value = frame[key] if key == "img_id" else frame.get(key, 0)
                if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < LARGEST_ID:
                    raise ValueError(f"{key} must be a whole number from 0, and is {value!r}")
            matrix = np.array(frame["transform_matrix"], np.float64)
            if matrix.shape != (4, 4):
                raise ValueError(f"transform_matrix must be 4 x 4 numbers, and is {matrix.shape}")
            if not np.isfinite(matrix).all():
                raise ValueError("transform_matrix holds NaN or infinity")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            what = f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)
            return f"frame {place} of its list can't be used: {what}"
    return ""


def check_facing(folder: Path, poses: np.ndarray) -> None:
    """Checks that the cameras of our poses [T, 4, 4] look at the head.

    Raises:
        FileProblem: some look away from it, as matrices do that have OpenCV's axes in the file.
    """
    away = depths(poses) <= 0
    if not away.any():
        return
    where = TRANSFORMS[0] if (folder / TRANSFORMS[0]).is_file() else TRANSFORMS[2]
    kind = "all" if away.all() else f"{int(away.sum())} of {len(away)}"
    what = f"{kind} cameras look away from the head: the matrices seem to have OpenCV's axes already"
    remedy = "negate the second and third column of each transform_matrix (to OpenGL's axes)"
    raise FileProblem(folder / where, what, remedy)


def folder_poses(folder: str | Path) -> np.ndarray:
    """[N, 4, 4] float32 poses of all frames that the transforms files of a folder list, in their order.

    Pictures, sound and landmarks need not be there.

    Raises:
        FileProblem: the files are missing or damaged, or a pose is no rigid motion or looks away.
    """
    listing = read_listing(root_of(folder))
    poses, problems = listing.poses() if listing.frames else (np.zeros((0, 4, 4)), [])
    problems = [*listing.problems, *problems]
    if problems:
        first, more = problems[0], len(problems) - 1
        rest = f" ({more} more: nldf validate {folder})" if more else ""
        raise FileProblem(first.path, first.problem + rest, first.remedy)
    check_facing(listing.folder, poses)
    return poses.astype(np.float32)


def file_poses(path: str | Path, value: Mapping[str, Any]) -> np.ndarray:
    """[N, 4, 4] float32 poses of one transforms file, in the order of its list.

    Args:
        path: the file, for messages.
        value: its content.

    Raises:
        FileProblem: it holds no poses, or some that are no rigid motions.
    """
    try:
        if not isinstance(frames := value.get("frames"), list):
            raise ValueError("an object with a list 'frames' was expected, or a plain list of matrices")
        poses = np.array([frame["transform_matrix"] for frame in frames], np.float64)
        if poses.ndim != 3 or poses.shape[1:] != (4, 4) or not len(poses):
            raise ValueError(f"transform_matrix must be 4 x 4, got {poses.shape}")
        bad = np.flatnonzero(~np.isfinite(poses).all((1, 2)))
        if len(bad):
            raise ValueError(f"frame {bad[0]} of its list holds NaN or infinity")
        bad = np.flatnonzero(off_rigid(poses) > RIGID)
        if len(bad):
            raise ValueError(f"the matrix of frame {bad[0]} of its list is no rotation with a translation")
        if float(np.median(depths(turn(poses)))) < 0:
            raise ValueError(
                "the cameras look away from the head: the matrices seem to have OpenCV's axes already. "
                "Negate the second and third column of each (to OpenGL's axes)"
            )
    except (KeyError, TypeError, ValueError) as error:
        missing = f"a frame of its list has no {error}" if isinstance(error, KeyError) else error
        what = f"it holds no usable poses ({missing})"
        raise FileProblem(path, what, "give a transforms file of AD-NeRF, or [T, 4, 4] matrices") from error
    return rigid(turn(poses)).astype(np.float32)
