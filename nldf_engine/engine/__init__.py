"""The engine: avatar, sound and poses in; frames out."""

from nldf_engine.base.clock import FPS
from nldf_engine.engine.clip import Clip, Frames, check_clip_path
from nldf_engine.engine.engine import Engine
from nldf_engine.engine.live import LiveFrame, LiveSession, Stopped
from nldf_engine.engine.renderer import LARGEST_SIDE, Renderer, check_size
from nldf_engine.engine.session import Frame, FrameStream, Session

__all__ = [
    "FPS",
    "LARGEST_SIDE",
    "Clip",
    "Engine",
    "Frame",
    "FrameStream",
    "Frames",
    "LiveFrame",
    "LiveSession",
    "Renderer",
    "Session",
    "Stopped",
    "check_clip_path",
    "check_size",
]
