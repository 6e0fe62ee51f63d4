import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nldf_engine.avatar.provenance.inspection import inspect
from nldf_engine.avatar.provenance.origin import COMPOSITE
from nldf_engine.base.errors import FileProblem, MissingBackend
from nldf_engine.evaluation import EvaluateConfig, RealClip, evaluate_clip
from nldf_engine.evaluation.phones import Phone
from nldf_engine.media.video import probe, read_audio_track

NO_PICTURES = EvaluateConfig(pictures=False)
DESIGN_KEYS = {
    "frames", "size", "psnr", "psnr_foreground", "psnr_mouth", "psnr_neck", "ssim", "lpips", "lmd",
    "lmd_centred",
    "lip_correlation", "lmd_shuffled", "lmd_centred_shuffled", "lip_correlation_shuffled",
    "lip_amplitude_ratio", "lip_distribution", "lip_closed_auc", "lip_closed_f1", "lip_closures_bilabial",
    "lip_closed_f1_shuffled", "seconds_per_frame", "backend", "device",
}  # fmt: skip


def strict_json(path: Path) -> Any:
    def refuse(name: str) -> None:
        raise AssertionError(f"{path.name} holds {name}")

    return json.loads(path.read_text(), parse_constant=refuse)


def blurred(frame: np.ndarray) -> np.ndarray:
    import cv2

    return cv2.GaussianBlur(frame, (0, 0), 1.0)


def test_a_perfect_renderer_scores_the_cap_and_wrong_audio_scores_worse(
    painted: RealClip, painter: Any, pixel_detector: Any, tmp_path: Path
) -> None:
    """Real frames returned as they are: 100 dB, SSIM 1, lips exact; with shifted audio the lips are off."""
    found = evaluate_clip(painted, painter(), tmp_path, {}, NO_PICTURES, pixel_detector)
    assert found["psnr"] == found["psnr_foreground"] == found["psnr_mouth"] == 100.0
    assert found["ssim"] == pytest.approx(1.0)
    assert found["lmd"] == found["lmd_centred"] == 0.0
    assert found["lip_correlation"] == pytest.approx(1.0)
    assert found["lmd_shuffled"] > 5 and found["lmd_centred_shuffled"] > 5
    assert found["lip_correlation_shuffled"] < 0.6
    assert found["shuffled_shift"] == 20


def test_an_error_counts_where_it_is(
    painted: RealClip, painter: Any, pixel_detector: Any, tmp_path: Path
) -> None:
    """Errors above the head cost the full frame alone, at the chin the foreground too, not the mouth."""

    def above(frame: np.ndarray) -> np.ndarray:
        frame[:4] = 255
        return frame

    def chin(frame: np.ndarray) -> np.ndarray:
        frame[40:44, 10:38] = 255
        return frame

    first, second = (
        evaluate_clip(painted, painter(change), tmp_path, {}, NO_PICTURES, pixel_detector)
        for change in (above, chin)
    )
    assert first["psnr"] == pytest.approx(10.792, abs=1e-3)  # 4 of 48 rows are off by the full range
    assert first["psnr_foreground"] == first["psnr_mouth"] == 100.0
    assert second["psnr_foreground"] < second["psnr"] < 30
    assert second["psnr_mouth"] == 100.0


def test_a_blurred_renderer_scores_lower_and_keeps_the_lips(
    painted: RealClip, painter: Any, pixel_detector: Any, tmp_path: Path
) -> None:
    """Blur costs PSNR and SSIM everywhere that has texture, and hardly any lip correlation."""
    found = evaluate_clip(painted, painter(blurred), tmp_path, {}, NO_PICTURES, pixel_detector)
    assert 15 < found["psnr_foreground"] < found["psnr"] < 35
    assert found["ssim"] < 0.95
    assert found["lip_correlation"] > 0.9


def test_a_renderer_whose_lips_come_late_scores_a_lower_correlation(
    painted: RealClip, painter: Any, pixel_detector: Any, tmp_path: Path
) -> None:
    """Three frames of delay at a mouth period of nine frames turn the correlation around."""
    found = evaluate_clip(painted, painter(lag=3), tmp_path, {}, NO_PICTURES, pixel_detector)
    assert found["lip_correlation"] < 0.3
    assert found["lmd_centred"] > 5


def test_frames_that_are_not_valid_do_not_count(
    painted: RealClip, painter: Any, pixel_detector: Any, tmp_path: Path
) -> None:
    """Two invalid frames, of somebody else in the video, are rendered with a neighbour's pose, not scored."""
    renderer = painter()
    found = evaluate_clip(painted, renderer, tmp_path, {}, NO_PICTURES, pixel_detector)
    assert (found["frames"], found["frames_invalid"]) == (38, 2)
    assert (found["first_frame"], found["last_frame"]) == (160, 199)
    assert renderer.calls == [1, 40, 40]
    frames = strict_json(tmp_path / "frames.json")
    assert frames["frame"] == list(range(160, 200))
    for key in ("psnr", "ssim", "psnr_mouth", "lip_gap_real", "lip_gap_shuffled", "lmd"):
        assert [index for index, value in enumerate(frames[key]) if value is None] == [5, 6], key
    assert found["psnr"] == 100.0 and found["lmd"] == 0.0
    assert [index for index, value in enumerate(frames["scored"]) if not value] == [5, 6]


def test_metrics_json_holds_what_is_returned_and_no_nan(
    painted: RealClip, painter: Any, pixel_detector: Any, tmp_path: Path
) -> None:
    """metrics.json is strict JSON with every promised key; a null figure comes with its reason."""
    header = {"avatar": "me", "avatar_hash": "a1"}
    found = evaluate_clip(painted, painter(), tmp_path, header, NO_PICTURES, pixel_detector)
    stored = strict_json(tmp_path / "metrics.json")
    assert set(found) >= DESIGN_KEYS
    assert {key: stored[key] for key in found} == found
    assert stored["avatar_hash"] == "a1" and stored["size"] == [48, 48] and stored["device"] == "cpu"
    assert stored["seconds_per_frame"] > 0
    for key in DESIGN_KEYS:
        assert stored[key] is not None or stored[f"{key}_reason"]


def test_a_face_that_is_not_found_is_counted_and_left_out(
    painted: RealClip, painter: Any, pixel_detector: Any, tmp_path: Path
) -> None:
    """A renderer that shows nothing loses every lip figure, with the reason, and no picture figure."""
    found = evaluate_clip(painted, painter(np.zeros_like), tmp_path, {}, NO_PICTURES, pixel_detector)
    assert found["frames_without_face_real"] == 0
    assert found["frames_without_face_rendered"] == found["frames_without_face_shuffled"] == 38
    assert found["lmd"] is None and found["lip_correlation"] is None
    assert "no frame had a face" in found["lmd_reason"]
    assert 0 < found["psnr"] < 20


def test_without_a_detector_the_lips_are_null_and_the_rest_is_measured(
    painted: RealClip, painter: Any, tmp_path: Path
) -> None:
    """A missing detector costs the lip figures alone, and saves the second rendering."""

    def missing() -> Any:
        raise MissingBackend("the networks are not there", "pip install it")

    renderer = painter(blurred)
    found = evaluate_clip(painted, renderer, tmp_path, {}, NO_PICTURES, missing)
    for key in ("lmd", "lmd_centred", "lip_correlation"):
        assert found[key] is None and found[f"{key}_shuffled"] is None
        assert "the networks are not there" in found[f"{key}_reason"]
    assert found["psnr"] > 15 and found["frames_without_face_real"] is None
    assert renderer.calls == [1, 40]


def test_the_same_run_gives_the_same_figures_and_frees_its_detectors(
    painted: RealClip, painter: Any, pixel_detector: Any, tmp_path: Path
) -> None:
    """Two runs agree in everything but the time they took; every detector made is closed."""
    pixel_detector.closed = 0
    runs = [
        evaluate_clip(painted, painter(blurred), tmp_path, {}, NO_PICTURES, pixel_detector) for _ in range(2)
    ]
    for run in runs:
        run.pop("seconds_per_frame")
    assert runs[0] == runs[1]
    assert pixel_detector.closed == 2 * 4  # three sequences, and one to see whether there is a detector


def test_pictures_are_written_and_hold_the_clip(
    painted: RealClip, painter: Any, pixel_detector: Any, tmp_path: Path
) -> None:
    """The side-by-side video has every frame and the clip's sound; sheet and curves are real pictures."""
    import cv2

    evaluate_clip(
        painted, painter(blurred), tmp_path / "new" / "report", {}, EvaluateConfig(), pixel_detector
    )
    folder = tmp_path / "new" / "report"
    names = {
        "metrics.json",
        "frames.json",
        "contact_sheet.png",
        "curves.png",
        "comparison.mp4",
        "report.html",
    }
    assert {path.name for path in folder.iterdir()} == names
    tags = inspect(folder / "comparison.mp4").tags
    assert tags["digital_source_type"] == COMPOSITE and "Partly synthetic" in tags["comment"]
    video = probe(folder / "comparison.mp4")
    assert (video.frames, video.width, video.height) == (40, 3 * 288, 288 + 32)
    samples, rate = read_audio_track(folder / "comparison.mp4")
    assert len(samples) / rate == pytest.approx(40 / 25, abs=0.05) and np.abs(samples).max() > 0.5
    for name in ("contact_sheet.png", "curves.png"):
        picture = cv2.imread(str(folder / name))
        assert picture.shape[1] > 1000 and picture.std() > 10


def test_a_renderer_that_fails_leaves_nothing_behind(
    painted: RealClip, painter: Any, pixel_detector: Any, tmp_path: Path
) -> None:
    """Stopped in the middle, even by Ctrl-C, no file of the report exists, whole or half."""
    seen = 0

    def stop(frame: np.ndarray) -> np.ndarray:
        nonlocal seen
        seen += 1
        if seen > 50:
            raise KeyboardInterrupt
        return frame

    with pytest.raises(KeyboardInterrupt):
        evaluate_clip(painted, painter(stop), tmp_path, {}, EvaluateConfig(), pixel_detector)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("renderer", "message"),
    [
        (lambda f, p, e: np.zeros((len(f) - 1 or 1, 48, 48, 3), np.uint8), "expected 40 frames.*got 39"),
        (lambda f, p, e: np.zeros((len(f) + 1, 48, 48, 3), np.uint8), "expected 40 frames.*got 41"),
        (lambda f, p, e: iter(np.zeros((len(f) + 1, 48, 48, 3), np.uint8)), "expected 40 frames.*got more"),
        (lambda f, p, e: np.zeros((len(f), 48, 40, 3), np.uint8), r"uint8 frames \[48, 48, 3\]"),
        (lambda f, p, e: np.zeros((len(f), 48, 48, 3)), "expected uint8 frames.*got float64"),
    ],
)
def test_frames_that_do_not_fit_are_refused(
    painted: RealClip, tmp_path: Path, renderer: Any, message: str
) -> None:
    """Too few, too many, another size or another dtype: an error that says what came."""
    with pytest.raises(ValueError, match=message):
        evaluate_clip(painted, renderer, tmp_path, {}, NO_PICTURES, None)


def test_an_output_that_is_a_file_is_refused_before_rendering(
    painted: RealClip, painter: Any, tmp_path: Path
) -> None:
    """Nothing is rendered for a report that can't be written."""
    (tmp_path / "out").write_text("mine")
    renderer = painter()
    with pytest.raises(FileProblem, match="it is a file"):
        evaluate_clip(painted, renderer, tmp_path / "out", {}, NO_PICTURES, None)
    assert renderer.calls == [] and (tmp_path / "out").read_text() == "mine"


@pytest.mark.parametrize("wrong", [{"frames": 1}, {"frames": 0}, {"size": 8}])
def test_arguments_out_of_range_are_refused(wrong: dict[str, int]) -> None:
    """One frame, or a frame too small for SSIM, is refused when the configuration is made."""
    with pytest.raises(ValueError, match="at least"):
        EvaluateConfig(**wrong)


def test_phones_give_errors_by_viseme_and_the_share_of_closures(
    closing: RealClip, painter: Any, pixel_detector: Any, without: Any, tmp_path: Path
) -> None:
    """A perfect renderer has no error, with the wrong audio it has one; frames.json names the visemes."""
    starts = 160 / 25 + 0.2 * np.arange(8)
    phones = tuple(
        Phone(float(start), float(start) + 0.2, name)
        for start, name in zip(starts, ["SIL", "M", "AA", "B", "UW", "P", "IY", "F"], strict=True)
    )
    clip = without(closing, phones=phones)
    found = evaluate_clip(clip, painter(), tmp_path, {}, NO_PICTURES, pixel_detector)
    assert set(found["visemes"]) == {
        "bilabial", "silence", "open", "rounded", "spread", "labiodental",
    }  # fmt: skip
    assert found["visemes"]["bilabial"]["frames"] == 13  # two of its 15 frames are not valid
    assert all(kind["lip_gap_error"] == 0 for kind in found["visemes"].values())
    assert found["visemes_shuffled"]["open"]["lip_gap_error"] > 0
    assert found["lip_closures_bilabial"] == found["lip_closures_bilabial_real"] is not None
    frames = strict_json(tmp_path / "frames.json")
    assert frames["viseme"][:6] == ["silence"] * 5 + ["bilabial"]
    assert max(value for value in frames["lip_gap_error"] if value is not None) == 0


def test_openings_are_measured_with_every_audio(
    closing: RealClip, painter: Any, pixel_detector: Any, without: Any, tmp_path: Path
) -> None:
    """Amplitude, distribution and closed lips of true, shifted and foreign audio; phones are asked for."""
    clip = without(closing, foreign=closing.features[::-1].copy())
    found = evaluate_clip(clip, painter(), tmp_path, {}, NO_PICTURES, pixel_detector)
    assert found["lip_amplitude_ratio"] == pytest.approx(1) and found["lip_distribution"] == 0
    assert found["lip_closed_auc"] == found["lip_closed_f1"] == 1.0
    assert 0 < found["lip_closed_real"] < 0.5
    for ending in ("_shuffled", "_foreign"):
        assert found["lip_amplitude_ratio" + ending] == pytest.approx(1, abs=0.1)
        assert found["lip_closed_auc" + ending] < 0.9 and found["lip_closed_f1" + ending] < 0.8
        assert "--phones" in found[f"lip_closures_bilabial{ending}_reason"]
    assert "visemes" not in found and "--phones" in found["lip_closures_bilabial_real_reason"]
    dark = evaluate_clip(clip, painter(np.zeros_like), tmp_path / "dark", {}, NO_PICTURES, pixel_detector)
    assert dark["lip_closed_f1"] is None and "no frame had a face" in dark["lip_closed_f1_reason"]
