"""Trains the network from speech to the mouth's motion codes, and gives its predictions the real spread."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from nldf_engine.base.progress import Bar
from nldf_engine.nn.speech import REACH
from nldf_engine.systems.common.motion import MotionBasis, MotionEncoder
from nldf_engine.training.voices import augment_voices

SMALLEST_SCALE = 1e-6
STRETCH = 64
STRETCHES = 6
WEIGHT_DECAY = 1e-2
WARM_UP = 50
# Noise on the features, as shares of their standard deviation: a constant one a band (another microphone,
# another room) and one an entry.
BAND_NOISE, ENTRY_NOISE = 0.15, 0.5
# The change from frame to frame counts beside the position: it is what the eye follows.
VELOCITY_WEIGHT = 2.0
OPENING_WEIGHT = 0.25
# Lips apart where they ought to meet are seen at once, and the mean of what a sound leaves open never meets:
# where lips are closed (metres, with a soft edge), an error that parts them counts more.
CLOSED, CLOSED_EDGE = 0.7e-3, 0.3e-3
PARTING_WEIGHT = 2.5
# By how much closed lips are pressed together in what is learned, in standard deviations of the opening.
PRESSED = 0.8
# Silence that is learned before and behind the sound: this share of it, and no more than a stretch. Without,
# a mouth that has heard nothing yet stands open as it does on the average of speech.
SILENT_SHARE = 1 / 16
# Frames that two parts of a video are apart when one is to say nothing of the other.
APART = 12
FOLDS = 4
# A code is spread as far as the real one where speech predicts it at least this well (correlation), and is
# left as predicted where it hardly does, with a line in between.
SURE, UNSURE = 0.75, 0.45
LARGEST_GAIN = 1.8


@dataclass(frozen=True)
class SpeechData:
    """What a speech network learns from.

    Args:
        features: [T, W, D] audio windows.
        codes: [T, K] tracked.
        usable: [T] bool, frames that may be learned from.
        bands: whether the D features are bands of a spectrum, as mel's: they are then varied as other voices
            would vary them.
        copies: [C, T, W, D] features of copies of the sound, as of other voices and rooms; or None.
    """

    features: Tensor
    codes: Tensor
    usable: Tensor
    bands: bool = False
    copies: Tensor | None = None

    def windows(self, which: Tensor, frames: Tensor) -> Tensor:
        """[N, L, W, D] windows of the frames [N, L], of the sounds [N, 1]: 0 the original, then its copies;
        zeros beyond the ends."""
        at = frames.clamp(0, len(self.features) - 1)
        found = self.features[at]
        if self.copies is not None:
            copied = self.copies[(which - 1).clamp_min(0), at]
            found = torch.where((which > 0)[..., None, None], copied, found)
        return found * (at == frames)[..., None, None]

    def starts(self, length: int) -> Tensor:
        """First frames of the stretches in which nine tenths of the frames are usable."""
        total = F.pad(self.usable.float().cumsum(0), (1, 0))
        share = (total[length:] - total[:-length]) / length
        return (share >= min(0.9, float(share.max()))).nonzero()[:, 0]

    def only(self, frames: Tensor) -> SpeechData:
        """The same with no other frames usable than `frames` [N]."""
        usable = torch.zeros_like(self.usable)
        usable[frames] = True
        return replace(self, usable=self.usable & usable)


@dataclass(frozen=True)
class SpeechTuning:
    """How long and how fast a speech network learns.

    Args:
        steps: optimiser steps.
        rate: the first learning rate; it falls along a cosine.
        copied: share of the stretches that are taken from copies of the sound, where there are any.
    """

    steps: int
    rate: float = 2e-3
    copied: float = 0.6


class SpeechLoss:
    """Squared error of the landmarks that codes stand for, of the mouth's opening, and of their changes; lips
    that part where they are closed count once more.
    """

    def __init__(self, basis: MotionBasis, data: SpeechData) -> None:
        self.weight = (basis.scale / basis.scale.max()).square()
        opening = opening_slope(basis)
        spread = (data.codes[data.usable] @ opening).std().clamp_min(SMALLEST_SCALE)
        self.opening = opening / spread
        self.closed = closed(basis, data.codes)

    def __call__(self, error: Tensor, frames: Tensor, usable: Tensor) -> Tensor:
        """Of errors [N, T, K] of the `frames` [N, T], where they are `usable` [N, T]."""
        parted = (error @ self.opening).clamp_min(0).square() * self.closed[frames] * usable
        parting = PARTING_WEIGHT * parted.sum() / usable.sum().clamp_min(1)
        return parting + code_error(error, usable, self.weight, self.opening)


def code_error(error: Tensor, usable: Tensor, weight: Tensor, opening: Tensor) -> Tensor:
    """Mean squared error of codes and of the opening, and of their changes from frame to frame.

    Args:
        error: [N, T, K].
        usable: [N, T] bool, where it counts.
        weight: [K] of the codes' squares.
        opening: [K] of a unit of each code, in standard deviations of the opening.
    """

    def mean(of: Tensor, where: Tensor) -> Tensor:
        squares = (of.square() * weight).sum(-1) + OPENING_WEIGHT * (of @ opening).square()
        return (squares * where).sum() / where.sum().clamp_min(1)

    both = usable[:, 1:] & usable[:, :-1]
    return mean(error, usable) + VELOCITY_WEIGHT * mean(error[:, 1:] - error[:, :-1], both)


def closed(basis: MotionBasis, codes: Tensor) -> Tensor:
    """[T] in [0, 1]: whether the lips of codes [T, K] meet."""
    return torch.sigmoid((CLOSED - basis.opening(codes)) / CLOSED_EDGE)


def pressed(basis: MotionBasis, codes: Tensor, usable: Tensor) -> Tensor:
    """Codes [T, K] to learn in the place of tracked ones: where lips are closed, they are pressed together.

    What is seen of closed lips is the same however firmly they close, but a mean is not: of a sound that
    closes them with probability P the prediction becomes lower by P times the pressure, and where they surely
    close, the errors that a prediction is left with no longer part them.

    Args:
        basis: of the codes.
        codes: as tracked.
        usable: [T] bool, frames that are learned from.
    """
    slope = opening_slope(basis)
    about = codes - codes[usable].mean(0)
    opening = about @ slope
    square = opening[usable].square().mean().clamp_min(SMALLEST_SCALE**2)
    along = (opening[usable] @ about[usable]) / (usable.sum() * square)  # what goes with a metre of opening
    return codes - PRESSED * square.sqrt() * closed(basis, codes)[:, None] * along


def opening_slope(basis: MotionBasis) -> Tensor:
    """[K] metres that the mouth opens by for one of each code."""
    unit = torch.eye(len(basis.scale), device=basis.scale.device)
    return basis.opening(unit) - basis.opening(0 * unit)


def with_silence(basis: MotionBasis, data: SpeechData) -> SpeechData:
    """The same between silences, in which the lips rest as they do where they are closed.

    Args:
        basis: of the codes.
        data: T frames.
    """
    count = min(STRETCH, round(SILENT_SHARE * len(data.codes)))
    known = data.codes[data.usable]
    weight = closed(basis, known)
    if float(weight.sum()) < 1:  # lips that never meet
        weight = torch.zeros_like(weight)
        weight[basis.opening(known).argmin()] = 1
    return between_rests(data, weight @ known / weight.sum(), count)


def between_rests(data: SpeechData, rest: Tensor, frames: int) -> SpeechData:
    """The same with so many `frames` of silence before and behind, in which the codes are `rest` [K]."""

    def padded(sound: Tensor) -> Tensor:
        return F.pad(sound, (0, 0, 0, 0, frames, frames))

    rests = rest.expand(frames, -1)
    return replace(
        data,
        features=padded(data.features),
        codes=torch.cat([rests, data.codes, rests]),
        usable=F.pad(data.usable, (frames, frames), value=True),
        copies=None if data.copies is None else padded(data.copies),
    )


class Stretches:
    """Draws stretches of consecutive frames, whose sound is varied as other voices and rooms would vary it.

    Args:
        data: of T frames.
        count: stretches a draw.
        length: frames of one; as many as there are, at most.
        copied: share that is taken from copies of the sound, where there are any.
        spread: standard deviation of the features, in whose shares noise is added; None takes it of `data`.
    """

    def __init__(
        self, data: SpeechData, count: int, length: int, copied: float, spread: Tensor | None = None
    ) -> None:
        self._data, self._count, self._copied = data, count, copied
        self._spread = data.features.std().clamp_min(1e-6) if spread is None else spread
        self._length = min(length, len(data.features))
        self._starts = data.starts(self._length)
        self._sounds = 1 if data.copies is None else 1 + len(data.copies)
        self._near = torch.arange(-REACH, self._length + REACH, device=self._starts.device)

    def draw(self) -> tuple[Tensor, Tensor]:
        """Frames [N, L] and their windows with neighbours [N, L + 2 REACH, W, D]."""
        starts, count = self._starts, self._count
        first = starts[torch.randint(len(starts), (count,)).to(starts.device)][:, None]
        which = _choose(self._sounds, count, self._copied).to(starts.device)
        windows = self._data.windows(which, first + self._near)
        heard = (windows != 0).any(-1, keepdim=True).any(-2, keepdim=True)
        windows = augment_voices(windows) if self._data.bands else windows
        bands = torch.randn(count, 1, 1, windows.shape[-1], device=windows.device)
        noise = BAND_NOISE * bands + ENTRY_NOISE * torch.randn_like(windows)
        return first + self._near[REACH:-REACH], (windows + self._spread * noise) * heard


def rate_at(step: int, steps: int, rate: float) -> float:
    """The learning rate of a step: it rises to `rate` over the first ones, and falls along a cosine."""
    return rate * min(1.0, (step + 1) / WARM_UP) * (0.5 + 0.5 * math.cos(math.pi * step / steps))


def train_speech(encoder: MotionEncoder, data: SpeechData, tuning: SpeechTuning) -> None:
    """Trains `encoder.speech` on stretches of consecutive frames, from the weights that it has."""
    spread = data.features.std().clamp_min(1e-6)
    data = with_silence(encoder.basis, data)
    net, loss_of = encoder.speech, SpeechLoss(encoder.basis, data)
    stretches = Stretches(data, STRETCHES, STRETCH, tuning.copied, spread)
    net.train().requires_grad_(True)
    optimizer = torch.optim.AdamW(net.parameters(), tuning.rate, weight_decay=WEIGHT_DECAY)
    with Bar("learn the mouth's motion from speech", tuning.steps, "step") as bar:
        for step in range(tuning.steps):
            for group in optimizer.param_groups:
                group["lr"] = rate_at(step, tuning.steps, tuning.rate)
            frames, windows = stretches.draw()
            error = net(windows) - data.codes[frames]
            loss = loss_of(error, frames, data.usable[frames])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            bar.step(note=f"error {float(loss.detach()):.2f}")
    net.eval().requires_grad_(False)


def _choose(sounds: int, count: int, copied: float) -> Tensor:
    """[count, 1] which sound each stretch is taken from: 0 the original."""
    if sounds == 1:
        return torch.zeros(count, 1, dtype=torch.int64)
    which = torch.randint(1, sounds, (count, 1))
    return torch.where(torch.rand(count, 1) < copied, which, 0)


LearnSpeech = Callable[[MotionEncoder, SpeechData], None]
"""Trains an encoder's network from its beginning."""
Predict = Callable[[SpeechData], Tensor]
"""Trains a network from its beginning; [T, K] what it then predicts for all frames of the data."""


def predictions(encoder: MotionEncoder, learn: LearnSpeech) -> Predict:
    """What an encoder's network predicts once `learn` has trained it."""

    def predict(data: SpeechData) -> Tensor:
        learn(encoder, data)
        with torch.no_grad():
            return encoder.speech.encode_clip(data.features)

    return predict


@dataclass(frozen=True)
class Folds:
    """Predictions for frames that a network did not see, beside those of the network of all frames.

    Args:
        parts: numbers of each fold's frames; together those that are learned from.
        unseen: [T, K], in each fold by the network that did not see it; as `final` elsewhere.
        final: [T, K] by the network that learned from all folds.
    """

    parts: tuple[Tensor, ...]
    unseen: Tensor
    final: Tensor

    @property
    def known(self) -> Tensor:
        """[N] the frames of all folds."""
        return torch.cat(self.parts)


def predict_folds(data: SpeechData, predict: Predict) -> Folds:
    """Trains a network for each fold without its frames, and at last one on all, which stays.

    A network that learned from a part of the frames is more cautious than one that learned from all of them.
    So each fold's predictions are spread by how much further the network of all frames spreads those that it
    learned from than the fold's network does.

    Args:
        data: its usable frames are cut into `FOLDS` consecutive parts.
        predict: trains the network and predicts.
    """
    known = data.usable.nonzero()[:, 0]
    parts, made = known.tensor_split(FOLDS), []
    for fold in parts:
        rest = known[(known < fold[0] - APART) | (known > fold[-1] + APART)]
        predicted = predict(data.only(rest))
        made.append((predicted[fold], predicted[rest].std(0).clamp_min(SMALLEST_SCALE)))
    final = predict(data.only(known))
    unseen, spread = final.clone(), final[known].std(0)
    for fold, (predicted, own) in zip(parts, made, strict=True):
        mean = predicted.mean(0)
        unseen[fold] = mean + (predicted - mean) * spread / own
    return Folds(parts, unseen, final)


@dataclass(frozen=True)
class Spread:
    """A map of codes that gives predicted ones the spread of real ones.

    A regression answers an open question with the mean of the answers, so what it predicts with a correlation
    r varies r times as much as the real thing. Stretched by 1 / r it correlates as well, opens as wide and
    closes as far as the speaker does, at hardly a larger error.

    Args:
        matrix: [K, K], of codes less `before`.
        before, after: [K] means of the predicted and of the real codes.
    """

    matrix: Tensor
    before: Tensor
    after: Tensor

    @classmethod
    def fitted(cls, predicted: Tensor, real: Tensor, opening: Tensor | None = None) -> Spread:
        """The map that fits codes predicted for unseen frames [N, K] to the real ones [N, K].

        Each code is spread as far as the real one where it is predicted well; one that speech says nothing
        about is left alone, as its spread would be noise. The mouth's opening is a sum of several codes, some
        of them predicted well and some not: it is then spread by itself, along the codes that go with it.

        Args:
            predicted, real: the codes.
            opening: [K], by how much each code opens the mouth; None leaves the opening to its codes.
        """
        before, after = predicted.mean(0), real.mean(0)
        ours, theirs = predicted - before, real - after
        gain = _gain(ours, theirs)
        matrix = torch.diag(gain)
        if opening is not None:
            seen, true = ours * gain @ opening, theirs @ opening
            more = _gain(seen[:, None], true[:, None]) - 1
            with_it = true @ theirs / true.square().sum().clamp_min(SMALLEST_SCALE)
            matrix = matrix + more * torch.outer(with_it, opening * gain)
        return cls(matrix, before, after)

    @classmethod
    def of_folds(cls, folds: Folds, real: Tensor, opening: Tensor | None = None) -> Spread:
        """As `fitted`, of all frames of `folds`; `real` [T, K] are the codes that were learned."""
        known = folds.known
        return cls.fitted(folds.unseen[known], real[known], opening)

    def __call__(self, codes: Tensor) -> Tensor:
        """Codes [..., K], spread."""
        return (codes - self.before) @ self.matrix.t() + self.after

    @torch.no_grad()
    def fold_into(self, weight: Tensor, bias: Tensor) -> None:
        """Makes the map a part of the linear one of `weight` [K, C] and `bias` [K], in place."""
        bias.copy_(self(bias))
        weight.copy_(self.matrix @ weight)


def _gain(ours: Tensor, theirs: Tensor) -> Tensor:
    """[K] that spreads predictions [N, K], as far as they follow the real ones; the means of both are 0."""
    deviations = [part.std(0).clamp_min(SMALLEST_SCALE) for part in (ours, theirs)]
    follows = (ours * theirs).mean(0) / (deviations[0] * deviations[1])
    sure = ((follows - UNSURE) / (SURE - UNSURE)).clamp(0, 1)
    wanted = (deviations[1] / deviations[0]).clamp(1 / LARGEST_GAIN, LARGEST_GAIN)
    return 1 + sure * (wanted - 1)


@torch.no_grad()
def opening_correlation(encoder: MotionEncoder, features: Tensor, codes: Tensor, frames: Tensor) -> float:
    """Correlation of the mouth's tracked and predicted opening over `frames` [N]; 0 for a still one."""
    predicted = encoder.basis.opening(encoder.speech.encode_clip(features)[frames])
    tracked = encoder.basis.opening(codes[frames])
    if min(float(predicted.std()), float(tracked.std())) < SMALLEST_SCALE:
        return 0.0
    return float(torch.corrcoef(torch.stack([predicted, tracked]))[0, 1])
