"""ops.resmlp against its twin in float64, on every instruction set of this processor."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nldf_engine import ops
from nldf_engine.ops import native
from nldf_engine.ops.reference import resmlp_reference


def available() -> list[str]:
    """The instruction sets that this processor and this build have."""
    found = []
    with pytest.MonkeyPatch.context() as patch:
        for name in ("portable", "avx2", "avx512"):
            patch.setenv("NLDF_CPU_ISA", name)
            try:
                native._C.cpu_isa()
            except ValueError:
                continue
            found.append(name)
    return found


@pytest.fixture(params=["portable", "avx2", "avx512"])
def isa(request, monkeypatch) -> str:
    """Every instruction set in turn."""
    if request.param not in available():
        pytest.skip(f"this processor or this build has no {request.param}")
    monkeypatch.setenv("NLDF_CPU_ISA", request.param)
    return request.param


def make(
    width: int, blocks: int, in_dim: int = 7, out_dim: int = 5, dtype: torch.dtype = torch.float32
) -> ops.ResmlpWeights:
    """Weights that keep activations near one, from a fixed seed."""
    g = torch.Generator().manual_seed(width + blocks)

    def draw(out: int, inputs: int, gain: float) -> Tensor:
        return (torch.randn(out, inputs, generator=g) * gain * inputs**-0.5).to(dtype)

    body = [draw(width, width, 1.4 if i % 2 == 0 else blocks**-0.5) for i in range(2 * blocks)]
    return ops.ResmlpWeights(
        head=draw(width, in_dim, 1.4),
        body=tuple(body),
        body_bias=tuple(draw(width, 1, 0.1)[:, 0] for _ in body),
        tail=draw(out_dim, width, 1.0),
        tail_bias=draw(out_dim, 1, 0.1)[:, 0],
    )


def double(weights: ops.ResmlpWeights) -> ops.ResmlpWeights:
    return ops.ResmlpWeights(
        weights.head.double(),
        tuple(w.double() for w in weights.body),
        tuple(b.double() for b in weights.body_bias),
        weights.tail.double(),
        weights.tail_bias.double(),
    )


def inputs(frames: int, rays: int, in_dim: int, width: int) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(rays)
    return torch.randn(frames, rays, in_dim, generator=g), 0.3 * torch.randn(frames, width, generator=g)


def twin(x: Tensor, bias: Tensor, w: ops.ResmlpWeights) -> Tensor:
    return resmlp_reference(x, bias, w.head, w.body, w.body_bias, w.tail, w.tail_bias)


SHAPES = [(16, 0), (16, 1), (48, 2), (64, 5), (16, 43), (256, 2)]


@pytest.mark.parametrize("rays", [0, 1, 5, 95, 96, 97, 255])
@pytest.mark.parametrize(("width", "blocks"), SHAPES)
def test_agrees_with_the_twin(isa, compare, width, blocks, rays):
    """Any number of rays, any width and depth: as accurate in float32 as torch's own layers."""
    w = make(width, blocks)
    x, bias = inputs(2, rays, 7, width)
    compare([ops.resmlp(x, bias, w)], [twin(x, bias, w)], [twin(x.double(), bias.double(), double(w))])


@pytest.mark.parametrize(("in_dim", "out_dim"), [(1, 1), (39, 13), (112, 16), (1008, 17), (3, 40)])
def test_any_input_and_output(isa, compare, in_dim, out_dim):
    """Inputs and outputs need be no multiple of anything."""
    w = make(32, 1, in_dim, out_dim)
    x, bias = inputs(1, 50, in_dim, 32)
    compare([ops.resmlp(x, bias, w)], [twin(x, bias, w)], [twin(x.double(), bias.double(), double(w))])
