"""Builds .cu sources with g++ against the emulator and runs their launchers on numpy arrays.

    library = builder.build(Source("csrc/ops/segments_cuda.cu", "ops/segments.h", ("segments",)), race=True)
    out = library.run("segments", {"sigma": sigma, ...}, {"colors": (rays, 4, 3), ...}, seed=3, rays=rays)

Compiled files are kept in tests/build_cache.py's folder, by the hash of everything that went into them.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

import build_cache

ROOT = Path(__file__).resolve().parents[2]
CSRC = ROOT / "csrc"
SIMT = Path(__file__).resolve().parent
RUNTIME = sorted((SIMT / "emulator").glob("*.cpp"))
INCLUDES = (CSRC, SIMT, SIMT / "emulator")
CXX = os.environ.get("CXX") or shutil.which("g++") or ""
FLAGS = (
    "-std=c++17", "-x", "c++", "-g1", "-fPIC", "-DNLDF_SIMT", "-fno-strict-aliasing", "-Wall", "-Wextra",
    "-Wno-unknown-pragmas", "-Icsrc", "-Itests/simt",
)  # fmt: skip
PRELUDE = "".join(
    f"#include <{name}>\n" for name in (
        "math.h", "algorithm", "cstddef", "cstdint", "cstring", "functional", "memory", "stdexcept", "string",
        "tuple", "type_traits", "vector",
    )
)  # fmt: skip
STATS = ("switches", "launches", "mma", "ldmatrix", "bank_conflicts", "wgmma", "copies", "checked")


class Fault(Exception):
    """What the runner found: the message names the thread, the seed and the source lines."""


@dataclass(frozen=True)
class Source:
    """A .cu file and the launchers to call in it.

    Args:
        path: of the source, from the repository's root.
        header: declares the argument structs and launchers, from csrc; empty where the source itself
            says SIMT_KERNEL.
        kernels: names; kernel `name` is launched by nldf::name_cuda.
        text: the source where it isn't the file's, for a mutation.
    """

    path: str
    header: str = ""
    kernels: tuple[str, ...] = ()
    text: str | None = None

    def unit(self) -> str:
        """The translation unit: the source under its own name and line numbers, then its launchers."""
        lines = [f'#line 1 "{Path(self.path).name}"', self.text or (ROOT / self.path).read_text()]
        lines.append(f'#line 1 "harness of {Path(self.path).name}"')
        if self.header:
            lines += [f'#include "{self.header}"', '#include "emulator/harness.h"']
            lines += [f"SIMT_KERNEL({name}, nldf::{name}_cuda);" for name in self.kernels]
        return "\n".join(lines) + "\n"


@cache
def _version() -> str:
    return subprocess.run([CXX, "--version"], capture_output=True, check=True, text=True).stdout


@cache
def _prelude(options: tuple[str, ...]) -> str:
    """The place of a header that includes standard ones, precompiled for these options.

    Reading them is half of what building a small kernel takes.
    """
    command = [CXX, *FLAGS, *options]
    key = build_cache.key(_version(), " ".join(command), PRELUDE)
    with build_cache.entry(f"prelude-{key}.h.gch") as target:
        header = target.with_suffix("")
        if not (target.exists() and header.exists()):
            header.write_text(PRELUDE)
            part = target.with_suffix(".part")
            subprocess.run(
                [*command, "-x", "c++-header", "-c", str(header), "-o", str(part)], check=True, cwd=ROOT
            )
            part.replace(target)
        header.touch()
    return str(header)


def _compile(text: str, name: str, *options: str) -> Path:
    """The object file of a source; what includes nothing new is compiled once."""
    command = [CXX, *FLAGS, *options]
    key = build_cache.key(_version(), " ".join(command), build_cache.closure(text, INCLUDES))
    with build_cache.entry(f"{name}-{key}.o") as target:
        if not target.exists():
            source, part = target.with_suffix(".cpp"), target.with_suffix(".part")
            source.write_text(text)
            done = subprocess.run(
                [*command, "-c", str(source), "-o", str(part)], capture_output=True, text=True, cwd=ROOT
            )
            source.unlink()
            if done.returncode:
                raise RuntimeError(f"{name}: {' '.join(command)}\n{done.stderr}")
            part.replace(target)
    return target


@dataclass(frozen=True)
class Builder:
    """Compiles and links, each thing once.

    Args:
        portable: switches threads by ucontext instead of by assembly.
    """

    portable: bool = False
    jobs: int = min(4, os.cpu_count() or 2)

    def runtime(self) -> list[Path]:
        """The runner's own object files."""

        def compiled(path: Path) -> Path:
            switch = ("-DSIMT_UCONTEXT",) if self.portable and path.stem == "fibre" else ()
            return _compile(path.read_text(), path.stem, "-O2", f"-I{path.parent.relative_to(ROOT)}", *switch)

        with ThreadPoolExecutor(self.jobs) as pool:
            return list(pool.map(compiled, RUNTIME))

    def build(self, source: Source, race: bool = False) -> Library:
        """The library of one source; with `race` every access to memory is checked.

        Raises:
            RuntimeError: it doesn't compile; the message is the compiler's.
        """
        options = ("-O1", "-fsanitize=thread") if race else ("-O1",)
        name = Path(source.path).stem + ("-race" if race else "")
        compiled = _compile(source.unit(), name, *options, "-include", _prelude(options))
        objects = [compiled, *self.runtime()]
        key = build_cache.key(_version(), *(path.name for path in objects))
        with build_cache.entry(f"{Path(source.path).stem}-{key}.so") as target:
            if not target.exists():
                part = target.with_suffix(".part")
                command = [CXX, "-shared", "-Wl,-Bsymbolic", *map(str, objects), "-ldl", "-o", str(part)]
                subprocess.run(command, check=True, capture_output=True)
                part.replace(target)
        return Library(target)

    def build_all(self, wanted: Sequence[tuple[Source, bool]]) -> list[Library]:
        """Several libraries, several compilers at a time."""
        self.runtime()
        with ThreadPoolExecutor(self.jobs) as pool:
            return list(pool.map(lambda pair: self.build(*pair), wanted))


class Library:
    """The launchers of one source."""

    def __init__(self, path: Path) -> None:
        self._c = ctypes.CDLL(str(path))
        self._c.simt_fields.restype = ctypes.c_char_p
        self._c.simt_buffer.restype = ctypes.c_void_p
        self._c.simt_buffer.argtypes = [ctypes.c_uint64, ctypes.c_char_p, ctypes.c_int]
        self._c.simt_set.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int64, ctypes.c_double]
        self.stats: dict[str, int] = {}

    def run(
        self,
        kernel: str,
        inputs: Mapping[str, np.ndarray | list[np.ndarray]],
        outputs: Mapping[str, tuple[int, ...] | np.ndarray | None],
        *,
        seed: int = 0,
        seconds: int = 60,
        dtype: type = np.float32,
        **numbers: float,
    ) -> dict[str, np.ndarray]:
        """Launches a kernel once.

        Args:
            kernel: its name.
            inputs: arrays it may read and must not write; a list is an array of their addresses. Fields of
                structs within its argument struct are named "struct.field".
            outputs: shapes of arrays it writes, of `dtype` (poisoned: what it doesn't write is NaN); an
                array instead is what it updates; None passes a null pointer.
            seed: of the schedule.
            seconds: of processor time, after which a run counts as hanging.
            numbers: the other fields of its argument struct.

        Raises:
            Fault: the runner found one.
            TypeError: the fields don't fit.
        """
        fields = self._c.simt_fields(kernel.encode())
        if fields is None:
            raise TypeError(f"{kernel}: no such kernel in this library")
        named = {*inputs, *outputs, *numbers}
        if (wanted := set(fields.decode().split(",")[:-1])) != named:
            raise TypeError(f"{kernel}: fields missing or unknown: {sorted(wanted ^ named)}")
        try:
            views = {}
            for name, given in inputs.items():
                if isinstance(given, list):
                    parts = [self._buffer(f"{name}[{i}]", array, 0) for i, array in enumerate(given)]
                    given = np.array([part.ctypes.data for part in parts], np.int64)
                views[name] = self._buffer(name, given, 0)
            results = {}
            for name, what in outputs.items():
                if isinstance(what, np.ndarray):
                    views[name] = results[name] = self._buffer(name, what, 2)
                elif what is not None:
                    views[name] = results[name] = self._buffer(name, np.empty(what, dtype), 1)
            for name in {*inputs, *outputs}:
                address = views[name].ctypes.data if name in views else 0
                self._c.simt_set(kernel.encode(), name.encode(), address, 0.0)
            for name, number in numbers.items():
                self._c.simt_set(kernel.encode(), name.encode(), int(number), float(number))
            message = ctypes.create_string_buffer(4096)
            stats = (ctypes.c_uint64 * len(STATS))()
            failed = self._c.simt_run(
                kernel.encode(), ctypes.c_uint64(seed), seconds, message, ctypes.c_uint64(4096), stats
            )
            self.stats = dict(zip(STATS, stats, strict=True))
            if failed:
                raise Fault(message.value.decode(errors="replace"))
            return {name: array.copy() for name, array in results.items()}
        finally:
            views, results = {}, {}
            self._c.simt_free_buffers()

    def _buffer(self, name: str, array: np.ndarray, use: int) -> np.ndarray:
        address = self._c.simt_buffer(array.nbytes, name.encode(), use)
        if not address:
            raise MemoryError(name)
        raw = (ctypes.c_uint8 * max(array.nbytes, 1)).from_address(address)
        view = np.frombuffer(raw, np.uint8)[: array.nbytes].view(array.dtype).reshape(array.shape)
        if use != 1:
            view[...] = array
        return view
