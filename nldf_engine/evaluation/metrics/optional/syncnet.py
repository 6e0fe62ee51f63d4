"""SyncNet (Chung and Zisserman 2016): offset and confidence of lips against sound, with its public weights.

The network takes five frames of a face at 224 pixels (colours 0..255, BGR) and the 20 MFCC columns of the
same time. Distances between both embeddings, averaged over the clip for every shift within 15 frames, give
the offset (where they are least, positive where the lips come late) and the confidence (their median minus
their least).

The published pipeline finds faces with S3FD; here the box is that of the face's landmarks. It separates true
from shifted sound as well, but values may differ a little from published ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from nldf_engine.nn.weights import SYNCNET, fill, find, load

FPS, RATE = 25, 16_000
WINDOW, COLUMNS = 5, 4  # frames a window; MFCC columns a frame
SIDE, CROP_SCALE, SMOOTH, GREY = 224, 0.40, 13, 110
LONGEST_SHIFT, BATCH = 15, 20
FFT, FILTERS, COEFFICIENTS, LIFTER, EMPHASIS = 512, 26, 13, 22, 0.97
FRAME, HOP = 400, 160  # samples: 25 ms every 10 ms


def _layers(
    kind: type[nn.Module], norm: type[nn.Module], pool: type[nn.Module], table: tuple
) -> nn.Sequential:
    made: list[nn.Module] = []
    for entry in table:
        if entry[0] == "pool":
            made.append(pool(*entry[1:]))
        else:
            made += [kind(*entry), norm(entry[1]), nn.ReLU()]
    return nn.Sequential(*made)


def _head() -> nn.Sequential:
    return nn.Sequential(nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, 1024))


class SyncNet(nn.Module):
    """Two towers into one space of 1024; parameters are named as in the public file."""

    def __init__(self) -> None:
        super().__init__()
        self.netcnnaud = _layers(
            nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d,
            ((1, 64, 3, 1, 1), ("pool", 1, 1), (64, 192, 3, 1, 1), ("pool", 3, (1, 2)), (192, 384, 3, 1, 1),
             (384, 256, 3, 1, 1), (256, 256, 3, 1, 1), ("pool", 3, 2), (256, 512, (5, 4))),
        )  # fmt: skip
        self.netfcaud = _head()
        self.netfclip = _head()
        flat, half = (1, 3, 3), (1, 2, 2)
        same = (0, 1, 1)
        self.netcnnlip = _layers(
            nn.Conv3d, nn.BatchNorm3d, nn.MaxPool3d,
            ((3, 96, (5, 7, 7), half), ("pool", flat, half), (96, 256, (1, 5, 5), half, same),
             ("pool", flat, half, same), (256, 256, flat, 1, same), (256, 256, flat, 1, same),
             (256, 256, flat, 1, same), ("pool", flat, half), (256, 512, (1, 6, 6))),
        )  # fmt: skip

    def audio(self, x: Tensor) -> Tensor:
        """[N, 1, 13, 20] MFCC -> [N, 1024]."""
        return self.netfcaud(self.netcnnaud(x).flatten(1))

    def lips(self, x: Tensor) -> Tensor:
        """[N, 3, 5, 224, 224] BGR 0..255 -> [N, 1024]."""
        return self.netfclip(self.netcnnlip(x).flatten(1))


def mfcc(samples: np.ndarray) -> np.ndarray:
    """Mel-frequency cepstra of 16 kHz sound, as python_speech_features makes them by default.

    Args:
        samples: [N] float in [-1, 1]; they count as 16-bit integers, for SyncNet learned on those.

    Returns:
        [13, T] float64, 25 ms windows every 10 ms, the log energy in place of the first coefficient.
    """
    from scipy.fft import dct

    integers = np.clip(np.round(samples.astype(np.float64) * 32768), -32768, 32767)
    signal = np.append(integers[:1], integers[1:] - EMPHASIS * integers[:-1])
    count = 1 + max(0, -(-(len(signal) - FRAME) // HOP))
    signal = np.pad(signal, (0, max(0, (count - 1) * HOP + FRAME - len(signal))))
    windows = np.lib.stride_tricks.sliding_window_view(signal, FRAME)[::HOP][:count]
    power = np.abs(np.fft.rfft(windows, FFT)) ** 2 / FFT
    tiny = np.finfo(float).eps
    energy = power.sum(1)
    bands = power @ _mel_filters().T
    cepstra = dct(np.log(np.where(bands == 0, tiny, bands)), type=2, axis=1, norm="ortho")[:, :COEFFICIENTS]
    order = np.arange(COEFFICIENTS)
    cepstra *= 1 + (LIFTER / 2) * np.sin(np.pi * order / LIFTER)
    cepstra[:, 0] = np.log(np.where(energy == 0, tiny, energy))
    return np.asarray(cepstra.T)


def _mel_filters() -> np.ndarray:
    top = 2595 * np.log10(1 + RATE / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, FILTERS + 2) / 2595) - 1)
    bins = np.floor((FFT + 1) * edges / RATE)
    filters = np.zeros((FILTERS, FFT // 2 + 1))
    for k in range(FILTERS):
        low, middle, high = (int(b) for b in bins[k : k + 3])
        filters[k, low:middle] = (np.arange(low, middle) - low) / max(middle - low, 1)
        filters[k, middle:high] = (high - np.arange(middle, high)) / max(high - middle, 1)
    return filters


def face_boxes(landmarks: np.ndarray) -> np.ndarray:
    """Centre x, centre y and half side of each face, [T, 3], smoothed by a median over 13 frames.

    Args:
        landmarks: [T, 478, 2] pixels of the frames; frames without a face take their neighbours'.

    Raises:
        ValueError: no frame has a face.
    """
    from scipy.signal import medfilt

    known = np.flatnonzero(np.isfinite(landmarks).all(axis=(1, 2)))
    if not len(known):
        raise ValueError("landmarks: expected at least one frame with a face")
    low, high = landmarks[known].min(1), landmarks[known].max(1)
    found = np.stack([*((low + high) / 2).T, (high - low).max(1) / 2], 1).astype(np.float64)
    time = np.arange(len(landmarks))
    filled = [np.interp(time, known, column) for column in found.T]
    half = SMOOTH // 2  # the ends are held: the filter's own zeros there would shrink the first boxes
    return np.stack([medfilt(np.pad(c, half, mode="edge"), SMOOTH)[half : half + len(c)] for c in filled], 1)


def face_crop(frame: np.ndarray, box: np.ndarray) -> np.ndarray:
    """The face as SyncNet was trained on it: uint8 [224, 224, 3] of a frame and one row of `face_boxes`."""
    import cv2

    x, y, side = box
    pad = int(side * (1 + 2 * CROP_SCALE)) + 1
    grey = cv2.copyMakeBorder(frame, pad, pad, pad, pad, cv2.BORDER_CONSTANT, value=(GREY,) * 3)
    x, y = x + pad, y + pad
    rows = slice(max(0, int(y - side)), int(y + side * (1 + 2 * CROP_SCALE)))
    columns = slice(max(0, int(x - side * (1 + CROP_SCALE))), int(x + side * (1 + CROP_SCALE)))
    return np.asarray(cv2.resize(grey[rows, columns], (SIDE, SIDE)))


@dataclass(frozen=True)
class SyncScore:
    """SyncNet's score: offset in frames (positive: the lips come late), confidence, least distance."""

    offset: int
    confidence: float
    distance: float


def sync_of_embeddings(lips: Tensor, audio: Tensor, most: int = LONGEST_SHIFT) -> SyncScore:
    """Offset and confidence of embeddings [T, D] of the same T windows.

    Raises:
        ValueError: fewer than one window, or lengths that differ.
    """
    if len(lips) != len(audio) or not len(lips):
        raise ValueError(f"audio: expected {len(lips)} windows, at least one, got {len(audio)}")
    padded = functional.pad(audio, (0, 0, most, most))
    shifts = [
        functional.pairwise_distance(lips, padded[k : k + len(lips)]).mean() for k in range(2 * most + 1)
    ]
    means = torch.stack(shifts)
    least = int(means.argmin())
    return SyncScore(most - least, float(means.median() - means[least]), float(means[least]))


class SyncScorer:
    """SyncNet with its weights, on the CPU.

    Args:
        weights: folder with `syncnet_v2.model`; without it torch's cache.

    Raises:
        MissingBackend: the file is nowhere.
        FileProblem: it is damaged or something else.
    """

    def __init__(self, weights: Path | None = None) -> None:
        self.path = find(SYNCNET, weights)
        self._network = SyncNet()
        fill(self._network, load(SYNCNET, self.path), SYNCNET, self.path)

    def __call__(self, crops: np.ndarray, samples: np.ndarray) -> SyncScore | None:
        """Offset and confidence of a clip; None where it is shorter than six frames or its sound is.

        Args:
            crops: [T, 224, 224, 3] uint8 RGB from `face_crop`, 25 frames a second.
            samples: [N] float in [-1, 1] at 16 kHz, from the first frame on.
        """
        sound = mfcc(samples)
        count = min(len(crops), len(samples) * FPS // RATE) - WINDOW
        count = min(count, (sound.shape[1] - WINDOW * COLUMNS) // COLUMNS + 1)
        if count < 1:
            return None
        lips, audio = [], []
        for start in range(0, count, BATCH):
            here = range(start, min(count, start + BATCH))
            frames = np.stack([crops[k : k + WINDOW, :, :, ::-1] for k in here])
            columns = np.stack([sound[None, :, COLUMNS * k : COLUMNS * (k + WINDOW)] for k in here])
            with torch.no_grad():
                lips.append(self._network.lips(torch.from_numpy(frames).permute(0, 4, 1, 2, 3).float()))
                audio.append(self._network.audio(torch.from_numpy(columns).float()))
        return sync_of_embeddings(torch.cat(lips), torch.cat(audio))
