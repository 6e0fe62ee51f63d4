"""The metrics, one file each; `optional/` holds those that need weights or programs of others.

`inputs.py` (checks), `regions.py` (where in a frame) and `statistics.py` (over frames) are shared by them.
"""
