"""HLG and PQ against the levels that ITU-R BT.2408 gives, and through a file."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from nldf_engine.media.grading import HLG, PQ, TO_BT709, graded
from nldf_engine.media.video import decode, frames_at, make_converter, probe, rgb_of

BT2020 = 9


def level(signal: float | np.ndarray, transfer: int = HLG, primaries: int = BT2020) -> np.ndarray:
    """What a signal of 0 to 1 becomes, [3]."""
    picture = np.round(65535 * np.broadcast_to(signal, (1, 1, 3))).astype(np.uint16)
    return graded(picture, transfer, primaries)[0, 0].astype(int)


@pytest.mark.parametrize("primaries", [BT2020, 1])
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


def test_colours_keep_their_hue() -> None:
    """Colours of BT.709, in BT.2020 and HLG, come back; so do highlights, but for their brightness."""

    def hlg(light: np.ndarray) -> np.ndarray:
        scene = light * 0.26496
        return np.where(
            scene <= 1 / 12,
            np.sqrt(3 * scene),
            0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 0.1)) + 0.55991073,
        )

    for light in ([0.42, 0.25, 0.18], [0.02, 0.05, 0.3], [0.5, 0.02, 0.03]):
        wide = np.linalg.inv(TO_BT709.astype(float)) @ light
        wanted = 255 * (1.099 * np.array(light) ** 0.45 - 0.099)
        assert abs(level(hlg(wide)) - wanted).max() <= 2
    bright = np.linalg.inv(TO_BT709.astype(float)) @ [1.6, 0.8, 0.4]
    made = ((level(hlg(bright)) / 255 + 0.099) / 1.099) ** (1 / 0.45)
    np.testing.assert_allclose(made / made[0], [1, 0.5, 0.25], atol=0.01)


@pytest.mark.parametrize("pix_fmt", ["yuv420p10le", "yuv420p"])
def test_a_tagged_file_is_read_as_ordinary_video(tmp_path: Path, pix_fmt: str) -> None:
    """Of 10 bits or 8, as pictures and as planes, which are ordinary from there on."""
    path, deep = tmp_path / "a.mkv", pix_fmt != "yuv420p"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, pix_fmt
        for thing in (stream.codec_context,):
            thing.colorspace, thing.color_range, thing.color_primaries, thing.color_trc = (
                BT2020,
                1,
                BT2020,
                HLG,
            )
        for k in range(3):
            frame = av.VideoFrame(64, 48, pix_fmt)
            frame.colorspace, frame.color_range = BT2020, 1
            frame.color_primaries, frame.color_trc = BT2020, HLG
            for plane, value in zip(frame.planes, (16 + 0.38 * 219, 128, 128), strict=True):
                values = np.full(
                    plane.buffer_size // (1 + deep), round(value * (1 + 3 * deep)), "<u2" if deep else "u1"
                )
                plane.update(values.tobytes())
            frame.pts, frame.time_base = k, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    assert probe(path).hdr
    for picture in frames_at(path):
        assert abs(picture.astype(int) - 104).max() <= 3
    planes = next(iter(decode(path))).planes()
    assert planes.colours.transfer == 1
    assert abs(rgb_of(planes, make_converter()).astype(int) - 104).max() <= 4
