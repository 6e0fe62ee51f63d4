"""From a dataset and an avatar on disk to a report: the right frames, sound and conditions are taken."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nldf_engine.base.errors import FileProblem
from nldf_engine.datasets.dataset import Dataset, DatasetInfo, write_dataset
from nldf_engine.evaluation import EvaluateConfig, RealClip, evaluate
from nldf_engine.evaluation.real_clip import check_same_view, real_clip
from nldf_engine.geometry.cameras import Camera

CAMERA = Camera(64, 48, 90.0, 90.0, 32.0, 24.0)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """30 frames of 64x48, moving; the last 10 are held out, the 2 in the middle of them without a face."""
    rng = np.random.default_rng(0)
    texture = rng.integers(0, 256, (48, 128, 3), dtype=np.uint8)
    frames = np.stack([texture[:, index : index + 64] for index in range(30)])
    labels = np.zeros((30, 48, 64), np.uint8)
    labels[:, 10:40, 20:50] = 1
    poses = np.tile(np.eye(4, dtype=np.float32), (30, 1, 1))
    poses[:, 2, 3] = -0.8 - 0.01 * np.arange(30)
    valid = np.ones(30, bool)
    valid[24:26] = False
    track = {
        "poses": poses, "valid": valid, "eye_openness": np.linspace(0, 0.3, 30, dtype=np.float32),
        "landmarks": rng.uniform(20, 44, (30, 478, 2)).astype(np.float32),
    }  # fmt: skip
    sound = np.sin(np.arange(30 * 640) * 0.05 * (1 + np.arange(30 * 640) / 20000)) * 0.5
    info = DatasetInfo(30, (64, 48), CAMERA, 0.6, 1.2, splits={"train": [0, 20], "heldout": [20, 30]})
    return write_dataset(
        tmp_path_factory.mktemp("data") / "speaker", info, video=frames, labels=labels, background=frames[0],
        audio=sound, track=track,
    )  # fmt: skip


@pytest.fixture(scope="module")
def avatar(tmp_path_factory: pytest.TempPathFactory, dataset: Dataset) -> Path:
    """An untrained light field, as an avatar folder."""
    from nldf_engine.audio import FrontendConfig
    from nldf_engine.avatar import Avatar
    from nldf_engine.rendering.fields import Bounds
    from nldf_engine.rendering.heads import RayHead
    from nldf_engine.rendering.portrait import Portrait
    from nldf_engine.rendering.region import HeadRegion
    from nldf_engine.systems.common.torso import TorsoPlate
    from nldf_engine.systems.nldf.model import LightField, LightFieldConfig

    torch.manual_seed(0)
    field = LightField(LightFieldConfig(Bounds(0.6, 1.2), width=16, depth=4, points=4))
    camera = CAMERA.scaled(32)
    path = tmp_path_factory.mktemp("avatars") / "me"
    made = Avatar(
        Portrait(RayHead(field, HeadRegion()), TorsoPlate(24, 32)), camera, FrontendConfig(),
        dataset.background(32),
        torch.from_numpy(dataset.poses[:20]), torch.from_numpy(dataset.eye_openness[:20]),
        {"dataset": dataset.hash()},
    )  # fmt: skip
    made.save(path)
    return path


@pytest.mark.parametrize("width", [64, 32])
def test_the_clip_is_the_split_of_the_dataset(dataset: Dataset, width: int) -> None:
    """Frames stream as the dataset gives them, with their own landmarks, poses, features and sound."""
    clip = real_clip(dataset, "heldout", None, width, "mel")
    assert (len(clip), clip.start, clip.width, clip.height) == (10, 20, width, width * 3 // 4)
    assert np.array_equal(np.stack(list(clip.frames())), dataset.frames(width)[20:30])
    assert np.array_equal(np.stack(list(clip.frames())), dataset.frames(width)[20:30]), "it can be read twice"
    assert np.array_equal(clip.labels, dataset.labels(width)[20:30])
    assert clip.landmarks == pytest.approx(dataset.landmarks[20:30] * width / 64)
    assert np.array_equal(clip.features, dataset.audio_features("mel")[20:30])
    assert np.array_equal(clip.samples, dataset.audio()[20 * 640 : 30 * 640])
    assert clip.valid.tolist() == [True] * 4 + [False] * 2 + [True] * 4


def test_a_number_of_frames_counts_valid_ones_from_the_start(dataset: Dataset) -> None:
    """Six frames of the held-out part reach over its two faceless ones: eight in time."""
    clip = real_clip(dataset, "heldout", 6, 64, "mel")
    assert len(clip) == 8 and int(clip.valid.sum()) == 6
    assert len(real_clip(dataset, "heldout", 1000, 64, "mel")) == 10


def test_a_frame_without_a_face_is_rendered_with_its_neighbours_pose(dataset: Dataset) -> None:
    """Poses and eyes of invalid frames come from the nearest valid frame; the others keep their own."""
    clip = real_clip(dataset, "heldout", None, 64, "mel")
    features, poses, eyes = clip.conditions()
    nearest = np.array([0, 1, 2, 3, 3, 6, 6, 7, 8, 9])
    assert np.array_equal(poses, clip.poses[nearest]) and np.array_equal(eyes, clip.eyes[nearest])
    assert features is clip.features


def test_wrong_audio_is_every_window_half_a_clip_away(painted: RealClip) -> None:
    """Shifted features are the same windows, each 20 frames from its place."""
    shifted, shift = painted.shifted_features()
    assert shift == 20
    for index in range(40):
        assert np.array_equal(shifted[index], painted.features[(index + 20) % 40])


def test_a_split_without_frames_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    """A dataset of two faces in its held-out part can be scored, one of one can't; unknown splits say so."""
    few = Dataset(dataset.path, dataset.info, {
        "poses": dataset.poses, "landmarks": dataset.landmarks, "eye_openness": dataset.eye_openness,
        "valid": np.arange(30) < 21,
    })  # fmt: skip
    with pytest.raises(FileProblem, match=r"'heldout' has 1 valid frames.*at least 2"):
        real_clip(few, "heldout", None, 64, "mel")
    with pytest.raises(ValueError, match="split must be one of"):
        real_clip(dataset, "test", None, 64, "mel")


def test_a_clip_of_unequal_lengths_is_refused(painted: RealClip, without: Callable[..., RealClip]) -> None:
    """One pose too few, or a single valid frame, raises an error that names the argument."""
    with pytest.raises(ValueError, match="poses: expected 40 frames"):
        without(painted, poses=painted.poses[:-1])
    with pytest.raises(ValueError, match="at least 2 valid frames, got 1"):
        without(painted, valid=np.arange(40) == 3)


@pytest.mark.parametrize(
    ("camera", "message"),
    [
        (Camera(128, 96, 180.0, 180.0, 64.0, 48.0), "64 pixels wide, too few to compare 128"),
        (Camera(32, 32, 45.0, 45.0, 16.0, 12.0), "another aspect"),
        (Camera(32, 24, 50.0, 45.0, 16.0, 12.0), "camera's fx is 45.0 px at 32 px width, the avatar's 50.0"),
        (Camera(32, 24, 45.0, 45.0, 16.0, 13.0), "camera's cy is 12.0"),
    ],
)
def test_another_camera_than_the_avatars_is_refused(camera: Camera, message: str) -> None:
    """A larger size, another aspect, focal length or principal point names what differs."""
    with pytest.raises(FileProblem, match=message):
        check_same_view(Path("data"), CAMERA, camera)
    check_same_view(Path("data"), CAMERA, CAMERA.scaled(32))


def test_evaluate_scores_the_avatars_own_engine(avatar: Path, dataset: Dataset, pixel_detector: Any) -> None:
    """An avatar folder and a dataset folder are enough; the report lies in the avatar by default."""
    found = evaluate(avatar, dataset.path, None, EvaluateConfig(pictures=False), detector=pixel_detector)
    stored = json.loads((avatar / "evaluation" / "heldout" / "metrics.json").read_text())
    assert {key: stored[key] for key in found} == found
    assert (found["frames"], found["size"], found["frames_invalid"]) == (8, [32, 24], 2)
    assert 5 < found["psnr"] < 40 and found["psnr_mouth"] is not None
    assert found["dataset_hash"] == found["trained_on_hash"] == dataset.hash()
    assert (found["avatar"], found["dataset"], found["system"]) == ("me", "speaker", "nldf")
    assert (found["backend"], found["device"]) == ("native", "cpu")


def test_evaluate_asks_the_engine_for_the_splits_conditions(
    avatar: Path, dataset: Dataset, tmp_path: Path, pixel_detector: Any
) -> None:
    """A renderer put in the engine's place gets the held-out windows, poses and eyes, and is scored."""

    class Recorder:
        backend, device = "recorded", "nowhere"

        def __init__(self) -> None:
            self.calls: list[tuple[np.ndarray, ...]] = []

        def __call__(self, features: np.ndarray, poses: np.ndarray, eyes: np.ndarray) -> Any:
            self.calls.append((features, poses, eyes))
            return itertools.islice(dataset.frames(32)[20:], len(features))

    recorder = Recorder()
    config = EvaluateConfig(split="heldout", frames=5, pictures=False)
    found = evaluate(avatar, dataset.path, tmp_path, config, recorder, pixel_detector)
    assert found["psnr"] == 100.0 and found["backend"] == "recorded"
    features, poses, eyes = recorder.calls[1]
    assert np.array_equal(features, dataset.audio_features("mel")[20:27])
    assert np.array_equal(poses[:4], dataset.poses[20:24]) and np.array_equal(poses[6], dataset.poses[26])
    assert np.array_equal(eyes[:4], dataset.eye_openness[20:24])
    assert np.array_equal(recorder.calls[2][0], np.roll(features, -3, axis=0))
    assert np.array_equal(recorder.calls[2][1], poses)


def test_evaluate_at_another_size_than_trained(avatar: Path, dataset: Dataset, tmp_path: Path) -> None:
    """A size up to the dataset's own can be asked for; beyond it there is nothing to compare with."""
    config = EvaluateConfig(size=64, frames=2, pictures=False)
    assert evaluate(avatar, dataset.path, tmp_path, config, detector=None)["size"] == [64, 48]
    with pytest.raises(FileProblem, match="too few to compare 128"):
        evaluate(avatar, dataset.path, tmp_path, EvaluateConfig(size=128, pictures=False), detector=None)
