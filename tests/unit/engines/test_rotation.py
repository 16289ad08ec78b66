from __future__ import annotations

import pytest

from atoll.engines.native.rotation import Limits, Use, Wear, due_at, unused

LIMITS = Limits(age_s=100, births=3, idle_s=10)


@pytest.mark.parametrize(
    ("births", "due"),
    [
        ([], None),
        ([50], 150),
        ([50, 60], 150),
        ([50, 60, 70], 50),  # at once
        ([50, 60, 70, 80], 50),
    ],
)
def test_zygotes_are_due_by_age_from_their_first_birth_or_at_once_by_number(births, due):
    wear = Wear()
    for now in births:
        wear = wear.after_birth(now)
    assert due_at(wear, LIMITS) == due


@pytest.mark.parametrize(
    ("uses", "idle", "again"),
    [
        ({}, set(), None),
        ({"a.1": Use(0, 0)}, set(), None),  # the only build stays, however long
        ({"a.1": Use(0, 0), "b.1": Use(50, 50)}, set(), None),  # so does each template's
        ({"a.1": Use(0, 0), "a.2": Use(50, 50)}, {"a.1"}, None),
        ({"a.1": Use(0, 0), "a.2": Use(95, 95)}, set(), 105),  # its time begins when it is superseded
        ({"a.1": Use(0, 97), "a.2": Use(50, 98)}, set(), 107),  # still in use
        ({"a.1": Use(0, 99), "a.2": Use(50, 60)}, {"a.2"}, None),  # the one used last stays, new or old
        ({"a.1": Use(0, 0), "a.2": Use(10, 91), "a.3": Use(20, 92)}, {"a.1"}, 101),
        ({"a.b.1": Use(0, 0), "a.2": Use(0, 99)}, set(), None),  # a name may have dots
    ],
)
def test_of_the_builds_of_a_template_the_one_used_last_keeps_its_zygotes(uses, idle, again):
    assert unused(uses, 100, LIMITS) == (idle, again)
