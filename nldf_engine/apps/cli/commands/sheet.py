"""`nldf sheet`: one picture of what an avatar does when its head, eyes, mouth and background are changed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from tyro.conf import Positional

from nldf_engine.apps.cli.command import (
    Command,
    Device,
    Json,
    Precision,
    UsageError,
    check_device,
    checking_flags,
    optional,
    output,
    positive,
    save_results,
    value,
)


@dataclass(frozen=True)
class Sheet(Command):
    """Draw a contact sheet of an avatar: turned heads, blinks, mouths and backgrounds.

    Columns of turned and shifted heads go from well below the poses of the training video to well above:
    what is underlined was seen, the rest was not. Hair is shown four times enlarged before saturated
    colours.
    """

    examples: ClassVar[tuple[str, ...]] = (
        "nldf sheet avatars/me -o sheet.png",
        "nldf sheet avatars/me -o held.png --pose-limit clamp --size 128",
    )

    reads: ClassVar[tuple[str, ...]] = ("avatar",)
    writes: ClassVar[tuple[str, ...]] = ("out",)

    avatar: Annotated[Path, Positional, value("AVATAR")]
    """folder written by nldf train"""
    out: Annotated[Path, output("SHEET.png")]
    """picture to write"""
    pose_limit: Annotated[str, value("warn|clamp|off")] = "warn"
    """beyond the poses of the training video: as nldf render has it"""
    size: Annotated[int | None, optional("N")] = None
    """width and height of one picture, in pixels; by default those the avatar was trained at"""
    device: Device = "auto"
    """where to render"""
    precision: Precision = "auto"
    json: Json = None
    """also write the range of the training video's poses here"""

    def run(self) -> int:
        """Renders and writes the sheet."""
        positive(size=self.size)
        check_device(self.device)
        import cv2  # noqa: F401  # it writes the labels; where it is missing, that is said before the work

        from nldf_engine.apps.cli.contact_sheet import contact_sheet
        from nldf_engine.base.files import check_writable
        from nldf_engine.engine import Engine, check_size
        from nldf_engine.engine.edits.head import LIMITS, HeadRange
        from nldf_engine.geometry.rotations import HEAD_NUMBERS
        from nldf_engine.media.pictures import write_picture

        with checking_flags():
            check_size(self.size)
        if self.pose_limit not in LIMITS:
            raise UsageError(f"--pose-limit is one of {', '.join(LIMITS)}; it is {self.pose_limit!r}")
        if self.out.suffix.lower() != ".png":
            raise UsageError(f"-o must end in .png; it is {str(self.out)!r}")
        check_writable(self.out)
        engine = Engine.load(self.avatar, device=self.device, precision=self.precision)
        picture = contact_sheet(engine, self.pose_limit, self.size)
        write_picture(self.out, picture)
        print(f"{self.out}: {picture.shape[1]}x{picture.shape[0]}")
        seen = HeadRange.of(engine.avatar.poses.cpu())
        ranges = zip(HEAD_NUMBERS, seen.low.tolist(), seen.high.tolist(), strict=True)
        figures = {"path": str(self.out), "range": {name: [low, high] for name, low, high in ranges}}
        save_results(self.json, figures)
        return 0
