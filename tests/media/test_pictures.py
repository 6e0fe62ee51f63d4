"""Pictures: what is written is read back, by us and by OpenCV, and nothing is half-written."""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from nldf_engine.base.errors import FileProblem
from nldf_engine.media.pictures import encode_png, fill_hidden, read_picture, shrink, write_picture


def picture(channels: int) -> np.ndarray:
    return np.random.default_rng(channels).integers(0, 256, (5, 7, channels), np.uint8)


def test_round_trip(tmp_path: Path) -> None:
    """A picture is read back pixel by pixel, into a folder that is made for it; older files are replaced."""
    path = tmp_path / "new" / "a.png"
    for made in (picture(3), 255 - picture(3)):
        write_picture(path, made)
        assert np.array_equal(read_picture(path, "draw it again"), made)
    assert [item.name for item in path.parent.iterdir()] == ["a.png"]


@pytest.mark.parametrize("compression", [0, 1, 9])
def test_bytes(compression: int) -> None:
    """RGB and RGBA go out in the order that PNG has, as OpenCV reads them, also from a view."""
    for made, order in ((picture(3), [2, 1, 0]), (picture(4), [2, 1, 0, 3])):
        wanted = encode_png(made, compression)
        assert encode_png(np.flip(np.flip(made, 1).copy(), 1), compression) == wanted
        read = cv2.imdecode(np.frombuffer(wanted, np.uint8), cv2.IMREAD_UNCHANGED)
        assert np.array_equal(read[..., order], made)
    flat = np.zeros((64, 64, 3), np.uint8)
    assert len(encode_png(flat, 9)) <= len(encode_png(flat, 1)) < len(encode_png(flat, 0))


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    """A smooth picture of 40 x 60 in which no two corners are alike."""
    y, x = np.mgrid[:40, :60]
    return np.stack([20 + 3 * x, 220 - 4 * y, 60 + 2 * y + x], -1).astype(np.uint8)


@pytest.mark.parametrize(
    "ending, off", [(".png", 0), (".bmp", 0), (".tiff", 0), (".jpg", 6), (".webp", 12)]
)  # fmt: skip
def test_formats(photo: np.ndarray, tmp_path: Path, ending: str, off: int) -> None:
    """Each is read as OpenCV wrote it: to the last bit where nothing is lost, else within its losses.

    The file's name plays no part.
    """
    path = tmp_path / "picture"
    path.write_bytes(cv2.imencode(ending, photo[..., ::-1])[1].tobytes())
    read = read_picture(path, "draw it again")
    assert read.shape == photo.shape
    assert np.abs(read.astype(int) - photo).max() <= off


def test_many_kinds_of_png(photo: np.ndarray, tmp_path: Path) -> None:
    """Gray ones, those of 16 bits, and what is see-through: over white."""
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), photo[..., 0])
    assert np.array_equal(read_picture(path, ""), np.repeat(photo[..., :1], 3, -1))
    cv2.imwrite(str(path), photo[..., ::-1].astype(np.uint16) * 257)
    assert np.abs(read_picture(path, "").astype(int) - photo).max() <= 1
    alpha = np.zeros((40, 60, 1), np.uint8)
    alpha[:20] = 255
    cv2.imwrite(str(path), np.concatenate([photo[..., ::-1], alpha], -1))
    assert (
        np.array_equal(read_picture(path, "")[:20], photo[:20]) and (read_picture(path, "")[20:] == 255).all()
    )


def with_orientation(jpeg: bytes, number: int) -> bytes:
    """A JPEG with an EXIF block that holds its orientation alone."""
    entry = struct.pack(">HHIHH", 0x112, 3, 1, number, 0)
    exif = b"Exif\0\0MM\0*" + struct.pack(">IH", 8, 1) + entry + bytes(4)
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]


@pytest.mark.parametrize("number", [1, 3, 6, 8])
def test_photos_are_upright(photo: np.ndarray, tmp_path: Path, number: int) -> None:
    """A photo that a phone took on its side is turned as OpenCV turns it."""
    data = with_orientation(cv2.imencode(".jpg", photo[..., ::-1])[1].tobytes(), number)
    (tmp_path / "a.jpg").write_bytes(data)
    wanted = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    read = read_picture(tmp_path / "a.jpg", "")
    assert read.shape == wanted.shape and np.abs(read.astype(int) - wanted).max() <= 8


@pytest.mark.parametrize(
    "data",
    [
        b"#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n",
        b"ffconcat version 1.0\nfile secret.png\n",
        b"\xff\xd8\xff" + bytes(100),
        b"BM" + bytes(20),
        b"RIFF" + bytes(40),
        # A PNG of 65000 x 65000 pixels, or so its header says.
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", 65000, 65000) + b"\x08\2\0\0\0xxxx\0\0\0\0IEND",
    ],
)  # fmt: skip
def test_what_is_no_picture(data: bytes, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Playlists, rubbish behind a known beginning and absurd sizes are refused, by one error alone."""
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(FileProblem, match="no picture that can be read"):
        read_picture(tmp_path / "a.png", "draw it again")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("ending", [".png", ".jpg"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.98])
def test_half_a_picture_is_told(photo: np.ndarray, tmp_path: Path, ending: str, share: float) -> None:
    """What a copy broke off is not filled with grey, also where a small picture stands whole in the file."""
    whole = cv2.imencode(ending, photo[..., ::-1])[1].tobytes()
    if ending == ".jpg":
        small = b"Exif\0\0" + cv2.imencode(ending, photo[::4, ::4])[1].tobytes()
        whole = whole[:2] + b"\xff\xe1" + struct.pack(">H", len(small) + 2) + small + whole[2:]
    path = tmp_path / "a"
    path.write_bytes(whole + b"what a phone appends"[: 20 * (ending == ".jpg")])
    assert read_picture(path, "").shape == photo.shape
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(FileProblem, match="cut short"):
        read_picture(path, "copy it again")


def test_a_whole_picture_is_not_told_as_half(photo: np.ndarray, tmp_path: Path) -> None:
    """Bytes that fill the room before marks, a last mark that lacks, and what lies behind a picture."""
    path, jpeg = tmp_path / "a", cv2.imencode(".jpg", photo[..., ::-1])[1].tobytes()
    path.write_bytes(jpeg)
    whole = read_picture(path, "")
    filled = jpeg
    for mark in (b"\xff\xdb", b"\xff\xda"):
        filled = filled.replace(mark, b"\xff\xff" + mark, 1)
    for data in (filled, jpeg[:-2]):
        path.write_bytes(data)
        np.testing.assert_array_equal(read_picture(path, ""), whole)
    progressive = cv2.imencode(".jpg", photo, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    for data in (jpeg[:-4], progressive[:-2]):
        path.write_bytes(data)
        with pytest.raises(FileProblem, match="cut short"):
            read_picture(path, "")
    write_picture(path, photo)
    path.write_bytes(path.read_bytes() + bytes(100))
    np.testing.assert_array_equal(read_picture(path, ""), photo)


@pytest.mark.parametrize("size", [(20, 30), (13, 17), (1, 1), (40, 59), (40, 60)])
def test_shrinking(size: tuple[int, int]) -> None:
    """Each pixel is the mean of the area that it covers, as OpenCV has it; larger ones are refused."""
    made = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    wanted = cv2.resize(made, size[::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(shrink(made, *size).astype(int) - wanted).max() <= 1
    with pytest.raises(ValueError, match=r"size: expected 1x1 to 40x60 .* got 41x60"):
        shrink(made, 41, 60)


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_wrong_pictures(wrong: np.ndarray, tmp_path: Path) -> None:
    """Another dtype or shape is refused with what came, and no file appears."""
    with pytest.raises(ValueError, match=r"picture: expected uint8 \[H, W, 3\].*" + str(wrong.dtype)):
        write_picture(tmp_path / "a.png", wrong)
    assert not list(tmp_path.iterdir())


def test_where_none_can_be_written(tmp_path: Path) -> None:
    """A folder in the place of the file is a clear error."""
    (tmp_path / "a.png").mkdir()
    with pytest.raises(FileProblem, match=r"a\.png: it is a folder"):
        write_picture(tmp_path / "a.png", picture(3))


def test_holes_are_filled_from_what_surrounds_them() -> None:
    """A hole in an even slope takes its colours; what is seen stays; a picture without any is gray."""
    slope = np.tile(np.linspace(20, 220, 64), (64, 1))
    picture = np.repeat(slope[..., None], 3, -1).round().astype(np.uint8)
    hidden = np.zeros((64, 64), bool)
    hidden[20:44, 24:40] = True
    spoilt = np.where(hidden[..., None], np.uint8(0), picture)
    filled = fill_hidden(spoilt, hidden)
    np.testing.assert_array_equal(filled[~hidden], picture[~hidden])
    assert np.abs(filled[hidden].astype(int) - picture[hidden]).max() < 25
    assert fill_hidden(picture, ~hidden & False) is picture
    assert (fill_hidden(picture, np.ones_like(hidden)) == 127).all()
