"""A connection to a name that has header rules: its TLS ends here, its requests get their headers and leave to the
name over a connection of our own, whose certificate is checked.

One connection onward for one of the sandbox's, made at its first request; they end together. Bodies pass piece by
piece in both directions at once, so whoever is slow slows the other. After a 101 only bytes are copied.

The values of rules and secrets stand in the bytes that leave and nowhere else: in no error, no answer, no log.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum, auto

import h11

from atoll.core.errors import AtollError, PermissionDenied
from atoll.core.policy import Transform

from .authority import Authority
from .http_side import Event, Gone, NotHttp, Side
from .streams import PIECE, PlainStream, Stream, TlsStream, join
from .transform import Onward, Refused, answer_headers, is_strict, onward, trailers

PROTOCOLS = ("http/1.1",)
MAX_TALKS, MAX_TALKS_OF_ONE, TALKS_PART = 2048, 256, 8  # for `shares.Places`; one is about 110 KiB
HANDSHAKE_S = 10.0
HEAD_S = 30.0  # from the first byte of a request to the end of its head
KEPT_S = 300.0  # between requests
LATE_BODY_S = 30.0  # for the rest of a request that is answered already
LINGER_S = 2.0  # for the peer to take the last words before a close that might overtake them
MAX_LINGER = 1024 * 1024


@dataclass(frozen=True)
class Visit:
    sock: socket.socket
    """The sandbox's side; taken over."""
    received: bytes
    """What was read from it already."""
    tls: bool
    transform: Transform
    dial: Callable[[], Awaitable[socket.socket | Stream]]
    """To the transform's name. `PermissionDenied`: the sandbox may not; other errors: not now."""
    on_request: Callable[[str, str], None] = lambda method, path: None
    """Method, and path without the query."""


class End(Enum):
    DONE = auto()
    FAILED = auto()
    """Allowed, and the name did not answer as it should."""
    MALFORMED = auto()
    """What the sandbox sent is no request for this name."""
    DENIED = auto()


@dataclass(frozen=True)
class Carried:
    end: End
    detail: str = ""
    bytes_out: int = 0
    """On the wire to the name."""
    bytes_in: int = 0
    rule: str = ""
    """Of a denial, as whoever dialled has it."""


class _Stop(Exception):
    """The conversation is cut."""

    def __init__(self, end: End, detail: str, rule: str = "") -> None:
        super().__init__(detail)
        self.end, self.detail, self.rule = end, detail, rule


class _NotReached(Exception):
    """No connection onward; the sandbox is told why."""


async def serve(visit: Visit, authority: Authority, upstream_tls: ssl.SSLContext) -> Carried:
    """Until the connection is over. Cancelled, it is reset on both sides. `upstream_tls` is for `PROTOCOLS`."""
    talk = _Talk(visit, upstream_tls)
    clean = False
    try:
        await talk.run(authority)
        clean = True
    except _Stop as stop:
        talk.end, talk.detail, talk.rule = stop.end, stop.detail, stop.rule
    finally:
        talk.close(clean)
    return talk.carried()


class _Talk:
    def __init__(self, visit: Visit, upstream_tls: ssl.SSLContext) -> None:
        self._visit = visit
        self._upstream_tls = upstream_tls
        self._stream: Stream = PlainStream(visit.sock, visit.received)
        self._client: Side | None = None
        self._upstream: Side | None = None
        self.end, self.detail, self.rule = End.DONE, "", ""

    def carried(self) -> Carried:
        if self._upstream is None:
            return Carried(self.end, self.detail, rule=self.rule)
        stream = self._upstream.stream
        return Carried(self.end, self.detail, stream.bytes_out, stream.bytes_in, self.rule)

    def close(self, clean: bool) -> None:
        for side in (self._client or self._stream, self._upstream):
            if side is not None:
                side.close() if clean else side.abort()

    async def run(self, authority: Authority) -> None:
        if self._visit.tls:
            self._stream = await self._accept(authority)
        self._client = client = Side(self._stream, h11.SERVER)
        while (request := await self._request(client)) is not None:
            try:
                upstream = self._upstream = self._upstream or await self._reach()
            except _NotReached as error:
                self.end, self.detail = End.FAILED, str(error)
                await self._say_not_reached(client, request, str(error))
                break
            if not await self._exchange(client, upstream, request):
                break
        await asyncio.gather(*(_leave(side) for side in (client, self._upstream) if side is not None))

    async def _accept(self, authority: Authority) -> TlsStream:
        stream = TlsStream(self._stream, authority.context(self._visit.transform.name))
        try:
            async with asyncio.timeout(HANDSHAKE_S):
                await stream.handshake()
        except (OSError, ssl.SSLError) as error:
            raise _Stop(End.DONE, f"the sandbox ended the TLS handshake: {_tls_reason(error)}") from error
        return stream

    # ---- requests

    async def _request(self, client: Side) -> Onward | None:
        """None: the client has left, or what is onward has."""
        try:
            if not await self._next_begins(client):
                return None
            async with asyncio.timeout(HEAD_S):
                event = await self._head(client)
        except Gone:
            return None
        except TimeoutError as error:
            raise _Stop(End.MALFORMED, "a request that does not end") from error
        except NotHttp as error:
            raise _Stop(End.MALFORMED, "no request of HTTP/1.1") from error
        if not isinstance(event, h11.Request):
            return None
        found = onward(event, self._visit.tls, self._visit.transform)
        if isinstance(found, Refused):
            raise _Stop(End.MALFORMED, found.why)
        self._visit.on_request(found.method.decode(), found.path)
        return found

    async def _head(self, client: Side) -> Event:
        while True:
            if not is_strict(client.unread()):
                raise NotHttp
            if (event := client.ready()) is not None:
                return event
            await client.fill()

    async def _next_begins(self, client: Side) -> bool:
        """Something of a request is there before what is onward ends, and before long."""
        if client.unread():
            return True
        awaited = {client.look_ahead()}
        if self._upstream is not None:
            awaited.add(self._upstream.look_ahead())
        done, _ = await asyncio.wait(awaited, timeout=KEPT_S, return_when=asyncio.FIRST_COMPLETED)
        return client.look_ahead() in done and (self._upstream is None or self._upstream.look_ahead() not in done)

    async def _exchange(self, client: Side, upstream: Side, request: Onward) -> bool:
        """Whether the connection goes on."""
        try:
            upstream.say(request.request())
            await upstream.flush()
        except Gone as error:
            raise _Stop(End.FAILED, "closed while a request was on its way") from error
        except h11.LocalProtocolError:
            raise _Stop(End.MALFORMED, "a request that cannot be passed on") from None
        sending = asyncio.ensure_future(self._send_body(client, upstream))
        answering = asyncio.ensure_future(self._pass_answer(client, upstream))
        try:
            await self._both(client, sending, answering)
        finally:
            for task in (sending, answering):
                task.cancel()
            await asyncio.gather(sending, answering, return_exceptions=True)
        if answering.result():
            await self._switch(client, upstream)
            return False
        if client.http.our_state is not h11.DONE or client.http.their_state is not h11.DONE:
            return False
        if upstream.http.our_state is not h11.DONE or upstream.http.their_state is not h11.DONE:
            return False
        client.http.start_next_cycle()
        upstream.http.start_next_cycle()
        return True

    async def _both(self, client: Side, sending: asyncio.Task[None], answering: asyncio.Task[bool]) -> None:
        """Until the answer is through. A client that leaves meanwhile ends it, as far as that can be seen."""
        await asyncio.wait((sending, answering), return_when=asyncio.FIRST_COMPLETED)
        if sending.done():
            sending.result()
            if not client.stream.half_open and not client.unread():
                leaving = client.look_ahead()
                await asyncio.wait((leaving, answering), return_when=asyncio.FIRST_COMPLETED)
                if leaving.done() and not answering.done() and (leaving.exception() or not leaving.result()):
                    raise _Stop(End.DONE, "the sandbox left before the answer")
        await answering
        if not sending.done():
            await asyncio.wait((sending,), timeout=LATE_BODY_S)

    async def _send_body(self, client: Side, upstream: Side) -> None:
        deaf = False
        try:
            while True:
                event = client.ready()
                if event is None:
                    deaf = deaf or not await _flushed(upstream)
                    await client.fill()
                    continue
                if not deaf:
                    self._say_body(upstream, event)
                    deaf = not await _flushed(upstream, PIECE)
                await client.pause()
                if isinstance(event, h11.EndOfMessage):
                    await _flushed(upstream)
                    return
                if not isinstance(event, h11.Data):
                    raise _Stop(End.MALFORMED, "a request whose body does not end")
        except Gone as error:
            raise _Stop(End.DONE, "the sandbox left in the middle of a request") from error
        except NotHttp as error:
            raise _Stop(End.MALFORMED, "a request whose body is not what its head says") from error
        except h11.LocalProtocolError:
            raise _Stop(End.FAILED, "the rest of a request could not be passed on") from None

    def _say_body(self, upstream: Side, event: object) -> None:
        if isinstance(event, h11.Data):
            upstream.say(h11.Data(data=event.data))
        elif isinstance(event, h11.EndOfMessage):
            upstream.say(h11.EndOfMessage(headers=trailers(event.headers, self._visit.transform.headers)))

    # ---- answers

    async def _pass_answer(self, client: Side, upstream: Side) -> bool:
        """Whether both now speak another protocol."""
        try:
            while True:
                event = upstream.ready()
                if event is None:
                    await _heard(client)
                    await upstream.fill()
                    continue
                if isinstance(event, h11.InformationalResponse):
                    self._say_interim(client, event)
                    if event.status_code == 101:
                        await _heard(client)
                        return True
                elif isinstance(event, h11.Response):
                    client.say(
                        h11.Response(status_code=event.status_code, headers=answer_headers(event), reason=event.reason)
                    )
                elif isinstance(event, h11.Data):
                    client.say(h11.Data(data=event.data))
                    await _heard(client, PIECE)
                elif isinstance(event, h11.EndOfMessage):
                    client.say(h11.EndOfMessage(headers=self._answer_trailers(client, event)))
                    await _heard(client)
                    return False
                else:
                    raise _Stop(End.FAILED, "closed without an answer")
                await upstream.pause()
        except Gone as error:
            raise _Stop(End.FAILED, "closed in the middle of an answer") from error
        except (NotHttp, h11.LocalProtocolError):
            raise _Stop(End.FAILED, "the answer is not HTTP/1.1") from None

    def _say_interim(self, client: Side, event: h11.InformationalResponse) -> None:
        if client.http.their_http_version == b"1.1":
            client.say(
                h11.InformationalResponse(
                    status_code=event.status_code, headers=answer_headers(event), reason=event.reason
                )
            )

    def _answer_trailers(self, client: Side, event: h11.EndOfMessage) -> list[tuple[bytes, bytes]]:
        return trailers(event.headers) if client.http.their_http_version == b"1.1" else []

    async def _switch(self, client: Side, upstream: Side) -> None:
        try:
            for source, target in ((client, upstream), (upstream, client)):
                if data := source.unread():
                    await target.write(data)
            await join(client, upstream)
        except Gone as error:
            raise _Stop(End.DONE, "cut after the change of protocol") from error

    # ---- onward

    async def _reach(self) -> Side:
        if missing := self._visit.transform.missing:
            raise _NotReached(f"its header rule refers to a secret that is not there or may not go there: {missing[0]}")
        try:
            dialled = await self._visit.dial()
        except PermissionDenied as error:
            raise _Stop(End.DENIED, error.message, str(error.details.get("rule", ""))) from error
        except AtollError as error:
            raise _NotReached(error.message) from error
        stream: Stream = PlainStream(dialled) if isinstance(dialled, socket.socket) else dialled
        self._upstream = side = Side(stream, h11.CLIENT)  # closed with the talk, whatever becomes of the handshake
        if self._visit.tls:
            side.stream = tls = TlsStream(stream, self._upstream_tls, self._visit.transform.name)
            try:
                async with asyncio.timeout(HANDSHAKE_S):
                    await tls.handshake()
            except (OSError, ssl.SSLError) as error:
                raise _NotReached(_tls_reason(error)) from error
        return side

    async def _say_not_reached(self, client: Side, request: Onward, why: str) -> None:
        text = f"Atoll: {self._visit.transform.name} could not be reached: {why}\n".encode(errors="replace")
        headers = [
            (b"Content-Type", b"text/plain; charset=utf-8"),
            (b"Content-Length", str(len(text)).encode()),
            (b"Connection", b"close"),
        ]
        client.say(h11.Response(status_code=502, headers=headers, reason=b"Bad Gateway"))
        if request.method != b"HEAD":
            client.say(h11.Data(data=text))
        client.say(h11.EndOfMessage())
        with contextlib.suppress(_Stop):
            await _heard(client)


async def _heard(client: Side, at_least: int = 0) -> None:
    try:
        await client.flush(at_least)
    except Gone as error:
        raise _Stop(End.DONE, "the sandbox left in the middle of an answer") from error


async def _flushed(upstream: Side, at_least: int = 0) -> bool:
    """False: nobody hears the request any more; its answer may still come."""
    try:
        await upstream.flush(at_least)
    except Gone:
        return False
    return True


async def _leave(side: Side) -> None:
    """A close with something unread would reset the connection, and the last words with it. And they are counted."""
    with contextlib.suppress(Gone, TimeoutError):
        async with asyncio.timeout(LINGER_S):
            await side.finish()
            left = MAX_LINGER
            while left > 0 and (data := await side.read()):
                left -= len(data)


def _tls_reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate was not accepted: {error.verify_message}"
    if isinstance(error, TimeoutError):
        return "the TLS handshake takes too long"
    if isinstance(error, ssl.SSLError):
        return f"no TLS: {(error.reason or 'the connection was closed').lower().replace('_', ' ')}"
    return f"no TLS: {error.strerror or 'the connection was closed'}"
