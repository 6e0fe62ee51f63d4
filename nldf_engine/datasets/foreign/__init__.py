"""Folders of AD-NeRF, DFRF, RAD-NeRF and ER-NeRF: read as they are, checked, and written.

This package alone knows their conventions and traps (docs/layouts.md has the table). What leaves it is
a `Dataset` like any other.

    kinds.py        what sets the four layouts apart, and which of them a folder is
    geometry.py     their camera matrices and intrinsics <-> ours
    poses.py        poses of a foreign folder or transforms file, to render with
    marks.py        68 landmarks <-> the 478 of a face mesh; eyes
    scan.py         what lies in a folder: frames, camera, splits, files
    checks.py       everything that can be wrong with it, in sentences
    foreign.py      a folder as a `Dataset`
    write.py        a `Dataset` as a folder of AD-NeRF or RAD-NeRF
    checkpoint.py   AD-NeRF's trained networks as our `RadianceField`
"""

from __future__ import annotations

from nldf_engine.datasets.foreign.kinds import KINDS, Kind, detect
from nldf_engine.datasets.foreign.poses import driving_poses

__all__ = ["KINDS", "Kind", "detect", "driving_poses"]
