"""What a run leaves: an avatar a speaker, with its own motion, its consent and its provenance."""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nldf_engine.audio import FrontendConfig
from nldf_engine.avatar import Avatar
from nldf_engine.avatar.provenance import Consent
from nldf_engine.base.files import read_json
from nldf_engine.base.version import __version__
from nldf_engine.datasets.dataset import Dataset
from nldf_engine.rendering.portrait import Portrait
from nldf_engine.systems.common.drivers import IdentityDriver
from nldf_engine.training.checkpoint import RunState
from nldf_engine.training.scene import Scene


def consent_for(dataset: Dataset, given: Consent | None) -> Consent:
    """What was given; "no-person" where the speaker is synthetic; else "unrecorded", with a word about it."""
    if given is not None and given.kind != "unrecorded":
        return given
    if dataset.info.source.get("kind") == "synthetic":
        return Consent("no-person")
    sys.stderr.write(
        'the avatar records no consent of the person it shows; --consent "NAME, YYYY-MM-DD, STATEMENT" does\n'
    )
    return Consent()


def tell_replaced(paths: Sequence[Path]) -> None:
    """A line on stderr for each avatar that a run will take the place of: what it is, and from when."""
    for path in paths:
        described = path / "avatar.json"
        if not described.is_file():
            continue
        day = time.strftime("%Y-%m-%d %H:%M", time.localtime(described.stat().st_mtime))
        made = read_json(described).get("provenance", {})
        preset = made.get("settings", {}).get("preset", "an avatar")
        sys.stderr.write(
            f"{path}: when this run ends, it replaces {preset} of {day} ({made.get('steps', 0)} steps); "
            "stop now, or choose another output, to keep that\n"
        )


def own_motion(scene: Scene, upper: int) -> dict[str, Any]:
    """How the speaker moves in the training part, as `Avatar` takes it: what an avatar does by itself.

    Args:
        scene: the training video.
        upper: E, codes of the upper face that the avatar's head takes.

    Returns:
        "poses" [T, 4, 4], "eye_openness" [T], "upper" [T, E] or None, and "torso_motion" [T, 2, 3] or None
        where the torso was not tracked.
    """
    part = slice(scene.dataset.info.splits["train"][0], int(scene.heard_validation.max()) + 1)
    conditions = scene.conditions
    codes = conditions.upper[:, :upper] if upper and conditions.upper is not None else None

    def kept(values: Tensor | None) -> Tensor | None:
        return None if values is None else values[part].cpu().contiguous()

    return {
        "poses": kept(scene.poses), "eye_openness": kept(conditions.eyes), "upper": kept(codes),
        "torso_motion": kept(scene.motions if scene.torso_tracked else None),
    }  # fmt: skip


def upper_codes(portrait: Portrait) -> int:
    """E, codes of the upper face that a portrait's head takes; 0 for none."""
    upper = portrait.head.driver.part("upper")
    return 0 if upper is None else int(upper.dim)


def spent(state: RunState) -> dict[str, Any]:
    """What provenance says of a stage."""
    return {"steps": state.step, "seconds": round(state.seconds, 1), "validation_psnr": state.best_psnr}


def make_avatar(
    portrait: Portrait, scene: Scene, frontend: FrontendConfig, size: int, consent: Consent,
    provenance: dict[str, Any],
) -> Avatar:  # fmt: skip
    """The avatar of a speaker.

    Args:
        portrait: trained.
        scene: the training video.
        frontend: what made its audio features.
        size: width of its pictures, pixels.
        consent: who agreed.
        provenance: of the run; the speaker's dataset and the versions are added.
    """
    dataset = scene.dataset
    for part in portrait.head.driver.modules():
        if isinstance(part, IdentityDriver):
            part.own.fill_(scene.identity)
    versions = {"package": __version__, "torch": torch.__version__, "python": platform.python_version()}
    about = {"dataset": dataset.hash(), "source": dataset.info.source}
    return Avatar(
        portrait, scene.camera, frontend, dataset.background(size), consent=consent,
        provenance={**versions, **about, **provenance}, **own_motion(scene, upper_codes(portrait)),
    )  # fmt: skip
