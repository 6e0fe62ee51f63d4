"""Makes the asset of the front-end "whisper": an encoder with 8-bit blocks, and the projection of its states.

    python scripts/whisper_asset.py WEIGHTS.safetensors PROJECTION.safetensors OUT.safetensors

WEIGHTS holds Whisper base's encoder in OpenAI's names (half precision, two convolutions and three blocks);
PROJECTION a tensor "projection" [64, 512], as bench/lips/prior.py fits it. Prints the digest that
nldf_engine/audio/whisper.py expects.
"""

import sys

from safetensors.torch import load_file, save_file

from nldf_engine.base.files import sha256
from nldf_engine.nn.whisper import Int8Linear, WhisperEncoder, openai_names


def main(weights: str, projection: str, out: str) -> None:
    """Quantises and stores, and prints the digest."""
    given = load_file(weights)
    encoder = WhisperEncoder(int8=True)
    tensors = {"projection": load_file(projection)["projection"].half().contiguous()}
    for ours, theirs in openai_names(len(encoder.blocks)).items():
        part = encoder.get_submodule(ours)
        weight, bias = given[f"{theirs}.weight"].float(), given.get(f"{theirs}.bias")
        if isinstance(part, Int8Linear):
            tensors[f"{ours}.weight"], tensors[f"{ours}.scale"] = Int8Linear.quantised(weight)
        else:
            tensors[f"{ours}.weight"] = weight.half()
        if bias is not None:
            tensors[f"{ours}.bias"] = bias.half()
    save_file({name: value.contiguous() for name, value in tensors.items()}, out)
    print(sha256(out))


if __name__ == "__main__":
    main(*sys.argv[1:])
