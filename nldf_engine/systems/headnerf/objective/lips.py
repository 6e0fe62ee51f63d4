"""The lip sync module in training (headnerf 3.4): windows of a video's lips and of its audio, and their
InfoNCE."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import torch
from torch import Tensor

from nldf_engine.base.progress import Bar
from nldf_engine.nn.noise import normal_like
from nldf_engine.nn.sync import APART, NEGATIVES, cosine, cut, draw_negatives, info_nce, lip_movement
from nldf_engine.systems.headnerf.codes import LipDriver
from nldf_engine.training.scene import Scene

ANCHORS = 48
RATE, DECAY = 2e-3, 1e-2
# Standard deviations, of features in their own and of lips in outer eye distances.
FEATURE_NOISE, LIP_NOISE = 0.5, 0.003


def lip_windows(scene: Scene, frames: int) -> tuple[Tensor, Tensor]:
    """Windows of the lips of a video, of which every frame is trained on and has a face.

    Args:
        scene: the video.
        frames: T, of a window.

    Returns:
        the windows' first frames [N], and their lips [N, T, 40, 2] as `lip_movement` gives them.

    Raises:
        ValueError: too few to find negatives among.
    """
    movement = lip_movement(torch.from_numpy(scene.dataset.landmarks).double()).float()
    usable = torch.zeros(len(movement), dtype=torch.bool)
    usable[scene.heard] = True
    usable &= movement.flatten(1).isfinite().all(1)
    starts = cut(usable, frames).all(1).nonzero()[:, 0]
    if not len(starts) or int(starts[-1] - starts[0]) < 2 * APART:
        raise ValueError(
            f"sync_weight: the lip sync module expects stretches of {frames} frames with a face that begin "
            f"{2 * APART} frames apart or more, {scene.dataset.path} has {len(starts)} stretches; train on a "
            "longer video or with --set sync_weight=0"
        )
    return starts, cut(movement, frames)[starts]


class LipWindows:
    """The windows of one video.

    Args:
        scene: the video.
        driver: whose module compares them.

    Raises:
        ValueError: too few frames with faces to find negatives among.
    """

    def __init__(self, scene: Scene, driver: LipDriver) -> None:
        frames = driver.module.frames
        self.scene, self.driver = scene, driver
        starts, windows = lip_windows(scene, frames)
        # A frame's window of audio has it in its middle; its lips' window likewise.
        self.frames, self._windows = starts + frames // 2, windows.to(scene.device)

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """[count] numbers of windows of which each has another that is far enough away."""
        reach = self.frames.amax() - self.frames, self.frames - self.frames.amin()
        first = (torch.maximum(*reach) >= APART).nonzero()[:, 0]
        drawn = first[torch.randint(len(first), (count,), generator=generator)]
        # The ends of the video are far from everything that was drawn, or from each other.
        drawn[0], drawn[1] = 0, len(self.frames) - 1
        return drawn

    def loss(self, count: int, generator: torch.Generator, noise: bool = False) -> Tensor:
        """InfoNCE over `count` anchors (eq. 8), at least 2, with `NEGATIVES` negatives each.

        Args:
            count: anchors.
            generator: draws windows and negatives, on the CPU.
            noise: vary features and lips.
        """
        drawn = self.draw(count, generator)
        audio = self.scene.conditions.audio[self.frames[drawn].to(self.scene.device)]
        lips = self._windows[drawn.to(self.scene.device)]
        module = self.driver.module
        if noise:
            audio = audio + FEATURE_NOISE * module.spread * normal_like(audio, generator)
            lips = lips + LIP_NOISE * normal_like(lips, generator)
        sound = module.audio(self.driver.windows(audio))
        negatives = draw_negatives(self.frames[drawn], NEGATIVES, APART, generator)
        return info_nce(module.lips(lips), sound, sound[negatives.to(sound.device)])

    @torch.no_grad()
    def accuracy(self) -> float:
        """How often the true audio of a window is more similar than that of a window far away."""
        audio = self.scene.conditions.audio[self.frames.to(self.scene.device)]
        near = cosine(
            self.driver.module.lips(self._windows), self.driver.module.audio(self.driver.windows(audio))
        )
        own = near.diagonal()[:, None]
        far = (self.frames[:, None] - self.frames[None]).abs() >= APART
        return float((own > near).cpu()[far].float().mean())


def train_lips(every: Sequence[LipWindows], steps: int, generator: torch.Generator) -> None:
    """Trains the module that all windows share by InfoNCE alone; says how well it separates them on standard
    error."""
    driver = every[0].driver
    module = driver.module
    features = torch.cat([one.scene.conditions.audio[one.scene.fit.to(one.scene.device)] for one in every])
    module.spread.copy_(features.flatten(0, 1).std(0).clamp_min(1e-6))
    optimizer = torch.optim.AdamW(module.parameters(), RATE, weight_decay=DECAY)
    module.train()
    with Bar("train the lip sync module", steps, "step") as bar:
        for step in range(steps):
            for group in optimizer.param_groups:
                group["lr"] = RATE * (1 - step / steps)
            windows = every[int(torch.randint(len(every), (), generator=generator))]
            loss = windows.loss(ANCHORS, generator, noise=True)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            bar.step(note=f"{float(loss.detach()):.3f}")
    module.eval()
    right = sum(one.accuracy() for one in every) / len(every)
    sys.stderr.write(f"the lip sync module prefers the true sound {right:.2f} of the time (chance 0.50)\n")
