"""A chunked body is read in one way however it arrives. What goes on is in the one plain form, which is read as the
same again, and h11 finds the same content and the same end."""

from __future__ import annotations

import re

import h11

from atoll.wire.http1 import MAX_CHUNK_LINE, MAX_HEAD, MAX_TRAILERS, Chunks, Field, Malformed
from fuzz.cuts import cut
from fuzz.targets.http1_request import h11_finds

HEAD = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
PLAIN_SIZE = re.compile(rb"[1-9a-f][0-9a-f]*\r\n")

Outcome = tuple[bytes, bytes, bytes, list[Field], int]
"""Content, the same in chunks, what is not the body's, trailers, and why it ended: 1, 0 (not yet), a status."""


def check(data: bytes) -> None:
    outcome, again = read([data]), read(cut(data))
    assert outcome == again, (outcome, again)
    content, framed, rest, trailers, end = outcome
    if end == 1:
        assert read([framed]) == (content, framed, b"", trailers, 1)
        assert plain(framed) == content
        h11_agrees(data[: len(data) - len(rest)], content, trailers)


def read(pieces: list[bytes]) -> Outcome:
    bodies = Chunks(framed=False), Chunks(framed=True)
    content = framed = rest = b""
    for piece in pieces:
        try:
            (bare, left), (chunks, as_well) = bodies[0].take(piece), bodies[1].take(piece)
        except Malformed as error:
            return b"", b"", b"", [], error.status
        assert left == as_well
        assert bodies[0].trailers == bodies[1].trailers
        content, framed, rest = content + bare, framed + chunks, rest + left
        assert len(content) <= len(framed)
    return content, framed, rest, bodies[0].trailers, int(bodies[0].over)


def plain(framed: bytes) -> bytes:
    """In the most literal way."""
    content, at = b"", 0
    while (size := PLAIN_SIZE.match(framed, at)) is not None:
        end = size.end() + int(size[0], 16)
        content += framed[size.end() : end]
        assert framed[end : end + 2] == b"\r\n"
        at = end + 2
    assert framed.startswith(b"0\r\n", at)
    assert framed.endswith(b"\r\n")
    return content


def h11_agrees(raw: bytes, content: bytes, trailers: list[Field]) -> None:
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD + MAX_TRAILERS + MAX_CHUNK_LINE)
    connection.receive_data(HEAD + raw)
    assert isinstance(connection.next_event(), h11.Request)
    h11_finds(connection, content, trailers, raw)
