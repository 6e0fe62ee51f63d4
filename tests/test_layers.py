"""The house rules that a machine can check: who imports whom, how long files are, what has a docstring."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "nldf_engine"
MODULES = sorted(PACKAGE.rglob("*.py"))
NATIVE = sorted(path for path in (ROOT / "csrc").rglob("*") if path.suffix in {".h", ".cpp", ".cu", ".cuh"})

# A module may import its own part, parts of a lower rank, and its neighbours of the same rank.
RANKS = {
    "base": 0,
    "provenance": 1,
    "_C": 1,
    "ops": 2,
    "nn": 3,
    **dict.fromkeys(["models", "rendering", "audio"], 4),
    "avatar": 5,
    "clip": 5,
    "editing": 5,
    "streaming": 5,
    "profile": 5,
    **dict.fromkeys(["engine", "training", "evaluation", "data"], 6),
    "apps": 7,
    "__main__": 8,
}
FORBIDDEN_TO_ENGINE = ("nldf_engine.training", "nldf_engine.evaluation", "nldf_engine.prepare")
HEAVY = {
    *(
        "librosa",
        "transformers",
        "mediapipe",
        "av",
        "cv2",
        "matplotlib",
        "rich",
        "scipy",
        "skimage",
        "soundfile",
    ),
    *("c2pa", "cryptography"),
    *("tensorboard", "lpips", "torchvision", "numba", "sklearn", "tyro"),
}
LONGEST_FILE = 400


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def part_of(module: str) -> str:
    """`nldf_engine.prepare.poses` -> `data`; the package itself -> ``."""
    return [*module.split("."), ""][1]


def imports(path: Path, functions: bool) -> Iterator[tuple[int, str]]:
    """(line, module) of each import outside of `if TYPE_CHECKING`, with or without those in functions."""

    def visit(node: ast.AST) -> Iterator[tuple[int, str]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from ((child.lineno, alias.name) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, (
                    f"{path}:{child.lineno} imports relatively: imports are written out here"
                )
                yield child.lineno, child.module or ""
                # `from nldf_engine import ops`: the module is the alias.
                if (child.module or "").startswith("nldf_engine"):
                    yield from ((child.lineno, f"{child.module}.{alias.name}") for alias in child.names)
            else:
                function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
                types_only = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test)
                if not types_only and (functions or not function):
                    yield from visit(child)

    yield from visit(ast.parse(path.read_text(encoding="utf-8")))


def test_every_part_has_a_rank() -> None:
    """Every part of the package stands in the table of ranks, so that none escapes the rule."""
    parts = {part_of(name_of(path)) for path in MODULES} - {""}
    assert parts <= set(RANKS), f"give {parts - set(RANKS)} a rank"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_go_downwards(path: Path) -> None:
    """apps -> {engine, training, evaluation, data} -> {models, rendering, audio} -> nn -> ops -> _C."""
    module = name_of(path)
    if not part_of(module):
        return  # the package's own __init__ is its face: it may name anything, lazily
    for line, target in imports(path, functions=True):
        part = part_of(target)
        if not target.startswith("nldf_engine") or part not in RANKS:
            continue
        lower = RANKS[part] <= RANKS[part_of(module)]
        assert lower, f"{path}:{line} imports {target}: {part_of(module)} may not import {part}"
        if part_of(module) == "engine":
            assert not target.startswith(FORBIDDEN_TO_ENGINE), (
                f"{path}:{line}: the engine may not import {target}"
            )


def test_parts_do_not_import_in_a_circle() -> None:
    """Among the parts of the package no import leads back to where it started."""
    edges: dict[str, set[str]] = {}
    for path in MODULES:
        part = part_of(name_of(path))
        targets = {
            part_of(target)
            for _, target in imports(path, functions=True)
            if target.startswith("nldf_engine.")
        }
        edges.setdefault(part, set()).update(targets & set(RANKS) - {part})
    finished: set[str] = set()

    def walk(part: str, trail: list[str]) -> None:
        assert part not in trail, f"a circle of imports: {' -> '.join([*trail, part])}"
        if part not in finished:
            for target in edges.get(part, ()):
                walk(target, [*trail, part])
            finished.add(part)

    for part in edges:
        walk(part, [])


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_heavy_libraries_are_imported_where_they_are_used(path: Path) -> None:
    """No module imports a heavy library at its top; tyro may stand at the top of the command line alone."""
    allowed = {"tyro"} if part_of(name_of(path)) == "apps" else set()
    found = {
        f"line {line}: {target}"
        for line, target in imports(path, functions=False)
        if target.split(".")[0] in HEAVY - allowed
    }
    assert not found, f"{path} imports at its top: {sorted(found)}"


@pytest.mark.parametrize("path", [*MODULES, *NATIVE], ids=lambda path: str(path.relative_to(ROOT)))
def test_files_stay_short(path: Path) -> None:
    """No source file has more than 400 lines."""
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= LONGEST_FILE, f"{path} has {lines} lines: where is its seam?"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_everything_public_has_a_docstring(path: Path) -> None:
    """Every module, and every public class, function and method in it, has a docstring."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    missing = [] if ast.get_docstring(tree) or not tree.body else ["the module"]

    def visit(owner: ast.Module | ast.ClassDef) -> None:
        for node in owner.body:
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                continue
            overload = any("overload" in ast.dump(item) for item in node.decorator_list)
            if node.name.startswith("_") or overload:
                continue
            if not ast.get_docstring(node):
                missing.append(f"{node.name} (line {node.lineno})")
            if isinstance(node, ast.ClassDef):
                visit(node)

    visit(tree)
    assert not missing, f"{path} lacks docstrings: {', '.join(missing)}"


def test_kernels_know_nothing_of_torch_or_python() -> None:
    """csrc includes no header of torch; Python's and pybind11's come in bind.cpp alone."""
    assert NATIVE, "there are no kernels to check"
    for path in NATIVE:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r'#\s*include\s*[<"](torch|ATen|c10|caffe2)/', text), f"{path} includes torch"
        if path.name != "bind.cpp":
            assert not re.search(r'#\s*include\s*[<"](pybind11/|Python\.h)', text), f"{path} includes Python"


@pytest.mark.parametrize("statement", ["import nldf_engine", "from nldf_engine import Engine"])
def test_the_package_imports_light(statement: str) -> None:
    """Importing the package and its Engine takes no heavy library, and under 2 s after torch's own import."""
    script = (
        "import json, sys, time, numpy, torch\n"
        "start, before = time.perf_counter(), set(sys.modules)\n"
        f"{statement}\n"
        "spent = time.perf_counter() - start\n"
        "print(json.dumps([spent, sorted({name.split('.')[0] for name in set(sys.modules) - before})]))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    spent, modules = json.loads(done.stdout)
    assert not HEAVY & set(modules), f"{statement} imports {sorted(HEAVY & set(modules))}"
    assert spent < 2, f"{statement} takes {spent:.1f} s"
