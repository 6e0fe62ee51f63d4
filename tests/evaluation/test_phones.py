from pathlib import Path

import pytest

from nldf_engine.base.errors import FileProblem
from nldf_engine.evaluation import phones
from nldf_engine.evaluation.phones import Phone, read_phones
from nldf_engine.evaluation.real_clip import phones_between

HEADER = "start_seconds,end_seconds,phone\n"


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "phones.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_commas_and_tabs_are_read(tmp_path: Path, mark: str, end: str) -> None:
    """Both delimiters, a byte order mark, other columns in any order, empty lines, a quoted name."""
    expected = (Phone(0.0, 0.5, ""), Phone(0.5, 0.6, "M"), Phone(0.6, 0.75, "ɑː"))
    lines = ["start_seconds,end_seconds,phone", "0,0.5,", "0.5,0.6,M", "", '0.6,0.75,"ɑː"']
    assert read_phones(written(tmp_path, mark + end.join(lines))) == expected
    lines = ["phone\tword\tstart_seconds\tend_seconds", "\t\t0\t0.5", "M\tma\t0.5\t0.6", "ɑː\tma\t0.6\t0.75"]
    assert read_phones(written(tmp_path, mark + end.join(lines))) == expected


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "its first line is ''"),
        ("start;end;phone\n0;1;A\n", "expected the columns start_seconds, end_seconds, phone"),
        (HEADER, "it holds no phone"),
        (HEADER + "0,1\n", "line 2: expected 3 columns, got 2"),
        (HEADER + "0,1,A\n1,x,B\n", "line 3: expected two times in seconds, got '1' and 'x'"),
        (HEADER + "nan,1,A\n", "line 2: expected finite times, got nan and 1.0"),
        (HEADER + "0,inf,A\n", "line 2: expected finite times"),
        (HEADER + "-0.1,1,A\n", "expected a start of at least 0 seconds, got -0.1"),
        (HEADER + "1,1,A\n", "expected an end after its start of 1 s, got 1 s"),
        (HEADER + "2,1,A\n", "expected an end after its start of 2 s, got 1 s"),
        (HEADER + "0,1,A\n0.9,2,B\n", "line 3: it starts at 0.9 s, before the last phone ends at 1 s"),
        (HEADER + "1,2,A\n0,1,B\n", "it starts at 0 s, before the last phone ends at 2 s"),
        (HEADER + "0,1," + "A" * 17 + "\n", "at most 16 letters, got 17"),
        (HEADER.encode() + b"0,1,\xff\n", "it is no table that can be read"),
        (HEADER + '0,1,"' + "A" * 140_000 + '"\n', "it is no table that can be read"),
    ],
)
def test_a_table_that_can_not_be_used_says_where_and_why(
    tmp_path: Path, text: str | bytes, problem: str
) -> None:
    """The path, the line, what was expected and what came, and the format to write."""
    path = written(tmp_path, text)
    with pytest.raises(FileProblem) as caught:
        read_phones(path)
    assert problem in str(caught.value) and str(path) in str(caught.value)
    assert "header start_seconds,end_seconds,phone" in str(caught.value)


def test_missing_and_too_large_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No file, a folder, too many bytes, too many phones."""
    for path in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(FileProblem, match="there is no such file"):
            read_phones(path)
    path = written(tmp_path, HEADER + "0,1,A\n1,2,B\n2,3,C\n")
    monkeypatch.setattr(phones, "MOST_PHONES", 2)
    with pytest.raises(FileProblem, match="more than 2 phones"):
        read_phones(path)
    monkeypatch.setattr(phones, "LARGEST_FILE", 10)
    with pytest.raises(FileProblem, match=r"it has \d+ bytes, expected at most"):
        read_phones(path)


def test_rounded_times_may_overlap_by_a_millisecond(tmp_path: Path) -> None:
    """Aligners round: 1 ms is let through."""
    assert len(read_phones(written(tmp_path, HEADER + "0,1.001,A\n1.0005,2,B\n"))) == 2


def test_phones_of_another_stretch_are_refused(tmp_path: Path) -> None:
    """Times count from the video's start: a table that misses the evaluated frames says what lies where."""
    path = written(tmp_path, HEADER + "0,1,A\n1,2,B\n")
    assert phones_between(path, 1.5, 9.0) == (Phone(1.0, 2.0, "B"),)
    with pytest.raises(FileProblem, match="lie from 0 to 2 s, and the evaluated frames from 8 to 10 s"):
        phones_between(path, 8.0, 10.0)
