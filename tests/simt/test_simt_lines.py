"""The light field over planes as it is trained on CUDA: the kernels' own source, run thread by thread."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from simt.lines_problem import LINES, assert_agrees, run, trained
from simt.planes_problem import Shape
from simt.runner import ROOT, Builder, Fault, Library, Source

SHAPES = {
    "usual": Shape(width=32, hidden=2, warp_hidden=2),
    "torso": Shape((0.0,), ambient=0, width=24, warp_hidden=1, hidden=2),
    # More outputs than a product takes at once, odd features, hashed levels.
    "wide, hashed": Shape((0.05,), features=3, ambient=2, width=70, warp_hidden=1, hidden=1, log2_table=8),
    "more inputs than outputs": Shape((-0.1, 0.0, 0.1), features=8, width=16, warp_hidden=1, hidden=1),
}

pytestmark = pytest.mark.timeout(900)  # the first test waits for the compiler


@pytest.fixture(scope="session")
def libraries(builder: Builder) -> dict[bool, Library]:
    """The kernels, plain and with the checker."""
    return dict(zip((False, True), builder.build_all([(LINES, False), (LINES, True)]), strict=True))


@pytest.mark.parametrize("shape", SHAPES)
def test_agrees_with_the_reference(libraries, shape):
    """Every shape of network, under several schedules and numbers of rays, sees and learns the same."""
    for rays in (1, 33, 75):
        given = trained(SHAPES[shape], 2, rays)
        for seed in (0, 1, 2 + rays):
            assert_agrees(run(libraries[False], given, seed), given)


def test_blocks_walk_several_groups(libraries):
    """A batch of more groups than blocks run at once is finished, and its gradients are summed."""
    given = trained(SHAPES["torso"], 3, 140, chosen=False)
    assert_agrees(run(libraries[False], given, 3), given)


def test_nothing_to_see(libraries):
    """Without rays, or with none inside, all gradients are zeros."""
    for rays in (0, 20):
        given = trained(SHAPES["torso"], 2, rays)
        given.inside[:] = False
        assert not any(torch.count_nonzero(x) for x in run(libraries[False], given))


def test_sums_are_the_same_under_every_schedule(libraries):
    """What is added up by blocks and not by atomics does not depend on the order in which these run."""
    given = trained(SHAPES["usual"], 2, 75)
    first, *others = (run(libraries[False], given, seed) for seed in (0, 1, 5))
    tables = slice(4, 4 + 3)
    del first[tables]
    for other in others:
        del other[tables]
        assert all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("shape", ["usual", "wide, hashed"])
def test_has_no_race(libraries, shape):
    """No schedule shows a race, an access out of bounds, or a read of what nobody wrote."""
    given = trained(SHAPES[shape], 2, 70)
    for seed in (0, 1, 7):
        assert_agrees(run(libraries[True], given, seed), given)


# What is replaced and by what; the last: found by the checker alone.
FAULTS = {
    "no barrier behind a layer": ("  __syncthreads();  // the outputs are there\n", "", True),
    "no barrier behind a layer's gradients": ("  __syncthreads();  // the gradients are there\n", "", True),
    "no barrier behind a stage": ("      __syncthreads();  // the stage is there\n", "", True),
    "no barrier before a stage": ("    __syncthreads();  // the former stage has been read\n", "", True),
    "no barrier behind the moves": ("  __syncthreads();  // every warp's are there\n", "", True),
    "lines beyond the last": ("made.mine = within < rays && ", "made.mine = ", True),
    "numbers of no line": (": make_float4(0.0f, 0.0f, 0.0f, 0.0f);\n  return made;", ": __ldg(reinterpret_cast<const float4*>(lines) + made.line);\n  return made;", False),  # noqa: E501
    "another frame's inputs": ("args.inputs + own.frame * net.frame", "args.inputs", False),
    "sums begun anew": ("    begun = true;\n", "", False),
    "frames' gradients replaced": ("added ? v_frame[c] + sum : sum", "sum", False),
    "another plane's place": ("kept[2 * p * kLine + lane], kept", "kept[lane], kept", False),
    "a slope outside of the grid": ("by_x * grid_slope(x, cell.x, levels[l].resolution, false)", "by_x * (levels[l].resolution - 1)", False),  # noqa: E501
    "what a ReLU cut off": ("if (rectified) x", "if (false) x", False),
    "the last part is left out": ("part < args.parts; ++part", "part + 1 < args.parts; ++part", False),
}  # fmt: skip
ALWAYS = {"no barrier behind a layer", "another frame's inputs", "what a ReLU cut off"}


def plant(name: str) -> Source:
    """The source with a fault in it."""
    old, new, _ = FAULTS[name]
    text = (ROOT / LINES.path).read_text()
    assert old in text, "the source has changed: bring the fault up to date"
    return replace(LINES, text=text.replace(old, new))


@pytest.fixture(scope="module")
def faulty(builder: Builder, selected: list[str]) -> dict[str, Library]:
    """The faulty sources' libraries, compiled several at a time."""
    built = builder.build_all([(plant(name), FAULTS[name][2]) for name in selected])
    return dict(zip(selected, built, strict=True))


@pytest.mark.parametrize(
    "name", [name if name in ALWAYS else pytest.param(name, marks=pytest.mark.thorough) for name in FAULTS]
)
def test_a_fault_turns_red(faulty, name):
    """Each planted fault is found, by the runner or by the comparison."""
    given = trained(SHAPES["usual"], 2, 150)
    with pytest.raises((Fault, AssertionError)):
        for seed in range(6):
            assert_agrees(run(faulty[name], given, seed), given)
