"""The engine: avatar, sound and poses in; frames out."""

from nldf_engine.engine.clip import FPS, LARGEST_SIDE, Clip, Frames, check_clip_path, check_size
from nldf_engine.engine.engine import Engine

__all__ = ["FPS", "LARGEST_SIDE", "Clip", "Engine", "Frames", "check_clip_path", "check_size"]
