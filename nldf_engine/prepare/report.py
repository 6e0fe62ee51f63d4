"""What was measured on a video: metrics, problems, and one page of pictures."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nldf_engine.base.clock import FPS
from nldf_engine.base.json import encode
from nldf_engine.base.progress import clock
from nldf_engine.datasets.problems import SEVERITIES, Problem
from nldf_engine.prepare.camera import CameraTrack
from nldf_engine.prepare.spoilt import runs

LABEL_COLOURS = np.array([[0, 0, 0], [70, 150, 255], [80, 220, 120], [255, 110, 90]], np.uint8)
MOST_PROBLEMS = 9  # that fit on the page


@dataclass(frozen=True)
class Refined:
    """What a refinement did.

    Args:
        psnr: before and after each round, and the step that follows the last, dB, full frame, under the model
            of that round.
        head_pixels, torso_pixels: RMS by which the head's origin and the torso's middle moved in the picture,
            pixels at 512.
        turned: RMS by which heads were turned, degrees.
        seconds: of wall time.
    """

    psnr: list[tuple[float, float]]
    head_pixels: float
    torso_pixels: float
    turned: float
    seconds: float

    def text(self) -> str:
        """A sentence for people."""
        (before, _), (_, after) = self.psnr[0], self.psnr[-1]
        return (
            f"refined by the pictures: heads moved by {self.head_pixels:.2f} px (RMS, at 512) and turned by "
            f"{self.turned:.2f} degrees, the torso by {self.torso_pixels:.2f} px; the tracker's own picture "
            f"went from {before:.2f} to {after:.2f} dB in {clock(self.seconds)}"
        )

    def to_json(self) -> dict[str, Any]:
        """For report.json, to three digits behind the point."""
        return {name: np.round(value, 3).tolist() for name, value in encode(self).items()}


@dataclass
class Report:
    """What `prepare` measured.

    Args:
        metrics: name -> number, text, list or object; json-able.
        problems: what may spoil the result, the worst first after `sort`.
        refined: what the refinement did; None where there was none.
        too_short: whether a refinement was wanted, and the video has too few frames for it.
    """

    metrics: dict[str, Any] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    refined: Refined | None = None
    too_short: bool = False

    def sort(self) -> None:
        """Puts the worst problems first."""
        self.problems.sort(key=lambda p: -SEVERITIES.index(p.severity))

    @property
    def usable(self) -> bool:
        """False when a problem makes training pointless."""
        return all(p.severity not in ("severe", "error") for p in self.problems)

    def to_json(self) -> dict[str, Any]:
        """For report.json."""
        return {
            "figures": self.metrics,
            "problems": [p.to_json() for p in self.problems],
            "usable": self.usable,
            **({} if self.refined is None else {"refined": self.refined.to_json()}),
        }

    def text(self) -> str:
        """A few lines for the terminal."""
        f = self.metrics
        lines = []
        if "frames" in f:
            lines.append(
                f"{f['frames']} frames ({f['seconds']:.1f} s) at {f['size']} x {f['size']}, "
                f"{f['valid_share']:.1%} with a face"
            )
            lines.append(
                f"poses fit to {f['pose_rms_512']:.2f} px (at 512), focal length {f['focal']:.0f} px, "
                f"camera at {f['camera_distance']:.2f} m"
            )
        lines += [str(p) for p in self.problems] or ["no problems found"]
        if self.refined is not None:
            lines.append(self.refined.text())
        elif self.too_short:
            lines.append("poses are as tracked: the video is too short to refine them by its pictures")
        return "\n".join(lines)


@dataclass(frozen=True)
class Page:
    """What the contact sheet shows.

    Args:
        frames: a few uint8 [S, S, 3]; labels: their maps; landmarks: theirs [n, 478, 2]; at: their indices.
        background: uint8 [S, S, 3]; filled: bool [S, S], what of it was guessed.
        angles: [T, 3] degrees; eyes, mouth: [T]; valid: bool [T]; rms: [T]; torso: [T, 2] pixels.
        level: loudness in dB a frame, [T]; cuts: frame indices.
        camera: what was found of the camera and the exposure.
    """

    frames: list[np.ndarray]
    labels: list[np.ndarray]
    landmarks: np.ndarray
    at: list[int]
    background: np.ndarray
    filled: np.ndarray
    angles: np.ndarray
    eyes: np.ndarray
    mouth: np.ndarray
    valid: np.ndarray
    rms: np.ndarray
    torso: np.ndarray
    level: np.ndarray
    cuts: list[int]
    camera: CameraTrack


def overlay(frame: np.ndarray, label: np.ndarray) -> np.ndarray:
    """A frame tinted by its label map, with the borders drawn."""
    import cv2

    tint = LABEL_COLOURS[label]
    mixed = np.where((label > 0)[..., None], 0.55 * frame + 0.45 * tint, 0.6 * frame).astype(np.uint8)
    edge = cv2.morphologyEx(label, cv2.MORPH_GRADIENT, np.ones((2, 2), np.uint8)) > 0
    mixed[edge] = 255
    return mixed


def _dotted(frame: np.ndarray, points: np.ndarray) -> np.ndarray:
    import cv2

    picture = frame.copy()
    for x, y in points[:, :2]:
        where = (round(float(x) * 16 - 8), round(float(y) * 16 - 8))
        cv2.circle(picture, where, 16 * frame.shape[0] // 400, (60, 255, 120), -1, cv2.LINE_AA, 4)
    return picture


def draw(report: Report, page: Page, title: str, fps: float = FPS) -> np.ndarray:
    """The contact sheet, uint8 [H, W, 3]."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    lines = 2 + max(1, min(MOST_PROBLEMS, len(report.problems)))
    columns = max(5, len(page.frames) + 1)
    figure = plt.figure(figsize=(3.0 * columns, 15.0 + 0.26 * lines), dpi=72, layout="constrained")
    figure.suptitle(title, fontsize=17, fontweight="bold")
    grid = figure.add_gridspec(
        8, columns, height_ratios=[3.2, 3.2, 1.25, 1.25, 1.25, 1.25, 1.25, 0.3 + 0.13 * lines]
    )

    def show(row: int, column: int, picture: np.ndarray, caption: str) -> None:
        axis = figure.add_subplot(grid[row, column])
        axis.imshow(picture)
        axis.set_axis_off()
        axis.set_title(caption, fontsize=11)

    for k, frame in enumerate(page.frames):
        lost = "" if page.valid[page.at[k]] else " (no face)"
        show(0, k, _dotted(frame, page.landmarks[k]), f"{page.at[k] / fps:.1f} s, landmarks{lost}")
        show(1, k, overlay(frame, page.labels[k]), "head | neck | torso")
    show(0, columns - 1, page.background, "background plate")
    guessed = page.background.copy()
    guessed[page.filled] = (0.5 * guessed[page.filled] + np.array([120, 0, 120])).astype(np.uint8)
    show(1, columns - 1, guessed, "guessed part in violet")

    time = np.arange(len(page.valid)) / fps

    def curve(row: int, values: list[tuple[np.ndarray, str]], name: str) -> None:
        axis = figure.add_subplot(grid[row, :])
        for series, label in values:
            axis.plot(time, series, lw=0.9, label=label)
        for start, end in runs(~page.valid):
            axis.axvspan(start / fps, end / fps, color="0.8", lw=0)
        for cut in page.cuts:
            axis.axvline(cut / fps, color="red", lw=1)
        axis.set_xlim(0, time[-1] + 1 / fps)
        axis.set_ylabel(name, fontsize=10)
        axis.grid(alpha=0.3)
        if len(values) > 1:
            axis.legend(loc="upper right", fontsize=9, ncols=len(values), framealpha=0.7)

    angles = page.angles - np.median(page.angles, axis=0)
    curve(2, [(angles[:, k], n) for k, n in enumerate(("pitch", "yaw", "roll"))], "head, degrees")
    curve(3, [(page.eyes, "eye openness"), (page.mouth * 3, "mouth opening x 3")], "face")
    x, y = page.torso.T
    curve(4, [(x, "torso x"), (y, "torso y"), (page.rms, "pose residual")], "pixels")
    curve(5, [(page.level, "loudness")], "sound, dB")
    curve(6, _camera_curves(page.camera), "camera, %")
    words = figure.add_subplot(grid[7, :])
    words.set_axis_off()
    words.text(0, 1, _words(report), va="top", fontsize=12, wrap=True, linespacing=1.45)
    figure.canvas.draw()
    picture = np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()  # type: ignore[attr-defined]
    plt.close(figure)
    return picture


def _words(report: Report) -> str:
    """What stands at the foot of the page."""
    marks = {"error": "✖", "severe": "✖", "warning": "▲", "note": "•"}
    lines = report.text().split("\n")[:2]
    lines += [f"{marks[p.severity]} {p}" for p in report.problems[:MOST_PROBLEMS]]
    return "\n".join(lines if report.problems else [*lines, "✔ no problems found"])


def _camera_curves(camera: CameraTrack) -> list[tuple[np.ndarray, str]]:
    """The camera's motion and the exposure over time, [T] each, in per cent."""
    middle = np.array([0.5, 0.5, 1.0])
    shift = camera.motion @ middle - middle[:2]
    scale = np.hypot(camera.motion[:, 0, 0], camera.motion[:, 1, 0]) - 1
    did = " (taken out)" if camera.moves else ""
    light = " (taken out)" if camera.drifts else ""
    return [
        (100 * shift[:, 0], "backdrop x" + did),
        (100 * shift[:, 1], "backdrop y" + did),
        (100 * scale, "its scale" + did),
        (100 * (camera.brightness.mean(1) - 1), "exposure" + light),
    ]
