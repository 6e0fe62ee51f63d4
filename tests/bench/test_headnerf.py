"""The measurements of HeadNeRF: what faces measure, margins, and all tables of a small run."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.headnerf import exact, tables
from bench.headnerf.__main__ import main
from bench.headnerf.exact import ExactSubject, recorded
from bench.headnerf.faces import HeadShape, Seen, aligned, mean_shape, measure, moved, steady
from bench.headnerf.tables import CODES, margins
from nldf_engine.base.assets import ASSETS
from nldf_engine.base.files import read_json
from nldf_engine.datasets.dataset import Dataset
from nldf_engine.geometry.face_mesh import LEFT_EYE_OUTER, LIPS, RIGHT_EYE_OUTER, RIGID
from nldf_engine.geometry.rotations import head_numbers, poses_of
from nldf_engine.nn.sync import lip_movement
from nldf_engine.synthetic import SyntheticConfig, make_synthetic_dataset
from nldf_engine.synthetic.proportions import Proportions
from nldf_engine.training import TrainConfig, train


class Played:
    """A detector that knows the landmarks of every frame beforehand, and loses some."""

    def __init__(self, landmarks: np.ndarray, lost: tuple[int, ...] = ()) -> None:
        self._left = [np.full_like(one, np.nan) if k in lost else one for k, one in enumerate(landmarks)]

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        return self._left.pop(0)

    def close(self) -> None:
        pass


def real(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Ten frames of a dataset, and their landmarks."""
    return dataset.frames(64)[:10], dataset.landmarks[:10].astype(np.float32)


def seen(dataset: Dataset, frames: np.ndarray, lost: tuple[int, ...] = ()) -> Seen:
    landmarks = real(dataset)[1]
    return measure(frames, landmarks, lambda: Played(landmarks, lost))


def test_alignment_is_the_judges(synthetic_dataset: Dataset) -> None:
    """Lips come out as `lip_movement` has them; other points stand still where the face does."""
    landmarks = real(synthetic_dataset)[1]
    wanted = lip_movement(torch.from_numpy(landmarks).double()).numpy()
    np.testing.assert_allclose(aligned(landmarks, LIPS), wanted, atol=1e-9)
    corners = aligned(landmarks, (RIGHT_EYE_OUTER, LEFT_EYE_OUTER))
    assert np.abs(corners - corners.mean(0)).max() < 0.05
    moved_face = 2 * landmarks[:1] + 30
    np.testing.assert_allclose(aligned(moved_face, RIGID), aligned(landmarks[:1], RIGID), atol=1e-6)


def test_each_measure_sees_its_own(synthetic_dataset: Dataset) -> None:
    """The same frames move nothing; tinted ones the colour, lit ones the shading, other landmarks shape and
    lips."""
    frames, landmarks = real(synthetic_dataset)
    plain = seen(synthetic_dataset, frames)
    assert all(value == pytest.approx(0, abs=1e-9) for value in moved(plain, plain).values())
    tinted = (frames * np.array([1.0, 0.7, 0.8])).astype(np.uint8)
    by_tint = moved(plain, seen(synthetic_dataset, tinted))
    assert by_tint["colour"] > 5 * by_tint["shading"] > 0 and by_tint["shape"] == 0
    ramp = np.linspace(0.6, 1.0, 64)[None, None, :, None]
    by_light = moved(plain, seen(synthetic_dataset, (frames * ramp).astype(np.uint8)))
    assert by_light["shading"] > 5 * by_light["colour"] > 0
    wide = landmarks.copy()
    wide[:, [127, 234]] -= 4
    by_shape = moved(plain, measure(frames, landmarks, lambda: Played(wide)))
    assert by_shape["shape"] > 5 * by_shape["expression"]
    talks = landmarks.copy()
    talks[:, list(LIPS), 1] += 3 * np.sin(np.arange(10))[:, None]
    by_lips = moved(plain, measure(frames, landmarks, lambda: Played(talks)))
    assert by_lips["expression"] > 5 * by_lips["shape"]


def test_frames_without_a_face_are_left_out(synthetic_dataset: Dataset) -> None:
    """What is known of the others counts; where none is known there is no number."""
    frames, landmarks = real(synthetic_dataset)
    plain, some = seen(synthetic_dataset, frames), seen(synthetic_dataset, frames, (2, 5))
    assert moved(plain, some)["shape"] == pytest.approx(0, abs=1e-9)
    none = seen(synthetic_dataset, frames, tuple(range(10)))
    assert moved(plain, none)["shape"] is None and moved(plain, none)["colour"] == pytest.approx(0, abs=1e-9)
    with pytest.raises(ValueError, match="expected a face"):
        mean_shape(none.landmarks)
    np.testing.assert_allclose(mean_shape(2 * landmarks + 7), mean_shape(landmarks), atol=1e-5)


def test_a_head_is_known_from_anywhere(synthetic_dataset: Dataset) -> None:
    """What the detector adds to real frames is added to turned ones; another head is another shape there."""
    points, poses = synthetic_dataset.extra["rest_points"], synthetic_dataset.poses[:10]
    landmarks = real(synthetic_dataset)[1]
    odd = landmarks.copy()
    odd[:, RIGID[0]] += 2
    head = HeadShape(points, synthetic_dataset.camera, poses, odd)
    np.testing.assert_allclose(head.at(poses), mean_shape(odd), atol=1e-6)
    turned = poses_of(head_numbers(torch.from_numpy(poses)) + torch.tensor([10.0, 0, 0, 0, 0, 0])).numpy()
    plain = HeadShape(points, synthetic_dataset.camera, poses, landmarks)
    np.testing.assert_allclose(
        head.at(turned) - plain.at(turned), head.at(poses) - plain.at(poses), atol=1e-6
    )
    assert np.abs(plain.at(turned) - plain.at(poses)).max() > 0.05
    with pytest.raises(ValueError, match="expected a face"):
        HeadShape(points, synthetic_dataset.camera, poses, np.full_like(landmarks, np.nan))


def test_margins_are_own_over_the_largest_other() -> None:
    """A code's own measure against the same measure under every other code; none where it is unknown."""
    matrix: dict[str, dict[str, float | None]] = {code: dict.fromkeys(CODES.values(), 0.1) for code in CODES}
    matrix["identity"]["shape"], matrix["albedo"]["shape"] = 2.0, 0.4
    matrix["illumination"]["shading"] = None
    assert margins(matrix) == {
        "identity": pytest.approx(5), "expression": pytest.approx(1), "albedo": pytest.approx(1),
        "illumination": None,
    }  # fmt: skip


def test_exact_swaps_move_their_own(monkeypatch: pytest.MonkeyPatch, synthetic_dataset: Dataset) -> None:
    """Under the true landmarks colours move no shape, and shapes no colours; a real video has none."""
    monkeypatch.setattr(
        exact, "measure", lambda frames, places, _: measure(frames, places, lambda: Played(8 * places))
    )
    own = recorded(synthetic_dataset)
    assert own is not None
    other = dataclasses.replace(own, looks=own.palette + 1, proportions=Proportions(1.15, 0.9, 1.1))
    subject = ExactSubject([own, other], 0, np.arange(20, 28))
    plain = subject.seen()
    found = {code: moved(plain, subject.seen(**made[0])) for code, made in subject.changes().items()}
    poses = subject.motion.poses[20:28]
    assert np.array_equal(subject.turned(poses).landmarks, plain.landmarks)
    assert not np.array_equal(subject.turned(poses[::-1]).landmarks, plain.landmarks)
    assert found["albedo"]["shape"] == pytest.approx(0, abs=1e-9)
    assert found["expression"]["shape"] < 0.05 * found["identity"]["shape"]
    assert found["expression"]["expression"] > 4 * found["identity"]["expression"]
    assert found["albedo"]["colour"] > 4 * found["identity"]["colour"]
    real_info = dataclasses.replace(synthetic_dataset.info, source={"kind": "video"})
    monkeypatch.setattr(synthetic_dataset, "info", real_info)
    assert recorded(synthetic_dataset) is None


def test_jitter_is_steadied() -> None:
    """Three frames of a line stay; what goes up and down from frame to frame sinks to a third."""
    line = np.arange(6.0)[:, None]
    np.testing.assert_allclose(steady(line), line[1:-1])
    np.testing.assert_allclose(np.abs(steady((-1.0) ** np.arange(6))), 1 / 3)
    assert steady(line[:2]).shape == (2, 1)


@pytest.fixture(scope="module")
def run(
    synthetic_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[Path], list[Path]]:
    """Avatars of two speakers, hardly trained, and their datasets."""
    folder = tmp_path_factory.mktemp("run")
    config = SyntheticConfig(seconds=6.0, size=64, seed=1, looks=3, audio_frontend="mel")
    second = make_synthetic_dataset(folder / "second", config)
    data = [Path(synthetic_dataset.path), Path(second.path)]
    overrides = {"speech_steps": "5", "extractor_steps": "3", "sync_steps": "5"}
    made = train("headnerf-tiny", data, folder / "me", TrainConfig(steps=4, overrides=overrides))
    return list(made.avatars), data


def test_all_tables(
    run: tuple[list[Path], list[Path]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Swaps, views and lips come out of a run, as Markdown and as JSON, whoever finds the faces."""
    (first, second), (one, other) = run
    original = tables.measure

    def played(frames: np.ndarray, places: np.ndarray, detector: object) -> Seen:
        return original(frames, places, lambda: Played(8 * places))

    monkeypatch.setattr(tables, "measure", played)
    monkeypatch.setattr(exact, "measure", played)
    numbers = tmp_path / "numbers.json"
    pairs = [str(path) for path in (first, one, second, other)]
    assert main(["all", *pairs, "--frames", "24", "--json", str(numbers)]) == 0
    out, found = capsys.readouterr().out, read_json(numbers)["tables"]
    assert "## swaps" in out and "| illumination |" in out and "own over the largest other" in out
    assert set(found) == {"swaps", "exact", "views", "exact-views", "lips"}
    assert set(found["exact"]["margins"]) == {"identity", "expression", "albedo"}
    mean = found["swaps"]["mean"]
    assert mean["albedo"]["colour"] > 0 and mean["identity"]["shape"] == pytest.approx(0, abs=1e-6)
    assert found["views"][first.name]["+10"]["kept"] in (True, False)
    assert set(found["exact-views"]) == {first.name, second.name}
    assert set(found["lips"]) == {first.name, second.name}
    assert all(0 <= row["own_module"] <= 1 for row in found["lips"].values() if row["own_module"] is not None)


def test_wrong_usage(run: tuple[list[Path], list[Path]], capsys: pytest.CaptureFixture[str]) -> None:
    """No such table, an avatar without a dataset, no frames."""
    (first, _), (one, _) = run
    assert main(["colours", str(first), str(one)]) == 2
    assert main(["swaps", str(first)]) == 2
    assert main(["swaps", str(first), str(one), "--frames", "1"]) == 2
    assert main(["swaps", str(first), str(one), "--split", "nowhere"]) == 1
    assert "split" in capsys.readouterr().err
    assert main(["swaps", str(first), str(one), str(first), str(one)]) == 2
    assert "different names" in capsys.readouterr().err
    assert main(["swaps", str(first), str(one), "--picture", "swaps.mp4"]) == 2
    assert main(["swaps", str(first), str(one), "--json", str(one)]) == 1
    assert "it is a folder" in capsys.readouterr().err


@pytest.mark.parametrize("more", [[], ["--picture", "swaps.png"]])
def test_there_must_be_somebody_to_swap_with(
    synthetic_dataset: Dataset, capsys: pytest.CaptureFixture[str], more: list[str]
) -> None:
    """An avatar of another system is named, before anything is rendered."""
    bundled = str(ASSETS / "avatar")
    assert main(["lips" if more else "swaps", bundled, str(synthetic_dataset.path), *more]) == 1
    out, err = capsys.readouterr()
    assert f"{bundled}: it has no code of its own for identity, expression" in err and "##" not in out
