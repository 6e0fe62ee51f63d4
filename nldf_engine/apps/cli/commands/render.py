"""`nldf render`: avatar + audio -> video."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar

from tyro.conf import Positional

from nldf_engine.apps.cli.command import (
    Command,
    Device,
    Json,
    Precision,
    SignFile,
    UsageError,
    check_device,
    checking_flags,
    optional,
    output,
    positive,
    save_results,
    signing,
    value,
    warning_lines,
)
from nldf_engine.apps.cli.edits import OWN_POSES, EditFlags


@dataclass(frozen=True)
class Render(Command):
    """Render an avatar speaking an audio file, as a video with sound.

    The output is H.264 with AAC in .mp4. With --background transparent it is a .webm with alpha, or,
    where OUT ends in a slash, a folder of PNG images with alpha. Videos are signed: see nldf verify.
    """

    examples: ClassVar[tuple[str, ...]] = (
        "nldf render avatars/me speech.wav -o out.mp4",
        "nldf render avatars/me speech.wav -o out.mp4 --poses still --background '#3060a0'",
        "nldf render avatars/me speech.wav -o out.mp4 --poses data/other --center-poses --smooth 2",
        "nldf render avatars/me speech.wav -o out.mp4 --yaw 6 --shift 0.1h,0,0 --pose-limit clamp",
        "nldf render avatars/me speech.wav -o out.mp4 --blink natural --mouth 1.2 --gate",
        "nldf render avatars/me speech.wav -o out.mp4 --curves moves.csv --background office.jpg",
        "nldf render avatars/me speech.wav -o out.mp4 --landmarks track.safetensors --lids 0.5",
        "nldf render avatars/me speech.wav -o out.webm --background transparent",
        "nldf render avatars/me speech.wav -o out.mp4 --into speaker.mp4 --poses data/speaker",
        "nldf render avatars/me speech.wav -o out.mp4 --into me.mp4 --poses data/me --preset ultrafast",
        "nldf render avatars/me speech.wav -o frames/ --background transparent --size 256",
        "nldf render avatars/me speech.wav -o out.mp4 --sign-cert cert.pem --sign-key key.pem",
    )

    reads: ClassVar[tuple[str, ...]] = (
        *("avatar", "audio", "poses", "background", "curves", "blink", "landmarks", "into"),
        *("sign_cert", "sign_key"),
    )
    writes: ClassVar[tuple[str, ...]] = ("out",)

    avatar: Annotated[Path, Positional, value("AVATAR")]
    """folder written by nldf train"""
    audio: Annotated[Path, Positional, value("AUDIO")]
    """speech: a wav, any other audio file, or a video with sound"""
    out: Annotated[str, output("OUT.mp4")]
    """video to write: .mp4, .webm, or a folder of images where it ends in a slash"""
    poses: Annotated[str, value("FILE|DATASET|still|track")] = "track"
    """how the head moves: as in training (track), not at all (still), or as in a dataset or a file of
    [T,4,4] camera-to-head matrices (.npy, .json or .safetensors)"""
    background: Annotated[str | None, optional("FILE|COLOUR|transparent")] = None
    """an image, a colour (#rrggbb or a name) or transparent; by default the avatar's own"""
    edges: Annotated[str, value("clean|fast")] = "clean"
    """over another background: remove the old one's colour from the outline, or render three times as fast"""
    landmarks: Annotated[Path | None, optional("FILE")] = None
    """the face's landmarks, frame by frame, in the place of those made of speech and blinks: a file as nldf
    landmarks writes it, for avatars that are driven by them"""
    into: Annotated[Path | None, optional("VIDEO")] = None
    """the video that the avatar's dataset was prepared from: the output is that video at its own size, looped
    where the sound is longer, with the avatar in the speaker's place; --poses names the dataset"""
    region: Annotated[str, value("head|face|mouth")] = "face"
    """with --into: how much of the picture is the avatar's"""
    edits: EditFlags = field(default_factory=EditFlags)
    size: Annotated[int | None, optional("N")] = None
    """width and height, in pixels; by default those the avatar was trained at"""
    preset: Annotated[str | None, optional("NAME")] = None
    """how long the H.264 encoder looks for a smaller file of the same quality: medium, fast, veryfast,
    superfast or ultrafast; by default fast, and superfast from a megapixel on"""
    no_provenance: bool = False
    """leave off the signed manifest; its tags then say only that the video is synthetic"""
    sign_cert: SignFile = None
    """PEM file of the certificate that signs, followed by those above it; by default a local one"""
    sign_key: SignFile = None
    """PEM file of its private key"""
    device: Device = "auto"
    """where to render"""
    precision: Precision = "auto"
    """of the networks: fp16 is for GPUs, int16 for CPUs and deep light fields; auto, or what NLDF_PRECISION
    says, is fp16 where a GPU has it and it holds, else fp32"""
    json: Json = None
    """also write the results here"""

    @property
    def curves(self) -> Path | None:
        """The file of `--curves`."""
        return self.edits.curves

    @property
    def blink(self) -> Path | None:
        """The file of `--blink`, where it names one."""
        path = Path(self.edits.blink)
        return path if path.suffix else None

    def run(self) -> int:
        """Renders and writes the video, and prints how long it took."""
        positive(size=self.size)
        if self.edges not in ("clean", "fast"):
            raise UsageError(f"--edges is clean or fast; it is {self.edges!r}")
        if self.into is not None and self.poses in OWN_POSES:
            raise UsageError("--into needs --poses DATASET, the dataset that was prepared from the video")
        check_device(self.device)
        credentials = signing(not self.no_provenance, self.sign_cert, self.sign_key)
        from nldf_engine.datasets.dataset import Dataset
        from nldf_engine.datasets.footage import footage_of
        from nldf_engine.engine import Engine, check_clip_path, check_size
        from nldf_engine.geometry.landmark_files import load_landmarks
        from nldf_engine.geometry.poses import load_poses
        from nldf_engine.media.containers import SOUND_AGAIN, check_file
        from nldf_engine.media.video_writer import check_preset
        from nldf_engine.rendering.backgrounds import TRANSPARENT, open_background

        with checking_flags():
            check_size(self.size)
            check_preset(self.preset)
        # What a person may have mistyped comes first: the rest takes its time.
        check_clip_path(self.out, transparent=self.background == TRANSPARENT)
        background = open_background(self.background)
        check_file(self.audio, SOUND_AGAIN)
        edit = self.edits.edit(self.poses)
        footage = None if self.into is None else footage_of(Dataset.open(self.poses), self.into)
        if footage is not None:
            poses = None
        else:
            poses = self.poses if self.poses in OWN_POSES else load_poses(self.poses)
        marks = None if self.landmarks is None else load_landmarks(self.landmarks)
        start = time.perf_counter()
        engine = Engine.load(self.avatar, device=self.device, precision=self.precision)
        loaded = time.perf_counter()
        with warning_lines("nldf render"):
            clip = engine.render(
                self.audio, poses, background=background, size=self.size, landmarks=marks, edit=edit,
                edges=self.edges, into=footage, region=self.region,
            )  # fmt: skip
        clip.save(
            self.out, provenance=not self.no_provenance, credentials=credentials, preset=self.preset
        )  # fmt: skip
        seconds = time.perf_counter() - loaded
        figures = {
            "path": self.out,
            "frames": len(clip),
            "precision": engine.precision,
            "load_seconds": loaded - start,
            "seconds": seconds,
            "frames_per_second": len(clip) / seconds,
        }
        print(
            f"{self.out}: {len(clip)} frames in {seconds:.1f} s"
            f" ({figures['frames_per_second']:.1f} frames/s, encoding included)"
        )
        save_results(self.json, figures)
        return 0
