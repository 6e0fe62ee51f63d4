"""The front-end "whisper": its stream, what it sees of a sound, silence, gain, and weights of any source."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from nldf_engine.audio import FeatureStream, FrontendConfig, features, whisper
from nldf_engine.audio.windows import BEFORE, ROW, count_rows
from nldf_engine.base.errors import FileProblem, MissingBackend
from nldf_engine.base.files import sha256
from nldf_engine.nn.whisper import WhisperEncoder

AHEADS = (-2, 2, 8, 20)
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def bundled() -> FrontendConfig:
    """The front-end with the weights of the package."""
    if not whisper.ASSET_PATH.is_file():
        pytest.skip(f"{whisper.ASSET_PATH.name} is not in this checkout: its weights aren't tried")
    return FrontendConfig("whisper")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> whisper.Weights:
    """Small random weights in the place of the bundled ones: 8-bit blocks, and a projection."""
    torch.manual_seed(0)
    encoder = WhisperEncoder(64, 2, 2, int8=True)
    for name, value in encoder.named_buffers():
        if name.endswith("weight"):
            value.copy_(torch.randint(-127, 128, value.shape))
        elif name.endswith("scale"):
            value.fill_(0.01 / 8)
    made = whisper.Weights(encoder.eval().requires_grad_(False), torch.randn(6, 64) / 8, "0" * 64)
    monkeypatch.setattr(whisper, "bundled_weights", lambda: made)
    return made


def in_pieces(config: FrontendConfig, sound: np.ndarray, sizes: Iterator[int]) -> np.ndarray:
    """The windows of a stream that is given pieces of these sizes."""
    stream, made, at = FeatureStream(config), [], 0
    while at < len(sound):
        size = next(sizes)
        made.append(stream.push(sound[at : at + size]))
        at += size
    return np.concatenate([*made, stream.finish()])


def test_filters_are_librosas_slaney_filters():
    """The mel filters equal librosa's Slaney ones, as Whisper uses them, to the rounding of float32."""
    librosa = pytest.importorskip("librosa", reason="librosa is not installed: the filters aren't compared")
    wanted = librosa.filters.mel(sr=16000, n_fft=400, n_mels=80).T
    made = whisper.whisper_filters()
    assert made.shape == (201, 80)
    np.testing.assert_allclose(made, wanted, atol=2e-7 * wanted.max(), rtol=1e-5)


def test_powers_are_those_of_whispers_own_spectrogram(speech):
    """log10 of the powers equals that of transformers' feature extractor, which pads by 200 samples."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    extractor = transformers.WhisperFeatureExtractor()
    sound = speech[:32000]
    made = whisper.log_powers(sound[160 * 2 - 200 :], 100)
    wanted = extractor._np_extract_fbank_features(sound[None], "cpu")[0].T[2:102] * 4 - 4
    loud = wanted > wanted.min() + 1e-3  # above the floor that it sets by the sound's maximum
    assert loud.mean() > 0.5
    np.testing.assert_allclose(made[loud], wanted[loud], atol=2e-4)


@pytest.mark.parametrize("ahead", AHEADS)
def test_a_stream_gives_the_features_of_the_file(small, speech, ahead):
    """In pieces of any size, one sample included, every bit is that of the whole sound."""
    config = FrontendConfig("whisper", ahead=ahead)
    sound = speech[: 16000 * 2 + 77]
    wanted = features(sound, config)
    random = np.random.default_rng(ahead + 2)
    for sizes in (
        iter(lambda: int(random.integers(1, 900)), 0), iter(lambda: int(random.integers(1, 9000)), 0),
        iter(lambda: 640, 0),
    ):  # fmt: skip
        np.testing.assert_array_equal(in_pieces(config, sound, sizes), wanted)
    short = features(sound[:3000], config)
    np.testing.assert_array_equal(in_pieces(config, sound[:3000], iter(lambda: 1, 0)), short)


def test_a_long_push_is_taken_in_parts(small, speech, monkeypatch):
    """So that memory does not grow with what is pushed at once; every bit stays."""
    config = FrontendConfig("whisper", ahead=0)
    sound = speech[: 16000 * 2 + 77]
    wanted = features(sound, config)
    monkeypatch.setattr(whisper, "PAIRS", 3)
    np.testing.assert_array_equal(features(sound, config), wanted)


def test_the_reference_streams_as_well(small, speech, monkeypatch):
    """Without kernels, too, a stream gives the bits of the file."""
    monkeypatch.setenv("NLDF_BACKEND", "reference")
    config = FrontendConfig("whisper", ahead=2)
    sound = speech[:16000]
    made = in_pieces(config, sound, iter(lambda: 700, 0))
    np.testing.assert_array_equal(made, features(sound, config))


def test_the_bundled_weights_stream_as_well(bundled, speech):
    """The real weights give the same bits in pieces and at once, on any number of threads, 65 a row."""
    sound = speech[:32000]
    wanted = features(sound, bundled)
    assert wanted.shape == (50, 16, 65) and np.isfinite(wanted).all() and wanted[..., :-1].std() > 0.05
    random = np.random.default_rng(0)
    made = in_pieces(bundled, sound, iter(lambda: int(random.integers(1, 4000)), 0))
    np.testing.assert_array_equal(made, wanted)
    threads, begun = torch.get_num_threads(), sound[:8000]
    try:
        torch.set_num_threads(1)
        alone = features(begun, bundled)
        for count in (2, 3):  # a product of five rows would be added up in another order on two
            torch.set_num_threads(count)
            np.testing.assert_array_equal(features(begun, bundled), alone)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("ahead", AHEADS)
def test_the_stated_look_ahead_is_exact(small, speech, ahead):
    """No frame waits for a sample beyond the look-ahead, and some frame waits for its last one."""
    config = FrontendConfig("whisper", ahead=ahead)
    reach = config.kind.look_ahead(config)
    stream, waited, frame, sound = FeatureStream(config), [], 0, speech[:40000]
    for at in range(0, len(sound), 8):  # moments and reach are multiples of 8
        for _ in stream.push(sound[at : at + 8]):
            waited.append(at + 8 - 640 * frame)
            frame += 1
    assert reach % 8 == 0 and max(waited[10:]) == reach and frame > 40


@pytest.mark.parametrize("ahead", [-2, 8])
def test_a_frame_sees_its_stated_stretch_and_no_more(small, speech, ahead):
    """Not a bit of a frame changes with samples before its look-back or beyond its look-ahead."""
    config = FrontendConfig("whisper", ahead=ahead)
    settings_back, reach = whisper.samples_back(config), config.kind.look_ahead(config)
    sound = np.concatenate([speech, speech[::-1]])[: 16000 * 17]
    wanted, frame = features(sound, config), 380
    moment = 640 * frame
    assert 0 < moment - settings_back < 16000 * 3
    changed = np.random.default_rng(7).uniform(-1, 1, len(sound)).astype(np.float32)
    changed[moment - settings_back : moment + reach] = sound[moment - settings_back : moment + reach]
    np.testing.assert_array_equal(features(changed, config)[frame], wanted[frame])
    # What it says beyond the voice's level lies within three and a half seconds.
    later = sound.copy()
    later[moment - 16000 * 3 : moment - 16000 * 3 + 320] *= 0.5
    assert (features(later, config)[frame] != wanted[frame]).any()


@pytest.mark.parametrize("ahead", [-2, 8, 20])
def test_silence_is_zero(small, speech, ahead):
    """Digital silence is exactly zero, and becomes so again when a whole piece is silent after speech."""
    config = FrontendConfig("whisper", ahead=ahead)
    for count in (0, 1, 319, 30000):
        assert not features(np.zeros(count, np.float32), config).any()
    spoken = 50  # rows
    for gain in (1.0, 0.003):
        sound = np.zeros(ROW * (spoken + 200), np.float32)
        sound[: ROW * spoken] = speech[: ROW * spoken] * np.float32(gain)
        made = whisper.rows(sound, config)
        _, beyond = whisper.split_ahead(ahead)
        late = BEFORE - beyond
        states, levels = made[:, :-1].any(1), made[:, -1] > 0
        # The piece that begins after the last row that saw the sound, and chunks are of four rows.
        last = np.flatnonzero(states)[-1] - late
        assert spoken + whisper.PAST - whisper.CHUNK <= last <= spoken + whisper.PAST + 2 * whisper.CHUNK
        heard = np.flatnonzero(levels)[-1] - whisper.level_delay(config)
        assert spoken - 1 <= heard <= spoken + 1


def test_gain_hardly_matters(bundled, speech):
    """A recording 20 dB quieter gives nearly the same rows after two seconds."""
    plain = whisper.rows(speech[:88000], bundled)
    quiet = whisper.rows(speech[:88000] * np.float32(0.1), bundled)
    away = np.abs(plain - quiet)[100:].mean(0) / plain[100:].std(0)
    assert away[:-1].mean() < 0.25 and away[-1] < 0.1


@pytest.mark.parametrize("count", [0, 1, 159, 160, 161, 320, 481, 5000])
def test_short_sounds_have_rows_as_well(small, count):
    """Sounds of 0, 1 and odd numbers of samples give as many rows as they last, finite, from any side."""
    config = FrontendConfig("whisper")
    sound = np.random.default_rng(3).uniform(-0.5, 0.5, count).astype(np.float32)
    made = whisper.rows(sound, config)
    assert made.shape == (count_rows(count), 7) and np.isfinite(made).all()
    windows = features(sound, config)
    assert windows.shape[1:] == (16, 7)
    if count:
        np.testing.assert_array_equal(in_pieces(config, sound, iter(lambda: 7, 0)), windows)
    else:
        assert not made.any()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_sounds_that_are_not_finite_are_refused(small, bad):
    """NaN and infinity are refused before anything is computed."""
    sound = np.zeros(16000, np.float32)
    sound[8000] = bad
    with pytest.raises(ValueError, match="finite"):
        features(sound, FrontendConfig("whisper"))


@pytest.mark.parametrize("damage", ["missing", "cut", "swapped"])
def test_a_missing_or_damaged_asset_is_named(damage, tmp_path, monkeypatch):
    """Weights that are not there, cut short or others give their path and what to do."""
    path = tmp_path / "whisper.safetensors"
    if damage == "cut":
        path.write_bytes(b"\x08\0\0\0\0\0\0\0{}")
    if damage == "swapped":
        from safetensors.torch import save_file

        save_file({"projection": torch.zeros(64, 512)}, path)
    monkeypatch.setattr(whisper, "ASSET_PATH", path)
    whisper.bundled_weights.cache_clear()
    try:
        with pytest.raises(FileProblem, match=r"whisper\.safetensors.*install the package again"):
            features(np.zeros(1000, np.float32), FrontendConfig("whisper"))
    finally:
        whisper.bundled_weights.cache_clear()


def test_other_weights_than_an_avatar_was_made_with_are_refused(small):
    """The digest is stored when a config is resolved; features by other weights are refused."""
    config = FrontendConfig("whisper")
    assert config.dim == 0 and config.weights == "" and features(np.zeros(640, np.float32), config).any() == 0
    known = config.resolve()
    assert known.dim == 7 and known.weights == small.digest and known.resolve() == known
    assert FrontendConfig.from_json(known.to_json()) == known
    other = dataclasses.replace(known, weights="1" * 64)
    for call in (other.resolve, lambda: features(np.zeros(640, np.float32), other),
                 lambda: FeatureStream(other)):  # fmt: skip
        with pytest.raises(FileProblem, match=r"others than the avatar was made with.*train it again"):
            call()
    with pytest.raises(ValueError, match="7 features a row, and 9 were expected"):
        dataclasses.replace(config, dim=9).resolve()


@pytest.mark.parametrize(
    ("fields", "words"),
    [({"ahead": 3}, "even number"), ({"ahead": 66}, "-6 to 64"), ({"output": "logits"}, "'hidden' alone"),
     ({"layer": 2}, "leave it at -1, or give a source")],
)  # fmt: skip
def test_wrong_settings_are_refused(fields, words):
    """Settings that the front-end doesn't have are named."""
    with pytest.raises(ValueError, match=words):
        FrontendConfig("whisper", **fields)


MEMORY = """
import resource
import numpy as np, torch
from nldf_engine.audio import FrontendConfig, whisper
from nldf_engine.nn.whisper import WhisperEncoder

torch.set_num_threads(1)
made = whisper.Weights(WhisperEncoder(16, 1, 1).requires_grad_(False), None, "")
whisper.load_weights = lambda settings: made
sound = np.random.default_rng(0).standard_normal(16000 * 240, dtype=np.float32) * np.float32(0.1)
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
whisper.rows(sound[:160000], FrontendConfig("whisper"))
before = peak()
whisper.rows(sound, FrontendConfig("whisper"))
print((peak() - before) / 1024)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no resource module")
def test_memory_does_not_grow_with_the_sound():
    """Four minutes of sound need no more memory than ten seconds, but for their rows (1 MB here)."""
    done = subprocess.run(
        [sys.executable, "-c", MEMORY], capture_output=True, text=True, timeout=120, check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    scale = 1024 if sys.platform == "darwin" else 1  # bytes there
    assert float(done.stdout) / scale < 12


needs_transformers = pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None,
    reason="transformers is not installed (pip install 'nldf_engine[features]')",
)
SIZES = {
    "d_model": 32, "encoder_layers": 3, "encoder_attention_heads": 2, "encoder_ffn_dim": 128,
    "decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 32, "vocab_size": 50,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1,
    "max_source_positions": 176,
}  # fmt: skip


def save(folder: Path, shard: str = "5GB", **changes: object) -> Path:
    """A folder of random Whisper weights, as save_pretrained writes it."""
    import transformers

    torch.manual_seed(len(changes))
    network = transformers.WhisperModel(transformers.WhisperConfig(**(SIZES | changes)))
    with torch.no_grad():
        for name, value in network.named_parameters():
            if "positions" not in name:
                value.copy_(torch.randn_like(value) / value.shape[-1] ** 0.5)
    network.save_pretrained(folder, max_shard_size=shard)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("whisper"))


@needs_transformers
@pytest.mark.parametrize("layer", [-1, 1, 3])
def test_weights_of_a_folder_give_transformers_own_states(folder, layer):
    """Stem and blocks of a whole piece equal transformers' encoder to 1e-4, behind any block."""
    import transformers

    network = transformers.WhisperModel.from_pretrained(folder).eval().encoder
    encoder = whisper.foreign_weights(str(folder), layer).encoder
    mel = torch.randn(1, 80, 352, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        states = network(mel, output_hidden_states=True).hidden_states
        stem = states[0][0] - network.embed_positions.weight
        # Whisper pads with zeros at either end of its piece, which no other row sees.
        torch.testing.assert_close(encoder.stem(mel[0].t().contiguous()), stem[1:175], atol=1e-4, rtol=0)
        blocks = 2 if layer == -1 else layer
        wanted = states[blocks][0]
        if blocks == 3:  # transformers gives the last state behind its layer norm alone
            made = network.layer_norm(encoder(stem.contiguous(), 0, 176))
            torch.testing.assert_close(made, wanted, atol=1e-4, rtol=0)
        else:
            torch.testing.assert_close(encoder(stem.contiguous(), 0, 176), wanted, atol=1e-4, rtol=0)
            torch.testing.assert_close(
                encoder(stem.contiguous(), 152, 156), wanted[152:156], atol=1e-4, rtol=0
            )


@needs_transformers
def test_a_folder_streams_and_is_known_by_its_weights(folder, speech, tmp_path):
    """Features of other weights stream, are as many as the network's width and a level, and keep a digest."""
    config = FrontendConfig("whisper", str(folder)).resolve()
    assert config.dim == 33 and config.weights == sha256(folder / "model.safetensors")
    wanted = features(speech[:24000], config)
    assert wanted.shape == (38, 16, 33) and np.isfinite(wanted).all()
    np.testing.assert_array_equal(in_pieces(config, speech[:24000], iter(lambda: 777, 0)), wanted)
    others = dataclasses.replace(config, source=str(save(tmp_path / "others", decoder_layers=2)))
    with pytest.raises(FileProblem, match="others than the avatar was made with"):
        features(speech[:640], others)


@needs_transformers
def test_weights_in_several_files_are_one(folder, tmp_path):
    """Shards give the weights of the one file, in half precision too, and a digest of all of them."""
    shards = save(tmp_path / "shards", shard="40KB")
    assert len(list(shards.glob("*.safetensors"))) > 2
    made, whole = whisper.foreign_weights(str(shards), 2), whisper.foreign_weights(str(folder), 2)
    for name, value in whole.encoder.state_dict().items():
        assert torch.equal(made.encoder.state_dict()[name], value)
    assert len(made.digest) == 64 and made.digest != whole.digest


@needs_transformers
@pytest.mark.parametrize(
    ("changes", "words"),
    [({"num_mel_bins": 128}, "128 mel bands"), ({"max_source_positions": 100}, "100 positions"),
     ({"encoder_ffn_dim": 64}, "64 inner numbers"), ({"activation_function": "relu"}, "'relu'")],
)  # fmt: skip
def test_networks_that_do_not_fit_are_refused(changes, words, tmp_path):
    """Other numbers of bands, positions too few and other blocks are named, with what fits."""
    source = save(tmp_path / "other", **changes)
    with pytest.raises(FileProblem, match=f"{words}.*choose a Whisper of 80 bands"):
        FrontendConfig("whisper", str(source)).resolve()


@needs_transformers
def test_layers_that_are_not_there_are_refused(folder):
    """A layer beyond the network's, and none."""
    for layer in (0, 4, -2):
        with pytest.raises(ValueError, match="blocks 1 to 3"):
            FrontendConfig("whisper", str(folder), layer=layer).resolve()


@needs_transformers
def test_damaged_and_absent_folders_are_named(folder, tmp_path, monkeypatch):
    """Truncated weights, lacking tensors, a missing network and missing weights say what to do."""
    from safetensors.torch import load_file, save_file

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    cut = shutil.copytree(folder, tmp_path / "cut")
    (cut / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:5000])
    lacking = shutil.copytree(folder, tmp_path / "lacking")
    tensors = load_file(folder / "model.safetensors")
    save_file({k: v for k, v in tensors.items() if "layers.1.fc1" not in k}, lacking / "model.safetensors")
    moved = shutil.copytree(folder, tmp_path / "moved")
    at = "encoder.embed_positions.weight"
    save_file(tensors | {at: tensors[at] + 1}, moved / "model.safetensors")
    for source, words in ((cut, "can't be loaded"), (lacking, "lack 2 tensors.*layers.1.fc1"),
                          (moved, "Whisper's sinusoids")):  # fmt: skip
        with pytest.raises(FileProblem, match=f"{source.name}.*{words}"):
            FrontendConfig("whisper", str(source)).resolve()
    for source in ("/absent/folder", "nobody/has-this-whisper-0", str(tmp_path)):
        with pytest.raises(MissingBackend, match="hf download"):
            FrontendConfig("whisper", source).resolve()


def test_missing_transformers_says_how_to_install_it(monkeypatch):
    """Without transformers a source is refused with the command that installs it."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingBackend, match=r"'whisper' needs transformers.*pip install"):
        FrontendConfig("whisper", "some/folder-that-nobody-read").resolve()
