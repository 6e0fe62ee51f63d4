"""What dataset.json says of the dataset's own files, against what lies in the folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nldf_engine.base.errors import FileProblem
from nldf_engine.base.files import sha256

NEEDED = ("track.safetensors", "video.mp4", "audio.wav", "parsing.mkv", "background.png")
"""Without one of these a folder is no dataset; the hash of a dataset goes over them in this order."""

REPORTS = ("report.json", "report.png")
EDITABLE = ("background.png", *REPORTS)
"""People edit these: another content is worth a word and no error, and their size is free."""

CHANGED = "its content is not what dataset.json says: it was changed or damaged since it was written"
# Datasets of schema 1 were hashed without these two, and avatars trained on them name that hash.
UNHASHED_BY_SCHEMA_1 = ("parsing.mkv", "background.png")


def describe_files(folder: Path) -> dict[str, dict[str, Any]]:
    """Bytes and SHA-256 of each file of a dataset, for dataset.json."""
    present = [folder / name for name in (*NEEDED, *REPORTS) if (folder / name).is_file()]
    return {path.name: {"bytes": path.stat().st_size, "sha256": sha256(path)} for path in present}


def check_stated(files: Any) -> None:
    """Checks the form of what dataset.json says of its files.

    Schema 1 has a size in bytes for each, schema 2 an object of `bytes` and `sha256`.

    Raises:
        ValueError: it has another form.
    """
    if not isinstance(files, dict):
        raise ValueError("files must be an object")
    for name, stated in files.items():
        size = stated.get("bytes") if isinstance(stated, dict) else stated
        digest = stated.get("sha256", "") if isinstance(stated, dict) else ""
        if isinstance(size, bool) or not isinstance(size, int) or not isinstance(digest, str):
            raise ValueError(f"files: {name} must have its bytes and sha256, got {stated!r}")


def check_sizes(folder: Path, files: dict[str, Any], mend: str) -> None:
    """Checks what costs no reading: that each file has the size that it was written with.

    Raises:
        FileProblem: one is shorter or longer.
    """
    for name in NEEDED:
        stated = files.get(name)
        size = stated["bytes"] if isinstance(stated, dict) else stated
        came = (folder / name).stat().st_size
        if size is not None and name not in EDITABLE and came != size:
            short = f"it has {came} bytes, and dataset.json says {size}"
            raise FileProblem(folder / name, short, f"copy the dataset again, or {mend}")


def changed_files(folder: Path, files: dict[str, Any]) -> list[str]:
    """Names of the files whose content is not what dataset.json says; reads every one of them."""
    stated = {name: entry["sha256"] for name, entry in files.items() if isinstance(entry, dict)}
    return [
        name
        for name, digest in stated.items()
        if name in (*NEEDED, *REPORTS) and (folder / name).is_file() and sha256(folder / name) != digest
    ]
