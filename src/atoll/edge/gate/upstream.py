"""Connections to programs in sandboxes: one request at a time on each, its answer read as it comes, and pools of them.

The program is hostile: its head is parsed as strictly as a client's, what it sends without being asked ends the
connection, preliminary answers are counted.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from atoll.wire.http1 import MAX_HEAD, NEED_MORE, Answer, Body, Malformed, Mark, read_answer

from .grpc import Call, Connection

MAX_PRELIMINARY = 16
"""Answers (100 Continue, 103 Early Hints …) before the one that counts."""
IDLE_S = 4.0
"""Of a connection that may be used again; servers close theirs after 5 s and more."""
MAX_KNOWN = 4096
"""Of a head that is kept, to be known again."""
MAX_OPEN = 1024
"""Requests and tunnels of one sandbox at once."""


class Downstream(Protocol):
    """For whom an answer is: a connection of HTTP/1.1, a stream of HTTP/2."""

    @property
    def takes_chunks(self) -> bool: ...

    def preliminary(self, answer: Answer) -> None: ...

    def answered(self, answer: Answer, first: bytes) -> None:
        """The head of it, and what came of its body with that; a 101 makes both directions bytes."""
        ...

    def carried(self, data: bytes) -> None: ...

    def completed(self, body: Body | None) -> None:
        """All of it is here (None: it came with the head); of a tunnel (None): the program has closed."""
        ...

    def failed(self, why: str, begun: bool) -> None:
        """`begun`: its head was given on already."""
        ...

    def inward_full(self, full: bool) -> None: ...


class Upstream(asyncio.Protocol):
    """The transport is a `GuestTransport`."""

    __slots__ = (
        "_body",
        "_buffer",
        "_downstream",
        "_last",
        "_method",
        "_preliminaries",
        "_reusable",
        "_switched",
        "_upgrade",
        "fresh",
        "idle_since",
        "on_free",
        "transport",
        "whole",
    )

    def __init__(self, on_free: Callable[[Upstream], None]) -> None:
        self.transport: asyncio.Transport
        self.on_free = on_free
        self.fresh = True
        """Nothing was asked on it before."""
        self.idle_since = 0.0
        self._downstream: Downstream | None = None
        self._last: tuple[bytes, bytes, Answer] | None = None
        """A method, the head of the answer, and what it says: within a second many are the same."""
        self._buffer = b""
        self._forget_answer()

    def _forget_answer(self) -> None:
        self._method = b""
        self._body: Body | None = None
        self._preliminaries = 0
        self._reusable = self._switched = self._upgrade = False
        self.whole = False
        """All of the request is sent."""

    @property
    def heard(self) -> bool:
        """Something came that could be an answer, of which no head is whole yet."""
        return bool(self._preliminaries or self._buffer)

    def begin(self, downstream: Downstream, method: bytes, head: bytes, upgrade: bool, whole: bool) -> None:
        self._downstream = downstream
        self._method, self._upgrade, self.whole = method, upgrade, whole
        self.transport.write(head)
        if self.transport.is_closing():  # that it is lost was perhaps told while nobody asked anything
            asyncio.get_running_loop().call_soon(self._broke)

    def _broke(self) -> None:
        if self._downstream is not None:
            self._fail("the connection broke")

    def send(self, data: bytes) -> None:
        self.transport.write(data)

    def waiting(self) -> int:
        return self.transport.get_write_buffer_size()

    def leave(self) -> None:
        """Nobody waits for the answer any more. What a tunnel was given last still goes in."""
        self._downstream = None
        if self._switched:
            self.transport.close()
        else:
            self.transport.abort()

    def hold(self, hold: bool) -> None:
        """The answer's reader is slower than its program."""
        if hold:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    # ---- what comes

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self._downstream is None:
            self.transport.abort()
        elif self._switched:
            self._downstream.carried(data)
        elif self._body is None:
            self._read_head(data)
        else:
            self._read_body(data)

    def eof_received(self) -> None:
        downstream = self._downstream
        if downstream is None:
            return
        if self._switched or (self._body is not None and self._body.ended()):
            self._complete(again=False)
        else:
            self._fail("it closed the connection")

    def connection_lost(self, error: Exception | None) -> None:
        if self._downstream is not None:
            if self._switched:
                self._complete(again=False)
            else:
                self._broke()
        self.on_free(self)

    def pause_writing(self) -> None:
        if self._downstream is not None:
            self._downstream.inward_full(True)

    def resume_writing(self) -> None:
        if self._downstream is not None:
            self._downstream.inward_full(False)

    def _read_head(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        if b"\n" not in data and len(self._buffer) < MAX_HEAD:
            return
        downstream = self._downstream
        while downstream is not None:
            try:
                answer = self._read()
            except Malformed as error:
                self._fail(error.why)
                return
            if answer is NEED_MORE:
                return
            assert isinstance(answer, Answer)
            rest = self._buffer[answer.size :]
            if not answer.preliminary:
                self._buffer = b""
                self._begin_answer(downstream, answer, rest)
                return
            self._preliminaries += 1
            if self._preliminaries > MAX_PRELIMINARY:
                self._fail("too many preliminary answers")
                return
            self._buffer = rest
            downstream.preliminary(answer)
            downstream = self._downstream

    def _read(self) -> Answer | Mark:
        method, buffer = self._method, self._buffer
        if self._last is not None and self._last[0] == method and buffer.startswith(self._last[1]):
            return self._last[2]
        answer = read_answer(buffer, method)
        if isinstance(answer, Answer) and answer.size <= MAX_KNOWN:
            self._last = method, buffer[: answer.size], answer
        return answer

    def _begin_answer(self, downstream: Downstream, answer: Answer, rest: bytes) -> None:
        if answer.status == 101:
            if not self._upgrade or not answer.upgrade:
                self._fail("it changes to a protocol that nobody asked for")
                return
            self._switched = True
            downstream.answered(answer, rest)
            return
        if answer.length == len(rest):
            downstream.answered(answer, rest)
            if self._downstream is not None:
                self._complete(answer.keeps_alive)
            return
        self._reusable = answer.keeps_alive
        self._body = body = answer.body(framed=downstream.takes_chunks)
        try:
            first, rest = body.take(rest)
        except Malformed as error:
            self._body = None
            self._fail(error.why)
            return
        downstream.answered(answer, first)
        if body.over and self._downstream is not None:
            self._complete(again=self._reusable and not rest)

    def _read_body(self, data: bytes) -> None:
        downstream, body = self._downstream, self._body
        assert downstream is not None
        assert body is not None
        try:
            out, rest = body.take(data)
        except Malformed as error:
            self._fail(error.why)
            return
        if out:
            downstream.carried(out)
        if body.over and self._downstream is not None:
            self._complete(again=self._reusable and not rest)

    def _complete(self, again: bool) -> None:
        downstream, body = self._downstream, self._body
        assert downstream is not None
        self._downstream = None
        again = again and self.whole
        self._forget_answer()
        self.fresh = False
        if again:
            self.transport.resume_reading()  # a reader that was slow is not the next one's
            self.on_free(self)
        else:
            self.transport.close()
        downstream.completed(body)

    def _fail(self, why: str) -> None:
        downstream, begun = self._downstream, self._body is not None
        self._downstream = None
        self.transport.abort()
        if downstream is not None:
            downstream.failed(why, begun)


Dial = Callable[[int, Upstream | Connection, bool], Awaitable[None]]
"""Connects a protocol to a port, with TLS or without."""


class Ports:
    """Of one sandbox and incarnation: its open connections, and those of them that are free."""

    def __init__(self, dial: Dial, max_open: int = MAX_OPEN) -> None:
        self._dial = dial
        self._loop = asyncio.get_running_loop()
        self._free: defaultdict[int, list[Upstream]] = defaultdict(list)
        self._port_of: dict[Upstream, int] = {}
        self._carriers: dict[int, list[Connection]] = {}
        """Of HTTP/2."""
        self._dialling: dict[int, asyncio.Task[Connection]] = {}
        self.max_open = max_open
        self._sweep: asyncio.TimerHandle | None = None
        self._closed = False
        self.open = 0
        """Requests and tunnels that are under way."""
        self.listening: tuple[float, list[int]] | None = None
        """Who listens, and until when that is believed."""

    def is_full(self) -> bool:
        return self.open >= self.max_open

    @contextmanager
    def passage(self) -> Iterator[None]:
        self.open += 1
        try:
            yield
        finally:
            self.open -= 1

    def take(self, port: int, within_s: float | None = None) -> Upstream | None:
        """One that was used before, `within_s` if that is given; the newest is the likeliest to live."""
        free = self._free.get(port)
        while free:
            if within_s is not None and self._loop.time() - free[-1].idle_since > within_s:
                return None
            upstream = free.pop()
            if not upstream.transport.is_closing():
                return upstream
        return None

    async def connect(self, port: int, tls: bool = False) -> Upstream:
        upstream = Upstream(self._freed)
        await self._dial(port, upstream, tls)
        if not upstream.transport.is_closing():
            self._port_of[upstream] = port
        if self._closed:
            upstream.transport.abort()
        return upstream

    async def call(self, port: int) -> Call:
        """For one request by HTTP/2, beside others on its connection."""
        free = next((each for each in self._carriers.get(port, ()) if each.has_room()), None)
        if free is None:
            free = await asyncio.shield(self._carrying(port))
            if not free.has_room():
                free = await self._carrier(port)
        return Call(free)

    def _carrying(self, port: int) -> asyncio.Task[Connection]:
        """One for all who wait for the first; whoever leaves leaves it to the others."""
        dialling = self._dialling.get(port)
        if dialling is None:
            dialling = self._dialling[port] = asyncio.create_task(self._carrier(port))
            dialling.add_done_callback(lambda done: self._dialled(port, done))
        return dialling

    def _dialled(self, port: int, done: asyncio.Task[Connection]) -> None:
        del self._dialling[port]
        if not done.cancelled():
            done.exception()  # those who wait are told, if there are any left

    async def _carrier(self, port: int) -> Connection:
        carrier = Connection(lambda gone: self._carrier_lost(port, gone))
        await self._dial(port, carrier, False)
        self._carriers.setdefault(port, []).append(carrier)
        if self._closed:
            carrier.transport.abort()
        return carrier

    def _carrier_lost(self, port: int, gone: Connection) -> None:
        carriers = [each for each in self._carriers.get(port, ()) if each is not gone]
        if carriers:
            self._carriers[port] = carriers
        else:
            self._carriers.pop(port, None)

    def _freed(self, upstream: Upstream) -> None:
        """After an answer, or at its end."""
        port = self._port_of.get(upstream)
        if port is None:
            return
        if upstream.transport.is_closing():
            del self._port_of[upstream]
            if upstream in self._free[port]:
                self._free[port].remove(upstream)
            return
        upstream.idle_since = self._loop.time()
        self._free[port].append(upstream)
        if self._sweep is None:
            self._sweep = self._loop.call_later(IDLE_S, self._sweep_idle)

    def _sweep_idle(self) -> None:
        now, left = self._loop.time(), False
        for port, free in list(self._free.items()):
            kept = [each for each in free if now - each.idle_since < IDLE_S]
            for each in set(free) - set(kept):
                each.transport.close()
            left = left or bool(kept)
            if kept:
                self._free[port] = kept
            else:
                del self._free[port]
        self._sweep = self._loop.call_later(IDLE_S, self._sweep_idle) if left else None

    def close(self) -> None:
        """As if the sandbox had reset them all."""
        self._closed = True
        if self._sweep is not None:
            self._sweep.cancel()
        carriers = [each for several in self._carriers.values() for each in several]
        everybody: list[Upstream | Connection] = [*self._port_of, *carriers]
        for each in everybody:
            each.transport.abort()
