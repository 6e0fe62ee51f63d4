"""The network from speech to landmarks: its loop, what it looks at, its cost, and its ablations."""

from __future__ import annotations

import math
import time

import pytest
import torch

from nldf_engine.nn.autoregressive import (
    Decoder,
    DecoderSizes,
    attention_bias,
    periodic_positions,
)
from nldf_engine.nn.landmarks import LandmarkSpeech, LandmarkSpeechSizes, SpeechFollower, SpeechLoop
from nldf_engine.nn.speech import REACH

SMALL = DecoderSizes(width=16, heads=2, hidden=16, period=5, window=20)


def net(encoder: str = "transformer", decoder: DecoderSizes = SMALL, points: int = 5) -> LandmarkSpeech:
    """Over windows of 4 rows of 6 features; its last layer is not zero, so that its past matters."""
    torch.manual_seed(0)
    made = LandmarkSpeech(6, 4, "lip", points, LandmarkSpeechSizes(encoder, decoder)).eval()
    torch.nn.init.normal_(made.out.weight, std=0.5)
    return made


def test_positions_and_bias_are_faceformers() -> None:
    """Positions are sines and cosines of the frame in its period; the bias falls by steps of a period, by
    ALiBi's slopes 1/4 to 1/256 for four heads."""
    positions = periodic_positions(8, 25)
    assert positions[0].tolist() == [0, 1] * 4
    assert positions[3, 2].item() == pytest.approx(math.sin(3 / 10_000 ** (2 / 8)))
    bias = attention_bias(4, 25, 60)
    assert bias[:, 0].eq(0).all() and bias[:, 24].eq(0).all()
    assert bias[:, 25].tolist() == [-1 / 4, -1 / 16, -1 / 64, -1 / 256]
    assert torch.equal(bias[:, 50], 2 * bias[:, 25])


def test_an_untrained_network_rests() -> None:
    """The last layer begins at zero: whatever is said, the landmarks are at their mean."""
    made = net()
    made.reset()
    assert not made.decode(torch.randn(9, 4, 6)).any()


@pytest.mark.parametrize("encoder", ["transformer", "mlp"])
@pytest.mark.parametrize("alignment_bias", [False, True])
def test_frame_by_frame_is_all_at_once(encoder: str, alignment_bias: bool) -> None:
    """The loop with kept keys and values makes what one pass over all frames makes of the loop's own past."""
    decoder = DecoderSizes(16, 2, 16, 5, 20, alignment_bias=alignment_bias)
    made = net(encoder, decoder)
    sound = torch.randn(2, 70, 16)
    own = made.speak(sound)
    before = torch.cat([torch.zeros(2, 1, 5, 3), own[:, :-1]], 1)
    torch.testing.assert_close(made.after(sound, before), own, atol=1e-5, rtol=1e-4)
    assert (own[:, 40:] - own[:, 20:40].mean(1, keepdim=True)).abs().max() > 0.1


def test_a_spread_changes_what_is_shown_and_not_what_follows() -> None:
    """Twice as far, and a little to the side, in every frame: the loop goes on from what it made itself. New
    weights are spread no more."""
    made = net()
    features = torch.randn(30, 4, 6)
    plain = made.decode(features)
    made.spread.mul_(2)
    made.spread_bias.fill_(0.1)
    torch.testing.assert_close(made.decode(features), 2 * plain + 0.1, atol=1e-6, rtol=1e-5)
    made.reset()
    assert torch.equal(made.spread, torch.eye(15)) and not made.spread_bias.any()


def test_a_frame_sees_its_past_within_the_window_alone() -> None:
    """Gradients of frame 50 reach the inputs of frames 31 to 50, and the sound of frame 50."""
    decoder = Decoder(SMALL).eval()
    inputs, sound = torch.randn(1, 60, 16, requires_grad=True), torch.randn(1, 60, 16, requires_grad=True)
    of_inputs, of_sound = torch.autograd.grad(decoder(inputs, sound)[0, 50].square().sum(), (inputs, sound))
    assert of_inputs[0].abs().sum(1).nonzero()[:, 0].tolist() == list(range(31, 51))
    assert of_sound[0].abs().sum(1).nonzero()[:, 0].tolist() == [50]


def test_the_alignment_bias_makes_the_attention_an_identity() -> None:
    """What the paper removes: attention under that bias is one linear map of the frame's own sound."""
    decoder = Decoder(DecoderSizes(16, 2, 16, 5, 20, alignment_bias=True)).eval()
    attention = decoder.sound
    x, sound = torch.randn(1, 9, 16), torch.randn(1, 9, 16)
    mask = ~torch.eye(9, dtype=torch.bool)
    looked, weights = attention(x, sound, sound, attn_mask=mask)
    torch.testing.assert_close(weights[0], torch.eye(9))
    value = sound @ attention.in_proj_weight[32:].t() + attention.in_proj_bias[32:]
    torch.testing.assert_close(looked, attention.out_proj(value))


@pytest.mark.parametrize("pieces", [[1] * 61, [7] * 8 + [5], [61], [2, 0, 30, 1, 28]])
def test_chunks_are_the_whole(pieces: list[int]) -> None:
    """However a sound arrives, the landmarks are the same, and each is there `REACH` frames after its own."""
    made = net()
    features = torch.randn(61, 4, 6)
    whole, follower = made.decode(features), SpeechFollower(made)
    rows, first = [], 0
    for count in pieces[:-1]:
        rows.append(follower.push(features[first : first + count]))
        first += count
        assert sum(map(len, rows)) == max(0, first - REACH)
    rows.append(follower.push(features[first:], last=True))
    # Products of other sizes add in another order, and by how much depends on the processor.
    torch.testing.assert_close(torch.cat(rows), whole, atol=4e-6, rtol=1e-5)


def kept_bytes(loop: SpeechLoop) -> int:
    """Bytes of all tensors that a loop keeps."""
    past = loop._past
    return sum(t.untyped_storage().nbytes() for t in (past._keys, past._values, loop._last))


def time_of(loop: SpeechLoop, frames: int) -> float:
    """Least seconds a frame over pieces of a tenth of the frames: what disturbs the machine is left out."""
    sound, best = torch.zeros(1, 16), math.inf
    with torch.inference_mode():
        for _ in range(10):
            begun = time.perf_counter()
            for _ in range(frames // 10):
                loop.step(sound)
            best = min(best, (time.perf_counter() - begun) / (frames // 10))
    return best


def run_long(frames: int) -> None:
    loop = SpeechLoop(net("mlp"))
    for _ in range(60):  # the window is full
        loop.step(torch.zeros(1, 16))
    before, early = kept_bytes(loop), time_of(loop, 400)
    time_of(loop, frames)
    late = time_of(loop, 400)
    assert kept_bytes(loop) == before
    assert late < 1.5 * early, f"{1e6 * early:.0f} us a frame early, {1e6 * late:.0f} late"


def test_time_and_memory_do_not_grow() -> None:
    """After two minutes a frame takes what it took at first."""
    run_long(3000)


@pytest.mark.thorough
def test_time_and_memory_do_not_grow_in_an_hour() -> None:
    """After an hour, 90,000 frames, a frame takes what it took at first."""
    run_long(90_000)


def test_sizes_that_do_not_fit_are_refused() -> None:
    for wrong, message in (
        ({"width": 18, "heads": 4}, "multiple of 8"), ({"window": 0}, "at least 1"), ({"dropout": 1.0},
        "dropout"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            DecoderSizes(**wrong)
    with pytest.raises(ValueError, match="landmarks: expected one of transformer, mlp, got 'cnn'"):
        LandmarkSpeechSizes("cnn")
    with pytest.raises(ValueError, match="audio_net: expected one of conv, lip"):
        LandmarkSpeech(6, 4, "none", 5, LandmarkSpeechSizes())
