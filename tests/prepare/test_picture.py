"""The steps that look at pixels: background, torso, label maps, cadence, and problems of a scene."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from nldf_engine.datasets.format import LABELS
from nldf_engine.media.video import VideoInfo, probe
from nldf_engine.prepare import checks
from nldf_engine.prepare.background import background_plate
from nldf_engine.prepare.faces import choose_crop, even_clock, main_faces, survey
from nldf_engine.prepare.parsing import SkinModel, head_region, label_maps, outlines
from nldf_engine.prepare.shots import cuts_of
from nldf_engine.prepare.torso import WORK, track_torso
from nldf_engine.prepare.track import fill_gaps
from tests.prepare.conftest import Film, Speaker

SIDE = 128


def wall(seed: int = 3, side: int = SIDE) -> np.ndarray:
    rng = np.random.default_rng(seed)
    fine = rng.uniform(60, 200, (side // 4, side // 4, 3)).astype(np.float32)
    return np.clip(cv2.resize(fine, (side, side), interpolation=cv2.INTER_CUBIC), 0, 255).astype(np.uint8)


def test_plate_sees_through_a_moving_person() -> None:
    """Where the person ever steps aside the plate is the wall itself; the rest is marked as guessed."""
    back, frames, masks = wall(), [], []
    for k in range(40):
        mask = np.zeros((SIDE, SIDE), np.uint8)
        left = 20 + k
        mask[30:, left : left + 40] = 255
        frames.append(np.where(mask[..., None] > 0, np.uint8(90), back))
        masks.append(cv2.resize(mask, (64, 64)))
    plate, hidden = background_plate(frames, masks, 40)
    assert np.abs(plate[~hidden].astype(int) - back[~hidden]).max() == 0
    assert 0.005 < hidden.mean() < 0.25
    assert hidden[80, 57] and not hidden[80, 10] and not hidden[10].any()
    assert plate[hidden].std() < 60 and plate[hidden].min() > 20


def test_the_plate_is_as_rough_as_the_frames() -> None:
    """Every block is that of the frame nearest to the median; the median where nothing is like it."""
    rng, back = np.random.default_rng(5), wall()[:64, :64].astype(np.float32)
    frames = [np.clip(np.rint(back + rng.normal(0, 2, back.shape)), 0, 255) for _ in range(25)]
    for frame in frames:  # leaves in the wind
        frame[:16, :16] = rng.uniform(0, 255, (16, 16, 3))
    frames = [frame.astype(np.uint8) for frame in frames]
    masks = [np.zeros((32, 32), np.uint8) for _ in frames]
    masks[0][16:, 16:] = 255  # the first frame shows no part there
    plate, hidden = background_plate(frames, masks, 25)
    assert not hidden.any()
    stack = np.stack(frames)
    median = np.median(stack, 0)
    np.testing.assert_array_equal(plate[:16, :16], median[:16, :16])
    assert 1.2 < np.std(plate[16:].astype(np.float32) - back[16:]) < 2.2
    assert np.std(median[16:] - back[16:]) < 0.6
    for y, x in ((16, 0), (0, 40), (56, 56)):
        block = np.s_[y : y + 8, x : x + 8]
        same = (stack[(slice(None), *block)] == plate[block]).all((1, 2, 3))
        apart = np.square(stack[(slice(None), *block)] - median[block]).sum((1, 2, 3))
        first = 1 if y == x == 56 else 0
        assert same[first + apart[first:].argmin()]


def test_what_another_shot_shows_is_no_part_of_the_plate() -> None:
    """Behind a person who never moves a title card shows: it was seen, but not there, and stays a guess."""
    mask = np.zeros((64, 64), np.uint8)
    mask[20:, 20:44] = 255
    back = np.full((SIDE, SIDE, 3), (200, 100, 50), np.uint8)
    card = np.full((SIDE, SIDE, 3), (0, 0, 255), np.uint8)
    valid = np.arange(40) >= 12
    frames = [back if good else card for good in valid]
    masks = [mask if good else np.zeros_like(mask) for good in valid]
    plate, hidden = background_plate(frames, masks, 40, valid)
    assert hidden[90, 64] and np.abs(plate.astype(int) - back).max() <= 2
    plate, hidden = background_plate(frames, masks, 40, np.zeros(40, bool))
    assert not hidden.any()


def test_plate_of_a_still_person() -> None:
    """A person who never moves leaves a hole that is filled from around it, smoothly."""
    back = np.full((SIDE, SIDE, 3), (200, 100, 50), np.uint8)
    mask = np.zeros((64, 64), np.uint8)
    mask[20:, 20:44] = 255
    frame = back.copy()
    frame[40:, 40:88] = 0
    plate, hidden = background_plate([frame] * 6, [mask] * 6, 6)
    assert hidden[90, 64] and np.abs(plate.astype(int) - back).max() <= 2


@pytest.mark.parametrize("plain", [False, True])
def test_torso_follows(plain: bool) -> None:
    """A known similarity is recovered to half a pixel, on patterned cloth, and by outline alone on plain."""
    label = np.zeros((SIDE, SIDE), np.uint8)
    cv2.ellipse(label, (64, 128), (45, 50), 0, 0, 360, LABELS["torso"], -1)
    cv2.circle(label, (64, 50), 22, LABELS["head"], -1)
    cloth = np.full((SIDE, SIDE, 3), 30, np.uint8) if plain else wall(7) // 2
    back = np.full((SIDE, SIDE, 3), 170, np.uint8)
    frames, labels, truth = [], [], []
    for k in range(50):
        turn, grow = (0, 1.0) if plain else (2.0 * np.sin(k / 9), 1 + 0.02 * np.sin(k / 7))
        matrix = cv2.getRotationMatrix2D((63.5, 99.5), turn, grow)
        matrix[:, 2] += (6 * np.sin(k / 8), 2 * np.sin(k / 5))
        moved = cv2.warpAffine(label, matrix, (SIDE, SIDE), flags=cv2.INTER_NEAREST)
        picture = cv2.warpAffine(
            cloth, matrix, (SIDE, SIDE), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
        )
        frames.append(np.where((moved == LABELS["torso"])[..., None], picture, back))
        labels.append(moved)
        matrix[:, 2] += 0.5 - matrix[:, :2] @ [0.5, 0.5]  # to pixel centres at +0.5
        truth.append(matrix)
    first = np.vstack([truth[0], [0, 0, 1]])
    wanted = np.stack([np.vstack([m, [0, 0, 1]]) @ np.linalg.inv(first) for m in truth])[:, :2]
    found = track_torso(frames, labels, 50, 0)
    spots = np.array([[40, 100, 1], [64, 110, 1], [90, 100, 1.0]]).T
    off = np.linalg.norm((found.motion - wanted) @ spots, axis=1)
    assert np.median(off) < (0.8 if plain else 0.3) and off.max() < 2.5
    assert found.match.min() > 0.85
    assert np.allclose(found.motion[0], [[1, 0, 0], [0, 1, 0]], atol=1e-5)


def test_torso_does_not_follow_a_guess() -> None:
    """Beside a shot that shows less the torso is guessed, and holds still; what was filmed counts alone."""
    label = np.zeros((SIDE, SIDE), np.uint8)
    cv2.ellipse(label, (64, 128), (45, 50), 0, 0, 360, LABELS["torso"], -1)
    cloth, back = wall(7) // 2, np.full((SIDE, SIDE, 3), 170, np.uint8)
    frames, labels, truth = [], [], []
    for k in range(40):
        x, y = 5 * np.sin(k / 5), 2 * np.sin(k / 3)
        matrix = np.array([[1, 0, x], [0, 1, y]])
        moved = cv2.warpAffine(label, matrix, (SIDE, SIDE), flags=cv2.INTER_NEAREST)
        picture = cv2.warpAffine(
            cloth, matrix, (SIDE, SIDE), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
        )
        frame = np.where((moved == LABELS["torso"])[..., None], picture, back)
        if k >= 20:
            frame[100:] = frames[0][100:]
        frames.append(frame)
        labels.append(label)
        truth.append([x, y])
    shown = np.zeros((WORK, WORK), np.float32)
    shown[: 98 * WORK // SIDE] = 1
    off = []
    for filmed in (lambda index: shown if index >= 20 else None, lambda index: None):
        found = track_torso(frames, labels, 40, 0, cuts=[20], filmed=filmed)
        apart = (found.motion @ [64, 90, 1])[20:] - [64, 90] - np.array(truth)[20:]
        off.append(float(np.median(np.linalg.norm(apart, axis=1))))
    assert off[0] < 0.5 and off[0] < 0.5 * off[1]


def test_torso_stays_put_in_the_dark() -> None:
    """Clothes that fill the frame and show nothing but noise hold still, and say that nothing was seen."""
    rng = np.random.default_rng(0)
    label = np.full((SIDE, SIDE), LABELS["torso"], np.uint8)
    frames = [rng.normal(20, 1, (SIDE, SIDE, 3)).clip(0, 255).astype(np.uint8) for _ in range(60)]
    found = track_torso(frames, [label] * 60, 60, 10)
    assert np.abs(found.motion - np.array([[1, 0, 0], [0, 1, 0]])).max() < 1.5
    assert np.abs(found.motion[:, :, :2] - np.eye(2)).max() < 0.01
    assert found.certainty.max() < 0.8


def test_no_torso() -> None:
    """A picture without a torso gets a track that holds still."""
    found = track_torso([wall()] * 4, [np.zeros((SIDE, SIDE), np.uint8)] * 4, 4, 1)
    assert np.allclose(found.motion, [[1, 0, 0], [0, 1, 0]])


def face_points(centre: tuple[float, float] = (64, 50), size: float = 24) -> np.ndarray:
    """478 landmarks with an oval, eyes and chin at plausible places."""
    from nldf_engine.geometry.face_mesh import OVAL
    from nldf_engine.prepare.parsing import CHEEKS, JAW

    points = np.tile(np.array([*centre, 0.0]), (478, 1))
    angle = np.linspace(0, 2 * np.pi, len(OVAL), endpoint=False) - np.pi / 2
    points[list(OVAL), :2] = np.stack([size * 0.8 * np.cos(angle), size * np.sin(angle)], 1) + centre
    lower = np.linspace(np.pi, 0, len(JAW))
    points[list(JAW), :2] = np.stack([size * 0.8 * np.cos(lower), size * np.sin(lower)], 1) + centre
    points[list(CHEEKS), :2] = np.array(centre) + np.random.default_rng(0).uniform(-8, 8, (len(CHEEKS), 2))
    points[[33, 263], :2] = [[centre[0] - 12, centre[1] - 4], [centre[0] + 12, centre[1] - 4]]
    return points


def drawn_person() -> tuple[np.ndarray, np.ndarray]:
    """(frame uint8 [SIDE, SIDE, 3], mask uint8 [SIDE, SIDE]): hair, a face, a bare neck, clothes."""
    frame = np.full((SIDE, SIDE, 3), (90, 120, 90), np.uint8)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    cv2.ellipse(mask, (64, 132), (50, 42), 0, 0, 360, 255, -1)
    cv2.rectangle(mask, (53, 60), (75, 100), 255, -1)
    cv2.circle(mask, (64, 44), 27, 255, -1)
    frame[mask > 0] = (40, 40, 90)
    cv2.rectangle(frame, (53, 60), (75, 94), (205, 150, 125), -1)
    cv2.circle(frame, (64, 50), 24, (205, 150, 125), -1)
    frame[17:30][mask[17:30] > 0] = (50, 30, 20)
    return frame, mask


def test_label_maps() -> None:
    """A drawn person splits into head with hair, skin below the jaw, and clothes; no more is labelled."""
    frame, mask = drawn_person()
    points = np.repeat(face_points()[None], 7, 0)
    skin = SkinModel(np.tile(np.array([[205, 150, 125]], np.uint8), (30, 1)))
    maps = list(label_maps([frame] * 7, [mask] * 7, points, skin))
    assert len(maps) == 7
    for label in maps:
        assert label[50, 64] == label[20, 64] == LABELS["head"]
        assert label[84, 64] == label[88, 57] == LABELS["neck"]
        assert label[120, 40] == label[110, 64] == LABELS["torso"]
        assert label[5, 5] == label[60, 10] == LABELS["background"]
        assert ((label > 0) == (mask > 127)).mean() > 0.99


@pytest.mark.parametrize("scale", [1, 4, 6])
def test_no_clothes_between_jaw_and_neck(scale: int) -> None:
    """The neck reaches up to the jaw in frames larger than the pictures in which it is looked for, too."""
    big = [
        cv2.resize(part, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST) for part in drawn_person()
    ]
    skin = SkinModel(np.tile(np.array([[205, 150, 125]], np.uint8), (30, 1)))
    points = np.repeat(face_points()[None] * scale, 5, 0)
    for label in label_maps([big[0]] * 5, [big[1]] * 5, points, skin):
        for column in label[: 84 * scale, 56 * scale : 72 * scale].T:  # from above the head into the neck
            assert set(column) == {LABELS["background"], LABELS["head"], LABELS["neck"]}


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6, 9])
def test_label_maps_of_any_length(count: int) -> None:
    """There is one map a frame, in order, also for clips shorter than the smoothing window."""
    masks = [np.full((32, 32), 255 * (k % 2 == 0 or k == 0), np.uint8) for k in range(count)]
    skin = SkinModel(np.full((5, 3), 150, np.uint8))
    points = np.repeat(face_points()[None] / 4, count, 0)
    assert len(list(label_maps([wall(side=32)] * count, masks, points, skin))) == count
    assert len(list(outlines(masks, 32))) == count


def test_head_region_tilts_with_the_head() -> None:
    """The division under the jaw turns with the eyes' line."""
    points = face_points()
    region = head_region(points, SIDE)
    assert region[40, 64] and region[10, 20] and not region[100, 64] and not region[90, 20]
    matrix = cv2.getRotationMatrix2D((64, 50), -30, 1)
    tilted = points.copy()
    tilted[:, :2] = points[:, :2] @ matrix[:, :2].T + matrix[:, 2]
    turned = cv2.warpAffine(region.astype(np.uint8), matrix, (SIDE, SIDE))
    inner = np.hypot(*(np.mgrid[:SIDE, :SIDE] - np.array([50, 64])[:, None, None])) < 45
    assert (head_region(tilted, SIDE)[inner] == (turned[inner] > 0)).mean() > 0.97


def test_cadence() -> None:
    """Footage of 25 in a file of 30 loses its repeats; true 30, and a pause, are left alone."""
    rng = np.random.default_rng(0)
    count = 600
    changes = rng.uniform(0.6, 3, count).astype(np.float32)
    times = np.arange(count) / 30
    assert even_clock(times, changes)[0] is None
    paused = changes.copy()
    paused[100:200] = 0
    assert even_clock(times, paused)[0] is None
    changes[3::6] = 0.004
    changes[[200, 401]] = 0.01  # moments of rest
    clock, share = even_clock(times, changes)
    assert clock is not None and share == pytest.approx(1 / 6, abs=0.01)
    kept = clock[np.isfinite(clock)]
    assert np.isnan(clock[3::6]).all() and np.allclose(np.diff(kept), 1 / 25)


def info(width: int = 640, height: int = 360, seconds: float = 60.0) -> VideoInfo:
    return VideoInfo(width, height, 25.0, round(seconds * 25), seconds, 0, True, "h264")


def boxes(*rows: tuple[float, ...]) -> np.ndarray:
    return np.array(rows, np.float32).reshape(-1, 6)


def test_crop() -> None:
    """The crop is square, inside the frame, holds the face at all its places, and takes a head shot whole."""
    speaker = boxes(*[(k, 300 + 5 * (k % 3), 60, 60, 60, 0.9) for k in range(20)])
    crop = choose_crop(speaker, info(), 2.3)
    assert crop.side == pytest.approx(2.3 * 60 * 1.04 + 10, abs=3)
    assert 0 <= crop.x <= 640 - crop.side and 0 <= crop.y <= 360 - crop.side
    assert crop.x < 290 and crop.x + crop.side > 370
    whole = choose_crop(boxes((0, 130, 140, 240, 240, 0.9)), info(512, 512), 2.2)
    assert (whole.x, whole.y, whole.side) == (0, 0, 512)
    # A narrow picture has no room for a whole head shot, and the hair goes before the chest.
    narrow = choose_crop(boxes((0, 90, 170, 220, 230, 0.9)), info(394, 506), 2.2)
    assert (narrow.x, narrow.side) == (0, 394) and 10 <= narrow.y <= 170 - 0.6 * 240
    # One that is narrower than a head is high shows the mouth, whatever else.
    strip = choose_crop(boxes((0, 40, 140, 240, 240, 0.9)), info(286, 512), 2.2)
    assert strip.side == 286 and strip.y + strip.side >= 140 + 240 + 10
    edge = choose_crop(boxes((0, 0, 0, 50, 50, 0.9)), info(), 2.2)
    assert (edge.x, edge.y) == (0, 0)


def test_main_face() -> None:
    """The speaker is the large steady face; a second of comparable size is counted, a small one is not."""
    rows = []
    for k in range(10):
        rows += [(k, 100, 100, 80, 80, 0.95), (k, 400, 120, 70 if k < 5 else 20, 70 if k < 5 else 20, 0.9)]
    speaker, others = main_faces(boxes(*rows))
    assert len(speaker) == 10 and (speaker[:, 1] == 100).all()
    assert others.tolist() == [True] * 5 + [False] * 5
    assert not len(main_faces(boxes())[1])


def scene(kind: str, soft: bool = False) -> dict:
    """`measure_scene` of 12 frames of a wall, still or changing in one way; `soft`: without corners."""
    big = wall(side=320)
    if soft:
        big = cv2.GaussianBlur(big, (0, 0), 12)
        big = cv2.normalize(big, None, 60, 200, cv2.NORM_MINMAX)
    frames = []
    for k in range(12):
        matrix = np.array([[1, 0, -32.0], [0, 1, -32.0]])
        if kind == "pan":
            matrix[0, 2] += 1.5 * k
        elif kind == "zoom":
            matrix = cv2.getRotationMatrix2D((160, 160), 0, 1 + 0.006 * k)
            matrix[:, 2] -= 32
        frame = cv2.warpAffine(big, matrix, (256, 256), flags=cv2.INTER_CUBIC)
        if kind == "exposure":
            frame = (frame * (1 - 0.015 * k)).astype(np.uint8)
        if kind == "backdrop":
            frame[20:80, 10 + 8 * k : 60 + 8 * k] = 255
        frames.append(frame)
    free = np.ones((256, 256), bool)
    free[90:, 80:180] = False
    return checks.measure_scene(frames, [free] * 12, np.median(frames, axis=0).astype(np.uint8))


@pytest.mark.parametrize(
    ("kind", "where"),
    [
        ("still", []),
        ("pan", ["camera"]),
        ("zoom", ["camera"]),
        ("backdrop", ["backdrop"]),
        ("exposure", ["exposure"]),
    ],
)
def test_scenes(kind: str, where: list[str]) -> None:
    """A panning or zooming camera, a moving backdrop and drifting exposure are each told, and only they."""
    assert sorted({p.where for p in checks.scene_problems(scene(kind))}) == where


@pytest.mark.parametrize(("kind", "where"), [("still", []), ("pan", ["camera"]), ("zoom", ["camera"])])
def test_soft_scenes(kind: str, where: list[str]) -> None:
    """Before a blurred backdrop, without a corner to follow, the camera's motion is told all the same."""
    found = scene(kind, soft=True)
    assert found["camera_shift"] is not None
    assert sorted({p.where for p in checks.scene_problems(found)}) == where


def test_plain_wall() -> None:
    """Before a plain wall a moving camera can't be told, and that is said."""
    plain = np.full((64, 64, 3), 120, np.uint8)
    found = checks.measure_scene([plain] * 5, [np.ones((64, 64), bool)] * 5, plain)
    (problem,) = checks.scene_problems(found)
    assert problem.severity == "note" and "too plain" in problem.what


def test_cuts() -> None:
    """A cut is found at its frame; quick movement and a flicker of noise are no cut."""
    rng = np.random.default_rng(0)
    thumbs = np.repeat(wall(side=48)[None], 60, 0).astype(int) + rng.integers(-3, 4, (60, 48, 48, 3))
    thumbs[20:40] = np.roll(thumbs[20:40], 1, axis=2)
    assert cuts_of(changes(thumbs)) == []
    thumbs[37:] = wall(9, 48)
    assert cuts_of(changes(thumbs)) == [37]


def changes(thumbs: np.ndarray) -> np.ndarray:
    """How much each frame differs from the one before, 255 for the first."""
    gray = thumbs.mean(-1)
    return np.concatenate([[255.0], np.abs(np.diff(gray, axis=0)).mean((1, 2))])


def test_combs_without_a_flag_are_told(film: Film, speaker: Speaker) -> None:
    """Fields of two moments in a file that calls itself progressive; the same film without them is not."""

    def picture(time: float) -> np.ndarray:
        made = speaker.frame(time).copy()
        made[1::2] = speaker.frame(time, shift=(6.0, 0))[1::2]
        return made

    path = film(picture, seconds=2.0)
    info = probe(path)
    assert not info.interlaced
    (problem,) = checks.field_problems(survey(path, info).combed)
    assert problem.severity == "warning" and "combed" in problem.what and "bwdif" in problem.remedy
    path = film(seconds=2.0)
    assert checks.field_problems(survey(path, probe(path)).combed) == []


def test_a_face_or_two_decide_nothing(film: Film, speaker: Speaker) -> None:
    """A face that is combed in the only two samples that show one: too few to tell of the film."""

    def picture(time: float) -> np.ndarray:
        made = speaker.frame(time).copy()
        made[1::2] = speaker.frame(time, shift=(6.0, 0))[1::2]
        return made if time < 0.9 else np.full_like(made, 90)

    path = film(picture, seconds=2.0)
    assert survey(path, probe(path)).combed == 0


def test_what_shows_no_face_shows_no_combs(film: Film, speaker: Speaker) -> None:
    """Noise or a pattern for a second, which looks woven of two moments, says nothing of the film."""

    def picture(time: float) -> np.ndarray:
        made = speaker.frame(time).copy()
        if time >= 1:
            made[:] = np.where(np.arange(len(made)) % 2, 40, 200).astype(np.uint8)[:, None, None]
        return made

    path = film(picture, seconds=2.0)
    assert survey(path, probe(path)).combed == 0


def test_figures_become_problems() -> None:
    """Each threshold turns a bad figure into its problem, and good figures into none."""
    good = {
        "valid_share": 1.0,
        "pose_rms_512": 0.8,
        "head_range_degrees": [12.0, 9.0, 3.0],
        "mouth_range": 0.06,
        "head_cut_off": 0.0,
        "torso_certainty": [1.0, 1.0, 0.9, 0.9],
    }
    assert checks.track_problems(good) == []
    for key, value, where, severity in (
        ("valid_share", 0.8, "faces", "warning"),
        ("valid_share", 0.3, "faces", "severe"),
        ("pose_rms_512", 5.0, "poses", "warning"),
        ("head_range_degrees", [1.0, 2.0, 9.0], "head motion", "note"),
        ("mouth_range", 0.02, "mouth", "warning"),
        ("mouth_range", 0.005, "mouth", "severe"),
        ("head_cut_off", 0.5, "framing", "warning"),
        ("torso_certainty", [0.1, 0.1, 0.0, 0.0], "torso", "note"),
    ):
        (problem,) = checks.track_problems({**good, key: value})
        assert (problem.where, problem.severity) == (where, severity)
    # Frames that were left out for another reason, which is reported by itself, do show a face.
    assert checks.track_problems({**good, "valid_share": 0.7, "left_out_share": 0.3}) == []
    (few,) = checks.track_problems({**good, "valid_share": 0.4, "left_out_share": 0.6})
    assert few.severity == "severe" and "40% of the frames can be learned from" in few.what
    assert checks.face_problems(info(), 0.0, 300.0) == []
    assert [p.where for p in checks.face_problems(info(seconds=5), 0.4, 60.0)] == [
        "length",
        "faces",
        "head size",
    ]
    sound = {
        "silent": False, "level_db": -20.0, "seconds": 60.0, "clipped": 0.0,
    }  # fmt: skip
    assert checks.sound_problems(sound, 60.0) == []
    assert [p.severity for p in checks.sound_problems(None, 60.0)] == ["severe"]
    for change in (
        {"silent": True}, {"level_db": -50.0}, {"seconds": 50.0}, {"clipped": 0.1},
    ):  # fmt: skip
        assert len(checks.sound_problems({**sound, **change}, 60.0)) == 1


def test_fill_gaps() -> None:
    """Gaps are interpolated, ends are held, known values stay."""
    values = np.array([9.0, 1.0, 9.0, 3.0, 9.0])[:, None]
    valid = np.array([False, True, False, True, False])
    assert fill_gaps(values, valid)[:, 0].tolist() == [1, 1, 2, 3, 3]
    assert fill_gaps(values, np.eye(5, dtype=bool)[1])[:, 0].tolist() == [1] * 5
