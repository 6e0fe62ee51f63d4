"""DFRF's trained networks (`{step}_head.tar`) as named arrays in our head space.

The names are those of `ReferenceField`'s parameters. What differs is settled here:

- their head space has y up and z out of the face: the signs of the columns that see y and z, and their sines,
  of an encoded point, direction or camera are flipped; nothing is rounded;
- a place in a reference is row and column, counted from 0 at a pixel's centre, in pixels of pictures of 512 x
  512; ours is x and y, of which a pixel's centre has 1/2 more, in units of the picture's width. Columns are
  exchanged and multiplied by 512, and the half pixels go into the bias. An offset is rows and columns, at
  most 10 pixels; ours is x and y as a share of that limit: rows are exchanged and divided by 10;
- both of their slots start at one learned vector plus noise of a learned size, drawn afresh for every sample
  even when they render, so that no two renderings are alike. Ours start at one draw of that noise, by a seed;
- `feature_linear` is stored and never used, the fusion is stored three times: both are left out, once it is
  certain that the three are one;
- the attention over neighbouring frames is used where its optimiser has taken a step, as in AD-NeRF; in
  other files each frame has its own code.

Beside the arrays, their program rounds a projected place to whole pixels before the offset is added, and
feeds the fusion whole numbers of rows and columns, cut off behind the point: the field that takes them counts
places so (`ReferenceFieldConfig.places`). It projects about the picture's middle, whatever the camera's
centre is.

Weights hold for pictures of 512 x 512 alone, since raw pixel numbers went into them. Rays are sampled in
depth, with both ends, 32 + 64 samples a ray as in the program's configuration for rendering.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from nldf_engine.base.errors import FileProblem
from nldf_engine.nn.audio import AudioEncoder, own_frame_attention
from nldf_engine.nn.checkpoints import optimizer_stepped, read_checkpoint_file, take_network, take_step
from nldf_engine.nn.frequency import frequency_dim
from nldf_engine.rendering.fields import Bounds
from nldf_engine.systems.common.conditions import ConditionConfig
from nldf_engine.systems.dfrf.model import ReferenceField, ReferenceFieldConfig
from nldf_engine.systems.dfrf.references import References
from nldf_engine.systems.dfrf.warp import WarpSizes

SIDE = 512  # pixels, of the only pictures that DFRF's weights hold for
LIMIT = 10.0  # pixels that an offset is held to
NOTICE = (
    f"DFRF's weights hold for square pictures of {SIDE} x {SIDE} pixels alone: raw pixel numbers and offsets "
    f"of {LIMIT:g} pixels went into them"
)
AS_SAVED = "give a {step}_head.tar as DFRF saves it, with its default sizes"
COARSE, FINE = "network_fn_state_dict", "network_fine_state_dict"
EXTRACTOR, FUSION, WARP = "unet_state_dict", "attention_state_dict", "position_warp_state_dict"
AUDIO, ATTENTION, OPTIMIZER = (
    "network_audnet_state_dict", "network_audattnet_state_dict", "optimizer_audatt_state_dict"
)  # fmt: skip
LISTED = (50, 100, 150, 200)  # of the training frames, counted from 0: the references, when it renders
ROWS, NEIGHBOURS = 29, 8  # features a row of its audio, neighbouring frames of the attention
SAMPLES = (32, 64)  # a ray, coarse and fine, when it renders
NETWORKS = (COARSE, FINE, EXTRACTOR, FUSION, WARP, AUDIO, ATTENTION)

POINT, VIEW, CAMERA = frequency_dim(3, 10), frequency_dim(3, 4), frequency_dim(3, 5)
COLOR = frequency_dim(3, 5)
FUSED, FEATURE, CODE, SLOTS, SLOT, WIDTH, HALF = 256, 128, 64, 2, 128, 256, 128


def _layers(**sizes: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """Shapes of weights and biases by layer; two underscores stand for a point."""
    found: dict[str, tuple[int, ...]] = {}
    for name, size in sizes.items():
        name = name.replace("__", ".")
        found |= {f"{name}.weight": size, f"{name}.bias": size[:1]}
    return found


_FIELD = _layers(
    pts_linears__0=(WIDTH, FUSED + POINT + CODE),
    **{f"pts_linears__{i}": (WIDTH, WIDTH) for i in (1, 2, 3, 4, 6, 7)},
    pts_linears__5=(WIDTH, WIDTH + FUSED + POINT + CODE),
    views_linears__0=(HALF, WIDTH + VIEW), views_linears__1=(HALF, HALF), views_linears__2=(HALF, HALF),
    feature_linear=(WIDTH, WIDTH), alpha_linear=(1, WIDTH), rgb_linear=(3, HALF),
)  # fmt: skip
_FUSION = _layers(
    **dict.fromkeys(("to_q", "to_k", "to_v", "mlp__0", "mlp__2"), (SLOT, SLOT)),
    **dict.fromkeys(("norm_input", "norm_slots", "norm_pre_ff"), (SLOT,)),
    fc1__0=(32, FEATURE + 2), fc6=(32, 32), fc7__0=(SLOT, FEATURE + 2 + POINT + 32),
) | {
    "slots_mu": (1, 1, SLOT), "slots_logsigma": (1, 1, SLOT),
    "gru.weight_ih": (3 * SLOT, SLOT), "gru.weight_hh": (3 * SLOT, SLOT),
    "gru.bias_ih": (3 * SLOT,), "gru.bias_hh": (3 * SLOT,),
}  # fmt: skip
_CHANNELS, _SCORES = (ROWS, 32, 32, 64, 64), (32, 16, 8, 4, 2, 1)
SHAPES: dict[str, dict[str, tuple[int, ...]]] = {
    **{
        name: {f"nerf_model.{key}": size for key, size in _FIELD.items()}
        | {f"slot_att.{key}": size for key, size in _FUSION.items()}
        for name in (COARSE, FINE)
    },
    FUSION: _FUSION,
    EXTRACTOR: _layers(conv1__0=(64, COLOR + CAMERA, 3, 3), conv2__0=(64, 64, 3, 3), fc=(FEATURE, 64)),
    WARP: _layers(mlp__0=(128, POINT + CODE + FEATURE), mlp__2=(32, 128), mlp__4=(2, 32)),
    AUDIO: _layers(
        **{f"encoder_conv__{2 * i}": (_CHANNELS[i + 1], _CHANNELS[i], 3) for i in range(4)},
        encoder_fc1__0=(64, 64), encoder_fc1__2=(CODE, 64),
    ),
    ATTENTION: _layers(
        **{f"attentionConvNet__{2 * i}": (_SCORES[i + 1], _SCORES[i], 3) for i in range(5)},
        attentionNet__0=(NEIGHBOURS, NEIGHBOURS),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint's networks.

    Args:
        path: the file.
        step: `global_step`.
        states: by `NETWORKS`, names to tensors of the shapes `SHAPES`.
        smoothed: whether its attention over neighbouring frames has been trained.
    """

    path: Path
    step: int
    states: dict[str, dict[str, Tensor]]
    smoothed: bool


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Reads a checkpoint of DFRF. Nothing in it is executed: it may hold tensors, numbers and lists.

    Raises:
        FileProblem: it is missing, damaged, holds anything else, lacks a network, or has one of other sizes.
    """
    path = Path(path)
    value = read_checkpoint_file(path, AS_SAVED)
    states = {name: take_network(path, value, name, AS_SAVED) for name in NETWORKS}
    for name, state in states.items():
        _check_shapes(path, name, state)
    for name in (COARSE, FINE):
        for key, item in states[FUSION].items():
            if not torch.equal(states[name][f"slot_att.{key}"], item):
                what = f"its fusion is not one: {key} of {name} is not that of {FUSION}"
                raise FileProblem(path, what, AS_SAVED)
    smoothed = optimizer_stepped(path, value, OPTIMIZER, AS_SAVED)
    return Checkpoint(path, take_step(value), states, smoothed)


def _check_shapes(path: Path, name: str, state: Mapping[str, Tensor]) -> None:
    """Checks that a network has the layers and sizes of DFRF's program.

    Raises:
        FileProblem: the first layer by name that differs.
    """
    wanted = SHAPES[name]
    for key in sorted({*wanted, *state}):
        came = list(state[key].shape) if key in state else "nothing"
        if key not in wanted or key not in state or tuple(state[key].shape) != wanted[key]:
            expected = list(wanted[key]) if key in wanted else "nothing"
            what = f"{name}: {key} has the shape {came}, and DFRF's has {expected}"
            raise FileProblem(path, what, AS_SAVED)


def named_arrays(checkpoint: Checkpoint, side: int = SIDE, seed: int = 0) -> dict[str, Tensor]:
    """All parameters by our names, in our head space and our places.

    Args:
        checkpoint: see `read_checkpoint`.
        side: of the square pictures that it was trained on, pixels; DFRF's program takes no other.
        seed: of the draw of the noise that slots start with.

    Returns:
        `coarse.*` and `fine.*` (the fields; inputs are fused feature, point, code, in this order),
        `extractor.*`, `position_warp.*`, `fusion.*` (with `slots_mu` [2, 128], a vector a slot), and
        `encoder.audio.*`; float32.
    """
    states = checkpoint.states
    found: dict[str, Tensor] = {}
    for part, name in (("coarse", COARSE), ("fine", FINE)):
        found |= {f"{part}.{key}": value for key, value in _field(states[name]).items()}
    found |= {f"extractor.{key}": value for key, value in states[EXTRACTOR].items()}
    found["extractor.conv1.0.weight"] = _flipped(states[EXTRACTOR]["conv1.0.weight"], COLOR, CAMERA)
    found |= {f"position_warp.{key}": value for key, value in _warp(states[WARP]).items()}
    found |= {f"fusion.{key}": value for key, value in _fusion(states[FUSION], side, seed).items()}
    found |= {f"encoder.audio.net.{key}": value for key, value in states[AUDIO].items()}
    encoder = AudioEncoder(ROWS, CODE, NEIGHBOURS)
    attention = states[ATTENTION] if checkpoint.smoothed else own_frame_attention(encoder)
    return found | {f"encoder.audio.attention.{key}": value for key, value in attention.items()}


def import_field(
    checkpoint: Checkpoint, references: References, bounds: Bounds, seed: int = 0
) -> ReferenceField:
    """Its networks as a `ReferenceField` in our head space, with the references that it renders with.

    Args:
        checkpoint: see `read_checkpoint`.
        references: four whole pictures of the speaker, square; the weights hold for a side of 512 alone.
        bounds: near and far as its program was given them, depths in metres; the radius must be 1.
        seed: of the draw of the noise that slots start with.

    Raises:
        ValueError: another radius, or pictures that are not square.
    """
    height, width = references.pictures.shape[1:3]
    if bounds.radius != 1 or height != width:
        raise ValueError(
            f"import_field: expected a radius of 1 and square pictures, got {bounds.radius:g} and "
            f"{width} x {height}"
        )
    config = ReferenceFieldConfig(
        bounds, ConditionConfig(ROWS, 16, CODE, NEIGHBOURS, attention_by_list=True, eyes=False),
        coarse=SAMPLES[0], fine=SAMPLES[1], sampling="depths", places="whole",
        references=len(references.pictures), picture=(height, width), warp=WarpSizes(limit=LIMIT / width),
    )  # fmt: skip
    field = ReferenceField(config)
    own = {key: value for key, value in field.state_dict().items() if key.startswith("references.")}
    field.load_state_dict({**own, **named_arrays(checkpoint, width, seed)})
    field.keep_references(references)
    return field.eval()


def _flipped(weight: Tensor, first: int, size: int) -> Tensor:
    """A weight [out, in, ...] whose inputs from `first` on are an encoded vector of 3 numbers, half turned
    about x."""
    odd, even = torch.tensor([1.0, -1.0, -1.0]), torch.ones(3)
    signs = torch.ones(weight.shape[1])
    signs[first : first + size] = torch.cat([odd, *([odd, even] * ((size // 3 - 1) // 2))])
    return weight * signs.view(1, -1, *([1] * (weight.dim() - 2)))


def _field(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """One field's parameters; the encoded point stands behind the fused feature."""
    found: dict[str, Tensor] = {}
    for key, value in state.items():
        network, _, name = key.partition(".")
        if network != "nerf_model" or name.startswith("feature_linear."):
            continue
        if name.startswith(("pts_linears.0.", "pts_linears.5.")):
            layer, part = name.rsplit(".", 1)
            name = f"{layer}.linear.{part}"
            value = _flipped(value, FUSED, POINT) if part == "weight" else value
        elif name == "views_linears.0.weight":
            value = _flipped(value, WIDTH, VIEW)
        found[name] = value
    return found


def _warp(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The warp's parameters: the point's signs, rows and columns to x and y, pixels to shares of a limit."""
    found = dict(state)
    found["mlp.0.weight"] = _flipped(state["mlp.0.weight"], 0, POINT)
    for part in ("weight", "bias"):
        found[f"mlp.4.{part}"] = state[f"mlp.4.{part}"].flip(0) / LIMIT
    return found


def _fusion(state: Mapping[str, Tensor], side: int, seed: int) -> dict[str, Tensor]:
    """The fusion's parameters: row and column to x and y in units of the width, a start for each slot."""
    found = {key: value for key, value in state.items() if not key.startswith("slots_")}
    for layer in ("fc1.0", "fc7.0"):
        weight = found[f"{layer}.weight"]
        place = weight[:, FEATURE : FEATURE + 2]
        bias = found[f"{layer}.bias"].double() - place.double().sum(1) / 2
        found[f"{layer}.bias"] = bias.float()
        found[f"{layer}.weight"] = torch.cat(
            [weight[:, :FEATURE], side * place.flip(1), weight[:, FEATURE + 2 :]], 1
        )
    found["fc7.0.weight"] = _flipped(found["fc7.0.weight"], FEATURE + 2, POINT)
    noise = torch.randn(SLOTS, SLOT, generator=torch.Generator().manual_seed(seed))
    found["slots_mu"] = state["slots_mu"][0] + state["slots_logsigma"][0].exp() * noise
    return found
