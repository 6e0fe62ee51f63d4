"""The whole preparation: video in, dataset folder out, resumable step by step."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nldf_engine.audio import FrontendConfig
from nldf_engine.base.clock import SAMPLE_RATE
from nldf_engine.base.errors import FileProblem
from nldf_engine.base.files import as_file_problem, printable, sha256
from nldf_engine.base.json import decode, encode
from nldf_engine.base.lock import owned
from nldf_engine.base.memory import peak_memory_mb
from nldf_engine.base.progress import track as track_bar
from nldf_engine.datasets.dataset import DatasetInfo, write_dataset
from nldf_engine.datasets.format import check_target, near_far, training_frames
from nldf_engine.datasets.problems import Problem
from nldf_engine.datasets.stretch import Stretch
from nldf_engine.geometry.cameras import Camera
from nldf_engine.geometry.rotations import head_numbers
from nldf_engine.media.sound import speech_of
from nldf_engine.media.soundtrack import find_soundtrack
from nldf_engine.media.video import VideoInfo, VideoWriter, check_file, frames_at, labels_of, probe
from nldf_engine.media.video_writer import with_sound
from nldf_engine.prepare import checks
from nldf_engine.prepare.background import background_plate
from nldf_engine.prepare.config import PrepareConfig
from nldf_engine.prepare.eyes import eye_openness, mouth_opening
from nldf_engine.prepare.faces import (
    MESH_TO_BOX,
    SAMPLES_PER_SECOND,
    Survey,
    choose_crop,
    even_clock,
    main_faces,
    survey,
)
from nldf_engine.prepare.overlay import Captions, caption_problems
from nldf_engine.prepare.parsing import SkinModel, label_maps, skin_samples
from nldf_engine.prepare.pose import solve_poses
from nldf_engine.prepare.report import Page, Refined, Report, draw
from nldf_engine.prepare.shots import Shots, find_shots, problems_of
from nldf_engine.prepare.sound import judge_sound
from nldf_engine.prepare.source import Source
from nldf_engine.prepare.spoilt import find_spoilt
from nldf_engine.prepare.stabilise import hold_steady
from nldf_engine.prepare.steps import Result, Steps
from nldf_engine.prepare.stretch import Choice, choose_stretch, even_frames
from nldf_engine.prepare.sync import Sync, chosen_shift, measure_sync, shifted, sync_problems
from nldf_engine.prepare.torso import WORK, choose_reference, track_torso
from nldf_engine.prepare.track import LOOK, fill_gaps, track
from nldf_engine.prepare.view import CLEAR, View
from nldf_engine.rendering.torsos import pose_features

VERSION = 9  # of the preparation: raised when a step's results change, which makes old caches invalid
SHOWN = 5  # frames on the contact sheet
KEPT_OF_SOUND = (  # the sound's measurements that dataset.json keeps
    "seconds", "level_db", "silent", "clipped", "lip_lag_ms", "lip_correlation", "shifted_ms",
)  # fmt: skip
PROFILE = "film a face, from the front, filling at least a fifth of the picture's height"


def prepare(video: str | Path, out: str | Path, config: PrepareConfig | None = None) -> Report:
    """Makes a dataset folder from a video of one person talking, as `nldf prepare` does.

    Poses are tracked by landmarks, and refined on the pictures (`PrepareConfig.refine`) where there are
    enough frames; the report says by how much they moved. After an interruption the same call continues from
    the last finished step (kept in `OUT.partial`). The dataset folder is written at the end, in one piece.

    Args:
        video: any file that FFmpeg reads.
        out: the dataset folder; an older one is replaced.
        config: settings.

    Returns:
        What was measured, with the problems found; also in report.json and report.png.

    Raises:
        FileProblem: the video can't be read, is shorter than 2 s, or shows no face; or the output can't be
            written.
        MissingBackend: the audio front-end lacks its library or weights.
    """
    config = config or PrepareConfig()
    path, out = check_file(video), check_target(Path(out))
    info = probe(path)
    if info.seconds < checks.SHORTEST_SECONDS:
        short = f"it lasts {info.seconds:.2f} s, and at least {checks.SHORTEST_SECONDS:.0f} s are needed"
        raise FileProblem(path, short, "record at least a minute of speech")
    if config.audio_frontend:
        # Its library and weights are needed at the very end: report now what is missing.
        FrontendConfig(config.audio_frontend).resolve()
    begin = time.monotonic()
    key = {"video": sha256(path), "config": config.to_json(), "version": VERSION}
    key["refinement"] = encode(config.refinement)
    with owned(out), as_file_problem(out):
        steps = Steps(out.with_name(out.name + ".partial"), key)
        work = _Preparation(path, info, config, steps)
        try:
            parts, report = work.run(), work.report
        except FileProblem as problem:
            if problem.path == path:  # the video is unusable: there is nothing to resume
                steps.remove()
            raise
        parts = work.refine(parts) if config.refine else parts
        report.metrics.update(
            seconds_by_step=steps.seconds,
            seconds_this_run=round(time.monotonic() - begin, 1),
            peak_memory_mb=peak_memory_mb(),
        )
        report.sort()
        verdict = "ready to train" if report.usable else "not fit for training"
        picture = draw(report, work.page, f"{path.name}: {verdict}", config.fps)
        dataset = write_dataset(out, **parts, report=report.to_json(), report_image=picture)
        if config.audio_frontend:
            dataset.audio_features(config.audio_frontend)
        steps.remove()
    return report


@dataclass(frozen=True)
class _Found:
    """Results of the steps, for T frames.

    Args:
        samples: [N] of the sound, 16 kHz mono; None where the video has no sound.
        original: samples [N, channels] as they were, and their rate, for the viewing copy; None likewise.
        posed: "poses" [T, 4, 4], "shape" [478, 3] (metres), "landmarks" [T, 478, 3] (pixels), "valid" and
            "rms" [T].
        plate: "plate" uint8 [S, S, 3] and "filled" bool [S, S].
        torso: "motion" [T, 2, 3] (pixels), "reference" [1], "match" [T].
        camera: of the dataset.
        angles: [T, 3] pitch, yaw and roll in degrees.
        eyes, mouth: [T] openness.
        cuts: frame numbers at which the shot changes.
    """

    samples: np.ndarray | None
    original: tuple[np.ndarray, int] | None
    posed: dict[str, np.ndarray]
    plate: dict[str, np.ndarray]
    torso: dict[str, np.ndarray]
    camera: Camera
    angles: np.ndarray
    eyes: np.ndarray
    mouth: np.ndarray
    cuts: list[int]

    def level(self, fps: float) -> np.ndarray:
        """Loudness of each frame, dB, [T]."""
        step = round(SAMPLE_RATE / fps)
        power = (self.sound(len(self.eyes) * step).reshape(-1, step) ** 2).mean(1)
        return 10 * np.log10(power + 1e-8)

    def sound(self, length: int) -> np.ndarray:
        """The samples cut or padded with silence to `length`."""
        if self.samples is None:
            return np.zeros(length, np.float32)
        return np.pad(self.samples[:length], (0, max(0, length - len(self.samples))))


def _cut(
    samples: np.ndarray | None, original: tuple[np.ndarray, int] | None, source: Source, fps: float
) -> tuple[np.ndarray | None, tuple[np.ndarray, int] | None]:
    """The sound of what is prepared, in memory of its own."""
    if samples is None or original is None or source.last is None:
        return samples, original

    def part(values: np.ndarray, rate: int) -> np.ndarray:
        assert source.last is not None
        return values[round(source.first / fps * rate) : round(source.last / fps * rate)].copy()

    return part(samples, SAMPLE_RATE), (part(*original), original[1])


class _Preparation:
    """The steps of `run`; each is cached."""

    def __init__(self, path: Path, info: VideoInfo, config: PrepareConfig, steps: Steps) -> None:
        self.path, self.info, self.config, self.steps = path, info, config, steps
        self.report = Report()
        self.sync, self.shift = Sync(None), 0.0
        self.begins: np.ndarray = np.zeros(1, np.int64)  # frames that shots begin at

    def run(self) -> dict[str, Any]:
        """Runs what is not finished; returns the arguments of `write_dataset`."""
        size, fps, steps, metrics = self.config.size, self.config.fps, self.steps, self.report.metrics
        samples, original = self._sound()
        source = self._find(samples)
        samples, original = _cut(samples, original, source, fps)
        tracked, _ = steps.run(
            "track",
            lambda: (track(source, self.config, steps.folder), {}),
            ("video.mp4", "mask.mkv"),
        )
        if not tracked["valid"].any():
            raise FileProblem(self.path, "no face could be tracked in it", PROFILE)
        usable = self._usable(tracked, samples, source.shots)
        self.steady = hold_steady(source, self.config, steps, tracked["landmarks"], usable)
        total = len(usable)
        metrics.update(frames=total, seconds=total / fps, size=size)
        posed, pose_metrics = steps.run("pose", lambda: self._poses(usable, source))
        landmarks, valid, poses = posed["landmarks"], posed["valid"], posed["poses"]
        plate, _ = steps.run("background", lambda: self._background(valid))
        steps.run("parsing", lambda: self._parse(landmarks, valid), ("parsing.mkv",))
        torso, torso_metrics = steps.run("torso", lambda: self._torso(source, landmarks, poses, valid))
        _, scene = steps.run("scene", lambda: ({}, self._scene(plate["plate"], plate["filled"], valid)))
        focal = pose_metrics["focal"]
        camera = Camera(size, size, focal, focal, *pose_metrics["principal_point"])
        samples, original = self._in_time(samples, original, posed, camera)
        found = _Found(
            samples,
            original,
            posed,
            plate,
            torso,
            camera,
            # Pitch downwards, yaw to the picture's left, roll.
            head_numbers(torch.from_numpy(poses)).numpy()[:, [1, 0, 2]] * [-1, -1, 1],
            eye_openness(landmarks, poses, posed["shape"], focal),
            mouth_opening(landmarks, poses, posed["shape"], focal),
            self.begins[1:].tolist(),
        )
        metrics["shots"] = source.shots.metrics(self.begins, valid, fps)
        self.report.problems += problems_of(metrics["shots"])
        metrics.update(pose_metrics, **torso_metrics, **scene, cuts=found.cuts, **self.steady.metrics())
        self._judge(found)
        self.page = self._page(found)
        return self._parts(found, source)

    def _parts(self, found: _Found, source: Source) -> dict[str, Any]:
        """The arguments of `write_dataset`."""
        size, metrics, posed = self.config.size, self.report.metrics, found.posed
        total, poses = len(posed["valid"]), posed["poses"]
        near, far = near_far(poses[posed["valid"]])
        sound = {k: v for k, v in (metrics["sound"] or {"silent": True}).items() if k in KEPT_OF_SOUND}
        moves = {"backdrop_moves": np.array([1], np.int64)} if checks.backdrop_moves(metrics) else {}
        return {
            "info": DatasetInfo(
                frames=total,
                size=(size, size),
                camera=found.camera,
                near=near,
                far=far,
                source=metrics["source"],
                audio={**sound, "frontend": self.config.audio_frontend},
                provenance={"tool": "nldf prepare", "version": VERSION, "config": self.config.to_json()},
            ),
            "video": self._video(found),
            "labels": self.steps.path("parsing.mkv"),
            "background": found.plate["plate"],
            "audio": found.sound(round(total / self.config.fps * SAMPLE_RATE)),
            "track": {
                "poses": poses,
                "landmarks": posed["landmarks"][..., :2],
                "eye_openness": found.eyes,
                "valid": posed["valid"] & self._heard(total),
                "mouth_opening": found.mouth,
                "shape": posed["shape"].astype(np.float32),
                "torso": found.torso["motion"],
                "torso_reference": found.torso["reference"],
                **self.steady.tensors(size),
                **self._shot_tensors(source),
                **moves,
            },
        }

    def _shot_tensors(self, source: Source) -> dict[str, np.ndarray]:
        """What the dataset's track keeps of shots: where they begin and how they lie; may be empty."""
        if len(self.begins) < 2:
            return {}
        place = source.shots.place.copy()  # of the view's pixels; the track's are of the whole frame's
        corner = np.array([source.view.x, source.view.y])
        place[:, :, 2] += corner - place[:, :, :2] @ corner
        return {"shots": self.begins, "shot_place": place.astype(np.float32)}

    def refine(self, parts: dict[str, Any]) -> dict[str, Any]:
        """The arguments of `write_dataset` with refined poses; unchanged for a video that is too short."""
        from nldf_engine.prepare.refine import FEWEST_FRAMES, provenance, refined_track

        if parts["track"]["valid"].sum() < FEWEST_FRAMES:
            self.report.too_short = True
            return parts

        def work() -> Result:
            # The refinement trains on a dataset: this one is part of the cache, and deleted with it.
            tracked = write_dataset(self.steps.path("tracked"), **parts)
            if self.config.audio_frontend:
                tracked.audio_features(self.config.audio_frontend)
            moved, refined = refined_track(tracked, self.config.refinement)
            return moved, encode(refined)

        moved, metrics = self.steps.run("refine", work)
        self.report.refined = decode(Refined, metrics, "refine.json")
        info = parts["info"]
        described = {**info.provenance, "refined": provenance(self.config.refinement)}
        return {
            **parts,
            "info": replace(info, provenance=described),
            "track": {**parts["track"], **moved},
        }

    def _video(self, found: _Found) -> Path:
        """The dataset's video: the frames, with the sound where there is any."""
        frames = self.steps.path(self.steady.video)
        if found.original is None:
            return frames
        original, path = found.original, self.steps.path("with_sound.mp4")
        with_sound(frames, path, original)
        return path

    def _survey(self) -> tuple[Survey, bool]:
        """A first look at the whole video, and whether it is an inset."""

        def look() -> Result:
            seen = survey(self.path, self.info)
            arrays = {"boxes": seen.boxes, "times": seen.times, "changes": seen.changes}
            values = {"samples": seen.samples, "view": encode(seen.view), "inset": seen.inset}
            return arrays, {**values, "combed": seen.combed}

        found, metrics = self.steps.run("find", look)
        view = decode(View, metrics["view"], "find.json")
        first = Survey(
            found["boxes"], metrics["samples"], found["times"], found["changes"], view,
            combed=metrics["combed"],
        )  # fmt: skip
        return first, metrics["inset"]

    def _find(self, samples: np.ndarray | None) -> Source:
        """What is prepared of the video; of a long one, the best stretch.

        Args:
            samples: [N] of the sound, 16 kHz mono; None where there is none.
        """
        first, inset = self._survey()
        view, shots = first.view, self._shots(first)
        boxes = shots.boxes(first.boxes, first.boxes[:, 0] / SAMPLES_PER_SECOND)
        speaker, others = main_faces(boxes)
        if not len(speaker):
            raise FileProblem(self.path, "no face was found in it", PROFILE)
        info = view.seen(self.info)
        crop = choose_crop(speaker, info, self.config.margin)
        clock, repeats = even_clock(first.times, first.changes, self.config.fps)
        begins = shots.frames_on(first.times, clock, self.config.fps)
        source = Source(self.path, info, crop, clock, view, shots)
        length, count = round(60 * self.config.minutes * self.config.fps), first.samples
        seconds = even_frames(first, clock)
        if len(seconds) > length:
            part = self._choose(source, first, speaker[others, 0].astype(int), samples, length)
            low = int(np.searchsorted(begins, part.first, side="right")) - 1
            high = int(np.searchsorted(begins, part.last))
            begins = (begins[low:high] - part.first).clip(0)
            begin, end = seconds[[part.first, part.last - 1]] * SAMPLES_PER_SECOND
            inside = (boxes[:, 0] >= begin) & (boxes[:, 0] <= end)
            speaker, others = main_faces(boxes[inside] if inside.any() else boxes)
            crop, count = choose_crop(speaker, info, self.config.margin), round(end - begin)
            info = replace(info, seconds=length / self.config.fps)
            source = Source(self.path, info, crop, clock, view, shots.part(low, high), part.first, part.last)
        self.begins = begins
        crowd, face = float(others.mean()), float(np.median(speaker[:, 4])) * MESH_TO_BOX
        self.report.problems += checks.face_problems(self.info, crowd, face)
        self.report.problems += checks.field_problems(first.combed)
        self.report.problems += view.problems(inset)
        self.report.metrics.update(
            source={
                "name": printable(self.path.name),
                "sha256": sha256(self.path),
                "width": self.info.width,
                "height": self.info.height,
                "fps": round(self.info.fps, 3),
                "seconds": round(self.info.seconds, 3),
                "codec": self.info.codec,
                "rotation": self.info.rotation,
                "interlaced": self.info.interlaced,
                "turned": 90 * view.turns,
                "crop": [crop.x + view.x, crop.y + view.y, crop.side],
                "view": [view.x, view.y, info.width, info.height],
                **({"first_frame": source.first} if source.last else {}),
            },
            face_pixels=round(face, 1),
            repeated_frames_dropped=round(repeats, 4),
            second_face=round(crowd, 4),
            samples_with_face=round(len(speaker) / max(1, count, len(speaker)), 4),
        )
        return source

    def _choose(
        self, source: Source, first: Survey, crowded: np.ndarray, samples: np.ndarray | None, length: int
    ) -> Stretch:
        """The frames of the whole video that are prepared; reports why."""

        def look() -> Result:
            return {}, encode(choose_stretch(source, first, crowded, samples, length))

        _, found = self.steps.run("stretch", look)
        choice = decode(Choice, found, "stretch.json")
        self.report.metrics["stretch"] = choice.metrics()
        self.report.problems.append(choice.problem())
        return choice.chosen

    def _shots(self, first: Survey) -> Shots:
        """The shots of the video, and how they lie in one framing."""

        def look() -> Result:
            clear = first.boxes[first.boxes[:, 5] >= CLEAR]
            faces = np.unique((clear if len(clear) else first.boxes)[:, 0]) / SAMPLES_PER_SECOND
            found = find_shots(self.path, first.view, first.times, first.changes, faces)
            return found.tensors(), {"reference": found.reference}

        arrays, metrics = self.steps.run("shots", look)
        return Shots.of_tensors(arrays, metrics["reference"])

    def _sound(self) -> tuple[np.ndarray | None, tuple[np.ndarray, int] | None]:
        """16 kHz mono samples, and the original sound for the dataset's video; None without sound."""
        if not self.info.has_audio:
            return None, None
        found = find_soundtrack(self.path)
        original = found.read()
        self.report.problems += [Problem("sound", note, "", "note") for note in found.all_notes()]
        return speech_of(*original), original

    def _usable(self, tracked: dict[str, np.ndarray], samples: np.ndarray | None, shots: Shots) -> np.ndarray:
        """Frames [T] that show a face and that an avatar may learn from; what is wrong is reported."""
        spoilt = find_spoilt(tracked, samples)
        number = np.searchsorted(self.begins, np.arange(len(tracked["valid"])), side="right") - 1
        shown = shots.usable[number]
        usable: np.ndarray = tracked["valid"] & ~spoilt.any & shown
        if not usable.any():
            raise FileProblem(self.path, "no frame of it shows a face that moves, uncovered and lit", PROFILE)
        self.report.problems += spoilt.problems(self.config.fps)
        self.report.metrics.update(
            frames_faint=int(spoilt.faint.sum()), frames_still=int(spoilt.still.sum()),
            frames_covered=int(spoilt.covered.sum()),
            left_out_share=round(float((tracked["valid"] & ~usable).mean()), 4),
        )  # fmt: skip
        return usable

    def _in_time(
        self,
        samples: np.ndarray | None,
        original: tuple[np.ndarray, int] | None,
        posed: dict[str, np.ndarray],
        camera: Camera,
    ) -> tuple[np.ndarray | None, tuple[np.ndarray, int] | None]:
        """Both sounds, moved to where the lips are as `PrepareConfig.sync` says; reports what was found."""
        if samples is None or original is None:
            return samples, original

        def measure() -> Result:
            found = measure_sync(
                samples, posed["landmarks"], posed["poses"], posed["shape"], camera, posed["valid"]
            )
            return {}, encode(found)

        _, found = self.steps.run("sync", measure)
        self.sync, setting = decode(Sync, found, "sync.json"), self.config.sync
        self.shift = chosen_shift(setting, self.sync)
        self.report.problems += sync_problems(self.sync, self.shift, setting)
        moved, rate = original
        if not self.shift:
            return samples, original
        return shifted(samples, SAMPLE_RATE, self.shift), (shifted(moved, rate, self.shift), rate)

    def _heard(self, total: int) -> np.ndarray:
        """[T] whether the moved sound reaches a frame: moving it leaves a beginning or an end without."""
        frames = math.ceil(abs(self.shift) / 1000 * self.config.fps)
        heard = np.ones(total, bool)
        if self.shift > 0:
            heard[:frames] = False
        elif frames:
            heard[max(0, total - frames) :] = False
        return heard

    def _poses(self, seen: np.ndarray, source: Source) -> Result:
        centre = source.principal_point(self.config.size)
        if self.steady.stabiliser is not None:
            centre = self.steady.stabiliser.principal_point(centre, self.config.size)
        up = self.config.size / LOOK
        landmarks = self.steady.landmarks * up
        solved = solve_poses(
            landmarks, seen, centre, self.config.size, self.config.smoothing, self.begins[1:].tolist()
        )
        filled = fill_gaps(landmarks, solved.valid)
        rms = solved.rms / up
        arrays = {
            "poses": solved.poses.astype(np.float32),
            "shape": solved.shape,
            "landmarks": filled.astype(np.float32),
            "valid": solved.valid,
            "rms": np.nan_to_num(rms).astype(np.float32),
        }
        distance = np.linalg.norm(solved.poses[solved.valid, :3, 3], axis=1)
        metrics = {
            "valid_share": round(float(solved.valid.mean()), 4),
            "pose_rms_512": round(float(np.sqrt(np.nanmean(rms**2))), 4),
            "pose_median_512": round(float(np.nanmedian(rms)), 4),
            "focal": round(solved.focal, 2),
            "principal_point": [round(c, 2) for c in centre],
            "camera_distance": round(float(np.median(distance)), 4),
            "focals_compared": [list(f) for f in solved.focals],
        }
        return arrays, metrics

    def _frames(self) -> Iterator[np.ndarray]:
        return frames_at(self.steps.path(self.steady.video), fps=None)

    def _masks(self) -> Iterator[np.ndarray]:
        return labels_of(self.steps.path(self.steady.mask))

    def _labels(self) -> Iterator[np.ndarray]:
        return labels_of(self.steps.path("parsing.mkv"))

    def _background(self, valid: np.ndarray) -> Result:
        # Training frames only, so that no held-out pixels leak into the plate.
        part = training_frames(len(valid))
        frames = itertools.islice(track_bar(self._frames(), "clean background", part, "frame"), part)
        plate, filled = background_plate(frames, itertools.islice(self._masks(), part), part, valid[:part])
        return {"plate": plate, "filled": filled}, {}

    def _parse(self, landmarks: np.ndarray, valid: np.ndarray) -> Result:
        total, size = len(valid), self.config.size
        chosen = checks.spread(total, 40)
        patches = [
            skin_samples(frame, landmarks[k])
            for k, frame in enumerate(self._frames())
            if k in chosen and valid[k]
        ]
        skin = SkinModel(np.concatenate(patches or [np.full((1, 3), 160, np.uint8)]))
        maps = label_maps(self._frames(), self._masks(), landmarks, skin)
        with VideoWriter(self.steps.path("parsing.mkv"), size, size, self.config.fps, codec="ffv1") as out:
            for label in track_bar(maps, "splitting head, neck and torso", total, "frame"):
                out.write(label)
        return {}, {}

    def _torso(self, source: Source, landmarks: np.ndarray, poses: np.ndarray, valid: np.ndarray) -> Result:
        # The reference frame is in the training part, so that no held-out pixels leak into the torso.
        total, part = len(valid), training_frames(len(valid))
        reference = choose_reference(landmarks, valid, part)
        features = pose_features(torch.from_numpy(poses))[:, :-1].double().numpy()
        shots, filmed = np.searchsorted(self.begins, np.arange(total), side="right") - 1, source.filmed(WORK)
        found = track_torso(
            self._frames(), self._labels(), total, reference, features, part, valid, self.begins[1:].tolist(),
            lambda index: filmed[shots[index]],
        )  # fmt: skip
        arrays = {
            "motion": found.motion,
            "reference": np.array([found.reference], np.int64),
            "match": found.match,
        }
        metrics = {
            "torso_reference": found.reference,
            "torso_certainty": [round(float(v), 3) for v in found.certainty],
            "torso_match_median": round(float(np.median(found.match)), 4),
            "torso_match_lowest": round(float(found.match.min()), 4),
        }
        return arrays, metrics

    def _scene(self, plate: np.ndarray, filled: np.ndarray, valid: np.ndarray) -> dict[str, Any]:
        # Captions keep their place in the frames as they were filmed.
        captions, filmed = Captions(self.config.fps), frames_at(self.steps.path("video.mp4"), fps=None)
        labels = captions.watch(filmed, self._labels())
        seen = checks.look_at_scene(self._frames(), labels, plate, filled, valid)
        return {**seen, **captions.found()}

    def _judge(self, found: _Found) -> None:
        """Adds measurements of the tracks and the sound to the report, and every problem found in them."""
        from nldf_engine.audio import is_silent, level_db

        metrics, fps, valid, samples = (
            self.report.metrics,
            self.config.fps,
            found.posed["valid"],
            found.samples,
        )
        metrics["background_guessed"] = round(float(found.plate["filled"].mean()), 4)
        metrics["mouth_range"] = round(float(np.subtract(*np.percentile(found.mouth[valid], [95, 5]))), 4)
        metrics["eye_openness_percentiles"] = [
            round(float(v), 3) for v in np.percentile(found.eyes[valid], [1, 50, 99])
        ]
        low, high = np.percentile(found.angles[valid], [5, 95], axis=0)
        metrics["head_range_degrees"] = [round(float(v), 2) for v in high - low]
        sound: dict[str, Any] | None = None
        if samples is not None:
            quality, problems = judge_sound(samples)
            self.report.problems += problems
            sound = {
                "seconds": round(len(samples) / SAMPLE_RATE, 3),
                "level_db": round(level_db(samples), 2),
                "silent": is_silent(samples),
                "clipped": round(float((np.abs(samples) > 0.999).mean()), 6) if len(samples) else 0.0,
                **self.sync.metrics(),
                "shifted_ms": round(self.shift, 1),
                **quality,
            }
        metrics["sound"] = sound
        self.report.problems += checks.track_problems(metrics)
        self.report.problems += checks.camera_notes(metrics) + checks.scene_problems(metrics)
        self.report.problems += caption_problems(metrics, fps)
        self.report.problems += checks.sound_problems(sound, len(valid) / fps)

    def _page(self, found: _Found) -> Page:
        chosen = checks.spread(len(found.eyes), SHOWN)
        at = sorted(chosen)
        middle = np.array([self.config.size / 2, 0.9 * self.config.size, 1.0])
        return Page(
            frames=checks.pick(self._frames(), chosen),
            labels=checks.pick(self._labels(), chosen),
            landmarks=found.posed["landmarks"][at],
            at=at,
            background=found.plate["plate"],
            filled=found.plate["filled"],
            angles=found.angles,
            eyes=found.eyes,
            mouth=found.mouth,
            valid=found.posed["valid"],
            rms=found.posed["rms"],
            torso=found.torso["motion"] @ middle - middle[:2],
            level=found.level(self.config.fps),
            camera=self.steady.camera,
            cuts=found.cuts,
        )
