"""The residual MLP on a GPU: the fused kernels, the chain of matrix products, and torch's layers.

`matmul 8192` is the product of two fp16 matrices of 8192 x 8192 in the same turns: what this GPU gives at
the time. Not yet measured on a GPU; on machines without one every case is skipped with the reason.
"""

from __future__ import annotations

import pytest
import torch

from nldf_engine import ops
from nldf_engine.nn.fused import FusedResmlp
from nldf_engine.nn.resmlp import ResMLP
from nldf_engine.ops.beams import BeamEncoding
from nldf_engine.ops.resmlp_cuda import KERNELS, resmlp_kernel

# Network: inputs, width, depth. Rays: a frame of 512 x 512, the 45 % of it that a head covers, a small batch.
SIZES = {"D88W256": (48, 256, 88), "D88W256 PE10": (1008, 256, 88), "D4W64": (32, 64, 4)}
BEAMS = BeamEncoding(0.4, 1.2)
RAYS = (512 * 512, 118_000, 4096)


@pytest.mark.parametrize("rays", RAYS)
@pytest.mark.parametrize("name", SIZES)
def test_forward(race, monkeypatch, name, rays):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device on this machine")
    if not ops.backends()["cuda"]:
        pytest.skip("nldf_engine._C was built without CUDA")
    device = torch.device("cuda")
    monkeypatch.delenv("NLDF_RESMLP", raising=False)
    in_dim, width, depth = SIZES[name]
    torch.manual_seed(0)
    net = ResMLP(in_dim, 13, width, depth).to(device)
    x = torch.randn(1, rays, in_dim, device=device)
    half, half_x = ResMLP(in_dim, 13, width, depth).to(device).half(), x.half()
    square = torch.randn(8192, 8192, device=device, dtype=torch.float16)
    chosen = resmlp_kernel(device, width, 13)
    usable = [k for k in KERNELS if k not in ("wgmma", "turns") or chosen in ("wgmma", "turns")]
    runs = {kernel: FusedResmlp(kernel) for kernel in [chosen, *(k for k in usable if k != chosen)]}
    with torch.no_grad():
        bias, weights = net.frame_bias(None)[None].contiguous(), net.weights()
        want = net(x, backend="reference")
        contestants = {}
        for kernel, run in runs.items():
            got = run(x, bias, weights)
            assert (got - want).norm() / want.norm() < 5e-3, kernel
            contestants[kernel] = lambda run=run: run(x, bias, weights)
        if in_dim == BEAMS.columns:  # the kernel that was chosen, from rays
            rays_of = torch.rand(2, 1, rays, 3, device=device).unbind()
            contestants["from rays"] = lambda: runs[chosen].beams(*rays_of, BEAMS, bias, weights)
        contestants["torch fp16"] = lambda: half(half_x)
        work = dict.fromkeys(contestants, 2e-3 * net.macs * rays)
        race(
            contestants | {"matmul 8192": lambda: torch.mm(square, square)},
            device=device, units=dict.fromkeys([*contestants, "matmul 8192"], rays), unit="rays",
            work=work | {"matmul 8192": 2e-3 * 8192.0**3}, work_unit="TFLOP/s", rounds=20,
            kernels={kernel: kernel for kernel in runs} | {"from rays": chosen},
        )  # fmt: skip
