"""`nldf evaluate`: avatars, or any video, against real frames: figures, pictures and a page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from tyro.conf import Positional

from nldf_engine.apps.cli.command import (
    Command,
    Device,
    Json,
    Precision,
    UsageError,
    check_device,
    checking_flags,
    optional,
    output,
    positive,
    save_results,
    value,
)

if TYPE_CHECKING:
    from nldf_engine.evaluation import EvaluateConfig

VIDEO_FLAGS = ("fps", "skip", "openface_rendered", "openface_reference")


@dataclass(frozen=True)
class Evaluate(Command):
    """Measure avatars, or any video, against real frames.

    An avatar is measured against the frames of a dataset that no training has seen. Every figure on
    its lips comes a second time with audio from elsewhere in the clip: an avatar whose lips follow
    the audio must score worse there.
    """

    examples: ClassVar[tuple[str, ...]] = (
        "nldf evaluate avatars/me data/speaker",
        "nldf evaluate avatars/me data/speaker --frames 100 -o report --json metrics.json",
        "nldf evaluate avatars/fast avatars/nldf data/speaker -o comparison",
        "nldf evaluate --rendered out.mp4 --reference real.mp4 -o report",
        "nldf evaluate data/speaker --controls -o controls",
    )

    when_stopped: ClassVar[str] = "what was measured is kept: run the same command again to continue"
    batched: ClassVar[bool] = True
    reads: ClassVar[tuple[str, ...]] = (
        *("paths", "rendered", "reference", "foreign_audio", "phones", "weights"),
        *("openface_rendered", "openface_reference"),
    )
    fills: ClassVar[tuple[str, ...]] = ("out",)

    paths: Annotated[tuple[Path, ...], Positional, optional("AVATAR ... DATASET")] = ()
    """folders written by nldf train, and last the dataset to compare with"""
    rendered: Annotated[Path | None, optional("VIDEO")] = None
    """instead of an avatar: a video made by whatever, to be scored against --reference"""
    reference: Annotated[Path | None, optional("VIDEO")] = None
    """the real video"""
    controls: bool = False
    """score spoilt copies of the dataset's own frames: does each figure move as it should here?"""
    split: Literal["heldout", "validation", "fit", "train", "all"] = "heldout"
    """which part of the dataset; no training learns from heldout; train is fit and validation"""
    frames: Annotated[int | None, optional("N")] = None
    """at most N frames; by default the whole part"""
    every: Annotated[int, value("N")] = 1
    """score only every N-th frame"""
    torso: Literal["tracked", "predicted"] = "tracked"
    """whether the torso's tracked motion in those frames goes with their poses, or is predicted from them"""
    foreign_audio: Annotated[Path | None, optional("AUDIO")] = None
    """somebody else's speech: a further control for the lips"""
    phones: Annotated[Path | None, optional("CSV")] = None
    """what is said when, as start_seconds,end_seconds,phone: measures the lips by viseme, p, b and m apart"""
    weights: Annotated[Path | None, optional("FOLDER")] = None
    """folder of the public weights of FID, SyncNet and LPIPS over VGG16; torch's cache is searched as well"""
    out: Annotated[Path | None, output("FOLDER", required=False)] = None
    """folder of the report with its pictures; by default AVATAR/evaluation/SPLIT"""
    size: Annotated[int | None, optional("N")] = None
    """width to render and compare at, in pixels; by default the avatar's, at most the dataset's"""
    fps: Annotated[float, value("RATE")] = 25.0
    """two videos: frames a second that both are compared at"""
    skip: Annotated[float, value("SECONDS")] = 0.0
    """two videos: how much of the reference comes before the rendered one begins"""
    openface_rendered: Annotated[Path | None, optional("CSV")] = None
    """two videos: OpenFace's action units of the rendered one"""
    openface_reference: Annotated[Path | None, optional("CSV")] = None
    """two videos: OpenFace's action units of the reference"""
    workers: Annotated[int | None, optional("N")] = None
    """threads that score; by default as many as there are cores, at most 8"""
    fresh: bool = False
    """measure again what was measured before"""
    device: Device = "auto"
    """where to render"""
    precision: Precision = "auto"
    json: Json = None
    """also write the results here"""

    def check_ready(self) -> None:
        """See `Command`: the flags."""
        self._config()

    def _config(self) -> EvaluateConfig:
        """The settings beside what is measured.

        Raises:
            UsageError: flags that are out of range, or do not go together.
        """
        positive(frames=self.frames, size=self.size, every=self.every, workers=self.workers, fps=self.fps)
        check_device(self.device)
        self._check_subject()
        from nldf_engine.evaluation import EvaluateConfig

        with checking_flags():
            return EvaluateConfig(
                self.split, self.frames, self.size, self.torso, every=self.every, weights=self.weights,
                foreign_audio=self.foreign_audio, phones=self.phones, workers=self.workers, fresh=self.fresh,
                device=self.device, precision=self.precision,
            )  # fmt: skip

    def run(self) -> int:
        """Measures, and prints the figures one a line, or one table where there are several subjects."""
        config = self._config()
        if self.rendered is not None and self.reference is not None:
            return self._videos(self.rendered, self.reference, config)
        if self.controls:
            return self._controls(config)
        *avatars, dataset = self.paths
        if len(avatars) > 1:
            return self._many(avatars, dataset, config)
        from nldf_engine.evaluation import evaluate

        self._tell(evaluate(avatars[0], dataset, self.out, config))
        return 0

    def _check_subject(self) -> None:
        """Avatars and a dataset, or two videos, or a dataset and --controls.

        Raises:
            UsageError: anything else.
        """
        videos = (self.rendered is not None) + (self.reference is not None)
        if videos:
            if videos == 1 or self.paths or self.controls:
                raise UsageError("give --rendered and --reference together, without folders or --controls")
            if self.out is None:
                raise UsageError("two videos need -o FOLDER for their report")
            if (self.openface_rendered is None) != (self.openface_reference is None):
                raise UsageError("give --openface-rendered and --openface-reference together")
            return
        defaults = {"fps": 25.0, "skip": 0.0, "openface_rendered": None, "openface_reference": None}
        for name in VIDEO_FLAGS:
            if getattr(self, name) != defaults[name]:
                raise UsageError(f"--{name.replace('_', '-')} goes with --rendered and --reference")
        if self.controls:
            if len(self.paths) != 1 or self.out is None:
                raise UsageError("--controls takes one dataset and -o FOLDER")
        elif len(self.paths) < 2:
            raise UsageError("give an avatar and a dataset: nldf evaluate AVATAR DATASET")
        elif len(self.paths) > 2 and self.out is None:
            raise UsageError("several avatars need -o FOLDER for their reports")

    def _videos(self, rendered: Path, reference: Path, config: Any) -> int:
        from nldf_engine.evaluation import VideoPair, evaluate_videos

        tables = None
        if self.openface_rendered is not None and self.openface_reference is not None:
            tables = (self.openface_rendered, self.openface_reference)
        assert self.out is not None
        with checking_flags():
            pair = VideoPair(rendered, reference, self.fps, self.skip, tables)
        self._tell(evaluate_videos(pair, self.out, config))
        return 0

    def _many(self, avatars: list[Path], dataset: Path, config: Any) -> int:
        from nldf_engine.base.html import number
        from nldf_engine.evaluation import evaluate_many
        from nldf_engine.evaluation.report.page import INDEX

        assert self.out is not None
        found = evaluate_many(avatars, dataset, self.out, config)
        width = max(8, *map(len, found))
        print(f"{'':<26}" + "".join(f"  {name:>{width}}" for name in found))
        for key, _, digits in INDEX:
            if any(figures.get(key) is not None for figures in found.values()):
                cells = (f"  {number(figures.get(key), digits):>{width}}" for figures in found.values())
                print(f"{key:<26}" + "".join(cells))
        save_results(self.json, found)
        return 0

    def _controls(self, config: Any) -> int:
        from nldf_engine.base.errors import NldfError
        from nldf_engine.evaluation.controls import controls, table

        assert self.out is not None
        found = controls(self.paths[0], self.out, config)
        print(table(found))
        save_results(self.json, found)
        failed = [item["claim"] for item in found["claims"] if item["holds"] is False]
        if failed:
            raise NldfError(f"{len(failed)} figures do not move as they should: {'; '.join(failed)}")
        return 0

    def _tell(self, figures: dict[str, Any]) -> None:
        width = max(map(len, figures))
        for name, figure in figures.items():
            if isinstance(figure, dict):
                continue
            shown = f"{figure:.4g}" if isinstance(figure, float) else "-" if figure is None else figure
            print(f"{name:<{width}}  {shown}")
        save_results(self.json, figures)
