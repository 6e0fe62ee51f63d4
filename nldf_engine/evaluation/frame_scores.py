"""Metrics of every scored frame of a clip, put together from those of its chunks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from nldf_engine.evaluation.metrics.lips import lip_gap, mouth_distance


@dataclass
class FrameScores:
    """Metrics of every scored frame of a clip, in its order; NaN where a frame has none.

    Args:
        index: [S] int, the frames' numbers in the clip.
        image: [S] float64 under `psnr`, `ssim`, each with `_foreground`, `_head`, `_mouth`, `_neck`, and
            LPIPS's columns.
        faces: landmarks [S, 478, 2] in pixels at 512 of "real" and of every variant; empty where nothing
            could be detected.
        features: Inception's [S, 2048] of "real" and "rendered"; empty where there is no network.
        crops: SyncNet's [S, 224, 224, 3] uint8 of "real" and of every variant, likewise.
        flicker: of the background in "rendered" and "real", None where there is none.
        seconds_per_frame: what rendering took, NaN where nothing was rendered.
        samples: by number in the clip, (real, rendered) uint8 [H, W, 3] of the frames to show.
    """

    index: np.ndarray
    image: dict[str, np.ndarray] = field(default_factory=dict)
    faces: dict[str, np.ndarray] = field(default_factory=dict)
    features: dict[str, np.ndarray] = field(default_factory=dict)
    crops: dict[str, np.ndarray] = field(default_factory=dict)
    flicker: dict[str, float] | None = None
    seconds_per_frame: float = math.nan
    samples: dict[int, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)

    def curves(self) -> dict[str, np.ndarray]:
        """Every metric that has one value a frame, the lips' included: [S] float64 by name."""
        curves = dict(self.image)
        if "real" in self.faces:
            real = self.faces["real"]
            curves["lip_gap_real"] = lip_gap(real)
            for name, landmarks in self.faces.items():
                if name == "real":
                    continue
                ending = "" if name == "rendered" else f"_{name}"
                curves[f"lip_gap_{name}"] = lip_gap(landmarks)
                curves[f"lip_gap_error{ending}"] = np.abs(curves[f"lip_gap_{name}"] - curves["lip_gap_real"])
                curves[f"lmd{ending}"] = mouth_distance(landmarks, real)
                curves[f"lmd_centred{ending}"] = mouth_distance(landmarks, real, centred=True)
        return curves

    def join(self, chunks: Mapping[str, Sequence[Mapping[str, np.ndarray]]]) -> None:
        """Fills in everything but `samples`.

        Args:
            chunks: by variant the values of its chunks in their order, as `scoring.score_frames` makes them.
        """

        def joined(name: str, key: str) -> np.ndarray | None:
            found = [values[key] for values in chunks.get(name, ()) if key in values]
            return np.concatenate(found) if found else None

        rendered = chunks["rendered"]
        for key in dict.fromkeys(k for values in rendered for k in values if k.startswith("image/")):
            whole = joined("rendered", key)
            assert whole is not None
            self.image[key.removeprefix("image/")] = whole
        for name, variant, prefix in [("real", "rendered", "real_"), *((name, name, "") for name in chunks)]:
            faces, crops = joined(variant, prefix + "faces"), joined(variant, prefix + "crops")
            if faces is not None:
                self.faces[name] = faces
            if crops is not None:
                self.crops[name] = crops
        for name in ("real", "rendered"):
            features = joined("rendered", f"features_{name}")
            if features is not None:
                self.features[name] = features
        flickers = [values["flicker"] for values in rendered if "flicker" in values]
        triples = sum(one[2] for one in flickers)
        if triples:
            squares = [sum(one[k] * one[2] for one in flickers) / triples for k in (0, 1)]
            self.flicker = dict(zip(("rendered", "real"), map(math.sqrt, squares), strict=True))
        # While the first chunk is rendered nothing is scored beside it: its time is the renderer's own.
        spent = rendered[0]["seconds"] if rendered else np.zeros(2)
        self.seconds_per_frame = float(spent[0] / spent[1]) if spent[1] else math.nan
