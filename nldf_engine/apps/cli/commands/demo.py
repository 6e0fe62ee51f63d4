"""`nldf demo`: the bundled avatar speaks."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from nldf_engine.apps.cli.command import (
    Command,
    Device,
    Json,
    Precision,
    SignFile,
    check_device,
    checking_flags,
    optional,
    output,
    positive,
    save_results,
    signing,
    value,
)


@dataclass(frozen=True)
class Demo(Command):
    """Render the bundled avatar speaking a fresh sentence.

    The sentence is synthesised, the avatar was trained on a synthetic speaker: no one's likeness is
    involved, and nothing is downloaded.
    """

    examples: ClassVar[tuple[str, ...]] = (
        "nldf demo",
        "nldf demo -o hello.mp4 --text 'good morning' --seconds 3",
        "nldf demo --seed 5 --size 128 --json demo.json",
    )

    reads: ClassVar[tuple[str, ...]] = ("sign_cert", "sign_key")
    writes: ClassVar[tuple[str, ...]] = ("out",)

    out: Annotated[Path, output("OUT.mp4")] = Path("demo.mp4")
    """video to write"""
    text: Annotated[str | None, optional("TEXT")] = None
    """what to say; by default babble that --seed chooses"""
    seconds: Annotated[float, value("S")] = 6.0
    """how long it speaks"""
    size: Annotated[int | None, optional("N")] = None
    """width and height, in pixels; by default those the avatar was trained at"""
    seed: Annotated[int, value("N")] = 1
    """chooses the sentence"""
    no_provenance: bool = False
    """leave off the signed manifest; its tags then say only that the video is synthetic"""
    sign_cert: SignFile = None
    """PEM file of the certificate that signs, followed by those above it; by default a local one"""
    sign_key: SignFile = None
    """PEM file of its private key"""
    device: Device = "auto"
    """where to render"""
    precision: Precision = "auto"
    json: Json = None
    """also write the results here"""

    def run(self) -> int:
        """Synthesises, renders and writes; prints how long it took and where the video is."""
        positive(seconds=self.seconds, size=self.size)
        check_device(self.device)
        credentials = signing(not self.no_provenance, self.sign_cert, self.sign_key)
        from nldf_engine.apps.cli.bundled import bundled_avatar
        from nldf_engine.base.seeds import check_seed
        from nldf_engine.engine import Engine, check_clip_path, check_size
        from nldf_engine.synthetic import synthesise_speech

        check_clip_path(self.out, transparent=False)
        start = time.perf_counter()
        with checking_flags():
            check_size(self.size)
            speech = synthesise_speech(self.text, self.seconds, check_seed(self.seed))
        engine = Engine.load(bundled_avatar(), device=self.device, precision=self.precision)
        loaded = time.perf_counter()
        clip = engine.render((speech.samples, speech.rate), size=self.size)
        clip.save(self.out, provenance=not self.no_provenance, credentials=credentials)
        seconds = time.perf_counter() - loaded
        figures = {
            "path": str(self.out),
            "frames": len(clip),
            "spoken_seconds": len(speech.samples) / speech.rate,
            "load_seconds": loaded - start,
            "seconds": seconds,
            "frames_per_second": len(clip) / seconds,
            **engine.describe(),
            "size": [clip.frames.shape[2], clip.frames.shape[1]],
        }
        width, height = figures["size"]
        print(
            f"{self.out}: {figures['spoken_seconds']:.1f} s of speech, {len(clip)} frames of {width}x{height}"
            f" in {seconds:.1f} s ({figures['frames_per_second']:.1f} frames/s, encoding included)"
        )
        save_results(self.json, figures)
        return 0
