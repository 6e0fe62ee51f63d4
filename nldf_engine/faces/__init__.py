"""Faces in pictures: where they are, their landmarks, and which pixels are the person's.

MediaPipe's networks (Apache-2.0), run without MediaPipe.
"""

from nldf_engine.faces.detector import Face, FaceDetector
from nldf_engine.faces.mesh import FaceMesh
from nldf_engine.faces.person import PersonMask

__all__ = ["Face", "FaceDetector", "FaceMesh", "PersonMask"]
