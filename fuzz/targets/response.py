"""The head of an answer has one reading however it arrives, and h11 finds the same status."""

from __future__ import annotations

import h11

from atoll.wire.request_sniff import MAX_HEAD, Response, ResponseSniffer
from atoll.wire.sniffing import NEED_MORE, Malformed, Mark
from fuzz.cuts import cut


def check(data: bytes) -> None:
    found, again = outcome([data]), outcome(cut(data))
    assert found == again, (found, again)
    if isinstance(found, Response):
        h11_agrees(found, data)


def outcome(pieces: list[bytes]) -> Response | Malformed | Mark:
    sniffer = ResponseSniffer()
    found: Response | Malformed | Mark = NEED_MORE
    for piece in pieces:
        sniffer.receive(piece)
        latest = sniffer.next_event()
        assert found is NEED_MORE or latest == found
        found = latest
    return found


def h11_agrees(response: Response, data: bytes) -> None:
    """It refuses more; it knows no 101 without having been asked."""
    client = h11.Connection(h11.CLIENT, max_incomplete_event_size=2 * MAX_HEAD)
    asked = [("Host", "a"), ("Connection", "upgrade"), ("Upgrade", "websocket")]
    client.send(h11.Request(method="GET", target="/", headers=asked))
    client.send(h11.EndOfMessage())
    client.receive_data(data)
    try:
        event = client.next_event()
        while isinstance(event, h11.InformationalResponse) and event.status_code != 101:
            event = client.next_event()
    except h11.RemoteProtocolError:
        return
    if isinstance(event, h11.Response | h11.InformationalResponse):
        assert event.status_code == response.status, (event, response)
