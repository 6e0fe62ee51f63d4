"""Results on disk: what was put comes back, of its key alone, whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from nldf_engine.base.errors import FileProblem
from nldf_engine.base.results import Results, key_of


def test_arrays_and_values_come_back_bit_for_bit(tmp_path: Path) -> None:
    """Every dtype, empty and NaN included; values as JSON reads them."""
    results = Results(tmp_path / "kept", "key")
    tensors = {
        "faces": np.full((3, 4, 2), np.nan, np.float32), "none": np.empty((0, 5), np.int64),
        "half": np.arange(6, dtype=np.float16).reshape(2, 3).T, "yes": np.array([True, False]),
    }  # fmt: skip
    results.put("pose", tensors, {"figures": {"error": 0.1 + 0.2}, "names": ["a"]})
    found = results.get("pose")
    assert found is not None and set(found.tensors) == set(tensors) and results.has("pose")
    for name, value in tensors.items():
        assert found.tensors[name].dtype == value.dtype
        assert np.array_equal(found.tensors[name], value, equal_nan=value.dtype.kind == "f")
    assert found.values == {"figures": {"error": 0.1 + 0.2}, "names": ["a"]}
    results.put("empty", {})
    empty = results.get("empty")
    assert empty is not None and empty.tensors == {} and empty.values == {}


def test_torch_tensors_come_back_as_torch_tensors(tmp_path: Path) -> None:
    """Entries of frames, in half precision and not contiguous; numpy reads the same file."""
    results = Results(tmp_path, "key")
    entry = {"pixels": torch.arange(5), "segments": torch.randn(4, 5, 3).half().transpose(0, 1)}
    results.put("000123", entry)
    found = results.get("000123", "torch")
    assert found is not None
    for name, value in entry.items():
        assert found.tensors[name].dtype == value.dtype and torch.equal(found.tensors[name], value)
    read = results.get("000123")
    assert read is not None and np.array_equal(read.tensors["segments"], entry["segments"].numpy())


def test_what_is_of_another_key_damaged_or_absent_is_none(tmp_path: Path) -> None:
    """Every cut of a file is none, and never an error; so is another key, and a folder in the way."""
    results = Results(tmp_path, "key")
    results.put("pose", {"poses": np.eye(4)}, {"a": 1})
    assert results.get("other") is None and not results.has("other") and results.lacks(["pose", "other"])
    other = Results(tmp_path, "another key")
    assert other.get("pose") is None and not other.has("pose") and other.stale() and not results.stale()
    path = tmp_path / "pose.safetensors"
    whole = path.read_bytes()
    for stop in range(0, len(whole), 7):
        path.write_bytes(whole[:stop])
        assert results.get("pose") is None and not results.stale()
    path.write_bytes(whole)
    assert results.has("pose") and not results.lacks(["pose"])
    path.unlink()
    path.mkdir()
    assert results.get("pose") is None and not results.has("pose")


def test_an_older_format_is_stale_and_is_none(tmp_path: Path) -> None:
    """A file of tensors that has no key belongs to no key."""
    from safetensors.numpy import save_file

    save_file({"poses": np.eye(4)}, tmp_path / "pose.safetensors")
    results = Results(tmp_path, "key")
    assert results.get("pose") is None and results.stale()


def test_a_failed_write_leaves_the_older_entry(tmp_path: Path) -> None:
    """Values that JSON can't hold are refused before anything is touched; nothing is left beside."""
    results = Results(tmp_path, "key")
    results.put("pose", {"poses": np.eye(4)}, {"a": 1})
    with pytest.raises(ValueError, match="JSON"):
        results.put("pose", {"poses": np.zeros(3)}, {"a": float("nan")})
    with pytest.raises(TypeError):
        results.put("pose", {"poses": np.zeros(3)}, {"a": tmp_path})
    found = results.get("pose")
    assert found is not None and np.array_equal(found.tensors["poses"], np.eye(4))
    assert [path.name for path in tmp_path.iterdir()] == ["pose.safetensors"]
    (tmp_path / "file").touch()
    with pytest.raises(FileProblem, match="file"):
        Results(tmp_path / "file", "key").put("pose", {})


def test_clearing_deletes_entries_alone(tmp_path: Path) -> None:
    """Of every key and damaged ones, and the empty folder; files of others and shared folders stay."""
    results = Results(tmp_path / "cache", "key")
    results.clear()
    results.put("pose", {})
    Results(tmp_path / "cache", "another key").put("other", {})
    (tmp_path / "cache" / "damaged.safetensors").write_bytes(b"x")
    (tmp_path / "cache" / "notes.txt").touch()
    results.clear()
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["notes.txt"]
    (tmp_path / "cache" / "notes.txt").unlink()
    results.put("pose", {})
    results.clear()
    assert not (tmp_path / "cache").exists()
    shared = Results(tmp_path, "key", shared=True)
    shared.put("features_mel", {})
    with pytest.raises(ValueError, match="shared"):
        shared.clear()
    assert shared.has("features_mel")


def test_without_a_folder_nothing_is_kept() -> None:
    """None takes everything and gives nothing back."""
    results = Results(None, "key")
    results.put("pose", {"poses": np.eye(4)})
    assert results.get("pose") is None and not results.stale()
    results.clear()


@pytest.mark.parametrize("name", ["", "../pose", "a/b", ".hidden", "a b"])
def test_names_stay_in_the_folder(name: str, tmp_path: Path) -> None:
    """A name is a plain file name; so is what is read as."""
    results = Results(tmp_path, "key")
    for call in (lambda: results.put(name, {}), lambda: results.get(name), lambda: results.has(name)):
        with pytest.raises(ValueError, match="name: expected"):
            call()
    with pytest.raises(ValueError, match="framework: expected"):
        results.get("pose", "jax")


def test_keys_tell_arrays_apart() -> None:
    """Content, shape, dtype and order count; equal parts give equal keys."""
    a = np.arange(6.0)
    assert key_of(a, [1, {"b": 2}]) == key_of(a.copy(), [1, {"b": 2}])
    others = [key_of(a.reshape(2, 3)), key_of(a.astype(np.float32)), key_of(a + 1), key_of("x"), key_of(None)]
    assert len({key_of(a), *others}) == 6
    assert key_of("a", "b") != key_of("b", "a") and key_of("ab") != key_of("a", "b")
    assert json.loads(json.dumps(key_of(a))) == key_of(a)
