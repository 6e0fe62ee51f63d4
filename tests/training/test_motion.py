"""Motion codes: a basis that holds the tracked mouth, and speech that tells them for frames not seen."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from nldf_engine.avatar import Avatar
from nldf_engine.datasets.foreign.write import export_layout
from nldf_engine.geometry.face_mesh import LOWER_INNER, UPPER_INNER
from nldf_engine.rendering.fields import Conditions
from nldf_engine.systems.common.motion import MOUTH, MotionBasis, MotionEncoder
from nldf_engine.training import driving, speech
from nldf_engine.training.motion import fit_basis, placed_landmarks
from nldf_engine.training.presets import find_preset
from nldf_engine.training.prior import lip_prior
from nldf_engine.training.recipe import with_parts
from nldf_engine.training.run import TrainConfig, train
from nldf_engine.training.speech import (
    SpeechData,
    SpeechLoss,
    SpeechTuning,
    opening_correlation,
    train_speech,
    with_silence,
)
from nldf_engine.training.voices import augment_voices, stretch_bands


def test_a_placed_landmark_is_where_its_ray_meets_its_depth():
    """Points in head space, projected by a moving camera, are found again to a hundredth of a millimetre."""
    from nldf_engine.geometry.cameras import Camera

    torch.manual_seed(0)
    camera = Camera(512, 512, 900.0, 910.0, 250.0, 260.0)
    basis = MotionBasis(3)
    basis.depth.normal_(-0.05, 0.01)
    points = torch.cat(
        [0.03 * torch.randn(4, len(MOUTH), 2), basis.depth[None, :, None].expand(4, -1, 1)], -1
    )
    poses = torch.eye(4).repeat(4, 1, 1)
    for i, pose in enumerate(poses):
        turn = 0.2 * (i - 1.5)
        pose[:3, :3] = torch.tensor(
            [[math.cos(turn), 0, math.sin(turn)], [0, 1, 0], [-math.sin(turn), 0, math.cos(turn)]]
        )
        pose[:3, 3] = torch.tensor([0.1 * turn, 0.02, -0.8])
    seen = (points - poses[:, None, :3, 3]) @ poses[:, :3, :3]
    landmarks = torch.zeros(4, 478, 2)
    landmarks[:, list(MOUTH), 0] = camera.fx * seen[..., 0] / seen[..., 2] + camera.cx
    landmarks[:, list(MOUTH), 1] = camera.fy * seen[..., 1] / seen[..., 2] + camera.cy
    torch.testing.assert_close(basis.place(landmarks, poses, camera), points[..., :2], atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match=r"landmarks: expected \[T, 478, 2\]"):
        basis.place(landmarks[:, :468], poses, camera)


def test_codes_hold_the_tracked_mouth(synthetic_dataset):
    """Enough codes give the mouth back; they have unit variance, and the first one opens the mouth."""
    fit = torch.from_numpy(synthetic_dataset.indices("fit"))
    basis = MotionBasis(8)
    codes = fit_basis(basis, synthetic_dataset, fit)
    assert codes.shape == (len(synthetic_dataset), 8)
    torch.testing.assert_close(codes[fit][:, :3].std(0), torch.ones(3), atol=0.05, rtol=0)
    landmarks = torch.from_numpy(synthetic_dataset.landmarks)
    placed = basis.place(landmarks, torch.from_numpy(synthetic_dataset.poses), synthetic_dataset.camera)
    error = (basis.decode(codes) - placed)[fit].square().mean().sqrt()
    assert error < 0.2 * (placed[fit] - basis.mean).square().mean().sqrt()
    gap = placed[:, MOUTH.index(LOWER_INNER), 1] - placed[:, MOUTH.index(UPPER_INNER), 1]
    assert torch.corrcoef(torch.stack([basis.opening(codes)[fit], gap[fit]]))[0, 1] > 0.95
    assert torch.corrcoef(torch.stack([codes[fit, 0], gap[fit]]))[0, 1] > 0
    again = MotionBasis(8)
    np.testing.assert_array_equal(fit_basis(again, synthetic_dataset, fit), codes)


def test_speech_tells_the_motion_of_frames_that_it_never_saw():
    """Codes that follow the features of a frame and its neighbour are learned, and told for unseen frames."""
    torch.manual_seed(0)
    encoder = MotionEncoder(2, 6, 4)
    encoder.basis.components.normal_()
    features = torch.nn.functional.avg_pool1d(torch.randn(24, 402), 3, 1).T.reshape(400, 4, 6)
    codes = torch.stack([features[:, 1, :3].sum(1), features[:, 2, 3:].sum(1)], 1)
    usable = torch.zeros(400, dtype=torch.bool)
    usable[:300] = True
    usable[40:44] = False
    held = torch.arange(300, 400)
    before = opening_correlation(encoder.eval(), features, codes, held)
    train_speech(encoder, SpeechData(features, codes, usable), SpeechTuning(150))
    after = opening_correlation(encoder, features, codes, held)
    assert after > 0.8 > before
    assert not any(p.requires_grad for p in encoder.speech.parameters())


def test_tracked_codes_stand_in_for_the_audio():
    """Where conditions hold motion codes, the audio is not looked at."""
    encoder = MotionEncoder(2, 6, 4).eval()
    audio, eyes, motion = torch.randn(5, 4, 6), torch.zeros(5), torch.randn(5, 2)
    index = torch.tensor([3, 1])
    torch.testing.assert_close(encoder(Conditions(audio, eyes, motion=motion), index), motion[index])
    told = encoder(Conditions(audio, eyes), index)
    torch.testing.assert_close(told, encoder.speech.encode_clip(audio)[index])


def test_the_kept_network_has_heard_the_validation_frames(synthetic_dataset, tmp_path):
    """What drives an avatar is trained once more on all of the training part, and on no held-out frame."""
    heard = []

    def listen(encoder, data, tuning):
        heard.append(data.usable.nonzero()[:, 0])
        real(encoder, data, tuning)

    real = driving.train_speech
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(driving, "train_speech", listen)
        settings = TrainConfig(steps=2, overrides={"speech_steps": "2", "spread": "off"})
        done = train("nldf-tiny", synthetic_dataset.path, tmp_path / "teacher", settings)
        fit, validation = (
            torch.from_numpy(synthetic_dataset.indices(split)) for split in ("fit", "validation")
        )
        assert len(heard) == 2
        torch.testing.assert_close(heard[0], fit)
        torch.testing.assert_close(heard[1], torch.cat([fit, validation]).sort().values)
        taught = dataclasses.replace(settings, teacher=done.avatar)
        student = train("nldf-tiny", synthetic_dataset.path, tmp_path / "student", taught)
        assert len(heard) == 2, "a student shares its teacher's network"
    nets = [Avatar.load(path).portrait.head.driver.part("motion") for path in (done.avatar, student.avatar)]
    torch.testing.assert_close(nets[0].state_dict(), nets[1].state_dict())


@pytest.mark.parametrize("codes", ["0", "3"])
def test_a_field_trains_with_and_without_motion_codes(synthetic_dataset, tmp_path, codes):
    """motion_codes=0 gives the papers' audio net; otherwise the engine tells and scales the motion."""
    from nldf_engine.engine import Engine

    settings = TrainConfig(steps=2, overrides={"motion_codes": codes, "speech_steps": "2"})
    done = train("nldf-tiny", synthetic_dataset.path, tmp_path / "avatar", settings)
    engine = Engine.load(done.avatar)
    features = synthetic_dataset.audio_features()[:10]
    assert engine.motion_codes == int(codes)
    if codes == "0":
        with pytest.raises(ValueError, match="without motion codes"):
            engine.render(features, mouth=0.5)
        return
    told = engine.motion(features)
    assert told.shape == (10, 3)
    plain = engine.render(features).frames[0]
    same = engine.render(features, motion=told).frames[0]
    rest = engine.render(features, mouth=0.0).frames[0]
    np.testing.assert_array_equal(plain, same)
    np.testing.assert_array_equal(rest, engine.render(features, motion=told[::-1], mouth=0).frames[0])
    assert np.abs(rest.astype(int) - plain.astype(int)).max() > 0
    with pytest.raises(ValueError, match=r"motion: expected finite values \[10, 3\]"):
        engine.render(features, motion=told[:4])
    with pytest.raises(ValueError, match="mouth: expected a number from 0 to 3"):
        engine.render(features, mouth=9)


def test_settings_out_of_range_are_refused():
    """The recipe names the setting."""
    recipe = find_preset("nldf-small").recipe
    for change in ({"motion_codes": 1000}, {"speech_steps": 0}, {"motion_noise": -1.0}):
        with pytest.raises(ValueError, match=next(iter(change))):
            with_parts(recipe, driving=change)


def test_lips_that_part_where_they_are_closed_count_more():
    """An error costs more where it parts closed lips than where it presses them, or where they are open."""
    encoder = MotionEncoder(1, 6, 4)
    encoder.basis.components[0, MOUTH.index(LOWER_INNER), 1] = 1.0
    encoder.basis.scale.fill_(1e-3)  # so that a code is the opening in millimetres
    codes = torch.cat([torch.zeros(20), torch.full((20,), 5.0)])[:, None]
    loss = SpeechLoss(
        encoder.basis, SpeechData(torch.zeros(40, 4, 6), codes, torch.ones(40, dtype=torch.bool))
    )

    def cost(error: float, frames: torch.Tensor) -> float:
        return float(loss(torch.full((1, 20, 1), error), frames[None], torch.ones(1, 20, dtype=torch.bool)))

    closed, wide = torch.arange(20), torch.arange(20, 40)
    assert cost(1.0, closed) > 1.25 * cost(-1.0, closed)
    assert cost(-1.0, closed) == pytest.approx(cost(1.0, wide), rel=1e-3)


@pytest.mark.parametrize("frames", [4, 40])
def test_silence_stands_before_and_behind_the_speech(frames: int):
    """A sixteenth of it each, at the closed lips' codes; of a few frames none."""
    encoder = MotionEncoder(1, 6, 4)
    encoder.basis.components[0, MOUTH.index(LOWER_INNER), 1] = 1.0
    encoder.basis.scale.fill_(1e-3)
    codes = torch.linspace(0.1, 6, frames)[:, None]
    data = SpeechData(torch.ones(frames, 4, 6), codes, torch.ones(frames, dtype=torch.bool))
    made = with_silence(encoder.basis, data)
    still = (len(made.codes) - frames) // 2
    assert still == {4: 0, 40: 2}[frames]
    assert torch.equal(made.codes[still : still + frames], codes) and bool(made.usable.all())
    assert not made.features[:still].any() and bool((made.codes[:still] < 2).all())


def test_augmented_voices_of_the_same_speech():
    """Stretched bands move, offset and tilt spare silence, and each stretch has a voice of its own."""
    torch.manual_seed(0)
    rows = torch.zeros(3, 29)
    rows[:, 10] = 1.0
    moved = stretch_bands(rows, torch.tensor([0.5, 1.0, 2.0]))
    assert moved.argmax(1).tolist() == [20, 10, 5]
    torch.testing.assert_close(moved[1], rows[1])
    windows = torch.rand(40, 5, 16, 29) + 0.5
    windows[:, 2] = 0
    voices = augment_voices(windows)
    assert voices.shape == windows.shape and bool(voices.isfinite().all())
    assert bool((voices[:, 2].amax((1, 2)) == voices[:, 2].amin((1, 2))).all())  # silent, or a room's floor
    assert 0.3 < float((voices[:, 2] == 0).all(2).all(1).float().mean()) < 0.7
    assert float((voices - windows)[:, 0].mean((1, 2)).std()) > 0.05


def test_bands_alone_are_varied(monkeypatch):
    """Every stretch of bands is given another voice; features without such an order are left alone."""
    seen = []
    monkeypatch.setattr(speech, "augment_voices", lambda windows: seen.append(windows) or windows)
    features, codes, usable = torch.rand(80, 4, 6), torch.rand(80, 1), torch.ones(80, dtype=torch.bool)
    for bands, calls in ((False, 0), (True, 2)):
        train_speech(MotionEncoder(1, 6, 4), SpeechData(features, codes, usable, bands), SpeechTuning(2))
        assert len(seen) == calls


def test_a_student_of_other_upper_codes_learns_and_keeps_its_own(synthetic_dataset, tmp_path):
    """Teacher and student see one clip, each as many codes as it takes; the track holds the student's."""
    few = {"speech_steps": "2", "distilled_frames": "2"}
    teacher = TrainConfig(steps=2, overrides={**few, "upper_codes": "4"})
    done = train("nldf-tiny", synthetic_dataset.path, tmp_path / "teacher", teacher)
    for codes in (0, 2):
        settings = TrainConfig(steps=2, teacher=done.avatar, overrides={**few, "upper_codes": str(codes)})
        student = train("nldf-tiny", synthetic_dataset.path, tmp_path / f"student{codes}", settings)
        upper = Avatar.load(student.avatar).upper
        assert (0 if upper is None else upper.shape[1]) == codes
        if upper is not None:
            torch.testing.assert_close(upper, Avatar.load(done.avatar).upper[:, :2], atol=1e-4, rtol=0)


def test_a_foreign_folder_tells_no_brows(synthetic_dataset, tmp_path):
    """Its 478 points are made of 68 that hold the mouth: codes of the upper face would tell what is said."""
    export_layout(synthetic_dataset, "radnerf", tmp_path / "folder")
    settings = TrainConfig(steps=2, overrides={"upper_codes": "3", "speech_steps": "2"})
    done = train("nldf-tiny", tmp_path / "folder", tmp_path / "me", settings)
    assert Avatar.load(done.avatar).upper is None


def test_a_shared_basis_means_the_same_for_everyone(synthetic_dataset):
    """Components are the shared ones whoever speaks, codes have unit variance, and hold nearly all of the
    mouth that a basis of one's own holds."""
    fit = torch.from_numpy(synthetic_dataset.indices("fit"))
    shared = lip_prior().components
    own, basis = MotionBasis(8), MotionBasis(8)
    fit_basis(own, synthetic_dataset, fit)
    codes = fit_basis(basis, synthetic_dataset, fit, shared)
    torch.testing.assert_close(basis.components.abs(), shared[:8].abs())
    assert torch.allclose(codes[fit].mean(0), torch.zeros(8), atol=1e-3)
    moved = codes[fit].std(0) > 1e-3
    assert bool(moved[0]) and torch.allclose(
        codes[fit].std(0)[moved], torch.ones(int(moved.sum())), atol=0.02
    )
    placed = placed_landmarks(basis, synthetic_dataset)[fit]
    spread = (placed - placed.mean(0)).square().sum()
    left = [float((placed - one.decode(one.encode(placed))).square().sum() / spread) for one in (own, basis)]
    assert left[0] <= left[1] < 0.1
    assert bool((basis.opening(torch.eye(8)) >= basis.opening(torch.zeros(8, 8)) - 1e-9).all())
    with pytest.raises(ValueError, match=r"motion_codes: there are 12 shared components.*got 13"):
        fit_basis(MotionBasis(13), synthetic_dataset, fit, shared)
