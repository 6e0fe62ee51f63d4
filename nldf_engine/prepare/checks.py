"""What may be wrong with a video, said before hours of training: thresholds, measurements, problems."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from nldf_engine.datasets.format import LABELS
from nldf_engine.datasets.problems import Problem
from nldf_engine.media.video import VideoInfo
from nldf_engine.prepare.align import Aligner, Prior, small_gray
from nldf_engine.prepare.background import CLEARANCE
from nldf_engine.prepare.torso import STEP_SPREAD, WHOLE_SPREAD, WORK

SHORTEST_SECONDS = 2.0  # below: refused
SHORT_SECONDS = 10.0
GOOD_SECONDS = 40.0
TINY_FACE = 100.0  # pixels from forehead to chin in the source
SMALL_FACE = 180.0
FEW_COMBED = 0.03  # share of the samples, which a still moment shows no combs in
FEW_FACES = 0.9  # share of the frames
FEWER_FACES = 0.5
CROWDED = 0.05  # share of the samples with a second face
PAN = 0.012  # of the frame's side that the background may move
ZOOM = 0.015
SCENE_FRAMES = 40
SCENE_SIZE = 512  # pixels at most, for looking at camera and backdrop
FEWEST_POINTS = 12  # background points below which the whole background is aligned instead
CERTAIN_ALIGNMENT = 0.9  # how far the background must decide that alignment
MATCHING = 0.8  # correlation below which a frame shows another scene
BACKDROP_LEVELS = 24.0  # gray levels of change that count as moved
BACKDROP_SHARE = 0.03  # of the background
EXPOSURE = 0.06  # relative range of the background's brightness
SHOWN_GROWTH = 0.004  # share that the picture grows by, from which it is reported
SHOWN_PAN = 0.004  # of the side
MISSING = 0.01  # of the picture
LITTLE_TURN = 5.0  # degrees that the head turns or nods (5th to 95th percentile)
SMALL_MOUTH = 0.025  # of the face's height between closed and open (5th to 95th percentile)
SHUT_MOUTH = 0.01  # of the same: what landmarks of a closed mouth vary by
QUIET_DB = -45.0
CLIPPED = 0.001  # share of the samples at full scale
WEAK_TORSO = 0.5
LARGE_RESIDUAL = 2.5  # pixels at 512


def look_at_scene(
    frames: Iterable[np.ndarray],
    labels: Iterable[np.ndarray],
    plate: np.ndarray,
    filled: np.ndarray,
    valid: np.ndarray,
) -> dict[str, Any]:
    """`measure_scene` of some frames of a video, and how often the head leaves the picture.

    Args:
        frames: uint8 [S, S, 3]; labels: uint8 [S, S]; both streamed, T of them.
        plate: uint8 [S, S, 3]; filled: bool [S, S], what of it was guessed.
        valid: bool [T], at least one; only these are looked at.

    Returns:
        `measure_scene`'s metrics, and head_cut_off: share of the frames.
    """
    import cv2

    side = min(SCENE_SIZE, len(plate))
    usable = np.flatnonzero(valid)
    chosen = set(usable[sorted(spread(len(usable), SCENE_FRAMES))].tolist())
    reach = max(2, round(2 * CLEARANCE * side))
    kernel = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    kept, clear, cut_off = [], [], []
    unseen = cv2.resize(filled.astype(np.uint8), (side, side), interpolation=cv2.INTER_AREA) > 0
    for index, (frame, label) in enumerate(zip(frames, labels, strict=True)):
        if not valid[index]:
            continue
        head = label == LABELS["head"]
        cut_off.append(bool(head[:2].any() or head[:, :2].any() or head[:, -2:].any()))
        if index in chosen:
            person = cv2.resize((label > 0).astype(np.uint8), (side, side), interpolation=cv2.INTER_AREA)
            kept.append(cv2.resize(frame, (side, side), interpolation=cv2.INTER_AREA))
            clear.append((cv2.dilate(person, kernel) == 0) & ~unseen)
    metrics = measure_scene(kept, clear, cv2.resize(plate, (side, side), interpolation=cv2.INTER_AREA))
    metrics["head_cut_off"] = round(float(np.mean(cut_off)), 4)
    return metrics


def measure_scene(
    frames: Sequence[np.ndarray], clear: Sequence[np.ndarray], plate: np.ndarray
) -> dict[str, Any]:
    """Does the camera move, does the backdrop, does the exposure drift?

    Args:
        frames: a few uint8 [s, s, 3] over the whole length, the middle one taken as the reference.
        clear: bool [s, s], what is safely background in each.
        plate: the clean background, uint8 [s, s, 3].

    Returns:
        camera_points: background points that were followed; camera_shift: largest mean shift as a share of
        the side (None where there are too few points); camera_zoom: largest relative change of scale;
        backdrop_moving: share of the background that differs from the plate (95th percentile over
        frames); exposure_range: relative range of the background's brightness.
    """
    import cv2

    middle = len(frames) // 2
    shifts, zooms, points = _followed(frames, clear, middle)
    if not shifts:
        shifts, zooms = _aligned(frames, clear, middle)
    light, moved_share = [], []
    for frame, free in zip(frames, clear, strict=True):
        if free.sum() < 50:
            continue
        here, there = frame[free].astype(np.float32), plate[free].astype(np.float32)
        ratio = np.log((here.mean(1) + 4) / (there.mean(1) + 4))
        gain = float(np.exp(np.clip(ratio, -0.5, 0.5).mean()))
        light.append(gain)
        off = np.abs(cv2.blur(frame, (3, 3)).astype(np.float32) / max(gain, 0.1) - cv2.blur(plate, (3, 3)))
        moved_share.append(float((off.max(-1)[free] > BACKDROP_LEVELS).mean()))
    drift = float(np.percentile(light, 95) - np.percentile(light, 5)) if light else 0.0
    return {
        "camera_points": points,
        "camera_shift": round(float(np.percentile(shifts, 90)), 5) if shifts else None,
        "camera_zoom": round(float(np.percentile(zooms, 90)), 5) if zooms else None,
        "backdrop_moving": round(float(np.percentile(moved_share, 90)), 5) if moved_share else 0.0,
        "exposure_range": round(drift, 5),
    }


def _followed(
    frames: Sequence[np.ndarray], clear: Sequence[np.ndarray], middle: int
) -> tuple[list[float], list[float], int]:
    """Shifts and zooms as shares, by following corners of the background, and how many were followed."""
    import cv2

    side = frames[0].shape[0]
    gray = [cv2.cvtColor(f, cv2.COLOR_RGB2GRAY) for f in frames]
    found = cv2.goodFeaturesToTrack(
        gray[middle], 150, 0.02, side // 48, mask=clear[middle].astype(np.uint8) * 255
    )
    shifts: list[float] = []
    zooms: list[float] = []
    points = 0
    if found is not None and len(found) >= FEWEST_POINTS:
        for other, free in zip(gray, clear, strict=True):
            moved, status, _ = cv2.calcOpticalFlowPyrLK(  # type: ignore[call-overload]
                gray[middle], other, found, None, winSize=(21, 21)
            )
            place = np.clip(np.nan_to_num(moved[:, 0]).round().astype(int), 0, side - 1)
            good = (status[:, 0] > 0) & free[place[:, 1], place[:, 0]]
            if good.sum() < FEWEST_POINTS:
                continue
            fit, inliers = cv2.estimateAffinePartial2D(found[good], moved[good], ransacReprojThreshold=1.5)
            if fit is None or inliers.sum() < FEWEST_POINTS:
                continue
            centre = np.array([side / 2, side / 2])
            shifts.append(float(np.linalg.norm(fit[:, :2] @ centre + fit[:, 2] - centre)) / side)
            zooms.append(abs(float(np.hypot(fit[0, 0], fit[1, 0])) - 1))
            points = max(points, int(inliers.sum()))
    return shifts, zooms, points


def _aligned(
    frames: Sequence[np.ndarray], clear: Sequence[np.ndarray], middle: int
) -> tuple[list[float], list[float]]:
    """Shifts and zooms as shares, by aligning the whole background, which needs no corners in it."""
    import cv2

    small = [small_gray(frame, WORK) for frame in frames]
    free = np.logical_and.reduce(list(clear)).astype(np.uint8)
    area = cv2.resize(free, (WORK, WORK), interpolation=cv2.INTER_AREA) > 0
    shifts: list[float] = []
    zooms: list[float] = []
    if area.sum() < 200:
        return shifts, zooms
    aligner, whole = Aligner(small[middle], area), Prior.of(np.zeros(4), WHOLE_SPREAD)
    if aligner.certainty([whole, Prior.of(np.zeros(4), STEP_SPREAD)])[:3].min() < CERTAIN_ALIGNMENT:
        return shifts, zooms
    for order in (range(middle, len(small)), range(middle - 1, -1, -1)):
        now = np.zeros(4)
        for index in order:
            found = aligner.align(small[index], now, [whole, Prior.of(now, STEP_SPREAD)])
            if found.match > MATCHING:
                now = found.motion
                shifts.append(float(np.hypot(now[0], now[1])) / WORK)
                zooms.append(abs(float(now[2])))
    return shifts, zooms


def face_problems(info: VideoInfo, others: float, face: float) -> list[Problem]:
    """Problems that the first look at the video shows.

    Args:
        others: share of samples with a second face.
        face: height of the face (forehead to chin) in source pixels.
    """
    problems = []
    seconds = info.seconds
    if seconds < SHORT_SECONDS:
        what = f"it lasts {seconds:.1f} s, too little for the mouth to show all its shapes"
        problems.append(Problem("length", what, "record at least a minute of speech", "severe"))
    elif seconds < GOOD_SECONDS:
        what = f"it lasts {seconds:.0f} s; lips get clearly better up to a few minutes"
        problems.append(Problem("length", what, "record one to three minutes of speech", "note"))
    if others > CROWDED:
        what = f"a second face is visible in {others:.0%} of the samples"
        problems.append(Problem("faces", what, "crop the video to one person", "warning"))
    if face < TINY_FACE:
        what = f"the face is only {face:.0f} pixels high"
        problems.append(Problem("head size", what, f"film closer: {SMALL_FACE:.0f} pixels or more", "severe"))
    elif face < SMALL_FACE:
        what = f"the face is {face:.0f} pixels high, so the picture will be soft"
        problems.append(
            Problem("head size", what, f"film closer: {SMALL_FACE:.0f} pixels or more", "warning")
        )
    if info.interlaced:
        what = "it is interlaced; its fields are woven into frames, with a little less detail up and down"
        problems.append(Problem("picture", what, "record progressive video where the camera can", "note"))
    if info.tracks:
        problems.append(Problem("picture", info.tracks, "", "note"))
    if info.hdr:
        what = "its colours are high dynamic range; they are brought to SDR (Rec. 709)"
        problems.append(Problem("colours", what, "", "note"))
    return problems


def field_problems(combed: float) -> list[Problem]:
    """Problems of frames that are woven of two moments, this share of those looked at."""
    if combed <= FEW_COMBED:
        return []
    what = "its frames are combed: it is interlaced, and the file does not say so"
    remedy = "weave its fields first: ffmpeg -i IN -vf bwdif -c:a copy OUT"
    return [Problem("picture", what, remedy, "warning")]


def track_problems(metrics: dict[str, Any]) -> list[Problem]:
    """Problems that tracking shows; `metrics` are those of the report."""
    problems = []
    share = metrics["valid_share"] + metrics.get("left_out_share", 0.0)
    if share >= FEW_FACES and metrics["valid_share"] < FEWER_FACES:
        what = f"only {metrics['valid_share']:.0%} of the frames can be learned from"
        problems.append(Problem("faces", what, "see what is said of those that are left out", "severe"))
    if share < FEW_FACES:
        what = f"only {share:.0%} of the frames show a face that can be tracked"
        remedy = "cut out the stretches without a face, and keep hands and microphones off it"
        problems.append(Problem("faces", what, remedy, "severe" if share < FEWER_FACES else "warning"))
    if metrics["pose_rms_512"] > LARGE_RESIDUAL:
        what = f"head poses fit the landmarks to {metrics['pose_rms_512']:.1f} pixels only (usual: 1)"
        problems.append(Problem("poses", what, "film sharper and without covering the face", "warning"))
    turn = max(metrics["head_range_degrees"][:2])
    if turn < LITTLE_TURN:
        what = f"the head turns and nods by only {turn:.1f} degrees, so other poses will look flat"
        problems.append(Problem("head motion", what, "move the head naturally while speaking", "note"))
    if metrics["mouth_range"] < SMALL_MOUTH:
        shut = metrics["mouth_range"] < SHUT_MOUTH
        what = f"the mouth opens by only {metrics['mouth_range']:.1%} of the face's height"
        what = f"{what}: nobody is seen speaking" if shut else what
        remedy = "film the one who speaks" if shut else "speak clearly, through the whole video"
        problems.append(Problem("mouth", what, remedy, "severe" if shut else "warning"))
    if metrics["head_cut_off"] > 0.2:
        what = f"the head leaves the picture in {metrics['head_cut_off']:.0%} of the frames"
        problems.append(Problem("framing", what, "leave room above the hair and beside the ears", "warning"))
    if max(metrics["torso_certainty"][:2]) < WEAK_TORSO:
        what = "the clothes show nothing to follow, so the torso is held still"
        problems.append(Problem("torso", what, "patterned clothes or a visible outline help", "note"))
    return problems


def backdrop_moves(metrics: dict[str, Any]) -> bool:
    """Whether the backdrop changes by itself, so that no still plate explains it."""
    own = bool(metrics.get("backdrop_goes_its_own_way"))
    return own or (metrics["backdrop_moving"] > BACKDROP_SHARE and not _still_moves(metrics))


def _still_moves(scene: dict[str, Any]) -> bool:
    shift, zoom = scene["camera_shift"], scene["camera_zoom"]
    return (shift is not None and shift > PAN) or (zoom is not None and zoom > ZOOM)


def camera_notes(metrics: dict[str, Any]) -> list[Problem]:
    """What was found of the camera and the exposure and taken out; `metrics` are those of the report."""
    notes = []
    if metrics["camera_would_cut_head"]:
        what = "the camera moves, and taking that out would cut the head: it is left in"
        notes.append(Problem("camera", what, "film wider, with the camera on a stand", "warning"))
    if metrics["camera_compensated"]:
        pan, growth = metrics["camera_pan"], metrics["camera_growth"]
        moves = []
        if abs(growth) >= SHOWN_GROWTH:
            moves.append(f"pushes in by {growth:.1%}" if growth > 0 else f"draws back by {-growth:.1%}")
        if pan >= SHOWN_PAN or not moves:
            moves.append(f"pans or shakes by {pan:.1%} of the picture")
        what = f"the camera {' and '.join(moves)}; compensated"
        notes.append(Problem("camera", what, "", "note"))
        if metrics["camera_border_missing"] > MISSING:
            what = (
                f"it moves further than the source shows: {metrics['camera_border_missing']:.1%} of the "
                "picture lies beyond its border"
            )
            notes.append(Problem("camera", what, "film wider, or cut out the stretch", "warning"))
    if metrics["exposure_compensated"]:
        what = f"the exposure drifts by {metrics['exposure_drift']:.1%}; compensated"
        notes.append(Problem("exposure", what, "", "note"))
    return notes


def scene_problems(scene: dict[str, Any]) -> list[Problem]:
    """Problems of camera and backdrop that are left; `scene` holds what `measure_scene` gives."""
    problems = []
    shift, zoom = scene["camera_shift"], scene["camera_zoom"]
    still = "fix the camera on a stand, and switch its stabiliser and autofocus off"
    moving = _still_moves(scene)
    if scene.get("backdrop_goes_its_own_way"):
        what = "the backdrop moves, or the camera follows the speaker; the background is trained on as it is"
        problems.append(Problem("backdrop", what, "film in front of a still backdrop", "warning"))
    elif moving:
        if shift is not None and shift > PAN:
            what = f"the camera moves: the background shifts by {shift:.1%} of the picture"
            problems.append(Problem("camera", what, still, "warning"))
        if zoom is not None and zoom > ZOOM:
            what = f"the camera zooms or comes closer: the background scales by {zoom:.1%}"
            problems.append(Problem("camera", what, still, "warning"))
    elif backdrop_moves(scene):
        what = f"{scene['backdrop_moving']:.0%} of the backdrop moves"
        problems.append(Problem("backdrop", what, "film in front of a still backdrop", "warning"))
    if shift is None and not scene.get("camera_told"):
        what = "the background is too plain to tell whether the camera moves"
        problems.append(Problem("camera", what, "", "note"))
    if scene["exposure_range"] > EXPOSURE and not scene.get("backdrop_goes_its_own_way"):
        what = f"the brightness changes by {scene['exposure_range']:.0%} over the video"
        problems.append(Problem("exposure", what, "lock exposure and white balance", "warning"))
    return problems


def sound_problems(metrics: dict[str, Any] | None, picture_seconds: float) -> list[Problem]:
    """Problems of the sound; `metrics` as in the report, None where the video has none."""
    again = "record the sound with the picture"
    if metrics is None:
        return [Problem("sound", "the video has no sound", again, "severe")]
    if metrics["silent"]:
        return [Problem("sound", f"the sound is silent ({metrics['level_db']:.0f} dB)", again, "severe")]
    problems = []
    if metrics["level_db"] < QUIET_DB:
        what = f"the sound is very quiet ({metrics['level_db']:.0f} dB)"
        problems.append(Problem("sound", what, "record it louder", "warning"))
    if metrics["seconds"] < picture_seconds - 0.5:
        what = f"the sound ends {picture_seconds - metrics['seconds']:.1f} s before the picture"
        problems.append(Problem("sound", what, again, "warning"))
    if metrics["clipped"] > CLIPPED and "flattened" not in metrics:  # which `prepare.sound` warns of
        what = f"{metrics['clipped']:.1%} of the sound is clipped"
        problems.append(Problem("sound", what, "lower the recording level", "note"))
    return problems


def spread(count: int, most: int) -> set[int]:
    """At most `most` of the indices 0..count-1, evenly spread."""
    return set(np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(int)).tolist())


def pick(items: Iterable[np.ndarray], chosen: set[int]) -> list[np.ndarray]:
    """The items at the chosen indices, the rest passed over."""
    return [item for index, item in enumerate(items) if index in chosen]
