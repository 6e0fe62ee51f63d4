"""A portrait: background, torso and head composited into one frame."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from nldf_engine import ops
from nldf_engine.base.timing import stage
from nldf_engine.nn.hooks import on_load, on_save
from nldf_engine.rendering.heads import Head
from nldf_engine.rendering.layer import Layer, View, Views, to_uint8
from nldf_engine.rendering.torsos import Torso

HEAD = "head."


class Portrait(nn.Module):
    """A head on a torso.

    In its state dictionary, which avatars and checkpoints hold, names of the torso's tensors begin with
    "torso.", and those of the head's have no prefix.

    Args:
        head: drawn in front of the torso, or behind it where `torso.in_front`.
        torso: neck and shoulders.
    """

    def __init__(self, head: Head, torso: Torso) -> None:
        super().__init__()
        self.head, self.torso = head, torso
        on_save(self, _without_head)
        on_load(self, _with_head)

    def use_backend(self, backend: str) -> None:
        """Chooses compiled kernels ("native") or plain PyTorch ("reference") for all parts."""
        parts: list[Any] = [part for part in self.modules() if hasattr(part, "backend")]
        for part in parts:
            part.backend = backend

    @torch.no_grad()
    def layer(self, view: View, code: Tensor) -> Layer:
        """Head over torso, or torso over head where `torso.in_front`; without gradients.

        Args:
            view: of the frame.
            code: [C], the head's.
        """
        return self.torso.with_head(view, code, self.head)

    @torch.no_grad()
    def picture(
        self, view: View, code: Tensor, background: Tensor, out: Tensor | None = None,
        canvas: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """[H, W, 3] uint8: the layer composited over an opaque background [H, W, 3] float32.

        Heads and torsos that the fused portrait kernel supports are rendered in one pass: on the CPU, and on
        CUDA in precision "fp16".

        Args:
            view: of the frame.
            code: [C], the head's.
            background: what is behind the torso.
            out: uint8 to write the result into and return, on the CPU or the portrait's device; None
                allocates it.
            canvas: [H, W, 3] float32, working memory for rendering in several passes.
        """
        frames = self.frames(Views.of(view), code[None], background)
        if frames is None:
            picture = self._blended(view, code, background, canvas)
            with stage("pixels"):
                return to_uint8(picture, out)
        with stage("network"):
            drawn = out if out is not None and out.device == frames.device else None
            drawn = frames.picture(0, drawn)
            return drawn if out is None or drawn is out else out.copy_(drawn)

    @torch.no_grad()
    def frames(self, views: Views, codes: Tensor, background: Tensor) -> ops.PortraitFrames | None:
        """F frames as the fused portrait kernel draws them over an opaque background [H, W, 3] float32, or
        None where it can't draw head and torso: what does not change from frame to frame is decided here, and
        what does is computed for all frames at once.

        Args:
            views: of the frames.
            codes: [F, C], the head's.
            background: what is behind the torso in all frames.
        """
        if self.torso.in_front:
            return None
        torso = None
        if self.torso.shows():
            torso = self.torso.portrait_part(views)
            if torso is None:
                return None
        head = self.head.portrait_part(views, codes)
        if head is None:
            return None
        seen = ops.PortraitView(
            views.poses.contiguous(), views.intrinsics.contiguous(), self.head.half_size,
            views.torso_motions(),
        )  # fmt: skip
        return ops.PortraitFrames(seen, head, torso, background)

    def _blended(self, view: View, code: Tensor, background: Tensor, canvas: Tensor | None) -> Tensor:
        """[H, W, 3] float32, in `canvas` where given: `layer(...).over(background)`."""
        picture = torch.empty_like(background) if canvas is None else canvas
        return self.torso.blend_with_head(view, code, self.head, background, picture)


def _without_head(module: nn.Module, state: dict[str, Any], prefix: str, _: Any) -> None:
    for name in [name for name in state if name.startswith(prefix + HEAD)]:
        state[prefix + name[len(prefix + HEAD) :]] = state.pop(name)


def _with_head(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    for name in [name for name in state if name.startswith(prefix)]:
        if not name.startswith((prefix + "torso.", prefix + HEAD)):
            state[prefix + HEAD + name[len(prefix) :]] = state.pop(name)
