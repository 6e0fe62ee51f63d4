"""The residual MLP on CUDA: the chain of products, the packing, and which kernel runs where."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from nldf_engine import ops
from nldf_engine.base.errors import MissingBackend
from nldf_engine.nn.fused import FusedResmlp
from nldf_engine.nn.resmlp import ResMLP
from nldf_engine.ops import native, resmlp_cuda
from nldf_engine.ops.beams import BeamEncoding
from nldf_engine.ops.reference import resmlp_reference
from nldf_engine.ops.resmlp_chain import ResmlpChain, sum_segments
from nldf_engine.ops.resmlp_cuda import pack_resmlp_cuda, resmlp_kernel


def case(width: int = 64, blocks: int = 3, in_dim: int = 20, out_dim: int = 13) -> ops.ResmlpWeights:
    """Random weights of a network of `blocks` residual blocks."""
    g = torch.Generator().manual_seed(width + blocks)

    def matrix(rows: int, columns: int) -> Tensor:
        return torch.randn(rows, columns, generator=g) * columns**-0.5

    body = tuple(matrix(width, width) for _ in range(2 * blocks))
    biases = tuple(0.2 * torch.randn(width, generator=g) for _ in range(2 * blocks))
    tail_bias = torch.randn(out_dim, generator=g)
    return ops.ResmlpWeights(matrix(width, in_dim), body, biases, matrix(out_dim, width), tail_bias)


def rays(frames: int, count: int, weights: ops.ResmlpWeights) -> tuple[Tensor, Tensor]:
    """Inputs [F, P, in] and biases [F, W]."""
    g = torch.Generator().manual_seed(count)
    width, in_dim = weights.head.shape
    x = torch.rand(frames, count, in_dim, generator=g) * 2 - 1
    return x, 0.3 * torch.randn(frames, width, generator=g)


def reference(x: Tensor, bias: Tensor, weights: ops.ResmlpWeights, dtype: torch.dtype) -> Tensor:
    """The network in plain PyTorch."""
    w = weights
    moved = [[p.to(dtype) for p in part] for part in (w.body, w.body_bias)]
    return resmlp_reference(
        x.to(dtype),
        bias.to(dtype),
        w.head.to(dtype),
        *map(tuple, moved),
        w.tail.to(dtype),
        w.tail_bias.to(dtype),
    )


@pytest.mark.parametrize("blocks", [0, 1, 3])
@pytest.mark.parametrize("chunk", [7, 64, 1000])
def test_chain_agrees_with_the_reference(blocks, chunk, compare):
    """The chain in float32 is the reference, whatever the chunks and although fc2's biases have moved."""
    weights = case(blocks=blocks)
    x, bias = rays(2, 64, weights)
    got = ResmlpChain(weights, dtype=torch.float32, chunk=chunk)(x, bias)
    compare([got], [reference(x, bias, weights, torch.float32)], [reference(x, bias, weights, torch.float64)])


def test_chain_in_half_precision():
    """In fp16 the whole depth stays within a relative error of 5e-3 of float64."""
    weights = case(width=64, blocks=43)
    # Each block adds a share, as nn.ResMLP scales it.
    weights = ops.ResmlpWeights(
        weights.head,
        tuple(w * (43**-0.5 if i % 2 else 1) for i, w in enumerate(weights.body)),
        weights.body_bias,
        weights.tail,
        weights.tail_bias,
    )
    x, bias = rays(1, 50, weights)
    got, want = ResmlpChain(weights)(x, bias), reference(x, bias, weights, torch.float64)
    assert got.dtype == torch.float32
    assert (got.double() - want).norm() / want.norm() < 5e-3


def test_chain_records_no_graph_on_the_cpu():
    """A CUDA graph of weights on the CPU is refused."""
    with pytest.raises(ValueError, match="graph needs weights on CUDA, got cpu"):
        ResmlpChain(case(), graph=True)


def test_sum_of_segments():
    """Pixels are the opacity-weighted sum of the segments' colours, and the opacity."""
    out = torch.tensor([[1.0, 2.0, 3.0, 10.0, 20.0, 30.0, 0.0]])
    torch.testing.assert_close(sum_segments(out), torch.tensor([[5.5, 11.0, 16.5, 0.5]]))


@pytest.mark.parametrize("kernel", ["mma", "wgmma"])
@pytest.mark.parametrize("blocks", [0, 2])
def test_packing_keeps_every_weight_once(kernel, blocks):
    """The stream holds each weight of each layer in the chunks of that layer, once, and zeros besides."""
    width, in_dim, out_dim = 256, 70, 13
    depth = 32 if kernel == "mma" else 64
    head = -(-in_dim // depth)
    values = iter(torch.arange(1, 2 * blocks + 3))

    def constant(rows: int, columns: int) -> Tensor:
        return torch.full((rows, columns), float(next(values)))

    weights = ops.ResmlpWeights(
        constant(width, in_dim),
        tuple(constant(width, width) for _ in range(2 * blocks)),
        (torch.zeros(width),) * (2 * blocks),
        constant(out_dim, width),
        torch.zeros(out_dim),
    )
    packed = pack_resmlp_cuda(weights, kernel).weights.view(torch.float16)
    per_layer = width // depth
    assert packed.shape == (head + 2 * blocks * per_layer + 1, width * depth)
    assert set(packed[:head].unique().tolist()) == {0.0, 1.0} and packed[:head].sum() == width * in_dim
    for layer in range(2 * blocks):
        chunks = packed[head + layer * per_layer :][:per_layer]
        assert bool((chunks == layer + 2).all())
    tail = packed[-1]
    assert (
        int((tail == 2 * blocks + 2).sum()) == out_dim * width and int((tail != 0).sum()) == out_dim * width
    )


def test_packing_is_done_again_when_a_weight_changes():
    """Packed weights are kept until a parameter changes in place or is another tensor."""
    weights = case(width=32)
    run = FusedResmlp("mma")
    first = run.packed(weights)
    assert run.packed(weights) is first
    weights.body[0].mul_(2)
    second = run.packed(weights)
    assert second is not first
    third = run.packed(case(width=32, blocks=2))
    assert third is not second and third.body_bias.shape == (4, 32)
    run.forget()
    assert run.packed(weights) is not third


CHOICES = {
    "h200": ((9, 0), ["80-real", "90a-real"], 256, 13, "turns"),
    "h200, a narrow network": ((9, 0), ["80-real", "90a-real"], 64, 13, "mma"),
    "h200, many outputs": ((9, 0), ["80-real", "90a-real"], 256, 65, "chain"),
    "h200 without 90a": ((9, 0), ["80"], 256, 13, "mma"),
    "a100": ((8, 0), ["80-real", "90a-real"], 256, 13, "mma"),
    "rtx 4090": ((8, 9), ["80-real", "89-real", "90a-real"], 256, 13, "mma"),
    "b200": ((10, 0), ["80-real", "80-virtual", "90a-real"], 256, 13, "mma"),
    "b200 of its own": ((10, 0), ["80-real", "90a-real", "100-real", "120-real"], 256, 13, "mma"),
    "rtx 5090": ((12, 0), ["80-real", "90a-real", "100-real", "120-real"], 256, 13, "mma"),
    "v100": ((7, 0), ["80-real"], 256, 13, "chain"),
    "rtx 3090, the least width": ((8, 6), ["86-real"], 16, 16, "mma"),
    "more outputs than the least width takes": ((8, 6), ["86-real"], 16, 17, "chain"),
    "an odd width": ((8, 6), ["86-real"], 200, 13, "chain"),
    "built without cuda": ((8, 6), [], 256, 13, "chain"),
}


@pytest.mark.parametrize("name", CHOICES)
def test_choice_of_the_kernel(name, monkeypatch):
    """Capability, what was built, and the network's sizes choose the way."""
    capability, archs, width, out_dim, expected = CHOICES[name]
    monkeypatch.delenv("NLDF_RESMLP", raising=False)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(native, "backends", lambda: {"cuda_archs": archs})
    assert resmlp_kernel("cuda:0", width, out_dim) == expected


def test_choice_by_name(monkeypatch):
    """NLDF_RESMLP chooses by name, and refuses what it doesn't know; a CPU has no choice."""
    monkeypatch.setenv("NLDF_RESMLP", "chain")
    assert resmlp_kernel("cuda") == "chain"
    monkeypatch.setenv("NLDF_RESMLP", "fast")
    with pytest.raises(ValueError, match="NLDF_RESMLP must be one of wgmma, turns, mma, chain, got 'fast'"):
        resmlp_kernel("cuda")
    with pytest.raises(ValueError, match="device must be a CUDA device, got cpu"):
        resmlp_kernel("cpu")


@pytest.mark.parametrize("kernel", ["wgmma", "turns"])
def test_hopper_s_kernel_is_refused_elsewhere(kernel, monkeypatch):
    """NLDF_RESMLP can't choose the kernel of compute capability 9.0 for other devices or builds."""
    monkeypatch.setenv("NLDF_RESMLP", kernel)
    for capability, archs in (((8, 0), ["80-real", "90a-real"]), ((9, 0), ["80-real"]), ((10, 0), [])):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, found=capability: found)
        monkeypatch.setattr(native, "backends", lambda found=archs: {"cuda_archs": found})
        with pytest.raises(ValueError, match=f"NLDF_RESMLP={kernel} needs compute capability 9.0"):
            resmlp_kernel("cuda")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(native, "backends", lambda: {"cuda_archs": ["90a-real"]})
    assert resmlp_kernel("cuda") == kernel


def test_grid(monkeypatch):
    """The large tile is taken where shared memory has room for it and the batch fills the device."""

    def device(*capability: int) -> None:
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)

    properties = SimpleNamespace(multi_processor_count=100)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    where = torch.device("cuda")
    device(9, 0)
    assert resmlp_cuda.launch_grid(where, "wgmma", 256, 10) == (128, 100)
    assert resmlp_cuda.launch_grid(where, "mma", 256, 1 << 18) == (128, 100)
    assert resmlp_cuda.launch_grid(where, "mma", 256, 64 * 100) == (64, 100)
    for small in ((8, 6), (8, 9), (12, 0)):
        device(*small)
        assert resmlp_cuda.launch_grid(where, "mma", 256, 1 << 18) == (64, 100)
        assert resmlp_cuda.launch_grid(where, "mma", 64, 1 << 18) == (128, 200)


def test_bad_input_is_named():
    """Each wrong argument raises the right error, naming what was expected and what came."""
    weights = case()
    x, bias = rays(1, 4, weights)
    with pytest.raises(
        ValueError, match=r"FusedResmlp: kernel must be one of wgmma, turns, mma, chain, got 'cpu'"
    ):
        FusedResmlp("cpu")
    with pytest.raises(
        ValueError, match=r"pack_resmlp_cuda: kernel must be 'wgmma', 'turns' or 'mma', got 'chain'"
    ):
        pack_resmlp_cuda(weights, "chain")
    with pytest.raises(ValueError, match=r"wgmma takes widths \(256,\) .* got width 64 and 13 outputs"):
        pack_resmlp_cuda(weights, "wgmma")
    with pytest.raises(ValueError, match=r"20 inputs are no encoding of points=2"):
        pack_resmlp_cuda(weights, "mma", 2)
    with pytest.raises(TypeError, match=r"weights must be torch.float32, got torch.float64"):
        pack_resmlp_cuda(
            ops.ResmlpWeights(weights.head.double(), (), (), weights.tail, weights.tail_bias), "mma"
        )
    huge = ops.ResmlpWeights(
        weights.head * 1e6, weights.body, weights.body_bias, weights.tail, weights.tail_bias
    )
    with pytest.raises(ValueError, match=r"head has values that fp16 can't hold"):
        pack_resmlp_cuda(huge, "mma")
    with pytest.raises(
        ValueError, match=r"rays must be on a CUDA device, got cpu; on the CPU call ops.resmlp"
    ):
        FusedResmlp("mma")(x, bias, weights)
    with pytest.raises(ValueError, match=r"x must have the shape"):
        FusedResmlp("chain")(x[0], bias, weights)
    with pytest.raises(ValueError, match=r"pixels need 3M \+ 1 <= 16 outputs, got 32"):
        FusedResmlp("chain")(x, bias, case(out_dim=32), pixels=True)


def lines(count: int) -> tuple[Tensor, Tensor]:
    """Origins and directions [2, count, 3] of rays through a head's space."""
    g = torch.Generator().manual_seed(count)
    origins = torch.tensor([0.0, 0.02, -0.8]) + 0.01 * torch.randn(2, count, 3, generator=g)
    return origins, torch.tensor([0.0, 0.0, 1.0]) + 0.1 * torch.randn(2, count, 3, generator=g)


def test_packing_for_beams_moves_columns_alone():
    """Weights packed for a kernel that encodes beams are the same ones, with a column of zeros per filler."""
    encoding = BeamEncoding(0.5, 1.1, points=3, frequencies=2)
    weights = case(blocks=0, in_dim=encoding.columns)
    given, made = (pack_resmlp_cuda(weights, "mma", points).weights for points in (0, 3))
    assert encoding.places == encoding.columns + 3 and given.shape == made.shape
    assert not torch.equal(given, made)
    assert torch.equal(given.flatten().sort().values, made.flatten().sort().values)


def test_beams_are_what_their_encoding_gives():
    """Rays through the chain, and through ResMLP on the CPU, give what the encoded beams give."""
    encoding = BeamEncoding(0.5, 1.1, points=4, frequencies=3, scale=4.0)
    weights = case(in_dim=encoding.columns)
    origins, directions = lines(7)
    x, bias = encoding.encode(origins, directions), rays(2, 7, weights)[1]
    run = FusedResmlp("chain")
    for pixels in (False, True):
        want = run(x, bias, weights, pixels=pixels)
        assert torch.equal(run.beams(origins, directions, encoding, bias, weights, pixels=pixels), want)
    net, code = ResMLP(encoding.columns + 5, 4, 32, 4, 5), torch.randn(2, 5)
    assert torch.equal(net.forward_beams(origins, directions, encoding, code), net(x, code))
    with pytest.raises(ValueError, match=r"head must have the shape \[W=64, in=12"):
        run.beams(origins, directions, BeamEncoding(0.5, 1.1, 4, 0), bias, weights)


def test_networks_of_inference_mode_are_packed():
    """A network made in inference mode, whose tensors have no version counter, is packed like any other."""
    with torch.inference_mode():
        weights = case(width=32)
        x, bias = rays(1, 4, weights)
        run = FusedResmlp("mma")
        assert torch.equal(run.packed(weights).weights, run.packed(weights).weights)
        made = FusedResmlp("chain")(x, bias, weights)
    want = FusedResmlp("chain")(*rays(1, 4, case(width=32)), case(width=32))
    assert torch.equal(made, want)


def test_chain_by_name_runs_anywhere():
    """FusedResmlp("chain") runs on the CPU too, and gives pixels where asked for."""
    weights = case()
    x, bias = rays(2, 5, weights)
    want = reference(x, bias, weights, torch.float64)
    out = FusedResmlp("chain")(x, bias, weights)
    pixels = FusedResmlp("chain")(x, bias, weights, pixels=True)
    torch.testing.assert_close(out.double(), want, rtol=0.02, atol=0.02)
    torch.testing.assert_close(pixels.double(), sum_segments(want), rtol=0.02, atol=0.02)


def test_without_the_kernel_the_error_says_what_to_do(monkeypatch):
    """A module without CUDA kernels gives MissingBackend with the command that fixes it."""
    if native._C is None or native._C.cuda_archs:
        pytest.skip("nldf_engine._C was built with CUDA: the kernels are there")
    tensor = SimpleNamespace(device=torch.device("cuda:0"), dtype=torch.float32)
    with pytest.raises(MissingBackend, match="NLDF_CUDA=ON"):
        native._kernel("resmlp_mma", tensor)


@pytest.mark.device
@pytest.mark.parametrize("kernel", ["wgmma", "turns", "mma", "chain"])
@pytest.mark.parametrize("count", [1, 127, 4096])
def test_on_the_gpu(kernel, count):
    """On a CUDA device each way agrees with the reference's rounding to fp16."""
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device on this machine: the CUDA kernels aren't run")
    if kernel in ("wgmma", "turns") and torch.cuda.get_device_capability() != (9, 0):
        pytest.skip("the wgmma kernel needs compute capability 9.0")
    encoding = BeamEncoding(0.5, 1.1, scale=4.0)
    weights = case(width=256, blocks=4, in_dim=encoding.columns)
    origins, directions = lines(count)
    x, bias = encoding.encode(origins, directions), rays(2, count, weights)[1]
    want = reference(x, bias, weights, torch.float64)
    moved = ops.ResmlpWeights(
        weights.head.cuda(),
        tuple(p.cuda() for p in weights.body),
        tuple(p.cuda() for p in weights.body_bias),
        weights.tail.cuda(),
        weights.tail_bias.cuda(),
    )
    run = FusedResmlp(kernel)
    for _ in range(3):  # a chain replays its graph
        out = run(x.cuda(), bias.cuda(), moved)
    assert (out.cpu().double() - want).norm() / want.norm() < 5e-3
    beams = run.beams(origins.cuda(), directions.cuda(), encoding, bias.cuda(), moved)
    assert (beams.cpu().double() - want).norm() / want.norm() < 5e-3
    pixels = run(x.cuda(), bias.cuda(), moved, pixels=True)
    assert (pixels.cpu().double() - sum_segments(want)).norm() / sum_segments(want).norm() < 5e-3
