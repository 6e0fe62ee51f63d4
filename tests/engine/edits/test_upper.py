"""Codes of brows, lids and gaze: tracked, kept in an avatar's track, given, and edited."""

import copy
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from nldf_engine.avatar import Avatar
from nldf_engine.base.errors import FileProblem
from nldf_engine.base.files import sha256
from nldf_engine.datasets.dataset import Dataset
from nldf_engine.engine import Engine
from nldf_engine.engine.edits import Edit, MouthEdit, UpperEdit, curve_of
from nldf_engine.engine.edits.upper import Upper
from nldf_engine.geometry.face_mesh import BROWS, EYE_RIMS, IRISES
from nldf_engine.geometry.tracks import LoopedTrack, Track
from nldf_engine.systems.common.motion import UpperBasis
from nldf_engine.training.motion import fit_upper
from nldf_engine.training.run import TrainConfig, train


@pytest.fixture(scope="module")
def avatar(synthetic_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An avatar with three codes, hardly trained."""
    settings = TrainConfig(steps=12, overrides={"upper_codes": "3", "speech_steps": "2"})
    return train(
        "nldf-fast-tiny", synthetic_dataset.path, tmp_path_factory.mktemp("a") / "me", settings
    ).avatar


@pytest.fixture(scope="module")
def engine(avatar: Path) -> Engine:
    return Engine.load(avatar)


def fitted(dataset: Dataset, codes: int = 3) -> tuple[UpperBasis, torch.Tensor, torch.Tensor]:
    basis, fit = UpperBasis(codes), torch.from_numpy(dataset.indices("fit"))
    return basis, fit_upper(basis, dataset, fit), fit


def replace_landmarks(data: Dataset, landmarks: torch.Tensor) -> Dataset:
    changed = copy.copy(data)
    changed.landmarks = landmarks.numpy()
    return changed


def correlation(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.corrcoef(torch.stack([a.double(), b.double()]))[0, 1])


def test_codes_tell_what_blinks_do_not(synthetic_dataset: Dataset) -> None:
    """Raised brows are told by the codes, also where they rise with the head; openness is told by none."""
    basis, codes, fit = fitted(synthetic_dataset)
    data = synthetic_dataset
    tracked = data.landmarks, data.poses, data.eye_openness
    landmarks, poses, eyes = (torch.from_numpy(values).float() for values in tracked)
    openness = basis.explained(poses[fit], eyes[fit])[:, 0]
    for code in codes[fit].T:
        assert abs(correlation(code, openness)) < 0.1
    raised = landmarks.clone()
    raised[fit[::2][:, None], torch.tensor(BROWS)[None], 1] -= 4  # pixels of 512: about 2 mm
    found = basis.track(raised, poses, data.camera, eyes)
    rose = torch.from_numpy(np.isin(np.arange(len(codes)), fit[::2].numpy()))
    shape = basis.decode(found) - basis.decode(codes)
    height = -shape[:, : len(BROWS), 1].mean(1)
    assert height[rose].mean() > 5 * height[~rose].abs().mean() + 1e-5
    again = fitted(synthetic_dataset)[1]
    np.testing.assert_array_equal(codes, again)
    # Brows that rise as the head nods are no part of the nod.
    nod = torch.from_numpy(data.poses[:, 1, 2]).float()
    nod = (nod - nod[fit].mean()) / nod[fit].std()
    raised = landmarks.clone()
    raised[:, torch.tensor(BROWS), 1] -= 4 * nod[:, None]
    other = replace_landmarks(data, raised)
    basis, codes, _ = fitted(other)
    assert correlation(codes[fit, 0], nod[fit]) > 0.9
    assert not basis.slopes[1:].any()


def test_motion_below_the_trackers_noise_is_not_blown_up(synthetic_dataset: Dataset) -> None:
    """Exact landmarks have components of micrometres; their codes stay small, not of unit variance."""
    _, codes, fit = fitted(synthetic_dataset, 12)
    spread = codes[fit].std(0)
    assert spread[0] > 0.5
    assert spread[-1] < 0.3


def test_unknown_landmarks_are_a_face_at_rest(synthetic_dataset: Dataset) -> None:
    """A frame without a face has codes of 0."""
    basis, codes, _ = fitted(synthetic_dataset)
    landmarks = torch.from_numpy(synthetic_dataset.landmarks.copy())
    landmarks[5] = torch.nan
    found = basis.track(
        landmarks, torch.from_numpy(synthetic_dataset.poses).float(), synthetic_dataset.camera,
        torch.from_numpy(synthetic_dataset.eye_openness).float(),
    )  # fmt: skip
    assert not found[5].any()
    torch.testing.assert_close(found[6], codes[6])


def test_an_avatar_keeps_its_codes_and_plays_them(engine: Engine, synthetic_dataset: Dataset) -> None:
    """The track's codes drive a clip; the same given by hand are the same clip, others another one."""
    features = synthetic_dataset.audio_features()[:4]
    assert engine.upper_codes == 3
    assert engine.avatar.upper is not None
    assert engine.avatar.upper.shape == (len(engine.avatar.poses), 3)
    plain = engine.render(features).frames[2]
    own = engine.avatar.upper[:4].numpy()
    np.testing.assert_array_equal(plain, engine.render(features, upper=own).frames[2])
    assert (plain != engine.render(features, upper=own + 3).frames[2]).any()
    with pytest.raises(ValueError, match=r"upper: expected finite values \[4, 3\], got \[4, 2\]"):
        engine.render(features, upper=own[:, :2])


def test_tracked_codes_of_the_own_video_are_the_tracks(engine: Engine, synthetic_dataset: Dataset) -> None:
    """`Engine.upper` tells from landmarks what training told from them."""
    data, start = synthetic_dataset, synthetic_dataset.info.splits["train"][0]
    found = engine.upper(data.landmarks, data.poses, data.eye_openness, data.camera)
    assert engine.avatar.upper is not None
    np.testing.assert_allclose(found[start:][: len(engine.avatar.upper)], engine.avatar.upper, atol=1e-4)


def test_avatars_without_codes_say_so(synthetic_dataset: Dataset, tmp_path: Path) -> None:
    """Codes, tracked ones and edits are refused, each with what trains them."""
    settings = TrainConfig(steps=2, overrides={"upper_codes": "0", "speech_steps": "2"})
    bare = Engine.load(train("nldf-tiny", synthetic_dataset.path, tmp_path / "bare", settings).avatar)
    features = synthetic_dataset.audio_features()[:2]
    assert bare.avatar.upper is None
    for ask in (
        lambda: bare.render(features, upper=np.zeros((2, 3))),
        lambda: bare.render(features, edit=Edit(upper=UpperEdit(brows=1))),
        lambda: bare.upper(np.zeros((1, 478, 2)), np.eye(4)[None], np.zeros(1), bare.avatar.camera),
    ):
        with pytest.raises(ValueError, match="upper: this avatar has no codes"):
            ask()
    bare.render(features, edit=Edit(upper=UpperEdit())).frames[0]


def test_brows_rise_by_deviations_and_a_calm_face_is_at_rest(synthetic_dataset: Dataset) -> None:
    """A rise of one is what the brows' height varies by; a scale of 0 leaves only the rise."""
    basis, codes, fit = fitted(synthetic_dataset, 1)

    def height(of: torch.Tensor) -> torch.Tensor:
        return -basis.decode(of)[:, : len(BROWS), 1].mean(1)

    index = torch.arange(4)
    tracked = codes[fit][:4]
    raised = Upper(UpperEdit(0, 1.5), basis)(index, tracked)
    moved = height(raised) - height(torch.zeros_like(tracked))
    # Brows that move less than the tracker's noise do not have codes of unit variance.
    deviation = height(codes[fit]).std() / codes[fit].std()
    torch.testing.assert_close(moved, 1.5 * deviation.expand(4), rtol=0.01, atol=0)
    curve = curve_of({"frame": [0, 3], "brows": [0, 3]})
    ramp = height(Upper(UpperEdit(curve=curve), basis)(index, tracked)) - height(tracked)
    assert (ramp[1:] > ramp[:-1]).all()
    torch.testing.assert_close(Upper(UpperEdit(), basis)(index, tracked), tracked)


def test_gaze_turns_the_irises_between_the_lids(synthetic_dataset: Dataset) -> None:
    """Right and down as the picture has them, by deviations; the two ways are told apart."""
    data, time = copy.copy(synthetic_dataset), np.arange(len(synthetic_dataset))
    data.landmarks = data.landmarks.copy()
    for axis, period in ((0, 5.0), (1, 8.0)):  # pixels of 64: some millimetres
        data.landmarks[:, IRISES, axis] += 1.0 * np.sin(time / period)[:, None]
    basis, _, _ = fitted(data, 5)

    def irises(of: torch.Tensor) -> torch.Tensor:
        placed = basis.decode(of)
        return placed[:, len(BROWS) + len(EYE_RIMS) :].mean(1) - placed[:, len(BROWS) :][
            :, : len(EYE_RIMS)
        ].mean(1)

    index, rest = torch.arange(3), torch.zeros(3, 5)
    spread = (irises(torch.eye(5)) - irises(torch.zeros(5, 5))).norm(dim=0)  # of codes of unit variance
    for gaze, way in (((1.0, 0.0), 0), ((-2.0, 0.0), 0), ((0.0, 1.5), 1)):
        moved = (irises(Upper(UpperEdit(0, gaze=gaze), basis)(index, rest)) - irises(rest))[0]
        assert moved[way] == pytest.approx(gaze[way] * float(spread[way]), rel=0.15)
        assert abs(moved[1 - way]) < 0.3 * abs(moved[way])
    assert not UpperEdit(gaze=(0.0, 0.1)).idle and UpperEdit(gaze=(0.0, 0.0)).idle
    data.landmarks[:, IRISES] = data.landmarks[:, EYE_RIMS].mean(1, keepdims=True)
    still = fitted(data, 1)[0]  # brows alone
    with pytest.raises(ValueError, match="gaze: the eyes of this avatar's training video hardly turn"):
        Upper(UpperEdit(gaze=(1.0, 0.0)), still)
    for bad in ((4.0, 0.0), (float("nan"), 0.0), (1.0,)):
        with pytest.raises(ValueError, match="gaze must be two numbers"):
            UpperEdit(gaze=bad)


def test_a_curve_of_brows_and_an_edit_of_the_mouth_go_together(
    engine: Engine, synthetic_dataset: Dataset
) -> None:
    """Edits of two parts of the face both show, and a stream shows what a clip does."""
    edit = Edit(mouth=MouthEdit(0.0)).with_curve(curve_of({"brows": [2.0, 2.0]}))
    assert edit.upper is not None
    assert edit.mouth is not None
    features = synthetic_dataset.audio_features()[:3]
    seen = {
        name: engine.render(features, "still", edit=asked).frames[1].astype(int)
        for name, asked in (("none", None), ("mouth", Edit(mouth=edit.mouth)), ("both", edit))
    }
    assert (seen["none"] != seen["mouth"]).any()
    assert (seen["both"] != seen["mouth"]).any()


def test_codes_are_looped_without_a_jump() -> None:
    """Behind its end a track goes on in its beginning, blended over a second."""
    count = 100
    upper = torch.stack([torch.linspace(0, 3, count), torch.zeros(count)], 1)
    poses, torso = torch.eye(4).repeat(count, 1, 1), torch.zeros(count, 2, 3)
    looped = LoopedTrack.of(Track(poses, torch.ones(count), torso, upper=upper))
    played = looped.at(torch.arange(250)).upper
    assert played is not None
    torch.testing.assert_close(played[:count], upper)
    assert (played[1:] - played[:-1]).abs().max() < 0.4
    single = LoopedTrack.of(Track(poses[:1], torch.ones(1), torso[:1], upper=upper[:1]))
    assert single.at(torch.arange(9)).upper.shape == (9, 2)  # type: ignore[union-attr]


@pytest.mark.parametrize("change", ["missing", "short", "wide"])
def test_a_track_that_does_not_fit_its_field_is_refused(avatar: Path, tmp_path: Path, change: str) -> None:
    """The codes of the track are as many as the field takes, for every frame."""
    copy = tmp_path / "copy"
    shutil.copytree(avatar, copy)
    track = load_file(copy / "track.safetensors")
    upper = track.pop("upper")
    if change != "missing":
        track["upper"] = (upper[:-1] if change == "short" else torch.cat([upper, upper], 1)).contiguous()
    save_file(track, copy / "track.safetensors")
    info = json.loads((copy / "avatar.json").read_text())
    info["files"]["track.safetensors"] = sha256(copy / "track.safetensors")
    (copy / "avatar.json").write_text(json.dumps(info))
    with pytest.raises(FileProblem, match="upper: expected"):
        Avatar.load(copy)


@pytest.mark.parametrize("fields", [{"scale": -1}, {"scale": 3}, {"brows": 9}, {"brows": float("nan")}])
def test_edits_that_can_not_be_are_refused(fields: dict[str, float]) -> None:
    """Numbers out of their range are told."""
    with pytest.raises(ValueError, match="UpperEdit"):
        UpperEdit(**fields)
