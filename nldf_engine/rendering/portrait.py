"""A portrait: background, torso and head composited into one frame."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from nldf_engine import ops
from nldf_engine.base.timing import stage
from nldf_engine.ops import PortraitPart
from nldf_engine.rendering.heads import Head
from nldf_engine.rendering.layer import Layer, View, to_uint8
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
        self.register_state_dict_post_hook(_without_head)
        self.register_load_state_dict_pre_hook(_with_head)

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
        parts = self._parts(view, code)
        if parts is None:
            picture = self._blended(view, code, background, canvas)
            with stage("pixels"):
                return to_uint8(picture, out)
        head, torso = parts
        # inv_ex does not check the result, which would synchronise with the device.
        inverse = torch.linalg.inv_ex(view.motion[:, :2]).inverse
        shift = torch.cat([inverse.flatten(), view.motion[:, 2]])
        pose, half = view.pose, self.head.half_size
        seen = ops.PortraitView(pose.contiguous(), view.camera.intrinsics(pose.device), half, shift)
        with stage("network"):
            if out is None or out.device == background.device:
                return ops.render_portrait(seen, head, torso, background, out)
            return out.copy_(ops.render_portrait(seen, head, torso, background))

    def _parts(self, view: View, code: Tensor) -> tuple[PortraitPart, PortraitPart | None] | None:
        """Head and torso in the fused kernel's form; None where it can't draw them."""
        if self.torso.in_front:
            return None
        torso = None
        if self.torso.shows():
            torso = self.torso.portrait_part(view, code)
            if torso is None:
                return None
        head = self.head.portrait_part(view, code)
        return None if head is None else (head, torso)

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
