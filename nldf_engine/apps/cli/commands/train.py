"""`nldf train`: dataset -> avatar."""

from __future__ import annotations

import contextlib
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from tyro.conf import Positional, UseAppendAction

from nldf_engine.apps.cli.command import (
    Command,
    Device,
    Json,
    UsageError,
    check_device,
    checking_flags,
    optional,
    output,
    positive,
    save_results,
    value,
)

if TYPE_CHECKING:
    from nldf_engine.training import TrainConfig


@dataclass(frozen=True)
class Train(Command):
    """Train an avatar on a dataset.

    Begin with nldf-fast. A light field (nldf-...) learns from the frames and, with --teacher, from a
    trained radiance field (adnerf-...) too. A checkpoint is kept beside the avatar every few minutes:
    stopped or killed at any moment, the same command with --resume continues from it. Curves:
    tensorboard --logdir AVATAR.training.
    """

    examples: ClassVar[tuple[str, ...]] = (
        "nldf train nldf-fast data/speaker -o avatars/me",
        "nldf train nldf-fast data/ada -o avatars/ada --consent 'Ada Lovelace, 2026-01-31, for lectures'",
        "nldf train adnerf-small data/speaker -o avatars/teacher --minutes 20",
        "nldf train nldf-small data/speaker -o avatars/me --teacher avatars/teacher --steps 20000",
        "nldf train nldf-fast data/speaker -o avatars/me --resume",
        "nldf train adnerf-small data/speaker -o avatars/whole --head avatars/teacher",
        "nldf train nldf-fast data/ada data/bob -o avatars/ada",
        "nldf train nldf-small data/speaker -o avatars/plain --set active_pool=off",
        "nldf train headnerf-small data/ada data/bob -o avatars/ada --weights weights",
        "nldf train dfrf-small data/ada data/bob data/eve -o bases/ours",
        "nldf train dfrf-small data/speaker -o avatars/me --base bases/ours --seconds 15",
    )
    when_stopped: ClassVar[str] = (
        "nothing is lost: the same command with --resume continues from the last checkpoint"
    )

    batched: ClassVar[bool] = True
    continues: ClassVar[tuple[str, ...]] = ("--resume",)
    reads: ClassVar[tuple[str, ...]] = ("dataset", "teacher", "head", "weights")
    writes: ClassVar[tuple[str, ...]] = ("avatar",)

    preset: Annotated[str, Positional, value("PRESET")]
    """what to train: nldf-fast (the one to begin with: minutes on a CPU, no teacher needed), nldf-88 (the
    paper's light field), adnerf (its teacher, head and torso), or one of their smaller versions for a CPU:
    nldf-small, adnerf-small; headnerf and headnerf-small have codes of identity, expression, colours and
    light; gaussian-landmark and gaussian-landmark-small have landmarks that can be edited; dfrf, dfrf-small
    begin from a --base and need 10 to 20 seconds of video; nldf-fast-tiny, nldf-tiny, adnerf-tiny,
    headnerf-tiny, gaussian-landmark-tiny, dfrf-tiny take seconds, for tests"""
    dataset: Annotated[tuple[Path, ...], Positional, optional("DATASET ...")]
    """folder written by nldf prepare or nldf synthetic; with several, one network learns all speakers, and
    the avatar of the second is written to AVATAR-2, and so on"""
    avatar: Annotated[Path, output("AVATAR")]
    """folder to write"""
    teacher: Annotated[Path | None, optional("AVATAR")] = None
    """trained avatar to distil from"""
    head: Annotated[Path | None, optional("AVATAR")] = None
    """trained avatar whose head to keep: only a field for the torso is trained about it"""
    base: Annotated[Path | None, optional("BASE")] = None
    """begin with the networks that several speakers taught (dfrf, nldf-fast): the output of a run over them,
    its base.safetensors, or bundled, where one comes with the package for the preset"""
    seconds: Annotated[float | None, optional("S")] = None
    """train on S seconds of the video alone, those that show most of its mouth shapes and poses; by default
    on all of it"""
    size: Annotated[int | None, optional("N")] = None
    """width to train at, in pixels; by default the preset's, or what it chooses for the video"""
    steps: Annotated[int | None, optional("N")] = None
    """stop after N steps; by default the preset's own number. A torso's field has its own:
    --set torso_steps=N"""
    minutes: Annotated[float | None, optional("M")] = None
    """train the pictures for M minutes instead, torso included; the lips' network comes on top"""
    device: Device = "auto"
    """where to train"""
    no_graphs: bool = False
    """launch a GPU's steps one operation at a time: by default they are replayed as CUDA graphs where the
    preset's steps allow it, and standard error says why where they do not"""
    matmul: Literal["tf32", "fp32"] = "tf32"
    """on a GPU, what the steps' matrix products and convolutions are computed from: tf32, numbers of 10 bits,
    which tensor cores are faster at, or fp32; avatars say which it was"""
    audio_frontend: Annotated[str | None, optional("NAME")] = None
    """what turns speech into features: whisper, mel, wav2vec2 or hubert, or NAME:SOURCE with other weights of
    it, a folder or a hub id; by default what the dataset was prepared with"""
    look_ahead: Annotated[float | None, optional("MS")] = None
    """how many milliseconds of sound a frame may wait for when the avatar is streamed, with the front-end
    whisper: with less than the usual 300, lips follow sooner and less well"""
    weights: Annotated[Path | None, optional("DIR")] = None
    """folder with public weights that a preset's losses use (headnerf: vgg16-397923af.pth); what is used is
    printed and kept in the avatar"""
    resume: bool = False
    """continue from the last checkpoint of AVATAR, with the same flags; --steps or --minutes may be larger
    than before: the learning rate then continues as in a run of the larger budget"""
    seed: Annotated[int, value("N")] = 0
    """of the weights and the order of the rays"""
    set: Annotated[UseAppendAction[tuple[str, ...]], value("KEY=VALUE")] = ()
    """override a setting of the preset; nldf train PRESET --help lists them with their meaning"""
    consent: Annotated[str | None, optional("'NAME, YYYY-MM-DD, STATEMENT'")] = None
    """who agreed to this avatar of themselves, when, and to what; it is kept in the avatar and signed into
    every video of it, where anyone can read it"""
    json: Json = None
    """also write the results here"""

    def owning(self) -> contextlib.AbstractContextManager[None]:
        """Nothing: `train` itself does it, since of several processes of one run the first one writes."""
        return contextlib.nullcontext()

    @classmethod
    def more_help(cls, arguments: Sequence[str]) -> str:
        """The settings of the preset that is named; without one no network is imported."""
        if all(word.startswith("-") for word in arguments):
            return "\n\nSettings of a preset (--set KEY=VALUE):\n    nldf train PRESET --help   lists them"
        from nldf_engine.training import presets
        from nldf_engine.training.recipe import describe_settings

        name = next((word for word in arguments if word in presets()), None)
        if name is None:
            return ""
        lines = [f"\n\nSettings of {name} (--set KEY=VALUE):"]
        for setting in describe_settings(presets()[name]().recipe):
            lines.append(f"    {setting.path} = {_shown(setting.value)}")
            lines.append(
                textwrap.fill(setting.meaning, 78, initial_indent=8 * " ", subsequent_indent=8 * " ")
            )
        return "\n".join(lines)

    def check_ready(self) -> None:
        """See `Command`: everything but datasets and avatars."""
        self._config()

    def _config(self) -> TrainConfig:
        """The settings beside the preset.

        Raises:
            UsageError: flags that are missing, out of range, or do not go together.
        """
        if not self.dataset:
            raise UsageError("DATASET is missing: a folder written by nldf prepare or nldf synthetic")
        if self.steps is not None and self.minutes is not None:
            raise UsageError("--steps and --minutes exclude each other")
        positive(size=self.size, steps=self.steps, minutes=self.minutes, seconds=self.seconds)
        check_device(self.device)
        overrides = parse_overrides(self.set)
        from nldf_engine.avatar.provenance import Consent
        from nldf_engine.training import TrainConfig, check_settings, find_preset, presets

        if self.preset not in presets():
            raise UsageError(f"there is no preset {self.preset!r}; there are {', '.join(presets())}")
        try:
            find_preset(self.preset, overrides)
        except ValueError as error:
            raise UsageError(f"--set {error}") from error
        with checking_flags():
            config = TrainConfig(
                teacher=self.teacher,
                head=self.head,
                base=self.base,
                seconds=self.seconds,
                size=self.size,
                steps=self.steps,
                minutes=self.minutes,
                device=self.device,
                audio_frontend=self.audio_frontend,
                look_ahead=self.look_ahead,
                resume=self.resume,
                seed=self.seed,
                overrides=overrides,
                weights=self.weights,
                graphs=not self.no_graphs,
                matmul=self.matmul,
                consent=None if self.consent is None else Consent.parse(self.consent),
            )
            check_settings(self.preset, config, len(self.dataset))
        return config

    def run(self) -> int:
        """Trains, and prints where the avatar is and how good."""
        config = self._config()
        from nldf_engine.base.progress import clock
        from nldf_engine.training import train
        from nldf_engine.training.distributed import reports

        result = train(self.preset, self.dataset, self.avatar, config)
        if not reports():  # of several processes, only the first one has validated
            return 0
        print(
            f"{', '.join(map(str, result.avatars))}: {result.steps} steps in {clock(result.seconds)},"
            f" validation {result.validation_psnr:.2f} dB"
        )
        if result.base is not None:
            print(f"{result.base}: the base of these {len(result.avatars)} speakers (--base {result.avatar})")
        made = None if result.base is None else str(result.base)
        figures = {**asdict(result), "avatar": str(result.avatar), "base": made}
        save_results(self.json, {**figures, "avatars": [str(path) for path in result.avatars]})
        return 0


def _shown(value: object) -> str:
    """A setting as one would type it."""
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)


def parse_overrides(pairs: tuple[str, ...]) -> dict[str, str]:
    """`key=value` pairs as a dictionary; what a value may be is for the preset to say.

    Raises:
        UsageError: one has no key or no `=`, or a key comes twice.

    Example:
        >>> parse_overrides(("active-pool=off", "rays=4096"))
        {'active_pool': 'off', 'rays': '4096'}
    """
    overrides: dict[str, str] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        key = key.strip().replace("-", "_")
        if not key or not equals:
            raise UsageError(f"--set takes KEY=VALUE; it is {pair!r}")
        if key in overrides:
            raise UsageError(f"--set gives {key} twice")
        overrides[key] = text.strip()
    return overrides
