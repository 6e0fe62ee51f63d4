"""What the benches share: devices, and races whose contestants take turns.

A race times its contestants in turns within one run, so that a slow spell of the machine hits all of
them, and compares medians. The contestant named first is pytest-benchmark's; the others' times, the
ratios and the work go into its JSON as `extra_info`, and into a table at the end of the run.

    python -m pytest bench/bench_segments.py --benchmark-json=segments.json
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch

from nldf_engine import ops
from nldf_engine.base.memory import keep_freed_memory

Race = Callable[..., None]
_ROWS: list[str] = []
# Without it a race times the system's page faults, which on virtual machines can outweigh the arithmetic.
keep_freed_memory()


@pytest.fixture(params=["cpu", "cuda"])
def device(request: pytest.FixtureRequest) -> torch.device:
    """Every device with a kernel."""
    if request.param == "cuda":
        if not torch.cuda.is_available():
            pytest.skip("no CUDA device on this machine")
        if not ops.backends()["cuda"]:
            pytest.skip("nldf_engine._C was built without CUDA")
    return torch.device(request.param)


@pytest.fixture
def race(benchmark: Any, request: pytest.FixtureRequest) -> Race:
    """race({"native": f, "reference": g}, ...): times all in turns; see `run` below."""

    def run(
        contestants: Mapping[str, Callable[[], Any]],
        *,
        device: torch.device,
        units: Mapping[str, float],
        unit: str,
        work: Mapping[str, float] | None = None,
        work_unit: str = "GB/s",
        rounds: int = 20,
    ) -> None:
        """Times the contestants in turns and prints one row each.

        Args:
            contestants: what to call; the first is the one that the others are compared with.
            device: where they run; CUDA is synchronised behind every call.
            units: how many `unit` (rays, pixels) each call treats.
            work: bytes or floating-point operations of each call, for the rate in `work_unit`.
            rounds: how often each is called; two more rounds warm up.
        """
        times: dict[str, list[float]] = {name: [] for name in contestants}

        def timed(name: str) -> None:
            start = time.perf_counter()
            contestants[name]()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times[name].append(time.perf_counter() - start)

        first, *rivals = contestants

        def rivals_turn() -> None:
            for name in rivals:
                timed(name)

        benchmark.pedantic(timed, args=(first,), setup=rivals_turn, rounds=rounds, warmup_rounds=2)
        if len(times[first]) < 3:  # --benchmark-disable calls everything once, untimed
            return
        medians = {name: statistics.median(values[2:]) for name, values in times.items()}
        where = f"{request.path.stem} {request.node.name}".removeprefix("bench_")
        info: dict[str, Any] = {"threads": torch.get_num_threads(), "device": str(device)}
        _ROWS.append(where)
        for name, median in medians.items():
            rate = units[name] / median
            speedup = rate / (units[first] / medians[first])
            row = f"  {name:<32} {median * 1e3:10.3f} ms  {rate:12.4g} {unit}/s"
            info[name] = {"median_s": median, f"{unit}_per_s": rate, "times_s": times[name][2:]}
            if work is not None:
                done = work[name] / median / 1e9
                info[name][work_unit] = done
                row += f"  {done:8.2f} {work_unit}"
            if name != first:
                per_round = sorted(
                    (b / units[name]) / (a / units[first])
                    for a, b in zip(times[first][2:], times[name][2:], strict=True)
                )
                low, high = per_round[len(per_round) // 4], per_round[-1 - len(per_round) // 4]
                info[f"{first}_over_{name}"] = {"ratio": 1 / speedup, "quartiles": [low, high]}
                row += f"  {first} is {1 / speedup:.2f}x as fast [{low:.2f}-{high:.2f}]"
            _ROWS.append(row)
        benchmark.extra_info.update(info)

    return run


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Prints the races' rows."""
    if _ROWS:
        terminalreporter.section(
            f"races: medians of turns in this run, {torch.get_num_threads()} CPU threads; "
            "ratio of medians [quartiles of the ratio by round]"
        )
        for row in _ROWS:
            terminalreporter.write_line(row)
