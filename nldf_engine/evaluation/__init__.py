"""How good is an avatar? Metrics against held-out frames, and a report that a person can look at."""

from nldf_engine.evaluation.avatars import evaluate, evaluate_many
from nldf_engine.evaluation.clip_evaluation import evaluate_clip
from nldf_engine.evaluation.config import EvaluateConfig
from nldf_engine.evaluation.real_clip import RealClip
from nldf_engine.evaluation.renderers import Renderer
from nldf_engine.evaluation.videos import VideoPair, evaluate_videos

__all__ = [
    "EvaluateConfig",
    "RealClip",
    "Renderer",
    "VideoPair",
    "evaluate",
    "evaluate_clip",
    "evaluate_many",
    "evaluate_videos",
]
