"""`nldf bench`: rows, the report, suites that fail or crash. Times are never asserted."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest
import torch

from bench.timing import Sizes, absent_row, calls_a_turn, compare, count_row, row_of, seconds_of
from nldf_engine.apps.cli import bench_report
from nldf_engine.apps.cli import main as cli
from nldf_engine.apps.cli.commands import bench

ROOT = Path(__file__).resolve().parents[2]
GOOD = """
import torch

def test_sum(race):
    x = torch.randn(1000)
    assert float(x.std()) > 0
    race(
        {"native": lambda: x + x, "slow": lambda: x + x + x}, device=torch.device("cpu"),
        units=1000, unit="points", flops=1, moved=8, absent={"peer": "not installed"},
        kernels={"slow": "chain"},
    )
"""
BAD = "def test_wrong(race):\n    assert 1 == 2, 'native and reference differ'\n"
CRASH = "import os\n\ndef test_crash(race):\n    os._exit(7)\n"
BROKEN = "import no_such_module_at_all\n"
KEYS = {
    *("suite", "case", "name", "device", "isa", "kernel", "threads", "rounds", "median_s", "p95_s"),
    "quartiles_s",
    *("units", "unit", "per_second", "flops_per_unit", "gflops", "ceiling_gflops", "ceiling_share"),
    *("bytes_per_unit", "gb_per_s", "copy_gb_per_s", "copy_share"),
}


@pytest.fixture
def suites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of suites beside the real conftest, which `nldf bench` takes for its own."""
    folder = tmp_path / "suites"
    folder.mkdir()
    shutil.copy(ROOT / "bench" / "conftest.py", folder)
    monkeypatch.setattr(bench, "suites_folder", lambda: folder)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("NLDF_BENCH_EVENTS", raising=False)
    return folder


def test_rows_and_report_are_whole_beside_suites_that_fail(
    suites: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong result, a crash and a broken import are told, and the exit code is 1; of the others every row
    has every figure, and table, JSON and page tell of all contestants, absent ones too."""
    for name, text in {"a_broken": BROKEN, "b_bad": BAD, "c_crash": CRASH, "d_good": GOOD}.items():
        (suites / f"bench_{name}.py").write_text(text)
    out, page = tmp_path / "figures.json", tmp_path / "report"
    assert cli.main(["bench", "--quick", "--json", str(out), "--report", str(page)]) == 1
    figures = json.loads(out.read_text())
    assert figures["pace"] == "quick" and figures["environment"]["torch"] == torch.__version__
    found = figures["suites"]
    outcomes = {name: suite["outcome"] for name, suite in found.items()}
    assert outcomes == {"a_broken": "failed", "b_bad": "failed", "c_crash": "failed", "d_good": "passed"}
    assert "no_such_module_at_all" in found["a_broken"]["problems"][0]["detail"]
    assert "native and reference differ" in found["b_bad"]["problems"][0]["detail"]
    assert "ended with 7" in found["c_crash"]["problems"][0]["detail"]
    rows = found["d_good"]["rows"]
    assert [row["name"] for row in rows] == ["native", "slow", "peer"]
    timed = rows[:2]
    assert all(set(row) >= KEYS and row["rounds"] >= 3 for row in timed)
    assert [row["kernel"] for row in timed] == [None, "chain"]
    assert all(row["gflops"] == pytest.approx(1e-6 / row["median_s"]) for row in timed)
    assert all(row["ceiling_share"] == pytest.approx(row["gflops"] / row["ceiling_gflops"]) for row in timed)
    assert timed[1]["first"] == "native" and len(timed[1]["quartiles"]) == 2
    said = capsys.readouterr()
    assert "d_good  sum" in said.out and "peer" in said.out and "not installed" in said.out
    assert "b_bad  test_wrong  FAILED: AssertionError: native and reference differ" in said.out
    assert "failed: a_broken, b_bad, c_crash" in said.err.splitlines()[-1]
    html = (page / "bench.html").read_text()
    assert "not installed" in html and "torch" in html and "src=" not in html and "href=" not in html


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(["nope"], "there is no suite 'nope'; there are good"), (["--quick", "--full"], "exclude each other")],
    ids=["suite", "pace"],
)
def test_usage_errors(
    suites: Path, arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """An unknown suite and paces that exclude each other are usage errors, told before anything runs."""
    (suites / "bench_good.py").write_text(GOOD)
    assert cli.main(["bench", *arguments]) == 2
    captured = capsys.readouterr()
    assert says in captured.err and captured.out == ""


def test_ratios_come_from_rounds() -> None:
    """The ratio is the median over rounds of times a unit, so a slow round of both changes nothing."""
    cpu = torch.device("cpu")
    times = {"a": [1.0, 10.0, 1.0], "b": [2.0, 20.0, 2.0]}
    rows = [
        row_of("case", name, values, Sizes(units, "rays", 5.0), cpu, (100.0, 10.0))
        for (name, values), units in zip(times.items(), (10, 5), strict=True)
    ]
    compare(rows, times)
    assert rows[1]["first_over_this"] == 4.0 and rows[1]["quartiles"] == [4.0, 4.0]
    assert rows[0]["gflops"] == pytest.approx(5e-8) and rows[0]["gb_per_s"] is None


def test_a_turn_of_short_calls_is_many_behind_one_that_is_not_timed() -> None:
    """Short calls are timed as the mean of several; the one before them fills caches and doesn't count."""
    assert calls_a_turn(1.0) == calls_a_turn(2e-3) == 1
    assert calls_a_turn(100e-6) == 20 and calls_a_turn(1e-9) == calls_a_turn(0.0) == 50
    assert calls_a_turn(100e-6, 0.05, 0.5) == 9 and calls_a_turn(100e-6, 0.6, 0.5) == 1
    naps = iter([0.2, 0.01, 0.01, 0.01])
    assert 0.01 <= seconds_of(lambda: time.sleep(next(naps)), torch.device("cpu"), 3) < 0.06
    assert next(naps, None) is None


def test_devices_are_told_apart() -> None:
    """A race on two devices makes two groups, whose heads name the device and the kernel."""
    sizes, one = Sizes(10, "rays", 5.0), (100.0, 10.0)
    rows = [row_of("forward", "native", [1.0] * 3, sizes, torch.device(d), one) for d in ("cpu", "cuda")]
    groups = list(bench_report.cases([{"suite": "rays", **row} for row in rows]))
    assert [members[0]["device"] for _, _, members in groups] == ["cpu", "cuda"]
    assert "(cuda, CUDA, " in bench_report.table(groups[1][2])


def test_counts_are_not_shown_as_timings() -> None:
    """A count of operations has no rate, neither in the table nor on the page."""
    cpu = torch.device("cpu")
    rows = [
        {"suite": "renderers", **count_row("counts", "dfrf", "rays", 887e6, "78 times")},
        {"suite": "renderers", **absent_row("counts", "peer", cpu, "not <installed>")},
    ]
    text = bench_report.table(rows)
    assert "887 MFLOP/ray, counted; 78 times" in text and "rays/s" not in text
    suites = {"renderers": {"rows": rows, "problems": [], "skipped": []}}
    html = bench_report.page({"environment": {}, "pace": "quick", "seconds": 1.0, "suites": suites})
    assert "counted" in html and "not &lt;installed&gt;" in html
