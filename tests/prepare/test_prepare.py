"""prepare end to end on short films of a photographed person, and on a real video where one is named."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from nldf_engine.apps.cli.main import main
from nldf_engine.base.errors import FileProblem
from nldf_engine.datasets.dataset import LABELS, Dataset
from nldf_engine.datasets.validate import validate
from nldf_engine.geometry.rotations import head_numbers
from nldf_engine.media.video import probe
from nldf_engine.prepare import PrepareConfig, RefineConfig, prepare, run
from nldf_engine.prepare.refine import refine

SMALL = PrepareConfig(size=128, refine=False)


def test_whole_way(film, speaker, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """A 30 frames/s film becomes a dataset that opens, follows the head, and keeps the picture."""
    path = film(fps=30.0)
    report = prepare(path, tmp_path / "out", SMALL)
    dataset = Dataset.open(tmp_path / "out")
    assert len(dataset) == 75 and dataset.valid.all() and dataset.info.size == (128, 128)
    assert not (tmp_path / "out.partial").exists()
    assert report.metrics["pose_rms_512"] < 1.5
    roll = head_numbers(torch.from_numpy(dataset.poses))[:, 2].numpy()
    swing = 3 * np.sin(3.0 * np.arange(75) / 25)
    assert np.corrcoef(roll, swing)[0, 1] < -0.95 or np.corrcoef(roll, swing)[0, 1] > 0.95
    assert np.ptp(roll) == pytest.approx(6, abs=1.5)
    labels = dataset.labels()
    x, y = dataset.landmarks[10, 4].astype(int)
    assert labels[10, y, x] == LABELS["head"]
    assert 0.05 < (labels == LABELS["head"]).mean() < 0.5
    assert (labels == LABELS["torso"]).mean() > 0.1
    assert not report.metrics["camera_compensated"] and not report.metrics["exposure_compensated"]
    assert "camera_motion" not in dataset.extra and "backdrop_moves" not in dataset.extra
    torso = dataset.extra["torso"]
    assert torso.shape == (75, 2, 3) and dataset.extra["torso_reference"].shape == (1,)
    crop = report.metrics["source"]["crop"]
    wall = speaker.wall[crop[1] : crop[1] + crop[2], crop[0] : crop[0] + crop[2]]
    wall = cv2.resize(wall, (128, 128), interpolation=cv2.INTER_AREA)
    seen = (labels == 0).all(0)
    assert np.abs(dataset.background()[seen].astype(int) - wall[seen]).mean() < 6
    assert abs(len(dataset.audio()) / 16000 - 3) < 0.05
    assert dataset.audio_features("mel").shape[0] == 75
    kept = json.loads((tmp_path / "out" / "report.json").read_text())
    assert kept["figures"]["sound"]["noise_floor_db"] < kept["figures"]["sound"]["level_db"]
    assert "noise_floor_db" not in dataset.info.audio
    assert kept["figures"]["frames"] == 75 and "length" in {p["where"] for p in kept["problems"]}
    assert cv2.imread(str(tmp_path / "out" / "report.png")).shape[0] > 600
    assert "WARNING" not in capsys.readouterr().err
    assert {p.severity for p in validate(tmp_path / "out")} <= {"note", "warning", "severe"}


def test_interrupted_and_resumed(film, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped, nothing appears; the same call does only what was missing; other settings start anew."""
    path, out, config = (
        film(seconds=2.2),
        tmp_path / "out",
        PrepareConfig(size=64, audio_frontend="", refine=False),
    )
    called: list[str] = []
    real = {name: getattr(run, name) for name in ("survey", "track", "solve_poses", "track_torso")}

    def watch(name: str, stop: bool) -> None:
        def call(*args: object, **kw: object) -> object:
            called.append(name)
            if stop:
                raise KeyboardInterrupt
            return real[name](*args, **kw)

        monkeypatch.setattr(run, name, call)

    watch("survey", stop=False)
    watch("track", stop=True)
    with pytest.raises(KeyboardInterrupt):
        prepare(path, out, PrepareConfig(size=66, audio_frontend="", refine=False))
    assert called == ["survey", "track"] and (tmp_path / "out.partial" / "find.safetensors").exists()
    called.clear()
    for name in real:
        watch(name, stop=name == "track_torso")
    with pytest.raises(KeyboardInterrupt):
        prepare(path, out, config)
    assert called == ["survey", "track", "solve_poses", "track_torso"]  # nothing of the other size
    assert not out.exists() and (tmp_path / "out.partial" / "pose.safetensors").exists()
    called.clear()
    watch("track_torso", stop=False)
    prepare(path, out, config)
    assert called == ["track_torso"] and not (tmp_path / "out.partial").exists()
    assert Dataset.open(out).info.size == (64, 64)


FILES = ("track.safetensors", "background.png", "audio.wav", "video.mp4")
QUICK = RefineConfig(size=64, rounds=1, steps=12, rays=256)


def test_the_command_and_the_function_make_the_same_dataset(
    film, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """`nldf prepare` and `prepare()` write the same dataset, poses refined, as `refine` does afterwards.

    A stop in the refinement leaves nothing at the output, and the same call refines without tracking again.
    """
    path, ours, theirs = film(seconds=2.2), tmp_path / "ours", tmp_path / "theirs"
    config = PrepareConfig(size=64, refinement=QUICK)
    with monkeypatch.context() as stopping:

        def stop(tracked: Dataset, _: RefineConfig) -> None:
            shutil.copytree(tracked.path, tmp_path / "tracked")
            raise KeyboardInterrupt

        stopping.setattr("nldf_engine.prepare.refine.refined_track", stop)
        with pytest.raises(KeyboardInterrupt):
            prepare(path, ours, config)
    assert not ours.exists() and (tmp_path / "ours.partial" / "scene.safetensors").exists()
    with monkeypatch.context() as resuming:
        resuming.setattr(run, "track", None)
        report = prepare(path, ours, config)
    assert report.refined is not None and report.refined.text() in report.text()
    assert not (tmp_path / "ours.partial").exists()
    quick = functools.partial(PrepareConfig, refinement=QUICK)
    monkeypatch.setattr("nldf_engine.prepare.PrepareConfig", quick)
    assert main(["prepare", str(path), "-o", str(theirs), "--size", "64"]) == 0
    assert "refined by the pictures: heads moved by" in capsys.readouterr().out
    refine(tmp_path / "tracked", QUICK)
    for name in FILES:
        assert (ours / name).read_bytes() == (theirs / name).read_bytes(), name
    dataset, other, later = (Dataset.open(place) for place in (ours, theirs, tmp_path / "tracked"))
    # A matroska file carries a random number of its own, so the label maps are compared.
    np.testing.assert_array_equal(dataset.labels(), other.labels())
    assert (ours / FILES[0]).read_bytes() == (later.path / FILES[0]).read_bytes()
    dataset.check_unchanged()
    assert (dataset.poses != dataset.extra["poses_tracked"]).any()
    assert dataset.info.provenance["refined"]["config"]["steps"] == QUICK.steps
    assert dataset.info.provenance == other.info.provenance == later.info.provenance
    assert json.loads((ours / "report.json").read_text())["refined"] == report.refined.to_json()
    assert (ours / "features_whisper.safetensors").exists()
    with pytest.raises(FileProblem, match="refined already"):
        refine(ours, QUICK)


def test_faceless_and_silent_stretches(film, speaker, tmp_path: Path) -> None:
    """Frames without a face keep their place and are marked; a film without sound still gives a dataset."""

    def picture(time: float) -> np.ndarray:
        return speaker.wall if 1.0 <= time < 1.6 else speaker.frame(time)

    report = prepare(film(picture, sound=False), tmp_path / "out", PrepareConfig(size=64, refine=False))
    dataset = Dataset.open(tmp_path / "out")
    assert len(dataset) == 75
    assert not dataset.valid[26:39].any() and dataset.valid[:24].all() and dataset.valid[43:].all()
    assert np.isfinite(dataset.poses).all() and np.abs(np.diff(dataset.landmarks, axis=0)).max() < 15
    assert 30 not in dataset.indices("all")
    severe = {p.where for p in report.problems if p.severity == "severe"}
    assert "sound" in severe and not report.usable
    assert "faces" in {p.where for p in report.problems}


def test_a_video_too_short_to_refine_says_so(
    film, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Fewer frames with a face than a refinement needs: poses stay as tracked, and the report says why."""
    monkeypatch.setattr("nldf_engine.prepare.refine.FEWEST_FRAMES", 60)
    report = prepare(film(seconds=2.0), tmp_path / "out", PrepareConfig(size=64, audio_frontend=""))
    assert report.refined is None and report.text().endswith("too short to refine them by its pictures")
    assert "poses_tracked" not in Dataset.open(tmp_path / "out").extra


def test_wide_film_with_two_people(film, speaker, tmp_path: Path) -> None:
    """In a wide picture the speaker is cropped out; another face, and a small head, are told."""

    def picture(time: float) -> np.ndarray:
        big = np.hstack([speaker.wall, speaker.wall, speaker.wall])
        big = np.vstack([big, big])[:SIDE_HIGH, :]
        place = cv2.resize(speaker.frame(time), (240, 240), interpolation=cv2.INTER_AREA)
        big[60:300, 520:760] = place
        other = cv2.resize(speaker.frame(0.0), (200, 200), interpolation=cv2.INTER_AREA)[:, ::-1]
        big[100:300, 60:260] = other
        return big

    report = prepare(
        film(picture, seconds=2.0), tmp_path / "out", PrepareConfig(size=96, audio_frontend="", refine=False)
    )
    x, _, side = report.metrics["source"]["crop"]
    assert x > 400 and side < 300
    told = {p.where: p.severity for p in report.problems}
    assert told["faces"] == "warning" and told["head size"] == "severe"
    assert Dataset.open(tmp_path / "out").valid.mean() > 0.95


SIDE_HIGH = 420


def test_refused(film, speaker, tmp_path: Path) -> None:
    """No face, too short, no video: refused with the remedy, and nothing is left at the output."""
    out = tmp_path / "out"
    with pytest.raises(FileProblem, match="no face"):
        prepare(film(lambda time: speaker.wall, seconds=2.0, name="wall.mp4"), out, SMALL)
    with pytest.raises(FileProblem, match="at least 2 s"):
        prepare(film(seconds=0.2, name="short.mp4"), out, SMALL)
    (tmp_path / "text.mp4").write_text("hello" * 100)
    with pytest.raises(FileProblem, match="can't be read"):
        prepare(tmp_path / "text.mp4", out, SMALL)
    with pytest.raises(FileProblem, match="no such file"):
        prepare(tmp_path / "none.mp4", out, SMALL)
    assert not out.exists() and not (tmp_path / "out.partial").exists()
    (tmp_path / "file").touch()
    with pytest.raises(FileProblem, match="can't be"):
        prepare(film(seconds=2.0), tmp_path / "file" / "out", SMALL)
    for wrong in ({"size": 127}, {"size": 8}, {"fps": 30.0}, {"margin": 0.5}):
        with pytest.raises(ValueError, match="PrepareConfig"):
            PrepareConfig(**wrong)


def real_video() -> Path:
    path = os.environ.get("NLDF_REAL_VIDEO", "")
    if not path:
        pytest.skip("set NLDF_REAL_VIDEO to a real video of a speaker to run this")
    return Path(path)


def beginning(video: Path, seconds: float, out: Path) -> Path:
    """The first seconds of a video, its packets as they are."""
    import av

    with av.open(str(video)) as source, av.open(str(out), "w") as made:
        pairs = {stream.index: made.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.dts is not None and packet.pts * packet.time_base < seconds:
                packet.stream = pairs[packet.stream.index]
                made.mux(packet)
    return out


@pytest.mark.timeout(900)
def test_real_video(tmp_path: Path) -> None:
    """A real video: poses fit to about a pixel, memory stays under 2 GB, files under 20 MB a minute."""
    video = beginning(real_video(), 24, tmp_path / "some.mp4")
    code = (
        "import sys; from nldf_engine.prepare import PrepareConfig, prepare;"
        "report = prepare(sys.argv[1], sys.argv[2], PrepareConfig(refine=False));"
        "print(report.metrics['peak_memory_mb'])"
    )
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", code, str(video), str(tmp_path / "out")],
        capture_output=True,
        text=True,
        timeout=800,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.split()[-1]) < 2000
    dataset = Dataset.open(tmp_path / "out")
    assert len(dataset) == round(probe(video).seconds * 25)
    figures = json.loads((tmp_path / "out" / "report.json").read_text())["figures"]
    assert figures["pose_rms_512"] < 1.2 and figures["valid_share"] > 0.95
    kept = [f for f in (tmp_path / "out").iterdir() if not f.name.startswith(("report", "features"))]
    assert sum(f.stat().st_size for f in kept) < 20e6 * len(dataset) / 1500
