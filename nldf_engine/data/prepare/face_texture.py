"""Head poses brought to agree with the picture itself: every frame is aligned with one texture of the face.

Landmarks jitter by a good part of a pixel; skin, brows and nose do not. The part of the tracked face that
hardly moves in speech is a surface in head space; its texture, which may change linearly with the pose (light
stays where it is when the head turns), is learned from the training frames, and every frame's six degrees of
freedom are then solved so that the picture fits it (Gauss-Newton, robust), held near the landmarks' pose and
even over time. Texture and poses are found in turn.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from nldf_engine.base.progress import Bar
from nldf_engine.data.prepare.align import sample
from nldf_engine.data.prepare.parsing import OVAL
from nldf_engine.data.prepare.rotation import exponential, logarithm
from nldf_engine.data.prepare.trajectory import smooth

WORK = 256  # pixels: the side that pictures are compared at
POINTS = 2500
TURNS = 3  # of texture and poses
STEPS = 3  # of Gauss-Newton a turn
NOISE, ALIKE = 5.0, 12.0  # gray levels; pixels that carry one observation
ROBUST = 8.0
FACING = 0.35  # cosine between a point's normal and its ray, at least
LANDMARK_SPREAD = np.array([0.012, 0.012, 0.008, 0.0015, 0.0015, 0.006])  # rad, metres: of landmark poses
SECOND_SPREAD = np.array([0.006, 0.006, 0.006, 0.0005, 0.0005, 0.0008])
RIDGE = 0.02
LEAST = 40  # frames with a face below which poses are left as they are
NOSE_TIP, CHIN = 4, 152
# fmt: off
EYES = ((33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7),
        (263, 466, 388, 387, 386, 385, 384, 398, 362, 382, 381, 380, 374, 373, 390, 249))
# fmt: on


@dataclass(frozen=True)
class Surface:
    """Points [N, 3] of the face that hardly move in speech, head space, with outward normals [N, 3]."""

    points: np.ndarray
    normals: np.ndarray

    @classmethod
    def of(cls, shape: np.ndarray) -> Surface:
        """Sampled evenly over the mesh above the upper lip, without the eyes; `shape` [478, 3]."""
        import cv2
        from scipy.interpolate import LinearNDInterpolator

        flat = shape[:, :2]
        depth = LinearNDInterpolator(flat, shape[:, 2])
        low, high = flat[list(OVAL)].min(0), flat[list(OVAL)].max(0)
        high[1] = flat[NOSE_TIP, 1] + 0.15 * (flat[CHIN, 1] - flat[NOSE_TIP, 1])
        step = np.sqrt(np.prod(high - low) / POINTS)
        x, y = np.meshgrid(np.arange(low[0], high[0], step), np.arange(low[1], high[1], step))
        spots = np.stack([x.ravel(), y.ravel()], 1)

        def inside(polygon: Iterable[int], margin: float) -> np.ndarray:
            outline = (flat[list(polygon)] * 1e4).astype(np.float32)
            far = [cv2.pointPolygonTest(outline, (float(a * 1e4), float(b * 1e4)), True) for a, b in spots]
            return np.array(far) > margin * 1e4

        keep = inside(OVAL, 0.003)
        for eye in EYES:
            keep &= ~inside(eye, -0.003)
        spots = spots[keep]
        z = depth(spots)
        steps = 0.004 * np.eye(2)
        slope = [(depth(spots + step) - depth(spots - step)) / (2 * step.sum()) for step in steps]
        normals = np.stack([slope[0], slope[1], -np.ones(len(z))], 1)
        good = np.isfinite(z) & np.isfinite(normals).all(1)
        normals = normals[good] / np.linalg.norm(normals[good], axis=1, keepdims=True)
        return cls(np.concatenate([spots[good], z[good, None]], 1), normals)


@dataclass(frozen=True)
class FollowedFace:
    """What following the face in the picture found.

    Args:
        poses: float64 [T, 4, 4] camera-to-head.
        before, after: float64 [T], RMS of what the picture differs from the texture by, gray levels.
        moved: float64, RMS of how far the face's points moved in the picture, share of the side.
    """

    poses: np.ndarray
    before: np.ndarray
    after: np.ndarray
    moved: float

    def figures(self, valid: np.ndarray) -> dict[str, float]:
        """For the report, over the frames with a face."""
        return {
            "face_misfit_landmarks": round(float(self.before[valid].mean()), 3),
            "face_misfit_refined": round(float(self.after[valid].mean()), 3),
            "pose_refined_by_512": round(512 * self.moved, 3),
        }


def follow_face(
    frames: Iterable[np.ndarray],
    poses: np.ndarray,
    shape: np.ndarray,
    valid: np.ndarray,
    camera: tuple[float, ...],
    known: int,
) -> FollowedFace:
    """Moves all frames' poses to where the face is in the picture.

    Args:
        frames: uint8 [S, S, 3], streamed, T of them.
        poses: [T, 4, 4] camera-to-head, from landmarks.
        shape: [478, 3] in head space.
        valid: bool [T].
        camera: focal length, and principal point x, y, in units of the frame's side.
        known: how many frames, from the beginning, the texture may be learned from.
    """
    gray = _gather(frames, len(poses))
    focal, cx, cy = (c * WORK for c in camera)
    surface = Surface.of(shape.astype(np.float64))
    face = _Face(surface, gray, focal, (cx - 0.5, cy - 0.5))
    turn = poses[:, :3, :3].astype(np.float64).transpose(0, 2, 1)
    place = -np.einsum("tij,tj->ti", turn, poses[:, :3, 3].astype(np.float64))
    learn = np.flatnonzero(valid[:known])
    nothing = np.zeros(len(poses))
    if len(learn) < LEAST:
        return FollowedFace(poses, nothing, nothing, 0.0)
    first = (turn.copy(), place.copy())
    start = face.project(*first)[0]
    before = nothing
    with Bar("aligning the face", TURNS * len(poses), "frame") as bar:
        for round_number in range(TURNS):
            texture = face.texture(turn, place, learn)
            if not round_number:
                before = face.misfit(turn, place, texture)
            turn, place = face.fit(turn, place, first, texture, valid, bar)
    after = face.misfit(turn, place, texture)
    moved = float(np.sqrt(((face.project(turn, place)[0] - start)[valid] ** 2).sum(-1).mean())) / WORK
    refined = np.tile(np.eye(4), (len(poses), 1, 1))
    refined[:, :3, :3] = turn.transpose(0, 2, 1)
    refined[:, :3, 3] = -np.einsum("tji,tj->ti", turn, place)
    return FollowedFace(refined, before, after, moved)


def _gather(frames: Iterable[np.ndarray], total: int) -> np.ndarray:
    import cv2

    gray = np.empty((total, WORK, WORK), np.uint8)
    for index, frame in zip(range(total), frames, strict=False):
        small = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
        if len(small) != WORK:
            how = cv2.INTER_AREA if len(small) > WORK else cv2.INTER_CUBIC
            small = cv2.resize(small, (WORK, WORK), interpolation=how)
        gray[index] = cv2.GaussianBlur(small, (0, 0), 1.0)
    return gray


class _Face:
    """A surface seen in all frames."""

    def __init__(self, surface: Surface, gray: np.ndarray, focal: float, middle: tuple[float, float]) -> None:
        self.surface, self.gray, self.focal, self.middle = surface, gray, focal, np.asarray(middle)

    def project(self, turn: np.ndarray, place: np.ndarray) -> tuple[np.ndarray, ...]:
        """Pixels [..., N, 2] (centres at whole numbers), camera points and how they face, [..., N]."""
        points = self.surface.points @ np.swapaxes(turn, -1, -2) + place[..., None, :]
        pixels = self.focal * points[..., :2] / points[..., 2:] + self.middle
        normals = self.surface.normals @ np.swapaxes(turn, -1, -2)
        facing = -(normals * points).sum(-1) / np.linalg.norm(points, axis=-1)
        return pixels, points, facing

    def look(self, index: int, turn: np.ndarray, place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What frame `index` shows at the points [N], evened to one brightness and contrast, and weights."""
        pixels, _, facing = self.project(turn, place)
        seen = sample(self.gray[index].astype(np.float32), *pixels.T.astype(np.float32))
        inside = ((pixels >= 1) & (pixels <= WORK - 2)).all(-1)
        return seen, inside * np.clip((facing - FACING) / 0.2, 0, 1)

    def features(self, turn: np.ndarray, place: np.ndarray) -> np.ndarray:
        """[T, 7]: what the texture may depend on linearly: 1, and the pose in standard deviations."""
        from scipy.spatial.transform import Rotation

        mean = Rotation.from_matrix(turn).mean().as_matrix()
        raw = np.concatenate([logarithm(turn @ mean.T), place], 1)
        raw = (raw - raw.mean(0)) / np.maximum(raw.std(0), 1e-4)
        return np.concatenate([np.ones((len(raw), 1)), np.clip(raw, -3, 3)], 1)

    def texture(self, turn: np.ndarray, place: np.ndarray, learn: np.ndarray) -> np.ndarray:
        """[T, N] what each frame should show, by ridge regression over the frames `learn`."""
        features = self.features(turn, place)
        chosen = learn[np.unique(np.linspace(0, len(learn) - 1, min(400, len(learn))).astype(int))]
        seen = np.stack([self.look(k, turn[k], place[k])[0] for k in chosen])
        a = features[chosen]
        weight = np.ones_like(seen)
        pull = RIDGE * len(chosen) * np.diag([0.0] + [1.0] * 6) + 1e-6 * np.eye(7)
        for _ in range(3):
            system = np.einsum("tn,ti,tj->nij", weight, a, a, optimize=True) + pull
            right = np.einsum("tn,ti,tn->ni", weight, a, seen, optimize=True)
            slopes = np.linalg.solve(system, right[..., None])[..., 0]
            off = np.abs(a @ slopes.T - seen)
            weight = np.minimum(1.0, ROBUST / np.maximum(off, 1e-3))
        return (features @ slopes.T).astype(np.float32)

    def misfit(self, turn: np.ndarray, place: np.ndarray, texture: np.ndarray) -> np.ndarray:
        """[T] robust RMS of what the frames differ from the texture by."""
        out = np.zeros(len(turn))
        for k in range(len(turn)):
            seen, weight = self.look(k, turn[k], place[k])
            off = np.minimum(np.abs(_difference(seen, texture[k], weight)), 3 * ROBUST)
            out[k] = np.sqrt((weight * off**2).sum() / max(weight.sum(), 1e-6))
        return out

    def fit(
        self,
        turn: np.ndarray,
        place: np.ndarray,
        first: tuple[np.ndarray, np.ndarray],
        texture: np.ndarray,
        valid: np.ndarray,
        bar: Bar,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Poses that fit the texture, held near `first` and even over time."""
        import cv2
        from scipy.spatial.transform import Rotation

        total = len(turn)
        prior = np.diag(1 / LANDMARK_SPREAD**2)
        mean = Rotation.from_matrix(first[0]).mean().as_matrix()
        held = np.concatenate([logarithm(first[0] @ mean.T), first[1]], 1)
        state, information = held.copy(), np.tile(prior, (total, 1, 1))
        for k in range(total):
            r, t = turn[k], place[k]
            bar.step()
            if not valid[k]:
                information[k] = 1e-3 * prior
                continue
            picture = self.gray[k].astype(np.float32)
            gradients = [cv2.Sobel(picture, cv2.CV_32F, *d, scale=1 / 8) for d in ((1, 0), (0, 1))]
            for _ in range(STEPS):
                pixels, points, _ = self.project(r, t)
                seen, weight = self.look(k, r, t)
                off = _difference(seen, texture[k], weight)
                weight = weight * np.minimum(1.0, ROBUST / np.maximum(np.abs(off), 1e-3))
                weight = weight / (NOISE**2 * ALIKE)
                gx, gy = (sample(g, *pixels.T.astype(np.float32)) for g in gradients)
                depth = points[:, 2]
                by_point = (
                    np.stack([gx, gy, -(gx * points[:, 0] + gy * points[:, 1]) / depth], 1)
                    * (self.focal / depth)[:, None]
                )
                by_turn = np.cross(points - t, by_point)
                by_pose = np.concatenate([by_turn, by_point], 1)
                told = (by_pose * weight[:, None]).T @ by_pose
                away = np.concatenate([logarithm((r @ first[0][k].T)[None])[0], t - first[1][k]])
                pull = (by_pose * weight[:, None]).T @ off + prior @ away
                move = -np.linalg.solve(told + prior, pull)
                r, t = exponential(move[:3]) @ r, t + move[3:]
            state[k] = np.concatenate([logarithm((r @ mean.T)[None])[0], t])
            information[k] = told + prior
        state = smooth(state, information, np.diag(1 / SECOND_SPREAD**2))
        return exponential(state[:, :3]) @ mean, state[:, 3:]


def _difference(seen: np.ndarray, wanted: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """`seen` less `wanted` [N], brightness and contrast of the whole left out."""
    share = weight / max(float(weight.sum()), 1e-6)
    a, b = seen - (share * seen).sum(), wanted - (share * wanted).sum()
    gain = (share * a * b).sum() / max(float((share * b * b).sum()), 1e-6)
    return a / np.clip(gain, 0.7, 1.4) - b
