"""The page: it loads nothing, says everything, and works in a browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nldf_engine.base import html
from nldf_engine.evaluation import EvaluateConfig, RealClip, evaluate_clip
from nldf_engine.evaluation.report.page import write_index
from nldf_engine.evaluation.report.plots import PLOTS, plot, worst

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
    assert "video/mp4;base64," in text and "image/png;base64," in text


def test_the_page_escapes_what_others_named(page: Path) -> None:
    """Names of avatars and datasets are text, not HTML."""
    text = page.read_text()
    assert "<b>me" not in text and "alert(1)</script>" not in text
    assert "&lt;b&gt;me&lt;/b&gt; &amp; &quot;you&quot;" in text


def test_the_page_says_what_was_measured_and_what_was_not(page: Path) -> None:
    """The figures of metrics.json, the reasons of missing ones, and a label on everything that is drawn."""
    text, figures = page.read_text(), json.loads((page.parent / "metrics.json").read_text())
    assert f"<td>{figures['psnr']:.2f}</td>" in text and f"<td>{figures['ssim_mouth']:.3f}</td>" in text
    assert "Not measured" in text and html.escape(figures["lpips_reason"]) in text
    assert '<html lang="en">' in text and "prefers-color-scheme: dark" in text
    assert all("aria-label=" in tag for tag in re.findall(r'<svg class="plot"[^>]*>|<video[^>]*>', text))
    assert all("alt=" in tag for tag in re.findall(r"<img[^>]*>", text))
    assert text.count("<caption>") == text.count("<table>") and '<label for="frame">' in text


def test_texts_stand_out_in_light_and_dark() -> None:
    """Ink, dim ink and warnings have a contrast of 4.5 with their paper (WCAG AA), curves of 3."""

    def shine(colour: str) -> float:
        parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))

    for scheme in html.STYLE.split("@media"):
        names = dict(re.findall(r"--(\w+): (#\w{6})", scheme))
        if not names:
            continue
        paper = shine(names["paper"])
        for name, colour in names.items():
            least = {"ink": 4.5, "dim": 4.5, "bad": 4.5}.get(name, 3.0 if re.fullmatch(r"c\d", name) else 0)
            light, dark = sorted((paper, shine(colour)), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= least, (name, colour)


def test_curves_leave_holes_and_the_worst_frames_lie_apart() -> None:
    """Frames without a figure break the line; of a bad stretch one frame is named, not all of it."""
    psnr: list[float | None] = [30.0] * 40
    psnr[10] = psnr[11] = None
    psnr[20:24] = [12.0, 11.0, 12.0, 13.0]
    per_frame = {"fps": 25.0, "frame": list(range(100, 140)), "psnr": psnr}
    drawn = plot(PLOTS[0], per_frame)
    assert drawn.count("<polyline") == 2 and "full frame" in drawn and "mouth" not in drawn
    assert plot(PLOTS[1], per_frame) == ""
    named = worst(per_frame)
    assert named[0] == (21, "full frame: 11.00 dB")
    assert not any(place in (20, 22, 23) for place, why in named if why.startswith("full frame"))
    assert (20, "jumps by 18.00 dB from the frame before") in named


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
    const told = {};
    function say() {
      told.errors = errors; told.width = video.videoWidth; told.seconds = video.duration;
      const box = plots[0].getBoundingClientRect(), scale = box.width / 1000;
      plots[0].dispatchEvent(new MouseEvent('click',
        {clientX: box.left + (+plots[0].dataset.left + +plots[0].dataset.width) * scale,
         clientY: box.top + 50}));
      told.end = label.textContent; told.time = video.currentTime;
      const button = document.querySelector('button[data-place]'); button.click();
      told.button = label.textContent; told.wanted = button.textContent;
      const loaded = performance.getEntriesByType('resource');
      told.requests = loaded.filter(entry => !entry.name.startsWith('data:')).length;
      document.body.dataset.told = JSON.stringify(told);
    }
    if (video.readyState >= 1) say(); else video.addEventListener('loadedmetadata', say);
    """
    found = re.search(r'data-told="([^"]*)"', browse(page, script, tmp_path / "profile"))
    assert found is not None, "the video's metadata never loaded"
    told = json.loads(found.group(1).replace("&quot;", '"'))
    assert told["errors"] == [] and told["requests"] == 0
    assert told["width"] > 300 and told["seconds"] == pytest.approx(40 / 25, abs=0.1)
    assert told["end"].startswith("frame 199") and told["time"] == pytest.approx(39.5 / 25, abs=0.05)
    assert told["button"].startswith(told["wanted"])
