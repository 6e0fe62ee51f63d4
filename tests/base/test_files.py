"""Files are written whole or not at all, and nothing is read from outside of its folder."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nldf_engine.base import files
from nldf_engine.base.errors import FileProblem
from nldf_engine.base.files import (
    atomic_folder,
    atomic_path,
    check_writable,
    inside,
    overlap,
    read_json,
    sha256,
    write_json,
)
from nldf_engine.base.lock import owned


def test_a_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    """An exception inside leaves the earlier content and no temporary file."""
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_failed_folder_keeps_the_old_one(tmp_path: Path) -> None:
    """A folder is replaced as a whole when all went well, and not touched otherwise."""
    path = tmp_path / "data"
    with atomic_folder(path) as folder:
        (folder / "a").write_text("1")
    with pytest.raises(RuntimeError), atomic_folder(path) as folder:
        (folder / "b").write_text("2")
        raise RuntimeError
    assert [p.name for p in path.iterdir()] == ["a"]
    with atomic_folder(path) as folder:
        (folder / "c").write_text("3")
    assert [p.name for p in path.iterdir()] == ["c"] and list(tmp_path.iterdir()) == [path]


def test_the_temporary_name_keeps_the_ending(tmp_path: Path) -> None:
    """Encoders choose their container by it."""
    with atomic_path(tmp_path / "clip.mp4") as temporary:
        assert temporary.name == "clip.mp4" and temporary.parents[2] == tmp_path
        temporary.touch()


def test_a_full_disk_is_a_clear_error(tmp_path: Path) -> None:
    """'No space left' names the file that was to be written, and nothing is left beside it."""
    with pytest.raises(FileProblem, match=r"a\.txt.*space"), atomic_path(tmp_path / "a.txt"):
        raise OSError(28, "No space left on device")
    assert list(tmp_path.iterdir()) == []


WRITER = """
import sys, os, signal
from nldf_engine.base import files
with getattr(files, sys.argv[1])(sys.argv[2]) as temporary:
    place = temporary / "half" if temporary.is_dir() else temporary
    place.write_text("half")
    print(temporary, flush=True)
    sys.stdin.read()
"""
needs_locks = pytest.mark.skipif(sys.platform == "win32", reason="open folders are no handles there")


def writer(how: str, path: Path) -> tuple[subprocess.Popen[str], Path]:
    """Another process in the middle of writing `path`, until its input ends, and where it writes."""
    command = [sys.executable, "-c", WRITER, how, str(path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, Path(process.stdout.readline().rstrip("\n"))


@needs_locks
@pytest.mark.parametrize("how", ["atomic_path", "atomic_folder"])
def test_the_next_writer_removes_what_a_killed_one_left(how: str, tmp_path: Path) -> None:
    """Not what one that lives is writing: both finish, and nothing is left beside the output."""
    path = tmp_path / "out.mp4"
    killed, _ = writer(how, path)
    killed.kill()
    killed.wait()
    assert len(list(tmp_path.iterdir())) == 1 and not path.exists()
    alive, first = writer(how, path)
    second_process, second = writer(how, path)
    assert first != second and first.exists() and second.exists()
    alive.communicate()
    second_process.communicate()
    assert alive.returncode == second_process.returncode == 0
    assert list(tmp_path.iterdir()) == [path]


@needs_locks
def test_a_process_killed_between_two_renames_loses_no_folder(tmp_path: Path) -> None:
    """The old folder, moved away for the new one that never came, is put back by the next writer."""
    path, room = tmp_path / "data", tmp_path / ".data.nldf"
    (room / "old" / "data").mkdir(parents=True)
    (room / "old" / "data" / "kept").touch()
    (room / ".held").touch()
    with pytest.raises(RuntimeError), atomic_folder(path):
        raise RuntimeError
    assert (path / "kept").is_file() and list(tmp_path.iterdir()) == [path]


@needs_locks
def test_a_link_or_file_of_that_name_is_left_alone(tmp_path: Path) -> None:
    """What somebody has put in the way of the hidden folder is neither emptied nor written into."""
    elsewhere = tmp_path / "dear"
    elsewhere.mkdir()
    (elsewhere / "own").touch()
    (tmp_path / ".a.txt.nldf").symlink_to(elsewhere)
    (tmp_path / ".a.txt.nldf1").write_text("own")
    (tmp_path / ".a.txt.nldf2" / "new").mkdir(parents=True)  # of no writer: nothing of it was held
    write_json(tmp_path / "a.txt", 1)
    assert (tmp_path / ".a.txt.nldf2" / "new").is_dir()
    assert (elsewhere / "own").exists() and (tmp_path / ".a.txt.nldf1").read_text() == "own"
    assert not (tmp_path / ".a.txt.nldf3").exists() and read_json(tmp_path / "a.txt") == 1


@pytest.mark.parametrize("error", [OSError(95, "not supported"), None])
def test_without_locks_names_are_unique(
    error: OSError | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a file system without them, and on Windows (None), nobody takes over what may be in use."""

    def claim(handle: int) -> None:
        assert error is not None
        raise error

    monkeypatch.setattr(files, "claim", claim)
    monkeypatch.setattr(files, "POSIX", error is not None)
    path = tmp_path / "a.json"
    with atomic_path(path) as first, atomic_path(path) as second:
        assert first.parents[1] != second.parents[1]
        first.write_text("1")
        second.write_text("2")
    assert path.read_text() == "1" and list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names on this system")
def test_a_pipe_or_device_is_written_into(tmp_path: Path) -> None:
    """It gets the content and stays what it is; one that is full is told as a full disk is."""
    pipe = tmp_path / "out.json"
    os.mkfifo(pipe)
    with ThreadPoolExecutor() as pool:
        read = pool.submit(pipe.read_bytes)
        write_json(check_writable(pipe), {"a": 1})
        assert json.loads(read.result(60)) == {"a": 1}
    assert pipe.is_fifo() and list(tmp_path.iterdir()) == [pipe]
    link = tmp_path / "nothing.json"
    link.symlink_to("/dev/null")
    write_json(check_writable(link), {"a": 1})
    assert link.is_symlink() and link.is_char_device() and link.read_bytes() == b""
    full = tmp_path / "full.json"
    full.symlink_to("/dev/full")
    if full.is_char_device():
        with pytest.raises(FileProblem, match=r"full\.json: the disk is full"):
            write_json(full, {"a": 1})
        assert full.is_char_device()


def test_links_that_lead_nowhere_overlap_with_nothing(tmp_path: Path) -> None:
    """A link to itself is no crash, and an output in its place is written."""
    link = tmp_path / "a"
    link.symlink_to("a")
    assert not overlap(link, tmp_path / "b")
    write_json(link, {})
    assert read_json(link) == {}


def test_an_impossible_place_is_a_clear_error(tmp_path: Path) -> None:
    """A folder below a file can't be made, and the message says so."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(FileProblem, match="can't be made"), atomic_path(tmp_path / "file" / "sub" / "a"):
        pass


@pytest.mark.parametrize("name", ["../a", "/etc/passwd", "x/../../a", "link/a"])
def test_paths_out_of_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    """Climbing, absolute and linked paths don't leave the folder."""
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(tmp_path)
    with pytest.raises(FileProblem, match="outside"):
        inside(root, name)
    assert inside(root, "a/b") == root.resolve() / "a" / "b"


def test_json_is_checked(tmp_path: Path) -> None:
    """NaN is not written; missing, huge, deep and broken files are refused with their path."""
    path = tmp_path / "a.json"
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"a": float("nan")})
    assert not path.exists()
    write_json(path, {"a": [1, 2]})
    assert read_json(path) == {"a": [1, 2]} and len(sha256(path)) == 64
    for text, word in (("{", "valid JSON"), ("[" * 100000, "valid JSON"), ("[1" + " " * 99 + "]", "bytes")):
        path.write_text(text)
        with pytest.raises(FileProblem, match=word):
            read_json(path, limit=200_000 if word != "bytes" else 50)
    with pytest.raises(FileProblem, match="no such file"):
        read_json(tmp_path / "b.json")


@pytest.mark.parametrize("name", ["x" * 251 + ".mp4", "\u8a71" * 83 + ".mp4"])
def test_names_as_long_as_names_can_be_are_written(tmp_path: Path, name: str) -> None:
    """255 and 253 bytes, the second in characters of three."""
    with atomic_path(tmp_path / name) as temporary:
        temporary.write_text("made")
    with owned(tmp_path / name):
        assert len(list(tmp_path.iterdir())) == 2
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_another_output_of_the_same_hidden_name_keeps_what_it_had(tmp_path: Path) -> None:
    """Names are cut, so that two outputs may share one; a folder called "old" is written as any other."""
    first, second = tmp_path / ("x" * 240 + "a"), tmp_path / ("x" * 240 + "b")
    room = tmp_path / ("." + "x" * 199 + ".nldf")
    (room / "old" / first.name).mkdir(parents=True)
    (room / ".held").touch()
    write_json(second, 1)
    assert (room / "old" / first.name).is_dir()
    for name in ("old", ".old", "new", ".held"):
        for _ in range(2):
            with atomic_folder(tmp_path / name) as folder:
                (folder / "a").touch()
        assert (tmp_path / name / "a").is_file()
