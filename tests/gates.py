"""What nvcc makes of the kernels: registers, memory and warnings as ptxas reports them, and SASS counts.

    python tests/gates.py                 # every kernel for every architecture; the table goes to the screen
    python tests/gates.py -o docs/kernels-ptxas.md
    python tests/gates.py -o docs/kernels-ptxas.md lines_cuda.cu        # the rows of these sources alone

Exit code 1 where a kernel breaks its limits. Needs nvcc, but no GPU. Matrix instructions are counted where
cuobjdump and nvdisasm are found: on PATH or from the packages nvidia-cuda-cuobjdump and nvidia-cuda-nvdisasm.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import build_cache

ROOT = Path(__file__).resolve().parents[1]
CSRC = ROOT / "csrc"
SOURCES = sorted(path.name for path in (CSRC / "ops").glob("*_cuda.cu"))
ARCHITECTURES = ("80", "86", "89", "90a", "100", "120")
QUICK = ("80", "90a")  # what every test run compiles
PATIENCE = 3600  # seconds for a source: many times what it takes alone, for machines that others hold
COMMAND = (
    "nvcc", "-std=c++17", "-O3", "-Xptxas=-v", "-Icsrc",
    "-Xcompiler=-Wall,-Wextra,-Werror,-Wno-unknown-pragmas", "-c",
)  # fmt: skip
REGISTERS = 64  # 128 threads at 64 registers leave room for 8 blocks a multiprocessor and more


@dataclass(frozen=True)
class Limit:
    """What a kernel may use.

    Args:
        registers: a thread.
        sass: how often instructions occur in the kernel's code at least, by architecture, for example
            {"90a": {"HGMMA": 4}}; checked where cuobjdump is there.
        most: how often at most, in the same form.
        shared: bytes of static shared memory at most; None for any.
    """

    registers: int = REGISTERS
    sass: dict[str, dict[str, int]] = field(default_factory=dict)
    most: dict[str, dict[str, int]] = field(default_factory=dict)
    shared: int | None = None


# By source and by a part of the kernel's name; the first that fits holds. Everything else: Limit().
LIMITS: tuple[tuple[str, str, Limit], ...] = (
    # The gradient to points holds all corners' weights and slopes; 128 registers leave two blocks of 256.
    ("grid_cuda.cu", "grid_points_kernel", Limit(128)),
    # Ten sums, the factors and a point's slopes; 96 registers leave five blocks of 128.
    ("landmarks_cuda.cu", "landmarks_backward_kernel", Limit(96)),
    # Sums of 32 rays by 64 columns, and as many lookups under way as there are registers for.
    ("planes_cuda.cu", "", Limit(255, {arch: {"HMMA": 16} for arch in ARCHITECTURES})),
    # Sixteen sums and both operands of a stage that is on its way; 128 leave four blocks of 128 threads.
    ("lines_cuda.cu", "lines_kernel", Limit(128)),
    ("lines_cuda.cu", "lines_backward_kernel", Limit(128)),
    # Weights in shared memory (Lb1) are read there alone, by LDS, and never by loads of any kind of memory.
    (
        "portrait_cuda.cu",
        "Lb1",
        Limit(
            168, {a: {"HMMA": 32, "LDS": 64} for a in ARCHITECTURES}, {a: {"LD": 0} for a in ARCHITECTURES}
        ),
    ),
    ("portrait_cuda.cu", "", Limit(168, {arch: {"HMMA": 32} for arch in ARCHITECTURES})),
    # Two products of 16 x 8 each in the head, in a layer of the body and in the tail.
    ("resmlp_mma_cuda.cu", "Li16E", Limit(255, {arch: {"HMMA": 6, "LDSM": 2} for arch in ARCHITECTURES})),
    ("resmlp_mma_cuda.cu", "", Limit(255, {arch: {"HMMA": 8, "LDSM": 2} for arch in ARCHITECTURES})),
    # It starts with 168 (65536 over 384 threads); setmaxnreg then moves registers from the loading to the
    # computing warpgroups. 36 products of 64x256x16 (32 a block, 4 in the head) and 16 in the tail. CCTL
    # empties the L1 cache: the cluster's own barriers do, a wait for a stage must not. Static shared memory
    # would lie below the dynamic one, whose swizzled tiles begin at multiples of 1024 bytes.
    (
        "resmlp_wgmma_cuda.cu",
        "",
        Limit(168, {"90a": {"HGMMA": 52, "UBLKCP": 1}}, {"90a": {"CCTL": 4}}, shared=0),
    ),
)


@dataclass(frozen=True)
class Usage:
    """What ptxas says of one kernel on one architecture; bytes, and registers a thread."""

    source: str
    kernel: str
    arch: str
    registers: int
    shared: int
    stack: int
    spills: int
    sass: tuple[tuple[str, int], ...] = ()

    @property
    def limit(self) -> Limit:
        """The line of LIMITS that holds for this kernel."""
        for source, part, limit in LIMITS:
            if source == self.source and part in self.kernel:
                return limit
        return Limit()

    def faults(self) -> list[str]:
        """What breaks the limits, one sentence each."""
        name = f"{self.source}: {self.kernel} on sm_{self.arch}"
        found = []
        if self.spills:
            found.append(f"{name} spills {self.spills} bytes")
        if self.stack:
            found.append(f"{name} uses {self.stack} bytes of stack")
        if self.registers > self.limit.registers:
            found.append(f"{name} uses {self.registers} registers, more than {self.limit.registers}")
        if self.limit.shared is not None and self.shared > self.limit.shared:
            found.append(
                f"{name} has {self.shared} bytes of static shared memory, more than {self.limit.shared}"
            )
        seen = dict(self.sass)
        for op, fewest in self.limit.sass.get(self.arch, {}).items():
            if seen and seen.get(op, 0) < fewest:
                found.append(f"{name} has {seen.get(op, 0)} {op} instructions, fewer than {fewest}")
        for op, most in self.limit.most.get(self.arch, {}).items():
            if seen.get(op, 0) > most:
                found.append(f"{name} has {seen[op]} {op} instructions, more than {most}")
        return found


def kernel_name(mangled: str) -> str:
    """`_ZN4nldf12_GLOBAL__N_112beams_kernelIfEEv...` -> `beams_kernel<f>`: the last name of the nest.

    What can't be read is given back as it is.
    """
    if not mangled.startswith("_ZN"):
        return mangled
    rest, name = mangled[3:], mangled
    while digits := re.match(r"\d+", rest):
        length = int(digits[0])
        name, rest = rest[digits.end() :][:length], rest[digits.end() + length :]
    templated = re.match(r"I(.*?)EE", rest)
    return f"{name}<{re.sub(r'NS_[0-9]+', '', templated[1])}>" if templated else name


def parse_ptxas(source: str, report: str) -> list[Usage]:
    """The kernels in a report of `nvcc -Xptxas=-v`.

    Raises:
        ValueError: a kernel has no figures, so the format has changed.
    """
    found = []
    for part in re.split(r"(?=ptxas info\s*: Compiling entry function)", report)[1:]:
        entry = re.match(r"ptxas info\s*: Compiling entry function '(\S+)' for 'sm_(\w+)'", part)
        memory = re.search(
            r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", part
        )
        registers = re.search(r"Used (\d+) registers", part)
        if not entry or not memory or not registers:
            raise ValueError(f"{source}: ptxas reports this kernel in a form that isn't known:\n{part}")
        shared = re.search(r"(\d+)(?:\+\d+)? bytes smem", part)
        stack, stores, loads = (int(figure) for figure in memory.groups())
        found.append(
            Usage(
                source, entry[1], entry[2], int(registers[1]), int(shared[1]) if shared else 0,
                stack, stores + loads,
            )
        )  # fmt: skip
    return found


def complaints(report: str) -> list[str]:
    """Lines of a compiler's output that no kernel may cause: warnings, and ptxas' C75xx and C76xx (serialised
    matrix instructions, which it reports as information)."""
    return [line for line in report.splitlines() if re.search(r"\bwarning\b|C7[56]\d\d", line, re.I)]


def find_tools() -> dict[str, str]:
    """cuobjdump and nvdisasm by name; empty unless both are there."""
    folders = os.environ.get("PATH", "").split(os.pathsep)
    spec = importlib.util.find_spec("nvidia")
    for place in (spec.submodule_search_locations or []) if spec else []:
        folders += [str(path) for path in Path(place).glob("cu*/bin")]
        folders += [str(path) for path in Path(place).glob("cuda_*/bin")]
    tools = {}
    for name in ("cuobjdump", "nvdisasm"):
        path = shutil.which(name, path=os.pathsep.join(folders))
        if path is None:
            return {}
        tools[name] = path
    return tools


def count_sass(binary: Path, tools: dict[str, str]) -> dict[tuple[str, str], Counter[str]]:
    """(kernel, architecture) -> how often each instruction, without its suffixes, occurs in its code."""
    environment = os.environ | {
        "PATH": f"{Path(tools['nvdisasm']).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    }
    done = subprocess.run(
        [tools["cuobjdump"], "--dump-sass", str(binary)],
        capture_output=True, text=True, check=True, timeout=300, env=environment,
    )  # fmt: skip
    counts: dict[tuple[str, str], Counter[str]] = {}
    arch, current = "", Counter[str]()
    for line in done.stdout.splitlines():
        if place := re.search(r"arch = sm_(\w+)", line):
            arch = place[1]
        elif place := re.search(r"Function : (\S+)", line):
            current = counts.setdefault((place[1], arch), Counter())
        elif place := re.match(r"\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?\w+\s+)?([A-Z][A-Z0-9_]*)", line):
            current[place[1]] += 1
    return counts


@cache
def nvcc_version() -> str:
    """What nvcc says of itself."""
    return subprocess.run(["nvcc", "--version"], capture_output=True, text=True, check=True).stdout


MATRIX = ("HMMA", "IMMA", "HGMMA", "IGMMA", "LDSM", "UTMALDG", "UBLKCP", "LDGSTS")


def compile_kernels(
    source: str, architectures: Iterable[str], ptx: bool = False
) -> tuple[list[Usage], list[str]]:
    """What one source's kernels use, and the compiler's complaints.

    A source is compiled once: what the compiler said of it is kept by tests/build_cache.py.

    Args:
        source: a name in csrc/ops.
        architectures: machine code for each of these.
        ptx: also emit PTX for compute_80, as releases do, and count every source's instructions.

    Raises:
        RuntimeError: it doesn't compile, and the message is the compiler's; or not in `PATIENCE` seconds.
    """
    targets = [f"-gencode=arch=compute_{a},code=sm_{a}" for a in architectures]
    if ptx:
        targets.append("-gencode=arch=compute_80,code=compute_80")
    command = [*COMMAND, *targets, f"csrc/ops/{source}"]
    tools = find_tools() if any(limit.sass for name, _, limit in LIMITS if name == source) or ptx else {}
    text = (CSRC / "ops" / source).read_text()
    key = build_cache.key(nvcc_version(), " ".join([*command, *tools]), build_cache.closure(text, (CSRC,)))
    with build_cache.entry(f"{source}-{key}.json") as kept:
        if not kept.exists():
            report, sass = run_compiler(source, command, tools)
            part = kept.with_suffix(".part")
            part.write_text(json.dumps({"report": report, "sass": [[*k, v] for k, v in sass.items()]}))
            part.replace(kept)
        found = json.loads(kept.read_text())
    sass = {(kernel, arch): counts for kernel, arch, counts in found["sass"]}
    named = [
        replace(
            usage,
            kernel=kernel_name(usage.kernel),
            sass=tuple(sorted(sass.get((usage.kernel, usage.arch), {}).items())),
        )
        for usage in parse_ptxas(source, found["report"])
    ]
    return named, complaints(found["report"])


def run_compiler(
    source: str, command: list[str], tools: dict[str, str]
) -> tuple[str, dict[tuple[str, str], Counter[str]]]:
    """What nvcc says of a source, and the instructions of its kernels where there are `tools`.

    Raises:
        RuntimeError: as `compile_kernels` says.
    """
    with tempfile.TemporaryDirectory() as folder:
        binary = Path(folder) / f"{source}.o"
        try:
            done = subprocess.run(
                [*command, "-o", str(binary)], capture_output=True, text=True, timeout=PATIENCE, cwd=ROOT
            )
        except subprocess.TimeoutExpired as error:
            raise RuntimeError(
                f"{source}: nvcc was not done after {PATIENCE} s; alone on a machine it takes a few minutes: "
                "try again once nothing else holds this one"
            ) from error
        report = done.stdout + done.stderr
        if done.returncode:
            raise RuntimeError(f"{source}: nvcc failed\n{report}")
        return report, count_sass(binary, tools) if tools else {}


def kept_rows(page: Path, renewed: Iterable[str]) -> list[str]:
    """The rows of a page that are of other sources than those that are renewed."""
    found = page.read_text().splitlines() if page.exists() else []
    return [row for row in found if re.match(r"\| \w+\.cu \|", row) and row.split()[1] not in renewed]


def table(usages: list[Usage], others: Iterable[str] = ()) -> str:
    """A row a kernel and architecture, as Markdown, in the order of the sources; and rows of `others`."""
    head = ["| source | kernel | sm | registers | static shared, bytes | matrix and copy instructions |"]
    head.append("| --- | --- | --- | ---: | ---: | --- |")
    rows = list(others)
    for u in usages:
        matrix = ", ".join(f"{op} {count}" for op, count in u.sass if op in MATRIX)
        matrix = matrix or ("-" if u.sass else "not counted: no cuobjdump")
        rows.append(f"| {u.source} | {u.kernel} | {u.arch} | {u.registers} | {u.shared} | {matrix} |")
    return "\n".join([*head, *sorted(rows, key=lambda row: row.split()[1])])


def main() -> int:
    """Compiles everything, prints the table; 1 where a kernel breaks its limits."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, help="write the table into this file as well")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("sources", nargs="*", choices=[*SOURCES, []], help="by default all")
    args = parser.parse_args()
    if shutil.which("nvcc") is None:
        print("gates: no nvcc on PATH", file=sys.stderr)
        return 1
    usages, faults = [], []
    start = time.monotonic()
    sources = args.sources or SOURCES
    with ThreadPoolExecutor(args.jobs) as pool:
        results = pool.map(lambda source: compile_kernels(source, ARCHITECTURES, ptx=True), sources)
        for done, (source, (named, complained)) in enumerate(zip(sources, results, strict=True), 1):
            seconds = time.monotonic() - start
            print(f"gates: {done} of {len(sources)}, {source}, {seconds:.0f} s", file=sys.stderr, flush=True)
            usages += named
            faults += complained + [fault for usage in named for fault in usage.faults()]
    text = table(usages, kept_rows(args.output, sources) if args.output else [])
    print(text)
    if args.output:
        release = (re.search(r"release [\d.]+, V[\d.]+", nvcc_version()) or [""])[0]
        args.output.write_text(
            f"# What nvcc makes of the kernels\n\nWritten by `make gates` with nvcc {release}. "
            + ("\n\n".join(faults) or "No kernel spills, uses stack or draws a warning.")
            + f"\n\n{text}\n"
        )
    for fault in faults:
        print(f"FAULT: {fault}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
