"""Placeholders in headers: whatever else a request says stays as it was, and what leaves has a bound."""

from __future__ import annotations

import base64

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.core.policy import Transform
from atoll.core.secrets import new_placeholder
from atoll.egress.swaps import MAX_HEADERS, swapped
from atoll.egress.transform import Onward, Refused, onward

WORD, OTHER, STRANGE = (new_placeholder() for _ in range(3))
VALUE = "sk-välue"
SWAPS = ((WORD, VALUE), (OTHER, WORD))
RAW = VALUE.encode()


def basic(text: str) -> bytes:
    return b"Basic " + base64.b64encode(text.encode())


def done(name: str, value: bytes) -> bytes | None:
    found = swapped([(name.encode(), value)], SWAPS)
    return found[0][1] if found is not None else None


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("Authorization", f"Bearer {WORD}".encode(), b"Bearer " + RAW),
        ("X-Api-Key", WORD.encode(), RAW),
        ("Cookie", f"a=1; k={WORD}; b={WORD}".encode(), b"a=1; k=" + RAW + b"; b=" + RAW),
        ("Sec-WebSocket-Protocol", f"realtime, key.{WORD}".encode(), b"realtime, key." + RAW),
        ("Authorization", basic(f"ann:{WORD}"), basic(f"ann:{VALUE}")),
        ("authorization", b"bAsIc  " + basic(f"{WORD}:")[6:], b"bAsIc  " + basic(f"{VALUE}:")[6:]),
        ("X-Other", basic(f"ann:{WORD}"), basic(f"ann:{WORD}")),
        ("Authorization", basic(f"ann:{STRANGE}"), basic(f"ann:{STRANGE}")),
        ("Authorization", b"Basic not/base64/" + WORD.encode(), b"Basic not/base64/" + RAW),
        ("Authorization", b"Basic YWJjZB==", b"Basic YWJjZB=="),
        ("X", STRANGE.encode(), STRANGE.encode()),
        ("X", WORD[:-1].encode(), WORD[:-1].encode()),
        ("X", WORD.upper().encode(), WORD.upper().encode()),
        ("X", OTHER.encode(), WORD.encode()),
        ("X", b"", b""),
    ],
)  # fmt: skip
def test_a_placeholder_counts_wherever_it_stands_in_a_value_once(name, value, expected):
    assert done(name, value) == expected


headers = st.lists(st.tuples(st.binary(min_size=1, max_size=20), st.binary(max_size=200)), max_size=8)


@given(headers)
def test_whatever_has_no_placeholder_stays_as_it_was(given_headers):
    assert swapped(given_headers, SWAPS) == given_headers
    assert swapped(given_headers, ()) is given_headers


@given(st.lists(st.sampled_from([WORD, OTHER, STRANGE, "x", " ", "atoll_secret_"]), max_size=30))
def test_what_leaves_has_each_value_in_its_place(words):
    text = "".join(words).encode()
    expected = "".join({WORD: VALUE, OTHER: WORD}.get(word, word) for word in words).encode()
    found = done("X", text)
    assert found == (expected.strip(b" \t") if {WORD, OTHER} & set(words) else text)


@pytest.mark.parametrize("encode", [str.encode, basic])
def test_a_head_of_placeholders_does_not_become_a_flood(encode):
    swaps = ((WORD, "v" * 8192),)
    assert swapped([(b"Authorization", encode(WORD * 1000))], swaps) is None
    many = [(b"X", WORD.encode())] * (MAX_HEADERS // 8192 + 1)
    assert swapped(many, swaps) is None
    assert swapped(many[:10], swaps) is not None


def request(*lines: str) -> h11.Request:
    connection = h11.Connection(h11.SERVER)
    connection.receive_data("\r\n".join(("GET / HTTP/1.1", "Host: a.example", *lines, "", "")).encode())
    event = connection.next_event()
    assert isinstance(event, h11.Request)
    return event


def test_a_rules_header_goes_before_one_of_the_sandbox_with_a_placeholder():
    ruled = Transform("a.example", (("Authorization", "Bearer of-the-rule"),), SWAPS)
    found = onward(request(f"Authorization: Bearer {WORD}", f"X: {WORD}"), True, ruled)
    assert isinstance(found, Onward)
    said = {name.lower(): value for name, value in found.headers}
    assert said[b"authorization"] == b"Bearer of-the-rule"
    assert said[b"x"] == RAW
    assert VALUE not in repr(found)
    assert found.request()


def test_a_request_that_would_be_too_long_is_refused_without_a_word_of_the_value():
    found = onward(request(f"X: {WORD * 100}"), True, Transform("a.example", (), ((WORD, "v" * 8192),)))
    assert isinstance(found, Refused)
    assert "vv" not in found.why


def test_a_value_with_blanks_around_it_stays_one_header():
    found = onward(request(f"X: {WORD}"), True, Transform("a.example", (), ((WORD, " v "),)))
    assert isinstance(found, Onward)
    assert (b"X", b"v") in found.headers
    assert found.request()
