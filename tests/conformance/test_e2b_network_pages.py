"""The examples of E2B's network page."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import javascript_versions
import pytest
from network_examples import ENDINGS, HERE, Page, Said

pytestmark = [pytest.mark.root, pytest.mark.timeout(60)]

PAGE = Page(HERE / "e2b_pages", "E2B", {"python": "e2b", "javascript": "e2b"}, javascript_versions.E2B)

CLOUDFLARE, GOOGLE_DNS, GOOGLE = "https://1.1.1.1", "https://8.8.8.8", "https://google.com"
API, GITHUB_API, GITHUB = "https://api.example.com", "https://api.github.com", "https://github.com"
MINE, APP = "https://mydomain.com", "https://app.mydomain.com"
OK, MOVED, FOUND, NOTHING = 200, 301, 302, 0


@pytest.fixture(scope="module")
def place(named_e2b, internet, tmp_path_factory) -> Path:
    return PAGE.lay_out(named_e2b, internet, tmp_path_factory.mktemp("pages") / "e2b")


@pytest.fixture(params=list(ENDINGS))
def run(request, place, named_e2b, names) -> Callable[..., Said]:
    return lambda name, *urls: PAGE.run(place, request.param, name, urls, named_e2b, names)


def test_every_example_is_there_in_both_languages_and_has_a_test():
    PAGE.check_complete(Path(__file__))


def test_internet_access_on_and_off(run):
    assert run("access", GOOGLE, CLOUDFLARE).reached == [[OK, MOVED], [NOTHING, NOTHING]]


def test_lists_of_addresses(run):
    reached = run("lists", CLOUDFLARE, GOOGLE_DNS, GOOGLE).reached
    assert reached == [[MOVED, FOUND, NOTHING], [MOVED, NOTHING, OK]]


def test_lists_of_names(run):
    reached = run("names", GOOGLE, APP, MINE, API, GITHUB_API, GITHUB, GOOGLE_DNS).reached
    assert reached == [
        [OK, NOTHING, NOTHING, NOTHING, NOTHING, NOTHING, NOTHING],
        [NOTHING, OK, NOTHING, NOTHING, NOTHING, NOTHING, NOTHING],
        [NOTHING, NOTHING, NOTHING, OK, OK, NOTHING, FOUND],
    ]


def test_allowing_comes_before_denying(run):
    assert run("priority", CLOUDFLARE, GOOGLE_DNS, GOOGLE).reached == [[MOVED, FOUND, NOTHING]]


def test_all_traffic(run):
    assert run("all_traffic", CLOUDFLARE, GOOGLE).reached == [[NOTHING, NOTHING]] * 2


def test_an_update_while_it_runs(run):
    assert run("update", API, GOOGLE).reached == [[OK, NOTHING]]


def test_an_update_of_nothing_lifts_everything(run):
    assert run("clear", CLOUDFLARE, GOOGLE).reached == [[MOVED, OK]]


def test_ports_behind_a_token(run):
    assert run("token").lines == ["403", "200"]


def test_a_public_url(run):
    (line,) = run("public_url").lines
    assert re.fullmatch(r"https://3000-[a-z0-9]+\.sandboxes\.test:\d+", line)


def test_a_server_inside(run):
    told = "\n".join(run("server").lines)
    assert told.count("Directory listing for /") == 4  # the title and the head, twice
    assert told.count(".bashrc</a>") == 2


def test_a_masked_host(run):
    assert run("mask").lines == ["localhost:8080"]


def test_headers_set_on_the_way(run):
    assert json.loads("\n".join(run("headers").lines))["headers"]["X-Test-Token"] == "set on the way"
