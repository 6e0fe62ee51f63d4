"""The 68 landmarks in head space, against a speaker whose points are known exactly, and their files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from nldf_engine.base.errors import FileProblem
from nldf_engine.geometry.face_mesh import MARKS, MARKS_JAW, MARKS_LIPS, MARKS_SPEECH
from nldf_engine.geometry.face_template import rest_landmarks
from nldf_engine.geometry.landmark_files import MEANING, check_landmarks, load_landmarks, save_landmarks
from nldf_engine.geometry.landmark_tracks import between, landmark_track, reprojected
from nldf_engine.synthetic import Speaker, SyntheticConfig
from nldf_engine.synthetic.make import controls_at, plan

REST = torch.from_numpy(rest_landmarks()[list(MARKS)]).float()


def said(frames: int = 50) -> tuple:
    """Pixels [T, 478, 2], poses [T, 4, 4], camera and true points [T, 478, 3] of the synthetic speaker."""
    speaker = Speaker(256)
    _, visemes, motion = plan(SyntheticConfig(seconds=frames / 25, size=256, seed=3))
    seen = [speaker.landmarks(controls_at(visemes, motion, k), motion.poses[k]) for k in range(frames)]
    pixels, points = (torch.from_numpy(np.stack(part)).float() for part in zip(*seen, strict=True))
    return pixels, torch.from_numpy(motion.poses[:frames]).float(), speaker.camera, points


def test_the_table_is_a_face() -> None:
    """68 points, each once; lines go from the picture's left to its right; the face is as its mirror
    image."""
    assert len(set(MARKS)) == 68 and len(MARKS_SPEECH) == 37
    jaw = REST[list(MARKS_JAW)]
    assert (jaw[1:, 0] > jaw[:-1, 0] - 0.005).all() and jaw[:, 1].argmax() == 8
    mirror = [*range(16, -1, -1), *range(26, 16, -1)]
    flipped = REST[mirror] * torch.tensor([-1.0, 1, 1])
    assert (REST[:27] - flipped).norm(dim=1).max() < 0.004
    lips = REST[list(MARKS_LIPS)]
    assert lips[0, 0] < lips[3, 0] < lips[6, 0] and lips[3, 1] < lips[9, 1]


def test_landmarks_are_where_they_were_seen() -> None:
    """Reprojected, they are within a thousandth of a pixel; against the truth, within millimetres of
    depth."""
    pixels, poses, camera, points = said()
    track, missing = landmark_track(pixels, poses, camera)
    assert track.shape == (50, 68, 3) and track.dtype == torch.float32 and missing == 0
    assert (reprojected(track, poses, camera) - pixels[:, list(MARKS)]).abs().max() < 0.001
    off = 1e3 * (
        track - points[:, list(MARKS)]
    )  # what moves in depth, as an opening jaw, is seen to be beside
    assert off[..., :2].norm(dim=-1).mean() < 0.3 and off[..., :2].norm(dim=-1).max() < 4
    assert off.norm(dim=-1).median() < 0.05 and off[:, list(MARKS_LIPS)].norm(dim=-1).max() < 10
    opening = [of[:, 66, 1] - of[:, 62, 1] for of in (track, points[:, list(MARKS)])]
    assert torch.corrcoef(torch.stack(opening))[0, 1] > 0.99


def test_frames_without_a_face_are_interpolated() -> None:
    """Half-way between neighbours is the mean of both; the ends repeat; what is known stays as it is."""
    pixels, poses, camera, _ = said(12)
    whole, _ = landmark_track(pixels, poses, camera)
    pixels[[0, 1, 6, 11]] = torch.nan
    track, missing = landmark_track(pixels, poses, camera)
    assert missing == 4
    known = [2, 3, 4, 5, 7, 8, 9, 10]
    assert torch.equal(track[known], whole[known])
    torch.testing.assert_close(track[6], (whole[5] + whole[7]) / 2)
    assert torch.equal(track[0], whole[2]) and torch.equal(track[11], whole[10])
    with pytest.raises(ValueError, match="a face in some of the 12 frames, got none"):
        landmark_track(torch.full_like(pixels, torch.nan), poses, camera)
    with pytest.raises(ValueError, match=r"expected \[T, 478, 2\]"):
        landmark_track(pixels[:, :68], poses, camera)


def test_gaps_of_any_length() -> None:
    """A gap of four frames is four steps of a fifth."""
    values = torch.tensor([0.0, 9, 9, 9, 9, 5, 6])
    known = torch.tensor([True, False, False, False, False, True, True])
    torch.testing.assert_close(between(values, known), torch.tensor([0.0, 1, 2, 3, 4, 5, 6]))


TRACK = REST.repeat(3, 1, 1)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (TRACK[..., :2], "those are 2-D: pixels have no depth"),
        (torch.zeros(3, 478, 3), r"those are the whole face mesh: take its points geometry.face_mesh.MARKS"),
        (torch.zeros(0, 68, 3), r"expected \[T, 68, 3\], got \[0, 68, 3\]"),
        (1000 * TRACK, "look like millimetres: divide by 1000"),
        (3000 * TRACK + 256, "look like pixels or another unit"),
        (TRACK * torch.tensor([1.0, -1, -1]), "expected y to grow downwards"),
        (TRACK * torch.tensor([-1.0, 1, 1]), "begin at its right"),
        (TRACK[:, [*range(17), *range(48, 68), *range(17, 48)]], "iBUG's order"),
        (TRACK.index_fill(0, torch.tensor([1]), torch.nan), r"frame 1 holds NaN or infinity \(1 of 3 do\)"),
        (TRACK > 0, "floating point numbers, got bool"),
    ],
)
def test_what_is_no_track_is_explained(wrong: torch.Tensor, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        check_landmarks(wrong)
    save_file({"landmarks": wrong.contiguous()}, tmp_path / "wrong.safetensors")
    with pytest.raises(FileProblem, match=message):
        load_landmarks(tmp_path / "wrong.safetensors")


def test_files_come_back_as_they_were(tmp_path: Path) -> None:
    """Bit for bit, with what the numbers mean beside them; a refused track leaves the older file."""
    path = tmp_path / "track.safetensors"
    save_landmarks(path, TRACK)
    assert torch.equal(load_landmarks(path), TRACK)
    with pytest.raises(ValueError, match="NaN"):
        save_landmarks(path, TRACK * torch.nan)
    assert torch.equal(load_file(path)["landmarks"], TRACK) and [p.name for p in tmp_path.iterdir()] == [
        path.name
    ]
    np.save(tmp_path / "track.npy", TRACK.double().numpy())
    torch.testing.assert_close(load_landmarks(tmp_path / "track.npy"), TRACK)


def test_files_of_another_kind_are_refused(tmp_path: Path) -> None:
    for meaning in ({"units": "millimetres"}, {"space": "camera"}, {"order": "mesh-478"}):
        save_file({"landmarks": TRACK}, tmp_path / "other.safetensors", MEANING | meaning)
        with pytest.raises(FileProblem, match=next(iter(meaning.values()))):
            load_landmarks(tmp_path / "other.safetensors")
    save_file({"poses": TRACK}, tmp_path / "poses.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"nothing")
    np.save(tmp_path / "pickled.npy", np.array([{}], dtype=object), allow_pickle=True)
    for name, message in (
        ("poses.safetensors", "no tensor named 'landmarks'"), ("broken.safetensors", "no usable landmarks"),
        ("pickled.npy", "no usable landmarks"), ("none.npy", "there is no such file"),
        ("broken.txt", "no such"),
    ):  # fmt: skip
        with pytest.raises(FileProblem, match=message):
            load_landmarks(tmp_path / name)
    with pytest.raises(FileProblem, match=r"end in \.safetensors"):
        save_landmarks(tmp_path / "track.npy", TRACK)
