"""Checkpoints of other programs, as `torch.save` writes them, read as plain data: nothing in them is run.

A file may hold tensors, numbers, text, and lists and dictionaries of these. Whatever else it names is refused
before anything is built of it.
"""

from __future__ import annotations

import codecs
import pickle
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nldf_engine.base.errors import FileProblem
from nldf_engine.base.files import sha256

# Single numbers that numpy made, as metrics in a log: data, but by names of their own.
_NUMBERS: list[Any] = [
    np.float64(0).__reduce__()[0], np.dtype, *(type(np.dtype(name)) for name in ("f8", "f4", "i8"))
]  # fmt: skip
_ADDING = threading.Lock()


def read_checkpoint_file(path: str | Path, remedy: str) -> dict[Any, Any]:
    """What a checkpoint holds.

    Args:
        path: the file.
        remedy: what to do where it can't be used, for messages.

    Raises:
        FileProblem: it is missing or damaged, would run code, or holds no dictionary.
    """
    path = Path(path)
    if not path.is_file():
        raise FileProblem(path, "there is no such file", remedy)
    try:
        with warnings.catch_warnings(), _numbers_allowed():
            warnings.simplefilter("ignore", UserWarning)  # about pickles that are refused in any case
            value = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        what = _first_line(error)
        raise FileProblem(
            path, f"it is refused: it holds more than tensors and numbers, or is damaged ({what})", remedy
        ) from error
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise FileProblem(path, f"it can't be read ({_first_line(error)})", remedy) from error
    if not isinstance(value, dict):
        raise FileProblem(path, f"it holds a {type(value).__name__}, and no checkpoint", remedy)
    return value


@contextmanager
def _numbers_allowed() -> Iterator[None]:
    """Lets numpy's numbers be read for a while."""
    known = torch.serialization
    if hasattr(known, "safe_globals"):
        with known.safe_globals(_NUMBERS):
            yield
        return
    with _ADDING:
        before = known.get_safe_globals()  # torch 2.4 adds to what holds everywhere, and knows no bytes
        known.add_safe_globals([*_NUMBERS, codecs.encode])
        try:
            yield
        finally:
            known.clear_safe_globals()
            known.add_safe_globals(before)


def take_network(path: Path, value: Mapping[Any, Any], name: str, remedy: str) -> dict[str, Tensor]:
    """The tensors of the network `name` in a checkpoint's `value`, float32, by their names.

    Tensors of whole numbers, which count or index, are left out.

    Raises:
        FileProblem: there is no such network, or it holds anything but finite numbers.
    """
    state = value.get(name)
    if not isinstance(state, Mapping) or not all(
        isinstance(key, str) and isinstance(item, Tensor) for key, item in state.items()
    ):
        held = ", ".join(sorted(map(str, value))[:8]) or "nothing"
        raise FileProblem(path, f"it holds no {name}; it holds {held}", remedy)
    for key, item in state.items():
        if item.is_complex() or not bool(torch.isfinite(item).all()):
            raise FileProblem(path, f"{name}: {key} holds NaN, infinity or no real numbers", remedy)
    return {key: item.float() for key, item in state.items() if item.is_floating_point()}


def take_step(value: Mapping[Any, Any]) -> int:
    """`global_step` of a checkpoint's `value`; 0 where it says none."""
    step = value.get("global_step", 0)
    return step if isinstance(step, int) and not isinstance(step, bool) else 0


def described(path: Path, step: int) -> dict[str, Any]:
    """What an avatar's provenance says of a checkpoint: the file's name, its SHA-256, and its step."""
    return {"file": path.name, "sha256": sha256(path), "step": step}


def optimizer_stepped(path: Path, value: Mapping[Any, Any], name: str, remedy: str) -> bool:
    """Whether the optimiser `name` of a checkpoint's `value` has taken a step, or is not in it.

    An optimiser's state is empty until its first step: a network whose optimiser never stepped is as it was
    initialised, whatever the checkpoint's own step says.

    Raises:
        FileProblem: what stands there is no optimiser's state.
    """
    if name not in value:
        return True
    optimizer = value[name]
    state = optimizer.get("state") if isinstance(optimizer, Mapping) else None
    if not isinstance(state, Mapping):
        raise FileProblem(path, f"its {name} holds no state, and is no optimiser's", remedy)
    return bool(state)


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    lines = [line.strip() for line in text.splitlines() if "Unsupported" in line or "GLOBAL" in line]
    return (lines or text.splitlines())[0][:200]
