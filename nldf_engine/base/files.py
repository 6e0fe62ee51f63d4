"""Writing so that nothing is ever half-written, and reading so that nothing leaves its folder."""

from __future__ import annotations

import codecs
import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nldf_engine.base.claims import POSIX, claim, hidden_name, is_there, open_held
from nldf_engine.base.errors import FileProblem

FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # of OSError.errno
ROOMS = 100  # hidden folders beside an output that are tried before one of a random name
# What a hidden folder holds: the file that its user has locked, what is made, and what it will replace.
HELD, NEW, OLD = ".held", "new", "old"
ELSEWHERE = "choose an output path that you may write to"


def make_folder(path: str | Path) -> Path:
    """The folder, made with its parents where it is not there yet.

    Raises:
        FileProblem: it can't be made.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileProblem(path, f"the folder can't be made ({error.strerror})", ELSEWHERE) from error
    return path


def check_writable(path: str | Path, folder: bool = False) -> Path:
    """The path, where a file (or a `folder`) of that name can come to be; makes nothing.

    Called before long work, so that an output that will be refused is refused at once.

    Raises:
        FileProblem: a folder is where a file should be, or a file where a folder should, or nothing can be
            made there.
    """
    path = Path(path)
    if not folder and is_device(path):
        if not os.access(path, os.W_OK):
            raise FileProblem(path, "it can't be written (no permission)", ELSEWHERE)
        return path
    if not folder and path.is_dir():
        raise FileProblem(path, "it is a folder, and a file is to be written", "name a file in it")
    if folder and path.exists() and not path.is_dir():
        raise FileProblem(path, "it is a file, and a folder is to be written", "choose another output path")
    above = path.absolute().parent
    while not os.path.lexists(above) and above != above.parent:
        above = above.parent
    if not above.is_dir():
        raise FileProblem(path, f"its folder can't be made ({above} is no folder)", ELSEWHERE)
    if not os.access(above, os.W_OK | os.X_OK):
        raise FileProblem(path, f"it can't be written (no permission to write into {above})", ELSEWHERE)
    return path


def check_name(path: str | Path) -> Path:
    """The path of a folder with tensors, which are kept in files whose names are UTF-8.

    Raises:
        FileProblem: it is not.
    """
    path = Path(path)
    if printable(str(path)) != str(path):
        raise FileProblem(printable(str(path)), "its name is no UTF-8 text", "choose or give it another name")
    return path


def is_device(path: str | Path) -> bool:
    """Whether something is there that is written into and never replaced: a device, a pipe, a socket."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def overlap(a: str | Path, b: str | Path) -> bool:
    """Whether two paths name the same file or folder, or one is inside the other.

    Example:
        >>> overlap("data/speaker", "data/speaker/video.mp4"), overlap("data/a", "data/b")
        (True, False)
    """
    one, other = Path(os.path.realpath(a)), Path(os.path.realpath(b))
    return one == other or one in other.parents or other in one.parents


@contextlib.contextmanager
def as_file_problem(path: Path) -> Iterator[None]:
    """A full disk or a forbidden folder inside the block becomes a FileProblem about `path`."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL_DISK:
            raise _full(path) from error
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise FileProblem(path, f"it can't be written ({error.strerror})", ELSEWHERE) from error
        raise


@contextlib.contextmanager
def _writing(path: Path, temporary: Path) -> Iterator[None]:
    """Turns errors of writing `temporary` into errors about `path`."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL_DISK:
            raise _full(path) from error
        about = error.filename is None or str(error.filename).startswith(str(temporary))
        if about and isinstance(error, FileNotFoundError | PermissionError):
            raise FileProblem(path, f"it can't be written ({error.strerror})", ELSEWHERE) from error
        raise
    except Exception as error:
        # Libraries in Rust, safetensors among them, have classes of their own, and say the number in words.
        number = re.search(r"\(os error (\d+)\)", str(error))
        if number and int(number[1]) in FULL_DISK:
            raise _full(path) from error
        raise


def _full(path: Path) -> FileProblem:
    return FileProblem(path, "the disk is full", "free some space, or choose another output path")


@contextlib.contextmanager
def _beside(path: Path, folder: bool) -> Iterator[Path]:
    """A place in a hidden folder beside `path` to make it in; gone when the block ends.

    What a killed process has left there is taken over, so that it does not stay for ever.
    """
    check_writable(path, folder)
    make_folder(path.parent)
    try:
        room, handle = _claimed(path)
    except OSError as error:
        raise FileProblem(path, f"it can't be written ({error.strerror})", ELSEWHERE) from error
    try:
        with _writing(path, room):
            (room / NEW).mkdir()
            yield room / NEW / path.name
    finally:
        _leave(room, handle)


def _claimed(path: Path) -> tuple[Path, int | None]:
    """A hidden folder beside `path` that nobody else uses, and the handle that it is held by."""
    for number in range(ROOMS if POSIX else 0):
        room = path.with_name(hidden_name(path, f".nldf{number or ''}"))
        try:
            room.mkdir(0o700)
        except FileExistsError:
            if not _is_left(room, path):
                continue
        try:
            handle = open_held(room / HELD)
        except OSError:  # whoever had it has just ended; or it is another user's
            continue
        try:
            claim(handle)
            if is_there(room / HELD, handle):
                _clear(room, path)
                return room, handle
        except BlockingIOError:
            pass
        except OSError:  # no locks here: who lives can't be told
            _leave(room, handle)
            break
        os.close(handle)
    return Path(
        tempfile.mkdtemp(prefix=hidden_name(path, ".nldf.") if POSIX else ".nldf.", dir=path.parent)
    ), None


def _is_left(room: Path, path: Path) -> bool:
    """Whether a killed process may have made a folder for `path`: none with anything else in it."""
    try:
        if room.is_symlink() or {found.name for found in room.iterdir()} - {HELD, NEW, OLD}:
            return False
        held = (room / HELD).is_file() or not any(room.iterdir())
        return held and not ((room / OLD).is_dir() and {*os.listdir(room / OLD)} - {path.name})
    except OSError:
        return False


def _clear(room: Path, path: Path) -> None:
    """Removes what a killed process has left; what it had moved out of the way for `path` goes back."""
    old = room / OLD / path.name
    if old.exists() and not os.path.lexists(path):
        os.replace(old, path)
    for name in (NEW, OLD):
        if (room / name).exists():
            shutil.rmtree(room / name)


def _leave(room: Path, handle: int | None) -> None:
    """Removes a hidden folder; not if somebody else has come to use it meanwhile."""
    for name in (NEW, OLD):
        shutil.rmtree(room / name, ignore_errors=True)
    with contextlib.suppress(OSError):
        (room / HELD).unlink()
    if handle is not None:  # closed before the folder goes: a network's file system keeps open files in it
        os.close(handle)
    with contextlib.suppress(OSError):
        room.rmdir()


def _behind_links(path: str | Path) -> Path:
    """What a link stands for: an output that is kept elsewhere behind a link stays there."""
    return Path(os.path.realpath(path)) if os.path.islink(path) else Path(path)


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yields a path to write to, in a hidden folder beside `path`; it becomes `path` when the block succeeds.

    The name stays, since encoders choose their container by its ending. Whatever goes wrong inside (an
    exception, Ctrl-C, a full disk), what was written is removed and an older `path` stays as it was; what a
    killed process leaves is removed by the next one that writes the same `path`. A device or pipe
    (/dev/stdout, /dev/null) stays one, and gets the content in the end.

    Raises:
        FileProblem: the folder can't be made or written to, or the disk is full.
    """
    if is_device(path):
        held = tempfile.gettempdir()
        with (
            _writing(Path(path), Path(held)),
            tempfile.TemporaryDirectory(prefix="nldf-", dir=held) as folder,
        ):
            temporary = Path(folder) / Path(path).name
            yield temporary
            with open(temporary, "rb") as made, open(path, "wb") as out:
                shutil.copyfileobj(made, out)
        return
    path = _behind_links(path)
    with _beside(path, folder=False) as temporary:
        yield temporary
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)


@contextlib.contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yields a fresh folder that replaces `path` whole when the block succeeds; else as `atomic_path`.

    Raises:
        FileProblem: the folder can't be made or written to, or the disk is full.
    """
    path = _behind_links(path)
    with _beside(path, folder=True) as temporary:
        temporary.mkdir()
        yield temporary
        os.chmod(temporary, 0o755)
        if not path.exists():
            os.replace(temporary, path)
            return
        # Two renames: should the second fail or be interrupted, the first is taken back.
        old = temporary.parent.parent / OLD / path.name
        old.parent.mkdir()
        try:
            os.replace(path, old)
            os.replace(temporary, path)
        except BaseException:
            if not path.exists() and old.exists():
                os.replace(old, path)
            raise


def write_json(path: str | Path, value: Any) -> None:
    """Writes `value` as indented JSON, whole or not at all. NaN and infinity are refused."""
    text = json.dumps(value, indent=2, allow_nan=False) + "\n"
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_text(path: str | Path) -> str:
    """The text of a file in UTF-8, or in UTF-16 where a byte order mark says so; the mark is left off.

    Raises:
        ValueError: it is neither.
    """
    content = Path(path).read_bytes()
    encoding = "utf-16" if content[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"
    return content.decode(encoding)


def read_json(path: str | Path, limit: int = 64 << 20) -> Any:
    """Reads a JSON file of at most `limit` bytes.

    Raises:
        FileProblem: the file is missing, larger than `limit`, or not JSON.
    """
    path = Path(path)
    if not path.is_file():
        raise FileProblem(path, "there is no such file")
    if path.stat().st_size > limit:
        raise FileProblem(path, f"it has {path.stat().st_size} bytes, more than the {limit} expected")
    try:
        return json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise FileProblem(path, f"it is not valid JSON ({error})") from error


def printable(name: str) -> str:
    """A file's name as text that UTF-8 can hold: bytes of it that are none become replacement marks.

    Example:
        >>> printable("out\\udce9.mp4")
        'out\ufffd.mp4'
    """
    return os.fsencode(name).decode("utf-8", "replace")


def inside(folder: str | Path, name: str) -> Path:
    """The path of `name` in `folder`, refused when it would be outside of it.

    Raises:
        FileProblem: `name` is absolute, climbs out with `..`, or is a link that does.
    """
    root = Path(folder).resolve()
    target = (root / name).resolve()
    if root != target and root not in target.parents:
        raise FileProblem(Path(folder), f"it names the path {name!r}, which is outside the folder")
    return target


def sha256(path: str | Path) -> str:
    """The file's SHA-256 as a hexadecimal string, read in pieces."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
