"""`python -m bench.encoders`: what presets make of frames."""

from pathlib import Path

import numpy as np
import pytest

from avatars import tiny_avatar
from bench.encoders import encode, main, measure
from nldf_engine.media.video import read_frames


def test_it_is_measured(tmp_path: Path) -> None:
    """Bytes are those of a file that is written the same way, and PSNR that of what is read from it."""
    block = np.random.default_rng(0).integers(0, 255, (16, 16, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    frames = np.stack([np.roll(block, 3 * number, 1) for number in range(12)])
    found = measure(frames, ("fast", "ultrafast"), rounds=1)
    for preset, made in found.items():
        encode(frames, tmp_path / "a.mp4", preset)
        error = np.square(read_frames(tmp_path / "a.mp4").astype(float) - frames).mean()
        assert made.size == (tmp_path / "a.mp4").stat().st_size / len(frames)
        assert made.psnr == pytest.approx(10 * np.log10(255**2 / error), abs=1e-3) and made.milliseconds > 0
    assert found["fast"].size != found["ultrafast"].size


def test_the_command_prints_a_line_a_preset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of an avatar's frames."""
    tiny_avatar().save(tmp_path / "avatar")
    np.save(tmp_path / "sound.npy", np.random.default_rng(1).random((60, 16, 29)).astype(np.float32))
    given = [str(tmp_path / "avatar"), str(tmp_path / "sound.npy"), "--frames", "3", "--size", "64"]
    assert main(given) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("3 frames of 64 x 64") and len(said) == 6 and said[3].split()[0] == "veryfast"
    with pytest.raises(SystemExit):
        main([*given[:2], "--frames", "0"])
