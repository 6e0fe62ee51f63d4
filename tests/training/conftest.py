from sounds import speech

__all__ = ["speech"]
