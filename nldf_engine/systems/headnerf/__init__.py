"""The disentangled HeadNeRF: a volume of features and a 2-D renderer, one code to each property of a face."""

from nldf_engine.systems.headnerf.model import HeadNeRF, HeadNeRFConfig
from nldf_engine.systems.registry import System

SYSTEM = System("headnerf", HeadNeRFConfig, HeadNeRF, "nldf_engine.systems.headnerf.recipe")
