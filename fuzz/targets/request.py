"""A stream of requests has one reading however it arrives, each byte is handed on once, and two other readers (h11 and
the parser of Node) find the same method, host and body in each request that is let through."""

from __future__ import annotations

import itertools
from urllib.parse import urlsplit

import h11
import httptools

from atoll.wire.request_sniff import (
    MAX_CHUNK_LINE,
    MAX_HEAD,
    MAX_TRAILERS,
    Body,
    Connect,
    Event,
    Request,
    RequestSniffer,
)
from atoll.wire.sniffing import END, NEED_MORE, OPAQUE, Malformed
from fuzz.cuts import cut


def check(data: bytes) -> None:
    reading, again = read([data]), read(cut(data))
    assert reading == again, (reading, again)
    if Body in map(type, reading):
        assert shape(reading) == shape(spliced(data))
    for request, raw in whole_requests(reading):
        h11_agrees(request, raw)
        node_agrees(request, raw)
        target_agrees(request)


def read(pieces: list[bytes]) -> list[Event]:
    """Bodies in one piece; a last event that is for good is there once."""
    sniffer = RequestSniffer()
    events: list[Event] = []
    for piece in pieces:
        sniffer.receive(piece)
        while (event := sniffer.next_event()) is not NEED_MORE:
            if is_last(event):
                assert sniffer.next_event() == event
                if not events or events[-1] != event:
                    events.append(event)
                break
            assert not (events and is_last(events[-1])), events
            add(events, event)
    held = sniffer.take_rest()
    assert b"".join(map(raw_of, events)) + held == b"".join(pieces)
    if not (events and is_last(events[-1])):
        assert len(held) <= max(MAX_HEAD, MAX_CHUNK_LINE, MAX_TRAILERS)
    return events


def is_last(event: Event) -> bool:
    return event is OPAQUE or isinstance(event, Connect | Malformed)


def raw_of(event: Event) -> bytes:
    return event.raw if isinstance(event, Request | Body) else b""


def add(events: list[Event], event: Event) -> None:
    if isinstance(event, Body) and events and isinstance(events[-1], Body):
        events[-1] = Body(events[-1].raw + event.raw)
    else:
        events.append(event)


def spliced(data: bytes) -> list[Event]:
    """What is known to be body goes past the sniffer."""
    sniffer = RequestSniffer()
    events: list[Event] = []
    at = 0
    while True:
        while (event := sniffer.next_event()) is not NEED_MORE:
            add(events, event)
            if is_last(event):
                return events
        if at == len(data):
            return events
        if ahead := min(sniffer.data_ahead, len(data) - at):
            sniffer.passed_by(ahead)
            add(events, Body(data[at : at + ahead]))
            at += ahead
        else:
            sniffer.receive(data[at : at + 1])
            at += 1


def shape(events: list[Event]) -> list[object]:
    return [event.raw if isinstance(event, Request | Body) else event for event in events]


def whole_requests(events: list[Event]) -> list[tuple[Request, bytes]]:
    found = []
    for at, event in enumerate(events):
        if isinstance(event, Request):
            rest = list(itertools.takewhile(lambda each: isinstance(each, Body), events[at + 1 :]))
            if events[at + 1 + len(rest) : at + 2 + len(rest)] == [END]:
                found.append((event, event.raw + b"".join(map(raw_of, rest))))
    return found


def h11_agrees(request: Request, raw: bytes) -> None:
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=2 * MAX_HEAD)
    connection.receive_data(raw)
    head = connection.next_event()
    assert isinstance(head, h11.Request), head
    assert head.method.decode() == request.method
    hosts = [value.decode("latin-1") for name, value in head.headers if name == b"host"]
    assert [bare(host) for host in hosts] == ([request.host or ""] if hosts else [])
    length = 0
    while not isinstance(event := connection.next_event(), h11.EndOfMessage):
        assert isinstance(event, h11.Data), event
        length += len(event.data)
    assert request.body_length is None or length == request.body_length
    assert connection.trailing_data[0] == b""


def bare(host: str) -> str:
    """Without a port, in the plainest way."""
    host = host.strip(" \t")
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower().removesuffix(".")


class _Node:
    def __init__(self) -> None:
        self.hosts: list[bytes] = []
        self.length = self.over = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"host":
            self.hosts.append(value)

    def on_body(self, data: bytes) -> None:
        self.length += len(data)

    def on_message_complete(self) -> None:
        self.over += 1


def node_agrees(request: Request, raw: bytes) -> None:
    """It knows fewer methods and refuses what we let through here and there; what it takes it has to take as we do."""
    seen = _Node()
    parser = httptools.HttpRequestParser(seen)
    try:
        parser.feed_data(raw)
    except httptools.HttpParserError:
        return
    except httptools.HttpParserUpgrade:
        assert request.upgrade or request.raw.split(b"\r\n")[0].endswith(b" HTTP/1.0")  # RFC 9110 has none in that
        return
    assert seen.over == 1, raw
    assert [bare(host.decode("latin-1")) for host in seen.hosts] == ([request.host or ""] if seen.hosts else [])
    assert request.body_length is None or seen.length == request.body_length


def target_agrees(request: Request) -> None:
    target = request.raw.split(b" ")[1].decode()
    if not target.startswith(("/", "*")):
        try:
            host = urlsplit(target).hostname
        except ValueError:
            return
        assert (host or "").removesuffix(".") == request.host
