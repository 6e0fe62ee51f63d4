"""What to say: English text to phonemes by rule, or babble that sounds like speech."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

import numpy as np

from nldf_engine.synthetic.phonemes import DIPHTHONGS, VOWELS

# The commonest words that no rule gets right.
WORDS = {
    "a": "AH", "an": "AE N", "and": "AE N D", "are": "AA R", "as": "AE Z", "be": "B IY",
    "because": "B IH K AO Z", "been": "B IH N", "by": "B AY", "can": "K AE N", "come": "K AH M",
    "could": "K UH D", "do": "D UW", "does": "D AH Z", "done": "D AH N", "eye": "AY", "eyes": "AY Z",
    "for": "F AO R", "friend": "F R EH N D", "from": "F R AH M", "give": "G IH V", "go": "G OW",
    "good": "G UH D", "great": "G R EY T", "has": "HH AE Z", "have": "HH AE V", "he": "HH IY",
    "head": "HH EH D", "heart": "HH AA R T", "hello": "HH EH L OW", "her": "HH ER", "here": "HH IY R",
    "his": "HH IH Z", "how": "HH AW", "i": "AY", "is": "IH Z", "know": "N OW", "live": "L IH V",
    "love": "L AH V", "make": "M EY K", "many": "M EH N IY", "me": "M IY", "my": "M AY", "no": "N OW",
    "of": "AH V", "one": "W AH N", "only": "OW N L IY", "or": "AO R", "other": "AH DH ER", "our": "AW ER",
    "people": "P IY P AH L", "put": "P UH T", "said": "S EH D", "says": "S EH Z", "she": "SH IY",
    "should": "SH UH D", "so": "S OW", "some": "S AH M", "the": "DH AH", "their": "DH EH R",
    "there": "DH EH R", "they": "DH EY", "this": "DH IH S", "to": "T UW", "today": "T UH D EY",
    "two": "T UW", "very": "V EH R IY", "was": "W AH Z", "we": "W IY", "were": "W ER", "what": "W AH T",
    "where": "W EH R", "who": "HH UW", "woman": "W UH M AH N", "word": "W ER D", "words": "W ER D Z",
    "work": "W ER K", "world": "W ER L D", "would": "W UH D", "you": "Y UW", "your": "Y AO R",
}  # fmt: skip
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
# Letters, what must follow (a pattern), phonemes; the first that fits is taken. "^": a word's start.
RULES: tuple[tuple[str, str, str], ...] = (
    ("^kn", "", "N"), ("^wr", "", "R"), ("^ps", "", "S"), ("^x", "", "Z"), ("^y", "", "Y"),
    ("^u", "[bcdfgklmnpst][aeiou]", "Y UW"), ("ought", "", "AO T"), ("aught", "", "AO T"),
    ("eigh", "", "EY"), ("ough", "", "OW"), ("igh", "", "AY"), ("tion", "", "SH AH N"),
    ("sion", "", "ZH AH N"), ("cial", "", "SH AH L"), ("ture", "$", "CH ER"), ("sure", "$", "ZH ER"),
    ("tch", "", "CH"), ("dge", "", "JH"), ("sch", "", "S K"), ("air", "", "EH R"), ("ear", "", "IY R"),
    ("eer", "", "IY R"), ("oor", "", "AO R"), ("our", "", "AO R"), ("are", "$", "EH R"),
    ("ire", "$", "AY ER"), ("ore", "$", "AO R"), ("ure", "$", "Y UW R"), ("ing", "$", "IH NG"),
    ("le", "$", "AH L"), ("ed", "$", "D"), ("es", "$", "Z"), ("ck", "", "K"), ("ch", "", "CH"),
    ("sh", "", "SH"), ("ph", "", "F"), ("th", "(e|is|at|o|y)", "DH"), ("th", "", "TH"), ("wh", "", "W"),
    ("qu", "", "K W"), ("gh", "", ""), ("ng", "$", "NG"), ("nk", "", "NG K"), ("ee", "", "IY"),
    ("ea", "", "IY"), ("ie", "", "IY"), ("ei", "", "IY"), ("ey", "$", "IY"), ("oo", "k", "UH"),
    ("oo", "", "UW"), ("ou", "", "AW"), ("ow", "$", "OW"), ("ow", "", "AW"), ("oi", "", "OY"),
    ("oy", "", "OY"), ("oa", "", "OW"), ("ai", "", "EY"), ("ay", "", "EY"), ("au", "", "AO"),
    ("aw", "", "AO"), ("ew", "", "UW"), ("ue", "$", "UW"), ("ar", "", "AA R"), ("er", "", "ER"),
    ("ir", "", "ER"), ("or", "", "AO R"), ("ur", "", "ER"), ("all", "", "AO L"),
    ("a", "[bcdfgklmnpstvz]e(s|d)?$", "EY"), ("e", "[bcdfgklmnpstvz]e(s|d)?$", "IY"),
    ("i", "[bcdfgklmnpstvz]e(s|d)?$", "AY"), ("o", "[bcdfgklmnpstvz]e(s|d)?$", "OW"),
    ("u", "[bcdfgklmnpstvz]e(s|d)?$", "UW"), ("i", "(nd|ld)", "AY"), ("o", "(ld|st)", "OW"), ("e", "$", ""),
    ("o", "$", "OW"), ("y", "$", "IY"), ("i", "$", "IY"), ("a", "$", "AH"), ("u", "$", "UW"),
    ("a", "", "AE"), ("e", "", "EH"), ("i", "", "IH"), ("o", "", "AA"), ("u", "", "AH"), ("y", "", "IH"),
    ("c", "[eiy]", "S"), ("g", "[eiy]", "JH"), ("bb", "", "B"), ("cc", "", "K"), ("dd", "", "D"),
    ("ff", "", "F"), ("gg", "", "G"), ("ll", "", "L"), ("mm", "", "M"), ("nn", "", "N"), ("pp", "", "P"),
    ("rr", "", "R"), ("ss", "", "S"), ("tt", "", "T"), ("zz", "", "Z"), ("b", "", "B"), ("c", "", "K"),
    ("d", "", "D"), ("f", "", "F"), ("g", "", "G"), ("h", "", "HH"), ("j", "", "JH"), ("k", "", "K"),
    ("l", "", "L"), ("m", "", "M"), ("n", "", "N"), ("p", "", "P"), ("q", "", "K"), ("r", "", "R"),
    ("s", "", "S"), ("t", "", "T"), ("v", "", "V"), ("w", "", "W"), ("x", "", "K S"), ("z", "", "Z"),
)  # fmt: skip
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


def spoken(word: str) -> tuple[str, ...]:
    """The phonemes of one lower-case word of a to z, diphthongs in two parts.

    Example:
        >>> spoken("mabel")
        ('M', 'AE', 'B', 'EH', 'L')
    """
    if word in WORDS:
        return _expanded(WORDS[word].split())
    out: list[str] = []
    at = 0
    while at < len(word):
        for letters, after, names in RULES:
            start = letters.startswith("^")
            letters = letters.lstrip("^")
            if (start and at) or not word.startswith(letters, at):
                continue
            rest = word[at + len(letters) :]
            if after and not re.match(after, rest):
                continue
            # A final e, es or ed is silent only where another vowel is spoken.
            if (
                letters in ("e", "es", "ed")
                and after == "$"
                and not any(n in VOWELS or n in DIPHTHONGS for n in out)
            ):
                continue
            out += names.split()
            at += len(letters)
            break
        else:
            at += 1
    return _expanded(out)


def words_of_text(text: str) -> list[Word]:
    """English text as words with stresses and pauses.

    Raises:
        TypeError: `text` is no string.
        ValueError: it holds nothing that can be spoken.
    """
    if not isinstance(text, str):
        raise TypeError(f"text must be a string, got {type(text).__name__}")
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower().replace("'", "")
    plain = re.sub(r"\d", lambda m: f" {DIGITS[int(m[0])]} ", plain)
    words: list[Word] = []
    for letters, mark in re.findall(r"([a-z]+)[^a-z,;:.!?]*([,;:.!?]*)", plain):
        names = spoken(letters)
        if not names:
            continue
        vowels = [k for k, n in enumerate(names) if n in VOWELS]
        weak = letters in ("a", "an", "and", "the", "of", "to", "is", "was", "for", "as", "or", "by")
        stop = 0.45 if re.search(r"[.!?]", mark) else 0.22 if mark else 0.0
        words.append(Word(names, -1 if weak or not vowels else vowels[0], stop, "?" in mark))
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
