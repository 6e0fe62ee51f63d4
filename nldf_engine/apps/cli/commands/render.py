"""`nldf render`: avatar + audio -> video."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

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

if TYPE_CHECKING:
    from nldf_engine.avatar.provenance import Credentials
    from nldf_engine.engine import Clip
    from nldf_engine.engine.parts import Part


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

    batched: ClassVar[bool] = True
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
    superfast or ultrafast; by default veryfast, and superfast from a megapixel on"""
    crf: Annotated[int | None, optional("N")] = None
    """the encoder's quality, 0 (best) to 51; by default 16, and 20 from a megapixel on"""
    no_provenance: bool = False
    """leave off the signed manifest; its tags then say only that the video is synthetic"""
    sign_cert: SignFile = None
    """PEM file of the certificate that signs, followed by those above it; by default a local one"""
    sign_key: SignFile = None
    """PEM file of its private key"""
    device: Device = "auto"
    """where to render"""
    precision: Precision = "auto"
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

    def check_ready(self) -> None:
        """See `Command`: what a person may have mistyped, files and poses included."""
        positive(size=self.size)
        if self.edges not in ("clean", "fast"):
            raise UsageError(f"--edges is clean or fast; it is {self.edges!r}")
        if self.into is not None and self.poses in OWN_POSES:
            raise UsageError("--into needs --poses DATASET, the dataset that was prepared from the video")
        check_device(self.device)
        self._credentials()
        from nldf_engine.engine import check_clip_path, check_size
        from nldf_engine.media.containers import SOUND_AGAIN, check_file
        from nldf_engine.media.video_writer import check_crf, check_preset
        from nldf_engine.rendering.backgrounds import TRANSPARENT

        with checking_flags():
            check_size(self.size)
            check_preset(self.preset)
            check_crf(self.crf)
        # What a person may have mistyped comes first: the rest takes its time.
        check_clip_path(self.out, transparent=self.background == TRANSPARENT)
        check_file(self.audio, SOUND_AGAIN)
        self._inputs()

    def _credentials(self) -> Credentials | None:
        return signing(not self.no_provenance, self.sign_cert, self.sign_key)

    def _inputs(self) -> dict[str, Any]:
        """Arguments of `Engine.render` that are read from files or made of flags."""
        from nldf_engine.datasets.dataset import Dataset
        from nldf_engine.datasets.footage import footage_of
        from nldf_engine.geometry.landmark_files import load_landmarks
        from nldf_engine.geometry.poses import load_poses
        from nldf_engine.rendering.backgrounds import open_background

        footage = None if self.into is None else footage_of(Dataset.open(self.poses), self.into)
        own = footage is not None or self.poses in OWN_POSES
        return {
            "background": open_background(self.background),
            "edit": self.edits.edit(self.poses),
            "into": footage,
            "poses": (None if footage is not None else self.poses) if own else load_poses(self.poses),
            "landmarks": None if self.landmarks is None else load_landmarks(self.landmarks),
        }

    def _clip(self) -> tuple[Clip, str, float, float]:
        """The clip, not yet rendered; the precision; when the avatar was loaded, and in how many seconds."""
        from nldf_engine.engine import Engine

        self.check_ready()
        given = self._inputs()
        start = time.perf_counter()
        engine = Engine.load(self.avatar, device=self.device, precision=self.precision)
        loaded = time.perf_counter()
        with warning_lines("nldf render"):
            clip = engine.render(self.audio, size=self.size, edges=self.edges, region=self.region, **given)
        return clip, engine.precision, loaded, loaded - start

    def run(self) -> int:
        """Renders and writes the video, and prints how long it took."""
        return self.join(())

    @property
    def divided(self) -> Render:
        """See `Command`."""
        return self

    def parts(self, folder: Path, seconds: float) -> int:
        """See `Divided`: of a clip inside a video each frame needs those before it."""
        from nldf_engine.media.containers import stated_seconds

        undivided = self.into is not None or self.audio.suffix.lower() == ".npy"
        length = None if undivided else stated_seconds(folder / self.audio)
        # The last stretch takes the rest, so that none is short.
        return 1 if length is None else max(1, int(length / seconds))

    def run_part(self, part: Part, path: Path) -> int:
        """See `Divided`: the stretch's frames, lossless."""
        from nldf_engine.engine.parts import save_part

        start = time.perf_counter()
        frames = save_part(self._clip()[0], part, path)
        print(f"{path}: {frames} frames in {time.perf_counter() - start:.1f} s")
        return 0

    def join(self, paths: Sequence[Path]) -> int:
        """As `run`, with the frames of stretches that were rendered before; without any, it renders."""
        from nldf_engine.engine.parts import JoinedFrames

        clip, precision, loaded, load_seconds = self._clip()
        if paths:
            clip = replace(clip, frames=JoinedFrames(clip.frames, paths))
        clip.save(
            self.out, crf=self.crf, provenance=not self.no_provenance, credentials=self._credentials(),
            preset=self.preset,
        )  # fmt: skip
        seconds = time.perf_counter() - loaded
        figures = {
            "path": self.out,
            "frames": len(clip),
            "precision": precision,
            "load_seconds": load_seconds,
            "seconds": seconds,
            "frames_per_second": len(clip) / seconds,
        }
        print(
            f"{self.out}: {len(clip)} frames in {seconds:.1f} s"
            f" ({figures['frames_per_second']:.1f} frames/s, encoding included)"
        )
        save_results(self.json, figures)
        return 0
