"""The examples of Novita's network page."""

from __future__ import annotations

import javascript_versions
import pytest
from network_examples import (
    API,
    APP,
    CLOUDFLARE,
    FOUND,
    GITHUB,
    GITHUB_API,
    GOOGLE,
    GOOGLE_DNS,
    MINE,
    NOTHING,
    OK,
    Examples,
    Page,
)
from python_versions import NOVITA, environment

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def page() -> Page:
    imported = {"python": f"{NOVITA.module}.core", "javascript": "novita-sandbox"}
    package = str(environment(NOVITA, NOVITA.newest))
    return Page("novita", imported, javascript_versions.NOVITA, {"PYTHONPATH": package})


class TestNovitasPage(Examples):
    def test_domains(self, run):
        assert run("domains", GOOGLE, API, MINE, CLOUDFLARE).reached == [[OK, OK, NOTHING, NOTHING]]

    def test_wildcards(self, run):
        assert run("wildcards", APP, MINE, GOOGLE).reached == [[OK, NOTHING, NOTHING]]

    def test_lists_of_names_and_networks(self, run):
        reached = run("mixed", API, GITHUB_API, GITHUB, GOOGLE_DNS, CLOUDFLARE).reached
        assert reached == [[OK, OK, NOTHING, FOUND, NOTHING]]

    def test_an_update_while_it_runs(self, run):
        assert run("update", API, GOOGLE, CLOUDFLARE).reached == [[OK, NOTHING, NOTHING], [OK, OK, NOTHING]]
