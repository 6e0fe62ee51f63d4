"""What other speakers taught: a network from speech to lips, in a lip space that is the same for everyone.

A minute of one speaker holds too little speech to learn from. Lips of different people move in nearly the
same few ways, though: eight components that were fitted to many speakers hold 97 % of the motion of each,
against 98 % of as many of his own. So a network was trained once, on all of them, to predict each speaker's
lips in these components, in standard deviations of that speaker's. An avatar's network begins as this one,
followed by the linear map from the shared components to the avatar's codes, and learns on from there.

`scripts/lip_prior.py` makes the asset.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from nldf_engine.audio import FrontendConfig
from nldf_engine.audio.whisper import split_ahead
from nldf_engine.base.assets import ASSETS, load_tensors
from nldf_engine.nn.speech import LipNet
from nldf_engine.systems.common.motion import MotionEncoder

ASSET = ASSETS / "lips" / "prior.safetensors"
DIGEST = "7345e77a89742635ceec8c284e9bc61b2fbca7c5a6454f86f734d6a63acb235e"
SMALLEST_SCALE = 1e-6


@dataclass(frozen=True)
class LipPrior:
    """The shared lip space and the network.

    Args:
        components: [Q, L, 2] of `systems.common.motion.MOUTH`, orthonormal over L and 2, in head space.
        net: state of a `LipNet` from windows to Q codes, each in standard deviations of a speaker's.
        frontend: name of the front-end, with its bundled weights, that its features are from.
        ahead: `FrontendSettings.ahead` of its features.
    """

    components: Tensor
    net: dict[str, Tensor]
    frontend: str
    ahead: int

    def fits(self, frontend: FrontendConfig) -> bool:
        """Whether features of a front-end are of the kind that the network knows."""
        return frontend.name == self.frontend and not frontend.source

    def start(self, encoder: MotionEncoder, placed: Tensor, codes: Tensor, fit: Tensor, ahead: int) -> None:
        """Makes the encoder's network begin as the shared one, in the codes of its own basis.

        Args:
            encoder: whose network is a `LipNet` of the same width; its basis is fitted.
            placed: [T, L, 2] landmarks in head space.
            codes: [T, K] of the basis.
            fit: [N] frames to take the map between the spaces from.
            ahead: of the front-end; windows that end elsewhere than the prior's see other rows.
        """
        shared = shared_codes(self.components, placed, fit)
        known = fit[shared[fit].isfinite().all(1) & codes[fit].isfinite().all(1)]
        mapped = torch.linalg.lstsq(shared[known].double(), codes[known].cpu().double()).solution.t().float()
        state = self.state(encoder.speech.window, ahead)
        state |= {name: mapped @ state[name] for name in ("out.1.weight", "out.1.bias")}
        encoder.speech.load_state_dict(state)

    def state(self, window: int, ahead: int) -> dict[str, Tensor]:
        """The network's state for windows of `window` rows of a front-end that looks `ahead`; a copy."""
        state = {name: value.clone() for name, value in self.net.items()}
        later = split_ahead(ahead)[1] - split_ahead(self.ahead)[1]
        state["rows.1.weight"] = _moved(state["rows.1.weight"], window, later)
        return state

    def start_features(self, net: LipNet, ahead: int) -> None:
        """Makes a `LipNet` with other outputs begin as the shared one: its first outputs are the shared
        codes, the rest as they are.

        Args:
            net: of the same width, with at least as many outputs.
            ahead: as for `start`.
        """
        state = self.state(net.window, ahead)
        for name in ("out.1.weight", "out.1.bias"):
            value = net.state_dict()[name].clone()
            value[: len(state[name])] = state[name].to(value)
            state[name] = value
        net.load_state_dict(state)


def _moved(weight: Tensor, window: int, later: int) -> Tensor:
    """The first layer for windows that end `later` rows later: what it had from rows outside is lost."""
    rows = weight.view(len(weight), -1, window)
    moved = torch.zeros_like(rows)
    if later >= 0:
        moved[..., : window - later] = rows[..., later:]
    else:
        moved[..., -later:] = rows[..., :later]
    return moved.flatten(1)


def shared_codes(components: Tensor, placed: Tensor, fit: Tensor) -> Tensor:
    """[T, Q] codes of landmarks [T, L, 2] in shared components, of zero mean and unit variance over `fit`."""
    along = torch.einsum("tli,qli->tq", placed, components)
    known = fit[along[fit].isfinite().all(1)]
    return (along - along[known].mean(0)) / along[known].std(0).clamp_min(SMALLEST_SCALE)


@functools.lru_cache(maxsize=1)
def lip_prior() -> LipPrior:
    """The prior that comes with the package.

    Raises:
        FileProblem: the file is missing, or another than was shipped.
    """
    tensors, stated = load_tensors(ASSET, DIGEST)
    components = tensors.pop("components")
    return LipPrior(components, tensors, stated["frontend"], int(stated["ahead"]))
