import numpy as np
import pytest

from nldf_engine.evaluation.metrics.visemes import (
    VISEMES,
    VisemeTimes,
    closures,
    lip_closures_bilabial,
    viseme_errors,
    visemes_of,
)
from nldf_engine.evaluation.phones import Phone
from nldf_engine.synthetic.voice.phonemes import DIPHTHONGS, PHONEMES

TIMES = np.arange(50) / 25
PHONES = (
    Phone(0.0, 0.4, "SIL"), Phone(0.4, 0.48, "P"), Phone(0.48, 0.8, "AA1"), Phone(0.8, 0.9, "M"),
    Phone(0.9, 1.2, "UW"), Phone(1.2, 1.3, "??"), Phone(1.5, 1.6, "B"),
)  # fmt: skip
SOUNDS = VisemeTimes(PHONES, TIMES)


def test_the_synthetic_voices_sounds_are_all_known() -> None:
    """Every phone that the package's own voice speaks has a class; its closed consonants are bilabials."""
    names = [*PHONEMES, *DIPHTHONGS]
    kinds = dict(zip(names, visemes_of(names), strict=True))
    assert "other" not in kinds.values()
    assert {name for name, kind in kinds.items() if kind == "bilabial"} == {"P", "B", "M"}
    assert {name for name, kind in kinds.items() if kind == "silence"} == {"SIL"}


@pytest.mark.parametrize(
    ("names", "kinds"),
    [
        (["HH", "AH0", "L", "OW1", "V", "S"], "back open coronal rounded labiodental coronal"),
        (["hh", "iy", "y", "er"], "back spread spread neutral"),
        (["h", "ə", "l", "ˈoʊ", "v"], "back neutral coronal rounded labiodental"),
        (["b", "ɔ̃", "ʒ", "uː", "y", "ʁ"], "bilabial rounded postalveolar rounded rounded back"),
        (["tʃ", "dʒ", "pʰ", "aɪ", "ɹ"], "postalveolar postalveolar bilabial open postalveolar"),
        (["V", "@", "3:", "S", "I2", "tS"], "open neutral neutral postalveolar spread postalveolar"),
        (["", "_:", "sp", "spn", "xyz!", "p"], "silence silence silence other other bilabial"),
        ([], ""),
    ],
)  # fmt: skip
def test_arpabet_ipa_and_espeak_names_have_their_class(names: list[str], kinds: str) -> None:
    """Letters that mean two things are read as the rest of the table says; what nobody knows is "other"."""
    assert visemes_of(names) == kinds.split()
    assert set(kinds.split()) <= set(VISEMES)


def test_each_frame_belongs_to_the_phone_at_its_time() -> None:
    """A phone holds its start and not its end; where none is, there is no viseme."""
    kinds = SOUNDS.of_frames()
    assert kinds[9:13] == ["silence", "bilabial", "bilabial", "open"]
    assert kinds[30] == "other" and kinds[33] is None and kinds[45] is None
    assert VisemeTimes(PHONES, np.zeros(0)).of_frames() == []


def test_errors_are_means_over_the_frames_of_each_class() -> None:
    """An error of 0.1 in the open vowel alone is found there alone; frames without a face do not count."""
    real = np.full(50, 0.05)
    ours = real.copy()
    ours[12:20] += 0.1
    ours[13] = np.nan
    found = viseme_errors(ours, real, SOUNDS)
    assert list(found) == ["bilabial", "rounded", "open", "silence", "other"]
    assert found["open"] == {"frames": 7, "lip_gap_error": pytest.approx(0.1)}
    assert found["silence"] == {"frames": 10, "lip_gap_error": 0.0}
    ours[12:20] = np.nan
    assert viseme_errors(ours, real, SOUNDS)["open"] == {"frames": 0, "lip_gap_error": None}


def test_a_bilabial_closes_within_a_frame_of_its_sound() -> None:
    """P closes one frame late, M not at all, B two frames early: a third of them reach closure."""
    gap = np.full(50, 0.1)
    gap[13] = 0.0  # P ends at frame 12
    gap[35] = 0.0  # B begins at frame 37.5
    assert closures(gap, SOUNDS) == [True, False, False]
    assert lip_closures_bilabial(gap, SOUNDS) == (pytest.approx(1 / 3), "")
    gap[37] = 0.0
    found = viseme_errors(gap, np.zeros(50), SOUNDS)["bilabial"]
    assert (found["phones"], found["closed"], found["closed_real"]) == (3, pytest.approx(2 / 3), 1.0)


def test_bilabials_without_a_face_or_outside_the_clip_do_not_count() -> None:
    """A sound that the clip cuts, or in which no face was found, neither closes nor misses."""
    gap = np.full(50, 0.1)
    gap[8:15] = np.nan
    assert closures(gap, SOUNDS) == [False, False]
    assert len(VisemeTimes(PHONES, TIMES[11:30]).bilabials()) == 1
    value, reason = lip_closures_bilabial(np.full(50, np.nan), SOUNDS)
    assert value is None and "no p, b or m" in reason
    assert lip_closures_bilabial(np.zeros(0), VisemeTimes(PHONES, np.zeros(0)))[0] is None


def test_closures_need_frames_that_are_near_enough() -> None:
    """At five frames a second a closure falls between them: None, and why."""
    value, reason = lip_closures_bilabial(np.zeros(10), VisemeTimes(PHONES, TIMES[::5]))
    assert value is None and "12.5 scored frames a second" in reason


def test_other_lengths_are_refused() -> None:
    """Gaps, times and the real gaps have one length."""
    with pytest.raises(ValueError, match="expected 50 frames"):
        viseme_errors(np.zeros(50), np.zeros(49), SOUNDS)
