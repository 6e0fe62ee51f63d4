"""wav2vec 2.0 and HuBERT as front-ends, through transformers, on the CPU.

Weights come from a local folder or from the Hugging Face hub (its cache first), as safetensors only.
Long sound goes through in chunks with context on both sides, so that memory stays bounded.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from nldf_engine.audio.interface import Frontend, FrontendSettings
from nldf_engine.audio.windows import ROW, count_rows
from nldf_engine.base.clock import SAMPLE_RATE
from nldf_engine.base.errors import FileProblem, MissingBackend
from nldf_engine.base.progress import Bar

OUTPUTS = ("hidden", "logits")
USUAL_SOURCES = {"wav2vec2": "facebook/wav2vec2-base-960h", "hubert": "facebook/hubert-large-ls960-ft"}
CHUNK_ROWS = 1000  # 20 s are kept of each chunk
CONTEXT_ROWS = 150  # 3 s more on each side are seen, and dropped
# Used in training only, so that some published weights come without it.
_UNUSED = "masked_spec_embed"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' own bars and reports: what matters in them is raised here."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def from_source(source: str, load: Callable[[str, bool], Any], example: str) -> Any:
    """What `load(place, offline)` gives of a folder or hub id, tried without a network first.

    Args:
        source: folder or hub id.
        load: raises what transformers, safetensors and files raise where it fails; `place` is the source.
        example: a hub id, for messages.

    Raises:
        MissingBackend: the weights are not there.
        FileProblem: a local folder holds something unusable.
    """
    from safetensors import SafetensorError

    folder = Path(source).expanduser()
    local = folder.is_dir()
    if not local and (folder.exists() or not _HUB_ID.fullmatch(source)):
        raise MissingBackend(
            f"there is no folder of weights {source!r}, and it is no hub id either",
            f"give the folder that save_pretrained or `hf download` wrote, or an id such as {example}",
        )
    attempts = [True] if local else [True, False]
    error: Exception | None = None
    with _quiet():
        for offline in attempts:
            try:
                return load(str(folder) if local else source, offline)
            except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as raised:
                error = raised
    reason = " ".join(str(error).split())[:200]
    if local and (folder / "config.json").is_file() and any(folder.glob("*.safetensors")):
        raise FileProblem(
            folder, f"its weights can't be loaded ({reason})", "download the folder again"
        ) from error
    raise MissingBackend(
        f"the weights {source!r} can't be loaded as safetensors ({reason})",
        f"run `hf download {example if local else source} --local-dir FOLDER` on a machine "
        "with a network and give FOLDER as the source, or use the front-end mel, which needs no weights",
    ) from error


def from_pretrained(kind: Any, source: str, example: str, **arguments: Any) -> Any:
    """`kind.from_pretrained`, as `from_source` loads; the same errors."""

    def load(place: str, offline: bool) -> Any:
        return kind.from_pretrained(place, local_files_only=offline, **arguments)

    return from_source(source, load, example)


def need_transformers(name: str) -> None:
    """Raises MissingBackend, with the command, where transformers is not installed for a front-end."""
    if importlib.util.find_spec("transformers") is None:
        raise MissingBackend(
            f"the audio front-end {name!r} needs transformers", "pip install 'nldf_engine[features]'"
        )


def _from_pretrained(kind: Any, source: str, **arguments: Any) -> Any:
    return from_pretrained(kind, source, USUAL_SOURCES["wav2vec2"], **arguments)


def _source(settings: FrontendSettings) -> str:
    need_transformers(settings.name)
    return settings.source or USUAL_SOURCES[settings.name]


def _network_config(settings: FrontendSettings) -> Any:
    """The network's own configuration, checked: kind, rate, and that the wanted layer exists."""
    from transformers import AutoConfig

    source = _source(settings)
    network = _from_pretrained(AutoConfig, source)
    if network.model_type != settings.name:
        raise FileProblem(
            source, f"it holds a {network.model_type!r} network, and {settings.name!r} was asked for"
        )
    hop = math.prod(network.conv_stride)
    if hop != ROW or getattr(network, "add_adapter", False):
        raise FileProblem(source, f"it makes a row every {hop} samples, and {ROW} are needed (50 Hz)")
    states = network.num_hidden_layers + 1
    if settings.output == "hidden" and not -states <= settings.layer < states:
        raise ValueError(
            f"FrontendConfig.layer: {source} has the hidden states 0 to {states - 1} "
            f"(or -1 to {-states}), got {settings.layer}"
        )
    return network


def dim(settings: FrontendSettings) -> int:
    """Features a row of the network that the settings name.

    Raises:
        MissingBackend, FileProblem, ValueError: see `rows`.
    """
    network = _network_config(settings)
    return int(network.vocab_size if settings.output == "logits" else network.hidden_size)


@functools.lru_cache(maxsize=1)
def _network(name: str, source: str, output: str) -> tuple[Any, bool]:
    """The network, and whether its input is to be brought to zero mean and unit variance."""
    import transformers

    names = {"wav2vec2": "Wav2Vec2", "hubert": "Hubert"}
    kind = getattr(transformers, names[name] + ("ForCTC" if output == "logits" else "Model"))
    network, loading = _from_pretrained(kind, source, use_safetensors=True, output_loading_info=True)
    # Absent tensors would be filled at random.
    absent = sorted(key for key in loading["missing_keys"] if not key.endswith(_UNUSED))
    absent += sorted(str(key) for key in loading["mismatched_keys"])
    if absent:
        raise FileProblem(
            source,
            f"its weights lack {len(absent)} tensors of a {name} network with {output}, first {absent[0]}",
            "choose weights that were trained for letters (CTC)"
            if output == "logits"
            else "download them again",
        )
    normalise = True
    folder = Path(source).expanduser()
    if folder.is_dir() and not (folder / "preprocessor_config.json").is_file():
        return network.eval().requires_grad_(False), normalise
    with contextlib.suppress(MissingBackend):  # older ones come without this file
        extractor = _from_pretrained(transformers.Wav2Vec2FeatureExtractor, source)
        normalise = bool(extractor.do_normalize)
        if extractor.sampling_rate != SAMPLE_RATE:
            raise FileProblem(
                source, f"it takes sound at {extractor.sampling_rate} Hz, and {SAMPLE_RATE} are given"
            )
    return network.eval().requires_grad_(False), normalise


def in_chunks(
    samples: np.ndarray,
    run: Callable[[np.ndarray], np.ndarray],
    field: int,
    chunk: int = CHUNK_ROWS,
    context: int = CONTEXT_ROWS,
) -> np.ndarray:
    """Rows [R, D] of a long sound, by running a network on overlapping pieces of it.

    The sound is padded so that row r sees `field` samples about the middle of its 20 ms.

    Args:
        samples: [N] float32.
        run: float32 [n, D] of samples [(n - 1) * 320 + field].
        field: samples that one row of the network's first layers sees.
        chunk: rows that are kept of each piece.
        context: rows on either side that a piece has more.
    """
    count = count_rows(len(samples))
    before = (field - ROW) // 2
    padded = np.zeros((count - 1) * ROW + field, np.float32)
    kept = samples[: len(padded) - before]
    padded[before : before + len(kept)] = kept
    pieces = []
    with Bar("audio features", count, "row") as bar:
        for first in range(0, count, chunk):
            last = min(count, first + chunk)
            begin, end = max(0, first - context), min(count, last + context)
            made = run(padded[begin * ROW : (end - 1) * ROW + field])
            if len(made) != end - begin:
                raise ValueError(f"run: expected {end - begin} rows, got {len(made)}")
            pieces.append(made[first - begin : last - begin])
            bar.step(last - first)
    return np.concatenate(pieces)


def rows(samples: np.ndarray, settings: FrontendSettings) -> np.ndarray:
    """Feature rows at 50 Hz, float32 [R, D].

    As the networks were trained, the whole sound is brought to zero mean and unit variance first, where
    their preprocessor_config.json does not say otherwise.

    Args:
        samples: [N] float32, mono at 16 kHz.
        settings: which network, and which of its outputs.

    Raises:
        MissingBackend: transformers or the weights are not there.
        FileProblem: a folder holds other or damaged weights.
        ValueError: the network has no such layer.
    """
    import torch

    network_config = _network_config(settings)
    network, normalise = _network(settings.name, _source(settings), settings.output)
    if normalise and len(samples):
        deviation = np.sqrt(np.var(samples, dtype=np.float64) + 1e-7)
        samples = ((samples - np.mean(samples, dtype=np.float64)) / deviation).astype(np.float32)

    def run(piece: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            values = torch.from_numpy(np.ascontiguousarray(piece))[None]
            if settings.output == "logits":
                return network(values).logits[0].numpy()
            if settings.layer in (-1, network_config.num_hidden_layers):
                return network(values).last_hidden_state[0].numpy()
            return network(values, output_hidden_states=True).hidden_states[settings.layer][0].numpy()

    field = 1
    for kernel, stride in zip(
        reversed(network_config.conv_kernel), reversed(network_config.conv_stride), strict=True
    ):
        field = (field - 1) * stride + kernel
    return in_chunks(samples, run, field)


def check(settings: FrontendSettings) -> None:
    """Checks what can be checked without the network: that `output` is one of OUTPUTS.

    Raises:
        ValueError: it is not.
    """
    if settings.output not in OUTPUTS:
        expected = " or ".join(map(repr, OUTPUTS))
        raise ValueError(f"FrontendConfig.output: expected {expected}, got {settings.output!r}")


WAV2VEC2 = Frontend("wav2vec 2.0 through transformers", rows, dim, check=check)
HUBERT = Frontend("HuBERT through transformers", rows, dim, check=check)
