"""Pre-trains the latent code extractor by contrast, and gives the codes that eq. (6) pulls towards (headnerf
3.3).

A face is known by four things: who it is and how it is stretched (identity), its frame (expression), its tint
(albedo) and its light (illumination). A positive pair has one of them in common and nothing else; the
negatives of an anchor are the anchor itself with that one thing changed, and other anchors' positives. So a
code can separate pairs by its own property alone. Other people's faces with the same expression are the
frames of another speaker of the run whose lips, lids and brows are most alike; with one speaker, stretch and
tint are the other people.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from nldf_engine.base.progress import Bar
from nldf_engine.nn.sync import info_nce
from nldf_engine.systems.headnerf.codes import LIGHT_NUMBERS, CodeSizes
from nldf_engine.systems.headnerf.extractor import FACTORS, CodeExtractor
from nldf_engine.systems.headnerf.objective.faces import (
    Looks,
    changed_faces,
    cut_faces,
    expression_measures,
)
from nldf_engine.training.scene import Scene

# Spread of the changes: logarithms of stretch and tint, light numbers.
STRETCH, TINT, LIGHT = 0.12, 0.2, 0.25
# Of a speaker's frames, at most so many are learned from: neighbours are nearly the same.
MOST_FACES = 600
# Frames that look alike are no negatives of each other: at least so much apart, in mean deviations.
UNLIKE = 0.5
ANCHORS, TEMPERATURE, RATE = 16, 0.2, 3e-3
# Pairs that the report of the pre-training is made of.
JUDGED = 64


@dataclass(frozen=True)
class Samples:
    """N faces.

    Args:
        speaker, frame: [N] int64; the frame counts among the speaker's kept ones.
        looks: how they are changed.
    """

    speaker: Tensor
    frame: Tensor
    looks: Looks


@dataclass(frozen=True)
class References:
    """The codes of a speaker's pictures; constants of a run.

    Args:
        identity, albedo: [C], of the speaker: the mean over the frames.
        expression, illumination: [T, C], of each frame; counted from the speaker's mean, and from the run's
            mean light.
        seen_expression, seen_light: [T, C], the same as the extractor sees them, not counted from a mean.
        light_map: [C, 3] from light numbers to illumination codes, as the extractor sees them.
    """

    identity: Tensor
    albedo: Tensor
    expression: Tensor
    illumination: Tensor
    seen_expression: Tensor
    seen_light: Tensor
    light_map: Tensor

    @classmethod
    def unknown(cls, frames: int, sizes: CodeSizes) -> References:
        """Zeros, in the place of what a checkpoint holds."""
        light = sizes.illumination
        return cls(
            torch.zeros(sizes.identity), torch.zeros(sizes.albedo), torch.zeros(frames, sizes.expression),
            torch.zeros(frames, light), torch.zeros(frames, sizes.expression), torch.zeros(frames, light),
            torch.zeros(light, 3),
        )  # fmt: skip

    def to(self, device: torch.device) -> References:
        """The same on a device."""
        return References(**{name: value.to(device) for name, value in self.tensors().items()})

    def tensors(self) -> dict[str, Tensor]:
        """By name, for checkpoints."""
        return dict(vars(self))


class FaceBank:
    """The faces of a run's speakers, which samples are drawn from.

    Args:
        scenes: the training videos; only frames that are trained on are kept.
        usual: [speakers, 3] light numbers of each video, which are taken off its faces.
    """

    def __init__(self, scenes: Sequence[Scene], usual: Tensor) -> None:
        self.usual = usual
        self.numbers = [_spread_out(scene.fit) for scene in scenes]
        self.faces = [cut_faces(scene, kept) for scene, kept in zip(scenes, self.numbers, strict=True)]
        self.measures = [
            expression_measures(scene)[kept] for scene, kept in zip(scenes, self.numbers, strict=True)
        ]

    def pictures(self, samples: Samples) -> Tensor:
        """[N, 3, 48, 48] of samples."""
        pairs = zip(samples.speaker.tolist(), samples.frame.tolist(), strict=True)
        faces, looks = torch.stack([self.faces[who][frame] for who, frame in pairs]), samples.looks
        light = looks.light - self.usual[samples.speaker]
        return changed_faces(faces, Looks(looks.stretch, looks.tint, light))

    def anyone(self, count: int, generator: torch.Generator) -> Samples:
        """Faces of which everything is drawn."""
        speaker = torch.randint(len(self.faces), (count,), generator=generator)
        sizes = torch.tensor([len(faces) for faces in self.faces])[speaker]
        frame = (torch.rand(count, generator=generator) * sizes).long()
        return Samples(speaker, frame, drawn_looks(count, generator))

    def alike(self, samples: Samples, to: Tensor) -> Tensor:
        """[N] frames of speakers `to` [N] whose expression is most like the samples'."""
        found = samples.frame.clone()
        for row, (who, frame, other) in enumerate(
            zip(samples.speaker.tolist(), samples.frame.tolist(), to.tolist(), strict=True)
        ):
            if who != other:
                apart = (self.measures[other] - self.measures[who][frame]).square().mean(1)
                found[row] = int(apart.argmin())
        return found

    def triples(
        self, factor: str, count: int, generator: torch.Generator
    ) -> tuple[Samples, Samples, Samples]:
        """Anchors, positives that share the factor alone, and the anchors with that factor changed."""
        anchor, other = self.anyone(count, generator), self.anyone(count, generator)
        a, o = anchor.looks, other.looks
        # The changed anchor keeps all but the factor; a positive has but the factor.
        if factor == "expression":
            positive = Samples(other.speaker, self.alike(anchor, other.speaker), o)
            negative = Samples(anchor.speaker, self._unlike(anchor, generator), a)
            return anchor, positive, negative
        frame = self._unlike(anchor, generator)
        if factor == "identity":
            positive = Samples(anchor.speaker, frame, Looks(a.stretch, o.tint, o.light))
            # Another person doing the same; with the same tint and light.
            frame = self.alike(anchor, other.speaker)
            return anchor, positive, Samples(other.speaker, frame, Looks(o.stretch, a.tint, a.light))
        if factor == "albedo":
            positive = Samples(anchor.speaker, frame, Looks(o.stretch, a.tint, o.light))
            return (
                anchor,
                positive,
                Samples(anchor.speaker, anchor.frame, Looks(a.stretch, o.tint, a.light)),
            )
        frame = torch.where(other.speaker == anchor.speaker, frame, other.frame)
        positive = Samples(other.speaker, frame, Looks(o.stretch, o.tint, a.light))
        return anchor, positive, Samples(anchor.speaker, anchor.frame, Looks(a.stretch, a.tint, o.light))

    def _unlike(self, samples: Samples, generator: torch.Generator) -> Tensor:
        """[N] other frames of the same speakers, of other expressions where a few draws find any."""
        found = samples.frame.clone()
        for row, (who, frame) in enumerate(
            zip(samples.speaker.tolist(), samples.frame.tolist(), strict=True)
        ):
            measures = self.measures[who]
            draws = torch.randint(len(measures), (6,), generator=generator)
            apart = (measures[draws] - measures[frame]).square().mean(1)
            good = (apart > UNLIKE).nonzero()[:, 0]
            found[row] = draws[int(good[0])] if len(good) else draws[int(apart.argmax())]
        return found


def _spread_out(numbers: Tensor) -> Tensor:
    """At most `MOST_FACES` of frame numbers [N], evenly."""
    if len(numbers) <= MOST_FACES:
        return numbers
    return numbers[torch.linspace(0, len(numbers) - 1, MOST_FACES).long()]


def drawn_looks(count: int, generator: torch.Generator) -> Looks:
    """How `count` faces are changed, at random."""
    stretch = torch.exp(STRETCH * torch.randn(count, 2, generator=generator))
    tint = TINT * torch.randn(count, 3, generator=generator)
    light = drawn_light(count, generator)
    return Looks(stretch, tint - tint.mean(1, keepdim=True), light)


def drawn_light(count: int, generator: torch.Generator) -> Tensor:
    """[count, 3] light numbers at random."""
    return LIGHT * torch.randn(count, LIGHT_NUMBERS, generator=generator)


def contrast(
    extractor: CodeExtractor, bank: FaceBank, count: int, generator: torch.Generator
) -> dict[str, Tensor]:
    """The InfoNCE of each factor (eq. 8 with pictures for lips and sound), over `count` anchors each."""
    drawn = {factor: bank.triples(factor, count, generator) for factor in FACTORS}
    pictures = torch.cat([bank.pictures(part) for parts in drawn.values() for part in parts])
    found: dict[str, Tensor] = {}
    codes = extractor(pictures)
    for place, factor in enumerate(FACTORS):
        first = 3 * count * place
        anchor, positive, changed = codes[factor][first : first + 3 * count].split(count)
        found[factor] = info_nce(anchor, positive, _negatives(positive, changed), TEMPERATURE)
    return found


def _negatives(positive: Tensor, changed: Tensor) -> Tensor:
    """[N, N, C]: each anchor's changed self, and the others' positives."""
    count = len(positive)
    others = (torch.arange(count)[:, None] + torch.arange(1, count)) % count
    return torch.cat([changed[:, None], positive[others]], 1)


@torch.no_grad()
def retrieval(extractor: CodeExtractor, bank: FaceBank, generator: torch.Generator) -> dict[str, float]:
    """For each factor, how often an anchor's positive is more alike to it than its changed self."""
    found = {}
    for factor in FACTORS:
        parts = bank.triples(factor, JUDGED, generator)
        anchor, positive, changed = (extractor(bank.pictures(part))[factor] for part in parts)
        near, far = F.cosine_similarity(anchor, positive), F.cosine_similarity(anchor, changed)
        found[factor] = float((near > far).float().mean())
    return found


def train_extractor(
    bank: FaceBank, sizes: CodeSizes, steps: int, generator: torch.Generator
) -> CodeExtractor:
    """An extractor trained by contrast on the faces, frozen; says how often it is right on standard error.

    Its first weights are drawn by torch's own generator.
    """
    extractor = CodeExtractor(sizes)
    optimizer = torch.optim.Adam(extractor.parameters(), RATE)
    with Bar("pre-train the code extractor", steps, "step") as bar:
        for step in range(steps):
            for group in optimizer.param_groups:
                group["lr"] = RATE * (1 - step / steps)
            loss = torch.stack(list(contrast(extractor, bank, ANCHORS, generator).values())).mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            bar.step(note=f"{float(loss.detach()):.3f}")
    extractor.eval().requires_grad_(False)
    right = ", ".join(f"{name} {share:.2f}" for name, share in retrieval(extractor, bank, generator).items())
    sys.stderr.write(f"the code extractor picks the pair that shares a property: {right} (chance 0.50)\n")
    return extractor


@torch.no_grad()
def references(
    extractor: CodeExtractor, scene: Scene, usual: Tensor, generator: torch.Generator
) -> References:
    """The codes of the frames of a video whose pictures are kept, under its usual light [3], zero in the
    others; and what light does to them."""
    cut = cut_faces(scene, scene.kept)
    parts = [extractor(changed_faces(part, Looks.none(len(part)))) for part in cut.split(256)]
    codes = {name: torch.cat([part[name] for part in parts]) for name in FACTORS}
    every = {name: code.new_zeros(len(scene.frames), *code.shape[1:]) for name, code in codes.items()}
    for name, code in codes.items():
        every[name][scene.kept] = code
    mean = {name: every[name][scene.fit].mean(0) for name in FACTORS}
    chosen = scene.fit[torch.randint(len(scene.fit), (256,), generator=generator)]
    light = drawn_light(len(chosen), generator)
    plain = Looks.none(len(chosen))
    changed = changed_faces(cut_faces(scene, chosen), Looks(plain.stretch, plain.tint, light))
    lit = extractor(changed)["illumination"]
    shift = lit - every["illumination"][chosen]
    light_map = torch.linalg.lstsq(light.double(), shift.double()).solution.t().float()

    def unit(code: Tensor) -> Tensor:
        return F.normalize(code, dim=0) * len(code) ** 0.5

    return References(
        unit(mean["identity"]), unit(mean["albedo"]), every["expression"] - mean["expression"],
        every["illumination"] - mean["illumination"] + light_map @ usual, every["expression"],
        every["illumination"], light_map.contiguous(),
    )  # fmt: skip


def fitted(inputs: Tensor, codes: Tensor, ridge: float = 1e-2) -> Tensor:
    """Weight [C, D] of the ridge regression of codes [N, C] on inputs [N, D], both from their means."""
    mean, about = inputs.double().mean(0), codes.double().mean(0)
    x, y = inputs.double() - mean, codes.double() - about
    gram = x.t() @ x + ridge * len(x) * torch.eye(x.shape[1], dtype=torch.float64)
    return torch.linalg.solve(gram, x.t() @ y).t().float()
