"""The measurement: a clip's renderings, with its own and with wrong audio, scored frame by frame.

Frames are rendered on the calling thread and scored on others, a chunk at a time: image figures, and the
faces in the real and in the rendered frames. What memory holds is a few chunks.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nldf_engine.base.progress import Bar
from nldf_engine.evaluation.chunks import Chunk, Store, cut, packed, track, unpacked
from nldf_engine.evaluation.clip import RealClip
from nldf_engine.evaluation.frame_metrics import flicker, image_figures
from nldf_engine.evaluation.metrics.jitter import still_region
from nldf_engine.evaluation.metrics.landmarks import Detector, landmark_scale
from nldf_engine.evaluation.metrics.lips import LANDMARKS, lip_gap, mouth_distance
from nldf_engine.evaluation.metrics.regions import REGIONS
from nldf_engine.evaluation.source import Source

FrameMetric = Callable[[np.ndarray, np.ndarray], float]
Embedding = Callable[[np.ndarray], np.ndarray]
Onlooker = Callable[[int, np.ndarray, np.ndarray, bool, float], None]
MOST_WORKERS = 8
MOST_BYTES = 1 << 30
"""What the frames of chunks in the making may take, unless a single chunk takes more."""
STILL_MARGIN = 0.03
"""How far from the person background counts as still, as a share of the frame's width."""


@dataclass(frozen=True)
class Take:
    """One rendering of the clip.

    Args:
        name: "rendered" is the one whose pictures are scored; of every other one only faces are.
        frames: makes the T frames, uint8 [H, W, 3]: an array-like that is indexed, or an iterable.
        warm_up: makes one frame, untimed, so that loading and compiling do not count; or None.
    """

    name: str
    frames: Callable[[], Any]
    warm_up: Callable[[], Any] | None = None


@dataclass(frozen=True)
class Instruments:
    """What the frames are measured with; whatever is None is left out.

    Args:
        detector: makes the landmark detector of one run of frames.
        lpips: by the name of its column, LPIPS of (rendered, real).
        inception: FID's features of a frame.
        crops: keep 224-pixel crops of the faces, for SyncNet.
    """

    detector: Callable[[], Detector] | None = None
    lpips: dict[str, FrameMetric] = field(default_factory=dict)
    inception: Embedding | None = None
    crops: bool = False


@dataclass
class FrameScores:
    """Figures of every scored frame of a clip, in its order; NaN where a frame has none.

    `index` holds the frames' numbers in the clip, [S] int. `image` holds [S] float64 under `psnr`, `ssim`,
    each with `_foreground`, `_head`, `_mouth`, `_neck`, and LPIPS's columns. `faces` holds landmarks
    [S, 478, 2] in pixels at 512 of "real" and of every take, and is empty where nothing could be detected.
    `flicker` is that of the background in "rendered" and "real", None where there is none.
    """

    index: np.ndarray
    image: dict[str, np.ndarray] = field(default_factory=dict)
    faces: dict[str, np.ndarray] = field(default_factory=dict)
    features: dict[str, np.ndarray] = field(default_factory=dict)
    crops: dict[str, np.ndarray] = field(default_factory=dict)
    flicker: dict[str, float] | None = None
    seconds_per_frame: float = math.nan
    kept: dict[int, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)

    def curves(self) -> dict[str, np.ndarray]:
        """Every figure that has one value a frame, the lips' included."""
        curves = dict(self.image)
        if "real" in self.faces:
            real = self.faces["real"]
            curves["lip_gap_real"] = lip_gap(real)
            for name, landmarks in self.faces.items():
                if name == "real":
                    continue
                ending = "" if name == "rendered" else f"_{name}"
                curves[f"lip_gap_{name}"] = lip_gap(landmarks)
                curves[f"lmd{ending}"] = mouth_distance(landmarks, real)
                curves[f"lmd_centred{ending}"] = mouth_distance(landmarks, real, centred=True)
        return curves


@dataclass
class _Job:
    chunk: Chunk
    values: dict[str, np.ndarray]
    parts: dict[str, Future]
    real: list[np.ndarray]
    rendered: list[np.ndarray]
    fresh: bool


class _Measurement:
    """One take of a clip, chunk after chunk."""

    def __init__(
        self,
        clip: RealClip,
        take: Take,
        index: np.ndarray,
        tools: Instruments,
        store: Store,
        pool: ThreadPoolExecutor,
        pictures: bool,
        known: dict[tuple[int, int], np.ndarray],
        still: np.ndarray | None,
    ) -> None:
        self._still = still
        self.clip, self.take, self.index, self.tools, self.store = clip, take, index, tools, store
        self._pool, self._pictures, self._known = pool, pictures, known
        shape = (clip.height, clip.width, 3)
        self.rendered = Source(take.frames, len(clip), shape)
        self.real = Source(clip.frames, len(clip))
        self.scored = take.name == "rendered"

    def start(self, chunk: Chunk) -> _Job:
        """Reads and renders a chunk's frames, and hands them to the threads."""
        looked = [int(i) for i in self.index[chunk.first : chunk.stop]]
        kept = self.store.get(self.take.name, chunk)
        if kept is not None and (not (self._pictures and self.scored) or "frames" in kept):
            frames = unpacked(kept) if "frames" in kept else []
            return _Job(
                chunk, kept, {}, [self.real[i] for i in looked[chunk.warm :]] if frames else [], frames, False
            )
        real = [self.real[i] for i in looked] if self.scored else []
        seconds, made = self.rendered.seconds, self.rendered.made
        rendered = [self.rendered[i] for i in looked]
        values = {"seconds": np.array([self.rendered.seconds - seconds, self.rendered.made - made], float)}
        parts: dict[str, Future] = {}
        if self.tools.detector is not None:
            parts["faces"] = self._pool.submit(track, rendered, chunk.warm, self.tools.detector)
            place = (chunk.start, chunk.stop)
            if self.scored and place not in self._known:
                parts["real_faces"] = self._pool.submit(track, real, chunk.warm, self.tools.detector)
            elif self.scored:
                values["real_faces"] = self._known[place]
        if self.scored and self._still is not None:
            seen = slice(chunk.warm - min(chunk.warm, 2), None)
            valid = self.clip.valid[looked[seen]]
            parts["flicker"] = self._pool.submit(flicker, self._still, (rendered[seen], real[seen]), valid)
        real, rendered = real[chunk.warm :], rendered[chunk.warm :]
        if self.scored:
            faces = parts.get("real_faces"), values.get("real_faces")
            parts["image"] = self._pool.submit(self._pictures_of, chunk, real, rendered, *faces)
        return _Job(chunk, values, parts, real, rendered, True)

    def _pictures_of(
        self, chunk: Chunk, real: Sequence[np.ndarray], rendered: Sequence[np.ndarray],
        tracking: Future | None, faces: np.ndarray | None,
    ) -> dict[str, np.ndarray]:  # fmt: skip
        """Image figures of a chunk; where nothing is labelled they wait for the real faces."""
        clip = self.clip
        if clip.landmarks is None and tracking is not None:
            faces = tracking.result()
        names = [f"{kind}{end}" for kind in ("psnr", "ssim") for end in ("", *(f"_{r}" for r in REGIONS))]
        columns = {name: np.full(len(rendered), np.nan) for name in (*names, *self.tools.lpips)}
        embedded: dict[str, list[np.ndarray]] = {"features_real": [], "features_rendered": []}
        for place, index in enumerate(self.index[chunk.start : chunk.stop]):
            if not clip.valid[index]:
                continue
            if clip.landmarks is not None:
                points = clip.landmarks[index]
            elif faces is not None:
                points = faces[place] / landmark_scale(clip.width, clip.height)
            else:
                points = np.full((LANDMARKS, 2), np.nan)
            labels = None if clip.labels is None else clip.labels[index]
            figures = image_figures(rendered[place], real[place], labels, points)
            figures |= {
                name: metric(rendered[place], real[place]) for name, metric in self.tools.lpips.items()
            }
            for name, value in figures.items():
                columns[name][place] = value
            if self.tools.inception is not None:
                embedded["features_real"].append(self.tools.inception(real[place]))
                embedded["features_rendered"].append(self.tools.inception(rendered[place]))
        made = {f"image/{name}": values for name, values in columns.items()}
        return made | {name: np.stack(rows) for name, rows in embedded.items() if rows}

    def end(self, job: _Job) -> dict[str, np.ndarray]:
        """Waits for a chunk's figures, and keeps them."""
        if not job.fresh:
            return job.values
        for name, future in job.parts.items():
            found = future.result()
            job.values.update(found if name == "image" else {name: found})
        valid = self.clip.valid[self.index[job.chunk.start : job.chunk.stop]]
        for name in ("faces", "real_faces"):
            if name in job.values:  # invalid frames pass the detectors for their tracking, no more
                job.values[name] = np.where(valid[:, None, None], job.values[name], np.float32(np.nan))
        if self.tools.crops and "faces" in job.values:
            job.values |= _crops(job, landmark_scale(self.clip.width, self.clip.height))
        kept = dict(job.values)
        if self._pictures and self.scored:
            kept |= packed(job.rendered)
        self.store.put(self.take.name, job.chunk, kept)
        return job.values


def _crops(job: _Job, scale: float) -> dict[str, np.ndarray]:
    from nldf_engine.evaluation.metrics.syncnet import face_boxes, face_crop

    made = {}
    for name, frames, faces in (
        ("crops", job.rendered, "faces"), ("real_crops", job.real, "real_faces"),
    ):  # fmt: skip
        if faces in job.values and np.isfinite(job.values[faces]).all(axis=(1, 2)).any():
            boxes = face_boxes(job.values[faces] / scale)
            made[name] = np.stack([face_crop(f, box) for f, box in zip(frames, boxes, strict=True)])
    return made


def measure(
    clip: RealClip,
    takes: Sequence[Take],
    tools: Instruments,
    *,
    every: int = 1,
    workers: int | None = None,
    store: Store | None = None,
    keep: Iterable[int] = (),
    onlooker: Onlooker | None = None,
    known: dict[tuple[int, int], np.ndarray] | None = None,
) -> FrameScores:
    """Scores the valid frames of a clip's takes.

    Args:
        clip: what is to be repeated.
        takes: renderings; "rendered" comes first. The others serve the lips alone, and are left out where
            nothing detects faces.
        tools: what the frames are measured with.
        every: scores only every so many frames; times stay true.
        workers: threads; None takes the machine's cores, at most 8. The figures don't depend on it.
        store: keeps finished chunks, so that a run that was stopped goes on.
        keep: indices in the clip whose (real, rendered) frames are returned in `kept`, as far as scored.
        onlooker: is shown every frame in its order: (index, real, rendered, scored, psnr).
        known: faces of the real frames by chunk, read and filled: renderings of one clip share them.

    Returns:
        Figures of every scored frame.

    Raises:
        ValueError: the renderer's frames differ in number, size or dtype from the real ones.
    """
    index = np.arange(0, len(clip), every)
    scores, wanted = FrameScores(index), set(keep)
    known = {} if known is None else known
    takes = takes if tools.detector is not None else takes[:1]
    workers = workers or min(os.cpu_count() or 1, MOST_WORKERS)
    margin = round(STILL_MARGIN * clip.width)
    still = None if clip.labels is None else still_region(clip.labels, margin)
    still = None if still is None or not still.any() else still
    session = getattr(tools.detector, "session", contextlib.nullcontext)
    pieces: dict[str, list[dict[str, np.ndarray]]] = {take.name: [] for take in takes}
    with (
        session(),
        ThreadPoolExecutor(workers) as pool,
        Bar("evaluate", len(index) * len(takes), "frame") as bar,
        _cancelling(pool),
    ):
        for take in takes:
            if take.warm_up is not None and store_lacks(store, take, index):
                for _ in take.warm_up():
                    pass
            pictures = onlooker is not None
            run = _Measurement(
                clip, take, index, tools, store or Store(None, None), pool, pictures, known, still
            )
            for job, values in _in_order(run, cut(len(index)), workers):
                pieces[take.name].append(values)
                chunk = job.chunk
                if run.scored and "real_faces" in values:
                    known[chunk.start, chunk.stop] = values["real_faces"]
                for place, number in enumerate(index[chunk.start : chunk.stop] if job.rendered else ()):
                    if not run.scored:
                        break
                    psnr = float(values["image/psnr"][place])
                    pair = job.real[place], job.rendered[place]
                    if int(number) in wanted:
                        scores.kept[int(number)] = pair[0].copy(), pair[1].copy()
                    if onlooker is not None:
                        onlooker(int(number), *pair, bool(clip.valid[number]), psnr)
                note = f"{np.nanmean(values['image/psnr']):.2f} dB" if _scored(values) else ""
                bar.step(len(chunk), note=note)
            run.rendered.finish()
    _gather(scores, pieces)
    return scores


def _scored(values: dict[str, np.ndarray]) -> bool:
    return "image/psnr" in values and bool(np.isfinite(values["image/psnr"]).any())


def store_lacks(store: Store | None, take: Take, index: np.ndarray) -> bool:
    """Whether any chunk of the take is still to be rendered."""
    return store is None or any(store.get(take.name, chunk) is None for chunk in cut(len(index)))


@contextlib.contextmanager
def _cancelling(pool: ThreadPoolExecutor) -> Iterator[None]:
    """After an error or Ctrl-C no further chunk is begun."""
    try:
        yield
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise


def _in_order(run: _Measurement, chunks: list[Chunk], workers: int) -> Iterator[tuple[_Job, dict]]:
    """Chunks in their order, with enough of them begun that no thread waits for the renderer."""
    waiting: deque[_Job] = deque()
    longest = max((chunk.stop - chunk.first for chunk in chunks), default=1)
    largest = longest * 2 * 3 * run.clip.width * run.clip.height
    ahead = max(1, min(workers // 2, MOST_BYTES // largest))
    for chunk in chunks:
        waiting.append(run.start(chunk))
        while len(waiting) > ahead:
            job = waiting.popleft()
            yield job, run.end(job)
    while waiting:
        job = waiting.popleft()
        yield job, run.end(job)


def _gather(scores: FrameScores, pieces: dict[str, list[dict[str, np.ndarray]]]) -> None:
    """Joins the chunks' results."""

    def joined(name: str, key: str) -> np.ndarray | None:
        found = [values[key] for values in pieces.get(name, []) if key in values]
        return np.concatenate(found) if found else None

    columns = dict.fromkeys(k for values in pieces["rendered"] for k in values if k.startswith("image/"))
    for key in columns:
        whole = joined("rendered", key)
        assert whole is not None
        scores.image[key.removeprefix("image/")] = whole
    places = [("real", "rendered", "real_"), *((name, name, "") for name in pieces)]
    for name, take, prefix in places:
        faces, crops = joined(take, prefix + "faces"), joined(take, prefix + "crops")
        if faces is not None:
            scores.faces[name] = faces
        if crops is not None:
            scores.crops[name] = crops
    for name in ("real", "rendered"):
        features = joined("rendered", f"features_{name}")
        if features is not None:
            scores.features[name] = features
    shaken = [values["flicker"] for values in pieces["rendered"] if "flicker" in values]
    triples = sum(one[2] for one in shaken)
    if triples:
        squares = [sum(one[k] * one[2] for one in shaken) / triples for k in (0, 1)]
        scores.flicker = dict(zip(("rendered", "real"), map(math.sqrt, squares), strict=True))
    # While the first chunk is rendered nothing is scored beside it: its time is the renderer's own.
    spent = pieces["rendered"][0]["seconds"] if pieces["rendered"] else np.zeros(2)
    scores.seconds_per_frame = float(spent[0] / spent[1]) if spent[1] else math.nan
