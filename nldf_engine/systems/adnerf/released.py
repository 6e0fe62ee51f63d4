"""AD-NeRF's trained networks (`{step}_head.tar`, `{step}_body.tar`) as two of our `RadianceField`s.

The two classes have the same layers; what differs is settled here, exactly:

- their head space has y up and z out of the face. Points and directions enter a network as [x, sin, cos,
  ...] of each coordinate, and a flipped coordinate flips the input and its sines and leaves the cosines:
  so the signs of those columns of the weights are flipped, and nothing is rounded;
- points enter unscaled: the bounds' radius is 1;
- their `feature_linear` is stored and never used: it is left out;
- their code is the audio code alone: no eyes;
- a head is trained for a while without the attention over neighbouring frames, each frame by its own audio
  code, and until when is a setting that the file does not hold. What it holds is the attention's optimiser:
  its state is empty until the first step. A head without that state that no body was trained on gets an
  attention that picks the frame itself. A body's training always applies the attention, and writes heads
  without that optimiser;
- neighbours are those that the dataset lists, split by split, with silence behind the last: the code does the
  same where the conditions say what is listed (`ConditionConfig.attention_by_list`);
- a body is driven by the head's audio code and the head's pose. Its file holds an audio network too, which
  AD-NeRF makes, saves and never evaluates: that one is checked and left out. Of the pose it sees other angles
  than ours: e = (pi / 2 + a, b, pi / 2 + c) where ours are a, b, c, and positions in their head space. An
  encoding of e is a linear map of ours, of signs and exchanges of sine and cosine, and goes into the weights.

Rays are sampled in depth, as theirs (`rendering.volume.DepthSampling`). What differs is the 1e-6 that they
add to the density.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nldf_engine.base.errors import FileProblem
from nldf_engine.nn.audio import AudioEncoder, own_frame_attention, prefix_checkpoint
from nldf_engine.nn.checkpoints import optimizer_stepped, read_checkpoint_file, take_network, take_step
from nldf_engine.nn.frequency import frequency_dim
from nldf_engine.nn.pose import pose_dim
from nldf_engine.rendering.fields import Bounds
from nldf_engine.systems.adnerf.model import RadianceField, RadianceFieldConfig
from nldf_engine.systems.common.conditions import ConditionConfig, make_encoder

NETWORKS = ("network_fn_state_dict", "network_fine_state_dict", "network_audnet_state_dict")
ATTENTION = "network_audattnet_state_dict"
OPTIMIZER = "optimizer_audatt_state_dict"  # the attention's; only a head's own training saves it
UNUSED = ("feature_linear.weight", "feature_linear.bias")
POSE_FREQUENCIES = 3
POSE_CODE = pose_dim(POSE_FREQUENCIES)  # a body's condition besides the audio: encoded angles and translation
AS_SAVED = "give a {step}_head.tar or {step}_body.tar as AD-NeRF saves it"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint's networks.

    Args:
        path: the file.
        step: `global_step`.
        states: by `NETWORKS` and `ATTENTION`, names to tensors; the attention only where it is there.
        smoothed: whether its attention has been trained, as far as the file shows it: its optimiser has taken
            a step, or is not in the file.
    """

    path: Path
    step: int
    states: dict[str, dict[str, Tensor]]
    smoothed: bool = True


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Reads a checkpoint of AD-NeRF. Nothing in it is executed: it may hold tensors, numbers and lists.

    Raises:
        FileProblem: it is missing, damaged, holds anything else, or lacks a network.
    """
    path = Path(path)
    value = read_checkpoint_file(path, AS_SAVED)
    wanted = [*NETWORKS, *([ATTENTION] if ATTENTION in value else [])]
    states = {name: take_network(path, value, name, AS_SAVED) for name in wanted}
    return Checkpoint(path, take_step(value), states, optimizer_stepped(path, value, OPTIMIZER, AS_SAVED))


def _frequencies(size: int) -> int | None:
    """L of an encoding of 3 numbers with `size` outputs; None where none has that size."""
    level = (size // 3 - 1) // 2
    return level if level >= 0 and size == frequency_dim(3, level) else None


def _shape(checkpoint: Checkpoint, name: str, code: int) -> dict[str, Any]:
    """The configuration of one of its networks, from the shapes of its layers.

    Raises:
        FileProblem: it is another kind of network.
    """
    state, path = checkpoint.states[name], checkpoint.path
    if "output_linear.weight" in state or "rgb_linear.weight" not in state:
        raise FileProblem(path, f"{name} has no view directions (use_viewdirs off)", AS_SAVED)
    depth = sum(key.startswith("pts_linears.") and key.endswith(".weight") for key in state)
    views = sum(key.startswith("views_linears.") and key.endswith(".weight") for key in state)
    try:
        inputs = [int(state[f"pts_linears.{i}.weight"].shape[1]) for i in range(depth)]
        width = int(state["pts_linears.0.weight"].shape[0])
        seen = int(state["views_linears.0.weight"].shape[1]) - width
    except (KeyError, IndexError) as error:
        raise FileProblem(path, f"{name} lacks the layer {error.args[0]}", AS_SAVED) from error
    points, directions = _frequencies(inputs[0] - code), _frequencies(seen)
    if points is None or directions is None:
        what = (
            f"{name}: {inputs[0]} inputs are no encoded point beside a code of {code}, or {seen} are no "
            "encoded direction"
        )
        raise FileProblem(path, what, AS_SAVED)
    skips = [i - 1 for i in range(1, depth) if inputs[i] == width + inputs[0]]
    if len(skips) > 1 or any(inputs[i] != width for i in range(1, depth) if i - 1 not in skips):
        raise FileProblem(path, f"{name}: its layers take {inputs} inputs; one skip was expected", AS_SAVED)
    return {
        "width": width, "depth": depth, "skip": skips[0] if skips else depth, "view_layers": views,
        "position_frequencies": points, "direction_frequencies": directions,
    }  # fmt: skip


def import_head(checkpoint: Checkpoint, bounds: Bounds, with_body: bool = False) -> RadianceField:
    """The head's networks, coarse, fine and audio, as a `RadianceField` in our head space.

    Args:
        checkpoint: a `{step}_head.tar`.
        bounds: near and far as in HeadNeRF_config.txt, depths in metres; the radius must be 1.
        with_body: it drives a body, whose training always applies the attention.

    Raises:
        FileProblem: it holds other networks.
        ValueError: another radius.
    """
    if bounds.radius != 1:
        raise ValueError(f"import_head: bounds.radius must be 1, got {bounds.radius}")
    path, states = checkpoint.path, checkpoint.states
    if ATTENTION not in states:
        # By the sizes alone, 42 numbers more could as well be more frequencies.
        raise FileProblem(path, f"it holds no {ATTENTION}, so it is a body's and no head's", AS_SAVED)
    try:
        audio = states["network_audnet_state_dict"]
        rows, code = int(audio["encoder_conv.0.weight"].shape[1]), int(audio["encoder_fc1.2.weight"].shape[0])
        frames = int(states[ATTENTION]["attentionNet.0.weight"].shape[0])
    except (KeyError, IndexError) as error:
        raise FileProblem(path, f"its audio network lacks {error.args[0]}", AS_SAVED) from error
    conditions = ConditionConfig(rows, 16, code, frames, attention_by_list=True, eyes=False)
    encoder = AudioEncoder(rows, code, frames)
    attention = states[ATTENTION] if with_body or checkpoint.smoothed else own_frame_attention(encoder)
    state = {f"encoder.audio.{key}": v for key, v in prefix_checkpoint(audio, attention).items()}
    return _field(checkpoint, bounds, conditions, state)


def import_body(checkpoint: Checkpoint, head: RadianceField) -> RadianceField:
    """The body's networks, coarse and fine, as a `RadianceField` that takes the head's code and pose.

    It is in the head space of AD-NeRF's first training frame, in front of the head (`TorsoField`, in_front).

    Args:
        checkpoint: a `{step}_body.tar`.
        head: the imported head that drives it.

    Raises:
        FileProblem: it holds other networks, or was driven by a code of another size than the head's.
    """
    code, given = check_body(checkpoint) - POSE_CODE, head.config.conditions
    if code != given.audio_code:
        raise FileProblem(
            checkpoint.path, f"{code} numbers of audio drive it, and the head's code has {given.audio_code}",
            "give the head and the body of one training",
        )  # fmt: skip
    conditions = replace(given, head_pose=POSE_FREQUENCIES)
    encoder = make_encoder(conditions)
    state = {f"encoder.{key}": value for key, value in encoder.state_dict().items()}
    return _field(checkpoint, head.config.bounds, conditions, state)


def _field(
    checkpoint: Checkpoint, bounds: Bounds, conditions: ConditionConfig, encoder: dict[str, Tensor]
) -> RadianceField:
    """Coarse and fine networks of a checkpoint behind an encoder's parameters."""
    path, states = checkpoint.path, checkpoint.states
    shape = _shape(checkpoint, NETWORKS[0], conditions.code_dim)
    if shape != _shape(checkpoint, NETWORKS[1], conditions.code_dim):
        raise FileProblem(path, "its coarse and fine networks differ in size, which is not supported", "")
    field = RadianceField(RadianceFieldConfig(bounds, conditions, sampling="depths", **shape))
    state = dict(encoder)
    for part, name in (("coarse", NETWORKS[0]), ("fine", NETWORKS[1])):
        state |= {f"{part}.{key}": v for key, v in _network(states[name], field.config).items()}
    wanted = field.state_dict()
    differing = [key for key in {*wanted, *state} if key not in wanted or key not in state
                 or wanted[key].shape != state[key].shape]  # fmt: skip
    if differing:
        raise FileProblem(
            path, f"its layers are not AD-NeRF's; the first that differs is {min(differing)}", AS_SAVED
        )
    field.load_state_dict(state)
    return field.eval()


def _network(state: Mapping[str, Tensor], config: RadianceFieldConfig) -> dict[str, Tensor]:
    """One network's parameters by our names and in our head space."""
    points, views = _signs(config.position_frequencies), _signs(config.direction_frequencies)
    out: dict[str, Tensor] = {}
    for key, value in state.items():
        if key in UNUSED:
            continue
        value = value.clone()
        name = key
        if key.startswith(("pts_linears.0.", f"pts_linears.{config.skip + 1}.")):
            layer, part = key.rsplit(".", 1)
            name = f"{layer}.linear.{part}"
            if part == "weight":
                value[:, : len(points)] *= points
                if config.conditions.head_pose:
                    first = len(points) + config.conditions.code_dim - POSE_CODE
                    pose = value[:, first : first + POSE_CODE].double()
                    value[:, first : first + POSE_CODE] = (pose @ _POSE_MAP).to(value.dtype)
            elif config.conditions.head_pose:
                first = len(points) + config.conditions.code_dim - POSE_CODE
                pose = state[f"{layer}.weight"][:, first : first + POSE_CODE].double()
                value = (value.double() + pose @ _POSE_SHIFT).to(value.dtype)
        elif key == "views_linears.0.weight":
            value[:, config.width :] *= views
        out[name] = value
    return out


def _signs(frequencies: int) -> Tensor:
    """[3 (2 L + 1)] by what a half turn about x multiplies an encoded vector: y and z change their sign."""
    odd, even = torch.tensor([1.0, -1.0, -1.0]), torch.ones(3)
    return torch.cat([odd, *([odd, even] * frequencies)])


def _encoded_map(sign: Tensor, quarter_turns: Tensor) -> tuple[Tensor, Tensor]:
    """(A, b) float64 with encode(sign x + quarter_turns pi / 2) = A encode(x) + b, for 3 numbers x."""
    size = frequency_dim(3, POSE_FREQUENCIES)
    a, b = torch.zeros(size, size, dtype=torch.float64), torch.zeros(size, dtype=torch.float64)
    for k in range(3):
        s, turns = float(sign[k]), int(quarter_turns[k])
        a[k, k], b[k] = s, turns * math.pi / 2
        for level in range(POSE_FREQUENCIES):
            sine, cosine = 3 + 6 * level + k, 6 + 6 * level + k
            sin, cos = ((0.0, 1.0), (1.0, 0.0), (0.0, -1.0), (-1.0, 0.0))[(turns << level) % 4]
            a[sine, sine], a[sine, cosine] = s * cos, sin
            a[cosine, cosine], a[cosine, sine] = cos, -s * sin
    return a, b


# Their encoded angles and place of the head, from ours.
_ANGLES = _encoded_map(torch.ones(3), torch.tensor([1, 0, 1]))
_PLACE = _encoded_map(torch.tensor([1.0, -1.0, -1.0]), torch.zeros(3, dtype=torch.long))
_POSE_MAP = torch.block_diag(_ANGLES[0], _PLACE[0])
_POSE_SHIFT = torch.cat([_ANGLES[1], _PLACE[1]])


def check_body(checkpoint: Checkpoint) -> int:
    """The size of a body's whole condition: audio code, encoded angles and translation of the head.

    Raises:
        FileProblem: it is no body's checkpoint.
    """
    if ATTENTION in checkpoint.states:
        raise FileProblem(checkpoint.path, f"it holds {ATTENTION}, so it is a head's and no body's", AS_SAVED)
    try:
        audio = checkpoint.states["network_audnet_state_dict"]
        code = int(audio["encoder_fc1.2.weight"].shape[0]) + POSE_CODE
    except (KeyError, IndexError) as error:
        raise FileProblem(checkpoint.path, f"its audio network lacks {error.args[0]}", AS_SAVED) from error
    for name in NETWORKS[:2]:
        _shape(checkpoint, name, code)
    return code
