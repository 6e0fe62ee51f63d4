"""What the steps run as processes of their own: environment, import, checks, matrix product, small calls."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import statistics
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

SIDE = 8192
MOST_MIB = 64


def output_of(*command: str) -> str:
    """What a command prints; empty where it isn't there or fails."""
    if shutil.which(command[0]) is None:
        return ""
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    return done.stdout.strip() if done.returncode == 0 else ""


def environment(file: str) -> None:
    """Writes the machine, the versions and the commit."""
    import torch

    release = re.search(r"release ([\d.]+), (V[\d.]+)", output_of("nvcc", "--version"))
    found: dict[str, Any] = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "torch": torch.__version__,
        "torch_cuda": torch.version.cuda,
        "nvcc": release[2] if release else None,
        "cmake": output_of("cmake", "--version").splitlines()[:1],
        "commit": output_of("git", "rev-parse", "HEAD") or os.environ.get("GPU_COMMIT") or None,
        "changed": output_of("git", "status", "--short").splitlines()[:50],
        "smi": output_of(
            "nvidia-smi", "--query-gpu=name,driver_version,clocks.sm,clocks.mem,power.draw", "--format=csv"
        ),
        "device": None,
    }
    if torch.cuda.is_available():
        device = torch.cuda.get_device_properties(0)
        found["device"] = {
            "name": device.name,
            "capability": f"{device.major}.{device.minor}",
            "multiprocessors": device.multi_processor_count,
            "memory_bytes": device.total_memory,
        }
    Path(file).write_text(json.dumps(found))
    print(json.dumps(found, indent=1))


def fits(root: str) -> None:
    """Fails where what travels to a machine without a network is over `MOST_MIB`: the tracked files that are
    here, and of those that git ignores the wheels and the dataset of the benches."""
    listed = output_of("git", "-C", root, "ls-files").splitlines()
    tracked = [Path(root) / name for name in listed]
    carried = [Path(root) / "bench" / name for name in ("wheels", "dataset")]
    sizes = {"tracked files": tracked} | {
        f"bench/{folder.name}": [path for path in folder.rglob("*") if path.is_file()] for folder in carried
    }
    total = 0.0
    for name, files in sizes.items():
        size = sum(path.stat().st_size for path in files if path.is_file()) / 2**20
        total += size
        print(f"{name}: {size:.1f} MiB")
    print(f"in all: {total:.1f} of {MOST_MIB} MiB")
    if total > MOST_MIB:
        largest = sorted((path for path in tracked if path.is_file()), key=lambda path: -path.stat().st_size)[
            :3
        ]
        names = ", ".join(str(path.relative_to(root)) for path in largest)
        raise SystemExit(
            f"{total:.1f} MiB are over {MOST_MIB}; leave out {names} by git sparse-checkout, see gpu.sh"
        )


def check_import(root: str) -> None:
    """Fails unless package and compiled module are this checkout's, and the module has CUDA kernels."""
    import nldf_engine
    from nldf_engine import ops
    from nldf_engine.ops import native

    for name, module in (("nldf_engine", nldf_engine), ("nldf_engine._C", native._C)):
        place = Path(str(getattr(module, "__file__", "?"))).resolve()
        if Path(root).resolve() not in place.parents:
            raise SystemExit(
                f"{name} comes from {place}, not from {root}: another installation is in the way"
            )
    if not ops.backends()["cuda"]:
        raise SystemExit("the compiled module has no CUDA kernels")
    print(ops.backends())


def pytest_must_run(*command: str) -> None:
    """Runs pytest; a run in which nothing passed, or a test was skipped, is a failure too."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    print(done.stdout)
    last = done.stdout.strip().splitlines()[-1:] or [""]
    if done.returncode == 5:
        print("no test of this file runs on the device")
        raise SystemExit(0)
    if done.returncode or " passed" not in last[0] or " skipped" in last[0]:
        print(last[0])
        raise SystemExit(done.returncode or 1)


def matmul(file: str) -> None:
    """Writes the rate of the SIDE^3 matrix product, random data, and of a copy on the device."""
    import torch

    def seconds(work: Callable[[], Any], rounds: int = 20) -> float:
        for _ in range(5):
            work()
        times = []
        for _ in range(rounds):
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            work()
            end.record()
            end.synchronize()
            times.append(begin.elapsed_time(end) / 1e3)
        return statistics.median(times)

    found: dict[str, Any] = {"side": SIDE}
    for name in ("float16", "bfloat16"):
        a, b = (torch.randn(SIDE, SIDE, device="cuda", dtype=getattr(torch, name)) for _ in range(2))
        out = torch.empty_like(a)
        found[f"{name}_tflops"] = (
            2 * SIDE**3 / seconds(lambda a=a, b=b, out=out: torch.mm(a, b, out=out)) / 1e12
        )
    source = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    found["copy_gb_per_s"] = 2 * source.numel() / seconds(lambda: target.copy_(source)) / 1e9
    Path(file).write_text(json.dumps(found))
    print(json.dumps(found, indent=1))


def small(count: str, device: str = "cuda") -> None:
    """Calls the operations on `count` rays with their gradients, for the sanitiser; names those left out."""
    import torch

    from nldf_engine import ops
    from nldf_engine.nn.fused import FusedResmlp
    from nldf_engine.nn.resmlp import ResMLP
    from nldf_engine.ops.beams import BeamEncoding
    from nldf_engine.ops.resmlp_cuda import resmlp_kernel
    from nldf_engine.rendering.fields import Bounds
    from nldf_engine.systems.common.conditions import ConditionConfig
    from nldf_engine.systems.nldf_fast.model import GridLightField
    from nldf_engine.systems.nldf_fast.recipe import usual_network

    rays = int(count)

    def rand(*shape: int, gradient: bool = False) -> torch.Tensor:
        return torch.rand(*shape, device=device, requires_grad=gradient)

    pose = torch.eye(4, device=device)[None].requires_grad_()
    camera = torch.tensor([[500.0, 500.0, 128.0, 128.0]], device=device)
    origins, directions = ops.generate_rays(pose, camera, 256 * rand(1, rays, 2))
    beams = ops.encode_beams(origins[0], directions[0], 0.4, 1.2)
    beams.square().mean().backward()
    with torch.no_grad():
        ops.encode_beams(origins[0], directions[0], 0.4, 1.2, dtype=torch.float16, pad_to=16)
    coarse = torch.sort(rand(rays, 64), 1).values
    merged = ops.resample(coarse, rand(rays, 64), 128, rand(rays, 128))
    outputs = ops.composite_segments(
        rand(rays, 192, gradient=True), rand(rays, 192, 3, gradient=True), rand(rays, 192) * 0.02,
        background=rand(rays, 3, gradient=True), distances=merged, return_weights=True,
    )  # fmt: skip
    sum(out.sum() for out in outputs if out.requires_grad).backward()
    outputs = ops.composite_segments(
        rand(rays, 40, gradient=True), rand(rays, 40, 70, gradient=True), rand(rays, 40) * 0.02, segments=1,
        background=rand(rays, 70, gradient=True), distances=rand(rays, 40), return_weights=True,
    )  # fmt: skip
    sum(out.sum() for out in outputs if out.requires_grad).backward()
    ops.encode_landmarks(
        rand(2, rays, 3, gradient=True), rand(2, 37, 3, gradient=True), rand(37, 4, gradient=True),
        rand(37, 3, gradient=True), rand(2, 3),
    ).sum().backward()  # fmt: skip
    for channels in (32, 5):
        features, places = ops.gather_references(
            rand(rays, 3, gradient=True), rand(3, 3, 4), rand(3, 9, 7, channels, gradient=True),
            rand(rays, 3, 2, gradient=True),
        )  # fmt: skip
        (features.sum() + places.sum()).backward()
    ops.gather_references(rand(rays, 3), rand(3, 3, 4), rand(3, 9, 7, 6), nearest=True)
    order, count = ops.compact_rays(rand(rays) > 0.4)
    chosen = int(count)
    ops.composite_rays(rand(chosen, 3), rand(chosen), order, (rand(rays, 3), rand(rays)))
    field = GridLightField(usual_network(Bounds(0.4, 1.2), ConditionConfig())).to(device).eval()
    biases = rand(1, field.config.width), rand(1, field.config.width)
    with torch.no_grad():
        ops.planes(origins.detach(), directions.detach(), *biases, field.planes_network())
        if device == "cuda":
            net = ResMLP(BeamEncoding(0.4, 1.2).columns, 13, 256, 6).to(device)
            for kernel in ("mma", resmlp_kernel(device)):
                FusedResmlp(kernel).beams(
                    origins.detach(), directions.detach(), BeamEncoding(0.4, 1.2), net.frame_bias(None)[None],
                    net.weights(),
                )  # fmt: skip
    seen = ops.shade_lines(
        rand(2, rays, 4, gradient=True), rand(2, rays) > 0.3, rand(2, field.lines_network().frame),
        field.lines_network(),
    )  # fmt: skip
    sum(out.sum() for out in seen).backward()
    aimed = ops.aim_rays(
        origins.detach(), directions.detach(), 0.01 * rand(1, 3), rand(1, 6, gradient=True),
        torch.ones(8, 8, dtype=torch.uint8, device=device), torch.tensor(0.4, device=device), -0.04,
    )  # fmt: skip
    ops.rays_to_lines(*aimed[:2], field.box).sum().backward()
    ops.compare_matte(
        (rand(1, rays, 2, 3, gradient=True), rand(1, rays)), (rand(1, rays, 3), rand(1, rays)),
        rand(1, rays, 3), rand(1, rays, 3), rand(1, rays), rand(1, rays), (rand(1, rays, 3), rand(1, rays)),
        torch.ones(1, rays, dtype=torch.uint8, device=device), (0, 1, 2), ops.MatteWeights(1, 1, 1, 1, 1, 1),
    ).total.backward()  # fmt: skip
    small_portrait(device)
    ops.step_adam(*(rand(rays, 4) for _ in range(4)), steps=1, rate=0.01)
    called = {
        "rays", "beams", "segments", "samples", "compact", "planes", "lines", "adam", "landmarks",
        "references", "aim", "matte",
    }  # fmt: skip
    others = sorted({name.split("_")[0] for name in ops.native.REGISTERED} - called)
    print("not called:", ", ".join(others) or "none")
    if device == "cuda":
        torch.cuda.synchronize()


def small_portrait(device: str) -> None:
    """Two frames in one launch, which is no registered operation."""
    import torch

    from bench.bench_portrait import portrait
    from nldf_engine.rendering.layer import Views

    part = portrait(256).to(device)
    part.head.field.precision = part.torso.precision = "fp16" if device == "cuda" else "fp32"
    poses = torch.eye(4, device=device).repeat(2, 1, 1)
    poses[:, 2, 3] = -0.8
    intrinsics = torch.tensor([[76.0, 76.0, 20.0, 20.0]], device=device).repeat(2, 1)
    motions = torch.eye(3, device=device)[:2].repeat(2, 1, 1)
    codes = torch.rand(2, part.head.field.config.conditions.code_dim, device=device)
    with torch.no_grad():
        frames = part.frames(Views(intrinsics, poses, motions), codes, torch.rand(40, 40, 3, device=device))
        if frames is None:
            raise SystemExit("portrait: the fused kernel was not taken")
        frames.pictures()
