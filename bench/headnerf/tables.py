"""The tables: swaps of codes, novel views, and retrieval of the sound by the lips."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.headnerf.exact import ExactSubject, recorded
from bench.headnerf.faces import MEASURES, HeadShape, Seen, mean_shape, measure, moved, rms
from nldf_engine.base.errors import FileProblem
from nldf_engine.datasets import open_dataset
from nldf_engine.datasets.dataset import Dataset
from nldf_engine.engine import Engine
from nldf_engine.engine.edits import Edit, HeadEdit, LookEdit
from nldf_engine.evaluation.landmark_detector import Detector
from nldf_engine.evaluation.metrics.judged_sync import JudgeScorer, retrieval
from nldf_engine.geometry.rotations import head_numbers, poses_of
from nldf_engine.nn.sync import cosine, cut, lip_movement, sync_judge

CODES = {"identity": "shape", "expression": "expression", "albedo": "colour", "illumination": "shading"}
"""Each code, and the measure that is its own."""
NOT_EXACT = "exact pictures are known of synthetic speakers alone, and swaps of two or more"
SLOPE = 0.4
TURN = 10.0
APART_AT_LEAST, APART_GOAL = 3.0, 5.0
"""By which factor a code must move its own measure more than any other code does, and should."""


@dataclass(frozen=True)
class Options:
    """How it is measured.

    Args:
        frames: held-out frames, at most.
        split: of the dataset.
        detector: makes the landmark detector of a clip; the package's where None.
        device: where it renders.
    """

    frames: int = 150
    split: str = "heldout"
    detector: Callable[[], Detector] | None = None
    device: str = "auto"


class Subject:
    """An avatar, and the held-out stretch of its speaker that drives it.

    Args:
        avatar, dataset: their folders.
        options: how it is measured.

    Raises:
        FileProblem: a folder can't be used.
        ValueError: fewer than two frames.
    """

    def __init__(self, avatar: Path, dataset: Path, options: Options) -> None:
        self.engine, self.data = Engine.load(avatar, options.device), open_dataset(dataset)
        self.path, self.name, self.options = avatar, avatar.resolve().name, options
        chosen = self.data.indices(options.split)[: options.frames]
        if len(chosen) < 2:
            raise ValueError(
                f"split: {options.split} of {dataset} has {len(chosen)} frames, expected two or more"
            )
        self.numbers = np.arange(chosen[0], chosen[-1] + 1)
        width = self.engine.avatar.camera.width
        self.features = self.data.audio_features(self.engine.avatar.frontend)[self.numbers]
        self.places = self.data.landmarks[self.numbers].astype(np.float32) * (width / self.data.camera.width)
        self.upper: np.ndarray | None = None
        if self.engine.upper_codes:
            self.upper = self.engine.upper(
                self.data.landmarks[self.numbers], self.data.poses[self.numbers],
                self.data.eye_openness[self.numbers], self.data.camera,
            )  # fmt: skip

    @property
    def speakers(self) -> int:
        """How many speakers the avatar's run had."""
        part = self.engine.renderer.portrait.head.driver.part("identity")
        return 1 if part is None else len(part.table)

    @property
    def number(self) -> int:
        """Its own number among them."""
        part = self.engine.renderer.portrait.head.driver.part("identity")
        return 0 if part is None else int(part.own)

    def check_swaps(self) -> None:
        """Checks that there is somebody to swap with, and a code to do it.

        Raises:
            FileProblem: the avatar is of one speaker, or of a system without these codes.
        """
        driver = self.engine.renderer.portrait.head.driver
        if missing := [code for code in CODES if driver.part(code) is None]:
            raise FileProblem(
                self.path, f"it has no code of its own for {', '.join(missing)}",
                "give avatars of `nldf train headnerf-small DATA1 DATA2`",
            )  # fmt: skip
        if self.speakers < 2:
            raise FileProblem(
                self.path, "it is an avatar of one speaker, and swaps are between several",
                "train speakers together: nldf train headnerf-small DATA1 DATA2",
            )  # fmt: skip

    def render(self, edit: Edit | None = None, shift: int = 0) -> np.ndarray:
        """The frames, uint8 [T, H, W, 3], under an edit; `shift` takes the expression from so many frames
        on."""
        upper = None if self.upper is None else np.roll(self.upper, -shift, 0)
        clip = self.engine.render(
            np.roll(self.features, -shift, 0), self.data.poses[self.numbers], upper=upper, edit=edit,
            eyes=np.roll(self.data.eye_openness[self.numbers], -shift).astype(np.float32),
        )  # fmt: skip
        return np.asarray(clip.frames[:])

    def seen(self, edit: Edit | None = None, shift: int = 0) -> Seen:
        """The measures of those frames."""
        return measure(self.render(edit, shift), self.places, self.options.detector)


def swaps(subjects: Sequence[Subject]) -> dict[str, Any]:
    """Swap matrix: what changes when one code at a time does.

    Rows are codes, columns measures.

    Raises:
        FileProblem: see `Subject.check_swaps`.
    """
    found: dict[str, Any] = {"measures": MEASURES}
    matrices = []
    for subject in subjects:
        subject.check_swaps()
        plain = subject.seen()
        matrix = {
            code: _mean([moved(plain, subject.seen(*change)) for change in made])
            for code, made in changes(subject).items()
        }
        matrices.append(matrix)
        found[subject.name] = matrix
    return found | _summed(matrices)


def exact(subjects: Sequence[Subject]) -> dict[str, Any]:
    """Exact swaps: the same of the procedural speakers themselves, which is the most that a model can reach.

    Their renderer has no light to change, so that row is missing.
    """
    speakers = exact_subjects(subjects)
    if len(speakers) < 2:
        return {"reason": NOT_EXACT}
    matrices = []
    for one in speakers:
        plain = one.seen()
        matrices.append(
            {
                code: _mean([moved(plain, one.seen(**change)) for change in made])
                for code, made in one.changes().items()
            }
        )
    return {"measures": MEASURES} | _summed(matrices)


def exact_subjects(subjects: Sequence[Subject]) -> list[ExactSubject]:
    """The procedural speakers of subjects; none where one is real."""
    configs = [recorded(subject.data) for subject in subjects]
    known = [config for config in configs if config is not None]
    if len(known) < len(configs):
        return []
    return [
        ExactSubject(known, number, subject.numbers, subject.options.detector)
        for number, subject in enumerate(subjects)
    ]


def _summed(matrices: Sequence[dict[str, dict[str, float | None]]]) -> dict[str, Any]:
    mean = {code: _mean([matrix[code] for matrix in matrices]) for code in matrices[0]}
    return {"mean": mean, "margins": margins(mean)}


def changes(subject: Subject) -> dict[str, list[tuple[Edit | None, int]]]:
    """The ways to change each code: an edit, and by how many frames the expression is taken from later."""
    others = [number for number in range(subject.speakers) if number != subject.number]
    return {
        "identity": [(Edit(look=LookEdit(identity=one)), 0) for one in others],
        "expression": [(None, len(subject.numbers) // 2)],
        "albedo": [(Edit(look=LookEdit(albedo=one)), 0) for one in others],
        "illumination": [
            (Edit(look=LookEdit(light=(0.0, slope, 0.0))), 0) for slope in (SLOPE, -SLOPE)
        ],
    }  # fmt: skip


def check_picture(subjects: Sequence[Subject]) -> None:
    """Checks that `swap_picture` can be made, before anything is rendered.

    Raises:
        FileProblem: there is nobody to swap with, or avatars are of different runs or sizes.
    """
    first = subjects[0]
    for subject in subjects:
        subject.check_swaps()
        cameras = [one.engine.avatar.camera for one in (first, subject)]
        sizes = [(camera.width, camera.height) for camera in cameras]
        if sizes[0] != sizes[1] or first.speakers != subject.speakers:
            raise FileProblem(
                subject.path,
                f"it has pictures of {sizes[1][0]}x{sizes[1][1]} and {subject.speakers} speakers, and "
                f"{first.path} of {sizes[0][0]}x{sizes[0][1]} and {first.speakers}",
                "give avatars of one run, or leave out --picture",
            )


def swap_picture(subjects: Sequence[Subject], place: float = 0.5) -> np.ndarray:
    """[rows * H, columns * W, 3] uint8: a row a speaker, a column for the frame as it is and for each change.

    Args:
        subjects: of one run, of one size.
        place: of the frame among the held-out ones, 0 to 1.
    """
    rows = []
    for subject in subjects:
        frame = round(place * (len(subject.numbers) - 1))
        every = [(None, 0), *(change for made in changes(subject).values() for change in made)]
        rows.append(np.concatenate([subject.render(*change)[frame] for change in every], 1))
    return np.concatenate(rows)


def margins(matrix: dict[str, dict[str, float | None]]) -> dict[str, float | None]:
    """For each code, by which factor it moves its own measure more than any other code does."""
    made: dict[str, float | None] = {}
    for code in matrix:
        own = CODES[code]
        values = [matrix[other][own] for other in matrix if other != code]
        rest = [value for value in values if value is not None]
        value = matrix[code][own]
        made[code] = None if value is None or not rest else value / max(*rest, 1e-9)
    return made


def _mean(rows: Sequence[dict[str, float | None]]) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for name in rows[0]:
        known = [value for row in rows if (value := row[name]) is not None]
        found[name] = float(np.mean(known)) if known else None
    return found


def views(subjects: Sequence[Subject]) -> dict[str, Any]:
    """Novel views: whether a face that is turned by 10 degrees still has its speaker's shape.

    Its landmarks are compared with what each speaker's tracked head would show under those poses. A view
    keeps the identity where its own speaker's is the nearest of all.
    """
    return _turned(subjects, lambda number, edit, _: subjects[number].seen(Edit(edit)))


def exact_views(subjects: Sequence[Subject]) -> dict[str, Any]:
    """Exact views: the same of the procedural speakers themselves, drawn under those poses.

    Where another's shape is the nearest even here, it is the landmark detector that tells turned faces so.
    """
    speakers = exact_subjects(subjects)
    if not speakers:
        return {"reason": NOT_EXACT}
    return _turned(subjects, lambda number, _, poses: speakers[number].turned(poses))


def _turned(
    subjects: Sequence[Subject], seen_under: Callable[[int, HeadEdit, np.ndarray], Seen]
) -> dict[str, Any]:
    """Rows of `views`: of each subject, what `seen_under` measures of its number, a turn and the poses."""
    heads = {subject.name: head_shape(subject) for subject in subjects}
    found: dict[str, Any] = {}
    for number, subject in enumerate(subjects):
        rows = {}
        for yaw in (-TURN, 0.0, TURN):
            edit = HeadEdit(yaw=yaw, limit="off")
            numbers = head_numbers(torch.from_numpy(subject.data.poses[subject.numbers]))
            poses = poses_of(numbers + edit.offsets(torch.arange(len(numbers)))).numpy()
            try:
                seen = mean_shape(seen_under(number, edit, poses).landmarks)
            except ValueError as error:
                rows[f"{yaw:+g}"] = {"reason": str(error)}
                continue
            apart = {name: rms(seen - head.at(poses)) for name, head in heads.items()}
            rows[f"{yaw:+g}"] = {
                "own": apart[subject.name],
                "nearest other": min((v for name, v in apart.items() if name != subject.name), default=None),
                "kept": min(apart, key=lambda name: apart[name]) == subject.name,
            }
        found[subject.name] = rows
    return found


def head_shape(subject: Subject) -> HeadShape:
    """The shape of a subject's speaker.

    Raises:
        FileProblem: the dataset has none, or no face is found in its frames.
    """
    data, numbers = subject.data, subject.numbers
    points = data.face_points
    if points is None:
        raise FileProblem(
            data.path, "it has no shape of the head, which tells what a turned face must look like",
            "prepare the video again",
        )  # fmt: skip
    frames = data.frames(subject.engine.avatar.camera.width)[numbers[0] : numbers[-1] + 1]
    real = measure(np.asarray(frames), subject.places, subject.options.detector)
    try:
        return HeadShape(points, data.camera, data.poses[numbers], real.landmarks)
    except ValueError as error:
        raise FileProblem(
            data.path, f"its turned faces can't be compared ({error})",
            "measure avatars of larger pictures, or more --frames",
        ) from error  # fmt: skip


def _real_landmarks(subject: Subject) -> np.ndarray:
    return np.asarray(subject.data.landmarks[subject.numbers], np.float64)


def lips(subjects: Sequence[Subject]) -> dict[str, Any]:
    """Lips and sound of held-out speech: how often the true of 11 windows is picked (chance 0.09)

    "own_module": by the avatar's own lip sync module, from the real lips. "judge": by the package's judge,
    from the lips as they are rendered, and from the real ones.
    """
    found = {}
    for subject in subjects:
        judge = JudgeScorer(sync_judge(), _sound(subject.data, subject.numbers), len(subject.numbers))
        rendered = judge(subject.seen().landmarks)
        real = judge(_real_landmarks(subject))
        found[subject.name] = {
            "own_module": own_retrieval(subject), "judge": rendered.retrieval, "judge_real": real.retrieval,
            "reason": rendered.reason or real.reason,
        }  # fmt: skip
    return found


def _sound(data: Dataset, numbers: np.ndarray) -> np.ndarray:
    rate, fps = 16000, data.info.fps
    return np.asarray(data.audio()[round(numbers[0] / fps * rate) : round((numbers[-1] + 1) / fps * rate)])


@torch.no_grad()
def own_retrieval(subject: Subject) -> float | None:
    """The share of windows whose true sound the avatar's lip sync module picks among 11; None where it has
    none."""
    driver = subject.engine.renderer.portrait.head.driver.part("lip")
    if driver is None:
        return None
    module, device = driver.module, subject.engine.device
    movement = lip_movement(torch.from_numpy(_real_landmarks(subject))).float()
    windows = cut(movement, module.frames)
    first = module.frames // 2
    audio = torch.from_numpy(subject.features[first : first + len(windows)])
    sound = module.audio(driver.windows(audio.to(device)))
    return retrieval(cosine(module.lips(windows.to(device)), sound).double().cpu().numpy())


TABLES: dict[str, Callable[[Sequence[Subject]], dict[str, Any]]] = {
    "swaps": swaps,
    "exact": exact,
    "views": views,
    "exact-views": exact_views,
    "lips": lips,
}
