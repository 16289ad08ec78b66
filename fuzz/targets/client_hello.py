"""A hello has one verdict however it arrives, and when it has a name OpenSSL reads the same one."""

from __future__ import annotations

import ssl
from contextlib import suppress

from atoll.wire.client_hello import MAX_HELLO, ClientHelloSniffer, Event, Tls
from atoll.wire.sniffing import NEED_MORE, OPAQUE, Malformed
from fuzz.cuts import cut


def check(data: bytes) -> None:
    outcome, again = verdict([data]), verdict(cut(data))
    assert outcome == again, (outcome, again)
    assert outcome is not NEED_MORE or len(data) <= MAX_HELLO
    if isinstance(outcome, Tls):
        heard = openssl_reads(data)
        assert heard is UNHEARD or heard == outcome.name, (outcome, heard)


def verdict(pieces: list[bytes]) -> Event:
    sniffer = ClientHelloSniffer()
    outcome: Event = NEED_MORE
    for piece in pieces:
        sniffer.receive(piece)
        latest = sniffer.next_event()
        assert latest is OPAQUE or latest is NEED_MORE or isinstance(latest, Tls | Malformed)
        assert outcome is NEED_MORE or latest == outcome, (outcome, latest)
        outcome = latest
    assert sniffer.take_rest() == b"".join(pieces)
    return outcome


UNHEARD = object()
"""OpenSSL refuses more hellos than we do: it looks at what is in them."""
_heard: list[str | None] = []


def _hear(_connection: object, name: str | None, _context: object) -> int:
    _heard.append(name and name.lower())
    return ssl.ALERT_DESCRIPTION_INTERNAL_ERROR


def _server() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.sni_callback = _hear
    return context


_SERVER = _server()


def openssl_reads(data: bytes) -> object:
    _heard.clear()
    incoming = ssl.MemoryBIO()
    incoming.write(data)
    with suppress(ssl.SSLError):
        _SERVER.wrap_bio(incoming, ssl.MemoryBIO(), server_side=True).do_handshake()
    return _heard[0] if _heard else UNHEARD
