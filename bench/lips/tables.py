"""The three tables: rows of what is trained, each measured where it has not learned from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from bench.lips.flow import Flow, train_flow
from bench.lips.losses import added, deviation, spectrum
from bench.lips.metrics import means, measure
from bench.lips.speaker import SEED, Speaker, mapped, open_speaker, spread
from nldf_engine.audio import FrontendConfig, look_ahead_seconds
from nldf_engine.base.clock import FPS
from nldf_engine.nn.speech import REACH
from nldf_engine.training.presets import find_preset
from nldf_engine.training.speech import APART, Folds, SpeechData

PRESET = "nldf-fast"
LATENCIES = (0.08, 0.16, 0.24, 0.3, 0.4)
SHORT_SECONDS = 10
FLOW_STEPS, DRAWS, MANY = 300, 4, 16
LOSS_WEIGHTS = (1.0, 4.0)
POSTURE_SECONDS = 2.0

Measured = dict[str, float]


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Args:
        label: what it is.
        unseen: measured on the training part, by networks or maps that did not learn from these frames.
        heldout: measured on the held-out part, by what learned from the whole training part.
    """

    label: str
    unseen: Measured
    heldout: Measured


@dataclass(frozen=True)
class Options:
    """What the command line says.

    Args:
        steps: optimiser steps of everything, to try it out; None for the recipe's.
        cache: folder where features are kept; None to keep none.
    """

    steps: int | None = None
    cache: Path | None = None

    def open(self, path: Path, frontend: FrontendConfig, **settings: object) -> Speaker:
        """A speaker under the recipe of `PRESET` with some settings changed."""
        few = {} if self.steps is None else {"speech_steps": self.steps, "adapt_steps": self.steps}
        return open_speaker(path, frontend, find_preset(PRESET).recipe, self.cache, **few, **settings)


def _row(label: str, speaker: Speaker, folds: Folds, frames: Tensor | None = None) -> Row:
    """The row of predictions, on `frames` [N] of the training part, all of it where None."""
    basis, codes = speaker.encoder.basis, speaker.codes
    return Row(
        label,
        measure(basis, folds.unseen, codes, folds.known if frames is None else frames),
        measure(basis, folds.final, codes, speaker.scene.heldout),
    )


def _latency(frontend: FrontendConfig) -> float:
    return look_ahead_seconds(frontend) + REACH / FPS


def look_ahead(path: Path, options: Options) -> Iterator[Row]:
    """How lips follow speech by how much of what comes is heard, with `nldf train`'s own recipe."""
    least = FrontendConfig("whisper", ahead=-6)
    for latency in LATENCIES:
        allowed = max(latency - REACH / FPS, look_ahead_seconds(least))
        frontend = FrontendConfig("whisper").looking_ahead(allowed)
        speaker = options.open(path, frontend)
        label = f"whisper, ahead {frontend.ahead}, {1000 * _latency(frontend):.0f} ms"
        yield _as_trained(label, speaker)
    mel = FrontendConfig("mel")
    yield _as_trained(f"mel, {1000 * _latency(mel):.0f} ms", options.open(path, mel))


def _as_trained(label: str, speaker: Speaker) -> Row:
    data = speaker.data(speaker.scene.training)
    folds = speaker.folds(data)
    return _row(label, speaker, spread(folds, data.codes, speaker.opening))


def prior(path: Path, options: Options) -> Iterator[Row]:
    """What other speakers' network is worth, by how much of the speaker there is; no spread is given."""
    whisper = FrontendConfig("whisper")
    for begin, wanted in (("prior", True), ("no prior", False)):
        speaker = options.open(path, whisper, prior=wanted)
        training = speaker.scene.training
        first = training[: min(round(SHORT_SECONDS * FPS), len(training) // 2)]
        later = training[training > first[-1] + APART]
        if wanted:
            yield _row("prior, zero-shot", speaker, _untrained(speaker), later)
        learn, data = speaker.learn(), speaker.data(first)
        learn(speaker.encoder, data)
        made = speaker.encoder.speech.encode_clip(data.features)
        yield _row(f"{begin}, {len(first) / FPS:.0f} s", speaker, Folds((first,), made, made), later)
        folds = speaker.folds(speaker.data(training))
        yield _row(f"{begin}, all {len(training) / FPS:.0f} s", speaker, folds, later)
    speaker = options.open(path, FrontendConfig("mel"))
    folds = speaker.folds(speaker.data(speaker.scene.training))
    yield _row("mel, no prior, all", speaker, folds, later)


def _untrained(speaker: Speaker) -> Folds:
    """The prior in the speaker's codes; only the linear map to these looks at the training part's lips."""
    from nldf_engine.training.motion import placed_landmarks
    from nldf_engine.training.prior import lip_prior

    scene, encoder = speaker.scene, speaker.encoder
    placed = placed_landmarks(encoder.basis, scene.dataset)
    lip_prior().start(encoder, placed, speaker.codes, scene.training, scene.frontend.ahead)
    encoder.speech.eval()
    with torch.no_grad():
        made = encoder.speech.encode_clip(scene.conditions.audio)
    return Folds((scene.training,), made, made)


def distribution(path: Path, options: Options) -> Iterator[Row]:
    """What makes predicted lips move as far and close as often as real ones, and what it costs."""
    speaker = options.open(path, FrontendConfig("whisper"))
    firm = speaker.data(speaker.scene.training)
    data = replace(firm, codes=speaker.codes)
    folds = speaker.folds(data)
    yield _row("a plain regression", speaker, folds)
    yield _row("b spread of each code", speaker, spread(folds, data.codes))
    yield _row("b and of the opening", speaker, spread(folds, data.codes, speaker.opening))
    closing = speaker.folds(firm)
    yield _row("c closed lips pressed", speaker, closing)
    yield _row("c spread of each code", speaker, spread(closing, firm.codes))
    yield _row("c and of the opening (nldf train)", speaker, spread(closing, firm.codes, speaker.opening))
    for name, loss in (("deviation", deviation), ("spectrum", spectrum)):
        for weight in LOSS_WEIGHTS:
            with added(loss, weight):
                livelier = speaker.folds(data)
            yield _row(f"d loss of the {name}, weight {weight:g}", speaker, livelier)
    yield from _flows(speaker, data, folds, options.steps or FLOW_STEPS)
    yield from _posture(speaker, data)


def _flows(speaker: Speaker, data: SpeechData, folds: Folds, steps: int) -> Iterator[Row]:
    """Samples of the flow that is given the regression's predictions; measures are means over draws."""
    trained: dict[tuple[int, ...], Flow] = {}

    def fit(temperature: float, seed: int) -> Callable[[Tensor], Callable[[Tensor], Tensor]]:
        def of(frames: Tensor) -> Callable[[Tensor], Tensor]:
            key = tuple(frames.tolist())
            if key not in trained:
                usable = torch.zeros_like(data.usable)
                usable[frames] = True
                with torch.enable_grad():
                    trained[key] = train_flow(folds.unseen, speaker.codes, usable, steps, SEED)
            return lambda codes: trained[key].sample(codes, temperature, seed)

        return of

    drawn: list[Folds] = []
    for temperature in (1.0, 0.5):
        draws = [mapped(folds, fit(temperature, seed)) for seed in range(MANY)]
        drawn = drawn or draws
        rows = [_row("", speaker, draw) for draw in draws[:DRAWS]]
        yield Row(
            f"e flow, temperature {temperature:g}", means([row.unseen for row in rows]),
            means([row.heldout for row in rows]),
        )  # fmt: skip
    middle = replace(
        folds,
        unseen=torch.stack([draw.unseen for draw in drawn]).mean(0),
        final=torch.stack([draw.final for draw in drawn]).mean(0),
    )
    yield _row(f"e flow, mean of {MANY} draws", speaker, middle)


def _posture(speaker: Speaker, data: SpeechData) -> Iterator[Row]:
    """Targets without their slow part."""
    known, codes = speaker.scene.training, speaker.codes
    slow = _slow_part(codes, known)
    usual = codes[known].mean(0)
    folds = speaker.folds(replace(data, codes=codes - slow + usual))
    yield _row("f posture separated", speaker, folds)
    true = _slow_part(codes, torch.from_numpy(speaker.scene.dataset.indices("all"))) - usual
    told = replace(folds, unseen=folds.unseen + true, final=folds.final + true)
    yield _row("f oracle: the true posture added", speaker, told)


def _slow_part(codes: Tensor, known: Tensor) -> Tensor:
    """[T, K] Gaussian mean of `POSTURE_SECONDS` over the known frames [N]."""
    every = torch.arange(len(codes))
    apart = (every[:, None] - known).float() / (POSTURE_SECONDS * FPS)
    weight = torch.softmax(-apart.square() / 2, 1)
    return weight @ codes[known]


TABLES: Mapping[str, Callable[[Path, Options], Iterator[Row]]] = {
    "look-ahead": look_ahead, "prior": prior, "distribution": distribution,
}  # fmt: skip
