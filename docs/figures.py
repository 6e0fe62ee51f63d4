"""Draws the figures of the documentation from the package itself: python docs/figures.py [FOLDER]

Everything shown is computed here by the code that it explains, on the bundled avatar, which is no one's
likeness. Nothing is downloaded; half a minute on two cores.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.patches import FancyBboxPatch

from nldf_engine import Engine, ops
from nldf_engine.apps.cli.bundled import bundled_avatar
from nldf_engine.rendering.layer import frame_rays
from nldf_engine.synthetic import synthesise_speech

INK, BLUE, ORANGE, GREEN, GREY = "#22303c", "#2f6fb2", "#d9822b", "#3a9b6f", "#9aa5ae"
SEGMENT_COLORS = (BLUE, GREEN, ORANGE, "#b0508c")
STYLE = {
    "font.size": 10, "axes.edgecolor": GREY, "axes.labelcolor": INK, "text.color": INK, "xtick.color": INK,
    "ytick.color": INK, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "nldf",
    "svg.fonttype": "path", "figure.dpi": 100,
}  # fmt: skip
SECONDS, SEED = 3.0, 1
MOMENT = 36  # a frame with an open mouth


def load() -> Engine:
    """The bundled avatar on the CPU."""
    return Engine.load(bundled_avatar(), device="cpu")


def speech() -> tuple[np.ndarray, int]:
    """What it says: (samples, rate)."""
    made = synthesise_speech(None, SECONDS, SEED)
    return made.samples, made.rate


def pipeline(_: Engine) -> Any:
    """What goes in and out of each command."""
    figure, axis = plt.subplots(figsize=(9.2, 3.1))
    axis.set(xlim=(0, 92), ylim=(0, 31))
    axis.axis("off")

    def box(x: float, y: float, text: str, color: str, width: float = 15, height: float = 7) -> None:
        patch = FancyBboxPatch(
            (x, y), width, height, boxstyle="round,pad=0.3,rounding_size=1.2", fc="white", ec=color, lw=1.6
        )
        axis.add_patch(patch)
        axis.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=9)

    def arrow(
        start: tuple[float, float],
        end: tuple[float, float],
        text: str = "",
        up: float = 1.0,
        right: float = 0.0,
    ) -> None:
        axis.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": INK, "lw": 1.2})
        x, y = (start[0] + end[0]) / 2 + right, (start[1] + end[1]) / 2 + up
        axis.text(x, y, text, ha="center", fontsize=8.5, family="monospace")

    box(1, 19, "video of\none person", GREY)
    box(26, 19, "dataset\nposes, masks, sound", BLUE, 19)
    box(56, 19, "avatar\nnetwork, track", GREEN)
    box(56, 3, "speech\nany voice", GREY)
    box(78, 11, "video\nsigned", ORANGE, 12)
    box(26, 3, "report\nfigures, pictures", GREY, 19)
    arrow((16.6, 22.5), (25.4, 22.5), "prepare")
    arrow((45.6, 22.5), (55.4, 22.5), "train")
    arrow((71.6, 22.5), (82, 18.6), "render", 2.4)
    arrow((71.6, 6.5), (82, 10.4))
    arrow((35.5, 18.4), (35.5, 10.6))
    arrow((55.6, 18.8), (45.6, 9.0))
    axis.text(34.5, 14.0, "evaluate", ha="right", fontsize=8.5, family="monospace")
    return figure


def beam(engine: Engine) -> Any:
    """Rays of one row of pixels from above: their beams of 16 points, and the two planes of nldf-fast."""
    avatar = engine.avatar
    camera, pose = avatar.camera, avatar.poses[:1]
    columns = np.linspace(0.22, 0.78, 5) * camera.width
    pixels = torch.tensor([[[x, camera.height * 0.45] for x in columns]], dtype=torch.float32)
    rays = frame_rays(camera, pose, pixels)
    origins, directions = rays.origins[0], rays.directions[0]
    config: Any = avatar.portrait.head.config
    near, far = config.bounds.near, config.bounds.far
    points = ops.encode_beams(origins, directions, near, far, points=16, frequencies=0)
    points = points.view(len(columns), 16, 3).numpy()
    figure, axis = plt.subplots(figsize=(8.6, 4.0))
    start = origins.numpy()
    for ray in range(len(columns)):
        middle = ray == len(columns) // 2
        axis.plot(
            [start[ray, 2], points[ray, -1, 2]],
            [start[ray, 0], points[ray, -1, 0]],
            lw=0.8,
            color=GREY,
            zorder=1,
        )
        for segment, color in enumerate(SEGMENT_COLORS):
            four = points[ray, 4 * segment : 4 * segment + 4]
            label = f"segment {segment + 1}" if middle else None
            axis.scatter(four[:, 2], four[:, 0], s=16 if middle else 9, color=color, label=label, zorder=3)
    for number, z in enumerate(config.planes):
        label = "planes of nldf-fast" if number == 0 else None
        axis.axvline(z, color=INK, lw=1.1, ls=(0, (4, 3)), label=label, zorder=2)
        across = origins + (z - origins[:, 2:]) / directions[:, 2:] * directions
        axis.scatter(across[:, 2], across[:, 0], s=44, marker="x", color=INK, lw=1.1, zorder=4)
    seen = avatar.portrait.head.region.points().numpy()
    axis.plot(
        [0, 0], [seen[:, 0].min(), seen[:, 0].max()], color=INK, lw=4, alpha=0.18, solid_capstyle="butt"
    )
    axis.annotate("where the head was\nseen, at z = 0", (0, seen[:, 0].max()), (-0.36, 0.115), fontsize=8.5,
                  arrowprops={"arrowstyle": "-", "color": GREY})  # fmt: skip
    axis.plot(start[0, 2], start[0, 0], marker=">", color=INK, ms=10)
    axis.text(start[0, 2], start[0, 0] - 0.035, "camera", ha="center", fontsize=9)
    axis.set_xlabel("z of head space, metres (the face looks to the left)")
    axis.set_ylabel("x, metres")
    axis.legend(loc="lower left", bbox_to_anchor=(0, 1.1), ncol=5, frameon=False, fontsize=8.5)
    axis.set_aspect("equal")
    return figure


def segments(_: Engine) -> Any:
    """One ray through an analytic head: densities, weights, and the segment colours that sum to the pixel."""
    count = 64
    z = torch.linspace(0, 1, count)
    # A strand of hair, skin behind it, and a background that is the last sample.
    density = 1.1 * torch.exp(-(((z - 0.3) / 0.03) ** 2)) + 1.4 * torch.exp(-(((z - 0.55) / 0.06) ** 2))
    density[-1] = 1e6
    skin, hair, wall = (torch.tensor(c) for c in ((0.86, 0.62, 0.5), (0.25, 0.17, 0.13), (0.55, 0.68, 0.8)))
    share = torch.sigmoid((z - 0.4) / 0.02)[:, None]
    rgb = hair * (1 - share) + skin * share
    rgb[-1] = wall
    delta = torch.full((1, count), 1 / count * 6)
    colors, opacity = ops.composite_segments(density[None], rgb[None], delta, segments=4)
    alpha = 1 - torch.exp(-density * delta[0])
    weights = torch.cumprod(torch.cat([torch.ones(1), 1 - alpha[:-1]]), 0) * alpha
    figure, (top, swatches) = plt.subplots(
        2, 1, figsize=(8.6, 4.0), height_ratios=(3, 1), gridspec_kw={"hspace": 0.42}
    )
    for segment, color in enumerate(SEGMENT_COLORS):
        top.axvspan(segment / 4, (segment + 1) / 4, color=color, alpha=0.07, lw=0)
    top.bar(z, weights, width=0.9 / count, color=[tuple(c) for c in rgb.tolist()], edgecolor=GREY, lw=0.3)
    top.set(xlim=(0, 1.01), xlabel="along the ray, from near to far", ylabel="weight  T α")
    pixel = colors[0].sum(0)
    swatches.axis("off")
    swatches.set(xlim=(0, 6.4), ylim=(0, 1))
    for place, (color, text) in enumerate(
        [*((c, f"c{i + 1}") for i, c in enumerate(colors[0])), (pixel, "pixel")]
    ):
        x = 1.25 * place + 0.1
        swatches.add_patch(plt.Rectangle((x, 0.1), 0.9, 0.62, fc=tuple(color.clamp(0, 1).tolist()), ec=GREY))
        swatches.text(x + 0.45, 0.83, text, ha="center", fontsize=9)
        sign = "" if place == 4 else ("=" if place == 3 else "+")
        swatches.text(x + 1.07, 0.4, sign, ha="center", va="center", fontsize=13)
    assert torch.allclose(pixel, (weights[:, None] * rgb).sum(0), atol=1e-4) and float(opacity[0]) > 0.99
    return figure


def layers(engine: Engine) -> Any:
    """A frame and what it is made of."""
    frames: Any = engine.render(speech()).frames
    scene, number = frames.scene, MOMENT
    portrait = engine.renderer.portrait
    with torch.no_grad():
        view, code = scene.view(number), scene.codes[number]
        torso, head = portrait.torso.draw(view, code), portrait.head.draw(view, code)
        torso_picture = torso.over(checkers(scene.camera.width)).numpy()
        head_picture = head.over(checkers(scene.camera.width)).numpy()
    parts = [
        ("background", scene.background.numpy()), ("torso", torso_picture), ("head", head_picture),
        ("the frame", frames[number] / 255),
    ]  # fmt: skip
    return row(parts)


def control(engine: Engine) -> Any:
    """The same moment of the same speech under other wishes."""
    wishes: list[tuple[str, dict[str, Any]]] = [
        ("as it is", {}),
        ("mouth=0", {"mouth": 0.0}),
        ("mouth=1.6", {"mouth": 1.6}),
        ('background="navy"', {"background": "navy"}),
        ("eyes closed", {"eyes": np.full(round(25 * SECONDS), 0.02, np.float32)}),
    ]
    parts = []
    for title, options in wishes:
        parts.append((title, engine.render(speech(), **options).frames[MOMENT] / 255))
    return row(parts)


def grid(engine: Engine) -> Any:
    """What the grid of the front plane has learned, level by level: the size of its features."""
    field: Any = engine.avatar.portrait.head.field
    table, spec = field.grids[0].table.detach(), field.grids[0].spec
    parts = []
    for side, first in zip(spec.resolutions, spec.offsets, strict=False):
        # A dense level of resolution N has N x N vertices, row by row.
        level = table[first : first + side * side].norm(dim=1).view(side, side)
        bright = (level / level.quantile(0.99)).clamp(0, 1).numpy()
        parts.append((f"{side} x {side}", plt.get_cmap("magma")(bright)[..., :3]))
    return row(parts)


def motion(engine: Engine) -> Any:
    """Speech, and the numbers that the avatar's network predicts from it."""
    samples, rate = speech()
    codes = engine.motion((samples, rate))
    time = np.arange(len(codes)) / 25
    figure, axes = plt.subplots(2, 1, figsize=(8.6, 3.6), sharex=True, gridspec_kw={"hspace": 0.18})
    blocks = samples[: len(samples) // 80 * 80].reshape(-1, 80)
    place = np.arange(len(blocks)) * 80 / rate
    axes[0].fill_between(place, blocks.min(1), blocks.max(1), color=GREY, lw=0)
    axes[0].set(ylabel="speech", yticks=[])
    for index, color in enumerate((BLUE, ORANGE, GREEN)):
        axes[1].plot(time, codes[:, index], color=color, lw=1.6, label=f"code {index + 1}")
    axes[1].set(xlabel="seconds", ylabel="motion codes", xlim=(0, SECONDS))
    axes[1].legend(frameon=False, fontsize=8.5, ncol=3, loc="upper right")
    return figure


def checkers(side: int) -> torch.Tensor:
    """[side, side, 3]: the pattern behind a layer that marks transparency."""
    tile = torch.arange(side) // max(1, side // 16) % 2
    board = 0.86 + 0.1 * (tile[:, None] ^ tile[None]).float()
    return board[..., None].expand(side, side, 3)


def row(parts: list[tuple[str, np.ndarray]]) -> Any:
    """Pictures side by side, each with a word above it."""
    figure, axes = plt.subplots(1, len(parts), figsize=(9.2, 9.2 / len(parts) + 0.25))
    for axis, (title, picture) in zip(axes, parts, strict=True):
        axis.imshow(np.clip(picture, 0, 1), interpolation="lanczos" if picture.shape[0] > 100 else "nearest")
        axis.set_title(title, fontsize=9, family="monospace" if "=" in title else None)
        axis.axis("off")
    figure.subplots_adjust(0, 0, 1, 0.88, 0.03)
    return figure


FIGURES: dict[str, Callable[[Engine], Any]] = {
    "pipeline.svg": pipeline,
    "beam.svg": beam,
    "segments.svg": segments,
    "layers.png": layers,
    "control.png": control,
    "grid.png": grid,
    "motion.svg": motion,
}


def main(folder: str = "docs/images") -> None:
    """Writes every figure into the folder."""
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    engine = load()
    with plt.rc_context(STYLE):
        for name, draw in FIGURES.items():
            figure = draw(engine)
            metadata = {"Date": None} if name.endswith(".svg") else {"Software": None}
            figure.savefig(target / name, metadata=metadata, bbox_inches="tight", dpi=115, facecolor="white")
            plt.close(figure)
            print(target / name)


if __name__ == "__main__":
    main(*sys.argv[1:])
