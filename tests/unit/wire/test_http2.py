"""Heads and frames of HTTP/2; what any bytes may do is in fuzz/targets/http2_head.py."""

from __future__ import annotations

import pytest

from atoll.wire.http1 import Malformed
from atoll.wire.http2 import PREFACE, Frames, Kind, answer_of, request_of, trailers_of

HEAD = [(b":method", b"POST"), (b":scheme", b"https"), (b":authority", b"a.test"), (b":path", b"/b?c")]


def frame(kind: int, body: bytes = b"", stream: int = 0, flags: int = 0) -> bytes:
    return len(body).to_bytes(3) + bytes((kind, flags)) + stream.to_bytes(4) + body


def cut(*pieces: bytes, from_client: bool = False) -> list[int]:
    frames, kinds = Frames(from_client), []
    for piece in pieces:
        frames.feed(piece)
        while (found := frames.next()) is not None:
            kinds.append(found.kind)
    return kinds


def test_a_request():
    request = request_of(
        [*HEAD, (b"cookie", b"a=1"), (b"x-a", b"b"), (b"cookie", b""), (b"cookie", b"c=2")], ended=False
    )
    assert (request.method, request.target, request.host, request.length) == (b"POST", b"/b?c", b"a.test", None)
    assert request.fields == [(b"x-a", b"b"), (b"cookie", b"a=1; c=2")]
    assert request_of(HEAD, ended=True).length == 0
    assert request_of([*HEAD, (b"content-length", b"5")], ended=False).length == 5


@pytest.mark.parametrize("length", [b"05", b"+5", b"5,5", b"", b"9" * 19])
def test_a_length_is_as_strict_as_in_http_1(length):
    with pytest.raises(Malformed, match="one number"):
        request_of([*HEAD, (b"content-length", length)], ended=False)


def test_many_cookies_are_one_field_and_many_fields_are_too_many():
    assert len(request_of([*HEAD, *[(b"cookie", b"a=1")] * 500], ended=True).fields) == 1
    with pytest.raises(Malformed) as raised:
        request_of([*HEAD, *[(b"x-a", b"1")] * 201], ended=True)
    assert raised.value.status == 431


def test_cookies_of_an_answer_are_as_many_fields_as_they_are():
    many = [(b"cookie", b"a=1")] * 199
    for read in (lambda: answer_of([(b":status", b"200"), *many]), lambda: trailers_of(many)):
        with pytest.raises(Malformed) as raised:
            read()
        assert raised.value.status == 431


@pytest.mark.parametrize("more", [(b":path", b"/x"), (b":authority", b"b.test")])
def test_pseudo_headers_are_there_once_and_first(more):
    with pytest.raises(Malformed, match="pseudo"):
        request_of([*HEAD, more], ended=True)
    with pytest.raises(Malformed, match="pseudo"):
        request_of([*HEAD[:3], (b"x-a", b"b"), HEAD[3]], ended=True)


@pytest.mark.parametrize("status", [b"101", b"20", b"600", b"abc", b""])
def test_a_status_is_one(status):
    with pytest.raises(Malformed, match="status"):
        answer_of([(b":status", status)])


def test_trailers_say_nothing_that_only_we_say():
    ours = [b"host", b"x_forwarded_for", b"x-atoll-a", b"x_api_key", b"content-type", b"grpc-status"]
    assert trailers_of([(name, b"1") for name in ours]) == [(b"grpc-status", b"1")]


def test_frames_come_one_at_a_time_however_they_arrive():
    data = PREFACE + frame(Kind.SETTINGS) + frame(Kind.PING, bytes(8)) + frame(0x42, b"abc")
    kinds = [Kind.SETTINGS, Kind.PING, 0x42]
    assert cut(data, from_client=True) == kinds
    assert cut(*(data[at : at + 1] for at in range(len(data))), from_client=True) == kinds


@pytest.mark.parametrize(
    ("data", "from_client"),
    [
        (b"GET / HTTP/1.1\r\n", True),
        (b"HTTP/1.1 400 Bad", False),
        (frame(Kind.PING, bytes(8)), False),
        (frame(Kind.SETTINGS, flags=1), False),
        (frame(Kind.SETTINGS) + b"\xff\xff\xff\0\0\0\0\0\1", False),
        (frame(Kind.SETTINGS) + frame(Kind.HEADERS, bytes(9999)) + frame(Kind.CONTINUATION, bytes(9999)) * 6, False),
        (frame(Kind.SETTINGS) + frame(Kind.GOAWAY, bytes(4)), False),
    ],
)  # fmt: skip
def test_what_is_no_frame_is_not_awaited(data, from_client):
    with pytest.raises(Malformed):
        cut(data, from_client=from_client)


def test_settings_that_nobody_knows_are_left_out():
    frames = Frames(from_client=False)
    known, unknown = b"\0\4\0\0\1\0", b"\x1a\x2a\0\0\0\0"
    frames.feed(frame(Kind.SETTINGS, unknown + known + unknown))
    found = frames.next()
    assert found is not None
    assert found.raw == frame(Kind.SETTINGS, known)
