"""JSON whose length does not say what it costs."""

from __future__ import annotations

import json

import pytest

from atoll.wire.json_in import MAX_VALUES, load


@pytest.mark.parametrize(
    "raw",
    [
        b"[" + b"{}," * MAX_VALUES + b"{}]",
        b"[" + b'"",' * MAX_VALUES + b'""]',
        b"[" + b"1," * MAX_VALUES + b"1]",
        b"[" + b'"\\"",' * MAX_VALUES + b'""]',
        b'{"a":"\\\\"}' + b"[{}," * MAX_VALUES,
        b"[" + b'{"":0},' * (MAX_VALUES // 2) + b"0]",
        b'"' * (3 * MAX_VALUES) + b"," * MAX_VALUES + b",",
    ],
)
def test_what_has_too_many_values_is_not_read(raw):
    with pytest.raises(ValueError, match="values"):
        load(raw)


@pytest.mark.parametrize(
    "text",
    ["a,b{[" * MAX_VALUES, '",' * MAX_VALUES, "\\," * MAX_VALUES, '\\",' * MAX_VALUES, "ä,\n" * MAX_VALUES],
)
def test_texts_are_as_long_as_they_like(text):
    assert load(json.dumps({"content": text}).encode()) == {"content": text}


def test_values_up_to_the_bound_are_read():
    assert load(b"[" + b"1," * (MAX_VALUES - 2) + b"1]") == [1] * (MAX_VALUES - 1)


@pytest.mark.parametrize("raw", [b"[" * 100_000, b'{"a":', b"\xff", b"9" * 5000, b""])
def test_what_is_not_json(raw):
    with pytest.raises(ValueError):  # noqa: PT011 - the words are the library's
        load(raw)
