"""What tests compile is kept by everything that went into it, and nobody else's files are trusted."""

from __future__ import annotations

import pytest

import build_cache


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A cache of the test's own."""
    monkeypatch.setenv("NLDF_BUILD_CACHE", str(tmp_path / "cache"))
    build_cache.folder.cache_clear()
    yield tmp_path / "cache"
    build_cache.folder.cache_clear()


def test_a_changed_header_changes_the_key(tmp_path):
    """A header that is included by a header counts; one that isn't included doesn't."""
    (tmp_path / "core").mkdir()
    (tmp_path / "core" / "a.h").write_text('#include "b.h"\n')
    (tmp_path / "core" / "b.h").write_text("int b;\n")
    (tmp_path / "other.h").write_text("int other;\n")
    source = '#include <vector>\n#include "core/a.h"\n'
    before = build_cache.closure(source, [tmp_path])
    (tmp_path / "other.h").write_text("int changed;\n")
    assert build_cache.closure(source, [tmp_path]) == before
    (tmp_path / "core" / "b.h").write_text("long b;\n")
    assert build_cache.closure(source, [tmp_path]) != before


def test_keys_keep_parts_apart():
    """The same bytes cut at another place are another key."""
    assert build_cache.key("ab", "c") != build_cache.key("a", "bc")
    assert build_cache.key("ab", "c") == build_cache.key("ab", b"c")


def test_an_entry_is_made_once(folder):
    """A second use finds what the first one wrote."""
    for made in (False, True):
        with build_cache.entry("thing.o") as target:
            assert target.exists() == made
            target.write_text("built")


def test_a_folder_that_others_may_write_to_is_refused(folder):
    """Libraries are loaded from the cache: a folder open to others is an error that names the remedy."""
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(PermissionError, match=r"only its owner.*NLDF_BUILD_CACHE"):
        build_cache.folder()
