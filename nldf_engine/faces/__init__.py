"""Faces in pictures: where they are, their landmarks, hands, and which pixels are the person's.

MediaPipe's networks (Apache-2.0), run without MediaPipe.
"""

from nldf_engine.faces.anchors import Detection
from nldf_engine.faces.detector import FaceDetector
from nldf_engine.faces.hands import HandPoints
from nldf_engine.faces.mesh import FaceMesh
from nldf_engine.faces.person import PersonMask

__all__ = ["Detection", "FaceDetector", "FaceMesh", "HandPoints", "PersonMask"]
