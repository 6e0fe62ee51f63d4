"""How good is an avatar? Metrics against held-out frames, and a report that a person can look at."""

from nldf_engine.evaluation.clip import RealClip, Renderer
from nldf_engine.evaluation.config import EvaluateConfig
from nldf_engine.evaluation.report.write import report
from nldf_engine.evaluation.variants import evaluate, evaluate_many
from nldf_engine.evaluation.videos import VideoPair, evaluate_videos

__all__ = [
    "EvaluateConfig",
    "RealClip",
    "Renderer",
    "VideoPair",
    "evaluate",
    "evaluate_many",
    "evaluate_videos",
    "report",
]
