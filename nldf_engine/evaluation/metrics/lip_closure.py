"""Are the rendered lips closed where the real ones are? Closed frames as a detection task.

A frame's lips are closed where their gap (`lips.lip_gap`) is below `CLOSED_GAP`; the real frames are the
ground truth. `lip_closed_auc` is how well the rendered gap ranks closed before open frames, whatever its
scale; `lip_closed_f1` counts rendered lips as closed below the same gap, so lips that never meet miss all.
"""

from __future__ import annotations

import numpy as np

from nldf_engine.evaluation.metrics.statistics import finite_pairs

CLOSED_GAP = 0.02
"""Lips nearer than this share of the outer eye distance (1.8 mm of an adult's 90 mm) are closed.

A share, so that the face's size in the picture cancels. The detector can't separate lips a millimetre apart
from closed ones. Of the gaps 0.01, 0.015, 0.02 and an eighth of the clip's wide openings, this one gave
the labels that changed least (F1 0.90 to 1.00, three talking persons) when a clip was scaled from 256 pixels
to 96, or its face to 40 % of its size in the frame.
"""


def lips_closed(gap: np.ndarray) -> np.ndarray:
    """[T] float64 of lip gaps [T]: 1 where the lips are closed, 0 where open, NaN where unknown."""
    return np.where(np.isfinite(gap), gap < CLOSED_GAP, np.nan)


def _closed(rendered: np.ndarray, real: np.ndarray) -> tuple[np.ndarray, np.ndarray, str]:
    """Rendered gaps and real closures of the frames with both faces, and why they say nothing."""
    ours, theirs = finite_pairs(rendered, real)
    closed = theirs < CLOSED_GAP
    reason = ""
    if not len(closed):
        reason = "no frame had a face found in both the real and the rendered picture"
    elif not closed.any():
        reason = "the real lips are closed in no frame"
    elif closed.all():
        reason = "the real lips are closed in every frame"
    return ours, closed, reason


def lip_closed_auc(rendered: np.ndarray, real: np.ndarray) -> tuple[float | None, str]:
    """Area under the ROC curve of the rendered lip gap as a detector of really closed lips.

    It is the share of pairs of a closed and an open frame (by the real gap) in which the rendered gap is
    smaller in the closed one; equal gaps count half.

    Args:
        rendered: [T] lip gaps; NaN where no face was found.
        real: [T], likewise.

    Returns:
        (the area, ""): 1 ranks every closed frame before every open one, 0.5 is chance; or (None, the
        reason) where the real lips are closed in no frame, or in all.

    Raises:
        ValueError: lengths that differ.

    Example:
        >>> lip_closed_auc(np.array([0.1, 0.2, 0.3]), np.array([0.0, 0.1, 0.1]))
        (1.0, '')
    """
    ours, closed, reason = _closed(rendered, real)
    if reason:
        return None, reason
    opened = np.sort(ours[~closed])
    wider = len(opened) - np.searchsorted(opened, ours[closed], "right")
    equal = np.searchsorted(opened, ours[closed], "right") - np.searchsorted(opened, ours[closed], "left")
    return float((wider + 0.5 * equal).mean() / len(opened)), ""


def lip_closed_f1(rendered: np.ndarray, real: np.ndarray) -> tuple[float | None, str]:
    """F1 score of closed lips: 2 hits / (rendered closures + real closures), counted in frames.

    Args:
        rendered: [T] lip gaps; NaN where no face was found.
        real: [T], likewise.

    Returns:
        (the score, ""): 1 is closed in the very same frames, 0 in none of them; or (None, the reason), as
        for `lip_closed_auc`.

    Raises:
        ValueError: lengths that differ.

    Example:
        >>> lip_closed_f1(np.array([0.0, 0.2, 0.0]), np.array([0.0, 0.1, 0.1]))
        (0.6666666666666666, '')
    """
    ours, closed, reason = _closed(rendered, real)
    if reason:
        return None, reason
    rendered_closed = ours < CLOSED_GAP
    hits = int((rendered_closed & closed).sum())
    return 2 * hits / int(rendered_closed.sum() + closed.sum()), ""
