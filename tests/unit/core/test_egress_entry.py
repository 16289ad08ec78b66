from __future__ import annotations

import json

import pytest

from atoll.core.egress import Entry, Kind, NameSource, Outcome, shown

FULL = Entry(
    at=1700000000.123456,
    sandbox_id="sb-1",
    kind=Kind.REQUEST,
    verdict=Outcome.DENIED,
    rule="deny_out: 0.0.0.0/0",
    protocol="tcp",
    address="203.0.113.1",
    port=80,
    name="example.com",
    name_from=NameSource.HOST,
    bytes_out=10,
    bytes_in=20,
    duration_s=1.5,
    method="GET",
    path="/a",
    detail="d",
)
SMALL = Entry(at=1.0, sandbox_id="sb-1", kind=Kind.EVENT, verdict=Outcome.ALLOWED, rule="policy")


@pytest.mark.parametrize("entry", [FULL, SMALL])
def test_an_entry_survives_its_line(entry):
    assert Entry.from_wire(json.loads(json.dumps(entry.to_wire()))) == entry


def test_what_is_empty_is_left_out():
    assert SMALL.to_wire() == {
        "at": 1.0, "sandbox_id": "sb-1", "kind": "event", "verdict": "allowed", "rule": "policy"
    }  # fmt: skip


def test_a_connection_always_says_how_much_and_how_long():
    entry = Entry(at=1.0, sandbox_id="s", kind=Kind.CONNECTION, verdict=Outcome.DENIED, rule="r", duration_s=0.00049)
    assert {"bytes_out": 0, "bytes_in": 0, "duration_s": 0.0}.items() <= entry.to_wire().items()


def test_fields_of_a_later_version_are_not_looked_at():
    assert Entry.from_wire(SMALL.to_wire() | {"new": 1}) == SMALL


@pytest.mark.parametrize("field", ["kind", "verdict"])
def test_a_line_of_an_unknown_kind_is_refused(field):
    with pytest.raises(ValueError, match="'odd' is not a valid"):
        Entry.from_wire(SMALL.to_wire() | {field: "odd"})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("a\r\nb\x00c\x1b[31m\x7f", "a??b?c?[31m?"),
        ("\u202egnp.exe\u2028", "?gnp.exe?"),
        ("\ud800", "?"),
        ("é", "é"),
        ("x" * 300, "x" * 255),
    ],
)
def test_text_of_a_sandbox_is_bounded_and_printable(text, expected):
    assert shown(text) == expected
