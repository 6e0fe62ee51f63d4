"""Files that a browser sends: what is taken, and what never reaches a decoder."""

import io
import wave
from pathlib import Path

import cv2
import numpy as np
import pytest

from nldf_engine.apps.viewer import upload
from nldf_engine.apps.viewer.playback import Playback
from nldf_engine.apps.viewer.upload import plain_name, read_uploaded_picture, read_uploaded_sound, sound_kind
from sounds import wav_bytes

TONE = (0.2 * np.sin(np.arange(8000) / 5)).astype(np.float32)


def test_a_sound_is_read_whatever_it_is_called() -> None:
    """By what it is, not by its name; the name that is shown holds no path and no markup."""
    samples, rate = read_uploaded_sound("../../etc/<b>passwd", wav_bytes(TONE))
    assert rate == 16000 and samples.shape == (8000, 1)
    np.testing.assert_allclose(samples[:, 0], TONE, atol=1e-4)
    assert plain_name("../../etc/<b>passwd") == "bpasswd" and plain_name("C:\\x\\a.wav") == "a.wav"
    assert plain_name("\x00/") == "the file"


@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n",
        "ffconcat version 1.0\nfile '/etc/hostname'\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\nm=audio 9 RTP/AVP 0\n",
        '<?xml version="1.0"?><MPD><BaseURL>http://127.0.0.1/</BaseURL></MPD>',
        "",
    ],
    ids=["hls", "concat", "sdp", "dash", "empty"],
)
def test_what_names_other_files_is_not_opened(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No decoder sees a playlist."""
    monkeypatch.setattr(upload, "read_sound", lambda path: pytest.fail(f"{path} was opened"))
    with pytest.raises(ValueError, match=r"list\.m3u8: expected WAV, FLAC.*begins like none"):
        read_uploaded_sound("list.m3u8", text.encode())


def test_size_and_damage_are_reported_without_a_path(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"^a\.wav: it is cut short: \d+ of 16000 bytes") as cut:
        read_uploaded_sound("a.wav", wav_bytes(TONE)[:4000])
    assert "/tmp" not in str(cut.value) and "nldf-view" not in str(cut.value)
    monkeypatch.setattr(upload, "LARGEST_BYTES", 1 << 20)
    with pytest.raises(ValueError, match=r"a\.wav: it has 2 MB, and 1 MB are taken"):
        read_uploaded_sound("a.wav", b"RIFF" + bytes(2 << 20))


def test_pictures_likewise() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (9, 7, 3), dtype=np.uint8)
    _, png = cv2.imencode(".png", picture[:, :, ::-1])
    np.testing.assert_array_equal(read_uploaded_picture("a.png", png.tobytes()), picture)
    for data, what in ((b"<svg/>", "expected PNG"), (png.tobytes()[:30], "a.png: ")):
        with pytest.raises(ValueError, match=what):
            read_uploaded_picture("a.png", data)


def test_kinds_are_told_by_the_first_bytes() -> None:
    assert sound_kind(b"fLaC") == ".flac" and sound_kind(b"\x00\x00\x00\x20ftypM4A ") == ".mp4"
    assert sound_kind(b"\xff\xfb\x90\x00") == ".mp3" and sound_kind(b"\xff\xf1\x50\x80") == ".aac"
    assert sound_kind(b"RIFF\x00\x00\x00\x00AVI ") is None and sound_kind(b"\xff") is None


def test_the_browser_is_given_the_rest_of_the_sound(tmp_path: Path) -> None:
    """From the moment that it is played from."""
    import base64

    html = Playback((TONE[:, None], 16000)).html(0.25)
    data = base64.b64decode(html.partition("base64,")[2].partition('"')[0])
    with wave.open(io.BytesIO(data)) as stream:
        assert stream.getnframes() == 4000 and stream.getframerate() == 16000
    assert Playback((TONE[:, None], 16000)).html(9.0) == "" and Playback(None).html(0) == ""
