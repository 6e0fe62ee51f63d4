"""Frames of a video file in the order of a plan that runs forward, backward, and jumps now and then."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from nldf_engine.base.errors import FileProblem
from nldf_engine.media.containers import RECORD_AGAIN
from nldf_engine.media.planes import Planes
from nldf_engine.media.video import Shot, shots_at

# Of frames that are decoded at once where the plan runs backward.
BACKWARD_BYTES = 256 << 20
SOON = 40  # steps, fewer than lie between two jumps
FEWEST_BACKWARD, MOST_BACKWARD = 8, 250


class _Reader:
    """Reads a video forward.

    Args:
        path: the video.
        fps: the clock's frames a second.
        first: the frame to begin with.
        ahead: that one is looked for at once, in a thread of its own.
    """

    def __init__(self, path: Path, fps: float, first: int, ahead: bool = False) -> None:
        self.path, self.next = path, first
        self._shots = shots_at(path, fps, first=first)
        self._begun: Future[Shot | None] | None = None
        if ahead:
            worker = ThreadPoolExecutor(1, "nldf-seek")
            self._begun = worker.submit(next, self._shots, None)
            worker.shutdown(wait=False)

    def at(self, number: int) -> Planes:
        """Frame `number`, which is the next one, in memory of its own."""
        shot = next(self._shots, None) if self._begun is None else self._begun.result()
        self._begun = None
        if shot is None:
            what = f"it has {self.next} frames, and frame {number} is wanted"
            raise FileProblem(self.path, what, RECORD_AGAIN)
        self.next += 1
        return shot.planes()

    def close(self) -> None:
        if self._begun is not None:
            self._begun.exception()  # waits for it: it uses what is closed
        self._shots.close()


class _Backward:
    """Reads a video backward, a piece at a time: each is decoded forward, and kept until it is used.

    Args:
        path, fps: as for `_Reader`.
    """

    def __init__(self, path: Path, fps: float) -> None:
        self.path, self.fps = path, fps
        self._held: dict[int, Planes] = {}
        self._room = FEWEST_BACKWARD

    def at(self, number: int) -> Planes:
        """Frame `number`, in memory of its own; the next one is that before it."""
        if number not in self._held:
            self._held.clear()
            first = max(0, number - self._room + 1)
            reader = _Reader(self.path, self.fps, first)
            try:
                self._held = {k: reader.at(k) for k in range(first, number + 1)}
            finally:
                reader.close()
            height, width = self._held[number].shape
            room = 2 * BACKWARD_BYTES // (3 * height * width)
            self._room = min(max(room, FEWEST_BACKWARD), MOST_BACKWARD)
        return self._held.pop(number)


def play(
    path: str | Path, steps: Iterable[tuple[int, int, float]], fps: float, begin: int = 0
) -> Iterator[Planes]:
    """Yields a frame a step, each of its own memory: the first one, blended with the second one.

    Two readers are open while two runs are blended, one otherwise. The second one is opened SOON steps before
    it is needed, in a thread of its own: to begin in the middle of a video, all from the last key frame on is
    decoded first.

    Args:
        path: the video.
        steps: (first, second, share): two frames on the clock of `fps`, which rise or fall by one but where a
            run ends, and the second one's share; 0 while a run falls.
        fps: frames a second.
        begin: the video's frame that is number 0 there.

    Raises:
        FileProblem: the video can't be read, or is shorter than the plan.
    """
    path = Path(path)
    reader: _Reader | None = None
    later: _Reader | None = None
    soon: _Reader | None = None
    backward = _Backward(path, fps)
    before: int | None = None
    try:
        for (first, second, part), blended in _foreseen(steps, SOON):
            one, other = begin + first, begin + second
            down, before = before is not None and one == before - 1, one
            if blended is not None and soon is None:
                soon = _Reader(path, fps, begin + blended, ahead=True)
            if part == 0.0 and later is not None:
                reader, later = _replaced(reader, later), None
            if down:
                reader = _replaced(reader, None)
                yield backward.at(one)
                continue
            if reader is None or reader.next != one:
                _replaced(reader, None)
                reader = _Reader(path, fps, one)
            frame = reader.at(one)
            if part != 0.0:
                if later is None:
                    if soon is not None and soon.next != other:
                        soon = _replaced(soon, None)
                    later, soon = soon or _Reader(path, fps, other), None
                frame.blend(later.at(other), part)
            yield frame
    finally:
        _replaced(soon, _replaced(reader, _replaced(later, None)))


def _foreseen(
    steps: Iterable[tuple[int, int, float]], count: int
) -> Iterator[tuple[tuple[int, int, float], int | None]]:
    """The steps, each with the second frame of the blend that begins `count` steps later, or None."""
    window: deque[tuple[int, int, float]] = deque()
    blends = False
    for step in steps:
        begins, blends = step[2] != 0.0 and not blends, step[2] != 0.0
        window.append(step)
        if len(window) > count:
            yield window.popleft(), step[1] if begins else None
    while window:
        yield window.popleft(), None


def _replaced(reader: _Reader | None, by: _Reader | None) -> _Reader | None:
    if reader is not None:
        reader.close()
    return by
