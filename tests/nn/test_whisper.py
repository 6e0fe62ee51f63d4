"""Whisper's encoder: against an independent twin in float64, and its 8-bit blocks."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from nldf_engine.nn.whisper import Int8Linear, WhisperEncoder, openai_names, positions, transformers_names


def encoders(width: int = 64, heads: int = 2, blocks: int = 2) -> tuple[WhisperEncoder, WhisperEncoder]:
    """A random encoder, and the same with 8-bit blocks."""
    torch.manual_seed(0)
    single = WhisperEncoder(width, heads, blocks).requires_grad_(False)
    for name, value in single.named_parameters():
        if "_ln" in name:  # or they would be left out unseen
            value.add_(0.3 * torch.randn_like(value))
    integer = WhisperEncoder(width, heads, blocks, int8=True).requires_grad_(False)
    state = {}
    for name, value in single.state_dict().items():
        if name.startswith("blocks") and name.endswith("weight") and value.ndim == 2:
            state[name], state[name.replace("weight", "scale")] = Int8Linear.quantised(value)
        else:
            state[name] = value
    integer.load_state_dict(state)
    return single, integer


def gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def norm(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    x = x - x.mean(1, keepdims=True)
    return x / np.sqrt(np.square(x).mean(1, keepdims=True) + 1e-5) * weight + bias


def twin(encoder: WhisperEncoder, rows: np.ndarray) -> np.ndarray:
    """The blocks in float64, one head and one row at a time."""
    p = {name: value.double().numpy() for name, value in encoder.state_dict().items()}
    length, width = rows.shape
    half = width // 2
    turns = np.arange(length)[:, None] / 10000 ** (np.arange(half) / (half - 1))
    x = rows + np.concatenate([np.sin(turns), np.cos(turns)], 1)
    for number, block in enumerate(encoder.blocks):

        def part(name: str, to: np.ndarray, n: int = number) -> np.ndarray:
            return to @ p[f"blocks.{n}.{name}.weight"].T + p.get(f"blocks.{n}.{name}.bias", 0.0)

        b = f"blocks.{number}."
        normed = norm(x, p[b + "attn_ln.weight"], p[b + "attn_ln.bias"])
        q, k, v = (part(name, normed) for name in ("query", "key", "value"))
        size = width // block.heads
        seen = np.zeros_like(x)
        for head in range(block.heads):
            at = slice(head * size, (head + 1) * size)
            for row in range(length):
                score = k[:, at] @ q[row, at] / math.sqrt(size)
                weight = np.exp(score - score.max())
                seen[row, at] = weight @ v[:, at] / weight.sum()
        x = x + part("out", seen)
        inner = gelu(part("up", norm(x, p[b + "mlp_ln.weight"], p[b + "mlp_ln.bias"])))
        x = x + part("down", inner)
    return x


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def test_blocks_are_those_of_an_independent_twin():
    """Rows of the encoder equal a float64 computation of its formulae, also where only some are wanted."""
    single, _ = encoders()
    rows = draw(21, 64)
    want = twin(single, rows.double().numpy())
    np.testing.assert_allclose(single(rows, 0, 21).numpy(), want, atol=2e-5)
    np.testing.assert_allclose(single(rows, 13, 17).numpy(), want[13:17], atol=2e-5)


def test_stem_is_that_of_the_convolutions():
    """The stem equals torch's convolutions, and row r sees the frames [2r, 2r + 5) alone."""
    single, _ = encoders()
    mel = draw(23, 80)
    got = single.stem(mel)
    want = torch.nn.functional.gelu(single.conv1(mel.t()[None]))
    want = torch.nn.functional.gelu(single.conv2(want))[0].t()
    assert got.shape == (10, 64) and got.is_contiguous()
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)
    changed = mel.clone()
    changed[:8], changed[13:] = 7, -7
    assert torch.equal(single.stem(changed)[4], got[4]) and torch.equal(single.stem(mel[8:13])[0], got[4])


def test_the_stem_follows_its_weights():
    """Weights that are loaded after a first use are those that count; those of another dtype are refused."""
    first, mel = encoders()[0], draw(23, 80)
    other = WhisperEncoder(64, 2, 1).requires_grad_(False)
    other.stem(mel)
    changed = {name: 2 * value for name, value in other.state_dict().items()}
    other.load_state_dict(changed)
    fresh = WhisperEncoder(64, 2, 1).requires_grad_(False)
    fresh.load_state_dict(changed)
    assert torch.equal(other.stem(mel), fresh.stem(mel))
    first.stem(mel)
    with pytest.raises(TypeError, match=r"weight must be torch\.float32"):
        first.double().stem(mel)


def test_integers_are_near_and_the_backends_agree():
    """8-bit blocks give the float rows but for their rounding; kernel and reference give the same."""
    single, integer = encoders(128, 4, 3)
    rows = draw(37, 128)
    want, got = single(rows, 0, 37), integer(rows, 0, 37)
    assert (got - want).norm() < 0.03 * want.norm()
    reference = WhisperEncoder(128, 4, 3, int8=True, backend="reference").requires_grad_(False)
    reference.load_state_dict(integer.state_dict())
    assert (got - reference(rows, 0, 37)).norm() < 0.01 * want.norm()


def test_wanted_rows_are_those_of_the_whole():
    """Rows of the last block that alone are computed are those of the whole piece, but for rounding."""
    _, integer = encoders(128, 4, 2)
    rows = draw(37, 128)
    whole = integer(rows, 0, 37)
    torch.testing.assert_close(integer(rows, 30, 34), whole[30:34], rtol=1e-4, atol=1e-4)


def test_pieces_do_not_depend_on_those_beside_them():
    """Several pieces at once give each its own rows: in 8 bits to the bit, in float32 but for rounding."""
    single, integer = encoders(128, 4, 2)
    pieces = draw(5, 37, 128)
    torch.testing.assert_close(single(pieces, 30, 34)[2], single(pieces[2], 30, 34), rtol=1e-4, atol=1e-4)
    made = integer(pieces, 30, 34)
    assert made.shape == (5, 4, 128)
    assert torch.equal(made, torch.stack([integer(piece, 30, 34) for piece in pieces]))


def test_names_cover_every_part():
    """Both lists of names give each layer of the encoder one name, and no two the same."""
    single, _ = encoders()
    parts = {name.rsplit(".", 1)[0] for name in single.state_dict()}
    for names in (openai_names(2), transformers_names(2)):
        assert set(names) == parts and len(set(names.values())) == len(parts)


def test_positions_are_sines_and_cosines():
    """The first row is zeros and ones, and rows are the same whatever their number."""
    made = positions(20, 8)
    assert torch.equal(made[0], torch.tensor([0.0] * 4 + [1.0] * 4))
    torch.testing.assert_close(positions(3, 8), made[:3])


@pytest.mark.parametrize(
    ("sizes", "words"),
    [((0, 1, 1), "width=0"), ((12, 4, 1), "even multiple"), ((64, 2, 0), "blocks=0")],
)
def test_wrong_sizes_are_refused(sizes, words):
    """Sizes that can't be are named."""
    with pytest.raises(ValueError, match=f"WhisperEncoder: .*{words}"):
        WhisperEncoder(*sizes)
    with pytest.raises(ValueError, match="multiple of 64 and of 16 a head for int8, got width=96"):
        WhisperEncoder(96, 2, 1, int8=True)
