"""Work in a second thread with a bounded queue: making items before they are needed, or using them later.

Both ways the queue is short, so a slow side holds up the other one instead of filling the memory, and an
error on either side ends both and is raised where the caller can see it.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")
LEAVE_SECONDS = 2.0


class Closed(Exception):
    """The other side of a channel is gone."""


class Channel(Generic[T]):
    """A bounded queue between one thread that puts and one that gets, which either of them can end.

    Args:
        room: how many items may wait, at least 1.

    Raises:
        ValueError: no room.
    """

    def __init__(self, room: int) -> None:
        if isinstance(room, bool) or not isinstance(room, int) or room < 1:
            raise ValueError(f"ahead: expected a whole number of at least 1, got {room!r}")
        self._room, self._items = room, deque[T]()
        self._changed = threading.Condition()
        self._ended = self._left = False
        self._error: BaseException | None = None

    def put(self, item: T) -> None:
        """Hands an item over; waits while the queue is full.

        Raises:
            Closed: nobody gets items any more.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._left or len(self._items) < self._room)
            if self._left:
                raise Closed
            self._items.append(item)
            self._changed.notify_all()

    def get(self) -> T:
        """The next item; waits while there is none.

        Raises:
            Closed: the last item was got.
            BaseException: what the other side ended with, after its last item.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._left or self._ended or self._items)
            if self._items and not self._left:
                self._changed.notify_all()
                return self._items.popleft()
            if self._error is not None:
                raise self._error
            raise Closed

    def end(self, error: BaseException | None = None) -> None:
        """Closes the channel from the side that puts: no more items come."""
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify_all()

    def leave(self) -> None:
        """Closes the channel from the side that gets: items that wait are dropped."""
        with self._changed:
            self._left = True
            self._items.clear()
            self._changed.notify_all()


def make_ahead(items: Iterator[T], ahead: int) -> Generator[T, None, None]:
    """`items`, made in a thread of their own up to `ahead` items before they are needed.

    An error in `items` is raised here, after the items that came before it. Closing this generator ends
    the thread and closes `items` there. Where `items` hangs in a call of its own (a microphone that is
    silent for good), closing gives up waiting after LEAVE_SECONDS; the thread ends when that call returns,
    and never keeps the program from ending.

    Raises:
        ValueError: `ahead` is no whole number of at least 1.

    Example:
        >>> list(make_ahead(iter([1, 2, 3]), ahead=2))
        [1, 2, 3]
    """
    channel: Channel[T] = Channel(ahead)

    def produce() -> None:
        error: BaseException | None = None
        try:
            for item in items:
                channel.put(item)
        except Closed:
            pass
        except BaseException as problem:
            error = problem
        close = getattr(items, "close", None)
        if close is not None:
            try:
                close()
            except BaseException as problem:
                error = error or problem
        channel.end(error)

    def consume() -> Generator[T, None, None]:
        thread = threading.Thread(target=produce, name="nldf-ahead", daemon=True)
        thread.start()
        try:
            while True:
                try:
                    item = channel.get()
                except Closed:
                    return
                yield item
        finally:
            channel.leave()
            thread.join(LEAVE_SECONDS)

    return consume()


class Behind(Generic[T]):
    """Calls `use` for each item in a thread of its own, in order, with at most `room` items waiting.

    Leaving the `with` block waits until all items are used. An error in `use` is raised by the next `put`
    or by leaving the block; an error in the block drops what waits.

    Example:
        >>> seen = []
        >>> with Behind(seen.append, room=2) as behind:
        ...     behind.put(1)
        >>> seen
        [1]
    """

    def __init__(self, use: Callable[[T], object], room: int) -> None:
        self._use, self._channel = use, Channel[T](room)
        self._problem: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="nldf-behind", daemon=True)

    def _run(self) -> None:
        try:
            with contextlib.suppress(Closed):
                while True:
                    self._use(self._channel.get())
        except BaseException as error:
            self._problem = error
        self._channel.leave()

    def put(self, item: T) -> None:
        """Hands an item over; waits while `room` items wait.

        Raises:
            BaseException: what `use` raised.
        """
        try:
            self._channel.put(item)
        except Closed:
            raise self._problem or RuntimeError("Behind.put: its block has been left") from None

    def __enter__(self) -> Behind[T]:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if value is None:
                self._channel.end()
                self._thread.join()
        finally:  # Ctrl-C while waiting: `use` must not run on when this block is left
            self._channel.leave()
            self._thread.join()
        if value is None and self._problem is not None:
            raise self._problem
