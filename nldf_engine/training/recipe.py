"""How a system is trained: nested settings, of which a system's recipe has just those that it uses.

`--set a.b=v` on the command line, JSON and Python change them by one converter (`base.json`). A setting may
also be named by its last part where that is unique, or by a short name of the recipe (`Recipe.short_names`).
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

from nldf_engine.base.json import decode, encode, field_types, nested
from nldf_engine.nn.speech import SPEECH_NETS

# Far above what helps: a number beyond is a slip of the hand, which would end in an exhausted memory.
LARGEST_SIZE = 2048
MOST_STEPS = 10**9
# Of a torso's rays, half on neck and torso, half about them: the outline takes longest to learn.
TORSO_SHARE = 0.5
R = TypeVar("R", bound="Recipe")


def check_range(name: str, value: float, least: float, most: float) -> None:
    """Checks that a setting is in [least, most].

    Raises:
        ValueError: it does not.
    """
    if not least <= value <= most:
        raise ValueError(f"{name}: expected {least} to {most}, got {value!r}")


def check_weights(**weights: float) -> None:
    """Checks that weights are finite and not negative.

    Raises:
        ValueError: one is.
    """
    for name, value in weights.items():
        if not 0 <= value < 1e6:
            raise ValueError(f"{name}: expected 0 or more, got {value}")


@dataclass(frozen=True)
class Sampling:
    """Which rays a step sees.

    Args:
        rays: rays a step, over `frames` frames (4096 of one frame in the papers).
        frames: frames a step.
        face_share: share of the rays inside the head (nldf 3.5: 0.9).
        mouth_share: share of the rays in a box about the lips, out of `face_share`.
        eyes_share: share of the rays in boxes about the eyes, out of `face_share`.
        person_share: share of the rays anywhere on the speaker, torso included.
        frame_share: share of the rays anywhere in the frame. What the shares leave is drawn from the rays
            that may meet the head.
        blink_share: share of a step's frames that are taken from the blinks. They are so rare that eyelids
            stay half transparent without.
    """

    rays: int = 4096
    frames: int = 1
    face_share: float = 0.9
    mouth_share: float = 0.0
    eyes_share: float = 0.0
    person_share: float = 0.0
    frame_share: float = 0.0
    blink_share: float = 0.0

    def __post_init__(self) -> None:
        check_range("rays", self.rays, 1, 1 << 20)
        check_range("frames", self.frames, 1, 1024)
        check_range("blink_share", self.blink_share, 0, 1)
        shares = [getattr(self, f"{name}_share") for name in ("mouth", "eyes", "face", "person", "frame")]
        mouth, eyes, face, person, frame = shares
        if min(shares) < 0 or mouth + eyes > face or face + person + frame > 1 + 1e-6:
            raise ValueError(
                f"mouth_share, eyes_share, face_share, person_share, frame_share: expected 0 or more, the "
                f"first two within face_share and the last three at most 1 together, got {shares}"
            )

    @property
    def whole_frame(self) -> bool:
        """Whether rays are drawn beyond the head's region."""
        return bool(self.person_share or self.frame_share)


@dataclass(frozen=True)
class OpacityLoss:
    """The squared error of the opacity against the mask of what is trained.

    Args:
        weight: of it in the loss.
        outside_weight: how much more it counts where the mask is empty.
        inside_weight: how much more it counts in the speaker's interior: what stays a little transparent
            there is tinted by every other background.
    """

    weight: float = 0.1
    outside_weight: float = 1.0
    inside_weight: float = 1.0

    def __post_init__(self) -> None:
        check_weights(**encode(self))


@dataclass(frozen=True)
class Driving:
    """What drives the face.

    Args:
        motion_codes: K, numbers a frame that encode the mouth's tracked motion. The field is conditioned on
            them, and a network learns to predict them from audio (`systems.common.motion`). 0 conditions the
            field on audio directly, as the papers do.
        upper_codes: E, numbers a frame that encode brows, lids and gaze as they were tracked; no audio
            predicts them, so an avatar plays those of its own video unless it is given others. 0 for none.
        shared_basis: fit the codes' scale alone, in components that many speakers share
            (`training.prior`), so that a code means nearly the same for every speaker.
        identity_codes: size of the learned code of each speaker in a run over several datasets; 0 for systems
            that see by other means who speaks.
        motion_noise: standard deviation of the noise on the motion codes while training.
        audio_noise: standard deviation of the noise on the audio windows while training.
        speech_net: that network: "lip" (one layer a window), "conv" (convolutions over each window), or
            "auto": "conv" for bands of a spectrum, as "mel" has them, and "lip" for rows of a recogniser.
        speech_steps: its optimiser steps from random weights.
        prior: begin with the network that other speakers taught (`training.prior`), where the front-end is
            the one that it knows.
        adapt_steps, adapt_rate: optimiser steps from there, and their first learning rate. Steps are those
            for half a minute of speech: they go in proportion to it, up to twice as many.
        sound_copies: copies of the sound, as of other voices and rooms, that it learns from as well; bands
            of "mel" are varied as they are instead.
        spread: give the predicted codes the spread of the tracked ones (`training.speech.Spread`).
    """

    motion_codes: int = 0
    upper_codes: int = 0
    shared_basis: bool = False
    identity_codes: int = 8
    motion_noise: float = 0.1
    audio_noise: float = 0.0
    speech_net: str = "auto"
    speech_steps: int = 600
    prior: bool = True
    adapt_steps: int = 300
    adapt_rate: float = 7e-4
    sound_copies: int = 4
    spread: bool = True

    def __post_init__(self) -> None:
        check_range("motion_codes", self.motion_codes, 0, 64)
        check_range("upper_codes", self.upper_codes, 0, 32)
        check_range("identity_codes", self.identity_codes, 0, 256)
        check_range("speech_steps", self.speech_steps, 1, 10**6)
        check_range("adapt_steps", self.adapt_steps, 1, 10**6)
        check_range("sound_copies", self.sound_copies, 0, 32)
        if not 0 < self.adapt_rate <= 1:
            raise ValueError(f"adapt_rate: expected more than 0 and at most 1, got {self.adapt_rate}")
        if self.speech_net not in ("auto", *SPEECH_NETS):
            known = ", ".join(SPEECH_NETS)
            raise ValueError(f"speech_net: expected auto or one of {known}, got {self.speech_net!r}")
        check_weights(motion_noise=self.motion_noise, audio_noise=self.audio_noise)


@dataclass(frozen=True)
class TorsoRecipe:
    """How the torso is made.

    Args:
        kind: "plate": one picture that moves; "layer": a torso layer, trained along with the head (its and
            the head's opacity together follow the speaker's mask); "field": a field in canonical space,
            trained after the head; "distilled": a field where a teacher's torso is one, otherwise the plate;
            "unet": a U-Net that completes a picture of the head, trained after it.
        steps: optimiser steps of a torso's field or U-Net.
        in_front: draw that field in front of the head, as ad_nerf 3.4 does, and the neck with it.
        follows: let that field's rays follow the torso's tracked motion; otherwise, as in ad_nerf 3.4, it is
            conditioned on the head's pose and code alone.
        pose_frequencies: L of that field's encoded pose.
    """

    trained_after: ClassVar[tuple[str, ...]] = ("field", "distilled", "unet")

    kind: str = "plate"
    steps: int = 4000
    in_front: bool = False
    follows: bool = False
    pose_frequencies: int = 3

    def __post_init__(self) -> None:
        check_range("torso_steps", self.steps, 1, MOST_STEPS)
        check_range("pose_frequencies", self.pose_frequencies, 1, 16)


@dataclass(frozen=True)
class Validation:
    """How often a run is validated, by whole frames of the validation split.

    Args:
        times: over the budget.
        frames: of each speaker, evenly spread.
    """

    times: int = 20
    frames: int = 8

    def __post_init__(self) -> None:
        check_range("validation.times", self.times, 1, 1000)
        check_range("validation.frames", self.frames, 1, 10**6)


@dataclass(frozen=True)
class Recipe:
    """What every system's recipe has.

    Args:
        size: width of the training pictures, pixels.
        steps: optimiser steps of a full run.
        final_share: share of the budget, at its end, in which the validation split is trained on as well:
            nothing is left to choose then, and the last weights are kept. 0 keeps the best on the validation
            cut.
        learning_rate, final_learning_rate: Adam's, decayed exponentially from one to the other.
        sampling, opacity, driving, torso, validation: see there.

    Class attributes: `torsos`, kinds of torso that the system has; `uses_weights`, whether its losses look
    for public weights of other networks (`TrainConfig.weights`); `uses_base`, whether a run may begin from a
    base (`TrainConfig.base`), and one over several datasets makes one; `short_names`
    of settings.
    """

    torsos: ClassVar[tuple[str, ...]] = ("plate",)
    uses_weights: ClassVar[bool] = False
    uses_base: ClassVar[bool] = False
    short_names: ClassVar[dict[str, str]] = {
        "closing_share": "final_share", "frames": "sampling.frames", "opacity_weight": "opacity.weight",
        "torso": "torso.kind", "torso_steps": "torso.steps", "torso_in_front": "torso.in_front",
        "torso_follows": "torso.follows",
    }  # fmt: skip

    size: int = 256
    steps: int = 1000
    final_share: float = 0.0
    learning_rate: float = 5e-4
    final_learning_rate: float = 5e-5
    sampling: Sampling = field(default_factory=Sampling)
    opacity: OpacityLoss = field(default_factory=OpacityLoss)
    driving: Driving = field(default_factory=Driving)
    torso: TorsoRecipe = field(default_factory=TorsoRecipe)
    validation: Validation = field(default_factory=Validation)

    def __post_init__(self) -> None:
        check_range("size", self.size, 1, LARGEST_SIZE)
        check_range("steps", self.steps, 1, MOST_STEPS)
        if self.torso.kind not in self.torsos:
            raise ValueError(f"torso: expected one of {', '.join(self.torsos)}, got {self.torso.kind!r}")
        for name in ("learning_rate", "final_learning_rate"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name}: expected more than 0 and at most 1, got {getattr(self, name)}")
        if not 0 <= self.final_share < 1:
            raise ValueError(f"final_share: expected 0 or more, and less than 1, got {self.final_share}")

    @property
    def grid_rate(self) -> float:
        """The first learning rate of feature grids, for systems that have any."""
        return self.learning_rate

    def for_torso(self: R) -> R:
        """The recipe by which a torso's field is trained, after a head by this one."""
        sampling = Sampling(self.sampling.rays, self.sampling.frames, face_share=TORSO_SHARE)
        return dataclasses.replace(self, steps=self.torso.steps, final_share=0.0, sampling=sampling)


def settings_of(kind: type, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(path, type) of every setting of a recipe's class, groups in between left out."""
    for name, expected in field_types(kind).items():
        inner = nested(expected)
        if inner is None:
            yield f"{prefix}{name}", expected
        else:
            yield from settings_of(inner, f"{prefix}{name}.")


def setting_path(kind: type[Recipe], name: str) -> str:
    """The whole path of a setting that is named by its path, its last part or a short name.

    Raises:
        ValueError: there is no such setting, or there are several.
    """
    paths = [path for path, _ in settings_of(kind)]
    name = kind.short_names.get(name, name)
    found = [name] if name in paths else [path for path in paths if path.rpartition(".")[2] == name]
    if len(found) != 1:
        many = f"it may be {' or '.join(found)}" if found else f"it has {', '.join(paths)}"
        raise ValueError(f"{name}: the recipe has no such setting; {many}")
    return found[0]


def value_at(recipe: Recipe, path: str) -> Any:
    """The setting of a recipe at a path such as "sampling.rays"."""
    value: Any = recipe
    for part in path.split("."):
        value = getattr(value, part)
    return value


def changed(recipe: R, changes: Mapping[str, Any], text: bool = False) -> R:
    """The recipe with settings changed.

    Args:
        recipe: of any system.
        changes: names, as `setting_path` takes them, to values.
        text: whether values are text, as a command line has them.

    Raises:
        ValueError: an unknown setting, or a value of another type or out of its range.

    Example:
        >>> changed(Recipe(), {"rays": "640", "torso.steps": "9"}, text=True).sampling.rays
        640
    """
    for name, value in changes.items():
        path = setting_path(type(recipe), name)
        tree = encode(recipe)
        *groups, last = path.split(".")
        inside = tree
        for group in groups:
            inside = inside[group]
        inside[last] = value
        try:
            recipe = decode(type(recipe), tree, "recipe", text=text)
        except ValueError as error:
            said = str(error).rpartition(f"recipe.{path}: ")[2] if f"recipe.{path}: " in str(error) else ""
            what = f"{name}: {said[:1].lower()}{said[1:]}, got {value!r}" if said else _plain(str(error))
            raise ValueError(what) from error
    return recipe


def _plain(said: str) -> str:
    """A message without the place that the converter puts before it."""
    place, _, rest = said.partition(": ")
    return rest if place.startswith("recipe") and rest else said


def with_parts(recipe: R, **parts: Mapping[str, Any]) -> R:
    """The recipe with fields of its groups replaced: `with_parts(recipe, sampling={"rays": 64})`."""
    made = {name: dataclasses.replace(getattr(recipe, name), **values) for name, values in parts.items()}
    return dataclasses.replace(recipe, **made)


@dataclass(frozen=True)
class SettingHelp:
    """One setting, for people.

    Args:
        path: its name for `--set`.
        value: of the preset.
        meaning: a sentence from the recipe's docstring.
    """

    path: str
    value: Any
    meaning: str


def describe_settings(recipe: Recipe) -> list[SettingHelp]:
    """Every setting of a recipe with its value and meaning, in their order.

    Example:
        >>> describe_settings(Recipe())[0].path
        'size'
    """

    def walk(part: Any, prefix: str) -> Iterator[SettingHelp]:
        kind: type = type(part)
        meanings = _meanings(kind)
        for name, expected in field_types(kind).items():
            value = getattr(part, name)
            if nested(expected) is None:
                yield SettingHelp(f"{prefix}{name}", value, meanings.get(name, ""))
            else:
                yield from walk(value, f"{prefix}{name}.")

    return list(walk(recipe, ""))


def _meanings(kind: type) -> dict[str, str]:
    """What the `Args:` of a dataclass' docstring and of its bases' say of its fields."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        names: list[str] = []
        block = inspect.cleandoc(base.__doc__ or "").partition("Args:\n")[2].partition("\n\n")[0]
        for line in block.splitlines():
            if match := re.match(r" {4}(\w[\w, ]*): (.*)", line):
                names = [name.strip() for name in match[1].split(",")]
                found |= dict.fromkeys(names, match[2])
            else:
                found |= {name: f"{found[name]} {line.strip()}" for name in names}
    return found
