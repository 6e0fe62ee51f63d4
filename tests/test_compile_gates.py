"""Compile-time gates: every CUDA source keeps its limits, and the reader of ptxas' reports can fail."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from gates import QUICK, SOURCES, Limit, Usage, compile_kernels, complaints, kernel_name, parse_ptxas

REPORT = """ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '_ZN4nldf12_GLOBAL__N_112beams_kernelIfEEvNS_4ArgsE' for 'sm_80'
ptxas info    : Function properties for _ZN4nldf12_GLOBAL__N_112beams_kernelIfEEvNS_4ArgsE
    {stack} bytes stack frame, {stores} bytes spill stores, 0 bytes spill loads
ptxas info    : Used {registers} registers, used 1 barriers, 1024 bytes smem, 400 bytes cmem[0]
"""


def report(stack: int = 0, stores: int = 0, registers: int = 40) -> str:
    return REPORT.format(stack=stack, stores=stores, registers=registers)


@pytest.fixture(scope="module")
def compiled(request: pytest.FixtureRequest) -> Iterator[dict[str, Future[tuple[list[Usage], list[str]]]]]:
    """The selected sources, compiled several at a time."""
    specs = [getattr(item, "callspec", None) for item in request.session.items if item.path == request.path]
    selected = [spec.params["source"] for spec in specs if spec and "source" in spec.params]
    with ThreadPoolExecutor(min(4, os.cpu_count() or 2)) as pool:
        yield {source: pool.submit(compile_kernels, source, QUICK) for source in selected}


@pytest.mark.skipif(
    shutil.which("nvcc") is None, reason="no nvcc on this machine: the kernels aren't compiled"
)
@pytest.mark.parametrize("source", SOURCES)
def test_kernels_keep_their_limits(compiled, source):
    """No spill, no stack, no warning, no serialised matrix instruction, registers within the limit."""
    usages, complained = compiled[source].result()
    assert {usage.arch for usage in usages} <= set(QUICK) and usages
    assert not complained
    assert not [fault for usage in usages for fault in usage.faults()]


def test_reports_are_read():
    """Registers, shared memory, stack, spills and names come out of ptxas' words."""
    usage = parse_ptxas("beams_cuda.cu", report() + report(8, 16, 200))
    assert [(u.registers, u.shared, u.stack, u.spills) for u in usage] == [
        (40, 1024, 0, 0),
        (200, 1024, 8, 16),
    ]
    assert kernel_name(usage[0].kernel) == "beams_kernel<f>" and usage[0].arch == "80"
    assert kernel_name("plain") == "plain"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"stack": 8}, "8 bytes of stack"),
        ({"stores": 4}, "spills 4 bytes"),
        ({"registers": 65}, "65 registers, more than 64"),
    ],
)
def test_gate_fails_where_it_should(changes, said):
    """A stack frame, a spill or a register too many is a fault that names the kernel."""
    (usage,) = parse_ptxas("beams_cuda.cu", report(**changes))
    (fault,) = usage.faults()
    assert said in fault and "sm_80" in fault and "beams_kernel" in fault
    assert not parse_ptxas("beams_cuda.cu", report())[0].faults()


def test_missing_matrix_instructions_are_a_fault(monkeypatch):
    """Where SASS was counted, a kernel without the instruction that it is built on is a fault."""
    monkeypatch.setattr(Usage, "limit", Limit(sass={"90a": {"HGMMA": 2}}))
    usage = Usage("x.cu", "k", "90a", 10, 0, 0, 0, (("HMMA", 3),))
    assert "0 HGMMA instructions, fewer than 2" in usage.faults()[0]
    assert not Usage("x.cu", "k", "90a", 10, 0, 0, 0, (("HGMMA", 3),)).faults()
    assert Usage("x.cu", "k", "90a", 10, 0, 0, 0, (("HGMMA", 1),)).faults()
    assert not Usage("x.cu", "k", "80", 10, 0, 0, 0, (("HMMA", 3),)).faults()


def test_instructions_and_memory_too_many_are_a_fault(monkeypatch):
    """An instruction that occurs too often, and static shared memory where there may be none, are faults."""
    monkeypatch.setattr(Usage, "limit", Limit(most={"90a": {"CCTL": 4, "LD": 0}}, shared=0))
    assert not Usage("x.cu", "k", "90a", 10, 0, 0, 0, (("CCTL", 4),)).faults()
    assert not Usage("x.cu", "k", "80", 10, 0, 0, 0, (("CCTL", 9),)).faults()
    faults = Usage("x.cu", "k", "90a", 10, 16, 0, 0, (("CCTL", 23), ("LD", 64))).faults()
    assert [fault.partition("has ")[2] for fault in faults] == [
        "16 bytes of static shared memory, more than 0", "23 CCTL instructions, more than 4",
        "64 LD instructions, more than 0",
    ]  # fmt: skip


def test_complaints_are_found():
    """Warnings and the serialisation notes of ptxas count, other lines don't."""
    notes = "ptxas info : (C7510) Potential Performance Loss: wgmma.mma_async instructions are serialized"
    assert complaints(f"ptxas info : fine\n{notes}\nx.cu(1): warning #177-D: unused") == [
        notes, "x.cu(1): warning #177-D: unused",
    ]  # fmt: skip
    assert not complaints(report())


def test_unknown_report_is_an_error():
    """A report without figures raises instead of passing as a kernel without faults."""
    with pytest.raises(ValueError, match=r"isn't known"):
        parse_ptxas("x.cu", report().replace("registers", "regs"))
