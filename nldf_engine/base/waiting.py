"""How long threads of OpenMP and of OpenBLAS look for the next work before they sleep."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Waiting:
    """One runtime's setting.

    Attributes:
        variable, value: of the environment, which let its threads sleep soon.
        others: further variables by which somebody may have said it already.
    """

    variable: str
    value: str
    others: tuple[str, ...] = ()

    def said(self) -> bool:
        """Whether the environment says it."""
        return any(name in os.environ for name in (self.variable, *self.others))


RUNTIMES = (
    # GNU's OpenMP, which torch and the kernels use: turns of a loop, about a tenth of a millisecond.
    Waiting("GOMP_SPINCOUNT", "10000", ("OMP_WAIT_POLICY",)),
    # numpy's OpenBLAS: the power of two of processor cycles; 4 is the least. By default its threads give up
    # their core and take it back for a fiftieth of a second after each product.
    Waiting("OPENBLAS_THREAD_TIMEOUT", "4"),
)


def wait_briefly() -> list[str]:
    """Lets threads that wait for others leave their core soon, where nothing says how long they may hold it.

    By default they look for milliseconds, and the core is lost to other threads for so long: to an
    encoder beside the renderer, or to other programs. The runtimes read the variables when they are loaded,
    so this is to be called before numpy and torch are imported; child processes inherit it.

    Returns:
        the variables that were set here.
    """
    unsaid = [runtime for runtime in RUNTIMES if not runtime.said()]
    for runtime in unsaid:
        os.environ[runtime.variable] = runtime.value
    return [runtime.variable for runtime in unsaid]
