"""The documentation builds strictly, and no link or picture of it leads nowhere."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).resolve().parents[2]
NEEDED = ("mkdocs", "material", "mkdocstrings")
LOADED = {"link": "href", "script": "src", "img": "src", "iframe": "src", "video": "src", "source": "src"}


class Page(HTMLParser):
    """What a page names: its anchors, where its links lead, and what it loads."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {key: value or "" for key, value in attributes}
        self.anchors |= {given[key] for key in ("id", "name") if key in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag in LOADED and LOADED[tag] in given and given.get("rel") not in ("canonical", "prev", "next"):
            self.loads.append(given[LOADED[tag]])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; mkdocs reads every docstring, which takes some seconds."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed: pip install -c constraints.txt '.[docs]'")
    folder = tmp_path_factory.mktemp("docs") / "site"
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_link_leads_somewhere(site: Path) -> None:
    """Each internal link's page and anchor exist, and so does each picture, style and script."""
    pages = {path: Page(path) for path in site.rglob("*.html") if path.name != "404.html"}
    assert len(pages) > 15
    broken = []
    for path, page in pages.items():
        for link in [*page.links, *page.loads]:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or link.startswith("data:"):
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            anchor = unquote(parts.fragment)
            if not target.is_file():
                broken.append(f"{path.name}: {link}: no such file")
            elif anchor and target in pages and anchor not in pages[target].anchors:
                broken.append(f"{path.name}: {link}: no such anchor")
    assert not broken, "\n".join(broken)


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    """No page asks another server for a font, a style, a script or a picture."""
    for path in site.rglob("*.html"):
        away = [url for url in Page(path).loads if urlsplit(url).scheme or urlsplit(url).netloc]
        assert not away, f"{path.name} loads {away}"
    for path in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//", path.read_text(encoding="utf-8")), path


def test_the_pages_made_of_the_project_are_there(site: Path) -> None:
    """Every command's help, every example and every op that is public has its place."""
    from nldf_engine.apps.cli.main import COMMANDS

    commands = (site / "command-line.html").read_text(encoding="utf-8")
    assert all(f'id="nldf-{name}"' in commands and f"usage: nldf {name}" in commands for name in COMMANDS)
    examples = Page(site / "examples.html").anchors
    assert {path.stem for path in (ROOT / "examples").glob("*.py")} <= examples
    engine = Page(site / "api" / "engine.html").anchors
    assert {"nldf_engine.engine.engine.Engine.render", "nldf_engine.engine.clip.Clip.save"} <= engine


def test_pictures_have_a_maker() -> None:
    """Every picture that a page shows is there, and `docs/figures.py` draws it, or a command on the page; the
    README's apart."""
    drawn = set(re.findall(r'"([a-z]+\.(?:svg|png))": \w+', (ROOT / "docs" / "figures.py").read_text()))
    pages = [page.read_text(encoding="utf-8") for page in (ROOT / "docs").rglob("*.md")]
    drawn |= {name for text in pages for name in re.findall(r"--picture docs/images/(\S+)", text)}
    shown = {
        name for text in pages
        for name in re.findall(r"!\[[^\]]*\]\((?:\.\./)?images/([^)]+)\)", text)
    }  # fmt: skip
    there = {path.name for path in (ROOT / "docs" / "images").iterdir()}
    assert shown and shown == drawn and there == drawn | {"demo.png"}
