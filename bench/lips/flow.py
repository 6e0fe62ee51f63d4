"""A small generative model of what a regression leaves open: flow matching over stretches of its errors.

It learns the velocity that carries noise to the error of the regression's codes in one stretch, given these
codes. A sample is the regression plus such an error, so it varies as the real codes do if the model is good.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nldf_engine.base.progress import Bar

STRETCH, STRETCHES = 16, 64
WIDTH, KERNEL, DROPOUT = 32, 5, 0.3
# Noise on the codes that it is given, in their standard deviations: a minute is soon known by heart.
GIVEN_NOISE = 0.5
RATE, DECAY = 2e-3, 1e-2
EULER_STEPS = 20
SMALLEST_SCALE = 1e-6


class Velocity(nn.Module):
    """Convolutions over time: noisy errors [N, K, T], codes [N, K, T] and how far, [N], to velocities."""

    def __init__(self, codes: int) -> None:
        super().__init__()
        self.first = nn.Conv1d(2 * codes + 2, WIDTH, KERNEL, padding=KERNEL // 2)
        self.second = nn.Conv1d(WIDTH, WIDTH, KERNEL, padding=KERNEL // 2)
        self.third = nn.Conv1d(WIDTH, WIDTH, KERNEL, padding=KERNEL // 2)
        self.last = nn.Conv1d(WIDTH, codes, 1)
        self.drop = nn.Dropout(DROPOUT)

    def forward(self, noisy: Tensor, given: Tensor, far: Tensor) -> Tensor:
        """[N, K, T]."""
        clock = far[:, None, None].expand(-1, 1, noisy.shape[2])
        hidden = F.gelu(self.first(torch.cat([noisy, given, clock, clock.square()], 1)))
        hidden = hidden + F.gelu(self.second(self.drop(hidden)))
        hidden = hidden + F.gelu(self.third(self.drop(hidden)))
        made: Tensor = self.last(hidden)
        return made


@dataclass(frozen=True)
class Flow:
    """A trained model, and the units of what it works on.

    Args:
        velocity: the network.
        mean, scale: [K] of the errors.
        given_mean, given_scale: [K] of the codes that it is given.
    """

    velocity: Velocity
    mean: Tensor
    scale: Tensor
    given_mean: Tensor
    given_scale: Tensor

    @torch.no_grad()
    def sample(self, given: Tensor, temperature: float, seed: int) -> Tensor:
        """[T, K] codes drawn for predicted ones [T, K]; the noise that they start from is scaled."""
        random = torch.Generator().manual_seed(seed)
        state = temperature * torch.randn(1, given.shape[1], len(given), generator=random)
        told = ((given - self.given_mean) / self.given_scale).t()[None]
        for step in range(EULER_STEPS):
            far = torch.full((1,), step / EULER_STEPS)
            state = state + self.velocity(state, told, far) / EULER_STEPS
        return given + state[0].t() * self.scale + self.mean


def train_flow(given: Tensor, real: Tensor, usable: Tensor, steps: int, seed: int) -> Flow:
    """Learns the errors of predictions for unseen frames.

    Args:
        given: [T, K] predicted codes.
        real: [T, K] tracked.
        usable: [T] bool, frames to learn from.
        steps: optimiser steps.
        seed: of weights and draws.
    """
    torch.manual_seed(seed)
    error = real - given
    units = []
    for values in (error, given):
        units += [values[usable].mean(0), values[usable].std(0).clamp_min(SMALLEST_SCALE)]
    flow = Flow(Velocity(given.shape[1]), *units)
    target, told = (error - units[0]) / units[1], (given - units[2]) / units[3]
    whole = usable.unfold(0, min(STRETCH, len(usable)), 1).all(1).nonzero()[:, 0]
    near = torch.arange(min(STRETCH, len(usable)))
    optimizer = torch.optim.AdamW(flow.velocity.parameters(), RATE, weight_decay=DECAY)
    flow.velocity.train()
    with Bar("train the flow", steps, "step") as bar:
        for step in range(steps):
            for group in optimizer.param_groups:
                group["lr"] = RATE * (0.5 + 0.5 * math.cos(math.pi * step / steps))
            frames = whole[torch.randint(len(whole), (STRETCHES,))][:, None] + near
            ends = target[frames].transpose(1, 2)
            noise, far = torch.randn_like(ends), torch.rand(STRETCHES)
            share = far[:, None, None]
            codes = told[frames].transpose(1, 2)
            codes = codes + GIVEN_NOISE * torch.randn_like(codes)
            made = flow.velocity(noise + share * (ends - noise), codes, far)
            loss = (made - (ends - noise)).square().mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            bar.step(note=f"{float(loss.detach()):.3f}")
    flow.velocity.eval().requires_grad_(False)
    return flow
