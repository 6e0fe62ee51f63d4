"""A camera that is dragged about the head, as numbers of the head.

The browser's world is head space: x right, y down, z away from the camera that looks at the face. A camera in
it is a pose, camera to head, and what a drag changes is the difference of two poses' head numbers.
"""

from __future__ import annotations

import numpy as np
import torch

from nldf_engine.apps.viewer.controls import Control
from nldf_engine.geometry.rotations import HEAD_NUMBERS, head_numbers

# A roll follows from how a browser keeps its camera upright, and is not what a person means by a drag.
FOLLOWED = ("yaw", "pitch", "x", "y", "z")
WRAP = 180.0
# A camera that goes farther at once, in degrees and metres, was set and not dragged.
LARGEST_TURN, LARGEST_MOVE = 60.0, 0.5


def head_of_camera(wxyz: np.ndarray, position: np.ndarray) -> np.ndarray:
    """[6] head numbers (`geometry.rotations`) seen by a camera.

    Args:
        wxyz: [4] its rotation as a quaternion, camera to world, OpenCV axes.
        position: [3] metres.

    Raises:
        ValueError: a quaternion of length 0, or numbers that are not finite.
    """
    from scipy.spatial.transform import Rotation

    quaternion = np.asarray(wxyz, np.float64)
    if not (np.isfinite(quaternion).all() and np.isfinite(position).all() and np.linalg.norm(quaternion) > 0):
        raise ValueError(f"camera: expected a finite pose, got {wxyz} at {position}")
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_quat(quaternion[[1, 2, 3, 0]]).as_matrix()
    pose[:3, 3] = position
    return np.asarray(head_numbers(torch.from_numpy(pose)[None])[0].numpy())


class Turning:
    """Turns drags into new values of the head's controls.

    Args:
        controls: of the head, by name; a drag goes no further than their ranges.
    """

    def __init__(self, controls: dict[str, Control]) -> None:
        self._controls = controls
        self._last: np.ndarray | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Of the head's controls."""
        return tuple(self._controls)

    @property
    def begun(self) -> bool:
        """Whether a camera was seen, from which the next one is a drag."""
        return self._last is not None

    def rest(self) -> None:
        """The next camera is where a drag begins: after a camera was set by program."""
        self._last = None

    def drag(self, wxyz: np.ndarray, position: np.ndarray, values: dict[str, float]) -> dict[str, float]:
        """The values of the controls that a camera's move changes.

        Args:
            wxyz, position: of the camera (see `head_of_camera`).
            values: of the head's controls now; what is missing is 0.
        """
        now = head_of_camera(wxyz, position)
        last, self._last = self._last, now
        if last is None:
            return {}
        moved = now - last
        moved[:3] = (moved[:3] + WRAP) % (2 * WRAP) - WRAP
        if np.abs(moved[:2]).max() > LARGEST_TURN or np.abs(moved[3:]).max() > LARGEST_MOVE:
            return {}
        found = {}
        for name, step in zip(HEAD_NUMBERS, moved, strict=True):
            if name in FOLLOWED and name in self._controls and abs(step) > 1e-6:
                old = values.get(name, 0.0)
                if (new := self._controls[name].clamp(old + float(step))) != old:
                    found[name] = new
        return found
