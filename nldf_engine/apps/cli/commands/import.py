"""`nldf import`: networks that the program of a paper's authors trained -> avatar."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from tyro.conf import Positional

from nldf_engine.apps.cli.command import (
    Command,
    Json,
    UsageError,
    optional,
    output,
    positive,
    save_results,
    value,
)


@dataclass(frozen=True)
class Import(Command):
    """Make an avatar of networks that AD-NeRF or DFRF trained.

    HEAD.tar is its {step}_head.tar, DATASET the folder it was trained on, which gives camera, poses, audio
    features and background. BODY.tar, AD-NeRF's {step}_body.tar, becomes the avatar's torso; without one that
    is a plate from the dataset. DFRF's weights hold for pictures of 512 x 512 alone, and its references come
    from the folder. The avatar can teach: nldf train ... --teacher AVATAR. It is driven by features files
    like aud.npy, since it was trained on nothing else.
    """

    examples: ClassVar[tuple[str, ...]] = (
        "nldf import adnerf logs/Obama_head/400000_head.tar dataset/Obama -o avatars/obama",
        "nldf import adnerf 300000_head.tar 600000_body.tar dataset/Obama -o avatars/obama --size 256",
        "nldf import dfrf finetune_models/cnn/300000_head.tar dataset/cnn -o avatars/cnn --size 128",
    )
    reads: ClassVar[tuple[str, ...]] = ("paths",)
    writes: ClassVar[tuple[str, ...]] = ("avatar",)

    system: Annotated[str, Positional, value("adnerf|dfrf")]
    """whose networks: adnerf, dfrf, or a system of another package that imports some"""
    paths: Annotated[tuple[Path, ...], Positional, optional("HEAD.tar [BODY.tar] DATASET")]
    """checkpoint of the head, with adnerf that of the body where there is one, and the dataset's folder"""
    avatar: Annotated[Path, output("AVATAR")]
    """folder to write"""
    size: Annotated[int | None, optional("N")] = None
    """width of the avatar's pictures; by default the dataset's. Smaller ones take less memory here"""
    json: Json = None
    """also write what was imported here"""

    def run(self) -> int:
        """Writes the avatar and prints what became of each checkpoint."""
        positive(size=self.size)
        from nldf_engine.avatar.avatar import check_target
        from nldf_engine.training.import_network import find_importer, import_avatar, importable

        if self.system not in (known := importable()):
            raise UsageError(
                f"it is {' or '.join(f'`nldf import {name}`' for name in known)}, and not {self.system!r}"
            )
        importer = find_importer(self.system)
        if len(self.paths) - 1 not in importer.counts:
            raise UsageError(
                f"it takes {' '.join(importer.files)} DATASET; {len(self.paths)} paths were given"
            )
        check_target(self.avatar)
        avatar, made = import_avatar(importer, self.paths[:-1], self.paths[-1], self.size)
        avatar.save(self.avatar)
        print(f"{self.avatar}: " + "\n".join(made.notes))
        save_results(self.json, {"avatar": str(self.avatar), **avatar.provenance["imported"]})
        return 0
