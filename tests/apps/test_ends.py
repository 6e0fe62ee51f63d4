"""How a command ends: with closed streams, a terminal that has gone, a full disk, or another writer."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from avatars import tiny_avatar
from nldf_engine.apps.cli import main as cli
from nldf_engine.avatar import Avatar
from nldf_engine.base.errors import FileProblem
from nldf_engine.base.lock import owned
from nldf_engine.datasets.format import write_wav
from nldf_engine.media.video import probe

NLDF = [sys.executable, "-m", "nldf_engine"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An avatar and two sounds."""
    path = tmp_path_factory.mktemp("ends")
    tiny_avatar().save(path / "avatar")
    for name, seconds in (("speech.wav", 0.4), ("long.wav", 60.0)):
        time_ = np.arange(int(seconds * 16000)) / 16000
        write_wav(path / name, 0.3 * np.sin(2 * np.pi * 200 * time_))
    return path


@pytest.mark.parametrize("closed", ["1>&-", "0<&- 1>&- 2>&-"])
def test_closed_streams_are_no_failure(folder: Path, tmp_path: Path, closed: str) -> None:
    """A scheduler that closes streams gets exit code 0 and a video with nothing else in it."""
    script = f'exec "$0" -m nldf_engine render "$1" "$2" -o "$3" --no-provenance {closed}'
    command = [sys.executable, str(folder / "avatar"), str(folder / "speech.wav"), str(tmp_path / "o.mp4")]
    done = subprocess.run(["/bin/sh", "-c", script, *command], check=False, timeout=300)
    assert done.returncode == 0
    assert probe(tmp_path / "o.mp4").frames == 10
    assert [path.name for path in tmp_path.iterdir()] == ["o.mp4"]


def test_a_reader_that_has_gone_is_no_failure(folder: Path, tmp_path: Path) -> None:
    """Whoever listens has left before the end (`nldf render ... | true`): the video is there, the code 0."""
    reading, writing = os.pipe()
    os.close(reading)
    arguments = (folder / "avatar", folder / "speech.wav", "-o", tmp_path / "o.mp4", "--no-provenance")
    try:
        done = subprocess.run(
            [*NLDF, "render", *map(str, arguments)], stdout=writing, stderr=subprocess.PIPE, text=True,
            check=False, timeout=300,
        )  # fmt: skip
    finally:
        os.close(writing)
    assert done.returncode == 0 and "Broken" not in done.stderr and "Traceback" not in done.stderr
    assert probe(tmp_path / "o.mp4").frames == 10


@pytest.mark.parametrize(("number", "code"), [(signal.SIGHUP, 129), (signal.SIGTERM, 143)])
def test_a_hangup_leaves_nothing_half_written(
    folder: Path, tmp_path: Path, number: signal.Signals, code: int, hangups: None
) -> None:
    """Rendering that is hung up ends as one that is terminated: no temporary file, no lock."""
    arguments = (folder / "avatar", folder / "long.wav", "-o", tmp_path / "o.mp4")
    command = [*NLDF, "render", *map(str, arguments)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 200
    while not any(tmp_path.rglob("*.mp4")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    said = process.communicate(timeout=200)[1]
    assert process.returncode == code and "nldf render: stopped" in said
    assert list(tmp_path.iterdir()) == []


def test_a_hangup_that_is_ignored_stays_ignored() -> None:
    """Started by nohup, a command goes on without its terminal."""
    from nldf_engine.base.signals import TERMINATING, handling

    caught: list[int] = []
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with handling(TERMINATING, lambda number, frame: caught.append(number)):
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGTERM)
        assert caught == [signal.SIGTERM] and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_full_disk_is_named_by_whatever_writes(tmp_path: Path) -> None:
    """An avatar that does not fit is refused in the words of every other output, and nothing is left."""
    code = f"""
import resource, signal, sys
sys.path[:0] = {[str(Path(__file__).parent.parent)]!r}
from avatars import tiny_avatar
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
avatar = tiny_avatar()
resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
try:
    avatar.save({str(tmp_path / "avatar")!r})
except Exception as error:
    print(type(error).__name__, error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("FileProblem") and "the disk is full" in done.stdout, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_two_commands_do_not_share_an_output(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """While another process writes there, a command ends with 1 and says who it is."""
    script = (
        "import sys; from nldf_engine.base.lock import owned\n"
        "with owned(sys.argv[1]): print(flush=True); input()"
    )
    out = tmp_path / "o.mp4"
    command = [sys.executable, "-c", script, str(out)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        other.stdout.readline()
        arguments = ["render", str(folder / "avatar"), str(folder / "speech.wav"), "-o", str(out)]
        assert cli.main(arguments) == 1
        assert f"process {other.pid}" in capsys.readouterr().err
        other.communicate("\n")
    assert list(tmp_path.iterdir()) == []


def test_an_output_behind_a_link_stays_there(tmp_path: Path) -> None:
    """A link to an avatar kept elsewhere stays a link, and what it stands for is written."""
    (tmp_path / "disk").mkdir()
    os.symlink(tmp_path / "disk" / "avatar", tmp_path / "avatar")
    tiny_avatar().save(tmp_path / "avatar")
    assert (tmp_path / "avatar").is_symlink() and (tmp_path / "disk" / "avatar" / "avatar.json").is_file()
    Avatar.load(tmp_path / "avatar")


def test_names_of_any_length_and_bytes(folder: Path, tmp_path: Path) -> None:
    """A name of 255 bytes, and one that is no UTF-8, are written, signed where that can be."""
    for name in ("n" * 251 + ".mp4", "out\udce9.mp4"):
        out = tmp_path / name
        arguments = ["render", str(folder / "avatar"), str(folder / "speech.wav"), "-o", str(out)]
        assert cli.main(arguments) == 0
        assert probe(out).frames == 10


def test_folders_with_names_of_other_bytes_are_refused_at_once(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Avatars and datasets hold tensors, which are in files with names of UTF-8 alone: that is the reason."""
    avatar = tmp_path / "av\udce9"
    shutil.copytree(folder / "avatar", avatar)
    speech, out = str(folder / "speech.wav"), str(tmp_path / "d\udce9")
    for arguments in (
        ["render", str(avatar), speech, "-o", str(tmp_path / "o.mp4")],
        ["prepare", speech, "-o", out],
    ):
        assert cli.main(arguments) == 1
        assert "its name is no UTF-8 text" in capsys.readouterr().err
    assert sorted(os.listdir(tmp_path)) == ["av\udce9"]


def test_a_file_that_is_owned_twice_by_one_process(tmp_path: Path) -> None:
    """`prepare` and the command that calls it both own the dataset."""
    with owned(tmp_path / "a"), owned(tmp_path / "a"):
        pass
    with pytest.raises(FileProblem), owned(tmp_path / "a"):
        raise FileProblem(tmp_path, "anything")
    assert list(tmp_path.iterdir()) == []
