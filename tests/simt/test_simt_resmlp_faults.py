"""Faults planted in the fused ResMLP kernels: each must turn the runner or the comparison red."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from simt.resmlp_problem import assert_agrees, beams, network, only, run, source, text_of
from simt.runner import ROOT, Builder, Fault, Library, Source


@dataclass(frozen=True)
class Mutation:
    """A piece of a kernel's source and what stands in its place; `race`: seen with the checker alone.

    "turns" is wgmma with its warpgroups taking turns, "beam" is mma where it encodes beams.
    """

    kernel: str
    old: str
    new: str
    race: bool = False


KERNELS = ("mma", "beam", "wgmma", "turns")
MUTATIONS = {
    "a barrier a chunk": Mutation("mma", "    __syncthreads();\n    fetch();", "    fetch();"),
    "no wait for the copy": Mutation("mma", "    ptx::cp_async_wait<S::kStages - 2>();\n", ""),
    "a chunk overwritten too early": Mutation(
        "mma", "    __syncthreads();\n    fetch();", "    fetch();\n    __syncthreads();"
    ),
    "no barrier between inputs": Mutation("mma", "if (c) __syncthreads();", ""),
    "b's registers swapped": Mutation(
        "mma", "sums[i][2 * p], a[i], b.x, b.y", "sums[i][2 * p], a[i], b.y, b.x"
    ),
    "neighbouring tiles swapped": Mutation(
        "mma", "sums[i][2 * p], a[i], b.x, b.y", "sums[i][2 * p], a[i], b.z, b.w"
    ),
    "a row too far": Mutation("mma", "tile_at(row + lane % 16,", "tile_at(row + lane / 16,"),
    "outputs beyond the last ray": Mutation("mma", "if (args.out && ray < args.rays)", "if (args.out)"),
    "pixels beyond the last ray": Mutation(
        "mma", "args.pixels + ray * 4, ray < args.rays", "args.pixels + ray * 4, true"
    ),
    "inputs beyond the last ray": Mutation(
        "mma", "} else if (ray0 + row < args.rays) {", "} else if (true) {"
    ),
    "inputs beyond the last column": Mutation("mma", "if (col + c + j < args.in_dim) v[j]", "v[j]"),
    "no skip over the body": Mutation("mma", "v.x + skip.x, v.y + skip.y", "v.x, v.y"),
    "an activation after the residual": Mutation(
        "mma", "v.x + a, v.y + b", "fmaxf(v.x + a, 0.0f), fmaxf(v.y + b, 0.0f)"
    ),
    "a stage released before wgmma read it": Mutation(
        "wgmma",
        "      ptx::wgmma_wait<1>();\n      release<Cluster>(me, before);",
        "      release<Cluster>(me, before);\n      ptx::wgmma_wait<1>();",
    ),
    "the stage in use released": Mutation(
        "wgmma",
        "      ptx::wgmma_wait<1>();\n      release<Cluster>(me, before);",
        "      ptx::wgmma_wait<1>();\n      release<Cluster>(me, turn.stage);",
    ),
    "no wait for a stage to be free": Mutation(
        "wgmma", "      ptx::mbarrier_wait(empty + 8 * turn.stage, turn.parity ^ 1);\n", ""
    ),
    "no wait for a stage to be full": Mutation(
        "wgmma",
        "  ptx::mbarrier_wait(me.shared + kBarriersAt + 8 * turn.stage, turn.parity);\n",
        "",
    ),
    "biases read without a proxy fence": Mutation("wgmma", "  ptx::fence_proxy_async();\n", "", race=True),
    "more registers than the block has": Mutation("wgmma", "registers_lower<24>", "registers_lower<32>"),
    "the peer not signalled": Mutation("wgmma", "rank < Cluster; ++rank", "rank < 1; ++rank"),
    "half of the bytes announced": Mutation(
        "wgmma", "barrier, kStageBytes + ", "barrier, kStageBytes / 2 + "
    ),
    "biases not announced": Mutation("wgmma", "(with_bias ? kBiasBytes : 0)", "0"),
    "one place for all biases": Mutation("wgmma", "kBiasAt + layer % 2 * kBiasBytes", "kBiasAt"),
    "biases with the first chunk": Mutation("wgmma", "% kPerLayer == 1;", "% kPerLayer == 0;", race=True),
    "no fence before wgmma": Mutation("wgmma", "    ptx::wgmma_fence();\n", ""),
    "a step along K too long": Mutation("wgmma", "weights + 2 * k, c + k > 0", "weights + 4 * k, c + k > 0"),
    "sums not started anew": Mutation("wgmma", "weights + 2 * k, c + k > 0", "weights + 2 * k, true"),
    "a's registers swapped": Mutation("wgmma", "x[j + 1], x[j + 2]", "x[j + 2], x[j + 1]"),
    "the other half loaded twice": Mutation("wgmma", "source + rank * (kShare / 2)", "source"),
    "a turn not passed": Mutation("turns", "  pass_turn(me);\n  ptx::wgmma_wait<0>", "  ptx::wgmma_wait<0>"),
    "nobody begins": Mutation("turns", "if (group == 1) pass_turn(me);", ""),
    "a turn passed to oneself": Mutation(
        "turns", "barrier_arrive(2 - me.group", "barrier_arrive(1 + me.group"
    ),
    "sine and cosine swapped": Mutation("beam", "v[i], v[i + 1]);", "v[i + 1], v[i]);"),
    "levels not doubled": Mutation("beam", "c = 0, ++level", "c = 0"),
    "rays beyond the last encoded": Mutation(
        "beam", "if (ray0 + row < args.rays && !args.input)", "if (!args.input)"
    ),
    "leaving before the peer": Mutation(
        "wgmma",
        "    ptx::cluster_arrive();  // no block leaves while the other may still arrive at its barriers\n"
        "    ptx::cluster_wait();\n",
        "",
    ),
    "rays beyond the last": Mutation("wgmma", "if (args.out && ray < args.rays)", "if (args.out)"),
    "inputs beyond the last": Mutation(
        "wgmma", "if (ray >= args.rays || col >= args.in_dim)", "if (col >= args.in_dim)"
    ),
}


def small(kernel: str) -> str:
    """The kernel's source with as few instances as the faults need."""
    if kernel in ("wgmma", "turns"):
        return text_of(kernel).replace(
            "return launch_wgmma<1>(args, exec);", "return launch_wgmma<2>(args, exec);"
        )
    header = (ROOT / "csrc/ops/resmlp_input.cuh").read_text().replace("#pragma once", "")
    text = text_of("mma").replace('#include "ops/resmlp_input.cuh"', header)
    return only(text, 64).replace("if (args.rows == 128) return launch_mma<Width, 128>(args, exec);", "")


def base_of(kernel: str) -> str:
    """The kernel's name without what is special about its input."""
    return "mma" if kernel == "beam" else kernel


def provoke(library: Library, kernel: str) -> None:
    """Runs a problem in which every line of the kernel matters, under several schedules."""
    base = base_of(kernel)
    if kernel == "beam":
        net, rows, blocks = beams(130, 3, 3), 64, 2
    elif kernel == "mma":
        net, rows, blocks = network(130, 150, 64, 4), 64, 2
    else:
        net, rows, blocks = network(300, 70, 256, 6), 128, 2
    for seed in range(6):
        assert_agrees(run(library, base, net, rows=rows, blocks=blocks, seed=seed), net)


@pytest.fixture(scope="module")
def sound(builder: Builder) -> dict[str, Library]:
    """The kernels as they are, compiled several at a time."""
    built = builder.build_all([(source(base_of(kernel), small(kernel)), False) for kernel in KERNELS])
    return dict(zip(KERNELS, built, strict=True))


@pytest.mark.parametrize("kernel", KERNELS)
def test_without_a_fault_all_is_well(sound, kernel):
    """The problem that provokes the faults passes with the kernel as it is."""
    provoke(sound[kernel], kernel)


# One of each kind for each kernel in every run: a barrier, a fragment, a tail mask, a stage. Each costs the
# build of a large kernel, so that the rest waits for `make thorough`.
ALWAYS = {
    "a barrier a chunk", "a chunk overwritten too early", "b's registers swapped",
    "outputs beyond the last ray",
    "a stage released before wgmma read it", "biases read without a proxy fence",
    "more registers than the block has", "no wait for a stage to be full", "the peer not signalled",
    "a's registers swapped", "a turn not passed", "levels not doubled",
}  # fmt: skip


def plant(name: str) -> Source:
    """The kernel's source with a fault in it."""
    mutation = MUTATIONS[name]
    text = small(mutation.kernel)
    assert mutation.old in text, "the source has changed: bring the mutation up to date"
    return source(base_of(mutation.kernel), text.replace(mutation.old, mutation.new))


@pytest.fixture(scope="module")
def faulty(builder: Builder, selected: list[str]) -> dict[str, Library]:
    """The faulty kernels, compiled several at a time."""
    built = builder.build_all([(plant(name), MUTATIONS[name].race) for name in selected])
    return dict(zip(selected, built, strict=True))


@pytest.mark.parametrize(
    "name", [name if name in ALWAYS else pytest.param(name, marks=pytest.mark.thorough) for name in MUTATIONS]
)
def test_a_fault_turns_red(faulty, name):
    """Each planted fault is found, by the runner or by the comparison."""
    with pytest.raises((Fault, AssertionError)):
        provoke(faulty[name], MUTATIONS[name].kernel)
