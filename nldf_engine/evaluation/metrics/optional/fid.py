"""FID (Heusel et al. 2017): the Fréchet distance between two sets of Inception's 2048 pooled features.

The network is Inception v3 as TensorFlow shipped it in 2015: beside the later one its average pools leave the
padding out, and its last block pools by the maximum. Parameters are named as in the public PyTorch port of
its weights.

Own code, because pytorch-fid and torch-fidelity import torchvision, which has no build that goes with the CPU
build of torch used here. Tests compare the distance with its closed form and with scipy's matrix root, and
the network's parameters with the public file's.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from nldf_engine.nn.weights import INCEPTION, fill, find, load

SIDE = 299
FEWEST = 2
"""Frames that a covariance needs."""


class Conv(nn.Module):
    """Convolution without bias, batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int | tuple[int, int], **options: object) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, bias=False, **options)  # type: ignore[arg-type]
        self.bn = nn.BatchNorm2d(outputs, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] -> [N, outputs, H', W']."""
        return functional.relu(self.bn(self.conv(x)))


def _average(x: Tensor) -> Tensor:
    return functional.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


def _maximum(x: Tensor) -> Tensor:
    return functional.max_pool2d(x, 3, stride=1, padding=1)


def _shrink(x: Tensor) -> Tensor:
    return functional.max_pool2d(x, 3, stride=2)


class Block(nn.Module):
    """Branches side by side over one input, their outputs joined along the channels.

    Args:
        branches: name of the first step and the steps of each branch; a step is (name, Conv), and the last
            one may be a pair of them side by side.
        pool: the last branch: how it pools, and its (name, Conv) or None.
    """

    def __init__(
        self,
        branches: list[list[tuple[str, Conv] | list[tuple[str, Conv]]]],
        pool: tuple[Callable[[Tensor], Tensor], Conv | None],
    ) -> None:
        super().__init__()
        self._names: list[list[list[str]]] = []
        for branch in branches:
            steps = [step if isinstance(step, list) else [step] for step in branch]
            for name, conv in (pair for step in steps for pair in step):
                self.add_module(name, conv)
            self._names.append([[name for name, _ in step] for step in steps])
        self._pool, pooled = pool
        self._pooled = pooled is not None
        if pooled is not None:
            self.add_module("branch_pool", pooled)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C', H', W']."""
        outputs = []
        for branch in self._names:
            y = x
            for step in branch:
                y = torch.cat([self.get_submodule(name)(y) for name in step], 1)
            outputs.append(y)
        y = self._pool(x)
        outputs.append(self.get_submodule("branch_pool")(y) if self._pooled else y)
        return torch.cat(outputs, 1)


def _block_a(inputs: int, pooled: int) -> Block:
    return Block(
        [
            [("branch1x1", Conv(inputs, 64, 1))],
            [("branch5x5_1", Conv(inputs, 48, 1)), ("branch5x5_2", Conv(48, 64, 5, padding=2))],
            [("branch3x3dbl_1", Conv(inputs, 64, 1)), ("branch3x3dbl_2", Conv(64, 96, 3, padding=1)),
             ("branch3x3dbl_3", Conv(96, 96, 3, padding=1))],
        ],
        (_average, Conv(inputs, pooled, 1)),
    )  # fmt: skip


def _block_b(inputs: int) -> Block:
    return Block(
        [
            [("branch3x3", Conv(inputs, 384, 3, stride=2))],
            [("branch3x3dbl_1", Conv(inputs, 64, 1)), ("branch3x3dbl_2", Conv(64, 96, 3, padding=1)),
             ("branch3x3dbl_3", Conv(96, 96, 3, stride=2))],
        ],
        (_shrink, None),
    )  # fmt: skip


def _block_c(inputs: int, c: int) -> Block:
    flat: dict = {"kernel": (1, 7), "padding": (0, 3)}
    tall: dict = {"kernel": (7, 1), "padding": (3, 0)}
    return Block(
        [
            [("branch1x1", Conv(inputs, 192, 1))],
            [("branch7x7_1", Conv(inputs, c, 1)), ("branch7x7_2", Conv(c, c, **flat)),
             ("branch7x7_3", Conv(c, 192, **tall))],
            [("branch7x7dbl_1", Conv(inputs, c, 1)), ("branch7x7dbl_2", Conv(c, c, **tall)),
             ("branch7x7dbl_3", Conv(c, c, **flat)), ("branch7x7dbl_4", Conv(c, c, **tall)),
             ("branch7x7dbl_5", Conv(c, 192, **flat))],
        ],
        (_average, Conv(inputs, 192, 1)),
    )  # fmt: skip


def _block_d(inputs: int) -> Block:
    return Block(
        [
            [("branch3x3_1", Conv(inputs, 192, 1)), ("branch3x3_2", Conv(192, 320, 3, stride=2))],
            [("branch7x7x3_1", Conv(inputs, 192, 1)),
             ("branch7x7x3_2", Conv(192, 192, (1, 7), padding=(0, 3))),
             ("branch7x7x3_3", Conv(192, 192, (7, 1), padding=(3, 0))),
             ("branch7x7x3_4", Conv(192, 192, 3, stride=2))],
        ],
        (_shrink, None),
    )  # fmt: skip


def _block_e(inputs: int, pool: Callable[[Tensor], Tensor]) -> Block:
    def fork(name: str) -> list[tuple[str, Conv]]:
        return [
            (name + "a", Conv(384, 384, (1, 3), padding=(0, 1))),
            (name + "b", Conv(384, 384, (3, 1), padding=(1, 0))),
        ]

    return Block(
        [
            [("branch1x1", Conv(inputs, 320, 1))],
            [("branch3x3_1", Conv(inputs, 384, 1)), fork("branch3x3_2")],
            [("branch3x3dbl_1", Conv(inputs, 448, 1)), ("branch3x3dbl_2", Conv(448, 384, 3, padding=1)),
             fork("branch3x3dbl_3")],
        ],
        (pool, Conv(inputs, 192, 1)),
    )  # fmt: skip


class Inception(nn.Module):
    """[N, 3, 299, 299] in [-1, 1] -> [N, 2048]."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Conv(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = Conv(32, 32, 3)
        self.Conv2d_2b_3x3 = Conv(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = Conv(64, 80, 1)
        self.Conv2d_4a_3x3 = Conv(80, 192, 3)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = _block_a(192, 32), _block_a(256, 64), _block_a(288, 64)
        self.Mixed_6a = _block_b(288)
        self.Mixed_6b, self.Mixed_6c = _block_c(768, 128), _block_c(768, 160)
        self.Mixed_6d, self.Mixed_6e = _block_c(768, 160), _block_c(768, 192)
        self.Mixed_7a = _block_d(768)
        self.Mixed_7b, self.Mixed_7c = _block_e(1280, _average), _block_e(2048, _maximum)

    def forward(self, x: Tensor) -> Tensor:
        """The pooled features."""
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(_shrink(x)))
        x = _shrink(x)
        for name in ["5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c"]:
            x = self.get_submodule(f"Mixed_{name}")(x)
        return x.mean((2, 3))


class InceptionFeatures:
    """FID's features of single frames.

    Args:
        weights: folder with `pt_inception-2015-12-05-6726825d.pth`; without it torch's cache.

    Raises:
        MissingBackend: the file is nowhere.
        FileProblem: it is damaged or something else.
    """

    def __init__(self, weights: Path | None = None) -> None:
        self.path = find(INCEPTION, weights)
        self._network = Inception()
        fill(self._network, load(INCEPTION, self.path), INCEPTION, self.path)

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """[2048] float32 features of a uint8 [H, W, 3] frame, scaled bilinearly to 299 pixels a side."""
        pixels = torch.from_numpy(np.ascontiguousarray(frame)).permute(2, 0, 1)[None].float() / 255.0
        with torch.no_grad():
            scaled = functional.interpolate(pixels, (SIDE, SIDE), mode="bilinear", align_corners=False)
            return np.asarray(self._network(2 * scaled - 1)[0])


def frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) of the Gaussians fitted to both (Heusel et al. 2017).

    With centred rows X1, X2, C = X^T X / (N - 1), and the trace of the root is the sum of the singular values
    of X1 X2^T over sqrt((N - 1)(M - 1)): no matrix root, and nothing added to singular covariances, which
    every set with fewer rows than features has.

    Args:
        first: [N, D] float, N >= 2.
        second: [M, D] float, M >= 2.

    Raises:
        ValueError: fewer than two rows, another number of features, or values that are not finite.

    Example:
        >>> x = np.array([[0.0], [2.0]])
        >>> frechet_distance(x, x + 3)
        9.0
    """
    for name, values in (("first", first), ("second", second)):
        if values.ndim != 2 or len(values) < FEWEST or values.shape[1] != first.shape[1]:
            raise ValueError(
                f"{name}: expected at least {FEWEST} rows of {first.shape[-1]} features, "
                f"got {list(values.shape)}"
            )
        if not np.isfinite(values).all():
            raise ValueError(f"{name}: expected finite features")
    a, b = first.astype(np.float64), second.astype(np.float64)
    x, y = a - a.mean(0), b - b.mean(0)
    traces = (x**2).sum() / (len(x) - 1) + (y**2).sum() / (len(y) - 1)
    roots = np.linalg.svd(x @ y.T, compute_uv=False).sum() / np.sqrt((len(x) - 1) * (len(y) - 1))
    return float(max(0.0, ((a.mean(0) - b.mean(0)) ** 2).sum() + traces - 2 * roots))
