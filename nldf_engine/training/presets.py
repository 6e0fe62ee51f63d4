"""Recipes: what to train and how, by name. A preset is a function that returns a frozen config."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import nn

from nldf_engine.rendering.fields import Bounds
from nldf_engine.systems.adnerf.model import RadianceField, RadianceFieldConfig
from nldf_engine.systems.common.conditions import ConditionConfig
from nldf_engine.systems.nldf.model import LightField, LightFieldConfig
from nldf_engine.systems.nldf_fast.model import GridLightField, GridLightFieldConfig

# Far above what helps: a number beyond is a slip of the hand, which would end in an exhausted memory.
MOST = {
    "size": 2048, "steps": 10**9, "rays": 1 << 20, "frames": 1024, "distilled_frames": 10**6,
    "pool_capacity": 1 << 24, "pool_batch": 1 << 20,
    "motion_codes": 64, "upper_codes": 32, "speech_steps": 10**6, "torso_steps": 10**9,
}  # fmt: skip


TORSOS = ("plate", "layer", "field", "taught")
# Noise, shares and weights that mean something for a head alone.
OF_A_HEAD = (
    "closing_share",
    "mouth_share",
    "eyes_share",
    "person_share",
    "frame_share",
    "blink_share",
    "correction",
    "ray_jitter",
)
# Half of the rays on neck and torso, half about them: the outline is what takes longest to learn.
TORSO_SHARE = 0.5


@dataclass(frozen=True)
class Recipe:
    """How a system is trained.

    Args:
        system: "adnerf", "nldf" or "nldf-fast".
        size: width of the training pictures, pixels.
        steps: optimiser steps of a full run.
        rays: rays a step, over `frames` frames (4096 of one frame in the papers).
        frames: frames a step.
        closing_share: share of the head's budget, its end, in which the validation cut is trained on as well:
            nothing is left to choose then, and the last weights are kept. 0 keeps the best on the validation
            cut.
        face_share: share of the rays inside the head (nldf 3.5: 0.9).
        mouth_share: share of the rays in a box about the lips, out of `face_share`.
        eyes_share: share of the rays in boxes about the eyes, out of `face_share`.
        person_share: share of the rays anywhere on the speaker, torso included.
        frame_share: share of the rays anywhere in the frame. What the shares leave is drawn from the rays
            that may meet the head.
        blink_share: share of a step's frames that are taken from the blinks. They are so rare that eyelids
            stay half transparent without.
        learning_rate, final_learning_rate: Adam's, decayed exponentially from one to the other.
        grid_learning_rate: of feature grids, decayed by the same factor.
        charbonnier: weight of sqrt(e^2 + 1e-6) beside the squared error of a colour.
        opacity_weight: of the squared error of the opacity against the head's mask.
        outside_weight: how much more that counts where the mask is empty.
        inside_weight: how much more it counts well inside the speaker: what stays a little transparent there
            is tinted by every other background.
        torso: "plate": one picture that moves; "layer": a torso layer, trained along with the head (its and
            the head's opacity together follow the speaker's mask); "field": a field in canonical space,
            trained after the head; "taught": a field where a teacher's torso is one, else the plate.
        torso_steps: optimiser steps of a torso's field.
        torso_in_front: draw that field before the head, as ad_nerf 3.4 does, and the neck with it.
        torso_follows: let that field's rays follow the torso's tracked motion; else, as in ad_nerf 3.4, it is
            told no more than the head's pose and code.
        correction: weight of the squared size of the training frames' own corrections (6 numbers a frame that
            move what a frame sees of the head's plane, for what tracking left); 0 trains none. They are no
            part of the avatar.
        motion_codes: K, numbers a frame that stand for the mouth's tracked motion and drive the field; a
            network learns them from the audio (`systems.common.motion`). 0 drives the field by audio
            directly, as the papers do.
        upper_codes: E, numbers a frame that stand for brows, lids and gaze as they were tracked; no audio
            tells them, so an avatar plays those of its own video unless it is given others. 0 for none.
        motion_noise: standard deviation of the noise on the motion codes while training.
        speech_steps: optimiser steps of the network that tells the motion codes from the audio.
        audio_noise: standard deviation of the noise on the audio windows while training.
        ray_jitter: standard deviation, metres, by which a light field's cameras are moved while training, so
            that it follows the speech and not the pose (`objectives.jitter_rays`).
        distillation: use a teacher's segment colours where a teacher is given (nldf 3.4).
        segment_weight: lambda of eq. (9).
        distilled_frames: how many frames, evenly spread, the teacher renders.
        active_pool: train on the pool of hard rays as well (nldf 3.5).
        pool_capacity, pool_batch: rays that the pool holds, and that a step draws from it.
        pool_share: j, the share of a step's rays, highest loss first, that enters the pool.
    """

    system: str
    size: int
    steps: int
    rays: int = 4096
    frames: int = 1
    closing_share: float = 0.0
    face_share: float = 0.9
    mouth_share: float = 0.0
    eyes_share: float = 0.0
    person_share: float = 0.0
    frame_share: float = 0.0
    blink_share: float = 0.0
    learning_rate: float = 5e-4
    final_learning_rate: float = 5e-5
    grid_learning_rate: float = 1e-2
    charbonnier: float = 0.0
    opacity_weight: float = 0.1
    outside_weight: float = 1.0
    inside_weight: float = 1.0
    torso: str = "plate"
    torso_steps: int = 4000
    torso_in_front: bool = False
    torso_follows: bool = False
    correction: float = 0.0
    motion_codes: int = 0
    upper_codes: int = 0
    motion_noise: float = 0.1
    speech_steps: int = 600
    audio_noise: float = 0.0
    ray_jitter: float = 0.0
    distillation: bool = True
    segment_weight: float = 0.2
    distilled_frames: int = 200
    active_pool: bool = True
    pool_capacity: int = 65536
    pool_batch: int = 1024
    pool_share: float = 0.1

    def __post_init__(self) -> None:
        for name, most in MOST.items():
            fewest = 0 if name.endswith("_codes") else 1
            if not fewest <= getattr(self, name) <= most:
                raise ValueError(f"{name}: expected {fewest} to {most}, got {getattr(self, name)}")
        if self.torso not in TORSOS:
            raise ValueError(f"torso: expected one of {', '.join(TORSOS)}, got {self.torso!r}")
        if self.torso == "layer" and not self.system.startswith("nldf"):
            raise ValueError(f"torso: a layer is trained along with a light field, not with {self.system!r}")
        if self.torso in ("field", "taught") and self.system == "nldf-fast":
            raise ValueError(f"torso: nldf-fast has a plate or a layer, got {self.torso!r}")
        for name in ("learning_rate", "final_learning_rate", "grid_learning_rate", "pool_share"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name}: expected more than 0 and at most 1, got {getattr(self, name)}")
        for name in (
            "opacity_weight", "outside_weight", "inside_weight", "charbonnier", "correction", "motion_noise",
            "audio_noise", "ray_jitter", "segment_weight",
        ):  # fmt: skip
            if not 0 <= getattr(self, name) < 1e6:
                raise ValueError(f"{name}: expected 0 or more, got {getattr(self, name)}")
        if not 0 <= self.closing_share < 1:
            raise ValueError(f"closing_share: expected 0 or more, and less than 1, got {self.closing_share}")
        if not 0 <= self.blink_share <= 1:
            raise ValueError(f"blink_share: expected 0 to 1, got {self.blink_share}")
        shares = [getattr(self, f"{name}_share") for name in ("mouth", "eyes", "face", "person", "frame")]
        mouth, eyes, face, person, frame = shares
        if min(shares) < 0 or mouth + eyes > face or face + person + frame > 1 + 1e-6:
            raise ValueError(
                f"mouth_share, eyes_share, face_share, person_share, frame_share: expected 0 or more, the "
                f"first two within face_share and the last three at most 1 together, got {shares}"
            )


def torso_recipe(recipe: Recipe) -> Recipe:
    """The recipe by which the torso's field is trained, after a head by `recipe`."""
    off = dict.fromkeys(OF_A_HEAD, 0.0)
    return dataclasses.replace(recipe, **off, face_share=TORSO_SHARE, steps=recipe.torso_steps)  # type: ignore[arg-type]


ModelFactory = Callable[[Bounds, ConditionConfig], nn.Module]


@dataclass(frozen=True)
class Preset:
    """A network and its recipe.

    Args:
        recipe: how it is trained.
        model: makes it; the torso's too, of the same kind, for conditions with the head's pose.
    """

    recipe: Recipe
    model: ModelFactory
    pose_frequencies: int = 3


def adnerf() -> Preset:
    """AD-NeRF as in the paper, head and torso: 8 x 256 each, 64 coarse and 128 fine samples."""
    return Preset(
        Recipe("adnerf", size=450, steps=400_000, torso_steps=400_000, rays=2048, torso="field"),
        lambda bounds, conditions: RadianceField(RadianceFieldConfig(bounds, conditions)),
    )


def adnerf_small() -> Preset:
    """AD-NeRF for a CPU, head and torso: 5 x 64 each, 24 coarse and 24 fine samples."""
    return Preset(
        Recipe(
            "adnerf", size=128, steps=4000, rays=1024, frames=4, face_share=0.8, mouth_share=0.15,
            learning_rate=2e-3, final_learning_rate=1e-4, audio_noise=0.2, motion_codes=8, torso="field",
            torso_steps=1500,
        ),
        lambda bounds, conditions: RadianceField(
            RadianceFieldConfig(
                bounds, conditions, width=64, depth=5, skip=2, view_layers=1, position_frequencies=9,
                direction_frequencies=2, coarse=24, fine=24, density="softplus", density_scale=40.0,
            )
        ),
    )  # fmt: skip


def adnerf_tiny() -> Preset:
    """A radiance field for tests: seconds, not minutes."""
    return Preset(
        Recipe(
            "adnerf", size=32, steps=60, rays=512, frames=2, learning_rate=4e-3, mouth_share=0.15,
            motion_codes=4, speech_steps=40, torso="field", torso_steps=40,
        ),
        lambda bounds, conditions: RadianceField(
            RadianceFieldConfig(
                bounds, conditions, width=32, depth=3, skip=1, view_layers=1, position_frequencies=5,
                direction_frequencies=1, coarse=8, fine=8, density="softplus", density_scale=40.0,
            )
        ),
    )  # fmt: skip


def nldf_88() -> Preset:
    """NLDF as in the paper: 88 layers of 256, 16 beam points, 4 segments."""
    return Preset(
        Recipe(
            "nldf",
            size=512,
            steps=600_000,
            torso_steps=300_000,
            rays=4096,
            distilled_frames=2000,
            torso="taught",
        ),
        lambda bounds, conditions: LightField(LightFieldConfig(bounds, conditions)),
    )


def nldf_small() -> Preset:
    """NLDF for a CPU: 18 layers of 128, encoded beams."""
    return Preset(
        Recipe(
            "nldf", size=128, steps=8000, rays=2048, frames=4, face_share=0.8, mouth_share=0.15,
            learning_rate=1e-3, final_learning_rate=3e-5, audio_noise=0.2, motion_codes=8,
            distilled_frames=120, pool_batch=512, torso="taught", torso_steps=2500,
        ),
        lambda bounds, conditions: LightField(
            LightFieldConfig(bounds, conditions, width=128, depth=18, points=6, frequencies=8)
        ),
    )  # fmt: skip


def nldf_tiny() -> Preset:
    """A light field for tests: seconds, not minutes."""
    return Preset(
        Recipe(
            "nldf", size=32, steps=120, rays=512, frames=2, mouth_share=0.15, learning_rate=3e-3,
            distilled_frames=8, pool_capacity=2048, pool_batch=128, motion_codes=4, speech_steps=40,
            torso="taught", torso_steps=40,
        ),
        lambda bounds, conditions: LightField(
            LightFieldConfig(bounds, conditions, width=32, depth=6, points=4, frequencies=4)
        ),
    )  # fmt: skip


def nldf_fast() -> Preset:
    """The grid-encoded light field with a learned torso: minutes on a CPU."""
    return Preset(
        Recipe(
            "nldf-fast", size=256, steps=8000, rays=8192, frames=8, closing_share=0.5,
            face_share=0.42, mouth_share=0.3, eyes_share=0.12, person_share=0.46, frame_share=0.12,
            blink_share=0.05, learning_rate=2e-3, final_learning_rate=6e-5, grid_learning_rate=0.04,
            charbonnier=0.03,
            opacity_weight=0.02, outside_weight=2.0, inside_weight=8.0, torso="layer",
            correction=3e-5, motion_codes=8, upper_codes=4, ray_jitter=5e-4, active_pool=False,
        ),
        lambda bounds, conditions: GridLightField(GridLightFieldConfig(bounds, conditions)),
    )  # fmt: skip


def nldf_fast_tiny() -> Preset:
    """A grid-encoded light field for tests: seconds, not minutes."""
    return Preset(
        dataclasses.replace(
            nldf_fast().recipe, size=32, steps=120, rays=1024, frames=4, motion_codes=4, speech_steps=40,
            distilled_frames=8,
        ),
        lambda bounds, conditions: GridLightField(
            GridLightFieldConfig(
                bounds, conditions, resolutions=(8, 16, 32), warp_resolutions=(8, 16), ambient=2, width=32
            )
        ),
    )  # fmt: skip


PRESETS: dict[str, Callable[[], Preset]] = {
    "nldf-fast": nldf_fast,
    "nldf-fast-tiny": nldf_fast_tiny,
    "nldf-88": nldf_88,
    "nldf-small": nldf_small,
    "nldf-tiny": nldf_tiny,
    "adnerf": adnerf,
    "adnerf-small": adnerf_small,
    "adnerf-tiny": adnerf_tiny,
}


def find_preset(name: str, overrides: Mapping[str, str] | None = None) -> Preset:
    """The preset called `name`, its recipe changed by `overrides` (field name to text).

    Raises:
        ValueError: an unknown preset or field, or a value of another type.
    """
    if name not in PRESETS:
        raise ValueError(f"preset: expected one of {', '.join(PRESETS)}, got {name!r}")
    preset = PRESETS[name]()
    known = {item.name: str(item.type) for item in dataclasses.fields(Recipe)}
    changes: dict[str, object] = {}
    for key, text in (overrides or {}).items():
        if key not in known or key == "system":
            raise ValueError(f"{key}: the recipe has no such setting; it has {', '.join(list(known)[1:])}")
        try:
            changes[key] = _parse(text, known[key])
        except ValueError as error:
            raise ValueError(f"{key}: expected {known[key]}, got {text!r}") from error
    return dataclasses.replace(preset, recipe=dataclasses.replace(preset.recipe, **changes))  # type: ignore[arg-type]


def _parse(text: str, kind: str) -> object:
    if kind == "bool":
        words = {
            "on": True,
            "true": True,
            "yes": True,
            "1": True,
            "off": False,
            "false": False,
            "no": False,
            "0": False,
        }
        if text.lower() not in words:
            raise ValueError(text)
        return words[text.lower()]
    if kind == "str":
        return text
    return int(text) if kind == "int" else float(text)
