"""Several processes on one run: which of them this is, and what only the first does.

`torchrun --nproc-per-node N -m nldf_engine train ...` starts them. Every process draws its own rays, since
its random numbers are seeded by its rank; DistributedDataParallel averages gradients; the first process alone
validates and writes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

# Seeds of ranks are this far apart, so that no rank's stages meet another's.
RANK_SEEDS = 1_000_003


def rank() -> int:
    """This process' number, 0 where there is one."""
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0


def world() -> int:
    """How many processes there are."""
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def is_first() -> bool:
    """Whether this process writes files, logs and validates."""
    return rank() == 0


def reports() -> bool:
    """Whether this process says what came out, also before and after `processes`: the first one started."""
    return is_first() and os.environ.get("RANK", "0") == "0"


@contextmanager
def processes(device: torch.device) -> Iterator[torch.device]:
    """Joins the processes that torchrun started, if it did; this process' device.

    Args:
        device: as chosen; "cuda" becomes the GPU of the process' local rank.
    """
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ or torch.distributed.is_initialized():
        yield device
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield device
    finally:
        torch.distributed.destroy_process_group()


def wait() -> None:
    """Waits until every process has come here."""
    if world() > 1:
        torch.distributed.barrier()


def averaged(module: nn.Module) -> Any:
    """The module as its `forward` is called: gradients averaged over processes where there are several."""
    if world() == 1:
        return module
    return nn.parallel.DistributedDataParallel(module, find_unused_parameters=True)


def generator(seed: int) -> torch.Generator:
    """A generator on the CPU, seeded for this rank."""
    return torch.Generator().manual_seed(seed + RANK_SEEDS * rank())


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
