"""What the benches share: devices, paces, and races (bench/timing.py) as a fixture.

The contestant named first is pytest-benchmark's, a round of which is a turn; every contestant's row goes
into its JSON as `extra_info["rows"]`, and into a table at the end of the run.

    python -m pytest bench/bench_segments.py --pace quick --benchmark-json=segments.json

`nldf bench` reads along: where NLDF_BENCH_EVENTS names a file, every event is a line of JSON in it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.timing import (
    PACES,
    SCALE,
    Ceilings,
    Pace,
    Row,
    Sizes,
    absent_row,
    calls_a_turn,
    compare,
    device_seconds,
    environment,
    load,
    row_of,
    seconds_of,
    stock_malloc,
)
from nldf_engine import ops
from nldf_engine.base.memory import keep_freed_memory
from nldf_engine.engine.precision import WHERE

Race = Callable[..., None]
_TABLE: list[tuple[str, Row]] = []
# Without it a race times the system's page faults, which on virtual machines can outweigh the arithmetic.
if not stock_malloc():
    keep_freed_memory()


def event(kind: str, **values: Any) -> None:
    """Reports an event to `nldf bench`."""
    file = os.environ.get("NLDF_BENCH_EVENTS")
    if file:
        with open(file, "a", encoding="utf-8") as stream:
            stream.write(json.dumps({"event": kind, **values}) + "\n")


def suite_of(path: str | Path) -> str:
    """The suite's name, of its file."""
    return Path(str(path)).stem.removeprefix("bench_")


def case_of(item: Any) -> str:
    """What a test does, in words: its name and its parameters but the device."""
    called = item.originalname.removeprefix("test_").replace("_", " ")
    given = getattr(item, "callspec", None)
    values = {name: value for name, value in (given.params if given else {}).items() if name != "device"}
    return ", ".join(
        [called, *((f"{name} " if name != "name" else "") + str(value) for name, value in values.items())]
    )


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--pace", choices=sorted(PACES), default="normal", help="how thorough the benches are")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "thorough: a case that the quick pace leaves out")
    config.addinivalue_line("markers", "full: a case that only the full pace takes")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    pace = config.getoption("--pace")
    left_out = {"quick": {"thorough", "full"}, "normal": {"full"}, "full": set()}[pace]
    chosen = [item for item in items if not any(item.get_closest_marker(name) for name in left_out)]
    if len(chosen) < len(items):
        config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
        items[:] = chosen


def pytest_collection_finish(session: pytest.Session) -> None:
    event("begin", total=len(session.items), environment=environment())


def pytest_runtest_logstart(nodeid: str, location: tuple[str, int | None, str]) -> None:
    event("start", suite=suite_of(nodeid.partition("::")[0]), case=location[2])


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call" or report.outcome != "passed":
        detail = ""
        if report.skipped:
            detail = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
        elif report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            detail = (crash.message if crash else str(report.longrepr)).strip().splitlines()[0][:300]
        suite = suite_of(report.nodeid.partition("::")[0])
        event("done", suite=suite, case=report.location[2], outcome=report.outcome, detail=detail)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.failed:
        lines = [line for line in str(report.longrepr).splitlines() if line.strip()]
        event("done", suite=suite_of(report.nodeid), case="import", outcome="failed", detail=lines[-1][:300])


def pytest_sessionfinish(session: pytest.Session) -> None:
    event("end", load=load())


@pytest.fixture(params=["cpu", "cuda"])
def device(request: pytest.FixtureRequest) -> torch.device:
    """Every device with a kernel."""
    if request.param == "cuda":
        if not torch.cuda.is_available():
            pytest.skip("no CUDA device on this machine")
        if not ops.backends()["cuda"]:
            pytest.skip("nldf_engine._C was built without CUDA")
    return torch.device(request.param)


@pytest.fixture(params=["fp32", "int16", "int8", "fp16"])
def precision(request: pytest.FixtureRequest, device: torch.device) -> str:
    """Every precision that the device's fused networks have."""
    if WHERE.get(request.param, device.type) != device.type:
        pytest.skip(f"{request.param} is no precision of this device")
    return str(request.param)


@pytest.fixture
def pace(request: pytest.FixtureRequest) -> Pace:
    """How thorough this run is."""
    return PACES[request.config.getoption("--pace")]


@pytest.fixture(scope="session")
def ceilings(request: pytest.FixtureRequest) -> Ceilings:
    """What the devices give to a product and to a copy."""
    return Ceilings(PACES[request.config.getoption("--pace")].fresh)


@pytest.fixture
def record(benchmark: Any, request: pytest.FixtureRequest) -> Callable[[list[Row]], None]:
    """record(rows): puts rows into the JSON and the table."""

    def keep(rows: list[Row]) -> None:
        suite = suite_of(request.path)
        rows = [{"suite": suite, **row} for row in rows]
        benchmark.extra_info.setdefault("rows", []).extend(rows)
        _TABLE.extend((suite, row) for row in rows)
        event("rows", rows=rows)

    return keep


@pytest.fixture
def race(
    benchmark: Any, request: pytest.FixtureRequest, ceilings: Ceilings, pace: Pace,
    record: Callable[[list[Row]], None],
) -> Race:  # fmt: skip
    """race({"native": f, "reference": g}, ...): times all in turns; see `run` below."""

    def run(
        contestants: Mapping[str, Callable[[], Any]],
        *,
        device: torch.device,
        units: float | Mapping[str, float],
        unit: str,
        flops: float | Mapping[str, float] = 0.0,
        moved: float | Mapping[str, float] = 0.0,
        work: Mapping[str, float] | None = None,
        work_unit: str = "GB/s",
        rounds: int | None = None,
        absent: Mapping[str, str] | None = None,
        more: list[Row] | None = None,
        case: str | None = None,
        kernels: Mapping[str, str | None] | None = None,
    ) -> None:
        """Times the contestants in turns, a row each.

        Args:
            contestants: what to call; the first is the one that the others are compared with.
            device: where they run; CUDA is synchronised behind every turn.
            units: how many `unit` (rays, points) each call treats.
            flops, moved: operations and bytes a unit, see `Sizes`.
            work: in their place: bytes or operations of each whole call, for the rate in `work_unit`.
            rounds: turns of each at most; the pace says how long all may take.
            absent: contestants that can't run here, and why.
            more: further rows, of what isn't timed.
            case: what is raced; the test's name where None.
            kernels: what ran, of those contestants where that was chosen at run time.
        """

        def of(value: float | Mapping[str, float], name: str) -> float:
            return float(value[name] if isinstance(value, Mapping) else value)

        where = case or case_of(request.node)
        sizes = {}
        for name in contestants:
            count, each = of(units, name), {"flops": of(flops, name), "moved": of(moved, name)}
            if work is not None:
                amount = work[name] * SCALE[work_unit] / count
                each["moved" if work_unit == "GB/s" else "flops"] = amount
            sizes[name] = Sizes(count, unit, **each)
        first, *rivals = contestants
        if benchmark.disabled:
            for call in contestants.values():
                seconds_of(call, device)
            benchmark(contestants[first])
            return
        ceilings.look(device)
        takes = {name: seconds_of(call, device) for name, call in contestants.items()}  # caches, late buffers
        again = takes if sum(takes.values()) < pace.seconds else [min(takes, key=lambda name: takes[name])]
        takes |= {name: seconds_of(contestants[name], device, 2) for name in again}
        one = sum(takes.values())
        calls = calls_a_turn(min(takes.values()), one, pace.seconds / pace.least)
        affordable = int(pace.seconds / ((calls + (calls > 1)) * one))
        turns = min(max(affordable, pace.least), rounds or pace.most, pace.most)
        times: dict[str, list[float]] = {name: [] for name in contestants}

        def timed(name: str) -> None:
            times[name].append(seconds_of(contestants[name], device, calls))

        def rivals_turn() -> None:
            ceilings.look(device)
            for name in rivals:
                timed(name)

        benchmark.pedantic(timed, args=(first,), setup=rivals_turn, rounds=turns)
        ceiling = ceilings.best(device)
        ran = kernels or {}
        rows = [
            row_of(where, name, times[name], sizes[name], device, ceiling, ran.get(name), calls)
            for name in contestants
        ]
        compare(rows, times)
        if device.type == "cuda":
            rows = [row | device_seconds(contestants[row["name"]]) for row in rows]
        rows += [absent_row(where, name, device, why) for name, why in (absent or {}).items()]
        record(rows + (more or []))

    return run


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Prints the rows."""
    if not _TABLE:
        return
    from nldf_engine.apps.cli.bench_report import table

    terminalreporter.section("medians of turns in this run; ratio by round [quartiles]")
    for line in table([row for _, row in _TABLE]).splitlines():
        terminalreporter.write_line(line)
