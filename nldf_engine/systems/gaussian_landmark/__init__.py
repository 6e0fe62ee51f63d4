"""Gaussian landmarks: speech to landmarks, and a radiance field that is conditioned on them."""

from nldf_engine.systems.gaussian_landmark.model import GaussianField, GaussianFieldConfig
from nldf_engine.systems.registry import ray_system

SYSTEM = ray_system(GaussianField, GaussianFieldConfig, "nldf_engine.systems.gaussian_landmark.recipe")
