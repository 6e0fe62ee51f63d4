"""How long threads of OpenMP look for the next work before they sleep."""

from __future__ import annotations

import os

VARIABLE, TURNS = "GOMP_SPINCOUNT", 10_000  # turns of a loop that waits: about a tenth of a millisecond
OTHERS = ("OMP_WAIT_POLICY", VARIABLE)  # by which somebody has said it already


def wait_briefly() -> bool:
    """Lets threads that wait for others leave their core soon, where nothing says how long they may hold it.

    By default GNU's runtime looks for some milliseconds, and the core is lost to other threads for so long:
    to an encoder beside the renderer, or to other programs. It reads the variable when it is loaded, so this
    is to be called before torch is imported; child processes inherit it.

    Returns:
        whether it was set here.
    """
    if any(name in os.environ for name in OTHERS):
        return False
    os.environ[VARIABLE] = str(TURNS)
    return True
