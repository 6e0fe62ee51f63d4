"""The viewer's web server with browsers that speak its protocol: pages, uploads, guests not let in."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("viser", reason="viser is not installed: pip install nldf_engine[view]")

from browsers import Browser
from nldf_engine.apps.cli import main as cli
from nldf_engine.apps.origins import is_known_host, is_own_page
from nldf_engine.apps.viewer.dataset_page import open_dataset_page
from nldf_engine.apps.viewer.page import AvatarPage, open_avatar_page
from nldf_engine.apps.viewer.server import (
    check_address,
    limit_uploads,
    open_server,
)
from nldf_engine.apps.viewer.take import silent_take
from nldf_engine.apps.viewer.view import connect
from nldf_engine.base.errors import NldfError
from nldf_engine.datasets.dataset import Dataset
from nldf_engine.engine import Engine
from sounds import wav_bytes

TONE = (0.2 * np.sin(np.arange(8000) / 5)).astype(np.float32)


class Viewer:
    """A running viewer of an avatar."""

    def __init__(self, engine: Engine) -> None:
        self.server = open_server("127.0.0.1", 0, "test")
        make = open_avatar_page(
            self.server, lambda: Engine(engine.avatar, engine.device), silent_take(engine)
        )
        self.pages: dict[int, AvatarPage] = connect(self.server, make)
        self.port = self.server.get_port()


@pytest.fixture(scope="module")
def running(tiny: Engine) -> Iterator[Viewer]:
    made = Viewer(tiny)
    yield made
    made.server.stop()


@pytest.fixture
def viewer(running: Viewer) -> Iterator[Viewer]:
    """The running viewer. A page goes a moment after its browser: the next test begins without any."""
    yield running
    wait(lambda: not running.pages)


def wait(until, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def page_of(viewer: Viewer) -> AvatarPage:
    """The page of the browser that came last."""
    return viewer.pages[max(viewer.pages)]


def test_two_browsers_do_not_disturb_each_other(viewer: Viewer) -> None:
    """A slider of one changes its own picture; the other's stays. Values are held in range."""
    one = Browser(viewer.port)
    one.picture()
    first = page_of(viewer)
    other = Browser(viewer.port)
    other.picture()
    second = page_of(viewer)
    assert first is not second
    other.quiet(0.6)
    one.set("turn (degrees)", 1e6)
    wait(lambda: first.desk.state.values)
    one.picture()
    yaw = next(control for control in first.desk.pictures.controls if control.name == "yaw")
    assert first.desk.state.values == {"yaw": yaw.high} and second.desk.state.values == {}
    assert not [m for m in other.quiet(0.5) if m["type"] == "BackgroundImageMessage"]
    one.close()
    other.close()
    wait(lambda: not viewer.pages)
    wait(lambda: not any("viewer artist" in thread.name for thread in threading.enumerate()))


def test_playing_dragging_and_comparing(viewer: Viewer) -> None:
    """Play moves the time line; a dragged camera turns the head and its slider; words are checked."""
    browser = Browser(viewer.port)
    browser.picture()
    desk = page_of(viewer).desk
    browser.set("GuiButtonGroupMessage", "play")
    wait(lambda: desk.playhead.frame > 3)
    assert browser.picture()
    browser.set("GuiButtonGroupMessage", "pause")
    wait(lambda: not desk.playhead.playing)
    browser.set("frame", 20)
    wait(lambda: desk.state.frame == 20)
    browser.look()  # where a drag begins
    wait(lambda: desk.turning.begun)
    half = np.radians(1.0) / 2
    place = (-0.8 * np.sin(2 * half), 0.0, -0.8 * np.cos(2 * half))
    browser.look(place, wxyz=(np.cos(half), 0.0, np.sin(half), 0.0))
    wait(lambda: abs(desk.state.values.get("yaw", 0)) == pytest.approx(1.0, abs=0.01))
    slider = browser.elements["turn (degrees)"]
    moved = browser.until(lambda m: m["type"] == "GuiUpdateMessage" and m["uuid"] == slider)
    assert abs(moved["updates"]["value"]) == pytest.approx(1.0)
    browser.set("show", "real, rendered, error")
    problem = browser.until(lambda m: "Notification" in m["type"])
    assert "shown: expected one of rendered" in str(problem)
    browser.close()


def test_uploads_are_read_checked_and_limited(viewer: Viewer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sound is said; a playlist is refused with a message; what is too large never arrives whole."""
    monkeypatch.setattr(limit_uploads, "__defaults__", (100_000,))
    browser = Browser(viewer.port)
    browser.picture()
    page = page_of(viewer)
    browser.upload("another sound", "../speech.wav", wav_bytes(TONE), parts=3)
    wait(lambda: page.desk.pictures.take.name == "speech.wav")
    assert len(page.desk.pictures.take) == 12
    browser.upload("another sound", "list.wav", b"#EXTM3U\nfile:///etc/hostname\n")
    refused = browser.until(lambda m: "Notification" in m["type"] and "begins like none" in str(m))
    assert "/etc" not in str(refused)
    waiting = page.client.gui._current_file_upload_states
    for said in (200_000, 10):  # what it says of itself does not count
        browser.upload("another sound", "big.wav", b"RIFF" + bytes(200_000), size=said, parts=8)
        browser.until(lambda m: "Notification" in m["type"] and "Too large" in str(m))
        wait(lambda: not waiting)
    assert page.desk.pictures.take.name == "speech.wav"
    browser.close()


def test_nonsense_from_a_browser_is_survived(viewer: Viewer, capfd: pytest.CaptureFixture[str]) -> None:
    """Values of wrong kinds, elements that there are not, cameras that are no cameras: the page goes on."""
    browser = Browser(viewer.port)
    browser.picture()
    desk = page_of(viewer).desk
    browser.set("turn (degrees)", "left")
    browser.set("turn (degrees)", float("nan"))
    browser.set("blinks", "wink")
    browser.send("GuiUpdateMessage", uuid="nobody", updates={"value": 1})
    browser.look((float("nan"), 0.0, 0.0))
    browser.look(image_height=0)
    browser.quiet(0.5)
    browser.set("openness", 0.5)
    wait(lambda: desk.state.values.get("eyes") == 0.5)
    assert browser.picture() and desk.state.values.get("yaw", 0) == 0
    browser.close()


def test_pages_of_other_sites_and_names_are_not_let_in(viewer: Viewer) -> None:
    """A websocket opened from another site's page, or by another name for this machine, gets no controls."""
    evil, rebound = "https://evil.example", f"evil.example:{viewer.port}"
    for origin, host in ((evil, None), (f"http://{rebound}", rebound)):
        browser = Browser(viewer.port, origin, host)
        messages = browser.quiet(1.0)
        assert list(browser.elements) == ["GuiMarkdownMessage"]
        assert "answers to its own address alone" in str(messages)
        browser.close()
    assert not viewer.pages
    assert is_own_page(None, "127.0.0.1:1") and not is_own_page("null", "127.0.0.1:1")
    assert is_known_host("[::1]:8080", "127.0.0.1") and is_known_host("pc.example", "0.0.0.0")
    assert not is_known_host(None, "127.0.0.1")


def test_no_browser_shares_it_with_the_internet(viewer: Viewer) -> None:
    """viser's request to open a tunnel does nothing here."""
    browser = Browser(viewer.port)
    browser.picture()
    browser.send("ShareUrlRequest")
    browser.quiet(0.3)
    assert viewer.server.request_share_url() is None and viewer.server._share_tunnel is None
    browser.close()


def test_recording_sends_a_video(viewer: Viewer) -> None:
    """The whole sound as a file to save; one recording at a time."""
    browser = Browser(viewer.port)
    browser.picture()
    browser.upload("another sound", "a.wav", wav_bytes(TONE[:3200]))
    wait(lambda: page_of(viewer).desk.pictures.take.name == "a.wav")
    browser.set("width", 32)
    browser.set("record the whole sound", True)
    start = browser.until(lambda m: m["type"] == "FileTransferStartDownload")
    part = browser.until(lambda m: m["type"] == "FileTransferPart")
    assert start["filename"] == "avatar.mp4" and part["content"][4:8] == b"ftyp"
    page = page_of(viewer)
    assert page._record._busy.acquire(timeout=5)
    browser.set("record the whole sound", True)
    browser.until(lambda m: "Notification" in m["type"] and "another recording is under way" in str(m))
    page._record._busy.release()
    browser.close()


def test_a_dataset_is_shown(footage: Dataset) -> None:
    """Frames with what was found in them, cameras in space, sound; scrubbing shows another frame."""
    server = open_server("127.0.0.1", 0, "data")
    pages = connect(server, open_dataset_page(server, footage))
    browser = Browser(server.get_port())
    browser.label("frame")
    browser.until(lambda m: m["type"] == "CameraFrustumMessage" and m["name"] == "/now")
    wait(lambda: bool(pages))
    image = next(iter(pages.values()))._image
    browser.quiet(0.6)
    before = image.image.copy()
    browser.set("frame", 40)
    wait(lambda: np.abs(image.image.astype(int) - before).max() > 20)
    browser.until(lambda m: "**frame 40**" in str(m))
    browser.set("picture", "label map")
    wait(lambda: float((image.image == 40).all(2).mean()) > 0.2)
    names = {m["name"] for m in browser.messages if m["type"] == "CameraFrustumMessage"}
    assert {"/cameras/0", "/cameras/25"} <= names
    browser.close()
    server.stop()


def test_where_nothing_can_listen_is_said(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """An address of another machine; flags that do not go together; folders that are neither."""
    with pytest.raises(NldfError, match=r"can't listen at 203\.0\.113\.9:8080.*--host"):
        check_address("203.0.113.9", 8080)
    for words, code, said in (
        (("view", str(tmp_path), "--port", "70000"), 2, "--port is 0 to 65535"),
        (("view", str(tmp_path), "a.wav", "--data", str(tmp_path)), 2, "a dataset has its own sound"),
        (("view", str(tmp_path), "a.wav"), 2, "is no avatar"),
        (("view", str(tmp_path)), 1, "it is no dataset"),
    ):
        assert cli.main(list(words)) == code
        assert said in capsys.readouterr().err
