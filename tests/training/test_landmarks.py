"""Stage 1 of landmarks: what is learned, from whose past, and in which frames."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from landmark_avatars import SIZES
from nldf_engine.audio import FrontendConfig
from nldf_engine.datasets.dataset import Dataset
from nldf_engine.nn.landmarks import LandmarkSpeech
from nldf_engine.systems.common.motion import MotionEncoder
from nldf_engine.systems.gaussian_landmark.driver import LandmarkDriver
from nldf_engine.training import landmarks
from nldf_engine.training.landmarks import (
    LOWER,
    UPPER,
    LandmarkTuning,
    fit_landmarks,
    guided_past,
    landmark_loss,
    learn_landmarks,
    learn_landmarks_again,
    learn_spread,
    own_past,
    resting,
    train_landmark_speech,
)
from nldf_engine.training.prior import lip_prior
from nldf_engine.training.recipe import Driving, Recipe
from nldf_engine.training.scene import Scene
from nldf_engine.training.speech import FOLDS, SpeechData

QUICK = LandmarkTuning(steps=60, rate=1e-2, stretch=40, stretches=4)


def net(points: int = 37) -> LandmarkSpeech:
    torch.manual_seed(0)
    return LandmarkSpeech(6, 4, "lip", points, SIZES)


def spoken(frames: int = 240) -> SpeechData:
    """A lower lip that follows the features, in units."""
    torch.manual_seed(1)
    features = torch.randn(frames, 4, 6)
    codes = torch.zeros(frames, 37, 3)
    codes[:, LOWER, 1] = 2 * features[:, 1, :3].sum(1).tanh()
    return SpeechData(features, codes.flatten(1), torch.ones(frames, dtype=torch.bool))


def test_the_loss_is_smooth_l1() -> None:
    """Half the square of small errors, linear beyond; frames that are not usable count nothing."""
    wanted, usable = torch.zeros(1, 3, 2, 3), torch.tensor([[True, True, False]])
    made = torch.tensor([1.0, 3.0, 100.0]).view(1, 3, 1, 1).expand_as(wanted)
    assert landmark_loss(made, wanted, usable).item() == pytest.approx((0.5 + 4.5) / 2)
    slope = landmark_loss(wanted + 20, wanted, usable) - landmark_loss(wanted + 10, wanted, usable)
    assert slope.item() == pytest.approx(40)
    moving = landmark_loss(made, wanted, usable, velocity=2.0) - landmark_loss(made, wanted, usable)
    assert moving.item() == pytest.approx(2 * 0.5 * 4)


def test_the_past_of_a_step() -> None:
    """Guided steps go on from the frame before, a little off; the others from what the network made, from
    rest."""
    wanted = torch.arange(10.0).view(10, 1, 1).expand(10, 2, 3)
    frames = torch.tensor([[0, 1, 2], [5, 6, 7]])
    noisy = torch.stack([guided_past(wanted, frames) for _ in range(400)]).mean(0)
    assert (noisy[:, :, 0, 0] - torch.tensor([[0.0, 0, 1], [4, 5, 6]])).abs().max() < 0.5
    model, windows = net(), torch.randn(2, 12, 4, 6)
    torch.nn.init.normal_(model.out.weight)
    before = own_past(model, windows)
    assert model.training and not before[:, 0].any()
    model.eval()
    torch.testing.assert_close(before[:, 1:], model.speak(model.sound(windows))[:, :-1])


def test_silence_rests_the_lips_where_they_are_closest() -> None:
    data = spoken()
    points = resting(data).view(37, 3)
    openings = data.codes.view(240, 37, 3)[:, LOWER, 1]
    assert float(points[LOWER, 1] - points[UPPER, 1]) < float(openings.quantile(0.1))


def test_speech_is_learned_in_the_loop() -> None:
    """Running on its own past it follows the sound; of another sound it says nothing."""
    data, model = spoken(), net()
    train_landmark_speech(model, data, LandmarkTuning(200, 1e-2, stretch=40, stretches=4))
    true = data.codes.view(240, 37, 3)[:, LOWER, 1]
    made = model.decode(data.features)[:, LOWER, 1]
    other = model.decode(data.features.flip(0))[:, LOWER, 1]
    assert torch.corrcoef(torch.stack([made, true]))[0, 1] > 0.8
    assert torch.corrcoef(torch.stack([other, true]))[0, 1].abs() < 0.3
    assert not model.training and not any(p.requires_grad for p in model.parameters())


def test_what_is_predicted_gets_the_spread_of_the_true_landmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that hears half of what the lips do opens them too little. One is trained for each fold and
    one on all frames; then lips of unseen sound open nearly as far as true ones, and as well in time."""
    torch.manual_seed(2)
    data, later, model, trained = spoken(240), spoken(720), net(), []
    noise = torch.randn(720)
    for part in (data, later):  # what no sound says
        part.codes.view(-1, 37, 3)[:, LOWER, 1] += noise[: len(part.codes)]

    def learn(net: LandmarkSpeech, of: SpeechData, *_: Any) -> None:
        trained.append(int(of.usable.sum()))
        net.reset()
        train_landmark_speech(net, of, LandmarkTuning(120, 1e-2, stretch=40, stretches=4))

    monkeypatch.setattr(landmarks, "learn_net", learn)
    learn_spread(model, data, None, None, QUICK)  # type: ignore[arg-type]
    assert len(trained) == FOLDS + 1 and trained[-1] == 240 > max(trained[:-1])
    unseen, true = torch.arange(240, 720), later.codes.view(-1, 37, 3)[240:, LOWER, 1]
    shown = model.decode(later.features)[unseen][:, LOWER, 1]
    spread, bias = model.spread.clone(), model.spread_bias.clone()
    torch.nn.init.eye_(model.spread)
    model.spread_bias.zero_()
    plain = model.decode(later.features)[unseen][:, LOWER, 1]
    assert float(plain.std()) < float(shown.std()) and not torch.equal(spread, model.spread)
    assert abs(1 - float(shown.std() / true.std())) < abs(1 - float(plain.std() / true.std()))
    assert torch.corrcoef(torch.stack([plain, shown]))[0, 1] > 0.999 and bias.isfinite().all()


def driven(scene: Scene) -> Any:
    """A driver whose landmarks are one of its parts."""
    part = LandmarkDriver(29, 16, "conv", SIZES)
    return SimpleNamespace(part=lambda name: part if name == "landmarks" else None, follow=part.follow)


def test_a_scene_gets_its_tracks(synthetic_dataset: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    """True landmarks to train the field on, spoken ones for frames driven by audio; a resumed run learns
    nothing."""
    scene = Scene(synthetic_dataset, 32, FrontendConfig(), torch.device("cpu"))
    recipe, driver = Recipe(driving=Driving(prior=False)), driven(scene)
    learn_landmarks(driver, scene, recipe, QUICK)
    assert "opening of the lips with a correlation of" in capsys.readouterr().err
    part, index = driver.part("landmarks"), torch.arange(100)
    true, heard = scene.conditions.get("landmarks"), scene.audio_only
    assert true is not None and heard.get("landmarks") is None
    assert torch.equal(part.landmarks(scene.conditions, index), true)
    spoken_alone = part.landmarks(heard.replaced(spoken=None), index)
    torch.testing.assert_close(part.landmarks(heard, index), spoken_alone, atol=1e-6, rtol=0)
    error = [
        (of[scene.fit] - true[scene.fit])[:, 48:68].norm(dim=-1).mean()
        for of in (spoken_alone, part.usual[None].expand(100, -1, -1))
    ]
    assert error[0] < 0.9 * error[1]
    before = {name: value.clone() for name, value in part.state_dict().items()}
    learn_landmarks(driver, scene, recipe, QUICK, resuming=True)
    assert all(torch.equal(value, before[name]) for name, value in part.state_dict().items())
    learn_landmarks_again(driver, scene, recipe, QUICK)
    assert torch.equal(part.usual, before["usual"])
    assert not torch.equal(part.speech.out.weight, before["speech.out.weight"])


def test_frames_without_a_face_are_said(
    synthetic_dataset: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = Scene(synthetic_dataset, 32, FrontendConfig(), torch.device("cpu"))
    blind = synthetic_dataset.landmarks.copy()
    blind[3:5] = float("nan")
    scene.dataset = SimpleNamespace(
        path="speaker",
        landmarks=blind,
        poses=synthetic_dataset.poses,
        camera=synthetic_dataset.camera,
        extra={},
    )  # type: ignore[assignment]
    track = fit_landmarks(driven(scene), scene)
    assert "speaker: 2 frames without a face; their landmarks are interpolated" in capsys.readouterr().err
    assert track.isfinite().all()


def test_the_encoder_of_the_sound_begins_as_other_speakers_taught_it() -> None:
    """Its hidden layers are the shared network's, and its first outputs the shared lip codes."""
    prior = lip_prior()
    width, outputs = prior.net["out.1.weight"].shape[1], len(prior.net["out.1.bias"])
    model = LandmarkSpeech(prior.net["rows.1.weight"].shape[1] // 16, 16, "lip", 37, SIZES).eval()
    assert model.sound.last.in_features == width
    prior.start_features(model.sound, prior.ahead)
    known = MotionEncoder(outputs, model.sound.dim_in, 16, "lip").eval().speech
    known.load_state_dict(prior.net)
    windows = torch.randn(1, 9, 16, model.sound.dim_in)
    torch.testing.assert_close(model.sound(windows)[..., :outputs], known(windows))
    assert model.sound(windows)[..., outputs:].std() > 0


@pytest.mark.parametrize(
    "wrong", [{"steps": 0}, {"stretch": 1}, {"guided": 1.5}, {"rate": 0.0}, {"velocity": -1.0}]
)
def test_settings_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        LandmarkTuning(**wrong)
