"""Says what is wrong with a folder of this package, and what to do about it."""

from __future__ import annotations

from pathlib import Path

from nldf_engine.avatar import Avatar
from nldf_engine.base.clock import SAMPLE_RATE
from nldf_engine.base.errors import FileProblem, NldfError
from nldf_engine.base.files import read_json
from nldf_engine.datasets.dataset import Dataset
from nldf_engine.datasets.foreign.decode import examine
from nldf_engine.datasets.foreign.kinds import detect
from nldf_engine.datasets.format import CHANGED, EDITABLE, changed_files
from nldf_engine.datasets.problems import Problem

SOUND_SLACK = 0.5  # seconds that the sound may be shorter than the picture


def validate(path: str | Path) -> list[Problem]:
    """Checks a dataset or an avatar folder whole, decoding everything in it once.

    A dataset is known by its dataset.json, an avatar by its avatar.json, a folder of AD-NeRF, DFRF,
    RAD-NeRF or ER-NeRF by its transforms files. A good folder gives an empty
    list, or what its own report.json still warns about.

    Args:
        path: the folder.
    """
    path = Path(path)
    if not path.is_dir():
        what = "it is a file, not a folder" if path.exists() else "there is no such folder"
        return [Problem(str(path), what, "name the folder of a dataset or an avatar")]
    if (path / "dataset.json").exists():
        return _dataset(path)
    if (path / "avatar.json").exists():
        return _avatar(path)
    if detect(path) is not None:
        return examine(path)
    held = ", ".join(sorted(f.name for f in path.iterdir())[:8]) or "nothing"
    what = f"looked for dataset.json (a dataset) and avatar.json (an avatar), and found {held}"
    return [Problem(str(path), what, "name the folder that `nldf prepare` or `nldf train` wrote")]


def _of(error: NldfError, path: Path) -> Problem:
    if isinstance(error, FileProblem):
        return Problem(str(error.path), error.problem, error.remedy)
    return Problem(str(path), str(error), "")


def _dataset(path: Path) -> list[Problem]:
    try:
        dataset = Dataset.open(path)
    except NldfError as error:
        return [_of(error, path)]
    problems = [*_contents(dataset), *_decoded(dataset)]
    if all(problem.severity != "error" for problem in problems):
        problems += _length_of_sound(dataset)
    return [*problems, *_empty_splits(dataset), *_reported(path)]


def _decoded(dataset: Dataset) -> list[Problem]:
    """Damage that shows when files are read whole; each one on its own, so that none hides another."""
    width, problems = min(64, dataset.info.size[0]), []
    for read in (
        dataset.background,
        dataset.audio,
        lambda: dataset.frames(width),
        lambda: dataset.labels(width),
    ):
        try:
            read()
        except NldfError as error:
            problems.append(_of(error, dataset.path))
    return problems


def _length_of_sound(dataset: Dataset) -> list[Problem]:
    seconds, wanted = len(dataset.audio()) / SAMPLE_RATE, len(dataset) / dataset.info.fps
    if seconds >= wanted - SOUND_SLACK:
        return []
    what = f"the sound lasts {seconds:.2f} s and the picture {wanted:.2f} s"
    return [Problem("audio.wav", what, "run nldf prepare again", "warning")]


def _empty_splits(dataset: Dataset) -> list[Problem]:
    return [
        Problem(
            "track.safetensors",
            f"no frame with a face is left for {split!r}",
            "record a longer video",
            "severe",
        )
        for split in ("fit", "validation", "heldout")
        if not len(dataset.indices(split))
    ]


def _reported(path: Path) -> list[Problem]:
    """What report.json of the dataset still warns about."""
    try:
        report = read_json(path / "report.json") if (path / "report.json").exists() else {}
        kept = report.get("problems", []) if isinstance(report, dict) else []
        return [Problem.from_json(problem) for problem in kept]
    except (NldfError, TypeError, ValueError, AttributeError) as error:
        return [Problem("report.json", f"it can't be read ({error})", "run nldf prepare again", "note")]


def _contents(dataset: Dataset) -> list[Problem]:
    """The bytes of each file against what dataset.json says of them."""
    files, again = dataset.info.files, "copy the dataset again, or run nldf prepare again"
    if not files:
        what = "it holds no SHA-256 of the files: there is nothing to compare their content with"
        return [Problem("dataset.json", what, "run nldf prepare again to have them", "note")]
    edited = f"nothing, if you edited it; otherwise {again}"
    return [
        Problem(str(dataset.path / name), CHANGED, edited, "note")
        if name in EDITABLE
        else Problem(str(dataset.path / name), CHANGED, again)
        for name in changed_files(dataset.path, files)
    ]


def _avatar(path: Path) -> list[Problem]:
    try:
        Avatar.load(path)
    except NldfError as error:
        return [_of(error, path)]
    return []
