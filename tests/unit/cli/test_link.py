"""`atoll link`: what it asks for and what it prints, with an API that is scripted."""

from __future__ import annotations

import json

import httpx
import pytest
from click.testing import CliRunner

from atoll.cli import api, link
from atoll.cli.main import cli
from atoll.core.errors import NotFound

BOX = "a" * 20
URL = f"http://127.0.0.1:8080/s/{BOX}/3000/?atoll_link=x.y.z"


@pytest.fixture
def asked(monkeypatch) -> list[tuple[str, str, dict]]:
    requests: list[tuple[str, str, dict]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append((request.method, request.url.path, json.loads(request.content)))
        return httpx.Response(201, json={"url": URL, "port": 3000, "expires_at": "2027-01-01T00:00:00+00:00"})

    script(monkeypatch, answer)
    return requests


def script(monkeypatch, answer) -> None:
    transport = httpx.MockTransport(answer)
    monkeypatch.setattr(link, "open_api", lambda *_: api.client("http://atoll.test", "k", transport))


@pytest.mark.parametrize(
    ("words", "order"),
    [
        ([], {"seconds": 3600}),
        (["3000"], {"seconds": 3600, "port": 3000}),
        (["3000", "--seconds", "60"], {"seconds": 60, "port": 3000}),
    ],
)
def test_it_prints_the_url_and_nothing_else(asked, words: list[str], order: dict):
    done = CliRunner().invoke(cli, ["link", BOX, *words])
    assert (done.exit_code, done.stdout) == (0, URL + "\n")
    assert asked == [("POST", f"/v1/sandboxes/{BOX}/links", order)]


@pytest.mark.parametrize("words", [["0"], ["65536"], ["web"], ["3000", "--seconds", "59"], ["--seconds", "604801"]])
def test_what_cannot_be_is_said_without_asking(asked, words: list[str]):
    assert CliRunner().invoke(cli, ["link", BOX, *words]).exit_code == 2
    assert asked == []


def test_a_sandbox_that_is_not_there_is_said(monkeypatch):
    script(monkeypatch, lambda request: httpx.Response(404, json={"message": "Sandbox 'x' not found"}))
    done = CliRunner().invoke(cli, ["link", BOX])
    assert isinstance(done.exception, NotFound)
    assert "not found" in done.exception.message
