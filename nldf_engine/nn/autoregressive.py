"""A Transformer decoder that makes a sequence frame by frame, each from its own past and the frame's sound.

FaceFormer's decoder layer (Fan et al. 2022) with its periodic positions and its biased causal self-attention;
the sound comes in by one linear layer (gaussian landmark 4.B) or, as FaceFormer has it, by cross-attention
under an alignment bias. A frame looks back at no more than `window` frames, whose keys and values are kept,
so that each costs the same however long the sequence is, and a sequence without end takes bounded memory.

Shapes: N sequences, T frames, C channels, H heads.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class DecoderSizes:
    """Sizes of a `Decoder`; the defaults are FaceFormer's at 25 frames/s.

    Args:
        width: C, a multiple of 2 and of the heads.
        heads: H.
        hidden: width of the feed-forward network.
        period: frames after which positions repeat, and steps of the attention's bias.
        window: frames that a frame looks back at, itself included.
        dropout: share of channels that is dropped while training.
        alignment_bias: the sound comes in by cross-attention under an alignment bias, not by a linear layer.

    Raises:
        ValueError: a size below one, a width that does not divide, or a dropout out of [0, 1).
    """

    width: int = 64
    heads: int = 4
    hidden: int = 128
    period: int = 25
    window: int = 200
    dropout: float = 0.1
    alignment_bias: bool = False

    def __post_init__(self) -> None:
        if min(self.width, self.heads, self.hidden, self.period, self.window) < 1:
            raise ValueError(f"DecoderSizes: expected sizes of at least 1, got {self}")
        if self.width % (2 * self.heads):
            raise ValueError(
                f"width: expected a multiple of {2 * self.heads} (2 x {self.heads} heads), got {self.width}"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout: expected 0 or more, and less than 1, got {self.dropout!r}")


def periodic_positions(width: int, period: int) -> Tensor:
    """[period, width] FaceFormer's periodic positional encoding, of the frames t mod period.

    PPE(t, 2i) = sin((t mod p) / 10000^(2i / d)), PPE(t, 2i + 1) = cos of the same.
    """
    angle = torch.arange(period)[:, None] * torch.exp(
        torch.arange(0, width, 2) * (-math.log(10_000.0) / width)
    )
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(1)


def attention_bias(heads: int, period: int, window: int) -> Tensor:
    """[H, window] what is added to the logit of a frame a frames ago: -slope * floor(a / period).

    The slopes of the heads are 2^(-8 h / H) for h = 1 ... H, as of ALiBi (Press et al. 2022).
    """
    slopes = 2.0 ** (-8.0 * torch.arange(1, heads + 1) / heads)
    return -slopes[:, None] * (torch.arange(window) // period)


class Past:
    """What a running sequence keeps: keys and values of the last `window` frames.

    Args:
        keys, values: [N, H, 2 * window, C / H], room for them.
        window: frames that are looked at.

    Attributes:
        number: of the next frame, from 0.
    """

    def __init__(self, keys: Tensor, values: Tensor, window: int) -> None:
        self._keys, self._values, self._window = keys, values, window
        self._end = self.number = 0

    def add(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Keeps the next frame's [N, H, C / H]; returns those of the last frames, [N, H, A, C / H], itself
        last."""
        if self._end == self._keys.shape[2]:  # the room is twice what is kept: this is rare
            kept = self._window - 1
            for room in (self._keys, self._values):
                room[:, :, :kept] = room[:, :, self._end - kept : self._end].clone()
            self._end = kept
        self._keys[:, :, self._end], self._values[:, :, self._end] = key, value
        self._end += 1
        self.number += 1
        first = max(0, self._end - self._window)
        return self._keys[:, :, first : self._end], self._values[:, :, first : self._end]


class Decoder(nn.Module):
    """One decoder layer over frames.

    With x the frame's input plus its periodic position and a the frame's sound,
    x <- norm(x + SA(x)), x <- norm(x + W [x, a]), x <- norm(x + FFN(x)), where SA is the biased causal
    self-attention. With `alignment_bias`, W [x, a] is multi-head attention from x to the sound of all frames,
    whose bias is 0 on the frame's own and -infinity elsewhere.

    Args:
        sizes: see `DecoderSizes`.

    Buffers: `positions` [period, C], `bias` [H, window].
    """

    positions: Tensor
    bias: Tensor

    def __init__(self, sizes: DecoderSizes) -> None:
        super().__init__()
        self.sizes = sizes
        width = sizes.width
        self.register_buffer("positions", periodic_positions(width, sizes.period))
        self.register_buffer("bias", attention_bias(sizes.heads, sizes.period, sizes.window))
        self.qkv, self.merge = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.sound: nn.Module = nn.Linear(2 * width, width)
        if sizes.alignment_bias:
            self.sound = nn.MultiheadAttention(width, sizes.heads, batch_first=True)
        self.feed = nn.Sequential(
            nn.Linear(width, sizes.hidden),
            nn.ReLU(),
            nn.Dropout(sizes.dropout),
            nn.Linear(sizes.hidden, width),
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.drop = nn.Dropout(sizes.dropout)

    def forward(self, inputs: Tensor, sound: Tensor) -> Tensor:
        """[N, T, C] of inputs [N, T, C] and sound [N, T, C], all frames at once."""
        frames, heads = inputs.shape[1], self.sizes.heads
        numbers = torch.arange(frames, device=inputs.device)
        x = self.drop(inputs + self.positions[numbers % self.sizes.period])
        query, key, value = self.qkv(x).view(*x.shape[:2], 3, heads, -1).permute(2, 0, 3, 1, 4)
        age = numbers[:, None] - numbers
        seen = (age >= 0) & (age < self.sizes.window)
        bias = self.bias[:, age.clamp(0, self.sizes.window - 1)].masked_fill(~seen, -math.inf)
        share = self.sizes.dropout if self.training else 0.0
        looked = F.scaled_dot_product_attention(query, key, value, bias.expand(len(x), -1, -1, -1), share)
        return self._rest(x, self.merge(looked.transpose(1, 2).flatten(2)), sound)

    def begin(self, sequences: int) -> Past:
        """The past of N sequences that have not begun, on the network's device."""
        room = (sequences, self.sizes.heads, 2 * self.sizes.window, self.sizes.width // self.sizes.heads)
        empty = self.positions.new_empty(room)
        return Past(empty, torch.empty_like(empty), self.sizes.window)

    def step(self, past: Past, inputs: Tensor, sound: Tensor) -> Tensor:
        """[N, C] of the next frame's inputs [N, C] and sound [N, C]; adds it to the past. Without
        gradients."""
        heads = self.sizes.heads
        x = inputs + self.positions[past.number % self.sizes.period]
        query, key, value = self.qkv(x).view(len(x), 3, heads, -1).unbind(1)
        keys, values = past.add(key, value)
        weight = (keys @ query[..., None])[..., 0] * query.shape[-1] ** -0.5
        weight = (weight + self.bias[:, : keys.shape[2]].flip(1)).softmax(-1)
        looked = (weight[:, :, None] @ values).flatten(1)
        return self._rest(x[:, None], self.merge(looked)[:, None], sound[:, None])[:, 0]

    def _rest(self, x: Tensor, looked: Tensor, sound: Tensor) -> Tensor:
        """What follows the self-attention; of x, looked and sound [N, T, C]."""
        x = self.norms[0](x + self.drop(looked))
        x = self.norms[1](x + self.drop(self._with_sound(x, sound)))
        return cast(Tensor, self.norms[2](x + self.drop(self.feed(x))))

    def _with_sound(self, x: Tensor, sound: Tensor) -> Tensor:
        if not self.sizes.alignment_bias:
            return cast(Tensor, self.sound(torch.cat([x, sound], -1)))
        frames = x.shape[1]
        # Of a single frame there is only its own sound: the others have no weight.
        elsewhere = ~torch.eye(frames, dtype=torch.bool, device=x.device)
        return cast(Tensor, self.sound(x, sound, sound, attn_mask=elsewhere, need_weights=False)[0])
