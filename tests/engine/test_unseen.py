"""What no frame showed of a learned torso is left empty before a head is edited; what one showed stays."""

import pytest
import torch

from avatars import tiny_avatar
from nldf_engine.engine import Engine
from nldf_engine.engine.edits import Edit, Editor, HeadEdit
from nldf_engine.engine.edits.unseen import UNDER_CHIN, shown_cells, without_unseen
from nldf_engine.rendering.layer import Layer
from nldf_engine.rendering.portrait import Portrait
from nldf_engine.systems.common.torso_layer import OCCUPANCY, TorsoLayer

SIZE = 128


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    """A head that is a disc, moving by two cells to and fro, before a torso that is solid everywhere."""
    avatar = tiny_avatar(size=SIZE, frames=8)
    torso = TorsoLayer()
    torso.present.fill_(True)
    with torch.no_grad():
        torso.tail.bias[3] = 5.0
    made = Engine(
        type(avatar)(
            Portrait(avatar.portrait.field, avatar.portrait.region, torso.eval()), avatar.camera,
            avatar.frontend, avatar.background, avatar.poses, avatar.eye_openness, {},
        ),
        torch.device("cpu"),
    )  # fmt: skip
    places = {tuple(pose[:3, 3].tolist()): k for k, pose in enumerate(avatar.poses)}

    def head(self, camera, pose, code, backend, chunk, under=None):
        number = places[tuple(pose[:3, 3].tolist())]
        at = self.pixels(camera) - camera.width * torch.tensor([0.5 + (number % 3 - 1) * 2 / OCCUPANCY, 0.4])
        disc = (at.norm(dim=1) < 0.25 * camera.width).float().view(camera.height, camera.width)
        return Layer(disc[..., None].expand(-1, -1, 3), disc)

    monkeypatch.setattr(Portrait, "head", head)
    return made


def test_cells_behind_the_head_are_hidden_and_the_neck_is_not(engine: Engine) -> None:
    """Free cells and a column of neck stay; the middle of the disc, hidden in every frame, is emptied."""
    still = torch.eye(2, 3).repeat(8, 1, 1)
    code = torch.zeros(1)
    shown = shown_cells(engine._portrait, engine.avatar.camera, engine.avatar.poses, still, code)
    row, middle, radius = round(0.4 * OCCUPANCY), OCCUPANCY // 2, OCCUPANCY // 4
    assert not shown[row, middle - 5 : middle + 5].any(), "hidden in every frame"
    assert shown[0].all() and shown[:, 0].all() and shown[-1].all(), "free in every frame"
    chin = row + radius
    assert shown[chin - UNDER_CHIN + 2 : chin, middle].all(), "the neck under the chin"
    assert bool(shown[row, middle - radius - 3] & shown[row, middle + radius + 3]), "uncovered at times"


def test_an_edited_head_leaves_the_engine_as_it_was(engine: Engine) -> None:
    """The bare torso is made once, for edited heads alone; the engine's own keeps all its cells."""
    still = torch.eye(2, 3).repeat(8, 1, 1)
    bare = without_unseen(engine, still)
    code = torch.zeros(1)
    shown = shown_cells(engine._portrait, engine.avatar.camera, engine.avatar.poses, still, code)
    assert torch.equal(bare.torso.occupancy.bool(), shown) and bare.field is engine._portrait.field
    assert bool(engine._portrait.torso.occupancy.all()) and without_unseen(engine, still) is bare
    editor = Editor(engine, Edit(HeadEdit(yaw=1)))
    assert editor.portrait is engine._portrait
    editor.track(None)
    assert editor.portrait is bare and Editor(engine, Edit()).portrait is engine._portrait


def test_other_torsos_are_left_alone() -> None:
    """A plate has no cells: nothing happens to it, and asking for its cells is refused."""
    engine = Engine(tiny_avatar(), torch.device("cpu"))
    assert without_unseen(engine, torch.eye(2, 3).repeat(40, 1, 1)) is engine._portrait
    avatar = engine.avatar
    with pytest.raises(TypeError, match="expected a TorsoLayer"):
        shown_cells(engine._portrait, avatar.camera, avatar.poses, torch.eye(2, 3)[None], torch.zeros(1))
