"""Measurements of Gaussian landmarks: the paper's ablations in small, and what landmarks tell and move."""
