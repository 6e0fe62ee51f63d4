"""What frames of a rendered face measure: its shape, mouth and lids, colour, and shading.

Shapes: T frames; landmarks [T, 478, 2], NaN where no face is found.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from nldf_engine.evaluation.landmark_detector import Detector, FaceMesh, detect
from nldf_engine.geometry.cameras import Camera
from nldf_engine.geometry.face_mesh import LEFT_EYE, LIPS, RIGHT_EYE, RIGID
from nldf_engine.geometry.landmark_tracks import reprojected
from nldf_engine.nn.sync import lip_movement
from nldf_engine.systems.headnerf.extractor import ELLIPSE, within
from nldf_engine.systems.headnerf.objective.faces import face_frames, measured_light
from nldf_engine.systems.headnerf.objective.swaps import drawn_face

MEASURES = {
    "shape": "landmarks that neither speech nor lids move, aligned: RMS, outer eye distances",
    "expression": "lips and lids about their own mean, means of three frames: RMS, outer eye distances",
    "colour": "mean logarithmic colour of the face, brightness left out: RMS",
    "shading": "slopes of the face's brightness to the right and downwards: RMS, logarithms",
}
"""What the rows of a `Seen` are, and what they are in."""
DARKEST = 1 / 64


@dataclass(frozen=True)
class Seen:
    """Measures of a clip of T frames; rows of frames without a face are NaN.

    Args:
        shape: [T, R, 2]; expression: [T, L, 2]; colour: [T, 3]; shading: [T, 2].
        landmarks: [T, 478, 2] pixels at 512.
    """

    shape: np.ndarray
    expression: np.ndarray
    colour: np.ndarray
    shading: np.ndarray
    landmarks: np.ndarray


def aligned(landmarks: np.ndarray, points: Sequence[int]) -> np.ndarray:
    """[T, N, 2]: the points as `lip_movement` moves them, outer eye distances."""
    return lip_movement(torch.from_numpy(np.asarray(landmarks, np.float64)), points).numpy()


def measure(frames: np.ndarray, places: np.ndarray, detector: Callable[[], Detector] | None = None) -> Seen:
    """The measures of frames [T, H, W, 3] uint8.

    Args:
        frames: rendered.
        places: [T, 478, 2] landmarks in pixels of these frames, the same for all variants: where the face's
            colours are looked at.
        detector: makes the landmark detector; the package's face mesh where None.
    """
    found, _ = detect(frames, (detector or FaceMesh)())
    shape = aligned(found, RIGID)
    lids = aligned(found, RIGHT_EYE + LEFT_EYE)
    face = np.concatenate([aligned(found, LIPS), lids], 1)
    maps = face_frames(torch.from_numpy(places).float())
    cut = torch.cat(
        [
            drawn_face(torch.from_numpy(np.ascontiguousarray(frame)).float() / 255, place)
            for frame, place in zip(frames, maps, strict=True)
        ]
    )
    colour = cut[:, :, within(ELLIPSE)].mean(2).clamp_min(DARKEST).log()
    colour = colour - colour.mean(1, keepdim=True)
    return Seen(shape, face, colour.numpy(), measured_light(cut)[:, 1:].numpy(), found)


def moved(before: Seen, after: Seen) -> dict[str, float | None]:
    """How far each measure of one clip is from that of another; None where no frame of both has a face."""
    shape = _known(before.shape, after.shape, lambda values: values.mean(0))
    # Of expressions what changes within each clip counts: a face's usual lips are its shape.
    expression = _known(before.expression, after.expression, lambda values: steady(values - values.mean(0)))
    return {
        "shape": shape, "expression": expression,
        "colour": rms(before.colour - after.colour), "shading": rms(before.shading - after.shading),
    }  # fmt: skip


def steady(values: np.ndarray) -> np.ndarray:
    """[T - 2, ...]: means of three neighbouring frames of [T, ...], which the landmark detector's own jitter
    from frame to frame hardly reaches; as they are where there are fewer than three."""
    return values if len(values) < 3 else (values[2:] + values[1:-1] + values[:-2]) / 3


def _known(before: np.ndarray, after: np.ndarray, of: Callable[[np.ndarray], np.ndarray]) -> float | None:
    both = np.isfinite(before).all((1, 2)) & np.isfinite(after).all((1, 2))
    return rms(of(before[both]) - of(after[both])) if both.any() else None


def rms(values: np.ndarray) -> float:
    """Root mean square."""
    return float(np.sqrt(np.square(values).mean()))


class HeadShape:
    """What a speaker's face looks like from anywhere, as far as landmarks say it.

    The tracked head is projected; what the detector sees otherwise in the speaker's real frames is added.

    Args:
        points: [478, 3] of the head, metres, head space.
        camera: of the dataset.
        poses: [T, 4, 4] camera to head, of real frames.
        seen: [T, 478, 2] what the detector finds in them; NaN where it finds no face.

    Raises:
        ValueError: it finds none at all.
    """

    def __init__(self, points: np.ndarray, camera: Camera, poses: np.ndarray, seen: np.ndarray) -> None:
        self.points, self.camera = np.asarray(points, np.float64), camera
        self.bias = np.zeros(())
        self.bias = mean_shape(seen) - self.at(poses)

    def at(self, poses: np.ndarray) -> np.ndarray:
        """[R, 2]: the mean over poses [T, 4, 4] of the aligned shape, outer eye distances."""
        points = torch.from_numpy(self.points).expand(len(poses), -1, -1)
        seen = reprojected(points, torch.from_numpy(np.asarray(poses, np.float64)), self.camera)
        return np.asarray(mean_shape(seen.numpy()) + self.bias)


def mean_shape(landmarks: np.ndarray) -> np.ndarray:
    """[R, 2]: the mean aligned shape over the frames [T, 478, 2] that have a face.

    Raises:
        ValueError: none has.
    """
    known = landmarks[np.isfinite(landmarks).all((1, 2))]
    if not len(known):
        raise ValueError("landmarks: expected a face in at least one frame, got none")
    return np.asarray(aligned(known, RIGID).mean(0))
