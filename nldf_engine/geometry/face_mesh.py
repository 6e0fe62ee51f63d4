"""Point numbers of the face mesh: 478 landmarks, MediaPipe's order."""

from __future__ import annotations

LANDMARKS = 478

OUTER_LIP = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185)
INNER_LIP = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191)
LIPS = OUTER_LIP + INNER_LIP
"""The 40 lip points, going round from the right corner along the lower lip."""

UPPER_INNER, LOWER_INNER = 13, 14
RIGHT_EYE_OUTER, LEFT_EYE_OUTER = 33, 263
RIGHT_EYE, LEFT_EYE = (33, 133, 159, 145), (263, 362, 386, 374)
"""Outer and inner corner, middle of the upper and of the lower lid."""

CHIN = (152, 148, 377, 176, 400, 149, 378)
"""The lower edge of the jaw, from its middle outwards."""

BROWS = (70, 63, 105, 66, 107, 55, 65, 52, 53, 46, 300, 293, 334, 296, 336, 285, 295, 282, 283, 276)
"""Both edges of the right and of the left brow."""

EYE_RIMS = (
    33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7,
    263, 466, 388, 387, 386, 385, 384, 398, 362, 382, 381, 380, 374, 373, 390, 249,
)  # fmt: skip
"""The edges of the lids, going round from the outer corners along the upper ones."""

IRISES = (468, 473)
"""The middles of the right and of the left iris."""

RIGID = (168, 6, 197, 195, 5, 4, 10, 151, 9, 8, 33, 133, 362, 263, 127, 356, 234, 454, 98, 327)
"""Landmarks that neither speech nor lids move: bridge of the nose, forehead, corners of the eyes, temples."""
