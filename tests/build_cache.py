"""What tests compile, kept by the hash of all that went into it, for later tests, sessions and checkouts.

    key = build_cache.key(version, command, build_cache.closure(text, roots))
    with build_cache.entry(f"name-{key}.o") as target:
        if not target.exists():
            ...  # write beside it, then rename: what is there is whole

The folder is NLDF_BUILD_CACHE, or one of the user's own under the system's temporary folder.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import stat
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

DAYS = 7  # what was not used for so long is deleted


@cache
def folder() -> Path:
    """The cache's folder; what it held for more than `DAYS` without use is gone.

    Raises:
        PermissionError: it belongs to somebody else, or others may write to it: what it holds is executed.
    """
    given = os.environ.get("NLDF_BUILD_CACHE")
    path = Path(given) if given else Path(tempfile.gettempdir()) / f"nldf-build-cache-{os.getuid()}"
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise PermissionError(
            f"{path}: expected a folder that only its owner, user {os.getuid()}, may write to; "
            "remove it, or name another one by NLDF_BUILD_CACHE"
        )
    oldest = time.time() - DAYS * 86400
    for old in path.iterdir():
        try:
            if old.stat().st_mtime < oldest:
                old.unlink()
        except FileNotFoundError:  # another process was faster
            pass
    return path


def closure(text: str, roots: Sequence[Path]) -> bytes:
    """A source and every file of ours that it includes, directly or not, by name and content.

    Args:
        text: the source.
        roots: the folders that includes are written from.
    """
    found: dict[Path, str] = {}
    waiting = [(text, None)]
    while waiting:
        current, place = waiting.pop()
        for name in re.findall(r'^\s*#\s*include "([^"]+)"', current, re.M):
            for root in ([place] if place else []) + list(roots):
                path = (root / name).resolve()
                if path.is_file():
                    if path not in found:
                        found[path] = path.read_text()
                        waiting.append((found[path], path.parent))
                    break
    return "\0".join([text, *(f"{path.name}\0{found[path]}" for path in sorted(found))]).encode()


def key(*parts: str | bytes) -> str:
    """The hash of everything that a result depends on."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()[:24]


@contextmanager
def entry(name: str) -> Iterator[Path]:
    """The place of a result, held alone: whoever wants the same one waits, and then finds it.

    Args:
        name: of the file, with its key.
    """
    target = folder() / name
    with open(folder() / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if target.exists():
            target.touch()
        yield target
