"""`atoll egress`: what it asks for and what it shows, with an API that is scripted."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import click
import httpx
import pytest
from click.testing import CliRunner

from atoll.cli import api, egress
from atoll.cli.egress import Log, amount, cells, columns, destination, duration
from atoll.cli.main import cli

BASE = {"at": 1_700_000_000.4, "sandbox_id": "a" * 20, "verdict": "allowed", "rule": "default"}
CONNECTION = {**BASE, "seq": 1, "kind": "connection", "protocol": "tcp", "address": "203.0.113.10", "port": 443,
              "bytes_out": 12, "bytes_in": 3400, "duration_s": 0.25}  # fmt: skip
DENIED = {**CONNECTION, "seq": 2, "verdict": "denied", "rule": "blocklist: tcp/25", "port": 25}
Params = dict[str, str]


class Api:
    """Answers pages of a log as the real one does; `asked` keeps the parameters."""

    def __init__(self, entries: list[dict[str, Any]]) -> None:
        self.entries = entries
        self.asked: list[Params] = []
        self.path = ""
        self.on_wait: Callable[[], None] = self._interrupt

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.path = request.url.path
        if self.path.endswith("/totals"):
            return httpx.Response(200, json={"connections": 3, "bytes_in": 70, "by_rule": {"default": 3}})
        params = dict(request.url.params)
        self.asked.append(params)
        after, last = int(params["after"]), len(self.entries)
        after = max(0, last + after) if after < 0 else after
        found = [entry for entry in self.entries if entry["seq"] > after][: int(params["limit"])]
        if not found and int(params["wait"]):
            self.on_wait()
        return httpx.Response(200, json={"entries": found, "cursor": found[-1]["seq"] if found else after})

    @staticmethod
    def _interrupt() -> None:
        raise KeyboardInterrupt  # the person at the terminal


@pytest.fixture
def scripted(monkeypatch):
    made = Api([CONNECTION, DENIED])
    transport = httpx.MockTransport(made)
    monkeypatch.setattr(egress, "open_api", lambda *_: api.client("http://atoll.test", "k", transport))
    monkeypatch.setattr(egress, "PACE_S", 0)
    return made


def shown(*arguments: str) -> list[str]:
    result = CliRunner().invoke(cli, ["egress", "a" * 20, *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output.splitlines()


def test_there_is_no_heading_above_an_error(monkeypatch):
    said = {"error": {"kind": "not_found", "message": "no such sandbox"}}
    transport = httpx.MockTransport(lambda _: httpx.Response(404, json=said))
    monkeypatch.setattr(egress, "open_api", lambda *_: api.client("http://atoll.test", "k", transport))
    result = CliRunner().invoke(cli, ["egress", "nobody"])
    assert result.exit_code
    assert result.stdout == ""


def test_entries_are_lines_below_a_heading(scripted):
    heading, first, second = shown()
    assert heading.split() == ["TIME", "VERDICT", "WHAT", "DESTINATION", "OUT", "IN", "TOOK", "RULE"]
    assert first.split() == ["2023-11-14", "22:13:20Z", "allowed", "tcp", "203.0.113.10:443",
                             "12", "B", "3.4", "kB", "250", "ms", "default"]  # fmt: skip
    assert second.split()[2:4] == ["denied", "tcp"]
    assert second.endswith("blocklist: tcp/25")
    assert scripted.path == f"/v1/sandboxes/{'a' * 20}/egress"
    assert scripted.asked[0]["after"] == "-100"


def test_the_last_few_are_asked_for_from_the_end(scripted):
    assert len(shown("--last", "1")) == 2
    assert scripted.asked[0]["after"] == "-1"


def test_all_are_read_page_by_page(scripted, monkeypatch):
    monkeypatch.setattr(egress, "PAGE", 1)
    assert len(shown("--last", "0")) == 3
    assert [each["after"] for each in scripted.asked] == ["0", "1", "2"]


def test_refused_ones_are_counted_among_themselves(scripted):
    scripted.entries = [{**DENIED, "seq": 1}, {**DENIED, "seq": 2, "port": 26}, {**CONNECTION, "seq": 3}]
    assert [json.loads(line)["port"] for line in shown("--denied", "--last", "1", "--json")] == [26]


def test_json_is_an_entry_a_line(scripted):
    assert [json.loads(line) for line in shown("--json")] == [CONNECTION, DENIED]


def test_following_goes_on_from_the_last_one_until_it_is_interrupted(scripted):
    news = [{**CONNECTION, "seq": 3}]

    def arrive() -> None:
        if not news:
            raise KeyboardInterrupt
        scripted.entries.append(news.pop())

    scripted.on_wait = arrive
    lines = shown("--follow", "--json", "--last", "1")
    assert [json.loads(line)["seq"] for line in lines] == [2, 3]
    assert scripted.asked[-1] == {"after": "3", "limit": "1000", "wait": "25"}


def test_following_waits_while_atoll_is_away(monkeypatch, capsys):
    monkeypatch.setattr(egress, "PACE_S", 0)
    answers = iter([503, 503, 200])

    def answer(request: httpx.Request) -> httpx.Response:
        status = next(answers)
        content = {"entries": [CONNECTION], "cursor": 1} if status == 200 else {"message": "no node"}
        return httpx.Response(status, json=content)

    log = Log(api.client("http://atoll.test", "k", httpx.MockTransport(answer)), "/x", denied=False)
    assert next(log.following()) == CONNECTION
    assert capsys.readouterr().err.count("trying again") == 1


def test_totals_are_a_list_of_figures(scripted):
    assert [line.split() for line in shown("--totals")] == [
        ["3", "connections"],
        ["70", "bytes", "in"],
        ["3", "default"],
    ]
    assert json.loads("\n".join(shown("--totals", "--json")))["by_rule"] == {"default": 3}


def test_the_verdict_has_a_colour():
    assert click.style("denied ", fg="red") in columns(cells(DENIED), "red")


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ({"name": "example.com", "name_from": "sni"}, "example.com:443 (203.0.113.10)"),
        ({"name": "example.com", "name_from": "dns"}, "~example.com:443 (203.0.113.10)"),
        ({"address": "2001:db8::1"}, "[2001:db8::1]:443"),
        ({"address": "", "name": "example.com", "name_from": "sni"}, "example.com:443"),
        ({"protocol": "icmp", "port": 0}, "203.0.113.10"),
        ({"address": "", "port": 0, "detail": "on its way"}, "on its way"),
        ({"kind": "request", "method": "GET", "name": "example.com", "path": "/a"}, "GET example.com/a"),
        ({"kind": "question", "name": "example.com", "detail": "AAAA NOERROR"}, "example.com AAAA NOERROR"),
        ({"kind": "event", "detail": "more than 100 addresses"}, "more than 100 addresses"),
    ],
)
def test_destinations(entry, text):
    assert destination({**CONNECTION, **entry}) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (3400, "3.4 kB"), (999_499, "999 kB"), (999_500, "1 MB"),
     (5_000_000_000, "5 GB")],
)  # fmt: skip
def test_amounts(number, text):
    assert amount(number) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.004, "4 ms"), (1.25, "1.2 s"), (61, "1 m 1 s"), (7260, "2 h 1 m")])
def test_durations(seconds, text):
    assert duration(seconds) == text
