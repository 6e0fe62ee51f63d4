import numpy as np
import pytest

from nldf_engine.audio import load_features
from nldf_engine.base.errors import FileProblem


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("aud.npy", (9, 16, 29)),
        ("aud_ds.npy", (1, 16, 29)),
        ("aud_eo.npy", (5, 16, 44)),
        ("aud_hu.npy", (7, 2, 1024)),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_windows_come_back_as_they_are(tmp_path, name, shape, dtype):
    """Features of every known layout are read value by value, as float32, in their own window."""
    wanted = (10 * np.random.default_rng(0).standard_normal(shape)).astype(dtype)
    np.save(tmp_path / name, wanted)
    made = load_features(tmp_path / name)
    assert made.dtype == np.float32 and made.flags.writeable and made.flags.c_contiguous
    np.testing.assert_array_equal(made, wanted.astype(np.float32))


def test_column_order_and_other_byte_order_are_read(tmp_path):
    """Arrays saved in column order or big-endian give the same numbers."""
    wanted = np.random.default_rng(1).standard_normal((4, 16, 29)).astype(np.float32)
    np.save(tmp_path / "a.npy", np.asfortranarray(wanted))
    np.save(tmp_path / "b.npy", wanted.astype(">f4"))
    np.testing.assert_array_equal(load_features(tmp_path / "a.npy"), wanted)
    assert load_features(tmp_path / "a.npy").flags.c_contiguous
    np.testing.assert_array_equal(load_features(str(tmp_path / "b.npy")), wanted)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((4, 29), np.float32), "not rows"),
        (np.zeros((4, 16), np.int64), "int64"),
        (np.zeros((2, 3, 16, 29), np.float32), r"\(2, 3, 16, 29\)"),
        (np.zeros(16, np.float32), r"\(16,\)"),
        (np.zeros((0, 16, 29), np.float32), r"\(0, 16, 29\)"),
        (np.zeros((4, 0, 29), np.float32), r"\(4, 0, 29\)"),
        (np.zeros((1, 1000, 2), np.float32), r"\(1, 1000, 2\)"),
        (np.zeros((4, 16, 29), np.int16), "int16"),
        (np.zeros((4, 16, 29), np.complex64), "complex64"),
        (np.full((4, 16, 29), 1e300), "not finite"),
    ],
)
def test_wrong_arrays_say_what_came(tmp_path, array, words):
    """Another shape, type or range is named with what came and what was expected."""
    np.save(tmp_path / "aud.npy", array)
    with pytest.raises(FileProblem, match=words) as caught:
        load_features(tmp_path / "aud.npy")
    assert "aud.npy" in str(caught.value)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_frame_that_is_not_finite_is_named(tmp_path, value):
    """One NaN or infinite number is refused, with its frame."""
    array = np.zeros((6, 16, 29), np.float32)
    array[4, 3, 2] = value
    np.save(tmp_path / "aud.npy", array)
    with pytest.raises(FileProblem, match=r"1 of its 2784 numbers .* frame 4"):
        load_features(tmp_path / "aud.npy")


class Trap:
    """Says so if it is ever unpickled."""

    def __reduce__(self):
        return pytest.fail, ("it was unpickled",)


def test_objects_are_not_unpickled(tmp_path):
    """An array of objects is refused before any of them comes to life."""
    np.save(tmp_path / "aud.npy", np.array([Trap()], object), allow_pickle=True)
    with pytest.raises(FileProblem, match=r"no readable \.npy"):
        load_features(tmp_path / "aud.npy")


def test_a_damaged_file_says_so(tmp_path):
    """Missing, empty, truncated, foreign and lying files are each a FileProblem, and none takes memory."""
    path = tmp_path / "aud.npy"
    with pytest.raises(FileProblem, match="no such file"):
        load_features(path)
    with pytest.raises(FileProblem, match="no such file"):
        load_features(tmp_path)
    np.save(path, np.zeros((40, 16, 29), np.float32))
    whole = path.read_bytes()
    for content in (
        b"",
        whole[:5],
        whole[:100],
        whole[:1000],
        whole[:-1],
        b"not numpy at all" * 20,
        whole[1:],
    ):
        path.write_bytes(content)
        with pytest.raises(FileProblem, match=r"empty|no readable \.npy"):
            load_features(path)
    path.write_bytes(whole.replace(b"(40, 16, 29), ", b"(9999999, 16, 29), ")[: len(whole)])
    with pytest.raises(FileProblem, match=r"no readable \.npy"):
        load_features(path)
    np.savez(path.with_suffix(".npz"), a=np.zeros((4, 16, 29)))
    with pytest.raises(FileProblem, match=r"\.npz"):
        load_features(path.with_suffix(".npz"))
