import numpy as np
import pytest
import torch

from nldf_engine.nn.audio import AudioAttention, AudioEncoder, AudioNet, neighbour_windows, prefix_checkpoint


def slow_conv(x, weight, bias, stride):
    """Convolution of x [C, L] with kernel 3 and padding 1, one output at a time, then the leaky ReLU."""
    padded = np.pad(x, ((0, 0), (1, 1)))
    length = (x.shape[1] - 1) // stride + 1
    out = np.zeros((len(weight), length))
    for o in range(len(weight)):
        for i in range(length):
            out[o, i] = np.sum(weight[o] * padded[:, i * stride : i * stride + 3]) + bias[o]
    return np.where(out > 0, out, 0.02 * out)


def slow_code(window, state):
    """AD-NeRF's audio net on one window [W, D]."""
    x = window.T
    for layer in (0, 2, 4, 6):
        x = slow_conv(x, state[f"encoder_conv.{layer}.weight"], state[f"encoder_conv.{layer}.bias"], 2)
    hidden = state["encoder_fc1.0.weight"] @ x.reshape(-1) + state["encoder_fc1.0.bias"]
    hidden = np.where(hidden > 0, hidden, 0.02 * hidden)
    return state["encoder_fc1.2.weight"] @ hidden + state["encoder_fc1.2.bias"]


def slow_fusion(codes, state):
    """AD-NeRF's attention over codes [8, C]: weights from the first 32 numbers of each."""
    x = codes[:, :32].T
    for layer in (0, 2, 4, 6, 8):
        x = slow_conv(
            x, state[f"attentionConvNet.{layer}.weight"], state[f"attentionConvNet.{layer}.bias"], 1
        )
    scores = state["attentionNet.0.weight"] @ x[0] + state["attentionNet.0.bias"]
    weights = np.exp(scores - scores.max())
    return (weights / weights.sum()) @ codes


def arrays(module):
    return {name: value.double().numpy() for name, value in module.state_dict().items()}


@pytest.mark.parametrize(("window", "dim"), [(16, 29), (16, 44), (2, 1024), (1, 3), (3, 7), (8, 29)])
def test_audio_net_equals_a_slow_reference(window, dim):
    """Codes of windows of any size equal an independent numpy computation to 1e-5."""
    torch.manual_seed(0)
    net = AudioNet(dim, window)
    windows = torch.randn(5, window, dim)
    wanted = np.stack([slow_code(w.double().numpy(), arrays(net)) for w in windows])
    np.testing.assert_allclose(net(windows).detach().numpy(), wanted, atol=1e-5)


@pytest.mark.parametrize(("dim", "frames"), [(64, 8), (64, 1), (16, 5), (76, 8)])
def test_attention_equals_a_slow_reference(dim, frames):
    """Fused codes equal an independent numpy computation to 1e-5, and its weights sum to one."""
    torch.manual_seed(1)
    attention = AudioAttention(dim, frames)
    codes = 3 * torch.randn(4, frames, dim)
    wanted = np.stack([slow_fusion(c.double().numpy(), arrays(attention)) for c in codes])
    np.testing.assert_allclose(attention(codes).detach().numpy(), wanted, atol=1e-5)
    weights = attention.weights(codes)
    assert (weights > 0).all()
    torch.testing.assert_close(weights.sum(1), torch.ones(4))


def test_encoder_equals_a_slow_reference_from_features_to_codes():
    """Features of a clip to codes of frames, clip ends included, equal the numpy computation to 1e-5."""
    torch.manual_seed(2)
    encoder = AudioEncoder(29)
    features = torch.randn(12, 16, 29)
    index = torch.tensor([0, 3, 6, 11])
    net, attention, clip = arrays(encoder.net), arrays(encoder.attention), features.double().numpy()
    wanted = []
    for i in index.tolist():
        codes = [slow_code(clip[j] if 0 <= j < 12 else np.zeros((16, 29)), net) for j in range(i - 4, i + 4)]
        wanted.append(slow_fusion(np.stack(codes), attention))
    made = encoder(neighbour_windows(features, index)).detach().numpy()
    assert made.shape == (4, 64)
    np.testing.assert_allclose(made, np.stack(wanted), atol=1e-5)
    np.testing.assert_allclose(encoder.encode_clip(features, index).detach().numpy(), made, atol=1e-6)


def test_parameters_are_named_and_shaped_as_in_adnerf_checkpoints():
    """The state dicts hold exactly the names and shapes of AD-NeRF's audio networks."""
    net = {name: tuple(value.shape) for name, value in AudioNet(29, 16, 64).state_dict().items()}
    assert net == {
        "encoder_conv.0.weight": (32, 29, 3), "encoder_conv.0.bias": (32,),
        "encoder_conv.2.weight": (32, 32, 3), "encoder_conv.2.bias": (32,),
        "encoder_conv.4.weight": (64, 32, 3), "encoder_conv.4.bias": (64,),
        "encoder_conv.6.weight": (64, 64, 3), "encoder_conv.6.bias": (64,),
        "encoder_fc1.0.weight": (64, 64), "encoder_fc1.0.bias": (64,),
        "encoder_fc1.2.weight": (64, 64), "encoder_fc1.2.bias": (64,),
    }  # fmt: skip
    attention = {name: tuple(value.shape) for name, value in AudioAttention().state_dict().items()}
    assert attention == {
        "attentionConvNet.0.weight": (16, 32, 3), "attentionConvNet.0.bias": (16,),
        "attentionConvNet.2.weight": (8, 16, 3), "attentionConvNet.2.bias": (8,),
        "attentionConvNet.4.weight": (4, 8, 3), "attentionConvNet.4.bias": (4,),
        "attentionConvNet.6.weight": (2, 4, 3), "attentionConvNet.6.bias": (2,),
        "attentionConvNet.8.weight": (1, 2, 3), "attentionConvNet.8.bias": (1,),
        "attentionNet.0.weight": (8, 8), "attentionNet.0.bias": (8,),
    }  # fmt: skip


def test_a_checkpoint_maps_one_to_one():
    """Two state dicts of another encoder, prefixed, give that encoder: no key is missing or left over."""
    torch.manual_seed(3)
    theirs, ours = AudioEncoder(29), AudioEncoder(29)
    windows = torch.randn(2, 8, 16, 29)
    assert not torch.equal(theirs(windows), ours(windows))
    ours.load_state_dict(
        prefix_checkpoint(theirs.net.state_dict(), theirs.attention.state_dict()), strict=True
    )
    assert torch.equal(theirs(windows), ours(windows))


def test_neighbours_are_the_four_before_the_frame_itself_and_three_after():
    """Windows [i - 4, i + 4) of frame i, zeros wherever one lies outside of the clip."""
    features = torch.arange(1.0, 11.0)[:, None, None].expand(10, 16, 29)
    made = neighbour_windows(features, torch.tensor([0, 2, 5, 9]))[:, :, 7, 13]
    assert made.tolist() == [
        [0, 0, 0, 0, 1, 2, 3, 4],
        [0, 0, 1, 2, 3, 4, 5, 6],
        [2, 3, 4, 5, 6, 7, 8, 9],
        [6, 7, 8, 9, 10, 0, 0, 0],
    ]
    one = neighbour_windows(features[:1], torch.tensor([0]))[0, :, 0, 0]
    assert one.tolist() == [0, 0, 0, 0, 1, 0, 0, 0]
    odd = neighbour_windows(features, torch.tensor([1]), frames=5)[0, :, 0, 0]
    assert odd.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("count", [0, 1, 7, 30])
def test_encoding_a_clip_equals_encoding_each_neighbourhood(count):
    """encode_clip of no, one, few and all frames, in any order and repeated, equals the plain way."""
    torch.manual_seed(4)
    encoder = AudioEncoder(5, dim_out=16, frames=4, window=3)
    features = torch.randn(30, 3, 5)
    index = torch.randint(0, 30, (count,))
    wanted = encoder(neighbour_windows(features, index, 4))
    assert wanted.shape == (count, 16)
    torch.testing.assert_close(encoder.encode_clip(features, index), wanted)


def test_gradients_reach_every_parameter_and_the_features_of_the_neighbours_alone():
    """The code of a frame has gradients for all parameters, and for the features of its 8 neighbours only."""
    torch.manual_seed(5)
    encoder = AudioEncoder(29)
    features = torch.randn(40, 16, 29, requires_grad=True)
    encoder.encode_clip(features, torch.tensor([20])).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in encoder.parameters())
    reached = features.grad.abs().sum((1, 2)) > 0
    assert reached.nonzero()[:, 0].tolist() == list(range(16, 24))


@pytest.mark.parametrize("make", [lambda: AudioNet(0), lambda: AudioNet(29, 0), lambda: AudioNet(29, 16, 0),
                                  lambda: AudioAttention(64, 0), lambda: AudioAttention(16, 8, 17),
                                  lambda: AudioEncoder(29, frames=-1)])  # fmt: skip
def test_sizes_below_one_are_refused(make):
    """A size that no network can have is a ValueError that names it."""
    with pytest.raises(ValueError, match="expected"):
        make()


def test_wrong_shapes_say_what_was_expected():
    """Windows, codes, features and indices of a wrong shape or dtype are named with what came."""
    encoder, features = AudioEncoder(29), torch.zeros(9, 16, 29)
    with pytest.raises(ValueError, match=r"16, 29\], got \[2, 8, 16, 44\]"):
        encoder(torch.zeros(2, 8, 16, 44))
    with pytest.raises(ValueError, match=r"8, 64\], got \[2, 7, 64\]"):
        encoder(torch.zeros(2, 7, 16, 29))
    with pytest.raises(ValueError, match=r"got \[9, 29\]"):
        neighbour_windows(torch.zeros(9, 29), torch.tensor([0]))
    with pytest.raises(ValueError, match=r"at least one frame"):
        neighbour_windows(features[:0], torch.tensor([0]))
    with pytest.raises(ValueError, match=r"float32"):
        neighbour_windows(features, torch.tensor([0.0]))
    with pytest.raises(ValueError, match=r"index"):
        encoder.encode_clip(features, torch.tensor(0))
    with pytest.raises(TypeError, match=r"window: expected an int"):
        AudioNet(29, 16.0)
