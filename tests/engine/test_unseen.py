"""What no frame showed of a learned torso is left empty before a head is edited; what one showed stays."""

import pytest
import torch

from avatars import tiny_avatar
from nldf_engine.engine import Engine
from nldf_engine.engine.edits import Edit, Editor, HeadEdit
from nldf_engine.engine.unseen import UNDER_CHIN, shown_cells, without_unseen
from nldf_engine.rendering.heads import RayHead
from nldf_engine.rendering.layer import Layer, View
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
            Portrait(avatar.portrait.head, torso.eval()), avatar.camera, avatar.frontend,
            avatar.background, avatar.poses, avatar.eye_openness, {},
        ),
        torch.device("cpu"),
    )  # fmt: skip
    places = {tuple(pose[:3, 3].tolist()): k for k, pose in enumerate(avatar.poses)}

    def draw(_: RayHead, view: View, code: torch.Tensor) -> Layer:
        number, camera = places[tuple(view.pose[:3, 3].tolist())], view.camera
        at = view.pixels() - camera.width * torch.tensor([0.5 + (number % 3 - 1) * 2 / OCCUPANCY, 0.4])
        disc = (at.norm(dim=1) < 0.25 * camera.width).float().view(camera.height, camera.width)
        return Layer(disc[..., None].expand(-1, -1, 3), disc)

    monkeypatch.setattr(RayHead, "draw", draw)
    return made


def track(engine: Engine) -> tuple:
    """What `shown_cells` takes beside the portrait: a torso that stands still."""
    avatar = engine.avatar
    return avatar.camera, avatar.poses, torch.eye(2, 3).repeat(len(avatar.poses), 1, 1), torch.zeros(1)


def test_cells_behind_the_head_are_hidden_and_the_neck_is_not(engine: Engine) -> None:
    """Free cells and a column of neck stay; the middle of the disc, hidden in every frame, is emptied."""
    shown = shown_cells(engine.renderer.portrait, *track(engine))
    row, middle, radius = round(0.4 * OCCUPANCY), OCCUPANCY // 2, OCCUPANCY // 4
    assert not shown[row, middle - 5 : middle + 5].any(), "hidden in every frame"
    assert shown[0].all() and shown[:, 0].all() and shown[-1].all(), "free in every frame"
    chin = row + radius
    assert shown[chin - UNDER_CHIN + 2 : chin, middle].all(), "the neck under the chin"
    assert bool(shown[row, middle - radius - 3] & shown[row, middle + radius + 3]), "uncovered at times"


def test_an_edited_head_leaves_the_engine_as_it_was(engine: Engine) -> None:
    """The bare torso is made once, for edited heads alone; the engine's own keeps all its cells."""
    renderer = engine.renderer
    bare = renderer.edited_portrait
    shown = shown_cells(renderer.portrait, *track(engine))
    assert torch.equal(bare.torso.occupancy.bool(), shown) and bare.head is renderer.portrait.head
    assert bool(renderer.portrait.torso.occupancy.all()) and renderer.edited_portrait is bare
    assert bool(engine.avatar.portrait.torso.occupancy.all())
    assert Editor(renderer, Edit(HeadEdit(yaw=1))).portrait is bare
    assert Editor(renderer, Edit()).portrait is renderer.portrait


def test_other_torsos_are_left_alone() -> None:
    """A plate has no cells: nothing happens to it, and asking for its cells is refused."""
    engine = Engine(tiny_avatar(), torch.device("cpu"))
    portrait = engine.renderer.portrait
    assert without_unseen(portrait, *track(engine)) is portrait is engine.renderer.edited_portrait
    with pytest.raises(TypeError, match="expected a TorsoLayer"):
        shown_cells(portrait, *track(engine))
