"""CUDA graphs without a GPU: what is recorded is written down and undone, and made again in each replay with
the very tensors that it was recorded with. A replay spoils what other graphs of its pool have made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

# Operations that wait for the device, make tensors of a size that only the device knows, or copy numbers of
# Python's to it.
WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "equal", "lift_fresh")


def place(tensor: Tensor) -> int:
    """The memory that a tensor is in."""
    return tensor.untyped_storage().data_ptr()


class Recording(TorchDispatchMode):
    """Writes operations down; what no graph takes is refused with CUDA's words."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, list[Any]]] = []
        self.made: dict[int, Tensor] = {}
        self.outside: dict[int, tuple[Tensor, Tensor]] = {}
        self.uses: dict[int, str] = {}

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        random = torch.Tag.nondeterministic_seeded in operation.tags
        if random or operation._schema.name.split("::")[1] in WAITS:
            raise RuntimeError(f"operation not permitted when stream is capturing: {operation}")
        for leaf in tree_leaves((args, kwargs)):
            if isinstance(leaf, Tensor) and place(leaf) not in self.made | self.outside:
                self.outside[place(leaf)] = leaf.data, leaf.data.clone()
                self.uses[place(leaf)] = f"{operation} of {list(leaf.shape)}"
        found = operation(*args, **kwargs)
        new = [leaf.data if isinstance(leaf, Tensor) else leaf for leaf in tree_leaves(found)]
        for leaf in new:
            if isinstance(leaf, Tensor) and place(leaf) not in self.outside:
                self.made[place(leaf)] = leaf
        self.calls.append((operation, *tree_map(_plain, (args, kwargs)), new))
        return found

    def undo(self) -> None:
        """Puts back what was there: to record runs nothing."""
        for tensor, before in self.outside.values():
            tensor.copy_(before)


def _plain(value: Any) -> Any:
    # Of the same memory, but what changes it is noticed nowhere, as a replay is not.
    return value.data if isinstance(value, Tensor) else value


class Graph:
    """In place of torch.cuda.CUDAGraph.

    A graph's memory in a pool may be any other's there: what one has made is spoilt where another replays.

    Attributes:
        outside: the memory that it reads or changes and was not made in it, and the first operation to do so.
        made: the tensors that it makes.
        replays: how many there were.
    """

    every: list[Graph] = []  # noqa: RUF012

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.outside: dict[int, str] = {}
        self.made: list[Tensor] = []
        self.replays = 0
        self._pool: object = None
        Graph.every.append(self)

    def pool(self) -> object:
        return self._pool

    def recorded_in(self, pool: object) -> None:
        self._pool = object() if pool is None else pool

    def replay(self) -> None:
        self.replays += 1
        for other in Graph.every:
            if other is not self and other._pool is self._pool:
                for tensor in other.made:
                    spoil(tensor)
        for operation, args, kwargs, made in self.calls:
            if operation.is_view:
                continue
            with torch.no_grad():
                found = operation(*args, **kwargs)
            for old, new in zip(made, tree_leaves(found), strict=True):
                if isinstance(old, Tensor) and place(old) != place(new):
                    old.copy_(new)


def spoil(tensor: Tensor) -> None:
    """Writes what no step would give."""
    if tensor.dtype == torch.bool:
        tensor.logical_not_()
    else:
        tensor.fill_(torch.nan if tensor.is_floating_point() else 77)


@contextmanager
def recorded(
    graph: Graph, pool: object = None, stream: Any = None, capture_error_mode: str = "global"
) -> Iterator[None]:
    """In place of torch.cuda.graph."""
    assert stream is not None and capture_error_mode == "thread_local"
    recording = Recording()
    Stream.current.append(stream)
    try:
        with recording:
            yield
    except RuntimeError:
        # As torch does, which then leaves the stream.
        raise RuntimeError("operation failed due to a previous error during capture")  # noqa: B904
    finally:
        recording.undo()
    Stream.current.pop()
    graph.calls, graph.outside = recording.calls, recording.uses
    graph.made = list(recording.made.values())
    graph.recorded_in(pool)


class Stream:
    """In place of torch.cuda.Stream."""

    current: list[Stream] = []  # noqa: RUF012

    def __init__(self, device: Any = None) -> None:
        self.waited = 0

    def wait_stream(self, other: Stream) -> None:
        assert other is not self
        self.waited += 1


@contextmanager
def on(stream: Stream) -> Iterator[None]:
    """In place of torch.cuda.stream."""
    before = list(Stream.current)
    Stream.current.append(stream)
    try:
        yield
    finally:
        Stream.current[:] = before


def stand_in(monkeypatch: pytest.MonkeyPatch) -> list[Graph]:
    """Graphs of CPU tensors, for as long as the test runs; those that are made."""
    Graph.every, Stream.current = [], [Stream()]
    replaced = {
        "CUDAGraph": Graph, "graph": recorded, "Stream": Stream, "synchronize": lambda device=None: None,
        "stream": on, "current_stream": lambda device=None: Stream.current[-1],
    }  # fmt: skip
    for name, value in replaced.items():
        monkeypatch.setattr(torch.cuda, name, value)
    return Graph.every
