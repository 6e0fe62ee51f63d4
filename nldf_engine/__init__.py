"""Real-time rendering of audio-driven talking heads: neural light dynamic fields and their NeRF teachers.

    >>> from nldf_engine import Engine
    >>> Engine.load("avatars/me").render("speech.wav").save("out.mp4")  # doctest: +SKIP

Importing this package loads nothing else. `Engine` and `Clip` are found on first use, which loads torch and
numpy, once it is clear that the installed libraries fit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nldf_engine.base.version import __version__

__all__ = ["Clip", "Engine", "__version__"]

if TYPE_CHECKING:
    from nldf_engine.engine import Clip, Engine


def __getattr__(name: str) -> Any:
    if name in ("Engine", "Clip"):
        from nldf_engine.base.requirements import check_requirements

        check_requirements()
        from nldf_engine import engine

        return getattr(engine, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
