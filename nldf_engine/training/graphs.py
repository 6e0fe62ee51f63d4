"""Steps of training as CUDA graphs: recorded once for each kind of step, and replayed without Python.

A step of a small network is a hundred small operations, and launching them takes longer than running them. A
graph launches them as one. What the host draws for a step (`Objective.draw_inputs`) is copied to where the
graph reads it. The graph holds forward pass, backward pass and optimiser; learning rates and counts of steps
are on the device (`TableAdam`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from nldf_engine.ops import native
from nldf_engine.training.scene import Tensors

# Steps that run as usual before one is recorded: by then caches are filled and workspaces made.
WARM_UP = 3
# Kinds of steps that are recorded for each number. Where there are more, their sizes change all the time.
MOST_KINDS = 8


def recordable(device: torch.device) -> bool:
    """Whether steps on a device can be recorded."""
    return device.type == "cuda"


@dataclass
class _Kind:
    """Steps that differ in numbers alone."""

    given: dict[str, Tensor]
    run: int = 0
    graph: torch.cuda.CUDAGraph | None = None
    made: dict[str, Tensor] = field(default_factory=dict)


class StepGraphs:
    """Runs steps, and replays those of a kind that it has seen often enough.

    Steps are of one kind when they have the same number, and tensors of the same names, shapes and dtypes.
    Where a kind can't be recorded, its steps run as usual, which standard error says once.

    All graphs share one pool of memory, since one replay follows another on one stream: a step's activations
    take the place of another kind's. So do losses, which are to be read or copied before the next step.

    Args:
        step: runs a step of a number on tensors of the device, and returns losses; waits for nothing, and
            reads nothing that another step replaces: only tensors that are changed in place.
        changed: tensors that a step changes in place, for what is computed anew where they have changed.
        recording: entered while a step is recorded.
        device: a GPU.

    Attributes:
        replayed: steps that were replays.
        problem: why steps are not recorded; empty while they are.
    """

    def __init__(
        self, step: Callable[[int, Tensors], dict[str, Tensor]], changed: Iterable[Tensor],
        recording: Callable[[], AbstractContextManager[None]], device: torch.device,
    ) -> None:  # fmt: skip
        self._step, self._changed, self._recording, self._device = step, list(changed), recording, device
        self._kinds: dict[tuple[Hashable, ...], _Kind] = {}
        # One stream for what precedes a recording and for the recording: libraries keep workspaces for each.
        self._stream = torch.cuda.Stream(device)
        self.replayed, self.problem = 0, ""

    def __call__(self, number: int, given: Tensors) -> dict[str, Tensor]:
        """The losses of a step, which the next step overwrites, of whatever kind.

        Args:
            number: of the objective.
            given: what the host has drawn for it.
        """
        key = (number, *((name, values.shape, values.dtype) for name, values in given.items()))
        kind = self._kinds.get(key)
        if kind is None and (self.problem or sum(known[0] == number for known in self._kinds) == MOST_KINDS):
            self._give_up(f"their sizes change: there are more than {MOST_KINDS} kinds")
            return self._step(number, {n: native.send(v, self._device) for n, v in given.items()})
        if kind is None:
            made = {name: torch.empty_like(values, device=self._device) for name, values in given.items()}
            kind = self._kinds.setdefault(key, _Kind(made))
        for name, values in given.items():
            kind.given[name].copy_(native.pinned(values, self._device), non_blocking=True)
        if kind.graph is None and kind.run >= WARM_UP and not self.problem:
            self._record(number, kind)
        if kind.graph is not None:
            kind.graph.replay()
            self.replayed += 1
            for tensor in self._changed:  # a replay tells nobody
                torch.autograd.graph.increment_version(tensor)
            return kind.made
        kind.run += 1
        return self._aside(number, kind)

    def forget(self) -> None:
        """Drops all graphs: tensors that they read have been replaced."""
        self._kinds.clear()

    def _aside(self, number: int, kind: _Kind) -> dict[str, Tensor]:
        """A step as usual, on the stream of recordings."""
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            made = self._step(number, kind.given)
        current.wait_stream(self._stream)
        return made

    def _record(self, number: int, kind: _Kind) -> None:
        graph = torch.cuda.CUDAGraph()
        # Of a graph that is alive: a pool ends with the last one in it.
        pool = next((known.graph.pool() for known in self._kinds.values() if known.graph is not None), None)
        try:
            # A recording that fails leaves its stream the current one, which the first of these takes back.
            # Other threads, which write files and events, may go on with what would disturb a recording here.
            with (
                torch.cuda.stream(torch.cuda.current_stream(self._device)),
                self._recording(),
                torch.cuda.graph(graph, pool=pool, stream=self._stream, capture_error_mode="thread_local"),
            ):
                kind.made = self._step(number, kind.given)
        except RuntimeError as error:
            torch.cuda.synchronize(self._device)
            first: BaseException = error  # the end of a recording complains of what went wrong in it
            while isinstance(first.__context__, RuntimeError):
                first = first.__context__
            self._give_up(str(first).split("\n")[0])
            return
        kind.graph = graph

    def _give_up(self, problem: str) -> None:
        if not self.problem:
            self.problem = problem
            sys.stderr.write(f"steps are not replayed as CUDA graphs, which would be faster: {problem}\n")
