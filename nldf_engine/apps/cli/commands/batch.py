"""`nldf batch`: many renders, evaluations and trainings, on this machine or on a cluster."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from tyro.conf import Positional

from nldf_engine.apps.cli.command import Command, Json, UsageError, optional, positive, save_results, value

if TYPE_CHECKING:
    from nldf_engine.apps.batch.attempt import Workers


@dataclass(frozen=True)
class Batch(Command):
    """Render, evaluate or train many, on this machine or on a Ray cluster.

    JOBS lists commands with their flags by name, as YAML, JSON or CSV; paths are relative to its folder. All
    jobs are checked before any starts. A job that fails does not stop the others; one whose process or
    machine is lost is started again. The same command again runs what is not done, or whose inputs have
    changed. Logs, results and the report go to JOBS.batch, beside JOBS.
    """

    examples: ClassVar[tuple[str, ...]] = (
        "nldf batch jobs.yaml",
        "nldf batch jobs.csv --workers 4 --threads 2",
        "nldf batch jobs.yaml --check",
        "nldf batch jobs.yaml --ray auto --threads 4 --stretch 30",
    )
    when_stopped: ClassVar[str] = "what is done is kept: run the same command again to continue"

    reads: ClassVar[tuple[str, ...]] = ("jobs",)
    fills: ClassVar[tuple[str, ...]] = ("folder",)

    jobs: Annotated[Path, Positional, value("JOBS.yaml|json|csv")]
    """file of jobs"""
    workers: Annotated[int | None, optional("N")] = None
    """jobs at a time on this machine; by default one a GPU, or without any one for two cores"""
    threads: Annotated[int | None, optional("N")] = None
    """CPU threads of a job; by default an even share of the cores, and 1 on a cluster"""
    ray: Annotated[str | None, optional("ADDRESS")] = None
    """run on the Ray cluster at this address (auto, HOST:PORT), whose machines see the same paths"""
    retries: Annotated[int, value("N")] = 2
    """how often a job whose process or machine was lost is started again"""
    stretch: Annotated[float, value("SECONDS")] = 0.0
    """divide longer renders into stretches of so many seconds, which are joined without a seam; 0 divides
    none: it pays where drawing takes far longer than encoding"""
    root: Annotated[Path | None, optional("DIR")] = None
    """the folder that no path of a job may leave; by default that of JOBS"""
    check: bool = False
    """only check the jobs"""
    json: Json = None
    """also write the report here"""

    @property
    def folder(self) -> Path:
        """Of the batch."""
        return self.jobs.with_suffix(".batch")

    def run(self) -> int:
        """Runs the jobs, and prints what came of each; returns 1 where one is not done."""
        positive(workers=self.workers, threads=self.threads)
        if self.retries < 0 or self.stretch < 0:
            raise UsageError("--retries and --stretch are 0 or more")
        if self.ray is not None and self.workers is not None:
            raise UsageError(
                "--workers is for this machine; a Ray cluster has its own (--threads N for each job)"
            )
        from nldf_engine.apps.batch.jobs import read_jobs
        from nldf_engine.apps.batch.run import run_tasks
        from nldf_engine.apps.batch.tasks import plan
        from nldf_engine.base.errors import NldfError

        jobs = read_jobs(self.jobs, self.root)
        tasks = plan(jobs, self.folder, self.stretch or None)
        if self.check:
            print(f"{self.jobs}: {len(jobs)} jobs, {len(tasks)} tasks; all can be run")
            return 0
        report = run_tasks(tasks, self._workers(), self.folder)
        print("\n".join(report.lines()))
        save_results(self.json, report.to_json())
        missing = [name for name in report.jobs if report.outcomes[name].state not in ("done", "kept")]
        if missing:
            raise NldfError(
                f"{len(missing)} of {len(jobs)} jobs are not done, {missing[0]} the first of them. To fix it:"
                f" see {self.folder / 'logs'}; the same command again runs these alone."
            )
        return 0

    def _workers(self) -> Workers:
        if self.ray is not None:
            from nldf_engine.apps.batch.cluster import Cluster

            return Cluster(self.ray, self.threads or 1, retries=self.retries)
        from nldf_engine.apps.batch.processes import Processes

        return Processes(self.workers, self.threads, self.retries)
