from sounds import encode, float_wav, speech

__all__ = ["encode", "float_wav", "speech"]
