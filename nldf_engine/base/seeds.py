"""Which seeds are taken: those that every generator here takes."""

from __future__ import annotations

LARGEST_SEED = 2**32 - 1


def check_seed(seed: int) -> int:
    """The seed, where NumPy and PyTorch both take it.

    Raises:
        TypeError: it is no integer.
        ValueError: it is below 0 or above LARGEST_SEED.
    """
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise TypeError(f"seed: expected an integer, got {seed!r}")
    if not 0 <= seed <= LARGEST_SEED:
        raise ValueError(f"seed: expected 0 to {LARGEST_SEED}, got {seed}")
    return seed
