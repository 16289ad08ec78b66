from __future__ import annotations

import math

import pytest

from atoll.wire.json_values import mapping, number, objects, text, texts

OTHERS = [None, True, 1, 1.5, "a", [], [1], {}, {"a": 1}]


@pytest.mark.parametrize("value", OTHERS, ids=repr)
def test_a_value_of_another_type_is_an_absent_one(value):
    assert text(value, "no") == (value if isinstance(value, str) else "no")
    assert mapping(value) == (value if isinstance(value, dict) else {})
    assert number(value, -1.0) == (value if type(value) in (int, float) else -1.0)


def test_of_a_list_those_of_the_type_are_taken():
    assert objects([{"a": 1}, 1, None]) == [{"a": 1}]
    assert texts(["a", 1, None]) == ["a"]


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, 10**400])
def test_what_no_float_can_be_is_no_number(value):
    assert number(value, -1.0) == -1.0
