"""The examples of E2B's network page."""

from __future__ import annotations

import json

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
    MOVED,
    NOTHING,
    OK,
    Examples,
    Page,
)

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def page() -> Page:
    return Page("e2b", {"python": "e2b", "javascript": "e2b"}, javascript_versions.E2B)


class TestE2BsPage(Examples):
    def test_lists_of_names(self, run):
        reached = run("names", GOOGLE, APP, MINE, API, GITHUB_API, GITHUB, GOOGLE_DNS).reached
        assert reached == [
            [OK, NOTHING, NOTHING, NOTHING, NOTHING, NOTHING, NOTHING],
            [NOTHING, OK, NOTHING, NOTHING, NOTHING, NOTHING, NOTHING],
            [NOTHING, NOTHING, NOTHING, OK, OK, NOTHING, FOUND],
        ]

    def test_an_update_while_it_runs(self, run):
        assert run("update", API, GOOGLE).reached == [[OK, NOTHING]]

    def test_an_update_of_nothing_lifts_everything(self, run):
        assert run("clear", CLOUDFLARE, GOOGLE).reached == [[MOVED, OK]]

    def test_headers_set_on_the_way(self, run):
        assert json.loads("\n".join(run("headers").lines))["headers"]["X-Test-Token"] == "set on the way"
