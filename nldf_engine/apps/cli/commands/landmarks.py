"""`nldf landmarks`: avatar + audio -> the face's landmarks, as a file to edit and to render."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from tyro.conf import Positional

from nldf_engine.apps.cli.command import (
    Command,
    Device,
    Json,
    check_device,
    output,
    save_results,
    value,
)


@dataclass(frozen=True)
class Landmarks(Command):
    """Write the landmarks of an avatar's face as it speaks an audio file, to edit them.

    The file holds one tensor, landmarks [T, 68, 3]: 25 frames a second, iBUG's 68 points, metres in head
    space (x right, y down, z away from the camera). nldf render --landmarks takes it back. The avatar must be
    driven by landmarks.
    """

    examples: ClassVar[tuple[str, ...]] = (
        "nldf landmarks avatars/me speech.wav -o track.safetensors",
        "nldf landmarks avatars/me interview.mp4 -o track.safetensors --device cpu",
    )

    reads: ClassVar[tuple[str, ...]] = ("avatar", "audio")
    writes: ClassVar[tuple[str, ...]] = ("out",)

    avatar: Annotated[Path, Positional, value("AVATAR")]
    """folder written by nldf train"""
    audio: Annotated[Path, Positional, value("AUDIO")]
    """speech: a wav, any other audio file, or a video with sound"""
    out: Annotated[Path, output("TRACK.safetensors")]
    """file to write"""
    device: Device = "auto"
    """where to compute"""
    json: Json = None
    """also write the results here"""

    def run(self) -> int:
        """Computes and writes the landmarks."""
        check_device(self.device)
        from nldf_engine.base.files import check_writable
        from nldf_engine.engine import Engine
        from nldf_engine.geometry.landmark_files import check_ending, save_landmarks
        from nldf_engine.media.containers import SOUND_AGAIN, check_file

        check_ending(self.out)
        check_writable(self.out)
        check_file(self.audio, SOUND_AGAIN)
        track = Engine.load(self.avatar, device=self.device).landmarks(self.audio)
        save_landmarks(self.out, track)
        print(f"{self.out}: {len(track)} frames of {track.shape[1]} landmarks")
        save_results(self.json, {"path": str(self.out), "frames": len(track), "landmarks": track.shape[1]})
        return 0
