import struct
import subprocess
import sys

import numpy as np
import pytest

from nldf_engine.audio import LONGEST_SECONDS, SAMPLE_RATE, is_silent, level_db, load_audio
from nldf_engine.base.errors import FileProblem
from nldf_engine.media import sound as load_module
from nldf_engine.media.headers import missing_lengths, top_boxes


def sweep(rate: int, seconds: float = 2.0) -> np.ndarray:
    """A sweep from 100 to 2000 Hz, the same sound at every rate: each moment sounds like no other."""
    time = np.arange(round(rate * seconds)) / rate
    return 0.5 * np.sin(2 * np.pi * (100 * time + 475 * time**2))


def error_after_loading(path, seconds=2.0):
    made, wanted = load_audio(path), sweep(SAMPLE_RATE, seconds)
    assert made.dtype == np.float32 and made.ndim == 1
    inner = slice(800, round(SAMPLE_RATE * seconds) - 800)
    return len(made), float(np.sqrt(np.mean((made[inner] - wanted[inner]) ** 2)))


@pytest.mark.parametrize(
    ("name", "rate", "codec", "channels", "error"),
    [
        ("phone.wav", 8000, "pcm_s16le", 1, 2e-5),
        ("stereo.wav", 48000, "pcm_s16le", 2, 2e-5),
        ("float.wav", 44100, "pcm_f32le", 2, 1e-6),
        ("deep.wav", 96000, "pcm_s24le", 1, 1e-6),
        ("round.wav", 48000, "pcm_s16le", 6, 2e-5),
        ("lossless.flac", 44100, "flac", 2, 2e-5),
        ("radio.mp3", 44100, "libmp3lame", 2, 0.02),
        ("phone.m4a", 48000, "aac", 2, 0.01),
        ("phone.mp4", 32000, "aac", 1, 0.01),
        ("voice.ogg", 48000, "libopus", 2, 0.02),
        ("browser.webm", 48000, "libopus", 1, 0.02),
    ],
)
def test_any_format_becomes_the_same_sound(tmp_path, encode, name, rate, codec, channels, error):
    """Every container, codec, rate, depth and channel count gives the same 16 kHz mono sound, in place."""
    path = encode(tmp_path / name, np.stack([sweep(rate)] * channels), rate, codec)
    count, came = error_after_loading(path)
    assert abs(count - 2 * SAMPLE_RATE) <= (1 if codec.startswith(("pcm", "flac")) else 800)
    assert came < error


def test_fragmented_mp4_has_no_length_in_its_header_and_is_read(tmp_path, encode):
    """An MP4 written for streaming, whose header holds no length, is no truncated file."""
    path = encode(
        tmp_path / "live.mp4", sweep(48000)[None], 48000, "aac", movflags="frag_keyframe+empty_moov"
    )
    made = load_audio(path)
    assert abs(len(made) - 2 * SAMPLE_RATE) < 1600
    assert level_db(made) == pytest.approx(-9, abs=0.5)


def test_16_khz_mono_comes_back_sample_for_sample(tmp_path, float_wav):
    """Sound that is 16 kHz mono already is not touched, whatever its level, clipping included."""
    samples = np.random.default_rng(1).uniform(-1.5, 1.5, 5000).astype(np.float32)
    np.testing.assert_array_equal(load_audio(float_wav(tmp_path / "a.wav", samples)), samples)
    np.testing.assert_array_equal(load_audio((samples, 16000)), samples)


def test_path_as_string_and_samples_agree(tmp_path, encode):
    """A path as text, and the decoded samples with their rate, give the same as the path."""
    stereo = np.stack([sweep(44100), 0.3 * sweep(44100)])
    path = encode(tmp_path / "a.wav", stereo, 44100, "pcm_f32le")
    np.testing.assert_array_equal(load_audio(str(path)), load_audio(path))
    np.testing.assert_allclose(load_audio((stereo.T.astype(np.float32), 44100)), load_audio(path), atol=1e-6)


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.uint8, np.float16, np.float64])
def test_integer_samples_are_scaled_to_full_scale_one(dtype):
    """Integers are taken in the whole range of their type, so all types give the same sound."""
    wanted = sweep(SAMPLE_RATE).astype(np.float32)
    if np.issubdtype(dtype, np.integer):
        limits = np.iinfo(dtype)
        half = (limits.max - limits.min + 1) / 2
        samples = np.round(wanted.astype(np.float64) * half + (128 if dtype == np.uint8 else 0)).astype(dtype)
    else:
        samples = wanted.astype(dtype)
    step = {np.uint8: 1 / 128, np.int16: 1 / 32768, np.float16: 1e-3}.get(dtype, 1e-6)
    np.testing.assert_allclose(load_audio((samples, 16000)), wanted, atol=step)


def test_resampling_keeps_speech_and_removes_what_would_fold_back():
    """From 48 kHz: 3 kHz keeps level and phase to 1e-4, and 9 kHz (folding to 7 kHz) goes by 100 dB."""
    time = np.arange(48000) / 48000
    kept = load_audio((np.sin(2 * np.pi * 3000 * time), 48000))
    wanted = np.sin(2 * np.pi * 3000 * np.arange(16000) / 16000)
    assert len(kept) == 16000
    np.testing.assert_allclose(kept[500:-500], wanted[500:-500], atol=1e-4)
    folded = load_audio((np.sin(2 * np.pi * 9000 * time), 48000))
    assert level_db(folded[500:-500]) < -100


def test_channels_in_opposite_phase_are_not_lost():
    """A stereo sound whose channels cancel gives one of them, and one with a dead channel its mean."""
    sound = sweep(SAMPLE_RATE).astype(np.float32)
    np.testing.assert_array_equal(load_audio((np.stack([sound, -sound], 1), 16000)), sound)
    np.testing.assert_allclose(load_audio((np.stack([sound, 0 * sound], 1), 16000)), sound / 2, atol=1e-7)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 441])
def test_shortest_sounds_are_read(count):
    """A sound of any length, one sample included, gives its duration in samples, and at least one."""
    assert len(load_audio((np.ones(count, np.float32) * 0.1, 44100))) == max(1, round(count * 16000 / 44100))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"this is a letter, and no sound\n" * 50, "can't be read"),
        (bytes(5000), "can't be read"),
        (b"RIFF\x00\x00\x00\x00WAVEfmt ", "no sound"),
    ],
)
def test_a_file_without_sound_says_so(tmp_path, content, words):
    """Empty files, text, zeros and a bare header are named, with what is wrong with them."""
    path = tmp_path / "bad.wav"
    path.write_bytes(content)
    with pytest.raises(FileProblem, match=words) as caught:
        load_audio(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_and_a_folder_say_so(tmp_path):
    """A path to nothing and a path to a folder give different errors."""
    with pytest.raises(FileProblem, match="no such file"):
        load_audio(tmp_path / "absent.wav")
    with pytest.raises(FileProblem, match="folder"):
        load_audio(tmp_path)


def test_a_wav_with_no_samples_says_so(tmp_path, float_wav):
    """A WAV of zero samples is named as one."""
    with pytest.raises(FileProblem, match="no sound"):
        load_audio(float_wav(tmp_path / "none.wav", np.zeros(0)))


def test_a_video_without_a_sound_track_says_so(tmp_path):
    """A video that has pictures only is named as one."""
    import av

    path = tmp_path / "mute.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width = stream.height = 32
        for _ in range(5):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), "rgb24")))
        container.mux(stream.encode(None))
    with pytest.raises(FileProblem, match="no audio track"):
        load_audio(path)


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.wav", "pcm_s16le", {}),
        ("a.flac", "flac", {}),
        ("a.mp3", "libmp3lame", {}),
        ("a.mka", "aac", {}),
        ("a.au", "pcm_s16be", {}),
        ("a.w64", "pcm_s16le", {}),
        ("a.caf", "pcm_s16be", {}),
        ("a.aiff", "pcm_s16be", {}),
        ("a.m4a", "aac", {}),
        ("begin.m4a", "aac", {"movflags": "faststart"}),
    ],
)
@pytest.mark.parametrize("share", [0.7, 0.05])
def test_a_truncated_file_says_so(tmp_path, encode, name, codec, options, share):
    """A file that ends before its header says is refused, at 70 % as at 5 % of its bytes."""
    whole = encode(tmp_path / name, sweep(44100)[None], 44100, codec, **options).read_bytes()
    path = tmp_path / f"cut_{name}"
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(FileProblem, match=r"cut short|can't be read|damaged"):
        load_audio(path)


def test_a_wav_written_to_a_pipe_is_no_truncated_file(tmp_path, float_wav):
    """A WAV header whose length is unknown (all ones, or zero) is read to its end, with a warning."""
    samples = sweep(SAMPLE_RATE).astype(np.float32)
    # Whatever such programs write: no file of this size is longer than an hour.
    for length in (0xFFFFFFFF, 0x7FFFFFFF, 0x7FFF0000, 2_000_000_000, 1_000_000_000, 0):
        path = float_wav(tmp_path / "pipe.wav", samples, data_bytes=length)
        with pytest.warns(
            UserWarning, match=r"pipe\.wav: its header does not say how long .* 2\.0 s are used"
        ):
            np.testing.assert_array_equal(load_audio(path), samples)


@pytest.mark.parametrize("value", [np.inf, -np.inf, 3e4])
def test_numbers_far_beyond_full_scale_are_refused(tmp_path, float_wav, value):
    """Infinite samples and unscaled integers are a problem of the file, and a ValueError of an array."""
    samples = sweep(SAMPLE_RATE).astype(np.float32)
    samples[100] = value
    with pytest.raises(FileProblem, match=r"full scale|not finite"):
        load_audio(float_wav(tmp_path / "a.wav", samples))
    with pytest.raises(ValueError, match=r"full scale|not finite"):
        load_audio((samples, 16000))


def test_nan_samples_never_come_through(tmp_path, float_wav):
    """NaN in an array is refused, and NaN in a file is refused or replaced: what comes back is finite."""
    samples = sweep(SAMPLE_RATE).astype(np.float32)
    samples[7] = np.nan
    with pytest.raises(ValueError, match=r"1 of its 32000 samples"):
        load_audio((samples, 16000))
    try:
        assert np.isfinite(load_audio(float_wav(tmp_path / "a.wav", samples))).all()
    except FileProblem as problem:
        assert "not finite" in str(problem)


@pytest.mark.parametrize(
    ("audio", "error", "words"),
    [
        ((np.zeros((2, 3, 4), np.float32), 16000), ValueError, r"\[2, 3, 4\]"),
        ((np.zeros(0, np.float32), 16000), ValueError, r"\[0\]"),
        ((np.zeros((2, 16000), np.float32), 16000), ValueError, "transpose"),
        ((np.zeros(10, np.complex64), 16000), TypeError, "complex64"),
        ((np.zeros(10, bool), 16000), TypeError, "bool"),
        ((np.array(["a"]), 16000), TypeError, "U1"),
        ((np.zeros(10, np.float32), 0), ValueError, "rate"),
        ((np.zeros(10, np.float32), -16000), ValueError, "rate"),
        ((np.zeros(10, np.float32), 44100.5), TypeError, "44100.5"),
        ((np.zeros(10, np.float32), float("nan")), TypeError, "nan"),
        ((np.zeros(10, np.float32), "16000"), TypeError, "'16000'"),
        ((np.zeros(10, np.float32), True), TypeError, "True"),
        (np.zeros(10, np.float32), TypeError, "ndarray"),
        (None, TypeError, "NoneType"),
    ],
)
def test_wrong_arguments_say_what_came(audio, error, words):
    """Wrong shapes, dtypes and rates name what was expected and what came."""
    with pytest.raises(error, match=words):
        load_audio(audio)


def test_very_long_sound_is_refused_before_it_is_decoded(tmp_path, float_wav, encode, monkeypatch):
    """What lasts longer than the limit is refused by its header, and an array by its size."""
    hours = np.broadcast_to(np.zeros(1, np.float32), ((LONGEST_SECONDS + 1) * 1000,))
    with pytest.raises(ValueError, match="cut it into parts"):
        load_audio((hours, 1000))
    monkeypatch.setattr(load_module, "LONGEST_SECONDS", 1)
    monkeypatch.setattr(
        "nldf_engine.media.video.read_audio_track", lambda path: pytest.fail("it was decoded")
    )
    for path in (
        float_wav(tmp_path / "a.wav", sweep(SAMPLE_RATE)),
        encode(tmp_path / "a.m4a", sweep(48000)[None], 48000, "aac"),
        encode(tmp_path / "a.mp3", sweep(48000)[None], 48000, "libmp3lame"),
    ):
        with pytest.raises(FileProblem, match="cut it into parts"):
            load_audio(path)


def test_level_is_that_of_the_wave_whatever_its_offset():
    """A sine of amplitude 0.1 has -23 dB, with a constant offset as well; silence has the lowest level."""
    sine = 0.1 * np.sin(2 * np.pi * 200 * np.arange(16000) / 16000)
    assert level_db(sine) == pytest.approx(-23.01, abs=0.01)
    assert level_db(sine + 0.5) == pytest.approx(-23.01, abs=0.01)
    assert level_db(np.zeros(100)) == level_db(np.zeros(0)) == level_db(np.full(100, 0.3)) == -120


def test_silence_is_known_and_one_syllable_ends_it():
    """Zeros, an offset and the faintest noise are silent; a tenth of a second of speech level is not."""
    random = np.random.default_rng(2)
    for still in (np.zeros(16000), np.full(16000, 0.2), 1e-4 * random.standard_normal(16000), np.zeros(0)):
        assert is_silent(still.astype(np.float32))
    spoken = np.zeros(160000, np.float32)
    spoken[80000:81600] = 0.05 * random.standard_normal(1600)
    assert not is_silent(spoken)
    assert not is_silent(np.concatenate([np.zeros(1600), 0.1 * random.standard_normal(200)]))
    assert is_silent(spoken, threshold_db=-20)
    with pytest.raises(ValueError, match=r"\[2, 5\]"):
        is_silent(np.zeros((2, 5)))


@pytest.mark.parametrize("way", ["speech", "written"])
def test_a_long_sound_is_not_held_at_its_own_rate(tmp_path, way):
    """Five minutes of 48 kHz stereo are read as speech, or written to a video, in less than they take."""
    code = """
import resource, sys
import av, soxr  # what reads, before it is measured
from nldf_engine.base import roomy
from nldf_engine.media.sound import load_audio, read_sound, speech_of
from nldf_engine.media.sound_feed import SoundFeed
class Encoder:
    rate, count, encode = 48000, 0, lambda self, frame: frame.samples
    class layout: name = "stereo"
    def mux(self, samples): self.count += samples
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
def written(path):
    sound, encoder = read_sound(path), Encoder()
    speech = speech_of(*sound)
    SoundFeed(*sound, "aac").send(encoder, encoder, len(sound[0]))
    assert encoder.count == len(sound[0])
    return speech
roomy.LARGE_GROWN = 1 << 24
use = dict(speech=load_audio, written=written)[sys.argv[3]]
use(sys.argv[1])
before = peak()
print(len(use(sys.argv[2])), peak() - before)
"""
    import wave

    for name, seconds in (("short.wav", 1), ("long.wav", 300)):
        with wave.open(str(tmp_path / name), "wb") as out:
            out.setnchannels(2)
            out.setsampwidth(2)
            out.setframerate(48000)
            for _ in range(seconds):
                out.writeframes(np.random.default_rng(0).integers(-9000, 9000, 96000, np.int16).tobytes())
    command = [sys.executable, "-c", code, str(tmp_path / "short.wav"), str(tmp_path / "long.wav"), way]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    count, megabytes = done.stdout.split()
    assert int(count) == 300 * SAMPLE_RATE
    # Itself as float32: 115 MB; as speech: 19 MB, and half as much again while the array grows.
    assert float(megabytes) < 60, megabytes


def _pipe(data: bytes, *zeros: tuple[bytes, int, bytes]) -> bytes:
    """A file with the bytes behind a mark replaced: (mark, bytes from it on, what stands there)."""
    for mark, behind, value in zeros:
        at = data.index(mark) + behind
        data = data[:at] + value + data[at + len(value) :]
    return data


@pytest.mark.parametrize(
    ("name", "codec", "options", "unknown"),
    [
        ("a.w64", "pcm_s16le", {}, [(b"wave", -8, b"\xff" * 8), (b"data", 16, b"\xff" * 7 + b"\x7f")]),
        ("b.w64", "pcm_s16le", {}, [(b"wave", -8, bytes(8)), (b"data", 16, bytes(8))]),
        (
            "a.aiff",
            "pcm_s16be",
            {},
            [(b"FORM", 4, bytes(4)), (b"COMM", 10, bytes(4)), (b"SSND", 4, bytes(4))],
        ),
        ("b.aiff", "pcm_s16be", {}, [(b"FORM", 4, b"\xff" * 4), (b"SSND", 4, b"\xff" * 4)]),
        ("rf64.wav", "pcm_s16le", {"rf64": "always"}, [(b"ds64", 8, bytes(24))]),
    ],
)
def test_sound_written_to_a_pipe_is_read_to_its_end(tmp_path, encode, name, codec, options, unknown):
    """W64, AIFF and RF64 whose header says nothing of how long they are, or that they are endless."""
    whole = encode(tmp_path / name, sweep(SAMPLE_RATE)[None], SAMPLE_RATE, codec, **options)
    path = tmp_path / f"pipe_{name}"
    path.write_bytes(_pipe(whole.read_bytes(), *unknown))
    np.testing.assert_array_equal(load_audio(path), load_audio(whole))


def test_aiff_whose_sound_has_a_length_is_read_no_further(tmp_path, encode):
    """A program that wrote the length of the sound and not of the file may have put tags behind it."""
    whole = encode(tmp_path / "a.aiff", sweep(SAMPLE_RATE)[None], SAMPLE_RATE, "pcm_s16be")
    path = tmp_path / "tags.aiff"
    path.write_bytes(_pipe(whole.read_bytes(), (b"FORM", 4, bytes(4))) + b"ID3 \0\0\x0f\xa0" + 4000 * b"\x55")
    np.testing.assert_array_equal(load_audio(path), load_audio(whole))


def test_lengths_that_are_long_or_nought_may_be_meant(tmp_path, encode):
    """AIFF of more than 2 GB with tags behind the sound, and W64 with a chunk of no sound before another."""
    path, count = tmp_path / "long.aiff", 2_147_000_000
    common = b"COMM" + struct.pack(">IhIh", 18, 1, count // 2, 16) + b"\x40\x0e\xac\x44" + bytes(6)
    sound = b"SSND" + struct.pack(">III", count + 8, 0, 0)
    with open(path, "wb") as file:
        length = 4 + len(common) + len(sound) + count + 1008
        file.write(b"FORM" + struct.pack(">I", length) + b"AIFF" + common + sound)
        file.truncate(8 + length)
    assert missing_lengths(path) == []
    path.write_bytes(b"")
    data = encode(tmp_path / "a.w64", np.zeros((1, 100)), SAMPLE_RATE, "pcm_s16le").read_bytes()
    data = data[: data.index(b"data") + 24] + b"junk" + bytes(12) + struct.pack("<q", 32) + bytes(8)
    path.write_bytes(
        _pipe(data, (b"wave", -8, struct.pack("<q", len(data))), (b"data", 16, b"\x18" + bytes(7)))
    )
    assert missing_lengths(path) == []


def test_an_index_that_was_saved_twice_is_no_second_file(tmp_path, encode):
    """MP4 whose index stands in it twice, with one sound, is read."""
    whole = encode(tmp_path / "a.m4a", sweep(SAMPLE_RATE)[None], SAMPLE_RATE, "aac")
    path, at = tmp_path / "twice.m4a", dict(top_boxes(whole))[b"moov"]
    path.write_bytes(whole.read_bytes() + whole.read_bytes()[at:])
    np.testing.assert_array_equal(load_audio(path), load_audio(whole))


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.wav", "pcm_s16le"), ("a.w64", "pcm_s16le"), ("a.aiff", "pcm_s16be"), ("a.au", "pcm_s16be"),
        ("a.caf", "pcm_s16be"), ("a.flac", "flac"), ("a.m4a", "aac"), ("a.flv", "aac"), ("a.wma", "wmav2"),
    ],
)  # fmt: skip
def test_a_second_file_behind_the_first_is_told(tmp_path, encode, name, codec):
    """Of files that were appended to each other FFmpeg reads the first, which is said."""
    one = encode(tmp_path / name, sweep(44100)[None], 44100, codec)
    assert len(load_audio(one)) > 31000
    two = tmp_path / f"two_{name}"
    two.write_bytes(2 * one.read_bytes())
    with pytest.raises(FileProblem, match=rf"only the first {one.stat().st_size} bytes.*concat"):
        load_audio(two)


@pytest.mark.parametrize(("name", "codec"), [("a.mp3", "libmp3lame"), ("a.ogg", "libopus"), ("a.aac", "aac")])
def test_of_other_kinds_the_second_file_is_read_too(tmp_path, encode, name, codec):
    """What is a stream of frames goes on behind the end of the first file."""
    one = encode(tmp_path / name, sweep(48000)[None], 48000, codec)
    two = tmp_path / f"two_{name}"
    two.write_bytes(2 * one.read_bytes())
    assert len(load_audio(two)) == pytest.approx(2 * len(load_audio(one)), abs=1600)


def test_flac_whose_frames_are_numbered_again_is_read_whole(tmp_path):
    """FLAC joined without encoding it again: each part counts its frames from nought, and all are used."""
    import av

    path = tmp_path / "a.flac"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("flac", rate=SAMPLE_RATE, layout="mono")
        samples = (sweep(SAMPLE_RATE) * 32767).astype(np.int16)[None]
        frame = av.AudioFrame.from_ndarray(samples, "s16", "mono")
        frame.sample_rate = SAMPLE_RATE
        stream.codec_context.open()
        resampler = av.AudioResampler("s16", "mono", SAMPLE_RATE, stream.codec_context.frame_size)
        pieces = [*resampler.resample(frame), *resampler.resample(None)]
        packets = [bytes(packet) for piece in [*pieces, None] for packet in stream.encode(piece)]
        for number, data in enumerate(3 * packets):
            packet = av.Packet(data)
            packet.stream = stream
            packet.pts = packet.dts = number
            container.mux(packet)
    np.testing.assert_allclose(load_audio(path), np.tile(sweep(SAMPLE_RATE), 3), atol=1e-4)


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.aac", "aac"),
        ("a.mka", "aac"),
        ("a.ts", "aac"),
        ("a.flv", "aac"),
        ("a.wma", "wmav2"),
        ("b.wma", "wmav1"),
    ],
)
def test_sound_is_in_time_where_the_file_does_not_say_when_it_begins(tmp_path, encode, name, codec):
    """AAC and WMA begin with a block of what was before the sound, which only MP4 speaks of."""
    random = np.random.default_rng(0).standard_normal(96000)
    noise = 0.1 * np.convolve(random, np.hanning(24) / 12, "same") * (np.sin(np.arange(96000) / 3000) > 0)
    made = load_audio(encode(tmp_path / name, noise[None], 48000, codec))
    wanted = load_audio((noise, 48000))
    count = min(len(made), len(wanted))
    spectrum = np.fft.rfft(made[:count], 2 * count) * np.conj(np.fft.rfft(wanted[:count], 2 * count))
    lag = int(np.fft.irfft(spectrum).argmax())
    assert abs(lag - 2 * count * (lag > count)) <= 24  # 1.5 ms: stamps are rounded
