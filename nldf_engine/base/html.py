"""Pages of HTML from Jinja templates: autoescaped, one look, and nothing is loaded from elsewhere.

Everything that a page shows is inside it (styles, scripts, data: URIs), so that it opens offline and can be
sent on. `templates/page.html` holds the look, light and dark; `templates/parts.html` its tables and lists.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from nldf_engine.base.errors import MissingBackend
from nldf_engine.base.files import atomic_path

TEMPLATES = Path(__file__).parent / "templates"
MISSING = "–"


def require_jinja() -> Any:
    """The module jinja2.

    Raises:
        MissingBackend: it is not installed.
    """
    try:
        import jinja2
    except ImportError as error:
        raise MissingBackend(
            "jinja2, which renders the pages of reports, is not installed", "pip install jinja2"
        ) from error
    return jinja2


def render(template: Path, **values: Any) -> str:
    """A template filled with values; texts are escaped.

    Args:
        template: the file; it may extend and import its neighbours and those of `TEMPLATES`.
        values: by the names that the template uses; one that is missing is an error.

    Raises:
        MissingBackend: jinja2 is not installed.
    """
    jinja = require_jinja()
    environment = jinja.Environment(
        loader=jinja.FileSystemLoader([template.parent, TEMPLATES]), autoescape=True,
        undefined=jinja.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    environment.filters["number"] = number
    return str(environment.get_template(template.name).render(**values))


def write_html(path: str | Path, template: Path, **values: Any) -> Path:
    """Writes a filled template, whole or not at all; returns its path.

    Raises:
        MissingBackend: as `render`.
        FileProblem: it can't be written.
    """
    path, page = Path(path), render(template, **values)
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def number(value: Any, digits: int = 2) -> str:
    """A value as a table shows it; also a filter of the templates.

    Example:
        >>> number(3.14159), number(None), number(7), number(-0.001)
        ('3.14', '–', '7', '0.00')
    """
    if value is None:
        return MISSING
    if not isinstance(value, float):
        return str(value)
    return f"{round(value, digits) + 0.0:.{digits}f}"  # + 0.0: no minus before a zero


def data_uri(content: bytes, kind: str) -> str:
    """Bytes as a data: URI of the MIME type `kind`."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
