"""Where the time of a frame goes, from sound to encoded picture."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from nldf_engine.base.clock import FPS
from nldf_engine.base.timing import listen, stage
from nldf_engine.media.video import VideoWriter

STAGES = ("audio", "rays", "network", "composite", "pixels", "encode")
WARM_UP = 3


@dataclass(frozen=True)
class Profile:
    """What was measured, frame by frame.

    Args:
        size: (width, height) in pixels.
        stages: seconds of each frame by stage: "audio" (features and codes), "rays" (rays and their
            choice by region), "network", "composite" (torso and background), "pixels" (to uint8, and from
            the device), "encode" (H.264). The encoder works on in threads of its own: "encode" is what it
            holds up its caller.
        total: seconds of each frame, all in all.
        threads: of torch.
    """

    size: tuple[int, int]
    stages: dict[str, list[float]]
    total: list[float]
    threads: int

    @property
    def frames(self) -> int:
        """How many frames were measured."""
        return len(self.total)

    def percentile(self, share: float, name: str | None = None) -> float:
        """Seconds a frame that `share` per cent of the frames stay within; of one stage, or all in all.

        Example:
            >>> Profile((8, 8), {"rays": [0.1, 0.3]}, [1.0, 2.0], 1).percentile(50, "rays")
            0.2
        """
        return float(np.percentile(self.total if name is None else self.stages[name], share))


def profile(
    make_frames: Callable[[], tuple[Iterator[np.ndarray], float]],
    *,
    frames: int = 50,
    encode: bool = True,
    wait: Callable[[], object] | None = None,
) -> Profile:
    """Takes the first frames of a sound one after the other and times their stages.

    Everything runs in turn here, so that stages don't hide behind each other: `Clip.save` overlaps them.

    Args:
        make_frames: begins the frames, uint8 [H, W, 3]; returns them, and the seconds a frame that were spent
            on their features beforehand, which count for "audio".
        frames: how many are measured, behind WARM_UP others; fewer where the sound is shorter.
        encode: also encode to H.264, into a file that is thrown away.
        wait: waits for the device at both ends of every stage, where it works asynchronously.

    Raises:
        ValueError: no frame is left to measure.
    """
    if isinstance(frames, bool) or not isinstance(frames, int) or frames < 1:
        raise ValueError(f"frames: expected a whole number of at least 1, got {frames!r}")
    rows: list[dict[str, float]] = []
    total: list[float] = []
    with ExitStack() as stack:
        stages = stack.enter_context(listen(wait))
        made, share = make_frames()
        writer = None
        start = time.perf_counter()
        for frame in made:
            if encode and writer is None:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
                height, width = frame.shape[:2]
                writer = stack.enter_context(VideoWriter(folder / "profile.mp4", width, height))
            if writer is not None:
                with stage("encode"):
                    writer.write(frame)
            total.append(time.perf_counter() - start + share)
            rows.append(stages.take())
            rows[-1]["audio"] = rows[-1].get("audio", 0.0) + share
            if len(rows) == frames + WARM_UP:
                break
            start = time.perf_counter()
    rows, total = rows[WARM_UP:], total[WARM_UP:]
    if not rows:
        raise ValueError(f"audio: expected more than {WARM_UP} frames ({WARM_UP / FPS} s) to profile")
    named = {name: [row.get(name, 0.0) for row in rows] for name in STAGES if encode or name != "encode"}
    height, width = frame.shape[:2]
    return Profile((width, height), named, total, torch.get_num_threads())
