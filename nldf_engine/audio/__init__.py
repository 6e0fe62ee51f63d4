"""Sound to features: any file to 16 kHz mono, and front-ends that make one window a video frame of it.

    samples = load_audio("speech.mp3")             # float32 [N]
    windows = features(samples, "mel")             # float32 [T, 16, 29]

A front-end is one file; `FRONTENDS` lists them, and `register_frontend` takes those of other packages.
"""

from nldf_engine.audio.frontends import (
    FRONTENDS,
    FrontendConfig,
    features,
    find_frontend,
    prepared_frontend,
    register_frontend,
)
from nldf_engine.audio.interface import Frontend, FrontendSettings, RowStream
from nldf_engine.audio.precomputed import load_features
from nldf_engine.audio.stream import FeatureStream, SoundStream, check_streams, look_ahead_seconds
from nldf_engine.audio.windows import count_frames
from nldf_engine.base.clock import SAMPLE_RATE
from nldf_engine.media.level import SILENT_DB, is_silent, level_db
from nldf_engine.media.sound import LONGEST_SECONDS, load_audio, read_sound, speech_of

__all__ = [
    "FRONTENDS",
    "LONGEST_SECONDS",
    "SAMPLE_RATE",
    "SILENT_DB",
    "FeatureStream",
    "Frontend",
    "FrontendConfig",
    "FrontendSettings",
    "RowStream",
    "SoundStream",
    "check_streams",
    "count_frames",
    "features",
    "find_frontend",
    "is_silent",
    "level_db",
    "load_audio",
    "load_features",
    "look_ahead_seconds",
    "prepared_frontend",
    "read_sound",
    "register_frontend",
    "speech_of",
]
