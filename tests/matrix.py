"""Tries the package with other interpreters and libraries, and says what ran and what is only declared.

    python tests/matrix.py                                   # each interpreter here, oldest and newest numpy
    python tests/matrix.py --cell "python3.11 torch==2.13.0 numpy==1.26.4 opencv-python==4.11.0.86"
    python tests/matrix.py --cell "/usr/bin/python3 system"  # torch as the system's own package
    python tests/matrix.py --cell "python3.12 no-torch"      # kernels and what needs no torch
    python tests/matrix.py --results a.json b.json --page    # the table of docs/compatibility.md

A cell is an interpreter and what pip installs before the package: requirements, `system` for an environment
that sees the system's packages, or `no-torch` where none can be had. It is made in a temporary folder, and
the package is built there, or taken from `--wheel`. Then run, in turn: the compiled module, `nldf doctor`,
`nldf demo`, and tests. `--json` keeps the results; `--results` joins several such files. Versions of Python
that are declared and that no result covers stand in the table as such. Exit code 1 where a cell failed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "compatibility.md"
MARKS = ("<!-- table -->", "<!-- end of table -->")
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")  # as pyproject.toml's requires-python
NUMPYS = ("numpy<2", "numpy>=2")
FIRST_WITHOUT_NUMPY_1 = (3, 13)
TOOLS = ("pytest>=8", "pytest-timeout>=2", "hypothesis>=6", "opencv-python>=4.8", "scipy>=1.10")
WITHOUT_TORCH = ("safetensors", "av", "tyro", "soxr", "msgspec", "cryptography")
# Quick ones of every floor: kernels against float64, files, the engine, training's losses, the start.
TESTS = (
    "tests/base", "tests/media", "tests/ops/test_segments.py", "tests/ops/test_beams.py",
    "tests/ops/test_resmlp.py", "tests/ops/test_grid.py", "tests/ops/test_convnet.py",
    "tests/engine/test_engine.py", "tests/faces", "tests/avatar", "tests/test_start.py",
)  # fmt: skip
TESTS_WITHOUT_TORCH = (
    "tests/base/test_requirements.py",
    "tests/base/test_lock.py",
    "tests/media/test_pictures.py",
)
PROBE = """
import importlib.util, json, platform, sys
spec = importlib.util.spec_from_file_location
from pathlib import Path
import importlib.metadata as metadata
def version(name):
    try: return metadata.version(name)
    except metadata.PackageNotFoundError: return None
try: import torch; torch_version = torch.__version__
except ImportError: torch_version = None
from nldf_engine import _C
import numpy
print(json.dumps(dict(python=platform.python_version(), machine=platform.machine(), torch=torch_version,
    numpy=numpy.__version__, opencv=version("opencv-python") or version("opencv"), av=version("av"),
    isa=_C.cpu_isa())))
"""


@dataclass
class Cell:
    """What was tried, and what came of it.

    Args:
        asked: the cell as given.
        versions: of Python and libraries, the machine and the kernels' instruction set.
        ran: what ran, in turn, each with how it ended ("ok", "12 passed, 1 skipped" or what failed).
        failed: whether something did not work.
        seconds: all together.
    """

    asked: str
    versions: dict[str, str | None] = field(default_factory=dict)
    ran: dict[str, str] = field(default_factory=dict)
    failed: bool = False
    seconds: float = 0.0


class Failure(Exception):
    """A step that did not work; its message is the end of what was printed."""


def run(command: list[str], cwd: Path, minutes: float) -> str:
    """What the command prints, both streams.

    Raises:
        Failure: it ended with another code than 0, or took longer.
    """
    environment = {**os.environ, "NLDF_CONFIG": str(cwd / "config"), "PYTHONNOUSERSITE": "1"}
    environment.pop("PYTHONPATH", None)
    try:
        done = subprocess.run(
            command, cwd=cwd, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            timeout=60 * minutes, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise Failure(f"took more than {minutes:g} minutes") from None
    if done.returncode:
        raise Failure("\n".join(done.stdout.strip().splitlines()[-12:]))
    return done.stdout


def try_cell(asked: str, wheel: Path | None, tests: list[str], minutes: float) -> Cell:
    """Makes the cell's environment and runs everything in it, until a step fails."""
    interpreter, *wanted = asked.split()
    system, torch = "system" in wanted, "no-torch" not in wanted
    requirements = [item for item in wanted if item not in ("system", "no-torch")]
    cell, start = Cell(asked), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="nldf-matrix-") as name:
        folder = Path(name)
        python = str(folder / "venv" / "bin" / "python")
        pip = [python, "-m", "pip", "install", "--quiet"]
        source = [str(wheel or ROOT)]
        extras = [item for item in TOOLS if not any(item.split(">")[0] in given for given in requirements)]

        def install() -> str:
            run([interpreter, "-m", "venv", *["--system-site-packages"] * system, "venv"], folder, 5)
            if requirements:  # torch comes first, so that no other package chooses its version
                run([*pip, *requirements], folder, minutes)
            # What was asked for is said each time: nothing that comes later may replace it.
            if torch:
                run([*pip, *source, *requirements], folder, minutes)
            else:
                run([*pip, *WITHOUT_TORCH, *(requirements or ["numpy"])], folder, minutes)
                run([*pip, "--no-deps", *source], folder, minutes)
            run([*pip, *extras, *requirements], folder, minutes)
            return "ok"

        def probe() -> str:
            cell.versions = json.loads(run([python, "-c", PROBE], folder, 5).strip().splitlines()[-1])
            return "ok"

        def command(*arguments: str) -> str:
            run([python, "-m", "nldf_engine", *arguments], folder, minutes)
            return "ok"

        def pytest() -> str:
            chosen = tests or list(TESTS if torch else TESTS_WITHOUT_TORCH)
            shutil.copytree(ROOT / "tests", folder / "tests", ignore=shutil.ignore_patterns("__pycache__"))
            shutil.copy(ROOT / "pyproject.toml", folder)
            # The fixtures that all tests share import torch.
            arguments = ["-q", "-p", "no:cacheprovider", "-x", *["--noconftest"] * (not torch), *chosen]
            said = run([python, "-m", "pytest", *arguments], folder, minutes).strip().splitlines()[-1]
            return re.sub(r" in .*|=", "", said).strip()

        steps = {"install": install, "kernels": probe}
        if torch:
            steps |= {"doctor": lambda: command("doctor"), "demo": lambda: command("demo", "-o", "demo.mp4")}
        for step, work in (steps | {"tests": pytest}).items():
            print(f"{asked}: {step} ...", file=sys.stderr, flush=True)
            try:
                cell.ran[step] = work()
            except Failure as failure:
                cell.ran[step], cell.failed = f"failed: {failure}", True
                print(failure, file=sys.stderr)
                break
    cell.seconds = round(time.monotonic() - start, 1)
    return cell


def cells_here() -> list[str]:
    """Each supported interpreter on PATH with the oldest and the newest numpy, and the usual torch."""
    found = []
    torch = os.environ.get("TORCH", "torch")
    for version in PYTHONS:
        path = shutil.which(f"python{version}")  # a shim of pyenv is there for versions that are switched off
        if path and subprocess.run([path, "-c", ""], capture_output=True).returncode == 0:
            old = tuple(map(int, version.split("."))) < FIRST_WITHOUT_NUMPY_1
            found += [f"{path} {torch} {numpy}" for numpy in NUMPYS[0 if old else 1 :]]
    return found


def short(version: str | None) -> str:
    """The release of a version, a dash where there is none."""
    return re.sub(r"[+].*", "", version) if version else "–"


def table(cells: list[Cell]) -> str:
    """The results as a Markdown table, then what is declared and was not tried."""
    head = ("Python", "numpy", "torch", "OpenCV", "machine, kernels", "what ran")
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    known = sorted(
        cells, key=lambda cell: [int(x) for x in re.findall(r"\d+", str(cell.versions.get("python")))]
    )
    for cell in known:
        v = cell.versions
        ran = "; ".join(
            step if how == "ok" else f"{step}: {' '.join(how.split())[:160]}"
            for step, how in cell.ran.items()
        )
        machine = f"{v.get('machine', '?')}, {v.get('isa', '?')}"
        row = (
            short(v.get("python")),
            short(v.get("numpy")),
            short(v.get("torch")),
            short(v.get("opencv")),
            machine,
            ran,
        )
        lines.append("| " + " | ".join(row) + " |")
    whole = {
        ".".join(str(cell.versions["python"]).split(".")[:2])
        for cell in cells
        if not cell.failed and cell.versions.get("torch")
    }
    lines += [
        f"| {version} | – | – | – | – | declared, not run with torch here |"
        for version in PYTHONS
        if version not in whole
    ]
    return "\n".join(lines)


def page(cells: list[Cell]) -> str:
    """The page of the documentation, with the table anew."""
    text = PAGE.read_text(encoding="utf-8")
    begin, end = (text.index(mark) for mark in MARKS)
    return f"{text[: begin + len(MARKS[0])]}\n\n{table(cells)}\n\n{text[end:]}"


def main() -> int:
    """Runs the cells or reads their results; prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cell", action="append", default=[], help="an interpreter and what it gets")
    parser.add_argument(
        "--wheel", type=Path, help="install this instead of building; else the source is built"
    )
    parser.add_argument("--tests", nargs="*", default=[], help="tests to run instead of the quick ones")
    parser.add_argument("--minutes", type=float, default=30, help="patience for a step (default: 30)")
    parser.add_argument("--json", type=Path, help="write the results here")
    parser.add_argument("--results", nargs="*", type=Path, default=[], help="read results, and run nothing")
    parser.add_argument("--page", action="store_true", help=f"put the table into {PAGE.relative_to(ROOT)}")
    options = parser.parse_args()
    if options.results:
        cells = [
            Cell(**item) for path in options.results for item in json.loads(path.read_text(encoding="utf-8"))
        ]
    else:
        wheel = options.wheel.resolve() if options.wheel else None
        cells = []
        for asked in options.cell or cells_here():
            cells.append(try_cell(asked, wheel, options.tests, options.minutes))
            if options.json:
                options.json.write_text(
                    json.dumps([asdict(cell) for cell in cells], indent=2) + "\n", encoding="utf-8"
                )
    if not cells:
        print(f"no Python {PYTHONS[0]} to {PYTHONS[-1]} on PATH: name one with --cell", file=sys.stderr)
        return 1
    print(f"{platform.platform()}\n\n{table(cells)}")
    if options.page:
        PAGE.write_text(page(cells), encoding="utf-8")
    return int(any(cell.failed for cell in cells))


if __name__ == "__main__":
    sys.exit(main())
