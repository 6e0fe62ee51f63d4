"""SyncNet without its weights: the network's shape, the sound's features, the face's crop, the offset."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from nldf_engine.base.errors import FileProblem, MissingBackend
from nldf_engine.evaluation.metrics.optional.syncnet import (
    SyncNet,
    SyncScorer,
    face_boxes,
    face_crop,
    mfcc,
    sync_of_embeddings,
)
from tests.evaluation.weight_files import random_like


def test_the_network_is_the_public_one() -> None:
    """Layers sit at the numbers of the public file, with its shapes; a look gives 1024 numbers."""
    network = SyncNet().eval()
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    convolutions = {name: shape for name, shape in shapes.items() if len(shape) in (4, 5)}
    assert convolutions == {
        "netcnnaud.0.weight": (64, 1, 3, 3), "netcnnaud.4.weight": (192, 64, 3, 3),
        "netcnnaud.8.weight": (384, 192, 3, 3), "netcnnaud.11.weight": (256, 384, 3, 3),
        "netcnnaud.14.weight": (256, 256, 3, 3), "netcnnaud.18.weight": (512, 256, 5, 4),
        "netcnnlip.0.weight": (96, 3, 5, 7, 7), "netcnnlip.4.weight": (256, 96, 1, 5, 5),
        "netcnnlip.8.weight": (256, 256, 1, 3, 3), "netcnnlip.11.weight": (256, 256, 1, 3, 3),
        "netcnnlip.14.weight": (256, 256, 1, 3, 3), "netcnnlip.18.weight": (512, 256, 1, 6, 6),
    }  # fmt: skip
    for tower in ("netfcaud", "netfclip"):
        assert shapes[f"{tower}.0.weight"] == (512, 512) and shapes[f"{tower}.3.weight"] == (1024, 512)
    with torch.no_grad():
        assert network.audio(torch.zeros(2, 1, 13, 20)).shape == (2, 1024)
        assert network.lips(torch.zeros(1, 3, 5, 224, 224)).shape == (1, 1024)


def slow_mfcc(samples: np.ndarray, frame: int) -> np.ndarray:
    """One column by the definition: sums written out, no FFT, no DCT routine."""
    x = np.round(samples.astype(np.float64) * 32768)
    x = np.array([x[0], *(x[k] - 0.97 * x[k - 1] for k in range(1, len(x)))])
    x = np.concatenate([x, np.zeros(400)])[160 * frame : 160 * frame + 400]
    turns = np.exp(-2j * np.pi * np.outer(np.arange(257), np.arange(400)) / 512)
    power = np.abs(turns @ x) ** 2 / 512
    edges = [700 * (10 ** (2840.0230467083188 * k / 27 / 2595) - 1) for k in range(28)]
    bins = [math.floor(513 * edge / 16000) for edge in edges]
    bands = []
    for low, middle, high in zip(bins, bins[1:], bins[2:], strict=False):
        rise = sum(power[k] * (k - low) / (middle - low) for k in range(low, middle))
        fall = sum(power[k] * (high - k) / (high - middle) for k in range(middle, high))
        bands.append(math.log(rise + fall))
    made = []
    for order in range(13):
        total = sum(b * math.cos(math.pi * order * (2 * k + 1) / 52) for k, b in enumerate(bands))
        total *= math.sqrt((1 if order == 0 else 2) / 26)
        made.append(total * (1 + 11 * math.sin(math.pi * order / 22)))
    made[0] = math.log(power.sum())
    return np.array(made)


def test_mfcc_is_the_definition_written_out() -> None:
    """First, inner and last column agree with sums written out; 25 ms windows every 10 ms."""
    samples = np.random.default_rng(0).normal(0, 0.1, 16000 + 77).astype(np.float32)
    made = mfcc(samples)
    assert made.shape == (13, 99)
    for frame in (0, 40, made.shape[1] - 1):
        assert made[:, frame] == pytest.approx(slow_mfcc(samples, frame), rel=1e-9)


def test_silence_has_finite_features() -> None:
    """Digital silence gives no infinity."""
    assert np.isfinite(mfcc(np.zeros(4000, np.float32))).all()


@pytest.mark.parametrize("late", [-4, 0, 3, 15])
def test_offset_is_how_late_the_lips_come(late: int) -> None:
    """Lips that show what was heard so many frames before: that offset, and a high confidence."""
    made = torch.randn(90, 32, generator=torch.Generator().manual_seed(1))
    lips, sound = made[20 - late : 70 - late], made[20:70]
    score = sync_of_embeddings(lips, sound, most=15)
    assert score.offset == late
    # Only the padding at the ends, which no shift can match, keeps the distance from 0.
    assert score.distance <= 8.5 * abs(late) / 50 + 1e-4 and score.confidence > 5


def test_confidence_is_the_median_over_the_least() -> None:
    """Confidence in closed form: one window, sound equal to it, and padding at every other shift."""
    one = torch.full((1, 4), 3.0)
    score = sync_of_embeddings(one, one, most=2)
    assert (score.offset, score.confidence) == (0, pytest.approx(6.0, abs=1e-4))


def test_the_crop_holds_the_face_and_what_is_outside_is_grey() -> None:
    """The box is the landmarks' extent, held steady by the median; the crop is 2.8 half sides wide."""
    landmarks = np.zeros((30, 478, 2))
    landmarks[:, 0], landmarks[:, 1] = (40, 30), (80, 90)
    landmarks[9] += 50  # one frame that is tracked wrongly
    landmarks[20] = np.nan
    boxes = face_boxes(landmarks[:, :2].repeat(239, axis=1))
    assert np.allclose(boxes, (60, 60, 30))
    frame = np.zeros((120, 120, 3), np.uint8)
    frame[30:108, 18:102] = (200, 10, 20)  # what the crop should show: from -30 to 54, and 42 to each side
    crop = face_crop(frame, boxes[0])
    assert crop.shape == (224, 224, 3) and crop[5:-20, 5:-5].reshape(-1, 3).std(0).max() < 1
    edge = face_crop(frame, np.array([5.0, 5.0, 30.0]))
    assert edge[0, 0].tolist() == [110, 110, 110]


def test_a_clip_without_any_face_is_refused() -> None:
    """Nothing can be cropped where no frame has a face."""
    with pytest.raises(ValueError, match="at least one frame with a face"):
        face_boxes(np.full((4, 478, 2), np.nan))


def test_weights_load_and_score_a_clip(tmp_path: Path) -> None:
    """A file of the public name and shape fills the network; a clip too short has no score."""
    torch.save(random_like(SyncNet(), 3), tmp_path / "syncnet_v2.model")
    scorer = SyncScorer(tmp_path)
    rng = np.random.default_rng(4)
    crops = rng.integers(0, 256, (8, 224, 224, 3), dtype=np.uint8)
    samples = rng.normal(0, 0.1, 8 * 640).astype(np.float32)
    score = scorer(crops, samples)
    assert score is not None and -15 <= score.offset <= 15 and math.isfinite(score.confidence)
    assert scorer(crops[:5], samples) is None and scorer(crops, samples[:3000]) is None
    torch.save({"netcnnaud.0.weight": torch.zeros(3)}, tmp_path / "syncnet_v2.model")
    with pytest.raises(FileProblem, match="it does not hold SyncNet's weights"):
        SyncScorer(tmp_path)


def test_without_weights_there_is_a_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No file: the error names it and where it comes from."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(MissingBackend, match=r"syncnet_v2\.model"):
        SyncScorer()
