"""Numbers of the face mesh's landmarks, as MediaPipe counts them, that several parts need."""

from __future__ import annotations

LANDMARKS = 478
OUTER_LIP = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185)
INNER_LIP = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191)
LIPS = OUTER_LIP + INNER_LIP
"""The 40 lip points, going round from the right corner along the lower lip."""
