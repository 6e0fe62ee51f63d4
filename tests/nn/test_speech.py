"""The network from speech to motion: what a frame depends on, and that pieces agree with the whole."""

import pytest
import torch

from nldf_engine.nn import speech
from nldf_engine.nn.speech import REACH, SpeechNet


def net(window: int = 16) -> SpeechNet:
    torch.manual_seed(0)
    return SpeechNet(29, window, 5, width=8).eval()


@pytest.mark.parametrize("window", [1, 2, 7, 16])
def test_chosen_frames_equal_those_of_the_whole_clip(window, monkeypatch):
    """Single frames, blocks and the whole clip give the same codes, at its ends as well."""
    model, features = net(window), torch.randn(23, window, 29)
    every = model.encode_clip(features)
    assert every.shape == (23, 5)
    index = torch.tensor([22, 0, 11])
    torch.testing.assert_close(model.encode_clip(features, index), every[index])
    monkeypatch.setattr(speech, "BLOCK", 4)
    torch.testing.assert_close(model.encode_clip(features), every)


def test_a_frame_depends_on_its_neighbours_alone():
    """Changing a window moves the codes of frames within REACH, and of no other."""
    model, features = net(), torch.randn(30, 16, 29)
    before = model.encode_clip(features)
    features[15] += 1
    moved = (model.encode_clip(features) - before).abs().amax(1) > 1e-6
    assert moved.nonzero()[:, 0].tolist() == list(range(15 - REACH, 15 + REACH + 1))


def test_windows_of_another_front_end_are_refused():
    """Shapes that do not fit are named."""
    with pytest.raises(ValueError, match=r"windows must be \[N, T \+ 4, 16, 29\]"):
        net()(torch.zeros(1, 6, 16, 80))
    with pytest.raises(ValueError, match="sizes must be at least 1"):
        SpeechNet(29, 0, 5)
