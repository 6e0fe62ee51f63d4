import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from nldf_engine.audio import (
    FRONTENDS,
    FeatureStream,
    Frontend,
    FrontendConfig,
    count_frames,
    features,
    register_frontend,
)
from nldf_engine.audio.windows import windows
from nldf_engine.base.errors import MissingBackend
from tests.packages import install


@pytest.mark.parametrize(
    ("samples", "frames"),
    [(0, 1), (1, 1), (319, 1), (640, 1), (960, 2), (16000, 25), (16321, 26), (99999, 156)],
)
def test_a_sound_has_one_window_a_frame(samples, frames):
    """T is the sound's length at 25 frames/s, rounded, and at least one."""
    assert count_frames(samples) == frames
    assert features(np.zeros(samples, np.float32)).shape == (frames, 16, 29)


@pytest.mark.parametrize("frames", [1, 2, 30, 200])
def test_as_many_windows_as_asked_for(speech, frames):
    """`frames` cuts the windows, or adds zeros, and changes none of the others."""
    sound = speech[: 16000 * 4]
    made, whole = features(sound, frames=frames), features(sound)
    assert made.shape == (frames, 16, 29) and made.dtype == np.float32
    assert not made.flags.writeable, "windows overlap in memory"
    same = min(frames, len(whole))
    np.testing.assert_array_equal(made[:same], whole[:same])
    assert not made[104:].any()


def test_windows_are_those_of_eight_zero_rows_at_each_end():
    """Window t is rows [2t, 2t + 16) of the rows with eight zero rows before them, as AD-NeRF cuts them."""
    rows = np.random.default_rng(0).standard_normal((50, 5)).astype(np.float32)
    padded = np.concatenate([np.zeros((8, 5), np.float32), rows, np.zeros((8, 5), np.float32)])
    wanted = np.stack([padded[start : start + 16] for start in range(0, 50, 2)])
    np.testing.assert_array_equal(windows(rows, 25), wanted)


@pytest.mark.parametrize("frames", [0, -1, 2.0, True, "3"])
def test_a_wrong_number_of_frames_is_refused(frames):
    """`frames` is a whole number of at least one."""
    with pytest.raises(ValueError, match="frames"):
        features(np.zeros(1000, np.float32), frames=frames)


@pytest.mark.parametrize(
    ("samples", "error", "words"),
    [
        ([0.0], TypeError, "list"),
        (np.zeros(10), TypeError, "float64"),
        (np.zeros((10, 2), np.float32), ValueError, r"\[10, 2\]"),
        (np.array([0, np.nan], np.float32), ValueError, "finite"),
        (np.array([0, np.inf], np.float32), ValueError, "finite"),
    ],
)
def test_wrong_samples_are_refused(samples, error, words):
    """Samples are float32 [N] and finite, and what came instead is named."""
    with pytest.raises(error, match=words):
        features(samples)


@pytest.mark.parametrize(
    "config",
    [
        FrontendConfig(),
        FrontendConfig("wav2vec2", "some/folder", 44, "logits"),
        FrontendConfig("hubert", layer=9),
        FrontendConfig("precomputed", dim=1024),
    ],
)
def test_configs_survive_json(config):
    """to_json gives plain JSON, and from_json the same config."""
    assert FrontendConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


def test_mel_knows_its_size_and_others_do_not():
    """The mel config has 29 features from the start, given or not; the others' size is to be found out."""
    assert FrontendConfig() == FrontendConfig("mel", "", 29) and FrontendConfig().dim == 29
    assert FrontendConfig("hubert").dim == 0
    assert FrontendConfig().resolve() == FrontendConfig()


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"name": "deepspeech"}, "mel, wav2vec2, hubert, precomputed"),
        ({"name": "mel", "dim": 30}, "mel makes 29 features a row, got 30"),
        ({"name": "mel", "bands": 29}, "bands"),
        ({"name": "hubert", "dim": -1}, "dim"),
        ({"name": "hubert", "dim": 1 << 20}, "dim"),
        ({"name": "hubert", "dim": 1.5}, "dim"),
        ({"name": "hubert", "layer": "last"}, "layer"),
        ({"name": "hubert", "layer": True}, "layer"),
        ({"name": "hubert", "output": "words"}, "hidden"),
        ({"name": ["mel"]}, "name"),
        ({"name": "mel", "revision": 0}, "revision"),
        (["mel"], "object"),
        (None, "object"),
    ],
)
def test_a_wrong_config_says_what_is_wrong(value, words):
    """Unknown names and keys, wrong types and values, and another revision are each named."""
    with pytest.raises(ValueError, match=words):
        FrontendConfig.from_json(value)


def test_an_unknown_name_lists_the_known_ones():
    """`features` by an unknown name says which ones there are."""
    with pytest.raises(ValueError, match="mel, wav2vec2, hubert, precomputed"):
        features(np.zeros(10, np.float32), "mfcc")


def test_every_registered_frontend_has_a_summary_and_a_size():
    """The register's entries are whole, and a config of each can be made."""
    for name, frontend in FRONTENDS.items():
        assert frontend.summary and FrontendConfig(name).name == name
    assert FRONTENDS["mel"].dim == 29


def test_features_of_a_file_are_not_made_from_sound():
    """An avatar trained on a features file asks for such a file when it is given sound."""
    with pytest.raises(MissingBackend, match=r"\.npy.*44"):
        features(np.zeros(10, np.float32), FrontendConfig("precomputed", dim=44))
    assert FrontendConfig("precomputed", dim=44).resolve().dim == 44


def test_traits_say_what_a_front_end_is() -> None:
    """Features of files alone aren't made from sound, and mel's rows alone are bands of a spectrum."""
    assert [name for name, frontend in FRONTENDS.items() if not frontend.from_sound] == ["precomputed"]
    assert [name for name, frontend in FRONTENDS.items() if frontend.spectral_bands] == ["mel"]
    assert FrontendConfig().kind is FRONTENDS["mel"]


OTHER = """
import numpy as np
from nldf_engine.audio import Frontend

class Loudness:
    '''The mean square of each 20 ms, twice.'''

    def __init__(self, settings):
        self.kept = np.zeros(0, np.float32)

    def push(self, samples):
        self.kept = np.concatenate([self.kept, samples])
        whole = len(self.kept) // 320 * 320
        made, self.kept = self.kept[:whole], self.kept[whole:]
        return np.repeat(np.square(made).reshape(-1, 320).mean(1, keepdims=True), 2, 1)

    def finish(self):
        return np.zeros((0, 2), np.float32)

def check(settings):
    if settings.output not in ("hidden", "loud"):
        raise ValueError(f"loudness: expected the output loud, got {settings.output!r}")

def rows(samples, settings):
    return Loudness(settings).push(samples)

LOUDNESS = Frontend("loudness", rows, lambda settings: 2, 3, Loudness, lambda settings: 320, check)
"""


@pytest.fixture
def other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A front-end of an installed package that nobody has imported: its name."""
    points = "[nldf_engine.frontends]\nloudness = others_frontend:LOUDNESS\n"
    install(tmp_path, monkeypatch, "others_frontend", OTHER, points)
    yield "loudness"
    FRONTENDS.pop("loudness", None)


def test_a_front_end_of_another_package_works(other: str) -> None:
    """It is found by its entry point, checks its own settings, streams, and is stored and read like ours."""
    config = FrontendConfig(other, output="loud")
    assert config.dim == 0 and config.resolve().dim == 2
    sound = np.random.default_rng(0).standard_normal(16000).astype(np.float32)
    made = features(sound, config)
    assert made.shape == (25, 16, 2) and made[5:20].all()
    stream = FeatureStream(config)
    pieces = [*[stream.push(piece) for piece in np.array_split(sound, 7)], stream.finish()]
    np.testing.assert_array_equal(np.concatenate(pieces), made)
    stored = json.loads(json.dumps(config.to_json()))
    assert stored["revision"] == 3 and FrontendConfig.from_json(stored) == config
    with pytest.raises(ValueError, match="expected the output loud, got 'words'"):
        FrontendConfig.from_json(stored | {"output": "words"})


def test_a_front_end_that_cannot_be_imported_is_named(
    other: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An installed package that fails to import is an error with the package, not an unknown name."""
    (tmp_path / "others_frontend-0.1.dist-info" / "entry_points.txt").write_text(
        "[nldf_engine.frontends]\nloudness = absent_frontend:LOUDNESS\n"
    )
    with pytest.raises(MissingBackend, match="'loudness' of absent_frontend:LOUDNESS can't be loaded"):
        FrontendConfig(other)


def test_registering_refuses_what_would_confuse() -> None:
    """A second front-end of a name, a name that no file can have, and something else than a front-end."""
    mine = Frontend("mine", lambda samples, settings: np.zeros((1, 1), np.float32), 1)
    with pytest.raises(ValueError, match="'mel': there is one of this name already"):
        register_frontend("mel", mine)
    for name in ("", "../mel", "Mel", "a b"):
        with pytest.raises(ValueError, match="expected a name of a-z"):
            register_frontend(name, mine)
    with pytest.raises(TypeError, match="expected a Frontend, got str"):
        register_frontend("mine", "mel")
    register_frontend("mel", FRONTENDS["mel"])
    assert "mine" not in FRONTENDS
