"""Examples of a vendor's network page: each runs as its user would run it, with a domain and a key in its environment,
and then its sandboxes are asked what they reach."""

from __future__ import annotations

import json
import re
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

import e2b_online
import javascript_versions

from atoll.testing.installation import Installation
from atoll.testing.internet import Internet
from names import Resolver

HERE = Path(__file__).parent
RUNNERS = (HERE / "e2b_pages" / "runner.py", HERE / "e2b_pages" / "runner.mjs")
ENDINGS = {"python": "py", "javascript": "mjs"}


@dataclass(frozen=True)
class Said:
    lines: list[str]
    reached: list[list[int]]
    """Of each sandbox, of each URL."""


@dataclass(frozen=True)
class Page:
    """`home/LANGUAGE/NAME.ENDING` are its examples."""

    home: Path
    maker: str
    """How the variables of its clients begin."""
    imported: dict[str, str]
    """By language: what its examples import."""
    client: javascript_versions.Suite
    variables: dict[str, str] = field(default_factory=dict)

    def lay_out(self, made: Installation, internet: Internet, place: Path) -> Path:
        """The examples, as they are, beside the packages that they import."""
        place.mkdir()
        for path in RUNNERS:
            shutil.copy(path, place)
        for language in ENDINGS:
            shutil.copytree(self.home / language, place / language)
        (place / "node_modules").symlink_to(self.client.installed(self.client.versions()[-1]) / "node_modules")
        authorities = (internet.ca_file, made.places.tls / "ca.pem")
        (place / "authorities.pem").write_text("".join(each.read_text() for each in authorities))
        return place

    def run(
        self, place: Path, language: str, name: str, urls: tuple[str, ...], made: Installation, names: Resolver
    ) -> Said:
        """An example by its name, and what its sandboxes are asked afterwards."""
        program = {"python": sys.executable, "javascript": javascript_versions.program("node")}[language]
        ending = ENDINGS[language]
        words = [program, str(place / f"runner.{ending}"), self.imported[language]]
        words += [str(place / language / f"{name}.{ending}"), str(place / "authorities.pem"), *urls]
        output = names.run(*words, **self.variables, **e2b_online.by_domain(made, self.maker))
        *lines, last = output.rstrip("\n").split("\n")
        return Said(lines, json.loads(last))

    def check_complete(self, tests: Path) -> None:
        """Every example is there in both languages and has a test."""
        found = [{path.stem for path in (self.home / language).iterdir()} for language in ENDINGS]
        assert found[0] == found[1] == set(re.findall(r'run\("(\w+)"', tests.read_text()))
