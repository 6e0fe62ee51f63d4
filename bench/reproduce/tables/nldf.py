"""The tables of nldf, and what it states without numbers."""

from __future__ import annotations

from collections.abc import Callable

from bench.reproduce.scales import PAPER, Difference, Scale, compared
from bench.reproduce.table import LIPS, QUALITY, Row, Table, paper_size, quality
from bench.reproduce.tables.dfrf import from_scratch


def differences(scale: Scale) -> list[Difference]:
    """Of student and teacher; and in what scales name."""
    parts = {"student": (scale.learn(), PAPER.learn()), "teacher": (scale.teach(), PAPER.teach())}
    return [*compared(parts), *scale.differences()]


def distillation(scale: Scale) -> Table:
    """Table 1 of nldf: a student with a teacher, and one that only sees the pictures."""
    return Table(
        "table1", "Knowledge distillation", "nldf, table 1",
        "a teacher's segment colours help a little (+0.21 dB PSNR, +0.0014 SSIM; LPIPS gets 0.0015 worse) "
        "and fix frames whose mouths blur.",
        (
            Row("without", scale.learn(taught=False), paper=quality(32.38, 0.9539, 0.0837)),
            Row("with", scale.learn(), paper=quality(32.59, 0.9553, 0.0852)),
        ),
        "without",
    )  # fmt: skip


def active_pool(scale: Scale) -> Table:
    """Table 2 of nldf: with and without the active pool, at three points of training."""
    paper = {
        True: ((30.27, 0.9671, 0.1315), (30.37, 0.9647, 0.1175), (30.02, 0.9621, 0.1065)),
        False: ((30.13, 0.9679, 0.1390), (30.28, 0.9654, 0.1241), (30.22, 0.9640, 0.1145)),
    }
    rows = []
    for on, name in ((True, "with"), (False, "without")):
        for step, theirs, numbers in zip(scale.marks, (25, 50, 100), paper[on], strict=True):
            cell = scale.learn() if on else scale.learn(recipe={"pool.on": False})
            at = None if step == scale.student.steps else step
            label = f"{name}, {step} steps{paper_size(step, 1000 * theirs, 'steps')}"
            rows.append(Row(label, cell, at, quality(*numbers)))
    return Table(
        "table2", "Active pool of hard rays", "nldf, table 2",
        "PSNR and SSIM hardly differ; LPIPS is better with the pool at every point: it converges faster.",
        tuple(rows), rows[-1].label,
    )  # fmt: skip


def depth(scale: Scale) -> Table:
    """Table 3 of nldf: the depth of the network."""
    paper = ((30.23, 0.9618, 0.1076), (30.06, 0.9592, 0.0996), (29.95, 0.9557, 0.0926))
    rows = []
    for layers, theirs, numbers in zip(scale.depths, (28, 50, 88), paper, strict=True):
        label = f"{layers} layers{paper_size(layers, theirs, 'layers')}"
        rows.append(Row(label, scale.learn(depth=layers), paper=quality(*numbers)))
    return Table(
        "table3", "Depth of the network", "nldf, table 3",
        "PSNR and SSIM fall slightly with depth, LPIPS gets clearly better, and only deep networks blink.",
        tuple(rows), rows[-1].label,
    )  # fmt: skip


def against_adnerf(scale: Scale) -> Table:
    """Table 4 of nldf: against the radiance fields, in quality and in speed (test set A)."""
    return Table(
        "table4", "NLDF against radiance fields",
        "nldf, table 4, test set A; seconds (768 pixels, a V100) from section 4.2",
        "the student comes closer to the real frames than its teacher and is about 30 times as fast.",
        (
            Row("AD-NeRF", scale.teach(), paper={**quality(27.91, 0.960, 0.1255), "flops_speedup": 1.0,
                                                  "seconds_per_frame": 28.0}),
            Row("DFRF", from_scratch(scale), paper={**quality(31.94, 0.954, 0.0897), "flops_speedup": 0.4,
                                                    "seconds_per_frame": 70.0}),
            Row("NLDF", scale.learn(), paper={**quality(32.59, 0.955, 0.0852), "flops_speedup": 30.0,
                                              "seconds_per_frame": 1.0}),
        ),
        "AD-NeRF", (*QUALITY, *LIPS, "flops_speedup", "seconds_per_frame"), race=True,
    )  # fmt: skip


def segments(scale: Scale) -> Table:
    """Segments a beam, M."""
    rows = tuple(Row(f"M = {count}", scale.learn(segments=count)) for count in (1, 2, 4, 8))
    return Table(
        "segments", "Segments a beam, M", "nldf, section 3.4: M = 4, without numbers",
        "several segments let the student learn high-frequency changes of mouth and eyes (3.3).",
        rows, "M = 4",
    )  # fmt: skip


def points(scale: Scale) -> Table:
    """Points that describe a beam, K."""
    rows = tuple(Row(f"K = {count}", scale.learn(points=count)) for count in (4, 8, 16, 32))
    return Table(
        "points", "Points that describe a beam, K", "nldf, section 3.2: K = 16, without numbers",
        "more points describe a beam more precisely.", rows, "K = 16",
    )  # fmt: skip


def weight(scale: Scale) -> Table:
    """Weight of the teacher's segments, lambda."""
    rows = tuple(
        Row(f"lambda = {w:g}", scale.learn(recipe={"distillation.segment_weight": w}))
        for w in (0.0, 0.05, 0.2, 1.0)
    )
    return Table(
        "lambda", "Weight of the teacher's segments, lambda of eq. (9)",
        "nldf, section 3.4: 0.2, without numbers",
        "none. With lambda = 0 half of a step's frames are still among those that the teacher rendered.",
        rows, "lambda = 0.2",
    )  # fmt: skip


TABLES: dict[str, Callable[[Scale], Table]] = {
    "table1": distillation,
    "table2": active_pool,
    "table3": depth,
    "table4": against_adnerf,
    "segments": segments,
    "points": points,
    "lambda": weight,
}
