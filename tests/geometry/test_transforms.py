"""Poses in transforms files of other projects: what is read, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nldf_engine.base.errors import FileProblem
from nldf_engine.geometry.poses import load_poses
from nldf_engine.geometry.transforms import read_listing, turn


def matrix(angle: float) -> np.ndarray:
    """A camera 0.9 m before the face, turned about the vertical: OpenGL axes, as the files have them."""
    made = np.eye(4)
    made[0, 0] = made[2, 2] = np.cos(angle)
    made[0, 2], made[2, 0] = np.sin(angle), -np.sin(angle)
    made[:3, 3] = made[:3, 2] * 0.9
    return made


ANGLES = [0.01 * k for k in range(8)]


def frames(numbers: list[int]) -> list[dict[str, Any]]:
    return [{"img_id": k, "aud_id": k, "transform_matrix": matrix(ANGLES[k]).tolist()} for k in numbers]


def write(folder: Path, **lists: list[dict[str, Any]]) -> Path:
    """A folder of transforms files and nothing else."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, listed in lists.items():
        path = folder / ("transforms.json" if name == "single" else f"transforms_{name}.json")
        path.write_text(json.dumps({"focal_len": 90.0, "frames": listed}))
    return folder


def test_poses_need_no_pictures(tmp_path: Path) -> None:
    """Transforms files alone give the poses of all frames in the order of img_id, in the axes of ours."""
    folder = write(tmp_path / "a", val=frames([6, 7]), train=frames([3, 0, 1, 2, 4, 5]))
    poses = load_poses(folder)
    wanted = np.stack([turn(matrix(angle)) for angle in ANGLES])
    assert poses.dtype == torch.float32 and np.abs(poses.numpy() - wanted).max() < 1e-6
    assert (wanted[:, 2, 3] < 0).all(), "the camera stands before the head"
    assert torch.equal(
        load_poses(write(tmp_path / "dfrf" / "0", train=frames([0, 1]), val=frames([2])).parent), poses[:3]
    )
    single = write(tmp_path / "b", single=frames(list(range(8))))
    assert torch.equal(load_poses(single), poses) and read_listing(single).held.sum() == 1


def test_one_file_keeps_its_order(tmp_path: Path) -> None:
    """The poses of a transforms file come in the order of its list."""
    folder = write(tmp_path, train=frames([3, 0, 1]))
    poses = load_poses(folder / "transforms_train.json").numpy()
    assert np.abs(poses - np.stack([turn(matrix(ANGLES[k])) for k in (3, 0, 1)])).max() < 1e-6


def test_an_own_track_comes_first(tmp_path: Path) -> None:
    """A folder with a track of ours is read as ours, whatever else lies in it."""
    write(tmp_path, train=frames([0]), val=frames([1]))
    (tmp_path / "track.safetensors").write_bytes(b"x")
    with pytest.raises(FileProblem, match=r"track.safetensors.*no usable poses"):
        load_poses(tmp_path)


def changed(**values: Any) -> list[dict[str, Any]]:
    return [{**frame, **values} for frame in frames([0])]


BAD: dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]] | None, str]] = {
    "one split": (frames([0]), None, "transforms_val.json: it is missing, and the other split is there"),
    "no frames": ([], frames([1]), "transforms_train.json: it lists no frames"),
    "twice": (frames([0, 1]), frames([1]), "img_id 1 is listed more than once"),
    "no number": (changed(img_id="0"), frames([1]), "frame 0 of its list can't be used: img_id must be"),
    "no matrix": ([{"img_id": 0}], frames([1]), "transform_matrix is missing"),
    "shape": (changed(transform_matrix=[[1.0]]), frames([1]), "must be 4 x 4"),
    "scaled": (changed(transform_matrix=(1.1 * matrix(0)).tolist()), frames([1]), "off a rotation by"),
    "mirrored": (changed(transform_matrix=(-matrix(0)).tolist()), frames([1]), "not rigid: it mirrors"),
    "axes": (
        changed(transform_matrix=(matrix(0) @ np.diag([1.0, -1, -1, 1])).tolist()), frames([1]),
        "1 of 2 cameras look away from the head",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_folder_is_refused(tmp_path: Path, kind: str) -> None:
    """What is wrong is named with the file and the remedy."""
    train, val, text = BAD[kind]
    folder = write(tmp_path, train=train, **({} if val is None else {"val": val}))
    with pytest.raises(FileProblem, match=text) as caught:
        load_poses(folder)
    assert caught.value.remedy


def test_several_problems_are_counted(tmp_path: Path) -> None:
    """The first problem is the message; the command that lists all of them stands behind it."""
    folder = write(tmp_path, train=[])
    with pytest.raises(FileProblem, match=r"is missing.*1 more: nldf validate"):
        load_poses(folder)


@pytest.mark.parametrize("value", [{}, {"frames": []}, {"frames": [{"transform_matrix": [[1, 0], [0, 1]]}]}])
def test_a_file_without_poses(tmp_path: Path, value: object) -> None:
    """A JSON object that lists no poses is refused, and what would do is named."""
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(value))
    with pytest.raises(FileProblem, match=r"bad.json: it holds no usable poses.*transforms file of AD-NeRF"):
        load_poses(path)
