"""Examples of a vendor's network page: each runs as its user would run it, with a domain and a key in its environment,
and then its sandboxes are asked what they reach.

Novita's page is a branch of E2B's: what both have differs in the import alone, and stands once, as E2B's has it.
"""

from __future__ import annotations

import inspect
import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import e2b_online
import javascript_versions
import pytest

import leaving
from atoll.testing.installation import Installation
from atoll.testing.internet import Internet
from names import Resolver

HERE = Path(__file__).parent / "network_pages"
RUNNERS = (HERE / "runner.py", HERE / "runner.mjs")
ENDINGS = {"python": "py", "javascript": "mjs"}
IMPORTS = {"python": "from {} import", "javascript": "from '{}';"}

CLOUDFLARE, GOOGLE_DNS, GOOGLE = "https://1.1.1.1", "https://8.8.8.8", "https://google.com"
API, GITHUB_API, GITHUB = "https://api.example.com", "https://api.github.com", "https://github.com"
MINE, APP = "https://mydomain.com", "https://app.mydomain.com"
OK, MOVED, FOUND, NOTHING = 200, 301, 302, 0


@dataclass(frozen=True)
class Said:
    lines: list[str]
    reached: list[list[int]]
    """Of each sandbox, of each URL."""


@dataclass(frozen=True)
class Page:
    name: str
    """Of the directory with what it alone has, `NAME/LANGUAGE/EXAMPLE.ENDING`; `both` is beside it."""
    imported: dict[str, str]
    """By language: what its examples import."""
    client: javascript_versions.Suite
    variables: dict[str, str] = field(default_factory=dict)

    def examples(self, language: str) -> Iterator[tuple[str, str]]:
        """File name and text."""
        common, own = (IMPORTS[language].format(name) for name in ("e2b", self.imported[language]))
        for path in (HERE / "both" / language).iterdir():
            text = path.read_text()
            assert text.count(common) == 1, path
            yield path.name, text.replace(common, own)
        for path in (HERE / self.name / language).iterdir():
            yield path.name, path.read_text()

    def lay_out(self, made: Installation, internet: Internet, place: Path) -> Path:
        """The examples beside the packages that they import."""
        place.mkdir()
        for path in RUNNERS:
            shutil.copy(path, place)
        for language in ENDINGS:
            (place / language).mkdir()
            for name, text in self.examples(language):
                (place / language / name).write_text(text)
        (place / "node_modules").symlink_to(self.client.installed(self.client.versions()[-1]) / "node_modules")
        authorities = (internet.ca_file, made.places.tls / "ca.pem")
        (place / "authorities.pem").write_text("".join(each.read_text() for each in authorities))
        return place

    def run(
        self, place: Path, language: str, name: str, urls: tuple[str, ...], made: Installation, names: Resolver
    ) -> Said:
        """An example by its name, and what its sandboxes are asked afterwards."""
        program = {"python": leaving.PYTHON, "javascript": (javascript_versions.program("node"),)}[language]
        ending = ENDINGS[language]
        words = [*program, str(place / f"runner.{ending}"), self.imported[language]]
        words += [str(place / language / f"{name}.{ending}"), str(place / "authorities.pem"), *urls]
        output = names.run(*words, **self.variables, **e2b_online.by_domain(made, self.name.upper()))
        *lines, last = output.rstrip("\n").split("\n")
        return Said(lines, json.loads(last))


class Examples:
    """Those of both pages. A page's own test class adds what it alone has, and its module a fixture `page`."""

    @pytest.fixture(scope="class")
    @classmethod
    def place(cls, page: Page, named_e2b: Installation, internet: Internet, tmp_path_factory) -> Path:
        return page.lay_out(named_e2b, internet, tmp_path_factory.mktemp("pages") / page.name)

    @pytest.fixture(params=list(ENDINGS))
    def run(self, request, page: Page, place: Path, named_e2b: Installation, names: Resolver) -> Callable[..., Said]:
        return lambda name, *urls: page.run(place, request.param, name, urls, named_e2b, names)

    def test_every_example_is_there_in_both_languages_and_has_a_test(self, page):
        there = [{name.partition(".")[0] for name, _ in page.examples(language)} for language in ENDINGS]
        tests = "".join(map(inspect.getsource, (type(self), Examples)))
        assert there[0] == there[1] == set(re.findall(r'run\("(\w+)"', tests))

    def test_internet_access_on_and_off(self, run):
        assert run("access", GOOGLE, CLOUDFLARE).reached == [[OK, MOVED], [NOTHING, NOTHING]]

    def test_lists_of_addresses(self, run):
        reached = run("lists", CLOUDFLARE, GOOGLE_DNS, GOOGLE).reached
        assert reached == [[MOVED, FOUND, NOTHING], [MOVED, NOTHING, OK]]

    def test_allowing_comes_before_denying(self, run):
        assert run("priority", CLOUDFLARE, GOOGLE_DNS, GOOGLE).reached == [[MOVED, FOUND, NOTHING]]

    def test_all_traffic(self, run):
        assert run("all_traffic", CLOUDFLARE, GOOGLE).reached == [[NOTHING, NOTHING]] * 2

    def test_ports_behind_a_token(self, run):
        assert run("token").lines == ["403", "200"]

    def test_a_public_url(self, run):
        (line,) = run("public_url").lines
        assert re.fullmatch(r"https://3000-[a-z0-9]+\.sandboxes\.test:\d+", line)

    def test_a_server_inside(self, run):
        told = "\n".join(run("server").lines)
        assert told.count("Directory listing for /") == 4  # the title and the head, twice
        assert told.count(".bashrc</a>") == 2

    def test_a_masked_host(self, run):
        assert run("mask").lines == ["localhost:8080"]
