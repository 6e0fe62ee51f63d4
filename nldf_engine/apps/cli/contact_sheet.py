"""A contact sheet: an avatar under edits of its head, eyes, mouth and background, to be looked at."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from nldf_engine.base.progress import Bar

if TYPE_CHECKING:
    from nldf_engine.engine import Engine

COLUMNS = 7
LABEL = 18  # pixels above each picture
INK, SEEN_INK, PAPER = (60, 60, 60), (20, 110, 20), 255
ZOOM = 4
BACKGROUNDS = (None, "lime", "magenta", "white", "black", "navy")
# Shares of the training range at which heads are shown: 0 and 1 are its ends.
SHARES = (-0.6, -0.15, 0.0, 0.5, 1.0, 1.15, 1.6)
CHECKER = 8
# Standard deviations by which brows are raised and lowered.
RAISED = 2.0

Cell = tuple[str, np.ndarray, bool]


def contact_sheet(engine: Engine, limit: str, size: int | None) -> np.ndarray:
    """[H, W, 3] uint8: rows of head numbers, blinks, brows, mouths, backgrounds and enlarged hair.

    Args:
        engine: of the avatar.
        limit: see `editing.HeadEdit`.
        size: width of one picture; the avatar's own where None.
    """
    from nldf_engine.engine.edits import Edit, EyesEdit, HeadEdit, HeadRange, MouthEdit, UpperEdit
    from nldf_engine.engine.edits.eyes import NaturalBlinks
    from nldf_engine.engine.edits.mouth import SLIDERS, MouthShape
    from nldf_engine.geometry.rotations import HEAD_NUMBERS, UNITS, head_numbers

    config = engine._portrait.field.config.conditions  # type: ignore[attr-defined]
    silence = np.zeros((1, config.audio_window, config.audio_dim), np.float32)
    still = engine.render(silence, "still").frames._scene.poses.cpu()
    middle = head_numbers(still)[0]
    seen = HeadRange.of(engine.avatar.poses.cpu())
    rows: list[list[Cell]] = []

    def shot(
        edit: Edit | None = None, background: Any = None, index: int = 0, motion: Any = None
    ) -> np.ndarray:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            audio = np.repeat(silence, index + 1, 0)
            clip = engine.render(audio, "still", background=background, size=size, edit=edit, motion=motion)
            return clip.frames[index]

    rest = 2 + bool(engine.motion_codes) + bool(engine.upper_codes)
    with Bar("sheet", (6 + rest) * COLUMNS, "picture") as bar:

        def row(cells: list[tuple[str, Callable[[], np.ndarray], bool]]) -> None:
            made = []
            for label, draw, known in cells:
                made.append((label, draw(), known))
                bar.step()
            rows.append(made)

        for place, name in enumerate(HEAD_NUMBERS):
            low, high = float(seen.low[place]), float(seen.high[place])
            cells: list[tuple[str, Callable[[], np.ndarray], bool]] = []
            for share in SHARES:
                value = low + share * (high - low)
                offset = value - float(middle[place])
                edit = Edit(_head(HeadEdit, name, offset, limit))
                told = f"{value:+.1f}" if UNITS[place] == "degrees" else f"{value:+.3f} m"
                known = 0 <= share <= 1
                cells.append((f"{name} {told}", lambda edit=edit: shot(edit), known))  # type: ignore[misc]
            row(cells)

        blinks = NaturalBlinks()
        blinks.at(_numbers(0, 1))
        first = int(25 * blinks.begins[0])
        row([
            (f"blink {40 * k} ms", lambda k=k: shot(Edit(eyes=EyesEdit("natural")), index=first + k), True)  # type: ignore[misc]
            for k in range(COLUMNS)
        ])  # fmt: skip
        if engine.upper_codes:
            row([
                (f"brows {rise:+.1f}", lambda rise=rise: shot(Edit(upper=UpperEdit(0, rise))), True)  # type: ignore[misc]
                for rise in np.linspace(-RAISED, RAISED, COLUMNS).tolist()
            ])  # fmt: skip
        if engine.motion_codes:
            # Gains are of a mouth that says something, sliders of one at its mean.
            mean = np.zeros((1, engine.motion_codes), np.float32)
            basis = engine._portrait.field.encoder.motion.basis  # type: ignore[attr-defined]
            said = mean + 1.5 * MouthShape(basis).way("jaw").cpu().numpy()
            gains = [(f"mouth {gain:g}", MouthEdit(gain), said) for gain in (0.0, 0.5, 1.0, 1.5)]
            slid = [(f"{name} +2", MouthEdit(sliders={name: 2.0}), mean) for name in SLIDERS]
            row([
                (label, lambda edit=edit, codes=codes: shot(Edit(mouth=edit), motion=codes), True)  # type: ignore[misc]
                for label, edit, codes in gains + slid
            ])  # fmt: skip
        names = [*BACKGROUNDS, "transparent"]
        pictures = [shot(background=name) for name in names]
        for _ in names:
            bar.step()
        rows.append([
            (name or "own background", _opaque(picture), True)
            for name, picture in zip(names, pictures, strict=True)
        ])  # fmt: skip
        rows.append([
            (f"{ZOOM}x", _hair(_opaque(picture)), True) for picture in pictures
        ])  # fmt: skip
    return np.concatenate([_row(cells) for cells in rows])


def _numbers(first: int, last: int) -> Any:
    import torch

    return torch.arange(first, last)


def _head(kind: Any, name: str, offset: float, limit: str) -> Any:
    if name in ("x", "y", "z"):
        shift = tuple(offset if axis == name else 0.0 for axis in ("x", "y", "z"))
        return kind(shift=shift, limit=limit)
    return kind(**{name: offset}, limit=limit)


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


def _row(cells: list[Cell]) -> np.ndarray:
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
