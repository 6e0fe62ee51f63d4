"""An avatar folder: written whole, read back the same, and refused with a reason when it is not sound."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from avatars import tiny_avatar
from nldf_engine.avatar.avatar import SCHEMA, Avatar
from nldf_engine.base.errors import FileProblem
from nldf_engine.base.files import sha256


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("avatars") / "me"
    tiny_avatar().save(path)
    return path


@pytest.fixture
def copy(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "me"))


def resign(path: Path) -> None:
    """Makes the digests true again, so that a test reaches the check behind them."""
    info = json.loads((path / "avatar.json").read_text())
    info["files"] = {name: sha256(path / name) for name in info["files"]}
    (path / "avatar.json").write_text(json.dumps(info))


def change(path: Path, **values: object) -> None:
    info = json.loads((path / "avatar.json").read_text())
    info.update(values)
    (path / "avatar.json").write_text(json.dumps(info))


@pytest.mark.parametrize("system", ["nldf", "adnerf"])
def test_a_saved_avatar_loads_as_it_was(tmp_path: Path, system: str) -> None:
    """Every tensor, the camera, the track and the provenance come back unchanged."""
    avatar = tiny_avatar(system)
    avatar.save(tmp_path / "me")
    again = Avatar.load(tmp_path / "me")
    assert again.info == avatar.info and again.camera == avatar.camera
    for name, value in avatar.portrait.state_dict().items():
        assert torch.equal(value, again.portrait.state_dict()[name]), name
    assert torch.equal(again.poses, avatar.poses) and (again.background == avatar.background).all()


def test_saving_over_something_else_is_refused(tmp_path: Path) -> None:
    """A folder that is no avatar is not replaced; an avatar is."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"x")
    with pytest.raises(FileProblem, match="is no avatar"):
        tiny_avatar().save(tmp_path / "photos")
    assert (tmp_path / "photos" / "a.jpg").is_file()
    tiny_avatar().save(tmp_path / "me")
    tiny_avatar().save(tmp_path / "me")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["me", "photos"]


@pytest.mark.parametrize("name", ["model.safetensors", "track.safetensors", "background.png"])
def test_a_missing_file_is_named(copy: Path, name: str) -> None:
    """Each file that is gone is named."""
    (copy / name).unlink()
    with pytest.raises(FileProblem, match=f"{name}.*missing"):
        Avatar.load(copy)


@pytest.mark.parametrize("keep", [0, 4, 100, -10])
def test_truncated_weights_are_refused(copy: Path, keep: int) -> None:
    """Weights cut anywhere are refused, with right digests as well as with wrong ones."""
    path = copy / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(FileProblem, match="cut short or changed"):
        Avatar.load(copy)
    resign(copy)
    with pytest.raises(FileProblem, match="no readable safetensors"):
        Avatar.load(copy)


def edit(path: Path, how: str) -> None:
    tensors = load_file(path / "model.safetensors")
    name = "field.network.head.weight"
    if how == "missing":
        del tensors[name]
    elif how == "no part of the model":
        tensors["field.network.hood.weight"] = torch.zeros(1)
    elif how == "expected shape":
        tensors[name] = tensors[name][:, :-1].contiguous()
    elif how == "NaN":
        tensors[name][0, 0] = float("nan")
    elif how == "tail.bias holds NaN or infinity":
        tensors["field.network.tail.bias"][-1] = float("inf")
    else:
        tensors[name] = tensors[name].double()
    save_file(tensors, path / "model.safetensors")
    resign(path)


@pytest.mark.parametrize(
    "how",
    [
        "missing",
        "no part of the model",
        "expected shape",
        "NaN",
        "tail.bias holds NaN or infinity",
        "float64",
    ],
)
def test_tensors_that_do_not_fit_are_named(copy: Path, how: str) -> None:
    """Missing, extra, misshapen, NaN and wrongly typed tensors are refused by name."""
    edit(copy, how)
    with pytest.raises(FileProblem, match=how) as caught:
        Avatar.load(copy)
    assert "model.safetensors" in str(caught.value)


def test_a_newer_schema_says_upgrade(copy: Path) -> None:
    """A schema of the future is refused with the remedy."""
    change(copy, schema=SCHEMA + 1)
    with pytest.raises(FileProblem, match="upgrade nldf_engine"):
        Avatar.load(copy)


@pytest.mark.parametrize(
    "values",
    [
        {"system": "gan"},
        {"config": {"bounds": {"near": 1, "far": 0.5}}},
        {"config": {"bounds": {"near": 0.5, "far": 1}, "colour": 3}},
        {"config": {"bounds": {"near": 0.5, "far": 1}, "depth": 10**9}},
        {"config": {"bounds": {"near": 0.5, "far": 1}, "width": "16"}},
        {"camera": {"width": 24}},
        {"torso": {"height": 10**9, "width": 10**9}},
        {"files": {"model.safetensors": "0", "../../etc/passwd": "0"}},
        {"format": "something"},
        {"schema": "1"},
    ],
)
def test_an_impossible_description_is_refused(copy: Path, values: dict[str, object]) -> None:
    """Unknown systems and settings, absurd sizes and paths outside of the folder never get far."""
    change(copy, **values)
    with pytest.raises(FileProblem, match=r"avatar\.json"):
        Avatar.load(copy)


def test_a_link_out_of_the_folder_is_refused(copy: Path, tmp_path: Path) -> None:
    """A file of the avatar that is a link to somewhere else is refused."""
    target = tmp_path / "elsewhere.safetensors"
    shutil.move(copy / "model.safetensors", target)
    (copy / "model.safetensors").symlink_to(target)
    with pytest.raises(FileProblem, match="outside the folder"):
        Avatar.load(copy)


@pytest.mark.parametrize("path", ["nowhere", "empty"])
def test_what_is_no_avatar_says_so(tmp_path: Path, path: str) -> None:
    """A missing folder and an empty one are told apart, each with what to give instead."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileProblem, match="nldf train"):
        Avatar.load(tmp_path / path)


def test_a_damaged_track_is_refused(copy: Path) -> None:
    """NaN poses in the track are found when the avatar is loaded."""
    track = load_file(copy / "track.safetensors")
    track["poses"][3] = float("nan")
    save_file(track, copy / "track.safetensors")
    resign(copy)
    with pytest.raises(FileProblem, match="NaN"):
        Avatar.load(copy)


@pytest.mark.parametrize(
    ("key", "value"),
    [("frames", 41), ("frames", None), ("frames", "40"), ("provenance", []), ("provenance", None)],
)
def test_frames_and_provenance_are_checked(copy: Path, key: str, value: object) -> None:
    """A count of frames that is not the track's, and a provenance that is no object, are refused by name."""
    change(copy, **{key: value})
    with pytest.raises(FileProblem, match=key) as caught:
        Avatar.load(copy)
    assert "avatar.json" in str(caught.value) and caught.value.remedy


@pytest.mark.parametrize("name", ["poses", "eye_openness"])
def test_a_missing_track_tensor_is_named(copy: Path, name: str) -> None:
    """The file, the tensor, what is there instead, and the remedy; no KeyError's wording."""
    track = load_file(copy / "track.safetensors")
    del track[name]
    save_file(track, copy / "track.safetensors")
    resign(copy)
    with pytest.raises(FileProblem, match=f"tensor '{name}' is missing; it holds") as caught:
        Avatar.load(copy)
    assert caught.value.remedy and caught.value.path.name == "track.safetensors"


def test_the_remedy_of_a_bad_plate_is_the_avatar_s(copy: Path) -> None:
    """An avatar's background that is no picture asks for the avatar again, not for another --background."""
    (copy / "background.png").write_bytes(b"no picture")
    resign(copy)
    with pytest.raises(FileProblem, match="copy the whole folder again"):
        Avatar.load(copy)
