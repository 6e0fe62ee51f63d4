"""From windows of audio features to one code a frame: AD-NeRF's audio net and attention over neighbours.

Shapes: F requested frames, T frames of the clip, W rows of a window, D features a row, C sizes of a code.

Structure and parameter names are those of AD-NeRF's checkpoints, so that a checkpoint maps key by key:

    its entry and key                                    ours, in an `AudioEncoder`
    network_audnet_state_dict     encoder_conv.0.weight        net.encoder_conv.0.weight
    network_audnet_state_dict     encoder_fc1.2.bias           net.encoder_fc1.2.bias
    network_audattnet_state_dict  attentionConvNet.0.weight    attention.attentionConvNet.0.weight
    network_audattnet_state_dict  attentionNet.0.weight        attention.attentionNet.0.weight

Every key of the first entry gets the prefix `net.`, every key of the second `attention.`; nothing is
renamed, transposed or left over (`prefix_checkpoint`). The attention of those checkpoints looks at the
first 32 of the 64 numbers of a code; `scored` says so.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

SLOPE = 0.02
SCORED = 32
PICKED = 100.0  # logit of the frame itself: the others' share is exp(-100)


def _size(name: str, value: object, most: int | None = None) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}: expected an int, got {value!r}")
    if value < 1 or (most is not None and value > most):
        raise ValueError(f"{name}: expected {'at least 1' if most is None else f'1 to {most}'}, got {value}")
    return value


class AudioNet(nn.Module):
    """A window of feature rows to one code (AD-NeRF 3.2): four strided 1-D convolutions, two linear layers.

    Args:
        dim_in: D, features a row.
        window: W, rows of a window. Each convolution halves the rows, rounded up: up to 16 end as one;
            a longer window leaves ceil(W / 16), which the first linear layer takes side by side.
        dim_out: C, size of the code.

    Raises:
        ValueError: a size below one.
    """

    def __init__(self, dim_in: int = 29, window: int = 16, dim_out: int = 64) -> None:
        super().__init__()
        self.dim_in = _size("dim_in", dim_in)
        self.window = _size("window", window)
        self.dim_out = _size("dim_out", dim_out)
        channels = (dim_in, 32, 32, 64, 64)
        layers: list[nn.Module] = []
        for i in range(4):
            layers += [nn.Conv1d(channels[i], channels[i + 1], 3, stride=2, padding=1), nn.LeakyReLU(SLOPE)]
        self.encoder_conv = nn.Sequential(*layers)
        rows = -(-window // 16)
        self.encoder_fc1 = nn.Sequential(
            nn.Linear(64 * rows, 64), nn.LeakyReLU(SLOPE), nn.Linear(64, dim_out)
        )

    def forward(self, windows: Tensor) -> Tensor:
        """Codes [..., C] of windows [..., W, D].

        Raises:
            ValueError: the last two sizes are not (window, dim_in).
        """
        if windows.dim() < 2 or tuple(windows.shape[-2:]) != (self.window, self.dim_in):
            raise ValueError(
                f"AudioNet: windows must be [..., {self.window}, {self.dim_in}], got {list(windows.shape)}"
            )
        rows = windows.reshape(-1, self.window, self.dim_in).transpose(1, 2)
        codes = self.encoder_fc1(self.encoder_conv(rows).flatten(1))
        return codes.reshape(*windows.shape[:-2], self.dim_out)


class AudioAttention(nn.Module):
    """Fuses the codes of neighbouring frames with weights that it reads from them (AD-NeRF 3.6).

    The weights are softmax over the frames of a linear layer over a stack of 1-D convolutions
    (16, 8, 4, 2, 1 channels), so they are positive and sum to one.

    Args:
        dim: C, size of a code.
        frames: how many neighbours are fused.
        scored: how many of a code's first numbers the weights are read from; None for the 32 of
            AD-NeRF's networks, or all where the code is smaller.

    Raises:
        ValueError: a size below one, or scored above dim.
    """

    def __init__(self, dim: int = 64, frames: int = 8, scored: int | None = None) -> None:
        super().__init__()
        self.dim = _size("dim", dim)
        self.frames = _size("frames", frames)
        self.scored = min(SCORED, dim) if scored is None else _size("scored", scored, dim)
        channels = (self.scored, 16, 8, 4, 2, 1)
        layers: list[nn.Module] = []
        for i in range(5):
            layers += [nn.Conv1d(channels[i], channels[i + 1], 3, padding=1), nn.LeakyReLU(SLOPE)]
        self.attentionConvNet = nn.Sequential(*layers)
        self.attentionNet = nn.Sequential(nn.Linear(frames, frames), nn.Softmax(dim=1))

    def weights(self, codes: Tensor) -> Tensor:
        """The weights [F, frames] that `forward` gives the codes [F, frames, C].

        Raises:
            ValueError: the codes have another shape.
        """
        if codes.dim() != 3 or tuple(codes.shape[1:]) != (self.frames, self.dim):
            raise ValueError(
                f"AudioAttention: codes must be [F, {self.frames}, {self.dim}], got {list(codes.shape)}"
            )
        scores = self.attentionConvNet(codes[..., : self.scored].transpose(1, 2)).squeeze(1)
        return self.attentionNet(scores)

    def forward(self, codes: Tensor) -> Tensor:
        """Fused codes [F, C] of codes [F, frames, C].

        Raises:
            ValueError: the codes have another shape.
        """
        return torch.einsum("fn,fnc->fc", self.weights(codes), codes)


class AudioEncoder(nn.Module):
    """Audio net and attention in one: neighbouring windows to the code that drives a frame.

    Args:
        dim_in: D, features a row.
        dim_out: C, size of the code.
        frames: neighbours that the attention fuses, the frame itself at frames // 2.
        window: W, rows of a window.
        scored: how many of a code's first numbers the attention reads; 32 where there are as many.

    Raises:
        ValueError: a size below one.

    Example:
        >>> encoder = AudioEncoder(29)
        >>> features = torch.randn(100, 16, 29)
        >>> encoder(neighbour_windows(features, torch.tensor([0, 50]))).shape
        torch.Size([2, 64])
    """

    def __init__(
        self,
        dim_in: int = 29,
        dim_out: int = 64,
        frames: int = 8,
        window: int = 16,
        scored: int | None = None,
    ) -> None:
        super().__init__()
        self.frames = _size("frames", frames)
        self.net = AudioNet(dim_in, window, dim_out)
        self.attention = AudioAttention(dim_out, frames, scored)

    def forward(self, windows: Tensor) -> Tensor:
        """Codes [F, C] of windows [F, frames, W, D], as `neighbour_windows` makes them.

        Raises:
            ValueError: the windows have another shape.
        """
        return self.attention(self.net(windows))

    def encode_clip(self, features: Tensor, index: Tensor, lists: Tensor | None = None) -> Tensor:
        """`self(neighbour_windows(features, index))`, with no window encoded twice where that saves work.

        Args:
            features: [T, W, D] of the whole clip.
            index: [F] int64, frame numbers.
            lists: [T] int64; neighbours are those of a frame's list then, see `listed_index`.

        Raises:
            ValueError, IndexError: see `neighbour_windows`.
        """
        _check_clip(features, index, self.frames)
        if lists is None:
            near = neighbour_index(index, self.frames, len(features))
        else:
            near = listed_index(index, self.frames, lists)
        if near.device.type == "cpu":
            needed, place = near.unique(return_inverse=True)
        elif near.numel() <= len(features):
            return self.attention(self.net(_windows(features, near)))
        else:
            # How many differ is unknown to the host, and asking would wait for the device.
            needed, place = torch.arange(len(features) + 1, device=near.device), near
        return self.attention(self.net(_windows(features, needed))[place])


def _check_clip(features: Tensor, index: Tensor, frames: int) -> None:
    _size("frames", frames)
    if features.dim() != 3 or not len(features):
        raise ValueError(f"features: expected [T, W, D] with at least one frame, got {list(features.shape)}")
    if index.dim() != 1 or index.dtype not in (torch.int64, torch.int32):
        raise ValueError(f"index: expected [F] int64, got {list(index.shape)} {index.dtype}")


def neighbour_index(index: Tensor, frames: int, length: int) -> Tensor:
    """[F, frames] numbers of the frames [i - frames // 2, i + frames - frames // 2) about `index` [F].

    `length`, the number of frames in the clip, is given for any that is outside of it.
    """
    near = index[:, None] + torch.arange(frames, device=index.device) - frames // 2
    return torch.where((near >= 0) & (near < length), near, length)


def listed_index(index: Tensor, frames: int, lists: Tensor) -> Tensor:
    """[F, frames] as `neighbour_index`, over the frames of each frame's own list in their order.

    Frames that no list names are passed over, and a list ends where it ends: AD-NeRF's loader sees nothing
    but the frames of one split.

    Args:
        index: [F] frame numbers of a clip of T frames.
        frames: how many neighbours.
        lists: [T] int64, the list that each frame stands in; a frame without one, below 0, has the neighbours
            that its number gives it.

    Example:
        >>> listed_index(torch.tensor([0, 3]), 2, torch.tensor([0, -1, 0, 0, 1]))
        tensor([[5, 0],
                [2, 3]])
    """
    length = len(lists)
    order = lists.argsort(stable=True)  # frames list after list
    place = torch.empty_like(order).index_copy_(0, order, torch.arange(length, device=order.device))
    around = neighbour_index(place[index], frames, length)
    near = order[around.clamp(max=length - 1)]
    listed = torch.where((around < length) & (lists[near] == lists[index, None]), near, length)
    return torch.where(lists[index, None] < 0, neighbour_index(index, frames, length), listed)


def _windows(features: Tensor, near: Tensor) -> Tensor:
    """[..., W, D] of the frames `near` [...]; zeros where one is `length`. Copies no more than it returns."""
    inside = near < len(features)
    return features[near.clamp(max=len(features) - 1)] * inside[..., None, None].to(features.dtype)


def neighbour_windows(features: Tensor, index: Tensor, frames: int = 8) -> Tensor:
    """The windows of each frame's neighbours [i - frames // 2, i + frames - frames // 2), as in AD-NeRF.

    Windows outside of the clip are zeros. An index outside of the clip is not an error: all that its
    neighbourhood shares with the clip is there, the rest is zeros.

    Args:
        features: [T, W, D], one window a frame of the clip.
        index: [F] int64, frame numbers, on the device of `features`.
        frames: how many neighbours.

    Returns:
        [F, frames, W, D].

    Raises:
        ValueError: a wrong shape or dtype.
    """
    _check_clip(features, index, frames)
    near = neighbour_index(index, frames, len(features))
    return _windows(features, near)


def prefix_checkpoint(net: Mapping[str, Tensor], attention: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """An `AudioEncoder` state dict from AD-NeRF's network_audnet and network_audattnet state dicts.

    Args:
        net: the audio net's parameters by AD-NeRF's names.
        attention: the attention's.

    Example:
        >>> encoder = AudioEncoder(29)
        >>> state = prefix_checkpoint(encoder.net.state_dict(), encoder.attention.state_dict())
        >>> encoder.load_state_dict(state)
        <All keys matched successfully>
    """
    return {f"net.{name}": value for name, value in net.items()} | {
        f"attention.{name}": value for name, value in attention.items()
    }


def own_frame_attention(encoder: AudioEncoder) -> dict[str, Tensor]:
    """Parameters of the encoder's attention that take the frame's own code and nothing of its neighbours':
    for networks that were trained without it.

    Example:
        >>> encoder = AudioEncoder(29)
        >>> _ = encoder.attention.load_state_dict(own_frame_attention(encoder))
        >>> encoder.attention.weights(torch.randn(1, 8, 64)).argmax().item()
        4
    """
    state = {name: torch.zeros_like(value) for name, value in encoder.attention.state_dict().items()}
    state["attentionNet.0.bias"][encoder.frames // 2] = PICKED
    return state
