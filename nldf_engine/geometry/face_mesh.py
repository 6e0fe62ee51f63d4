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

OVAL = (10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152, 148,
        176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109)  # fmt: skip
"""The outline of the face, from the forehead's middle round."""
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

# fmt: off
MARKS = (
    162, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 389,
    71, 63, 105, 66, 107, 336, 296, 334, 293, 301,
    168, 197, 5, 4, 75, 97, 2, 326, 305,
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,
    61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181,
    78, 82, 13, 312, 308, 317, 14, 87,
)
# fmt: on
"""The 68 landmarks of iBUG's order (jaw, brows, nose, eyes, lips): for each the one of the mesh on the same
spot. Right and left are the speaker's; rows of a line go from the picture's left to its right."""

MARKS_JAW = tuple(range(17))
"""Of the 68, the outline of the face, from the temple at the picture's left round the chin (8)."""
MARKS_BROWS = tuple(range(17, 27))
"""Of the 68, the upper edges of both brows."""
MARKS_EYES = tuple(range(36, 48))
"""Of the 68, the rims of both eyes, six points each: a corner, two of the upper lid, a corner, two of the
lower lid."""
MARKS_LIPS = tuple(range(48, 68))
"""Of the 68, twelve points round the outer lips from the corner at the picture's left over the upper one,
eight round the inner lips likewise."""
MARKS_SPEECH = MARKS_JAW + MARKS_LIPS
"""Of the 68, the 37 that follow speech: outline and lips (gaussian landmark 4.B)."""
MARKS_UPPER_INNER, MARKS_LOWER_INNER = 62, 66
"""Of the 68, the middles of the inner lips."""
