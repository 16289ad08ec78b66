"""The site as `./scripts/docs` builds it: without a warning, with every page, and with nothing from another host."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
import reading

LOADED = {
    "script": "src",
    "link": "href",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "audio": "src",
}
"""What a browser fetches by itself; a link to another page is a person's choice."""
NOT_FETCHED = frozenset(("canonical", "prev", "next", "alternate"))
FOREIGN = re.compile(r"^(?:[a-z]+:)?//", re.IGNORECASE)
IN_STYLE = re.compile(r"url\(\s*[\"']?([^\"')]+)|@import\s+[\"']([^\"']+)")
DIAGRAMS = "mermaid"
"""The theme's script fetches a library from elsewhere for pages that have one of these, and for no others."""


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("site")
    build(place)
    return place


def build(place: Path, config: Path = reading.ROOT / "mkdocs.yml") -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(config), "-d", str(place)]
    quiet = {"PATH": "/usr/bin:/bin", "NO_MKDOCS_2_WARNING": "1"}
    run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=quiet)
    assert run.returncode == 0, run.stdout
    assert "WARNING" not in run.stdout, run.stdout


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.classes: set[str] = set()
        self.styles: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.classes |= set(given.get("class", "").split())
        self.styles.append(given.get("style", ""))
        if tag in LOADED and given.get("rel", "") not in NOT_FETCHED and (target := given.get(LOADED[tag])):
            self.loads.append(target)
        self.loads += [part.split()[0] for part in given.get("srcset", "").split(",") if part.strip()]


def styles_load(text: str) -> list[str]:
    return [match[1] or match[2] for match in IN_STYLE.finditer(text)]


@pytest.mark.timeout(120)
def test_the_site_loads_nothing_from_another_host(site) -> None:
    foreign = []
    for path in site.rglob("*.html"):
        text = path.read_text()
        page = Page(text)
        loaded = page.loads + styles_load(text)
        foreign += [f"{path.relative_to(site)}: {target}" for target in loaded if FOREIGN.match(target)]
        assert DIAGRAMS not in page.classes, f"{path.relative_to(site)}: a diagram that is drawn by a foreign script"
    for path in site.rglob("*.css"):
        foreign += [
            f"{path.relative_to(site)}: {each}" for each in styles_load(path.read_text()) if FOREIGN.match(each)
        ]
    assert not foreign, "\n".join(foreign)


@pytest.mark.timeout(120)
def test_every_page_is_in_the_site_and_its_search(site) -> None:
    index = (site / "search" / "search_index.json").read_text()
    for page in (reading.ROOT / "docs").rglob("*.md"):
        built = page.relative_to(reading.ROOT / "docs").with_suffix(".html").as_posix()
        assert (site / built).is_file(), built
        assert f'"{built}"' in index, built


def test_a_page_that_loads_from_elsewhere_is_seen() -> None:
    """Or the test of the whole site would say nothing."""
    page = Page('<script src="//cdn.example/x.js"></script><link rel="canonical" href="https://example.com/">')
    assert [each for each in page.loads if FOREIGN.match(each)] == ["//cdn.example/x.js"]
    assert styles_load("a{b:url( 'https://fonts.example/x' )} @import \"https://y.example\";") == [
        "https://fonts.example/x",
        "https://y.example",
    ]


@pytest.mark.timeout(120)
def test_a_broken_link_ends_the_build(tmp_path) -> None:
    shutil.copytree(reading.ROOT / "docs", tmp_path / "docs")
    shutil.copy(reading.ROOT / "mkdocs.yml", tmp_path)
    with (tmp_path / "docs" / "index.md").open("a") as index:
        index.write("\n[nowhere](nowhere.md)\n")
    with pytest.raises(AssertionError, match="nowhere"):
        build(tmp_path / "site", tmp_path / "mkdocs.yml")
