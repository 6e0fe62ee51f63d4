"""Features that others computed: `aud.npy` and its relatives in AD-NeRF, RAD-NeRF and ER-NeRF folders.

    aud.npy, aud_ds.npy   (N, 16, 29)    DeepSpeech
    aud_eo.npy            (N, 16, 44)    wav2vec 2.0 letters
    aud_hu.npy            (N, 2, 1024)   HuBERT

Any (N, W, D) is read; the window W need not be 16, and a model must have been built for it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nldf_engine.audio.interface import Frontend, FrontendSettings
from nldf_engine.base.errors import FileProblem, MissingBackend

LARGEST_WINDOW, LARGEST_FEATURES = 256, 1 << 16
LARGEST_BYTES = 16 << 30
_EXPECTED = "expected one window a frame, (N, 16, 29) or in general (N, window, features)"


def load_features(path: str | Path) -> np.ndarray:
    """The windows of a features file as they are: float32 [T, W, D]. Nothing in it is unpickled.

    Args:
        path: a .npy file of float16, float32 or float64.

    Raises:
        FileProblem: the file is missing, empty, truncated or no .npy file, holds objects or integers, has
            another shape, or holds NaN or infinite numbers.
    """
    path = Path(path)
    if not path.is_file():
        raise FileProblem(path, "there is no such file", "check the spelling of the path")
    size = path.stat().st_size
    if size == 0:
        raise FileProblem(path, "it is empty (0 bytes)", "extract the features again")
    try:
        # Mapped first, so that a header that promises terabytes allocates none of them.
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError, SyntaxError, TypeError, OverflowError) as error:
        again = "save them again with numpy.save, as float32 numbers"
        raise FileProblem(path, f"it is no readable .npy file of numbers ({error})", again) from error
    if not isinstance(mapped, np.ndarray):
        mapped.close()
        raise FileProblem(path, f"it is an .npz archive; {_EXPECTED}", "save the array alone, as .npy")
    if mapped.dtype.newbyteorder("=") not in (np.float16, np.float32, np.float64):
        raise FileProblem(
            path, f"it holds {mapped.dtype}; float features were expected", "save them as float32"
        )
    shape = tuple(mapped.shape)
    if len(shape) == 2:
        raise FileProblem(path, f"its shape is {shape}; {_EXPECTED}", "save windows of features, not rows")
    if (
        len(shape) != 3
        or min(shape) < 1
        or shape[1] > LARGEST_WINDOW
        or shape[2] > LARGEST_FEATURES
        or size > LARGEST_BYTES
    ):
        raise FileProblem(path, f"its shape is {shape}; {_EXPECTED}", "extract the features again")
    with np.errstate(over="ignore"):  # what float32 can't hold becomes infinite, which is reported
        made = np.array(mapped, dtype=np.float32, order="C")
    bad = int(np.count_nonzero(~np.isfinite(made)))
    if bad:
        frame = int(np.flatnonzero(~np.isfinite(made).all(axis=(1, 2)))[0])
        raise FileProblem(
            path,
            f"{bad} of its {made.size} numbers are not finite (NaN or infinite), first in frame {frame}",
            "extract the features again",
        )
    return made


def _rows(samples: np.ndarray, settings: FrontendSettings) -> np.ndarray:
    """Never any rows: features of a file can't be computed from sound.

    Raises:
        MissingBackend: always.
    """
    raise MissingBackend(
        "this avatar was trained on features from a file, and they can't be computed from sound here",
        f"give a features file (.npy) of shape (frames, window, {settings.dim or 'features'}) instead of "
        "sound, made by the program that made the avatar's",
    )


# Nothing but the settings says how many features a row has.
FRONTEND = Frontend(
    "a features file instead of sound", _rows, dim=lambda settings: settings.dim, from_sound=False
)
