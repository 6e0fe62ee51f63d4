"""A contact sheet: an avatar under edits of its head, eyes, mouth and background, to be looked at."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from nldf_engine.base.clock import FPS
from nldf_engine.base.progress import Bar

if TYPE_CHECKING:
    from nldf_engine.engine import Engine
    from nldf_engine.engine.edits import Edit, HeadEdit

COLUMNS = 7
LABEL = 18  # pixels above each picture
INK, SEEN_INK, PAPER = (60, 60, 60), (20, 110, 20), 255
ZOOM = 4
BACKGROUNDS = (None, "lime", "magenta", "white", "black", "navy", "transparent")
# Shares of the training range at which heads are shown: 0 and 1 are its ends.
SHARES = (-0.6, -0.15, 0.0, 0.5, 1.0, 1.15, 1.6)
CHECKER = 8
# Standard deviations by which brows are raised and lowered.
RAISED = 2.0


class Cell(NamedTuple):
    """One picture of the sheet.

    Args:
        label: written above it.
        draw: makes uint8 [H, W, 3 or 4].
        known: whether the training video shows such a thing.
    """

    label: str
    draw: Callable[[], np.ndarray]
    known: bool = True


def contact_sheet(engine: Engine, limit: str, size: int | None) -> np.ndarray:
    """[H, W, 3] uint8: rows of head numbers, blinks, brows, mouths, backgrounds and enlarged hair.

    Args:
        engine: of the avatar.
        limit: see `edits.HeadEdit`.
        size: width of one picture; the avatar's own where None.
    """
    shots = _Shots(engine, size)
    rows = [*_head_rows(shots, limit), _blink_row(shots)]
    if engine.upper_codes:
        rows.append(_brow_row(shots))
    if engine.motion_codes:
        rows.append(_mouth_row(shots))
    pictures: list[np.ndarray] = []

    def keep(name: str | None) -> np.ndarray:
        pictures.append(_opaque(shots(background=name)))
        return pictures[-1]

    rows.append([Cell(name or "own background", lambda name=name: keep(name)) for name in BACKGROUNDS])  # type: ignore[misc]
    drawn = []
    with Bar("sheet", len(rows) * COLUMNS, "picture") as bar:
        for row in rows:
            made = []
            for cell in row:
                made.append((cell.label, cell.draw(), cell.known))
                bar.step()
            drawn.append(_row(made))
    drawn.append(_row([(f"{ZOOM}x", _hair(picture), True) for picture in pictures]))
    return np.concatenate(drawn)


class _Shots:
    """Single frames of an avatar that does not move in silence.

    Args:
        engine: of the avatar.
        size: width in pixels; the avatar's own where None.
    """

    def __init__(self, engine: Engine, size: int | None) -> None:
        self.engine, self._size = engine, size

    def __call__(
        self,
        edit: Edit | None = None,
        background: str | None = None,
        index: int = 0,
        motion: np.ndarray | None = None,
    ) -> np.ndarray:
        """Frame `index` under the edit, uint8 [H, W, 3 or 4]."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            silence = self.engine.renderer.silence(index + 1)
            clip = self.engine.render(
                silence, "still", background=background, size=self._size, edit=edit, motion=motion
            )
            return clip.frames[index]


def _head_rows(shots: _Shots, limit: str) -> list[list[Cell]]:
    """A row for each number of the head, from below its range in the training video to above it."""
    import torch

    from nldf_engine.engine.edits import Edit, HeadRange
    from nldf_engine.geometry.rotations import HEAD_NUMBERS, UNITS, head_numbers

    engine = shots.engine
    middle = head_numbers(engine.open_track("still")(torch.arange(1)).poses)[0]
    seen = HeadRange.of(engine.avatar.poses.cpu())
    rows = []
    for place, name in enumerate(HEAD_NUMBERS):
        low, high = float(seen.low[place]), float(seen.high[place])
        cells = []
        for share in SHARES:
            value = low + share * (high - low)
            edit = Edit(_head(name, value - float(middle[place]), limit))
            number = f"{value:+.1f}" if UNITS[place] == "degrees" else f"{value:+.3f} m"
            known = 0 <= share <= 1
            cells.append(Cell(f"{name} {number}", lambda edit=edit: shots(edit), known))  # type: ignore[misc]
        rows.append(cells)
    return rows


def _head(name: str, offset: float, limit: str) -> HeadEdit:
    from nldf_engine.engine.edits import HeadEdit

    if name in ("x", "y", "z"):
        x, y, z = (offset if axis == name else 0.0 for axis in ("x", "y", "z"))
        return HeadEdit(shift=(x, y, z), limit=limit)
    return HeadEdit(**{name: offset}, limit=limit)  # type: ignore[arg-type]


def _blink_row(shots: _Shots) -> list[Cell]:
    import torch

    from nldf_engine.engine.edits import Edit, EyesEdit
    from nldf_engine.engine.edits.eyes import NaturalBlinks

    blinks, edit = NaturalBlinks(), Edit(eyes=EyesEdit("natural"))
    blinks.at(torch.arange(1))
    first = int(FPS * blinks.begins[0])
    return [Cell(f"blink {40 * k} ms", lambda k=k: shots(edit, index=first + k)) for k in range(COLUMNS)]  # type: ignore[misc]


def _brow_row(shots: _Shots) -> list[Cell]:
    from nldf_engine.engine.edits import Edit, UpperEdit

    rises = np.linspace(-RAISED, RAISED, COLUMNS).tolist()
    return [
        Cell(f"brows {rise:+.1f}", lambda rise=rise: shots(Edit(upper=UpperEdit(0, rise))))  # type: ignore[misc]
        for rise in rises
    ]


def _mouth_row(shots: _Shots) -> list[Cell]:
    """Gains of a mouth that says something, and sliders of one at its mean."""
    from nldf_engine.engine.edits import Edit, MouthEdit
    from nldf_engine.engine.edits.mouth import SLIDERS, MouthShape

    basis = shots.engine.renderer.motion_basis
    if basis is None:
        return []
    mean = np.zeros((1, shots.engine.motion_codes), np.float32)
    speaking = mean + 1.5 * MouthShape(basis).way("jaw").cpu().numpy()
    gains = [(f"mouth {gain:g}", MouthEdit(gain), speaking) for gain in (0.0, 0.5, 1.0, 1.5)]
    slid = [(f"{name} +2", MouthEdit(sliders={name: 2.0}), mean) for name in SLIDERS]
    return [
        Cell(label, lambda edit=edit, codes=codes: shots(Edit(mouth=edit), motion=codes))  # type: ignore[misc]
        for label, edit, codes in gains + slid
    ]


def _opaque(picture: np.ndarray) -> np.ndarray:
    """A picture with alpha before a checkerboard; others as they are."""
    if picture.shape[2] == 3:
        return picture
    height, width = picture.shape[:2]
    y, x = np.mgrid[:height, :width] // CHECKER
    board = np.where((x + y)[..., None] % 2, 200.0, 120.0)
    alpha = picture[..., 3:] / 255.0
    return np.asarray(alpha * picture[..., :3] + (1 - alpha) * board).round().astype(np.uint8)


def _hair(picture: np.ndarray) -> np.ndarray:
    """The upper middle of a picture, enlarged without smoothing to the same size."""
    height, width = picture.shape[:2]
    h, w = height // ZOOM, width // ZOOM
    top, left = height // 16, width // 2 - w // 2 - width // 10
    crop = picture[top : top + h, left : left + w]
    large = crop.repeat(ZOOM, 0).repeat(ZOOM, 1)
    out = np.full_like(picture, PAPER)
    out[: large.shape[0], : large.shape[1]] = large[:height, :width]
    return out


def _row(cells: list[tuple[str, np.ndarray, bool]]) -> np.ndarray:
    import cv2

    height, width = cells[0][1].shape[:2]
    made = np.full((height + LABEL, COLUMNS * width, 3), PAPER, np.uint8)
    for column, (label, picture, known) in enumerate(cells):
        left = column * width
        made[LABEL:, left : left + width] = picture
        ink = SEEN_INK if known else INK
        at = (left + 3, LABEL - 5)
        cv2.putText(made, label, at, cv2.FONT_HERSHEY_SIMPLEX, 0.4, ink, 1, cv2.LINE_AA)
        if known:
            made[LABEL - 2 : LABEL, left : left + width] = SEEN_INK
    return made
