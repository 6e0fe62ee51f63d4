"""A procedural talking character with known ground truth: speech, motion, pictures, datasets, videos.

    dataset = make_synthetic_dataset("data/synthetic", SyntheticConfig(seconds=20, size=128, seed=3))
    picture = Speaker(256).render(Controls(jaw_open=0.5, lip_close=0.0))

Nothing is downloaded and no one's likeness is used: the character is solids, light and formulas.
"""

from nldf_engine.synthetic.config import SyntheticConfig
from nldf_engine.synthetic.make import GroundTruth, make_synthetic_dataset, make_synthetic_video
from nldf_engine.synthetic.motion import Motion, speaker_motion
from nldf_engine.synthetic.speaker import Controls, Picture, Speaker, project
from nldf_engine.synthetic.voice import Speech, synthesise_speech

__all__ = [
    "Controls",
    "GroundTruth",
    "Motion",
    "Picture",
    "Speaker",
    "Speech",
    "SyntheticConfig",
    "make_synthetic_dataset",
    "make_synthetic_video",
    "project",
    "speaker_motion",
    "synthesise_speech",
]
