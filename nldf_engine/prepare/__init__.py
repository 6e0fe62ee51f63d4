"""Video to dataset: crop, landmarks, poses, label maps, background, torso, sound, report, refined poses.

One file a step; `run` puts them together.
"""

from nldf_engine.prepare.config import PrepareConfig, RefineConfig
from nldf_engine.prepare.report import Refined, Report
from nldf_engine.prepare.run import prepare

__all__ = ["PrepareConfig", "RefineConfig", "Refined", "Report", "prepare"]
