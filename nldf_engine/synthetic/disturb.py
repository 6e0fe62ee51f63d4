"""Copies of a prepared video with a known disturbance: what a robust preparation must see through.

    python -m nldf_engine.synthetic.disturb DATASET -o OUT.mp4 --kind push-in --amount 0.06

Beside OUT.mp4, OUT.json holds the truth: where the camera was and what the exposure did, frame by frame.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from nldf_engine.base.clock import SAMPLE_RATE
from nldf_engine.base.files import write_json
from nldf_engine.base.progress import track as track_bar
from nldf_engine.datasets.dataset import Dataset
from nldf_engine.datasets.format import LABELS
from nldf_engine.media.video import VideoWriter, frames_at, labels_of

Kind = Literal["none", "push-in", "pan", "backdrop", "exposure", "jacket"]
USUAL = {"none": 0.0, "push-in": 0.06, "pan": 0.06, "backdrop": 1.0, "exposure": 0.12, "jacket": 0.12}
DARK_LEVEL = 6.0
NOISE = 1.2  # levels, of the dark jacket
WARM = np.array([0.5, 0.0, -0.5])  # of the exposure's drift, as a change of white balance


@dataclass(frozen=True)
class Disturbance:
    """A slow disturbance over a whole video.

    Args:
        kind: "push-in" grows the picture by `amount`; "pan" moves it by `amount` of its width, and a third of
            that down; "backdrop" puts a patterned backdrop with drifting lights behind the speaker, whose
            motion `amount` scales; "exposure" darkens by `amount` and warms; "jacket" multiplies the clothes'
            colours by `amount`; "none" changes nothing but the encoding.
        amount: see `kind`.

    Raises:
        ValueError: an unknown kind, or an amount out of range.
    """

    kind: Kind
    amount: float

    def __post_init__(self) -> None:
        if self.kind not in USUAL:
            raise ValueError(f"Disturbance: kind must be one of {', '.join(USUAL)}, got {self.kind!r}")
        if not 0 <= self.amount <= (2 if self.kind == "backdrop" else 0.5):
            raise ValueError(f"Disturbance: amount is out of range: {self.amount}")

    def window(self, share: float) -> np.ndarray:
        """[2, 3]: places in the copy to those in the original, in units of the width, at `share` of it."""
        if self.kind == "push-in":
            side = 1 / (1 + self.amount * share)
            return np.array([[side, 0, (1 - side) / 2], [0, side, (1 - side) / 2]])
        if self.kind == "pan":
            side = 1 / (1 + self.amount)
            return np.array([[side, 0, (1 - side) * share], [0, side, (1 - side) * share / 3]])
        return np.eye(2, 3)

    def gain(self, share: float) -> np.ndarray:
        """[3]: what colours are multiplied by at `share` of the video."""
        if self.kind != "exposure":
            return np.ones(3)
        return 1 - self.amount * share * (1 - WARM)

    def apply(self, frame: np.ndarray, label: np.ndarray, share: float) -> np.ndarray:
        """A frame uint8 [S, S, 3] with its label map [S, S], disturbed."""
        import cv2

        side = len(frame)
        if self.kind == "backdrop":
            person = cv2.GaussianBlur((label > 0).astype(np.float32), (0, 0), side / 340)[..., None]
            return (frame * person + _backdrop(side, self.amount * share) * (1 - person) + 0.5).astype(
                np.uint8
            )
        if self.kind == "jacket":
            cloth = (label == LABELS["torso"]).astype(np.float32)
            cloth = cv2.GaussianBlur(cloth, (0, 0), side / 340)[..., None]
            noise = np.random.default_rng(round(share * 1e6)).normal(0, NOISE, frame.shape)
            dark = frame * self.amount + DARK_LEVEL + noise
            return np.clip(frame * (1 - cloth) + dark * cloth + 0.5, 0, 255).astype(np.uint8)
        if self.kind == "exposure":
            return np.clip(frame * self.gain(share) + 0.5, 0, 255).astype(np.uint8)
        if self.kind == "none":
            return frame
        matrix = self.window(share)
        matrix[:, 2] = (matrix[:, 2] * side) + matrix[:, :2] @ [0.5, 0.5] - 0.5
        flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
        return cv2.warpAffine(frame, matrix, (side, side), flags=flags, borderMode=cv2.BORDER_REPLICATE)


def _backdrop(side: int, share: float) -> np.ndarray:
    """float32 [side, side, 3]: vertical panels that slide, and two lights that cross them."""
    y, x = (np.mgrid[0:side, 0:side].astype(np.float32) + 0.5) / side
    panels = 110 + 30 * np.sin(2 * np.pi * (5 * x + 1.5 * share)) + 15 * np.sin(2 * np.pi * (3 * y + 2 * x))
    picture = panels[..., None] * np.array([0.8, 0.9, 1.1], np.float32)
    for start, height, color in ((0.1, 0.25, (90, 60, 20)), (0.9, 0.55, (20, 50, 80))):
        place = start + (0.8 if start < 0.5 else -0.8) * share
        light = np.exp(-((x - place) ** 2 + (y - height) ** 2) / 0.02)
        picture = picture + light[..., None] * np.array(color, np.float32)
    return np.clip(picture, 0, 255)


def disturb(
    dataset: str | Path,
    out: str | Path,
    kind: Kind,
    amount: float | None = None,
    seconds: float | None = None,
) -> list[dict[str, list[float]]]:
    """Writes a disturbed copy of a dataset's video.

    Args:
        dataset: a prepared dataset; its label maps give speaker and clothes.
        out: the .mp4 to write, with the dataset's sound; the ground truth is written beside it, as .json.
        kind, amount: see `Disturbance`; the kind's usual amount where None.
        seconds: how much of it from the beginning; all where None.

    Returns:
        The truth, one row a frame: "window" (6 numbers of `Disturbance.window`) and "gain" (3).

    Raises:
        FileProblem: the dataset can't be read, or the copy can't be written.
        ValueError: see `Disturbance`.
    """
    data, out = Dataset.open(dataset), Path(out)
    chosen = Disturbance(kind, USUAL[kind] if amount is None and kind in USUAL else float(amount or 0))
    total = len(data) if seconds is None else min(len(data), max(2, round(seconds * data.info.fps)))
    truth = []
    sound = data.audio(), SAMPLE_RATE
    frames = frames_at(data.path / "video.mp4", fps=None)
    labels = labels_of(data.path / "parsing.mkv")
    width, height = data.info.size
    with VideoWriter(out, width, height, data.info.fps, audio=sound, crf=10) as writer:
        for index in track_bar(range(total), f"disturbing: {kind}", total, "frame"):
            share = index / (total - 1)
            writer.write(chosen.apply(next(frames), next(labels), share))
            window = chosen.window(share).ravel().round(8).tolist()
            truth.append({"window": window, "gain": chosen.gain(share).round(8).tolist()})
    write_json(out.with_suffix(".json"), truth)
    return truth


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Write a copy of a prepared video with a known disturbance.")
    parser.add_argument("dataset", type=Path, help="folder written by nldf prepare")
    parser.add_argument("-o", "--out", type=Path, required=True, help="video to write")
    parser.add_argument("--kind", choices=list(USUAL), required=True, help="what to disturb")
    parser.add_argument("--amount", type=float, help="how much; by default the kind's usual amount")
    parser.add_argument("--seconds", type=float, help="how much of the video, from its beginning")
    flags = parser.parse_args()
    disturb(flags.dataset, flags.out, flags.kind, flags.amount, flags.seconds)


if __name__ == "__main__":
    main()
