"""Do an avatar's lips meet at p, b and m? A table, and a picture of the mouth beside what it says.

    python examples/closures.py avatars/me                                         # the synthetic voice
    python examples/closures.py avatars/me --audio speech.wav --labels speech.txt  # any speech

For p, b and m lips close; for t, d, k, s and their like they need not; open vowels part them. Foreign speech
has no real frames to compare with, but its sounds and their times are known where a synthesiser or a forced
aligner made them. Labels are Audacity's label tracks: lines of start, end (seconds) and a sound's name
(ARPABET, X-SAMPA, espeak or IPA), with tabs between. Openings are measured on the motion codes that are
predicted from the speech, in millimetres, and on the landmarks of rendered frames.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from nldf_engine import Engine
from nldf_engine.audio import load_audio
from nldf_engine.base.clock import FPS, SAMPLE_RATE
from nldf_engine.base.errors import FileProblem
from nldf_engine.evaluation.landmark_detector import detect, landmark_scale
from nldf_engine.evaluation.metrics.jitter import head_jitter, mouth_jitter
from nldf_engine.evaluation.metrics.lips import lip_gap
from nldf_engine.geometry.face_mesh import LIPS
from nldf_engine.synthetic import synthesise_speech

TEXT = "Papa, mama, baby. Papa may bob a map. Up above, a bomb. Pam may stop a bump. Amber, apart."
SHOWN, SECONDS = 12, 8.0
# Between the outer corners of an adult's eyes; lip gaps of pictures are shares of it.
EYES_MM = 90.0
# A frame shows the mouth at its moment, and lips are closed for two frames or three: a sound counts
# from a frame before it to a frame after it.
REACH = 1 / FPS
# Lips that stand apart by less than this share of the open vowels' opening pass for closed.
CLOSED = 0.125
# Silence counts where it is further than this from any sound: lips close after it and part before.
AWAY = 0.2
KINDS = ("bilabial", "other", "open", "silence")
REMEDY = "export a label track: lines of start, end and name, with tabs between"


@dataclass(frozen=True)
class Phone:
    """One sound.

    Args:
        start, end: seconds.
        name: as ARPABET, X-SAMPA, espeak or IPA write it; silence is empty or begins with "_", "sil" or "sp".
    """

    start: float
    end: float
    name: str

    @property
    def kind(self) -> str:
        """One of KINDS, or empty for sounds that say nothing here (closed vowels, glides, f and v).

        Example:
            >>> [Phone(0, 1, name).kind for name in ("B", "m", "AA1", "t", "_:", "u")]
            ['bilabial', 'bilabial', 'open', 'other', 'silence', '']
        """
        name = self.name.strip()
        if not name or name.startswith("_") or name.lower().startswith(("sil", "sp", "pau")):
            return "silence"
        if name.lower().rstrip("ʰː':;") in ("p", "b", "m"):
            return "bilabial"
        if name.startswith(("a", "A", "ɑ", "æ", "ɐ")):
            return "open"
        return "other" if name.lower().startswith(tuple("tdkgnszlʃʒŋɡ")) else ""


def read_labels(path: str | Path) -> list[Phone]:
    """The sounds of a label track, in their order.

    Raises:
        FileProblem: it is missing, no text, holds no sound, or a line is no label.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise FileProblem(path, f"it can't be read ({error})", REMEDY) from error
    phones = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("\\"):  # Audacity's second line of a label holds frequencies
            continue
        start, end, name = [*line.split("\t", 2), "", ""][:3]
        try:
            phone = Phone(float(start), float(end), name.strip())
        except ValueError:
            phone = Phone(math.nan, math.nan, "")
        if not 0 <= phone.start <= phone.end < math.inf:
            raise FileProblem(path, f"line {number} is no label: {line[:60]!r}", REMEDY)
        phones.append(phone)
    if not phones:
        raise FileProblem(path, "it holds no label", REMEDY)
    return sorted(phones, key=lambda phone: phone.start)


@dataclass(frozen=True)
class ClosureScores:
    """Openings of a clip, in the unit of the measured curve; None where no sound is of the kind.

    Args:
        bilabial, other: medians of the least opening about each p, b or m, and about each of t, d, k, s, ...
        open: median of the widest opening of each open vowel.
        silence: median over the frames of silence, `AWAY` from any sound.
        bilabial_closed, other_closed, silence_closed: shares that lie under `CLOSED` times `open`.
        count: how many p, b and m there are.
    """

    bilabial: float | None
    other: float | None
    open: float | None
    silence: float | None
    bilabial_closed: float | None
    other_closed: float | None
    silence_closed: float | None
    count: int


def extremes(opening: np.ndarray, phones: Sequence[Phone], kind: str) -> np.ndarray:
    """What the mouth reaches in each sound of a kind: the widest of open vowels, the least of all others.

    Args:
        opening: [T] at 25 frames a second; NaN where unknown.
        phones: the sounds.
        kind: of KINDS; "silence" gives every frame of it instead.

    Returns:
        [n] float64, without those that are not known.

    Raises:
        ValueError: an unknown kind, or an opening of another shape.
    """
    if kind not in KINDS:
        raise ValueError(f"kind: expected one of {', '.join(KINDS)}, got {kind!r}")
    if opening.ndim != 1:
        raise ValueError(f"opening: expected [T], got shape {list(opening.shape)}")
    times = np.arange(len(opening)) / FPS
    opening = opening.astype(np.float64)
    if kind == "silence":
        near = np.zeros(len(opening), bool)
        for phone in phones:
            if phone.kind != "silence":
                near |= (times > phone.start - AWAY) & (times < phone.end + AWAY)
        return opening[~near & np.isfinite(opening)]
    reach, choose = (0.0, np.max) if kind == "open" else (REACH, np.min)
    found = []
    for phone in phones:
        if phone.kind == kind:
            inside = (times >= phone.start - reach - 1e-6) & (times <= phone.end + reach + 1e-6)
            seen = opening[inside & np.isfinite(opening)]
            found += [float(choose(seen))] if len(seen) else []
    return np.array(found)


def closure_scores(opening: np.ndarray, phones: Sequence[Phone]) -> ClosureScores:
    """How far the mouth closes where it should, beside how far it opens.

    Args:
        opening: [T] of the mouth at 25 frames a second, in any unit; NaN where unknown. Of codes it is
            `MotionBasis.opening`, of pictures `evaluation.metrics.lips.lip_gap`.
        phones: what is said.

    Raises:
        ValueError: an opening of another shape.
    """
    reached = {kind: extremes(opening, phones, kind) for kind in KINDS}
    middle = {kind: float(np.median(values)) if len(values) else None for kind, values in reached.items()}
    wide = middle["open"]

    def closed(kind: str) -> float | None:
        values = reached[kind]
        return float((values <= CLOSED * wide).mean()) if len(values) and wide is not None else None

    return ClosureScores(
        middle["bilabial"], middle["other"], wide, middle["silence"],
        closed("bilabial"), closed("other"), closed("silence"), len(reached["bilabial"]),
    )  # fmt: skip


def predicted_opening(engine: Engine, sound: tuple[np.ndarray, int]) -> np.ndarray:
    """[T] millimetres between the inner lips, as predicted from the speech."""
    basis = engine.renderer.motion_basis
    if basis is None:
        raise ValueError("avatar: expected one with motion codes (--set motion_codes=8 trains them)")
    return 1000 * basis.opening(torch.from_numpy(engine.motion(sound)).to(basis.mean.device)).cpu().numpy()


def mouth_of(frame: np.ndarray, face: np.ndarray) -> np.ndarray:
    """A frame uint8 [H, W, 3] cut about the lips of its landmarks [478, 2], pixels at 512."""
    lips = face[list(LIPS)] / landmark_scale(frame.shape[1], frame.shape[0])
    if not np.isfinite(lips).all():
        return frame
    (x, y), half = lips.mean(0), np.ptp(lips[:, 0])
    return frame[max(0, int(y - half)) : int(y + half) + 1, max(0, int(x - half)) : int(x + half) + 1]


def picture(
    out: Path, mouths: list[np.ndarray], curves: dict[str, np.ndarray], phones: list[Phone], seconds: float
) -> None:
    """Draws the curves with the sounds beneath them, and mouths at closures and in open vowels."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure = plt.figure(figsize=(2 * SHOWN, 10))
    grid = figure.add_gridspec(3, SHOWN, height_ratios=[1.4, 1, 1])
    axis = figure.add_subplot(grid[0, :])
    for name, curve in curves.items():
        axis.plot(np.arange(len(curve)) / FPS, curve, ".-", label=name)
    for phone in phones:
        colour = {"bilabial": "tab:red", "open": "tab:green", "other": "tab:grey"}.get(phone.kind)
        if colour and phone.start < seconds:
            axis.axvspan(phone.start, phone.end, color=colour, alpha=0.25, linewidth=0)
            axis.text((phone.start + phone.end) / 2, -2.5, phone.name, ha="center", fontsize=8)
    axis.set(xlim=(0, seconds), ylim=(-3, None), xlabel="s", ylabel="opening in mm")
    axis.legend(loc="upper right")
    seen = list(curves.values())[-1]  # the pictures' own
    for row, kind in enumerate(("bilabial", "open"), 1):
        chosen = [phone for phone in phones if phone.kind == kind and phone.end < seconds]
        chosen = chosen[:: max(1, len(chosen) // SHOWN)][:SHOWN]
        for column, phone in enumerate(chosen):
            first, last = round(phone.start * FPS) - 1, round(phone.end * FPS) + 1
            near = np.arange(max(0, first), min(len(mouths), last + 1))
            if not np.isfinite(seen[near]).any():
                continue
            at = near[np.nanargmin(seen[near]) if kind == "bilabial" else np.nanargmax(seen[near])]
            place = figure.add_subplot(grid[row, column])
            place.imshow(mouths[at])
            place.set_title(f"{phone.name}  {at / FPS:.2f} s  {seen[at]:.1f} mm", fontsize=9)
            place.axis("off")
    figure.tight_layout()
    figure.savefig(out, dpi=70)
    plt.close(figure)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("avatar", type=Path)
    parser.add_argument("--audio", type=Path, help="speech; the synthetic voice where left out")
    parser.add_argument("--labels", type=Path, help="label track of the speech")
    parser.add_argument("--size", type=int, help="width of the frames; the avatar's own where left out")
    parser.add_argument("--codes-only", action="store_true", help="render nothing: the codes alone")
    parser.add_argument("-o", "--out", type=Path, default=Path("closures"), help="folder to write")
    flags = parser.parse_args()
    if (flags.audio is None) != (flags.labels is None):
        parser.error("--audio and --labels go together")
    if flags.audio is None:
        speech = synthesise_speech(TEXT)
        sound, phones = (speech.samples, speech.rate), [Phone(a, b, name) for name, a, b in speech.phonemes]
    else:
        sound, phones = (load_audio(flags.audio), SAMPLE_RATE), read_labels(flags.labels)
    engine = Engine.load(flags.avatar)
    predicted = predicted_opening(engine, sound)
    curves, metrics = {"codes": predicted}, {}
    flags.out.mkdir(parents=True, exist_ok=True)
    if not flags.codes_only:
        clip = engine.render(sound, size=flags.size)
        frames = clip.frames[:]
        faces, _ = detect(frames)
        curves["pictures"] = EYES_MM * lip_gap(faces)
        poses = engine.open_track(None)(torch.arange(len(frames))).poses.numpy()
        metrics["jitter"] = head_jitter(faces, poses, engine.avatar.camera)
        metrics["jitter_mouth"] = mouth_jitter(faces)
        mouths = [mouth_of(frame, face) for frame, face in zip(frames, faces, strict=True)]
        picture(flags.out / "closures.png", mouths, curves, phones, min(SECONDS, len(frames) / FPS))
    metrics |= {name: asdict(closure_scores(curve, phones)) for name, curve in curves.items()}
    (flags.out / "closures.json").write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    print("opening in mm  p b m t d k s    open silence   closed: p b m, t d k s, silence")
    for name in curves:
        row = metrics[name]
        shown = [row[key] for key in ("bilabial", "other", "open", "silence")]
        shares = [row[f"{key}_closed"] for key in ("bilabial", "other", "silence")]
        cells = "".join(f"{'-' if v is None else format(v, '.1f'):>8}" for v in shown)
        print(f"{name:12}{cells}   {', '.join('-' if v is None else format(v, '.0%') for v in shares)}")
    for name in ("jitter", "jitter_mouth"):
        if metrics.get(name) is not None:
            print(f"{name}: {metrics[name]:.2f} px at 512")


if __name__ == "__main__":
    main()
