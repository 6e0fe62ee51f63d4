"""The camera's motion and the exposure: found to their truth, taken out, left alone where there is none."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from safetensors.numpy import load_file

from nldf_engine.media.video import VideoInfo
from nldf_engine.prepare import PrepareConfig, prepare
from nldf_engine.prepare.camera import CameraTrack, track_camera
from nldf_engine.prepare.faces import Crop
from nldf_engine.prepare.stabilise import HAIR, Stabiliser, hair_of

SIDE, FRAMES = 256, 60


def wall(side: int) -> np.ndarray:
    """A smooth pattern, uint8 [side, side, 3]."""
    coarse = np.random.default_rng(3).uniform(60, 200, (side // 16, side // 16, 3)).astype(np.float32)
    return np.clip(cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC), 0, 255).astype(np.uint8)


def clip(
    kind: str, seed: int = 0
) -> tuple[list[np.ndarray], list[np.ndarray], np.ndarray, np.ndarray, np.ndarray]:
    """Frames, person masks, faces [T, 3], true places [T, 2, 3] and gains [T, 3] of a swaying speaker."""
    rng = np.random.default_rng(seed)
    big, frames, masks, faces, truth, gains = wall(2 * SIDE), [], [], [], [], []
    for k in range(FRAMES):
        share = k / (FRAMES - 1)
        world = np.eye(2, 3)
        if kind in ("pan", "slide"):
            world[:, 2] = 20 * share, 8 * share
        elif kind == "zoom":
            world = cv2.getRotationMatrix2D((SIDE / 2 - 0.5, SIDE / 2 - 0.5), 0.8 * share, 1 + 0.06 * share)
        shown = world.copy()
        shown[:, 2] += world[:, :2] @ [-SIDE / 2, -SIDE / 2]
        frame = cv2.warpAffine(big, shown, (SIDE, SIDE), flags=cv2.INTER_CUBIC)
        spot = np.array([SIDE / 2 + 4 * np.sin(k / 6), SIDE * 0.55 + 3 * np.cos(k / 5)])
        seen = spot if kind == "slide" else world[:, :2] @ spot + world[:, 2]
        size = 1.0 if kind == "slide" else np.sqrt(np.linalg.det(world[:, :2]))
        mask = np.zeros((SIDE, SIDE), np.uint8)
        cv2.ellipse(
            mask, (round(seen[0]), round(seen[1])), (round(45 * size), round(60 * size)), 0, 0, 360, 255, -1
        )
        mask[round(seen[1]) :, round(seen[0]) - 70 : round(seen[0]) + 70] = 255
        frame[mask > 0] = (90, 70, 60)
        gain = 1 - np.array([0.04, 0.08, 0.12]) * share if kind == "exposure" else np.ones(3)
        frame = frame * gain + rng.normal(0, 2, frame.shape)
        frames.append(np.clip(frame + 0.5, 0, 255).astype(np.uint8))
        masks.append(mask)
        faces.append([*(seen + 0.5) / SIDE, np.log(size)])
        truth.append(world)
        gains.append(gain)
    placed = np.stack(truth)
    placed[:, :, 2] += 0.5 - placed[:, :, :2] @ [0.5, 0.5]
    placed[:, :, 2] /= SIDE
    return frames, masks, np.array(faces), placed, np.stack(gains)


def homogeneous(motion: np.ndarray) -> np.ndarray:
    return np.concatenate([motion, np.tile([[[0, 0, 1.0]]], (len(motion), 1, 1))], 1)


def follow(kind: str) -> tuple[CameraTrack, np.ndarray, np.ndarray]:
    frames, masks, faces, truth, gains = clip(kind)
    return track_camera(frames, masks, faces, round(0.8 * FRAMES)), truth, gains


@pytest.mark.parametrize("kind", ["pan", "zoom"])
def test_camera_is_found(kind: str) -> None:
    """A pan is found within 0.3 pixels at 512, a zoom within 0.2 %, before a speaker who sways."""
    found, truth, _ = follow(kind)
    assert found.moves and not found.drifts and found.along == pytest.approx(1, abs=0.3)
    left = homogeneous(truth) @ np.linalg.inv(homogeneous(found.motion))
    corners = np.array([[0.2, 0.2, 1], [0.8, 0.2, 1], [0.5, 0.9, 1]]).T
    spots = (left @ corners)[:, :2] * 512
    off = np.linalg.norm(spots - np.median(spots, axis=0), axis=1)
    assert np.percentile(off, 95) < 0.3
    growth = np.sqrt(np.linalg.det(left[:, :2, :2]))
    assert np.percentile(np.abs(growth / np.median(growth) - 1), 95) < 0.002
    if kind == "zoom":
        assert found.zoom == pytest.approx(0.06, abs=0.006)


def test_exposure_is_found() -> None:
    """A drift that differs by channel is found within 1 %, and the camera counts as still."""
    found, _, gains = follow("exposure")
    assert found.drifts and not found.moves
    off = found.brightness / gains
    assert np.percentile(np.abs(off / np.median(off, axis=0) - 1), 99) < 0.01


def test_still_is_left_alone() -> None:
    """Before a still backdrop, and before one too plain to tell anything, nothing is done."""
    found, _, _ = follow("still")
    assert found.certain and not (found.moves or found.drifts or found.backdrop_moves)
    _, masks, faces, _, _ = clip("still")
    noise = np.random.default_rng(1)
    plain = [noise.normal(120, 2, (SIDE, SIDE, 3)).clip(0, 255).astype(np.uint8) for _ in masks]
    nothing = track_camera(plain, masks, faces, FRAMES)
    assert not (nothing.moves or nothing.drifts or nothing.backdrop_moves)
    hidden = track_camera(plain, [np.full((64, 64), 255, np.uint8)] * FRAMES, faces, FRAMES)
    assert not (hidden.certain or hidden.moves)


def test_frames_that_show_nothing_decide_nothing() -> None:
    """Fades at both ends and a title card in the middle, which are not valid: no camera moves, no exposure
    drifts, and the invalid frames are where their neighbours are."""
    frames, masks, faces, _, _ = clip("still")
    valid = np.ones(FRAMES, bool)
    valid[:12] = valid[28:34] = valid[-8:] = False
    for k in np.flatnonzero(~valid):
        left = min(k, FRAMES - 1 - k) / 12
        frames[k] = (frames[k] * left).astype(np.uint8)
    for k in range(28, 34):
        frames[k] = wall(2 * SIDE)[:SIDE, SIDE:].copy()
    found = track_camera(frames, masks, faces, round(0.8 * FRAMES), valid)
    assert found.certain and not (found.moves or found.drifts or found.backdrop_moves)
    assert np.abs(found.motion - found.motion[20]).max() < 0.002
    blind = track_camera(frames, masks, faces, round(0.8 * FRAMES))
    assert blind.drifts or blind.moves, "the fades are too gentle to prove anything"


def test_a_stretch_that_is_left_out_moves_nothing() -> None:
    """What frames seem to do that are left out, as in a dip to white, moves neither them nor others."""
    frames, masks, faces, _, _ = clip("still")
    valid = np.ones(FRAMES, bool)
    valid[15:45] = False
    for k in range(15, 45):
        turned = cv2.getRotationMatrix2D((SIDE / 2, SIDE / 2), 4.0 - abs(k - 29.5) / 5, 1.05)
        frames[k] = cv2.warpAffine(frames[k], turned, (SIDE, SIDE), borderMode=cv2.BORDER_REPLICATE)
    found = track_camera(frames, masks, faces, round(0.8 * FRAMES), valid)
    assert found.certain and not (found.moves or found.drifts or found.backdrop_moves)
    assert np.abs(found.motion - found.motion[5]).max() < 0.002


def test_no_correction_cuts_the_head() -> None:
    """A window that brings the hair to the picture's border is known as one, the crop as filmed is not."""
    points = np.zeros((4, 3, 2))
    points[:] = [(0.3, 0.2), (0.7, 0.2), (0.5, 0.8)]
    whole, valid = np.tile(np.eye(2, 3), (4, 1, 1)), np.ones(4, bool)
    light = np.tile([1.0, 0.0], (4, 3, 1))
    higher = whole.copy()
    higher[:, 1, 2] = 0.15
    assert not Stabiliser(whole, light, 0.0).cuts_heads(points, valid)
    assert Stabiliser(higher, light, 0.0).cuts_heads(points, valid)
    higher[:3] = whole[:3]
    valid[3] = False
    assert not Stabiliser(higher, light, 0.0).cuts_heads(points, valid)
    higher[:, 1, 2], valid[:] = 0.08, True
    assert not Stabiliser(higher, light, 0.0).cuts_heads(points, valid)
    masks = np.zeros((4, 100, 100), np.uint8)
    masks[:, 3:, 20:80] = 255  # hair as high as 0.28 of the face
    masks[0, :, 40:60] = 255  # once something is held above it
    hair = hair_of(masks, points, valid)
    assert hair == pytest.approx(0.17 / 0.6 - 0.03, abs=0.01)
    assert Stabiliser(higher, light, 0.0).cuts_heads(points, valid, hair)
    assert not Stabiliser(whole, light, 0.0).cuts_heads(points, valid, hair)
    assert hair_of(0 * masks, points, valid) == hair_of(masks, points, ~valid) == HAIR


def test_backdrop_of_its_own() -> None:
    """A backdrop that slides behind a speaker who stays is no moving camera, and nothing is taken out."""
    found, _, _ = follow("slide")
    assert found.backdrop_moves and not (found.moves or found.drifts)
    assert found.along is not None and found.along < 0.3


def test_stabilised_frames_stand_still() -> None:
    """Cut anew from a wider source, frames of a pan that fades show a wall that does not change."""
    frames, masks, faces, truth, _ = clip("pan")
    fade = np.linspace(1, 0.8, FRAMES)
    filmed = [(frame * gain).astype(np.uint8) for frame, gain in zip(frames, fade, strict=True)]
    crop, info = Crop(32, 32, 192), VideoInfo(SIDE, SIDE, 25.0, FRAMES, 2.4, 0, True, "h264")
    motion = truth.copy()  # the same pan as the crop sees it
    motion[:, :, 2] *= SIDE / crop.side
    light = np.stack([np.stack([1 / fade] * 3, 1), np.zeros((FRAMES, 3))], -1)
    camera = CameraTrack(motion, light, 0.0, np.ones(FRAMES), 1.0, True)
    stabiliser = Stabiliser.of(camera, info, crop, faces)
    assert stabiliser.missing < 0.01
    shown = [stabiliser.frame(frame, k, crop, 128).astype(float) for k, frame in enumerate(filmed)]
    clear = np.ones((128, 128), bool)
    for k, mask in enumerate(masks):
        person = cv2.resize(stabiliser.mask(mask[32:224, 32:224], k), (128, 128))
        clear &= cv2.dilate(person, np.ones((9, 9))) == 0
    assert clear.mean() > 0.1
    first, last = (cv2.resize(filmed[k][32:224, 32:224], (128, 128)).astype(float) for k in (0, -1))
    assert np.abs(shown[0] - shown[-1])[clear].mean() < 3 < 15 < np.abs(first - last)[clear].mean()
    spots = np.random.default_rng(0).uniform(0.3, 0.6, (1, 5, 2)).repeat(FRAMES, 0)
    seen = spots @ stabiliser.place[:, :, :2].transpose(0, 2, 1) + stabiliser.place[:, None, :, 2]
    assert np.allclose(stabiliser.points(seen * 512, 512), spots * 512, atol=1e-6)


def test_prepare_holds_the_camera_still(film, speaker, tmp_path: Path) -> None:
    """A filmed push-in is taken out of a dataset, recorded in its track, and told in the report."""

    def picture(time: float) -> np.ndarray:
        frame = speaker.frame(time)
        side = len(frame)
        grow = cv2.getRotationMatrix2D((side / 2 - 0.5, side / 2 - 0.5), 0, 1 + 0.08 * time / 3)
        return cv2.warpAffine(frame, grow, (side, side), flags=cv2.INTER_CUBIC)

    report = prepare(
        film(picture), tmp_path / "out", PrepareConfig(size=128, audio_frontend="", refine=False)
    )
    assert any("pushes in by 7" in p.what or "pushes in by 8" in p.what for p in report.problems)
    track = load_file(tmp_path / "out" / "track.safetensors")
    grown = np.sqrt(np.linalg.det(track["camera_motion"][:, :, :2].astype(float)))
    assert grown[-1] / grown[0] == pytest.approx(1.08, abs=0.006)
    assert track["exposure"].shape == (75, 3, 2)
    figures = json.loads((tmp_path / "out" / "report.json").read_text())["figures"]
    assert figures["camera_compensated"] and figures["camera_zoom"] < 0.01
    assert cv2.imread(str(tmp_path / "out" / "report.png")).shape[0] > 600
