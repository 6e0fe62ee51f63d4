"""The house rules that a machine can check: who imports whom, long functions, docstrings, light imports."""

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

# A module imports its own part, and parts of a lower rank. What trains or imports ranks with training.
RANKS = {
    "base": 0,
    "_C": 1,
    "ops": 2,
    **dict.fromkeys(["geometry", "media"], 3),
    **dict.fromkeys(["nn", "audio", "faces"], 4),
    "rendering": 5,
    "systems": 6,
    "avatar": 7,
    **dict.fromkeys(["engine", "datasets"], 8),
    **dict.fromkeys(["training", "systems.recipe", "systems.objective", "systems.importer"], 9),
    **dict.fromkeys(["evaluation", "prepare", "synthetic"], 10),
    "apps": 11,
    "__main__": 12,
}
# Longer functions have a reason: what is one thing is not cut for a number's sake.
LONGEST_FUNCTION = 60
LONG_FUNCTIONS = {}
HEAVY = {
    *(
        "librosa",
        "transformers",
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


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {name_of(path) for path in MODULES}


def part_of(module: str) -> str:
    """`nldf_engine.prepare.run` -> `prepare`; the package itself -> ``; what trains or imports apart."""
    parts = [*module.split("."), ""]
    if parts[1] == "systems" and {"recipe", "objective", "importer"} & set(parts[3:4]):
        return f"systems.{parts[3]}"
    return parts[1]


def imports(path: Path, functions: bool, types: bool = True) -> Iterator[tuple[int, str]]:
    """(line, module) of each import, with or without those in functions and those for type checking."""

    def visit(node: ast.AST) -> Iterator[tuple[int, str]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from ((child.lineno, alias.name) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, (
                    f"{path}:{child.lineno} imports relatively: imports are written out here"
                )
                # `from nldf_engine import ops`: the module is the alias.
                for alias in child.names:
                    inner = f"{child.module}.{alias.name}"
                    yield child.lineno, inner if inner in NAMES else child.module or ""
            else:
                function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
                types_only = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test)
                if (functions or not function) and (types or not types_only):
                    yield from visit(child)

    yield from visit(ast.parse(path.read_text(encoding="utf-8")))


def file_graph() -> dict[str, set[str]]:
    """Which file imports which, by module names; the package's own face is left out."""
    known = {name_of(path): path for path in MODULES}
    graph: dict[str, set[str]] = {}
    for module, path in known.items():
        targets = set()
        for _, target in imports(path, functions=True):
            while target and target not in known:
                target = target.rpartition(".")[0]
            if target not in ("", module, "nldf_engine"):
                targets.add(target)
        graph[module] = targets
    del graph["nldf_engine"]
    return graph


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """The sets of files that import each other (Tarjan's strongly connected components)."""
    found: list[list[str]] = []
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    open_: list[str] = []

    def visit(node: str) -> None:
        order[node] = low[node] = len(order)
        open_.append(node)
        for target in sorted(graph[node]):
            if target not in order:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in open_:
                low[node] = min(low[node], order[target])
        if low[node] == order[node]:
            place = open_.index(node)
            if len(open_) - place > 1:
                found.append(sorted(open_[place:]))
            del open_[place:]

    for node in graph:
        if node not in order:
            visit(node)
    return found


def arrows_upward() -> list[str]:
    """Imports against the rule, one line each."""
    found = []
    for path in MODULES:
        module = name_of(path)
        own = part_of(module)
        if not own:
            continue  # the package's own __init__ is its face: it may name anything, lazily
        for line, target in imports(path, functions=True):
            part = part_of(target)
            if not target.startswith("nldf_engine") or part not in RANKS or part == own:
                continue
            sideways = RANKS[part] == RANKS[own] and {part, own} == {"engine", "datasets"}
            if RANKS[part] > RANKS[own] or sideways:
                found.append(f"{path.relative_to(ROOT)}:{line} imports {target}")
    return sorted(set(found))


def private_across_files() -> list[str]:
    """Names with an underscore that one file takes from another, one line each."""
    found = []
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("nldf_engine"):
                names = [alias.name for alias in node.names if re.match(r"_(?!_|C$)", alias.name)]
                found += [f"{path.relative_to(ROOT)}:{node.lineno} imports {name}" for name in names]
    return found


def test_every_part_has_a_rank() -> None:
    """Every part of the package stands in the table of ranks, so that none escapes the rule."""
    parts = {part_of(name_of(path)) for path in MODULES} - {""}
    assert parts <= set(RANKS), f"give {parts - set(RANKS)} a rank"


def test_imports_go_downwards(capsys: pytest.CaptureFixture[str]) -> None:
    """apps -> {evaluation, prepare, synthetic} -> training -> {engine, datasets} -> avatar -> systems ..."""
    found = arrows_upward()
    with capsys.disabled():
        print(f"\nimports against the rule: {len(found)}")
    assert not found, "\n".join(found)


def test_no_files_import_in_a_circle(capsys: pytest.CaptureFixture[str]) -> None:
    """No import, for type checking either, leads back to the file where it started."""
    found = circles(file_graph())
    with capsys.disabled():
        print(f"\ncircles of files: {len(found)}")
    assert not found, "\n".join(" <-> ".join(circle) for circle in found)


def test_circles_are_found() -> None:
    """The search sees a circle of two and one of three, and none in a tree."""
    graph = {"a": {"b"}, "b": {"a", "c"}, "c": {"d"}, "d": {"e"}, "e": {"c"}, "f": {"a"}}
    assert sorted(circles(graph)) == [["a", "b"], ["c", "d", "e"]]
    assert circles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_no_private_name_crosses_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    """What begins with an underscore is used in its own file alone."""
    found = private_across_files()
    with capsys.disabled():
        print(f"\nprivate names across files: {len(found)}")
    assert not found, "\n".join(found)


def test_central_code_knows_no_system() -> None:
    """No file outside of a system's folder names one, or imports from its folder what is not registered."""
    names = re.compile(r"[\"'](nldf|nldf-fast|adnerf)[\"']")
    for path in MODULES:
        module = name_of(path)
        if part_of(module) in ("avatar", "engine", "rendering", "training", "datasets"):
            text = path.read_text(encoding="utf-8")
            lines = [line for line in text.splitlines() if names.search(line) and "isinstance" in line]
            assert not lines and not re.search(r"startswith\([\"'](nldf|adnerf)", text), f"{path}: {lines}"
            own = re.search(r"from nldf_engine\.systems\.(?!common|registry)\w+", text)
            assert not own, f"{path} imports a system: {own and own[0]}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_heavy_libraries_are_imported_where_they_are_used(path: Path) -> None:
    """No module imports a heavy library at its top; tyro may stand at the top of the command line alone."""
    allowed = {"tyro"} if part_of(name_of(path)) == "apps" else set()
    found = {
        f"line {line}: {target}"
        for line, target in imports(path, functions=False, types=False)
        if target.split(".")[0] in HEAVY - allowed
    }
    assert not found, f"{path} imports at its top: {sorted(found)}"


def test_functions_stay_short() -> None:
    """No function has more than 60 lines after its docstring but those in the table, each with its reason."""
    long = {}
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                start = node.body[0].end_lineno if ast.get_docstring(node) else node.lineno
                lines = (node.end_lineno or 0) - (start or 0)
                if lines > LONGEST_FUNCTION:
                    long[f"{name_of(path)}:{node.name}"] = lines
    assert set(long) == set(LONG_FUNCTIONS), f"find a seam or give a reason: {long}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_everything_public_has_a_docstring(path: Path) -> None:
    """Every module, and every public class, function and method in it, has a docstring."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    missing = [] if ast.get_docstring(tree) or not tree.body else ["the module"]

    def visit(owner: ast.Module | ast.ClassDef) -> None:
        for node in owner.body:
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                continue
            again = any(re.search("overload|setter", ast.dump(item)) for item in node.decorator_list)
            if node.name.startswith("_") or again:
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
    """Importing the package and its Engine takes no heavy library; `test_start.py` counts what it takes."""
    script = (
        "import json, sys, numpy, torch\n"
        "before = set(sys.modules)\n"
        f"{statement}\n"
        "print(json.dumps(sorted({name.split('.')[0] for name in set(sys.modules) - before})))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    modules = json.loads(done.stdout)
    assert not HEAVY & set(modules), f"{statement} imports {sorted(HEAVY & set(modules))}"
