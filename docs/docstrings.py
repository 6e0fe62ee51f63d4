"""How docstrings reach the site: the text under "Example:" is shown as code. mkdocstrings calls this."""

from __future__ import annotations

import re
import textwrap
from typing import Any

import griffe

# "Example:" and the indented lines under it, to the end or to the next line that is not indented more.
EXAMPLE = re.compile(r"^Example:\n((?:[ \t]+.*(?:\n|\Z)|[ \t]*(?:\n|\Z))+)", re.M)


class Examples(griffe.Extension):
    """Turns examples into what the Google style's parser takes for code."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrites the docstring of an object as it is found."""
        if obj.docstring is not None:
            obj.docstring.value = EXAMPLE.sub(_as_code, obj.docstring.value)


def _as_code(found: re.Match[str]) -> str:
    body = textwrap.dedent(found[1]).strip("\n")
    if ">>>" in body:
        return f"Examples:\n{textwrap.indent(body, '    ')}\n"
    fenced = f"```python\n{body}\n```"
    return f"Examples:\n{textwrap.indent(fenced, '    ')}\n"
