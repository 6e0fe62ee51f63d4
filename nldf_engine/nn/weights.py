"""Finding and loading the public weights of other people's metrics; never downloading them.

A metric whose weights are missing is null, with the reason: nothing replaces it. Small weights come with the
package (`WeightAsset`).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nldf_engine.base.assets import load_tensors
from nldf_engine.base.errors import FileProblem, MissingBackend

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class WeightFile:
    """A public file of weights.

    Args:
        name: what the file is called.
        what: what it holds, for messages.
        source: where it comes from.
        package: a package that brings it along, as (package, path inside), or None.
    """

    name: str
    what: str
    source: str
    package: tuple[str, str] | None = None


@dataclass(frozen=True)
class WeightAsset:
    """Weights that come with the package, as safetensors.

    Args:
        path: the file.
        sha256: hexadecimal SHA-256 of what was shipped.
    """

    path: Path
    sha256: str

    def load(self) -> dict[str, Tensor]:
        """The tensors, once the file is known to be the shipped one.

        Raises:
            FileProblem: it is missing, or not the file that was shipped.
        """
        return load_tensors(self.path, self.sha256)[0]


ALEXNET = WeightFile(
    "alexnet-owt-7be5be79.pth", "AlexNet's weights", "download.pytorch.org/models/alexnet-owt-7be5be79.pth"
)
VGG16 = WeightFile("vgg16-397923af.pth", "VGG16's weights", "download.pytorch.org/models/vgg16-397923af.pth")
LPIPS_HEADS = {
    net: WeightFile(
        f"lpips_{net}.pth",
        f"LPIPS's linear heads for {net}",
        f"the lpips package: pip install --no-deps lpips, or its weights/v0.1/{net}.pth",
        ("lpips", f"weights/v0.1/{net}.pth"),
    )
    for net in ("alex", "vgg")
}
INCEPTION = WeightFile(
    "pt_inception-2015-12-05-6726825d.pth",
    "FID's Inception weights",
    "the releases of github.com/mseitzer/pytorch-fid",
)
SYNCNET = WeightFile(
    "syncnet_v2.model", "SyncNet's weights", "www.robots.ox.ac.uk/~vgg/software/lipsync/data/syncnet_v2.model"
)


def find(file: WeightFile, folder: Path | None) -> Path:
    """The file in `folder`, else in torch's cache, else in the package that brings it.

    Raises:
        MissingBackend: it is in none of them.
        FileProblem: `folder` is given and is no folder.
    """
    import torch

    if folder is not None and not folder.is_dir():
        raise FileProblem(folder, "there is no such folder", "name the folder that holds the weight files")
    places = [Path(torch.hub.get_dir()) / "checkpoints" / file.name]
    if folder is not None:
        places.insert(0, folder / file.name)
    if file.package is not None:
        found = importlib.util.find_spec(file.package[0])  # without importing it
        if found is not None and found.submodule_search_locations:
            places.append(Path(found.submodule_search_locations[0]) / file.package[1])
    for place in places:
        if place.is_file():
            return place
    raise MissingBackend(
        f"{file.what} ({file.name}) are not in {' or '.join(str(place.parent) for place in places)}",
        f"save them there, from {file.source}",
    )


def load(file: WeightFile, path: Path) -> dict[str, Tensor]:
    """The tensors of a weight file, read with `weights_only`.

    Raises:
        FileProblem: it is damaged, or holds anything but named tensors.
    """
    import torch

    remedy = f"save it again, from {file.source}"
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises what it likes: pickle, zip, runtime and value errors
        raise FileProblem(path, f"it does not hold {file.what} ({_first_line(error)})", remedy) from error
    if not isinstance(state, Mapping) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise FileProblem(path, f"it does not hold {file.what} (no table of tensors)", remedy)
    return dict(state)


def fill(module: nn.Module, state: Mapping[str, Tensor], file: WeightFile, path: Path) -> None:
    """Fills every parameter and buffer of `module` from `state`; what else `state` holds is left.

    Raises:
        FileProblem: one is missing or has another shape.
    """
    wanted = module.state_dict()
    chosen = {}
    for name, tensor in wanted.items():
        if name.endswith("num_batches_tracked") and name not in state:
            chosen[name] = tensor
            continue
        came = state.get(name)
        if came is None or came.shape != tensor.shape:
            said = "is missing" if came is None else f"has the shape {list(came.shape)}"
            raise FileProblem(
                path,
                f"it does not hold {file.what} ({name} {said}, expected {list(tensor.shape)})",
                f"save it again, from {file.source}",
            )
        chosen[name] = came.to(tensor.dtype)
    module.load_state_dict(chosen)
    module.eval().requires_grad_(False)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
