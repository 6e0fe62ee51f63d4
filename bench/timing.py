"""Races: contestants take turns within one run, beside what the machine gives to a matrix product and a copy.

A slow spell of the machine hits every contestant alike, so what counts are the ratios by round: their
median and quartiles. A turn of short calls is several of them, as many for every contestant, behind one
that isn't timed: a single call would find in the caches what the rival before has left there, and pay for
its rival's appetite. How much of the machine an operation uses is related to ceilings that are measured
before, between and after its own rounds.
"""

from __future__ import annotations

import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from nldf_engine import __version__, ops
from nldf_engine.base.machine import processor
from nldf_engine.nn.planes import PlanesModule
from nldf_engine.nn.resmlp import ResMLP

Row = dict[str, Any]
# To bytes or floating-point operations, from the unit of the rate.
SCALE = {"GB/s": 1.0, "GFLOP/s": 1.0, "TFLOP/s": 1e3}


# A turn lasts this long, if that takes no more calls.
TURN_SECONDS, MOST_CALLS = 2e-3, 50


@dataclass(frozen=True)
class Pace:
    """How thorough a run is.

    Args:
        seconds: that the rounds of one race may take.
        least, most: rounds, whatever the seconds say.
        fresh: for how many seconds a measured ceiling holds.
        mode: the name of it all.
    """

    seconds: float
    least: int
    most: int
    fresh: float
    mode: str


PACES = {
    "quick": Pace(0.3, 3, 15, 12.0, "quick"),
    "normal": Pace(1.2, 5, 40, 4.0, "normal"),
    "full": Pace(4.0, 9, 100, 2.0, "full"),
}


def synchronise(device: torch.device) -> None:
    """Waits for a GPU's work; nothing to do on the CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_of(call: Callable[[], Any], device: torch.device, calls: int = 1) -> float:
    """How long a call takes, a GPU's work included; of several, their mean, behind one that isn't timed."""
    if calls > 1:
        call()
        synchronise(device)
    start = time.perf_counter()
    for _ in range(calls):
        call()
    synchronise(device)
    return (time.perf_counter() - start) / calls


def device_seconds(call: Callable[[], Any], rounds: int = 20) -> dict[str, float | None]:
    """What a call takes on the GPU alone, in seconds, the median of `rounds`: Python and launches left out.

    Returns:
        event_s: between two events about the call. The host may fall behind within it, so that small
            operations
            still show what it costs to launch them.
        graph_s: of a replay of the call as a CUDA graph, where nothing is launched from Python; None for
            calls that
            can't be captured, such as those that wait for the device.
    """
    for _ in range(3):
        call()
    found: dict[str, float | None] = {"event_s": _between_events(call, rounds), "graph_s": None}
    try:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            call()
        found["graph_s"] = _between_events(graph.replay, rounds)
    except RuntimeError:
        torch.cuda.synchronize()
    return found


def _between_events(call: Callable[[], Any], rounds: int) -> float:
    pairs = [tuple(torch.cuda.Event(enable_timing=True) for _ in range(2)) for _ in range(rounds)]
    for begin, end in pairs:
        begin.record()
        call()
        end.record()
    torch.cuda.synchronize()
    return statistics.median(begin.elapsed_time(end) for begin, end in pairs) / 1e3


def calls_a_turn(fastest: float, all_of_them: float = 0.0, seconds: float = math.inf) -> int:
    """How many calls a turn is.

    Args:
        fastest: seconds that the fastest contestant's call takes.
        all_of_them: seconds that one call of each takes.
        seconds: that a round of turns may take.
    """
    wanted = math.ceil(TURN_SECONDS / max(fastest, 1e-9))
    affordable = seconds / all_of_them - 1 if all_of_them else math.inf
    return int(max(1, min(MOST_CALLS, wanted, affordable)))


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which that share of the values lies, the nearest one."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, round(share * (len(ordered) - 1))))]


class Ceilings:
    """What a device can give to a large matrix product and to a copy: the best of this run so far.

    Measured a few times at first, and again beside the races, when the last measurement has grown old.

    The CPU multiplies two 2048^2 float32 matrices and copies 64 MiB, a GPU multiplies two 8192^2 float16
    matrices and copies 1 GiB. A copy moves every byte twice, in and out.

    Args:
        fresh: for how many seconds a measurement holds.
    """

    def __init__(self, fresh: float) -> None:
        self._fresh = fresh
        self._best: dict[str, tuple[float, float]] = {}
        self._last: dict[str, float] = {}
        self._tools: dict[str, tuple[Callable[[], Any], float, Callable[[], Any], float]] = {}

    def _tools_of(self, device: torch.device) -> tuple[Callable[[], Any], float, Callable[[], Any], float]:
        if device.type not in self._tools:
            cuda = device.type == "cuda"
            side, dtype = (8192, torch.float16) if cuda else (2048, torch.float32)
            a, b, out = (torch.randn(side, side, device=device).to(dtype) for _ in range(3))
            source = torch.randint(0, 255, (1 << (30 if cuda else 26),), dtype=torch.uint8, device=device)
            target = source.clone()
            tools = (
                lambda: torch.mm(a, b, out=out), 2.0 * side**3,
                lambda: target.copy_(source), 2.0 * len(source),
            )  # fmt: skip
            for call in (tools[0], tools[2]):
                seconds_of(call, device)
            self._tools[device.type] = tools
        return self._tools[device.type]

    def look(self, device: torch.device) -> None:
        """Measures, unless the last measurement is fresh."""
        with torch.inference_mode(False), torch.no_grad():  # the matrices outlive the caller's mode
            self._look(device)

    def _look(self, device: torch.device) -> None:
        known = self._best.get(device.type)
        if known and time.monotonic() - self._last[device.type] < self._fresh:
            return
        product, flops, copy, moved = self._tools_of(device)
        for _ in range(1 if known else 4):
            product_rate = flops / seconds_of(product, device) / 1e9
            copy_rate = moved / min(seconds_of(copy, device) for _ in range(3)) / 1e9
            best = self._best.get(device.type, (0.0, 0.0))
            self._best[device.type] = max(best[0], product_rate), max(best[1], copy_rate)
        self._last[device.type] = time.monotonic()

    def best(self, device: torch.device) -> tuple[float, float]:
        """GFLOP/s of the product and GB/s of the copy."""
        self.look(device)
        return self._best[device.type]


@dataclass(frozen=True)
class Sizes:
    """What one call of a contestant treats.

    Args:
        units: how many of `unit`.
        unit: rays, points, frames.
        flops: floating-point operations a unit, as the formula has them: multiplications and additions are
            one each, and so is a division, a root, an exponential or a sine.
        moved: bytes a unit that must be read and written at least; 0 where memory isn't what counts.
    """

    units: float
    unit: str
    flops: float = 0.0
    moved: float = 0.0


def row_of(
    case: str, name: str, times: Sequence[float], sizes: Sizes, device: torch.device,
    ceiling: tuple[float, float], kernel: str | None = None, calls: int = 1,
) -> Row:  # fmt: skip
    """A row of the report, without the comparison.

    `times` are by turn, the mean of its `calls` each; so is the 95th percentile. A GPU works through a
    turn's calls without being waited for in between. `kernel` is what ran, if that was chosen
    at run time.
    """
    median = statistics.median(times)
    rate = sizes.units / median if median else 0.0  # a stage that most frames go without
    done = sizes.flops * rate / 1e9
    moved = sizes.moved * rate / 1e9
    return {
        "case": case,
        "name": name,
        "kind": "timing",
        "device": str(device),
        "isa": ops.backends()["cpu_isa"] if device.type == "cpu" else None,
        "kernel": kernel,
        "threads": torch.get_num_threads(),
        "rounds": len(times),
        "calls": calls,
        "median_s": median,
        "quartiles_s": [quantile(times, 0.25), quantile(times, 0.75)],
        "p95_s": quantile(times, 0.95),
        "units": sizes.units,
        "unit": sizes.unit,
        "per_second": rate,
        "flops_per_unit": sizes.flops,
        "gflops": done,
        "ceiling_gflops": ceiling[0],
        "ceiling_share": done / ceiling[0],
        "bytes_per_unit": sizes.moved or None,
        "gb_per_s": moved or None,
        "copy_gb_per_s": ceiling[1],
        "copy_share": moved / ceiling[1] if moved else None,
    }


def kernel_of(field: torch.nn.Module, device: torch.device) -> str | None:
    """What computes the fused networks of a field without gradients, None where it has none."""
    found = {part.kernel(device) for part in field.modules() if isinstance(part, ResMLP | PlanesModule)}
    return ", ".join(sorted(found)) or None


# By precision, beside float32.
ALLOWED = {"fp32": 1e-3, "int16": 2e-3, "fp16": 2e-2, "int8": 5e-2}


def use_precision(field: torch.nn.Module, precision: str) -> float:
    """Lets the fused networks of a field compute in a precision; the error that is allowed beside float32."""
    for part in field.modules():
        if isinstance(part, ResMLP | PlanesModule):
            part.precision = precision
    return ALLOWED[precision]


def absent_row(case: str, name: str, device: torch.device, why: str) -> Row:
    """A contestant that could not run, and why."""
    return {"case": case, "name": name, "kind": "absent", "device": str(device), "note": why}


def count_row(case: str, name: str, unit: str, flops: float, note: str) -> Row:
    """A system of which only the arithmetic is known: a count, never a timing."""
    return {
        "case": case, "name": name, "kind": "count", "unit": unit, "flops_per_unit": flops, "note": note
    }  # fmt: skip


def compare(rows: Sequence[Row], times: Mapping[str, Sequence[float]]) -> None:
    """Says in every row but the first how often faster a unit the first is: median and quartiles by round."""
    first, *rivals = rows
    for row in rivals:
        each = [
            (b / row["units"]) / (a / first["units"])
            for a, b in zip(times[first["name"]], times[row["name"]], strict=True)
        ]
        row["first"] = first["name"]
        row["first_over_this"] = statistics.median(each)
        row["quartiles"] = [quantile(each, 0.25), quantile(each, 0.75)]


def stock_malloc() -> bool:
    """Whether the C library's allocator is left as a program has it that sets nothing."""
    return os.environ.get("NLDF_BENCH_MALLOC") == "stock"


def load() -> float | None:
    """How many processes wanted to run over the last minute, None where the system doesn't say."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def environment() -> dict[str, Any]:
    """The machine, the versions, the kernels that were chosen; nothing that names a person or a place."""
    import numpy

    kernels = ops.backends()
    return {
        "made": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": load(),
        "malloc": "stock" if stock_malloc() else "keeps what is freed",
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "nldf_engine": __version__,
        "kernels": {key: kernels[key] for key in ("version", "cpu", "cpu_isa", "openmp", "cuda_archs")},
        "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
    }
