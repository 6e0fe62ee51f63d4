"""The avatar that comes with the package."""

from __future__ import annotations

from pathlib import Path

from nldf_engine.base.assets import ASSETS
from nldf_engine.base.errors import MissingBackend


def bundled_avatar() -> Path:
    """The folder of the bundled avatar.

    Raises:
        MissingBackend: the installation lacks it.
    """
    folder = ASSETS / "avatar"
    if not (folder / "avatar.json").is_file():
        raise MissingBackend(
            f"the bundled avatar is not at {folder}",
            "install the package again, or give an avatar of your own to nldf render",
        )
    return folder
