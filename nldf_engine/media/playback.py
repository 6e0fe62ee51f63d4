"""Frames of a video file in the order of a plan that runs forward, backward, and jumps now and then."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from nldf_engine.base.errors import FileProblem
from nldf_engine.media.containers import RECORD_AGAIN
from nldf_engine.media.planes import Planes
from nldf_engine.media.video import Shot, probe, shots_at

# Of frames that a run backward holds, decoded but not shown yet.
BACKWARD_BYTES = 256 << 20
SOON = 40  # steps, fewer than lie between two jumps
FEWEST_BACKWARD, MOST_BACKWARD = 8, 250

Step = tuple[int, int, float]


class _Reader:
    """Reads a video forward.

    Args:
        path: the video.
        fps: the clock's frames a second.
        first: the frame to begin with.
        ahead: that one is looked for at once, in a thread of its own.
    """

    falls = False

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
    """Reads a run of frames backward, in a thread of its own.

    It goes a piece at a time: each is decoded forward, and kept until it is used. The next one is decoded
    while this one is shown, into the room that this leaves.

    Args:
        path, fps: as for `_Reader`.
        last, first: the frames that the run begins and ends with, first <= last.
    """

    falls = True

    def __init__(self, path: Path, fps: float, last: int, first: int) -> None:
        self.path, self.next, self._first = path, last, first
        self._room = FEWEST_BACKWARD
        self._held: dict[int, Planes] = {}
        self._changed = threading.Condition()
        self._left = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._decode, args=(fps,), name="nldf-backward", daemon=True)
        self._thread.start()

    def _decode(self, fps: float) -> None:
        try:
            info = probe(self.path)
            room = 2 * BACKWARD_BYTES // (3 * info.height * info.width)
            self._room = min(max(room, FEWEST_BACKWARD), MOST_BACKWARD)
            for end in range(self.next + 1, self._first, -self._room):
                begin = max(self._first, end - self._room)
                with closing(_Reader(self.path, fps, begin)) as reader:
                    for number in range(begin, end):
                        if not self._keep(number, reader.at(number)):
                            return
        except BaseException as error:  # raised where the frame is wanted
            with self._changed:
                self._error = error
                self._changed.notify_all()

    def _keep(self, number: int, frame: Planes) -> bool:
        """Keeps a frame as soon as there is room; False where no frame is wanted any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._left or len(self._held) < self._room)
            if not self._left:
                self._held[number] = frame
                self._changed.notify_all()
            return not self._left

    def at(self, number: int) -> Planes:
        """Frame `number`, which is the next one, in memory of its own."""
        with self._changed:
            self._changed.wait_for(lambda: number in self._held or self._error is not None)
            if number not in self._held and self._error is not None:
                raise self._error
            self.next = number - 1
            self._changed.notify_all()
            return self._held.pop(number)

    def close(self) -> None:
        with self._changed:
            self._left = True
            self._held.clear()
            self._changed.notify_all()
        self._thread.join()


@dataclass(frozen=True)
class _Run:
    """Steps of a plan whose first frames rise, or fall, by one.

    Attributes:
        joint: the first step that is blended with a frame of the next run; behind the last one for none.
    """

    steps: list[Step]
    falls: bool

    @cached_property
    def joint(self) -> int:
        return next((place for place, step in enumerate(self.steps) if step[2] != 0.0), len(self.steps))


def _runs(steps: Iterable[Step]) -> Iterator[_Run]:
    """The runs of a plan, of which there may be no end."""
    run = _Run([], False)
    for step in steps:
        if run.steps and step[0] != run.steps[-1][0] + (-1 if run.falls else 1):
            yield run
            run = _Run([], step[0] == run.steps[-1][0] - 1)
        run.steps.append(step)
    if run.steps:
        yield run


def play(path: str | Path, steps: Iterable[Step], fps: float, begin: int = 0) -> Iterator[Planes]:
    """Yields a frame a step, each of its own memory: the first one, blended with the second one.

    Two readers are open where one run becomes the next one, one otherwise. The second one is opened SOON
    steps before it is needed, in a thread of its own: to begin in the middle of a video, all from the last
    key frame on is decoded first.

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
    runs = _runs(steps)
    run, following = next(runs, None), next(runs, None)
    now: _Reader | _Backward | None = None
    soon: _Reader | _Backward | None = None
    try:
        while run is not None:
            reader = now
            if reader is None or (reader.next, reader.falls) != (begin + run.steps[0][0], run.falls):
                _replaced(reader, None)
                now = reader = _open(path, fps, begin, run)
            for place, (first, second, part) in enumerate(run.steps):
                if soon is None and place >= run.joint - SOON:
                    soon = _open_next(path, fps, begin, run, following)
                frame = reader.at(begin + first)
                if part != 0.0 and soon is not None:
                    frame.blend(soon.at(begin + second), part)
                yield frame
            now, soon = _replaced(now, soon), None
            run, following = following, next(runs, None)
    finally:
        _replaced(now, _replaced(soon, None))


def _open(path: Path, fps: float, begin: int, run: _Run, ahead: bool = False) -> _Reader | _Backward:
    """What reads a run from its first frame on."""
    first, last = begin + run.steps[0][0], begin + run.steps[-1][0]
    return _Backward(path, fps, first, last) if run.falls else _Reader(path, fps, first, ahead)


def _open_next(
    path: Path, fps: float, begin: int, run: _Run, following: _Run | None
) -> _Reader | _Backward | None:
    """What reads the run behind another one, from the first frame on that is blended with that, if any."""
    if run.joint < len(run.steps):
        return _Reader(path, fps, begin + run.steps[run.joint][1], ahead=True)
    return None if following is None else _open(path, fps, begin, following, ahead=True)


def _replaced(
    reader: _Reader | _Backward | None, by: _Reader | _Backward | None
) -> _Reader | _Backward | None:
    if reader is not None:
        reader.close()
    return by
