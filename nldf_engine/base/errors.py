"""Errors that a person can act on.

Programming mistakes (a wrong shape, a wrong dtype) raise `TypeError` or `ValueError`; whatever comes
from outside (a file, a folder, a machine without a backend) raises one of the classes here. The
command line prints their message as one line and exits with 1.
"""

from __future__ import annotations

from pathlib import Path


class NldfError(Exception):
    """Base of the errors that carry a message for a person, and need no traceback."""


class FileProblem(NldfError):
    """A file or folder that can't be used as it is.

    Args:
        path: the file or folder.
        problem: what was expected and what came.
        remedy: what the reader can do about it; empty where nothing is known.

    Example:
        >>> str(FileProblem("a.wav", "it is empty (0 bytes)", "record it again"))
        'a.wav: it is empty (0 bytes). To fix it: record it again.'
    """

    def __init__(self, path: str | Path, problem: str, remedy: str = "") -> None:
        self.path, self.problem, self.remedy = Path(path), problem, remedy
        super().__init__(f"{path}: {problem}." + (f" To fix it: {remedy}." if remedy else ""))


class MissingBackend(NldfError):
    """A compiled kernel, library or weight file that a call needs is not there."""

    def __init__(self, what: str, remedy: str) -> None:
        self.what, self.remedy = what, remedy
        super().__init__(f"{what}. To fix it: {remedy}.")


class UnmetRequirement(NldfError, ImportError):
    """A library that is installed, or this Python, is none that the package was made for."""
