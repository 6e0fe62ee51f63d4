"""The report as one page of HTML: tables, the video, and curves that lead to its frames when clicked.

The page loads nothing from anywhere: pictures and a small copy of the video are inside it.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from nldf_engine.base.html import document, embedded, facts, grid, write_document
from nldf_engine.evaluation.config import DEFINITIONS
from nldf_engine.evaluation.metrics.regions import REGIONS
from nldf_engine.evaluation.report.plots import PLOTS, plot, worst

VIDEO_WIDTH, CRF = 768, 30
MISSING = "–"
STYLE = """
.view { position: sticky; top: 0; background: var(--paper); padding: .4rem 0; z-index: 1 }
video { width: 100%; max-height: 45vh; display: block; background: #121212 }
.plot { display: block; width: 100%; min-width: 40rem; height: auto; cursor: crosshair; margin-top: .6rem }
.plot polyline { fill: none; stroke-width: 1.4; vector-effect: non-scaling-stroke }
.plot .grid { stroke: var(--faint) } .plot .now { stroke: var(--ink); stroke-dasharray: 3 3 }
button { font: inherit; color: inherit; background: var(--hover); border: 1px solid var(--line);
  border-radius: .3rem; padding: .1rem .5rem; cursor: pointer }
input[type=range] { width: 100% } details { margin-top: .6rem }
.tables { display: grid; grid-template-columns: repeat(auto-fit, minmax(22rem, 1fr)); gap: 1.2rem }
.tables > * { min-width: 0 } .worst { columns: 2 20rem } .worst li { margin: .2rem 0 }
"""
SCRIPT = """
const video = document.querySelector('video'), slide = document.querySelector('#frame');
const label = document.querySelector('#where'), plots = [...document.querySelectorAll('svg.plot')];
const data = JSON.parse(document.querySelector('#frames').textContent);
const last = data.frame.length - 1;
let place = 0;
function show(k, seek) {
  place = Math.max(0, Math.min(last, k));
  slide.value = place;
  if (seek) { video.pause(); video.currentTime = (place + 0.5) / data.rate; }
  const said = data.shown.map(([name, title, digits]) => data[name] && data[name][place] !== null
    ? title + ' ' + data[name][place].toFixed(digits) : null).filter(Boolean);
  label.textContent = 'frame ' + data.frame[place] + (said.length ? ': ' + said.join(', ') : '');
  for (const svg of plots) {
    const x = +svg.dataset.left + (svg.dataset.width - 0) * (last ? place / last : 0);
    const now = svg.querySelector('.now');
    now.setAttribute('x1', x); now.setAttribute('x2', x);
  }
}
for (const svg of plots) svg.addEventListener('click', event => {
  const box = svg.getBoundingClientRect(), scale = svg.viewBox.baseVal.width / box.width;
  const share = ((event.clientX - box.left) * scale - svg.dataset.left) / svg.dataset.width;
  show(Math.round(share * last), true);
});
slide.addEventListener('input', () => show(+slide.value, true));
for (const button of document.querySelectorAll('button[data-place]'))
  button.addEventListener('click', () => show(+button.dataset.place, true));
function follow() {
  if (!video.paused) show(Math.floor(video.currentTime * data.rate), false);
  requestAnimationFrame(follow);
}
follow();
show(0, false);
"""
SHOWN = (
    ("psnr", "PSNR", 2), ("psnr_mouth", "mouth", 2), ("ssim", "SSIM", 3), ("lpips", "LPIPS", 3),
    ("lmd_centred", "lips off by", 2),
)  # fmt: skip


def number(value: Any, digits: int = 2) -> str:
    """A figure as a table shows it.

    Example:
        >>> number(3.14159), number(None), number(7), number(-0.001)
        ('3.14', '–', '7', '0.00')
    """
    if value is None:
        return MISSING
    if not isinstance(value, float):
        return str(value)
    return f"{round(value, digits) + 0.0:.{digits}f}"  # + 0.0: no minus before a zero


def _image_table(figures: Mapping[str, Any]) -> str:
    endings = ("", *(f"_{region}" for region in REGIONS))
    rows = [
        ("PSNR, dB", *(number(figures.get("psnr" + end)) for end in endings)),
        ("SSIM", *(number(figures.get("ssim" + end), 3) for end in endings)),
        ("LPIPS (AlexNet)", number(figures.get("lpips"), 4), *[""] * len(REGIONS)),
        ("LPIPS (VGG16)", number(figures.get("lpips_vgg"), 4), *[""] * len(REGIONS)),
        ("FID", number(figures.get("fid")), *[""] * len(REGIONS)),
    ]
    return grid("Picture", ("", "full frame", *REGIONS), rows)


def _lips_table(figures: Mapping[str, Any]) -> str:
    takes = [("", "true audio"), ("_shuffled", "shifted audio"), ("_foreign", "foreign audio")]
    takes = [take for take in takes if "lmd" + take[0] in figures]
    if len(takes) == 1:
        takes = [("", "video")]
    lines = (
        ("lmd", "distance, px at 512", 2), ("lmd_centred", "distance, mouths centred", 2),
        ("lmd_aligned", "distance, heads aligned", 2), ("face_lmd", "whole face, px at 512", 2),
        ("face_lmd_aligned", "face, heads aligned", 2), ("lip_correlation", "correlation of lip gaps", 3),
        ("lip_velocity_correlation", "correlation of velocities", 3), ("lip_lag_ms", "lag, ms", 0),
        ("lip_peak", "correlation at that lag", 3), ("lip_chance", "what chance reaches", 3),
        ("sync_offset", "SyncNet offset, frames", 0), ("sync_confidence", "SyncNet confidence", 2),
    )  # fmt: skip
    rows = [
        (name, *(number(figures.get(key + end), digits) for end, _ in takes)) for key, name, digits in lines
    ]
    return grid("Lips and face", ("", *(name for _, name in takes)), rows)


def _rest_table(figures: Mapping[str, Any]) -> str:
    rows = [
        ("lower face (landmarks), eye distances", number(figures.get("au_lower"), 4)),
        ("upper face (landmarks), eye distances", number(figures.get("au_upper"), 4)),
    ]
    if "au_openface" in figures:
        rows.append(("lower face (OpenFace), 0..5", number(figures["au_openface"], 3)))
    shaking = [
        (name, number(figures.get(key), 3), number(figures.get(f"{key}_real"), 3))
        for key, name in (
            ("jitter", "head about its poses, px at 512"), ("jitter_mouth", "lips, px at 512"),
            ("flicker", "background, of 255"),
        )
        if figures.get(key) is not None
    ]  # fmt: skip
    table = grid("Action units, mean absolute error", ("", "error"), rows)
    each = [(name, number(value, 4)) for name, value in (figures.get("action_units") or {}).items()]
    each += [(f"{n}, OpenFace", number(v, 3)) for n, v in (figures.get("au_openface_units") or {}).items()]
    if each:
        table += f"<details><summary>each unit</summary>{grid('Units', ('', 'error'), each)}</details>"
    return table + (grid("Trembling over time", ("", "rendered", "real"), shaking) if shaking else "")


def _reasons(figures: Mapping[str, Any]) -> str:
    """Why figures are missing, each reason once."""
    why: dict[str, list[str]] = {}
    for key, value in figures.items():
        if key.endswith("_reason"):
            why.setdefault(str(value), []).append(key.removesuffix("_reason"))
    if not why:
        return ""
    listed = "".join(f"<li><b>{escape(', '.join(n))}</b>: {escape(r)}</li>" for r, n in why.items())
    return f"<h2>Not measured</h2><ul>{listed}</ul>"


def _facts(figures: Mapping[str, Any]) -> str:
    width, height = figures["size"]
    seconds = figures.get("seconds_per_frame")
    names = [
        ("frames", f"{figures['frames']} of {figures['first_frame']} to {figures['last_frame']}"
         + (f", every {figures['every']}th" if figures["every"] > 1 else "")),
        ("compared at", f"{width} × {height} pixels"), ("system", figures.get("system")),
        ("rendered", f"{1000 * seconds:.1f} ms a frame ({figures['backend']}, {figures['device']})"
         if seconds and figures["backend"] != "file" else None),
        ("rates", f"{figures['rendered_fps']:g} and {figures['reference_fps']:g} frames a second, compared "
         f"at {figures['fps']:g}" if "rendered_fps" in figures else None),
        ("nldf_engine", figures["version"]),
    ]  # fmt: skip
    return facts((name, str(value)) for name, value in names if value)


def _small_video(path: Path) -> str:
    """The side-by-side video, small enough to sit in the page, as a data: URI."""
    import cv2

    from nldf_engine.avatar.provenance.origin import comparison_tags
    from nldf_engine.media.video import VideoWriter, frames_at, probe, read_audio_track

    info = probe(path)
    scale = min(1.0, VIDEO_WIDTH / info.width)
    size = (round(info.width * scale), round(info.height * scale))
    sound = read_audio_track(path) if info.has_audio else None
    with tempfile.TemporaryDirectory() as folder:
        small = Path(folder) / "small.mp4"
        with VideoWriter(
            small, *size, fps=info.fps, audio=sound, crf=CRF, metadata=comparison_tags()
        ) as writer:
            for frame in frames_at(path, None):
                writer.write(cv2.resize(frame, size, interpolation=cv2.INTER_AREA))
        return embedded(small, "video/mp4")


def page(out: Path, title: str, figures: Mapping[str, Any], per_frame: Mapping[str, Any]) -> str:
    """The report's page.

    Args:
        out: folder that holds `comparison.mp4` and `contact_sheet.png`.
        title: its heading.
        figures: of the clip.
        per_frame: `frame`, `fps` and one list a figure, as `frames.json` holds them.
    """
    rate = per_frame["fps"] / figures["every"]
    drawn = [chart for spec in PLOTS for chart in [plot(spec, per_frame)] if chart]
    buttons = "".join(
        f'<li><button type="button" data-place="{place}">frame {per_frame["frame"][place]}</button> '
        f"{escape(why)}</li>"
        for place, why in worst(per_frame)
    )
    names = {"frame", *(name for name, _, _ in SHOWN)}
    data = {name: per_frame[name] for name in names if name in per_frame} | {"rate": rate, "shown": SHOWN}
    inside = json.dumps(data, allow_nan=False).replace("<", "\\u003c")
    terms = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in DEFINITIONS.items())
    body = [
        f"<h1>{escape(title)}</h1>", _facts(figures),
        f'<div class="tables"><div>{_image_table(figures)}{_rest_table(figures)}</div>'
        f"{_lips_table(figures)}</div>",
        '<h2>Frame by frame</h2><div class="view">'
        f'<video controls loop playsinline preload="auto" src="{_small_video(out / "comparison.mp4")}" '
        'aria-label="real frames, rendered frames and their difference, side by side"></video>'
        f'<label for="frame"><output id="where" aria-live="off">frame</output></label>'
        f'<input type="range" id="frame" min="0" max="{len(per_frame["frame"]) - 1}" value="0"></div>',
        '<p class="dim">Real, rendered, their difference. Click a curve to see that frame.</p>',
        *(f'<div class="wide">{chart}</div>' for chart in drawn),
        f'<h2>Where it is worst</h2><ul class="worst">{buttons}</ul>',
        f'<h2>Samples</h2><img src="{embedded(out / "contact_sheet.png", "image/png")}" '
        'alt="frames of the clip in columns: real, rendered, their difference, and both mouths enlarged">',
        _reasons(figures),
        f"<h2>What the figures mean</h2><details><summary>definitions</summary><dl>{terms}</dl></details>",
        f'<script type="application/json" id="frames">{inside}</script>',
    ]  # fmt: skip
    return document(title, body, STYLE, SCRIPT)


def write_page(out: Path, title: str, figures: Mapping[str, Any], per_frame: Mapping[str, Any]) -> Path:
    """Writes `report.html` into `out`, whole or not at all; returns its path.

    Raises:
        FileProblem: it can't be written.
    """
    return write_document(out / "report.html", page(out, title, figures, per_frame))


INDEX = (
    ("psnr", "PSNR", 2), ("psnr_foreground", "foreground", 2), ("psnr_head", "head", 2),
    ("psnr_mouth", "mouth", 2), ("psnr_neck", "neck", 2), ("ssim", "SSIM", 3), ("lpips", "LPIPS", 4),
    ("fid", "FID", 1), ("lmd_centred", "lips off, px", 2), ("lmd_centred_shuffled", "shifted audio", 2),
    ("lmd_centred_foreign", "foreign audio", 2), ("lip_correlation", "lips corr.", 3),
    ("lip_correlation_shuffled", "shifted audio", 3), ("lip_correlation_foreign", "foreign audio", 3),
    ("lip_lag_ms", "lag, ms", 0), ("sync_confidence", "SyncNet conf.", 2), ("au_lower", "AU lower", 4),
    ("jitter_ratio", "jitter ratio", 2),
)  # fmt: skip


def write_index(out: Path, found: Mapping[str, Mapping[str, Any]]) -> Path:
    """Writes `index.html`, one table over several reports that lie in folders of `out`; returns its path.

    Raises:
        FileProblem: it can't be written.
    """
    columns = [
        entry for entry in INDEX if any(figures.get(entry[0]) is not None for figures in found.values())
    ]
    rows = [
        (name, *(number(figures.get(key), digits) for key, _, digits in columns), _speed(figures))
        for name, figures in found.items()
    ]
    body = [
        "<h1>Several avatars on the same frames</h1>",
        grid("Figures", ("avatar", *(title for _, title, _ in columns), "ms a frame"), rows),
        '<p class="dim">Each has a page of its own: '
        + ", ".join(f'<a href="{escape(quote(name))}/report.html">{escape(name)}</a>' for name in found)
        + ".</p>",
    ]
    return write_document(out / "index.html", document("nldf evaluate", body))


def _speed(figures: Mapping[str, Any]) -> str:
    seconds = figures.get("seconds_per_frame")
    return number(None if seconds is None else 1000.0 * seconds, 1)
