"""Do an avatar's lips meet at p, b and m? A table, and a picture of the mouth beside what it says.

    python examples/closures.py avatars/me                                         # the synthetic voice
    python examples/closures.py avatars/me --audio speech.wav --labels speech.txt  # any speech

Labels say which sound comes when, as Audacity exports a label track: start and end in seconds, and a sound's
name (ARPABET, X-SAMPA, espeak or IPA). Forced aligners and synthesisers give such times. Openings are read
from the motion codes that the speech tells, in millimetres, and from rendered frames, where mediapipe sees
the lips.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from nldf_engine import Engine
from nldf_engine.audio import load_audio
from nldf_engine.evaluation.metrics.closures import FPS, Phone, closure_scores, read_labels
from nldf_engine.evaluation.metrics.jitter import head_jitter, mouth_jitter
from nldf_engine.evaluation.metrics.landmarks import detect, landmark_scale
from nldf_engine.evaluation.metrics.lips import LIPS, lip_gap
from nldf_engine.synthetic import synthesise_speech

TEXT = "Papa, mama, baby. Papa may bob a map. Up above, a bomb. Pam may stop a bump. Amber, apart."
SHOWN, SECONDS = 12, 8.0
# Between the outer corners of an adult's eyes; lip gaps of pictures are given in shares of it.
EYES_MM = 90.0


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
        sound, phones = (load_audio(flags.audio), 16000), read_labels(flags.labels)
    engine = Engine.load(flags.avatar)
    predicted = predicted_opening(engine, sound)
    curves, figures = {"codes": predicted}, {}
    flags.out.mkdir(parents=True, exist_ok=True)
    if not flags.codes_only:
        clip = engine.render(sound, size=flags.size)
        frames = clip.frames[:]
        faces, _ = detect(frames)
        curves["pictures"] = EYES_MM * lip_gap(faces)
        poses = engine.open_track(None)(torch.arange(len(frames))).poses.numpy()
        figures["jitter"] = head_jitter(faces, poses, engine.avatar.camera)
        figures["jitter_mouth"] = mouth_jitter(faces)
        mouths = [mouth_of(frame, face) for frame, face in zip(frames, faces, strict=True)]
        picture(flags.out / "closures.png", mouths, curves, phones, min(SECONDS, len(frames) / FPS))
    figures |= {name: asdict(closure_scores(curve, phones)) for name, curve in curves.items()}
    (flags.out / "closures.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print("opening in mm  p b m t d k s    open silence   closed: p b m, t d k s, silence")
    for name in curves:
        row = figures[name]
        shown = [row[key] for key in ("bilabial", "other", "open", "silence")]
        shares = [row[f"{key}_closed"] for key in ("bilabial", "other", "silence")]
        cells = "".join(f"{'-' if v is None else format(v, '.1f'):>8}" for v in shown)
        print(f"{name:12}{cells}   {', '.join('-' if v is None else format(v, '.0%') for v in shares)}")
    for name in ("jitter", "jitter_mouth"):
        if figures.get(name) is not None:
            print(f"{name}: {figures[name]:.2f} px at 512")


if __name__ == "__main__":
    main()
