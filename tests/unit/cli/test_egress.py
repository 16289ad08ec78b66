"""`atoll egress`: what it asks for and what it shows, with an API that is log."""

from __future__ import annotations

import json
from typing import Any

import click
import pytest
from click.testing import CliRunner

from atoll.cli import egress
from atoll.cli.egress import cells, columns, destination, duration
from atoll.cli.main import cli
from atoll.cli.render import amount
from atoll.sdk import EgressLog, NetworkError, NotFoundError, ServerError

BOX = "a" * 20
PATH = f"/v1/sandboxes/{BOX}"

BASE = {"at": 1_700_000_000.4, "sandbox_id": "a" * 20, "verdict": "allowed", "rule": "default"}
CONNECTION = {**BASE, "seq": 1, "kind": "connection", "protocol": "tcp", "address": "203.0.113.10", "port": 443,
              "bytes_out": 12, "bytes_in": 3400, "duration_s": 0.25}  # fmt: skip
DENIED = {**CONNECTION, "seq": 2, "verdict": "denied", "rule": "blocklist: tcp/25", "port": 25}


class Log:
    """A log that is read as the real one; `asked` keeps the parameters."""

    def __init__(self, api, entries: list[dict[str, Any]]) -> None:
        self.entries = entries
        self.asked: list[dict[str, str]] = []
        api.on("GET", f"{PATH}/egress", self)
        api.answers("GET", f"{PATH}/egress/totals", {"connections": 3, "bytes_in": 70, "by_rule": {"default": 3}})
        self.run = api.run

    def __call__(self, asked) -> tuple[int, Any]:
        self.asked.append(asked.query)
        after, last = int(asked.query["after"]), len(self.entries)
        after = max(0, last + after) if after < 0 else after
        found = [entry for entry in self.entries if entry["seq"] > after][: int(asked.query["limit"])]
        return 200, {"entries": found, "cursor": found[-1]["seq"] if found else after}

    def shown(self, *words: str) -> list[str]:
        return self.run("egress", BOX, *words).stdout.splitlines()


@pytest.fixture
def log(api) -> Log:
    return Log(api, [CONNECTION, DENIED])


def test_there_is_no_heading_above_an_error(api):
    with pytest.raises(NotFoundError):
        api.run("egress", BOX)
    result = CliRunner().invoke(cli, ["egress", BOX, "--url", api.url, "--key", "k"])
    assert result.exit_code
    assert result.stdout == ""


def test_entries_are_lines_below_a_heading(log):
    heading, first, second = log.shown()
    assert heading.split() == ["TIME", "VERDICT", "WHAT", "DESTINATION", "OUT", "IN", "TOOK", "RULE"]
    assert first.split() == ["2023-11-14", "22:13:20Z", "allowed", "tcp", "203.0.113.10:443",
                             "12", "B", "3.4", "kB", "250", "ms", "default"]  # fmt: skip
    assert second.split()[2:4] == ["denied", "tcp"]
    assert second.endswith("blocklist: tcp/25")
    assert log.asked[0]["after"] == "-100"


def test_the_last_few_are_asked_for_from_the_end(log):
    assert len(log.shown("--last", "1")) == 2
    assert log.asked[0]["after"] == "-1"


def test_all_are_read_page_by_page(log, monkeypatch):
    monkeypatch.setattr(egress, "PAGE", 1)
    assert len(log.shown("--last", "0")) == 3
    assert [each["after"] for each in log.asked] == ["0", "1", "2"]


def test_refused_ones_are_counted_among_themselves(log):
    log.entries = [{**DENIED, "seq": 1}, {**DENIED, "seq": 2, "port": 26}, {**CONNECTION, "seq": 3}]
    assert [json.loads(line)["port"] for line in log.shown("--denied", "--last", "1", "--json")] == [26]


def test_json_is_an_entry_a_line(log):
    assert [json.loads(line) for line in log.shown("--json")] == [CONNECTION, DENIED]


class Person:
    """Who presses Ctrl-C when nothing is said any more."""

    def __init__(self, *pages: Any) -> None:
        self.pages = list(pages)
        self.asked: list[tuple[int, int, float]] = []

    def get_egress_log(self, after: int = 0, limit: int = 100, wait: float = 0) -> EgressLog:
        self.asked.append((after, limit, wait))
        page = self.pages.pop(0) if self.pages else KeyboardInterrupt()
        if isinstance(page, BaseException):
            raise page
        return EgressLog(page, page[-1]["seq"] if page else after)


def test_following_goes_on_from_the_last_one_and_waits(monkeypatch):
    monkeypatch.setattr(egress, "PACE_S", 0)
    place = Person([CONNECTION], [], [{**CONNECTION, "seq": 2}], [], [{**CONNECTION, "seq": 3}])
    log = egress.Log(place, denied=False)
    assert [each["seq"] for each in log.last(0)] == [1]
    following = log.following()
    assert [next(following)["seq"], next(following)["seq"]] == [2, 3]
    with pytest.raises(KeyboardInterrupt):
        next(following)
    assert place.asked[2:] == [(1, 1000, 25), (2, 1000, 25), (2, 1000, 25), (3, 1000, 25)]


def test_following_waits_while_atoll_is_away(monkeypatch, capsys):
    monkeypatch.setattr(egress, "PACE_S", 0)
    place = Person(ServerError("no node"), NetworkError("nobody there"), [CONNECTION])
    assert next(egress.Log(place, denied=False).following()) == CONNECTION
    assert capsys.readouterr().err.count("trying again") == 1


def test_what_a_server_says_while_following_cannot_reach_the_terminal(monkeypatch, capsys):
    monkeypatch.setattr(egress, "PACE_S", 0)
    place = Person(ServerError("\x1b]0;a title\x07no\x9b31m node"), [CONNECTION])
    next(egress.Log(place, denied=False).following())
    assert capsys.readouterr().err.strip().isprintable()


def test_totals_are_a_list_of_figures(log):
    assert [line.split() for line in log.shown("--totals")] == [
        ["3", "connections"],
        ["70", "bytes", "in"],
        ["3", "default"],
    ]
    assert json.loads("\n".join(log.shown("--totals", "--json")))["by_rule"] == {"default": 3}


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


def test_questions_are_shown_by_the_name_of_their_protocol():
    asked = {**CONNECTION, "kind": "question", "name": "example.com", "detail": "A NOERROR"}
    assert cells(asked)[2:4] == ("dns", "example.com A NOERROR")
