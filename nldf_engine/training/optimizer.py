"""Adam as every model is trained with it: torch's for networks, `ops.step_adam` for tables of features."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from nldf_engine import ops

UNKNOWN = ("weight_decay", "amsgrad", "maximize")


class TableAdam(torch.optim.Adam):
    """torch.optim.Adam, fused, whose groups with "sparse" set leave entries without a gradient as they are.

    Few entries of a fine grid are met by a batch: three quarters of nldf-fast's are not. What is kept for a
    table is what torch keeps ("step", "exp_avg", "exp_avg_sq"), so that states load from either.

    Args:
        params: parameters or groups; those of a group with "sparse": True are tables [N, F].
        lr, betas: as torch.optim.Adam's.
        on_device: keep rates and counts of steps beside the parameters, so that a step depends on nothing on
            the CPU and can be recorded as a CUDA graph.

    Raises:
        ValueError: a group of tables with weight decay, AMSGrad, a reversed sign or a tensor as its rate.

    Example:
        >>> table = torch.nn.Parameter(torch.zeros(2, 2))
        >>> optimizer = TableAdam([{"params": [table], "sparse": True}], lr=0.1)
        >>> table[0].sum().backward()
        >>> optimizer.step()
        >>> table.data
        tensor([[-0.1000, -0.1000],
                [ 0.0000,  0.0000]])
    """

    def __init__(
        self, params: Any, lr: float, betas: tuple[float, float] = (0.9, 0.99), on_device: bool = False
    ) -> None:
        self.on_device = on_device
        super().__init__(params, lr=lr, betas=betas, fused=True)
        # A scaler of gradients then divides them itself before a step, and leaves out those that overflow.
        self._step_supports_amp_scaling = False

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds parameters; see `torch.optim.Optimizer.add_param_group`."""
        if param_group.get("sparse"):
            odd = [name for name in UNKNOWN if param_group.get(name)]
            odd += ["a tensor as lr"] * isinstance(param_group.get("lr"), Tensor)
            if odd:
                raise ValueError(f"TableAdam: a sparse group knows no {', '.join(odd)}")
            param_group = {**param_group, "fused": False}  # which lets `_init_group` step its tables itself
        super().add_param_group(param_group)
        self._keep_rate(self.param_groups[-1])

    def _keep_rate(self, group: dict[str, Any]) -> None:
        if self.on_device and not isinstance(group["lr"], Tensor) and group["params"]:
            group["lr"] = torch.tensor(float(group["lr"]), device=group["params"][0].device)

    def set_rate(self, group: dict[str, Any], rate: float) -> None:
        """Changes the rate of a group: where it is a tensor, the number in it."""
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Inside, steps may be recorded as a CUDA graph; outside, torch would warn of `capturable`."""
        try:
            self._set_capturable(self.on_device)
            yield
        finally:
            self._set_capturable(False)

    def _set_capturable(self, capturable: bool) -> None:
        for group in self.param_groups:
            group["capturable"] = capturable

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Loads moments and settings of this or of torch's Adam; which groups are sparse stays, and so does
        where counts and rates are."""
        kept = [(bool(group.get("sparse")), group["lr"]) for group in self.param_groups]
        super().load_state_dict(state_dict)
        for group, (sparse, lr) in zip(self.param_groups, kept, strict=True):
            group["sparse"] = sparse
            if isinstance(lr, Tensor):  # the same one, which a graph may read
                lr.fill_(float(group["lr"]))
                group["lr"] = lr
            if sparse:
                group["fused"] = False
                for table in group["params"]:
                    if self.state[table]:
                        to = table.device if self.on_device else torch.device("cpu")
                        self.state[table]["step"] = self.state[table]["step"].to(to)

    def _init_group(self, group: dict[str, Any], *lists: list[Tensor]) -> bool:
        # torch.optim.Adam.step asks this for a group's lists, and steps what it finds there.
        if not group.get("sparse"):
            return bool(super()._init_group(group, *lists))
        met = [table for table in group["params"] if table.grad is not None]
        for table in met:
            if not self.state[table]:
                self.state[table] = {
                    "step": torch.zeros((), device=table.device if self.on_device else "cpu"),
                    "exp_avg": torch.zeros_like(table), "exp_avg_sq": torch.zeros_like(table),
                }  # fmt: skip
        if met:
            counts = [self.state[table]["step"] for table in met]
            torch._foreach_add_(counts, 1)
            self._step_tables(met, counts, group)
        return False

    def _step_tables(self, tables: list[Tensor], counts: list[Tensor], group: dict[str, Any]) -> None:
        numbers: list[dict[str, Any]]
        if self.on_device:
            rates = ops.adam_rates(torch.stack(counts), group["lr"], group["betas"])
            numbers = [{"rates": row} for row in rates.unbind()]
        else:  # read not by one of torch's operations, which cost more
            numbers = [{"steps": int(count.numpy()), "rate": group["lr"]} for count in counts]
        for table, own in zip(tables, numbers, strict=True):
            state = self.state[table]
            assert table.grad is not None
            ops.step_adam(
                table, table.grad, state["exp_avg"], state["exp_avg_sq"], betas=group["betas"],
                epsilon=group["eps"], **own,
            )  # fmt: skip
