"""A stream of requests is read in one way however it arrives. What is let through, h11 takes too, and reads the same
line, fields, content and end in it; so does Node's parser, unless it refuses. Written again it is the same request."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import h11
import httptools

from atoll.wire.http1 import (
    MAX_CHUNK_LINE,
    MAX_HEAD,
    MAX_TRAILERS,
    NOT_IN_TRAILERS,
    Body,
    Chunks,
    Field,
    Malformed,
    Mark,
    Request,
    read_again,
    read_request,
    request_head,
)
from fuzz.cuts import cut


@dataclass
class Read:
    request: Request
    raw: bytes
    """As it arrived."""
    framed: bytes
    """Of the body, what goes on."""
    content: bytes
    trailers: list[Field]
    whole: bool


def check(data: bytes) -> None:
    reading, again = read_stream([data]), read_stream(cut(data))
    assert reading == again, (reading, again)
    for each in reading[0]:
        if each.whole:
            h11_agrees(each)
            node_agrees(each)
            assert_same_again(each)


def read_stream(pieces: list[bytes]) -> tuple[list[Read], int]:
    """And the status with which the stream is given up; 0: more is awaited."""
    found: list[Read] = []
    bodies: tuple[Body, Body] | None = None
    buffer = b""
    for piece in pieces:
        buffer += piece
        while True:
            try:
                if bodies is None:
                    request = read_head(buffer, [each.request for each in found])
                    if not isinstance(request, Request):
                        assert len(buffer) < MAX_HEAD
                        break
                    assert request == read_request(bytearray(buffer)) == read_request(buffer[: request.size])
                    found.append(Read(request, buffer[: request.size], b"", b"", [], whole=False))
                    buffer, bodies = buffer[request.size :], (request.body(), request.body(framed=False))
                rest = take(found[-1], bodies, buffer)
            except Malformed as error:
                return [*found[:-1], known_of(found[-1])] if bodies else found, error.status
            if not bodies[0].over:
                buffer = b""
                break
            buffer, bodies = rest, None
            found[-1].whole = True
    return found, 0


def read_head(buffer: bytes, before: list[Request]) -> Request | Mark:
    """As it is like an earlier one, or not, nothing else is read."""
    alike = [again for each in before[-3:] if (again := read_again(buffer, each)) is not None]
    request = read_request(buffer)
    assert all(again == request for again in alike), (alike, request)
    if isinstance(request, Request) and request.block:
        again = read_again(buffer, request)
        assert again == request
        assert again is not None
        assert again.block == request.block
    return request


def known_of(broken: Read) -> Read:
    """How much of the body was given on before the fault depends on the pieces."""
    return replace(broken, raw=b"", framed=b"", content=b"")


def take(read: Read, bodies: tuple[Body, Body], data: bytes) -> bytes:
    framed, rest = bodies[0].take(data)
    content, left = bodies[1].take(data)
    assert rest == left
    assert bodies[0].over == bodies[1].over == bodies[0].ended()
    assert bodies[0].over or not rest
    read.raw += data[: len(data) - len(rest)]
    read.framed += framed
    read.content += content
    if isinstance(bodies[1], Chunks):
        read.trailers = bodies[1].trailers
    return rest


def assert_same_again(read: Read) -> None:
    request = read.request
    fields = [(b"Host", request.host or b"a"), *request.fields]
    head = request_head(request.method, request.target, fields)
    (again,), status = read_stream([head + read.framed])
    assert status == 0
    assert again.whole
    assert (again.framed, again.content, again.trailers) == (read.framed, read.content, read.trailers)
    assert (again.request.host, again.request.length) == (fields[0][1], request.length)
    of_old = ("old", "expects", "upgrade", "keeps_alive") if request.old else ()
    for name in {"method", "target", "fields", "expects", "upgrade", "keeps_alive", "named"} - set(of_old):
        assert getattr(again.request, name) == getattr(request, name), name


FRAMING_BEHIND = re.compile(rb"\r\n(?:content-length|transfer-encoding):", re.IGNORECASE)


def passing(trailers: list[Field]) -> list[Field]:
    """By name; each as it was written."""
    return [
        (name, value)
        for name, value in trailers
        if (low := name.lower().replace(b"_", b"-")) not in NOT_IN_TRAILERS
        and low[:12] != b"x-forwarded-"
        and low[:8] != b"x-atoll-"
    ]


def h11_agrees(read: Read) -> None:
    request = read.request
    line, end, rest = read.raw.partition(b"\r\n")
    ascii_line = bytes(byte if byte < 0x80 else 0x78 for byte in line)  # it wants no others in a target
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD + MAX_TRAILERS + MAX_CHUNK_LINE)
    connection.receive_data(ascii_line + end + rest)
    head = connection.next_event()
    assert isinstance(head, h11.Request), head
    target = b"".join(ascii_line.split(b" ")[1:-1])
    assert (head.method, head.target, head.http_version) == (request.method, target, line[-3:])
    fields = [(name.lower(), value) for name, value in request.fields]
    assert [unified(each) for each in head.headers if each[0] != b"host"] == [unified(each) for each in fields]
    for name, host in head.headers:
        assert name != b"host" or host.lower() == request.host.lower()
    h11_finds(connection, read.content, read.trailers, read.raw[request.size :])


def h11_finds(connection: h11.Connection, content: bytes, trailers: list[Field], raw: bytes) -> None:
    """This body, and its end at the end of what it was given."""
    found = b""
    try:
        while not isinstance(event := connection.next_event(), h11.EndOfMessage):
            assert isinstance(event, h11.Data), event
            found += event.data
    except h11.RemoteProtocolError:
        assert FRAMING_BEHIND.search(raw), raw  # it looks into them, where we leave them out
    else:
        assert passing(list(event.headers)) == [(name.lower(), value) for name, value in trailers]
        assert connection.trailing_data[0] == b""
    assert found == content


def unified(field: Field) -> Field:
    return (field[0], field[1].lower()) if field[0] == b"transfer-encoding" else field


class _Node:
    def __init__(self) -> None:
        self.fields: list[Field] = []
        self.url = self.content = b""
        self.heads = self.over = 0

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.heads:
            self.fields.append((name, value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        self.heads += 1

    def on_body(self, data: bytes) -> None:
        self.content += data

    def on_message_complete(self) -> None:
        self.over += 1


def node_agrees(read: Read) -> None:
    """It knows fewer methods and refuses what we let through here and there; what it takes it has to take as we do."""
    seen = _Node()
    parser = httptools.HttpRequestParser(seen)
    try:
        parser.feed_data(read.raw)
    except httptools.HttpParserUpgrade:
        return  # to what we do not upgrade to, or before a body that it does not look at
    except httptools.HttpParserError:
        return
    assert (seen.heads, seen.over) == (1, 1), read.raw
    assert [each for each in seen.fields if each[0].lower() != b"host"] == read.request.fields
    assert seen.content == read.content
