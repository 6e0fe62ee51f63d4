"""The residual MLP and the layers beside it."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from nldf_engine.nn.frequency import encode_frequencies, frequency_dim
from nldf_engine.nn.linear import FrameLinear
from nldf_engine.nn.resmlp import ResMLP


def plain_resmlp(state: dict[str, torch.Tensor], x: torch.Tensor, blocks: int) -> torch.Tensor:
    """The network written out again from its definition, over concatenated inputs."""
    first = F.relu(x @ state["head.weight"].T + state["head.bias"])
    y = first
    for i in range(blocks):
        w1, b1, w2, b2 = (
            state[f"blocks.{i}.{n}"] for n in ("fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias")
        )
        y = y + F.relu(y @ w1.T + b1) @ w2.T + b2
    if blocks:
        y = y + first
    return y @ state["tail.weight"].T + state["tail.bias"]


@settings(max_examples=20, deadline=None)
@given(
    frames=st.integers(1, 3), rays=st.integers(0, 5), blocks=st.integers(0, 3), code=st.integers(0, 4)
)  # fmt: skip
def test_resmlp_with_a_frame_code_equals_the_plain_network(
    frames: int, rays: int, blocks: int, code: int
) -> None:
    """The per-frame bias gives the same as the code concatenated to every ray's input."""
    torch.manual_seed(0)
    net = ResMLP(6 + code, 5, width=16, depth=2 + 2 * blocks, code_dim=code).double()
    x, c = torch.randn(frames, rays, 6).double(), torch.randn(frames, code).double()
    whole = torch.cat([x, c[:, None].expand(-1, rays, -1)], -1)
    expected = plain_resmlp(net.state_dict(), whole, blocks)
    torch.testing.assert_close(net(x, c if code else None), expected)


def test_resmlp_88_has_88_linear_layers_and_the_papers_cost() -> None:
    """D88 W256 on 48 inputs and a 64-vector code has 88 linear layers and 5.67 million multiply-adds."""
    net = ResMLP(112, 12, code_dim=64)
    assert sum(isinstance(m, torch.nn.Linear) for m in net.modules()) == 88
    assert net.macs + 64 * 256 == 112 * 256 + 86 * 256**2 + 256 * 12 == 5_667_840


def test_resmlp_keeps_its_scale_with_depth() -> None:
    """A fresh network of 88 layers neither explodes nor vanishes."""
    torch.manual_seed(0)
    out = ResMLP(48, 256, width=256, depth=88)(torch.randn(256, 48)).detach()
    assert 0.05 < float(out.std()) < 5


@pytest.mark.parametrize(("depth", "width"), [(3, 16), (0, 16), (4, 0)])
def test_resmlp_refuses_impossible_sizes(depth: int, width: int) -> None:
    """An odd or too small depth, or no width, is an error that says so."""
    with pytest.raises(ValueError, match="ResMLP"):
        ResMLP(8, 3, width=width, depth=depth)


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("fused", [False, True])
def test_packed_weights_follow_the_optimiser(fused: bool, recompute: bool) -> None:
    """Evaluation after a step sees the new weights, also of fused optimisers, which hide their changes."""
    torch.manual_seed(0)
    net, x = ResMLP(8, 3, width=16, depth=4), torch.randn(1, 20, 8)
    net.recompute = recompute
    optimizer = torch.optim.Adam(net.parameters(), lr=0.1, fused=fused)
    for _ in range(2):
        net.eval()
        with torch.no_grad():
            torch.testing.assert_close(net(x), net(x, backend="reference"))
        net.train()
        net(x).square().sum().backward()
        optimizer.step()
    net.eval()
    with torch.no_grad():
        torch.testing.assert_close(net(x), net(x, backend="reference"))


def test_frame_linear_equals_a_linear_over_the_concatenation() -> None:
    """Points, code and hidden activations may be given apart."""
    torch.manual_seed(0)
    layer = FrameLinear(3, 4, 5, 7).double()
    points, code, hidden = (
        torch.randn(2, 6, 3).double(),
        torch.randn(2, 4).double(),
        torch.randn(2, 6, 5).double(),
    )
    whole = torch.cat([points, code[:, None].expand(-1, 6, -1), hidden], -1)
    torch.testing.assert_close(layer(points, code, hidden), F.linear(whole, layer.weight, layer.bias))


def test_frequency_encoding_matches_sine_and_cosine() -> None:
    """The doubling recurrence stays within 1e-3 of float64 sines at ten octaves."""
    torch.manual_seed(0)
    x = torch.rand(500, 3) * 4 - 2
    out = encode_frequencies(x, 10)
    exact = [x.double()]
    for level in range(10):
        exact += [torch.sin(2**level * x.double()), torch.cos(2**level * x.double())]
    assert out.shape == (500, frequency_dim(3, 10))
    assert float((out.double() - torch.cat(exact, -1)).abs().max()) < 1e-3
