"""The sounds of the synthetic voice: how long each lasts, how it sounds, and what the mouth does for it."""

from __future__ import annotations

from dataclasses import dataclass

SILENCE = "SIL"


@dataclass(frozen=True)
class Phoneme:
    """One speech sound, ARPABET name.

    Args:
        kind: "vowel", "glide", "nasal", "stop", "fricative" or "silence".
        seconds: usual length.
        formants: the first three resonances, Hz.
        voice: level of the voice, 0..1.
        noise: (centre Hz, width Hz, level) of its noise; level 0 for none.
        mouth: targets (jaw_open, lip_width, lip_round), 0..1.
        grip: how strongly it holds the mouth against its neighbours.
        close: lip closure, 1 for lips pressed together.
    """

    kind: str
    seconds: float
    formants: tuple[float, float, float]
    voice: float
    noise: tuple[float, float, float]
    mouth: tuple[float, float, float]
    grip: float = 1.0
    close: float = 0.0


def _vowel(
    seconds: float, formants: tuple[float, float, float], mouth: tuple[float, float, float]
) -> Phoneme:
    return Phoneme("vowel", seconds, formants, 1.0, (0, 1, 0), mouth, 1.6)


def _glide(
    formants: tuple[float, float, float], mouth: tuple[float, float, float], grip: float = 1.0
) -> Phoneme:
    return Phoneme("glide", 0.075, formants, 0.72, (0, 1, 0), mouth, grip)


def _nasal(f2: float, mouth: tuple[float, float, float], grip: float, close: float = 0.0) -> Phoneme:
    return Phoneme("nasal", 0.085, (270, f2, 2400), 0.50, (0, 1, 0), mouth, grip, close)


def _stop(
    f2: float,
    voice: float,
    noise: tuple[float, float, float],
    mouth: tuple[float, float, float],
    grip: float,
    close: float = 0.0,
) -> Phoneme:
    return Phoneme("stop", 0.095, (300, f2, 2500), voice, noise, mouth, grip, close)


def _fricative(
    f2: float,
    voice: float,
    noise: tuple[float, float, float],
    mouth: tuple[float, float, float],
    grip: float,
    close: float = 0.0,
) -> Phoneme:
    return Phoneme("fricative", 0.10, (330, f2, 2550), voice, noise, mouth, grip, close)


PHONEMES: dict[str, Phoneme] = {
    SILENCE: Phoneme("silence", 0.30, (500, 1500, 2500), 0.0, (0, 1, 0), (0, 0, 0), 1.3, 1.0),
    "IY": _vowel(0.120, (290, 2280, 2950), (0.16, 0.90, 0.0)),
    "IH": _vowel(0.090, (400, 1980, 2600), (0.28, 0.55, 0.0)),
    "EH": _vowel(0.105, (550, 1810, 2520), (0.46, 0.50, 0.0)),
    "AE": _vowel(0.135, (690, 1700, 2450), (0.66, 0.55, 0.0)),
    "AA": _vowel(0.135, (750, 1160, 2450), (0.90, 0.10, 0.0)),
    "AO": _vowel(0.135, (590, 890, 2450), (0.62, 0.0, 0.55)),
    "AH": _vowel(0.085, (620, 1220, 2500), (0.50, 0.15, 0.0)),
    "ER": _vowel(0.115, (490, 1350, 1720), (0.30, 0.0, 0.40)),
    "UH": _vowel(0.090, (440, 1060, 2300), (0.28, 0.0, 0.60)),
    "UW": _vowel(0.120, (310, 900, 2250), (0.20, 0.0, 1.0)),
    "L": _glide((360, 1150, 2700), (0.26, 0.25, 0.0)),
    "R": _glide((330, 1150, 1550), (0.18, 0.0, 0.55)),
    "W": _glide((300, 640, 2200), (0.12, 0.0, 1.0), 1.5),
    "Y": _glide((270, 2200, 2950), (0.14, 0.70, 0.0)),
    "M": _nasal(1000, (0.10, 0.10, 0.0), 1.0, 1.0),
    "N": _nasal(1550, (0.18, 0.30, 0.0), 0.7),
    "NG": _nasal(2050, (0.24, 0.25, 0.0), 0.6),
    "P": _stop(900, 0.0, (900, 900, 0.55), (0.10, 0.05, 0.0), 1.0, 1.0),
    "B": _stop(900, 0.30, (800, 800, 0.30), (0.10, 0.05, 0.0), 1.0, 1.0),
    "T": _stop(1780, 0.0, (4300, 1700, 0.60), (0.16, 0.35, 0.0), 0.7),
    "D": _stop(1780, 0.28, (3900, 1700, 0.32), (0.18, 0.35, 0.0), 0.7),
    "K": _stop(2050, 0.0, (2200, 900, 0.60), (0.24, 0.25, 0.0), 0.6),
    "G": _stop(2050, 0.28, (2000, 900, 0.32), (0.24, 0.25, 0.0), 0.6),
    "CH": _stop(1850, 0.0, (3000, 1200, 0.80), (0.14, 0.0, 0.60), 1.2),
    "JH": _stop(1850, 0.28, (2800, 1200, 0.50), (0.14, 0.0, 0.60), 1.2),
    "F": _fricative(1100, 0.0, (5200, 3200, 0.30), (0.10, 0.20, 0.0), 1.2, 0.72),
    "V": _fricative(1100, 0.40, (5000, 3000, 0.17), (0.10, 0.20, 0.0), 1.2, 0.70),
    "TH": _fricative(1400, 0.0, (5600, 2600, 0.26), (0.22, 0.30, 0.0), 0.9),
    "DH": _fricative(1400, 0.42, (5200, 2600, 0.12), (0.22, 0.30, 0.0), 0.8),
    "S": _fricative(1750, 0.0, (6100, 1300, 0.62), (0.06, 0.55, 0.0), 1.1),
    "Z": _fricative(1750, 0.38, (6000, 1300, 0.38), (0.07, 0.55, 0.0), 1.1),
    "SH": _fricative(1850, 0.0, (3000, 1000, 0.70), (0.10, 0.0, 0.75), 1.3),
    "ZH": _fricative(1850, 0.38, (2900, 1000, 0.42), (0.10, 0.0, 0.75), 1.3),
    "HH": Phoneme("fricative", 0.060, (500, 1500, 2500), 0.0, (1500, 2200, 0.20), (0.30, 0.20, 0.0), 0.15),
}
DIPHTHONGS: dict[str, tuple[str, str]] = {
    "AY": ("AA", "IH"), "EY": ("EH", "IY"), "OW": ("AO", "UW"), "AW": ("AA", "UH"), "OY": ("AO", "IH"),
}  # fmt: skip
VOWELS = frozenset(name for name, p in PHONEMES.items() if p.kind == "vowel")
