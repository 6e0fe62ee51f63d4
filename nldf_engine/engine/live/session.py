"""A live session: one clock of 25 ticks a second, each with a picture and its 40 ms of sound.

What is said is what was pushed; where nothing waits, silence. The sound goes through the session of
`engine.session` in one long utterance, silence included: so the face goes into speech and out of it as it
does within a sentence. It comes out delayed by the look-ahead of the lips, together with its picture.
"""

from __future__ import annotations

import dataclasses
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from nldf_engine.audio import SAMPLE_RATE, read_sound
from nldf_engine.base.clock import FPS
from nldf_engine.engine.edits.edit import Edit
from nldf_engine.engine.edits.live import LivePoses
from nldf_engine.engine.edits.mouth import Gate, MouthEdit
from nldf_engine.engine.into import Staging
from nldf_engine.engine.live.counters import Counters
from nldf_engine.engine.live.queue import SoundQueue
from nldf_engine.engine.live.resampling import Resampler, held_seconds
from nldf_engine.engine.live.voice import VoiceGate
from nldf_engine.engine.renderer import Poses, Renderer
from nldf_engine.engine.session import Session, Sound
from nldf_engine.rendering.backgrounds import Background

TICK = 1 / FPS
# Pictures are left out when a frame is begun so late that the next one is due as well; the sound goes on.
PATIENCE = 2 * TICK
# ... but for every so many-th picture: a slow machine shows some, rather than none.
SKIPPED = 5
# Nobody has fetched frames for so long that catching up makes no sense: the clock goes on from now.
STALL = 1.0
# A frame that interruptions overtake so often is left for the next call: meanwhile other sessions are drawn.
ATTEMPTS = 2
# Sound that arrives at the pace at which it is spoken waits so long, so that a chunk that comes a little late
# is no gap; after a gap, as much longer as it lasted.
LEAD, LARGEST_LEAD = 0.012, 0.3
SAME_UTTERANCE = 0.5  # a gap longer than this is a pause of the speaker's, and not the network's
CALM = 250  # ticks without a gap after which the reserve shrinks again
FADE = 0.004  # seconds in which a cut sound fades, so that it does not click
LOWEST_RATE, HIGHEST_RATE = 8000, 48_000
CLOSING = Gate()


@dataclass(frozen=True)
class LiveFrame:
    """A tick of a live session: a picture and the sound that belongs to it.

    Args:
        picture: uint8 [H, W, 3], or [H, W, 4] with straight alpha where the background is transparent; None
            where it was left out, as rendering was too far behind: show the last one on.
        sound: [rate / 25] float32 mono.
        number: of the tick, from 0.
        epoch: how many interruptions came before it.
        speaking: whether any of its sound was pushed, rather than silence that fills a gap.
        position: seconds of the current utterance, from its beginning to the end of this sound.
        ended: positions at which utterances ended within this sound, in seconds from each one's beginning.
    """

    picture: np.ndarray | None
    sound: np.ndarray
    number: int
    epoch: int
    speaking: bool
    position: float
    ended: tuple[float, ...] = ()

    @property
    def time(self) -> float:
        """Presentation time, seconds; pictures and sounds of a session share it."""
        return self.number / FPS


@dataclass(frozen=True)
class Stopped:
    """What an interruption ended.

    Args:
        position: seconds of the current utterance that were given out; 0 where none was being said.
        dropped: seconds of pushed sound that were not.
        epoch: that of the frames from now on.
    """

    position: float
    dropped: float
    epoch: int


class LiveSession:
    """A conversation in real time. Made with `Engine.live`.

    `push`, `finish`, `interrupt` and the properties may be called from any thread and return at once;
    `take` renders, and is called by one thread at a time.

    Args:
        renderer: what renders.
        rate: samples a second of the sound that comes out, a multiple of 25.
        most: seconds of sound that may wait.
        lead: seconds that sound waits at least (see `LEAD`).
        gate: closes the lips in silence, where the avatar's mouth can be edited and the edit has no gate of
            its own; None for none.
        room: the sound comes from a microphone: what is no voice (`VoiceGate`) is played, but the lips do
            not follow it.
        returning: frames in which the face goes over to rest behind an interruption; 0 rests at once.
        clock: what gives the time in seconds; another one than the system's runs in simulated time.
        poses, background, size, edit, edges: as for `Engine.stream`.
        staging: see `engine.session.Session`.

    Attributes:
        rate: as given.
        latency: seconds by which sound comes out later than it is taken from the queue: what the lips look
            ahead.
        counters: what happened so far.

    Raises:
        FileProblem: a file that can't be used.
        ValueError: a wrong shape, size or value, or the avatar's audio front-end can't stream.
    """

    def __init__(
        self, renderer: Renderer, poses: Poses | LivePoses = None, *, rate: int = 48_000, most: float = 60.0,
        lead: float = LEAD, gate: Gate | None = CLOSING, room: bool = False, returning: int = 0,
        background: Background = None, size: int | None = None, edit: Edit | None = None,
        edges: str = "clean", staging: Staging | None = None, clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        _check_settings(rate, most, lead, returning)
        able = renderer.motion_codes > 0 and renderer.avatar.frontend.kind.levels is not None
        self._gate = gate if able else None
        self._edit = edit
        self._session = Session(
            renderer, poses, background=background, size=size, edit=self._gated(edit), edges=edges,
            staging=staging,
        )  # fmt: skip
        self.rate, self.counters = rate, Counters()
        self._step, self._clock, self._returning = round(rate * TICK), clock, returning
        self._room = VoiceGate(rate) if room else None
        # A frame needs its look-ahead beyond its own beginning, so all but its own sound comes before it.
        ahead = max(0.0, self._session.latency - TICK) + held_seconds(rate, SAMPLE_RATE)
        self._delay = math.ceil(ahead * rate - 1e-6)
        self.latency = self._delay / rate

        self._pushing = threading.Lock()  # of the queue and all that is between it and the clock
        self._queue = SoundQueue(round(most * rate))
        self._resampler: Resampler | None = None  # of the sound that comes in
        self._lead, self._least_lead = lead, lead
        self._speaking = False
        self._dry: float | None = None  # when the sound ran out in the middle of an utterance
        self._calm = 0
        self._epoch = 0
        self._silence()

        self._taking = threading.Lock()  # of the session and the clock
        self._start: float | None = None
        self._number = self._skipped = 0
        self._shown = -1  # epoch that the session is in

    # Sound in.

    @property
    def epoch(self) -> int:
        """How many interruptions there were; frames of an earlier epoch are stale."""
        return self._epoch

    @property
    def room(self) -> float:
        """Seconds of sound that may be pushed now."""
        return self._queue.room / self.rate

    @property
    def queued(self) -> float:
        """Seconds of sound that wait; what is being said already does not count."""
        return len(self._queue) / self.rate

    def push(self, sound: Sound) -> int:
        """Queues a chunk of sound, of any length, rate and number of channels.

        Args:
            sound: see `engine.session.Sound`; the rate may change from chunk to chunk.

        Returns:
            how many of its samples (a channel) were taken: all, or fewer where the queue is full. Push the
            rest when there is `room` again.

        Raises:
            TypeError, ValueError: no sound, or one that is not finite; nothing of it was taken.
        """
        samples, rate = sound if isinstance(sound, tuple) and len(sound) == 2 else (sound, SAMPLE_RATE)
        if not hasattr(samples, "shape"):
            raise TypeError(
                f"sound: expected an array of samples at {SAMPLE_RATE} Hz or (samples, rate), "
                f"got {type(sound).__name__}"
            )
        if 0 in samples.shape:
            return 0
        read_sound((samples[:1], rate))  # whatever is wrong with its kind is found before the length counts
        with self._pushing:
            fits = min(len(samples), self._queue.room * int(rate) // self.rate)
            self.counters.add(refused_seconds=(len(samples) - fits) / int(rate))
            if not fits:
                return 0
            read, rate = read_sound((samples[:fits], rate))
            mono = read[:, 0] if read.shape[1] == 1 else read.mean(axis=1, dtype=np.float32)
            now = self._clock()
            self._adapt(now)
            if self._resampler is None or self._resampler.rate != rate:
                self._flush(now)
                self._resampler = Resampler(rate, self.rate)
            self._queue.push(self._resampler.push(mono), now)
            return fits

    def finish(self) -> None:
        """Ends the utterance behind what was pushed so far: its end is reported (`LiveFrame.ended`), and a
        last rest of sound does not wait for more."""
        with self._pushing:
            self._flush(self._clock())
            self._queue.end()

    def trim(self, seconds: float) -> float:
        """Drops the oldest sound that waits beyond `seconds`; returns how many seconds were dropped.

        For sound that arrives as it is spoken: where a microphone's clock runs fast, its queue grows.
        Utterances that were finished stay whole.
        """
        with self._pushing:
            extra = self._queue.trim(round(seconds * self.rate))
        self.counters.add(dropped_seconds=extra / self.rate)
        return extra / self.rate

    def interrupt(self) -> Stopped:
        """Drops all sound that was not given out yet (barge-in). The next frame is at rest, and silent.

        A frame that is being rendered while this is called is not given out.
        """
        with self._pushing:
            waiting = self._queue.clear()
            dropped = (waiting + int(self._timeline.spoken.sum())) / self.rate
            position = self._position / self.rate
            self._silence()
            self._resampler, self._speaking, self._dry = None, False, None
            self._epoch += 1
            self.counters.add(interruptions=1, dropped_seconds=dropped)
            return Stopped(position, dropped, self._epoch)

    def _adapt(self, now: float) -> None:
        """More reserve where the sound had run out for a moment."""
        if self._dry is not None:
            gap, self._dry = now - self._dry, None
            if gap < SAME_UTTERANCE:
                self._lead = min(LARGEST_LEAD, self._lead + gap)

    def _flush(self, now: float) -> None:
        if self._resampler is not None:
            self._queue.push(self._resampler.finish(), now)

    # Frames out.

    @property
    def number(self) -> int:
        """Number of the last tick that was given out; -1 before the first."""
        return self._number - 1

    @property
    def due(self) -> float:
        """Time of the clock at which the next frame is due; now, before the first."""
        return self._clock() if self._start is None else self._start + self._number * TICK

    @property
    def wait(self) -> float:
        """Seconds until the next frame is due; 0 where it is."""
        return max(0.0, self.due - self._clock())

    def take(self) -> LiveFrame | None:
        """The next frame, rendered now; None where it is not due yet, or interruptions keep overtaking it."""
        with self._taking:
            begun = self._clock()
            if self._start is None:
                self._start = begun
            behind = begun - (self._start + self._number * TICK)
            if behind < -1e-9:
                return None
            if behind > STALL:
                self._start += behind
                self.counters.add(stalls=1)
                behind = 0.0
            for _ in range(ATTEMPTS):
                epoch = self._epoch
                frame, arrived = self._make(epoch, draw=behind < PATIENCE or self._skipped >= SKIPPED)
                if epoch == self._epoch:  # else an interruption came meanwhile: what was made is stale
                    break
            else:
                return None
            self._skipped = self._skipped + 1 if frame.picture is None else 0
            self._count(frame, arrived, begun, behind)
            self._number += 1
            return frame

    def _count(self, frame: LiveFrame, arrived: float | None, begun: float, behind: float) -> None:
        counters, now = self.counters, self._clock()
        late = now - begun + behind > TICK
        counters.add(frames=1, late=int(late), skipped=int(frame.picture is None))
        counters.works.append(now - begun)
        if arrived is not None:
            counters.latencies.append(now - arrived)

    def _make(self, epoch: int, draw: bool) -> tuple[LiveFrame, float | None]:
        """The next frame, and when the newest sound arrived that it depends on (None for silence)."""
        if self._shown != epoch:
            self._restart(epoch)
        with self._pushing:
            block, spoken, ends, arrived = self._next_block()
            sound, said, over = self._timeline.push(block, spoken, ends)
            ended = self._ended(said, over)
        heard = block if self._room is None else self._room(block)
        frames = self._session.frames(self._features.push(heard))
        picture = next(frames).picture if draw else None
        if not draw:
            self._session.skip()
        return LiveFrame(
            picture, sound, self._number, epoch, bool(said.any()), self._position / self.rate, ended
        ), arrived

    def _restart(self, epoch: int) -> None:
        """Silence from now on, as far as the lips look ahead."""
        with self._pushing:
            self._silence()
        self._features = Resampler(self.rate, SAMPLE_RATE)
        if self._shown >= 0:
            self._session.interrupt(self._returning)
        self._session.frames(self._features.push(np.zeros(self._delay, np.float32)))  # drawn at their ticks
        self._shown = epoch

    def _silence(self) -> None:
        """Nothing is on its way to the ears; a new utterance begins."""
        self._timeline = _Timeline(self._delay)
        self._position = 0  # samples of the current utterance that were given out

    def _next_block(self) -> tuple[np.ndarray, np.ndarray, list[int], float | None]:
        """The next 40 ms: samples, which were pushed, where utterances end, the last one's arrival."""
        step, queued, before = self._step, len(self._queue), 0
        count = min(step, queued)
        if not self._speaking:
            count = self._begin(queued)
            before = step - count if self._speaking and not self._queue.ended else 0
        sound, ends, arrived = self._queue.take(count)
        block, spoken = np.zeros(step, np.float32), np.zeros(step, bool)
        block[before : before + count], spoken[before : before + count] = sound, True
        if self._speaking and before + count < step:
            self._pause(over=bool(ends))
            if count:
                fade = np.linspace(
                    1, 0, min(step - before - count, round(FADE * self.rate)), dtype=np.float32
                )
                block[before + count :][: len(fade)] = sound[-1] * fade
        self._calm += 1
        if self._calm >= CALM:
            self._lead, self._calm = max(self._least_lead, self._lead / 2), 0
        return block, spoken, [before + end for end in ends], arrived

    def _begin(self, queued: int) -> int:
        """How many samples of those that wait are said in this tick, when nothing was said before it.

        Sound that arrives as it is spoken begins within the tick, with what has waited for `lead`. What is
        there at once, or has its end already, need not wait.
        """
        if not queued:
            return 0
        whole = self._queue.ended or queued >= round(self._lead * self.rate) + self._step
        count = queued if whole else self._queue.arrived(self._clock() - self._lead)
        self._speaking = count > 0
        return min(self._step, count)

    def _pause(self, over: bool) -> None:
        """Nothing is left to say; `over` where the utterance has ended."""
        self._speaking = False
        if not over:
            self.counters.add(underflows=1)
            self._dry, self._calm = self._clock(), 0

    def _ended(self, said: np.ndarray, over: list[int]) -> tuple[float, ...]:
        """Counts the position on over one block; the positions at which utterances ended."""
        ended, first = [], 0
        for place in over:
            ended.append((self._position + int(said[first:place].sum())) / self.rate)
            self._position, first = 0, place
        self._position += int(said[first:].sum())
        return tuple(ended)

    # What is shown.

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the pictures."""
        return self._session.size

    @property
    def edit(self) -> Edit | None:
        """Edit of head, eyes, brows, mouth and look, from the next frame on; None for none.

        Raises, when it is set:
            ValueError: an edit that can't be used; the previous one stays.
        """
        return self._edit

    @edit.setter
    def edit(self, edit: Edit | None) -> None:
        self._session.edit = self._gated(edit)
        self._edit = edit

    def _gated(self, edit: Edit | None) -> Edit | None:
        """The edit with the session's gate, where it has none of its own."""
        if self._gate is None:
            return edit
        edit = edit or Edit()
        mouth = edit.mouth or MouthEdit()
        if mouth.gate is not None:
            return edit
        return dataclasses.replace(edit, mouth=dataclasses.replace(mouth, gate=self._gate))

    @property
    def poses(self) -> Poses | LivePoses:
        """Head poses, from the next frame on (see `Session.poses`)."""
        return self._session.poses

    @poses.setter
    def poses(self, poses: Poses | LivePoses) -> None:
        self._session.poses = poses

    @property
    def background(self) -> Background:
        """The background, from the next frame on (see `Session.background`)."""
        return self._session.background

    @background.setter
    def background(self, background: Background) -> None:
        self._session.background = background

    def close(self) -> None:
        """Lets go of footage that it pastes into; no frame can be taken then."""
        self._session.close()

    def statistics(self) -> dict[str, Any]:
        """The counters, the queue and the clock as numbers for JSON; times in seconds."""
        return {
            **self.counters.to_json(), "queued": self.queued, "time": self._number / FPS,
            "epoch": self._epoch, "speaking": self._speaking, "lead": self._lead,
        }  # fmt: skip


class _Timeline:
    """The sound between the lips and the ears: as long as the lips look ahead.

    Args:
        delay: how many samples.
    """

    def __init__(self, delay: int) -> None:
        self._sound = np.zeros(delay, np.float32)
        self.spoken = np.zeros(delay, bool)
        self._ends: deque[int] = deque()

    def push(
        self, block: np.ndarray, spoken: np.ndarray, ends: list[int]
    ) -> tuple[np.ndarray, np.ndarray, list[int]]:
        """Puts a block in at one end, and takes one of the same length out at the other.

        Args:
            block: samples [n] float32.
            spoken: [n] bool, which of them were pushed.
            ends: how many of them come before the end of each utterance that ends here.

        Returns:
            (samples, spoken, ends) of the block that comes out.
        """
        count = len(block)
        self._ends.extend(len(self._sound) + end for end in ends)
        sound, said = np.concatenate([self._sound, block]), np.concatenate([self.spoken, spoken])
        over = []
        while self._ends and self._ends[0] <= count:
            over.append(self._ends.popleft())
        self._ends = deque(end - count for end in self._ends)
        self._sound, self.spoken = sound[count:], said[count:]
        return sound[:count], said[:count], over


def _check_settings(rate: int, most: float, lead: float, returning: int) -> None:
    if not LOWEST_RATE <= rate <= HIGHEST_RATE or rate % FPS:
        raise ValueError(
            f"rate: expected a multiple of {FPS:g} from {LOWEST_RATE} to {HIGHEST_RATE}, got {rate!r}"
        )
    if not most >= 0.1:
        raise ValueError(f"most: expected at least 0.1 seconds, got {most!r}")
    if not 0 <= lead <= LARGEST_LEAD:
        raise ValueError(f"lead: expected 0 to {LARGEST_LEAD:g} seconds, got {lead!r}")
    if isinstance(returning, bool) or not isinstance(returning, int) or returning < 0:
        raise ValueError(f"returning: expected a number of frames of at least 0, got {returning!r}")
