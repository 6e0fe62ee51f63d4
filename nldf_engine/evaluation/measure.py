"""The measurement: render a clip with its own audio and with wrong audio, and score every frame.

Frames stream through one by one: besides the clip's labels and landmarks, what stays in memory is two
frames, the few that the contact sheet shows, and a handful of figures a frame.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from nldf_engine.base.progress import Bar
from nldf_engine.evaluation.clip import RealClip, Renderer
from nldf_engine.evaluation.landmarks import Detector
from nldf_engine.evaluation.lips import LANDMARKS, LIPS, lip_gap, mouth_distance
from nldf_engine.evaluation.metrics import mouth_box, psnr_of_error, squared_error, ssim
from nldf_engine.evaluation.neck import neck_band

FrameMetric = Callable[[np.ndarray, np.ndarray], float]
Onlooker = Callable[[int, np.ndarray, np.ndarray, bool, float], None]


@dataclass
class FrameScores:
    """Figures of every frame of a clip, in its order; NaN where a frame has none.

    The keys of `image` are `psnr`, `psnr_foreground`, `psnr_mouth`, `psnr_neck`, `ssim` and, with
    its weights, `lpips`; each holds [T] float64. `real`, `rendered` and `shuffled` are landmarks
    [T, 478, 2] in pixels at 512, or None where nothing could be detected.
    """

    image: dict[str, np.ndarray]
    real: np.ndarray | None = None
    rendered: np.ndarray | None = None
    shuffled: np.ndarray | None = None
    shift: int = 0
    seconds_per_frame: float = math.nan
    kept: dict[int, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)

    def curves(self) -> dict[str, np.ndarray]:
        """Every figure that has one value a frame, the lips' included."""
        curves = dict(self.image)
        if self.real is not None:
            curves["lip_gap_real"] = lip_gap(self.real)
            for name, landmarks in (("rendered", self.rendered), ("shuffled", self.shuffled)):
                if landmarks is not None:
                    ending = "_shuffled" if name == "shuffled" else ""
                    curves[f"lip_gap_{name}"] = lip_gap(landmarks)
                    curves[f"lmd{ending}"] = mouth_distance(landmarks, self.real)
                    curves[f"lmd_centred{ending}"] = mouth_distance(landmarks, self.real, centred=True)
        return curves


class _Stopwatch:
    """Counts the seconds that an iterator takes to give its frames, and nothing around it."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self, make: Callable[[], Iterable[np.ndarray]]) -> Iterator[np.ndarray]:
        start = time.perf_counter()
        frames = iter(make())
        while True:
            frame = next(frames, None)
            self.seconds += time.perf_counter() - start
            if frame is None:
                return
            yield frame
            start = time.perf_counter()


def _rendered(frames: Iterator[np.ndarray], clip: RealClip) -> Iterator[np.ndarray]:
    expected, count = (clip.height, clip.width, 3), 0
    for frame in frames:
        if frame.shape != expected or frame.dtype != np.uint8:
            raise ValueError(
                f"renderer: expected uint8 frames {list(expected)}, got {frame.dtype} {list(frame.shape)}"
            )
        count += 1
        if count > len(clip):
            break
        yield frame
    if count != len(clip):
        more = "more" if count > len(clip) else str(count)
        raise ValueError(f"renderer: expected {len(clip)} frames, one for each feature window, got {more}")


def _image_scores(
    clip: RealClip, index: int, real: np.ndarray, rendered: np.ndarray, lpips: FrameMetric | None
) -> dict[str, float]:
    error = squared_error(rendered, real)
    rows, columns = mouth_box(clip.landmarks[index][list(LIPS)], clip.width, clip.height)
    scores = {
        "psnr": psnr_of_error(error),
        "psnr_foreground": psnr_of_error(error, clip.labels[index] > 0),
        "psnr_mouth": psnr_of_error(error[rows, columns]),
        "psnr_neck": psnr_of_error(error, neck_band(clip.labels[index])),
        "ssim": ssim(rendered, real),
    }
    if lpips is not None:
        scores["lpips"] = lpips(rendered, real)
    return scores


def measure(
    clip: RealClip,
    renderer: Renderer,
    *,
    detector: Callable[[], Detector] | None,
    lpips: FrameMetric | None = None,
    keep: Iterable[int] = (),
    onlooker: Onlooker | None = None,
) -> FrameScores:
    """Renders the clip twice, with its own and with shifted audio, and scores every valid frame.

    Args:
        clip: what is to be repeated.
        renderer: what is scored. One frame is rendered first, untimed, so that loading and compiling
            do not count in `seconds_per_frame`.
        detector: makes a landmark detector for one sequence; None leaves the lips unscored, and then
            the second rendering, which serves them alone, is left out too.
        lpips: LPIPS of (rendered, real), or None.
        keep: indices in the clip whose (real, rendered) frames are returned in `kept`.
        onlooker: is shown every frame: (index, real, rendered, scored, psnr).

    Returns:
        Figures of every frame.

    Raises:
        ValueError: the renderer's frames differ in number, size or dtype from the real ones.
    """
    wanted = set(keep)
    count = len(clip)
    features, poses, eyes = clip.conditions()
    scores = FrameScores({})
    names = ["psnr", "psnr_foreground", "psnr_mouth", "psnr_neck", "ssim"] + (["lpips"] if lpips else [])
    scores.image = {name: np.full(count, np.nan) for name in names}
    for _ in renderer(features[:1], poses[:1], eyes[:1]):
        pass

    watch = _Stopwatch()
    with contextlib.ExitStack() as stack, Bar("evaluate", count * (2 if detector else 1), "frame") as bar:
        find: list[Detector] = []
        if detector is not None:
            for _ in range(3):
                find.append(detector())
                stack.callback(find[-1].close)
            scores.real, scores.rendered, scores.shuffled = (
                np.full((count, LANDMARKS, 2), np.nan, np.float32) for _ in range(3)
            )
        true_audio = _rendered(watch(lambda: renderer(features, poses, eyes)), clip)
        for index, (real, rendered) in enumerate(zip(clip.frames(), true_audio, strict=True)):
            valid = bool(clip.valid[index])
            if valid:
                for name, value in _image_scores(clip, index, real, rendered, lpips).items():
                    scores.image[name][index] = value
            if scores.real is not None and scores.rendered is not None:
                # Invalid frames pass the detectors too, for their tracking, but leave no landmarks.
                found = find[0](real), find[1](rendered)
                if valid:
                    scores.real[index], scores.rendered[index] = found
            if index in wanted:
                scores.kept[index] = real.copy(), rendered.copy()
            psnr = float(scores.image["psnr"][index])
            if onlooker is not None:
                onlooker(index, real, rendered, valid, psnr)
            bar.step(note=f"{psnr:.2f} dB" if valid else "")
        scores.seconds_per_frame = watch.seconds / count

        if scores.shuffled is not None:
            wrong, scores.shift = clip.shifted_features()
            wrong_audio = _rendered(iter(renderer(wrong, poses, eyes)), clip)
            for index, rendered in enumerate(wrong_audio):
                points = find[2](rendered)
                if clip.valid[index]:
                    scores.shuffled[index] = points
                bar.step()
    return scores
