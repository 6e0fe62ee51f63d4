"""The speech network's training: copies of the sound, folds, and the spread of what it predicts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from nldf_engine.geometry.face_mesh import LOWER_INNER
from nldf_engine.systems.common.motion import MOUTH, MotionEncoder
from nldf_engine.training import speech
from nldf_engine.training.speech import (
    SpeechData,
    SpeechTuning,
    Spread,
    opening_slope,
    predict_folds,
    predictions,
    pressed,
    train_speech,
)


def encoder(codes: int = 2) -> MotionEncoder:
    """Over windows of 4 rows of 6 features."""
    torch.manual_seed(0)
    made = MotionEncoder(codes, 6, 4, "lip")
    made.basis.components.normal_()
    return made.eval()


def data(frames: int = 240, copies: torch.Tensor | None = None) -> SpeechData:
    """Codes that follow the features."""
    torch.manual_seed(1)
    features = torch.randn(frames, 4, 6)
    codes = torch.stack([features[:, 1, :3].sum(1), features[:, 2, 3:].sum(1)], 1)
    return SpeechData(features, codes, torch.ones(frames, dtype=torch.bool), copies=copies)


def test_copies_of_the_sound_are_learned_from():
    """With every stretch taken from a copy, what the copy holds is learned and the original is not."""
    known = data()
    copy = -known.features[None]
    model = encoder()
    train_speech(model, data(copies=copy), SpeechTuning(150, copied=1.0))
    follows = torch.corrcoef(torch.stack([model.speech.encode_clip(copy[0])[:, 0], known.codes[:, 0]]))[0, 1]
    assert follows > 0.8
    turned = model.speech.encode_clip(known.features)[:, 0]
    assert torch.corrcoef(torch.stack([turned, known.codes[:, 0]]))[0, 1] < 0


def test_windows_of_sounds_are_those_of_all_of_them_padded():
    """Frames before the first and behind the last are silence, in the original and in every copy."""
    known = data(30, copies=torch.randn(3, 30, 4, 6))
    every = F.pad(torch.cat([known.features[None], known.copies]), (0, 0, 0, 0, 5, 5))
    which = torch.tensor([[0], [2], [3], [1]])
    frames = torch.arange(12) + torch.tensor([[-5], [-2], [23], [9]])
    assert torch.equal(known.windows(which, frames), every[which, frames + 5])
    assert torch.equal(
        data(30).windows(0 * which, frames), F.pad(data(30).features, (0, 0, 0, 0, 5, 5))[frames + 5]
    )


def test_copies_of_a_scene_share_the_memory_of_their_rows(synthetic_dataset):
    """They are the windows of `audio.windows`, each a view of rows that it shares with its neighbours."""
    from nldf_engine.audio import FrontendConfig
    from nldf_engine.audio.windows import windows
    from nldf_engine.training.scene import Scene
    from nldf_engine.training.sounds import copied_rows

    frontend = FrontendConfig("mel")
    scene = Scene(synthetic_dataset, 32, frontend, torch.device("cpu"))
    copies = scene.sound_copies(2)
    rows = copied_rows(
        synthetic_dataset.audio(), 2, np.random.default_rng(0), lambda x: frontend.kind.rows(x, frontend)
    )
    for copy, made in zip(copies, rows, strict=True):
        assert np.array_equal(copy.numpy(), windows(made, len(synthetic_dataset)))
    assert copies.untyped_storage().nbytes() < 0.2 * copies.numel() * copies.element_size()


def test_a_fold_is_predicted_by_a_network_that_did_not_see_it(monkeypatch):
    """Every usable frame is predicted once, by a network whose frames are 12 and more away from it."""
    seen = []

    def learn(model, of):
        seen.append(of.usable.nonzero()[:, 0])

    known = data()
    folds = predict_folds(known, predictions(encoder(), learn))
    frames = folds.known
    assert folds.unseen.shape == known.codes.shape and torch.equal(frames, torch.arange(240))
    assert len(seen) == speech.FOLDS + 1 and torch.equal(seen[-1], frames)
    for fold, used in zip(frames.tensor_split(speech.FOLDS), seen[:-1], strict=True):
        assert int((fold[:, None] - used[None]).abs().min()) > speech.APART


def test_silence_rests_the_lips():
    """A network that heard speech alone leaves them open where nothing was ever heard."""
    known = data()
    known = replace(known, codes=known.codes + torch.tensor([2.0, 0.0]))
    model = encoder()
    model.basis.components.zero_()
    model.basis.components[0, MOUTH.index(LOWER_INNER), 1] = 0.004
    train_speech(model, known, SpeechTuning(200))
    rest = model.basis.opening(model.speech.encode_clip(torch.zeros(9, 4, 6)))[4]
    speaking = model.basis.opening(known.codes).median()
    assert float(rest) < 0.25 * float(speaking)


def test_closed_lips_are_learned_as_pressed():
    """Lips that meet are lower by `PRESSED` deviations of the opening; the others are as tracked."""
    basis = encoder().basis
    basis.components.mul_(0.002)
    codes = torch.randn(4000, 2)
    usable = torch.arange(4000) < 3000
    opening, made = basis.opening(codes), pressed(basis, codes, usable)
    lower = basis.opening(made) - opening
    meet, apart = (
        opening < speech.CLOSED - 5 * speech.CLOSED_EDGE,
        opening > speech.CLOSED + 8 * speech.CLOSED_EDGE,
    )
    assert meet.sum() > 100 and apart.sum() > 100
    wanted = -speech.PRESSED * float(opening[usable].std())
    torch.testing.assert_close(lower[meet].mean(), torch.tensor(wanted), rtol=0.02, atol=0)
    assert float(lower[apart].abs().max()) < 0.01 * abs(wanted)
    # Nothing is moved that doesn't go with the opening: for codes without a correlation, that is their slope.
    torch.testing.assert_close(
        (made - codes)[meet].mean(0) / wanted, opening_slope(basis) / opening_slope(basis).square().sum(),
        rtol=0.15, atol=0,
    )  # fmt: skip


def test_the_spread_of_unseen_predictions_becomes_the_real_one():
    """Half as wide predictions of a sure code are doubled; one that follows nothing is left alone."""
    torch.manual_seed(0)
    real = torch.randn(2000, 3)
    noise = torch.randn(2000, 3)
    predicted = torch.stack([0.3 + 0.5 * real[:, 0], 0.5 * real[:, 1], 0.2 * noise[:, 2]], 1)
    spread = Spread.fitted(predicted, real)
    made = spread(predicted)
    torch.testing.assert_close(made.std(0)[:2], real.std(0)[:2], atol=0.12, rtol=0)
    assert float(made[:, 2].std()) == pytest.approx(float(predicted[:, 2].std()), rel=0.05)
    torch.testing.assert_close(made.mean(0), real.mean(0), atol=1e-4, rtol=0)


def test_the_opening_is_spread_as_a_whole():
    """An opening of a sure code and a less sure one varies as the real one; what is apart from it stays."""
    torch.manual_seed(0)
    real, noise = torch.randn(4000, 3), torch.randn(4000, 3)
    predicted = torch.stack(
        [0.8 * real[:, 0], 0.3 * real[:, 1] + 0.45 * noise[:, 1], 0.5 * real[:, 2]], 1
    )  # fmt: skip
    opening = torch.tensor([0.004, 0.003, 0.0])
    alone, whole = Spread.fitted(predicted, real), Spread.fitted(predicted, real, opening)
    wanted = float((real @ opening).std())
    assert float((alone(predicted) @ opening).std()) < 0.95 * wanted
    assert float((whole(predicted) @ opening).std()) == pytest.approx(wanted, rel=0.01)
    torch.testing.assert_close(whole(predicted)[:, 2], alone(predicted)[:, 2], atol=0.05, rtol=0)
    closer = torch.corrcoef(torch.stack([whole(predicted) @ opening, alone(predicted) @ opening]))[0, 1]
    assert closer > 0.999, "only its scale changes"


def test_the_spread_is_folded_into_the_last_layer():
    """The network then gives at once what the map makes of its predictions."""
    model, known = encoder(), data()
    before = model.speech.encode_clip(known.features)
    spread = Spread.fitted(before, known.codes, torch.linspace(-1, 1, before.shape[1]))
    spread.fold_into(model.speech.last.weight, model.speech.last.bias)
    expected = spread(before)
    torch.testing.assert_close(model.speech.encode_clip(known.features), expected, atol=1e-4, rtol=1e-4)
