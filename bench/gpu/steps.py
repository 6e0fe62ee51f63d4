"""The steps of bench/gpu.sh, in order, each under a time limit of its own and of the whole run.

Writes OUT/results.json (every step with its outcome and seconds, the environment, the 8192^3 matrix product
and every bench), OUT/bench.html (the benches as a page), OUT/log.txt (what the steps said),
OUT/golden.tar.gz and ncu's tables.

A step that fails or hangs doesn't keep the later ones from running. Steps that need what isn't here (a
device, compute-sanitizer, ncu) are recorded as "not run" with the reason, and are no failures; on a machine
with a device a test that was skipped there is one.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench.gpu.report import merge

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / "build" / "gpu"
STATE = WORK / "state"
# "cuda" is the parameter of tests on the device; the module test_resmlp_cuda.py holds others besides.
PYTEST = (
    sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "addopts=--import-mode=importlib",
    "-rs",
)  # fmt: skip
ON_THE_DEVICE = ("-k", "cuda and not without_the_kernel")
NCU = "segments:segments_kernel resmlp_cuda:resmlp planes:planes_kernel portrait:portrait_kernel"
FIRST = ("resmlp_cuda", "portrait", "planes")  # the benches that matter most, should the time run out


def part(name: str, *arguments: str | Path) -> list[str]:
    """The command of a part of `bench.gpu`."""
    return [sys.executable, "-m", "bench.gpu", name, *map(str, arguments)]


def find(tool: str) -> str | None:
    """A tool of the CUDA toolkit: on PATH, or in its usual place."""
    return shutil.which(tool) or shutil.which(tool, path="/usr/local/cuda/bin")


class Run:
    """A run of all steps: what was recorded, and how much time is left.

    Args:
        out: the folder of the results.
        limit: seconds for everything.
    """

    def __init__(self, out: Path, limit: int) -> None:
        self.out, self.limit = out, limit
        self.began = time.monotonic()
        self.failed = False
        self.output = ""  # of the last step

    def spent(self) -> int:
        """Seconds since the beginning."""
        return int(time.monotonic() - self.began)

    def record(self, name: str, outcome: str, seconds: int, detail: str) -> None:
        """Notes a step's outcome at once, so that a run that is stopped keeps what it knows."""
        entry = {"step": name, "outcome": outcome, "seconds": seconds, "detail": detail}
        with open(STATE / "steps.jsonl", "a") as file:
            file.write(json.dumps(entry) + "\n")
        line = f"{name:<34} {outcome:<8} {seconds:>4} s  {detail}"
        print(line, flush=True)
        self.log(line)

    def log(self, text: str) -> None:
        """Adds to log.txt."""
        with open(self.out / "log.txt", "a") as file:
            file.write(text + "\n")

    def skip(self, name: str, reason: str) -> None:
        """Notes a step that can't run here."""
        self.record(name, "not run", 0, reason)

    def step(self, name: str, most: int, command: Sequence[str]) -> bool:
        """Runs a command for at most `most` seconds, with all processes that it starts; whether it passed."""
        began, left = self.spent(), self.limit - self.spent()
        if left < 5:
            self.skip(name, f"the run's {self.limit} seconds are used up")
            return False
        most = min(most, left)
        self.log(f"\n=== {name}: {' '.join(command)}")
        with open(STATE / "output", "w+", errors="replace") as output:
            process = subprocess.Popen(
                command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
            try:
                why = f"exit code {process.wait(most)}"
            except subprocess.TimeoutExpired:
                stop(process)
                why = f"stopped after {most} s"
            output.seek(0)
            self.output = output.read()
        self.log(self.output)
        if why == "exit code 0":
            self.record(name, "passed", self.spent() - began, "")
            return True
        self.failed = True
        last = ([line for line in self.output.splitlines() if line.strip()] or [""])[-1]
        self.record(name, "failed", self.spent() - began, f"{why}: {last[:200]}")
        return False


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ends a process and what it started: politely, and after 5 s for good."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sign)
        except ProcessLookupError:
            break
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            continue
    process.wait()


def run_all(dry: bool) -> int:
    """Every step; the exit code: 0 if none failed, 1 otherwise.

    Args:
        dry: leave out what launches a kernel, whether there is a device or not.
    """
    out = Path(os.environ.get("OUT") or WORK / "out").resolve()
    shutil.rmtree(STATE, ignore_errors=True)
    for folder in (STATE, WORK / "site", out):
        folder.mkdir(parents=True, exist_ok=True)
    for old in [
        *(out / n for n in ("results.json", "bench.html", "golden.tar.gz", "log.txt")),
        *out.glob("ncu_*.txt"),
    ]:
        old.unlink(missing_ok=True)
    (STATE / "steps.jsonl").touch()
    run = Run(out, int(os.environ.get("GPU_SECONDS") or 400))
    nvcc = find("nvcc")
    absent = look_around(run, dry)
    built = build(run, nvcc, wanted=not absent)
    if not built and not absent:
        absent = "the kernels weren't built"
    check(run, built, absent)
    write_golden(run, nvcc, absent)
    measure(run, absent)
    sanitize(run, absent)
    profile(run, absent)
    merge(str(STATE), str(out / "results.json"))
    print(f"{out / 'results.json'}: {run.spent()} s in all")
    return 1 if run.failed else 0


def look_around(run: Run, dry: bool) -> str:
    """Installs the wheels that were brought and notes the environment; why there is no device, or ""."""
    wheels = sorted(map(str, (ROOT / "bench" / "wheels").glob("*.whl")))
    if wheels:
        install = (sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--upgrade")
        run.step("install bench/wheels", 60, [*install, "--target", str(WORK / "site"), *wheels])
    found = STATE / "environment.json"
    known = run.step("environment", 120, part("environment", found))
    if dry:
        return "dry run"
    return "" if known and json.loads(found.read_text())["device"] else "no CUDA device on this machine"


def build(run: Run, nvcc: str | None, wanted: bool) -> bool:
    """Builds the module and puts it into nldf_engine/; whether this checkout's is the one that is imported.

    Args:
        run: the run.
        nvcc: the compiler, where there is one.
        wanted: its absence is a failure.
    """
    if nvcc is None:
        run.skip("build", "no nvcc on PATH nor in /usr/local/cuda/bin")
        run.failed |= wanted
        return False
    folder = WORK / "cmake"
    configure = [
        "cmake", "-S", ".", "-B", str(folder), "-G", "Ninja", "-DNLDF_CUDA=ON", "-DNLDF_PTXAS_REPORT=ON",
        f"-DCMAKE_CUDA_COMPILER={nvcc}",
        f"-DCMAKE_CUDA_ARCHITECTURES={os.environ.get('GPU_ARCH') or '90a'}-real",
        f"-DPython_EXECUTABLE={sys.executable}",
    ]  # fmt: skip
    if not run.step("configure", 60, configure) or not run.step(
        "build", 300, ["cmake", "--build", str(folder)]
    ):
        return False
    for module in folder.glob("_C*.so"):
        target = ROOT / "nldf_engine" / module.name
        target.unlink(missing_ok=True)  # a process that has the old one open keeps it
        shutil.copy2(module, target)
    return run.step("import", 60, part("check-import", ROOT))


def check(run: Run, built: bool, absent: str) -> None:
    """The tests that run on the device: a process a file, because a fault ends the process it happens in."""
    if built and absent:
        command = [*PYTEST, "--collect-only", *ON_THE_DEVICE, "tests/ops"]
        run.step("checks can be collected", 120, command)
    for file in [
        *sorted((ROOT / "tests/ops").glob("test_*.py")),
        ROOT / "tests/rendering/test_portrait_pass.py",
    ]:
        if not re.search("device|cuda", file.read_text()):
            continue
        name = f"check {file.stem.removeprefix('test_')}"
        if absent:
            run.skip(name, absent)
        else:
            run.step(name, 90, part("pytest-must-run", *PYTEST, "--timeout", "60", *ON_THE_DEVICE, file))


def write_golden(run: Run, nvcc: str | None, absent: str) -> None:
    """Outputs of the instruction wrappers, against which the emulator is checked."""
    if nvcc is None:
        return run.skip("golden outputs", "no nvcc")
    program, folder = STATE / "golden.bin", STATE / "golden"
    folder.mkdir()
    sources = ["tests/simt/golden.cu", "tests/simt/micro.cu"]
    compile_it = [nvcc, "-std=c++17", "-arch=sm_90a", "-Icsrc", "-Itests/simt", *sources, "-o", str(program)]
    if not run.step("golden outputs: build", 90, compile_it):
        return None
    if absent:
        return run.skip("golden outputs", absent)
    if run.step("golden outputs", 30, [str(program), str(folder)]):
        with tarfile.open(run.out / "golden.tar.gz", "w:gz") as archive:
            archive.add(folder, "golden")
    return None


def measure(run: Run, absent: str) -> None:
    """Speed: the matrix product first, beside the suites, and again after them."""
    suites = {path.stem.removeprefix("bench_"): path for path in sorted((ROOT / "bench").glob("bench_*.py"))}
    ordered = sorted(suites, key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST))
    if absent:
        run.skip("matmul", absent)
    else:
        run.step("matmul", 60, part("matmul", STATE / "matmul_before.json"))
    for name in ordered:
        if not re.search(r"def test_.*device|cuda", suites[name].read_text()):
            run.skip(f"bench {name}", "it has no device to choose")
        elif absent:
            run.skip(f"bench {name}", absent)
        else:
            options = ["--benchmark-only", "--benchmark-disable-gc"]
            options += ["--benchmark-json", str(STATE / f"bench_{suites[name].stem}.json")]
            command = [*PYTEST, "--timeout", "50", "-k", "cuda", str(suites[name]), *options]
            run.step(f"bench {name}", 60, command)
    if absent:
        run.skip("matmul again", absent)
    else:
        run.step("matmul again", 60, part("matmul", STATE / "matmul_after.json"))


def sanitize(run: Run, absent: str) -> None:
    """The operations under compute-sanitizer."""
    sanitizer = find("compute-sanitizer")
    for tool in ("memcheck", "racecheck"):
        if absent or sanitizer is None:
            run.skip(f"sanitizer {tool}", absent or "compute-sanitizer is not on this machine")
            continue
        options = ["--tool", tool, "--error-exitcode", "9", "--kernel-regex", "kns=nldf"]
        run.step(f"sanitizer {tool}", 100, [sanitizer, *options, *part("small", "65")])


def profile(run: Run, absent: str) -> None:
    """ncu's tables of the kernels that GPU_NCU names."""
    ncu = find("ncu")
    for pair in (os.environ.get("GPU_NCU") or NCU).split():
        suite, _, kernel = pair.partition(":")
        file = ROOT / "bench" / f"bench_{suite}.py"
        if not file.is_file():
            run.skip(f"ncu {kernel}", f"bench/{file.name} is not in this checkout")
        elif absent or ncu is None:
            run.skip(f"ncu {kernel}", absent or "ncu is not on this machine")
        else:
            options = ["--clock-control", "none", "-k", f"regex:{kernel}", "-c", "1"]
            for section in ("SpeedOfLight", "Occupancy", "MemoryWorkloadAnalysis"):
                options += ["--section", section]
            command = [ncu, *options, *PYTEST, "--benchmark-disable", "-k", "cuda", str(file)]
            if run.step(f"ncu {kernel}", 80, command):
                (run.out / f"ncu_{kernel}.txt").write_text(run.output)
