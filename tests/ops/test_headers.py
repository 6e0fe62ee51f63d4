"""csrc by itself: headers without torch and Python. What nvcc makes of the kernels: test_compile_gates.py."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CSRC = ROOT / "csrc"
HEADERS = sorted(str(path.relative_to(CSRC)) for path in CSRC.rglob("*.h"))
# What each folder may include; bind.cpp lies above them all.
BELOW = {"ops": {"ops", "core", "cuda"}, "core": {"core", "cuda"}, "cuda": {"cuda"}}
CXX = os.environ.get("CXX") or shutil.which("g++") or shutil.which("c++")
STRICT = ("-std=c++17", "-Wall", "-Wextra", "-Werror", f"-I{CSRC}")

needs_cxx = pytest.mark.skipif(CXX is None, reason="no C++ compiler on this machine (g++, c++ or CXX)")


def run(*command: str | Path) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def test_only_bind_knows_python():
    """No file of csrc but bind.cpp includes torch, Python or pybind11."""
    for path in CSRC.rglob("*"):
        if path.suffix in {".h", ".cpp", ".cu", ".cuh"} and path.name != "bind.cpp":
            found = re.findall(r'#include [<"](?:torch|ATen|c10|Python|pybind11).*', path.read_text())
            assert not found, f"{path.name}: {found}"


def test_folders_include_downwards():
    """ops include core and cuda, core includes cuda, cuda nothing; every include names its folder."""
    for folder, below in BELOW.items():
        for path in (CSRC / folder).iterdir():
            for include in re.findall(r'#include "([^"]+)"', path.read_text()):
                place = include.split("/")[0]
                assert place in below | {"emulator"}, f"{folder}/{path.name} includes {include}"
                assert place == "emulator" or (CSRC / include).is_file(), f"{folder}/{path.name}: {include}"


@needs_cxx
@pytest.mark.parametrize("header", HEADERS)
def test_header_stands_alone(header, tmp_path):
    """Every header compiles as the only include of a file, without warnings and without OpenMP."""
    source = tmp_path / "alone.cpp"
    source.write_text(f'#include "{header}"\n')
    run(CXX, *STRICT, "-Wno-unknown-pragmas", "-fsyntax-only", source)


@needs_cxx
def test_headers_hold_by_themselves(tmp_path):
    """The host test of the headers passes under the address and undefined-behaviour sanitisers."""
    binary = tmp_path / "test_headers"
    sanitize = ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    source = ROOT / "tests" / "cpp" / "test_headers.cpp"
    run(CXX, *STRICT, "-O1", "-fopenmp", *sanitize, source, "-o", binary)
    run(binary)


@needs_cxx
@pytest.mark.parametrize("without", [(), ("-U__SSE__", "-U__SSE2__")], ids=["own", "without SSE"])
def test_portable_kernels_hold_without_python(tmp_path, without):
    """Integer layers agree with plain loops, also by the code that processors without SSE run (aarch64)."""
    binary = tmp_path / "test_portable"
    names = ("core/isa", "ops/linear_cpu", "ops/linear_portable", "ops/resmlp_cpu", "ops/resmlp_portable")
    sources = [CSRC / f"{name}.cpp" for name in names]
    test = ROOT / "tests" / "cpp" / "test_portable.cpp"
    run(CXX, *STRICT, "-O1", "-fopenmp", *without, *sources, test, "-o", binary)
    run(binary)
