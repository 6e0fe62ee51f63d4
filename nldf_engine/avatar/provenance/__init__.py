"""Where a rendered video comes from, in a form that machines read and that a signature protects.

`Consent` records who agreed to an avatar, `Origin` what made a video, `seal` signs it into the file (C2PA),
and `inspect` reads it back. What this proves, and what it does not, is in docs/provenance.md.
"""

from nldf_engine.avatar.provenance.consent import Consent
from nldf_engine.avatar.provenance.credentials import Credentials, find_credentials
from nldf_engine.avatar.provenance.inspection import Inspection, inspect
from nldf_engine.avatar.provenance.origin import Origin
from nldf_engine.avatar.provenance.sealing import can_seal, seal

__all__ = [
    "Consent",
    "Credentials",
    "Inspection",
    "Origin",
    "can_seal",
    "find_credentials",
    "inspect",
    "seal",
]
