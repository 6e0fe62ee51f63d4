import importlib.util
from pathlib import Path

import numpy as np
import pytest

from nldf_engine.audio import features
from nldf_engine.audio import mel as mel_module
from nldf_engine.audio.mel import BANDS, LOOK_AHEAD, LOOK_AHEAD_SECONDS, LOOK_BACK, band_powers, mel_rows


def slow_rows(samples):
    """The four steps of the front-end in float64, one row at a time, with the mel scale from its formula."""

    def mels(hertz):  # Slaney: linear to 1 kHz, logarithmic above
        return hertz / (200 / 3) if hertz < 1000 else 15 + 27 * np.log(hertz / 1000) / np.log(6.4)

    def hertz(mels):
        return mels * 200 / 3 if mels < 15 else 1000 * np.exp((mels - 15) * np.log(6.4) / 27)

    edges = [hertz(m) for m in np.linspace(mels(80), mels(7600), 31)]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(512) / 512)
    frequencies = np.arange(257) * 16000 / 512
    samples = samples.astype(np.float64)
    emphasised = samples - 0.97 * np.concatenate([[0], samples[:-1]])
    padded = np.concatenate([np.zeros(1000), emphasised, [-0.97 * samples[-1]], np.zeros(1000)])
    powers = []
    for row in range(max(1, round(len(samples) / 320))):
        middle = 1000 + row * 320 + 160
        spectrum = np.abs(np.fft.rfft(padded[middle - 256 : middle + 256] * window)) ** 2
        spectrum *= 2 / (512 * np.sum(window**2))
        bands = []
        for b in range(29):
            rise = (frequencies - edges[b]) / (edges[b + 1] - edges[b])
            fall = (edges[b + 2] - frequencies) / (edges[b + 2] - edges[b + 1])
            bands.append(np.sum(spectrum * np.clip(np.minimum(rise, fall), 0, None)))
        powers.append(bands)
    rows = []
    for row in range(len(powers)):
        loud = [10 * np.log10(sum(p) + 1e-20) for p in powers[max(0, row - 499) : row + 1]]
        loud = sorted([level for level in loud if level > -70], reverse=True)
        loud = [level for level in loud if level > loud[int(0.1 * len(loud))] - 30]
        level, trust = -36.0, len(loud) ** 2 / (len(loud) ** 2 + 25**2)
        if loud:
            level = trust * loud[int(0.1 * len(loud))] + (1 - trust) * level
        rows.append(np.log10(1 + np.array(powers[row]) * 10 ** ((50 - level) / 10)) / 2)
    return np.array(rows)


def test_rows_are_those_of_a_slow_reference(speech):
    """The rows equal an independent float64 computation, one row at a time, to 1e-4."""
    made = mel_rows(speech)
    assert made.shape == (600, BANDS) and made.dtype == np.float32
    np.testing.assert_allclose(made, slow_rows(speech), atol=1e-4)


def test_stored_filters_are_those_of_their_script():
    """The file holds what scripts/mel_filters.py makes by librosa, to the rounding of float32 (2^-23)."""
    path = Path(__file__).resolve().parents[2] / "scripts" / "mel_filters.py"
    spec = importlib.util.spec_from_file_location("mel_filters_script", path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    made, stored = script.make_filters(), mel_module.mel_filters()
    assert stored.shape == made.shape == (BANDS, 257) and stored.dtype == made.dtype == np.float32
    np.testing.assert_allclose(stored, made, rtol=2**-23, atol=2**-23 * made.max())


def test_band_powers_are_librosas(speech):
    """Filters and spectra agree with librosa's, which are made in float32, to its rounding."""
    import librosa

    window = np.square(librosa.filters.get_window("hann", 512)).sum()
    filters = librosa.filters.mel(sr=16000, n_fft=512, n_mels=BANDS, fmin=80, fmax=7600, norm=None)
    filters = filters * (2 / (512 * window))
    np.testing.assert_allclose(mel_module.mel_filters(), filters, atol=1e-6 * filters.max(), rtol=0)
    emphasised = np.pad(speech, (97, 513)) - np.float32(0.97) * np.pad(speech, (98, 512))
    spectra = librosa.stft(emphasised[1:], n_fft=512, hop_length=320, center=False)
    made = band_powers(speech)
    wanted = (filters @ np.square(np.abs(spectra))).T[: len(made)]
    np.testing.assert_allclose(made, wanted, rtol=2e-6, atol=2e-6 * wanted.max(0).min())


@pytest.mark.parametrize("count", [0, 1, 159, 161, 320, 479, 481, 5000])
def test_short_sounds_have_rows_as_well(count):
    """Sounds of 0, 1 and odd numbers of samples give the reference's rows, at least one."""
    samples = np.random.default_rng(3).standard_normal(count).astype(np.float32) * np.float32(0.1)
    made = mel_rows(samples)
    assert len(made) == max(1, round(count / 320))
    if count:
        np.testing.assert_allclose(made, slow_rows(samples), atol=1e-4)
    else:
        assert not made.any()


def test_speech_spans_a_range_that_networks_like(speech):
    """Features of speech lie in [0, 3.2], with a mean and a deviation near one."""
    made = mel_rows(speech)
    assert made.min() >= 0 and made.max() < 3.2
    assert 0.3 < made.mean() < 1.5 and 0.3 < made.std() < 1.2


@pytest.mark.parametrize("still", [np.zeros(64000), np.full(64000, 0.5), np.full(64000, -1.0)])
def test_silence_and_an_offset_are_zero(still):
    """Digital silence gives exact zeros, and a constant offset zeros but where it begins and ends."""
    made = mel_rows(still.astype(np.float32))
    assert np.isfinite(made).all()
    assert np.abs(made[2:-2]).max() == 0 if not still.any() else np.abs(made[2:-2]).max() < 1e-3


def test_faint_noise_without_speech_stays_small():
    """A microphone's noise at -75 dB with nobody speaking is not blown up to look like speech."""
    noise = 10 ** (-75 / 20) * np.random.default_rng(4).standard_normal(160000)
    assert mel_rows(noise.astype(np.float32)).mean() < 0.1


@pytest.mark.parametrize("gain_db", [-20, -10, 10, 20])
def test_recording_gain_hardly_matters(speech, gain_db):
    """After the first seconds a gain of +-20 dB moves the features by under 10 % of their deviation."""
    plain, loud = mel_rows(speech), mel_rows(speech * np.float32(10 ** (gain_db / 20)))
    assert np.abs(loud - plain)[200:].mean() < 0.1 * plain.std()
    # A fixed reference level would move every feature of speech by gain / 20.
    assert np.abs(loud - plain)[200:].mean() < 0.2 * abs(gain_db) / 20


def test_a_slammed_door_does_not_dampen_what_follows(speech):
    """A tenth of a second 20 dB above the voice changes the features after it by little."""
    knocked = speech.copy()
    knocked[64000:65600] += 3 * np.random.default_rng(5).standard_normal(1600).astype(np.float32)
    assert np.abs(mel_rows(knocked) - mel_rows(speech))[220:].mean() < 0.05


def test_a_pause_keeps_the_level_of_the_voice(speech):
    """Through five seconds of room noise after speech the features stay near zero."""
    noise = 3e-5 * np.random.default_rng(6).standard_normal(80000)
    made = mel_rows(np.concatenate([speech, noise.astype(np.float32)]))
    assert made[610:].mean() < 0.05 * made[:590].mean()


@pytest.mark.parametrize("frame", [0, 7, 260, 299])
def test_a_frame_sees_its_stated_stretch_of_sound_and_no_more(speech, frame):
    """Features of a frame don't change by one bit with samples outside [-10.15, +0.166) s of its moment."""
    sound = np.concatenate([speech, speech[::-1]])
    moment, last = 640 * frame, len(sound)
    wanted = features(sound)[frame]
    first, end = max(0, moment - LOOK_BACK), min(last, moment + LOOK_AHEAD)
    changed = np.random.default_rng(7).uniform(-1, 1, last).astype(np.float32)
    changed[first:end] = sound[first:end]
    np.testing.assert_array_equal(features(changed)[frame], wanted)
    # The stated stretch is no wider than what matters: its last samples change the frame.
    nearer = sound.copy()
    nearer[end - 40 : end] = changed[end - 1 - 40 : end - 1] + 1
    assert (features(nearer)[frame] != wanted).any()


def test_look_ahead_is_a_sixth_of_a_second():
    """The stated delay is what the window of 16 rows and the spectrum's 32 ms add up to."""
    assert pytest.approx(0.166) == LOOK_AHEAD_SECONDS
    assert LOOK_AHEAD == 7 * 320 + 160 + 256


def test_the_start_of_a_sound_gives_the_features_of_the_whole(speech):
    """Features of a sound that stops early equal those of the whole up to the look-ahead."""
    whole, start = features(speech), features(speech[:100000])
    sure = (100000 - LOOK_AHEAD) // 640
    np.testing.assert_allclose(start[:sure], whole[:sure], atol=1e-5)


def test_blocks_of_long_sounds_leave_no_seam(speech, monkeypatch):
    """The rows are the same whether computed in one block or in blocks of 7 rows."""
    wanted, powers = mel_rows(speech), band_powers(speech)
    monkeypatch.setattr(mel_module, "_BLOCK", 7)
    np.testing.assert_allclose(band_powers(speech), powers, rtol=1e-4, atol=1e-12)
    np.testing.assert_allclose(mel_rows(speech), wanted, atol=1e-5)


def test_a_sine_lands_in_its_band_with_its_power():
    """A full-scale sine has the power 1/2 times the pre-emphasis at its frequency, in bands around it."""
    for frequency in (300.0, 1000.0, 4000.0):
        sine = np.sin(2 * np.pi * frequency * np.arange(16000) / 16000).astype(np.float32)
        power = band_powers(sine)[20]
        emphasis = abs(1 - 0.97 * np.exp(-2j * np.pi * frequency / 16000)) ** 2
        assert power.sum() == pytest.approx(0.5 * emphasis, rel=0.1)
        assert np.sort(power)[-2:].sum() > 0.9 * power.sum()
