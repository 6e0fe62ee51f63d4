"""The steps of bench/gpu.sh, ordered by what they are worth, each under a time limit of its own and of the
whole run.

Writes OUT/results.json (every step with its outcome and seconds, the environment, the 8192^3 matrix product
and every row), OUT/rows.jsonl (the rows alone, each written as soon as it was measured, so that a run that is
stopped keeps what it has), OUT/bench.html (the benches as a page), OUT/log.txt (what the steps said),
OUT/golden.tar.gz and ncu's tables.

A step that fails or hangs doesn't keep the later ones from running, but for those that need what it checked:
a kernel whose ladder was red is not timed. Steps that need what isn't here (a device, compute-sanitizer, ncu,
a dataset) are recorded as "not run" with the reason, and are no failures; on a machine with a device a test
that was skipped there is one.
"""

from __future__ import annotations

import importlib.util
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.gpu.report import merge

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / "build" / "gpu"
STATE = WORK / "state"
SECONDS = 400
PYTEST = (
    sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "addopts=--import-mode=importlib",
    "-rs",
)  # fmt: skip
NCU = "resmlp_cuda:resmlp portrait:portrait_kernel"
# Suite, expected seconds, seconds after which it is stopped, steps that must not have failed.
BENCHES = (
    ("resmlp_cuda", 35, 60, ("ladder",)), ("portrait", 10, 40, ()), ("planes", 7, 40, ()),
    ("lines", 6, 40, ("training ladder",)),
)  # fmt: skip
DEVICE, KERNELS = "no CUDA device on this machine", "the kernels weren't built"


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
        limit: seconds for everything. With more than `SECONDS`, for a machine of few cores, each step's own
            limit grows as much.
    """

    def __init__(self, out: Path, limit: int) -> None:
        self.out, self.limit = out, limit
        self.slack = max(1.0, limit / SECONDS)
        self.began = time.monotonic()
        self.failed = False
        self.outcomes: dict[str, str] = {}
        self.rows = out / "rows.jsonl"
        self.output = ""  # of the last step

    def spent(self) -> int:
        """Seconds since the beginning."""
        return int(time.monotonic() - self.began)

    def record(self, name: str, outcome: str, seconds: int, detail: str, cpu: float = 0.0) -> None:
        """Notes a step's outcome at once, so that a run that is stopped keeps what it knows."""
        self.outcomes[name] = outcome
        entry = {
            "step": name, "outcome": outcome, "seconds": seconds, "cpu_seconds": round(cpu, 1),
            "detail": detail,
        }  # fmt: skip
        with open(STATE / "steps.jsonl", "a") as file:
            file.write(json.dumps(entry) + "\n")
        line = f"{name:<34} {outcome:<8} {seconds:>4} s  {cpu:>6.0f} s of CPU  {detail}"
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
        began, left, cpu = self.spent(), self.limit - self.spent(), cpu_seconds()
        if left < 5:
            self.skip(name, f"the run's {self.limit} seconds are used up")
            return False
        most = min(int(most * self.slack), left)
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
            self.record(name, "passed", self.spent() - began, "", cpu_seconds() - cpu)
            return True
        self.failed = True
        last = ([line for line in self.output.splitlines() if line.strip()] or [""])[-1]
        self.record(name, "failed", self.spent() - began, f"{why}: {last[:200]}", cpu_seconds() - cpu)
        return False


def cpu_seconds() -> float:
    """Seconds of CPU time of all processes that were started and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


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


@dataclass(frozen=True)
class Step:
    """A step of the plan.

    Args:
        name: of the step.
        expected: seconds that it is thought to take on a machine with an H200 and 16 cores; not measured
            there yet.
        most: seconds after which it is stopped.
        run: what it does: given the run and the step, it records the outcome.
        device: it needs a CUDA device and the kernels.
        needs: steps that must not have failed.
        rehearsal: what of it a dry run does on the CPU, if anything: as few calls as show that its command,
            files and packages are right.
    """

    name: str
    expected: int
    most: int
    run: Callable[[Run, Step], None]
    device: bool = True
    needs: tuple[str, ...] = ()
    rehearsal: Callable[[Run, Step], None] | None = None


def commands(*command: str) -> Callable[[Run, Step], None]:
    """A step that is one command."""
    return lambda run, step: run.step(step.name, step.most, command) and None


def wheels(run: Run, step: Step) -> None:
    """Installs the wheels that were brought."""
    found = sorted(map(str, (ROOT / "bench" / "wheels").glob("*.whl")))
    if not found:
        return run.skip(step.name, "bench/wheels holds none")
    install = (sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--upgrade")
    run.step(step.name, step.most, [*install, "--target", str(WORK / "site"), *found])
    return None


def configure(run: Run, step: Step) -> None:
    """Configures a build whose barriers stop a kernel that hangs."""
    nvcc = find("nvcc")
    if nvcc is None:
        return run.skip(step.name, "no nvcc on PATH nor in /usr/local/cuda/bin")
    run.step(step.name, step.most, [
        "cmake", "-S", ".", "-B", str(WORK / "cmake"), "-G", "Ninja", "-DNLDF_CUDA=ON",
        "-DNLDF_PTXAS_REPORT=ON",
        "-DNLDF_TRAP_ON_HANG=ON", f"-DCMAKE_CUDA_COMPILER={nvcc}",
        f"-DCMAKE_CUDA_ARCHITECTURES={os.environ.get('GPU_ARCH') or '90a'}-real",
        f"-DPython_EXECUTABLE={sys.executable}",
    ])  # fmt: skip
    return None


def build(run: Run, step: Step) -> None:
    """Builds the module, and the program of the golden outputs beside it, and puts the module into
    nldf_engine/."""
    folder = WORK / "cmake"
    if not (folder / "build.ninja").exists():
        return run.skip(step.name, "it wasn't configured")
    # The golden program is one process; the module leaves it a core.
    golden = golden_command()
    beside = None
    if golden:
        with open(STATE / "golden.log", "w") as log:
            beside = subprocess.Popen(
                golden, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
    try:
        if not run.step(step.name, step.most, ["cmake", "--build", str(folder)]):
            return None
        if beside is not None and beside.wait(max(1, min(60, run.limit - run.spent()))):
            run.log((STATE / "golden.log").read_text())
    except subprocess.TimeoutExpired:
        pass
    finally:
        if beside is not None and beside.poll() is None:
            stop(beside)
    for module in folder.glob("_C*.so"):
        target = ROOT / "nldf_engine" / module.name
        target.unlink(missing_ok=True)  # a process that has the old one open keeps it
        shutil.copy2(module, target)
    run.step("import", 60, part("check-import", ROOT))
    return None


def golden_command() -> list[str] | None:
    """What compiles the instruction wrappers' program; None without a compiler."""
    nvcc = find("nvcc")
    if nvcc is None:
        return None
    sources = ["tests/simt/golden.cu", "tests/simt/micro.cu"]
    target = ["-gencode=arch=compute_90a,code=sm_90a", "-Icsrc", "-Itests/simt"]
    return [nvcc, "-std=c++17", *target, *sources, "-o", str(STATE / "golden.bin")]


def golden(run: Run, step: Step) -> None:
    """Outputs of the instruction wrappers, against which the emulator is checked."""
    program, folder = STATE / "golden.bin", STATE / "golden"
    if not program.exists():
        return run.skip(step.name, "its program wasn't built; see log.txt")
    folder.mkdir(exist_ok=True)
    if run.step(step.name, step.most, [str(program), str(folder)]):
        with tarfile.open(run.out / "golden.tar.gz", "w:gz") as archive:
            archive.add(folder, "golden")
    return None


def checks(run: Run, step: Step) -> None:
    """The tests that are marked for a device, in one run; file by file once more where a fault ended that."""
    parallel = ["-n", "4"] if importlib.util.find_spec("xdist") else []
    marked = [*PYTEST, "--timeout", "60", "-m", "device"]
    folders = [str(ROOT / "tests/ops"), str(ROOT / "tests/rendering")]
    if run.step(step.name, step.most, part("pytest-must-run", *marked, *parallel, *folders)):
        return
    if not any(
        word in run.output for word in ("crashed", "CUDA error", "Segmentation fault", "INTERNALERROR")
    ):
        return
    for file in sorted((ROOT / "tests/ops").glob("test_*.py")):
        if "device" in file.read_text():
            name = f"check {file.stem.removeprefix('test_')}"
            run.step(name, 40, part("pytest-must-run", *marked, file))


def bench(suite: str, *more: str) -> Callable[[Run, Step], None]:
    """A suite of the benches on the device; every row goes to rows.jsonl as soon as it is known."""
    command = [
        *PYTEST, "--timeout", "50", "-k", "cuda", str(ROOT / "bench" / f"bench_{suite}.py"),
        "--benchmark-only",
        "--benchmark-disable-gc", "--pace", "quick", *more,
    ]  # fmt: skip
    return commands(*command)


def train(preset: str, *budget: str) -> Callable[[Run, Step], None]:
    """Trains a preset on the dataset that GPU_DATASET names, for so much as `budget` says."""

    def begin(run: Run, step: Step) -> None:
        dataset = os.environ.get("GPU_DATASET") or str(ROOT / "bench" / "dataset")
        if not (Path(dataset) / "dataset.json").is_file():
            return run.skip(step.name, f"no prepared dataset at {dataset}; GPU_DATASET names one")
        folder = STATE / "avatars" / step.name.replace(" ", "_").replace(",", "")
        rows = STATE / "rehearsed.jsonl" if "device=cpu" in budget else run.rows
        run.step(step.name, step.most, part("train", rows, dataset, folder, preset, *budget))
        return None

    return begin


def sanitize(tool: str) -> Callable[[Run, Step], None]:
    """The operations under compute-sanitizer."""

    def check(run: Run, step: Step) -> None:
        sanitizer = find("compute-sanitizer")
        if sanitizer is None:
            return run.skip(step.name, "compute-sanitizer is not on this machine")
        options = ["--tool", tool, "--error-exitcode", "9", "--kernel-regex", "kns=nldf"]
        run.step(step.name, step.most, [sanitizer, *options, *part("small", "300")])
        return None

    return check


def profile(suite: str, kernel: str) -> Callable[[Run, Step], None]:
    """ncu's tables of a kernel, and the bench that launches it."""

    def look(run: Run, step: Step) -> None:
        ncu, file = find("ncu"), ROOT / "bench" / f"bench_{suite}.py"
        if ncu is None or not file.is_file():
            return run.skip(step.name, "ncu is not on this machine" if ncu is None else f"no {file.name}")
        options = ["--clock-control", "none", "-k", f"regex:{kernel}", "-c", "1"]
        for section in ("SpeedOfLight", "Occupancy", "MemoryWorkloadAnalysis"):
            options += ["--section", section]
        command = [ncu, *options, *PYTEST, "--benchmark-disable", "-k", "cuda", str(file)]
        if run.step(step.name, step.most, command):
            (run.out / f"ncu_{kernel}.txt").write_text(run.output)
        return None

    return look


def plan(out: Path) -> list[Step]:
    """All steps, in the order of what they are worth."""
    rows, before = out / "rows.jsonl", STATE / "matmul_before.json"
    few = ("steps=3", "speech_steps=3", "size=32", "rays=64", "device=cpu")

    def frames(avatar: str) -> Callable[[Run, Step], None]:
        return commands(*part("frames", STATE / "rehearsed.jsonl", before, avatar, "cpu", "0.01", "32"))

    profiled = [pair.partition(":")[::2] for pair in (os.environ.get("GPU_NCU") or NCU).split()]
    return [
        Step("size of what travels", 1, 30, commands(*part("fits", ROOT)), device=False),
        Step("install bench/wheels", 6, 60, wheels, device=False),
        Step("environment", 8, 120, commands(*part("environment", STATE / "environment.json")), device=False),
        Step("configure", 8, 60, configure, device=False),
        Step("build", 45, 300, build, device=False),
        Step("golden outputs", 3, 30, golden),
        Step("ladder", 30, 60, commands(*part("ladder", rows))),
        Step("training ladder", 12, 40, commands(*part("training-ladder", rows))),
        Step("checks", 45, 120, checks),
        Step("matmul", 8, 40, commands(*part("matmul", before))),
        Step(
            "frames nldf-fast", 20, 60, commands(*part("frames", rows, before, "nldf-fast")),
            rehearsal=frames("nldf-fast"),
        ),
        Step(
            "frames nldf-88", 22, 60, commands(*part("frames", rows, before, "nldf-88")), needs=("ladder",),
            rehearsal=frames("nldf-88"),
        ),
        *(
            Step(
                f"bench {suite}", expected, most, bench(suite), needs=needs,
                rehearsal=bench(suite, "--collect-only"),
            )
            for suite, expected, most, needs in BENCHES
        ),
        Step(
            "train nldf-fast", 54, 90, train("nldf-fast", "minutes=0.5"), needs=("training ladder",),
            rehearsal=train("nldf-fast", *few),
        ),
        Step(
            "train nldf-fast without graphs", 14, 40,
            train("nldf-fast", "steps=300", "graphs=off", "speech_steps=20"), needs=("training ladder",),
        ),
        Step("matmul again", 8, 30, commands(*part("matmul", STATE / "matmul_after.json"))),
        Step(
            "train nldf-88, 100 steps", 18, 40, train("nldf-88", "steps=100"), needs=("ladder",),
            rehearsal=train("nldf-88", *few),
        ),
        Step(
            "sanitizer memcheck", 20, 60, sanitize("memcheck"), needs=("ladder",),
            rehearsal=commands(*part("small", "9", "cpu")),
        ),
        *(Step(f"ncu {kernel}", 10, 40, profile(suite, kernel)) for suite, kernel in profiled),
        # Where time is left:
        Step(
            "train nldf-88 in fp32", 0, 40, train("nldf-88", "steps=100", "matmul=fp32"), needs=("ladder",)
        ),
        Step("sanitizer racecheck", 0, 60, sanitize("racecheck"), needs=("ladder",)),
    ]  # fmt: skip


def show_plan(steps: Sequence[Step], run: Run) -> None:
    """Prints when each step is expected to begin, and where the run's own limits are."""
    begins = 0
    print("expected on an H200 with 16 cores; not measured there yet:")
    for step in steps:
        most = step.most * run.slack
        print(f"  {begins:>4} s  {step.name:<28} {step.expected:>3} s, stopped after {most:.0f} s")
        begins += step.expected
    print(f"  {begins:>4} s  the end; nothing begins after {run.limit} s")


def run_all(dry: bool) -> int:
    """Every step; the exit code: 0 if none failed, 1 otherwise.

    Args:
        dry: leave out what launches a kernel, whether there is a device or not, rehearse what can be on the
            CPU, and print the plan.
    """
    out = Path(os.environ.get("OUT") or WORK / "out").resolve()
    shutil.rmtree(STATE, ignore_errors=True)
    for folder in (STATE, WORK / "site", out):
        folder.mkdir(parents=True, exist_ok=True)
    names = ("results.json", "rows.jsonl", "bench.html", "golden.tar.gz", "log.txt")
    for old in [*(out / name for name in names), *out.glob("ncu_*.txt")]:
        old.unlink(missing_ok=True)
    (STATE / "steps.jsonl").touch()
    run = Run(out, int(os.environ.get("GPU_SECONDS") or SECONDS))
    os.environ["NLDF_BENCH_EVENTS"] = str(run.rows)
    steps = plan(out)
    if dry:
        show_plan(steps, run)
    try:
        for step in steps:
            take(run, step, dry)
    finally:  # also where the whole run is interrupted
        merge(str(STATE), str(out / "results.json"))
    print(f"{out / 'results.json'}: {run.spent()} s in all")
    return 1 if run.failed else 0


def take(run: Run, step: Step, dry: bool) -> None:
    """One step, unless what it needs is not there."""
    red = [name for name in step.needs if run.outcomes.get(name) == "failed"]
    absent = "dry run" if dry else missing(run)
    if dry and step.rehearsal is not None and run.outcomes.get("import") == "passed":
        step.rehearsal(run, step)
    elif step.device and absent:
        run.skip(step.name, absent)
    elif red:
        run.skip(step.name, f"{', '.join(red)} failed")
    else:
        step.run(run, step)
    if step.name == "build" and absent and run.outcomes.get("import") == "passed":
        collect = [*PYTEST, "--collect-only", "-m", "device", str(ROOT / "tests/ops")]
        run.step("checks can be collected", 240, collect)


def missing(run: Run) -> str:
    """What steps on the device lack, or ""."""
    found = STATE / "environment.json"
    if not found.exists() or not json.loads(found.read_text())["device"]:
        return DEVICE
    return "" if run.outcomes.get("import") == "passed" else KERNELS
