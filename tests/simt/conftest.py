"""What the simt tests share: one builder a session, with a cache that outlives it."""

from __future__ import annotations

from pathlib import Path

import pytest

from simt.runner import CXX, Builder


@pytest.fixture(scope="session")
def builder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Builder:
    """Compiles .cu sources; what it has compiled is kept in pytest's cache, by its contents' hash."""
    if not CXX:
        pytest.skip("no g++ on this machine: the CUDA sources can't be run on the CPU")
    cache = getattr(request.config, "cache", None)
    folder = Path(cache.mkdir("simt")) if cache else tmp_path_factory.mktemp("simt")
    return Builder(folder)
