"""Edits through the engine: streams show what renderings do, curves reach their parts, files are checked."""

import json
from pathlib import Path

import numpy as np
import pytest

from nldf_engine.apps.cli.bundled import bundled_avatar
from nldf_engine.base.errors import FileProblem
from nldf_engine.engine import Engine
from nldf_engine.engine.edits import Edit, EyesEdit, Gate, HeadEdit, MouthEdit, curve_of, load_curve


@pytest.fixture(scope="module")
def engine() -> Engine:
    """The bundled avatar: motion codes, and a basis fitted to tracks of the synthetic speaker."""
    return Engine.load(bundled_avatar(), "cpu")


def sound(seconds: float) -> np.ndarray:
    time = np.arange(round(seconds * 16000)) / 16000
    voiced = (time % 1.6) < 0.8
    return (0.2 * voiced * np.sin(2 * np.pi * 300 * time)).astype(np.float32)


def test_a_stream_shows_what_a_rendering_shows(engine: Engine) -> None:
    """With head, eyes, mouth, gate and curve edited: the same frames to a grey level, piece by piece."""
    edit = Edit(
        HeadEdit(yaw=2, shift=(0.03, 0, 0.05), smooth=2, limit="clamp"),
        EyesEdit("natural", seed=4),
        MouthEdit(1.3, {"width": 0.5}, gate=Gate()),
    ).with_curve(curve_of({"time": [0, 2], "roll": [0, 3], "jaw": [0, 1]}))
    whole = sound(2.4)
    with pytest.warns(UserWarning, match="beyond the training video"):
        want = np.asarray(engine.render((whole, 16000), edit=edit, size=48).frames)
    with pytest.warns(UserWarning, match="beyond the training video"):
        stream = engine.stream([whole[k : k + 700] for k in range(0, len(whole), 700)], edit=edit, size=48)
    got = np.stack(list(stream))
    assert got.shape == want.shape and np.abs(got.astype(int) - want.astype(int)).max() <= 1
    plain = np.asarray(engine.render((whole, 16000), size=48).frames)
    assert np.abs(plain.astype(int) - want.astype(int)).mean() > 1


def test_lips_close_in_silence_and_speech_is_left_alone(engine: Engine) -> None:
    """Gated codes are the speech's own in speech, and those of touching lips half a second after it."""
    features = engine.features((sound(3.2), 16000))[0]
    told = engine.motion(features)
    gated = engine.render(features, edit=Edit(mouth=MouthEdit(gate=Gate()))).frames.scene.codes[
        :, : engine.motion_codes
    ]
    basis = engine.renderer.motion_basis
    at = np.arange(len(features)) / 25
    speech, silence = (at > 0.1) & (at < 0.75), (at > 1.28) & (at < 1.44)
    np.testing.assert_allclose(gated[speech], told[speech], atol=1e-5)
    assert float(basis.opening(gated)[silence].abs().max()) < 1e-5


def test_an_edit_of_the_mouth_is_given_once(engine: Engine) -> None:
    """mouth= and edit.mouth together are refused; so is a mouth without motion codes."""
    with pytest.raises(ValueError, match=r"expected it once, got 1\.5 and edit\.mouth"):
        engine.render(np.zeros((2, 16, 29), np.float32), mouth=1.5, edit=Edit(mouth=MouthEdit(1.2)))


def test_curves_reach_the_parts_they_name() -> None:
    """Columns go to head, eyes and mouth; other parts stay as they are; an unknown column is told."""
    edit = Edit(HeadEdit(yaw=3)).with_curve(
        curve_of({"time": [0.0], "pitch": [1.0], "eyes": [0.5], "jaw": [1.0]})
    )
    assert edit.head is not None and edit.eyes is not None and edit.mouth is not None
    assert edit.head.yaw == 3 and edit.head.curve is not None and set(edit.head.curve.columns) == {"pitch"}
    assert edit.eyes.curve is not None and set(edit.eyes.curve.columns) == {"eyes"}
    assert edit.mouth.curve is not None and set(edit.mouth.curve.columns) == {"jaw"}
    with pytest.raises(ValueError, match=r"named 'brow'; expected .*eyes, brows, mouth, jaw"):
        Edit().with_curve(curve_of({"brow": [1.0]}))


def test_curve_files_of_both_kinds_read_the_same(tmp_path: Path) -> None:
    """CSV and JSON give the same curve, by seconds, by frames or row by row."""
    (tmp_path / "a.csv").write_text("time, Yaw\n0,0\n\n2,10\n", encoding="utf-8")
    (tmp_path / "a.json").write_text(json.dumps({"frame": [0, 50], "yaw": [0, 10]}), encoding="utf-8")
    (tmp_path / "rows.csv").write_text("yaw\n1\n3\n", encoding="utf-8")
    import torch

    index = torch.tensor([0, 25, 50, 80])
    for name in ("a.csv", "a.json"):
        values = load_curve(tmp_path / name).at("yaw", index)
        assert values is not None and values.tolist() == [0, 5, 10, 10]
    rows = load_curve(tmp_path / "rows.csv").at("yaw", torch.tensor([0, 1, 2]))
    assert rows is not None and rows.tolist() == [1, 3, 3]


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.csv", "1,2\n3,4\n", "first line must be names"),
        ("a.csv", "time,yaw\n0,1\n0,2\n", "times that rise"),
        ("a.csv", "time,yaw\n0,1\n1\n", "line 3 has 1 values"),
        ("a.csv", "yaw\nmany\n", "line 2, column 'yaw' is no finite number: 'many'"),
        ("a.csv", "time,yaw\n0,1\n1,nan\n", "line 3, column 'yaw' is no finite number: 'nan'"),
        ("a.csv", "time,yaw\n0,1\n1,\n", "line 3, column 'yaw' is empty"),
        ("a.csv", "time;yaw\n0;0,5\n", "separated by semicolons; use commas, and points"),
        ("a.csv", "time\tyaw\n0\t0\n", "separated by tabs; use commas"),
        ("a.csv", "yaw\n", "at least one row"),
        ("a.json", "[1, 2]", "expected an object"),
        ("a.json", '{"time": [0, 1], "frame": [0, 1], "yaw": [1, 2]}', "got both"),
        ("a.json", '{"yaw": [1, NaN]}', "column 'yaw' holds NaN or infinity in row 2"),
        ("a.json", '{"yaw": [1, 2], "roll": [1]}', "column 'roll' has 1 numbers, and 2 were expected"),
        ("a.txt", "yaw\n1\n", "end in .csv or .json"),
        ("absent.csv", None, "no such file"),
    ],
)
def test_curve_files_that_can_not_be_used_are_told(
    tmp_path: Path, name: str, text: str | None, says: str
) -> None:
    """The message names the file, what is wrong and what to write."""
    if text is not None:
        (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(FileProblem, match=name) as caught:
        load_curve(tmp_path / name)
    assert says in str(caught.value) and "To fix it" in str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_no_part_of_a_curve(tmp_path: Path, encoding: str) -> None:
    """What spreadsheets write before the text is passed over, in CSV and in JSON."""
    (tmp_path / "a.csv").write_text("time,yaw\n0,0\n1,10\n", encoding=encoding)
    (tmp_path / "a.json").write_text('{"time": [0, 1], "yaw": [0, 10]}', encoding=encoding)
    for name in ("a.csv", "a.json"):
        assert load_curve(tmp_path / name).columns["yaw"].tolist() == [0, 10]
