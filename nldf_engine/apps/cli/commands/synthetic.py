"""`nldf synthetic`: a procedural speaker -> dataset or video."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from nldf_engine.apps.cli.command import (
    Command,
    Json,
    UsageError,
    checking_flags,
    output,
    positive,
    save_results,
    value,
)

if TYPE_CHECKING:
    from nldf_engine.synthetic.proportions import Proportions


@dataclass(frozen=True)
class Synthetic(Command):
    """Write a synthetic speaker: a dataset or a video with known ground truth.

    A procedural head speaks synthesised speech; its poses, landmarks, masks and timing are exact. An
    output that ends in .mp4 is a plain video, as `nldf prepare` takes it; any other is a dataset.
    """

    examples: ClassVar[tuple[str, ...]] = (
        "nldf synthetic -o data/synthetic",
        "nldf synthetic -o speaker.mp4 --seconds 30 --size 512 --seed 7",
        "nldf synthetic -o data/broad --seed 2 --proportions 1.12,0.94,1.1",
    )

    writes: ClassVar[tuple[str, ...]] = ("out",)

    out: Annotated[Path, output("DATASET|VIDEO.mp4")]
    """folder or video to write"""
    seconds: Annotated[float, value("S")] = 20.0
    """how long it speaks"""
    size: Annotated[int, value("N")] = 256
    """width and height of the frames, in pixels"""
    seed: Annotated[int, value("N")] = 0
    """chooses the sentence, the motion and the looks"""
    proportions: Annotated[str, value("W,L,J")] = "1,1,1"
    """factors of the head's width, its length, and the jaw's width, 0.8 to 1.25 each"""
    json: Json = None
    """also write what was made here"""

    def run(self) -> int:
        """Renders the speaker and writes it."""
        positive(seconds=self.seconds, size=self.size)
        from nldf_engine.synthetic import SyntheticConfig, make_synthetic_dataset, make_synthetic_video

        with checking_flags():
            config = SyntheticConfig(
                seconds=self.seconds, size=self.size, seed=self.seed, proportions=_factors(self.proportions)
            )
        if self.out.suffix.lower() == ".mp4":
            make_synthetic_video(self.out, config)
        else:
            make_synthetic_dataset(self.out, config)
        frames = round(self.seconds * 25)
        print(f"{self.out}: {frames} frames of {self.size}x{self.size}, {self.seconds:g} s of speech")
        save_results(
            self.json,
            {
                "path": str(self.out),
                "frames": frames,
                "size": self.size,
                "seconds": self.seconds,
                "seed": self.seed,
            },
        )
        return 0


def _factors(text: str) -> Proportions:
    from nldf_engine.synthetic.proportions import Proportions

    try:
        width, length, jaw = (float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--proportions is W,L,J, three factors; it is {text!r}") from None
    return Proportions(width, length, jaw)
