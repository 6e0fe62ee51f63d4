"""Both programs on the same frames, in turns: how far apart what they find is, and what a call costs.

Distances are in pixels of frames whose middle square is scaled to 512; times are processor time of this
process, on one thread.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nldf_engine.base.errors import MissingBackend
from nldf_engine.faces import FaceDetector, FaceMesh, HandPoints, PersonMask
from nldf_engine.media.video import frames_at

SIDE = 512
WARM_UP = 5  # calls that are not timed
FAR_APART = 30.0  # pixels: hands further apart than this are two hands
INSTALL = "pip install mediapipe==0.10.21, into an environment of Python 3.9 to 3.12"
HAND_EVERY = 8

Row = dict[str, float | int | None]
Points = np.ndarray


def middle(frame: np.ndarray) -> np.ndarray:
    """The middle square of a frame, uint8 [512, 512, 3]."""
    import cv2

    height, width = frame.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    part = np.ascontiguousarray(frame[top : top + side, left : left + side])
    return cv2.resize(part, (SIDE, SIDE), interpolation=cv2.INTER_AREA if side > SIDE else cv2.INTER_CUBIC)


@dataclass
class Pair:
    """One network in both programs.

    Args:
        ours, theirs: from a frame to what is found; None or nothing where there is none.
        every: frames from one call to the next.
    """

    ours: Callable[[np.ndarray], Any]
    theirs: Callable[[np.ndarray], Any]
    every: int = 1
    found: list[tuple[Any, Any]] = field(default_factory=list)
    seconds: list[tuple[float, float]] = field(default_factory=list)

    def look(self, frame: np.ndarray) -> None:
        """Calls both, and keeps what they found and took."""
        results, spent = [], []
        for call in (self.ours, self.theirs):
            began = time.process_time()
            results.append(call(frame))
            spent.append(time.process_time() - began)
        self.found.append((results[0], results[1]))
        self.seconds.append((spent[0], spent[1]))

    def costs(self) -> Row:
        """Medians in milliseconds, and the median of the ratios."""
        timed = 1e3 * np.array(self.seconds[WARM_UP:] or self.seconds)
        ours, theirs = (float(value) for value in np.median(timed, 0))
        return {"ms": ours, "ms mediapipe": theirs, "ratio": float(np.median(timed[:, 0] / timed[:, 1]))}


def _placed(landmarks: Any) -> Points:
    return np.array([(point.x, point.y) for point in landmarks.landmark], np.float64) * SIDE


@contextlib.contextmanager
def pairs() -> Iterator[dict[str, Pair]]:
    """The networks in both programs, by name.

    Raises:
        MissingBackend: mediapipe is not installed, or is one without its solutions.
    """
    os.environ.setdefault("GLOG_minloglevel", "2")
    try:
        from mediapipe import solutions
    except ImportError as error:
        raise MissingBackend(
            "mediapipe 0.10.21, which is compared with, is not installed", INSTALL
        ) from error
    with contextlib.ExitStack() as stack:
        mesh = stack.enter_context(solutions.face_mesh.FaceMesh(max_num_faces=1, refine_landmarks=True))
        person = stack.enter_context(solutions.selfie_segmentation.SelfieSegmentation(0))
        hands = stack.enter_context(
            solutions.hands.Hands(static_image_mode=True, max_num_hands=2, model_complexity=0)
        )
        near, far = (
            stack.enter_context(solutions.face_detection.FaceDetection(0.5, kind)) for kind in (0, 1)
        )

        def their_mesh(frame: np.ndarray) -> Points | None:
            found = mesh.process(frame).multi_face_landmarks
            return _placed(found[0]) if found else None

        def their_hands(frame: np.ndarray) -> list[Points]:
            return [_placed(hand) for hand in hands.process(frame).multi_hand_landmarks or ()]

        def their_box(network: Any) -> Callable[[np.ndarray], Points | None]:
            def look(frame: np.ndarray) -> Points | None:
                found = network.process(frame).detections
                if not found:
                    return None
                box = found[0].location_data.relative_bounding_box
                return SIDE * np.array([box.xmin, box.ymin, box.width, box.height])

            return look

        def our_box(detector: FaceDetector) -> Callable[[np.ndarray], Points | None]:
            def look(frame: np.ndarray) -> Points | None:
                found = detector(frame)
                return found[0].box if found else None

            return look

        yield {
            "mesh": Pair(FaceMesh(), their_mesh),
            "person": Pair(PersonMask(), lambda frame: person.process(frame).segmentation_mask),
            "near": Pair(our_box(FaceDetector("near")), their_box(near)),
            "far": Pair(our_box(FaceDetector("far")), their_box(far)),
            "hands": Pair(HandPoints(), their_hands, HAND_EVERY),
        }


def compare(video: Path, frames: int) -> dict[str, Row]:
    """A row for each network, on the first frames of a video.

    Raises:
        FileProblem: the video can't be read.
        MissingBackend: see `pairs`.
    """
    with pairs() as every:
        for number, frame in enumerate(frames_at(video)):
            if number == frames:
                break
            square = middle(frame)
            for pair in every.values():
                if number % pair.every == 0:
                    pair.look(square)
        return {name: apart(name, pair.found) | pair.costs() for name, pair in every.items()}


def apart(name: str, found: list[tuple[Any, Any]]) -> Row:
    """In how many calls both, one or none found something, and how far apart that is.

    Pixels between points, or between the sides of boxes; of "person" the difference of the masks, 0 to 1.
    """
    if name == "hands":
        matched, ours, theirs = _hands(found)
        return {"calls": len(found), "both": len(matched), "ours alone": ours, "theirs alone": theirs,
                **_distances(matched)}  # fmt: skip
    known = [(a, b) for a, b in found if a is not None and b is not None]
    alone = [sum(pair[k] is not None and pair[1 - k] is None for pair in found) for k in (0, 1)]
    row: Row = {"calls": len(found), "both": len(known), "ours alone": alone[0], "theirs alone": alone[1]}
    if name == "mesh":
        return row | _distances([np.linalg.norm(a[:, :2] - b, axis=1) for a, b in known])
    return row | _distances([np.abs(np.asarray(a, np.float64) - b) for a, b in known])


def _distances(parts: list[np.ndarray]) -> Row:
    if not parts:
        return {"mean": None, "median": None, "p99": None, "largest": None}
    every = np.concatenate([part.ravel() for part in parts])
    return {
        "mean": float(every.mean()), "median": float(np.median(every)),
        "p99": float(np.percentile(every, 99)), "largest": float(every.max()),
    }  # fmt: skip


def _hands(found: list[tuple[Any, Any]]) -> tuple[list[np.ndarray], int, int]:
    """Distances of the points of hands that both found, and how many only ours or only theirs did."""
    matched, ours, theirs = [], 0, 0
    for own, other in found:
        left = list(other)
        for hand in own:
            distances = [np.linalg.norm(hand - one, axis=1) for one in left]
            nearest = min(range(len(left)), key=lambda k: distances[k].mean(), default=None)
            if nearest is None or distances[nearest].mean() > FAR_APART:
                ours += 1
            else:
                matched.append(distances[nearest])
                left.pop(nearest)
        theirs += len(left)
    return matched, ours, theirs
