"""Closures: which sounds count, which frames belong to them, and what the figures say of known curves."""

from pathlib import Path

import numpy as np
import pytest

from examples.closures import CLOSED, Phone, closure_scores, extremes, read_labels
from examples.espeak import labels, load_espeak, speak
from nldf_engine.base.errors import FileProblem, MissingBackend
from nldf_engine.synthetic import synthesise_speech

# An open vowel from 0.4 s to 1.6 s, closed for a p at 0.8 to 0.88 s, half closed for a t at 1.2 to 1.28 s.
PHONES = [
    Phone(0.4, 0.8, "a"), Phone(0.8, 0.88, "p"), Phone(0.88, 1.2, "AA1"), Phone(1.2, 1.28, "t"),
    Phone(1.28, 1.6, "ɑ"), Phone(1.6, 3.0, "_:"),
]  # fmt: skip


def curve(closure: float = 0.0, late: int = 0) -> np.ndarray:
    """[75] opening: 8 in the vowels, 4 in the t, `closure` in the p, `late` frames late, 2 in silence."""
    opening = np.full(75, 2.0)
    opening[10 + late : 40 + late] = 8.0
    opening[20 + late : 23 + late] = closure
    opening[30 + late : 33 + late] = 4.0
    return opening


def test_figures_of_a_known_curve() -> None:
    """The least of p and t, the widest of the vowels, the median of far silence, and shares of the closed."""
    scores = closure_scores(curve(), PHONES)
    assert (scores.bilabial, scores.other, scores.open, scores.silence) == (0.0, 4.0, 8.0, 2.0)
    assert (scores.bilabial_closed, scores.other_closed, scores.silence_closed) == (1.0, 0.0, 0.0)
    assert scores.count == 1
    assert closure_scores(curve(8 * CLOSED + 0.01), PHONES).bilabial_closed == 0.0


@pytest.mark.parametrize(("late", "closed"), [(-3, 1.0), (1, 1.0), (3, 1.0), (5, 0.0), (-6, 0.0)])
def test_closures_must_come_when_they_are_heard(late: int, closed: float) -> None:
    """A closure of three frames may touch the sound or the frame beside it; further off it is none."""
    assert closure_scores(curve(late=late), PHONES).bilabial_closed == closed


def test_unknown_frames_and_missing_sounds() -> None:
    """Frames without a face don't count; a kind that isn't there has no figure; nothing is made up."""
    opening = curve()
    opening[19:25] = np.nan
    assert closure_scores(opening, PHONES).bilabial is None
    assert closure_scores(curve(), PHONES[:1]).bilabial_closed is None
    assert closure_scores(np.zeros(0), PHONES).count == 0
    with pytest.raises(ValueError, match="kind: expected one of bilabial"):
        extremes(opening, PHONES, "plosive")
    with pytest.raises(ValueError, match=r"opening: expected \[T\]"):
        closure_scores(np.zeros((4, 2)), PHONES)


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("bilabial", ["p", "B", "m", "pʰ", "b:"]),
        ("open", ["AA1", "a", "A:", "ɑ̃", "aI"]),
        ("other", ["t", "D", "k", "S", "ʃ", "NG", "ɡ"]),
        ("silence", ["", "_", "_:", "SIL", "sp", "pau"]),
        ("", ["u", "W", "f", "V", "iː", "r", "py"]),
    ],
)
def test_names_of_sounds(kind: str, names: list[str]) -> None:
    """The usual alphabets' names of lips that close, of open vowels, of neither, and of silence."""
    assert [Phone(0, 1, name).kind for name in names] == [kind] * len(names)


def test_label_tracks_are_read(tmp_path: Path) -> None:
    """Audacity's lines, in any order, with its lines of frequencies and empty ones left out."""
    path = tmp_path / "labels.txt"
    path.write_text("0.5\t0.6\tb\n\\\t100\t200\n\n0.1\t0.5\ta\n0.6\t0.9\n", encoding="utf-8")
    assert read_labels(path) == [Phone(0.1, 0.5, "a"), Phone(0.5, 0.6, "b"), Phone(0.6, 0.9, "")]


@pytest.mark.parametrize("text", ["", "a b c", "0.5\t0.2\tp\n", "nan\t1\tp\n", "-1\t1\tp\n", "1,5\t2\tp\n"])
def test_what_is_no_label_track_is_refused(text: str, tmp_path: Path) -> None:
    """The file and its line are named."""
    path = tmp_path / "labels.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(FileProblem, match=r"labels\.txt: (line 1 is no label|it holds no label)"):
        read_labels(path)
    with pytest.raises(FileProblem, match="it can't be read"):
        read_labels(tmp_path / "none.txt")


def test_the_synthetic_speakers_own_mouth_closes() -> None:
    """The mouth that goes with the synthetic voice closes at p, b and m, and there alone."""
    speech = synthesise_speech("Papa, mama, baby. Dada at a car. Apart.")
    phones = [Phone(start, end, name) for name, start, end in speech.phonemes]
    visemes = speech.visemes()
    scores = closure_scores(visemes[:, 0] * (1 - visemes[:, 3]), phones)
    assert scores.bilabial_closed == 1.0 and scores.count == 7
    assert scores.other_closed is not None and scores.other_closed < 0.5


def test_labels_follow_each_other(tmp_path: Path) -> None:
    """Each sound ends where the next begins; one without a length is no label."""
    path = tmp_path / "track.txt"
    path.write_text(labels([(0.0, "_"), (0.2, "p"), (0.2, "a"), (0.5, "_")], 0.9), encoding="utf-8")
    found = [(phone.start, phone.end, phone.kind) for phone in read_labels(path)]
    assert found == [(0.0, 0.2, "silence"), (0.2, 0.5, "open"), (0.5, 0.9, "silence")]


def test_espeak_says_when_it_says_what() -> None:
    """Two words with four closures, and all sounds within the speech."""
    try:
        load_espeak()
    except MissingBackend as error:
        pytest.skip(f"the synthesiser isn't tried: {error}")
    samples, rate, sounds = speak("Papa, map.", "en-us")
    assert np.abs(samples).max() > 1000
    assert sum(Phone(0, 1, name).kind == "bilabial" for _, name in sounds) == 4
    assert all(0 <= start <= len(samples) / rate for start, _ in sounds)
    with pytest.raises(ValueError, match="no voice"):
        speak("Papa.", "nobody's")
