"""The character, rendered one frame at a time from controls."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from nldf_engine.geometry.cameras import Camera
from nldf_engine.synthetic.backdrop import backdrop
from nldf_engine.synthetic.head import EYE_CENTRE, EYE_INNER, EYE_OUTER, JAW_ANGLE, JAW_HINGE, lid_lines
from nldf_engine.synthetic.landmarks import landmarks_3d
from nldf_engine.synthetic.looks import PALETTES, encoded
from nldf_engine.synthetic.proportions import AS_MODELLED, Proportions
from nldf_engine.synthetic.raster import Visible, rasterise
from nldf_engine.synthetic.scene import Scene, scene
from nldf_engine.synthetic.shading import MATERIALS, Samples

FOCAL = 1.9  # focal length over the picture's width
DISTANCE = 0.78  # metres from the camera to the head's origin, at rest
LIFT = 0.008  # metres by which the head's origin is below the optical axis, at rest
SMALLEST, LARGEST = 16, 2048
FINER = 2  # samples a pixel's side
TABLE = 1 << 15  # steps of the tone curve's table
BRIGHTEST = 2.0
BREATH = (-0.0022, -0.0030)  # metres by which the chest moves in y and z at breath = 1
BELOW = 0.168  # metres: the height at which the torso comes out from under the collar
SEEN_TO = 0.5 / FOCAL  # slope of the picture's lower edge
EYES_FOLLOW = 0.85  # how far the eyes turn towards the camera


@dataclass(frozen=True)
class Controls:
    """What the face does, each in 0..1.

    Args:
        jaw_open: how far the jaw drops.
        lip_width: how far the corners of the mouth are drawn apart.
        lip_round: how far the lips are rounded and pushed forward.
        lip_close: 1 closes the lips whatever the jaw does.
        eyes: 1 open, 0 shut.
        brows: how far the brows are raised.
        breath: how far the chest is raised.

    Raises:
        ValueError: a value is not in 0..1.
    """

    jaw_open: float = 0.0
    lip_width: float = 0.0
    lip_round: float = 0.0
    lip_close: float = 1.0
    eyes: float = 1.0
    brows: float = 0.0
    breath: float = 0.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 <= value <= 1:
                raise ValueError(f"Controls: {name} must be in 0..1, got {value}")

    def weights(self) -> np.ndarray:
        """float32 [5], of the displacements in the order of `head.SHAPES`."""
        values = (self.jaw_open, self.jaw_open * self.lip_close, self.lip_width, self.lip_round, self.brows)
        return np.array(values, np.float32)


@dataclass(frozen=True)
class Picture:
    """One rendered frame.

    Args:
        image: uint8 [H, W, 3] RGB.
        labels: uint8 [H, W]: 0 background, 1 head, 2 neck, 3 torso.
        coverage: float32 [H, W], share of the pixel that the person covers.
        landmarks: float32 [478, 2], pixels.
        points: float32 [478, 3], the same in head space, metres.
    """

    image: np.ndarray
    labels: np.ndarray
    coverage: np.ndarray
    landmarks: np.ndarray
    points: np.ndarray = field(repr=False)


def rest_torso() -> np.ndarray:
    """[4, 4] float64 torso-to-camera at rest."""
    matrix = np.eye(4)
    matrix[:3, 3] = (0, LIFT, DISTANCE)
    return matrix


def project(camera: Camera, pose: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Pixels float64 [..., 2] of head-space points [..., 3] seen by a camera-to-head pose [4, 4]."""
    pose = np.asarray(pose, np.float64)
    local = (np.asarray(points, np.float64) - pose[:3, 3]) @ pose[:3, :3]
    x = camera.fx * local[..., 0] / local[..., 2] + camera.cx
    return np.stack([x, camera.fy * local[..., 1] / local[..., 2] + camera.cy], -1)


@lru_cache(maxsize=1)
def _tone() -> np.ndarray:
    light = (np.arange(TABLE) + 0.5) * (BRIGHTEST / TABLE)
    return (encoded(light) * 255 + 0.5).astype(np.uint8)


def _to_bytes(light: np.ndarray) -> np.ndarray:
    index = np.clip(light * (TABLE / BRIGHTEST), 0, TABLE - 1).astype(np.int32)
    return _tone()[index]


class Speaker:
    """Renders the procedural character.

    Args:
        size: width and height of the frames in pixels.
        looks: which palette (any integer; it wraps around).
        proportions: of the head.

    Raises:
        ValueError: the size is out of range.

    Example:
        >>> speaker = Speaker(64)
        >>> speaker.render(Controls(jaw_open=0.6, lip_close=0.0)).image.shape
        (64, 64, 3)
    """

    def __init__(self, size: int = 256, looks: int = 0, proportions: Proportions = AS_MODELLED) -> None:
        if not isinstance(size, int) or not SMALLEST <= size <= LARGEST:
            raise ValueError(f"Speaker: size must be an integer in {SMALLEST}..{LARGEST}, got {size!r}")
        self.size = size
        self.looks, self.proportions = PALETTES[looks % len(PALETTES)], proportions
        self.camera = Camera(size, size, FOCAL * size, FOCAL * size, size / 2, size / 2)
        self.finer = FINER
        self._scene = scene()
        self._plate = backdrop(size, self.looks)
        self.background = _to_bytes(self._plate)  # uint8 [H, W, 3]

    @property
    def rest_pose(self) -> np.ndarray:
        """[4, 4] float32 camera-to-head, the head straight in front of the camera."""
        return np.linalg.inv(rest_torso()).astype(np.float32)

    def render(
        self,
        controls: Controls | None = None,
        pose: np.ndarray | None = None,
        torso: np.ndarray | None = None,
    ) -> Picture:
        """One frame; it depends on nothing but the arguments.

        Args:
            controls: of the face; by default at rest with the lips closed.
            pose: [4, 4] camera-to-head; by default `rest_pose`.
            torso: [4, 4] torso-to-camera; by default at rest.

        Raises:
            ValueError: a matrix is not a rigid [4, 4], or puts the person behind the camera.
        """
        controls = controls or Controls()
        to_head = _rigid("pose", self.rest_pose if pose is None else pose)
        body = _rigid("torso", rest_torso() if torso is None else torso)
        place, normal, attributes = self._posed(controls, to_head, body)
        n = self.size * self.finer
        focal = np.float32(FOCAL * n)
        if place[:, 2].min() < 0.05:
            raise ValueError("Speaker.render: the pose puts the head behind or into the camera")
        inverse = 1 / place[:, 2]
        flat = place[:, :2] * (focal * inverse)[:, None] + np.float32(n / 2)
        rest, corners = self._scene.attributes[:, :2], self._scene.triangles

        def eye_opening(triangle: np.ndarray, weights: np.ndarray) -> np.ndarray:
            p = np.einsum("nk,nkc->nc", weights, rest[corners[triangle]])
            upper, lower = lid_lines(p[:, 0], controls.eyes)
            a = np.abs(p[:, 0])
            return (a > EYE_INNER) & (a < EYE_OUTER) & (p[:, 1] > upper) & (p[:, 1] < lower)

        seen = rasterise(flat, inverse, corners, n, n, eye_opening, self._scene.cuttable)
        strand = self._scene.strand @ to_head[:3, :3].astype(np.float32)
        light, count = self._shade(seen, normal, attributes, strand, controls.eyes)
        share = (1 / self.finer**2) * count.sum(0)
        image = self.background.copy()
        person = np.flatnonzero(share)
        plate = self._plate.reshape(-1, 3)[person]
        image.reshape(-1, 3)[person] = _to_bytes(light[person] + (1 - share[person, None]) * plate)
        tally = np.concatenate([self.finer**2 - count.sum(0, keepdims=True), count])
        landmarks, points = self.landmarks(controls, to_head)
        shape = (self.size, self.size)
        return Picture(
            image=image,
            labels=tally.argmax(0).astype(np.uint8).reshape(shape),
            coverage=share.astype(np.float32).reshape(shape),
            landmarks=landmarks,
            points=points,
        )

    def landmarks(self, controls: Controls, pose: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Landmarks without a picture: float32 [478, 2] in pixels, and [478, 3] in head space."""
        turned = (gaze(np.asarray(pose, np.float64), -1), gaze(np.asarray(pose, np.float64), 1))
        points = landmarks_3d(controls.weights(), controls.eyes, turned)
        points = self.proportions.apply(points).astype(np.float32)
        return project(self.camera, pose, points).astype(np.float32), points

    def torso_points(self) -> np.ndarray:
        """Indices of the vertices on the torso's front that the camera sees at rest."""
        s = self._scene
        chest = s.bodies["torso"]
        points, normals = s.points[chest], s.normals[chest]
        low = SEEN_TO * (points[:, 2] + DISTANCE) - LIFT
        return chest.start + np.flatnonzero(
            (normals[:, 2] < -0.3) & (points[:, 1] < low) & (points[:, 1] > BELOW)
        )

    def project_torso(self, indices: np.ndarray, torso: np.ndarray, breath: float = 0.0) -> np.ndarray:
        """Pixels float64 [N, 2] of torso vertices under a torso-to-camera pose [4, 4]."""
        s = self._scene
        share = s.breathes[indices - s.bodies["torso"].start, None]
        points = s.points[indices] + breath * share * np.array([0, *BREATH])
        return project(self.camera, np.linalg.inv(np.asarray(torso, np.float64)), points)

    def _posed(
        self, controls: Controls, to_head: np.ndarray, body: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Vertices and normals in the camera's axes, and their attributes, float32 [V, ...]."""
        s: Scene = self._scene
        points, normals, attributes = s.points.copy(), s.normals.copy(), s.attributes.copy()
        weights = controls.weights()
        points[s.skin] += (weights @ s.shapes).reshape(-1, 3)
        normals[s.skin] += (weights @ s.normal_shapes).reshape(-1, 3)
        jaw = s.bodies["jaw"]
        lever: np.ndarray = points[jaw] - JAW_HINGE.astype(np.float32)
        angle = np.float32(JAW_ANGLE * controls.jaw_open * (1 - 0.74 * controls.lip_close))
        points[jaw, 1] -= angle * lever[:, 2]
        points[jaw, 2] += angle * lever[:, 1]
        chest = s.bodies["torso"]
        for axis, reach in enumerate(BREATH, 1):
            points[chest, axis] += np.float32(reach * controls.breath) * s.breathes
        for name in ("eye_left", "eye_right"):
            part = s.bodies[name]
            upper, _ = lid_lines(points[part, 0], controls.eyes)
            attributes[part, 3] = np.clip((points[part, 1] - upper) / 0.0065, 0, 1)
            attributes[part, :3] = normals[part] @ gaze(to_head, -1 if name == "eye_left" else 1)
        turn, shift = to_head[:3, :3].astype(np.float32), to_head[:3, 3].astype(np.float32)
        factors = self.proportions.factors(points)
        place = (points * factors - shift) @ turn
        facing = (normals / factors) @ turn
        torso_turn, torso_shift = body[:3, :3].T.astype(np.float32), body[:3, 3].astype(np.float32)
        place[chest] = points[chest] @ torso_turn + torso_shift
        facing[chest] = normals[chest] @ torso_turn
        neck, w = s.bodies["neck"], s.neck_weight[:, None]
        place[neck] += w * (points[neck] @ torso_turn + torso_shift - place[neck])
        facing[neck] += w * (normals[neck] @ torso_turn - facing[neck])
        return place, facing, attributes

    def _shade(
        self,
        seen: Visible,
        normals: np.ndarray,
        attributes: np.ndarray,
        strand: np.ndarray,
        openness: float,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Light [H*W, 3] of the person in each pixel, and samples [3, H*W] of each label.

        Smooth materials are shaded once for all samples of a pixel that show them, fine ones for each.
        """
        s, size, finer = self._scene, self.size, self.finer
        n, total = size * finer, size * size
        row, column = np.divmod(seen.sample, n)
        pixel = (row // finer) * size + column // finer
        group = s.group[seen.triangle]
        light = np.zeros((total, 3), np.float32)
        count = np.zeros((3, total), np.float32)
        order = np.argsort(group, kind="stable")
        bounds = np.searchsorted(group[order], np.arange(len(s.groups) + 1))
        scale = np.float32(1 / (FOCAL * n))
        for g, (name, fine, label) in enumerate(s.groups):
            these = order[bounds[g] : bounds[g + 1]]
            if not len(these):
                continue
            where = pixel[these]
            amount = np.bincount(where, minlength=total).astype(np.float32)
            count[label - 1] += amount
            if not fine:
                chosen = np.full(total, -1, np.int64)
                chosen[where] = these
                where = np.flatnonzero(chosen >= 0)
                these = chosen[where]
            corner, w = s.triangles[seen.triangle[these]], seen.weights[these]
            a, b, c = (corner[:, k] for k in range(3))
            wa, wb, wc = (np.ascontiguousarray(w[:, k : k + 1]) for k in range(3))
            normal = _unit_rows(normals[a] * wa + normals[b] * wb + normals[c] * wc)
            value = attributes[a] * wa + attributes[b] * wb + attributes[c] * wc
            x = (column[these] + 0.5 - n / 2) * scale
            y = (row[these] + 0.5 - n / 2) * scale
            view = _unit_rows(np.stack([-x, -y, np.full_like(x, -1)], 1).astype(np.float32))
            texture = _unit_rows(value[:, :3]) if name == "eye" else value[:, :3]
            hairs = strand[a] * wa + strand[b] * wb + strand[c] * wc if name == "hair" else None
            samples = Samples(normal, view, texture, value[:, 3:6], value[:, 6], value[:, 7], hairs)
            colour = MATERIALS[name](samples, self.looks, openness).astype(np.float32)
            if fine:
                for k in range(3):
                    light[:, k] += np.bincount(where, colour[:, k], total) / finer**2
            else:
                light[where] += colour * (amount[where] / finer**2)[:, None]
        return light, count


def _unit_rows(v: np.ndarray) -> np.ndarray:
    return v / (np.sqrt(np.einsum("nc,nc->n", v, v))[:, None] + 1e-12)


def gaze(to_head: np.ndarray, sign: int) -> np.ndarray:
    """Turns directions in head space to those of an eye that looks at the camera: float32 [3, 3]."""
    ahead = to_head[:3, 3] - EYE_CENTRE * [sign, 1, 1]
    yaw = EYES_FOLLOW * np.arctan2(ahead[0], -ahead[2])
    pitch = EYES_FOLLOW * np.arctan2(ahead[1], np.hypot(ahead[0], ahead[2]))
    yaw, pitch = np.clip(yaw, -0.45, 0.45), np.clip(pitch, -0.3, 0.3)
    cy, sy, cp, sp = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch)
    # Columns: the eye's right, its down, and away from what it looks at.
    return np.array([[cy, -sp * sy, -cp * sy], [0, cp, -sp], [sy, sp * cy, cp * cy]], np.float32)


def _rigid(name: str, matrix: np.ndarray) -> np.ndarray:
    value = np.asarray(matrix, np.float64)
    if value.shape != (4, 4) or not np.isfinite(value).all():
        raise ValueError(f"Speaker.render: {name} must be a finite [4, 4] matrix, got shape {value.shape}")
    off = np.abs(value[:3, :3] @ value[:3, :3].T - np.eye(3)).max()
    if off > 1e-3 or np.abs(value[3] - [0, 0, 0, 1]).max() > 1e-3:
        raise ValueError(f"Speaker.render: {name} must be rigid (a rotation and a shift), off by {off:.3g}")
    return value
