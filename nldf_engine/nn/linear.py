"""A linear layer whose per-frame inputs become a bias.

The audio code is one vector a frame, so its share of the first layer is one matrix-vector product a
frame and not a ray: [x, code, hidden] W = x W_x + (code W_code + b) + hidden W_hidden.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Outputs that a small product is filled up to, see `FrameLinear.lone_biases`.
ALONE = 64


def linear_at(layers: nn.Sequential, place: int) -> nn.Linear:
    """The linear layer at a place of a sequence.

    Raises:
        TypeError: something else is there.
    """
    layer = layers[place]
    if not isinstance(layer, nn.Linear):
        raise TypeError(f"layers: expected a Linear at {place}, got {type(layer).__name__}")
    return layer


@torch.no_grad()
def keep_spread(*layers: nn.Linear | nn.Conv2d, rectified: bool = True) -> None:
    """Begins layers so that their outputs vary as much as their inputs do (He et al. 2015); biases at zero.

    torch's own beginning shrinks a signal in every layer, and its biases outweigh what is left: what passes
    through many small layers before it meets other inputs has next to no effect at first.

    Args:
        layers: to be begun anew.
        rectified: whether a ReLU, or a leaky one, follows.
    """
    for layer in layers:
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu" if rectified else "linear")
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


class FrameLinear(nn.Module):
    """Linear layer over [points, code, hidden], the code given once a frame.

    Its parameters are those of one `nn.Linear` over the concatenation, in that order of columns.

    Args:
        point_dim: size of the inputs that differ from ray to ray.
        code_dim: size of the per-frame code; 0 for none.
        hidden_dim: size of a hidden activation that is concatenated behind (a skip connection).
        out_dim: size of the output.
    """

    def __init__(self, point_dim: int, code_dim: int, hidden_dim: int, out_dim: int) -> None:
        super().__init__()
        self.sizes = (point_dim, code_dim, hidden_dim)
        self.linear = nn.Linear(sum(self.sizes), out_dim)

    @property
    def weight(self) -> Tensor:
        """[out, point + code + hidden]."""
        return self.linear.weight

    @property
    def bias(self) -> Tensor:
        """[out]."""
        return self.linear.bias

    @property
    def point_weight(self) -> Tensor:
        """[out, point]: the columns that are not the code's, where there is no hidden activation."""
        return self.weight[:, : self.sizes[0]]

    def frame_bias(self, code: Tensor) -> Tensor:
        """[F, out]: the bias with the share of codes [F, code]."""
        return torch.addmm(self.bias, code, self.weight.split(self.sizes, 1)[1].t())

    def lone_biases(self, code: Tensor) -> Tensor:
        """As `frame_bias`, in one operation too, but each frame's is the same to the bit as if it were alone.

        One product over all frames rounds as the number of frames has it; here each has its own.
        """
        weight, bias = self.weight.split(self.sizes, 1)[1], self.bias
        outputs, inputs = weight.shape
        # Products of fewer than 400 multiplications go another way, which sums in another order.
        fill = max(0, ALONE - outputs) if outputs * inputs < 400 else 0
        if fill:
            weight, bias = F.pad(weight, (0, 0, 0, fill)), F.pad(bias, (0, fill))
        frames = len(code)
        made = torch.baddbmm(bias.expand(frames, 1, -1), code[:, None], weight.t().expand(frames, -1, -1))
        return made[:, 0, :outputs].contiguous()

    def forward(self, points: Tensor, code: Tensor, hidden: Tensor | None = None) -> Tensor:
        """[F, N, out] of points [F, N, point], code [F, code] and hidden [F, N, hidden]."""
        w_points, _, w_hidden = self.weight.split(self.sizes, 1)
        frames = len(points)
        bias = self.frame_bias(code)
        if points.shape[1] == 1 and hidden is None:  # rays of mixed frames: one product, not one a ray
            return torch.addmm(bias, points[:, 0], w_points.t())[:, None]
        out = torch.baddbmm(bias[:, None], points, w_points.t().expand(frames, -1, -1))
        if hidden is not None:
            out = torch.baddbmm(out, hidden, w_hidden.t().expand(frames, -1, -1))
        return out
