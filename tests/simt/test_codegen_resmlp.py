"""What nvcc makes of the fused ResMLP kernels: registers, spills, serialised wgmma, and the instructions.

tests/ops/test_headers.py compiles every kernel for sm_80 and sm_90a; here are the other architectures, the
limits on registers and the machine code.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from simt.resmlp_problem import source
from simt.runner import CSRC, ROOT

# Where a source is compiled for, and what a thread may hold at most there. The wgmma kernel starts with 168
# (65536 over 384 threads); setmaxnreg then moves registers from the loading to the computing warpgroups.
TARGETS = {
    ("mma", "80"): 255,
    ("mma", "86"): 255,
    ("mma", "89"): 255,
    ("wgmma", "90a"): 168,
}
SERIALISED = re.compile(r"C75\d\d|C76\d\d")


@dataclass(frozen=True)
class Kernel:
    """One line of the report: a kernel's instance and its resources; bytes of stack and of spills."""

    name: str
    registers: int
    stack: int
    spills: int


def _tool(name: str) -> str:
    """A CUDA tool on PATH or of its PyPI package; empty where there is none."""
    if found := shutil.which(name):
        return found
    spec = importlib.util.find_spec("nvidia")
    for folder in spec.submodule_search_locations or () if spec else ():
        for path in Path(folder).glob(f"cu*/bin/{name}"):
            return str(path)
    return ""


def _keep(target: Path, command: list[str]) -> str:
    """Runs nvcc once for what is in its input files; the report is kept beside the output."""
    report = target.with_suffix(".txt")
    if not (target.exists() and report.exists()):
        done = subprocess.run([*command, "-o", str(target)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        report.write_text(done.stdout + done.stderr)
    return report.read_text()


@pytest.fixture(params=TARGETS, ids=lambda p: f"{p[0]}-sm_{p[1]}")
def compiled(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str, str, Path]:
    """Kernel, architecture, ptxas' report and the cubin."""
    kernel, arch = request.param
    nvcc = shutil.which("nvcc")
    if not nvcc:
        pytest.skip("no nvcc on PATH: code generation isn't checked")
    path = ROOT / source(kernel).path
    command = [nvcc, "-std=c++17", "-cubin", "-Xptxas=-v", f"-gencode=arch=compute_{arch},code=sm_{arch}"]
    command += [f"-I{CSRC}", str(path)]
    version = subprocess.run([nvcc, "--version"], capture_output=True, check=True).stdout
    files = [path, *sorted(CSRC.glob("*.h")), *sorted(CSRC.glob("*.cuh"))]
    key = hashlib.sha256(version + arch.encode() + b"".join(f.read_bytes() for f in files)).hexdigest()[:20]
    cache = getattr(request.config, "cache", None)
    folder = Path(cache.mkdir("codegen")) if cache else tmp_path
    cubin = folder / f"{kernel}-{arch}-{key}.cubin"
    return kernel, arch, _keep(cubin, command), cubin


def kernels(report: str) -> list[Kernel]:
    """The kernels of a ptxas report."""
    pattern = re.compile(
        r"Compiling entry function '(\w+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores, "
        r"(\d+) bytes spill loads.*?Used (\d+) registers",
        re.DOTALL,
    )
    return [
        Kernel(name, int(registers), int(stack), int(stores) + int(loads))
        for name, stack, stores, loads, registers in pattern.findall(report)
    ]


def test_no_spills_and_nothing_serialised(compiled):
    """No instance spills, uses a stack or too many registers, and ptxas serialises no wgmma."""
    kernel, arch, report, _ = compiled
    found = kernels(report)
    assert len(found) == {"mma": 8, "wgmma": 2}[kernel]
    for instance in found:
        assert instance.stack == instance.spills == 0, instance
        assert instance.registers <= TARGETS[kernel, arch], instance
    assert not SERIALISED.search(report), report


def test_the_report_is_read():
    """A report with spills and a serialisation warning is seen as such."""
    report = (
        "ptxas info : (C7512) Potential Performance Loss: wgmma.mma_async instructions are serialized\n"
        "ptxas info : Compiling entry function '_Z1kv' for 'sm_90a'\n"
        "    184 bytes stack frame, 280 bytes spill stores, 392 bytes spill loads\n"
        "ptxas info : Used 168 registers, used 1 barriers\n"
    )
    assert kernels(report) == [Kernel("_Z1kv", 168, 184, 672)]
    assert SERIALISED.search(report)


# In each instance of a kernel: how often an instruction stands in its code, or "some" or "none". A block of
# the network is two layers of 16 wgmma each; the head has 4 and the tail 16 smaller ones.
EXPECTED = {
    ("mma", "80"): {"HMMA.16816.F32": "some", "LDSM": "some", "LDGSTS": "some", "STL": "none", "LDL": "none"},
    ("wgmma", "90a"): {
        "HGMMA.64x256x16.F32": 36, "HGMMA.64x64x16.F32": 16, "UBLKCP": 2, "STL": "none", "LDL": "none",
        "HMMA": "none", "F2FP": "some", "USETMAXREG": "some",
    },
}  # fmt: skip
EXPECTED |= {("mma", arch): EXPECTED["mma", "80"] for arch in ("86", "89")}


def test_instructions(compiled):
    """The machine code holds the matrix instructions and bulk copies it should, and no local memory."""
    kernel, arch, _, cubin = compiled
    tool = _tool("cuobjdump")
    if not tool or not _tool("nvdisasm"):
        pytest.skip("no cuobjdump and nvdisasm: pip install nvidia-cuda-cuobjdump nvidia-cuda-nvdisasm")
    path = {"PATH": f"{Path(_tool('nvdisasm')).parent}:/usr/bin:/bin"}
    text = subprocess.run([tool, "-sass", str(cubin)], capture_output=True, text=True, check=True, env=path)
    instances = text.stdout.split("Function : ")[1:]
    assert len(instances) == {"mma": 8, "wgmma": 2}[kernel]
    for code in instances:
        for instruction, wanted in EXPECTED[kernel, arch].items():
            count = len(re.findall(rf"\s{re.escape(instruction)}\b", code))
            name = f"{instruction} in {code.split()[0]}: {count}"
            if wanted == "some":
                assert count > 0, name
            elif wanted == "none":
                assert count == 0, name
            else:
                assert count == wanted, name
        if kernel == "wgmma":
            # Two instances: alone, and in clusters, where each block's half of a chunk goes to both.
            assert (".MULTICAST" in code) == ("Li2E" in code.split()[0])
            # One fence at most, for the cluster's barrier at the end and at the start.
            assert code.count("MEMBAR.ALL.GPU") <= 2
