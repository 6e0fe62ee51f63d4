"""The 478 landmarks of a face, followed from frame to frame: face mesh with attention
(Grishchenko et al. 2020).

The network looks at an upright square of 192 pixels around the face. In the first frame, and where a face was
lost, a detector says where that is; from then on the landmarks of the last frame do. Nothing is smoothed.
"""

from __future__ import annotations

import numpy as np

from nldf_engine.faces.crops import Square, as_batch, check_frame
from nldf_engine.faces.detector import FaceDetector
from nldf_engine.faces.network import load_network
from nldf_engine.geometry.face_mesh import LANDMARKS, LEFT_EYE_OUTER, RIGHT_EYE_OUTER

AROUND = 1.5
"""Side of the square over the longer side of the face's box."""


def _numbers(text: str) -> np.ndarray:
    return np.array(text.split(), int)


# Which landmarks the outputs for regions stand for, in their order. Right and left are the person's.
LIPS = _numbers(
    "61 146 91 181 84 17 314 405 321 375 291 185 40 39 37 0 267 269 270 409 78 95 88 178 87 14 317 402 "
    "318 324 308 191 80 81 82 13 312 311 310 415 76 77 90 180 85 16 315 404 320 307 306 184 74 73 72 11 "
    "302 303 304 408 62 96 89 179 86 15 316 403 319 325 292 183 42 41 38 12 268 271 272 407"
)
RIGHT_EYE = _numbers(
    "33 7 163 144 145 153 154 155 133 246 161 160 159 158 157 173 130 25 110 24 23 22 26 112 243 247 30 "
    "29 27 28 56 190 226 31 228 229 230 231 232 233 244 113 225 224 223 222 221 189 35 124 46 53 52 65 "
    "143 111 117 118 119 120 121 128 245 156 70 63 105 66 107 55 193"
)
LEFT_EYE = _numbers(
    "263 249 390 373 374 380 381 382 362 466 388 387 386 385 384 398 359 255 339 254 253 252 256 341 "
    "463 467 260 259 257 258 286 414 446 261 448 449 450 451 452 453 464 342 445 444 443 442 441 413 "
    "265 353 276 283 282 295 372 340 346 347 348 349 350 357 465 383 300 293 334 296 336 285 417"
)
RIM = 16
"""The first landmarks of an eye are its rim; the iris is as deep as their mean."""
IRISES = {"right_iris": (np.arange(468, 473), RIGHT_EYE), "left_iris": (np.arange(473, 478), LEFT_EYE)}


class FaceMesh:
    """Landmarks of one face in a sequence of frames.

    Args:
        tracking: looks for the face of a frame where the last one's was. Otherwise frames have nothing to do
            with each other, and each is searched.
        certain: the least score of a detected face, and of a face's presence where it is looked for.

    Raises:
        FileProblem: the installation lacks the networks.
    """

    def __init__(self, tracking: bool = True, certain: float = 0.5) -> None:
        self._detector = FaceDetector("near", certain)
        self._network = load_network("mesh")
        self._tracking = tracking
        self._least = float(np.log(certain / (1 - certain)))
        self._square: Square | None = None

    def __call__(self, frame: np.ndarray) -> np.ndarray | None:
        """The landmarks of the next frame.

        Args:
            frame: uint8 [H, W, 3].

        Returns:
            float32 [478, 3]: x, y in pixels of the frame, and z, depth relative to the head's middle in the
            same scale, smaller towards the viewer. None where there is no face.
        """
        check_frame(frame)
        square = self._square or self._search(frame)
        found = self._look(frame, square) if square is not None else None
        self._square = None
        if found is not None and self._tracking:
            plane = found[:, :2]
            across = plane[LEFT_EYE_OUTER] - plane[RIGHT_EYE_OUTER]  # the person's left is on the right
            self._square = Square.around(plane, across, AROUND)
        return found

    def _search(self, frame: np.ndarray) -> Square | None:
        faces = self._detector(frame)
        if not faces:
            return None
        face = faces[0]
        corners = np.stack([face.box[:2], face.box[:2] + face.box[2:]])
        return Square.around(corners, face.points[1] - face.points[0], AROUND)

    def _look(self, frame: np.ndarray, square: Square) -> np.ndarray | None:
        """Landmarks of the face in a square; None where the network sees none there."""
        size = self._network.size
        found = self._network(as_batch(square.cut(frame, size, repeat=True)))
        if float(found["presence"]) < self._least:
            return None
        said = {name: value.numpy().reshape(-1) / size for name, value in found.items()}
        return square.to_frame(join_regions(said)).astype(np.float32)


def join_regions(said: dict[str, np.ndarray]) -> np.ndarray:
    """One mesh from the whole face's and the closer looks at lips, eyes and irises.

    Args:
        said: "mesh" [468 * 3], and "lips", "right_eye", "left_eye", "right_iris", "left_iris", each [L * 2].

    Returns:
        [478, 3]; a region gives x and y of its landmarks, the mesh their depth.
    """
    mesh = said["mesh"].reshape(-1, 3)
    joined = np.zeros((LANDMARKS, 3), mesh.dtype)
    joined[: len(mesh)] = mesh
    for name, places in (("lips", LIPS), ("right_eye", RIGHT_EYE), ("left_eye", LEFT_EYE)):
        joined[places, :2] = said[name].reshape(-1, 2)
    for name, (places, eye) in IRISES.items():
        joined[places, :2] = said[name].reshape(-1, 2)
        joined[places, 2] = joined[eye[:RIM], 2].mean()
    return joined
