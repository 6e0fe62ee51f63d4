"""Speech of a voice that no avatar has learned from, with its sounds and their times, for closures.py.

    python examples/espeak.py -o english                  # english.wav and english.txt
    python examples/espeak.py -o french --voice fr        # full of p, b and m as well
    python examples/espeak.py "Good morning." -o morning

eSpeak NG speaks and says which sound it makes when; its library has to be on the machine (on Debian: apt-get
install libespeak-ng1). The labels are an Audacity label track: start, end and name of each sound.
"""

from __future__ import annotations

import argparse
import ctypes
import ctypes.util
from pathlib import Path
from typing import Any

import numpy as np

from nldf_engine.audio import load_audio
from nldf_engine.base.errors import MissingBackend
from nldf_engine.datasets.format import write_wav

TEXTS = {
    "en-us": "Papa, mama, baby. Papa may bob a map. Up above, a bomb. Pam may stop a bump. Amber, apart. "
    "A perfect picture of a bunch of purple plums, by the lamp. Maybe Bobby bumped a member of the mob.",
    "fr": "Papa, maman et le bébé mangent des pommes. Un bon petit pain pour Paul. Mes parents, Michel, le "
    "public applaudit beaucoup. Ma belle amie Pauline a bu un peu de bière.",
}
SPEED = 150  # words a minute
SILENT_RETRIEVAL, PHONES, SPEED_NUMBER, PHONE_EVENT, UTF8 = 2, 1, 1, 7, 1


class _Name(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    """espeak_EVENT of speak_lib.h."""

    _fields_ = [
        ("type", ctypes.c_int), ("unique", ctypes.c_uint), ("text", ctypes.c_int), ("length", ctypes.c_int),
        ("milliseconds", ctypes.c_int), ("sample", ctypes.c_int), ("user", ctypes.c_void_p), ("id", _Name),
    ]  # fmt: skip


_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


def load_espeak() -> Any:
    """The library.

    Raises:
        MissingBackend: it is not on this machine.
    """
    name = ctypes.util.find_library("espeak-ng")
    if name is None:
        raise MissingBackend("eSpeak NG's library is not installed", "apt-get install libespeak-ng1")
    return ctypes.CDLL(name)


def speak(text: str, voice: str) -> tuple[np.ndarray, int, list[tuple[float, str]]]:
    """(samples int16 [N], samples a second, beginnings in seconds and names of the sounds).

    Raises:
        MissingBackend: the library is not on this machine.
        ValueError: it has no such voice, or nothing to say.
    """
    library = load_espeak()
    rate = library.espeak_Initialize(SILENT_RETRIEVAL, 0, None, PHONES)
    pieces: list[np.ndarray] = []
    sounds: list[tuple[float, str]] = []

    def take(samples: Any, count: int, events: Any) -> int:
        if samples and count > 0:
            pieces.append(np.ctypeslib.as_array(samples, (count,)).copy())
        number = 0
        while events[number].type:
            if events[number].type == PHONE_EVENT:
                name = events[number].id.string.decode("utf-8", "ignore").strip()
                sounds.append((events[number].milliseconds / 1000, name or "_"))
            number += 1
        return 0

    callback = _CALLBACK(take)  # must outlive the synthesis
    library.espeak_SetSynthCallback(callback)
    if library.espeak_SetVoiceByName(voice.encode()) != 0:
        raise ValueError(f"--voice: eSpeak NG has no voice {voice!r}; `espeak-ng --voices` lists them")
    library.espeak_SetParameter(SPEED_NUMBER, SPEED, 0)
    spoken = text.encode()
    library.espeak_Synth(spoken, len(spoken) + 1, 0, 0, 0, UTF8, None, None)
    library.espeak_Synchronize()
    if not pieces or not sounds:
        raise ValueError(f"TEXT: expected something to say, got {text!r}")
    return np.concatenate(pieces), int(rate), sounds


def labels(sounds: list[tuple[float, str]], end: float) -> str:
    """A label track of sounds that follow each other up to `end` seconds; those without a length are left
    out."""
    stops = [start for start, _ in sounds[1:]] + [end]
    pairs = zip(sounds, stops, strict=True)
    return "".join(f"{start:.3f}\t{stop:.3f}\t{name}\n" for (start, name), stop in pairs if stop > start)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("text", nargs="?", help="what to say; sentences full of p, b and m where left out")
    parser.add_argument("--voice", default="en-us", help="eSpeak NG's name of it (default: en-us)")
    parser.add_argument("-o", "--out", type=Path, required=True, help="path of both files, without ending")
    flags = parser.parse_args()
    if flags.text is None and flags.voice not in TEXTS:
        parser.error(f"TEXT is needed with --voice {flags.voice}: there are sentences for {', '.join(TEXTS)}")
    text = TEXTS[flags.voice] if flags.text is None else flags.text
    samples, rate, sounds = speak(text, flags.voice)
    wave, track = (flags.out.with_name(flags.out.name + ending) for ending in (".wav", ".txt"))
    write_wav(wave, load_audio((samples, rate)))
    track.write_text(labels(sounds, len(samples) / rate), encoding="utf-8")
    print(f"{wave}, {track}: {len(samples) / rate:.1f} s, {len(sounds)} sounds")


if __name__ == "__main__":
    main()
