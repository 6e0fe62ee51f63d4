"""What a training step makes the host do: where it waits for the device, and how many operations it issues.

Without a GPU a shadow stands in for one: tensors that would be on the device are followed through everything
    that is made of them, and whatever would wait for the device is written down.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fields import field_of, seeded
from nldf_engine.audio import FrontendConfig
from nldf_engine.datasets.dataset import Dataset
from nldf_engine.nn.planes import PlanesModule
from nldf_engine.rendering import fields
from nldf_engine.rendering.heads import RayHead
from nldf_engine.rendering.portrait import Portrait
from nldf_engine.systems.common import torso_layer
from nldf_engine.systems.common.conditions import ConditionConfig
from nldf_engine.systems.common.torso_layer import TorsoLayer
from nldf_engine.systems.nldf.objective import LightFieldObjective
from nldf_engine.training import find_preset
from nldf_engine.training.optimizer import TableAdam
from nldf_engine.training.scene import RayScene
from nldf_engine.training.targets import HeadTarget
from nldf_engine.training.trainer import BETAS, parameter_groups

# What waits for a device's results, and what makes tensors of a size that only the device knows.
WAITS = {
    "item", "tolist", "numpy", "cpu", "nonzero", "unique", "masked_select", "argwhere", "repeat_interleave",
    "__bool__", "__float__", "__int__", "__index__", "is_nonzero", "equal", "allclose",
}  # fmt: skip


MOTION, UPPER = 8, 4


class Shadow(TorchFunctionMode):
    """Follows tensors of a device that is not there: those that it was given, and all that is made of one.

    Args:
        tensors: on the device from the beginning.

    Attributes:
        waits: what would have waited for the device, by name.
    """

    def __init__(self, tensors: list[Tensor]) -> None:
        super().__init__()
        self._on = weakref.WeakValueDictionary({id(tensor): tensor for tensor in tensors})
        self.waits: Counter[str] = Counter()

    def on_device(self, value: Any) -> bool:
        return isinstance(value, Tensor) and self._on.get(id(value)) is value

    def __torch_function__(self, called: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(called, "__name__", str(called))
        leaves = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        mine = [leaf for leaf in leaves if self.on_device(leaf)]
        if mine and name in WAITS:
            self.waits[name] += 1
        if mine and name == "__getitem__" and any(
            leaf.dtype == torch.bool for leaf in tree_leaves(args[1]) if isinstance(leaf, Tensor)
        ):  # fmt: skip
            self.waits["a mask as an index"] += 1
        made = called(*args, **kwargs)
        # On the CPU `to` gives back what it was given: a view stands for the copy on the device.
        sent = name == "to" and any(isinstance(leaf, torch.device) for leaf in tree_leaves((args, kwargs)))
        if sent and isinstance(made, Tensor):
            made = made.view_as(made) if made is args[0] else made
        if name == "cpu":
            return made.view_as(made)
        if mine or sent:
            for leaf in tree_leaves(made):
                if isinstance(leaf, Tensor):
                    self._on[id(leaf)] = leaf
        return made


class Operations(TorchDispatchMode):
    """Counts torch's operations but views, which launch nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not operation.is_view:
            self.seen[str(operation)] += 1
        return operation(*args, **(kwargs or {}))


@pytest.fixture
def on_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chooses what a GPU would: masks in place of choices, where a network is not one operation."""
    for module in (fields, torso_layer):
        monkeypatch.setattr(module, "masks", lambda device: True)


@pytest.fixture(scope="module")
def scene(synthetic_dataset: Dataset) -> RayScene:
    torch.manual_seed(0)
    made = RayScene(synthetic_dataset, 32, FrontendConfig(), torch.device("cpu"), learned_torso=True)
    made.set_track("motion", torch.randn(len(made.poses), MOTION))
    made.set_track("upper", torch.randn(len(made.poses), UPPER))
    return made


def prepared(scene: RayScene) -> tuple[LightFieldObjective, TableAdam]:
    """nldf-fast's loss with its torso layer, and the optimiser."""
    torch.manual_seed(0)
    preset, torso = find_preset("nldf-fast-tiny"), TorsoLayer()
    field = field_of(preset, scene.bounds, ConditionConfig(motion=MOTION, upper=UPPER))
    target = HeadTarget(Portrait(RayHead(field, scene.region), torso), scene)
    torso.calibrate(scene.torso, scene.poses[scene.fit], scene.motions[scene.fit])
    objective = LightFieldObjective(target, preset.recipe, None, torso)
    groups = parameter_groups(target.portrait, [objective], preset.recipe)
    return objective, TableAdam(groups, preset.recipe.learning_rate, BETAS)


def step(objective: LightFieldObjective, optimizer: TableAdam, generator: torch.Generator) -> Tensor:
    """As `Trainer.step`."""
    loss = objective(generator)
    optimizer.zero_grad(set_to_none=True)
    loss.total.backward()
    optimizer.step()
    return loss.total.detach()


def device_tensors(objective: LightFieldObjective) -> list[Tensor]:
    """What a run keeps on its device."""
    modules: list[nn.Module] = [objective, objective.target.portrait]
    kept = [t for module in modules for t in (*module.parameters(), *module.buffers())]
    return [*kept, *objective.scene.conditions.tracks.values()]


def test_a_step_waits_for_nothing(scene, on_gpu):
    """From the draw to the optimiser, no step asks the device for a number, a size or a tensor."""
    objective, optimizer = prepared(scene)
    generator = seeded()
    with Shadow(device_tensors(objective)) as shadow:
        for _ in range(3):
            step(objective, optimizer, generator)
    assert not shadow.waits


def test_the_shadow_sees_what_waits(scene, monkeypatch):
    """Layers on the CPU, where rays are chosen, are seen to wait, as are single numbers and masks."""
    monkeypatch.setattr(PlanesModule, "trains_fused", lambda *_: False)
    objective, optimizer = prepared(scene)
    with Shadow(device_tensors(objective)) as shadow:
        step(objective, optimizer, seeded())
    assert shadow.waits["nonzero"] >= 2
    with Shadow([]) as shadow:
        sent = torch.arange(4.0).to(torch.device("cpu"))
        float(sent.sum()), (2 * sent).tolist(), sent[sent > 1]
        float(torch.arange(4.0).sum())
    assert shadow.waits == {"__float__": 1, "tolist": 1, "a mask as an index": 1}


def test_masks_give_the_choice_s_loss(scene, on_gpu):
    """Evaluating every ray and masking gives loss and gradients of evaluating those that were chosen."""
    losses, gradients = [], []
    for mask in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(PlanesModule, "trains_fused", lambda *_: False)
            for module in (fields, torso_layer):
                patch.setattr(module, "masks", lambda device, mask=mask: mask)
            objective, _ = prepared(scene)
            total = objective(seeded()).total
            total.backward()
            losses.append(total.detach())
            gradients.append([p.grad for p in objective.parameters() if p.grad is not None])
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-5, atol=1e-7)
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-6)


def operations(scene: RayScene, of: Callable[[], object]) -> Counter[str]:
    with Operations() as counted:
        of()
    return counted.seen


MOST_OPERATIONS = 90


def test_a_step_s_operations_are_counted(scene, on_gpu):
    """A step issues no more operations than it did: each is a launch on a GPU, or work of the host."""
    objective, optimizer = prepared(scene)
    generator = seeded()
    step(objective, optimizer, generator)
    seen = operations(scene, lambda: step(objective, optimizer, generator))
    assert sum(seen.values()) <= MOST_OPERATIONS, seen.most_common()


@pytest.mark.parametrize("name", ["motions", "poses"])
def test_a_track_that_is_moved_is_followed(synthetic_dataset: Dataset, name: str) -> None:
    """What is worked out once for a video is worked out again where a refinement moves its frames."""
    scene = RayScene(synthetic_dataset, 32, FrontendConfig(), torch.device("cpu"), learned_torso=True)
    scene.set_track("motion", torch.zeros(len(scene.poses), MOTION))
    scene.set_track("upper", torch.zeros(len(scene.poses), UPPER))
    scene.poses = scene.poses.clone()
    objective, _ = prepared(scene)
    torso = objective.loss.torso
    assert torso is not None
    before = objective.loss._torso_frames(torso)
    assert objective.loss._torso_frames(torso) is before
    getattr(scene, name)[3, 0, -1] += 0.01
    after, wanted = objective.loss._torso_frames(torso), torso.frames_of(scene.motions, scene.poses)
    assert torch.equal(after.inputs, wanted.inputs) and torch.equal(after.to_lines, wanted.to_lines)
    assert not torch.equal(after.inputs, before.inputs)
