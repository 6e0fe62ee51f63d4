"""Poses of a clip: looping, files, and everything a foreign file can do wrong."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from nldf_engine.base.errors import FileProblem
from nldf_engine.geometry.poses import check_poses, load_poses
from nldf_engine.geometry.tracks import LoopedTrack, Track, open_track


def swaying(frames: int) -> torch.Tensor:
    """A head that turns slowly to and fro."""
    angle = 0.3 * torch.sin(torch.arange(frames) / 17.0)
    poses = torch.eye(4).repeat(frames, 1, 1)
    poses[:, 0, 0], poses[:, 0, 2] = angle.cos(), angle.sin()
    poses[:, 2, 0], poses[:, 2, 2] = -angle.sin(), angle.cos()
    poses[:, 2, 3] = -0.8 + 0.01 * angle
    return poses


def still(frames: int) -> torch.Tensor:
    """A torso that does not move."""
    return torch.eye(2, 3).repeat(frames, 1, 1)


def loop_track(poses: torch.Tensor, eyes: torch.Tensor, frames: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Poses and eyes of the first frames of an endless track."""
    looped = LoopedTrack.of(Track(poses, eyes, still(len(poses)))).at(torch.arange(frames))
    torch.testing.assert_close(looped.torso, still(frames))
    return looped.poses, looped.eyes


def resolve_poses(
    spec: object, poses: torch.Tensor, eyes: torch.Tensor, frames: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Poses and eyes of a clip that `spec` drives."""
    own = Track(poses, eyes, still(len(poses)))
    driven = open_track(spec, own, lambda of: still(len(of)))(torch.arange(frames))  # type: ignore[arg-type]
    return driven.poses, driven.eyes


def biggest_step(poses: torch.Tensor) -> float:
    """Largest change of any entry from one frame to the next."""
    return float((poses[1:] - poses[:-1]).abs().max())


def test_a_looped_track_has_no_jump_and_stays_rigid() -> None:
    """Three rounds of a track move no faster at the seams than twice its own speed."""
    track = swaying(200)
    looped, eyes = loop_track(track, torch.rand(200), 600)
    assert looped.shape == (600, 4, 4) and eyes.shape == (600,)
    assert torch.equal(looped[:175], track[:175])
    assert biggest_step(looped) < 2.5 * biggest_step(track)
    check_poses(looped)


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_tiny_tracks_loop_too(frames: int) -> None:
    """A track of one, two or five frames serves a longer clip."""
    looped, _ = loop_track(swaying(frames), torch.zeros(frames), 20)
    assert looped.shape == (20, 4, 4)


def test_still_gives_one_pose_and_blinks_on() -> None:
    """'still' holds the head and leaves the eyes their track."""
    eyes = torch.rand(50)
    poses, own = resolve_poses("still", swaying(50), eyes, 40)
    assert biggest_step(poses) == 0 and torch.equal(own, eyes[:40])


@pytest.mark.parametrize("kind", [".npy", ".safetensors", ".json"])
def test_pose_files_are_read_back(tmp_path: Path, kind: str) -> None:
    """Every format of pose file gives the poses that were written."""
    import json

    poses, path = swaying(7), tmp_path / f"poses{kind}"
    if kind == ".npy":
        np.save(path, poses.numpy())
    elif kind == ".safetensors":
        save_file({"poses": poses}, path)
    else:
        path.write_text(json.dumps(poses.tolist()))
    torch.testing.assert_close(load_poses(path), poses)


def bad_poses() -> dict[str, torch.Tensor]:
    nan, scaled, mirrored, flat = (swaying(5) for _ in range(4))
    nan[3, 0, 0] = float("nan")
    scaled[:, :3, :3] *= 2
    mirrored[:, 0] *= -1
    return {
        "NaN": nan,
        "rotation": scaled,
        "rigid": mirrored,
        "expected": flat[:, :3],
        "at least 1": flat[:0],
    }


@pytest.mark.parametrize("word", list(bad_poses()))
def test_impossible_poses_are_refused_with_the_reason(tmp_path: Path, word: str) -> None:
    """NaN, scaled, mirrored, wrongly shaped and empty poses name what is wrong and the file."""
    path = tmp_path / "poses.npy"
    np.save(path, bad_poses()[word].numpy())
    with pytest.raises(FileProblem, match=word) as caught:
        load_poses(path)
    assert "poses.npy" in str(caught.value)


def test_foreign_pose_files_are_refused(tmp_path: Path) -> None:
    """A pickle, a text file, an unknown ending, a missing file: each is one clear error, and nothing runs."""
    boom = tmp_path / "boom.npy"
    np.save(boom, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    (tmp_path / "words.json").write_text("not json")
    (tmp_path / "poses.csv").write_text("1,2,3")
    (tmp_path / "cut.npy").write_bytes(b"\x93NUMPY\x01\x00")
    for name in ("boom.npy", "words.json", "poses.csv", "cut.npy", "missing.npy"):
        with pytest.raises(FileProblem, match=name):
            load_poses(tmp_path / name)


def changed(kind: str) -> torch.Tensor:
    """Poses as other tools have them."""
    poses = swaying(7)
    if kind == "millimetres":
        poses[:, :3, 3] *= 1000
    elif kind == "OpenGL axes":  # y up and z backwards, of camera and head
        poses = poses @ torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))
    return poses


@pytest.mark.parametrize("kind", ["millimetres", "OpenGL axes"])
def test_other_units_and_axes_are_named(tmp_path: Path, kind: str) -> None:
    """What would render an empty picture is refused, with the likely cause."""
    np.save(tmp_path / "poses.npy", changed(kind).numpy())
    with pytest.raises(FileProblem, match=kind):
        load_poses(tmp_path / "poses.npy")


def test_lists_of_other_tools(tmp_path: Path) -> None:
    """A transforms file is read alike as a file and through its folder, with a byte order mark too; a list
    whose axes are ours already, and one with NaN, say so."""
    import json

    poses = swaying(7)
    half = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))

    def listed(matrices: torch.Tensor) -> dict[str, object]:
        rows = [{"img_id": k, "aud_id": k, "transform_matrix": m.tolist()} for k, m in enumerate(matrices)]
        return {"frames": rows, "focal_len": 500.0}

    path = tmp_path / "transforms.json"
    path.write_text(json.dumps(listed(half @ poses @ half)), encoding="utf-8-sig")
    for given in (path, tmp_path):
        torch.testing.assert_close(load_poses(given), poses)
    path.write_text(json.dumps(listed(poses)))
    with pytest.raises(FileProblem, match="have OpenCV's axes already"):
        load_poses(path)
    bad = half @ poses @ half
    bad[3, 0, 3] = float("nan")
    path.write_text(json.dumps(listed(bad)))
    with pytest.raises(FileProblem, match="frame 3 of its list holds NaN"):
        load_poses(path)
