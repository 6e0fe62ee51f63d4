"""`nldf import`: networks that AD-NeRF trained -> avatar."""

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
    """Make an avatar of networks that AD-NeRF trained.

    HEAD.tar is its {step}_head.tar, DATASET the folder it was trained on, which gives camera, poses,
    audio features and background. BODY.tar, its {step}_body.tar, becomes the avatar's torso; without one that
    is a plate from the dataset. The avatar can teach: nldf train ... --teacher AVATAR. It is driven by
    features files like aud.npy, since it was trained on nothing else.
    """

    examples: ClassVar[tuple[str, ...]] = (
        "nldf import adnerf logs/Obama_head/400000_head.tar dataset/Obama -o avatars/obama",
        "nldf import adnerf 300000_head.tar 600000_body.tar dataset/Obama -o avatars/obama --size 256",
    )
    reads: ClassVar[tuple[str, ...]] = ("paths",)
    writes: ClassVar[tuple[str, ...]] = ("avatar",)

    system: Annotated[str, Positional, value("adnerf")]
    """whose networks: adnerf"""
    paths: Annotated[tuple[Path, ...], Positional, optional("HEAD.tar [BODY.tar] DATASET")]
    """checkpoint of the head, checkpoint of the body where there is one, and the dataset's folder"""
    avatar: Annotated[Path, output("AVATAR")]
    """folder to write"""
    size: Annotated[int | None, optional("N")] = None
    """width of the avatar's pictures; by default the dataset's. Smaller ones take less memory here"""
    json: Json = None
    """also write what was imported here"""

    def run(self) -> int:
        """Writes the avatar and prints what became of each checkpoint."""
        if self.system != "adnerf":
            raise UsageError(f"it is `nldf import adnerf`, and not {self.system!r}")
        if len(self.paths) not in (2, 3):
            raise UsageError(f"it takes HEAD.tar [BODY.tar] DATASET; {len(self.paths)} paths were given")
        positive(size=self.size)
        from nldf_engine.audio import FrontendConfig
        from nldf_engine.avatar.avatar import check_target
        from nldf_engine.base.errors import FileProblem
        from nldf_engine.datasets import open_dataset
        from nldf_engine.datasets.foreign.dataset import ForeignDataset
        from nldf_engine.rendering.fields import Bounds
        from nldf_engine.systems.adnerf.released import (
            describe,
            import_body,
            import_head,
            read_checkpoint,
        )
        from nldf_engine.systems.common.torso_field import TorsoField, TorsoFieldConfig
        from nldf_engine.training.import_network import import_network

        check_target(self.avatar)
        head = read_checkpoint(self.paths[0])
        body = read_checkpoint(self.paths[1]) if len(self.paths) == 3 else None
        dataset = open_dataset(self.paths[-1])
        if not isinstance(dataset, ForeignDataset):
            raise FileProblem(
                dataset.path,
                "AD-NeRF can't have trained on it",
                "give the folder that AD-NeRF trained on",
            )
        bounds = Bounds(dataset.info.near, dataset.info.far, radius=1.0)
        field = import_head(head, bounds, with_body=body is not None)
        attention = head.smoothed or body is not None
        origin = {"from": "AD-NeRF", "head": describe(head), "attention": attention}
        torso = None
        if body is not None:
            torso = TorsoField(import_body(body, field), TorsoFieldConfig(in_front=True))
            origin["body"] = describe(body)
        frontend = FrontendConfig("precomputed", dim=field.config.conditions.audio_dim)
        size = self.size or dataset.camera.width
        import_network(field, dataset, frontend, size, origin, torso).save(self.avatar)
        print(f"{self.avatar}: the head of {head.path.name} (step {head.step}): coarse, fine, audio nets")
        if not attention:
            print("its attention over neighbours was not trained yet: each frame uses its own audio alone")
        if body is not None:
            print(
                f"{body.path.name}: the torso (step {body.step}): coarse, fine; the head's code and pose "
                "drive it, as in AD-NeRF, which never evaluates the audio net in that file"
            )
        save_results(self.json, {"avatar": str(self.avatar), **origin})
        return 0
