"""Gaussian landmarks: speech to landmarks, and a radiance field that is conditioned on them."""
