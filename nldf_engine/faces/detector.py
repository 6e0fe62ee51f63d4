"""Where faces are in a picture: BlazeFace (Bazarevsky et al. 2019)."""

from __future__ import annotations

import numpy as np

from nldf_engine.faces.anchors import AnchorDetector, Anchors, Detection

RANGES = {
    "near": Anchors("near", ((16, 2), (8, 6)), certain=0.5, black=-1.0),
    "far": Anchors("far", ((48, 1),), certain=0.6, black=-1.0),
}


class FaceDetector:
    """Finds the faces of a picture.

    Args:
        distance: "near" for faces that fill much of the picture (it looks at 128 pixels), "far" for those of
            people up to 5 m away (192 pixels).
        certain: the least score of a face, 0 to 1; the network's own where None.

    Raises:
        ValueError: there is no such distance.
        FileProblem: the installation lacks the networks.
    """

    def __init__(self, distance: str = "near", certain: float | None = None) -> None:
        if distance not in RANGES:
            raise ValueError(f"distance: expected one of {sorted(RANGES)}, got {distance!r}")
        self._detector = AnchorDetector(RANGES[distance], certain)

    def __call__(self, frame: np.ndarray) -> list[Detection]:
        """The faces of a uint8 [H, W, 3] frame, the most certain first.

        A box goes from the brows to the chin. The six points are the eye on the left as seen, the one on the
        right, nose, mouth, the ear on the left, the one on the right.
        """
        return self._detector(frame)
