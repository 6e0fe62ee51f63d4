"""Every command line in the documentation is one that `nldf` takes."""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path

import pytest

from nldf_engine.apps.cli.main import COMMANDS, parse

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def command_lines(page: Path) -> list[str]:
    """The lines of a page's code blocks that call `nldf`, joined where they go on, without comments."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = re.findall(r"^(?:    |\$ |> )?\s*(nldf [a-z].*)$", text, re.M)
    indented = [line for line in lines if f"    {line}" in text or f"\n{line}" in text]
    found = []
    for line in indented:
        words = shlex.split(line, comments=True)
        # `nldf ...` and `nldf COMMAND` stand for any command; a pipe or an && is the shell's.
        if words[1] in COMMANDS and "..." not in words:
            stop = next(
                (k for k, word in enumerate(words) if word in ("|", "&&", ">", "2>", ";")), len(words)
            )
            found.append(shlex.join(words[1:stop]))
    return found


LINES = sorted({(page.name, line) for page in PAGES for line in command_lines(page)})


def test_there_are_commands_in_the_docs() -> None:
    """The search finds the README's and the tutorial's."""
    assert len(LINES) > 25
    assert {"README.md", "tutorial.md", "layouts.md"} <= {page for page, _ in LINES}


@pytest.mark.parametrize(("page", "line"), LINES)
def test_it_is_understood(page: str, line: str) -> None:
    """Its flags exist and their values are of the right kind."""
    name, *arguments = shlex.split(line)
    kind = getattr(importlib.import_module(f"nldf_engine.apps.cli.commands.{name}"), name.capitalize())
    if "--help" in arguments:
        with pytest.raises(SystemExit) as ended:
            parse(kind, name, arguments)
        assert ended.value.code == 0
        return
    parse(kind, name, arguments)
