"""How good is an avatar? Metrics against held-out frames, and a report that a person can look at."""

from nldf_engine.evaluation.clip import RealClip, Renderer
from nldf_engine.evaluation.report import EvaluateConfig, evaluate, report

__all__ = ["EvaluateConfig", "RealClip", "Renderer", "evaluate", "report"]
