"""The papers' tables: what each row changes, and what the paper reports for it.

Every table is a function of a scale. The numbers are the papers' own, copied from their tables; where a paper
only states its choice (how many segments, points, which lambda) there are none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from bench.reproduce.cells import Cell
from bench.reproduce.scales import Scale

QUALITY = ("psnr", "ssim", "lpips", "psnr_head", "psnr_mouth", "ssim_mouth")
LIPS = ("lmd_centred", "lip_correlation")


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Args:
        label: what is changed.
        cell: the training that is measured, with seed 0; None where the engine has no such system.
        step: at which of its steps; None for its end.
        paper: the paper's numbers, by the names of `nldf evaluate`.
        absent: why there is no cell.
    """

    label: str
    cell: Cell | None
    step: int | None = None
    paper: Mapping[str, float] = field(default_factory=dict)
    absent: str = ""

    def __post_init__(self) -> None:
        if (self.cell is None) != bool(self.absent):
            raise ValueError(f"row {self.label!r}: expected either a cell or the reason why there is none")


@dataclass(frozen=True)
class Table:
    """An experiment.

    Args:
        name: as on the command line.
        title: one line.
        source: where in which paper.
        claim: what the paper concludes from it.
        rows: in the paper's order.
        reference: label of the row that the others are compared with.
        metrics: the columns.
        race: time the rows' avatars against each other, too.
    """

    name: str
    title: str
    source: str
    claim: str
    rows: tuple[Row, ...]
    reference: str
    metrics: tuple[str, ...] = (*QUALITY, *LIPS)
    race: bool = False

    def __post_init__(self) -> None:
        if self.reference not in [row.label for row in self.rows]:
            raise ValueError(f"table {self.name}: it has no row {self.reference!r} to compare with")


def _metrics(psnr: float, ssim: float, lpips: float) -> dict[str, float]:
    return {"psnr": psnr, "ssim": ssim, "lpips": lpips}


def _paper_size(ours: float, paper: float, unit: str) -> str:
    """What a label says of the paper's own size, where it is another."""
    return "" if ours == paper else f" (paper: {paper:,} {unit})".replace(",", " ")


def distillation(scale: Scale) -> Table:
    """Table 1 of nldf: a student with a teacher, and one that only sees the pictures."""
    return Table(
        "table1", "Knowledge distillation", "nldf, table 1",
        "a teacher's segment colours help a little (+0.21 dB PSNR, +0.0014 SSIM; LPIPS gets 0.0015 worse) "
        "and fix frames whose mouths blur.",
        (
            Row("without", scale.learn(taught=False), paper=_metrics(32.38, 0.9539, 0.0837)),
            Row("with", scale.learn(), paper=_metrics(32.59, 0.9553, 0.0852)),
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
            label = f"{name}, {step} steps{_paper_size(step, 1000 * theirs, 'steps')}"
            rows.append(Row(label, cell, at, _metrics(*numbers)))
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
        label = f"{layers} layers{_paper_size(layers, theirs, 'layers')}"
        rows.append(Row(label, scale.learn(depth=layers), paper=_metrics(*numbers)))
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
            Row("AD-NeRF", scale.teach(), paper={**_metrics(27.91, 0.960, 0.1255), "flops_speedup": 1.0,
                                                  "seconds_per_frame": 28.0}),
            Row("DFRF", None, paper={**_metrics(31.94, 0.954, 0.0897), "flops_speedup": 0.4,
                                     "seconds_per_frame": 70.0},
                absent="DFRF is none of this engine's systems"),
            Row("NLDF", scale.learn(), paper={**_metrics(32.59, 0.955, 0.0852), "flops_speedup": 30.0,
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


def length(scale: Scale) -> Table:
    """Table 2 of dfrf: how much video a system needs."""
    adnerf = ((31.21, 0.948, 0.039), (31.32, 0.947, 0.041), (30.90, 0.949, 0.040))
    dfrf = ((30.95, 0.948, 0.036), (30.75, 0.947, 0.036), (30.96, 0.949, 0.036))
    rows = [
        Row(
            f"AD-NeRF, {s:g} s{_paper_size(s, theirs, 's')}",
            replace(scale.teach(), seconds=s),
            paper=_metrics(*numbers),
        )
        for s, theirs, numbers in zip(scale.lengths, (10, 15, 20), adnerf, strict=True)
    ]
    rows += [
        Row(f"DFRF, {s} s", None, paper=_metrics(*numbers), absent="DFRF is none of this engine's systems")
        for s, numbers in zip((10, 15, 20), dfrf, strict=True)
    ]
    return Table(
        "length", "How much video is needed",
        "dfrf, table 2, without its rows of a NeRF without audio",
        "with 10 s AD-NeRF's pictures suffer little and its lips much; DFRF, which begins from many "
        "speakers, keeps both.",
        tuple(rows), rows[2].label,
    )  # fmt: skip


TABLES: dict[str, Callable[[Scale], Table]] = {
    "table1": distillation,
    "table2": active_pool,
    "table3": depth,
    "table4": against_adnerf,
    "segments": segments,
    "points": points,
    "lambda": weight,
    "length": length,
}
