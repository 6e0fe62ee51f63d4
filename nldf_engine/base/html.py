"""Pages of HTML that load nothing: one look for every report, light and dark, and the parts of their charts.

Everything that a page shows is inside it (SVG, data: URIs), so that it opens offline and can be sent on.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from nldf_engine.base.files import atomic_path

STYLE = """
:root { color-scheme: light dark; --paper: #ffffff; --ink: #22262b; --dim: #565d65; --line: #8a9199;
  --faint: #d9dde2; --bad: #c92a2a; --warn: #fff3bf; --hover: #f1f3f5;
  --c0: #0b7285; --c1: #d9480f; --c2: #5f3dc4; --c3: #2b8a3e; --c4: #868e96 }
@media (prefers-color-scheme: dark) { :root { --paper: #16191d; --ink: #e6e9ec; --dim: #a5adb6;
  --line: #6b737c; --faint: #343a41; --bad: #ff8787; --warn: #4a3f0f; --hover: #23282e;
  --c0: #3bc9db; --c1: #ff922b; --c2: #b197fc; --c3: #69db7c; --c4: #adb5bd } }
body { font: 15px/1.45 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 72rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.6rem; margin-bottom: .2rem } h2 { font-size: 1.2rem; margin-top: 2.2rem }
table { border-collapse: collapse; width: 100%; font-size: 13px }
caption { text-align: left; font-weight: 600; padding: .3rem .5rem }
th, td { text-align: right; padding: .2rem .5rem; white-space: nowrap }
th { border-bottom: 1px solid var(--line); font-weight: 600 }
th[scope=row] { border-bottom: 0; text-align: left; font-weight: 400 }
td.name, th.name, td.note { text-align: left } td.note { white-space: normal; color: var(--dim) }
tr.case td { text-align: left; font-weight: 600; border-top: 1px solid var(--faint); padding-top: .5rem }
.bad { color: var(--bad) } .warn { background: var(--warn); padding: .5rem .8rem }
.dim { color: var(--dim) } .wide { overflow-x: auto }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem } dd { margin: 0 }
svg text { fill: var(--ink) } img, video, svg { max-width: 100% }
"""

COLOURS = ("var(--c0)", "var(--c1)", "var(--c2)", "var(--c3)", "var(--c4)")


def document(title: str, body: Iterable[str], style: str = "", script: str = "") -> str:
    """A whole page. `body` is HTML, its texts escaped already; empty parts are left out."""
    parts = [
        '<!doctype html><html lang="en"><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title><style>{STYLE}{style}</style><body>",
        *body,
        f"<script>{script}</script>" if script else "",
        "</body></html>",
    ]
    return "\n".join(part for part in parts if part) + "\n"


def write_document(path: str | Path, page: str) -> Path:
    """Writes a page, whole or not at all; returns its path.

    Raises:
        FileProblem: it can't be written.
    """
    path = Path(path)
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """(what, value) pairs as a list of terms."""
    return "<dl>" + "".join(f"<dt>{escape(n)}</dt><dd>{escape(v)}</dd>" for n, v in pairs) + "</dl>"


def grid(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of texts; the first of each row names it."""
    columns = "".join(
        f'<th scope="col"{" class=name" if not k else ""}>{escape(h)}</th>' for k, h in enumerate(head)
    )
    lines = [
        f'<tr><th scope="row">{escape(name)}</th>' + "".join(f"<td>{escape(c)}</td>" for c in cells) + "</tr>"
        for name, *cells in rows
    ]
    return (
        f'<div class="wide"><table><caption>{escape(caption)}</caption><thead><tr>{columns}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def embedded(path: str | Path, kind: str) -> str:
    """A file as a data: URI of the MIME type `kind`."""
    return f"data:{kind};base64,{base64.b64encode(Path(path).read_bytes()).decode('ascii')}"


def svg(width: int, height: int, title: str, body: str) -> str:
    """A chart of a fixed size with its title above; `body` is SVG."""
    return (
        f'<svg width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img" '
        f'font-size="12" font-family="sans-serif">'
        f'<title>{escape(title)}</title><text y="14" font-weight="600">{escape(title)}</text>{body}</svg>'
    )


def text(x: float, y: float, words: str, anchor: str = "start") -> str:
    """Words in a chart; `anchor` is start, middle or end."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def rect(x: float, y: float, width: float, height: float, colour: str) -> str:
    """A filled rectangle in a chart."""
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" style="fill:{colour}"/>'
