"""Light and surfaces: what colour a sample of each material has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nldf_engine.synthetic.head import EYE_HALF, EYE_MIDDLE, lid_lines, lip_heights, lip_line
from nldf_engine.synthetic.looks import Looks, linear
from nldf_engine.synthetic.shapes import bell, smoothstep


def _unit(*v: float) -> np.ndarray:
    a = np.array(v, np.float32)
    return a / np.linalg.norm(a)


# Towards the lights, in the camera's axes.
KEY, KEY_COLOUR = _unit(-0.55, -0.62, -0.72), np.array([1.02, 0.94, 0.82], np.float32) * 0.98
FILL, FILL_COLOUR = _unit(0.85, -0.10, -0.65), np.array([0.62, 0.72, 0.92], np.float32) * 0.30
RIM, RIM_COLOUR = _unit(0.80, -0.45, 0.62), np.array([1.0, 0.90, 0.76], np.float32) * 0.95
SKY, GROUND = np.array([0.40, 0.41, 0.45], np.float32), np.array([0.27, 0.20, 0.17], np.float32)
SKIN_WRAP = np.array([0.46, 0.26, 0.20], np.float32)
CLOTH_WRAP = np.array([0.22, 0.22, 0.22], np.float32)


@dataclass
class Samples:
    """Samples [N] of one material.

    `normal` and `view` (towards the camera) are unit vectors in the camera's axes, `rest` the texture
    coordinates, `albedo` linear, `lit` and `key` the light that arrives (ambient, key) in 0..1.
    """

    normal: np.ndarray
    view: np.ndarray
    rest: np.ndarray
    albedo: np.ndarray
    lit: np.ndarray
    key: np.ndarray
    strand: np.ndarray | None = None


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.einsum("nc,nc->n", a, b) if b.ndim == 2 else a @ b


def _lit(s: Samples, wrap: np.ndarray, bleed: np.ndarray | None = None) -> np.ndarray:
    """Diffuse light [N, 3]. Light wraps around to the shadow side by `wrap` a channel; `bleed` tints the
    places that little ambient light reaches, as light that has gone through the surface does."""
    n = s.normal
    key = np.maximum((_dot(n, KEY)[:, None] + wrap) / (1 + wrap), 0)
    shade = s.key[:, None] if bleed is None else s.key[:, None] ** (1 - 0.55 * bleed)
    fill = np.maximum(_dot(n, FILL) * 0.7 + 0.3, 0)[:, None]
    up = (0.5 - 0.5 * n[:, 1])[:, None]
    ambient = GROUND + (SKY - GROUND) * up
    reach = s.lit[:, None] if bleed is None else s.lit[:, None] ** (1 - 0.45 * bleed)
    return key * shade * KEY_COLOUR + reach * (fill * FILL_COLOUR + ambient)


def _shine(s: Samples, light: np.ndarray, power: float) -> np.ndarray:
    half = s.view + light
    half = half / np.linalg.norm(half, axis=1, keepdims=True)
    return np.maximum(_dot(s.normal, half), 0) ** power


def _edge(s: Samples, power: float = 3.0) -> np.ndarray:
    return (1 - np.clip(_dot(s.normal, s.view), 0, 1)) ** power


def _rim(s: Samples) -> np.ndarray:
    return (np.maximum(_dot(s.normal, RIM) + 0.15, 0) * _edge(s, 2.2) * s.lit)[:, None] * RIM_COLOUR


def _flesh(s: Samples, albedo: np.ndarray, gloss: np.ndarray | float = 1.0) -> np.ndarray:
    colour = albedo * _lit(s, SKIN_WRAP, np.array([1.0, 0.25, 0.1], np.float32))
    shine = 0.055 * _shine(s, KEY, 14) * s.key + 0.05 * _shine(s, FILL, 18) * s.lit
    tight = 0.16 * (np.asarray(gloss) - 1) * _shine(s, KEY, 60) * s.key
    return colour + (shine + tight)[:, None] * KEY_COLOUR + 0.55 * _rim(s)


def brow_stroke(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the brows are painted: cover 0..1, and the position along each from the nose outwards 0..1."""
    a = np.abs(x)
    u = (a - 0.0135) / 0.0385
    middle = (
        -0.0258 - 0.0075 * np.sin(np.pi * np.clip(u, 0, 1) ** 1.15 * 0.93) + 0.0028 * np.clip(u, 0, 1) ** 3
    )
    half = (
        0.0036
        * np.sqrt(np.clip(1 - (1 - np.clip(u * 5, 0, 1)) ** 2, 0, 1))
        * (1 - 0.97 * np.clip(u, 0, 1) ** 1.8)
    )
    cover = smoothstep(half + 0.0007, half - 0.0007, np.abs(y - middle)) * ((u > -0.01) & (u < 1.0))
    return cover, u


def _freckles(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """How much of a freckle is at (x, y), 0..1: a jittered lattice."""
    cell_x, cell_y = np.floor(x / 0.0048), np.floor(y / 0.0048)
    noise = np.sin(cell_x * 12.9898 + cell_y * 78.233) * 43758.5453
    noise = noise - np.floor(noise)
    noise2 = np.modf(noise * 57.31)[0]
    fx, fy = (
        x / 0.0048 - cell_x - 0.2 - 0.6 * noise,
        y / 0.0048 - cell_y - 0.2 - 0.6 * np.modf(noise2 * 91.7)[0],
    )
    return bell(np.sqrt(fx * fx + fy * fy), 0.10 + 0.10 * noise2) * (noise2 > 0.45)


def _lids(albedo: np.ndarray, ex: np.ndarray, ey: np.ndarray, openness: float) -> np.ndarray:
    """Colours [N, 3] about the eyes: a warm crease above, a dark line of lashes, a light wet edge below.

    Args:
        albedo: [N, 3] of the skin there; ex, ey: [N] its places, |x| and y.
        openness: of the eyes, 0..1.
    """
    upper, lower = lid_lines(ex, openness)
    open_upper, _ = lid_lines(ex, 1.0)
    span = (ex - EYE_MIDDLE) / EYE_HALF
    within = smoothstep(1.16, 1.0, np.abs(span))
    crease = 0.42 * bell(ey - (open_upper - 0.0030), 0.0011) * smoothstep(1.12, 0.8, np.abs(span))
    shadow = 0.18 * bell(ey - (open_upper - 0.0012), 0.0040) * within
    thick = (0.0011 + 0.0010 * smoothstep(-0.7, 1.0, span)) * smoothstep(1.20, 1.0, span)
    wing = np.maximum(span - 1, 0) * 0.0035  # lashes rise past the outer corner
    lash = smoothstep(thick + 0.0003, thick - 0.0005, np.abs(ey - (upper - thick * 0.6 - wing)))
    lash = lash * smoothstep(1.20, 1.12, span) * smoothstep(-1.06, -0.92, span)
    under = (
        0.35 * smoothstep(0.0011, 0.0002, np.abs(ey - lower - 0.0004)) * smoothstep(1.05, 0.9, np.abs(span))
    )
    tint = np.array([0.6, 0.95, 1.0], np.float32)
    local = albedo * (1 - (crease + shadow)[:, None] * tint)
    local = local * (1 - under[:, None] * np.array([0.35, 0.6, 0.6], np.float32))
    return local + lash[:, None] * (linear((38, 22, 18)) - local)


def skin(s: Samples, looks: Looks, openness: float) -> np.ndarray:
    """The face: blush, brows, lips, lash lines, the crease of the upper lid."""
    x, y, z = s.rest.T
    albedo = linear(looks.skin) * s.albedo
    a = np.abs(x)
    front = smoothstep(0.0, -0.045, z)
    blush = 0.62 * bell(a - 0.0425, 0.0165) * bell(y - 0.0285, 0.0135)
    blush = (
        blush
        + 0.42 * bell(x, 0.011) * bell(y - 0.031, 0.010)
        + 0.15 * bell(x, 0.014) * bell(y - 0.092, 0.012)
    )
    albedo = albedo * (1 - (blush * front)[:, None] * np.array([0.02, 0.30, 0.33], np.float32))
    freckle = _freckles(x, y) * front * bell(y - 0.024, 0.012) * smoothstep(0.056, 0.040, a)
    albedo = albedo * (1 - 0.30 * freckle[:, None] * np.array([0.55, 1.0, 1.1], np.float32))
    nostril = bell(a - 0.0064, 0.0030) * bell(y - 0.0418, 0.0022) * front
    albedo = albedo * (1 - 0.72 * nostril[:, None] * np.array([0.85, 1, 1], np.float32))
    near = np.flatnonzero((np.abs(a - EYE_MIDDLE) < 0.024) & (np.abs(y) < 0.020) & (front > 0.2))
    if len(near):
        albedo[near] = _lids(albedo[near], a[near], y[near], openness)
    cover, along = brow_stroke(x, y)
    cover = cover * front
    streak = 0.82 + 0.18 * np.sin(x / 0.00042 + np.sign(x) * y / 0.0006)
    brow = linear(looks.hair) * 0.75
    albedo = albedo + (cover * (0.88 - 0.1 * along))[:, None] * (brow * streak[:, None] - albedo)
    # Lips.
    t = y - lip_line(x)
    high, low = lip_heights(x)
    red = smoothstep(0.0009, -0.0003, np.where(t < 0, -t - high, t - low)) * (z < -0.04) * (a < 0.0262)
    inner = smoothstep(0.0024, 0.0006, np.abs(t)) * red
    lips = linear(looks.lips) * (1 - 0.38 * inner[:, None] * np.array([0.8, 1, 1], np.float32)) * s.albedo
    albedo = albedo + red[:, None] * 0.88 * (lips - albedo)
    gloss = 1 + 2.2 * red * (t > 0.001) + 1.2 * bell(x, 0.006) * bell(y - 0.024, 0.006) * front
    return _flesh(s, albedo, gloss)


def plain_skin(s: Samples, looks: Looks, openness: float) -> np.ndarray:
    """Neck and ears."""
    return _flesh(s, linear(looks.skin) * s.albedo)


def eye(s: Samples, looks: Looks, openness: float) -> np.ndarray:
    """An eyeball; `rest` is the direction from its centre, turned so that -z is where it looks."""
    d = s.rest
    r = np.sqrt(d[:, 0] ** 2 + d[:, 1] ** 2)
    angle = np.arctan2(d[:, 1], d[:, 0])
    iris_radius, pupil_radius = 0.425, 0.195
    white = np.array([0.86, 0.85, 0.84], np.float32) * (1 - 0.10 * smoothstep(0.4, 0.95, r))[:, None]
    white = white * (1 - 0.25 * smoothstep(0.55, 1.0, r)[:, None] * np.array([0.2, 0.9, 0.9], np.float32))
    q = np.clip(r / iris_radius, 0, 1)
    rays = 0.86 + 0.10 * np.sin(angle * 23 + 3 * q) + 0.08 * np.sin(angle * 41 + 1.7)
    colour = linear(looks.iris)[None] * (rays * (0.55 + 0.75 * q))[:, None]
    colour = colour * (1 + 1.1 * smoothstep(-0.1, 0.9, d[:, 1] / iris_radius)[:, None])  # light gathers below
    colour = colour * (1 - 0.75 * smoothstep(0.80, 1.0, q))[:, None]
    iris = smoothstep(iris_radius + 0.016, iris_radius - 0.016, r)[:, None]
    base = white + iris * (colour - white)
    pupil = smoothstep(pupil_radius + 0.018, pupil_radius - 0.018, r)[:, None]
    base = base * (1 - 0.97 * pupil)
    lid = 0.35 + 0.65 * s.albedo[:, 0]  # the upper lid's shadow
    light = 0.62 * lid[:, None] * _lit(s, CLOTH_WRAP) + 0.30 * lid[:, None]
    out = base * light
    big = smoothstep(0.13, 0.09, np.linalg.norm(s.normal - _unit(-0.17, -0.26, -0.95), axis=1))
    small = smoothstep(0.065, 0.035, np.linalg.norm(s.normal - _unit(0.17, 0.17, -0.97), axis=1))
    return out + (0.95 * big + 0.35 * small)[:, None]


def hair(s: Samples, looks: Looks, openness: float) -> np.ndarray:
    """Hair: streaks along the locks, dark seams, and the two highlights of strands."""
    offset, lock, away = s.rest.T
    streak = np.sin(offset / 0.00135 + 9 * lock) * 0.5 + np.sin(offset / 0.0006 + 21 * lock) * 0.25
    streak = streak + np.sin(offset / 0.0031 + 5 * lock) * 0.5
    streak = streak * smoothstep(0.034, 0.020, away)
    base = linear(looks.hair) * s.albedo * (1 + 0.20 * streak[:, None])
    base = base * (0.62 + 0.50 * smoothstep(0.030, 0.010, away))[:, None]
    assert s.strand is not None
    t = s.strand + 0.10 * streak[:, None] * s.normal
    t = t / np.linalg.norm(t, axis=1, keepdims=True)
    out = base * (_lit(s, CLOTH_WRAP) * 1.05)
    for light, colour, reach in (
        (KEY, KEY_COLOUR, s.key),
        (RIM, RIM_COLOUR, s.lit),
        (FILL, FILL_COLOUR, s.lit),
    ):
        half = s.view + light
        half = half / np.linalg.norm(half, axis=1, keepdims=True)
        along = _dot(t, half)
        across = np.sqrt(np.maximum(1 - along * along, 0))
        facing = np.clip(_dot(s.normal, light) + 0.35, 0, 1) * reach
        first = across**70 * 0.22
        second = (np.maximum(1 - (along + 0.12) ** 2, 0)) ** 14 * 0.9
        out = out + (facing * first)[:, None] * colour * 0.55 + (facing * second)[:, None] * base * colour
    return out + 0.35 * _rim(s) * (0.3 + base)


def _cloth(s: Samples, albedo: np.ndarray) -> np.ndarray:
    fuzz = 0.10 * _edge(s, 2.5) * s.lit
    return albedo * (_lit(s, CLOTH_WRAP) + fuzz[:, None] * 2) + 0.25 * _rim(s) * (0.3 + albedo)


def jumper(s: Samples, looks: Looks, openness: float) -> np.ndarray:
    """The jumper: knitted ribs, and a band of pattern across the chest."""
    x, y, z = s.rest.T
    albedo = linear(looks.jumper) * s.albedo
    turn = np.arctan2(x, 0.045 - z)
    away = np.sqrt(x * x + (z - 0.045) ** 2 + (y - 0.135) ** 2)
    zigzag = 0.0042 * np.abs(np.modf(np.abs(turn) * 9)[0] * 2 - 1)
    band = np.zeros_like(x)
    for middle, half in ((0.0905, 0.0014), (0.1010 + zigzag, 0.0019), (0.1160, 0.0014)):
        band = np.maximum(band, smoothstep(half + 0.0007, half - 0.0007, np.abs(away - middle)))
    albedo = albedo + 0.92 * band[:, None] * (linear(looks.stripe) * s.albedo - albedo)
    around = np.arctan2(x, 0.16 - z)
    knit = np.sin(around * 190) * 0.5 + 0.5
    albedo = albedo * (0.90 + 0.14 * knit)[:, None]
    return _cloth(s, albedo)


def collar(s: Samples, looks: Looks, openness: float) -> np.ndarray:
    """The ribbed collar."""
    albedo = linear(looks.jumper) * s.albedo * (0.86 + 0.16 * np.sin(64 * s.rest[:, 0]))[:, None]
    return _cloth(s, albedo)


def teeth(s: Samples, looks: Looks, openness: float) -> np.ndarray:
    """Teeth: faint gaps, darker towards the corners of the mouth."""
    arc, height = s.rest[:, 0], s.rest[:, 1]
    gap = np.abs(np.modf(np.abs(arc) / 0.0072 + 0.0)[0] - 0.0)
    gap = np.minimum(gap, 1 - gap)
    line = 0.16 * smoothstep(0.07, 0.02, gap) * smoothstep(0.0, 0.5, height)
    fade = 1 - 0.72 * smoothstep(0.006, 0.021, np.abs(arc))
    gum = smoothstep(0.22, 0.05, height)[:, None]
    colour = np.array([0.84, 0.80, 0.72], np.float32) * ((1 - line) * fade)[:, None]
    colour = colour + gum * (linear((176, 84, 80)) * fade[:, None] - colour)
    light = 0.34 + 0.50 * _lit(s, CLOTH_WRAP) + 0.12 * _shine(s, KEY, 30)[:, None]
    return colour * light * s.albedo


def tongue(s: Samples, looks: Looks, openness: float) -> np.ndarray:
    """The tongue."""
    colour = linear((196, 88, 88)) * smoothstep(-0.035, -0.075, s.rest[:, 2])[:, None]
    return colour * (0.18 + 0.55 * _lit(s, SKIN_WRAP)) + 0.06 * _shine(s, KEY, 30)[:, None]


def cavity(s: Samples, looks: Looks, openness: float) -> np.ndarray:
    """The inside of the mouth."""
    depth = smoothstep(-0.03, -0.08, s.rest[:, 2])
    return linear((92, 30, 30)) * (0.12 + 0.30 * depth)[:, None]


MATERIALS: dict[str, Callable[[Samples, Looks, float], np.ndarray]] = {
    "skin": skin, "ear": plain_skin, "neck": plain_skin, "eye": eye, "hair": hair, "jumper": jumper,
    "collar": collar, "teeth": teeth, "tongue": tongue, "cavity": cavity,
}  # fmt: skip
