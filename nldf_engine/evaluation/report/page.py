"""The report as one page of HTML: tables, the video, and curves that lead to its frames when clicked.

The page loads nothing from anywhere: pictures and a small copy of the video are inside it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nldf_engine.avatar.provenance.origin import comparison_tags
from nldf_engine.base.html import data_uri, number, write_html
from nldf_engine.evaluation.config import DEFINITIONS
from nldf_engine.evaluation.metrics.regions import REGIONS
from nldf_engine.evaluation.report.curves import LEFT, RIGHT, describe
from nldf_engine.evaluation.report.worst_frames import worst_frames
from nldf_engine.media.video import VideoWriter, frames_at, probe, read_audio_track

TEMPLATES = Path(__file__).parent / "templates"
VIDEO_WIDTH, CRF = 768, 30
SHOWN = (
    ("psnr", "PSNR", 2), ("psnr_mouth", "mouth", 2), ("ssim", "SSIM", 3), ("lpips", "LPIPS", 3),
    ("lmd_centred", "lips off by", 2),
)  # fmt: skip
"""(metric, name, digits) of what is shown beside the slider for the frame that is shown."""
LIPS = (
    ("lmd", "distance, px at 512", 2), ("lmd_centred", "distance, mouths centred", 2),
    ("lmd_aligned", "distance, heads aligned", 2), ("face_lmd", "whole face, px at 512", 2),
    ("face_lmd_aligned", "face, heads aligned", 2), ("lip_correlation", "correlation of lip gaps", 3),
    ("lip_amplitude_ratio", "amplitude of lip gaps over the real one", 2),
    ("lip_distribution", "distance of their distributions", 3), ("lip_closed_auc", "closed lips, AUC", 3),
    ("lip_closed_f1", "closed lips, F1", 3), ("lip_closed_real", "really closed, share of frames", 2),
    ("lip_closures_bilabial", "p, b, m that close", 2),
    ("lip_closures_bilabial_real", "p, b, m that really close", 2),
    ("lip_velocity_correlation", "correlation of velocities", 3), ("lip_lag_ms", "lag, ms", 0),
    ("lip_peak", "correlation at that lag", 3), ("lip_chance", "what chance reaches", 3),
    ("sync_retrieval", "own sound picked among 11", 3),
    ("sync_retrieval_real", "picked by the real lips", 3),
    ("sync_offset_frames", "judge's offset, frames", 0), ("sync_offset_margin", "how sure that is", 2),
    ("sync_offset", "SyncNet offset, frames", 0), ("sync_confidence", "SyncNet confidence", 2),
)  # fmt: skip
UNSTEADY = (
    ("jitter", "head about its poses, px at 512"), ("jitter_mouth", "lips, px at 512"),
    ("flicker", "background, of 255"),
)  # fmt: skip

Table = tuple[str, tuple[str, ...], list[tuple[str, ...]]]


def _image_table(metrics: Mapping[str, Any]) -> Table:
    endings, rest = ("", *(f"_{region}" for region in REGIONS)), [""] * len(REGIONS)
    rows = [
        ("PSNR, dB", *(number(metrics.get("psnr" + end)) for end in endings)),
        ("SSIM", *(number(metrics.get("ssim" + end), 3) for end in endings)),
        ("LPIPS (AlexNet)", number(metrics.get("lpips"), 4), *rest),
        ("LPIPS (VGG16)", number(metrics.get("lpips_vgg"), 4), *rest),
        ("FID", number(metrics.get("fid")), *rest),
    ]
    return "Picture", ("", "full frame", *REGIONS), rows


def _lips_table(metrics: Mapping[str, Any]) -> Table:
    variants = [("", "true audio"), ("_shuffled", "shifted audio"), ("_foreign", "foreign audio")]
    variants = [variant for variant in variants if "lmd" + variant[0] in metrics]
    if len(variants) == 1:
        variants = [("", "video")]
    rows = [
        (name, *(number(metrics.get(key + end), digits) for end, _ in variants)) for key, name, digits in LIPS
    ]
    return "Lips and face", ("", *(name for _, name in variants)), rows


def _units_table(metrics: Mapping[str, Any]) -> Table:
    rows: list[tuple[str, ...]] = [
        ("lower face (landmarks), eye distances", number(metrics.get("au_lower"), 4)),
        ("upper face (landmarks), eye distances", number(metrics.get("au_upper"), 4)),
    ]
    if "au_openface" in metrics:
        rows.append(("lower face (OpenFace), 0..5", number(metrics["au_openface"], 3)))
    return "Action units, mean absolute error", ("", "error"), rows


def _each_unit(metrics: Mapping[str, Any]) -> list[tuple[str, str]]:
    each = [(name, number(value, 4)) for name, value in (metrics.get("action_units") or {}).items()]
    openface = (metrics.get("au_openface_units") or {}).items()
    return each + [(f"{name}, OpenFace", number(value, 3)) for name, value in openface]


def _visemes(metrics: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """By viseme the frames, and the lip gap's error with the true and with shifted audio."""
    shuffled = metrics.get("visemes_shuffled") or {}
    return [
        (kind, str(values["frames"]), number(values["lip_gap_error"], 4),
         number(shuffled.get(kind, {}).get("lip_gap_error"), 4))
        for kind, values in (metrics.get("visemes") or {}).items()
    ]  # fmt: skip


def _unsteady(metrics: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    return [
        (name, number(metrics.get(key), 3), number(metrics.get(f"{key}_real"), 3))
        for key, name in UNSTEADY
        if metrics.get(key) is not None
    ]


def _reasons(metrics: Mapping[str, Any]) -> dict[str, list[str]]:
    """Why metrics are missing: the metrics by reason."""
    why: dict[str, list[str]] = {}
    for key, value in metrics.items():
        if key.endswith("_reason"):
            why.setdefault(str(value), []).append(key.removesuffix("_reason"))
    return why


def _what(metrics: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What was compared and how, as (what, value)."""
    width, height = metrics["size"]
    seconds = metrics.get("seconds_per_frame")
    pairs = [
        ("frames", f"{metrics['frames']} of {metrics['first_frame']} to {metrics['last_frame']}"
         + (f", every {metrics['every']}th" if metrics["every"] > 1 else "")),
        ("compared at", f"{width} × {height} pixels"), ("system", metrics.get("system")),
        ("rendered", f"{1000 * seconds:.1f} ms a frame ({metrics['backend']}, {metrics['device']})"
         if seconds and metrics["backend"] != "file" else None),
        ("rates", f"{metrics['rendered_fps']:g} and {metrics['reference_fps']:g} frames a second, compared "
         f"at {metrics['fps']:g}" if "rendered_fps" in metrics else None),
        ("nldf_engine", metrics["version"]),
    ]  # fmt: skip
    return [(name, str(value)) for name, value in pairs if value]


def _small_video(path: Path) -> bytes:
    """The side-by-side video, small enough to sit in the page."""
    import cv2

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
        return small.read_bytes()


def write_page(
    out: Path, title: str, metrics: Mapping[str, Any], per_frame: Mapping[str, Any], curves: bytes
) -> Path:
    """Writes `report.html` into `out`, whole or not at all; returns its path.

    Args:
        out: folder that holds `comparison.mp4` and `contact_sheet.png`.
        title: its heading.
        metrics: of the clip.
        per_frame: `frame`, `fps` and one list a metric, as `frames.json` holds them.
        curves: `curves.svg_of` the figure of `per_frame`.

    Raises:
        MissingBackend: jinja2 is not installed.
        FileProblem: it can't be written.
    """
    shown = {name: per_frame[name] for name, _, _ in SHOWN if name in per_frame}
    shown |= {
        "frame": per_frame["frame"],
        "rate": per_frame["fps"] / metrics["every"],
        "metrics": SHOWN,
    }
    return write_html(
        out / "report.html", TEMPLATES / "report.html", title=title, what=_what(metrics),
        picture=_image_table(metrics), lips=_lips_table(metrics), units=_units_table(metrics),
        each_unit=_each_unit(metrics), visemes=_visemes(metrics), unsteady=_unsteady(metrics),
        per_frame=per_frame, shown=shown,
        video=data_uri(_small_video(out / "comparison.mp4"), "video/mp4"),
        contact_sheet=data_uri((out / "contact_sheet.png").read_bytes(), "image/png"),
        curves=data_uri(curves, "image/svg+xml"), curves_text=describe(per_frame), left=LEFT, right=RIGHT,
        worst=worst_frames(per_frame), reasons=_reasons(metrics), definitions=DEFINITIONS,
    )  # fmt: skip


INDEX = (
    ("psnr", "PSNR", 2), ("psnr_foreground", "foreground", 2), ("psnr_head", "head", 2),
    ("psnr_mouth", "mouth", 2), ("psnr_neck", "neck", 2), ("ssim", "SSIM", 3), ("lpips", "LPIPS", 4),
    ("fid", "FID", 1), ("lmd_centred", "lips off, px", 2), ("lmd_centred_shuffled", "shifted audio", 2),
    ("lmd_centred_foreign", "foreign audio", 2), ("lip_correlation", "lips corr.", 3),
    ("lip_correlation_shuffled", "shifted audio", 3), ("lip_correlation_foreign", "foreign audio", 3),
    ("lip_amplitude_ratio", "amplitude", 2), ("lip_distribution", "openings off", 3),
    ("lip_closed_auc", "closed, AUC", 3), ("lip_closed_f1", "closed, F1", 3),
    ("lip_closures_bilabial", "p, b, m close", 2),
    ("lip_lag_ms", "lag, ms", 0), ("sync_retrieval", "sync retrieval", 2),
    ("sync_retrieval_real", "real lips", 2), ("sync_offset_frames", "sync offset", 0),
    ("sync_confidence", "SyncNet conf.", 2), ("au_lower", "AU lower", 4),
    ("jitter_ratio", "jitter ratio", 2),
)  # fmt: skip


def write_index(out: Path, found: Mapping[str, Mapping[str, Any]]) -> Path:
    """Writes `index.html`, one table over several reports in folders of `out`; returns its path.

    Args:
        out: the folder.
        found: the metrics by name of the report's folder.

    Raises:
        MissingBackend: jinja2 is not installed.
        FileProblem: it can't be written.
    """
    columns = [
        entry for entry in INDEX if any(metrics.get(entry[0]) is not None for metrics in found.values())
    ]
    rows = [
        (name, *(number(metrics.get(key), digits) for key, _, digits in columns), _speed(metrics))
        for name, metrics in found.items()
    ]
    head = ("avatar", *(title for _, title, _ in columns), "ms a frame")
    return write_html(
        out / "index.html", TEMPLATES / "index.html", title="Several avatars on the same frames",
        head=head, rows=rows, names=list(found),
    )  # fmt: skip


def _speed(metrics: Mapping[str, Any]) -> str:
    seconds = metrics.get("seconds_per_frame")
    return number(None if seconds is None else 1000.0 * seconds, 1)
