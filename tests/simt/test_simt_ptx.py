"""Every function of csrc/cuda/ptx.cuh, emulated, against the PTX manual, written down a second time here.

Kernels and emulation share one reading of PTX. Files written by golden.cu on a GPU would end that: where
tests/simt/golden exists, its files are compared too. It does not exist yet.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from simt.runner import Builder, Library, Source

MICRO = Source("tests/simt/micro.cu")
GOLDEN = Path(__file__).parent / "golden"
WORDS = 4096

pytestmark = pytest.mark.timeout(900)  # the first test waits for the compiler
LANES = np.arange(32)


def inputs() -> np.ndarray:
    """4096 words of two halves each: small multiples of 1/8, so that sums are exact in any order."""
    i = np.arange(WORDS)
    pairs = np.stack([(i * 7 % 17 - 8) / 8, (i * 5 % 13 - 6) / 8], 1).astype(np.float16)
    return pairs.view(np.uint32).ravel()


IN = inputs()
HALVES = IN.view(np.float16).astype(np.float64)


def as_words(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values, dtype=np.float32).view(np.uint32).ravel()


def shuffles() -> np.ndarray:
    up, down = np.where(LANES >= 3, LANES - 3, LANES), np.where(LANES % 16 < 14, LANES + 2, LANES)
    half = np.where(LANES < 16, LANES ^ 1, LANES)
    sources = (np.full(32, 5), LANES // 8 * 8 + LANES * 3 % 8, up, down, LANES ^ 9, half)
    return np.concatenate([IN[source] for source in sources])


def votes() -> np.ndarray:
    out = []
    for warp in (IN[:32], IN[32:64]):
        yes = warp % 3 == 0
        value = int(sum(1 << int(lane) for lane in LANES[yes])) + 2 * bool(yes.any()) + bool(yes.all())
        out.append(np.full(32, value % 2**32, np.uint32))
    return np.concatenate(out)


def halves() -> np.ndarray:
    pairs = IN[:32].view(np.float16).reshape(32, 2).astype(np.float32)
    shifted = pairs + np.array([0.1, -0.1], np.float32)
    packed = [x.astype(np.float16).view(np.uint32).ravel() for x in (shifted, np.maximum(pairs, 0))]
    return np.concatenate([*packed, as_words(pairs[:, 0].copy()), as_words(pairs[:, 1].copy())])


def ldmatrix() -> np.ndarray:
    words = IN[:256].reshape(64, 4)  # rows of 8 halves; lane i names row 5 i % 32, or that and 32 more
    order = (LANES * 5 % 32).reshape(4, 8)
    plain = [words[rows].ravel() for rows in order]
    flipped = [
        np.ascontiguousarray(words[rows].view(np.float16).reshape(8, 8).T).view(np.uint32).ravel()
        for rows in order
    ]
    return np.concatenate([*plain, *flipped, *(words[32 + rows].ravel() for rows in order[:2])])


def quarter(words: np.ndarray) -> np.ndarray:
    """[32] words of a register to the 8x8 it holds: lane i has row i / 4, columns 2 (i % 4) and the next."""
    return np.ascontiguousarray(words).view(np.float16).reshape(8, 8).astype(np.float64)


def matrix_a(registers: np.ndarray) -> np.ndarray:
    """[4, 32] words to [16, 16]: the registers are top left, bottom left, top right, bottom right."""
    a = [quarter(r) for r in registers]
    return np.block([[a[0], a[2]], [a[1], a[3]]])


def mma() -> np.ndarray:
    a = matrix_a(IN[:128].reshape(4, 32))
    b = np.concatenate([quarter(IN[128:160]), quarter(IN[160:192])], 1)  # [8 columns, 16]
    start = 0.125 * (np.arange(4)[:, None] + LANES)
    d = a @ b.T
    top, bottom = d[:8].reshape(32, 2), d[8:].reshape(32, 2)
    return as_words(start + np.stack([top[:, 0], top[:, 1], bottom[:, 0], bottom[:, 1]]))


def copies() -> np.ndarray:
    t = np.arange(64)
    words = (IN[:256].reshape(64, 4) * (t % 5 != 0)[:, None].astype(np.uint32)).ravel()
    last = IN[1000:1064] * (t % 7 != 0).astype(np.uint32)
    return np.concatenate([*(words[64 * i + (t ^ 33)] for i in range(4)), last[t ^ 33]])


def named_barriers() -> np.ndarray:
    return (IN[0:64:2] + IN[1:64:2])[np.arange(64) // 2]


def atomics() -> np.ndarray:
    both = np.array([192, 96], np.float16).view(np.uint32)
    return np.concatenate([as_words(np.array([48.0])), both, [3 * 2016, (IN[:64] & 0xFFFF).max()]])


def cluster() -> np.ndarray:
    return np.concatenate([IN[:1024], IN[:1024] + 1])


def rows_of(first: int, count: int) -> np.ndarray:
    """[count, 64] halves as load_swizzled takes them."""
    words = np.arange(count * 32) % WORDS + first
    return IN[words].view(np.float16).reshape(count, 64).astype(np.float64)


def product(d: np.ndarray) -> np.ndarray:
    """[64, N] in the order of the accumulators: word 128 i + thread is register i of that thread."""
    n = d.shape[1]
    # [warp, half of the rows, row, column of 8, lane of the row, pair]
    split = d.reshape(4, 2, 8, n // 8, 4, 2).transpose(3, 1, 5, 0, 2, 4)
    return as_words(split.reshape(n // 2, 128))


def wgmma_rs(n: int) -> np.ndarray:
    b = rows_of(0, n)
    a = np.concatenate([matrix_a(IN[128 * w : 128 * w + 128].reshape(32, 4).T) for w in range(4)])
    return product(a @ b[:, :16].T + a @ b[:, 48:].T)


def wgmma_ss(n: int) -> np.ndarray:
    a, b = rows_of(256, 64), rows_of(0, n)
    return product(0.5 + a[:, :16] @ b[:, :16].T + a[:, 32:48] @ b[:, 32:48].T)


WANT: dict[str, Callable[[], np.ndarray]] = {
    "shuffles": shuffles, "votes": votes, "halves": halves, "ldmatrix": ldmatrix, "mma": mma,
    "copies": copies, "named_barriers": named_barriers, "atomics": atomics,
    "bulk": lambda: IN[:1024], "cluster": cluster,
    "wgmma_rs_8": lambda: wgmma_rs(8), "wgmma_rs_64": lambda: wgmma_rs(64),
    "wgmma_rs_128": lambda: wgmma_rs(128), "wgmma_rs_256": lambda: wgmma_rs(256),
    "wgmma_ss_16": lambda: wgmma_ss(16), "wgmma_ss_64": lambda: wgmma_ss(64),
}  # fmt: skip


def run_micro(library: Library, name: str, seed: int) -> np.ndarray:
    """The output words of a micro-kernel; only the atomics' output starts at zero."""
    count = len(WANT[name]())
    out = np.zeros(count, np.uint32) if name == "atomics" else (count,)
    return library.run(name, {"in": IN}, {"out": out}, seed=seed, dtype=np.uint32)["out"]


@pytest.fixture(scope="module")
def micro(builder: Builder) -> list[Library]:
    return builder.build_all([(MICRO, False), (MICRO, True)])


@pytest.mark.parametrize("name", WANT)
def test_instruction(micro, name):
    """Exactly the words that PTX's definition gives, under every schedule, and no race on the way."""
    for library, seeds in zip(micro, (range(6), range(3)), strict=True):
        for seed in seeds:
            got = run_micro(library, name, seed)
            np.testing.assert_array_equal(got, WANT[name](), err_msg=f"seed {seed}")


def test_agrees_with_hardware(micro):
    """The emulated words are those that a GPU wrote."""
    if not GOLDEN.is_dir():
        pytest.skip("tests/simt/golden doesn't exist: golden.cu has not been run on a GPU yet")
    for name in WANT:
        want = np.fromfile(GOLDEN / f"{name}.bin", "<u4")
        np.testing.assert_array_equal(run_micro(micro[0], name, 0), want, err_msg=name)


def test_portable_switch_gives_the_same_schedule(micro):
    """The ucontext fibres run the same threads in the same order as the assembly ones."""
    portable = Builder(portable=True).build(MICRO)
    for seed in (0, 5):
        np.testing.assert_array_equal(run_micro(portable, "bulk", seed), run_micro(micro[0], "bulk", seed))
        assert portable.stats == micro[0].stats
