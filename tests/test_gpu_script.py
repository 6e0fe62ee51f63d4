"""bench/gpu.sh, the command for a machine with a GPU: what of it can be checked without one."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bench import timing
from bench.gpu import frames, ladder, rows, steps, training_ladder
from nldf_engine.ops.resmlp_chain import sum_segments

ROOT = Path(__file__).resolve().parents[1]


def gpu(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench.gpu", *map(str, arguments)]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=240, env=os.environ | environment
    )


def test_script_is_a_script():
    """bash can read it, and an unknown argument is a usage error."""
    subprocess.run(["bash", "-n", "bench/gpu.sh"], cwd=ROOT, check=True)
    command = ["bash", "bench/gpu.sh", "--fast"]
    environment = os.environ | {"PYTHON": sys.executable}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 2 and "usage:" in done.stderr


@pytest.mark.parametrize(
    ("body", "code"),
    [("assert True", 0), ("assert False", 1), ("import pytest; pytest.skip('nothing here')", 1)],
)
def test_skipped_checks_are_failures(tmp_path, body, code):
    """Where a device is, a test that didn't run counts as failed, and one that passed doesn't."""
    (tmp_path / "test_it.py").write_text(f"def test_it():\n    {body}\n")
    pytest_of_it = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", tmp_path / "test_it.py")
    # Without plugins pytest begins at once.
    done = gpu("pytest-must-run", *pytest_of_it, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")
    assert done.returncode == code, done.stdout


@pytest.fixture
def run(tmp_path, monkeypatch) -> steps.Run:
    """A run of 60 s whose files lie in the test's folder."""
    monkeypatch.setattr(steps, "STATE", tmp_path)
    return steps.Run(tmp_path, 60)


def recorded(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "steps.jsonl").read_text().splitlines()]


def test_a_step_that_hangs_is_stopped(run, tmp_path):
    """A step over its limit ends, with the processes that it started, and the next one runs."""
    started = tmp_path / "started"
    sleeper = f"sleep 300 & echo $! > {started}; wait"
    assert not run.step("hangs", 1, ["bash", "-c", sleeper])
    assert run.step("passes", 10, ["true"])
    assert not run.step("fails", 10, ["bash", "-c", "echo because; exit 3"])
    assert [(step["outcome"], step["detail"]) for step in recorded(tmp_path)] == [
        ("failed", "stopped after 1 s: "), ("passed", ""), ("failed", "exit code 3: because"),
    ]  # fmt: skip
    assert run.failed
    status = Path(f"/proc/{started.read_text().strip()}/stat")
    assert not status.exists() or status.read_text().split()[2] == "Z"


def test_no_step_begins_behind_the_limit(run, tmp_path):
    """Once the run's seconds are used up, steps are recorded as not run, and that is no failure."""
    run.limit = 3
    assert not run.step("late", 10, ["true"])
    (step,) = recorded(tmp_path)
    assert step["outcome"] == "not run" and "3 seconds are used up" in str(step["detail"]) and not run.failed


def test_limits_grow_with_the_whole(run, tmp_path, monkeypatch):
    """On a machine of few cores GPU_SECONDS gives each step as much more time; what a step cost in CPU time
    is noted."""
    monkeypatch.setattr(steps, "SECONDS", 20)
    slow = steps.Run(tmp_path, 60)
    busy = "import time; end = time.time() + 2\nwhile time.time() < end: pass"
    assert slow.step("slow", 1, [sys.executable, "-c", busy])
    assert not run.step("slow", 1, ["sleep", "2"])
    slow_step, quick_step = recorded(tmp_path)
    assert float(str(slow_step["cpu_seconds"])) > 0.2 > float(str(quick_step["cpu_seconds"]))


def test_report_keeps_what_was_measured(tmp_path):
    """Half a state makes a whole report: steps, rows, and no figure where a file was cut short."""
    steps = [
        {"step": "build", "outcome": "passed", "seconds": 3, "detail": ""},
        {"step": "ncu", "outcome": "not run", "seconds": 0, "detail": "no ncu"},
    ]
    (tmp_path / "steps.jsonl").write_text("\n".join(map(json.dumps, steps)) + "\n")
    (tmp_path / "matmul_before.json").write_text('{"float16_tflops": 700.0}')
    (tmp_path / "matmul_after.json").write_text('{"float16_tf')
    row = {"suite": "beams", "case": "forward", "name": "peer", "kind": "absent", "note": "not installed"}
    rows.add(tmp_path / "rows.jsonl", {"event": "rows", "rows": [row]})
    rows.add(tmp_path / "rows.jsonl", {"part": "ladder", "kernel": "mma", "problem": ""})
    with open(tmp_path / "rows.jsonl", "a") as file:
        file.write('{"part": "frames", "frames_per_sec')  # stopped while it wrote
    done = gpu("merge", tmp_path, tmp_path / "results.json")
    assert done.returncode == 0 and "not run: 1 of 2" in done.stdout and "no ncu" in done.stdout
    report = json.loads((tmp_path / "results.json").read_text())
    assert report["steps"] == steps and report["environment"] is None
    assert report["matmul"] == {"before": {"float16_tflops": 700.0}, "after": None}
    assert report["suites"]["beams"] == [row]
    assert report["parts"] == [{"part": "ladder", "kernel": "mma", "problem": ""}]
    assert "not run: not installed" in (tmp_path / "bench.html").read_text()


def test_small_calls_run():
    """What the sanitiser watches runs, here on the CPU, a portrait included, and names what it leaves out."""
    done = gpu("small", "9", "cpu")
    assert done.returncode == 0 and "not called:" in done.stdout, done.stderr


def test_the_plan_fits(tmp_path, capsys):
    """All steps together are expected to end in time, and what is worth most comes first."""
    plan = steps.plan(tmp_path)
    assert sum(step.expected for step in plan) <= steps.SECONDS
    assert all(step.expected <= step.most for step in plan)
    names = [step.name for step in plan]
    assert len(set(names)) == len(names) and {name for step in plan for name in step.needs} <= set(names)
    order = [
        "build",
        "ladder",
        "training ladder",
        "checks",
        "frames nldf-fast",
        "frames nldf-88",
        "train nldf-fast",
        "sanitizer memcheck",
    ]
    assert sorted(order, key=names.index) == order and names.index(order[-1]) < names.index(
        "ncu portrait_kernel"
    )
    steps.show_plan(plan, steps.Run(tmp_path, 800))
    shown = capsys.readouterr().out
    assert f"{sum(step.expected for step in plan)} s  the end; nothing begins after 800 s" in shown
    assert f"stopped after {2 * plan[0].most} s" in shown.splitlines()[1]


def test_what_a_red_ladder_checked_is_not_timed(run, monkeypatch):
    """Where a step failed, those that need it are left out with the reason; others run."""
    monkeypatch.setattr(steps, "missing", lambda run: "")
    plan = [
        steps.Step("ladder", 1, 5, steps.commands("false")),
        steps.Step("bench resmlp_cuda", 1, 5, steps.commands("true"), needs=("ladder",)),
        steps.Step("bench planes", 1, 5, steps.commands("true")),
    ]
    for step in plan:
        steps.take(run, step, dry=False)
    assert run.outcomes == {"ladder": "failed", "bench resmlp_cuda": "not run", "bench planes": "passed"}
    assert recorded(steps.STATE)[1]["detail"] == "ladder failed"


def test_a_dry_run_rehearses(run):
    """What a step does on the CPU, in place of what needs the device; other steps on it are left out."""
    run.outcomes["import"] = "passed"
    rehearsed = steps.Step("train", 1, 5, steps.commands("false"), rehearsal=steps.commands("true"))
    for step in (rehearsed, steps.Step("ladder", 1, 5, steps.commands("false"))):
        steps.take(run, step, dry=True)
    assert run.outcomes == {"import": "passed", "train": "passed", "ladder": "not run"}
    run.outcomes["import"] = "failed"
    steps.take(run, rehearsed, dry=True)
    assert run.outcomes["train"] == "not run"


def test_rehearsals_run(run, synthetic_dataset, monkeypatch):
    """Those of the plan find their files: benches are collected, and a carried dataset is trained on."""
    monkeypatch.setenv("GPU_DATASET", str(synthetic_dataset.path))
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)  # it turns benches off in pytests within it
    run.limit, run.outcomes["import"] = 600, "passed"
    plan = {step.name: step for step in steps.plan(run.out)}
    for name in ("bench planes", "train nldf-fast"):
        steps.take(run, plan[name], dry=True)
    assert [run.outcomes[name] for name in ("bench planes", "train nldf-fast")] == ["passed"] * 2, run.output
    assert not run.rows.exists()


def test_device_steps_wait_for_the_build(run):
    """Without a device, or without kernels, steps that need them are left out and are no failures."""
    step = steps.Step("ladder", 1, 5, steps.commands("false"))
    steps.take(run, step, dry=False)
    (steps.STATE / "environment.json").write_text('{"device": {"name": "a GPU"}}')
    steps.take(run, step, dry=False)
    assert [entry["detail"] for entry in recorded(steps.STATE)] == [
        steps.DEVICE,
        steps.KERNELS,
    ] and not run.failed


def test_what_travels_is_measured(tmp_path):
    """The sizes of checkout, wheels and dataset are added up, and a sum over the limit names the largest
    files."""
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / "small.txt").write_text("x")
    subprocess.run(["git", "-C", str(tmp_path), "add", "small.txt"], check=True)
    wheel = tmp_path / "bench" / "wheels" / "av.whl"
    wheel.parent.mkdir(parents=True)
    wheel.write_bytes(bytes(33 << 20))
    done = gpu("fits", tmp_path)
    assert done.returncode == 0 and "in all: 33.0 of 64 MiB" in done.stdout
    (tmp_path / "large.bin").write_bytes(bytes(40 << 20))
    subprocess.run(["git", "-C", str(tmp_path), "add", "large.bin"], check=True)
    done = gpu("fits", tmp_path)
    assert done.returncode == 1 and "73.0 MiB are over 64; leave out large.bin" in done.stderr


def test_frames_are_measured(tmp_path):
    """End-to-end frames of both systems give a row a precision, here on the CPU, beside a matrix product's
    rate."""
    (tmp_path / "matmul.json").write_text('{"float16_tflops": 1.0}')
    for name, one_pass in (("nldf-fast", True), ("nldf-88", False)):
        frames.frames(str(tmp_path / "rows.jsonl"), str(tmp_path / "matmul.json"), name, "cpu", "0.01", "32")
        found = [row for row in rows.read(tmp_path / "rows.jsonl") if row["avatar"] == name]
        assert [row["asked"] for row in found] == ["fp32", "auto"]
        assert found[0]["precision"] == "fp32" and found[1]["precision"] in ("fp32", "int16", "int8")
        for row in found:
            assert row["frames_per_second"] > 0 and row["in_one_pass"] is one_pass
            assert row["share_of_matmul"] == pytest.approx(row["head_tflops"])
        assert found[1]["psnr_to_fp32"] >= 50


def test_a_call_is_timed_on_the_device(monkeypatch):
    """Events stand about each call, and about replays of a graph; a call that can't be captured has no
    graph's time."""
    clock, ran = iter(range(1000)), []

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            self.at = next(clock)

        def elapsed_time(self, end: Event) -> float:
            return 1000.0 * (end.at - self.at)

    class Graph:
        def replay(self) -> None:
            ran.append("replay")

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.cuda, "graph", lambda graph: contextlib.nullcontext())
    assert timing.device_seconds(lambda: ran.append("call"), 5) == {"event_s": 1.0, "graph_s": 1.0}
    assert ran == ["call"] * 9 + ["replay"] * 5

    def refuse(graph: Graph) -> None:
        raise RuntimeError("not permitted when stream is capturing")

    monkeypatch.setattr(torch.cuda, "graph", refuse)
    assert timing.device_seconds(lambda: None, 5) == {"event_s": 1.0, "graph_s": None}


def emulated(kernel: str, net: Any, dump: int) -> ladder.Result:
    """What a kernel that rounds as the emulation does gives."""
    out, layers = net.emulate()
    return ladder.Result(out, sum_segments(out), layers[dump].half() if dump >= 0 else None)


def test_the_ladder_names_the_layer():
    """A launch that is right from one ray to a second tile is green; one that goes wrong names layer and
    rays."""
    wanted = list(ladder.rungs(132))
    assert len(wanted) == 3 * 4 * 8 and max(rung.rays for rung in wanted) == 132 * 256 + 1
    rung = ladder.Rung("turns", 4, 129)
    assert ladder.climb(emulated, rung)["problem"] == ""

    def wrong(kernel: str, net: Any, dump: int) -> ladder.Result:
        got = emulated(kernel, net, dump)
        got.out[128] += 1
        if dump >= 3:
            got.dump[128, 7] += 1
        return got

    problem = ladder.climb(wrong, rung)["problem"]
    assert "first wrong layer 3" in problem and "rays [128]" in problem
    assert ladder.repeat(emulated, "mma", 5, 2)["problem"] == ""
    times = iter(range(100))

    def drifting(kernel: str, net: Any, dump: int) -> ladder.Result:
        got = emulated(kernel, net, dump)
        got.out[0, 0] += next(times) // 15
        return got

    assert ladder.repeat(drifting, "mma", 5, 2)["problem"] == "5 of 19 repeats differ from the first"


def test_the_training_ladder_names_kernel_and_rays(tmp_path, monkeypatch):
    """The kernels that training runs by agree here on the CPU; one that is off is named, and left."""
    cpu = torch.device("cpu")
    assert max(rays for _, rays in training_ladder.rungs(132)) == 4 * 132 * 32 + 1
    for kernel in training_ladder.KERNELS:
        assert training_ladder.climb(kernel, 33, cpu)["problem"] == ""
    whole = training_ladder.launched

    def off(kernel: str, problem: Any, device: torch.device) -> Any:
        got = whole(kernel, problem, device)
        if kernel == "aim_lines":
            got["lines"][-1] += 1
        return got

    monkeypatch.setattr(training_ladder, "launched", off)
    assert training_ladder.climb("aim_lines", 5, cpu)["problem"].startswith("lines: error")
    assert training_ladder.climb("adam_of_rates", 5, cpu)["problem"] == ""
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    one = SimpleNamespace(multi_processor_count=1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: one)

    def climbed(kernel: str, rays: int, device: torch.device) -> dict[str, Any]:
        return {"kernel": kernel, "rays": rays, "problem": "wrong" if kernel == "aim" and rays > 30 else ""}

    with pytest.raises(SystemExit, match="training ladder: aim failed"):
        training_ladder.main(str(tmp_path / "rows"), climbed)
    found = [row["rays"] for row in rows.read(tmp_path / "rows") if row["kernel"] == "aim"]
    assert found == [1, 31]


def test_training_is_timed(synthetic_dataset, tmp_path):
    """A row says how fast a preset trained, and whether steps were to be replayed; other settings are the
    recipe's."""
    budget = {"steps": "3", "device": "cpu", "graphs": "off", "speech_steps": "3", "rays": "64"}
    out, data = str(tmp_path / "rows"), str(synthetic_dataset.path)
    frames.training(out, data, str(tmp_path), "nldf-fast-tiny", **budget)
    (row,) = rows.read(tmp_path / "rows")
    assert row["steps"] == 3 and row["graphs"] is False and row["steps_per_second"] > 0
