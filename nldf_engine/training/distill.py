"""A teacher's segment colours as targets for a student (nldf 3.3 and 3.4, eq. 5).

They are computed once and kept: a student's run draws every ray of the chosen frames many times over,
and one teacher evaluation costs as much as tens of the student's.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from nldf_engine.base.progress import Bar
from nldf_engine.base.results import Results
from nldf_engine.rendering.fields import RayColors
from nldf_engine.rendering.query import chunk_rays
from nldf_engine.training import distributed
from nldf_engine.training.targets import TrainTarget, region_pixels

# Of the entries: raised where they change.
FORMAT = "segment-targets-1"


class SegmentTargets:
    """Segment colours and opacities of all region rays of some frames, in half precision.

    Args:
        frames: [N] frame numbers.
        pixels: for each frame its sorted pixel numbers [P_n].
        segments: for each frame [P_n, M, 3] float16.
        opacity: for each frame [P_n] float16.
    """

    def __init__(
        self, frames: Tensor, pixels: list[Tensor], segments: list[Tensor], opacity: list[Tensor]
    ) -> None:
        self.frames = frames
        self._pixels, self._segments, self._opacity = pixels, segments, opacity
        self._place = {int(frame): place for place, frame in enumerate(frames)}

    def __contains__(self, frame: int) -> bool:
        return frame in self._place

    def look_up(self, frame: int, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(segments [P, M, 3], opacity [P], known [P] bool) for pixel numbers [P] of a frame."""
        place = self._place[frame]
        stored = self._pixels[place]
        row = torch.searchsorted(stored, pixels).clamp_max(len(stored) - 1)
        known = stored[row] == pixels
        return self._segments[place][row].float(), self._opacity[place][row].float(), known


@torch.no_grad()
def _teach(teacher: TrainTarget, frame: int, pixels: Tensor) -> RayColors:
    scene, field = teacher.scene, teacher.field
    rays = teacher.rays(torch.tensor([frame]), pixels[None])
    to = scene.device
    rays = rays.to(to)
    code = teacher.codes(scene.conditions, torch.tensor([frame], device=to))
    return RayColors.join([field(part, code) for part in rays.chunks(chunk_rays(field, to))])


def segment_targets(teacher: TrainTarget, count: int, cache: Path) -> SegmentTargets:
    """The targets of a teacher's head or torso for `count` frames evenly spread over the training part.

    Every frame's targets are kept in `cache` as soon as they are made, so that an interrupted run resumes
    there. What is found there is taken as it is: a folder belongs to one part of one teacher, and to one
    dataset and size. Of several processes the first one makes them.
    """
    return distributed.first_before_others(lambda: _targets(teacher, count, cache))


def _targets(teacher: TrainTarget, count: int, cache: Path) -> SegmentTargets:
    scene, field = teacher.scene, teacher.field
    chosen = scene.fit[torch.linspace(0, len(scene.fit) - 1, min(count, len(scene.fit))).long()].unique()
    field.to(scene.device).eval()
    pixels, segments, opacity = [], [], []
    kept = Results(cache, FORMAT, shared=True)
    with Bar("teach: segment colours", len(chosen), "frame") as bar:
        for frame in chosen.tolist():
            name = f"{frame:06d}"
            entry = kept.get(name, "torch")
            if entry is None:
                where = region_pixels(teacher, frame)
                seen = _teach(teacher, frame, where)
                tensors = {
                    "pixels": where,
                    "segments": seen.segments[0].half().cpu().contiguous(),
                    "opacity": seen.opacity[0].half().cpu().contiguous(),
                }
                kept.put(name, tensors)
            else:
                tensors = entry.tensors
            pixels.append(tensors["pixels"])
            segments.append(tensors["segments"])
            opacity.append(tensors["opacity"])
            bar.step()
    return SegmentTargets(chosen, pixels, segments, opacity)
