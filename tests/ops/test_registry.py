"""What holds for every operation: a reference, a test, a bench, errors instead of silent fallbacks."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import TorchDispatchMode

import nldf_engine
from nldf_engine import ops
from nldf_engine.base.errors import MissingBackend
from nldf_engine.ops import native, reference

ROOT = Path(__file__).resolve().parents[2]
NOUNS = sorted({name.split("_")[0] for name in native.REGISTERED})
CALLS = {
    "rays": lambda **kw: ops.generate_rays(torch.eye(4)[None], torch.ones(1, 4), torch.rand(1, 3, 2), **kw),
    "beams": lambda **kw: ops.encode_beams(torch.rand(2, 3), torch.rand(2, 3), 0.5, 1.0, 4, 2, **kw),
    "segments": lambda **kw: ops.composite_segments(
        torch.rand(2, 8), torch.rand(2, 8, 3), torch.rand(2, 8), **kw
    ),
    "grid": lambda **kw: ops.encode_grid(
        torch.rand(3, 2), torch.rand(16, 2), ops.GridSpec(dims=2, features=2, resolutions=(4,)), **kw
    ),
    "samples": lambda **kw: ops.resample(torch.rand(2, 8).sort(1).values, torch.rand(2, 8), 4, **kw),
    "compact": lambda **kw: ops.compact_rays(torch.rand(9) > 0.5, **kw),
    "resmlp": lambda **kw: ops.resmlp(
        torch.rand(1, 2, 4),
        torch.rand(1, 16),
        ops.ResmlpWeights(torch.rand(16, 4), (), (), torch.rand(3, 16), torch.rand(3)),
        **kw,
    ),
}
CALLS["landmarks"] = lambda **kw: ops.encode_landmarks(
    torch.rand(1, 3, 3), torch.rand(1, 2, 3), torch.rand(2, 4), torch.zeros(2, 3), torch.rand(1, 3), **kw
)
CALLS["references"] = lambda **kw: ops.gather_references(
    torch.rand(3, 3), torch.rand(2, 3, 4), torch.rand(2, 4, 5, 6), torch.rand(3, 2, 2), **kw
)
CALLS["adam"] = lambda **kw: ops.step_adam(
    torch.rand(3, 2), torch.rand(3, 2), torch.rand(3, 2), torch.rand(3, 2), 1, 0.1, **kw
)
# `planes` renders alone; models train by `lines`. `adam` ends a step. `linear` holds integers. `slots`
# renders alone; DFRF trains by torch's layers. `pixels` looks things up.
# `affine` and `attention` are of the audio front-end, as `linear` is.
WITHOUT_GRADIENT = {
    "samples", "compact", "planes", "adam", "linear", "affine", "attention", "slots", "pixels",
}  # fmt: skip
PLANES = ops.PlanesNetwork(
    torch.tensor([-1.0, -1.0, 1.0, 1.0]), (0.0,),
    ops.GridSpec(2, 4, (2,)), torch.rand(4, 4), ops.GridSpec(2, 4, (2,)), (torch.rand(4, 4),),
    ((torch.rand(8, 6), None), (torch.rand(2, 8), torch.rand(2))),
    ((torch.rand(8, 4), None), (torch.rand(4, 8), torch.rand(4))),
    0.05, 3.0,
)  # fmt: skip
CALLS["planes"] = lambda **kw: ops.planes(
    torch.rand(1, 3, 3), torch.ones(1, 3, 3), torch.rand(1, 8), torch.rand(1, 8), PLANES, **kw
)
FRAMED = replace(
    PLANES, **{
        name: ((torch.rand(8, inputs + 3), torch.rand(8)), *getattr(PLANES, name)[1:])
        for name, inputs in (("warp_layers", 6), ("layers", 4))
    },
)  # fmt: skip
CALLS["lines"] = lambda **kw: ops.shade_lines(torch.rand(2, 3, 4), None, torch.rand(2, 3), FRAMED, **kw)
CALLS["aim"] = lambda **kw: ops.aim_rays(
    torch.rand(2, 3, 3), torch.ones(2, 3, 3), torch.rand(2, 3), torch.rand(2, 6),
    torch.ones(4, 4, dtype=torch.uint8), torch.tensor(0.4), -0.04, **kw,
)  # fmt: skip
CALLS["matte"] = lambda **kw: ops.compare_matte(
    (torch.rand(2, 3, 1, 3), torch.rand(2, 3)), (torch.rand(2, 3, 3), torch.rand(2, 3)), torch.rand(2, 3, 3),
    torch.rand(2, 3, 3), torch.ones(2, 3), torch.ones(2, 3), (torch.rand(2, 3, 3), torch.rand(2, 3)),
    torch.ones(2, 3, dtype=torch.uint8), (0, 1, 2), ops.MatteWeights(1, 1, 1, 1, 1, 1), **kw,
)  # fmt: skip
CALLS["pixels"] = lambda **kw: ops.draw_pixels(
    torch.rand(1, 6, 2), torch.tensor([0]), torch.ones(1, 2, 2, dtype=torch.uint8),
    *[torch.tensor([[2, 4]], dtype=torch.int32)] * 2, torch.zeros(3, 1, 4, dtype=torch.long), (1,) * 6, 0,
    (1,), **kw,
)  # fmt: skip
LINEAR = ops.pack_linear(torch.ones(32, 64, dtype=torch.int8), torch.rand(32))
AFFINE = ops.pack_affine(torch.rand(20, 6))
CALLS["affine"] = lambda **kw: ops.affine(torch.rand(4, 3), AFFINE, step=3, **kw)
CALLS["attention"] = lambda **kw: ops.attend(torch.rand(1, 5, 96), 2, **kw)
CALLS["linear"] = lambda **kw: ops.linear(torch.rand(2, 64), LINEAR, **kw)
SLOTS = ops.pack_slots(
    ops.SlotsWeights(
        *((torch.rand(n, k), torch.rand(n)) for n, k in ((3, 2), (4, 5))), torch.rand(4, 5),
        *((torch.rand(n, 4), torch.rand(n)) for n in (4, 1, 12, 12, 4, 4)), torch.rand(2, 4), 2,
    )
)  # fmt: skip
CALLS["slots"] = lambda **kw: ops.attend_slots(
    torch.rand(3, 2, 7), torch.rand(3, 2, 2), torch.rand(3, 5), SLOTS, **kw
)
# Operations without a CUDA kernel: `slots` renders on the CPU; on CUDA torch's layers do. `linear`,
# `affine` and `attention` are of the audio front-end, which runs on the CPU, and `pixels` of training videos,
# which are there.
CPU_ONLY = {"linear", "affine", "attention", "slots", "pixels"}
# Operations whose CUDA kernels have names of their own.
CUDA_SOURCES = {"resmlp": ("csrc/ops/resmlp_mma_cuda.cu", "csrc/ops/resmlp_wgmma_cuda.cu")}


def test_every_operation_is_in_the_list_of_calls():
    """This file's list of calls names all registered operations, so none escapes its tests."""
    assert set(CALLS) == set(NOUNS)


@pytest.mark.parametrize("noun", NOUNS)
def test_every_operation_has_a_reference_a_test_and_its_sources(noun):
    """One noun an operation, everywhere: header, CPU and CUDA sources, module, reference, test, bench."""
    assert callable(getattr(reference, f"{noun}_reference"))
    cuda = () if noun in CPU_ONLY else CUDA_SOURCES.get(noun, (f"csrc/ops/{noun}_cuda.cu",))
    for path in (
        f"csrc/ops/{noun}.h", f"csrc/ops/{noun}_cpu.cpp", *cuda,
        f"nldf_engine/ops/{noun}.py", f"tests/ops/test_{noun}.py", f"bench/bench_{noun}.py",
    ):  # fmt: skip
        assert (ROOT / path).is_file(), f"{path} is missing"
    assert (f"{noun}_backward" in native.REGISTERED) == (noun not in WITHOUT_GRADIENT)
    assert hasattr(torch.ops.nldf, noun)


@pytest.mark.parametrize("noun", NOUNS)
def test_missing_module_raises_and_never_falls_back(noun, monkeypatch):
    """Without the compiled module a call raises and names the command that builds it."""
    monkeypatch.setattr(native, "_C", None)
    monkeypatch.setattr(native, "_why_not", "No module named 'nldf_engine._C'")
    with pytest.raises(MissingBackend, match=r"No module named .*pip install \. .*backend='reference'"):
        CALLS[noun]()
    CALLS[noun](backend="reference")
    built = ops.backends()
    assert not built["cpu"] and not built["cuda"] and "pip install ." in built["mend"]


def test_cuda_tensors_need_a_cuda_build(monkeypatch):
    """A tensor on a device whose kernels aren't built raises with the command that builds them."""
    monkeypatch.setattr(native, "_C", SimpleNamespace(cuda_archs="", openmp=0, version="0"))
    like = SimpleNamespace(device=torch.device("cuda", 0), dtype=torch.float32)
    with pytest.raises(MissingBackend, match=r"on cuda:0, but .* built without CUDA.*NLDF_CUDA=ON"):
        native._kernel("rays", like)


@pytest.mark.parametrize("noun", NOUNS)
def test_environment_chooses_the_reference(noun, monkeypatch):
    """NLDF_BACKEND=reference runs the reference everywhere; no kernel is launched."""
    launched = []

    def launch(name, inputs, outputs, *dtypes, **sizes):
        launched.append(name)
        for made in filter(torch.is_tensor, outputs.values()):
            made.zero_()  # ops look at what they are given: it must not depend on what the memory held

    monkeypatch.setattr(native, "launch", launch)
    monkeypatch.setenv("NLDF_BACKEND", "reference")
    CALLS[noun]()
    assert launched == []
    monkeypatch.setenv("NLDF_BACKEND", "native")
    CALLS[noun]()
    assert launched == [noun]


@pytest.mark.parametrize("noun", NOUNS)
def test_unknown_backend_in_the_environment_raises(noun, monkeypatch):
    """A misspelt NLDF_BACKEND is an error, not a silent choice."""
    monkeypatch.setenv("NLDF_BACKEND", "refrence")
    with pytest.raises(ValueError, match="NLDF_BACKEND must be 'native' or 'reference', got 'refrence'"):
        CALLS[noun]()


def test_backends_says_what_is_built():
    """The report agrees with the module, and its version with the package's and pyproject.toml's."""
    built = ops.backends()
    assert built["cpu"] is True and built["problem"] == ""
    assert built["cuda"] == bool(built["cuda_archs"]) == hasattr(native._C, "rays_cuda_float32")
    assert built["threads"] == (torch.get_num_threads() if built["openmp"] else 1)
    declared = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.M)
    assert declared is None or built["version"] == nldf_engine.__version__ == declared[1]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/maps, which Linux alone has")
def test_one_openmp_runtime_is_mapped():
    """Torch and our module share one libgomp, so torch.set_num_threads governs both."""
    # In a process of its own: other libraries of the test run bring runtimes along that we don't use.
    program = """
import torch
from pathlib import Path
from nldf_engine import ops
ops.encode_beams(torch.rand(64, 3), torch.rand(64, 3), 0.5, 1.0)
lines = Path("/proc/self/maps").read_text().splitlines()
print(*sorted({line.split()[-1] for line in lines if "libgomp" in line}), sep="\\n")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert len(done.stdout.split()) <= 1, done.stdout


def test_calls_from_several_threads_agree():
    """Kernels release the GIL and share nothing: four threads at once get the result of one."""
    sigma, rgb, delta = torch.rand(4, 500, 64), torch.rand(4, 500, 64, 3), torch.rand(4, 500, 64)
    want = [ops.composite_segments(*x)[0] for x in zip(sigma, rgb, delta, strict=True)]
    got: dict[int, list[torch.Tensor]] = {}

    def work(i: int) -> None:
        got[i] = [ops.composite_segments(sigma[i], rgb[i], delta[i])[0] for _ in range(10)]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(result, want[i]) for i in range(4) for result in got[i])


def test_launch_refuses_mixed_tensors():
    """Whoever calls torch.ops.nldf directly with mixed dtypes gets an error, not a stray read."""
    with pytest.raises(TypeError, match=r"segments: features must be torch.float32 .* got torch.float64"):
        torch.ops.nldf.segments(torch.rand(2, 4), torch.rand(2, 4, 3).double(), torch.rand(2, 4), 1, False)


def test_raw_operations_change_contiguous_tensors_alone():
    """A tensor of other strides that an operation is to change is an error, not a stray write."""
    table, like = torch.rand(2, 4).t(), torch.rand(4, 2)
    with pytest.raises(ValueError, match=r"adam: table must be contiguous, got strides \(1, 4\)"):
        torch.ops.nldf.adam(table, like, like.clone(), like.clone(), None, 0.1, 1.0, 0.9, 0.99, 1e-15)


def test_raw_operations_take_any_strides():
    """A compiler may hand over other strides than the checked ones: the result is the same."""
    origins, directions = torch.rand(3, 5).T, torch.rand(3, 5).T
    want = torch.ops.nldf.beams(origins.contiguous(), directions.contiguous(), 0.5, 1.0, 4, 2, 1.0)
    assert torch.equal(torch.ops.nldf.beams(origins, directions, 0.5, 1.0, 4, 2, 1.0), want)


class _Seen(TorchDispatchMode):
    """A mode that notes the operations that pass."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(str(function))
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("noun", NOUNS)
def test_dispatch_modes_see_the_operation(noun):
    """A dispatch mode sees every call as nldf::<noun>."""
    with _Seen() as seen, torch.no_grad():
        CALLS[noun]()
    assert f"nldf.{noun}.default" in seen.names


def test_profilers_and_fake_tensors_see_the_operation():
    """A profile names the operation; tensors without data give shapes, and no kernel runs."""
    inputs = torch.rand(2, 8), torch.rand(2, 8, 3), torch.rand(2, 8)
    with torch.autograd.profiler.profile() as profile:
        ops.composite_segments(*inputs)
    assert "nldf::segments" in {event.name for event in profile.function_events}
    with FakeTensorMode() as mode:
        fake = [mode.from_tensor(x) for x in inputs]
    colors, opacity = ops.composite_segments(*fake)  # outside of the mode: the tensors themselves tell
    assert isinstance(colors, FakeTensor) and colors.shape == (2, 4, 3) and opacity.shape == (2,)


def test_traces_and_gradients_by_make_fx_hold_the_operations():
    """A trace made by make_fx calls the operation and its gradient's, and gives what the call gives."""
    sigma, rgb, delta = torch.rand(2, 8), torch.rand(2, 8, 3), torch.rand(2, 8)

    def gradient(sigma: torch.Tensor) -> torch.Tensor:
        sigma = sigma.detach().requires_grad_()
        colors, _ = ops.composite_segments(sigma, rgb, delta)
        return torch.autograd.grad(colors.square().sum(), sigma)[0]

    traced = make_fx(gradient)(sigma)
    assert "nldf.segments_backward" in traced.code
    other = torch.rand(2, 8)
    assert torch.equal(traced(other), gradient(other))


@pytest.mark.parametrize("pre_dispatch", [False, True])
def test_traces_of_operations_without_a_gradient_hold_them(pre_dispatch):
    """A trace before autograd's keys holds the operation too, and not memory that nobody writes."""
    distances, weights = torch.rand(2, 8).sort(1).values, torch.rand(2, 8)

    def run(weights: torch.Tensor) -> torch.Tensor:
        return ops.resample(distances, weights, 4)

    traced = make_fx(run, pre_dispatch=pre_dispatch)(weights)
    assert "nldf.samples" in traced.code
    other = torch.rand(2, 8)
    assert torch.equal(traced(other), run(other))


def test_signs_and_zeros_that_are_not_in_memory():
    """A tensor whose negation or zeros are only noted gives what one gives that holds them."""
    sigma, rgb, delta = torch.rand(2, 8), torch.rand(2, 8, 3), torch.rand(2, 8)
    noted = torch._neg_view(-rgb)
    assert noted.is_neg()
    assert torch.equal(
        ops.composite_segments(sigma, noted, delta)[0], ops.composite_segments(sigma, rgb, delta)[0]
    )
    colors = ops.composite_segments(sigma, torch._efficientzerotensor((2, 8, 3)), delta)[0]
    assert torch.equal(colors, torch.zeros(2, 4, 3))
    with pytest.raises(TypeError, match="sigma must have memory of its own"):
        native.launch("segments", {"sigma": torch._to_functional_tensor(sigma)}, {})
