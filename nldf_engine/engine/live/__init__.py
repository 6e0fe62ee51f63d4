"""Live conversations: sound in as it arrives, frames with their sound out on one clock.

    live = engine.live(rate=24_000)
    live.push((samples, 24_000))            # from a microphone, a voice or a file, at any pace
    while (frame := live.take()) is None:   # one every 40 ms, also when nobody speaks
        time.sleep(live.wait)
    show(frame.picture), play(frame.sound)

session.py     the clock, and what is said and shown at each of its ticks
queue.py       sound that waits, bounded
resampling.py  another sampling rate, with a millisecond of delay
voice.py       which of a microphone's sound is a voice, and which is the room
counters.py    what happened so far
"""

from nldf_engine.engine.live.counters import Counters
from nldf_engine.engine.live.session import LiveFrame, LiveSession, Stopped

__all__ = ["Counters", "LiveFrame", "LiveSession", "Stopped"]
