from __future__ import annotations

import pytest

from atoll.core.egress import Entry, Kind, Outcome
from atoll.egress import totals as module
from atoll.egress.totals import Totals

ONE = "a" * 20
NOTHING = {"connections": 0, "failed": 0, "denied": 0, "questions": 0, "bytes_out": 0, "bytes_in": 0, "lost": 0}


def entry(kind: Kind, verdict: Outcome, rule: str = "default", sandbox_id: str = ONE) -> Entry:
    return Entry(1.0, sandbox_id, kind, verdict, rule, bytes_out=3, bytes_in=4)


@pytest.mark.parametrize(
    ("kind", "verdict", "changed"),
    [
        (Kind.CONNECTION, Outcome.ALLOWED, {"connections": 1, "bytes_out": 3, "bytes_in": 4}),
        (Kind.CONNECTION, Outcome.FAILED, {"connections": 1, "failed": 1, "bytes_out": 3, "bytes_in": 4}),
        (Kind.CONNECTION, Outcome.DENIED, {"denied": 1, "bytes_out": 3, "bytes_in": 4}),
        (Kind.REQUEST, Outcome.ALLOWED, {}),
        (Kind.REQUEST, Outcome.FAILED, {}),
        (Kind.REQUEST, Outcome.DENIED, {"denied": 1}),
        (Kind.QUESTION, Outcome.ALLOWED, {"questions": 1}),
        (Kind.QUESTION, Outcome.FAILED, {"questions": 1}),
        (Kind.QUESTION, Outcome.DENIED, {"questions": 1, "denied": 1}),
    ],
)
def test_what_counts_as_what(kind, verdict, changed):
    totals = Totals()
    totals.count(entry(kind, verdict))
    expected = {**NOTHING, **changed, "by_rule": {"default": 1}}
    assert totals.to_wire(ONE) == totals.to_wire() == expected


def test_events_are_not_traffic():
    totals = Totals()
    totals.count(entry(Kind.EVENT, Outcome.DENIED, "scan"))
    assert totals.to_wire() == {**NOTHING, "by_rule": {}}


def test_who_did_nothing_has_zeros():
    assert Totals().to_wire("z" * 20) == {**NOTHING, "by_rule": {}}


def test_rules_are_told_apart_for_one_and_by_kind_for_all():
    totals = Totals()
    for rule in ("allow_out: a.example", "allow_out: b.example", "never: private"):
        totals.count(entry(Kind.CONNECTION, Outcome.ALLOWED, rule))
    assert set(totals.to_wire(ONE)["by_rule"]) == {"allow_out: a.example", "allow_out: b.example", "never: private"}
    assert totals.to_wire()["by_rule"] == {"allow_out": 2, "never": 1}


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(module, "MAX_SANDBOXES", 3)
    totals = Totals()
    for number in range(2 * module.MAX_RULES):
        totals.count(entry(Kind.CONNECTION, Outcome.ALLOWED, f"allow_out: {number}"))
    by_rule = totals.to_wire(ONE)["by_rule"]
    assert by_rule["other"] == module.MAX_RULES
    assert len(by_rule) == module.MAX_RULES + 1
    for number in range(3):
        totals.count(entry(Kind.CONNECTION, Outcome.ALLOWED, sandbox_id=f"{number:020}"))
    assert totals.to_wire(ONE)["connections"] == 0
    assert totals.to_wire()["connections"] == 2 * module.MAX_RULES + 3
