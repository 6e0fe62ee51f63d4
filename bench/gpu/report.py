"""Everything that a run measured, in one file and as a page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bench.gpu import rows


def merge(state: str, file: str) -> None:
    """Writes everything that was measured into one file, and says which steps failed or weren't run."""
    folder = Path(state)

    def read(name: str) -> Any:
        path = folder / name
        try:
            return json.loads(path.read_text()) if path.exists() else None
        except json.JSONDecodeError:  # the step was stopped while it wrote
            return None

    steps = [json.loads(line) for line in (folder / "steps.jsonl").read_text().splitlines()]
    events = rows.read(Path(file).with_name("rows.jsonl"))
    suites: dict[str, list[Any]] = {}
    for event in events:
        for row in event.get("rows", []):
            suites.setdefault(row["suite"], []).append(row)
    report = {
        "environment": read("environment.json"),
        "steps": steps,
        "matmul": {"before": read("matmul_before.json"), "after": read("matmul_after.json")},
        "parts": [event for event in events if "part" in event],
        "suites": suites,
    }
    part = Path(f"{file}.part")
    part.write_text(json.dumps(report, indent=1))
    part.replace(file)
    page(report, Path(file).parent)
    for outcome in ("failed", "not run"):
        chosen = [step for step in steps if step["outcome"] == outcome]
        print(f"{outcome}: {len(chosen)} of {len(steps)} steps")
        for step in chosen:
            print(f"  {step['step']}: {step['detail']}")


def page(report: dict[str, Any], folder: Path) -> None:
    """Writes the benches' rows as the page that `nldf bench --report` makes, bench.html."""
    try:
        from nldf_engine.apps.cli.bench_report import write_page
    except ImportError as error:
        print(f"no bench.html: {error}")
        return
    suites: dict[str, Any] = {}
    for name, measured in report["suites"].items():
        failed = [step for step in report["steps"] if step["step"] == f"bench {name}"]
        problems = [{"case": "", "detail": step["detail"]} for step in failed if step["outcome"] == "failed"]
        suites[name] = {"rows": measured, "problems": problems, "skipped": []}
    seconds = sum(step["seconds"] for step in report["steps"])
    figures = {
        "environment": report["environment"] or {}, "pace": "normal", "seconds": seconds, "suites": suites
    }  # fmt: skip
    print(f"{write_page(folder, figures)}: the benches as a page")
