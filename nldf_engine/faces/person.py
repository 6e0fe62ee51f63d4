"""Which pixels of a picture are the person's (MediaPipe's selfie segmentation)."""

from __future__ import annotations

import numpy as np

from nldf_engine.faces.crops import as_batch, check_frame
from nldf_engine.faces.network import load_network


class PersonMask:
    """Tells the person from the background, frame by frame.

    Raises:
        FileProblem: the installation lacks the network.
    """

    def __init__(self) -> None:
        self._network = load_network("person")

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """The person's share of each pixel, float32 [H, W], 0 to 1, of a uint8 [H, W, 3] frame.

        The network looks at 256 x 256 pixels; the mask is scaled from these.
        """
        import cv2

        check_frame(frame)
        height, width = frame.shape[:2]
        size = self._network.size
        matrix = np.array([[width / size, 0, 0], [0, height / size, 0]])
        how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        seen = cv2.warpAffine(frame, matrix, (size, size), flags=how)
        soft = self._network(as_batch(seen))["mask"][0, :, :, 0].numpy()
        return cv2.resize(soft, (width, height), interpolation=cv2.INTER_LINEAR)
