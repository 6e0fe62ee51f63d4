"""The default front-end: rows of Whisper's audio encoder at 50 Hz, with a bounded look-ahead.

Speech recognisers know what was said whoever says it, over noise and in most languages. A row is the state
behind the third block of Whisper base (Radford et al. 2022), computed in five steps:

1. Whisper's spectrogram: log10 of the power in 80 mel bands, 100 frames a second, 25 ms each, zeros outside
   of the sound;
2. less the level of the voice before it (`audio.mel`, step 3), so that a recording's gain hardly matters and
   nothing is measured over the whole sound, and held within Whisper's range of 8;
3. Whisper's two convolutions: 50 rows a second;
4. its blocks, over a piece of `PAST` rows before, `CHUNK` rows that are wanted and some rows ahead: every
   row is seen in a piece of the same form, wherever it stands in the sound, and a stream and a file give the
   same numbers to the bit;
5. layer norm, less what silence gives, and a projection to 64 numbers; and beside these the power of the row
   over the voice's, on the scale of `audio.mel`, which tells silence from speech.

A frame takes 16 of these rows. Of the `FrontendSettings.ahead` rows beyond its moment that it may use, its
piece looks ahead at most `PIECE_AHEAD` and the window holds the others; it waits for `samples_ahead`.

The bundled weights have 8-bit blocks (`nn.whisper`). Others come from a folder or a hub id through
transformers, unprojected.
"""

from __future__ import annotations

import functools
import hashlib
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nldf_engine.audio.interface import Frontend, FrontendSettings
from nldf_engine.audio.mel import BEFORE_ROW, LEVEL_ROWS, TYPICAL_DB, PowerStream, over_voice
from nldf_engine.audio.pretrained import from_pretrained, from_source, need_transformers
from nldf_engine.audio.windows import BEFORE, ROW, count_rows
from nldf_engine.base.assets import ASSETS, load_tensors
from nldf_engine.base.errors import FileProblem
from nldf_engine.base.files import sha256
from nldf_engine.base.progress import Bar

if TYPE_CHECKING:
    from torch import Tensor

    from nldf_engine.nn.whisper import WhisperEncoder
    from nldf_engine.ops import PackedAffine

ASSET_PATH = ASSETS / "whisper.safetensors"
DIGEST = "e36365ae2f963fd0c3949a8201baaf9d52c0d3f9c85cc687edb3a1cb95b14a6a"
PAST, CHUNK = 152, 8  # rows
PIECE_AHEAD = 2  # rows at most that a piece looks ahead; what more a frame may use are later rows
BANDS = 80
FFT, HOP = 400, 160  # samples
FRAMES = ROW // HOP  # mel frames a row
EDGE = 2  # mel frames on either side that a row sees
# By this a voice's level is as loud as speech of -28 dB after pre-emphasis, in log10 of the power.
LEVEL = -2.8
FLOOR = -6.4
LEAST = 1e-12  # power; so small that silence lies at the floor under the faintest voice that counts
BLOCKS = 3
EXAMPLE = "openai/whisper-base"
# Pieces that 8-bit blocks see at once: a few fit the caches, and a call costs as much for one.
AT_ONCE = 8
# Rows come in pairs: the mel frames and samples that two see.
PAIR_FRAMES = 2 * FRAMES + 2 * EDGE - 1
PAIR_SAMPLES = (PAIR_FRAMES - 1) * HOP + FFT
PAIRS = 250  # at once
BLOCK = 16000 * 10  # samples at once


@functools.lru_cache(maxsize=1)
def whisper_filters() -> np.ndarray:
    """[201, 80] float64: triangles over Slaney's mel scale from 0 to 8000 Hz, of equal area."""
    linear = 200 / 3  # Hz a mel below 1000 Hz, and beyond it the step of the logarithm
    step = math.log(6.4) / 27
    highest = 15 + math.log(8) / step
    mels = np.linspace(0, highest, BANDS + 2)
    corners = np.where(mels < 15, mels * linear, 1000 * np.exp(step * (mels - 15)))
    bins = np.linspace(0, 8000, FFT // 2 + 1)
    width = np.diff(corners)
    rising = (bins[:, None] - corners[:-2]) / width[:-1]
    falling = (corners[2:] - bins[:, None]) / width[1:]
    triangles: np.ndarray = np.minimum(rising, falling).clip(0) * (2 / (corners[2:] - corners[:-2]))
    return triangles


@functools.lru_cache(maxsize=1)
def _packed_filters() -> PackedAffine:
    import torch

    from nldf_engine import ops

    return ops.pack_affine(torch.from_numpy(whisper_filters().T.astype(np.float32, order="C")))


_HANN = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FFT) / FFT)


def log_powers(samples: np.ndarray, frames: int) -> np.ndarray:
    """[frames, 80] float32: log10 of the power in Whisper's bands, each frame's by itself.

    Frame m is of samples [160 m, 160 m + 400).
    """
    import torch

    from nldf_engine import ops

    cuts = np.lib.stride_tricks.sliding_window_view(samples, FFT)[::HOP][:frames]
    power = np.square(np.abs(np.fft.rfft(cuts * _HANN))).astype(np.float32)
    banded = ops.affine(torch.from_numpy(power), _packed_filters()).numpy()
    return np.log10(banded.clip(LEAST))


class Weights:
    """What makes rows.

    Args:
        encoder: up to the block whose states are taken.
        projection: [64, D] float32, or None for all D numbers.
        digest: SHA-256 of the file that they are from.

    Attributes:
        encoder, digest: as given.
        dim: features a row: projected states, and the level.
        silent_stem: [PAST, D] what the convolutions give for silence.
    """

    def __init__(self, encoder: WhisperEncoder, projection: Tensor | None, digest: str) -> None:
        import torch

        from nldf_engine import ops

        self.encoder, self.digest = encoder, digest
        self._projection = None if projection is None else ops.pack_affine(projection)
        self.dim: int = 1 + (encoder.width if projection is None else len(projection))
        pair = stem_rows(encoder, torch.full((PAIR_FRAMES, BANDS), FLOOR))
        self.silent_stem = pair.repeat(PAST // 2, 1)
        self._silence: dict[int, Tensor] = {}

    @property
    def at_once(self) -> int:
        """How many pieces `project` may be given at once so that none depends on the others."""
        return AT_ONCE if self.encoder.int8 else 1

    def project(self, pieces: Tensor) -> np.ndarray:
        """[N * CHUNK, dim - 1] float32 of the stem rows of pieces [N, L, D]: PAST, CHUNK, and those ahead."""
        import torch

        from nldf_engine import ops

        with torch.inference_mode():
            states = (self._states(pieces) - self._silent_states(pieces.shape[1])).flatten(0, 1)
            if self._projection is not None:
                states = ops.affine(states, self._projection)
            made: np.ndarray = states.numpy()
        return made

    def _states(self, pieces: Tensor) -> Tensor:
        import torch.nn.functional as F

        return F.layer_norm(self.encoder(pieces, PAST, PAST + CHUNK), (self.encoder.width,))

    def _silent_states(self, length: int) -> Tensor:
        if length not in self._silence:
            self._silence[length] = self._states(self.silent_stem[:2].repeat(length // 2, 1))
        return self._silence[length]


def split_ahead(ahead: int) -> tuple[int, int]:
    """(rows that a piece looks ahead, rows by which windows end beyond a frame's moment) of `ahead`."""
    inside = max(0, min(PIECE_AHEAD, ahead))
    return inside, ahead - inside


def samples_ahead(settings: FrontendSettings) -> int:
    """Samples beyond its moment that a frame needs, where its last row is the second of a chunk."""
    return (settings.ahead + CHUNK - 4) * ROW + PAIR_SAMPLES - EDGE * HOP - FFT // 2


def samples_back(settings: FrontendSettings) -> int:
    """Samples before its moment that a frame may depend on, for all but the voice's level 3.5 s at most.

    The window's first row, the piece before it, which begins a chunk, and the two rows by whose level the
    first of these goes; and what the voice's level goes back.
    """
    _, beyond = split_ahead(settings.ahead)
    rows_back = BEFORE + max(0, BEFORE - beyond) + CHUNK - 1 + PAST + 2
    return (rows_back + LEVEL_ROWS - 1) * ROW + BEFORE_ROW + 1


def level_delay(settings: FrontendSettings) -> int:
    """Rows by which the level comes late so that no frame waits for it."""
    return max(0, 2 - settings.ahead)


class StemStream:
    """Spectrogram and convolutions of a sound that is still arriving: rows [r, D], two at a time.

    Rows 2g and 2g + 1 are known from 640 g + 840 samples on.

    Args:
        encoder: whose convolutions.
    """

    def __init__(self, encoder: WhisperEncoder) -> None:
        self._encoder = encoder
        self._samples = np.zeros(EDGE * HOP + FFT // 2, np.float32)  # from the next rows' first mel frame on
        # The voice's level in the two rows before the next ones, and on.
        self._levels = np.full(2, TYPICAL_DB, np.float32)

    def push(self, samples: np.ndarray, levels: np.ndarray) -> Tensor:
        """The rows that samples [n] and the voice's levels [r] in dB complete."""
        import torch

        self._samples = np.concatenate([self._samples, samples])
        self._levels = np.concatenate([self._levels, levels])
        pairs = min((len(self._samples) - PAIR_SAMPLES) // (2 * ROW) + 1, (len(self._levels) - 2) // 2)
        if pairs <= 0:
            return torch.empty(0, self._encoder.width)
        made = [self._rows(first, min(PAIRS, pairs - first)) for first in range(0, pairs, PAIRS)]
        self._samples = self._samples[pairs * 2 * ROW :].copy()
        self._levels = self._levels[pairs * 2 :].copy()
        return torch.cat(made)

    def _rows(self, first: int, pairs: int) -> Tensor:
        import torch

        frames = (pairs - 1) * 2 * FRAMES + PAIR_FRAMES
        heard = log_powers(self._samples[first * 2 * ROW :], frames)
        # Frame m goes by the level of the row before its own: that is known when the frame is.
        levels = self._levels[2 * first :][: 2 * pairs + 2].repeat(FRAMES)[:frames]
        heard = (heard - levels[:, None] / 10 + LEVEL).clip(FLOOR)
        return stem_rows(self._encoder, torch.from_numpy(heard))


def stem_rows(encoder: WhisperEncoder, powers: Tensor) -> Tensor:
    """[n, D] rows of log powers [2 n + 3, 80], less the level."""
    import torch

    with torch.inference_mode():
        return encoder.stem((powers + 4) / 4)


class WhisperStream:
    """Rows [R, D] of a sound that is still arriving, chunk after chunk.

    Args:
        settings: which weights, and how far it looks ahead.
        weights: in the place of those that the settings name.

    Raises:
        FileProblem, MissingBackend: the weights are not there, or not what they should be.
    """

    def __init__(self, settings: FrontendSettings, weights: Weights | None = None) -> None:
        self._weights = weights or load_weights(settings)
        self._ahead, beyond = split_ahead(settings.ahead)
        self._beyond = max(0, beyond - BEFORE)  # rows behind the sound that its last window holds
        self._powers, self._stems = PowerStream(), StemStream(self._weights.encoder)
        # A window has 8 rows from a frame's moment on: they come so late that `beyond` of these are heard.
        late = BEFORE - beyond
        self._skipped = self._beyond
        numbers = self._weights.dim - 1
        self._states = [np.zeros((max(0, late), numbers), np.float32)]
        self._levels = [np.zeros((level_delay(settings), 1), np.float32)]
        self._stem = self._weights.silent_stem
        self._given = self._came = self._voice = 0

    def push(self, samples: np.ndarray) -> np.ndarray:
        """The rows [r, D] that these samples [n] float32 complete."""
        self._came += len(samples)
        powers, levels = self._powers.push(samples)
        return self._take(samples, powers, levels)

    def finish(self) -> np.ndarray:
        """The rows that are left when the sound has ended; silence follows. None without any sound."""
        if not self._came:
            return np.empty((0, self._weights.dim), np.float32)
        powers, levels = self._powers.finish()
        rows = count_rows(self._came) - self._given
        # So many complete the last chunk, with all that it looks ahead and the spectrum of its last pair.
        more = self._beyond + self._ahead + 2 * CHUNK
        silent, held = np.zeros(more * ROW, np.float32), np.full(more, self._voice, np.float32)
        return self._take(silent, powers, np.concatenate([levels, held]))[:rows]

    def _take(self, samples: np.ndarray, powers: np.ndarray, levels: np.ndarray) -> np.ndarray:
        import torch

        if len(levels):
            self._voice = levels[-1]
        self._levels.append(over_voice(powers.sum(1, keepdims=True), levels[: len(powers)]))
        self._stem = torch.cat([self._stem, self._stems.push(samples, levels)])
        count = max(0, (len(self._stem) - PAST - self._ahead) // CHUNK)
        if count:
            pieces = self._stem.unfold(0, PAST + CHUNK + self._ahead, CHUNK).transpose(1, 2)
            self._states += [self._weights.project(some) for some in pieces.split(self._weights.at_once)]
        self._stem = self._stem[count * CHUNK :].clone()
        return self._give()

    def _give(self) -> np.ndarray:
        states, levels = np.concatenate(self._states), np.concatenate(self._levels)
        skipped = min(self._skipped, len(states))
        self._skipped -= skipped
        states = states[skipped:]
        count = min(len(states), len(levels))
        self._states, self._levels = [states[count:]], [levels[count:]]
        self._given += count
        return np.concatenate([states[:count], levels[:count]], 1)


def rows(samples: np.ndarray, settings: FrontendSettings, weights: Weights | None = None) -> np.ndarray:
    """Feature rows at 50 Hz, float32 [R, D]: those of the stream.

    Args:
        samples: [N] float32, mono at 16 kHz.
        settings, weights: see `WhisperStream`.

    Raises:
        FileProblem, MissingBackend: the weights are not there, or not what they should be.
    """
    stream, count = WhisperStream(settings, weights), count_rows(len(samples))
    made = []
    with Bar("audio features", count, "row") as bar:
        for first in range(0, len(samples), BLOCK):
            made.append(stream.push(samples[first : first + BLOCK]))
            bar.step(len(made[-1]))
        made.append(stream.finish())
        bar.step(len(made[-1]))
    found = np.concatenate(made)
    return found if len(found) else np.zeros((count, found.shape[1]), np.float32)


def load_weights(settings: FrontendSettings) -> Weights:
    """The bundled weights, or those of the settings' source.

    Raises:
        FileProblem: they are missing, damaged, or others than `settings.weights` says.
        MissingBackend: a source that transformers can't read.
    """
    found = bundled_weights() if not settings.source else foreign_weights(settings.source, settings.layer)
    if settings.weights not in ("", found.digest):
        raise FileProblem(
            settings.source or ASSET_PATH,
            f"these weights are others than the avatar was made with (SHA-256 {found.digest[:12]}..., and "
            f"{settings.weights[:12]}... was expected)",
            "use the version of nldf_engine, or the weights, that it was trained with; or train it again",
        )
    return found


@functools.lru_cache(maxsize=1)
def bundled_weights() -> Weights:
    """The weights that come with the package.

    Raises:
        FileProblem: the file is missing, cut short, or another than this version was made for.
    """
    import torch

    from nldf_engine.nn.whisper import WhisperEncoder

    tensors, _ = load_tensors(ASSET_PATH, DIGEST)
    projection = tensors.pop("projection")
    with torch.device("meta"):
        encoder = WhisperEncoder(blocks=BLOCKS, int8=True)
    encoder.load_state_dict(tensors, assign=True)
    return Weights(encoder.eval().requires_grad_(False), projection, DIGEST)


@functools.lru_cache(maxsize=1)
def foreign_weights(source: str, layer: int) -> Weights:
    """Whisper weights of any size from a folder or a hub id, through transformers, in float32.

    Args:
        source: a folder that save_pretrained wrote, or a hub id such as "openai/whisper-small".
        layer: how many of its blocks; -1 for half of them, rounded up: the last ones know words, not mouths.

    Raises:
        MissingBackend: transformers or the weights are not there.
        FileProblem: a folder holds other or damaged weights, or such as don't fit.
        ValueError: the network has no such layer.
    """
    need_transformers("whisper")
    import torch
    from transformers import AutoConfig

    from nldf_engine.nn.whisper import WhisperEncoder, transformers_names

    network = from_pretrained(AutoConfig, source, EXAMPLE)
    _check_network(source, network)
    blocks = -(-network.encoder_layers // 2) if layer == -1 else layer
    if not 1 <= blocks <= network.encoder_layers:
        raise ValueError(
            f"FrontendConfig.layer: {source} has the blocks 1 to {network.encoder_layers} "
            f"(or -1 for half of them), got {layer}"
        )
    given, digest = from_source(source, _read_encoder, EXAMPLE)
    with torch.device("meta"):
        encoder = WhisperEncoder(network.d_model, network.encoder_attention_heads, blocks)
    names = {
        f"{ours}.{kind}": f"{theirs}.{kind}"
        for ours, theirs in transformers_names(blocks).items()
        for kind in ("weight", "bias")
    }
    wanted = {name: value.shape for name, value in encoder.state_dict().items()}
    wrong = [
        names[n] for n, shape in wanted.items() if names[n] not in given or given[names[n]].shape != shape
    ]
    if wrong:
        raise FileProblem(
            source, f"its weights lack {len(wrong)} tensors of a Whisper encoder of this size, first "
            f"{wrong[0]}", "download them again",
        )  # fmt: skip
    _check_positions(source, given.get("embed_positions.weight"))
    encoder.load_state_dict({name: given[names[name]].float() for name in wanted}, assign=True)
    return Weights(encoder.eval().requires_grad_(False), None, digest)


def _check_network(source: str, network: Any) -> None:
    """Raises FileProblem where a network's configuration is not that of an encoder as this file runs it."""
    instead = f"choose a Whisper of 80 bands, such as {EXAMPLE}"
    if network.model_type != "whisper":
        raise FileProblem(source, f"it holds a {network.model_type!r} network, expected 'whisper'", instead)
    if network.num_mel_bins != BANDS:
        raise FileProblem(
            source, f"it takes {network.num_mel_bins} mel bands, as large-v3 does, and {BANDS} are given",
            instead,
        )  # fmt: skip
    longest = PAST + CHUNK + PIECE_AHEAD
    if network.max_source_positions < longest:
        raise FileProblem(
            source, f"it has {network.max_source_positions} positions, and pieces have {longest} rows",
            instead,
        )  # fmt: skip
    width, heads, inner = network.d_model, network.encoder_attention_heads, network.encoder_ffn_dim
    if width % (2 * heads) or inner != 4 * width or network.activation_function != "gelu":
        raise FileProblem(
            source, f"its blocks have a width of {width}, {heads} heads, {inner} inner numbers and "
            f"{network.activation_function!r}; expected an even multiple of the heads, four times the width, "
            "and 'gelu'", instead,
        )  # fmt: skip


def _check_positions(source: str, stored: Tensor | None) -> None:
    """Raises FileProblem where stored positions [n, D] are not Whisper's own."""
    from nldf_engine.nn.whisper import positions

    if stored is not None and not (stored.float() - positions(*stored.shape)).abs().max() < 0.01:
        raise FileProblem(source, "its positions are others than Whisper's sinusoids", f"choose {EXAMPLE}")


def _read_encoder(place: str, offline: bool) -> tuple[dict[str, Tensor], str]:
    """(the encoder's tensors by their names, SHA-256) of the safetensors of a folder or hub id."""
    import json

    from safetensors import safe_open
    from transformers.utils import cached_file

    def find(name: str) -> Path:
        return Path(str(cached_file(place, name, local_files_only=offline)))

    try:
        paths = [find("model.safetensors")]
    except OSError:
        index = json.loads(find("model.safetensors.index.json").read_text(encoding="utf-8"))
        paths = [find(name) for name in sorted(set(index["weight_map"].values()))]
    tensors = {}
    for path in paths:
        with safe_open(path, "pt") as file:
            for key in file.keys():  # noqa: SIM118 (it is no mapping)
                name = key.removeprefix("model.")
                if name.startswith("encoder."):
                    tensors[name.removeprefix("encoder.")] = file.get_tensor(key)
    digests = [sha256(path) for path in paths]
    joined = digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    return tensors, joined


def check(settings: FrontendSettings) -> None:
    """Checks what can be checked without the weights.

    Raises:
        ValueError: another output than hidden states, or a layer of the bundled weights.
    """
    if settings.output != "hidden":
        raise ValueError(f"FrontendConfig.output: whisper has 'hidden' alone, got {settings.output!r}")
    if not settings.source and settings.layer != -1:
        raise ValueError(
            f"FrontendConfig.layer: the bundled weights end behind block {BLOCKS}, got {settings.layer}; "
            "leave it at -1, or give a source"
        )


FRONTEND = Frontend(
    "Whisper base's third block, bundled, 0.21 s of delay",
    rows,
    dim=lambda settings: load_weights(settings).dim,
    stream=WhisperStream,
    look_ahead=samples_ahead,
    chooses_ahead=True,
    levels=slice(-1, None),
    level_delay=level_delay,
    weights=lambda settings: load_weights(settings).digest,
    check=check,
)
