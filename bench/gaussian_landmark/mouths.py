"""What landmarks show of the mouth before anything is trained: pictures that are carried along, and regressed
on the lips' shape.

Shapes: N frames, P pixels of each in a box about the mouth, K regressors.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bench.gaussian_landmark.speech import PRESET, Options, Row
from nldf_engine.audio import FrontendConfig
from nldf_engine.datasets import open_dataset
from nldf_engine.geometry.face_mesh import LOWER_INNER, MARKS_LIPS, UPPER_INNER
from nldf_engine.rendering.fields import Bounds
from nldf_engine.systems.common.conditions import ConditionConfig
from nldf_engine.systems.gaussian_landmark.encoding import EncodingSizes, GaussianEncoding, Shapes
from nldf_engine.systems.gaussian_landmark.model import GaussianFieldConfig, MarksEncoder
from nldf_engine.training.landmarks import fit_landmarks
from nldf_engine.training.presets import find_preset
from nldf_engine.training.scene import RayScene

BOX = 1 / 8, 1 / 5
"""Height and width of the box about the mouth, shares of the picture's width."""
CELL, MARGIN = 1.4e-3, 0.03
"""Metres: side of a cell of the plane through the lips, and how far the plane goes beyond them."""
MOST_FRAMES = 500
RIDGE = 3.0
"""Frames of no change that every cell has besides its own: where few were seen, the mean counts."""
COMPONENTS = 1, 2, 4, 6


@dataclass(frozen=True)
class Mouths:
    """Boxes about the mouth in several frames.

    Args:
        frames: [N] their numbers.
        points: [N, P, 3] metres in head space, where the pixels' rays meet the plane through the lips.
        colors: [N, P, 3] in [0, 1].
    """

    frames: Tensor
    points: Tensor
    colors: Tensor


def carrying(path: Path, options: Options) -> dict[str, Row]:
    """How much of the mouth's pixels follows from its landmarks, without a field or any training.

    Pixels of training frames are put where they would be at the usual landmarks ("carried"; "still": where
    they are), and each spot there is regressed on components of the lips' shape. Of that the split's frames
    are made: `psnr` of the box about the mouth; `correlation` of what changes in it with what really changes;
    `moves`, the share of the real change that is made, 1 being all.
    """
    scene, track, usual = _speaker(path)
    plane = float(usual[list(MARKS_LIPS), 2].mean())
    known = _mouths(scene, scene.fit[:: max(1, len(scene.fit) // MOST_FRAMES)], plane)
    chosen = scene.dataset.indices(options.split)
    spread = np.linspace(0, len(chosen) - 1, min(options.frames, len(chosen))).astype(int)
    wanted = _mouths(scene, torch.from_numpy(np.unique(chosen[spread])), plane)
    lips = usual[list(MARKS_LIPS), :2]
    low, size = lips.amin(0) - MARGIN, lips.amax(0) - lips.amin(0) + 2 * MARGIN
    found = {}
    for label, carries, components in [
        ("still", False, 0), ("carried", True, 0),
        *((f"carried, {count} components", True, count) for count in COMPONENTS),
    ]:  # fmt: skip
        made = _predicted(known, wanted, track, usual, (low, size), carries, components)
        found[label] = _scores(made, wanted.colors)
    return found


def _speaker(path: Path) -> tuple[RayScene, Tensor, Tensor]:
    """The scene at the preset's size, and landmarks: of all frames [T, 68, 3] and usual ones [68, 3]."""
    data, size = open_dataset(path), find_preset(PRESET).recipe.size
    scene = RayScene(data, size, FrontendConfig("mel").resolve(), torch.device("cpu"))
    window, dim = scene.conditions.audio.shape[1:]
    bounds = Bounds(data.info.near, data.info.far)
    encoder = MarksEncoder(GaussianFieldConfig(bounds, ConditionConfig(int(dim), int(window))))
    track = fit_landmarks(encoder, scene)
    return scene, track, encoder.landmarks.usual


def _mouths(scene: RayScene, frames: Tensor, plane: float) -> Mouths:
    """The boxes of frames [N], about the middle of the inner lips."""
    width, height = scene.camera.width, scene.camera.height
    rows, columns = (max(2, round(share * width)) for share in BOX)
    scale = width / scene.dataset.camera.width
    middles = scale * scene.dataset.landmarks[frames][:, [UPPER_INNER, LOWER_INNER]].mean(1)
    left = (torch.from_numpy(middles[:, 0]).round().long() - columns // 2).clamp(0, width - columns)
    top = (torch.from_numpy(middles[:, 1]).round().long() - rows // 2).clamp(0, height - rows)
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    pixels = ((top[:, None, None] + y) * width + left[:, None, None] + x).flatten(1)
    rays = scene.rays(frames, pixels)
    along = (plane - rays.origins[..., 2:]) / rays.directions[..., 2:]
    colors = scene.frames[frames].flatten(1, 2).gather(1, pixels[..., None].expand(-1, -1, 3))
    return Mouths(frames, rays.origins + along * rays.directions, colors.float() / 255)


@torch.no_grad()
def _predicted(
    known: Mouths, wanted: Mouths, track: Tensor, usual: Tensor, plane: tuple[Tensor, Tensor],
    carries: bool, components: int,
) -> Tensor:  # fmt: skip
    """[N, P, 3] colours of the wanted mouths, made of the known ones; `plane` is its low corner and size."""
    encoding = GaussianEncoding(range(len(usual)), EncodingSizes(carries=carries))
    shapes = Shapes(range(len(usual)), max(1, components))
    shapes.fit(track[known.frames])
    low, size = plane
    count = (size / CELL).long() + 2  # columns, rows

    def places(of: Mouths) -> Tensor:
        """[N, P, 2] in cells."""
        axes = usual.new_tensor([[0, 0, 1.0]]).repeat(len(of.frames), 1)
        found, _ = encoding.about(of.points.contiguous(), track[of.frames], usual, axes, "native")
        return torch.minimum(((found[..., :2] - low) / CELL).clamp_min(0), (count - 1.001).float())

    def regressors(of: Mouths) -> Tensor:
        """[N, K]: one, the components, the first one's square."""
        codes = ((track[of.frames].flatten(1) - shapes.mean) @ shapes.axes)[:, :components]
        return torch.cat([torch.ones(len(codes), 1), codes, codes[:, :1].square()], 1)

    maps = _regression(places(known), regressors(known), known.colors, count)  # [1, K 3, rows, columns]
    grid = 2 * places(wanted) / (count - 1) - 1
    terms = regressors(wanted)
    seen = F.grid_sample(maps.expand(len(terms), -1, -1, -1), grid[:, :, None], align_corners=True)
    seen = seen[..., 0].unflatten(1, (terms.shape[1], 3))
    return torch.einsum("nk,nkcp->npc", terms, seen).clamp(0, 1)


def _regression(places: Tensor, terms: Tensor, colors: Tensor, count: Tensor) -> Tensor:
    """[1, K 3, rows, columns] coefficients of each cell: of colours [N, P, 3] at places [N, P, 2] on terms
    [N, K], each pixel shared by the four cells about it."""
    columns, rows = count.tolist()
    kinds, pixels = terms.shape[1], places.shape[1]
    left = (terms[:, :, None] * terms[:, None]).flatten(1).repeat_interleave(pixels, 0)
    right = (terms[:, None, :, None] * colors[:, :, None]).flatten(2).flatten(0, 1)
    corner = places.flatten(0, 1).floor()
    part = places.flatten(0, 1) - corner
    products = places.new_zeros(rows * columns, kinds * kinds), places.new_zeros(rows * columns, kinds * 3)
    for step in ((0, 0), (0, 1), (1, 0), (1, 1)):
        side = part.new_tensor(step)
        share = (side * part + (1 - side) * (1 - part)).prod(1, keepdim=True)
        x, y = (corner + side).long().unbind(1)
        for total, of in zip(products, (left, right), strict=True):
            total.index_add_(0, y * columns + x, share * of)
    ridge = RIDGE * torch.eye(kinds)
    ridge[0, 0] = 1e-4  # the mean is free
    found = torch.linalg.solve(products[0].view(-1, kinds, kinds) + ridge, products[1].view(-1, kinds, 3))
    return found.reshape(rows, columns, kinds * 3).permute(2, 0, 1)[None]


def _scores(made: Tensor, real: Tensor) -> Row:
    """See `carrying`; of colours [N, P, 3]."""
    error = (made - real).square().mean((1, 2)).clamp_min(1e-12)
    change, true = made - made.mean(0), real - real.mean(0)
    both, power = float((change * true).sum()), float(true.square().sum().clamp_min(1e-12))
    own = float(change.square().sum().clamp_min(1e-12))
    return {
        "psnr": float(-10 * error.log10().mean()),
        "correlation": both / (own * power) ** 0.5, "moves": both / power,
    }  # fmt: skip
