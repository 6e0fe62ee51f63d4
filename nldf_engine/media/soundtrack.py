"""The sound of any file, each block of it at its own time on the clock of the pictures."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from nldf_engine.base.errors import FileProblem
from nldf_engine.base.roomy import Growing
from nldf_engine.media.containers import LARGEST_LOSS, SOUND_AGAIN, opened, ordinal, sounds_of
from nldf_engine.media.level import SILENT_DB
from nldf_engine.media.timeline import Timeline, first_picture, own_zero, timeline_of

SILENCE = 1 << 20  # samples of it at a time
# Seconds that a block's stamp may be off the end of the block before it, or as many as the block lasts:
# stamps are rounded, and jitter.
OFF_STAMP, LONGEST_BLOCK = 0.04, 0.1
# Clocks drift where stamps, smoothed over SMOOTHED seconds, are off to one side for STEADY seconds, and then
# by more than DRIFT: those that jitter or wander come back before that.
DRIFT, SMOOTHED, STEADY = 0.012, 0.25, 2.0
# Its frames have numbers in the place of stamps, which start again where files were joined without encoding.
NUMBERED = "flac"
LONGEST_GAP = 600.0  # seconds of silence that one jump of the stamps may stand for
SHOWN_GAP = 0.06  # seconds altogether, from which gaps are told


@dataclass
class Gaps:
    """Where the blocks of a sound did not join.

    Attributes:
        silences: (second, length) of what was filled with silence.
        cut: seconds of blocks that came before the end of the block before them, and were cut.
    """

    silences: list[tuple[float, float]] = field(default_factory=list)
    cut: float = 0.0

    def notes(self) -> list[str]:
        """What a person should know of them; may be empty."""
        notes = []
        total = sum(length for _, length in self.silences)
        if total > SHOWN_GAP:
            count, first = len(self.silences), self.silences[0][0]
            many = f"{count} gaps" if count > 1 else "a gap"
            where = f"{total:.1f} s in all, the first at {first:.1f} s"
            notes.append(f"the sound has {many} of {where}; filled with silence")
        if self.cut > SHOWN_GAP:
            notes.append(f"{self.cut:.1f} s of the sound lie over other sound, by its time stamps; cut")
        return notes


@dataclass(frozen=True)
class Soundtrack:
    """The track of sound of a file that is meant, not yet read.

    Args:
        path: the file.
        index: of the stream.
        zero: stamp in seconds that sample 0 is at: the first picture's; None for the track's own beginning.
        timeline: of the file.
        notes: sentences for a person about which track it is.
        gaps: what `blocks` has found so far.
    """

    path: Path
    index: int
    zero: Fraction | None
    timeline: Timeline
    notes: tuple[str, ...] = ()
    gaps: Gaps = field(default_factory=Gaps)

    def blocks(self) -> Iterator[tuple[np.ndarray, int]]:
        """Yields (float32 [channels, n] in about [-1, 1], samples a second), without a gap from `zero` on.

        Raises:
            FileProblem: too many packets are damaged, channels or rate change, or the stamps jump too far.
        """
        import av

        with opened(self.path, SOUND_AGAIN) as container:
            resampler, clock = av.AudioResampler(format="fltp"), self.timeline.clock()
            place, bad, packets = _Place(self.path, self.zero, self.gaps), 0, 0
            stamped = container.format.name != NUMBERED
            for packet in container.demux(container.streams[self.index]):
                packets += 1
                try:
                    frames = clock.correct(packet).decode()
                    place.enter(clock.part)
                except av.error.FFmpegError:
                    bad += 1
                    continue
                for frame in frames:
                    place.expect(frame.layout.nb_channels, frame.sample_rate)
                    known = stamped and frame.pts is not None
                    stamp = Fraction(frame.pts * frame.time_base) if known else None
                    for piece in resampler.resample(frame):
                        for block in place.fit(np.nan_to_num(piece.to_ndarray(), copy=False), stamp):
                            yield block, frame.sample_rate
                        stamp = None
            if not place.any and not bad:
                raise FileProblem(
                    self.path, f"its sound can't be read: no sample in {packets} packets", SOUND_AGAIN
                )
            if not place.any or bad > max(2, LARGEST_LOSS * packets):
                raise FileProblem(
                    self.path, f"{bad} of the {packets} packets of its sound are damaged", SOUND_AGAIN
                )

    def read(self) -> tuple[np.ndarray, int]:
        """(samples float32 [N, channels], samples a second), in one array.

        Raises:
            FileProblem: as `blocks`.
        """
        return joined(self.blocks())

    def all_notes(self) -> list[str]:
        """What a person should know of the track, once it has been read: which one it is, and its gaps."""
        return [*self.notes, *self.gaps.notes()]

    def warn(self) -> None:
        """Gives `all_notes` as warnings."""
        for note in self.all_notes():
            warnings.warn(f"{self.path}: {note}", UserWarning, stacklevel=3)


def find_soundtrack(path: str | Path) -> Soundtrack:
    """The track of sound of any audio or video file: the default one, or the first that is not silent.

    Sample 0 is the moment of the first picture, where there is one: a track that begins later is padded with
    silence, one that begins earlier is cut. Gaps in the time stamps become silence.

    Raises:
        FileProblem: the file is missing or damaged, or has no sound.
    """
    path = Path(path)
    timeline = timeline_of(path, SOUND_AGAIN)
    with opened(path, SOUND_AGAIN) as container:
        streams = sounds_of(container)
        if not streams:
            raise FileProblem(path, "it has no audio track", "give a file with sound, or add a track to it")
        names = {stream.index: ordinal(container.streams.audio, stream) for stream in streams}
    zero = first_picture(path)
    zeros = {index: own_zero(path, index) if zero is None else zero for index in names}
    tracks = [Soundtrack(path, index, zeros[index], timeline) for index in names]
    if len(tracks) == 1:
        return tracks[0]
    taken = next((track for track in tracks if not _silent(track)), tracks[0])
    passed = [names[track.index] for track in tracks[: tracks.index(taken)]]
    because = f", since {' and '.join(passed)} {'are' if len(passed) > 1 else 'is'} silent" if passed else ""
    note = f"it has {len(tracks)} audio tracks; {names[taken.index]} is used{because}"
    return replace(taken, notes=(note,))


def _silent(track: Soundtrack) -> bool:
    """Whether no block is louder than silence, in any channel; reads no further than needed."""
    loudest = 10 ** (SILENT_DB / 10)
    return all(float(block.var(1, dtype=np.float64).max()) <= loudest for block, _ in track.blocks())


def read_audio_track(path: str | Path) -> tuple[np.ndarray, int]:
    """The sound of any audio or video file: (float32 [N, channels] in about [-1, 1], samples a second).

    Which one it is, and where it begins, `find_soundtrack` says; its notes become warnings.

    Raises:
        FileProblem: the file is missing or damaged, or has no sound.
    """
    track = find_soundtrack(path)
    samples, rate = track.read()
    track.warn()
    return samples, rate


def joined(blocks: Iterable[tuple[np.ndarray, int]]) -> tuple[np.ndarray, int]:
    """(samples float32 [N, channels], samples a second) of blocks ([channels, n], rate); see `Growing`."""
    held, rate = Growing(), 0
    for block, every in blocks:
        held.add(block.T)
        rate = every
    return held.take(), rate


class _Place:
    """Puts blocks where their stamps say, with silence between them or cut where they overlap.

    Attributes:
        any: whether there was a sample.
    """

    def __init__(self, path: Path, zero: Fraction | None, gaps: Gaps) -> None:
        self._path, self._zero, self._gaps = path, zero, gaps
        self._done, self._rate, self._channels = 0, 0, 0
        self._begun = self.any = False
        self._part, self._exact, self._off, self._steady = 0, True, 0.0, 0.0

    def enter(self, part: int) -> None:
        """Says which part of the file comes next: the first block of each is put where its stamp says."""
        self._exact |= part != self._part
        self._part = part

    def expect(self, channels: int, rate: int) -> None:
        """Checks that a block is of the same kind as those before.

        Raises:
            FileProblem: it has another number of channels, or another rate.
        """
        if not self._rate:
            self._rate, self._channels = rate, channels
        changed = ""
        if channels != self._channels:
            changed = f"its sound changes from {self._channels} channels to {channels} on the way"
        elif rate != self._rate:
            changed = f"its sound changes from {self._rate} to {rate} samples a second on the way"
        if changed:
            raise FileProblem(self._path, changed, SOUND_AGAIN)

    def fit(self, piece: np.ndarray, stamp: Fraction | None) -> Iterator[np.ndarray]:
        """Yields what comes next of a block [channels, n] that is stamped in seconds, or follows on."""
        self.any = self.any or piece.shape[1] > 0
        if stamp is not None:
            self._zero = stamp if self._zero is None else self._zero
            late, lasts = round((stamp - self._zero) * self._rate) - self._done, piece.shape[1] / self._rate
            before = self._off
            self._off -= (late - self._off) * math.expm1(-lasts / SMOOTHED)
            self._steady = self._steady + lasts if before * self._off > 0 else 0.0
            drifts = self._steady > STEADY and abs(self._off) > DRIFT * self._rate
            jumps = abs(late) > max(OFF_STAMP, min(lasts, LONGEST_BLOCK)) * self._rate
            at_once = self._exact or not self._begun or jumps
            if at_once or drifts:
                # One block of those that drift may be off the mean by as much again.
                late = late if at_once else round(self._off)
                self._exact, self._off = False, 0.0
                yield from self._silence(late)
                cut = min(max(0, -late), piece.shape[1])
                self._gaps.cut += cut / self._rate if self._begun else 0.0
                piece = piece[:, cut:]
        if piece.shape[1]:
            # What lies before the first picture is passed over, block by block, and is no gap.
            self._begun = True
            self._done += piece.shape[1]
            yield piece

    def _silence(self, late: int) -> Iterator[np.ndarray]:
        if late > LONGEST_GAP * self._rate:
            at, by = self._done / self._rate, late / self._rate
            raise FileProblem(
                self._path, f"the stamps of its sound jump by {by:.0f} s at {at:.1f} s", SOUND_AGAIN
            )
        if self._begun and late > 0:
            self._gaps.silences.append((self._done / self._rate, late / self._rate))
        while late > 0:
            count = min(late, SILENCE)
            self._done += count
            yield np.zeros((self._channels, count), np.float32)
            late -= count
