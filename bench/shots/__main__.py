"""`python -m bench.shots`: makes videos with re-framed shots out of one unbroken video.

    python -m bench.shots speaker.mp4 -o clips
    nldf prepare clips/three_cuts.mp4 -o data/three_cuts
    nldf train nldf-fast data/three_cuts -o avatars/three_cuts
    nldf evaluate avatars/three_cuts data/three_cuts

The held-out foreground of the avatars is then compared with that of the unbroken video.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nldf_engine.apps.cli.main import guarded
from nldf_engine.base.errors import FileProblem
from nldf_engine.base.files import make_folder
from nldf_engine.datasets.format import training_frames
from nldf_engine.media.video import probe

ZOOM, SHIFT = 1.12, 0.06


@dataclass(frozen=True)
class Framing:
    """How a shot shows the picture: enlarged, and moved by shares of what is then seen of it.

    Args:
        begin: of the shot, share of the video's length.
        zoom: 1 shows all.
        right, down: shifts; they are held within the picture.
    """

    begin: float
    zoom: float = 1.0
    right: float = 0.0
    down: float = 0.0

    def crop(self, width: int, height: int) -> tuple[int, int, int, int]:
        """(width, height, x, y) pixels of what is seen."""
        w, h = round(width / self.zoom), round(height / self.zoom)
        x, y = (width - w) / 2 + self.right * w, (height - h) / 2 + self.down * h
        return w, h, round(min(max(x, 0), width - w)), round(min(max(y, 0), height - h))


def clips(seconds: float, fps: float) -> dict[str, list[Framing]]:
    """The shots of each clip, by its name."""
    held_out = training_frames(round(seconds * fps)) / (seconds * fps)
    return {
        "three_cuts": [
            Framing(0.0), Framing(0.25, ZOOM, -SHIFT, 0.0), Framing(0.5, ZOOM, SHIFT, SHIFT / 2),
            Framing(0.75, 1.0, 0.0, 0.0),
        ],
        "held_out_cut": [Framing(0.0), Framing(held_out, ZOOM, SHIFT, -SHIFT)],
    }  # fmt: skip


def write(video: Path, out: Path, shots: list[Framing]) -> None:
    """Cuts a video into shots, its sound as it is.

    Raises:
        FileProblem: ffmpeg is not there, or fails.
    """
    info = probe(video)
    ends = [shot.begin for shot in shots[1:]] + [1.0]
    parts = []
    for number, (shot, end) in enumerate(zip(shots, ends, strict=True)):
        w, h, x, y = shot.crop(info.width, info.height)
        first, last = round(shot.begin * info.frames), round(end * info.frames)
        parts.append(
            f"[0:v]trim=start_frame={first}:end_frame={last},setpts=PTS-STARTPTS,crop={w}:{h}:{x}:{y},"
            f"scale={info.width}:{info.height}:flags=lanczos[v{number}]"
        )
    joined = "".join(f"[v{number}]" for number in range(len(shots)))
    graph = ";".join([*parts, f"{joined}concat=n={len(shots)}:v=1[v]"])
    command = [
        "ffmpeg",
        "-v",
        "error",
        "-y",
        "-i",
        str(video.resolve()),
        "-filter_complex",
        graph,
        "-map",
        "[v]",
    ]
    command += ["-map", "0:a?", "-c:v", "libx264", "-crf", "14", "-preset", "fast", "-c:a", "copy"]
    try:
        subprocess.run([*command, str(out.resolve())], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise FileProblem(out, f"it can't be made ({error})", "install ffmpeg, or look above") from None


def run(given: argparse.Namespace) -> int:
    """Makes the clips; returns the exit code."""
    info = probe(given.video)
    make_folder(given.out)
    for name, shots in clips(info.seconds, info.fps).items():
        write(given.video, given.out / f"{name}.mp4", shots)
        print(f"{given.out / name}.mp4: {len(shots)} shots")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0 success, 1 a failure, in one line, 2 wrong usage, 130 after Ctrl-C."""
    made = argparse.ArgumentParser(
        "python -m bench.shots", formatter_class=argparse.RawDescriptionHelpFormatter, description=__doc__,
    )  # fmt: skip
    made.add_argument("video", metavar="VIDEO", type=Path, help="of a talking person, in one shot")
    made.add_argument("-o", "--out", metavar="FOLDER", type=Path, required=True, help="where the clips go")
    given = made.parse_args(arguments)
    return guarded("python -m bench.shots", lambda: run(given), lambda: "the clips that are finished")


if __name__ == "__main__":
    sys.exit(main())
