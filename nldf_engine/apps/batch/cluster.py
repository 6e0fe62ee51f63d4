"""Tasks on a Ray cluster: Ray places them, and starts those again whose process or machine is lost.

Its machines have the package installed, and see job file and outputs under the same paths.
"""

from __future__ import annotations

import os
from typing import Any

from nldf_engine.apps.batch.attempt import Outcome, attempt
from nldf_engine.apps.batch.tasks import Task
from nldf_engine.apps.cli.libraries import remedy
from nldf_engine.base.errors import MissingBackend, NldfError

# Variables of this process that tasks on other machines get, where they are set.
HANDED_ON = ("NLDF_PRECISION", "NLDF_DEBUG", "NLDF_CONFIG")


class Crashed(Exception):
    """A task's process was lost; Ray starts it again."""


def crashing(task: Task, environment: dict[str, str]) -> Outcome:
    """As `attempt`, on a machine of the cluster.

    Raises:
        Crashed: its process was lost.
    """
    outcome = attempt(task, environment)
    if outcome.state == "crashed":
        raise Crashed(outcome.message)
    return outcome


class Cluster:
    """See `Workers`.

    Args:
        address: of the cluster, as `ray.init` takes it: "auto", HOST:PORT or ray://HOST:PORT.
        threads: CPU cores of a task.
        gpus: GPUs of a task; None: one where the cluster has any.
        retries: how often a task whose process or machine was lost is started again.

    Raises:
        MissingBackend: Ray is not installed.
        NldfError: there is no cluster at that address.
    """

    def __init__(self, address: str, threads: int = 1, gpus: float | None = None, retries: int = 2) -> None:
        try:
            import ray
        except ImportError:
            raise MissingBackend("jobs on a cluster need Ray", remedy("ray")) from None
        self._ray: Any = ray
        self._address, self.threads, self._gpus, self._retries = address, threads, gpus, retries
        self._running: dict[Any, Task] = {}

    @property
    def described(self) -> str:
        """What runs the tasks, in words."""
        found = self._ray.cluster_resources()
        nodes = sum(node["Alive"] for node in self._ray.nodes())
        return (
            f"a cluster of {nodes} machines, {found.get('CPU', 0):g} cores and {found.get('GPU', 0):g} GPUs"
        )

    def __enter__(self) -> Cluster:
        try:
            self._ray.init(self._address, log_to_driver=False, logging_level="error")
        except (ConnectionError, ValueError, RuntimeError) as error:
            first = " ".join(str(error).split())
            raise NldfError(
                f"--ray {self._address}: there is no Ray cluster ({first}). To fix it: start one (ray start "
                "--head), or leave --ray out to run the jobs on this machine."
            ) from error
        resources = self._ray.cluster_resources()
        gpus = (1.0 if resources.get("GPU") else 0.0) if self._gpus is None else self._gpus
        if resources.get("CPU", 0) < self.threads:
            raise NldfError(f"--threads {self.threads}: the cluster has {resources.get('CPU', 0):g} cores")
        self._remote = self._ray.remote(crashing).options(
            num_cpus=self.threads, num_gpus=gpus, max_retries=self._retries, retry_exceptions=[Crashed],
            scheduling_strategy="SPREAD",
        )  # fmt: skip
        return self

    def __exit__(self, *error: object) -> None:
        for future in self._running:
            self._ray.cancel(future, force=False)
        if self._running:  # their processes end before their workers do
            self._ray.wait(list(self._running), num_returns=len(self._running), timeout=60.0)
        self._ray.shutdown()

    def start(self, task: Task) -> None:
        """See `Workers`."""
        given = {name: os.environ[name] for name in HANDED_ON if name in os.environ}
        environment = {"OMP_NUM_THREADS": str(self.threads), **given}
        self._running[self._remote.remote(task, environment)] = task

    def ended(self, seconds: float) -> list[Outcome]:
        """See `Workers`."""
        done, _ = self._ray.wait(list(self._running), num_returns=len(self._running), timeout=seconds)
        return [self._outcome(future, self._running.pop(future)) for future in done]

    def _outcome(self, future: Any, task: Task) -> Outcome:
        try:
            outcome: Outcome = self._ray.get(future)
            return outcome
        except self._ray.exceptions.RayError as error:
            lost = getattr(error, "cause", None) or error
            return Outcome(task.name, "crashed", message=" ".join(str(lost).split())[:300])
