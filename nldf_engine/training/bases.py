"""A base: networks that several speakers taught, in one file, for the run of a new speaker to begin with.

A run over several datasets writes one where its recipe has `uses_base`: everything that the speakers share,
and nothing that is one speaker's own, neither codes nor pictures. The file is safetensors with a header of
JSON; nothing in it is unpickled.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor, nn

from nldf_engine.audio import FrontendConfig
from nldf_engine.base.errors import FileProblem
from nldf_engine.base.files import atomic_path
from nldf_engine.base.json import read_back
from nldf_engine.rendering.fields import RayField

FORMAT, SCHEMA = "nldf-base", 1
NAME = "base.safetensors"
BUNDLED = "bundled"
TRAIN_ONE = "train one: nldf train PRESET DATASET DATASET ... -o BASE, then --base BASE"
# Far above any network here: a larger file is none.
LARGEST = 1 << 30
# Of the drivers' settings, what a driver by motion codes alone is not about.
OF_AUDIO = ("audio_dim", "audio_window", "speech")


@dataclass(frozen=True)
class Base:
    """What a base's file holds.

    Args:
        path: where it was read.
        sha256: of the file, hexadecimal.
        info: "system", "preset", "config" of the network, "audio" front-end, and "provenance".
        tensors: by their names in the network.
    """

    path: Path
    sha256: str
    info: dict[str, Any]
    tensors: dict[str, Tensor]

    def record(self) -> dict[str, Any]:
        """What a run's settings say of it."""
        return {"sha256": self.sha256, "trained_on": self.info["provenance"].get("trained_on")}

    def fill(self, network: RayField, own: Sequence[nn.Module], frontend: FrontendConfig) -> None:
        """Puts its weights into a network of the same kind.

        Args:
            network: of a new speaker; its own parts stay as they are.
            own: those parts.
            frontend: of the run.

        Raises:
            FileProblem: it is of another system, other sizes, or other audio features.
        """
        if self.info["system"] != network.system:
            self._refuse(
                f"it is a base of {self.info['system']!r}, and a network of {network.system!r} is trained"
            )
        ours, theirs = shared_config(network, frontend), self.info["config"]
        if ours != theirs:
            found = ", ".join(sorted(_differences(ours, theirs)))
            self._refuse(
                f"its network is another one than is trained ({found}); it was trained as "
                f"{self.info['preset']!r}"
            )
        state = shared_state(network, own)
        shapes = [{name: list(value.shape) for name, value in each.items()} for each in (state, self.tensors)]
        if shapes[0] != shapes[1]:
            odd = min(name for name in {*state, *self.tensors} if shapes[0].get(name) != shapes[1].get(name))
            self._refuse(f"{odd}: expected shape {shapes[0].get(odd)}, got {shapes[1].get(odd)}")
        with torch.no_grad():
            for name, value in state.items():
                value.copy_(self.tensors[name])

    def _refuse(self, what: str) -> None:
        remedy = (
            "begin from a base of this preset and front-end, train with its settings (--set), or without one"
        )
        raise FileProblem(self.path, what, remedy)


def shared_state(network: nn.Module, own: Sequence[nn.Module]) -> dict[str, Tensor]:
    """The tensors of a network by name, those of the modules `own` left out."""
    left = {id(value) for part in own for value in (*part.parameters(), *part.buffers())}
    every = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    return {name: value.detach() for name, value in every.items() if id(value) not in left}


def shared_config(network: RayField, frontend: FrontendConfig) -> dict[str, Any]:
    """What a base's weights depend on: the network's configuration without what is one speaker's, and the
    audio front-end where the network is driven by its features."""
    config = read_back(network.config)
    for name in network.own_settings:
        del config[name]
    if config["conditions"]["motion"]:
        for name in OF_AUDIO:
            del config["conditions"][name]
    else:
        config["audio"] = json.loads(json.dumps(frontend.to_json()))
    return config


def write_base(
    path: Path, network: RayField, own: Sequence[nn.Module], preset: str, frontend: FrontendConfig,
    provenance: dict[str, Any],
) -> None:  # fmt: skip
    """Writes what speakers share of a trained network, whole or not at all.

    Args:
        path: the file.
        network: of any of the speakers.
        own: its parts that are that speaker's.
        preset: what it was trained as.
        frontend: of the run.
        provenance: JSON; "trained_on" lists the datasets.

    Raises:
        FileProblem: it can't be written.
    """
    info = {
        "format": FORMAT, "schema": SCHEMA, "system": network.system, "preset": preset,
        "config": shared_config(network, frontend), "audio": frontend.to_json(), "provenance": provenance,
    }  # fmt: skip
    state = {name: value.cpu().contiguous() for name, value in shared_state(network, own).items()}
    with atomic_path(path) as temporary:
        save_file(state, temporary, metadata={"base": json.dumps(info)})


def find_base(given: str | Path) -> Path:
    """The file that is meant: a base, or the output folder of the run that made it.

    Raises:
        FileProblem: there is none.
    """
    path = Path(given)
    if path.is_file():
        return path
    made = path.with_name(f"{path.name}.training") / NAME if path.name else path / NAME
    if made.is_file():
        return made
    what = f"no base is beside it ({made})" if path.is_dir() else "there is no such base"
    raise FileProblem(path, what, TRAIN_ONE)


def read_base(path: Path) -> Base:
    """Reads and checks a base's file; whether it fits is for `Base.fill`.

    Raises:
        FileProblem: it is no base, damaged, or of a newer version.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise FileProblem(path, f"it is larger than {LARGEST >> 20} MB, so it is no base", TRAIN_ONE)
        content = path.read_bytes()
        # Not by `safe_open`, whose tensors change with the file.
        tensors = load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        info = json.loads(header.get("__metadata__", {}).get("base", "null"))
    except (SafetensorError, OSError, ValueError) as error:
        raise FileProblem(path, f"it is no readable base ({error})", TRAIN_ONE) from error
    if not isinstance(info, dict) or info.get("format") != FORMAT:
        raise FileProblem(path, f"its header does not say format {FORMAT!r}, so it is no base", TRAIN_ONE)
    if isinstance(info.get("schema"), int) and info["schema"] > SCHEMA:
        raise FileProblem(
            path, f"its schema is {info['schema']}, and this version reads up to {SCHEMA}",
            "upgrade nldf_engine",
        )  # fmt: skip
    kinds = {"system": str, "preset": str, "config": dict, "audio": dict, "provenance": dict}
    wrong = [name for name, kind in kinds.items() if not isinstance(info.get(name), kind)]
    if info.get("schema") != SCHEMA or wrong:
        odd = wrong[0] if wrong else "schema"
        raise FileProblem(path, f"its header can't be used ({odd} is {info.get(odd)!r})", TRAIN_ONE)
    for name, value in tensors.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise FileProblem(path, f"{name} holds NaN or infinity", TRAIN_ONE)
    return Base(path, hashlib.sha256(content).hexdigest(), info, tensors)


def _differences(ours: Any, theirs: Any, place: str = "config") -> list[str]:
    """`name: expected, got` of all values that differ."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return [
            line
            for name in sorted({*ours, *theirs})
            for line in _differences(ours.get(name), theirs.get(name), f"{place}.{name}")
        ]
    return [] if ours == theirs else [f"{place}: expected {ours}, got {theirs}"]
