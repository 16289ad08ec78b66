"""Answers up to the one that counts are read in one way however they arrive. What is let through, h11 takes too, and
reads the same status, fields, content and end in it. Written again it is the same answer."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import h11

from atoll.wire.http1 import (
    MAX_CHUNK_LINE,
    MAX_HEAD,
    MAX_TRAILERS,
    Answer,
    Body,
    Chunks,
    Field,
    Malformed,
    answer_head,
    read_answer,
)
from fuzz.cuts import cut
from fuzz.targets.http1_request import h11_finds

METHODS = (b"GET", b"HEAD", b"POST")


@dataclass
class Read:
    answer: Answer
    framed: bytes = b""
    content: bytes = b""
    rest: bytes = b""
    over: bool = False
    may_end: bool = False
    trailers: list[Field] = field(default_factory=list)


def check(data: bytes) -> None:
    """The first byte says what was asked."""
    method, data = METHODS[sum(data[:1]) % len(METHODS)], data[1:]
    reading, again = read([data], method), read(cut(data), method)
    assert reading == again, (reading, again)
    answers, status = reading
    if status == 0 and answers:
        h11_agrees(data[: len(data) - len(answers[-1].rest)], answers, method)
        assert_same_again(answers, method)


def read(pieces: list[bytes], method: bytes) -> tuple[list[Read], int]:
    found: list[Read] = []
    bodies: tuple[Body, Body] | None = None
    buffer = b""
    for piece in pieces:
        buffer += piece
        try:
            while bodies is None and isinstance(answer := read_answer(buffer, method), Answer):
                assert answer == read_answer(bytearray(buffer[: answer.size]), method)
                found.append(Read(answer))
                buffer = buffer[answer.size :]
                if not answer.preliminary:
                    bodies = answer.body(), answer.body(framed=False)
            if bodies is not None:
                take(found[-1], bodies, buffer)
                buffer = b""
        except Malformed as error:
            return [replace(each, framed=b"", content=b"") for each in found], error.status
        assert len(buffer) < MAX_HEAD
    return found, 0


def take(read: Read, bodies: tuple[Body, Body], data: bytes) -> None:
    (framed, rest), (content, as_well) = bodies[0].take(data), bodies[1].take(data)
    assert rest == as_well
    read.framed, read.content, read.rest = read.framed + framed, read.content + content, read.rest + rest
    read.over, read.may_end = bodies[0].over, bodies[0].ended()
    assert read.may_end or not read.over
    if isinstance(bodies[1], Chunks):
        read.trailers = bodies[1].trailers


def assert_same_again(answers: list[Read], method: bytes) -> None:
    for read_before in answers:
        before = read_before.answer
        head = answer_head(before.status, before.reason, before.fields)
        (again,), status = read([head + read_before.framed], method)
        assert status == 0
        now = again.answer
        assert (now.status, now.reason, now.fields) == (before.status, before.reason, before.fields)
        assert (now.length, now.chunked, now.named, now.upgrade) == (
            *(before.length, before.chunked, before.named, before.upgrade),
        )
        assert (again.framed, again.content) == (read_before.framed, read_before.content)
        assert read_before.answer.preliminary or again.over == read_before.over


def h11_agrees(raw: bytes, answers: list[Read], method: bytes) -> None:
    client = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD + MAX_TRAILERS + MAX_CHUNK_LINE)
    asked = [("Host", "a"), ("Connection", "upgrade"), ("Upgrade", "websocket")]
    client.send(h11.Request(method=method, target="/", headers=asked))
    client.send(h11.EndOfMessage())
    client.receive_data(raw)
    for each in answers:
        event = client.next_event()
        assert isinstance(event, h11.Response | h11.InformationalResponse), event
        assert (event.status_code, event.reason) == (each.answer.status, each.answer.reason)
        assert [name for name, _ in event.headers] == [name.lower() for name, _ in each.answer.fields]
    last = answers[-1]
    if last.answer.status < 200:
        return
    if last.may_end:
        client.receive_data(b"")
    if last.may_end:
        h11_finds(client, last.content, last.trailers, raw)
        return
    content = b""
    while isinstance(event := client.next_event(), h11.Data):
        content += event.data
    assert event is h11.NEED_DATA
    assert content == last.content
