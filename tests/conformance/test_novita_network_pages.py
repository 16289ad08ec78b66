"""The examples of Novita's network page."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import javascript_versions
import pytest
from network_examples import ENDINGS, HERE, Page, Said
from python_versions import NOVITA, environment

pytestmark = [pytest.mark.root, pytest.mark.timeout(60)]

CLOUDFLARE, GOOGLE_DNS, GOOGLE = "https://1.1.1.1", "https://8.8.8.8", "https://google.com"
API, GITHUB_API, GITHUB = "https://api.example.com", "https://api.github.com", "https://github.com"
MINE, APP = "https://mydomain.com", "https://app.mydomain.com"
OK, MOVED, FOUND, NOTHING = 200, 301, 302, 0


@pytest.fixture(scope="module")
def page() -> Page:
    imported = {"python": f"{NOVITA.module}.core", "javascript": "novita-sandbox"}
    package = str(environment(NOVITA, NOVITA.newest))
    return Page(HERE / "novita_pages", "NOVITA", imported, javascript_versions.NOVITA, {"PYTHONPATH": package})


@pytest.fixture(scope="module")
def place(page, named_e2b, internet, tmp_path_factory) -> Path:
    return page.lay_out(named_e2b, internet, tmp_path_factory.mktemp("pages") / "novita")


@pytest.fixture(params=list(ENDINGS))
def run(request, page, place, named_e2b, names) -> Callable[..., Said]:
    return lambda name, *urls: page.run(place, request.param, name, urls, named_e2b, names)


def test_every_example_is_there_in_both_languages_and_has_a_test(page):
    page.check_complete(Path(__file__))


def test_internet_access_on_and_off(run):
    assert run("access", GOOGLE, CLOUDFLARE).reached == [[OK, MOVED], [NOTHING, NOTHING]]


def test_lists_of_addresses(run):
    reached = run("lists", CLOUDFLARE, GOOGLE_DNS, GOOGLE).reached
    assert reached == [[MOVED, FOUND, NOTHING], [MOVED, NOTHING, OK]]


def test_domains(run):
    assert run("domains", GOOGLE, API, MINE, CLOUDFLARE).reached == [[OK, OK, NOTHING, NOTHING]]


def test_wildcards(run):
    assert run("wildcards", APP, MINE, GOOGLE).reached == [[OK, NOTHING, NOTHING]]


def test_lists_of_names_and_networks(run):
    reached = run("mixed", API, GITHUB_API, GITHUB, GOOGLE_DNS, CLOUDFLARE).reached
    assert reached == [[OK, OK, NOTHING, FOUND, NOTHING]]


def test_allowing_comes_before_denying(run):
    assert run("priority", CLOUDFLARE, GOOGLE_DNS, GOOGLE).reached == [[MOVED, FOUND, NOTHING]]


def test_all_traffic(run):
    assert run("all_traffic", CLOUDFLARE, GOOGLE).reached == [[NOTHING, NOTHING]] * 2


def test_an_update_while_it_runs(run):
    assert run("update", API, GOOGLE, CLOUDFLARE).reached == [[OK, NOTHING, NOTHING], [OK, OK, NOTHING]]


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
