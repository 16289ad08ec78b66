"""Plain HTTP: the head of every request is read and judged before it is sent on; bodies pass, answers are not read.

All requests of one connection are for one name, whose server it is connected to; one for another name that is allowed
ends the connection after what is outstanding, and the client comes again. The first request may ask for another
protocol: then nothing follows it before the answer is known.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable

from atoll.core.egress import NameSource, Outcome
from atoll.core.names import normal
from atoll.wire.request_sniff import SWITCHING, Body, Connect, Event, Request, RequestSniffer, Response, ResponseSniffer
from atoll.wire.sniffing import END, NEED_MORE, OPAQUE, Malformed

from . import tls_flow
from .connection import Connection, Refusal
from .decision import MALFORMED, NO_NAME, Onward
from .streams import turn

BULK = 256 * 1024
"""From so many bytes of a body on it passes by, in the pump."""
OUTSTANDING_S = 30.0
"""For answers that are still to come when the client wants another name."""
LINGER_S, LINGER_BYTES = 2.0, 1024 * 1024
"""For the client to take the last answer, before a close that might overtake it."""

Transformed = Callable[[Connection, bytes, bool], Awaitable[None]]
"""Goes on with a connection whose name has header rules; with what was read of it, and whether that is TLS."""


class HttpFlow:
    def __init__(self, connection: Connection, transformed: Transformed) -> None:
        self._connection = connection
        self._transformed = transformed
        self._sniffer = RequestSniffer()
        self._upgrade = False
        self._switched: asyncio.Future[Response | Malformed | None] = asyncio.get_running_loop().create_future()
        self._done_asking = False

    async def run(self, first: bytes, named: Callable[[], None]) -> None:
        """`named` is called when the connection has shown its name, or that it has none."""
        self._sniffer.receive(first)
        event = await self._next()
        named()
        if event is None:
            raise Refusal(NO_NAME, "closed in the middle of a request")
        if event is OPAQUE:
            self._connection.take(self._connection.decide(None), None, NameSource.HOST)
            await tls_flow.carry(self._connection, self._sniffer.take_rest())
            return
        request = _request(event)
        onward = self._judge(request)
        self._connection.take(onward, _name(request), NameSource.HOST)
        if onward.transform is not None:
            await self._transformed(self._connection, request.raw + self._sniffer.take_rest(), False)
            return
        self._log(request, onward)
        await self._connection.reach(onward)
        self._upgrade = bool(request.upgrade)
        await self._connection.send(request.raw)
        await self._converse()

    async def _converse(self) -> None:
        asking = asyncio.ensure_future(self._ask())
        answering = asyncio.ensure_future(self._answer())
        try:
            await asyncio.wait((asking, answering), return_when=asyncio.FIRST_COMPLETED)
            if asking.done():
                changed = asking.result()
                await asyncio.wait((answering,), timeout=OUTSTANDING_S if changed else None)
            if answering.done():
                answering.result()
        finally:
            for task in (asking, answering):
                task.cancel()
            await asyncio.gather(asking, answering, return_exceptions=True)
        await self._connection.release()
        if not self._done_asking:
            await _leave(self._connection.client)

    # ---- requests

    async def _ask(self) -> bool:
        """Until the client has ended, or wants another name (True)."""
        while (event := await self._next()) is not None:
            await turn(self._connection.sandbox_id)  # thousands of events may have arrived together
            if event is END:
                if self._upgrade and await self._change():
                    break
                self._upgrade = False
            elif isinstance(event, Body):
                await self._connection.send(event.raw)
            else:
                request = _request(event)
                onward = self._judge(request)
                if not self._goes_on(request, onward):
                    self._connection.finish()
                    return True
                await self._connection.await_turn()
                self._log(request, onward)
                await self._connection.send(request.raw)
        self._done_asking = True
        self._connection.finish()
        return False

    def _judge(self, request: Request) -> Onward:
        name = _name(request)
        try:
            return self._connection.decide(name)
        except Refusal as refusal:
            before = self._connection.name, self._connection.name_from
            self._connection.name, self._connection.name_from = name, NameSource.HOST if name else None
            self._connection.write_request(request.method, request.path, refusal.rule, Outcome.DENIED)
            if self._connection.upstream is None:
                self._connection.logged = True
            else:
                self._connection.name, self._connection.name_from = before
            raise

    def _goes_on(self, request: Request, onward: Onward) -> bool:
        """By the same connection: for the same name, or for any at an address that was allowed as an address."""
        was, name = self._connection.onward, _name(request)
        if was is None or not onward.same_way(was) or onward.host != was.host:
            return False
        if name != self._connection.name:
            if onward.by_name or onward.ingress:
                return False
            self._connection.take(onward, name, NameSource.HOST)
        return True

    def _log(self, request: Request, onward: Onward) -> None:
        self._connection.write_request(request.method, request.path, onward.rule, Outcome.ALLOWED)

    async def _next(self) -> Event | None:
        """None: the client has ended."""
        while (event := self._sniffer.next_event()) is NEED_MORE:
            ahead = self._sniffer.data_ahead
            if ahead >= BULK:
                way = self._connection.carry_out(ahead)
                await self._connection.wait(way)
                if way.bytes < ahead:
                    return None
                self._sniffer.passed_by(ahead)
                continue
            data = await self._connection.receive()
            if not data:
                return None
            self._sniffer.receive(data)
        if isinstance(event, Malformed):
            raise Refusal(MALFORMED, event.why)
        if isinstance(event, Connect):
            raise Refusal(MALFORMED, "CONNECT is for proxies")
        return event

    async def _change(self) -> bool:
        """Whether both speak another protocol from here on; then until the client has ended."""
        answer = await self._switched
        if not isinstance(answer, Response) or answer.status != SWITCHING:
            return False
        if rest := self._sniffer.take_rest():
            await self._connection.send(rest)
        await self._connection.wait(self._connection.carry_out())
        return True

    # ---- answers

    async def _answer(self) -> None:
        if self._upgrade:
            outcome = await self._first_answer()
            self._switched.set_result(outcome)
            if outcome is None:
                return
        await self._connection.wait(self._connection.carry_in())

    async def _first_answer(self) -> Response | Malformed | None:
        """None: there was none."""
        sniffer = ResponseSniffer()
        while True:
            data = await self._connection.hear()
            if not data:
                with contextlib.suppress(OSError):
                    self._connection.client.shutdown(socket.SHUT_WR)
                return None
            sniffer.receive(data)
            outcome = sniffer.next_event()
            if isinstance(outcome, Response) and "h2c" in outcome.upgrade:
                raise Refusal(MALFORMED, "a change to HTTP/2, whose requests nobody would read")
            await self._connection.tell(data)
            if isinstance(outcome, Response | Malformed):
                return outcome


def _request(event: Event) -> Request:
    if not isinstance(event, Request):
        raise RuntimeError(f"{event!r} where a request begins")
    return event


def _name(request: Request) -> str | None:
    return normal(request.host) if request.host is not None else None


async def _leave(client: socket.socket) -> None:
    """What was not read would turn the close into a reset, and that would take the last answer with it."""
    left = LINGER_BYTES
    with contextlib.suppress(OSError, TimeoutError):
        client.shutdown(socket.SHUT_WR)
        async with asyncio.timeout(LINGER_S):
            while left > 0 and (data := await asyncio.get_running_loop().sock_recv(client, 64 * 1024)):
                left -= len(data)
