"""The renderings of a clip that are scored: with its own audio, and as controls with wrong audio."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nldf_engine.evaluation.real_clip import RealClip
from nldf_engine.evaluation.renderers import Renderer


@dataclass(frozen=True)
class Variant:
    """One rendering of a clip.

    Args:
        name: of "rendered" the pictures are scored; of every other variant only the faces are.
        frames: makes the T frames, uint8 [H, W, 3]: an array-like that is indexed, or an iterable.
        warm_up: makes one frame, untimed, so that loading and compiling do not count; or None.
    """

    name: str
    frames: Callable[[], Any]
    warm_up: Callable[[], Any] | None = None


def variants_of(clip: RealClip, renderer: Renderer) -> tuple[list[Variant], int | None]:
    """The variants that a renderer allows, "rendered" first, and by how many frames wrong audio is shifted.

    "shuffled" has the audio from half the clip away, "foreign" somebody else's, where the clip holds any.
    What only plays recorded frames has no audio that could be changed: one variant, and no shift.
    """
    features, poses, eyes = clip.conditions()
    if getattr(renderer, "recorded", False):
        return [Variant("rendered", lambda: renderer(features, poses, eyes))], None
    wrong, shift = clip.shifted_features()
    variants = [
        Variant(
            "rendered",
            lambda: renderer(features, poses, eyes),
            lambda: renderer(features[:1], poses[:1], eyes[:1]),
        ),
        Variant("shuffled", lambda: renderer(wrong, poses, eyes)),
    ]
    foreign = clip.foreign
    if foreign is not None:
        variants.append(Variant("foreign", lambda: renderer(foreign, poses, eyes)))
    return variants, shift
