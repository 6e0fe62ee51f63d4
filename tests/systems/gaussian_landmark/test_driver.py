"""Landmarks of a frame: given ones, those made of speech and lids, and what the driver is fitted to."""

from __future__ import annotations

import torch

from landmark_avatars import talking_driver, talking_track
from nldf_engine.geometry.face_mesh import MARKS_BROWS, MARKS_EYES, MARKS_SPEECH
from nldf_engine.nn.speech import REACH
from nldf_engine.rendering.fields import Conditions
from nldf_engine.systems.gaussian_landmark.driver import SMALLEST_SPREAD, SPOKEN, lip_opening


def clip(frames: int = 30, **tracks: torch.Tensor) -> Conditions:
    return Conditions(torch.randn(frames, 16, 29), torch.full((frames,), 0.28), **tracks)


def test_it_is_fitted_to_a_track() -> None:
    """Mean, spread and range are the frames'; what does not move has the tracker's noise for its spread."""
    track, eyes = talking_track()
    driver = talking_driver()
    torch.testing.assert_close(driver.usual, track.mean(0))
    torch.testing.assert_close(driver.spread[57, 1], track[:, 57, 1].std())
    assert (driver.spread[list(MARKS_BROWS)] == SMALLEST_SPREAD).all() and (driver.low <= driver.high).all()
    moved = driver.displacements(track)
    torch.testing.assert_close(moved.square().mean().sqrt(), torch.tensor(1.0))
    torch.testing.assert_close(driver.spoken(moved), track[:, list(MARKS_SPEECH)])
    assert lip_opening(track).max() > lip_opening(track).min() + 0.009
    # Lids follow the openness as they did in the frames.
    made = driver.landmarks(Conditions(torch.zeros(40, 16, 29), eyes), torch.arange(40))
    torch.testing.assert_close(made[:, list(MARKS_EYES)], track[:, list(MARKS_EYES)], atol=1e-5, rtol=0)


def test_given_landmarks_are_what_counts() -> None:
    """The track "landmarks" wins over speech and eyes; "spoken" over the network, but not over the lids."""
    driver, index = talking_driver(), torch.tensor([3, 17])
    track, _ = talking_track(30)
    assert torch.equal(driver.landmarks(clip(landmarks=track), index), track[index])
    spoken = track[:, list(MARKS_SPEECH)]
    made = driver.landmarks(clip(**{SPOKEN: spoken}), index)
    assert torch.equal(made[:, list(MARKS_SPEECH)], spoken[index])
    assert torch.equal(made[:, list(MARKS_BROWS)], driver.usual[list(MARKS_BROWS)].repeat(2, 1, 1))
    assert driver(clip(landmarks=track), index).shape == (2, driver.dim)


def test_some_frames_are_those_of_all() -> None:
    """A frame asked for alone is as in the whole clip, and nothing behind its reach is looked at."""
    driver, whole = talking_driver(), clip()
    every = driver.landmarks(whole, torch.arange(30))
    index = torch.tensor([20, 4, 11])
    torch.testing.assert_close(driver.landmarks(whole, index), every[index])
    assert (every[:, list(MARKS_SPEECH)] - driver.usual[list(MARKS_SPEECH)]).abs().max() > 1e-4
    changed = whole.audio.clone()
    changed[21 + REACH :] = 9.0
    other = driver.landmarks(whole.replaced(audio=changed), torch.arange(30))
    assert torch.equal(other[:21], every[:21]) and not torch.equal(other[21:], every[21:])


def test_what_follows_the_sound_makes_the_same() -> None:
    driver, whole = talking_driver(), clip()
    follower = driver.follow()
    rows = [follower.push(whole.audio[k : k + 7], k + 7 >= 30)[SPOKEN] for k in range(0, 30, 7)]
    every = driver.landmarks(whole, torch.arange(30))[:, list(MARKS_SPEECH)]
    torch.testing.assert_close(torch.cat(rows), every, atol=1e-7, rtol=0)


def test_a_field_in_training_does_not_train_the_network() -> None:
    """The speech network takes no gradients and drops nothing while the field trains."""
    driver, whole = talking_driver(), clip()
    driver.train()
    assert not any(p.requires_grad for p in driver.parameters())
    assert torch.equal(driver(whole, torch.arange(5)), driver(whole, torch.arange(5)))
