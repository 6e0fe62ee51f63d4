"""Fréchet distance between two sets of features (FID where they are Inception's)."""

from __future__ import annotations

import numpy as np

FEWEST = 2


def frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) of the Gaussians fitted to both (Heusel et al. 2017).

    With centred rows X1, X2, C = X^T X / (N - 1), and the trace of the root is the sum of the singular values
    of X1 X2^T over sqrt((N - 1)(M - 1)): no matrix root, and nothing added to singular covariances, which
    every set with fewer rows than features has.

    Args:
        first: [N, D] float, N >= 2.
        second: [M, D] float, M >= 2.

    Raises:
        ValueError: fewer than two rows, another number of features, or values that are not finite.

    Example:
        >>> x = np.array([[0.0], [2.0]])
        >>> frechet_distance(x, x + 3)
        9.0
    """
    for name, values in (("first", first), ("second", second)):
        if values.ndim != 2 or len(values) < FEWEST or values.shape[1] != first.shape[1]:
            raise ValueError(
                f"{name}: expected at least {FEWEST} rows of {first.shape[-1]} features, "
                f"got {list(values.shape)}"
            )
        if not np.isfinite(values).all():
            raise ValueError(f"{name}: expected finite features")
    a, b = first.astype(np.float64), second.astype(np.float64)
    x, y = a - a.mean(0), b - b.mean(0)
    traces = (x**2).sum() / (len(x) - 1) + (y**2).sum() / (len(y) - 1)
    roots = np.linalg.svd(x @ y.T, compute_uv=False).sum() / np.sqrt((len(x) - 1) * (len(y) - 1))
    return float(max(0.0, ((a.mean(0) - b.mean(0)) ** 2).sum() + traces - 2 * roots))
