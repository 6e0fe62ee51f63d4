"""Adam as every model is trained with it: torch's for networks, `ops.step_adam` for tables of features."""

from __future__ import annotations

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

    def __init__(self, params: Any, lr: float, betas: tuple[float, float] = (0.9, 0.99)) -> None:
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
            param_group = {**param_group, "fused": False}  # which keeps the count of steps on the CPU
        super().add_param_group(param_group)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Loads moments and settings of this or of torch's Adam; which groups are sparse stays."""
        sparse = [bool(group.get("sparse")) for group in self.param_groups]
        super().load_state_dict(state_dict)
        for group, kept in zip(self.param_groups, sparse, strict=True):
            group["sparse"] = kept
            if kept:
                group["fused"] = False
                for table in group["params"]:
                    if self.state[table]:
                        self.state[table]["step"] = self.state[table]["step"].cpu()

    def _init_group(self, group: dict[str, Any], *lists: list[Tensor]) -> bool:
        # torch.optim.Adam.step asks this for a group's lists, and steps what it finds there.
        if not group.get("sparse"):
            return bool(super()._init_group(group, *lists))
        met = [table for table in group["params"] if table.grad is not None]
        for table in met:
            self._step_table(table, table.grad, group)
        if met:
            torch._foreach_add_([self.state[table]["step"] for table in met], 1)
        return False

    def _step_table(self, table: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[table]
        if not state:
            state["step"] = torch.zeros((), device="cpu")
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(table), torch.zeros_like(table)
        steps = int(state["step"].numpy()) + 1  # not by one of torch's operations, which cost more
        ops.step_adam(
            table, gradient, state["exp_avg"], state["exp_avg_sq"], steps, group["lr"],
            betas=group["betas"], epsilon=group["eps"],
        )  # fmt: skip
