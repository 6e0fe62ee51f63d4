"""What every layer may use and what uses no layer: errors, files, JSON, the clock, progress.

Nothing in here imports another part of the package, so any module may import it.
"""
