"""Whether the Python and the libraries that are here are those that the package was made for.

pip sees to it when it installs the package, and not when it installs another one later.
"""

from __future__ import annotations

import re
import sys
from itertools import zip_longest

from nldf_engine.base.errors import UnmetRequirement

PACKAGE = "nldf_engine"
_REQUIREMENT = re.compile(r"\s*([A-Za-z0-9._-]+)\s*\(?([^;\[()]*)")
_BOUND = re.compile(r"\s*(>=|<)\s*([0-9.]+)\s*")


def _numbers(version: str) -> list[int]:
    """The release of a version: 2.13.0+cpu and 2.13.0rc1 are [2, 13, 0]."""
    release = re.match(r"[0-9]+(\.[0-9]+)*", version)
    return [int(part) for part in release[0].split(".")] if release else [0]


def _before(one: str, other: str) -> bool:
    for a, b in zip_longest(_numbers(one), _numbers(other), fillvalue=0):
        if a != b:
            return a < b
    return False


def _fits(version: str, bounds: str) -> bool:
    """Whether a version is within bounds such as ">=1.1,<2"; bounds of other kinds are left to pip."""
    for bound in bounds.split(","):
        read = _BOUND.fullmatch(bound)
        if read and _before(version, read[2]) == (read[1] == ">="):
            return False
    return True


def unmet(extras: bool = False) -> list[str]:
    """What of the package's requirements is not met, a sentence each with the command that fixes it.

    Read from the installed package's own metadata, as pyproject.toml states it: Python, and every library
    that is needed for rendering; with `extras` those of the extras too, where they are installed. Empty for
    a source folder that was never installed.
    """
    from importlib import metadata  # it takes longer than the rest of the package's own import

    try:
        about = metadata.metadata(PACKAGE)
    except metadata.PackageNotFoundError:
        return []
    problems = []
    python, wanted = ".".join(map(str, sys.version_info[:3])), (about.get_all("Requires-Python") or [""])[0]
    if not _fits(python, wanted):
        problems.append(f"this is Python {python}, and {PACKAGE} needs {wanted}: use another interpreter")
    for line in about.get_all("Requires-Dist") or []:
        found = _REQUIREMENT.match(line)
        if not found or PACKAGE in line or ("extra ==" in line and not extras):
            continue
        name, bounds, conditional = found[1], found[2].strip(), ";" in line
        command = f"{sys.executable} -m pip install '{name}{bounds}'"
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            if not conditional:
                problems.append(f"{name} is not installed. To fix it: {command}")
            continue
        if not _fits(version, bounds):
            sentence = f"{name} {version} is installed, and {PACKAGE} needs {bounds}. To fix it: {command}"
            if sentence not in problems:
                problems.append(sentence)
    return problems


def check_requirements() -> None:
    """Says what does not fit, before it fails as something else.

    Raises:
        UnmetRequirement: the message names each that is not met, and the command that fixes it.
    """
    if problems := unmet():
        raise UnmetRequirement("; ".join(problems))
