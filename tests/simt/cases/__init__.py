"""The kernels that run on the emulator, one file an operation; a new kernel is one function there."""

from simt.cases.adam import ADAM
from simt.cases.aim import AIM
from simt.cases.beams import BEAMS
from simt.cases.compact import COMPACT
from simt.cases.grid import GRID
from simt.cases.landmarks import LANDMARKS
from simt.cases.layers import MMA_BLOCK, WGMMA_RING
from simt.cases.matte import MATTE
from simt.cases.rays import RAYS
from simt.cases.references import REFERENCES
from simt.cases.samples import SAMPLES
from simt.cases.segments import SEGMENTS

__all__ = [
    "ADAM", "AIM", "BEAMS", "COMPACT", "GRID", "LANDMARKS", "MATTE", "MMA_BLOCK", "RAYS", "REFERENCES",
    "SAMPLES", "SEGMENTS", "WGMMA_RING",
]  # fmt: skip
