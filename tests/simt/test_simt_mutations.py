"""Faults planted in copies of the CUDA sources: each must turn the run red, else the runner proves nothing."""

# ruff: noqa: E501 - the texts of the sources stay in one piece

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import numpy as np
import pytest

from simt.cases import ADAM, AIM, BEAMS, LANDMARKS, MATTE, MMA_BLOCK, RAYS, REFERENCES, SEGMENTS, WGMMA_RING
from simt.problem import CASES, check
from simt.runner import ROOT, Builder, Fault, Library, Source
from simt.test_simt_ptx import MICRO, WANT, run_micro

SIZES = (129, 1, 255)
SEEDS = (2, 0, 1, 3, 4, 5, 6, 7)

pytestmark = pytest.mark.timeout(900)  # the first test waits for the compiler


@dataclass(frozen=True)
class Mutation:
    """A fault.

    Args:
        source: of the kernel.
        kernel: a name in CASES, or a micro-kernel's.
        old, new: the text that is replaced.
        says: a pattern that the fault's message matches; empty where a wrong result is enough.
        race: whether the source is compiled for the checker.
        times: how often `old` stands in the source; all of them are replaced.
    """

    source: Source
    kernel: str
    old: str
    new: str
    says: str = ""
    race: bool = True
    times: int = 1

    def mutate(self) -> Source:
        text = (ROOT / self.source.path).read_text()
        found = text.count(self.old)
        assert found == self.times, f"{self.source.path}: {found} times {self.old!r}, expected {self.times}"
        return replace(self.source, text=text.replace(self.old, self.new))


SYNC = "__syncthreads();"
RACE = r"race in "
OUTSIDE = r"access of \d+ bytes at byte|outside of every buffer"
_WAIT = "        wgmma_wait<0>();\n"
_RELEASE = "        if (lane < kCluster) mbarrier_arrive_cluster(map_shared(empty + 8 * s, lane));\n"

MUTATIONS = {
    "matte: no barrier before the warps' sums are read": Mutation(
        MATTE, "matte", f"  {SYNC}  // every warp's are there\n", "", RACE + "shared|nobody has written",
    ),
    "matte: no barrier behind the sums": Mutation(
        MATTE, "matte", f"  {SYNC}  // and have been read\n", "", RACE + "shared",
    ),
    "aim: no barrier before the next frame": Mutation(
        AIM, "aim_backward", f"    {SYNC}  // and have been read\n", "", RACE + "shared",
    ),
    # barriers
    "rays: no barrier before the sums are read": Mutation(
        RAYS, "rays_backward", f"    {SYNC}\n    if (threadIdx.x < kRay", "    if (threadIdx.x < kRay",
        RACE + "shared|nobody has written",
    ),
    "rays: no barrier before the next piece": Mutation(
        RAYS, "rays_backward", f"    {SYNC}  // the next piece", "    // the next piece", RACE + "shared",
    ),
    "rays: a barrier for some threads only": Mutation(
        RAYS, "rays_backward", f"    {SYNC}\n    if (threadIdx.x < kRay",
        f"    if (threadIdx.x < 64) {{ {SYNC} }}\n    if (threadIdx.x < kRay",
        "meet at different lines|deadlock|nobody has written", race=False,
    ),
    "segments: no __syncwarp before the way back": Mutation(
        SEGMENTS, "segments_backward", "    __syncwarp();  // the way back", "    // the way back", RACE + "v_sigma",
    ),
    "segments: no __syncwarp before the transmittances go": Mutation(
        SEGMENTS, "segments_backward", "      __syncwarp();  // every lane", "      // every lane", RACE + "v_sigma",
    ),
    "segments: rows: no barrier behind the transmittances": Mutation(
        SEGMENTS, "segments_rows_backward", f"    {SYNC}  // transmittances are", "    // transmittances are",
        RACE + "v_sigma|nobody has written",
    ),
    "segments: rows: no barrier behind the rows": Mutation(
        SEGMENTS, "segments_rows_backward", f"      {SYNC}  // all rows are", "      // all rows are",
        RACE + "(v_sigma|shown|shared)|nobody has written",
    ),
    "segments: rows: products not by turns": Mutation(
        SEGMENTS, "segments_rows_backward", "g_of = g_of == shown ? shown + kWarp : shown;", "", RACE + "(shown|shared)",
    ),
    "landmarks: no barrier behind the warps' sums": Mutation(
        LANDMARKS, "landmarks_backward", f"      {SYNC}  // every warp's", "      // every warp's",
        RACE + "shared|nobody has written",
    ),
    "landmarks: no barrier before the next landmarks": Mutation(
        LANDMARKS, "landmarks_backward", f"      {SYNC}  // the next landmarks", "      // the next landmarks",
        RACE + "shared",
    ),
    "landmarks: no barrier behind the zeros": Mutation(
        LANDMARKS, "landmarks_backward", f"    {SYNC}  // the zeros", "    // the zeros",
        RACE + "(v_points|shared)|nobody has written",
    ),
    "landmarks: lanes behind the last landmark": Mutation(
        LANDMARKS, "landmarks_backward", "if (valid && !(q[0] > at.reach[0])) {", "if (true) {", OUTSIDE,
    ),
    "landmarks: sums without a mask": Mutation(
        LANDMARKS, "landmarks_backward", "if (first + lane < args.count)", "if (true)", OUTSIDE + "|race in partial",
    ),
    "references: no barrier behind the lookups": Mutation(
        REFERENCES, "references", f"    {SYNC}  // the lookups are", "    // the lookups are",
        RACE + "lookups|nobody has written",
    ),
    "references: no barrier before the next lookups": Mutation(
        REFERENCES, "references_backward", f"    {SYNC}  // the next lookups", "    // the next lookups", RACE + "lookups",
    ),
    "references: maps added up without atomics": Mutation(
        REFERENCES, "references_backward", "      add_atomically(maps + corner_pixel(at, k) * args.channels, added);",
        "      store(maps + corner_pixel(at, k) * args.channels, added);", RACE + "v_maps",
    ),
    "references: a row behind the last one": Mutation(
        REFERENCES, "references", "found.row = height > 1 ? width : 0;", "found.row = 3 * width;", OUTSIDE, race=False,
    ),
    "references: lanes of points behind the last one": Mutation(
        REFERENCES, "references_backward", "if (valid && !args.nearest) {", "if (!args.nearest) {", OUTSIDE,
    ),
    "references: a lane for all of a lookup's sums": Mutation(
        REFERENCES, "references_backward", "value, offset, kLanes);", "value, offset, 2);", race=False,
    ),
    "mma: no barrier after the chunk's arrival": Mutation(
        MMA_BLOCK, "mma_block", f"    {SYNC}  // every thread's share", "    // every thread's share", RACE + "(x|stages)|nobody has written",
    ),
    "mma: no barrier after the chunk's arrival, by the results": Mutation(
        MMA_BLOCK, "mma_block", f"    {SYNC}  // every thread's share", "    // every thread's share", race=False,
    ),
    "mma: no barrier before the stage is written again": Mutation(
        MMA_BLOCK, "mma_block", f"    {SYNC}  // the stage may", "    // the stage may", RACE + "stages",
    ),
    "mma: a copy not waited for": Mutation(
        MMA_BLOCK, "mma_block", "cp_async_wait<1>()", "cp_async_wait<2>()", RACE + "(x|stages)",
    ),
    # fragments, lanes, addresses
    "adam: the entry behind the last one": Mutation(
        ADAM, "adam", "entry < args.entries", "entry <= args.entries", OUTSIDE, race=False,
    ),
    "adam: a second thread for each entry": Mutation(
        ADAM, "adam", "int64_t entry = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;",
        "int64_t entry = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) / 2;", RACE + "(table|first|second)",
    ),
    "segments: shuffles over the neighbour's lanes": Mutation(
        SEGMENTS, "segments", "if (lane >= offset) value *= other;", "value *= other;", race=False,
    ),
    "segments: a half warp's mask for the whole warp": Mutation(
        SEGMENTS, "segments", "constexpr unsigned kAll = 0xffffffffu;", "constexpr unsigned kAll = 0xffffu;",
        "not in the mask", race=False,
    ),
    "segments: rows: a neighbour's weight": Mutation(
        SEGMENTS, "segments_rows", "__shfl_sync(kAll, weight, k, kWarp)", "__shfl_sync(kAll, weight, k ^ 1, kWarp)", race=False,
    ),
    "beams: the last lanes work too": Mutation(BEAMS, "beams_backward", "    30;  //", "    32;  //", race=False),
    "mma: a's registers 1 and 2 exchanged": Mutation(
        MMA_BLOCK, "mma_block", "mma_m16n8k16(sums[n], a, b[0], b[1]);",
        "const uint32_t c[4] = {a[0], a[2], a[1], a[3]}; mma_m16n8k16(sums[n], c, b[0], b[1]);", race=False,
    ),
    "mma: b's registers 1 and 2 exchanged": Mutation(
        MMA_BLOCK, "mma_block", "mma_m16n8k16(sums[n], a, b[0], b[1]);", "mma_m16n8k16(sums[n], a, b[0], b[2]);",
        race=False,
    ),
    "mma: shared memory too small": Mutation(
        MMA_BLOCK, "mma_block", "layout_bytes<Layout>()}", "layout_bytes<Layout>() - 256}", "do not lie in the", race=False,
    ),
    "mma: the last row runs over its array's end": Mutation(
        MMA_BLOCK, "mma_block", "hidden + (warp * 16 + g + 8 * h)", "hidden + (warp * 16 + g + 8 * h + 1)",
        "stray write between arrays", race=False,
    ),
    "ring: a's registers 1 and 2 exchanged": Mutation(
        WGMMA_RING, "wgmma_ring", "a[k][1], a[k][2]", "a[k][2], a[k][1]", race=False,
    ),
    "ring: a descriptor's step of 64 bytes": Mutation(
        WGMMA_RING, "wgmma_ring", "kStageBytes + 32 * k", "kStageBytes + 64 * k", race=False,
    ),
    # masks
    "rays: the last block's mask dropped": Mutation(
        RAYS, "rays", "p < total; p += step", "p < total + 127; p += step", OUTSIDE,
    ),
    "segments: loads without a mask": Mutation(
        SEGMENTS, "segments", "const bool mine = valid && begin", "const bool mine = begin", OUTSIDE,
    ),
    "segments: stores without a mask": Mutation(
        SEGMENTS, "segments", "if (valid && lane == 0) {", "if (lane == 0) {", OUTSIDE,
    ),
    "segments: the way back without a mask": Mutation(
        SEGMENTS, "segments_backward", "const bool mine = valid && k >= 0", "const bool mine = valid", OUTSIDE + "|race in v_",
    ),
    "segments: rows: channels without a mask": Mutation(
        SEGMENTS, "segments_rows", "if (c + v * kWarp < args.channels) sums[v]", "sums[v]", OUTSIDE,
    ),
    "segments: rows: gradients of channels without a mask": Mutation(
        SEGMENTS, "segments_rows_backward", "if (c + i * kWarp < args.channels) args.v_features", "args.v_features",
        OUTSIDE + "|race in v_",
    ),
    "mma: tail rows stored": Mutation(
        MMA_BLOCK, "mma_block", "      if (first + row < args.rows)\n", "", OUTSIDE,
    ),
    "mma: tail rows loaded": Mutation(
        MMA_BLOCK, "mma_block", "const bool valid = first + row < args.rows;", "const bool valid = true;", OUTSIDE,
    ),
    "mma: tail rows stored, without the checker": Mutation(
        MMA_BLOCK, "mma_block", "      if (first + row < args.rows)\n", "", OUTSIDE, race=False,
    ),
    "ring: tail rows stored": Mutation(WGMMA_RING, "wgmma_ring", "if (row < args.rows) args.y", "args.y", OUTSIDE),
    # the ring
    "ring: a stage released before it was read": Mutation(
        WGMMA_RING, "wgmma_ring", _WAIT + _RELEASE, _RELEASE + _WAIT, RACE + "stages",
    ),
    "ring: a stage released before it was read, by the results": Mutation(
        WGMMA_RING, "wgmma_ring", _WAIT + _RELEASE, _RELEASE + _WAIT, race=False,
    ),
    "ring: the producer does not wait": Mutation(
        WGMMA_RING, "wgmma_ring", "mbarrier_wait(empty + 8 * s, (step / kStages & 1) ^ 1);", "",
        RACE + "stages|more arrivals|announced",
    ),
    "ring: the consumers do not wait": Mutation(
        WGMMA_RING, "wgmma_ring", "mbarrier_wait(full + 8 * s, step / kStages & 1);", "", RACE + "stages|nobody",
    ),
    "ring: a wrong parity": Mutation(
        WGMMA_RING, "wgmma_ring", "mbarrier_wait(full + 8 * s, step / kStages & 1);",
        "mbarrier_wait(full + 8 * s, step & 1);", "deadlock|" + RACE, race=True,
    ),
    "ring: the peer's bytes not announced": Mutation(
        WGMMA_RING, "wgmma_ring", "mbarrier_arrive_expect_tx(full + 8 * s, kStageBytes);",
        "mbarrier_arrive_expect_tx(full + 8 * s, kStageBytes / kCluster);", "", race=False,
    ),
    "ring: only the own block is signalled": Mutation(
        WGMMA_RING, "wgmma_ring", "map_shared(empty + 8 * s, lane)", "map_shared(empty + 8 * s, rank)",
        RACE + "stages|more arrivals", race=True,
    ),
    "ring: no barrier of the cluster at the beginning": Mutation(
        WGMMA_RING, "wgmma_ring", "  cluster_arrive();\n  cluster_wait();\n\n  int", "  int", "mbarrier", race=False,
    ),
    "ring: a block ends before its peer": Mutation(
        WGMMA_RING, "wgmma_ring", "  cluster_arrive();\n  cluster_wait();\n#endif", "#endif", "has ended", race=False,
    ),
    "ring: no fence after the barriers' initialisation": Mutation(
        WGMMA_RING, "wgmma_ring", "    fence_mbarrier_init();\n", "", "no fence_mbarrier_init", race=False,
    ),
    "ring: no wgmma_fence": Mutation(
        WGMMA_RING, "wgmma_ring", "        wgmma_fence();\n", "", "without a wgmma_fence", race=False,
    ),
    "ring: accumulators read before the wait": Mutation(
        WGMMA_RING, "wgmma_ring", "        wgmma_wait<0>();\n", "        wgmma_wait<1>();\n", "", race=False,
    ),
    "ring: no barrier before x is read": Mutation(
        WGMMA_RING, "wgmma_ring", "      cp_async_wait<0>();\n      barrier_sync(1, 32 * kWarps);\n",
        "      cp_async_wait<0>();\n", RACE + "x|read of x where nobody",
    ),
    "ring: no barrier before x is written again": Mutation(
        WGMMA_RING, "wgmma_ring", "      barrier_sync(1, 32 * kWarps);  // x", "      // x", RACE + "x",
    ),
    "ring: registers of one warp only": Mutation(
        WGMMA_RING, "wgmma_ring", "registers_raise<240>();", "if (warp) registers_raise<240>();",
        "different register counts", race=False,
    ),
    # single instructions
    "ldmatrix: rows read before they are there": Mutation(
        MICRO, "ldmatrix", "  __syncwarp();\n", "", RACE + "dynamic shared|nobody has written",
    ),
    "wgmma: stores not shown to the asynchronous proxy": Mutation(
        MICRO, "wgmma_ss_64", "  fence_proxy_async();\n  __syncthreads();\n  const uint32_t a =",
        "  __syncthreads();\n  const uint32_t a =", "without fence_proxy_async",
    ),
    "wgmma: accumulators changed under way": Mutation(
        MICRO, "wgmma_rs_64", "  wgmma_commit();\n  wgmma_wait<0>();\n  store_product<N>(d, args.out);\n#endif\n}\n\ntemplate",
        "  d[0] = 1;\n  wgmma_commit();\n  wgmma_wait<0>();\n  d[1] += d[0];\n  store_product<N>(d, args.out);\n#endif\n}\n\ntemplate",
        race=False,
    ),
    "atomics: a plain addition": Mutation(
        MICRO, "atomics", "atomicAdd(args.out + 2, threadIdx.x);", "args.out[2] += threadIdx.x;", RACE + "out",
    ),
    "bulk: too few bytes announced": Mutation(
        MICRO, "bulk", "expect_tx(barrier, 2048)", "expect_tx(barrier, 1024)", race=False,
    ),
    "named barriers: a wrong number of threads": Mutation(
        MICRO, "named_barriers", "    barrier_sync(1, 96);", "    barrier_sync(1, 64);", "threads expected", race=False,
    ),
    "named barriers: nobody waits for the sums": Mutation(
        MICRO, "named_barriers", "    barrier_sync(2, 96);\n    args", "    barrier_arrive(2, 96);\n    args",
        RACE + "dynamic|nobody has written",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def mutants(builder: Builder) -> dict[str, Library]:
    """All faulty sources, compiled two at a time."""
    built = builder.build_all([(m.mutate(), m.race) for m in MUTATIONS.values()])
    return dict(zip(MUTATIONS, built, strict=True))


def run(mutation: Mutation, library: Library, size: int, seed: int) -> None:
    if mutation.source is MICRO:
        got = run_micro(library, mutation.kernel, seed)
        np.testing.assert_array_equal(got, WANT[mutation.kernel]())
    else:
        case = CASES[mutation.kernel]
        check(library, case.kernel, case.problem(size), seed)


@pytest.mark.parametrize("name", MUTATIONS)
def test_fault_is_found(mutants, name):
    """At least one of the schedules shows the fault, and for the right reason."""
    mutation = MUTATIONS[name]
    for size in SIZES:
        for seed in SEEDS:
            try:
                run(mutation, mutants[name], size, seed)
            except (Fault, AssertionError) as found:
                assert re.search(mutation.says, str(found)), str(found)
                return
    pytest.fail("no schedule shows it")


def test_a_fault_names_its_line(mutants):
    """The message names the source lines of both accesses, the thread and the seed."""
    name = "segments: no __syncwarp before the way back"
    with pytest.raises(Fault) as found:
        for seed in SEEDS:
            run(MUTATIONS[name], mutants[name], 129, seed)
    message = str(found.value)
    assert re.search(r"at segments_cuda\.cu:\d+", message), message
    assert re.search(r"against segments_cuda\.cu:\d+", message), message
    assert re.search(r"block \(\d+,0,0\), thread \(\d+,0,0\), seed \d", message), message
