"""The CUDA kernels' own sources, run thread by thread on the CPU, against the PyTorch references."""

from __future__ import annotations

import pytest

import simt.cases  # noqa: F401 - fills CASES
from simt.problem import CASES, SIZES, check
from simt.runner import Builder, Library

PLAIN_SEEDS = (0, 1, 2, 3, 4, 5)
RACE_SEEDS = (0, 1, 2)

pytestmark = pytest.mark.timeout(900)  # the first test waits for the compiler


@pytest.fixture(scope="session")
def libraries(builder: Builder) -> dict[tuple[str, bool], Library]:
    """Every kernel's source in both modes, compiled two at a time."""
    sources = {case.source.path: case.source for case in CASES.values()}
    wanted = [(source, race) for source in sources.values() for race in (False, True)]
    built = builder.build_all(wanted)
    return {(s.path, race): library for (s, race), library in zip(wanted, built, strict=True)}


@pytest.mark.parametrize("name", CASES)
def test_agrees_with_the_reference(libraries, name):
    """Every size under several schedules gives the reference's results."""
    case = CASES[name]
    for size in SIZES:
        problem = case.problem(size)
        for seed in PLAIN_SEEDS if size != 255 else PLAIN_SEEDS[:3]:
            check(libraries[case.source.path, False], case.kernel, problem, seed)


@pytest.mark.parametrize("name", CASES)
def test_has_no_race(libraries, name):
    """No schedule shows a race, an access out of bounds, or a read of what nobody wrote."""
    case = CASES[name]
    for size in (1, 127, 129):
        problem = case.problem(size)
        for seed in RACE_SEEDS:
            check(libraries[case.source.path, True], case.kernel, problem, seed)
