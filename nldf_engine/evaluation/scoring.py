"""Scores the frames of a clip's variants.

Frames are rendered on the calling thread and scored on others, a chunk at a time: image metrics, and the
faces in the real and in the rendered frames. What memory holds is a few chunks.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from nldf_engine.base.progress import Bar
from nldf_engine.evaluation.chunks import Chunk, ChunkStore, cut, packed, track, unpacked
from nldf_engine.evaluation.frame_metrics import image_metrics
from nldf_engine.evaluation.frame_scores import FrameScores
from nldf_engine.evaluation.frame_source import FrameSource
from nldf_engine.evaluation.landmark_detector import landmark_scale
from nldf_engine.evaluation.metric_suite import MetricSuite
from nldf_engine.evaluation.metrics.flicker import flicker, still_region
from nldf_engine.evaluation.metrics.optional.syncnet import face_boxes, face_crop
from nldf_engine.evaluation.metrics.regions import REGIONS
from nldf_engine.evaluation.real_clip import RealClip
from nldf_engine.evaluation.variants import Variant
from nldf_engine.geometry.face_mesh import LANDMARKS

OnFrame = Callable[[int, np.ndarray, np.ndarray, bool, float], None]
RealFaces = dict[tuple[int, int], np.ndarray]
MOST_WORKERS = 8
MOST_BYTES = 1 << 30
"""What the frames of unfinished chunks may take, unless a single chunk takes more."""
STILL_MARGIN = 0.03
"""How far from the person background counts as still, as a share of the frame's width."""


@dataclass
class _Job:
    """A chunk at work: its finished `values`, those still computed in `parts`, and its scored frames."""

    chunk: Chunk
    values: dict[str, np.ndarray]
    parts: dict[str, Future]
    real: list[np.ndarray]
    rendered: list[np.ndarray]
    fresh: bool


@dataclass(frozen=True)
class _Setting:
    """What the variants of one evaluation share; `still` is the background that never moves, [H, W] bool."""

    clip: RealClip
    index: np.ndarray
    suite: MetricSuite
    store: ChunkStore
    pool: ThreadPoolExecutor
    pictures: bool
    real_faces: RealFaces
    still: np.ndarray | None


class _VariantScoring:
    """One variant of a clip, chunk after chunk."""

    def __init__(self, setting: _Setting, variant: Variant) -> None:
        clip = setting.clip
        self._to, self._variant = setting, variant
        self.rendered = FrameSource(variant.frames, len(clip), (clip.height, clip.width, 3))
        self._real = FrameSource(clip.frames, len(clip))
        self.scored = variant.name == "rendered"

    def start(self, chunk: Chunk) -> _Job:
        """Reads and renders a chunk's frames, and hands them to the threads."""
        to = self._to
        numbers = [int(i) for i in to.index[chunk.first : chunk.stop]]
        stored = to.store.get(self._variant.name, chunk)
        if stored is not None and (not (to.pictures and self.scored) or "frames" in stored):
            frames = unpacked(stored) if "frames" in stored else []
            real = [self._real[i] for i in numbers[chunk.warm :]] if frames else []
            return _Job(chunk, stored, {}, real, frames, False)
        real = [self._real[i] for i in numbers] if self.scored else []
        seconds, made = self.rendered.seconds, self.rendered.made
        rendered = [self.rendered[i] for i in numbers]
        values = {"seconds": np.array([self.rendered.seconds - seconds, self.rendered.made - made], float)}
        job = _Job(chunk, values, {}, real[chunk.warm :], rendered[chunk.warm :], True)
        self._start_faces(job, real, rendered)
        if self.scored:
            self._start_flicker(job, numbers, real, rendered)
            faces = job.parts.get("real_faces"), values.get("real_faces")
            job.parts["image"] = to.pool.submit(self._image_values, job, *faces)
        return job

    def _start_faces(self, job: _Job, real: list[np.ndarray], rendered: list[np.ndarray]) -> None:
        """Tracks the faces of the rendered frames and, where nobody did yet, of the real ones."""
        detector, chunk, to = self._to.suite.detector, job.chunk, self._to
        if detector is None:
            return
        job.parts["faces"] = to.pool.submit(track, rendered, chunk.warm, detector)
        place = (chunk.start, chunk.stop)
        if self.scored and place not in to.real_faces:
            job.parts["real_faces"] = to.pool.submit(track, real, chunk.warm, detector)
        elif self.scored:
            job.values["real_faces"] = to.real_faces[place]

    def _start_flicker(
        self, job: _Job, numbers: list[int], real: list[np.ndarray], rendered: list[np.ndarray]
    ) -> None:
        """Flicker of a chunk takes up to two frames before it, so that no three frames are left out."""
        still, warm = self._to.still, job.chunk.warm
        if still is not None:
            taken = slice(warm - min(warm, 2), None)
            valid = self._to.clip.valid[numbers[taken]]
            job.parts["flicker"] = self._to.pool.submit(flicker, still, (rendered[taken], real[taken]), valid)

    def _image_values(
        self, job: _Job, tracking: Future | None, faces: np.ndarray | None
    ) -> dict[str, np.ndarray]:
        """Image metrics of a chunk; where nothing is labelled they wait for the real faces."""
        clip, suite, chunk = self._to.clip, self._to.suite, job.chunk
        if clip.landmarks is None and tracking is not None:
            faces = tracking.result()
        names = [f"{kind}{end}" for kind in ("psnr", "ssim") for end in ("", *(f"_{r}" for r in REGIONS))]
        columns = {name: np.full(len(job.rendered), np.nan) for name in (*names, *suite.lpips)}
        embedded: dict[str, list[np.ndarray]] = {"features_real": [], "features_rendered": []}
        for place, index in enumerate(self._to.index[chunk.start : chunk.stop]):
            if not clip.valid[index]:
                continue
            if clip.landmarks is not None:
                points = clip.landmarks[index]
            elif faces is not None:
                points = faces[place] / landmark_scale(clip.width, clip.height)
            else:
                points = np.full((LANDMARKS, 2), np.nan)
            labels = None if clip.labels is None else clip.labels[index]
            rendered, real = job.rendered[place], job.real[place]
            metrics = image_metrics(rendered, real, labels, points)
            metrics |= {name: metric(rendered, real) for name, metric in suite.lpips.items()}
            for name, value in metrics.items():
                columns[name][place] = value
            if suite.inception is not None:
                embedded["features_real"].append(suite.inception(real))
                embedded["features_rendered"].append(suite.inception(rendered))
        made = {f"image/{name}": values for name, values in columns.items()}
        return made | {name: np.stack(rows) for name, rows in embedded.items() if rows}

    def end(self, job: _Job) -> dict[str, np.ndarray]:
        """Waits for a chunk's values, and stores them."""
        if not job.fresh:
            return job.values
        for name, future in job.parts.items():
            found = future.result()
            job.values.update(found if name == "image" else {name: found})
        valid = self._to.clip.valid[self._to.index[job.chunk.start : job.chunk.stop]]
        for name in ("faces", "real_faces"):
            if name in job.values:  # invalid frames pass the detectors for their tracking, no more
                job.values[name] = np.where(valid[:, None, None], job.values[name], np.float32(np.nan))
        if self._to.suite.sync is not None and "faces" in job.values:
            job.values |= _crops(job, landmark_scale(self._to.clip.width, self._to.clip.height))
        stored = dict(job.values)
        if self._to.pictures and self.scored:
            stored |= packed(job.rendered)
        self._to.store.put(self._variant.name, job.chunk, stored)
        return job.values


def _crops(job: _Job, scale: float) -> dict[str, np.ndarray]:
    """SyncNet's crops of the chunk's faces, [T, 224, 224, 3] uint8, of clips that have any."""
    made = {}
    for name, frames, faces in (
        ("crops", job.rendered, "faces"), ("real_crops", job.real, "real_faces"),
    ):  # fmt: skip
        if faces in job.values and np.isfinite(job.values[faces]).all(axis=(1, 2)).any():
            boxes = face_boxes(job.values[faces] / scale)
            made[name] = np.stack([face_crop(f, box) for f, box in zip(frames, boxes, strict=True)])
    return made


def score_frames(
    clip: RealClip,
    variants: Sequence[Variant],
    suite: MetricSuite,
    *,
    every: int = 1,
    workers: int | None = None,
    store: ChunkStore | None = None,
    samples: Iterable[int] = (),
    on_frame: OnFrame | None = None,
    real_faces: RealFaces | None = None,
) -> FrameScores:
    """Scores the valid frames of a clip's variants.

    Args:
        clip: the real frames.
        variants: renderings; "rendered" comes first. The others serve the lips alone, and are left out where
            nothing detects faces.
        suite: what the frames are measured with.
        every: scores only every so many frames; times stay true.
        workers: threads; None takes the machine's cores, at most 8. The values don't depend on it.
        store: keeps finished chunks, so that a run that was stopped continues.
        samples: numbers in the clip whose (real, rendered) frames are returned in `samples`, as far as
            scored.
        on_frame: called with every frame in its order: (number, real, rendered, scored, psnr).
        real_faces: faces of the real frames by chunk, read and filled: renderings of one clip share them.

    Returns:
        Metrics of every scored frame.

    Raises:
        ValueError: the renderer's frames differ in number, size or dtype from the real ones.
    """
    index = np.arange(0, len(clip), every)
    scores, wanted = FrameScores(index), set(samples)
    real_faces = {} if real_faces is None else real_faces
    variants = variants if suite.detector is not None else variants[:1]
    workers = workers or min(os.cpu_count() or 1, MOST_WORKERS)
    store = store or ChunkStore(None, None)
    chunks: dict[str, list[dict[str, np.ndarray]]] = {variant.name: [] for variant in variants}
    with (
        ThreadPoolExecutor(workers) as pool,
        Bar("evaluate", len(index) * len(variants), "frame") as bar,
        _cancelling(pool),
    ):
        still = _still(clip)
        setting = _Setting(clip, index, suite, store, pool, on_frame is not None, real_faces, still)
        for variant in variants:
            if variant.warm_up is not None and store.lacks(variant.name, cut(len(index))):
                for _ in variant.warm_up():
                    pass
            run = _VariantScoring(setting, variant)
            for job, values in _in_order(run, cut(len(index)), workers, clip):
                chunks[variant.name].append(values)
                if run.scored:
                    _pass_on(scores, setting, job, values, wanted, on_frame)
                note = f"{np.nanmean(values['image/psnr']):.2f} dB" if _has_psnr(values) else ""
                bar.step(len(job.chunk), note=note)
            run.rendered.finish()
    scores.join(chunks)
    return scores


def _still(clip: RealClip) -> np.ndarray | None:
    """[H, W] bool: what is background in every frame; None where nothing is."""
    if clip.labels is None:
        return None
    still = still_region(clip.labels, round(STILL_MARGIN * clip.width))
    return still if still.any() else None


def _pass_on(
    scores: FrameScores, setting: _Setting, job: _Job, values: dict[str, np.ndarray], wanted: set[int],
    on_frame: OnFrame | None,
) -> None:  # fmt: skip
    """Shares a finished chunk's real faces, keeps its samples, and hands its frames to `on_frame`."""
    chunk = job.chunk
    if "real_faces" in values:
        setting.real_faces[chunk.start, chunk.stop] = values["real_faces"]
    numbers = setting.index[chunk.start : chunk.stop] if job.rendered else ()
    for place, number in enumerate(map(int, numbers)):
        pair = job.real[place], job.rendered[place]
        if number in wanted:
            scores.samples[number] = pair[0].copy(), pair[1].copy()
        if on_frame is not None:
            scored = bool(setting.clip.valid[number])
            on_frame(number, *pair, scored, float(values["image/psnr"][place]))


def _has_psnr(values: dict[str, np.ndarray]) -> bool:
    return "image/psnr" in values and bool(np.isfinite(values["image/psnr"]).any())


@contextlib.contextmanager
def _cancelling(pool: ThreadPoolExecutor) -> Iterator[None]:
    """After an error or Ctrl-C no further chunk is begun."""
    try:
        yield
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise


def _in_order(
    run: _VariantScoring, chunks: list[Chunk], workers: int, clip: RealClip
) -> Iterator[tuple[_Job, dict[str, np.ndarray]]]:
    """Chunks in their order, with enough of them begun that no thread waits for the renderer."""
    waiting: deque[_Job] = deque()
    longest = max((chunk.stop - chunk.first for chunk in chunks), default=1)
    largest = longest * 2 * 3 * clip.width * clip.height
    ahead = max(1, min(workers // 2, MOST_BYTES // largest))
    for chunk in chunks:
        waiting.append(run.start(chunk))
        while len(waiting) > ahead:
            job = waiting.popleft()
            yield job, run.end(job)
    while waiting:
        job = waiting.popleft()
        yield job, run.end(job)
