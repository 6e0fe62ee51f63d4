"""The dataset folder: what is written is read back, and nothing wrong is opened."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from nldf_engine.base.errors import FileProblem
from nldf_engine.datasets.dataset import LABELS, Dataset, DatasetInfo, near_far, write_dataset
from nldf_engine.datasets.validate import validate
from nldf_engine.geometry.cameras import Camera

T, S = 40, 48


def make(path: Path, frames: int = T, size: int = S, **changes: object) -> Dataset:
    """A small dataset whose every part shows its index."""
    poses = np.tile(np.eye(4, dtype=np.float32), (frames, 1, 1))
    poses[:, 2, 3] = -0.9
    valid = np.ones(frames, bool)
    valid[3:5] = False
    arguments: dict = {
        "info": DatasetInfo(
            frames, (size, size), Camera(size, size, 90.0, 90.0, size / 2, size / 2), *near_far(poses)
        ),
        "video": (np.full((size, size, 3), 4 * k, np.uint8) for k in range(frames)),
        "labels": (np.full((size, size), k % 4, np.uint8) for k in range(frames)),
        "background": np.full((size, size, 3), (10, 20, 30), np.uint8),
        "audio": 0.2 * np.sin(np.arange(frames * 640) / 7),
        "track": {
            "poses": poses,
            "landmarks": np.random.default_rng(0).uniform(0, size, (frames, 478, 2)).astype(np.float32),
            "eye_openness": np.linspace(0, 0.3, frames, dtype=np.float32),
            "valid": valid,
            "torso": np.zeros((frames, 2, 3), np.float32),
        },
        "report": {"problems": []},
    }
    arguments.update(changes)
    return write_dataset(path, **arguments)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("made") / "speaker").path


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "speaker"))


def test_round_trip(made: Path) -> None:
    """Frames, labels, track, background and sound come back as they were written."""
    dataset = Dataset.open(made)
    frames = dataset.frames()
    assert frames.shape == (T, S, S, 3) and frames.dtype == np.uint8
    assert np.abs(frames.mean((1, 2, 3)) - 4 * np.arange(T)).max() < 1.5
    assert np.array_equal(dataset.labels()[:, 0, 0], np.arange(T) % 4)
    assert dataset.background()[5, 5].tolist() == [10, 20, 30]
    assert dataset.extra["torso"].shape == (T, 2, 3)
    assert np.abs(dataset.audio() - 0.2 * np.sin(np.arange(T * 640) / 7)).max() < 1e-3
    assert len(dataset) == T and dataset.camera.fx == 90.0
    assert dataset.info.near == pytest.approx(0.7) and dataset.info.far == pytest.approx(1.1)


def test_sizes(made: Path) -> None:
    """Every part scales to a smaller width; a larger one is refused."""
    dataset = Dataset.open(made)
    assert dataset.frames(24).shape == (T, 24, 24, 3)
    assert dataset.labels(24).shape == (T, 24, 24) and set(np.unique(dataset.labels(24))) <= set(
        LABELS.values()
    )
    assert dataset.background(24).shape == (24, 24, 3)
    assert dataset.frames(24) is dataset.frames(24)
    with pytest.raises(ValueError, match=rf"size: expected 1 to {S}, the width of .*, got {S + 1}"):
        dataset.frames(S + 1)


def test_odd_size(tmp_path: Path) -> None:
    """A dataset of odd size keeps its size, though H.264 needs even ones."""
    dataset = make(tmp_path / "odd", frames=10, size=33)
    assert dataset.frames().shape == (10, 33, 33, 3)
    assert dataset.labels().shape == (10, 33, 33)


def test_splits(made: Path) -> None:
    """Held-out, validation and fit frames are disjoint, cover everything, and leave faceless frames out."""
    dataset = Dataset.open(made)
    fit, validation, heldout = (dataset.indices(s) for s in ("fit", "validation", "heldout"))
    assert np.array_equal(np.concatenate([fit, validation]), dataset.indices("train"))
    assert np.array_equal(np.concatenate([fit, validation, heldout]), dataset.indices("all"))
    assert heldout[0] == 32 and validation[0] == 29
    assert 3 not in fit and 4 not in fit and len(fit) == 27
    assert fit.dtype == np.int64
    with pytest.raises(ValueError, match="split must be one of"):
        dataset.indices("test")


def test_hash(copy: Path, made: Path) -> None:
    """The hash is that of the data: equal for a copy, another after a change."""
    assert Dataset.open(copy).hash() == Dataset.open(made).hash()
    track = load_file(str(copy / "track.safetensors"))
    track["eye_openness"][0] += 0.1
    save_file(track, str(copy / "track.safetensors"))
    assert Dataset.open(copy).hash() != Dataset.open(made).hash()


def test_features_are_kept(copy: Path) -> None:
    """Audio features are computed once, kept beside the data, and computed again when the sound changes."""
    dataset = Dataset.open(copy)
    first = dataset.audio_features("mel")
    assert first.shape[:2] == (T, 16) and first.dtype == np.float32
    stamp = (copy / "features_mel.safetensors").stat().st_mtime_ns
    assert np.array_equal(Dataset.open(copy).audio_features("mel"), first)
    assert (copy / "features_mel.safetensors").stat().st_mtime_ns == stamp
    (copy / "features_mel.safetensors").write_bytes(b"damaged")
    assert np.array_equal(Dataset.open(copy).audio_features("mel"), first)
    wav = bytearray((copy / "audio.wav").read_bytes())
    wav[1000:3000] = bytes(2000)
    (copy / "audio.wav").write_bytes(bytes(wav))
    assert not np.array_equal(Dataset.open(copy).audio_features("mel"), first)


def test_features_of_a_read_only_folder(copy: Path) -> None:
    """Where features can't be kept they are still computed."""
    (copy / "features_mel.safetensors").mkdir()  # stands in the way, also for an administrator
    (copy / "features_mel.safetensors" / "x").touch()
    assert Dataset.open(copy).audio_features("mel").shape[0] == T


def change_json(**values: object) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        info = json.loads((path / "dataset.json").read_text())
        for key, value in values.items():
            if value is None:
                del info[key]
            else:
                info[key] = value
        (path / "dataset.json").write_text(json.dumps(info))

    return change


def change_track(name: str, change: Callable[[np.ndarray], np.ndarray] | None) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        track = load_file(str(path / "track.safetensors"))
        value = track.pop(name)
        if change is not None:
            track[name] = np.ascontiguousarray(change(value.copy()))
        save_file(track, str(path / "track.safetensors"))
        change_json(files={})(path)

    return apply


def put(value: float, *at: int) -> Callable[[np.ndarray], np.ndarray]:
    def change(array: np.ndarray) -> np.ndarray:
        array[at] = value
        return array

    return change


def cut(name: str) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        data = (path / name).read_bytes()
        (path / name).write_bytes(data[: len(data) // 2])

    return apply


def link_outside(path: Path) -> None:
    target = path.parent / "elsewhere.wav"
    shutil.move(path / "audio.wav", target)
    os.symlink(target, path / "audio.wav")


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "no json": (lambda p: (p / "dataset.json").unlink(), "dataset.json is missing"),
    "not json": (lambda p: (p / "dataset.json").write_text("{"), "not valid JSON"),
    "json list": (lambda p: (p / "dataset.json").write_text("[]"), "schema"),
    "deep json": (lambda p: (p / "dataset.json").write_text("[" * 200000), "not valid JSON"),
    "huge json": (lambda p: (p / "dataset.json").write_text(" " * (5 << 20)), "more than"),
    "newer": (change_json(schema=99), "upgrade"),
    "older": (change_json(schema=1), "its schema is 1, expected 2"),
    "no schema": (change_json(schema=None), "schema"),
    "no camera": (change_json(camera=None), "missing required field `camera`"),
    "camera text": (change_json(camera={"fx": "x"}), "dataset.camera.fx: Expected `float`, got `str`"),
    "files text": (change_json(files={"video.mp4": 7}), "dataset.files.*: Expected `object`, got `int`"),
    "frames text": (change_json(frames="many"), "dataset.frames: Expected `int`, got `str`"),
    "frames negative": (change_json(frames=-1), "at least 1"),
    "size": (change_json(size=[48]), "dataset.size: Expected"),
    "near far": (change_json(near=2.0, far=1.0), "near"),
    "split": (change_json(splits={"train": [0, 99], "heldout": [99, 40]}), "split"),
    "split text": (change_json(splits={"train": "all"}), "split"),
    "unknown key": (change_json(surprise=1), "unknown keys surprise"),
    "other frames": (change_json(frames=41, splits={}, files={}), "41"),
    "no video": (lambda p: (p / "video.mp4").unlink(), "missing"),
    "no wav": (lambda p: (p / "audio.wav").unlink(), "missing"),
    "cut video": (cut("video.mp4"), "bytes, and dataset.json says"),
    "cut labels": (cut("parsing.mkv"), "bytes, and dataset.json says"),
    "cut track": (cut("track.safetensors"), "bytes, and dataset.json says"),
    "cut track unsized": (lambda p: (change_json(files={})(p), cut("track.safetensors")(p)), "damaged"),
    "cut wav unsized": (lambda p: (change_json(files={})(p), cut("audio.wav")(p)), "cut short"),
    "wav text": (lambda p: (p / "audio.wav").write_text("x" * 10**6), "wav"),
    "outside": (link_outside, "outside the folder"),
    "no poses": (change_track("poses", None), "'poses' is missing"),
    "short poses": (change_track("poses", lambda a: a[:-1]), "poses must be"),
    "nan pose": (change_track("poses", put(np.nan, 7, 0, 0)), "not finite, the first at \\[7, 0, 0\\]"),
    "scaled pose": (change_track("poses", lambda a: a * 2), "rigid"),
    "mirrored pose": (change_track("poses", put(-1.0, 7, 0, 0)), "rigid"),
    "infinite extra": (change_track("torso", put(np.inf, 0, 0, 0)), "not finite"),
    "landmarks": (change_track("landmarks", lambda a: a[:, :68]), "landmarks must be"),
    "valid": (change_track("valid", lambda a: a.astype(np.float32) * 0.5), "true or false"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_datasets(copy: Path, kind: str) -> None:
    """Every kind of damage is refused at opening: which file, what is wrong; validate reports the same."""
    spoil, text = BAD[kind]
    spoil(copy)
    with pytest.raises(FileProblem, match=text) as caught:
        Dataset.open(copy)
    assert str(copy) in str(caught.value)
    assert [str(p.where) for p in validate(copy)] == [str(caught.value.path)] or kind == "no json"


def test_bad_background(copy: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A background that is empty, cut short or no picture is refused when it is read, by us alone."""
    whole = (copy / "background.png").read_bytes()
    for content, text in (
        (b"", "empty"),
        (b"no picture", "no picture"),
        (whole[: len(whole) // 2], "cut short"),
    ):
        (copy / "background.png").write_bytes(content)
        with pytest.raises(FileProblem, match=text) as caught:
            Dataset.open(copy).background()
        assert "background.png" in str(caught.value) and "pixels there" in caught.value.remedy
    assert capfd.readouterr().err == "", "libpng and OpenCV stay silent"


def test_missing_folder(tmp_path: Path) -> None:
    """A missing folder, or a file in its place, names the command that makes one."""
    (tmp_path / "file").touch()
    for name in ("nothing", "file"):
        with pytest.raises(FileProblem, match="nldf prepare"):
            Dataset.open(tmp_path / name)


def test_failed_writing_leaves_the_old(copy: Path) -> None:
    """When writing fails or is interrupted, the older dataset stays as it was and nothing lies beside it."""
    before = Dataset.open(copy).hash()

    def stopped() -> object:
        yield np.zeros((S, S, 3), np.uint8)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(copy, video=stopped())
    with pytest.raises(ValueError):
        make(copy, labels=(np.zeros((S, S), np.uint8) for _ in range(T - 1)))
    assert Dataset.open(copy).hash() == before
    assert [f.name for f in copy.parent.iterdir()] == ["speaker"]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"background": np.zeros((4, 4, 3), np.uint8)}, "background"),
        ({"audio": np.array([np.nan])}, "audio"),
        ({"track": {}}, "missing"),
    ],
)
def test_wrong_arguments(tmp_path: Path, change: dict, text: str) -> None:
    """Parts that don't fit each other are refused before anything is written."""
    with pytest.raises(ValueError, match=text):
        make(tmp_path / "x", **change)
    assert list(tmp_path.iterdir()) == []


def test_writing_where_none_may(tmp_path: Path) -> None:
    """An output path under a file is a clear error."""
    (tmp_path / "file").touch()
    with pytest.raises(FileProblem, match="can't be made"):
        make(tmp_path / "file" / "speaker")


@pytest.mark.parametrize("limit", [3000, 60000, 230000])
def test_full_disk(copy: Path, limit: int) -> None:
    """On a disk that fills up anywhere on the way, the error is clear and the older dataset stays."""
    code = f"""
import resource, signal, sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_dataset import make
from nldf_engine.base.errors import FileProblem
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
try:
    make(Path({str(copy)!r}), frames=100)
except FileProblem as error:
    print("refused:", error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert "refused:" in done.stdout and "disk is full" in done.stdout, done.stdout + done.stderr
    assert len(Dataset.open(copy)) == T and [f.name for f in copy.parent.iterdir()] == ["speaker"]


def test_only_datasets_are_replaced(tmp_path: Path) -> None:
    """A file and a folder of other things are refused; nothing, an empty folder and a dataset pass."""
    from nldf_engine.datasets.format import check_target

    (tmp_path / "song.wav").write_bytes(b"x")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"x")
    for name in ("song.wav", "photos"):
        with pytest.raises(FileProblem, match="is no dataset"):
            check_target(tmp_path / name)
    (tmp_path / "empty").mkdir()
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "dataset.json").write_text("{}")
    for name in ("new", "empty", "old"):
        assert check_target(tmp_path / name) == tmp_path / name
