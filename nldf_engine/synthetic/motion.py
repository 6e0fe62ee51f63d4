"""How the speaker moves: head and torso, blinks, brows and breath, as smooth seeded tracks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nldf_engine.base.clock import FPS
from nldf_engine.geometry.rotations import about
from nldf_engine.synthetic.speaker import rest_torso
from nldf_engine.synthetic.voice import Speech

YAW, PITCH, ROLL = 18.0, 9.0, 6.0  # degrees, never exceeded
SHIFT = (0.014, 0.008, 0.020)  # metres, never exceeded by the head against its torso
SWAY = (0.008, 0.003, 0.006)
LEAN = (0.13, 0.05, 0.22)  # share of the head's yaw, pitch and roll that the torso follows
BLINK = (0.09, 0.04, 0.13)  # seconds: closing, shut, opening
NECK = np.array([0.0, 0.115, 0.030])  # about which the head turns, head space


@dataclass(frozen=True)
class Motion:
    """Tracks of T frames.

    Args:
        poses: float32 [T, 4, 4] camera-to-head.
        torso: float64 [T, 4, 4] torso-to-camera.
        eyes: float32 [T], 1 open, 0 shut.
        brows: float32 [T], 0..1.
        breath: float32 [T], 0..1.
        blinks: seconds at which the eyes begin to close.
    """

    poses: np.ndarray
    torso: np.ndarray
    eyes: np.ndarray
    brows: np.ndarray
    breath: np.ndarray
    blinks: tuple[float, ...]


def _wander(frames: int, fps: float, seconds: float, random: np.random.Generator) -> np.ndarray:
    """[frames] of noise that changes over `seconds`, of unit deviation on the whole."""
    deviation = seconds * fps
    reach = int(4 * deviation) + 1
    kernel = np.exp(-0.5 * np.square(np.arange(-reach, reach + 1) / deviation))
    kernel /= np.sqrt(np.square(kernel).sum())
    return np.convolve(random.standard_normal(frames + 2 * reach), kernel, "valid")


def rotation(yaw: np.ndarray, pitch: np.ndarray, roll: np.ndarray) -> np.ndarray:
    """[..., 3, 3] head-to-camera rotations: roll after yaw after pitch, angles in radians."""
    return about("z", roll) @ about("y", yaw) @ about("x", pitch)


def _blink_times(seconds: float, random: np.random.Generator) -> tuple[float, ...]:
    times, at = [], float(random.uniform(0.6, 1.6))
    while at < seconds:
        times.append(at)
        at += float(np.clip(random.lognormal(1.20, 0.38), 2.0, 6.0))
    return tuple(times)


def _openness(times: np.ndarray, blinks: tuple[float, ...]) -> np.ndarray:
    knots = np.cumsum([0.0, *BLINK])
    eyes = np.ones(len(times))
    for begin in blinks:
        eyes = np.minimum(eyes, np.interp(times - begin, knots, [1.0, 0.0, 0.0, 1.0]))
    return eyes * eyes * (3 - 2 * eyes)


def speaker_motion(speech: Speech, frames: int, fps: float = FPS, seed: int = 0) -> Motion:
    """How the speaker moves while saying `speech`; stressed sounds bring nods and raised brows.

    Args:
        speech: whose stresses are followed.
        frames: T.
        fps: frames a second.
        seed: of everything that the speech does not decide.
    """
    random = np.random.default_rng([int(seed) & 0xFFFFFFFF, 29])
    times = np.arange(frames) / fps
    nod, lifted = np.zeros(frames), np.zeros(frames)
    for at in speech.stresses:
        strength = float(random.uniform(0.3, 1.0))
        nod += strength * np.exp(-np.square((times - at - 0.04) / 0.16))
        if strength > 0.62:
            lifted = np.maximum(lifted, strength * np.exp(-np.square((times - at) / 0.20)))

    def turn(slow: float, quick: float, pull: float) -> np.ndarray:
        mixed = 0.85 * _wander(frames, fps, slow, random) + 0.35 * _wander(frames, fps, quick, random)
        return pull * mixed

    yaw = YAW * np.tanh(turn(1.1, 0.35, 0.62))
    pitch = PITCH * np.tanh(turn(1.0, 0.30, 0.45) + 0.28 * nod)
    roll = ROLL * np.tanh(turn(1.3, 0.45, 0.55) + 0.02 * yaw)
    angles = np.radians(np.stack([yaw, pitch, roll]))
    slow_angles = np.stack([_lagging(a, 0.45 * fps) for a in angles])
    sway = np.stack([s * np.tanh(0.7 * _wander(frames, fps, 1.6, random)) for s in SWAY], 1)
    shift = np.stack([s * np.tanh(0.6 * _wander(frames, fps, 1.0, random)) for s in SHIFT], 1)
    torso = np.tile(rest_torso(), (frames, 1, 1))
    # The torso leans and turns after the head, by a small part.
    lean = np.array(LEAN)[:, None] * slow_angles
    torso[:, :3, :3] = rotation(*lean)
    follows = np.stack([_lagging(shift[:, k], 0.3 * fps) for k in range(3)], 1)
    base = np.array([0.0, 0.30, 0.05])  # it turns about the waist
    torso[:, :3, 3] += sway + 0.30 * follows + base - torso[:, :3, :3] @ base
    head = np.tile(np.eye(4), (frames, 1, 1))
    turned = torso[:, :3, :3] @ rotation(*(angles - lean))
    head[:, :3, :3] = turned
    anchor = (torso[:, :3, :3] @ NECK) + torso[:, :3, 3]
    head[:, :3, 3] = anchor - turned @ NECK + 0.70 * shift
    poses = np.linalg.inv(head)
    breath = 0.5 + 0.5 * np.sin(2 * np.pi * times / 4.1 + float(random.uniform(0, 6.28)))
    blinks = _blink_times(frames / fps, random)
    return Motion(
        poses=poses.astype(np.float32),
        torso=torso,
        eyes=_openness(times, blinks).astype(np.float32),
        brows=np.clip(0.85 * lifted, 0, 1).astype(np.float32),
        breath=breath.astype(np.float32),
        blinks=blinks,
    )


def _lagging(values: np.ndarray, frames: float) -> np.ndarray:
    """`values` behind and smoothed, by about `frames`."""
    reach = int(4 * frames) + 1
    kernel = np.exp(-np.arange(reach) / max(frames, 1e-6))
    padded = np.concatenate([np.full(reach - 1, values[0]), values])
    return np.convolve(padded, kernel / kernel.sum(), "valid")
