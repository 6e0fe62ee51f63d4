"""Any video beside the real one: rates, lengths, sizes and sound are brought together by the stated rules."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nldf_engine.apps.cli import main as cli
from nldf_engine.base.errors import FileProblem
from nldf_engine.evaluation import EvaluateConfig, RealClip, VideoPair, evaluate_videos
from nldf_engine.evaluation.controls import claims, controls_of, table
from nldf_engine.evaluation.phones import Phone
from nldf_engine.media.video import VideoWriter

PLAIN = EvaluateConfig(pictures=False)
TEXTURE = np.random.default_rng(0).integers(0, 256, (12, 30, 1), dtype=np.uint8).repeat(3, 2)


def still(index: int, width: int = 96, height: int = 64) -> np.ndarray:
    """A smooth picture that slides by a pixel each frame at 25 frames a second."""
    import cv2

    wide = cv2.resize(TEXTURE, (240, 64), interpolation=cv2.INTER_CUBIC)
    picture = wide[:, index : index + 96]
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)


def write(
    path: Path, indices: Any, fps: float = 25.0, size: tuple[int, int] = (96, 64), sound: bool = True
) -> Path:
    indices = list(indices)
    samples = np.sin(np.arange(round(len(indices) / fps * 16000)) * 0.05).astype(np.float32) * 0.4
    with VideoWriter(path, *size, fps=fps, audio=(samples, 16000) if sound else None, crf=4) as writer:
        for index in indices:
            writer.write(still(index, *size))
    return path


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("videos") / "real.mp4", range(50))


def test_a_video_against_itself_is_perfect(real: Path, tmp_path: Path) -> None:
    """The same file: 100 dB in every frame; the header says what was compared."""
    found = evaluate_videos(VideoPair(real, real), tmp_path, PLAIN, None)
    assert found["psnr"] == 100.0 and found["ssim"] == pytest.approx(1)
    assert (found["frames"], found["size"], found["sound"]) == (50, [96, 64], "rendered")
    assert found["rendered_fps"] == found["reference_fps"] == 25.0
    assert "lmd_shuffled" not in found and found["psnr_head"] is None and found["psnr_head_reason"]


def test_another_rate_is_sampled_on_the_same_clock(real: Path, tmp_path: Path) -> None:
    """Every picture of 25 a second shown twice at 50: the same frames, the same scores."""
    twice = write(tmp_path / "twice.mp4", np.repeat(np.arange(50), 2), 50.0)
    found = evaluate_videos(VideoPair(twice, real), tmp_path / "out", PLAIN, None)
    assert found["frames"] == 50 and found["rendered_fps"] == 50.0
    assert found["psnr"] > 38
    half = evaluate_videos(VideoPair(twice, real, fps=12.5), tmp_path / "half", PLAIN, None)
    assert half["frames"] == 25 and half["psnr"] > 38


def test_a_lead_of_the_reference_is_skipped_and_the_shorter_one_ends_it(real: Path, tmp_path: Path) -> None:
    """A video that begins 10 frames into the real one fits with skip 0.4 s alone; 20 frames are compared."""
    part = write(tmp_path / "part.mp4", range(10, 30), sound=False)
    found = evaluate_videos(VideoPair(part, real, skip=0.4), tmp_path / "out", PLAIN, None)
    wrong = evaluate_videos(VideoPair(part, real), tmp_path / "wrong", PLAIN, None)
    assert found["frames"] == wrong["frames"] == 20 and found["sound"] == "reference"
    assert (found["rendered_frames"], found["reference_frames"]) == (20, 40)
    assert found["first_frame"] == 10
    assert found["psnr"] > 38 > 30 > wrong["psnr"]


def test_sizes_meet_at_the_smaller_width(real: Path, tmp_path: Path) -> None:
    """A video of half the size is compared at its own; one can go lower, not higher."""
    small = write(tmp_path / "small.mp4", range(50), size=(48, 32))
    found = evaluate_videos(VideoPair(small, real), tmp_path / "out", PLAIN, None)
    assert found["size"] == [48, 32] and found["psnr"] > 35
    config = EvaluateConfig(pictures=False, size=24)
    assert evaluate_videos(VideoPair(small, real), tmp_path / "low", config, None)["size"] == [24, 16]
    with pytest.raises(FileProblem, match="48 pixels wide, too few to compare 64"):
        evaluate_videos(VideoPair(real, small), tmp_path, EvaluateConfig(pictures=False, size=64), None)


def test_videos_that_do_not_fit_are_refused(real: Path, tmp_path: Path) -> None:
    """Another aspect, nothing in common, no such file: the file, both sizes, and the remedy."""
    square = write(tmp_path / "square.mp4", range(5), size=(64, 64))
    with pytest.raises(FileProblem, match="64x64, another aspect than the 96x64") as error:
        evaluate_videos(VideoPair(square, real), tmp_path, PLAIN, None)
    assert error.value.path == square
    with pytest.raises(FileProblem, match="at least 2"):
        evaluate_videos(VideoPair(real, real, skip=1.98), tmp_path, PLAIN, None)
    with pytest.raises(FileProblem):
        evaluate_videos(VideoPair(tmp_path / "none.mp4", real), tmp_path, PLAIN, None)
    with pytest.raises(ValueError, match="skip: expected"):
        VideoPair(real, real, skip=-1)


def test_the_command_scores_two_videos_and_keeps_its_report(
    real: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`nldf evaluate --rendered A --reference B -o OUT --json FILE` writes figures, and once only."""
    import json

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    out = tmp_path / "out"
    words = ["evaluate", "--rendered", str(real), "--reference", str(real), "-o", str(out), "--frames", "12"]
    assert cli.main([*words, "--json", str(tmp_path / "figures.json")]) == 0
    assert "psnr" in capsys.readouterr().out
    assert json.loads((tmp_path / "figures.json").read_text())["frames"] == 12
    before = (out / "comparison.mp4").stat().st_mtime_ns
    assert cli.main(words) == 0
    assert (out / "comparison.mp4").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--rendered", "a.mp4"], "together"),
        (["--rendered", "a.mp4", "--reference", "b.mp4"], "-o FOLDER"),
        (["a", "b", "--rendered", "a.mp4", "--reference", "b.mp4", "-o", "r"], "without folders"),
        (["a"], "an avatar and a dataset"),
        (["a", "b", "c"], "several avatars need -o"),
        (["a", "b", "--skip", "2"], "--skip goes with --rendered"),
        (["a", "b", "--controls", "-o", "r"], "one dataset"),
        (["a", "b", "--every", "0"], "--every must be above 0"),
        (
            ["--rendered", "a", "--reference", "b", "-o", "r", "--openface-rendered", "c"],
            "openface-reference",
        ),
    ],
)
def test_flags_that_do_not_go_together_are_a_usage_error(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, and a line that says what goes with what."""
    assert cli.main(["evaluate", *words]) == 2
    assert says in capsys.readouterr().err


def test_every_figure_moves_as_it_should(
    closing: RealClip, pixel_detector: Any, without: Callable[..., RealClip], tmp_path: Path
) -> None:
    """Spoilt copies of a synthetic clip: every claim that can be checked without weights holds."""
    starts = 6.4 + 0.2 * np.arange(8)
    phones = tuple(Phone(s, s + 0.2, name) for s, name in zip(starts, "BAMAPABA", strict=True))
    # No lips fit a tone, so the clip is silent to the judge; test_judged_sync.py has sound that fits.
    silent = np.zeros_like(closing.samples)
    clip = without(closing, identity="painted", phones=phones, samples=silent)
    found = controls_of(clip, tmp_path, PLAIN, pixel_detector)
    told = {item["claim"]: item["holds"] for item in found["claims"]}
    # The painted face's detector looks at one column of pixels: it can't follow a displaced picture.
    broken = [claim for claim, holds in told.items() if holds is False]
    assert broken == ["lmd: displaced > 4.0", "face_lmd: displaced > 4.0"]
    assert told["lip_lag_ms: late ~ 200.0 (± 20)"] and told["lip_lag_ms: identical ~ 0.0 (± 1)"]
    assert told["flicker: flickering > identical"] and told["psnr: foreign < late"] is not None
    openings = ("lip_amplitude", "lip_distribution", "lip_closed", "lip_closures")
    checked = [holds for claim, holds in told.items() if claim.startswith(openings)]
    assert len(checked) == 18 and None not in checked
    assert sum(holds is True for holds in told.values()) >= 35
    assert f"{sum(holds is True for holds in told.values())} claims hold" in table(found)
    assert (tmp_path / "controls.html").is_file() and (tmp_path / "late" / "metrics.json").is_file()


def test_a_claim_that_does_not_hold_is_told(tmp_path: Path) -> None:
    """A ruler that scores a blurred copy as an identical one is found out."""
    figures: dict[str, dict[str, Any]] = {
        name: {"psnr": 100.0} for name in ("identical", "blurred", "noisy", "displaced", "late", "foreign")
    } | {"flickering": {"psnr": 50.0}}
    told = {str(claim): claim.holds(figures) for claim in claims(25.0)}
    assert told["psnr: blurred < identical"] is False and told["psnr: flickering < identical"] is True
    assert told["ssim: blurred < identical"] is None


def test_phones_of_two_videos_count_from_the_references_start(real: Path, tmp_path: Path) -> None:
    """A lead that is skipped keeps its time; a table that misses the frames stops before any is scored."""
    table_of_phones = tmp_path / "phones.csv"
    table_of_phones.write_text("start_seconds,end_seconds,phone\n0,0.4,m\n0.4,2,a\n")
    config = EvaluateConfig(pictures=False, phones=table_of_phones)
    evaluate_videos(VideoPair(real, real, skip=0.2), tmp_path / "out", config, None)
    frames = json.loads((tmp_path / "out" / "frames.json").read_text())
    assert frames["frame"][:2] == [5, 6] and frames["viseme"] == ["bilabial"] * 5 + ["open"] * 40
    table_of_phones.write_text("start_seconds,end_seconds,phone\n50,50.4,m\n")
    with pytest.raises(FileProblem, match=r"evaluated frames from 0 to 1\.96 s"):
        evaluate_videos(VideoPair(real, real), tmp_path / "late", config, None)
    words = ["evaluate", "--rendered", str(real), "--reference", str(real), "-o", str(tmp_path / "cli")]
    assert cli.main([*words, "--phones", str(tmp_path / "none.csv")]) == 1
