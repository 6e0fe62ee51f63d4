"""Metrics that need what others publish: weights of foreign networks, or the output of a foreign program.

Nothing is downloaded. Where the files are missing the metric is null, with the reason; nothing replaces
it.
"""
