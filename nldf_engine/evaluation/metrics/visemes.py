"""How well does the mouth do each kind of sound? Errors of the lip gap by viseme, where phones are known.

A viseme is a class of sounds that look alike. Names of phones are ARPABET's, IPA's or espeak's mnemonics;
a table is read in whichever alphabet knows more of its names, since "V" is a consonant in one and a vowel in
another. Names that it does not know are "other".
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nldf_engine.evaluation.metrics.lip_closure import CLOSED_GAP
from nldf_engine.evaluation.metrics.statistics import mean
from nldf_engine.evaluation.phones import Phone

BILABIAL, SILENCE, OTHER = "bilabial", "silence", "other"
AROUND = 0.040
"""Seconds before and after a bilabial within which the lips may meet: one frame."""
ROUNDING = 1e-6
"""Seconds that a frame's time may be off by."""
SLOWEST = 1 / (2 * AROUND)
"""Frames a second below which a closure may fall between two of them."""


def _table(**classes: str) -> dict[str, str]:
    return {name: viseme for viseme, names in classes.items() for name in names.split()}


ARPABET = _table(
    bilabial="P B M EM PCL BCL",
    labiodental="F V",
    rounded="W WH UW UX UH OW AO OY",
    open="AA AE AH AY AW",
    spread="IY IH IX EH EY Y",
    neutral="ER AX AXR",
    postalveolar="SH ZH CH JH R",
    coronal="T D N S Z L TH DH DX NX EL EN TCL DCL",
    back="K G NG ENG HH HV Q KCL GCL",
)
IPA = _table(
    bilabial="p b m ɓ",
    labiodental="f v ɱ ʋ",
    rounded="w ʍ ɥ u ʊ o ɔ y ʏ ø œ ɵ ʉ U O Y W",
    open="a æ ɑ ɐ ʌ ɒ ɶ A V 0 {",
    spread="i ɪ e ɛ j ɨ I E",
    neutral="ə ɘ ɜ ɚ ɝ ɤ @ 3",
    postalveolar="ʃ ʒ tʃ dʒ ɹ ɻ S Z tS dZ",
    coronal="t d n s z l ɫ θ ð r ɾ T D",
    back="k g ɡ ŋ ɲ c x ɣ h ɦ ʔ ʁ q N C",
)
"""IPA, and the letters that espeak uses in its place."""
SILENCES = frozenset(("", "sil", "sp", "pau", "h#", "epi", "<eps>", "<sil>"))
NOISE = frozenset(("spn", "nsn", "unk", "<unk>"))
MARKS = "ˈˌ'’,:ːˑʰʲʷʼ~|;#2"
VISEMES = (*dict.fromkeys(ARPABET.values()), SILENCE, OTHER)


def _special(name: str) -> str | None:
    lower = name.strip().lower()
    if lower in SILENCES or lower.startswith("_"):
        return SILENCE
    return OTHER if lower in NOISE else None


def _arpabet(name: str) -> str:
    return ARPABET.get(name.strip().upper().rstrip("012"), OTHER)


def _ipa(name: str) -> str:
    letters = unicodedata.normalize("NFD", name.strip())
    letters = "".join(c for c in letters if c not in MARKS and not unicodedata.combining(c))
    if letters in IPA:
        return IPA[letters]
    # A diphthong looks like what it begins with, as do double letters.
    return IPA[letters[0]] if letters and all(letter in IPA for letter in letters) else OTHER


def visemes_of(names: Iterable[str]) -> list[str]:
    """The viseme of each phone of one table; the whole table is in one alphabet.

    Example:
        >>> visemes_of(["SIL", "V", "AA1", "M"])
        ['silence', 'labiodental', 'open', 'bilabial']
        >>> visemes_of(["", "v", "ɑː", "V", "?"])
        ['silence', 'labiodental', 'open', 'open', 'other']
    """
    names = list(names)
    special = {name: _special(name) for name in set(names)}
    spoken = Counter(name for name in names if special[name] is None)
    known = [sum(count for name, count in spoken.items() if read(name) != OTHER) for read in (_arpabet, _ipa)]
    read = _arpabet if known[0] >= known[1] else _ipa
    return [special[name] or read(name) for name in names]


@dataclass(frozen=True)
class VisemeTimes:
    """Phones beside the frames of a clip.

    Args:
        phones: in their order.
        times: [T] seconds of the frames, rising, on the phones' clock.
    """

    phones: Sequence[Phone]
    times: np.ndarray

    def of_frames(self) -> list[str | None]:
        """The viseme at each frame's time; None where no phone is."""
        kinds = visemes_of(phone.name for phone in self.phones)
        times = self.times + ROUNDING
        places = np.searchsorted([phone.start for phone in self.phones], times, "right") - 1
        return [
            kinds[place] if place >= 0 and time < self.phones[place].end else None
            for place, time in zip(places, times, strict=True)
        ]

    def bilabials(self) -> list[slice]:
        """The frames of each p, b and m that lies in the clip, `AROUND` it included."""
        found: list[slice] = []
        if not len(self.times):
            return found
        kinds = visemes_of(phone.name for phone in self.phones)
        for phone, kind in zip(self.phones, kinds, strict=True):
            low, high = phone.start - AROUND - ROUNDING, phone.end + AROUND + ROUNDING
            if kind == BILABIAL and self.times[0] <= phone.start and phone.end <= self.times[-1]:
                found.append(
                    slice(int(np.searchsorted(self.times, low)), int(np.searchsorted(self.times, high)))
                )
        return found


def closures(gap: np.ndarray, times: VisemeTimes) -> list[bool]:
    """For each bilabial that a face was found in, whether the lips meet: the least gap is below `CLOSED_GAP`.

    Args:
        gap: [T] lip gaps; NaN where no face was found.
        times: of the same frames.
    """
    found = [gap[frames] for frames in times.bilabials()]
    return [bool(np.nanmin(near) < CLOSED_GAP) for near in found if np.isfinite(near).any()]


def lip_closures_bilabial(gap: np.ndarray, times: VisemeTimes) -> tuple[float | None, str]:
    """The share of p, b and m at which the lips meet within the sound or `AROUND` it.

    Args:
        gap: [T] lip gaps; NaN where no face was found.
        times: of the same frames.

    Returns:
        (the share, ""), or (None, the reason).
    """
    if len(times.times) > 1 and float(np.diff(times.times).max()) > 1 / SLOWEST + ROUNDING:
        return None, f"closures need at least {SLOWEST:g} scored frames a second"
    found = closures(gap, times)
    if not found:
        return None, "no p, b or m lies in the frames with a face found"
    return sum(found) / len(found), ""


def viseme_errors(
    rendered: np.ndarray, real: np.ndarray, times: VisemeTimes
) -> dict[str, dict[str, int | float | None]]:
    """The lip gap's error by viseme.

    Args:
        rendered: [T] lip gaps; NaN where no face was found.
        real: [T], likewise.
        times: of the same frames.

    Returns:
        By viseme, in the order of `VISEMES`, those that occur: `frames` with both faces, `lip_gap_error`
        (mean absolute error over them, in outer eye distances; None where there is none), and for bilabials
        `phones`, and the shares `closed` and `closed_real` that reach closure.

    Raises:
        ValueError: lengths that differ.
    """
    if not len(rendered) == len(real) == len(times.times):
        raise ValueError(
            f"rendered: expected {len(times.times)} frames, as many as there are times, of both clips, "
            f"got {len(rendered)} and {len(real)}"
        )
    kinds, error = np.array(times.of_frames(), object), np.abs(rendered - real)
    found: dict[str, dict[str, Any]] = {}
    for kind in VISEMES:
        here = error[kinds == kind]
        if len(here):
            found[kind] = {"frames": int(np.isfinite(here).sum()), "lip_gap_error": mean(here)}
    if BILABIAL in found:
        found[BILABIAL] |= {
            "phones": len(times.bilabials()),
            "closed": lip_closures_bilabial(rendered, times)[0],
            "closed_real": lip_closures_bilabial(real, times)[0],
        }
    return found
