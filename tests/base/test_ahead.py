"""Work in a second thread: order, bounds, errors and endings, on either side of the queue."""

import threading
import time
from collections.abc import Iterator

import pytest

from nldf_engine.base.ahead import Behind, Closed, make_ahead


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("nldf-")]


@pytest.mark.parametrize("ahead", [1, 3, 100])
def test_items_made_ahead_keep_their_order_and_bound(ahead: int) -> None:
    """All items come, in order, and never more than `ahead` + 1 are made beyond the one in use."""
    made = 0

    def items() -> Iterator[int]:
        nonlocal made
        for number in range(20):
            made += 1
            yield number

    for used, item in enumerate(make_ahead(items(), ahead)):
        time.sleep(0.001)
        assert item == used and made <= used + 1 + ahead + 1
    assert made == 20 and not threads()


def test_a_consumer_that_leaves_ends_the_producer() -> None:
    """Closing in the middle closes the source in its own thread, waiting items or not."""
    closed = threading.Event()

    def items() -> Iterator[int]:
        try:
            while True:
                yield 0
        finally:
            closed.set()

    ahead = make_ahead(items(), 2)
    next(ahead)
    ahead.close()  # type: ignore[attr-defined]
    assert closed.wait(2) and not threads()


def test_an_error_comes_behind_the_items_before_it() -> None:
    """What the source raises is raised where the items are used, in its place."""

    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise KeyError("lost")

    ahead = make_ahead(items(), 5)
    assert [next(ahead), next(ahead)] == [1, 2]
    with pytest.raises(KeyError, match="lost"):
        next(ahead)
    assert not threads()


@pytest.mark.parametrize("room", [0, -1, 1.5, True])
def test_a_queue_without_room_is_refused(room: object) -> None:
    """The bound is a whole number of at least one."""
    with pytest.raises(ValueError, match="at least 1"):
        make_ahead(iter([1]), room)  # type: ignore[arg-type]
        next(make_ahead(iter([1]), room))  # type: ignore[arg-type]


def test_behind_uses_everything_in_order_before_it_is_left() -> None:
    """When the block is left, every item has been used, and no more than the room plus one were waiting."""
    used: list[int] = []

    def slowly(item: int) -> None:
        time.sleep(0.002)
        used.append(item)

    with Behind(slowly, room=3) as behind:
        for number in range(15):
            behind.put(number)
            assert number - len(used) <= 3 + 1
    assert used == list(range(15)) and not threads()


@pytest.mark.parametrize("late", [False, True])
def test_an_error_behind_reaches_the_block(late: bool) -> None:
    """An error in using an item ends the block: at a later put, or at its end for the last item."""

    def use(item: int) -> None:
        if item == (9 if late else 2):
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"), Behind(use, room=2) as behind:
        for number in range(10):
            behind.put(number)
    assert not threads()


def test_an_error_in_the_block_drops_what_waits() -> None:
    """Ctrl-C in the block is raised at once: of the waiting items none but the one in use is used."""
    used: list[int] = []

    def use(item: int) -> None:
        used.append(item)
        time.sleep(0.05)

    with pytest.raises(KeyboardInterrupt), Behind(use, room=8) as behind:
        for number in range(8):
            behind.put(number)
        raise KeyboardInterrupt
    assert len(used) <= 2 and not threads()
    with pytest.raises((Closed, RuntimeError)):
        behind.put(9)
