"""Other systems: nothing needs what Windows lacks. It is taken away here, since there is no Windows here."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import nldf_engine

ROOT = Path(nldf_engine.__file__).resolve().parent
# Modules that Windows does not have, and where one is asked for, with another way beside it.
POSIX = {"fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "posix", "syslog"}
GUARDED = {"base/claims.py": {"fcntl"}, "base/memory.py": {"resource"}}
LACKING = {
    "os": {
        *("fork", "forkpty", "setsid", "getuid", "geteuid", "getgid", "getpgid", "killpg", "mkfifo", "nice"),
        *("O_CLOEXEC", "O_NOFOLLOW", "O_DIRECTORY", "O_NONBLOCK", "fchmod", "fchown", "chown", "statvfs"),
        *("sched_getaffinity", "sched_setaffinity", "sysconf", "uname", "pread", "wait", "register_at_fork"),
    },
    "signal": {
        *("SIGHUP", "SIGKILL", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGPIPE", "SIGCHLD", "SIGSTOP", "alarm"),
    },
}  # fmt: skip
SOURCES = sorted(ROOT.rglob("*.py"))


def lacking(path: Path, tree: ast.AST) -> list[str]:
    """What of the file Windows would not have."""
    found = []
    guarded = GUARDED.get(path.relative_to(ROOT).as_posix(), set())
    asked = {
        text.value
        for text in ast.walk(tree)
        if isinstance(text, ast.Constant) and isinstance(text.value, str)
    }
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        found += [f"import {name}" for name in names if name.split(".")[0] in POSIX - guarded]
        owner = node.value.id if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) else ""
        # What is asked for by hasattr or getattr may be used.
        if owner and node.attr in LACKING.get(owner, set()) - asked:  # type: ignore[attr-defined]
            found.append(f"{owner}.{node.attr} (line {node.lineno})")  # type: ignore[attr-defined]
    return found


def test_no_module_needs_what_windows_lacks() -> None:
    """Neither a module nor a name of os and signal, but where another way stands beside it."""
    assert len(SOURCES) > 200
    problems = {path: lacking(path, ast.parse(path.read_text(encoding="utf-8"))) for path in SOURCES}
    assert not {str(path): found for path, found in problems.items() if found}


def test_text_files_say_their_encoding() -> None:
    """Windows would take its own code page."""
    problems = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            given = {keyword.arg for keyword in node.keywords}
            positions = {"read_text": 1, "write_text": 2}
            own = called == "read_text" and isinstance(node.func, ast.Name)
            if (
                called in positions
                and not own
                and "encoding" not in given
                and len(node.args) < positions[called]
            ):
                problems.append(f"{path}:{node.lineno} {called}")
            if isinstance(node.func, ast.Name) and called == "open" and "encoding" not in given:
                mode = node.args[1] if len(node.args) > 1 else ast.Constant("r")
                texts = [
                    x.value
                    for x in ast.walk(mode)
                    if isinstance(x, ast.Constant) and isinstance(x.value, str)
                ]
                descriptor = "closefd" in given
                if not descriptor and not all("b" in text for text in texts):
                    problems.append(f"{path}:{node.lineno} open")
    assert not problems


# Takes away what Windows lacks, and brings its `msvcrt`, whose locks are a byte range's.
WINDOWS = f"""
import os, signal, sys, types
LACKING = {LACKING!r}
# The standard library and torch, which take this system for Linux, keep what they use.
import asyncio, multiprocessing, subprocess, tempfile, concurrent.futures
LACKING["os"] -= {{"uname", "sysconf", "register_at_fork"}}
import fcntl as _fcntl
for module, names in ((os, LACKING["os"]), (signal, LACKING["signal"])):
    for name in names & set(vars(module)):
        delattr(module, name)
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {POSIX!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
for name in {POSIX!r}:
    sys.modules.pop(name, None)
def locking(handle, mode, count):
    try:
        _fcntl.lockf(handle, _fcntl.LOCK_EX | _fcntl.LOCK_NB, count, 0, os.SEEK_CUR)
    except OSError as error:
        raise PermissionError(13, "Permission denied") from error
sys.modules["msvcrt"] = types.SimpleNamespace(locking=locking, LK_NBLCK=2)
"""


def on_windows(script: str, *arguments: str) -> subprocess.Popen[str]:
    """A process without what Windows lacks."""
    command = [sys.executable, "-c", WINDOWS + script, *arguments]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, text=True, **pipes)  # type: ignore[call-overload, no-any-return]


OWNER = """
from nldf_engine.base.errors import FileProblem
from nldf_engine.base.lock import owned
try:
    with owned(sys.argv[1]):
        print("in", flush=True)
        sys.stdin.read()
except FileProblem as problem:
    print(problem, flush=True)
"""


def test_locks_by_the_other_way(tmp_path: Path) -> None:
    """A second process is refused and told who writes; afterwards the output is free, and no file is left."""
    first = on_windows(OWNER, str(tmp_path / "out.mp4"))
    assert first.stdout is not None and first.stdout.readline() == "in\n"
    second, _ = on_windows(OWNER, str(tmp_path / "out.mp4")).communicate(timeout=240)
    assert f"process {first.pid} (-c" in second and "writes there" in second
    first.communicate(timeout=240)
    assert list(tmp_path.iterdir()) == []
    third, _ = on_windows(OWNER, str(tmp_path / "out.mp4")).communicate("", timeout=240)
    assert third == "in\n"


def test_every_module_of_the_core_imports_and_renders(tmp_path: Path) -> None:
    """The bundled avatar speaks, without anything that Windows lacks."""
    out = tmp_path / "demo.mp4"
    script = (
        "from nldf_engine.apps.cli.main import main\n"
        "sys.exit(main(['demo', '-o', sys.argv[1], '--text', 'mama']))"
    )
    process = on_windows(script, str(out))
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0 and out.stat().st_size > 1000, errors


def test_memory_where_nothing_says_it() -> None:
    """The peak is a number of MiB, or None where the system has none."""
    script = "from nldf_engine.base.memory import peak_memory_mb\nprint(peak_memory_mb())"
    assert on_windows(script).communicate(timeout=240)[0] == "None\n"
    from nldf_engine.base.memory import peak_memory_mb

    assert 1 < (peak_memory_mb() or 0) < 1 << 20


@pytest.mark.parametrize("name", ["CON", "a:b", "trailing.", "q?.mp4"])
def test_no_file_of_ours_has_a_name_that_windows_refuses(name: str) -> None:
    """The names that formats prescribe are plain; the check knows those that are not."""
    import re

    refused = re.compile(r'(?i)^(con|prn|aux|nul|com\d|lpt\d)(\..*)?$|[<>:"|?*\\]|[. ]$')
    assert refused.search(name)
    bundled = [path.relative_to(ROOT) for path in ROOT.rglob("*") if "__pycache__" not in path.parts]
    assert bundled and not [path for path in bundled for part in path.parts if refused.search(part)]
