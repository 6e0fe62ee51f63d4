"""Several processes on one run: who they are, which part of a step is whose, and what only the first does.

`torchrun --nproc-per-node N -m nldf_engine train ...` starts them. How many there are is no setting of a run:
all draw the same batches, since their generators are seeded alike, and each takes its part of them (`share`).
DistributedDataParallel averages the gradients of the parts, which gives those of the whole batch; so the
curve is that of one process but for rounding, and a checkpoint continues under any number of processes. The
first process alone validates and writes.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from nldf_engine.base.errors import NldfError

T = TypeVar("T")
# The others wait while the first one validates, or renders a teacher's targets. A process that has ended is
# noticed at once all the same: its connections close, and torchrun stops the others.
LONGEST_WAIT = timedelta(hours=6)


class ProcessFailed(NldfError):
    """A process of a run over several has failed; the message says which."""


def rank() -> int:
    """This process' number, 0 where there is one."""
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0


def world() -> int:
    """How many processes there are."""
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def is_first() -> bool:
    """Whether this process writes files, logs and validates."""
    return rank() == 0


def by_first(work: Callable[[], T]) -> T | None:
    """What `work` returns in the first process; the others do not call it, and get None."""
    return work() if is_first() else None


def reports() -> bool:
    """Whether this process says what came out, also before and after `processes`: the first one started."""
    return is_first() and os.environ.get("RANK", "0") == "0"


@contextmanager
def processes(device: torch.device) -> Iterator[torch.device]:
    """Joins the processes that torchrun started, if it did; this process' device.

    Inside, the processes beside the first print nothing: it would be the same once more. What ends one of
    them is raised with its number, and ends the others too: torchrun stops them, and one that waits for it
    fails at once.

    Args:
        device: as chosen; "cuda" becomes the GPU of the process' local rank.

    Raises:
        ProcessFailed: whatever went wrong in this process, or another one has ended.
    """
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ or torch.distributed.is_initialized():
        yield device
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    number, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    said = contextlib.redirect_stderr(io.StringIO()) if number else contextlib.nullcontext()
    try:
        backend = "nccl" if device.type == "cuda" else "gloo"
        torch.distributed.init_process_group(backend, timeout=LONGEST_WAIT)
        with said:
            yield device
    except Exception as error:
        if count == 1:
            raise
        # The group is left as it is: to take it apart waits for processes that may wait for this one.
        raise ProcessFailed(
            f"process {number + 1} of {count} ({platform.node()}): {_described(error)}"
        ) from error
    except BaseException:
        torch.distributed.destroy_process_group()
        raise
    torch.distributed.destroy_process_group()


def _described(error: Exception) -> str:
    """The error's own words, or, for a connection that another process has dropped, what that means."""
    backend = isinstance(error, torch.distributed.DistError) or "gloo" in str(error).lower()
    if not backend:
        return str(error) or type(error).__name__
    return (
        "another process of this run has ended. To fix it: look for its own message above, or for what "
        "torchrun says of it below; the same command with --resume continues from the last checkpoint, "
        "with any number of processes."
    )


def wait() -> None:
    """Waits until every process has come here."""
    if world() > 1:
        torch.distributed.barrier()


def first_before_others(work: Callable[[], T]) -> T:
    """What `work` returns, in every process: the others call it when the first is done, and find what it
    kept."""
    if not is_first():
        wait()
        return work()
    made = work()
    wait()
    return made


def check_same(value: str, what: str) -> None:
    """Checks that every process has the same value as the first; to be called by all of them.

    Raises:
        ProcessFailed: in every process, where one has another value.
    """
    if world() == 1:
        return
    known: list[Any] = [None] * world()
    torch.distributed.all_gather_object(known, value)
    others = [str(number + 1) for number, one in enumerate(known) if one != known[0]]
    if others:
        raise ProcessFailed(
            f"processes {', '.join(others)} of {world()} see another {what} than the first. To fix it: keep "
            "datasets and avatars where all machines see them under the same path, and give all the same "
            "flags."
        )


# The parts of a step.


def rounded(count: int) -> int:
    """The count, or the next larger one that can be shared evenly."""
    return -(-count // world()) * world()


def share(values: Tensor, dim: int = 0, what: str = "values") -> Tensor:
    """This process' part of values that all processes have drawn alike: every N-th along `dim`.

    Args:
        values: any shape; all of them where there is one process.
        dim: the dimension that is divided.
        what: the setting that says how many there are, for the message.

    Raises:
        ValueError: they can't be shared evenly.
    """
    count, parts = values.shape[dim], world()
    if count % parts:
        raise ValueError(f"{what}: expected a multiple of the {parts} processes, got {count}")
    return values if parts == 1 else values.unflatten(dim, (-1, parts)).select(dim + 1, rank())


def whole(values: Tensor, dim: int = 0) -> Tensor:
    """The values of which every process has its `share`, in every process and in their order."""
    if world() == 1:
        return values
    own = values.contiguous()
    parts = [torch.empty_like(own) for _ in range(world())]
    torch.distributed.all_gather(parts, own)
    return torch.stack(parts, dim + 1).flatten(dim, dim + 1)


def averaged(module: nn.Module) -> Any:
    """The module as its `forward` is called: gradients averaged over processes where there are several."""
    if world() == 1:
        return module
    parallel = nn.parallel.DistributedDataParallel
    # No buffer changes by training, so that none needs to be sent in every step. The flag has two names.
    newer = "forward_sync_buffers" in inspect.signature(parallel.__init__).parameters
    flags: dict[str, Any] = {"forward_sync_buffers" if newer else "broadcast_buffers": False}
    return parallel(module, find_unused_parameters=True, **flags)


# Numbers that all processes agree on.


def mean(value: Tensor) -> Tensor:
    """The mean of all processes' values, in every process."""
    if world() == 1:
        return value
    given = value.detach().clone()
    torch.distributed.all_reduce(given)
    return given / world()


def shared(value: float, device: torch.device) -> float:
    """The first process' value, in every process."""
    if world() == 1:
        return value
    given = torch.tensor([value], dtype=torch.float64, device=device)
    torch.distributed.broadcast(given, 0)
    return float(given)


def largest(value: int, device: torch.device) -> int:
    """The largest of all processes' values, in every process."""
    if world() == 1:
        return value
    given = torch.tensor([value], dtype=torch.int64, device=device)
    torch.distributed.all_reduce(given, torch.distributed.ReduceOp.MAX)
    return int(given)


def share_weights(module: nn.Module) -> None:
    """Gives every process the first one's parameters and buffers."""
    if world() > 1:
        for value in module.state_dict().values():
            torch.distributed.broadcast(value, 0)
