"""The parts of a learned torso that no frame ever showed: behind the head, where anything may have grown."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from nldf_engine.engine.sharing import share_weights
from nldf_engine.geometry.cameras import Camera
from nldf_engine.rendering.layer import View
from nldf_engine.rendering.portrait import Portrait
from nldf_engine.systems.common.torso_layer import OCCUPANCY, TorsoLayer

FRAMES = 40
SIZE = 128
HIDDEN, SOLID = 0.5, 0.5
# Cells above a neck that was seen, under the chin: better what grew there than a gap.
UNDER_CHIN = 10


@torch.no_grad()
def shown_cells(portrait: Portrait, camera: Camera, poses: Tensor, motions: Tensor, code: Tensor) -> Tensor:
    """[64, 64] bool: cells of a `TorsoLayer` that stood free of the head, whole, in a frame of the track.

    Cells above a solid one count as well, as far as `UNDER_CHIN`: a raised chin uncovers neck.

    Args:
        portrait: with a `TorsoLayer`.
        camera: the avatar's.
        poses: [T, 4, 4] camera to head, of the training track.
        motions: [T, 2, 3] of the torso in the same frames.
        code: [C] of any frame.

    Raises:
        TypeError: another kind of torso.
    """
    torso = portrait.torso
    if not isinstance(torso, TorsoLayer):
        raise TypeError(f"portrait: expected a TorsoLayer, got a {type(torso).__name__}")
    small = camera.scaled(min(SIZE, camera.width))
    cells = OCCUPANCY * OCCUPANCY
    seen = torch.zeros(cells, dtype=torch.bool, device=poses.device)
    body = torch.zeros(cells, device=poses.device)
    points = small.pixels(poses.device)[None] / small.width
    for number in torch.linspace(0, len(poses) - 1, min(FRAMES, len(poses))).long().unique().tolist():
        view = View(small, poses[number], motions[number])
        free = portrait.head.draw(view, code).alpha.flatten() < HIDDEN
        alpha = torso.draw(view, code).alpha.flatten()
        unit = (torso.on_plate(points, view.motion[None])[0] - torso.box[:2]) / (
            torso.box[2:] - torso.box[:2]
        )
        place = (unit.clamp(0, 1 - 1e-6) * OCCUPANCY).long()
        place = place[:, 1] * OCCUPANCY + place[:, 0]
        count = torch.bincount(place, minlength=cells)
        whole = (count > 0) & (torch.bincount(place[free], minlength=cells) == count)
        seen |= whole
        mean = torch.bincount(place, weights=alpha, minlength=cells) / count.clamp_min(1)
        body = torch.maximum(body, mean * whole)
    solid = (body > SOLID).float().view(1, 1, OCCUPANCY, OCCUPANCY)
    above = F.max_pool2d(F.pad(solid, (0, 0, 0, UNDER_CHIN)), (UNDER_CHIN + 1, 1), 1)
    return seen.view(OCCUPANCY, OCCUPANCY) | (above[0, 0] > 0)


@torch.no_grad()
def without_unseen(
    portrait: Portrait, camera: Camera, poses: Tensor, motions: Tensor, code: Tensor
) -> Portrait:
    """The portrait for edited heads: what they may uncover of a learned torso is empty there.

    It has the same head, and a torso that shares all weights but its occupancy; where the torso is no
    `TorsoLayer`, or shows nothing, the portrait itself is the answer.

    Args:
        portrait, camera, poses, motions, code: as for `shown_cells`.
    """
    torso = portrait.torso
    if not isinstance(torso, TorsoLayer) or not torso.shows():
        return portrait
    shown = shown_cells(portrait, camera, poses, motions, code)
    bare = share_weights(torso)
    bare.occupancy = torso.occupancy * shown.to(torso.occupancy.dtype)
    return Portrait(portrait.head, bare).eval()
