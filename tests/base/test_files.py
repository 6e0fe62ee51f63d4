"""Files are written whole or not at all, and nothing is read from outside of its folder."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

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
        assert temporary.suffix == ".mp4" and temporary.parent == tmp_path


def test_a_full_disk_is_a_clear_error(tmp_path: Path) -> None:
    """'No space left' names the file that was to be written, and nothing is left beside it."""
    with pytest.raises(FileProblem, match=r"a\.txt.*space"), atomic_path(tmp_path / "a.txt"):
        raise OSError(28, "No space left on device")
    assert list(tmp_path.iterdir()) == []


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
