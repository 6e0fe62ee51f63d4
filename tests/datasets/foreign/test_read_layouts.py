"""Foreign folders open as datasets, with their traps undone; what is exported comes back."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from foreign_folders import edit
from nldf_engine import ops
from nldf_engine.apps.cli import main as cli
from nldf_engine.audio import FrontendConfig
from nldf_engine.base.errors import FileProblem
from nldf_engine.datasets import open_dataset
from nldf_engine.datasets.dataset import Dataset
from nldf_engine.datasets.foreign.dataset import ForeignDataset
from nldf_engine.datasets.foreign.kinds import detect
from nldf_engine.datasets.foreign.marks import read_blinks, to_marks, to_mesh
from nldf_engine.datasets.foreign.write import export_layout
from nldf_engine.geometry.face_mesh import MARKS
from nldf_engine.geometry.poses import load_poses

Copied = Callable[[str], Path]
EVERY = ("adnerf", "dfrf", "radnerf", "ernerf")


@pytest.mark.parametrize("layout", EVERY)
def test_opens_as_it_is(layout: str, written: dict[str, Path], synthetic_dataset: Dataset) -> None:
    """Each layout is known by its files, opens through open_dataset, and gives the speaker's frames."""
    kind = detect(written[layout])
    opened = open_dataset(written[layout])
    assert kind is not None and kind.name == layout and isinstance(opened, ForeignDataset)
    assert len(opened) == len(synthetic_dataset)
    assert np.array_equal(opened.labels(), synthetic_dataset.labels())
    assert opened.frames(32).shape == (100, 32, 32, 3) and opened.labels(32).shape == (100, 32, 32)
    streamed = np.stack(list(opened.read_frames(5, 9, 32)))
    assert np.array_equal(streamed, opened.frames(32)[5:9])
    assert opened.audio_features("mel").shape == (100, 16, 29)
    assert len(opened.hash()) == 64 and opened.hash() == open_dataset(written[layout]).hash()


@pytest.mark.parametrize("layout", ["adnerf", "radnerf"])
def test_round_trip(layout: str, written: dict[str, Path], synthetic_dataset: Dataset) -> None:
    """Ours -> theirs -> ours keeps all but the last bits of the pictures, which are JPEGs."""
    back = open_dataset(written[layout])
    assert np.abs(back.poses - synthetic_dataset.poses).max() <= 1e-6
    assert back.camera == synthetic_dataset.camera
    for split in ("train", "heldout", "fit", "validation", "all"):
        assert np.array_equal(back.indices(split), synthetic_dataset.indices(split))
    rows_read = back.audio_features(FrontendConfig("precomputed", dim=29))
    assert np.array_equal(rows_read, synthetic_dataset.audio_features("mel"))
    assert np.abs(back.audio() - synthetic_dataset.audio()).max() < 1e-4
    assert np.abs(back.eye_openness - synthetic_dataset.eye_openness).max() <= 1e-6
    marks = to_marks(synthetic_dataset.landmarks)
    assert np.abs(to_marks(back.landmarks) - marks).max() < 1e-4
    error = back.frames().astype(float) - synthetic_dataset.frames()
    assert 10 * np.log10(255**2 / (error**2).mean()) > 45
    error = back.background().astype(float) - synthetic_dataset.background()
    assert 10 * np.log10(255**2 / (error**2).mean()) > 45


def test_round_trip_with_lost_faces(synthetic_dataset: Dataset, tmp_path: Path) -> None:
    """Frames without a face keep their numbers on the way out and back, at the ends and at the cut too."""
    shutil.copytree(synthetic_dataset.path, tmp_path / "ours")
    ours = open_dataset(tmp_path / "ours")
    ours.valid[[0, 1, 40, 79, 80, 99]] = False
    for layout in ("adnerf", "radnerf"):
        export_layout(ours, layout, tmp_path / layout)
        back = open_dataset(tmp_path / layout)
        assert len(back) == 100
        for split in ("train", "heldout", "all"):
            assert np.array_equal(back.indices(split), ours.indices(split))
        assert np.abs(back.poses[ours.valid] - ours.poses[ours.valid]).max() <= 1e-6


def _ours(opened: Dataset, frame: int, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Origins and directions of our rays through the centres of pixels [P, 2] (column, row)."""
    pose = torch.from_numpy(opened.poses[frame])[None]
    where = torch.from_numpy(pixels + 0.5).float()[None]
    origins, directions = ops.generate_rays(
        pose, opened.camera.intrinsics()[None], where, backend="reference"
    )
    return origins[0].double().numpy(), directions[0].double().numpy()


def _frame(folder: Path, number: int) -> tuple[dict[str, Any], np.ndarray]:
    meta = json.loads((folder / "transforms_train.json").read_text())
    return meta, np.array(meta["frames"][number]["transform_matrix"])


PIXELS = np.array([[0, 0], [63, 0], [10, 50], [32, 32], [63, 63]])


def test_rays_of_adnerf(written: dict[str, Path]) -> None:
    """Through each pixel goes the ray of AD-NeRF's sampler: whole numbers, y up, looking along -z."""
    opened = open_dataset(written["adnerf"])
    meta, matrix = _frame(written["adnerf"], 7)
    i, j, f = PIXELS[:, 0], PIXELS[:, 1], meta["focal_len"]
    camera = np.stack([(i - meta["cx"]) / f, -(j - meta["cy"]) / f, -np.ones(len(i))], 1)
    theirs = camera @ matrix[:3, :3].T
    theirs /= np.linalg.norm(theirs, axis=1, keepdims=True)
    flip = np.array([1, -1, -1])  # their head space to ours
    origins, directions = _ours(opened, 7, PIXELS)
    assert np.abs(directions - theirs * flip).max() < 1e-6
    assert np.abs(origins - matrix[:3, 3] * flip).max() < 1e-6


def test_rays_of_radnerf(written: dict[str, Path]) -> None:
    """The same for RAD-NeRF: rows cycled, two columns negated, distances times 4, centres at +0.5."""
    opened = open_dataset(written["radnerf"])
    meta, m = _frame(written["radnerf"], 7)
    scale = 4.0
    pose = np.array([[m[r, 0], -m[r, 1], -m[r, 2], m[r, 3] * scale] for r in (1, 2, 0)])
    i, j, f = PIXELS[:, 0] + 0.5, PIXELS[:, 1] + 0.5, meta["focal_len"]
    camera = np.stack([(i - meta["cx"]) / f, (j - meta["cy"]) / f, np.ones(len(i))], 1)
    camera /= np.linalg.norm(camera, axis=1, keepdims=True)
    theirs, origin = camera @ pose[:, :3].T, pose[:, 3] / scale
    back, flip = [2, 0, 1], np.array([1, -1, -1])  # (y, z, x) to (x, y, z), then to our head space
    origins, directions = _ours(opened, 7, PIXELS)
    assert np.abs(directions - theirs[:, back] * flip).max() < 1e-6
    assert np.abs(origins - origin[back] * flip).max() < 1e-6


def test_tracked_frames_are_counted(copied: Copied, synthetic_dataset: Dataset) -> None:
    """Where img_id counts frames with landmarks, poses behind a lost face find their own picture."""
    folder = copied("radnerf")
    lost = [10, 11, 60]
    for number in lost:
        (folder / "ori_imgs" / f"{number}.lms").unlink()
    place = 0

    def count(meta: dict[str, Any]) -> None:
        nonlocal place
        kept = [frame for frame in meta["frames"] if frame["img_id"] not in lost]
        for frame in kept:
            frame["img_id"] = frame["aud_id"] = place
            place += 1
        meta["frames"] = kept

    edit(folder, count)
    opened = open_dataset(folder)
    there = np.setdiff1d(np.arange(100), lost)
    assert np.array_equal(opened.indices("all"), there)
    assert np.abs(opened.poses[there] - synthetic_dataset.poses[there]).max() <= 1e-6
    rows_read = opened.audio_features("precomputed")
    assert np.array_equal(rows_read, synthetic_dataset.audio_features("mel"))


def test_audio_is_clamped(copied: Copied) -> None:
    """Frames after the last row of features have that row, as in the layouts' own code."""
    folder = copied("adnerf")
    rows = np.load(folder / "aud.npy")
    np.save(folder / "aud.npy", rows[:97])
    rows_read = open_dataset(folder).audio_features("precomputed")
    assert np.array_equal(rows_read[:97], rows[:97]) and (rows_read[97:] == rows[96]).all()


def test_features_of_every_name(copied: Copied) -> None:
    """ER-NeRF's features are found by their size; DeepSpeech's under either of their names."""
    folder = copied("ernerf")
    opened = open_dataset(folder)
    assert opened.audio_features(FrontendConfig("precomputed", dim=1024)).shape == (100, 2, 1024)
    assert opened.audio_features(FrontendConfig("precomputed", dim=29)).shape == (100, 16, 29)
    with pytest.raises(FileProblem, match=r"aud_hu.npy has 1024 features.*44 were asked for"):
        opened.audio_features(FrontendConfig("precomputed", dim=44))
    (folder / "aud_ds.npy").rename(folder / "aud.npy")
    assert open_dataset(folder).audio_features("precomputed").shape == (100, 16, 29)


def test_blinks(written: dict[str, Path], copied: Copied, tmp_path: Path) -> None:
    """AU45 is found behind OpenFace's space and closes the eyes; without it the landmarks do."""
    folder = copied("ernerf")
    edit(folder, lambda meta: [frame.pop("eye_openness") for frame in meta["frames"]])  # type: ignore[arg-type]
    eyes = open_dataset(folder).eye_openness
    assert (eyes[::10] == 0).all() and eyes[1::10].min() > 0.2
    (folder / "au.csv").unlink()
    marks = open_dataset(folder).eye_openness
    assert marks.min() >= 0 and not np.array_equal(marks, eyes)
    (tmp_path / "x.csv").write_text("frame,AU45_r\n1,0.5\n")
    assert read_blinks(tmp_path / "x.csv").tolist() == [0.5]
    with pytest.raises(ValueError, match="no column AU45_r"):
        (tmp_path / "x.csv").write_text("frame,AU45_c\n1,1\n")
        read_blinks(tmp_path / "x.csv")


def test_without_sound(copied: Copied) -> None:
    """A folder with features and no sound trains on them; asking for its sound says where to put it."""
    folder = copied("adnerf")
    (folder / "aud.wav").unlink()
    opened = open_dataset(folder)
    assert opened.info.audio == {"frontend": "precomputed", "dim": 29}
    with pytest.raises(FileProblem, match=r"aud\.wav"):
        opened.audio()


def test_later_start(copied: Copied, synthetic_dataset: Dataset) -> None:
    """A folder that begins at picture 20 gets the sound and the features from there on."""
    folder = copied("adnerf")
    for number in range(20):
        for name in ("ori_imgs", "parsing", "head_imgs", "com_imgs"):
            for path in (folder / name).glob(f"{number}.*"):
                path.unlink()

    def cut(meta: dict[str, Any]) -> None:
        meta["frames"] = [frame for frame in meta["frames"] if frame["img_id"] >= 20]

    edit(folder, cut)
    opened = open_dataset(folder)
    assert len(opened) == 80 and opened.info.source["first_frame"] == 20
    assert np.array_equal(opened.audio_features("precomputed"), synthetic_dataset.audio_features("mel")[20:])
    assert np.abs(opened.audio() - synthetic_dataset.audio()[20 * 640 :]).max() < 1e-4


def test_other_intrinsics(copied: Copied) -> None:
    """fl_x and camera_angle_x serve for a focal length; one transforms.json is cut at 10/11."""
    folder = copied("radnerf")
    focal = open_dataset(folder).camera.fx

    def other(meta: dict[str, Any]) -> None:
        meta["fl_x"] = meta.pop("focal_len")

    edit(folder, other)
    assert open_dataset(folder).camera.fx == focal
    edit(folder, lambda meta: meta.update(camera_angle_x=2 * np.arctan(32 / meta.pop("fl_x"))))
    assert open_dataset(folder).camera.fx == pytest.approx(focal, rel=1e-12)
    meta = json.loads((folder / "transforms_train.json").read_text())
    (folder / "transforms_train.json").unlink()
    (folder / "transforms_val.json").rename(folder / "transforms.json")
    (folder / "transforms.json").write_text(json.dumps(meta))
    assert len(open_dataset(folder).indices("train")) == int(80 * 10 / 11)


def test_without_own_pictures(copied: Copied, synthetic_dataset: Dataset) -> None:
    """Where the video's own pictures are gone, the frames come from the person before the background."""
    folder = copied("adnerf")
    for path in (folder / "ori_imgs").glob("*.jpg"):
        path.unlink()
    opened = open_dataset(folder)
    person = synthetic_dataset.labels() != 0
    error = opened.frames().astype(int) - synthetic_dataset.frames()
    assert np.abs(error[person]).mean() < 3


def test_mesh_from_marks() -> None:
    """The 68 marks stand on their places of the mesh, and the others near where a face has them."""
    from nldf_engine.geometry.face_template import rest_landmarks

    rest = rest_landmarks()[:, :2] * 400 + 100
    mesh = to_mesh(rest[None, list(MARKS)] + np.random.default_rng(0).normal(size=(5, 68, 2)))
    assert mesh.shape == (5, 478, 2) and np.isfinite(mesh).all()
    assert np.abs(mesh.mean(0) - rest).max() < 3
    assert len(set(MARKS)) == 68


def test_poses_to_render_with(written: dict[str, Path], synthetic_dataset: Dataset) -> None:
    """A foreign folder and a foreign transforms file serve as poses to render, and so does a dataset."""
    all_poses, held = torch.from_numpy(synthetic_dataset.poses), synthetic_dataset.indices("heldout")
    for layout in EVERY:
        assert (load_poses(written[layout]) - all_poses).abs().max() <= 1e-6
        opened = open_dataset(written[layout])
        assert torch.equal(load_poses(written[layout]), torch.from_numpy(opened.poses))
    listed = load_poses(str(written["adnerf"] / "transforms_val.json"))
    assert listed.dtype == torch.float32 and (listed - all_poses[held]).abs().max() <= 1e-6
    assert torch.equal(load_poses(synthetic_dataset.path), all_poses)


def test_never_replaces(written: dict[str, Path], synthetic_dataset: Dataset, tmp_path: Path) -> None:
    """An export never goes over an existing folder: trained networks lie in AD-NeRF's."""
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "x").write_text("mine")
    with pytest.raises(FileProblem, match="never replaced"):
        export_layout(synthetic_dataset, "adnerf", tmp_path / "there")
    with pytest.raises(ValueError, match="adnerf, radnerf"):
        export_layout(synthetic_dataset, "dfrf", tmp_path / "other")
    assert not (tmp_path / "other").exists() and (tmp_path / "there" / "x").read_text() == "mine"


def test_export_keeps_near_and_far(copied: Copied, synthetic_dataset: Dataset, tmp_path: Path) -> None:
    """Bounds go over as the dataset has them, and not as AD-NeRF's preparation would choose them."""
    folder = copied("adnerf")
    for config in folder.glob("*_config.txt"):
        config.write_text("near = 0.52\nfar = 1.12\n")
    for name, dataset in (("theirs", open_dataset(folder)), ("ours", synthetic_dataset)):
        export_layout(dataset, "adnerf", tmp_path / name)
        info = open_dataset(tmp_path / name).info
        assert (info.near, info.far) == (dataset.info.near, dataset.info.far)
        for config in (tmp_path / name).glob("*_config.txt"):
            assert f"near = {dataset.info.near}\nfar = {dataset.info.far}\n" in config.read_text()
    assert open_dataset(folder).info.near == 0.52


def test_export_command(
    synthetic_dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`nldf export` says what it wrote and what the layout lost; an unknown layout is a usage error."""
    words = ["export", str(synthetic_dataset.path), "-o", str(tmp_path / "out"), "--layout"]
    report = tmp_path / "report.json"
    assert cli.main([*words, "dfrf"]) == 2 and not (tmp_path / "out").exists()
    assert cli.main([*words, "radnerf", "--json", str(report)]) == 0
    said = capsys.readouterr().out
    assert "100 pictures, 80 training and 20 validation frames" in said and "not in it as it was: 410" in said
    assert json.loads(report.read_text())["listed"] == [80, 20]
    assert cli.main([*words, "radnerf"]) == 1
