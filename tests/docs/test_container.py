"""The container: its stages, its system libraries and its commands are those that the rest speaks of."""

from __future__ import annotations

import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")


def installed(text: str) -> list[set[str]]:
    """The packages of each `apt-get install`."""
    return [
        set(line.split())
        for line in re.findall(r"apt-get install -y --no-install-recommends ([^\\\n]+)", text)
    ]


def test_the_devcontainer_builds_a_stage_of_the_container() -> None:
    """One mechanism: its stage exists, and so does the target of make that it runs."""
    made = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8"))
    stages = re.findall(r"^FROM \S+ AS (\w+)$", DOCKERFILE, re.MULTILINE)
    assert (ROOT / ".devcontainer" / made["build"]["dockerfile"]).resolve() == ROOT / "Dockerfile"
    assert made["build"]["target"] in stages
    target = made["postCreateCommand"].removeprefix("make ").replace(".venv/stamps", "$(STAMPS)")
    assert f"\n{target}:" in (ROOT / "Makefile").read_text(encoding="utf-8")


def test_it_has_the_system_libraries_that_make_asks_for() -> None:
    """Those that `make needs` looks for, in the stage that compiles; the last one goes without a compiler."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    wanted = set(re.findall(r'missing="\$\$missing ([\w.+-]+)"', makefile))
    tools, last = installed(DOCKERFILE)
    assert wanted and wanted <= tools
    assert last == wanted - {"g++"}


def test_the_base_is_a_python_that_we_declare() -> None:
    """And what it runs is a command."""
    from nldf_engine.apps.cli.main import COMMANDS

    version = re.search(r"^ARG PYTHON=(3\.\d+)$", DOCKERFILE, re.MULTILINE)
    assert version and version[1] in (ROOT / "tests" / "matrix.py").read_text(encoding="utf-8")
    command = re.search(r'^CMD \["nldf", "(\w+)"\]$', DOCKERFILE, re.MULTILINE)
    assert command and command[1] in COMMANDS


def test_nothing_private_goes_into_its_build() -> None:
    """Videos, avatars and environments are no part of the build's context."""
    left_out = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert {".git", ".venv", "data", "avatars", "build"} <= set(left_out)
