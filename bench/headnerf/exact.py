"""Exact swaps: the procedural speakers, drawn with one another's shape, colours or expressions.

What the measures say of these pictures is what they would say of a perfect avatar: the landmark detector sees
a dark face a little otherwise than a light one of the same shape, and lips of a broader face move further.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from bench.headnerf.faces import Seen, measure
from nldf_engine.base.json import decode
from nldf_engine.datasets.dataset import Dataset
from nldf_engine.evaluation.landmark_detector import Detector
from nldf_engine.synthetic.config import SyntheticConfig
from nldf_engine.synthetic.make import controls_at, plan
from nldf_engine.synthetic.speaker import Speaker


def recorded(data: Dataset) -> SyntheticConfig | None:
    """What a dataset was made of, from its provenance; None of a real one."""
    config = data.info.provenance.get("config")
    if data.info.source.get("kind") != "synthetic" or config is None:
        return None
    return decode(SyntheticConfig, config, str(data.path))


class ExactSubject:
    """A synthetic speaker's clip, drawn again with exchanged codes.

    Args:
        configs: of all speakers, of one size.
        number: of this speaker among them.
        frames: [T] numbers of the frames.
        detector: makes the landmark detector; the package's where None.
    """

    def __init__(
        self, configs: Sequence[SyntheticConfig], number: int, frames: np.ndarray,
        detector: Callable[[], Detector] | None = None,
    ) -> None:  # fmt: skip
        self.configs, self.number, self.frames, self.detector = configs, number, frames, detector
        _, self.visemes, self.motion = plan(configs[number])

    def seen(self, identity: int | None = None, albedo: int | None = None, shift: int = 0) -> Seen:
        """The measures of the clip, with the shape or the colours of another speaker, or with the expressions
        of so many frames later."""
        own = self.configs[self.number]
        shape = own if identity is None else self.configs[identity]
        colours = own if albedo is None else self.configs[albedo]
        speaker = Speaker(own.size, colours.palette, shape.proportions)
        return self._drawn(speaker, self.motion.poses[self.frames], np.roll(self.frames, -shift))

    def turned(self, poses: np.ndarray) -> Seen:
        """The measures of the clip under other poses [T, 4, 4], camera to head."""
        own = self.configs[self.number]
        return self._drawn(Speaker(own.size, own.palette, own.proportions), poses, self.frames)

    def _drawn(self, speaker: Speaker, poses: np.ndarray, faces: np.ndarray) -> Seen:
        """The measures of a speaker under poses [T, 4, 4], with the expressions of the frames `faces` [T]."""
        drawn = [
            speaker.render(
                controls_at(self.visemes, self.motion, int(face)), pose, self.motion.torso[place]
            )
            for pose, place, face in zip(poses, self.frames, faces, strict=True)
        ]  # fmt: skip
        places = np.stack([picture.landmarks for picture in drawn])
        return measure(np.stack([picture.image for picture in drawn]), places, self.detector)

    def changes(self) -> dict[str, list[dict[str, int]]]:
        """For each code that a procedural speaker has, the arguments of `seen` that change it."""
        others = [number for number in range(len(self.configs)) if number != self.number]
        return {
            "identity": [{"identity": one} for one in others],
            "expression": [{"shift": len(self.frames) // 2}],
            "albedo": [{"albedo": one} for one in others],
        }
