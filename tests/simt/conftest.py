"""What the simt tests share: one builder a session."""

from __future__ import annotations

import pytest

from simt.runner import CXX, Builder


@pytest.fixture(scope="session")
def builder() -> Builder:
    """Compiles .cu sources; what it has compiled is kept, by its contents' hash."""
    if not CXX:
        pytest.skip("no g++ on this machine: the CUDA sources can't be run on the CPU")
    return Builder()


@pytest.fixture(scope="module")
def selected(request: pytest.FixtureRequest) -> list[str]:
    """The values of `name` in those of the module's tests that this run selected: no others are built."""
    specs = [getattr(item, "callspec", None) for item in request.session.items if item.path == request.path]
    return list(dict.fromkeys(spec.params["name"] for spec in specs if spec and "name" in spec.params))
