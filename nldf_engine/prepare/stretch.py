"""The stretch of a long video that is prepared: the one that shows most mouth shapes and poses.

Every `EVERY`-th frame is tracked coarsely, and what each stretch shows is compared with what the whole video
does (`datasets.stretch`). Frames without the speaker's face, or with a second one, covered, faint or still,
or in silence, count against a stretch; so does what edited videos cut in.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch

from nldf_engine.base.clock import FPS
from nldf_engine.base.progress import track as track_bar
from nldf_engine.datasets.problems import Problem
from nldf_engine.datasets.stretch import Coverage, Stretch, looks
from nldf_engine.geometry.cameras import Camera
from nldf_engine.media.video import JITTER
from nldf_engine.prepare.faces import SAMPLES_PER_SECOND, Survey
from nldf_engine.prepare.pose import solve_poses
from nldf_engine.prepare.source import Source
from nldf_engine.prepare.spoilt import find_spoilt, speech_heard
from nldf_engine.prepare.track import LOOK, THUMB, FaceLook, seen_of

EVERY = 5  # frames
PAUSE = 2.0  # seconds around a frame in which something must be heard
FEWEST = 10  # sampled frames with a face, below which nothing is chosen


@dataclass(frozen=True)
class Choice:
    """Which stretch of a long video was chosen.

    Args:
        chosen: the stretch.
        first: the one of the same length that the video begins with.
        usual: medians over all stretches of the share that they cover of mouths and of poses.
        clean: share of the chosen stretch's frames that can be learned from.
        frames: of the whole video.
    """

    chosen: Stretch
    first: Stretch
    usual: tuple[float, float]
    clean: float
    frames: int

    def metrics(self) -> dict[str, Any]:
        """For the report: seconds, and shares of the whole video's mouths and poses that are covered."""

        def shares(mouth: float, pose: float) -> dict[str, float]:
            return {"mouth": round(mouth, 4), "pose": round(pose, 4)}

        return {
            "begin": self.chosen.first / FPS, "end": self.chosen.last / FPS, "of": self.frames / FPS,
            "clean": round(self.clean, 4),
            "covers": shares(self.chosen.mouth, self.chosen.pose),
            "first_covers": shares(self.first.mouth, self.first.pose),
            "usual_covers": shares(*self.usual),
        }  # fmt: skip

    def problem(self) -> Problem:
        """What a person should know of it."""
        begin, end, of = (n / FPS for n in (self.chosen.first, self.chosen.last, self.frames))

        def shares(mouth: float, pose: float) -> str:
            return f"{mouth:.0%} and {pose:.0%}"

        what = (
            f"it lasts {of:.0f} s, of which {begin:.1f} to {end:.1f} s are prepared: they show "
            f"{self.chosen.mouth:.0%} of its mouth shapes and {self.chosen.pose:.0%} of its poses (as many "
            f"seconds from the beginning {shares(self.first.mouth, self.first.pose)}, the median stretch "
            f"{shares(*self.usual)})"
        )
        return Problem("length", what, "prepare more of it with --minutes M", "note")


def even_frames(survey: Survey, clock: np.ndarray | None) -> np.ndarray:
    """[T] seconds of the file at which each frame of the even clock is on screen.

    Args:
        survey: of the file; clock: see `faces.even_clock`.
    """
    on = survey.times if clock is None else clock
    known = np.isfinite(on)
    on, times = on[known], survey.times[known]
    span = float(np.median(np.diff(on))) if len(on) > 1 else 1 / FPS
    made: np.ndarray = np.interp(np.arange(max(1, round((on[-1] + span) * FPS))) / FPS, on, times)
    return made


def choose_stretch(
    source: Source, survey: Survey, crowded: np.ndarray, samples: np.ndarray | None, length: int
) -> Choice:
    """Looks through a video and chooses.

    Args:
        source: all of the video; survey: of it.
        crowded: numbers of the survey's samples that show a second face.
        samples: [N] of the sound, 16 kHz mono; None where there is none.
        length: of the stretch, frames; fewer than the video's.
    """
    seconds = even_frames(survey, source.clock)
    tracked = _look_through(source, survey, seconds)
    total = len(tracked["valid"])
    seconds = seconds[:total]
    shown = source.shots.usable[source.shots.at(seconds)]
    seen = tracked["valid"] & shown & ~find_spoilt(tracked, samples).any
    clean = seen & ~np.isin((seconds * SAMPLES_PER_SECOND + 0.5).astype(int), crowded)
    if samples is not None:
        from scipy.ndimage import maximum_filter1d

        clean &= maximum_filter1d(speech_heard(samples, total), round(PAUSE * FPS))
    landmarks, looked = tracked["landmarks"], np.arange(0, total, EVERY)
    if seen[looked].sum() < FEWEST:  # what comes next says why
        begin = Stretch(0, length, 0.0, 0.0)
        return Choice(begin, begin, (0.0, 0.0), 0.0, total)
    solved = solve_poses(landmarks, seen[looked], source.principal_point(LOOK), LOOK, 0.0)
    camera = Camera(LOOK, LOOK, solved.focal, solved.focal, *source.principal_point(LOOK))
    points, poses = (torch.from_numpy(x[solved.valid]) for x in (landmarks, solved.poses))
    known = looked[solved.valid]
    coverage = Coverage(looks(points, poses, camera), torch.from_numpy(known), torch.from_numpy(clean[known]))
    found, costs = coverage.stretches(0, total, length)
    chosen = found[costs.index(min(costs))]
    mouth, pose = (float(np.median([getattr(one, name) for one in found])) for name in ("mouth", "pose"))
    share = float(clean[chosen.first : chosen.last].mean())
    return Choice(chosen, found[0], (mouth, pose), share, total)


def _look_through(source: Source, survey: Survey, seconds: np.ndarray) -> dict[str, np.ndarray]:
    """What `track` gives for T frames, of a face that is looked for in every `EVERY`-th of them and held for
    as many; "landmarks" are of those frames alone, [T / EVERY, 478, 3]."""
    import cv2

    look, found, thumbs = FaceLook(), [], []
    count = -(-len(seconds) // EVERY)
    frames = islice(source.frames(FPS, EVERY), count)
    for frame in track_bar(frames, "looking for the best stretch", count, "frame"):
        seen = source.crop.cut(frame, LOOK)
        found.append(look(seen))
        thumbs.append(cv2.resize(seen, (THUMB, THUMB), interpolation=cv2.INTER_AREA))
    tracked = seen_of(found)
    total = min(len(seconds), len(found) * EVERY)

    def held(values: np.ndarray) -> np.ndarray:
        return np.repeat(values, EVERY, axis=0)[:total]

    decoded = np.searchsorted(survey.times, seconds[:total] + JITTER, side="right") - 1
    return {
        **{name: values if name == "landmarks" else held(values) for name, values in tracked.items()},
        "thumbs": held(np.stack(thumbs)), "changes": survey.changes[decoded.clip(0)],
    }  # fmt: skip
