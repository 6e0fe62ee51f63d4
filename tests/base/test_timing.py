"""Stages are measured while somebody listens, and cost next to nothing otherwise."""

import time

import pytest

from nldf_engine.base.timing import listen, stage


def test_stages_add_up_until_they_are_taken() -> None:
    """A stage that is entered twice counts twice; taking starts anew; both ends wait for the device."""
    waits = []
    with listen(lambda: waits.append(1)) as stages:
        for _ in range(2):
            with stage("a"):
                time.sleep(0.01)
        with stage("b"):
            pass
        taken = stages.take()
        assert taken["a"] >= 0.02 > taken["b"] >= 0 and stages.take() == {} and len(waits) == 6
        with pytest.raises(RuntimeError, match="one measurement"), listen():
            pass
    with stage("a"):
        pass
    assert stages.take() == {}, "nobody listens any more"


def test_stages_cost_little_when_nobody_listens() -> None:
    """A stage costs under 20 microseconds then; a frame enters five."""
    start = time.perf_counter()
    for _ in range(2000):
        with stage("a"):
            pass
    assert (time.perf_counter() - start) / 2000 < 20e-6
