"""One step of Adam over tables of features of which a batch meets few entries."""

from __future__ import annotations

import torch
from torch import Tensor

from nldf_engine.ops import native
from nldf_engine.ops.check import Checker
from nldf_engine.ops.reference import adam_reference


def _adam(
    table: Tensor, v_table: Tensor, first: Tensor, second: Tensor, rates: Tensor | None,
    step: float, root: float, beta1: float, beta2: float, epsilon: float,
) -> None:  # fmt: skip
    native.launch(
        "adam", {"v_table": v_table, "rates": rates}, {"table": table, "first": first, "second": second},
        entries=len(table), features=table.shape[1],
        step=step, root=root, beta1=beta1, beta2=beta2, new1=1 - beta1, new2=1 - beta2, epsilon=epsilon,
    )  # fmt: skip


def _adam_fake(*_: object) -> None:
    return None


_call_adam = native.register(
    "adam(Tensor(a!) table, Tensor v_table, Tensor(b!) first, Tensor(c!) second, Tensor? rates, float step,"
    " float root, float beta1, float beta2, float epsilon) -> ()",
    _adam,
    _adam_fake,
)


def adam_rates(steps: Tensor, rate: Tensor, betas: tuple[float, float] = (0.9, 0.99)) -> Tensor:
    """[N, 2] of which a row is `step_adam`'s `rates`: of N counts of steps [N], of this step too, and a rate.

    Nothing is read on the CPU, so that a recorded graph computes them anew in each of its replays.
    """
    counts = steps.double()
    ratio = rate.double() / (1 - betas[0] ** counts)
    return torch.stack([ratio, (1 - betas[1] ** counts).sqrt()], 1).to(steps.dtype)


@torch.no_grad()
def step_adam(
    table: Tensor, v_table: Tensor, first: Tensor, second: Tensor, steps: int = 1, rate: float = 0.0,
    *, rates: Tensor | None = None, betas: tuple[float, float] = (0.9, 0.99), epsilon: float = 1e-15,
    backend: str = "native",
) -> None:  # fmt: skip
    """A step of Adam (Kingma & Ba 2015, algorithm 1) in place, for the entries that have a gradient.

    An entry of which all features have a gradient of exactly zero is passed over: it neither moves on by
    its momentum nor forgets its moments (Mueller et al. 2022, section 4). The moments of all others are
    divided by 1 - beta^t with the table's t, however often they have been met themselves. By the default
    betas an entry's first gradient moves it by 0.47 (t = 13) to 1 times `rate`, and by nearly `rate` from
    some 300 steps on.

    Args:
        table: [N, F], changed.
        v_table: [N, F], its gradient.
        first, second: [N, F], the moments m and v, changed; zeros at first.
        steps: t, this one included, at least 1.
        rate: learning rate, not negative.
        rates: [2] on the table's device, `adam_rates` of `steps` and `rate`, read in place of these when the
            step is made.
        betas: decays of m and v, in [0, 1).
        epsilon: added to the root of v, not negative.
        backend: "native" or "reference".

    Raises:
        TypeError, ValueError: an argument doesn't fit.
        MissingBackend: the kernel for this device isn't built.

    Example:
        >>> table, gradient = torch.zeros(2, 2), torch.tensor([[0.5, -3.0], [0.0, 0.0]])
        >>> step_adam(table, gradient, torch.zeros(2, 2), torch.zeros(2, 2), steps=1, rate=0.1)
        >>> table
        tensor([[-0.1000,  0.1000],
                [ 0.0000,  0.0000]])
    """
    check = Checker("step_adam")
    check.tensor("table", table, ("N", "F"))
    check.tensor("v_table", v_table, ("N", "F"))
    check.tensor("first", first, ("N", "F"))
    check.tensor("second", second, ("N", "F"))
    if rates is not None:
        check.tensor("rates", rates, (2,))
    check.integer("steps", steps, 1)
    for name, value in (("rate", rate), ("betas[0]", betas[0]), ("betas[1]", betas[1]), ("epsilon", epsilon)):
        check.number(name, value)
        if value < 0 or (name.startswith("betas") and value >= 1):
            wanted = "in [0, 1)" if name.startswith("betas") else "not negative"
            raise ValueError(f"step_adam: {name} must be {wanted}, got {value}")
    numbers = rate / (1 - betas[0] ** steps), (1 - betas[1] ** steps) ** 0.5, *betas, epsilon
    if not native.use_native("step_adam", backend):
        if rates is not None:
            numbers = (*rates.tolist(), *numbers[2:])
        adam_reference(table, v_table, first, second, *numbers)
        return
    _call_adam(table, v_table, first, second, rates, *numbers)
    if not (torch.compiler.is_compiling() or table.is_inference()):
        for changed in (table, first, second):  # as torch's own operations do
            torch.autograd.graph.increment_version(changed)
