"""Rigid head poses, one head shape and one focal length from face landmarks: bundle adjustment.

A subset of landmarks that hardly moves when a face speaks (forehead, nose bridge, eye corners, temples)
is taken for rigid. Keyframes fix its shape and the focal length; then every frame's pose is solved with
the shape held, smoothed over time in the same least-squares problem. Units: pixels of the frame that the
landmarks came from, and metres in head space.

Focal length and distance trade off against each other nearly freely for a face that hardly turns. The
residual decides as far as it can, with one effective observation a keyframe (errors of the landmarks
within a frame are correlated); a log-normal prior on the camera's distance decides the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nldf_engine.geometry.rotations import exponential, left_jacobian, logarithm, skew
from nldf_engine.prepare.trajectory import banded, within

EYE_CORNERS = (33, 263)  # outer corners: the person's right eye (left in the image), and left eye
EYE_DISTANCE = 0.09  # metres between them: what makes the unit
CHIN, FOREHEAD, BRIDGE = 152, 10, 168
BEHIND_BRIDGE = 0.05  # metres from the nose bridge to the origin, into the head
# fmt: off
RIGID = (
    10, 151, 9, 8, 168, 6, 197, 195, 5, 4, 33, 133, 362, 263, 130, 359, 127, 356, 162, 389, 21, 251, 54, 284,
    103, 332, 67, 297, 109, 338, 108, 337, 69, 299, 104, 333, 68, 298, 71, 301, 139, 368, 34, 264, 227, 447,
)
# fmt: on
USUAL_DISTANCE = 0.9  # metres from the camera to the head: the prior's middle
DISTANCE_SPREAD = 0.35  # standard deviation of its logarithm
DISTANCES = (0.35, 3.5)  # metres: the range that is searched
KEYFRAMES = 120
SHAPE_SPREAD = 0.006  # metres: how far a rigid point may be from its first guess
ROBUST = 2.0 / 512  # of the frame's side: residuals beyond it lose weight (Huber)
FLOOR = 0.03 / 512  # of the side: residuals below it say nothing about the focal length
OUTLIER = 6.0  # frames whose residual is beyond this many medians (and 4 px in 512) are no face


@dataclass(frozen=True)
class PoseTrack:
    """What bundle adjustment found.

    Args:
        poses: float64 [T, 4, 4] camera-to-head, metres.
        focal: in pixels.
        shape: float64 [L, 3], every landmark's mean place in head space, metres.
        rms: float64 [T], residual of the rigid points in pixels; NaN for frames without a face.
        valid: bool [T]; frames whose landmarks fit no head are taken out.
        focals: [(focal, rms, score)] that were compared; a higher score is better.
    """

    poses: np.ndarray
    focal: float
    shape: np.ndarray
    rms: np.ndarray
    valid: np.ndarray
    focals: list[tuple[float, float, float]]


@dataclass
class _Bundle:
    """Rotations [K, 3, 3] and translations [K, 3] of head-to-camera, points [N, 3], and a focal length."""

    rotation: np.ndarray
    translation: np.ndarray
    points: np.ndarray
    focal: float

    def copy(self) -> _Bundle:
        return _Bundle(self.rotation.copy(), self.translation.copy(), self.points.copy(), self.focal)


def _residuals(b: _Bundle, seen: np.ndarray, centre: np.ndarray) -> tuple[np.ndarray, ...]:
    """Residuals [K, N, 2], their derivative by camera-space points [K, N, 2, 3], and rotated points."""
    turned = b.points @ b.rotation.transpose(0, 2, 1)
    camera = turned + b.translation[:, None]
    depth = np.maximum(camera[..., 2], 1e-3)
    image = b.focal * camera[..., :2] / depth[..., None]
    derivative = np.zeros((*camera.shape[:2], 2, 3))
    derivative[..., 0, 0] = derivative[..., 1, 1] = b.focal / depth
    derivative[..., :, 2] = -image / depth[..., None]
    return image + centre - seen, derivative, turned


def _weights(residual: np.ndarray, robust: float) -> np.ndarray:
    """Huber weights [K, N] for residuals [K, N, 2]."""
    return np.minimum(1.0, robust / np.maximum(np.linalg.norm(residual, axis=-1), 1e-12))


def _start(landmarks: np.ndarray, points: np.ndarray, focal: float, centre: np.ndarray) -> _Bundle:
    """Poses by aligning `points` with relative-depth landmarks [T, N, 3] (scaled orthography)."""
    middle = landmarks.mean(1, keepdims=True)
    base = points - points.mean(0)
    u, s, vt = np.linalg.svd((landmarks - middle).transpose(0, 2, 1) @ base)
    flip = np.ones((len(landmarks), 3))
    flip[:, 2] = np.sign(np.linalg.det(u @ vt))
    rotation = (u * flip[:, None]) @ vt
    scale = (s * flip).sum(1) / (base**2).sum()
    depth = focal / scale
    xy = (middle[:, 0, :2] - centre) / scale[:, None]
    translation = np.concatenate([xy, depth[:, None]], 1) - rotation @ points.mean(0)
    return _Bundle(rotation, translation, points.copy(), focal)


def _first_shape(landmarks: np.ndarray) -> np.ndarray:
    """A mean shape [N, 3] in metres from relative-depth landmarks, by alternating alignment."""
    shape = landmarks[len(landmarks) // 2].astype(np.float64)
    for _ in range(3):
        shape = shape - shape.mean(0)
        centred = landmarks - landmarks.mean(1, keepdims=True)
        u, s, vt = np.linalg.svd(centred.transpose(0, 2, 1) @ shape)
        scale = s.sum(1) / (shape**2).sum()
        shape = ((u @ vt).transpose(0, 2, 1) @ centred.transpose(0, 2, 1) / scale[:, None, None]).mean(0).T
    pair = [RIGID.index(i) for i in EYE_CORNERS]
    return shape * EYE_DISTANCE / np.linalg.norm(shape[pair[0]] - shape[pair[1]])


def _adjust(
    b: _Bundle, seen: np.ndarray, centre: np.ndarray, side: float, rounds: int
) -> tuple[_Bundle, float]:
    """Levenberg-Marquardt over poses and points, the focal length held; poses are eliminated (Schur).

    Returns the bundle and its robust cost in pixels^2 a coordinate.
    """
    first, robust = b.points.copy(), ROBUST * side
    pull = (side / 512 / SHAPE_SPREAD) ** 2
    frames, count = seen.shape[:2]

    def cost(c: _Bundle) -> float:
        r = np.linalg.norm(_residuals(c, seen, centre)[0], axis=-1)
        huber = np.where(r < robust, r**2, 2 * robust * r - robust**2)
        return float(huber.sum() + pull * ((c.points - first) ** 2).sum())

    damping, best = 1e-3, cost(b)
    for _ in range(rounds):
        residual, by_camera, turned = _residuals(b, seen, centre)
        root = np.sqrt(_weights(residual, robust))[..., None]
        residual, by_camera = residual * root, by_camera * root[..., None]
        by_pose = np.concatenate([-by_camera @ skew(turned), by_camera], -1)
        by_point = by_camera @ b.rotation[:, None]
        stacked = by_pose.reshape(frames, 2 * count, 6)
        a = stacked.transpose(0, 2, 1) @ stacked
        cross = (by_pose.swapaxes(-1, -2) @ by_point).transpose(0, 2, 1, 3).reshape(frames, 6, 3 * count)
        flat = cross.reshape(6 * frames, -1)
        c = np.zeros((count, 3, count, 3))
        each = np.arange(count)
        c[each, :, each] = (by_point.swapaxes(-1, -2) @ by_point).sum(0) + pull * np.eye(3)
        whole = c.reshape(3 * count, 3 * count)
        g_pose = (stacked.transpose(0, 2, 1) @ residual.reshape(frames, 2 * count, 1))[..., 0]
        g_point = (by_point.swapaxes(-1, -2) @ residual[..., None]).sum(0)[..., 0] + pull * (b.points - first)
        for _ in range(6):
            damped = a + damping * a * np.eye(6)
            solved = np.linalg.solve(damped, np.concatenate([cross, g_pose[..., None]], -1))
            reduced = whole + damping * np.diag(np.diag(whole))
            reduced = reduced - flat.T @ solved[..., :-1].reshape(6 * frames, -1)
            step = np.linalg.solve(reduced, flat.T @ solved[..., -1].ravel() - g_point.ravel())
            move: np.ndarray = -solved[..., -1] - solved[..., :-1] @ step
            trial = _Bundle(
                exponential(move[:, :3]) @ b.rotation,
                b.translation + move[:, 3:],
                b.points + step.reshape(count, 3),
                b.focal,
            )
            value = cost(trial)
            if value < best:
                done = best - value < 1e-6 * best
                b, best, damping = trial, value, damping * 0.3
                break
            damping *= 6
        else:
            break
        if done:
            break
    return b, best / (frames * count * 2)


def _choose_focal(
    landmarks: np.ndarray, shape: np.ndarray, centre: np.ndarray, side: float
) -> tuple[_Bundle, list[tuple[float, float, float]]]:
    """The focal length with the best residual and prior together, and the bundle at it."""
    pair = [RIGID.index(i) for i in EYE_CORNERS]
    wide = np.linalg.norm(landmarks[:, pair[0]] - landmarks[:, pair[1]], axis=-1)
    per_metre = float(np.median(wide)) / EYE_DISTANCE  # focal = distance * per_metre
    seen = landmarks[..., :2]
    tried: dict[float, tuple[float, float, _Bundle]] = {}

    def score(log_distance: float, start: _Bundle | None, rounds: int) -> tuple[float, float, _Bundle]:
        focal = float(np.exp(log_distance)) * per_metre
        if start is None:
            b = _start(landmarks, shape, focal, centre)
        else:
            b = start.copy()
            b.translation[:, 2] *= focal / b.focal
            b.focal = focal
        b, variance = _adjust(b, seen, centre, side, rounds)
        doubt = ((log_distance - np.log(USUAL_DISTANCE)) / DISTANCE_SPREAD) ** 2
        value = -0.5 * len(seen) * 2 * np.log(variance + (FLOOR * side) ** 2) * 0.5 - 0.5 * doubt
        tried[log_distance] = (float(value), float(np.sqrt(variance)), b)
        return tried[log_distance]

    grid = np.linspace(np.log(DISTANCES[0]), np.log(DISTANCES[1]), 9)
    for point in grid:
        score(float(point), None, 8)
    step = float(grid[1] - grid[0])
    for _ in range(5):  # bisect around the best
        step /= 2
        middle = max(tried, key=lambda k: tried[k][0])
        for point in (middle - step, middle + step):
            if np.log(DISTANCES[0]) <= point <= np.log(DISTANCES[1]):
                score(point, tried[middle][2], 6)
    best = max(tried, key=lambda k: tried[k][0])
    _, _, bundle = score(best, tried[best][2], 40)
    listed = [
        (round(tried[k][2].focal, 1), round(tried[k][1], 4), round(tried[k][0], 3)) for k in sorted(tried)
    ]
    return bundle, listed


def _solve_poses(
    b: _Bundle, seen: np.ndarray, valid: np.ndarray, centre: np.ndarray, side: float, smoothing: float,
    cuts: Sequence[int],
) -> _Bundle:  # fmt: skip
    """All frames' poses at once, with second differences penalised; one banded system a round.

    Poses are exp(w_t) R_mean and translations. The penalty is `smoothing` times the mean information of
    a frame, so that every direction is smoothed alike; its frequency response is
    1 / (1 + smoothing (2 - 2 cos f)^2). Frames without a face follow their neighbours.
    """
    from scipy.linalg import solveh_banded
    from scipy.spatial.transform import Rotation

    frames, robust = len(seen), ROBUST * side
    mean = Rotation.from_matrix(b.rotation[valid]).mean().as_matrix()
    state = np.concatenate([logarithm(b.rotation @ mean.T), b.translation], 1)
    held = state.copy()
    for _ in range(8):
        now = _Bundle(exponential(state[:, :3]) @ mean, state[:, 3:], b.points, b.focal)
        residual, by_camera, turned = _residuals(now, seen, centre)
        weight = _weights(residual, robust)[..., None, None]
        by_turn = -by_camera @ skew(turned) @ left_jacobian(state[:, :3])[:, None]
        by_pose = np.concatenate([by_turn, by_camera], -1)
        information = np.einsum("tnai,tnaj->tij", weight * by_pose, by_pose)
        gradient = np.einsum("tnai,tna->ti", weight * by_pose, residual)
        usual = information[valid].mean(0)
        information[~valid] = 1e-3 * usual
        gradient[~valid] = (state - held)[~valid] @ (1e-3 * usual)
        stiff = smoothing * usual
        if smoothing and frames > 2:
            second = (state[2:] - 2 * state[1:-1] + state[:-2]) * within(frames, cuts)[:, None]
            pull = second @ stiff
            gradient[2:] += pull
            gradient[1:-1] -= 2 * pull
            gradient[:-2] += pull
        band = banded(information, stiff if frames > 2 else 0 * stiff, cuts)
        move = -solveh_banded(band, gradient.ravel(), lower=True).reshape(frames, 6)
        state = state + move
        if np.abs(move).max() < 1e-7:
            break
    return _Bundle(exponential(state[:, :3]) @ mean, state[:, 3:], b.points, b.focal)


def _mean_shape(b: _Bundle, seen: np.ndarray, centre: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Every landmark's mean place [L, 3] given poses: Gauss-Newton, with a weak pull to `points`."""
    for _ in range(6):
        whole = _Bundle(b.rotation, b.translation, points, b.focal)
        residual, by_camera, _ = _residuals(whole, seen, centre)
        weight = _weights(residual, 4 * np.median(np.abs(residual)) + 1e-9)[..., None, None]
        by_point = by_camera @ b.rotation[:, None]
        h = np.einsum("knai,knaj->nij", weight * by_point, by_point)
        pull = 1e-4 * np.trace(h, axis1=1, axis2=2)[:, None, None] * np.eye(3)
        points = (
            points
            - np.linalg.solve(h + pull, np.einsum("knai,kna->ni", weight * by_point, residual)[..., None])[
                ..., 0
            ]
        )
    return points


def solve_poses(
    landmarks: np.ndarray,
    valid: np.ndarray,
    centre: tuple[float, float],
    side: float,
    smoothing: float = 0.2,
    cuts: Sequence[int] = (),
) -> PoseTrack:
    """Finds poses, focal length and head shape.

    Args:
        landmarks: [T, 478, 3]; x, y in pixels, z relative depth in the same scale; anything where not valid.
        valid: bool [T], at least one True.
        centre: principal point in pixels.
        side: of the frame in pixels; thresholds scale with it.
        smoothing: see `PrepareConfig`.
        cuts: frames that begin a shot: nothing is smoothed across them.

    Raises:
        ValueError: no valid frame.
    """
    from nldf_engine.prepare.track import fill_gaps

    if not valid.any():
        raise ValueError("solve_poses: no frame with a face")
    middle, valid = np.asarray(centre, np.float64), valid.copy()
    for _ in range(2):
        filled = fill_gaps(landmarks.astype(np.float64), valid)
        rigid = filled[:, list(RIGID)]
        known = np.flatnonzero(valid)
        keys = known[
            np.unique(np.linspace(0, len(known) - 1, min(KEYFRAMES, len(known))).round().astype(int))
        ]
        shape = _first_shape(rigid[keys])
        bundle, focals = _choose_focal(rigid[keys], shape, middle, side)
        start = _start(rigid, bundle.points, bundle.focal, middle)
        solved = _solve_poses(start, rigid[..., :2], valid, middle, side, smoothing, cuts)
        rms = np.sqrt((_residuals(solved, rigid[..., :2], middle)[0] ** 2).sum(-1).mean(-1))
        limit = max(OUTLIER * float(np.median(rms[valid])), 4 * side / 512)
        wrong = valid & (rms > limit)
        if not wrong.any() or (valid & ~wrong).sum() < 2:
            break
        valid &= ~wrong
    guess = _spread(rigid[keys], filled[keys], bundle.points)
    part = _Bundle(solved.rotation[keys], solved.translation[keys], guess, solved.focal)
    whole = _mean_shape(part, filled[keys][..., :2], middle, guess)
    poses, whole = _to_head_space(solved, whole)
    return PoseTrack(poses, solved.focal, whole, np.where(valid, rms, np.nan), valid, focals)


def _spread(rigid: np.ndarray, landmarks: np.ndarray, points: np.ndarray) -> np.ndarray:
    """A first guess [L, 3] of all landmarks in the space of `points`, through relative depths."""
    origin = rigid.mean(1, keepdims=True)
    u, s, vt = np.linalg.svd((rigid - origin).transpose(0, 2, 1) @ (points - points.mean(0)))
    scale = s.sum(1) / ((points - points.mean(0)) ** 2).sum()
    return (((landmarks - origin) / scale[:, None, None]) @ (u @ vt)).mean(0) + points.mean(0)


def _to_head_space(b: _Bundle, shape: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Poses (camera-to-head) and shape with the package's axes, origin and unit."""
    right, left = shape[EYE_CORNERS[0]], shape[EYE_CORNERS[1]]
    unit = np.linalg.norm(left - right) / EYE_DISTANCE
    x = (left - right) / np.linalg.norm(left - right)
    down = shape[CHIN] - shape[FOREHEAD]
    z = np.cross(x, down)
    z /= np.linalg.norm(z)
    axes = np.stack([x, np.cross(z, x), z], 1)
    origin = shape[BRIDGE] + z * BEHIND_BRIDGE * unit
    rotation = b.rotation @ axes
    translation = (b.rotation @ origin + b.translation) / unit
    poses = np.tile(np.eye(4), (len(rotation), 1, 1))
    poses[:, :3, :3] = rotation.transpose(0, 2, 1)
    poses[:, :3, 3] = -np.einsum("tij,ti->tj", rotation, translation)
    return poses, (shape - origin) @ axes / unit
