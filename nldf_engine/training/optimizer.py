"""Adam as every model is trained with it: torch's for networks, `ops.step_adam` for tables of features."""

from __future__ import annotations

from typing import Any

import torch

from nldf_engine import ops


class TableAdam(torch.optim.Adam):
    """torch.optim.Adam, fused, whose groups with "sparse" set leave entries without a gradient as they are.

    Few entries of a fine grid are met by a batch: three quarters of nldf-fast's are not. What is kept for a
    table is what torch keeps ("step", "exp_avg", "exp_avg_sq"), so that states load from either.

    Args:
        params: parameters or groups; those of a group with "sparse": True are tables [N, F]. A step leaves
            them without a gradient, for it has been used.
        lr, betas: as torch.optim.Adam's.

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
        for group in self.param_groups:
            if group.get("sparse"):
                group["fused"] = False  # else a state that is loaded counts its steps on the device

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One step of every parameter that has a gradient; returns what `closure` does, called before."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            if group.get("sparse"):
                self._step_tables(group)
        super().step()  # passes over parameters without a gradient
        return loss

    def _step_tables(self, group: dict[str, Any]) -> None:
        for table in group["params"]:
            if table.grad is None:
                continue
            state = self.state[table]
            if not state:
                state["step"] = torch.zeros(())
                state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(table), torch.zeros_like(table)
            state["step"] += 1
            ops.step_adam(
                table, table.grad, state["exp_avg"], state["exp_avg_sq"], int(state["step"]), group["lr"],
                betas=group["betas"], epsilon=group["eps"],
            )  # fmt: skip
            table.grad = None
