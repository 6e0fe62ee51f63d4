"""The look: numbers that are refused, and avatars that have no code for what is changed."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from avatars import tiny_avatar
from nldf_engine.apps.cli.command import UsageError
from nldf_engine.apps.cli.edits import EditFlags
from nldf_engine.engine import Engine
from nldf_engine.engine.edits import Edit, LookEdit
from nldf_engine.engine.edits.look import Look
from nldf_engine.rendering.fields import Conditions, Driver


class Coded(Driver):
    """A driver with a table of three speakers."""

    dim = 1

    def __init__(self, speakers: int = 3) -> None:
        super().__init__()
        self.identity = torch.nn.Module()
        self.identity.table = torch.nn.Parameter(torch.zeros(speakers, 2))

    def forward(self, conditions: Conditions, index: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(index), 1)


CLIP = Conditions(torch.zeros(5, 16, 29), torch.ones(5))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"identity": -1}, "identity: expected the number of a speaker"),
        ({"albedo": True}, "albedo: expected the number of a speaker"),
        ({"identity": 1.5}, "identity: expected the number of a speaker"),
        ({"expression": 3}, "expression: expected 0 to 2, got 3"),
        ({"expression": float("nan")}, "expression: expected 0 to 2"),
        ({"light": (0.0, 2.0, 0.0)}, "light: expected three numbers of -1 to 1"),
        ({"light": (0.0, 0.0)}, "light: expected three numbers"),
    ],
)
def test_numbers_out_of_range_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LookEdit(**wrong)


def test_an_edit_becomes_tracks() -> None:
    """A number for every frame, and nothing where nothing is changed."""
    assert LookEdit().idle and not LookEdit(identity=0).idle
    tracks = Look(LookEdit(identity=2), Coded())(CLIP)
    assert tracks.get("identity").tolist() == [2] * 5 and tracks.get("light") is None
    assert set(Look(LookEdit(), Coded())(CLIP).tracks) == {"audio", "eyes"}


def test_what_an_avatar_can_not_show_is_refused() -> None:
    """Each message says what came, what is there, and the remedy."""
    with pytest.raises(ValueError, match="identity: the avatar was trained with the speakers 0 to 2, got 3"):
        Look(LookEdit(identity=3), Coded())
    with pytest.raises(
        ValueError, match=r"identity: .* several speakers .* one speaker's; train them together"
    ):
        Look(LookEdit(identity=0), Coded(1))
    with pytest.raises(ValueError, match="light: expected an avatar with a code of its illumination"):
        Look(LookEdit(light=(0.1, 0, 0)), Coded())
    engine = Engine(tiny_avatar(), torch.device("cpu"))
    for look in (LookEdit(albedo=1), LookEdit(expression=0.5)):
        with pytest.raises(ValueError, match=r"albedo|expression"):
            engine.render(torch.zeros(2, 16, 29), edit=Edit(look=look))


def test_flags_make_the_edit() -> None:
    """`--light`, `--identity`, `--albedo` and `--expression` are the edit's numbers; what is none is
    refused."""
    edit = EditFlags(light="0.1,-0.2,0", identity=1, albedo=0, expression=1.5).edit("track")
    assert edit.look == LookEdit(1, 0, 1.5, (0.1, -0.2, 0.0))
    assert EditFlags().edit("track").look is None
    for wrong in ("1", "a,b,c", "0,0,9"):
        with pytest.raises(UsageError, match="light"):
            EditFlags(light=wrong).edit("track")
