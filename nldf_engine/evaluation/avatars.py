"""Evaluating avatars on the frames of a dataset: one, or several in one table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from nldf_engine.avatar import Avatar
from nldf_engine.base.files import sha256, write_json
from nldf_engine.base.html import require_jinja
from nldf_engine.base.results import key_of
from nldf_engine.datasets import Dataset, open_dataset
from nldf_engine.engine import Engine
from nldf_engine.evaluation.clip_evaluation import evaluate_clip
from nldf_engine.evaluation.config import EvaluateConfig
from nldf_engine.evaluation.landmark_detector import Detector, FaceMesh
from nldf_engine.evaluation.real_clip import check_same_view, real_clip
from nldf_engine.evaluation.renderers import EngineRenderer, Renderer
from nldf_engine.evaluation.report.page import write_index
from nldf_engine.evaluation.scoring import RealFaces


def evaluate(
    avatar: str | Path,
    dataset: str | Path,
    out: str | Path | None = None,
    config: EvaluateConfig | None = None,
    renderer: Renderer | None = None,
    detector: Callable[[], Detector] | None = FaceMesh,
    real_faces: RealFaces | None = None,
) -> dict[str, Any]:
    """Scores an avatar against the frames of a dataset and writes the report.

    Written into `out`, each file whole or not at all: `metrics.json` (what is returned, and what each
    metric means), `frames.json` (one value a frame), and, unless switched off, `contact_sheet.png`,
    `curves.png`, `comparison.mp4` and `report.html`, one page that holds everything.

    Args:
        avatar: the avatar's folder.
        dataset: the dataset's folder.
        out: folder for the report; `AVATAR/evaluation/SPLIT` where None.
        config: how.
        renderer: scores this renderer instead of the avatar's own engine.
        detector: makes the landmark detector of one run of frames. Where that can't be made the lips'
            metrics are null and `lmd_reason` says so. None leaves them out.
        real_faces: faces of the real frames, filled and read: share one between avatars of one size.

    Returns:
        The metrics; one that could not be measured is None, and `<metric>_reason` says why.

    Raises:
        FileProblem: avatar or dataset can't be used or don't belong together, `out` can't be written.
        MissingBackend: the pictures are wanted and a library that draws them is missing, or a device is
            missing.
        ValueError: an argument out of range, or a split with fewer than two valid frames.

    Example:
        >>> evaluate("avatars/me", "data/speaker")["psnr"]      # doctest: +SKIP
        29.87
    """
    config = config or EvaluateConfig()
    avatar, dataset = Path(avatar), Path(dataset)
    if renderer is None:
        engine = Engine.load(avatar, config.device, config.precision, config.backend)
        subject = engine.avatar
    else:
        subject = Avatar.load(avatar)
    data = open_dataset(dataset)
    data.check_unchanged()
    camera = subject.camera if config.size is None else subject.camera.scaled(config.size)
    check_same_view(dataset, data.camera, camera)
    clip = real_clip(
        data, config.split, config.frames, camera.width, subject.frontend, config.foreign_audio, config.phones
    )
    own = subject.provenance.get("dataset") == data.hash()
    torso = clip.torso if own and config.torso == "tracked" else None
    upper = None
    if renderer is None and own and engine.upper_codes and clip.landmarks is not None:
        upper = engine.upper(clip.landmarks, clip.poses, clip.eyes, data.camera.scaled(camera.width))
    header = {
        "split": config.split,
        "torso": "predicted" if torso is None else "tracked",
        "upper": "tracked" if upper is not None else "own track" if subject.upper is not None else None,
        **_origin(avatar, subject, dataset, data),
    }
    out = Path(out) if out is not None else avatar / "evaluation" / config.split
    if renderer is None:
        files = [sha256(path) for path in sorted(avatar.iterdir()) if path.is_file()]
        identity = key_of(files, engine.precision)
        renderer = EngineRenderer(engine, camera.width, torso, upper, identity)
    return evaluate_clip(clip, renderer, out, header, config, detector, real_faces)


def _origin(path: Path, avatar: Avatar, dataset: Path, data: Dataset) -> dict[str, Any]:
    """What the report says of where avatar and dataset come from."""
    trained_on = avatar.provenance.get("dataset")
    return {
        "avatar": path.resolve().name,
        "avatar_hash": sha256(path / "avatar.json"),
        "system": avatar.system,
        "dataset": dataset.resolve().name,
        "dataset_hash": data.hash(),
        "trained_on_hash": trained_on,
        "trained_on_this_dataset": trained_on == data.hash(),
    }


def evaluate_many(
    avatars: Sequence[str | Path],
    dataset: str | Path,
    out: str | Path,
    config: EvaluateConfig | None = None,
    detector: Callable[[], Detector] | None = FaceMesh,
) -> dict[str, dict[str, Any]]:
    """Scores several avatars on one dataset: a report each in `out/NAME`, and one table over them in `out`.

    The table is `comparison.json` and `index.html`. Avatars of the same folder name get a number.

    Returns:
        The metrics of each avatar by its name.

    Raises:
        ValueError: no avatar.
        MissingBackend: jinja2, which renders the table, is not installed; and what `evaluate` raises.
    """
    if not avatars:
        raise ValueError("avatars: expected at least one, got none")
    require_jinja()
    config, out = config or EvaluateConfig(), Path(out)
    found: dict[str, dict[str, Any]] = {}
    faces: dict[int, RealFaces] = {}
    for path in map(Path, avatars):
        base = name = path.resolve().name
        number = 2
        while name in found:
            name, number = f"{base}-{number}", number + 1
        width = config.size or Avatar.load(path).camera.width
        found[name] = evaluate(path, dataset, out / name, config, None, detector, faces.setdefault(width, {}))
    write_json(out / "comparison.json", found)
    write_index(out, found)
    return found
