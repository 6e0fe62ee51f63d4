"""Makes nldf_engine/assets/lpips/alex.safetensors: LPIPS's AlexNet and its linear heads, in half precision.

    python scripts/lpips_asset.py FOLDER

FOLDER holds `alexnet-owt-7be5be79.pth` (torchvision's; the convolutions are taken) and `lpips_alex.pth` (the
heads). It prints the SHA-256 that `ALEX_ASSET` in nldf_engine/nn/lpips.py states.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from safetensors.torch import save

from nldf_engine.base.files import atomic_path, sha256
from nldf_engine.nn.lpips import ALEX_ASSET
from nldf_engine.nn.weights import ALEXNET, LPIPS_HEADS, load


def half_weights(folder: Path) -> dict[str, torch.Tensor]:
    """The tensors of the asset, fp16, named as in the public files.

    Raises:
        FileProblem: a file is missing, damaged or something else.
    """
    files = (ALEXNET, LPIPS_HEADS["alex"])
    tensors = {name: value for file in files for name, value in load(file, folder / file.name).items()}
    return {
        name: value.half().contiguous()
        for name, value in sorted(tensors.items())
        if name.startswith(("features.", "lin"))
    }


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    with atomic_path(ALEX_ASSET.path) as temporary:
        temporary.write_bytes(save(half_weights(Path(sys.argv[1]))))
    print(ALEX_ASSET.path, sha256(ALEX_ASSET.path))
