"""Pasting a rendered head into a frame of the video that it was filmed in: the region, and its seam.

The region is the face's outline, stretched as far as it takes, with a soft rim. Within the rim both pictures
are seen, so their difference there is known: filled in smoothly to the middle and evened over time, it is
added to the rendered picture, which then meets the frame in colour and light.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nldf_engine.geometry.face_mesh import LEFT_EYE_OUTER, OVAL, RIGHT_EYE_OUTER
from nldf_engine.media.planes import Colours

# The mask and the difference are computed on a square of so many pixels, whatever the size of the region, and
# the filling, which is smooth, on a smaller one.
GRID, FILLED = 96, 48
# Spread of the filling, in pixels of its square, and the share of a new frame's difference in the evened one.
SPREAD, FRESH = 7.0, 0.15
SMALLEST = 1e-4
THIN = 1.5  # pixels of the picture to one of the grid, from which on it is averaged
MARGIN = 3  # pixels of the picture beyond those that are seen: what interpolation looks at
NOSE_BASE = 2


@dataclass(frozen=True)
class Region:
    """How far a region reaches from the face's middle, as multiples of its outline, along the face's axes.

    Args:
        side: to both sides; up: towards the forehead; down: towards the chin.
        rim: the rim's softness, a standard deviation, as a share of the face's height.
        below_nose: nothing above the nose's base.
    """

    side: float
    up: float
    down: float
    rim: float
    below_nose: bool = False


REGIONS = {
    "head": Region(1.5, 1.75, 1.2, 0.05),
    "face": Region(1.0, 0.92, 1.16, 0.035),
    "mouth": Region(0.9, 0.0, 1.16, 0.03, below_nose=True),
}
"""By name: the whole head with its hair, the face with the chin's reach, or the face below the nose."""


def outline(landmarks: np.ndarray, region: Region) -> tuple[np.ndarray, float]:
    """The polygon [K, 2] of a region about a face, and the face's height, both in pixels.

    Args:
        landmarks: [478, 2] pixels.
        region: one of `REGIONS`.
    """
    points = np.asarray(landmarks, np.float64)
    across = points[LEFT_EYE_OUTER] - points[RIGHT_EYE_OUTER]
    across /= max(1e-6, float(np.hypot(*across)))
    down = np.array([-across[1], across[0]])
    if down @ (points[152] - points[10]) < 0:
        down = -down
    oval = points[list(OVAL)]
    middle = oval.mean(0)
    local = (oval - middle) @ np.stack([across, down], 1)
    height = float(np.ptp(local[:, 1]))
    stretched = local * np.where(local[:, 1:] < 0, [region.side, region.up], [region.side, region.down])
    if region.below_nose:
        top = float((points[NOSE_BASE] - middle) @ down)
        stretched[:, 1] = np.maximum(stretched[:, 1], top)
    return stretched @ np.stack([across, down]) + middle, height


class Paste:
    """Pastes the frames of a clip, one after the other.

    Args:
        region: which part is pasted.
        colours: of the frames.
    """

    def __init__(self, region: Region, colours: Colours) -> None:
        self.region, self.colours = region, colours
        self._seam: np.ndarray | None = None

    def __call__(
        self, planes: Sequence[np.ndarray], picture: np.ndarray, place: np.ndarray, landmarks: np.ndarray
    ) -> None:
        """Pastes a picture into a frame, which it changes.

        Args:
            planes: of the frame (see `media.planes.Planes`), [H, W] and twice [ceil(H / 2), ceil(W / 2)].
            picture: uint8 [S, S, 3] of a square.
            place: [2, 3], (x, y, 1) of the square, in units of its side, to pixels of the frame; beyond the
                square nothing changes.
            landmarks: [478, 2] of the square, in units of its side.
        """
        import cv2

        side = float(np.sqrt(np.linalg.det(place[:, :2])))
        if len(picture) > side:
            size = (max(1, round(side)),) * 2
            picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        polygon, height = outline(landmarks @ place[:, :2].T + place[:, 2], self.region)
        part = _part(planes, place, polygon, 3 * self.region.rim * height, len(picture))
        if part is None:
            return
        mask = self._mask(polygon - part.low, height, part.size)
        drawn = cv2.transform(part.cut(picture), self.colours.from_rgb(planes[0].shape[0]))
        lit = cv2.add(drawn, self._light(part, drawn, mask), dtype=cv2.CV_8U)
        weight = cv2.resize(mask, part.size, interpolation=cv2.INTER_LINEAR)
        _mix(part.planes[0], part.bright(lit[..., 0]), weight)
        half = _size(part.planes[1])
        weight = cv2.resize(mask, half, interpolation=cv2.INTER_LINEAR)
        # All three channels, though one is dropped: OpenCV has no vectors for two.
        tinted = part.drawn(lit, half)
        for index in (1, 2):
            _mix(part.planes[index], tinted[..., index], weight)

    def _mask(self, polygon: np.ndarray, height: float, size: tuple[int, int]) -> np.ndarray:
        """[GRID, GRID] float32 weights of the picture."""
        import cv2

        scale = GRID / np.array(size)
        hull = cv2.convexHull((polygon * scale * 16).astype(np.int32))
        mask = np.zeros((GRID, GRID), np.float32)
        cv2.fillConvexPoly(mask, hull, (1.0,), cv2.LINE_8, 4)
        rim = self.region.rim * height * scale
        return np.asarray(cv2.GaussianBlur(mask, (0, 0), float(rim[0]), sigmaY=float(rim[1])))

    def _light(self, part: _Part, drawn: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """float32 [h, w, 3] by which frame and picture differ at the seam, filled in and evened.

        Args:
            drawn: uint8 [h, w, 3], what is cut out of the picture; mask: [GRID, GRID].
        """
        import cv2

        ring = 4 * mask * (1 - mask)
        known = np.empty((GRID, GRID, 4), np.float32)
        known[..., :3] = (part.coarse() - part.drawn(part.thinned(drawn), (GRID, GRID))) * ring[..., None]
        known[..., 3] = ring
        few = cv2.resize(known, (FILLED, FILLED), interpolation=cv2.INTER_AREA)
        spread = cv2.GaussianBlur(few, (0, 0), SPREAD)
        seam = spread[..., :3] / np.maximum(spread[..., 3:], SMALLEST)
        self._seam = seam if self._seam is None else self._seam + FRESH * (seam - self._seam)
        size = _size(drawn)
        back = cv2.invertAffineTransform(part.map((FILLED, FILLED), size))
        return _warped(self._seam, back, size)


def _part(
    planes: Sequence[np.ndarray], place: np.ndarray, polygon: np.ndarray, reach: float, own: int
) -> _Part | None:
    """What of a frame a polygon and its rim cover; None where they are beyond the square.

    Args:
        planes: of the frame; place: as for `Paste`.
        polygon: [K, 2] pixels; reach: of the rim.
        own: side of the picture, pixels.
    """
    corners = np.array([[0, 1, 0, 1], [0, 0, 1, 1], [1, 1, 1, 1.0]])
    square = np.round(place @ corners, 3)
    size = np.array(planes[0].shape[::-1])
    low = np.maximum(np.floor(polygon.min(0) - reach), np.ceil(square.min(1))).astype(int).clip(0)
    high = np.minimum(np.ceil(polygon.max(0) + reach), np.floor(square.max(1))).astype(int)
    high = np.minimum(high, size)
    low = low + low % 2  # where a pixel of the colour planes begins
    high = np.where(high < size, high - high % 2, high)
    if (high - low).min() < 4:
        return None
    cut = [
        plane[low[1] // step : -(-high[1] // step), low[0] // step : -(-high[0] // step)]
        for plane, step in zip(planes, (1, 2, 2), strict=True)
    ]
    linear = np.linalg.inv(place[:, :2].astype(np.float64)) * own
    to_picture = np.column_stack([linear, -linear @ place[:, 2]])
    seen = to_picture @ np.array([[low[0], high[0]] * 2, [low[1], low[1], high[1], high[1]], [1] * 4])
    begin = np.floor(seen.min(1)).astype(int) - MARGIN
    end = np.ceil(seen.max(1)).astype(int) + MARGIN
    return _Part(low, high, cut, to_picture, own, begin.clip(0, own - 1), end.clip(1, own))


@dataclass(frozen=True)
class _Part:
    """A rectangle of a frame, and how the picture lies in it.

    Args:
        low, high: [2] its corners (x, y) in pixels of the frame.
        planes: views of the frame's planes there.
        to_picture: [2, 3], pixels of the frame to those of the picture, edges at whole numbers.
        own: side of the picture, pixels.
        begin, end: [2] corners (x, y) of what of the picture is in the rectangle, and MARGIN beyond.
    """

    low: np.ndarray
    high: np.ndarray
    planes: list[np.ndarray]
    to_picture: np.ndarray
    own: int
    begin: np.ndarray
    end: np.ndarray

    @property
    def size(self) -> tuple[int, int]:
        """(width, height)."""
        return int(self.high[0] - self.low[0]), int(self.high[1] - self.low[1])

    def cut(self, picture: np.ndarray) -> np.ndarray:
        """What of a picture is in the rectangle: a cutting [h, w, C]."""
        return np.ascontiguousarray(picture[self.begin[1] : self.end[1], self.begin[0] : self.end[0]])

    def map(self, size: tuple[int, int], cutting: tuple[int, int]) -> np.ndarray:
        """[2, 3]: pixels of the rectangle scaled to `size` to those of a cutting scaled to that size.

        Centres are at whole numbers, as `cv2.warpAffine` has them.
        """
        to_cutting = (np.array(cutting) / (self.end - self.begin))[:, None]
        linear = self.to_picture[:, :2] * to_cutting
        scaled = linear * ((self.high - self.low) / np.array(size))
        move = linear @ self.low + (self.to_picture[:, 2] - self.begin) * to_cutting[:, 0]
        return np.column_stack([scaled, move + scaled @ [0.5, 0.5] - 0.5])

    def drawn(self, cutting: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """A cutting [h, w, C] as it lies in the rectangle, scaled to `size`."""
        return _warped(cutting, self.map(size, _size(cutting)), size)

    def thinned(self, cutting: np.ndarray) -> np.ndarray:
        """A cutting [h, w, C], smaller where the grid would pass over some of its pixels."""
        import cv2

        shrink = float(np.sqrt(np.linalg.det(self.to_picture[:, :2]))) * max(self.size) / GRID
        if shrink < THIN:
            return cutting
        width, height = (max(1, round(n / shrink)) for n in _size(cutting))
        return np.asarray(cv2.resize(cutting, (width, height), interpolation=cv2.INTER_AREA))

    def bright(self, cutting: np.ndarray) -> np.ndarray:
        """The brightness [h, w] of a cutting as it lies in the rectangle."""
        import cv2

        linear = np.linalg.inv(self.to_picture[:, :2])
        move = -linear @ self.to_picture[:, 2]
        side = round(float(linear[0, 0]) * self.own)
        upright = np.allclose(linear, np.eye(2) * side / self.own) and np.allclose(move, np.round(move))
        if not upright:
            placed = self.map(self.size, _size(cutting))
            return _warped(cutting, placed, self.size, cv2.INTER_CUBIC)
        # The same, and several times as fast.
        picture = np.zeros((self.own, self.own), np.uint8)
        picture[self.begin[1] : self.end[1], self.begin[0] : self.end[0]] = cutting
        first, last = self.low - np.round(move).astype(int), self.high - np.round(move).astype(int)
        whole = cv2.resize(picture, (side, side), interpolation=cv2.INTER_CUBIC)
        return np.asarray(whole[first[1] : last[1], first[0] : last[0]])

    def coarse(self) -> np.ndarray:
        """[GRID, GRID, 3] float32 levels of the frame."""
        import cv2

        made = np.empty((GRID, GRID, 3), np.float32)
        for index, plane in enumerate(self.planes):
            # What is looked for is smooth: some pixels are enough to find it.
            some = plane
            if min(plane.shape) > 2 * GRID:
                some = cv2.resize(plane, (2 * GRID, 2 * GRID), interpolation=cv2.INTER_NEAREST_EXACT)
            made[..., index] = cv2.resize(some, (GRID, GRID), interpolation=cv2.INTER_AREA)
        return made


def _size(picture: np.ndarray) -> tuple[int, int]:
    """(width, height) of a picture [h, w, ...]."""
    return int(picture.shape[1]), int(picture.shape[0])


def _warped(
    picture: np.ndarray, placed: np.ndarray, size: tuple[int, int], how: int | None = None
) -> np.ndarray:
    """A picture [h, w, C] of which pixel p of the outcome shows the pixel `placed` p; bilinear by default."""
    import cv2

    flags = (cv2.INTER_LINEAR if how is None else how) | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(picture, placed, size, flags=flags, borderMode=cv2.BORDER_REPLICATE))


def _mix(plane: np.ndarray, drawn: np.ndarray, weight: np.ndarray) -> None:
    """Makes a plane uint8 [h, w] what is drawn, by its weight float32 [h, w]."""
    import cv2

    own, other = np.ascontiguousarray(plane), np.ascontiguousarray(drawn)
    np.copyto(plane, cv2.blendLinear(own, other, 1 - weight, weight))
