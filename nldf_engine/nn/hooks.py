"""What is done to a module's state dictionary when it is saved and loaded, in every torch from 2.4 on.

torch 2.5 gave these hooks public names; before, the same ones had private names.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn


def on_save(module: nn.Module, hook: Callable[..., None]) -> None:
    """Calls `hook(module, state, prefix, metadata)` when the module's state has been collected."""
    public = getattr(module, "register_state_dict_post_hook", None)
    (public or module._register_state_dict_hook)(hook)


def on_load(module: nn.Module, hook: Callable[..., None]) -> None:
    """Calls `hook(module, state, prefix, *others)` before the module takes its tensors from a state."""
    public = getattr(module, "register_load_state_dict_pre_hook", None)
    if public is not None:
        public(hook)
    else:
        module._register_load_state_dict_pre_hook(hook, with_module=True)
