"""The stretch of a video that is trained on: which is chosen, and what it leaves alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nldf_engine.base.errors import FileProblem
from nldf_engine.datasets.dataset import Dataset
from nldf_engine.datasets.stretch import Stretch, best_stretch, limited
from nldf_engine.training import TrainConfig, train


def varied(dataset: Dataset, first: int, last: int) -> Dataset:
    """A copy whose head and mouth stand still outside of [first, last)."""
    made = limited(dataset, Stretch(0, dataset.info.splits["train"][1], 1, 1))
    made.landmarks, made.poses = dataset.landmarks.copy(), dataset.poses.copy()
    outside = np.ones(len(dataset), bool)
    outside[first:last] = False
    made.landmarks[outside], made.poses[outside] = dataset.landmarks[first], dataset.poses[first]
    return made


@pytest.mark.parametrize("first", [5, 30, 55])
def test_it_goes_where_most_is_seen(synthetic_dataset: Dataset, first: int) -> None:
    """Where head and mouth move in one second alone, that second is taken."""
    found = best_stretch(varied(synthetic_dataset, first, first + 25), 1.0)
    assert abs(found.first - first) <= 5 and found.last - found.first == 25
    assert found.mouth > 0.9 and found.pose > 0.9
    assert "training part in the mouth" in str(found) and f"{found.first / 25:.1f} s to" in str(found)


def test_it_covers_more_than_others_do(synthetic_dataset: Dataset) -> None:
    """No less than the first seconds, or any others that are looked at; and longer ones cover more."""
    shares = [best_stretch(synthetic_dataset, seconds) for seconds in (0.4, 1.0, 2.0, 3.2)]
    assert [found.mouth + found.pose for found in shares] == sorted(f.mouth + f.pose for f in shares)
    assert shares[-1].mouth == shares[-1].pose == 1.0 and (shares[-1].first, shares[-1].last) == (0, 80)


def test_all_is_taken_where_there_is_no_more(synthetic_dataset: Dataset) -> None:
    """A stretch longer than the training part is the training part."""
    found = best_stretch(synthetic_dataset, 60.0)
    assert [found.first, found.last] == synthetic_dataset.info.splits["train"]


def test_held_out_frames_are_not_looked_at(synthetic_dataset: Dataset) -> None:
    """Whatever they show, the choice is the same."""
    other = limited(synthetic_dataset, Stretch(0, 80, 1, 1))
    other.landmarks, other.poses = other.landmarks.copy(), other.poses.copy()
    other.landmarks[80:], other.poses[80:] = 7.0, np.eye(4)
    assert best_stretch(other, 1.0) == best_stretch(synthetic_dataset, 1.0)


def test_the_rest_of_the_dataset_stays(synthetic_dataset: Dataset) -> None:
    """Splits within the stretch, the held-out part and the hash as they were; the original too."""
    found = limited(synthetic_dataset, Stretch(10, 40, 1, 1))
    assert found.indices("train").tolist() == list(range(10, 40))
    assert found.indices("fit").tolist() == list(range(10, 37)) and found.indices("validation")[0] == 37
    assert np.array_equal(found.indices("heldout"), synthetic_dataset.indices("heldout"))
    assert found.hash() == synthetic_dataset.hash() and synthetic_dataset.info.splits["train"] == [0, 80]


def test_frames_without_a_face_do_not_count(synthetic_dataset: Dataset) -> None:
    """A stretch of which half is unusable covers less; with none there is an error that says what to do."""
    made = limited(synthetic_dataset, Stretch(0, 80, 1, 1))
    made.valid = made.valid.copy()
    made.valid[:40] = False
    made.landmarks = made.landmarks.copy()
    made.landmarks[:40] = np.nan
    assert best_stretch(made, 1.2).first >= 38
    made.valid[1:80] = False
    with pytest.raises(FileProblem, match=r"shows a face in 0 frames, too few.*longer video"):
        best_stretch(made, 1.0)


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf")])
def test_seconds_that_are_none_are_refused(synthetic_dataset: Dataset, seconds: float) -> None:
    """Here and in the settings of a run."""
    with pytest.raises(ValueError, match="seconds: expected more than 0"):
        best_stretch(synthetic_dataset, seconds)
    with pytest.raises(ValueError, match="seconds: expected more than 0"):
        TrainConfig(seconds=seconds)


def test_any_preset_trains_on_a_stretch(
    synthetic_dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The choice is printed and recorded, its frames are the avatar's own motion, and resuming checks it."""
    from nldf_engine.avatar import Avatar

    quick = {"speech_steps": "4", "rays": "64"}
    config = TrainConfig(steps=3, seconds=2.0, overrides=quick)
    result = train("nldf-fast-tiny", synthetic_dataset.path, tmp_path / "me", config)
    found = best_stretch(synthetic_dataset, 2.0)
    assert f"trained on {found}" in capsys.readouterr().err
    avatar = Avatar.load(result.avatar)
    (stated,) = avatar.provenance["settings"]["stretches"]
    assert (stated["first"], stated["last"]) == (found.first, found.last)
    assert np.array_equal(avatar.poses.numpy(), synthetic_dataset.poses[found.first : found.last])
    assert avatar.provenance["dataset"] == synthetic_dataset.hash(), "the same dataset, for teachers"
    with pytest.raises(FileProblem, match="stretches"):
        again = TrainConfig(steps=5, seconds=1.0, overrides=quick, resume=True)
        train("nldf-fast-tiny", synthetic_dataset.path, tmp_path / "me", again)
