"""HLG and PQ against the levels that ITU-R BT.2408 gives, and through a file."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from nldf_engine.media.grading import HLG, PQ, graded
from nldf_engine.media.video import decode, frames_at, make_converter, probe, rgb_of

BT709, BT2020, P3 = 1, 9, 12
# (x, y) of red, green and blue; white is D65 in all.
CHROMATICITIES = {
    BT709: ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060)),
    BT2020: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    P3: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
}


def to_xyz(primaries: int) -> np.ndarray:
    """[3, 3] from linear RGB to CIE XYZ."""
    columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in CHROMATICITIES[primaries]]).T
    white = np.array([0.3127 / 0.3290, 1, (1 - 0.3127 - 0.3290) / 0.3290])
    return columns * np.linalg.solve(columns, white)


def signal_of(light: list[float], primaries: int) -> np.ndarray:
    """HLG's signal [3] of linear light [3] in BT.709's primaries, white being 1, in others."""
    scene = 0.26496 * np.linalg.solve(to_xyz(primaries), to_xyz(BT709) @ light)
    high = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 0.1)) + 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene.clip(0)), high)


def curve(light: list[float]) -> np.ndarray:
    """BT.709's levels of linear light above 0.018."""
    return 255 * (1.099 * np.array(light) ** 0.45 - 0.099)


def level(signal: float | np.ndarray, transfer: int = HLG, primaries: int = BT2020) -> np.ndarray:
    """What a signal of 0 to 1 becomes, [3]."""
    picture = np.round(65535 * np.broadcast_to(signal, (1, 1, 3))).astype(np.uint16)
    return graded(picture, transfer, primaries)[0, 0].astype(int)


@pytest.mark.parametrize("primaries", [BT2020, P3, BT709])
@pytest.mark.parametrize(("transfer", "grey", "white"), [(HLG, 0.38, 0.75), (PQ, 0.38, 0.5807)])
def test_grey_and_white_are_where_they_belong(
    transfer: int, grey: float, white: float, primaries: int
) -> None:
    """An 18 % grey card has 41 % of BT.709, white a little less than all; both stay grey, black is black."""
    made = level(grey, transfer, primaries)
    assert abs(made - 0.409 * 255).max() < 6 and np.ptp(made) <= 1
    made = level(white, transfer, primaries)
    assert made.min() >= 235 and made.max() <= 248 and np.ptp(made) <= 1
    assert level(0.0, transfer, primaries).max() == 0
    ramp = [level(x, transfer, primaries)[1] for x in np.linspace(0, 1, 200)]
    assert (np.diff(ramp) >= 0).all() and ramp[-1] >= 254


@pytest.mark.parametrize("primaries", [BT2020, P3, BT709])
def test_colours_keep_their_hue(primaries: int) -> None:
    """Colours of BT.709, in other primaries and HLG, come back; so do highlights, but for brightness."""
    for light in ([0.42, 0.25, 0.18], [0.02, 0.05, 0.3], [0.5, 0.02, 0.03]):
        assert abs(level(signal_of(light, primaries), HLG, primaries) - curve(light)).max() <= 2
    bright = level(signal_of([1.6, 0.8, 0.4], primaries), HLG, primaries)
    made = ((bright / 255 + 0.099) / 1.099) ** (1 / 0.45)
    np.testing.assert_allclose(made / made[0], [1, 0.5, 0.25], atol=0.01)


@pytest.mark.parametrize("primaries", [BT2020, P3])
@pytest.mark.parametrize("light", [[0.122, 0.122, 0.122], [0.42, 0.25, 0.18]])
@pytest.mark.parametrize("pix_fmt", ["yuv420p10le", "yuv420p"])
def test_a_tagged_file_is_read_as_ordinary_video(
    tmp_path: Path, pix_fmt: str, light: list[float], primaries: int
) -> None:
    """Of 10 bits or 8, grey and skin, as pictures and as planes, which are ordinary from there on."""
    path, deep = tmp_path / "a.mkv", pix_fmt != "yuv420p"
    red, _, blue = signal = signal_of(light, primaries)
    luma = float(signal @ [0.2627, 0.6780, 0.0593])
    chroma = (blue - luma) / 1.8814, (red - luma) / 1.4746
    values = (16 + 219 * luma, *(128 + 224 * value for value in chroma))
    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, pix_fmt
        frames = [av.VideoFrame(64, 48, pix_fmt) for _ in range(3)]
        for thing in (stream.codec_context, *frames):
            thing.colorspace, thing.color_range = BT2020, 1
            thing.color_primaries, thing.color_trc = primaries, HLG
        for k, frame in enumerate(frames):
            for plane, value in zip(frame.planes, values, strict=True):
                count, kind = plane.buffer_size // (1 + deep), "<u2" if deep else "u1"
                plane.update(np.full(count, round(value * (1 + 3 * deep)), kind).tobytes())
            frame.pts, frame.time_base = k, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    assert probe(path).hdr
    for picture in frames_at(path):
        assert abs(picture - curve(light)).max() <= 3
    planes = next(iter(decode(path))).planes()
    assert planes.colours.transfer == 1
    assert abs(rgb_of(planes, make_converter()) - curve(light)).max() <= 5
