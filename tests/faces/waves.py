"""A picture that is the same everywhere, and how the expected outputs beside this file were made.

pip install ai-edge-litert mediapipe==0.10.21
python tests/faces/waves.py SITE_PACKAGES/mediapipe/modules > tests/faces/litert.json
"""

from __future__ import annotations

import json
import sys

import numpy as np

FILES = {
    "near": ("face_detection/face_detection_short_range.tflite", ("boxes", "scores")),
    "far": ("face_detection/face_detection_full_range_sparse.tflite", ("boxes", "scores")),
    "person": ("selfie_segmentation/selfie_segmentation.tflite", ("mask",)),
    "palm": ("palm_detection/palm_detection_lite.tflite", ("boxes", "scores")),
    "hand": ("hand_landmark/hand_landmark_lite.tflite", ("points", "presence")),
}


def waves(size: int) -> np.ndarray:
    """A drawn person before coloured waves, float32 [1, size, size, 3], 0 to 1."""
    y, x = np.mgrid[0:size, 0:size] / size
    planes = [np.cos(17 * x + 5 * y), np.cos(29 * (x - 0.5) * (y - 0.4)), np.sin(11 * y + 40 * x * x)]
    wall = 0.3 + 0.2 * np.stack(planes, -1)

    def oval(u: float, v: float, wide: float, high: float) -> np.ndarray:
        return 0.5 - 0.5 * np.tanh(40 * (((x - u) / wide) ** 2 + ((y - v) / high) ** 2 - 1))[..., None]

    shirt = oval(0.5, 1.05, 0.42, 0.38)
    hair = oval(0.5, 0.38, 0.21, 0.28)
    skin = np.maximum(oval(0.5, 0.45, 0.17, 0.24), oval(0.5, 0.65, 0.08, 0.12))
    dark = sum(oval(u, v, *size) for u, v, *size in ((0.43, 0.42, 0.03, 0.015), (0.57, 0.42, 0.03, 0.015)))
    lips = oval(0.5, 0.57, 0.06, 0.018)
    picture = wall
    for part, colour in (
        (shirt, (0.2, 0.3, 0.6)), (hair, (0.2, 0.12, 0.08)), (skin, (0.85, 0.65, 0.55)),
        (dark, (0.1, 0.08, 0.08)), (lips, (0.7, 0.3, 0.3)),
    ):  # fmt: skip
        picture = picture * (1 - part) + part * np.array(colour)
    return picture.astype(np.float32)[None]


def some(values: np.ndarray) -> np.ndarray:
    """61 numbers from all over an array."""
    flat = values.reshape(-1)
    return flat[np.linspace(0, len(flat) - 1, 61).astype(int)]


def main(modules: str) -> None:
    """Prints what LiteRT makes of the waves."""
    from ai_edge_litert.interpreter import Interpreter

    expected = {}
    for name, (file, outputs) in FILES.items():
        network = Interpreter(f"{modules}/{file}", num_threads=1)
        network.allocate_tensors()
        (entry,) = network.get_input_details()
        network.set_tensor(entry["index"], waves(int(entry["shape"][1])))
        network.invoke()
        found = [network.get_tensor(one["index"]) for one in network.get_output_details()]
        pairs = zip(outputs, found, strict=False)  # a hand's other two outputs are left out
        expected[name] = {key: [float(f"{v:.7g}") for v in some(value)] for key, value in pairs}
    print(json.dumps(expected))


if __name__ == "__main__":
    main(*sys.argv[1:])
