"""Connect's envelopes, errors and deadlines, and protobuf's JSON, as bytes and values."""

from __future__ import annotations

import json
import random

import pytest

from atoll.wire import connect, proto_json
from atoll.wire.connect import Code, ConnectError, EnvelopeReader


def read(data: bytes, sizes: list[int], limit: int = connect.MAX_MESSAGE) -> list[connect.Envelope]:
    reader, found, at = EnvelopeReader(limit), [], 0
    for size in sizes:
        found += reader.feed(data[at : at + size])
        at += size
    assert reader.at_boundary()
    return found


@pytest.mark.parametrize("seed", range(20))
def test_envelopes_are_the_same_however_they_arrive(seed):
    rng = random.Random(seed)
    payloads = [bytes(rng.randrange(256) for _ in range(rng.choice((0, 1, 5, 700)))) for _ in range(12)]
    data = b"".join(map(connect.envelope, payloads)) + connect.end()
    sizes = []
    while sum(sizes) < len(data):
        sizes.append(rng.choice((1, 2, 5, 64, 4096)))
    found = read(data, sizes)
    assert [each.payload for each in found[:-1]] == payloads
    assert [each.is_end for each in found] == [False] * 12 + [True]


def test_the_form_on_the_wire():
    assert connect.message({"a": 1}) == b'\x00\x00\x00\x00\x07{"a":1}'
    assert connect.end() == b"\x02\x00\x00\x00\x02{}"
    (said,) = read(connect.end(ConnectError(Code.NOT_FOUND, "no")), [100])
    assert said.is_end
    assert json.loads(said.payload) == {"error": {"code": "not_found", "message": "no"}}


@pytest.mark.parametrize(
    ("head", "code"),
    [
        (b"\x01\x00\x00\x00\x01x", Code.UNIMPLEMENTED),
        (b"\x03\x00\x00\x00\x01x", Code.UNIMPLEMENTED),
        (b"\x04\x00\x00\x00\x01x", Code.INVALID_ARGUMENT),
        (b"\x80\x00\x00\x00\x01x", Code.INVALID_ARGUMENT),
        (b"\x00\x00\x00\x00\x0bx", Code.RESOURCE_EXHAUSTED),
        (b"\x00\xff\xff\xff\xffx", Code.RESOURCE_EXHAUSTED),
    ],
)
def test_what_is_no_envelope_of_ours_is_refused_by_its_head_alone(head, code):
    reader = EnvelopeReader(10)
    with pytest.raises(ConnectError) as refused:
        list(reader.feed(connect.message({}) + head))
    assert refused.value.code is code


def test_half_an_envelope_is_no_end():
    reader = EnvelopeReader()
    assert list(reader.feed(connect.message({})[:-1])) == []
    assert not reader.at_boundary()
    assert reader.held == 6


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, None),
        ("", None),
        ("0", None),
        ("1", 0.001),
        (" 60000 ", 60.0),
        ("500.5", 0.5005),
        ("9999999999", 9999999.999),
    ],
)
def test_deadlines(text, seconds):
    assert connect.deadline_of(text) == seconds


@pytest.mark.parametrize(
    "text", ["-1", "1.", ".5", "1.5.5", "12345678901", "1.12345678901", "1e3", "0x1", "٣", "1 2", "2\x1d"]
)
def test_what_is_no_deadline(text):
    with pytest.raises(ConnectError, match="Connect-Timeout-Ms"):
        connect.deadline_of(text)


def test_every_code_has_a_status():
    assert connect.HTTP_STATUS.keys() == set(Code)
    assert ConnectError(Code.CANCELED, "").status == 499


@pytest.mark.parametrize("raw", [b"[]", b"1", b"{", b"\xff", b"[" * 100_000, b'{"a":' + b"9" * 5000 + b"}"])
def test_what_is_no_message(raw):
    with pytest.raises(ConnectError) as refused:
        connect.parse(raw)
    assert refused.value.code is Code.INVALID_ARGUMENT


def test_an_empty_body_is_an_empty_message():
    assert connect.parse(b"") == connect.parse(b" \n") == connect.parse(b"{ }") == {}


# ---- protobuf's JSON


def test_fields_have_two_names_and_null_is_absent():
    for message in ({"includeEntry": True}, {"include_entry": True}, {"includeEntry": None, "include_entry": True}):
        assert proto_json.boolean(message, "includeEntry") is True
    assert proto_json.boolean({"stdin": None}, "stdin", otherwise=True) is True
    assert proto_json.text({}, "path") == ""
    assert proto_json.optional_text({"tag": None}, "tag") is None
    assert not proto_json.has({"pid": None}, "pid")


@pytest.mark.parametrize(("value", "number"), [(7, 7), ("7", 7), (7.0, 7), ("007", 7), (0, 0), (2**32 - 1, 2**32 - 1)])
def test_numbers_come_as_numbers_or_texts(value, number):
    assert proto_json.whole({"n": value}, "n") == number


@pytest.mark.parametrize("value", [True, 1.5, -1, 2**32, "x", "1.0", [1], {}, float("inf"), float("nan"), "9" * 30])
def test_what_is_no_number(value):
    with pytest.raises(ConnectError, match="'n' must be a whole number"):
        proto_json.whole({"n": value}, "n")


@pytest.mark.parametrize("text", ["+/8=", "+/8", "-_8=", "-_8"])
def test_base64_in_either_alphabet(text):
    assert proto_json.blob({"data": text}, "data") == b"\xfb\xff"


@pytest.mark.parametrize("value", ["a", "a b=", "ä", "====a", "AA\n=", 5])
def test_what_is_no_base64(value):
    with pytest.raises(ConnectError):
        proto_json.blob({"data": value}, "data")


def test_an_enum_comes_by_name_or_by_number():
    names = {"SIGNAL_SIGKILL": 9}
    assert [proto_json.choice({"s": value}, "s", names) for value in ("SIGNAL_SIGKILL", 9, "9", None, 3)] == [
        9,
        9,
        9,
        0,
        3,
    ]
    with pytest.raises(ConnectError):
        proto_json.choice({"s": "SIGNAL_OTHER"}, "s", names)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: proto_json.text({"x": 1}, "x"),
        lambda: proto_json.text({"x": "\ud800"}, "x"),
        lambda: proto_json.texts({"x": ["a", 1]}, "x"),
        lambda: proto_json.texts({"x": "a"}, "x"),
        lambda: proto_json.text_map({"x": {"a": None}}, "x"),
        lambda: proto_json.text_map({"x": {"\ud800": "a"}}, "x"),
        lambda: proto_json.part({"x": []}, "x"),
        lambda: proto_json.boolean({"x": 1}, "x"),
    ],
)
def test_a_field_of_another_type_is_named(wrong):
    with pytest.raises(ConnectError, match="'x' must be"):
        wrong()


def test_times():
    assert proto_json.timestamp(1_700_000_000) == "2023-11-14T22:13:20.000000Z"
    assert proto_json.timestamp(1e30).startswith("9999-12-31")
    assert proto_json.timestamp(-1e30).startswith("1970-01-01")
    assert proto_json.timestamp(float("nan")).startswith("9999-12-31")
