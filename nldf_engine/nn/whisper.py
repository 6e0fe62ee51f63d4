"""Whisper's audio encoder (Radford et al. 2022), cut behind some of its blocks, over short pieces of sound.

Two convolutions turn a log-mel spectrogram of 100 frames a second into 50 rows a second; each block is
attention and an MLP with a layer norm before either. Weights of the blocks may be 8-bit integers: a scale for
each output channel, and one for each row of activations that is found as they come. Their products are exact,
so a row's value doesn't depend on which rows it is computed with.

Shapes: N pieces, L rows of one, D width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BANDS = 80
LONGEST = 1500  # rows of Whisper's positions: 30 s
EDGE = 2  # mel frames beyond its own two, on either side, that a row sees


def positions(count: int, width: int) -> Tensor:
    """[count, width] sinusoids by which rows know their place: sines, then cosines."""
    half = width // 2
    rates = torch.exp(-math.log(10000) / (half - 1) * torch.arange(half))
    turns = torch.arange(count)[:, None] * rates
    return torch.cat([turns.sin(), turns.cos()], 1)


class Int8Linear(nn.Module):
    """A linear layer of 8-bit weights.

    Args:
        dim_in, dim_out: sizes.
        bias: whether it has one.

    Buffers: `weight` [dim_out, dim_in] int8; `scale` [dim_out] float32, of one unit of each channel; `bias`.
    """

    weight: Tensor
    scale: Tensor
    bias: Tensor | None

    def __init__(self, dim_in: int, dim_out: int, bias: bool = True) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(dim_out, dim_in, dtype=torch.int8))
        self.register_buffer("scale", torch.ones(dim_out))
        self.register_buffer("bias", torch.zeros(dim_out) if bias else None)

    @staticmethod
    def quantised(weight: Tensor) -> tuple[Tensor, Tensor]:
        """(int8 [dim_out, dim_in], scale [dim_out]) nearest to a weight [dim_out, dim_in]."""
        scale = weight.abs().amax(1).clamp_min(1e-12) / 127
        return (weight / scale[:, None]).round().to(torch.int8), scale

    def forward(self, x: Tensor) -> Tensor:
        """[..., dim_out] of x [..., dim_in] float32."""
        rows = x.reshape(-1, x.shape[-1])
        scale = rows.abs().amax(1, keepdim=True).clamp_min(1e-12) / 127
        made = torch._int_mm((rows / scale).round_().to(torch.int8), self.weight.t()).float()
        made = made.mul_(scale).mul_(self.scale)
        made = made if self.bias is None else made.add_(self.bias)
        return made.view(*x.shape[:-1], -1)


class WhisperBlock(nn.Module):
    """One block: attention and MLP, each added to what comes in.

    Args:
        width: D.
        heads: of the attention.
        int8: whether its layers have 8-bit weights.
    """

    def __init__(self, width: int, heads: int, int8: bool) -> None:
        super().__init__()
        linear: type[nn.Module] = Int8Linear if int8 else nn.Linear
        self.heads = heads
        self.attn_ln, self.mlp_ln = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key = linear(width, width), linear(width, width, bias=False)
        self.value, self.out = linear(width, width), linear(width, width)
        self.up, self.down = linear(width, 4 * width), linear(4 * width, width)

    def forward(self, x: Tensor, kept: slice = slice(None)) -> Tensor:
        """Rows `kept` [N, n, D] of the pieces x [N, L, D], all of which they attend to."""
        rows = self.attn_ln(x)
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (self.query(rows[:, kept]), self.key(rows), self.value(rows))
        )
        seen = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        x = x[:, kept] + self.out(seen)
        return x + self.down(F.gelu(self.up(self.mlp_ln(x))))


class WhisperEncoder(nn.Module):
    """The encoder up to one of its blocks.

    Args:
        width: D.
        heads: of the attention.
        blocks: how many.
        int8: whether the blocks have 8-bit weights.

    Raises:
        ValueError: a size below one, or a width that is no even multiple of the heads.
    """

    def __init__(self, width: int = 512, heads: int = 8, blocks: int = 3, int8: bool = False) -> None:
        super().__init__()
        if min(width, heads, blocks) < 1 or width % (2 * heads):
            raise ValueError(
                f"WhisperEncoder: expected a width of an even multiple of the heads and at least one block, "
                f"got width={width}, heads={heads}, blocks={blocks}"
            )
        self.width = width
        self.conv1 = nn.Conv1d(BANDS, width, 3)
        self.conv2 = nn.Conv1d(width, width, 3, stride=2)
        self.blocks = nn.ModuleList(WhisperBlock(width, heads, int8) for _ in range(blocks))

    def stem(self, mel: Tensor) -> Tensor:
        """[n, D] rows of a spectrogram [80, 2 n + 3] that begins `EDGE` frames before the first row's."""
        return F.gelu(self.conv2(F.gelu(self.conv1(mel[None]))))[0].t()

    def forward(self, rows: Tensor, first: int, last: int) -> Tensor:
        """[last - first, D]: the rows [first, last) of a piece's, in sight of all of them.

        Args:
            rows: [L, D] of `stem`, at most 1500.
            first, last: which are wanted.
        """
        x = (rows + positions(len(rows), self.width))[None]
        for block in self.blocks[:-1]:
            x = block(x)
        made: Tensor = self.blocks[-1](x, slice(first, last))
        return made[0]


def openai_names(blocks: int) -> Mapping[str, str]:
    """Names of `WhisperEncoder`'s parts to their names in OpenAI's code, less weight and bias."""
    names = {"conv1": "conv1", "conv2": "conv2"}
    for number in range(blocks):
        ours = f"blocks.{number}."
        names |= {f"{ours}{part}": f"{ours}attn.{part}" for part in ("query", "key", "value", "out")}
        names |= {f"{ours}{part}": f"{ours}{part}" for part in ("attn_ln", "mlp_ln")}
        names |= {f"{ours}up": f"{ours}mlp.0", f"{ours}down": f"{ours}mlp.2"}
    return names
