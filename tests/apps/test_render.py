"""`nldf render` and `nldf validate` on a real, if untrained, avatar: what comes out, what is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from avatars import tiny_avatar
from nldf_engine.apps.cli import main as cli
from nldf_engine.apps.cli.bundled import bundled_avatar
from nldf_engine.datasets.dataset import Dataset
from nldf_engine.datasets.format import write_wav
from nldf_engine.datasets.problems import Problem
from nldf_engine.media.video import VideoWriter, probe, read_frames

SECONDS, FRAMES = 0.4, 10


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an avatar, a speech file and pose files, good and bad."""
    path = tmp_path_factory.mktemp("render")
    tiny_avatar().save(path / "avatar")
    time = np.arange(int(SECONDS * 16000)) / 16000
    write_wav(path / "speech.wav", 0.3 * np.sin(2 * np.pi * 200 * time))
    poses = np.tile(np.eye(4, dtype=np.float32), (5, 1, 1))
    poses[:, 2, 3] = -0.8
    np.save(path / "poses.npy", poses)
    np.save(path / "nan.npy", np.full_like(poses, np.nan))
    np.save(path / "shape.npy", poses[:, :3])
    np.save(path / "scaled.npy", poses * np.array([2, 2, 2, 1], np.float32)[:, None])
    np.save(path / "pickled.npy", np.array([{"poses": 1}], dtype=object), allow_pickle=True)
    (path / "text.json").write_text('{"frames": []}', encoding="utf-8")
    (path / "poses.pt").write_bytes(b"\x80\x02")
    return path


def render(folder: Path, out: Path, *flags: str) -> int:
    return cli.main(["render", str(folder / "avatar"), str(folder / "speech.wav"), "-o", str(out), *flags])


def test_it_writes_a_video_with_sound_and_the_figures(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The video has the frames and the length of the audio, and sound; `--json` has what was printed."""
    out, figures = tmp_path / "out.mp4", tmp_path / "figures.json"
    assert render(folder, out, "--json", str(figures), "--size", "32") == 0
    info = probe(out)
    assert (info.width, info.height, info.frames, info.has_audio) == (32, 32, FRAMES, True)
    written = json.loads(figures.read_text(encoding="utf-8"))
    assert written["frames"] == FRAMES and written["path"] == str(out)
    assert written["frames_per_second"] == pytest.approx(FRAMES / written["seconds"])
    assert capsys.readouterr().out.startswith(f"{out}: {FRAMES} frames in ")


def test_a_cold_start_compiles_nothing(tmp_path: Path) -> None:
    """A fresh `nldf render` of nldf-fast needs neither numba nor SciPy, nor PyTorch's compiler."""
    write_wav(tmp_path / "speech.wav", np.zeros(1600))
    program = (
        "import sys\n"
        "from nldf_engine.apps.cli import main as cli\n"
        f"folder = {str(tmp_path)!r}\n"
        f"flags = ['render', {str(bundled_avatar())!r}, folder + '/speech.wav', '-o', folder + '/out.mp4']\n"
        "code = cli.main([*flags, '--size', '32', '--no-provenance'])\n"
        "slow = {'numba', 'librosa', 'scipy', 'torch._dynamo', 'torch._inductor', 'sympy'}\n"
        "print(code, sorted(slow & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 []"


def test_the_demo_tells_what_it_rendered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`nldf demo --size` says in print and JSON the size and frames that are in its video."""
    out, figures = tmp_path / "demo.mp4", tmp_path / "figures.json"
    flags = ["--seconds", "0.4", "--size", "48", "--json", str(figures)]
    assert cli.main(["demo", "-o", str(out), *flags]) == 0
    info, written = probe(out), json.loads(figures.read_text(encoding="utf-8"))
    assert written["size"] == [info.width, info.height] == [48, 48] and written["frames"] == info.frames
    assert f"{info.frames} frames of 48x48" in capsys.readouterr().out


def test_poses_and_background_reach_the_picture(folder: Path, tmp_path: Path) -> None:
    """`--poses FILE` moves the head; `--background` colours the corner of the picture."""
    blue = ("--background", "#0000ff")
    moved = np.load(folder / "poses.npy")
    moved[:, 0, 3] = 0.1
    np.save(tmp_path / "moved.npy", moved)
    assert render(folder, tmp_path / "a.mp4", "--poses", str(folder / "poses.npy"), *blue) == 0
    assert render(folder, tmp_path / "b.mp4", "--poses", str(tmp_path / "moved.npy"), *blue) == 0
    a, b = (read_frames(tmp_path / name).astype(int) for name in ("a.mp4", "b.mp4"))
    assert (abs(a[:, 1, 1] - [0, 0, 255]) < 40).all()
    assert abs(a - b).mean() > 1


def test_poses_of_other_projects_drive_as_in_python(folder: Path, tmp_path: Path) -> None:
    """A transforms file and its folder, as the documentation has them, give the frames of `Engine.render`."""
    from nldf_engine.engine import Engine

    poses = np.load(folder / "poses.npy")
    poses[:, 0, 3] = np.linspace(-0.05, 0.05, len(poses))
    half = np.diag([1.0, -1.0, -1.0, 1.0])
    listed = [
        {"img_id": k, "aud_id": k, "transform_matrix": (half @ pose @ half).tolist()}
        for k, pose in enumerate(poses)
    ]
    text = json.dumps({"frames": listed, "focal_len": 500.0})
    other = tmp_path / "rad"
    other.mkdir()
    for name in ("transforms_train.json", "transforms_val.json"):
        half_of = listed[::2] if "train" in name else listed[1::2]
        (other / name).write_text(json.dumps({"frames": half_of, "focal_len": 500.0}), encoding="utf-8")
    (tmp_path / "whole.json").write_text(text, encoding="utf-8")
    engine, ours = Engine.load(folder / "avatar", device="cpu"), tmp_path / "ours.mp4"
    np.save(tmp_path / "ours.npy", poses)
    assert render(folder, ours, "--poses", str(tmp_path / "ours.npy"), "--size", "32") == 0
    for number, given in enumerate((tmp_path / "whole.json", other)):
        out = tmp_path / f"{number}.mp4"
        assert render(folder, out, "--poses", str(given), "--size", "32") == 0
        want = np.asarray(engine.render(folder / "speech.wav", str(given), size=32).frames)
        direct = np.asarray(engine.render(folder / "speech.wav", poses, size=32).frames)
        assert np.array_equal(want, direct)
        assert np.array_equal(read_frames(out), read_frames(ours))


def test_a_transparent_folder_holds_pictures_with_alpha(folder: Path, tmp_path: Path) -> None:
    """`-o frames/ --background transparent` writes one PNG with alpha a frame."""
    import cv2

    assert render(folder, Path(f"{tmp_path}/frames/"), "--background", "transparent") == 0
    pictures = sorted((tmp_path / "frames").iterdir())
    assert len(pictures) == FRAMES
    assert cv2.imread(str(pictures[0]), cv2.IMREAD_UNCHANGED).shape == (24, 24, 4)


@pytest.mark.parametrize(
    ("poses", "says"),
    [
        ("nan.npy", "no usable poses"),
        ("shape.npy", "[T, 4, 4]"),
        ("scaled.npy", "no usable poses"),
        ("pickled.npy", "no usable poses"),
        ("text.json", "no usable poses"),
        ("poses.pt", ".npy, .safetensors or .json"),
        ("absent.npy", "there is no such file"),
    ],
)
def test_bad_pose_files_are_refused(
    folder: Path, tmp_path: Path, poses: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """NaN, wrong shapes, no rotations, pickles, foreign files end with 1, one line, and no video."""
    assert render(folder, tmp_path / "out.mp4", "--poses", str(folder / poses)) == 1
    said = capsys.readouterr().err
    assert says in said and poses in said and said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_validate_tells_a_good_avatar_from_a_damaged_one(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A whole avatar exits with 0; one whose weights were cut short exits with 1 and is named."""
    avatar = tmp_path / "avatar"
    tiny_avatar().save(avatar)
    assert cli.main(["validate", str(avatar)]) == 0
    weights = avatar / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    capsys.readouterr()
    assert cli.main(["validate", str(avatar), "--json", str(tmp_path / "problems.json")]) == 1
    captured = capsys.readouterr()
    assert "model.safetensors" in captured.out
    assert (
        "model.safetensors" in captured.err and captured.err.count("\n") == 1 and "To fix it" in captured.err
    )
    assert json.loads((tmp_path / "problems.json").read_text(encoding="utf-8"))["errors"] == 1


@pytest.mark.parametrize(("severity", "usable"), [("note", True), ("warning", True), ("severe", False)])
def test_validate_ends_with_a_verdict(
    severity: str, usable: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Notes and warnings leave a thing usable, and it says so; what is severe does not."""
    found = [Problem("x", "the sound is quiet", "record it louder", severity)]
    monkeypatch.setattr("nldf_engine.datasets.validate.validate", lambda path: found)
    assert cli.main(["validate", "x"]) == 0
    said = capsys.readouterr().out
    assert f"{severity}: x: the sound is quiet" in said and ("x: usable as it is" in said) == usable


def test_audio_comes_from_a_video_as_well(folder: Path, tmp_path: Path) -> None:
    """AUDIO may be a video with sound."""
    sound = 0.2 * np.sin(np.arange(9600) / 10).astype(np.float32)
    with VideoWriter(tmp_path / "source.mp4", 32, 32, audio=(sound, 16000)) as writer:
        for _ in range(15):
            writer.write(np.zeros((32, 32, 3), np.uint8))
    out = tmp_path / "out.mp4"
    assert cli.main(["render", str(folder / "avatar"), str(tmp_path / "source.mp4"), "-o", str(out)]) == 0
    assert abs(probe(out).frames - 15) <= 1


@pytest.mark.parametrize(
    ("out", "flags", "says"),
    [
        ("folder.mp4", (), "it is a folder"),
        ("clip.avi", (), "can't be written as '.avi'"),
        ("clip.mp4", ("--background", "transparent"), "no transparency"),
        ("clip.mp4", ("--background", "absent.png"), "there is no such picture"),
        ("clip.mp4", ("--background", "text.png"), "no picture that can be read"),
        ("clip.mp4", ("--background", "cut.png"), "cut short"),
        ("text.png/clip.mp4", (), "is no folder"),
    ],
)
def test_mistyped_outputs_and_backgrounds_are_told_before_the_avatar_is_loaded(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
    out: str, flags: tuple[str, ...], says: str,
) -> None:  # fmt: skip
    """Each ends with 1 and one line, without a look at the avatar; libpng and OpenCV add nothing to it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "text.png").write_bytes(b"\xff\xd8\xff\xe0\0\x0atext, no picture")
    (tmp_path / "cut.png").write_bytes((folder / "avatar" / "background.png").read_bytes()[:400])
    before = sorted(tmp_path.rglob("*"))
    assert cli.main(["render", "no-avatar", str(folder / "speech.wav"), "-o", out, *flags]) == 1
    said = capfd.readouterr().err
    assert says in said and said.count("\n") == 1 and "To fix it" in said
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("content", [b"", b"no sound", None])
def test_remedies_for_sound_speak_of_sound(
    folder: Path, tmp_path: Path, content: bytes | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """An empty, foreign or silent-less file is replaced by another sound, not by another video."""
    if content is None:
        (tmp_path / "a.wav").mkdir()
    else:
        (tmp_path / "a.wav").write_bytes(content)
    assert (
        cli.main(["render", str(folder / "avatar"), str(tmp_path / "a.wav"), "-o", str(tmp_path / "o.mp4")])
        == 1
    )
    remedy = capsys.readouterr().err.partition("To fix it")[2]
    assert remedy and "video" not in remedy


def test_the_sheet_is_one_picture_of_every_edit(folder: Path, tmp_path: Path) -> None:
    """`nldf sheet` writes rows of seven pictures: six of the head, blinks, backgrounds and hair."""
    out = tmp_path / "sheet.png"
    assert cli.main(["sheet", str(folder / "avatar"), "-o", str(out), "--size", "32"]) == 0
    picture = cv2.imread(str(out))
    assert picture.shape == (9 * (32 + 18), 7 * 32, 3) and len(np.unique(picture)) > 50
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.png"]
    assert cli.main(["sheet", str(folder / "avatar"), "-o", str(tmp_path / "sheet.jpg")]) == 2


def test_edits_are_flags_and_beyond_is_one_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A turned head renders with one warning line; what can't be is refused before anything is loaded."""
    out = str(tmp_path / "out.mp4")
    (tmp_path / "moves.csv").write_text("time,yaw,eyes\n0,0,1\n1,40,0\n", encoding="utf-8")
    flags = ["--curves", str(tmp_path / "moves.csv"), "--shift=-0.3h,0,0", "--smooth", "1"]
    assert cli.main(["render", str(folder / "avatar"), str(folder / "speech.wav"), "-o", out, *flags]) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert len(said) == 1 and said[0].startswith("nldf render: warning: head poses lead beyond"), said
    assert "yaw reaches" in said[0] and "x reaches" in said[0] and "% of the frames" in said[0]
    for wrong, code, word in (
        (["--shift", "1,2"], 2, "--shift is X,Y,Z"),
        (["--shift", "a,0,0"], 2, "--shift is X,Y,Z"),
        (["--pose-limit", "hold"], 2, "warn, clamp, off"),
        (["--blink", "absent.csv"], 1, "absent.csv: there is no such file"),
        (["--sliders", "jaw"], 2, "--sliders is NAME=NUMBER"),
        (["--mouth", "9"], 2, "0 to 3"),
        (["--edges", "soft"], 2, "--edges is clean or fast"),
        (["--mouth", "0.5"], 1, "without motion codes"),
    ):
        assert (
            cli.main(["render", str(folder / "avatar"), str(folder / "speech.wav"), "-o", out, *wrong])
            == code
        )
        err = capsys.readouterr().err
        assert word in err and err.count("\n") == 1, err


def test_into_the_source(
    synthetic_dataset: Dataset, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The bundled avatar, in a film that the dataset says it was cut out of; what is missing is named."""
    film, data, out = tmp_path / "film.mp4", tmp_path / "data", tmp_path / "out.mp4"
    with VideoWriter(film, 160, 90, crf=6) as writer:
        for frame in synthetic_dataset.frames(64):
            writer.write(np.pad(frame, ((10, 16), (30, 66), (0, 0)), constant_values=90))
    shutil.copytree(synthetic_dataset.path, data)
    info = json.loads((data / "dataset.json").read_text(encoding="utf-8"))
    info["source"] = {"crop": [30, 10, 64]}
    (data / "dataset.json").write_text(json.dumps(info), encoding="utf-8")
    flags = ["render", str(bundled_avatar()), str(folder / "speech.wav"), "-o", str(out), "--into", str(film)]
    assert cli.main([*flags, "--poses", str(data), "--region", "mouth"]) == 0
    made = probe(out)
    assert (made.width, made.height, made.frames) == (160, 90, FRAMES)
    capsys.readouterr()
    for more, word in {
        (): "--into needs --poses DATASET",
        ("--poses", str(synthetic_dataset.path)): "where in its video",
        ("--poses", str(data), "--region", "nose"): "head, face, mouth",
        ("--poses", str(data), "--yaw", "5"): "with `into`",
    }.items():
        assert cli.main([*flags, *more]) in (1, 2)
        assert word in capsys.readouterr().err


def test_the_precision_is_a_flag(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is used and recorded; what this machine can't compute in is refused."""
    figures = tmp_path / "figures.json"
    assert render(folder, tmp_path / "out.mp4", "--precision", "int16", "--json", str(figures)) == 0
    assert json.loads(figures.read_text(encoding="utf-8"))["precision"] == "int16"
    capsys.readouterr()
    assert render(folder, tmp_path / "other.mp4", "--precision", "fp16", "--device", "cpu") in (1, 2)
    assert "precision: 'fp16' needs" in capsys.readouterr().err and not (tmp_path / "other.mp4").exists()
    assert render(folder, tmp_path / "other.mp4", "--precision", "fp8") == 2
