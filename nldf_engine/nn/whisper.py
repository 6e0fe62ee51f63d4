"""Whisper's audio encoder (Radford et al. 2022), cut behind some of its blocks, over short pieces of sound.

Two convolutions turn a log-mel spectrogram of 100 frames a second into 50 rows a second; each block is
attention and an MLP with a layer norm before either. Weights of the blocks may be 8-bit integers: a scale for
each output channel, and one for each row of activations that is found as they come (`ops.linear`).

Shapes: N pieces of L rows, D width.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nldf_engine import ops
from nldf_engine.ops import PackedAffine, PackedLinear, pack_affine, pack_linear

BANDS = 80


@functools.lru_cache(maxsize=8)
def positions(count: int, width: int) -> Tensor:
    """[count, width] sinusoids by which rows know their place: sines, then cosines."""
    half = width // 2
    with torch.inference_mode(False):  # they are kept for calls with gradients as well
        rates = torch.exp(-math.log(10000) / (half - 1) * torch.arange(half))
        turns = torch.arange(count)[:, None] * rates
        return torch.cat([turns.sin(), turns.cos()], 1)


def _packed_convolution(layer: nn.Conv1d) -> PackedAffine:
    """A convolution as a layer over rows that follow each other: inputs are place by place, not channel."""
    return pack_affine(layer.weight.transpose(1, 2).flatten(1).contiguous(), layer.bias)


class Int8Linear(nn.Module):
    """The 8-bit weights of a linear layer; `Int8Block` multiplies by them.

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


def packed(*layers: Int8Linear) -> PackedLinear:
    """Layers of the same inputs as one, whose outputs stand behind each other."""
    biases = [torch.zeros_like(x.scale) if x.bias is None else x.bias for x in layers]
    return pack_linear(
        torch.cat([x.weight for x in layers]), torch.cat([x.scale for x in layers]), torch.cat(biases)
    )


class WhisperBlock(nn.Module):
    """One block: attention and MLP, each added to what comes in.

    Args:
        width: D.
        heads: of the attention.
        linear: class of its layers.
    """

    def __init__(self, width: int, heads: int, linear: type[nn.Module] = nn.Linear) -> None:
        super().__init__()
        self.heads = heads
        self.attn_ln, self.mlp_ln = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key = linear(width, width), linear(width, width, bias=False)
        self.value, self.out = linear(width, width), linear(width, width)
        self.up, self.down = linear(width, 4 * width), linear(4 * width, width)

    def forward(self, x: Tensor, kept: slice = slice(None)) -> Tensor:
        """Rows `kept` [N, n, D] of pieces x [N, L, D], all of whose own rows they attend to."""
        rows = self.attn_ln(x)
        both = torch.cat([self.key(rows), self.value(rows)], 2)
        seen = ops.reference.attention_reference(both, self.heads, self.query(rows[:, kept]))
        x = x[:, kept] + self.out(seen)
        made: Tensor = x + self.down(F.gelu(self.up(self.mlp_ln(x))))
        return made


class Int8Block(WhisperBlock):
    """A block of 8-bit weights, without gradients (`ops.linear`); they are packed when they are first used.

    Args:
        width: D, a multiple of 64.
        heads: of the attention.
        backend: "native" or "reference".
    """

    def __init__(self, width: int, heads: int, backend: str = "native") -> None:
        super().__init__(width, heads, Int8Linear)
        self.backend = backend
        self._packed: tuple[PackedLinear, ...] = ()

    def _layers(self) -> tuple[PackedLinear, ...]:
        """Query, key and value as one; of this the query, and key and value; out; up; down."""
        if not self._packed:
            of = self.get_submodule
            names = (("query", "key", "value"), ("out",), ("up",), ("down",))
            read, *others = (packed(*(cast(Int8Linear, of(name)) for name in group)) for group in names)
            width = len(read.sums) // 3
            self._packed = (read, read.part(0, width), read.part(width, 3 * width), *others)
        return self._packed

    def forward(self, x: Tensor, kept: slice = slice(None)) -> Tensor:
        """See `WhisperBlock`."""
        read, read_query, read_others, out, up, down = self._layers()
        norm, mlp_norm = ((part.weight, part.bias) for part in (self.attn_ln, self.mlp_ln))

        def linear(x: Tensor, layer: PackedLinear, residual: Tensor | None = None, **how: Any) -> Tensor:
            rest = None if residual is None else residual.flatten(0, 1)
            made = ops.linear(x.flatten(0, 1), layer, residual=rest, backend=self.backend, **how)
            return made.unflatten(0, x.shape[:2])

        if kept == slice(None):
            seen = ops.attend(linear(x, read, norm=norm), self.heads, backend=self.backend)
        else:
            rows = linear(x, read_others, norm=norm)
            x = x[:, kept].contiguous()
            seen = ops.attend(rows, self.heads, linear(x, read_query, norm=norm), backend=self.backend)
        x = linear(seen, out, x)
        return linear(linear(x, up, norm=mlp_norm, gelu=True), down, x)


def _forget_packed(encoder: nn.Module, _: object = None) -> None:
    """Other weights have come."""
    cast(WhisperEncoder, encoder)._packed = ()


class WhisperEncoder(nn.Module):
    """The encoder up to one of its blocks.

    Args:
        width: D.
        heads: of the attention.
        blocks: how many.
        int8: whether the blocks have 8-bit weights.
        backend: of the stem, which runs on the CPU alone, and of 8-bit blocks: "native" or "reference".

    Attributes:
        width, int8: as given.

    Raises:
        ValueError: a size below one, a width that is no even multiple of the heads, or one of 8-bit blocks
            that is no multiple of 64 or has heads of no multiple of 16.
    """

    def __init__(
        self, width: int = 512, heads: int = 8, blocks: int = 3, int8: bool = False, backend: str = "native"
    ) -> None:
        super().__init__()
        if min(width, heads, blocks) < 1 or width % (2 * heads):
            raise ValueError(
                f"WhisperEncoder: expected a width of an even multiple of the heads and at least one block, "
                f"got width={width}, heads={heads}, blocks={blocks}"
            )
        if int8 and (width % 64 or width % (16 * heads)):
            raise ValueError(
                f"WhisperEncoder: expected a width of a multiple of 64 and of 16 a head for int8, got "
                f"width={width}, heads={heads}"
            )
        self.width, self.int8 = width, int8
        self.backend = backend
        self.conv1 = nn.Conv1d(BANDS, width, 3)
        self.conv2 = nn.Conv1d(width, width, 3, stride=2)
        self._packed: tuple[PackedAffine, ...] = ()
        self.register_load_state_dict_post_hook(_forget_packed)
        self.blocks = nn.ModuleList(
            Int8Block(width, heads, backend) if int8 else WhisperBlock(width, heads) for _ in range(blocks)
        )

    def _apply(self, *given: Any, **named: Any) -> WhisperEncoder:
        _forget_packed(self)
        return super()._apply(*given, **named)

    def stem(self, mel: Tensor) -> Tensor:
        """[n, D] rows of a spectrogram [2 n + 3, 80] that begins two frames before the first row's; without
        gradients. They are the same to the bit whichever rows stand beside them. Its layers are packed when
        it is first called, and again after the encoder's own `load_state_dict`."""
        if not self._packed:
            with torch.inference_mode(False):  # they are kept for calls in any mode
                self._packed = tuple(_packed_convolution(layer) for layer in (self.conv1, self.conv2))
        x = mel
        for layer, stride in zip(self._packed, (1, 2), strict=True):
            x = ops.affine(x, layer, step=stride * x.shape[1], gelu=True, backend=self.backend)
        return x

    def forward(self, rows: Tensor, first: int, last: int) -> Tensor:
        """[..., last - first, D]: the rows [first, last) of each piece's, in sight of all of that piece's.

        In 8 bits the numbers of a piece do not depend on those beside it.

        Args:
            rows: [..., L, D] of `stem`, at most 1500 a piece.
            first, last: which are wanted.
        """
        length = rows.shape[-2]
        x = (rows + positions(length, self.width)).view(-1, length, self.width)
        for block in self.blocks[:-1]:
            x = block(x)
        made: Tensor = self.blocks[-1](x, slice(first, last))
        return made.view(*rows.shape[:-2], last - first, self.width)


def openai_names(blocks: int) -> Mapping[str, str]:
    """Names of `WhisperEncoder`'s parts to those in OpenAI's code, without `.weight` and `.bias`."""
    names = {"conv1": "conv1", "conv2": "conv2"}
    for number in range(blocks):
        ours = f"blocks.{number}."
        names |= {f"{ours}{part}": f"{ours}attn.{part}" for part in ("query", "key", "value", "out")}
        names |= {f"{ours}{part}": f"{ours}{part}" for part in ("attn_ln", "mlp_ln")}
        names |= {f"{ours}up": f"{ours}mlp.0", f"{ours}down": f"{ours}mlp.2"}
    return names


def transformers_names(blocks: int) -> Mapping[str, str]:
    """Names of `WhisperEncoder`'s parts to those in transformers' encoder, without `.weight` and `.bias`."""
    names = {"conv1": "conv1", "conv2": "conv2"}
    for number in range(blocks):
        ours, theirs = f"blocks.{number}.", f"layers.{number}."
        parts = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "out": "out_proj"}
        names |= {f"{ours}{part}": f"{theirs}self_attn.{name}" for part, name in parts.items()}
        names |= {
            f"{ours}attn_ln": f"{theirs}self_attn_layer_norm",
            f"{ours}mlp_ln": f"{theirs}final_layer_norm",
        }
        names |= {f"{ours}up": f"{theirs}fc1", f"{ours}down": f"{theirs}fc2"}
    return names
