"""The audio front-end of a run: chosen, bounded in its look-ahead, and the same when the run is resumed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nldf_engine.avatar import Avatar
from nldf_engine.base.errors import FileProblem
from nldf_engine.datasets.dataset import Dataset
from nldf_engine.engine import Engine
from nldf_engine.training.config import TrainConfig
from nldf_engine.training.run import train

FEW = {"speech_steps": "2", "adapt_steps": "2", "sound_copies": "0"}


@pytest.mark.parametrize(("codes", "least"), [("4", 93), ("0", 133)])
def test_the_look_ahead_is_that_of_the_whole_avatar(
    synthetic_dataset: Dataset, tmp_path: Path, codes: str, least: int
) -> None:
    """What the driver looks ahead is part of it, with motion codes and with AD-NeRF's attention."""
    settings = {**FEW, "motion_codes": codes}
    config = TrainConfig(steps=1, overrides=settings, audio_frontend="whisper", look_ahead=200)
    done = train("nldf-tiny", synthetic_dataset.path, tmp_path / "avatar", config)
    engine = Engine.load(done.avatar)
    assert 0.15 < engine.latency <= 0.2
    windows = engine.features((np.zeros(6400, np.float32), 16000))[0]
    assert engine.render(windows[::-1]).frames[0].shape == engine.render(windows).frames[0].shape
    with pytest.raises(ValueError, match="look_ahead: the audio front-end 'whisper' needs 12 ms at least"):
        short = TrainConfig(steps=1, overrides=settings, audio_frontend="whisper", look_ahead=least - 2)
        train("nldf-tiny", synthetic_dataset.path, tmp_path / "short", short)


def test_a_run_keeps_its_front_end(synthetic_dataset: Dataset, tmp_path: Path) -> None:
    """It isn't resumed with another one, and a student's is its teacher's."""
    first = TrainConfig(steps=1, overrides=FEW)
    done = train("nldf-tiny", synthetic_dataset.path, tmp_path / "avatar", first)
    assert Avatar.load(done.avatar).frontend.name == "mel"
    other = TrainConfig(steps=2, overrides=FEW, audio_frontend="whisper", resume=True)
    with pytest.raises(FileProblem, match=r"audio\.name: mel -> whisper"):
        train("nldf-tiny", synthetic_dataset.path, tmp_path / "avatar", other)
    taught = TrainConfig(steps=1, overrides=FEW, audio_frontend="whisper", teacher=done.avatar)
    with pytest.raises(ValueError, match="audio_frontend, look_ahead: they are those of the given teacher"):
        train("nldf-tiny", synthetic_dataset.path, tmp_path / "student", taught)
