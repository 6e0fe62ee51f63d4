"""The examination behind `nldf doctor`: every finding is tried, not guessed."""

from __future__ import annotations

import importlib
import importlib.util
import os
import platform
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from nldf_engine.apps.cli.libraries import LIBRARIES, PACKAGE, Library, remedy, version
from nldf_engine.base.machine import processor
from nldf_engine.base.requirements import unmet

CODECS = {"h264": "libx264", "aac": "aac", "ffv1": "ffv1", "vp9": "libvpx-vp9"}
PROBE_FRAMES, FPS, PROBE_RATE = 2, 25, 16000


def examine() -> dict[str, Any]:
    """Everything that `nldf doctor` reports, as JSON-ready values.

    Keys: versions, backends, cuda, libraries, codecs, cpu, disk_free_gb, unmet (a sentence for each version
    that does not fit), rendering (works, detail), mends (a command each for what is missing).
    """
    findings: dict[str, Any] = {
        "versions": {
            PACKAGE: version(PACKAGE) or "a source folder, not installed",
            "python": platform.python_version(),
            "torch": version("torch"),
            "numpy": version("numpy"),
            "system": platform.platform(),
        },
        "libraries": {item.module: _library(item) for item in LIBRARIES},
        "codecs": _codecs(),
        "cpu": _cpu(),
        "disk_free_gb": round(shutil.disk_usage(Path.cwd()).free / 1e9, 1),
    }
    findings["cuda"] = _cuda()
    findings["backends"], kernel_remedies = _backends(findings["cuda"]["available"])
    findings["unmet"] = unmet(extras=True)
    findings["rendering"] = _rendering()
    findings["mends"] = kernel_remedies + [
        {"missing": item.distribution, "needed_for": item.needed_for, "command": remedy(item.module)}
        for item in LIBRARIES
        if not findings["libraries"][item.module]["works"]
    ]
    return findings


def describe(findings: dict[str, Any]) -> str:
    """The findings as lines for a person."""
    lines = [f"{name:<14}{text}" for name, text in findings["versions"].items()]
    lines += ["", f"{'processor':<14}{_processor(findings['cpu'])}"]
    cuda = findings["cuda"]
    lines += [f"{'GPU':<14}{', '.join(cuda['devices']) or cuda['reason']}"]
    lines += [f"{'disk':<14}{findings['disk_free_gb']} GB free here"]
    lines += [f"{'kernels':<14}{_kernels(findings['backends'])}"]
    lines += [
        f"{'codecs':<14}"
        + ", ".join(f"{name}: {'yes' if there else 'no'}" for name, there in findings["codecs"].items())
    ]
    lines += ["", "libraries"]
    for item in LIBRARIES:
        state = findings["libraries"][item.module]
        lines.append(f"    {item.distribution:<18}{state['version'] or 'missing':<14}{item.needed_for}")
        if state["version"] and not state["works"]:
            lines.append(f"        does not import: {state['reason']}")
    if findings["unmet"]:
        lines += ["", "versions that do not fit"] + [f"    {sentence}" for sentence in findings["unmet"]]
    if findings["mends"]:
        lines += ["", "missing, and the command that fixes it"]
        for missing in findings["mends"]:
            lines.append(f"    {missing['missing']} ({missing['needed_for']}):")
            lines.append(f"        {missing['command']}")
    works = "works" if findings["rendering"]["works"] else "DOES NOT WORK"
    lines += ["", f"rendering {works}: {findings['rendering']['detail']}"]
    return "\n".join(lines)


def _kernels(built: dict[str, Any]) -> str:
    if not built["cpu"]:
        return f"none ({built['problem']})"
    cuda = f"for {', '.join(built['cuda_archs'])}" if built["cuda"] else "not built"
    return f"CPU: {'several threads' if built['openmp'] else 'one thread'}; CUDA: {cuda}"


def _library(item: Library) -> dict[str, Any]:
    """Version, and whether it is usable.

    What rendering needs, and what wants libraries of the system, is imported for real: a wheel can be there
    while such a library is not. The rest is only looked up, since some of it takes seconds to import.
    """
    try:
        if item.required or item.native:
            importlib.import_module(item.module)
        elif importlib.util.find_spec(item.module) is None:
            raise ModuleNotFoundError("it is not installed")
    except Exception as error:
        reason = " ".join(str(error).split())
        return {"version": version(item.distribution), "works": False, "reason": reason}
    return {"version": version(item.distribution) or "unknown", "works": True, "reason": None}


def _codecs() -> dict[str, bool]:
    """Which encoders the video library has."""
    try:
        from av.codec import Codec
    except ImportError:
        return dict.fromkeys(CODECS, False)
    state = {}
    for name, encoder in CODECS.items():
        try:
            Codec(encoder, "w")
            state[name] = True
        except ValueError:
            state[name] = False
    return state


def _cpu() -> dict[str, Any]:
    import torch

    info = Path("/proc/cpuinfo")
    flags: set[str] = set()
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, text = line.partition(":")
            if key.strip() in ("flags", "Features"):
                flags = set(text.split())
                break
    known = ("avx2", "fma", "f16c", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "asimd")
    return {
        "name": processor(),
        "flags": [flag for flag in known if flag in flags],
        "torch_capability": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }


def _processor(cpu: dict[str, Any]) -> str:
    flags = " ".join(cpu["flags"]) or cpu["torch_capability"]
    threads = f"{cpu['threads']} thread{'s' * (cpu['threads'] != 1)} (torch.get_num_threads)"
    return f"{cpu['name']}, {cpu['cores']} cores, {threads}, {flags}"


def _backends(gpu: bool) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """The compiled kernels, and how to build those that this machine could use and lacks."""
    from nldf_engine import ops

    built = ops.backends()
    if built["cpu"] and (built["cuda"] or not gpu):
        return built, []
    what = "CUDA kernels" if built["cpu"] else f"compiled kernels ({built['problem']})"
    return built, [{"missing": what, "needed_for": "rendering", "command": built["mend"]}]


def _cuda() -> dict[str, Any]:
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    reason = "none found by torch" if torch.version.cuda else "none: this torch was built without CUDA"
    return {
        "available": count > 0,
        "torch_cuda": torch.version.cuda,
        "devices": [torch.cuda.get_device_name(index) for index in range(count)],
        "reason": None if count else reason,
    }


def _rendering() -> dict[str, Any]:
    """Renders, encodes and reads back a moment of the bundled avatar."""
    try:
        import numpy as np

        from nldf_engine.apps.cli.bundled import bundled_avatar
        from nldf_engine.engine import Engine
        from nldf_engine.media.video import probe

        engine = Engine.load(bundled_avatar())
        sound = np.zeros(PROBE_FRAMES * PROBE_RATE // FPS, np.float32)
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            clip = engine.render((sound, PROBE_RATE), size=64)
            info = probe(clip.save(Path(folder) / "probe.mp4"))
        spent = time.perf_counter() - start
    except Exception as error:
        return {"works": False, "detail": " ".join(f"{type(error).__name__}: {error}".split())}
    if info.frames != PROBE_FRAMES:
        return {"works": False, "detail": f"{PROBE_FRAMES} frames were written, {info.frames} were read back"}
    return {
        "works": True,
        "detail": f"the bundled avatar was rendered, encoded and read back in {spent:.2f} s",
    }
