"""The file of a batch: jobs as YAML, JSON or CSV, each a command of `nldf` with its flags by name.

    jobs:
      - render: {avatar: avatars/me, audio: hello.wav, output: out/hello.mp4, size: 256}
      - name: bob
        train: {preset: nldf-fast, dataset: data/bob, output: avatars/bob, set: {rays: 4096}}

A row of CSV has the columns `command`, `name` and those of flags; what is empty is not given.
"""

from __future__ import annotations

import contextlib
import csv
import importlib
import io
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

from tyro.conf import Positional

from nldf_engine.apps.cli.command import Command, UsageError
from nldf_engine.apps.cli.libraries import remedy
from nldf_engine.apps.cli.main import COMMANDS, parse
from nldf_engine.base.errors import FileProblem, MissingBackend, NldfError
from nldf_engine.base.files import overlap, read_text
from nldf_engine.base.json import WORDS, nested
from nldf_engine.base.progress import track
from nldf_engine.base.results import NAME

LARGEST_FILE = 16 << 20
MOST_JOBS = 100_000
# Problems that one message names.
NAMED_PROBLEMS = 5
SEVERAL = ";"


@dataclass(frozen=True)
class Given:
    """A job as its file has it.

    Args:
        place: where in the file, for messages.
        command: of `nldf`.
        name: or "" for one made of the output.
        values: flags and positions by name.
    """

    place: str
    command: str
    name: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Job:
    """A checked job.

    Args:
        name: a plain file name, the job's own.
        command: of `nldf`.
        flags: as on its command line; paths are relative to `folder`.
        folder: the job file's.
        reads: files and folders that it reads.
        writes: files and folders that it writes.
        needs: names of the jobs that write what it reads.
        made: the command, as parsed.
    """

    name: str
    command: str
    flags: tuple[str, ...]
    folder: Path
    reads: tuple[Path, ...]
    writes: tuple[Path, ...]
    needs: tuple[str, ...]
    made: Command


def batched() -> list[str]:
    """The commands that may be jobs."""
    return [name for name in COMMANDS if _kind(name).batched]


def read_jobs(path: Path, root: Path | None = None) -> list[Job]:
    """The jobs of a file, all of them checked: flags, inputs, outputs, and who needs whom.

    Args:
        path: .yaml, .yml, .json or .csv.
        root: the folder that no path of a job may leave; the file's own where None.

    Raises:
        FileProblem: the file can't be read, or jobs in it can't be run; the message names the first ones.
        MissingBackend: YAML, and the library for it is not there.
    """
    path = path.absolute()
    folder = path.parent
    problems: list[str] = []
    found: list[tuple[Given, Job]] = []
    with _at(folder):
        for given in track(_given(path), "check jobs", unit="job"):
            try:
                found.append((given, _job(given, folder, root or folder)))
            except (NldfError, ValueError, TypeError) as error:
                problems.append(f"{given.place}: {error}")
        if not problems:
            jobs, problems = _connected(found)
            for (given, _), job in zip(found, jobs, strict=True):
                problems += _unready(given, job)
    if problems:
        raise _refused(path, problems, len(found) + len(problems))
    return jobs


def _refused(path: Path, problems: list[str], jobs: int) -> FileProblem:
    named = "; ".join(text.rstrip(".") for text in problems[:NAMED_PROBLEMS])
    more = f"; and {len(problems) - NAMED_PROBLEMS} more" if len(problems) > NAMED_PROBLEMS else ""
    return FileProblem(path, f"no job was started, for some can't be run: {named}{more}", "correct them")


@contextlib.contextmanager
def _at(folder: Path) -> Iterator[None]:
    """Inside, relative paths are those of a folder."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


# Reading.


def _given(path: Path) -> list[Given]:
    readers = {".csv": _rows, ".json": _json, ".yaml": _yaml, ".yml": _yaml}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise FileProblem(path, f"jobs are read from {', '.join(readers)}", "give it one of these endings")
    if not path.is_file():
        raise FileProblem(path, "there is no such file")
    if path.stat().st_size > LARGEST_FILE:
        raise FileProblem(path, f"it has {path.stat().st_size} bytes, more than the {LARGEST_FILE} expected")
    try:
        jobs = reader(path, read_text(path))
    except (ValueError, RecursionError, csv.Error) as error:
        raise FileProblem(path, f"it can't be read as {path.suffix[1:]} ({error})") from error
    if not 1 <= len(jobs) <= MOST_JOBS:
        raise FileProblem(path, f"it has {len(jobs)} jobs, and 1 to {MOST_JOBS} are expected")
    return jobs


def _rows(path: Path, text: str) -> list[Given]:
    rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    names = rows.fieldnames or []
    if "command" not in names or len(set(names)) < len(names):
        raise FileProblem(path, f"its first line has the columns {', '.join(names)}; one must be command, "
                          "and none may come twice")  # fmt: skip
    found = []
    for row in rows:
        place = f"line {rows.line_num}"
        if None in row or None in row.values():
            raise FileProblem(path, f"{place} has another number of cells than the first")
        values = {key: text for key, text in row.items() if text.strip()}
        command, name = values.pop("command", ""), values.pop("name", "")
        found.append(Given(place, command, name, values))
    return found


def _json(path: Path, text: str) -> list[Given]:
    return _listed(path, json.loads(text))


def _yaml(path: Path, text: str) -> list[Given]:
    try:
        import yaml
    except ImportError:
        raise MissingBackend("jobs in YAML need the library PyYAML", remedy("yaml")) from None
    try:
        return _listed(path, yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error


def _listed(path: Path, value: Any) -> list[Given]:
    """Jobs of what YAML or JSON hold: a list, or a mapping with `jobs` and `defaults`."""
    whole = value if isinstance(value, dict) else {"jobs": value}
    jobs, defaults = whole.get("jobs"), whole.get("defaults", {})
    if set(whole) - {"jobs", "defaults"} or not isinstance(jobs, list) or not isinstance(defaults, dict):
        raise FileProblem(path, "expected a list of jobs, or an object with the keys jobs and defaults")
    found = []
    for number, job in enumerate(jobs, 1):
        commands = [key for key in job if key != "name"] if isinstance(job, dict) else []
        if len(commands) != 1 or not isinstance(job[commands[0]], dict):
            raise FileProblem(path, f"job {number}: expected one command with its flags by name, such as "
                              "render: {avatar: ..., audio: ..., output: ...}, and at most a name beside "
                              "it")  # fmt: skip
        command, name = str(commands[0]), job.get("name", "")
        usual = defaults.get(command, {})
        if not isinstance(usual, dict) or not isinstance(name, str):
            raise FileProblem(path, f"job {number}: expected defaults.{command} as flags by name, and a name "
                              "as text")  # fmt: skip
        place = f"job {number}" + f" ({name})" * bool(name)
        found.append(Given(place, command, name, {**usual, **job[command]}))
    return found


# Checking.


def _job(given: Given, folder: Path, root: Path) -> Job:
    if given.command not in COMMANDS or not _kind(given.command).batched:
        raise ValueError(f"{given.command!r} is no command for a batch; there are {', '.join(batched())}")
    kind = _kind(given.command)
    flags = _flags(kind, given.values)
    for word in flags:
        _check_inside(word, folder, root)
    try:
        made = parse(kind, given.command, flags)
        made.check_paths()
    except UsageError as error:
        raise ValueError(f"{given.command}: {error}") from error
    except SystemExit:
        raise ValueError(f"{given.command}: expected flags of a job, got one that asks for help") from None
    writes = made.outputs()
    if not writes:
        raise ValueError(f"{given.command}: expected an output of its own (output: PATH)")
    name = given.name or re.sub(r"[^A-Za-z0-9_.-]+", "-", os.path.relpath(writes[0])).strip("-.")
    if NAME.fullmatch(name) is None or len(name) > 100:
        raise ValueError(f"name: expected up to 100 letters, digits, '_', '-' and '.', got {name!r}")
    return Job(name, given.command, tuple(flags), folder, tuple(made.inputs()), tuple(writes), (), made)


def _kind(name: str) -> type[Command]:
    module = importlib.import_module(f"nldf_engine.apps.cli.commands.{name}")
    kind: type[Command] = getattr(module, name.capitalize())
    return kind


def _flags(kind: type[Command], values: Mapping[str, Any]) -> list[str]:
    """Flags by name as words of a command line: positions in their order, then `--name=value`."""
    hints = _hints(kind)
    positions = [name for name, hint in hints.items() if Positional in getattr(hint, "__metadata__", ())]
    named = {str(key).replace("-", "_").strip(): value for key, value in values.items()}
    words: list[str] = []
    for name in positions:
        for text in _texts(name, named.pop(name, None), name in positions and "tuple" in str(hints[name])):
            if text.startswith("-"):
                raise ValueError(f"{name}: expected no flag, got {text!r}")
            words.append(text)
    for name, value in named.items():
        switch = value
        if isinstance(value, str) and bool in (hints.get(name), *get_args(hints.get(name))[:1]):
            switch = WORDS.get(value.lower(), value)
        if isinstance(switch, bool):
            words += [f"--{name.replace('_', '-')}"] * switch
            continue
        words += [f"--{name.replace('_', '-')}={text}" for text in _texts(name, value, name == "set")]
    return words


def _hints(kind: type) -> dict[str, Any]:
    """The types of a command's flags by name, those of groups of flags among them."""
    hints = get_type_hints(kind, include_extras=True)
    groups = [inner for hint in hints.values() if (inner := nested(hint)) is not None]
    return {name: hint for each in groups for name, hint in _hints(each).items()} | hints


def _texts(name: str, value: Any, several: bool) -> list[str]:
    """A value as the words that stand for it on a command line."""
    if value is None or value == "":
        return []
    if isinstance(value, dict) and several:
        on = {True: "on", False: "off"}
        parts: list[Any] = [f"{key}={on[v] if isinstance(v, bool) else v}" for key, v in value.items()]
    elif isinstance(value, list) and several:
        parts = value
    elif isinstance(value, str) and several:
        parts = [part.strip() for part in value.split(SEVERAL)]
    else:
        parts = [value]
    if not all(isinstance(part, str | int | float) and not isinstance(part, bool) for part in parts):
        raise ValueError(f"{name}: expected text or a number, got {value!r}")
    texts = [str(part) for part in parts]
    if any(ord(letter) < 32 for text in texts for letter in text):
        raise ValueError(f"{name}: expected one line of text without control characters, got {value!r}")
    return texts


def _check_inside(word: str, folder: Path, root: Path) -> None:
    """Checks that no path in a word of a command line leads out of the root.

    Raises:
        ValueError: one does.
    """
    value = word.partition("=")[2] if word.startswith("--") else word
    home = root.resolve()
    for text in {value, value.partition("=")[2], value.partition(":")[2]} - {""}:
        target = Path(os.path.realpath(folder / text))
        if target != home and home not in target.parents:
            raise ValueError(
                f"{text!r} leads out of {home}; keep what jobs read and write in there, or name a folder "
                "that holds all of it (--root DIR)"
            )


def _connected(found: list[tuple[Given, Job]]) -> tuple[list[Job], list[str]]:
    """The jobs, each with those that it needs; and what speaks against them together."""
    problems: list[str] = []
    writers: dict[Path, str] = {}
    names: set[str] = set()
    for given, job in found:
        if job.name in names:
            problems.append(f"{given.place}: there are two jobs named {job.name!r}")
        names.add(job.name)
        for path in job.writes:
            target = Path(os.path.realpath(path))
            other = writers.setdefault(target, job.name)
            if other != job.name:
                problems.append(f"{given.place}: {path} is the output of {other!r} too")
    for target, name in writers.items():
        above = next((writers[p] for p in target.parents if p in writers and writers[p] != name), None)
        if above is not None:
            problems.append(f"{name!r} writes into the output of {above!r} ({target})")
    jobs = []
    for _, job in found:
        needs = {
            name for path in job.reads for name in _writers_of(Path(os.path.realpath(path)), writers)
        } - {job.name}  # fmt: skip
        jobs.append(Job(**{**vars(job), "needs": tuple(sorted(needs))}))
    if not problems and (circle := _circle(jobs)):
        problems.append(f"{', '.join(circle)} wait for each other's outputs")
    return jobs, problems


def _writers_of(path: Path, writers: Mapping[Path, str]) -> Iterator[str]:
    """Which jobs write a path, a folder above it, or what is in it."""
    yield from (writers[part] for part in (path, *path.parents) if part in writers)
    if path.is_dir():
        yield from (name for target, name in writers.items() if overlap(target, path))


def _circle(jobs: list[Job]) -> list[str]:
    """Names of jobs that never become ready, in the order of the file; none where all do."""
    left = {job.name: set(job.needs) for job in jobs}
    while ready := [name for name, needs in left.items() if not needs & set(left)]:
        for name in ready:
            del left[name]
    return list(left)


def _unready(given: Given, job: Job) -> list[str]:
    """What keeps a job from starting as things are; nothing is known of one that waits for others."""
    if job.needs:
        return []
    try:
        for path in job.made.named_files():
            if not path.exists():
                raise FileProblem(path, "there is no such file or folder", "check the spelling of the path")
        job.made.check_ready()
    except (NldfError, ValueError, TypeError) as error:
        return [f"{given.place}: {job.command}: {error}"]
    return []
