"""The saved avatar, and its provenance."""

from nldf_engine.avatar.avatar import Avatar

__all__ = ["Avatar"]
