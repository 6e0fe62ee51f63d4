"""What an avatar's networks make of the reference pictures of others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nldf_engine.base.errors import FileProblem
from nldf_engine.datasets import open_dataset
from nldf_engine.engine import Engine
from nldf_engine.rendering.heads import RayHead
from nldf_engine.systems.dfrf.model import ReferenceField
from nldf_engine.systems.dfrf.references import References

Row = dict[str, float]


class Subject:
    """A DFRF avatar, and frames of its speaker's video.

    Args:
        avatar, dataset: their folders.
        frames: how many frames, spread evenly over the split.
        split: of the dataset.
        device: where it renders.

    Raises:
        FileProblem: a folder can't be used, the avatar looks up no references, or the split has no frames.
    """

    def __init__(
        self, avatar: Path, dataset: Path, frames: int = 8, split: str = "heldout", device: str = "auto"
    ) -> None:
        self.engine, self.data = Engine.load(avatar, device), open_dataset(dataset)
        self.name = avatar.resolve().name
        head = self.engine.renderer.portrait.head
        field = head.field if isinstance(head, RayHead) else None
        if not isinstance(field, ReferenceField):
            raise FileProblem(
                avatar, f"it is an avatar of {head.system!r}, which has no reference pictures",
                "give avatars of nldf train dfrf-small",
            )  # fmt: skip
        self.field: ReferenceField = field
        known = self.data.indices(split)
        if not len(known):
            raise FileProblem(dataset, f"it has no frames in {split!r}", "choose another --split")
        self.numbers = known[np.linspace(0, len(known) - 1, min(frames, len(known))).round().astype(int)]
        self.features = self.data.audio_features(self.engine.avatar.frontend)
        self.own = field.references.references

    def real(self) -> np.ndarray:
        """The frames, uint8 [T, H, W, 3], of the avatar's size."""
        camera = self.engine.avatar.camera
        return np.asarray(self.data.frames(camera.width)[self.numbers])

    def rendered(self, references: References) -> np.ndarray:
        """The same frames as the avatar draws them by some references, uint8 [T, H, W, 3]."""
        self.field.keep_references(references.to(self.own.pictures.device))
        try:
            frames = [self._frame(int(number)) for number in self.numbers]
        finally:
            self.field.keep_references(self.own)
        return np.stack(frames)

    def _frame(self, number: int) -> np.ndarray:
        part = slice(number, number + 1)
        clip = self.engine.render(
            self.features[part], self.data.poses[part],
            eyes=self.data.eye_openness[part].astype(np.float32),
        )  # fmt: skip
        return np.asarray(clip.frames[:])[0]


def references(subjects: Sequence[Subject]) -> dict[str, Row]:
    """What faces look like by another speaker's references: PSNR against the real frames, by whose they are.

    Rows are avatars, columns whose references they look up; an avatar should draw its speaker by its own.

    Raises:
        ValueError: fewer than two avatars.
    """
    if len(subjects) < 2:
        raise ValueError(f"references: expected two avatars or more, got {len(subjects)}")
    return {
        one.name: {other.name: psnr(one.rendered(other.own), one.real()) for other in subjects}
        for one in subjects
    }


def picture(subjects: Sequence[Subject], place: float = 0.5) -> np.ndarray:
    """[rows * H, columns * W, 3] uint8: a row an avatar; the real frame, then the frame by each one's
    references.

    Args:
        subjects: of one size.
        place: of the frame among the measured ones, 0 to 1.

    Raises:
        ValueError: they have different sizes.
    """
    sizes = {(one.engine.avatar.camera.width, one.engine.avatar.camera.height) for one in subjects}
    if len(sizes) > 1:
        raise ValueError(f"picture: expected avatars of one size, got {sorted(sizes)}")
    rows = []
    for one in subjects:
        frame = round(place * (len(one.numbers) - 1))
        seen = [one.real()[frame], *(one.rendered(other.own)[frame] for other in subjects)]
        rows.append(np.concatenate(seen, 1))
    return np.concatenate(rows)


def psnr(seen: np.ndarray, real: np.ndarray) -> float:
    """Decibels, over all frames [T, H, W, 3] uint8."""
    error = np.square(seen.astype(np.float64) - real).mean() / 255**2
    return float(-10 * np.log10(max(error, 1e-10)))


TABLES = {"references": references}
