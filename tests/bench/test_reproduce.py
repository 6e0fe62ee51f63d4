"""The papers' tables: they resolve at every scale, share cells, survive a stop, and mark what is noise."""

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.reproduce import lab as lab_module
from bench.reproduce.__main__ import main
from bench.reproduce.cells import SOME_BOUNDS
from bench.reproduce.lab import Lab
from bench.reproduce.markdown import page, table
from bench.reproduce.report import cells_of
from bench.reproduce.results import least_difference, mean, noise
from bench.reproduce.scales import CPU, PAPER, SCALES, TINY
from bench.reproduce.side_by_side import tasks_of
from bench.reproduce.tables import NAMES, TABLES, Row, differences
from bench.reproduce.tables.dfrf import SIZES, base, new_speaker
from bench.reproduce.trials import Trial
from nldf_engine.base.errors import FileProblem
from nldf_engine.base.files import read_json
from nldf_engine.datasets.dataset import Dataset
from nldf_engine.systems.common.conditions import ConditionConfig
from nldf_engine.systems.registry import build_field
from nldf_engine.training import presets
from nldf_engine.training.trainer import Trainer


@pytest.fixture(scope="module")
def finished(synthetic_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first two tables at the smallest scale, undisturbed."""
    folder = tmp_path_factory.mktemp("tables")
    assert main(["table1", "table2", *_flags(synthetic_dataset, folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def small_tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the tables of other papers, which share its synthetic speakers."""
    return tmp_path_factory.mktemp("others")


@pytest.mark.timeout(900)
def test_cells_side_by_side_are_those_of_one_process(
    synthetic_dataset: Dataset, finished: Path, tmp_path: Path
) -> None:
    """Trained by two processes at a time, the students after their teacher: the same weights and metrics."""
    assert main(["table1", *_flags(synthetic_dataset, tmp_path), "--workers", "2"]) == 0
    cells = sorted((tmp_path / "cells").glob("*/cell.json"))
    assert len(cells) == 3 and len(list((tmp_path / "batch" / "state").glob("*.json"))) == 3
    for path in cells:
        ours, alone = (read_json(folder / path.relative_to(tmp_path)) for folder in (tmp_path, finished))
        assert ours["validation_psnr"] == pytest.approx(alone["validation_psnr"], abs=0.05)
    lab = Lab(tmp_path, synthetic_dataset, TINY)
    assert tasks_of(lab, cells_of([TABLES["table1"](TINY)], 1), ()) == []
    tasks = tasks_of(
        Lab(tmp_path / "new", synthetic_dataset, TINY), cells_of([TABLES["table1"](TINY)], 2), ()
    )
    teacher = next(task for task in tasks if not task.needs and task.name.startswith("adnerf"))
    assert [task.needs for task in tasks].count((teacher.name,)) == 2 and len(tasks) == 5


def _flags(data: Dataset, folder: Path) -> list[str]:
    return ["--scale", "tiny", "--data", str(data.path), "-o", str(folder)]


@pytest.mark.parametrize("scale", SCALES.values(), ids=SCALES)
@pytest.mark.parametrize("name", TABLES)
def test_every_table_resolves_at_every_scale(name: str, scale: Any) -> None:
    """Each row has a network that its teacher fits, or the reason why there is none; steps lie in the run."""
    made = TABLES[name](scale)
    assert made.name == name and len({row.label for row in made.rows}) == len(made.rows)
    assert len({(row.cell.key(""), row.step) for row in made.rows}) == len(made.rows), "all rows differ"
    for row in made.rows:
        assert row.cell is not None and row.cell.summary and row.cell.work > 0
        if isinstance(row.cell, Trial):
            assert set(made.metrics) <= {*NAMES, "psnr_head", "psnr_mouth", "lpips"}
            continue
        config = row.cell.config()
        assert row.step is None or 1 <= row.step < row.cell.recipe.steps
        if row.cell.teacher is not None:
            taught = row.cell.teacher.config()
            assert taught.segments % config.segments == 0, "the student's segments are sums of the teacher's"


def test_the_paper_scale_is_the_papers() -> None:
    """88 x 256, 16 points, 4 segments, lambda 0.2, 4096 rays, 600k steps; table 2 looks at 25 to 100k."""
    cell = PAPER.learn()
    config = cell.config()
    assert (config.depth, config.width, config.points, config.segments) == (88, 256, 16, 4)
    recipe = cell.recipe
    assert (recipe.sampling.rays, recipe.sampling.face_share, recipe.steps) == (4096, 0.9, 600_000)
    assert recipe.distillation.on and recipe.distillation.segment_weight == 0.2
    assert [row.step for row in TABLES["table2"](PAPER).rows] == [25_000, 50_000, 100_000] * 2
    assert PAPER.depths == CPU.depths == (28, 50, 88) and differences(PAPER, TABLES) == [
        ("base's speakers", "3 videos of 60 s, real", "3 synthetic ones")
    ]
    assert [row.paper["lpips"] for row in TABLES["table3"](PAPER).rows] == [0.1076, 0.0996, 0.0926]
    network = build_field(cell.system, config)
    assert len(network.network.blocks) == 43 and network.network.tail.out_features == 3 * 4 + 1


def test_a_scale_says_in_what_it_differs() -> None:
    """What is smaller stands in the list, what is not in force doesn't."""
    said = {what: (paper, ours) for what, paper, ours in differences(CPU, ["table1"])}
    assert not any("DFRF" in what for what in said), "it says nothing of tables that are not made"
    more = {what: (paper, ours) for what, paper, ours in differences(CPU, TABLES)}
    assert more["DFRF: fusion.width"] == ("128", "16") and more["DFRF: steps"] == ("40000", "600")
    assert more["HeadNeRF: steps"] == ("800000", "800")
    assert more["Gaussian landmarks: stage 2: steps"] == ("100000", "250")
    assert said["student: width"] == ("256", "48") and said["student: steps"] == ("600000", "2000")
    assert "student: depth" not in said and "student: torso.steps" not in said
    assert said["student: sampling.rays"] == ("4096", "1024") and said["student: pool.batch"] == (
        "1024",
        "256",
    )
    assert "teacher: pool.batch" not in said and "teacher: driving.speech_steps" not in said


def test_tables_share_their_cells() -> None:
    """Tables 1 to 4 need five students, a DFRF, and one teacher, which comes before those whom it teaches."""
    cells = cells_of([TABLES[f"table{k}"](CPU) for k in (1, 2, 3, 4)], 1)
    assert len(cells) == 7 and [cell.system for cell in cells].count("adnerf") == 1
    assert all(cell.teacher is None or cells.index(cell.teacher) < place for place, cell in enumerate(cells))
    more = cells_of([TABLES["table1"](CPU)], 3)
    assert [cell.seed for cell in more if cell.system == "nldf"] == [0, 0, 1, 1, 2, 2]
    assert sum(cell.system == "adnerf" for cell in more) == 1, "students of all seeds have one teacher"


def test_a_cell_is_named_by_all_that_it_depends_on() -> None:
    """Equal settings have one name; another dataset, seed, recipe, network or teacher has another."""
    cell = TINY.learn()
    assert cell.key("a") == TINY.learn().key("a")
    others = [
        replace(cell, seed=1), TINY.learn(taught=False), TINY.learn(recipe={"pool.on": False}),
        TINY.learn(depth=4), TINY.learn(points=8), replace(cell, teacher=replace(TINY.teach(), seed=1)),
        replace(cell, seconds=1.0), replace(cell, base=base(TINY)), replace(cell, speakers=({"seed": 1},)),
    ]  # fmt: skip
    assert len({cell.key("a"), cell.key("b"), *(other.key("a") for other in others)}) == 2 + len(others)


def test_a_cell_is_a_preset_of_its_own() -> None:
    """It has the cell's recipe and network, and is not registered."""
    cell = TINY.learn(points=8)
    preset = cell.preset("mine")
    assert (preset.system, preset.recipe, preset.name) == ("nldf", cell.recipe, "mine")
    conditions = ConditionConfig(audio_dim=7)
    config = preset.config(SOME_BOUNDS, conditions)
    assert (config.points, config.bounds, config.conditions) == (8, SOME_BOUNDS, conditions)
    assert "mine" not in presets()


def test_wrong_cells_are_refused() -> None:
    """An unknown setting of a network or recipe, an unknown system, another system's network, a taught
    teacher, a row of nothing.
    """
    with pytest.raises(ValueError, match=r"network: .*'wings'"):
        TINY.learn(wings=2)
    with pytest.raises(ValueError, match="wings: the recipe has no such setting"):
        TINY.learn(recipe={"wings": 2})
    with pytest.raises(ValueError, match=r"system: expected one of .*nldf.*, got 'lamp'"):
        replace(TINY.learn(), system="lamp")
    with pytest.raises(ValueError, match=r"network: .*'points'"):
        replace(TINY.learn(), system="nldf-fast")
    with pytest.raises(ValueError, match="teacher: adnerf does not learn from one"):
        replace(TINY.teach(), teacher=TINY.teach())
    with pytest.raises(ValueError, match="base: expected a cell of several speakers, got 0"):
        replace(new_speaker(TINY), base=new_speaker(TINY))
    with pytest.raises(ValueError, match="either a cell or the reason"):
        Row("empty", None)
    with pytest.raises(ValueError, match="marks: expected rising steps"):
        replace(TINY, marks=(10, 5, 40))


def test_tables_are_trained_measured_and_reported(finished: Path, synthetic_dataset: Dataset) -> None:
    """Two tables leave four cells with what they took, metrics at three steps, a page, a plot and sheets."""
    found = read_json(finished / "tables.json")
    assert len(found["cells"]) == 4 and found["dataset"]["hash"] == synthetic_dataset.hash()
    for name, cell in found["cells"].items():
        assert (finished / "cells" / name / "avatar" / "avatar.json").is_file()
        assert cell["wall_seconds"] > 0 and cell["cpu_seconds"] > 0 and cell["sittings"] == 1
        assert cell["steps"] == cell["cell"]["recipe"]["steps"] == cell["history"][-1]["step"]
        assert {"processor", "threads", "torch", "nldf_engine"} <= set(cell["environment"])
    rows = found["tables"]["table2"]["rows"]
    assert [row["step"] for row in rows] == [10, 20, None] * 2
    psnr = [row["measured"][0]["psnr"] for row in rows]
    assert all(5 < value < 40 for value in psnr)
    # The end is the best state that validation saw, which may be that of an earlier mark.
    assert len(set(psnr[:2] + psnr[3:5])) == 4 and psnr[2] != psnr[0]
    assert rows[2]["measured"] == found["tables"]["table1"]["rows"][1]["measured"], (
        "it is one and the same cell"
    )
    text = (finished / "tables.md").read_text(encoding="utf-8")
    assert (
        "| with | " in text
        and "| 32.59 | 0.9553 | 0.0852 |" in text
        and "| student: size | 512 | 32 |" in text
    )
    for name in ("tables.png", "table1.png", "table2.png"):
        assert (finished / name).stat().st_size > 5000


def test_what_is_finished_is_not_trained_again(
    finished: Path, synthetic_dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same command again, and one table of the two, neither train nor measure, and say the same."""
    before = read_json(finished / "tables.json")["tables"]

    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("it is done again")

    monkeypatch.setattr(lab_module, "train", fail)
    monkeypatch.setattr(lab_module, "evaluate", fail)
    assert main(["table1", "table2", *_flags(synthetic_dataset, finished)]) == 0
    assert read_json(finished / "tables.json")["tables"] == before


def test_a_stopped_run_goes_on(
    finished: Path, synthetic_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Ctrl-C amid a training ends with 130; the same command goes on and ends as if undisturbed."""
    step = Trainer.step

    def stopped(trainer: Trainer) -> float:
        if trainer.state.step == 25:
            os.kill(os.getpid(), signal.SIGINT)
        return step(trainer)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "step", stopped)
        assert main(["table1", *_flags(synthetic_dataset, tmp_path)]) == 130
    assert "goes on from the last checkpoint" in capsys.readouterr().err
    assert not list(tmp_path.glob("cells/*/cell.json")), "nothing is finished yet"
    assert main(["table1", *_flags(synthetic_dataset, tmp_path)]) == 0
    mine, whole = read_json(tmp_path / "tables.json"), read_json(finished / "tables.json")
    assert [row["measured"][0]["psnr"] for row in mine["tables"]["table1"]["rows"]] == [
        row["measured"][0]["psnr"] for row in whole["tables"]["table1"]["rows"]
    ]
    assert sorted(cell["sittings"] for cell in mine["cells"].values()) == [1, 1, 2]


def test_a_shorter_video_keeps_its_held_out_part(synthetic_dataset: Dataset, tmp_path: Path) -> None:
    """A cell of some seconds trains on a sound dataset that ends there; more than there is, is refused."""
    lab = Lab(tmp_path, synthetic_dataset, TINY)
    cut = Dataset.open(lab.dataset(replace(TINY.teach(), seconds=1.0)))
    cut.check_unchanged()
    assert cut.info.splits == {"train": [0, 25], "heldout": synthetic_dataset.info.splits["heldout"]}
    assert lab.dataset(TINY.teach()) == synthetic_dataset.path
    with pytest.raises(FileProblem, match=r"its training part has 3\.2 s, and 9 s are wanted"):
        lab.dataset(replace(TINY.teach(), seconds=9.0))


def _row(label: str, *values: float, step: int | None = None) -> dict[str, Any]:
    return {
        "label": label, "cells": [f"{label}{k}" for k in range(len(values))], "step": step, "absent": "",
        "paper": {"psnr": 30.0}, "measured": [{"psnr": value} for value in values],
    }  # fmt: skip


def _table(*rows: dict[str, Any]) -> dict[str, Any]:
    made = {"title": "A title", "source": "somewhere", "claim": "none", "reference": rows[0]["label"]}
    tables = {"one": {**made, "metrics": ["psnr"], "rows": list(rows)}}
    return {"noise": noise(tables), "tables": tables}


def test_differences_within_the_noise_are_marked() -> None:
    """With two rows of two seeds, sd 0.1, means must differ by t(2) 0.1: 0.43; 0.3 is noise and 2 is not."""
    spread = 0.1 / 2**0.5
    rows = [_row(name, m - spread, m + spread) for name, m in (("a", 30.0), ("b", 30.3), ("c", 32.0))]
    found = _table(*rows[:2])
    assert found["noise"]["psnr"] == pytest.approx({"sd": 0.1, "freedom": 2})
    assert least_difference(found, rows[0], rows[1], "psnr") == pytest.approx(4.3027 * 0.1, rel=1e-4)
    found = _table(*rows)
    text = table(found, "one")
    assert "| a | 30.00 | 2 |" in text and "| b | 30.30 ≈ | 2 |" in text and "| c | **32.00** | 2 |" in text


def test_one_seed_shows_no_noise() -> None:
    """Without a second seed no metric is marked, an earlier step is no evidence, and nothing is a dash."""
    early, empty = _row("early", 20.0, 21.0, step=10), {**_row("empty"), "absent": "it is none of ours"}
    found = _table(_row("a", 30.0), _row("b", 35.0), early, empty)
    assert found["noise"] == {} and mean(empty, "psnr") is None
    text = table(found, "one")
    assert "| b | 35.00 | 1 | 30.00 |" in text and "| empty | – | – | 30.00 |" in text
    assert "- empty: it is none of ours." in text


def test_wrong_usage_is_reported_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Unknown tables, a missing dataset or folder, and no seeds end with 2 and say what was expected."""
    for flags, said in (
        (["table9", "-o", str(tmp_path)], "there is no table 'table9'; there are table1"),
        (["table1", "--scale", "cpu", "-o", str(tmp_path)], "--scale cpu needs --data DATASET"),
        (["table1", "--scale", "tiny"], "-o DIR is missing"),
        (["table1", "--seeds", "0"], "--seeds must be at least 1"),
        (["table1", "--device", "tpu"], "--device is auto"),
    ):
        assert main(flags) == 2
        assert said in capsys.readouterr().err


def test_new_speakers_begin_from_one_base() -> None:
    """A base of synthetic speakers comes before those that begin from it, once for all seeds; without the
    warp it is another one; how lips are driven is the same for all systems of a table."""
    cells = cells_of([TABLES["dfrf-few-shot"](CPU), TABLES["dfrf-warp"](CPU)], 2)
    bases = [cell for cell in cells if cell.speakers]
    assert [cell.recipe.references.warp for cell in bases] == [True, False]
    assert all(cells.index(cell.base) < place for place, cell in enumerate(cells) if cell.base is not None)
    rows = TABLES["dfrf-few-shot"](CPU).rows
    assert len({row.cell.recipe.driving for row in rows}) == 1
    assert {row.cell.seconds for row in rows} == {15.0}
    assert len({row.cell.recipe.size for row in rows}) == 1
    assert [row.cell.recipe.steps for row in rows[2:]] == list(SIZES["cpu"].budgets) * 3
    largest = rows[-1].cell.work
    assert all(row.cell.work == pytest.approx(largest, rel=0.01) for row in rows[:2])
    assert SIZES["paper"].budgets == (1000, 10_000, 40_000)


@pytest.mark.parametrize(
    "name", ["dfrf-warp", "headnerf-modules", "landmark-encoders", "landmark-encodings", "film", "stretch"]
)
def test_tables_of_other_papers(name: str, small_tables: Path, synthetic_dataset: Dataset) -> None:
    """Each is trained and measured at the smallest scale: every row has its columns, the page shows them."""
    assert main([name, *_flags(synthetic_dataset, small_tables)]) == 0
    found = read_json(small_tables / "tables.json")
    made = found["tables"][name]
    assert [row["label"] for row in made["rows"]] == [row.label for row in TABLES[name](TINY).rows]
    wanted = [c for c in made["metrics"] if c not in ("lmd_centred", "lip_correlation")]
    for row in made["rows"]:
        assert len(row["measured"]) == 1 and all(np.isfinite(row["measured"][0][c]) for c in wanted), row
    differing = {tuple(row["measured"][0][c] for c in wanted) for row in made["rows"]}
    assert len(differing) == len(made["rows"]), "what is changed changes what is measured"
    text = (small_tables / "tables.md").read_text(encoding="utf-8")
    assert all(f"| {row['label']} | " in text for row in made["rows"])
    drawn = not all(isinstance(row.cell, Trial) for row in TABLES[name](TINY).rows)
    assert (small_tables / f"{name}.png").is_file() == drawn


def test_trials_are_not_made_again(
    small_tables: Path, synthetic_dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A finished trial is read from its record."""
    assert main(["landmark-encodings", *_flags(synthetic_dataset, small_tables)]) == 0
    before = read_json(small_tables / "tables.json")["tables"]
    monkeypatch.setattr(lab_module.Lab, "try_out", None)
    assert main(["landmark-encodings", *_flags(synthetic_dataset, small_tables)]) == 0
    assert read_json(small_tables / "tables.json")["tables"] == before


def test_a_plan_trains_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """--plan lists the cells of the papers' own scale, a line each."""
    assert main(["table3", "--scale", "paper", "--plan"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5 and "nldf 28 x 256, K 16, M 4, lambda 0.2, pool, 512 px" in "\n".join(lines)


def test_the_page_says_what_made_it(finished: Path) -> None:
    """Command, dataset and machine stand at its head; no path of this machine does."""
    text = page(read_json(finished / "tables.json"), "python -m bench.reproduce table1")
    assert "Made by `python -m bench.reproduce table1`" in text and "synthetic" in text
    assert str(Path.home()) not in text and str(finished) not in text
