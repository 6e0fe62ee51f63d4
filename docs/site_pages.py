"""What the site holds beside the pages in docs/: pages made of the project itself. mkdocs calls this.

The command line's own help, the programs of examples/, CHANGELOG.md and CONTRIBUTING.md become pages, and
links that lead out of docs/ lead to those pages.
"""

from __future__ import annotations

import ast
import contextlib
import io
import os
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
# Where links of the repository lead on the site; the pages are flat but for api/.
MOVED = {
    "../CHANGELOG.md": "changelog.md",
    "../CONTRIBUTING.md": "contributing.md",
    "../README.md": "index.md",
    "../examples": "examples.md",
}


def on_files(files: Files, config: Any, **_: Any) -> Files:
    """Adds the pages that are made here."""
    pages = {
        "command-line.md": command_line(),
        "examples.md": examples(),
        "changelog.md": of_root("CHANGELOG.md"),
        "contributing.md": of_root("CONTRIBUTING.md"),
    }
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Turns links that lead out of docs/ to the page that stands for their target."""

    def moved(match: re.Match[str]) -> str:
        target = match[1]
        if found := re.fullmatch(r"\.\./examples/(\w+)\.py", target):
            return f"](examples.md#{found[1]})"
        return f"]({MOVED.get(target, target)})"

    return re.sub(r"\]\((\.\./[^)#]+)\)", moved, markdown)


def of_root(name: str) -> str:
    """A page of the repository's root: its links into docs/ lose that folder's name."""
    text = (ROOT / name).read_text(encoding="utf-8")
    return re.sub(r"\]\(docs/", "](", text)


def examples() -> str:
    """All programs of examples/, each under its name, its docstring above it."""
    parts = [
        "# Examples\n\nComplete programs, to be run from the source folder. They need an avatar: train one "
        "([tutorial](tutorial.md)), or give `nldf_engine/assets/avatar`, the bundled one.\n"
    ]
    for path in sorted((ROOT / "examples").glob("*.py")):
        text = path.read_text(encoding="utf-8")
        first = (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]
        parts.append(f'## {path.stem}\n\n{first}\n\n```python title="{path.name}"\n{text}```\n')
    return "\n".join(parts)


def command_line() -> str:
    """`nldf --help` and that of every command, as the terminal shows them."""
    from nldf_engine.apps.cli import main as cli

    parts = [
        "# Command line\n\nThis is what `nldf --help` and `nldf COMMAND --help` print.\n",
        "Exit codes: 0 success; 1 failure, with one line on stderr that says why and how to fix it; 2 wrong "
        "usage; 130 after Ctrl-C, which loses nothing. `nldf verify` has [four "
        "more](provenance.md#reading-it). `NLDF_DEBUG=1` shows the traceback of a failure. Progress goes to "
        "stderr, results to stdout; `--json FILE` writes the results as JSON as well.\n",
        f"```text\n{cli.overview()}\n```\n",
    ]
    for name in cli.COMMANDS:
        parts.append(f"## nldf {name}\n\n```text\n{help_of(name)}\n```\n")
    return "\n".join(parts)


def help_of(name: str) -> str:
    """What `nldf NAME --help` prints on a terminal of 88 columns, without colours."""
    from nldf_engine.apps.cli import main as cli

    said = io.StringIO()
    before = {key: os.environ.get(key) for key in ("COLUMNS", "NO_COLOR")}
    os.environ.update(COLUMNS="88", NO_COLOR="1")
    try:
        with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
            cli.main([name, "--help"])
    finally:
        for key, value in before.items():
            os.environ.pop(key, None) if value is None else os.environ.update({key: value})
    return re.sub(r"\x1b\[[0-9;]*m", "", said.getvalue()).strip()
