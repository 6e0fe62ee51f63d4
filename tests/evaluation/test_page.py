"""The page: it loads nothing, says everything, and works in a browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import markupsafe
import numpy as np
import pytest

from nldf_engine.base import html
from nldf_engine.base.errors import MissingBackend
from nldf_engine.evaluation import EvaluateConfig, RealClip, evaluate_clip
from nldf_engine.evaluation.phones import Phone
from nldf_engine.evaluation.report.curves import COLOURS, LEFT, RIGHT, describe, draw_curves, svg_of
from nldf_engine.evaluation.report.drawing import PAPER
from nldf_engine.evaluation.report.page import write_index
from nldf_engine.evaluation.report.worst_frames import worst_frames

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


def dim(frame: np.ndarray) -> np.ndarray:
    return (frame // 2 + 20).astype(np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("report")


@pytest.fixture
def page(folder: Path, painted: RealClip, painter: Any, pixel_detector: Any) -> Path:
    """The report of the painted clip, made once; the names in it try to break out of the HTML."""
    path = folder / "report.html"
    if not path.exists():
        header = {"avatar": '<b>me</b> & "you"', "dataset": "</script><script>alert(1)</script>"}
        evaluate_clip(painted, painter(dim), folder, header, EvaluateConfig(), pixel_detector)
    return path


def test_the_page_loads_nothing_from_anywhere(page: Path) -> None:
    """No address with a host: sources are data: URIs, and neither styles nor scripts fetch anything."""
    text = page.read_text()
    assert "://" not in text
    assert {source[:5] for source in re.findall(r'(?:src|href|poster|data)\s*=\s*"([^"]*)', text)} == {
        "data:"
    }
    for word in ("@import", "url(", "fetch(", "XMLHttpRequest", "import("):
        assert word not in text
    assert all(f"{kind};base64," in text for kind in ("video/mp4", "image/png", "image/svg+xml"))


def test_the_page_escapes_what_others_named(page: Path) -> None:
    """Names of avatars and datasets are text, not HTML."""
    text = page.read_text()
    assert "<b>me" not in text and "alert(1)</script>" not in text
    assert "&lt;b&gt;me&lt;/b&gt; &amp; &#34;you&#34;" in text


def test_the_page_says_what_was_measured_and_what_was_not(page: Path) -> None:
    """The values of metrics.json, the reasons of missing ones, and a label on everything that is drawn."""
    text, figures = page.read_text(), json.loads((page.parent / "metrics.json").read_text())
    assert f"<td>{figures['psnr']:.2f}</td>" in text and f"<td>{figures['ssim_mouth']:.3f}</td>" in text
    assert "Not measured" in text and str(markupsafe.escape(figures["lpips_vgg_reason"])) in text
    assert '<html lang="en">' in text and "prefers-color-scheme: dark" in text
    assert all("aria-label=" in tag for tag in re.findall(r"<video[^>]*>", text))
    assert all("alt=" in tag for tag in re.findall(r"<img[^>]*>", text))
    assert text.count("<caption>") == text.count("<table>") and '<label for="frame">' in text


def test_texts_stand_out_in_light_and_dark() -> None:
    """Ink, dim ink and warnings have a contrast of 4.5 with their paper (WCAG AA), bars and curves of 3."""

    def shine(colour: str) -> float:
        parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))

    def contrast(first: str, second: str) -> float:
        dark, light = sorted((shine(first), shine(second)))
        return (light + 0.05) / (dark + 0.05)

    assert all(contrast(colour, PAPER) >= 3 for colour in COLOURS.values())
    for scheme in (html.TEMPLATES / "page.html").read_text().split("@media"):
        names = dict(re.findall(r"--(\w+): (#\w{6})", scheme))
        if not names:
            continue
        for name, colour in names.items():
            least = {"ink": 4.5, "dim": 4.5, "bad": 4.5}.get(name, 3.0 if re.fullmatch(r"c\d", name) else 0)
            assert contrast(names["paper"], colour) >= least, (name, colour)


def test_curves_leave_holes_and_the_worst_frames_lie_apart() -> None:
    """Frames without a figure break the line; of a bad stretch one frame is named, not all of it."""
    psnr: list[float | None] = [30.0] * 40
    psnr[10] = psnr[11] = None
    psnr[20:24] = [12.0, 11.0, 12.0, 13.0]
    per_frame = {"fps": 25.0, "frame": list(range(100, 140)), "psnr": psnr}
    figure = draw_curves(per_frame, "title", "subtitle")
    (axes,) = figure.axes
    (line,) = axes.lines
    assert np.flatnonzero(np.isnan(line.get_ydata())).tolist() == [10, 11]
    assert axes.get_ylabel() == "PSNR, dB" and line.get_label().startswith("full frame")
    assert describe(per_frame) == f"PSNR, dB: full frame {np.mean([v for v in psnr if v]):.3g} on average"
    named = worst_frames(per_frame)
    assert named[0] == (21, "full frame: 11.00 dB")
    assert not any(place in (20, 22, 23) for place, why in named if why.startswith("full frame"))
    assert (20, "jumps by 18.00 dB from the frame before") in named


def test_a_frame_is_found_by_its_place_in_the_picture() -> None:
    """The axes span the stated share of the picture's width, from the first frame to the last."""
    per_frame = {"fps": 25.0, "frame": list(range(100, 140)), "psnr": [30.0] * 40, "ssim": [0.9] * 40}
    figure = draw_curves(per_frame, "title", "subtitle")
    assert len(figure.axes) == 2
    for axes in figure.axes:
        place = axes.get_position()
        assert (place.x0, place.x1) == pytest.approx((LEFT, RIGHT)) and axes.get_xlim() == (100, 139)
    assert svg_of(figure) == svg_of(figure) and b"full frame" in svg_of(figure)
    one = {name: values[:1] if isinstance(values, list) else values for name, values in per_frame.items()}
    assert draw_curves(one, "title", "subtitle").axes[0].get_xlim() == (99.5, 100.5)


def test_templates_escape_and_miss_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Texts are escaped, a value that is missing is an error, and without jinja2 there is a command."""
    path = tmp_path / "some.html"
    path.write_text("{% extends 'page.html' %}{% block body %}{{ word }}{% endblock %}")
    assert "&lt;i&gt;" in html.render(path, title="t", word="<i>")
    with pytest.raises(Exception, match="word"):
        html.render(path, title="t")
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingBackend, match="pip install"):
        html.render(path, title="t", word="")


def test_several_avatars_share_one_table(tmp_path: Path) -> None:
    """One row an avatar; figures that none of them has are left out."""
    found = {"a<b": {"psnr": 30.126, "lpips": None, "seconds_per_frame": 0.02}, "c": {"psnr": None}}
    text = write_index(tmp_path, found).read_text()
    assert "a&lt;b" in text and "<td>30.13</td>" in text and "<td>20.0</td>" in text and "LPIPS" not in text


def browse(page: Path, script: str, profile: Path) -> str:
    """The page's document after it ran together with `script`."""
    probe = page.with_name("probe.html")
    probe.write_text(page.read_text().replace("</body>", f"<script>{script}</script></body>"))
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "--virtual-time-budget=8000", "--dump-dom"]
    done = subprocess.run(
        [*command, probe.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )  # fmt: skip
    return done.stdout


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_a_click_on_a_curve_shows_that_frame_in_a_browser(page: Path, tmp_path: Path) -> None:
    """The video plays in Chromium; a click at a curve's end and a button lead to their frames."""
    script = """
    const errors = []; window.onerror = message => errors.push(message);
    const seen = {};
    function say() {
      seen.errors = errors; seen.width = video.videoWidth; seen.seconds = video.duration;
      const box = curves.getBoundingClientRect(), drawn = curves.querySelector('img');
      seen.drawn = drawn.complete && drawn.naturalWidth;
      curves.dispatchEvent(new MouseEvent('click',
        {clientX: box.left + +curves.dataset.right * box.width, clientY: box.top + 50}));
      seen.end = label.textContent; seen.time = video.currentTime; seen.now = now.style.left;
      const button = document.querySelector('button[data-place]'); button.click();
      seen.button = label.textContent; seen.wanted = button.textContent;
      const loaded = performance.getEntriesByType('resource');
      seen.requests = loaded.filter(entry => !entry.name.startsWith('data:')).length;
      document.body.dataset.seen = JSON.stringify(seen);
    }
    if (video.readyState >= 1) say(); else video.addEventListener('loadedmetadata', say);
    """
    found = re.search(r'data-seen="([^"]*)"', browse(page, script, tmp_path / "profile"))
    assert found is not None, "the video's metadata never loaded"
    seen = json.loads(found.group(1).replace("&quot;", '"'))
    assert seen["errors"] == [] and seen["requests"] == 0
    assert seen["drawn"] > 800 and seen["now"] == f"{100 * RIGHT:g}%"
    assert seen["width"] > 300 and seen["seconds"] == pytest.approx(40 / 25, abs=0.1)
    assert seen["end"].startswith("frame 199") and seen["time"] == pytest.approx(39.5 / 25, abs=0.05)
    assert seen["button"].startswith(seen["wanted"])


def test_the_page_shows_the_lips_by_viseme_where_phones_are_known(
    closing: RealClip, painter: Any, pixel_detector: Any, without: Any, tmp_path: Path
) -> None:
    """Frames and errors of each class, with the true and with shifted audio; no table without phones."""
    starts = 6.4 + 0.4 * np.arange(4)
    phones = tuple(Phone(s, s + 0.4, name) for s, name in zip(starts, "mapu", strict=True))
    clip = without(closing, phones=phones)
    found = evaluate_clip(clip, painter(), tmp_path, {}, EvaluateConfig(), pixel_detector)
    text = (tmp_path / "report.html").read_text()
    for kind in ("bilabial", "open", "rounded"):
        errors = [found[f"visemes{end}"][kind]["lip_gap_error"] for end in ("", "_shuffled")]
        cells = [str(found["visemes"][kind]["frames"]), *(f"{error:.4f}" for error in errors)]
        row = rf"<th[^>]*>{kind}</th>\s*" + r"\s*".join(f"<td>{cell}</td>" for cell in cells)
        assert re.search(row, text), kind
    assert "closed lips, F1" in text


def test_without_phones_there_is_no_table_of_visemes(page: Path) -> None:
    """The lips' table says that nothing was measured, and why."""
    text = page.read_text()
    assert "Lip gap by viseme" not in text and "no phone times were given" in text
