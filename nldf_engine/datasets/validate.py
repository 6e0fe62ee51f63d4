"""Says what is wrong with a folder of this package, and what mends it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nldf_engine.base.errors import FileProblem, NldfError

if TYPE_CHECKING:
    from nldf_engine.datasets.dataset import Dataset

SEVERITIES = ("note", "warning", "severe", "error")


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Args:
        where: the file, or the part of the video.
        what: what was measured or found, in a sentence without a full stop.
        mend: what a person can do about it.
        severity: "note" (worth knowing), "warning" (the result suffers), "severe" (training makes
            little sense), "error" (unusable).

    Raises:
        ValueError: an unknown severity.
    """

    where: str
    what: str
    mend: str
    severity: str = "error"

    def __post_init__(self) -> None:
        if self.severity not in SEVERITIES:
            raise ValueError(
                f"Problem: severity must be one of {', '.join(SEVERITIES)}, got {self.severity!r}"
            )

    def __str__(self) -> str:
        return f"{self.severity}: {self.where}: {self.what}." + (
            f" To mend it: {self.mend}." if self.mend else ""
        )

    def to_json(self) -> dict[str, Any]:
        """The fields as a dictionary."""
        return asdict(self)


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
    from nldf_engine.datasets.foreign import detect

    if detect(path) is not None:
        from nldf_engine.datasets.foreign.decode import examine

        return examine(path)
    held = ", ".join(sorted(f.name for f in path.iterdir())[:8]) or "nothing"
    what = f"looked for dataset.json (a dataset) and avatar.json (an avatar), and found {held}"
    return [Problem(str(path), what, "name the folder that `nldf prepare` or `nldf train` wrote")]


def _of(error: NldfError, path: Path) -> Problem:
    if isinstance(error, FileProblem):
        return Problem(str(error.path), error.problem, error.mend)
    return Problem(str(path), str(error), "")


def _dataset(path: Path) -> list[Problem]:
    from nldf_engine.base.files import read_json
    from nldf_engine.datasets.dataset import Dataset

    try:
        dataset = Dataset.open(path)
    except NldfError as error:
        return [_of(error, path)]
    problems = _contents(dataset)
    # Each part by itself, so that one damaged file does not hide another.
    width = min(64, dataset.info.size[0])
    for read in (
        dataset.background,
        dataset.audio,
        lambda: dataset.frames(width),
        lambda: dataset.labels(width),
    ):
        try:
            read()
        except NldfError as error:
            problems.append(_of(error, path))
    heard = all(problem.severity != "error" for problem in problems)
    seconds, wanted = len(dataset.audio()) / 16000 if heard else None, len(dataset) / dataset.info.fps
    if seconds is not None and seconds < wanted - 0.5:
        what = f"the sound lasts {seconds:.2f} s and the picture {wanted:.2f} s"
        problems.append(Problem("audio.wav", what, "run nldf prepare again", "warning"))
    for split in ("fit", "validation", "heldout"):
        if not len(dataset.indices(split)):
            what = f"no frame with a face is left for {split!r}"
            problems.append(Problem("track.safetensors", what, "record a longer video", "severe"))
    try:
        report = read_json(path / "report.json") if (path / "report.json").exists() else {}
        kept = report.get("problems", []) if isinstance(report, dict) else []
        problems += [Problem(**{k: str(v) for k, v in p.items()}) for p in kept]
    except (NldfError, TypeError, ValueError, AttributeError) as error:
        problems.append(
            Problem("report.json", f"it can't be read ({error})", "run nldf prepare again", "note")
        )
    return problems


def _contents(dataset: Dataset) -> list[Problem]:
    """The bytes of each file against what dataset.json says of them."""
    from nldf_engine.datasets.contents import CHANGED, EDITABLE, changed_files

    files, again = dataset.info.files, "copy the dataset again, or run nldf prepare again"
    if not any(isinstance(stated, dict) for stated in files.values()):
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
    from nldf_engine.avatar import Avatar

    try:
        Avatar.load(path)
    except NldfError as error:
        return [_of(error, path)]
    return []
