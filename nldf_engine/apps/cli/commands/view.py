"""`nldf view`: an avatar under sliders, or a dataset, in the browser."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from tyro.conf import Positional

from nldf_engine.apps.cli.command import Command, Device, UsageError, check_device, optional, value


@dataclass(frozen=True)
class View(Command):
    """Look at an avatar or a dataset in the browser.

    An avatar moves under sliders and speaks a sound; with --data DATASET it is compared with the real frames.
    Of a dataset it shows frames, label maps, landmarks, cameras, sound and report. Whoever reaches the
    address sees all of it: by default this machine alone can. Ctrl-C ends it.
    """

    examples: ClassVar[tuple[str, ...]] = (
        "nldf view avatars/me speech.wav",
        "nldf view avatars/me --data data/speaker",
        "nldf view data/speaker",
        "nldf view avatars/me --host 0.0.0.0 --port 9000",
    )

    when_stopped: ClassVar[str] = "the viewer is closed"

    reads: ClassVar[tuple[str, ...]] = ("path", "audio", "data")

    path: Annotated[Path, Positional, value("AVATAR|DATASET")]
    """folder written by nldf train or nldf prepare, or one of AD-NeRF, DFRF, RAD-NeRF or ER-NeRF"""
    audio: Annotated[Path | None, Positional, optional("AUDIO")] = None
    """speech for an avatar: a sound file, or a video with sound; others can be uploaded in the page"""
    data: Annotated[Path | None, optional("DATASET")] = None
    """compare the avatar with this dataset's frames, and speak its sound"""
    host: Annotated[str, value("ADDRESS")] = "127.0.0.1"
    """address to listen at; 0.0.0.0 lets other machines in, without a password"""
    port: Annotated[int, value("N")] = 8080
    """port to listen at; the next free one where it is taken"""
    device: Device = "auto"
    """where to render"""

    def run(self) -> int:
        """Serves the page until it is stopped.

        Raises:
            UsageError: flags of an avatar for a dataset, or a sound beside --data.
        """
        check_device(self.device)
        if not 0 <= self.port <= 65535:
            raise UsageError(f"--port is 0 to 65535; it is {self.port}")
        if self.audio is not None and self.data is not None:
            raise UsageError("a sound and --data do not go together: a dataset has its own sound")
        from nldf_engine.apps.viewer.view import view_avatar, view_dataset

        if (self.path / "avatar.json").is_file():
            return view_avatar(self.path, self.audio, self.data, self.host, self.port, self.device)
        if self.audio is not None or self.data is not None:
            raise UsageError(f"{self.path} is no avatar: a sound and --data are for avatars alone")
        return view_dataset(self.path, self.host, self.port)
