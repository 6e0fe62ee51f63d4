"""Folders of AD-NeRF, DFRF, RAD-NeRF and ER-NeRF: read as they are, checked, and written.

docs/layouts.md has the table of their conventions and traps. What leaves this package is a `Dataset` like
any other.

    kinds.py        what sets the four layouts apart, and which of them a folder is
    marks.py        68 landmarks <-> the 478 of a face mesh; eyes
    findings.py     what was found in a folder, and what is wrong with it
    scan.py         frames, camera, splits and files of a folder
    checks.py       everything that can be wrong with it and shows without decoding
    decode.py       what only decoding shows
    dataset.py      a folder as a `Dataset`
    write.py        a `Dataset` as a folder of AD-NeRF or RAD-NeRF
"""
