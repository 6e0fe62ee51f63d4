"""Does training suffer from TF32? A CPU rounds operands to the nearest of 10 bits, and two runs are compared.

    python -m bench.tf32 nldf-tiny adnerf-tiny --data DATASET -o DIR --steps 600 --seeds 2
    python -m bench.tf32 nldf-88 --data DATASET -o DIR --device cuda     # with the tensor cores themselves

Each preset is trained three times a seed: in float32; with the operands of each step's matrix products and
convolutions, forwards and backwards, rounded to TF32's 10 bits where the run computes in TF32; and rounded
to 22 bits of 23, which says how far two runs drift apart by chance.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from nldf_engine.ops.products import rounded_now
from nldf_engine.training import TrainConfig, train

# Operations that tensor cores compute, and which of their arguments are operands.
aten = torch.ops.aten
OPERANDS: dict[Any, tuple[int, ...]] = {
    aten.mm: (0, 1), aten.addmm: (1, 2), aten.bmm: (0, 1), aten.baddbmm: (1, 2),
    aten.convolution: (0, 1), aten.convolution_backward: (0, 1, 2),
}  # fmt: skip
BITS = {"fp32": 23, "last bit": 22, "tf32": 10}
# Of a run's steps, at its end, whose losses are compared.
LATE = 0.2


def rounded(values: Tensor, bits: int) -> Tensor:
    """float32 rounded to so many bits of the mantissa, to the nearest, half way to the even one."""
    if values.dtype != torch.float32 or bits >= 23:
        return values
    drop = 23 - bits
    whole = values.contiguous().view(torch.int32)
    odd = (whole >> drop) & 1
    made = (whole + ((1 << (drop - 1)) - 1) + odd) & -(1 << drop)
    return made.view(torch.float32)


class Rounded(TorchDispatchMode):
    """Rounds operands as a GPU does, where torch is set to TF32 (`ops.products`).

    Attributes:
        calls: how many products were rounded, and how many were not.
    """

    def __init__(self, bits: int = BITS["tf32"]) -> None:
        super().__init__()
        self.bits = bits
        self.calls = [0, 0]

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        places = OPERANDS.get(operation.overloadpacket)
        if places is None:
            return operation(*args, **(kwargs or {}))
        convolves = operation.overloadpacket in (aten.convolution, aten.convolution_backward)
        rounds = rounded_now()[int(convolves)]
        self.calls[0 if rounds else 1] += 1
        if rounds:
            args = [rounded(each, self.bits) if i in places else each for i, each in enumerate(args)]
        return operation(*args, **(kwargs or {}))


def figures(history: list[dict[str, float]]) -> dict[str, float]:
    """Best validation PSNR in dB, and the mean loss over the last steps."""
    late = [row for row in history if row["step"] > (1 - LATE) * history[-1]["step"]]
    return {
        "psnr": max(row["psnr"] for row in history if "psnr" in row),
        "loss": sum(row["pixel"] for row in late) / len(late),
    }


def compare(
    preset: str, data: Path, folder: Path, kinds: tuple[str, ...] = tuple(BITS), device: str = "cpu",
    say: Callable[[str], None] = print, **settings: Any,
) -> dict[str, dict[str, float]]:  # fmt: skip
    """Figures of a preset's training by kind of arithmetic, one of `BITS`.

    Args:
        preset: of any system.
        data: a dataset.
        folder: where avatars go.
        kinds: which; "fp32" and "tf32" alone on a GPU.
        device: "cpu" or "cuda".
        say: gets a line a run.
        settings: of `TrainConfig`.
    """
    found = {}
    for kind in kinds:
        matmul = "fp32" if kind == "fp32" else "tf32"
        config = TrainConfig(device=device, matmul=matmul, **settings)
        target = folder / f"{preset}-{kind.replace(' ', '-')}-{config.seed}"
        if device != "cpu":
            result = train(preset, data, target, config)
        else:
            with Rounded(BITS[kind]) as mode:
                result = train(preset, data, target, config)
            assert kind == "fp32" or mode.calls[0] > 0, "no product was rounded"
        found[kind] = figures(result.history)
        if result.torso_history:
            found[kind]["torso psnr"] = figures(result.torso_history)["psnr"]
        numbers = ", ".join(f"{name} {value:.5g}" for name, value in found[kind].items())
        say(f"{preset}, seed {config.seed}, {kind}: {numbers}")
    return found


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("presets", nargs="+", metavar="PRESET")
    parser.add_argument("--data", type=Path, required=True, metavar="DATASET")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--size", type=int)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    given = parser.parse_args()
    kinds = tuple(BITS) if given.device == "cpu" else ("fp32", "tf32")
    overrides = dict(item.split("=", 1) for item in given.set)
    rows: list[dict[str, Any]] = []
    for preset in given.presets:
        for seed in range(given.seeds):
            found = compare(
                preset, given.data, given.output, kinds, given.device, lambda line: print(line, flush=True),
                steps=given.steps, size=given.size, seed=seed, overrides=overrides,
            )  # fmt: skip
            rows.append({"preset": preset, "seed": seed, "figures": found})
    given.output.mkdir(parents=True, exist_ok=True)
    (given.output / "tf32.json").write_text(json.dumps(rows, indent=1))
    for preset in given.presets:
        own = [row["figures"] for row in rows if row["preset"] == preset]
        for kind in kinds[1:]:
            gains = [row[kind]["psnr"] - row["fp32"]["psnr"] for row in own]
            losses = [row[kind]["loss"] / row["fp32"]["loss"] - 1 for row in own]
            print(
                f"{preset}, {kind} beside fp32: {sum(gains) / len(gains):+.3f} dB, "
                f"loss {100 * sum(losses) / len(losses):+.2f} %"
            )


if __name__ == "__main__":
    main()
