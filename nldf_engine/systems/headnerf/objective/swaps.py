"""Exchanged codes: a frame drawn with one code of another speaker, frame or light must look so, and else the
same.

Headnerf eq. (6) holds the codes of a network near those of an extractor that saw the pictures. Where no
picture shows a combination, as of one speaker's shape under another's colours, that alone does not keep the
network from hiding colours in the shape's code. So the same loss is taken on such pictures as well, as the
extractor sees them drawn.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from nldf_engine.systems.headnerf.extractor import FACE_SIDE, FACTORS, CodeExtractor
from nldf_engine.systems.headnerf.objective.contrast import References


@dataclass(frozen=True)
class Known:
    """What the extractor knows of a run's speakers.

    Args:
        extractor: frozen; its gradient reaches pictures.
        speakers: the references of each, by its number.
    """

    extractor: CodeExtractor
    speakers: dict[int, References]

    def to(self, device: torch.device) -> Known:
        """The same on a device."""
        return Known(
            self.extractor.to(device), {number: one.to(device) for number, one in self.speakers.items()}
        )

    def state(self) -> dict[str, Tensor]:
        """Tensors by name, for checkpoints."""
        found = {f"extractor.{name}": value for name, value in self.extractor.state_dict().items()}
        for number, one in self.speakers.items():
            found |= {f"speaker.{number}.{name}": value for name, value in one.tensors().items()}
        return found

    @torch.no_grad()
    def restore(self, state: dict[str, Tensor]) -> None:
        """Takes over what `state` returned."""
        start = "extractor."
        self.extractor.load_state_dict(
            {name[len(start) :]: value for name, value in state.items() if name.startswith(start)}
        )
        for number, one in self.speakers.items():
            for name, value in one.tensors().items():
                value.copy_(state[f"speaker.{number}.{name}"])


@dataclass(frozen=True)
class Swap:
    """One exchanged code.

    Args:
        factor: which.
        speaker: whose identity or albedo.
        frame: whose expression, a frame of the same video.
    """

    factor: str
    speaker: int
    frame: int


def draw_swap(own: int, speakers: int, frames: Tensor, generator: torch.Generator) -> Swap:
    """A code to exchange in a picture of speaker `own`: identity or albedo of another where there are
    several, or the expression of one of the frames [N]."""
    names = ("identity", "albedo", "expression") if speakers > 1 else ("expression",)
    factor = names[int(torch.randint(len(names), (), generator=generator))]
    other = int(torch.randint(max(1, speakers - 1), (), generator=generator))
    frame = int(frames[torch.randint(len(frames), (), generator=generator)])
    return Swap(factor, other + (other >= own) if speakers > 1 else own, frame)


def drawn_face(picture: Tensor, place: Tensor) -> Tensor:
    """[1, 3, 48, 48]: the face in a picture [H, W, 3], with gradients.

    Args:
        picture: colours in [0, 1].
        place: [2, 3] from a face's coordinates to pixels (see `faces.face_frames`).
    """
    height, width = picture.shape[:2]
    theta = place * place.new_tensor([2 / width, 2 / height])[:, None]
    theta = torch.cat([theta[:, :2], theta[:, 2:] - 1], 1)
    grid = F.affine_grid(theta[None], [1, 3, 2 * FACE_SIDE, 2 * FACE_SIDE], align_corners=False)
    seen = F.grid_sample(picture.permute(2, 0, 1)[None], grid, "bilinear", "border", align_corners=False)
    return F.avg_pool2d(seen, 2)


def swap_loss(seen: dict[str, Tensor], swap: Swap, own: References, other: References, frame: int) -> Tensor:
    """How far a drawn picture's codes are from what is wanted: the mean over factors of one minus the cosine.

    Args:
        seen: codes [1, C] by factor, as the extractor sees the picture.
        swap: what was exchanged.
        own, other: references of the speaker, and of the one whose identity or albedo was taken.
        frame: of the speaker's video, which all else is of.
    """
    wanted = {
        "identity": other.identity if swap.factor == "identity" else own.identity,
        "albedo": other.albedo if swap.factor == "albedo" else own.albedo,
        "expression": own.seen_expression[swap.frame if swap.factor == "expression" else frame],
        "illumination": own.seen_light[frame],
    }
    terms = [1 - F.cosine_similarity(seen[name], wanted[name][None]) for name in FACTORS]
    return torch.cat(terms).mean()
