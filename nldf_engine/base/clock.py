"""The one clock of the engine: 25 frames of picture a second, 16000 samples of sound."""

FPS = 25.0
"""Frames a second, everywhere inside; other rates are converted where video is read."""

SAMPLE_RATE = 16_000
"""Samples a second of speech inside, mono."""
