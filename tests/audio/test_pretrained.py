import builtins
import importlib.util
import shutil

import numpy as np
import pytest

from nldf_engine.audio import FrontendConfig, features
from nldf_engine.audio import pretrained as pretrained_module
from nldf_engine.audio.pretrained import in_chunks
from nldf_engine.base.errors import FileProblem, MissingBackend

if importlib.util.find_spec("transformers") is None:
    pytest.skip(
        "transformers is not installed (pip install 'nldf_engine[features]')", allow_module_level=True
    )


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Folders of tiny networks with random weights, as save_pretrained writes them: name -> path."""
    import torch
    import transformers

    sizes = {
        "hidden_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "conv_dim": (8,) * 7,
        "num_conv_pos_embeddings": 16,
        "num_conv_pos_embedding_groups": 2,
        "vocab_size": 44,
        "do_stable_layer_norm": True,
        "feat_extract_norm": "layer",
        "conv_bias": True,
    }
    made = {}
    torch.manual_seed(0)
    for name, kind, config in (
        ("wav2vec2", transformers.Wav2Vec2ForCTC, transformers.Wav2Vec2Config(**sizes)),
        ("hubert", transformers.HubertModel, transformers.HubertConfig(**sizes)),
    ):
        made[name] = tmp_path_factory.mktemp(name)
        kind(config).save_pretrained(made[name])
    transformers.Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(made["wav2vec2"])
    return made


@pytest.mark.parametrize(
    ("name", "output", "layer", "size"),
    [
        ("wav2vec2", "logits", -1, 44),
        ("wav2vec2", "hidden", -1, 24),
        ("hubert", "hidden", -1, 24),
        ("hubert", "hidden", 1, 24),
    ],
)
def test_a_local_folder_gives_windows_of_its_size(weights, speech, name, output, layer, size):
    """Hidden states and logits of a local folder come as [T, 16, D], D being found out beforehand."""
    config = FrontendConfig(name, str(weights[name]), output=output, layer=layer).resolve()
    assert config.dim == size
    made = features(speech[:48000], config)
    assert made.shape == (75, 16, size) and made.dtype == np.float32 and np.isfinite(made).all()
    assert made[10:].std() > 0.01


def test_rows_are_those_of_the_network_itself(weights, speech):
    """Every row equals transformers' own output for the normalised sound, 40 zeros before it."""
    import torch
    import transformers

    sound = speech[:32000]
    network = transformers.Wav2Vec2ForCTC.from_pretrained(weights["wav2vec2"]).eval()
    extractor = transformers.Wav2Vec2FeatureExtractor.from_pretrained(weights["wav2vec2"])
    values = extractor(sound, sampling_rate=16000, return_tensors="pt").input_values
    values = torch.nn.functional.pad(values, (40, 40))
    with torch.no_grad():
        out = network(values, output_hidden_states=True)
    for config, wanted in (
        (FrontendConfig("wav2vec2", str(weights["wav2vec2"]), output="logits"), out.logits),
        (FrontendConfig("wav2vec2", str(weights["wav2vec2"]), layer=1), out.hidden_states[1]),
        (FrontendConfig("wav2vec2", str(weights["wav2vec2"]), layer=-2), out.hidden_states[-2]),
    ):
        rows = pretrained_module.rows(sound, config)
        assert len(rows) == 100
        np.testing.assert_allclose(rows, wanted[0].numpy(), atol=1e-5)


def test_gain_does_not_matter_and_silence_is_finite(weights, speech):
    """A quieter recording gives the same features, and silence, one sample or none give finite ones."""
    config = FrontendConfig("hubert", str(weights["hubert"]))
    loud, quiet = features(speech[:32000], config), features(speech[:32000] * np.float32(0.2), config)
    np.testing.assert_allclose(quiet, loud, atol=0.02 * loud.std())
    for count in (0, 1, 400, 16000):
        assert np.isfinite(features(np.zeros(count, np.float32), config)).all()


def test_a_folder_may_ask_for_sound_as_it_is(weights, speech, tmp_path):
    """Where preprocessor_config.json says do_normalize false, the gain comes through."""
    import transformers

    folder = shutil.copytree(weights["hubert"], tmp_path / "plain")
    transformers.Wav2Vec2FeatureExtractor(do_normalize=False).save_pretrained(folder)
    config = FrontendConfig("hubert", str(folder))
    loud, quiet = features(speech[:32000], config), features(speech[:32000] * np.float32(0.01), config)
    assert np.abs(loud - quiet).max() > 0.1 * loud.std()


@pytest.mark.parametrize("count", [0, 1, 320, 3200, 12345, 64000])
@pytest.mark.parametrize(("chunk", "context"), [(10, 4), (7, 3), (1, 3), (1000, 5)])
def test_chunks_leave_no_seam(count, chunk, context):
    """With as much context as a network sees, chunks of any size give the same rows as the whole."""
    sound = np.random.default_rng(0).standard_normal(count).astype(np.float32)
    lengths = []

    def network(samples):  # sees 400 samples a row, and 3 rows to either side
        lengths.append(len(samples))
        views = np.lib.stride_tricks.sliding_window_view(samples, 400)[::320]
        local = np.stack([views.mean(1), views.max(1), views[:, 200]], 1)
        padded = np.pad(local, ((3, 3), (0, 0)))
        return sum(padded[i : i + len(local)] * (i + 1) for i in range(7)).astype(np.float32)

    padded = np.pad(sound, (40, 800))
    rows = max(1, round(count / 320))
    whole = network(padded[: (rows - 1) * 320 + 400])
    lengths.clear()
    made = in_chunks(sound, network, field=400, chunk=chunk, context=context)
    np.testing.assert_allclose(made, whole, atol=1e-6)
    assert max(lengths) <= (chunk + 2 * context) * 320 + 80


def test_chunks_of_a_transformer_agree_with_the_whole(weights, speech, monkeypatch):
    """Rows at a seam differ from those of the whole sound by little, and no more than rows elsewhere do."""
    config = FrontendConfig("wav2vec2", str(weights["wav2vec2"]), output="logits")
    whole = pretrained_module.rows(speech, config)
    monkeypatch.setattr(pretrained_module.in_chunks, "__defaults__", (200, 100))
    made = pretrained_module.rows(speech, config)
    assert made.shape == whole.shape and (made != whole).any()
    error = np.abs(made - whole).mean(1)
    assert error.mean() < 0.05 * whole.std()
    assert error[[199, 200, 399, 400]].max() < 0.2 * whole.std()


def test_missing_weights_say_how_to_get_them(monkeypatch, tmp_path):
    """No folder, an empty folder and a hub id without a network are MissingBackend, with the command."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for source in ("/absent/folder", "no such place", "nobody/has-this-network-0"):
        with pytest.raises(MissingBackend, match=r"hf download"):
            features(np.zeros(1000, np.float32), FrontendConfig("wav2vec2", source))
    with pytest.raises(MissingBackend, match=r"hf download"):
        FrontendConfig("hubert", str(tmp_path)).resolve()


def test_missing_transformers_says_how_to_install_it(monkeypatch):
    """Without transformers the front-end says which command installs it."""
    monkeypatch.setattr(pretrained_module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingBackend, match=r"pip install 'nldf_engine\[features\]'"):
        features(np.zeros(1000, np.float32), "hubert")


def test_other_networks_and_sizes_are_refused(weights):
    """A network of another kind, a layer that it lacks and another size than was stored are named."""
    sound = np.zeros(1000, np.float32)
    with pytest.raises(FileProblem, match="'wav2vec2' network"):
        features(sound, FrontendConfig("hubert", str(weights["wav2vec2"])))
    for layer in (3, -4):
        with pytest.raises(ValueError, match="0 to 2"):
            features(sound, FrontendConfig("hubert", str(weights["hubert"]), layer=layer))
    stored = FrontendConfig("hubert", str(weights["hubert"]), dim=1024)
    for call in (stored.resolve, lambda: features(sound, stored)):
        with pytest.raises(ValueError, match=r"24 features a row.*1024"):
            call()


def test_absent_tensors_are_not_filled_at_random(weights):
    """Logits of weights that have no letter layer are refused: they would be noise."""
    with pytest.raises(FileProblem, match="lm_head"):
        features(
            np.zeros(1000, np.float32), FrontendConfig("hubert", str(weights["hubert"]), output="logits")
        )


def test_damaged_weights_and_pickles_are_refused(weights, tmp_path, monkeypatch):
    """Truncated weights and a broken configuration name the folder; a pickle is never opened."""
    sound = np.zeros(1000, np.float32)
    cut = shutil.copytree(weights["hubert"], tmp_path / "cut")
    (cut / "model.safetensors").write_bytes((cut / "model.safetensors").read_bytes()[:2000])
    broken = shutil.copytree(weights["hubert"], tmp_path / "broken")
    (broken / "config.json").write_text("{")
    for folder in (cut, broken):
        with pytest.raises(FileProblem, match=str(folder)):
            features(sound, FrontendConfig("hubert", str(folder)))
    pickled = shutil.copytree(weights["hubert"], tmp_path / "pickled")
    (pickled / "model.safetensors").unlink()
    (pickled / "pytorch_model.bin").write_bytes(b"\x80\x04never open this")
    real_open = builtins.open

    def guarded(file, *arguments, **options):
        assert "pytorch_model" not in str(file)
        return real_open(file, *arguments, **options)

    monkeypatch.setattr(builtins, "open", guarded)
    with pytest.raises(MissingBackend, match="safetensors"):
        features(sound, FrontendConfig("hubert", str(pickled)))
