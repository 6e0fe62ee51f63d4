"""Which controls an avatar is offered, and the edits that they make."""

import math

import pytest
import torch

from landmark_avatars import landmark_avatar
from nldf_engine.apps.viewer.controls import Choice, Control, controls_of, edit_of
from nldf_engine.engine import Engine
from nldf_engine.engine.edits import Edit, Editor, Gate


def names(engine: Engine, folder: str) -> list[str]:
    return [control.name for control in controls_of(engine) if control.folder == folder]


def test_an_avatar_is_offered_what_it_answers_to(bundled: Engine, tiny: Engine) -> None:
    """One with codes has sliders for them; one without has head and eyes alone."""
    assert names(bundled, "Codes") == [f"code{k}" for k in range(bundled.motion_codes)]
    assert {"jaw", "width", "smile", "mouth", "gate"} == set(names(bundled, "Mouth"))
    assert {"brows", "lively", "eyes", "blink"} == set(names(bundled, "Eyes"))  # its eyes never turn
    assert {control.folder for control in controls_of(tiny)} == {"Head", "Eyes"}
    assert names(tiny, "Eyes") == ["eyes", "blink"]


def test_landmarks_are_sliders_where_they_drive_the_avatar() -> None:
    """The lids one by one, the mouth, the jaw; and no motion codes, which this avatar does not have."""
    engine = Engine(landmark_avatar(), torch.device("cpu"))
    assert names(engine, "Landmarks") == [
        *("left lid", "right lid", "outline", "landmark jaw", "landmark lip_corners"),
        *("landmark mouth_width", "landmark brows"),
    ]
    assert not names(engine, "Codes") and not names(engine, "Mouth")
    edit = edit_of(controls_of(engine), {"left lid": 0.2, "landmark jaw": 3.0})
    assert edit.landmarks is not None and edit.landmarks.both_lids == (0.2, 1.0) and edit.landmarks.jaw == 3


def test_names_are_unique(bundled: Engine) -> None:
    found = [control.name for control in controls_of(bundled)]
    assert len(set(found)) == len(found)


def test_every_end_of_every_slider_is_an_edit(bundled: Engine) -> None:
    """No slider leads to a value that the engine refuses; the usual values change nothing."""
    controls = controls_of(bundled)
    for control in controls:
        ends = (control.low, control.high) if isinstance(control, Control) else control.options
        for end in ends:
            Editor(bundled.renderer, edit_of(controls, {control.name: end}))
    assert edit_of(controls, {control.name: control.usual for control in controls}) == Edit()


def test_values_go_where_they_belong(bundled: Engine) -> None:
    """Numbers, entries of tuples and of mappings, words."""
    values = {
        "yaw": 4.0, "z": 0.02, "jaw": 1.5, "code2": -1.0, "brows": 2.0, "gate": "yes", "blink": "none",
        "limit": "off",
    }  # fmt: skip
    edit = edit_of(controls_of(bundled), values)
    assert edit.head is not None and edit.mouth is not None and edit.upper is not None
    assert (edit.head.yaw, edit.head.shift, edit.head.limit) == (4, (0, 0, 0.02), "off")
    assert edit.mouth.sliders == {"jaw": 1.5, "code2": -1.0} and edit.mouth.gate == Gate()
    assert edit.upper.brows == 2 and edit.eyes is not None and edit.eyes.blink == "none"


def test_the_heads_range_holds_what_was_trained(bundled: Engine) -> None:
    """Its sliders reach beyond it on either side, and their marks are its ends."""
    head = [c for c in controls_of(bundled) if c.folder == "Head" and isinstance(c, Control)]
    assert [control.name for control in head] == ["yaw", "pitch", "roll", "x", "y", "z"]
    for control in head:
        assert control.seen is not None
        assert control.low < control.seen[0] < 0 < control.seen[1] < control.high


def test_nonsense_is_refused(bundled: Engine) -> None:
    """Unknown names and words, and numbers that are none."""
    controls = controls_of(bundled)
    with pytest.raises(ValueError, match="nose: expected one of yaw"):
        edit_of(controls, {"nose": 1.0})
    with pytest.raises(ValueError, match="blink: expected one of auto"):
        edit_of(controls, {"blink": "wink"})
    jaw = next(c for c in controls if c.name == "jaw")
    assert isinstance(jaw, Control) and jaw.clamp(math.nan) == 0 and jaw.clamp(99.0) == jaw.high
    blink = next(c for c in controls if c.name == "blink")
    assert isinstance(blink, Choice) and blink.usual == "auto"
