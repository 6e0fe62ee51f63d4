"""LPIPS, where its package and its weights are on this machine; a reason where they are not.

Nothing is downloaded, and no other distance stands in for it: `lpips` in a report is LPIPS or null.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from nldf_engine.base.errors import FileProblem, MissingBackend

BACKBONE_FILE = "alexnet-owt-7be5be79.pth"
BACKBONE_URL = "https://download.pytorch.org/models/" + BACKBONE_FILE
SMALLEST_SIDE = 32


class Lpips:
    """LPIPS 0.1 with the AlexNet backbone (Zhang et al. 2018), on the CPU.

    Args:
        weights: AlexNet's ImageNet weights (`alexnet-owt-7be5be79.pth`); None looks in torch's cache.

    Raises:
        MissingBackend: the package is missing, or torch's cache holds no weights.
        FileProblem: `weights` names a file that is missing or is no AlexNet.
    """

    def __init__(self, weights: Path | None = None) -> None:
        import torch

        try:
            import lpips
        except (ImportError, OSError, RuntimeError) as error:
            # A torchvision that was built for another torch raises a RuntimeError.
            reason = f"the lpips package can't be imported ({error})"
            raise MissingBackend(reason, "pip install lpips") from error
        path = weights or Path(torch.hub.get_dir()) / "checkpoints" / BACKBONE_FILE
        if not path.is_file():
            if weights is not None:
                raise FileProblem(path, "there is no such file", f"save {BACKBONE_URL} there")
            raise MissingBackend(f"AlexNet's weights are not at {path}", f"save {BACKBONE_URL} there")
        self._torch = torch
        # pnet_rand keeps the package from downloading the backbone; it is filled right below.
        with warnings.catch_warnings():  # about how the package calls torchvision: nothing to do here
            warnings.simplefilter("ignore")
            self._model = lpips.LPIPS(net="alex", version="0.1", pnet_rand=True, verbose=False).eval()
        self._fill(path)

    def _fill(self, path: Path) -> None:
        try:
            state = self._torch.load(path, map_location="cpu", weights_only=True)
            backbone = self._model.net.state_dict()
            # The package cuts AlexNet into slices that keep the layers' numbers: slice2.3.weight is
            # features.3.weight.
            filled = {name: state["features." + name.split(".", 1)[1]] for name in backbone}
            self._model.net.load_state_dict(filled)
        except Exception as error:
            raise FileProblem(
                path, f"it does not hold AlexNet's weights ({error})", f"save {BACKBONE_URL} there"
            ) from error

    def __call__(self, rendered: np.ndarray, real: np.ndarray) -> float:
        """LPIPS of two uint8 [H, W, 3] frames of at least 32x32; smaller is more alike."""
        torch = self._torch
        pair = np.stack([rendered, real]).astype(np.float32) / 127.5 - 1.0
        both = torch.from_numpy(pair).permute(0, 3, 1, 2)
        with torch.no_grad():
            return float(self._model(both[:1], both[1:]))


def load_lpips(weights: Path | None, width: int, height: int) -> tuple[Lpips | None, str]:
    """LPIPS for frames of this size, or None and the reason why there is none.

    Raises:
        FileProblem: `weights` was named but can't be used.
        MissingBackend: `weights` was named but the package is missing.
    """
    if min(width, height) < SMALLEST_SIDE:
        return None, f"LPIPS needs frames of at least {SMALLEST_SIDE} pixels, these are {width}x{height}"
    try:
        return Lpips(weights), ""
    except MissingBackend as error:
        if weights is not None:
            raise
        return None, str(error)
