"""Video to dataset: head and crop, landmarks, poses, label maps, background, torso, sound, report.

One file a step; `run` puts them together.
"""

from nldf_engine.prepare.config import PrepareConfig
from nldf_engine.prepare.report import Report
from nldf_engine.prepare.run import prepare

__all__ = ["PrepareConfig", "Report", "prepare"]
