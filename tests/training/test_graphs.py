"""training.graphs: recorded steps are the steps that were recorded, whatever happens between two of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cuda_graphs import Graph, Stream, place, stand_in
from nldf_engine.datasets.dataset import Dataset
from nldf_engine.synthetic import SyntheticConfig, make_synthetic_dataset
from nldf_engine.systems.nldf.objective import LightFieldObjective
from nldf_engine.training import TrainConfig, train
from nldf_engine.training import graphs as graphs_module
from nldf_engine.training import trainer as trainer_module
from nldf_engine.training.graphs import MOST_KINDS, WARM_UP, StepGraphs
from nldf_engine.training.objective import StepLoss
from nldf_engine.training.trainer import Trainer

CPU = torch.device("cpu")
STEPS = 24
# Patches from the middle on, and validation on the way: two kinds of steps.
SHARP = {
    "sharpening.weight": "0.05", "sharpening.side": "32", "sharpening.patches": "2",
    "sharpening.begin": "0.5", "final_share": "0.25", "rays": "256", "speech_steps": "5", "spread": "off",
}  # fmt: skip


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Graph]:
    """The graphs that a run records."""
    monkeypatch.setattr(trainer_module, "recordable", lambda device: True)
    return stand_in(monkeypatch)


def places(*tensors: Iterable[Tensor]) -> set[int]:
    return {place(tensor) for several in tensors for tensor in several}


def check_reads(trainer: Trainer) -> None:
    """Graphs read what is trained where it is now, rates and counts included, and else only what a run keeps
    on its device and what a step was given: nothing of the CPU's."""
    optimizer = trainer.optimizer
    assert trainer.graphs is not None
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    counts = [value for parameter in trained for value in optimizer.state[parameter].values()]
    numbers = places(trained, counts, [group["lr"] for group in optimizer.param_groups])
    kept = places(trainer.network.buffers())
    for subject, objective in zip(trainer.subjects, trainer.objectives, strict=True):
        assert isinstance(objective, LightFieldObjective)
        frames = vars(objective.loss._kept[1]).values() if objective.loss._kept else []
        videos = [subject.scene.intrinsics, *subject.scene.conditions.tracks.values()]
        kept |= places(objective.buffers(), objective.parameters(), frames, videos)
    kinds = trainer.graphs._kinds.values()
    # What one speaker alone has, only the steps of that speaker train.
    alone = len(trainer.subjects) == 1
    assert numbers <= set[int]().union(
        *(kind.graph.outside for kind in kinds if isinstance(kind.graph, Graph))
    )
    for kind in kinds:
        assert isinstance(kind.graph, Graph) and (not alone or numbers <= set(kind.graph.outside))
        known = numbers | kept | places(kind.given.values())
        assert not {use for place, use in kind.graph.outside.items() if place not in known}


@pytest.fixture
def trainers(monkeypatch: pytest.MonkeyPatch) -> list[Trainer]:
    """The trainers of a run."""
    seen: list[Trainer] = []
    run = Trainer.run

    def noted(self: Trainer, label: str) -> None:
        seen.append(self)
        run(self, label)
        if self.graphs is not None and self.graphs.replayed:
            check_reads(self)

    monkeypatch.setattr(Trainer, "run", noted)
    return seen


def course(dataset: Dataset, folder: Path, **settings: Any) -> tuple[list[dict[str, float]], bytes]:
    """History and avatar of a run."""
    config = TrainConfig(steps=STEPS, overrides=SHARP, device="cpu", **settings)
    result = train("nldf-fast-tiny", dataset.path, folder / "me", config)
    history = [{name: v for name, v in row.items() if name != "seconds"} for row in result.history]
    return history, (result.avatar / "model.safetensors").read_bytes()


def test_a_run_is_the_same_with_graphs(synthetic_dataset, tmp_path, made, trainers, monkeypatch) -> None:
    """Losses, validation and avatar are those of steps that run as usual, bit by bit, through a change of the
    kind of steps, validation and the final phase; and those of a run without graphs, but for rounding."""
    recorded = course(synthetic_dataset, tmp_path / "recorded")
    assert [graph.replays for graph in made] == [STEPS // 2 - WARM_UP] * 2
    assert trainers[0].graphs is not None and trainers[0].graphs.replayed == STEPS - 2 * WARM_UP
    monkeypatch.setattr(graphs_module, "WARM_UP", STEPS)
    assert course(synthetic_dataset, tmp_path / "usual") == recorded
    plain = course(synthetic_dataset, tmp_path / "plain", graphs=False)[0]
    assert trainers[2].graphs is None and len(made) == 2
    assert [row["step"] for row in plain] == [row["step"] for row in recorded[0]]
    for ours, theirs in zip(recorded[0], plain, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3)


def halfway(
    dataset: Dataset, folder: Path, monkeypatch: pytest.MonkeyPatch, between: Callable[[Trainer], None]
) -> Any:
    """Weights and moments of a run that something happens to before its 9th step."""
    seen: list[Trainer] = []

    def steps(self: Trainer, label: str) -> None:
        seen.append(self)
        for number in range(16):
            if number == 8:
                between(self)
            self.step()

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "run", steps)
        train(
            "nldf-fast-tiny",
            dataset.path,
            folder / "me",
            TrainConfig(steps=48, overrides=SHARP, device="cpu"),
        )
    (trainer,) = seen
    state = trainer.optimizer.state_dict()["state"]
    moments = [entry[name] for _, entry in sorted(state.items()) for name in sorted(entry)]
    return [*trainer.network.state_dict().values(), *moments]


def test_a_run_goes_on_from_its_checkpoint(synthetic_dataset, tmp_path, made, monkeypatch) -> None:
    """A checkpoint between two replays is that of a run without them; what is restored is recorded anew."""

    def again(trainer: Trainer) -> None:
        trainer.folder.mkdir(parents=True, exist_ok=True)
        trainer.save()
        for _ in range(5):
            trainer.step()
        trainer.resume()

    straight = halfway(synthetic_dataset, tmp_path / "straight", monkeypatch, lambda trainer: None)
    resumed = halfway(synthetic_dataset, tmp_path / "resumed", monkeypatch, again)
    assert [graph.replays for graph in made] == [13, 10, 5]
    assert all(torch.equal(a, b) for a, b in zip(straight, resumed, strict=True))


def test_what_cannot_be_recorded_runs_as_usual(
    synthetic_dataset, tmp_path, made, trainers, monkeypatch, capsys
) -> None:
    """A step that waits for the device is no graph's: the reason is said once, and the run is the same."""
    whole = LightFieldObjective.loss_of

    def waits(self: LightFieldObjective, inputs: Any) -> StepLoss:
        loss = whole(self, inputs)
        assert float(loss.total.detach()) > 0
        return loss

    monkeypatch.setattr(LightFieldObjective, "loss_of", waits)
    found = course(synthetic_dataset, tmp_path / "waits")
    said = capsys.readouterr().err
    assert (
        said.count("steps are not replayed as CUDA graphs, which would be faster: operation not permit") == 1
    )
    assert trainers[0].graphs is not None and trainers[0].graphs.replayed == 0 and not made[0].replays
    assert len(Stream.current) == 1
    monkeypatch.setattr(LightFieldObjective, "loss_of", whole)
    assert course(synthetic_dataset, tmp_path / "usual") == found


def test_steps_that_are_not_divided_say_why(synthetic_dataset, tmp_path, made, trainers, capsys) -> None:
    """The pool of hard rays reads losses on the CPU: its steps run as usual, and standard error says why."""
    config = TrainConfig(steps=4, overrides={**SHARP, "pool.on": "on", "torso": "plate"}, device="cpu")
    train("nldf-fast-tiny", synthetic_dataset.path, tmp_path / "me", config)
    assert "CUDA graphs: the active pool reads every step's losses" in capsys.readouterr().err
    assert trainers[0].graphs is None and not made


def doubled(seen: list[Any]) -> Callable[[int, Any], dict[str, Tensor]]:
    """A step that counts its calls and adds what it is given to a tensor."""
    total = torch.zeros(2)
    seen.append(total)

    def step(number: int, given: Any) -> dict[str, Tensor]:
        seen.append(number)
        total.add_(given["x"].sum() * (number + 1))
        return {"twice": 2 * given["x"]}

    return step


def test_a_replay_reads_where_the_recording_read(made) -> None:
    """Values are copied to the same place; Python runs for the first steps alone; readers of what has changed
    learn of it."""
    seen: list[Any] = []
    step = doubled(seen)
    total = seen.pop()
    graphs = StepGraphs(step, [total], torch.no_grad, CPU)
    for turn in range(12):
        version = total._version
        found = graphs(0, {"x": torch.full((2,), float(turn))})
        assert found["twice"].tolist() == [2.0 * turn] * 2 and total._version > version
        assert total.tolist() == [turn * (turn + 1.0)] * 2
    assert len(seen) == WARM_UP + 1 and graphs.replayed == made[0].replays == 12 - WARM_UP
    (
        graphs(1, {"x": torch.ones(2)}),
        graphs(0, {"x": torch.ones(2, 3)}),
        graphs(0, {"x": torch.ones(2).double()}),
    )
    assert len(seen) == WARM_UP + 4 and len(made) == 1
    graphs.forget()
    graphs(0, {"x": torch.ones(2)})
    assert len(seen) == WARM_UP + 5


def test_graphs_share_their_memory(made) -> None:
    """One replay overwrites what another has made, which is told from what was copied in time; once all are
    forgotten, the next ones share another pool."""
    graphs = StepGraphs(doubled([]), [], torch.no_grad, CPU)
    for number in (0, 1):
        for _ in range(WARM_UP + 1):
            graphs(number, {"x": torch.ones(2)})
    kept = graphs(0, {"x": torch.ones(2)})["twice"]
    copied = kept.clone()
    assert kept.tolist() == [2, 2]
    assert graphs(1, {"x": 2 * torch.ones(2)})["twice"].tolist() == [4, 4]
    assert kept.isnan().all() and copied.tolist() == [2, 2]
    assert graphs(0, {"x": 3 * torch.ones(2)})["twice"].tolist() == [6, 6]
    assert len(made) == 2 and made[0].pool() is made[1].pool()
    graphs.forget()
    for _ in range(WARM_UP + 1):
        graphs(0, {"x": torch.ones(2)})
    assert made[2].pool() is not made[0].pool()


def test_speakers_take_turns(synthetic_dataset, tmp_path, made, trainers, monkeypatch) -> None:
    """Kinds of steps that alternate by chance, in memory that they share: a run is that of usual steps."""
    other = make_synthetic_dataset(
        tmp_path / "other", SyntheticConfig(seconds=2.0, size=64, seed=2, audio_frontend="mel")
    )
    overrides = {**SHARP, "sharpening.weight": "0", "final_share": "0", "rays": "128"}
    config = TrainConfig(steps=20, overrides=overrides, device="cpu")

    def course_of_two(name: str) -> Any:
        result = train("nldf-fast-tiny", [synthetic_dataset.path, other.path], tmp_path / name, config)
        rows = [{name: v for name, v in row.items() if name != "seconds"} for row in result.history]
        return rows, [(avatar / "model.safetensors").read_bytes() for avatar in result.avatars]

    recorded = course_of_two("recorded")
    assert len(made) == 2 and min(graph.replays for graph in made) > 2
    assert made[0].pool() is made[1].pool() and trainers[0].graphs is not None
    monkeypatch.setattr(graphs_module, "WARM_UP", 20)
    assert course_of_two("usual") == recorded and len(made) == 2


def test_sizes_that_change_all_the_time_are_not_recorded(made, capsys) -> None:
    """Beyond so many kinds of steps the next ones run as usual; those that were recorded go on."""
    seen: list[Any] = []
    step = doubled(seen)
    graphs = StepGraphs(step, [], torch.no_grad, CPU)
    for size in range(MOST_KINDS + 3):
        for _ in range(WARM_UP + 2):
            assert graphs(0, {"x": torch.ones(size)})["twice"].sum() == 2 * size
    assert len(made) == MOST_KINDS and graphs.replayed == 2 * MOST_KINDS
    assert capsys.readouterr().err.count("their sizes change") == 1
    graphs(0, {"x": torch.ones(3)})
    assert graphs.replayed == 2 * MOST_KINDS + 1
