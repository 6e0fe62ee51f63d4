"""Do the lips meet where speech has them meet? Openings of a mouth beside the sounds that are heard.

For p, b and m lips close; for t, d, k, s and their like they need not; open vowels part them. What is driven
by foreign speech has no real frames to compare with, but its sounds and their times are known where a
synthesiser or an aligner made them. Times come as Audacity's label tracks: lines of start, end (seconds) and
name, with tabs between.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nldf_engine.base.errors import FileProblem

FPS = 25
# A frame shows the mouth at its moment, and lips are closed for two frames or three: a sound is looked at
# from a frame before it to a frame after it.
REACH = 1 / FPS
# Lips that stand apart by less than this share of the open vowels' opening pass for closed.
CLOSED = 0.125
# Silence counts where it lies further than this from any sound: lips close after it and part before.
AWAY = 0.2
KINDS = ("bilabial", "other", "open", "silence")
_MEND = "export a label track: lines of start, end and name, with tabs between"


@dataclass(frozen=True)
class Phone:
    """One sound.

    Args:
        start, end: seconds.
        name: as ARPABET, X-SAMPA, espeak or IPA write it; silence is empty or begins with "_", "sil" or "sp".
    """

    start: float
    end: float
    name: str

    @property
    def kind(self) -> str:
        """One of KINDS, or empty for sounds that say nothing here (closed vowels, glides, f and v).

        Example:
            >>> [Phone(0, 1, name).kind for name in ("B", "m", "AA1", "t", "_:", "u")]
            ['bilabial', 'bilabial', 'open', 'other', 'silence', '']
        """
        name = self.name.strip()
        if not name or name.startswith("_") or name.lower().startswith(("sil", "sp", "pau")):
            return "silence"
        if name.lower().rstrip("ʰː':;") in ("p", "b", "m"):
            return "bilabial"
        if name.startswith(("a", "A", "ɑ", "æ", "ɐ")):
            return "open"
        return "other" if name.lower().startswith(tuple("tdkgnszlʃʒŋɡ")) else ""


def read_labels(path: str | Path) -> list[Phone]:
    """The sounds of a label track, in their order.

    Raises:
        FileProblem: it is missing, no text, holds no sound, or a line is no label.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise FileProblem(path, f"it can't be read ({error})", _MEND) from error
    phones = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("\\"):  # Audacity's second line of a label holds frequencies
            continue
        start, end, name = [*line.split("\t", 2), "", ""][:3]
        try:
            phone = Phone(float(start), float(end), name.strip())
        except ValueError:
            phone = Phone(math.nan, math.nan, "")
        if not 0 <= phone.start <= phone.end < math.inf:
            raise FileProblem(path, f"line {number} is no label: {line[:60]!r}", _MEND)
        phones.append(phone)
    if not phones:
        raise FileProblem(path, "it holds no label", _MEND)
    return sorted(phones, key=lambda phone: phone.start)


@dataclass(frozen=True)
class ClosureScores:
    """Openings of a clip, in the unit of the measured curve; None where no sound is of the kind.

    Args:
        bilabial, other: medians of the least opening about each p, b or m, and about each of t, d, k, s, ...
        open: median of the widest opening of each open vowel.
        silence: median over the frames of silence, `AWAY` from any sound.
        bilabial_closed, other_closed, silence_closed: shares that lie under `CLOSED` times `open`.
        count: how many p, b and m there are.
    """

    bilabial: float | None
    other: float | None
    open: float | None
    silence: float | None
    bilabial_closed: float | None
    other_closed: float | None
    silence_closed: float | None
    count: int


def extremes(opening: np.ndarray, phones: Sequence[Phone], kind: str) -> np.ndarray:
    """What the mouth reaches in each sound of a kind: the widest of open vowels, the least of all others.

    Args:
        opening: [T] at 25 frames a second; NaN where unknown.
        phones: the sounds.
        kind: of KINDS; "silence" gives every frame of it instead.

    Returns:
        [n] float64, without those that are not known.

    Raises:
        ValueError: an unknown kind, or an opening of another shape.
    """
    if kind not in KINDS:
        raise ValueError(f"kind: expected one of {', '.join(KINDS)}, got {kind!r}")
    if opening.ndim != 1:
        raise ValueError(f"opening: expected [T], got shape {list(opening.shape)}")
    times = np.arange(len(opening)) / FPS
    opening = opening.astype(np.float64)
    if kind == "silence":
        near = np.zeros(len(opening), bool)
        for phone in phones:
            if phone.kind != "silence":
                near |= (times > phone.start - AWAY) & (times < phone.end + AWAY)
        return opening[~near & np.isfinite(opening)]
    reach, choose = (0.0, np.max) if kind == "open" else (REACH, np.min)
    found = []
    for phone in phones:
        if phone.kind == kind:
            inside = (times >= phone.start - reach - 1e-6) & (times <= phone.end + reach + 1e-6)
            seen = opening[inside & np.isfinite(opening)]
            found += [float(choose(seen))] if len(seen) else []
    return np.array(found)


def closure_scores(opening: np.ndarray, phones: Sequence[Phone]) -> ClosureScores:
    """How far the mouth closes where it should, beside how far it opens.

    Args:
        opening: [T] of the mouth at 25 frames a second, in any unit; NaN where unknown. Of codes it is
            `MotionBasis.opening`, of pictures `evaluation.metrics.lips.lip_gap`.
        phones: what is said.

    Raises:
        ValueError: an opening of another shape.
    """
    reached = {kind: extremes(opening, phones, kind) for kind in KINDS}
    middle = {kind: float(np.median(values)) if len(values) else None for kind, values in reached.items()}
    wide = middle["open"]

    def closed(kind: str) -> float | None:
        values = reached[kind]
        return float((values <= CLOSED * wide).mean()) if len(values) and wide is not None else None

    return ClosureScores(
        middle["bilabial"], middle["other"], wide, middle["silence"],
        closed("bilabial"), closed("other"), closed("silence"), len(reached["bilabial"]),
    )  # fmt: skip
