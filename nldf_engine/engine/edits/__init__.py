"""What can be changed of an avatar while it renders: how head, eyes, brows and mouth move, and its look.

from nldf_engine.engine.edits import Edit, EyesEdit, Gate, HeadEdit, MouthEdit

edit = Edit(HeadEdit(yaw=5, smooth=2), EyesEdit("natural"), MouthEdit(gain=1.2, gate=Gate()))
engine.render("speech.wav", edit=edit)

curves.py   numbers over time, from files and arrays
head.py     offsets, the range that was trained, and what is beyond
live.py     poses that arrive one by one
eyes.py     blinks
upper.py    brows and gaze
look.py     whose shape and colours, the expression's strength, the light
landmarks.py lids, lips, jaw and brows of avatars that are driven by landmarks
mouth.py    gain, sliders, and the gate that closes lips in silence
"""

from nldf_engine.engine.edits.curves import Curve, curve_of, load_curve
from nldf_engine.engine.edits.edit import Edit, Editor
from nldf_engine.engine.edits.eyes import EyesEdit
from nldf_engine.engine.edits.head import HEAD_WIDTH, HeadEdit, HeadRange, PoseWarning
from nldf_engine.engine.edits.landmarks import LandmarkEdit, LandmarkWarning
from nldf_engine.engine.edits.look import LookEdit
from nldf_engine.engine.edits.mouth import Gate, MouthEdit
from nldf_engine.engine.edits.upper import UpperEdit

__all__ = [
    "HEAD_WIDTH",
    "Curve",
    "Edit",
    "Editor",
    "EyesEdit",
    "Gate",
    "HeadEdit",
    "HeadRange",
    "LandmarkEdit",
    "LandmarkWarning",
    "LookEdit",
    "MouthEdit",
    "PoseWarning",
    "UpperEdit",
    "curve_of",
    "load_curve",
]
