"""Frames are cut in one way however they arrive. A head of HTTP/2 that is let through is, written for HTTP/1.1, read as
the same request there; and so are answers and trailers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from hpack import Decoder
from hpack.exceptions import HPACKError

from atoll.wire.http1 import (
    Answer,
    Chunks,
    Field,
    Malformed,
    Request,
    answer_head,
    last_chunk,
    read_answer,
    read_request,
    request_head,
)
from atoll.wire.http2 import Frame, Frames, answer_of, request_of, trailers_of
from fuzz.cuts import cut

T = TypeVar("T")
SEPARATOR = b"\xff"
SHORT = {b"m": b":method", b"p": b":path", b"a": b":authority", b"s": b":status", b"l": b"content-length"}


def check(data: bytes) -> None:
    """The first byte says what comes: frames from one end or the other, fields in HPACK, or fields in plain words."""
    kind, data = sum(data[:1]) % 4, data[1:]
    if kind < 2:
        whole, again = frames([data], kind == 0), frames(cut(data), kind == 0)
        assert whole == again, (whole, again)
        return
    given = plain(data) if kind == 2 else packed(data)
    for ended in (False, True):
        check_request(given, ended)
    check_answer(given)
    check_trailers(given)


def frames(pieces: list[bytes], from_client: bool) -> tuple[list[Frame], bool]:
    """And whether the stream is given up."""
    cutter, found = Frames(from_client), list[Frame]()
    for piece in pieces:
        cutter.feed(piece)
        try:
            while (frame := cutter.next()) is not None:
                found.append(frame)
                assert frame.last_stream < 2**31
        except Malformed:
            return found, True
    return found, False


def plain(data: bytes) -> list[Field]:
    """A name and a value in turn."""
    words = data.split(SEPARATOR)
    return [(SHORT.get(name, name), value) for name, value in zip(words[::2], words[1::2], strict=False)]


def packed(data: bytes) -> list[Field]:
    try:
        return [(bytes(name), bytes(value)) for name, value in Decoder().decode(data, raw=True)]
    except (HPACKError, ValueError):
        return []


def attempt(read: Callable[[], T]) -> T | None:
    try:
        return read()
    except Malformed:
        return None


def check_request(given: list[Field], ended: bool) -> None:
    request = attempt(lambda: request_of(given, ended))
    if request is None:
        return
    fields = [(b"Host", request.host), *request.fields]
    if request.length is None:
        fields.append((b"Transfer-Encoding", b"chunked"))
    head = request_head(request.method, request.target, fields)
    again = read_request(head)
    assert isinstance(again, Request), head
    assert again.size == len(head)
    assert (again.method, again.target, again.host, again.length) == (
        *(request.method, request.target, request.host, request.length),
    )
    assert again.fields == fields[1:]
    assert (again.upgrade, again.named) == (b"", frozenset())


def check_answer(given: list[Field]) -> None:
    answer = attempt(lambda: answer_of(given))
    if answer is None:
        return
    fields = [field for field in answer.fields if field[0] != b"content-length"]
    again = read_answer(answer_head(answer.status, b"", fields), b"GET")
    assert isinstance(again, Answer)
    assert (again.status, again.fields) == (answer.status, fields)


def check_trailers(given: list[Field]) -> None:
    trailers = attempt(lambda: trailers_of(given))
    if trailers is None:
        return
    body = Chunks(framed=False)
    assert body.take(last_chunk(trailers)) == (b"", b"")
    assert body.over
    assert body.trailers == trailers
