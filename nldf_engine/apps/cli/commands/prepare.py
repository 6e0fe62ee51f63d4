"""`nldf prepare`: video -> dataset."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from tyro.conf import Positional

from nldf_engine.apps.cli.command import Command, Json, checking_flags, output, positive, save_results, value


@dataclass(frozen=True)
class Prepare(Command):
    """Turn a video of one person talking into a dataset.

    Any container, codec, rotation, frame rate and size will do; one face, a still camera and a still
    background make the best avatar, and a minute is enough. Of a long video, that stretch is prepared which
    shows most of its mouth shapes and poses. What is wrong with a video is said at once and is in
    report.json and report.png of the dataset.
    """

    examples: ClassVar[tuple[str, ...]] = (
        "nldf prepare speaker.mp4 -o data/speaker",
        "nldf prepare phone.mov -o data/phone --size 256 --json report.json",
        "nldf prepare interview.mp4 -o data/guest --sync 120",
        "nldf prepare lecture.mp4 -o data/lecturer --minutes 1",
    )
    when_stopped: ClassVar[str] = "nothing is lost: the same command continues from the last finished step"

    reads: ClassVar[tuple[str, ...]] = ("video",)
    writes: ClassVar[tuple[str, ...]] = ("dataset",)

    video: Annotated[Path, Positional, value("VIDEO")]
    """the video of the person"""
    dataset: Annotated[Path, output("DATASET")]
    """folder to write"""
    size: Annotated[int, value("N")] = 512
    """width and height of the dataset's frames, in pixels"""
    audio_frontend: Annotated[str, value("NAME")] = "whisper"
    """what turns speech into features: whisper, mel, wav2vec2 or hubert"""
    sync: Annotated[str, value("auto|off|MS")] = "auto"
    """move the sound to where the lips are: auto measures how late they come after it, off leaves the sound
    as it is, and a number moves it later by so many milliseconds (earlier: --sync=-80)"""
    minutes: Annotated[float, value("M")] = 3.0
    """of a longer video, prepare the stretch of so many minutes that shows most mouth shapes and poses of it:
    more hardly makes a better avatar, and takes memory in training (0.4 GB a minute at 256 x 256, 1.3 GB at
    512 x 512)"""
    refine: bool = True
    """after tracking, move every frame's pose to where the pictures say it is (as nldf refine does): some
    three minutes of CPU for a minute of video, and a sharper avatar"""
    json: Json = None
    """also write the report here"""

    def run(self) -> int:
        """Prepares the dataset and prints its report, which says what is wrong with the video."""
        positive(size=self.size, minutes=self.minutes)
        from nldf_engine.prepare import PrepareConfig, prepare

        with checking_flags():
            config = PrepareConfig(
                size=self.size, audio_frontend=self.audio_frontend, sync=self.sync, minutes=self.minutes,
                refine=self.refine,
            )  # fmt: skip
        report = prepare(self.video, self.dataset, config)
        print(report.text())
        save_results(self.json, report.to_json())
        return 0
