"""One connection of a client that speaks HTTP/1.1: heads are read here, one request after the other; what becomes of
each is the gate's to say.

    head ──▶ Gate.dispatch ──▶ attach       to a program in a sandbox: body in, answer out, piece by piece
                           ├─▶ reply        an answer of our own
                           └─▶ to_surface   to the API and the agents' surface (surfaces.py)

A pipelined request waits in the buffer; while it does, nothing more is read than fits there. Whoever leaves, leaves
altogether: a client that closes is a close inside. Time limits are looked after by `sweep`, some seconds apart.
"""

from __future__ import annotations

import asyncio
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Protocol, cast

from atoll.edge.routing import Target
from atoll.wire.http1 import (
    MAX_HEAD,
    NEED_MORE,
    Answer,
    Body,
    Malformed,
    Mark,
    Request,
    answer_head,
    lines,
    read_again,
    read_request,
    request_head,
)
from atoll.wire.ingress_peer import sandbox_of

from .crowd import Crowd
from .errand import Caller, Errand, Lease
from .fields import inward, outward, outward_block
from .surfaces import InnerTransport, Surfaces
from .upstream import Upstream

if TYPE_CHECKING:
    from .grpc import Call
    from .surfaces import Handler

HELD = 64 * 1024
"""Read ahead of what can be dealt with."""
HIGH_WATER = 256 * 1024
"""Written and not taken by the client."""
HEAD_S = 30.0
"""For all of a head, from its first byte."""
KEPT_S = 75.0
"""Between requests."""
STALL_S = 300.0
"""Without a byte of a body from a client, or taken by one."""
SILENCE_S = 3600.0
"""Without a byte either way: streams of events and idle sockets are silent for long."""
PIECE_COST = 100
"""Of each write that waits for the client, however small: the loop keeps them one by one."""
LINGER_S = 10.0
"""For a client to take the last answer, before a close that would overtake it."""
REQUESTS_IN_A_TURN = 16
REASONS = {each.value: each.phrase.encode() for each in HTTPStatus}


class Gate(Protocol):
    surfaces: Surfaces
    crowd: Crowd

    def dispatch(self, caller: Caller, request: Request) -> None: ...

    def malformed(self, caller: Caller, error: Malformed) -> None:
        """What came cannot be read: to be answered with `reply`, which is the last."""
        ...

    def ended(self, caller: Caller, errand: Errand) -> None:
        """For the log and the counters; once for each errand."""
        ...

    def unanswered(self, caller: Caller, errand: Errand, why: str) -> None:
        """The program gave no answer that could be read; to be answered with `reply`, or asked again."""
        ...


class Client(asyncio.Protocol):
    multiplexes = False

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.source = b"unknown"
        self.scheme = b"http"
        self.inside: tuple[str, int] | None = None
        self.transport: asyncio.Transport
        self.request: Request | None = None
        """The one that is dealt with."""
        self.deciding: asyncio.Task[None] | None = None
        self.lease: Lease | None = None
        self._buffer = b""
        self._errand: Errand | None = None
        self._upstream: Upstream | None = None
        self._handler: Handler | None = None
        self._at_surface = False
        """The request that is dealt with is the handler's."""
        self._body: Body | None = None
        """Of the request, while it is not over."""
        self._switched = False
        """Both directions are bytes, to the end."""
        self._inward_full = self._lingering = self._draining = self._deaf = False
        self._pieces = 0
        """Of what a program answers, written since the client last had all."""
        self._outward_full = False
        """What is answered already waits for the client to read it; until then nothing more is begun."""
        self._reading = False
        self.moved_at = self.head_since = time.monotonic()

    @property
    def takes_chunks(self) -> bool:
        return self.request is None or not self.request.old

    # ---- the connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport = cast(asyncio.Transport, transport)  # uvloop's are none by their class
        self.source = source_of(transport)
        self.scheme = b"http" if transport.get_extra_info("sslcontext") is None else b"https"
        transport.set_write_buffer_limits(high=HIGH_WATER)
        self.gate.crowd.joined(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.gate.crowd.left(self)
        self._buffer = b""
        if self.deciding is not None:
            self.deciding.cancel()
        if self._handler is not None:
            self._handler.connection_lost(error)
        self._let_go()
        self._end_errand()

    def eof_received(self) -> None:
        """Nothing more comes, so nobody is there: the transport closes, which is told to everybody."""

    def pause_writing(self) -> None:
        self._outward_full = True
        if self._upstream is not None:
            self._upstream.hold(True)
        elif self._at_surface and self._handler is not None:
            self._handler.pause_writing()

    def resume_writing(self) -> None:
        self.moved_at = self.head_since = time.monotonic()
        self._outward_full = False
        self._pieces //= 4  # as the loop's low water is to the high
        if self._upstream is not None:
            self._upstream.hold(False)
        if self._handler is not None and self._handler.writing_paused:  # perhaps with the last of its answer
            self._handler.resume_writing()
        if self._buffer:
            self._go_on()

    def data_received(self, data: bytes) -> None:
        self.moved_at = time.monotonic()
        if self._lingering:
            return
        if self._switched:
            self._send_in(data)
        elif self._body is not None and not self._buffer:
            self._take_body(data)
        else:
            if not self._buffer:
                self.head_since = self.moved_at
            self._buffer += data
            if self.request is None and (b"\n" in data or len(self._buffer) >= MAX_HEAD):
                self._next()
            if self._buffer or self._deaf:
                self._listen()

    def _listen(self) -> None:
        """Or not: what is there has to be dealt with first."""
        waiting = self.request is not None or self._outward_full
        deaf = self._inward_full or (waiting and len(self._buffer) > HELD)
        if deaf != self._deaf and not self.transport.is_closing():
            self._deaf = deaf
            if deaf:
                self.transport.pause_reading()
            else:
                self.transport.resume_reading()

    # ---- requests

    def _next(self) -> None:
        if self._reading:  # an answer that is given at once; the loop below goes on
            return
        self._reading = True
        try:
            self._read_requests()
        finally:
            self._reading = False

    def _read_requests(self) -> None:
        for _ in range(REQUESTS_IN_A_TURN):
            if self.request is not None or not self._buffer or self._outward_full or self.transport.is_closing():
                return
            try:
                request = self._read()
            except Malformed as error:
                self._buffer = b""
                self.gate.malformed(self, error)
                return
            if request is NEED_MORE:
                return
            assert isinstance(request, Request)
            self._buffer = self._buffer[request.size :]
            self.request = request
            self.gate.dispatch(self, request)
        if self.request is None and self._buffer:
            asyncio.get_running_loop().call_soon(self._go_on)  # others have their turn

    def _read(self) -> Request | Mark:
        if self.lease is not None and (again := read_again(self._buffer, self.lease.request)) is not None:
            return again
        return read_request(self._buffer)

    def _go_on(self) -> None:
        if self.request is None:
            self._next()
            self._listen()

    def _finished(self, keep: bool) -> None:
        """The answer is out."""
        request, unread = self.request, self._body is not None
        self.request = self._body = None
        if request is None or not request.keeps_alive or not keep or unread:
            self._linger(unread)
            return
        self.head_since = self.moved_at = time.monotonic()
        if self._buffer:
            self._next()
        self._inward_full = False
        if self._deaf:
            self._listen()

    def _linger(self, unread: bool) -> None:
        """Bytes that nobody read would turn a close into a reset, and that would take the last answer with it."""
        if self.transport.is_closing():
            return
        if not unread:
            self.transport.close()
            return
        self._lingering, self._buffer = True, b""
        self._inward_full = False
        self._listen()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        asyncio.get_running_loop().call_later(LINGER_S, self.transport.abort)

    # ---- bodies, inwards

    def _await_body(self, body: Body) -> None:
        if body.over:
            return
        self._body = body
        if self._buffer:
            data, self._buffer = self._buffer, b""
            self._take_body(data)

    def _take_body(self, data: bytes) -> None:
        body = self._body
        assert body is not None
        try:
            out, rest = body.take(data)
        except Malformed as error:
            self._give_up(error)
            return
        if body.over:
            self._body = None
        if out:
            self._send_in(out)
        if body.over and self._upstream is not None:
            self._upstream.whole = True
        self._buffer += rest
        if body.over and self._draining:
            self._draining = False
            self._finished(keep=True)
        self._listen()

    def _send_what_waits(self) -> None:
        """Of a tunnel: what came with the request, or before its answer."""
        data, self._buffer = self._buffer, b""
        if data:
            self._send_in(data)

    def _send_in(self, data: bytes) -> None:
        if self._errand is not None:
            self._errand.received += len(data)
        if self._upstream is not None:
            self._upstream.send(data)
        elif (self._at_surface or self._draining) and self._handler is not None:
            self._handler.data_received(data)

    def _give_up(self, error: Malformed) -> None:
        """A body that cannot be read on: the program hears of a connection that broke."""
        self._let_go()
        if self._at_surface or (self._errand is not None and self._errand.status):
            self.transport.abort()
        else:
            self.gate.malformed(self, error)

    def _let_go(self) -> None:
        if self._upstream is not None:
            upstream, self._upstream = self._upstream, None
            upstream.leave()

    def inward_full(self, full: bool) -> None:
        self._inward_full = full
        self._listen()

    # ---- to a program

    def attach(self, upstream: Upstream | Call, errand: Errand) -> None:
        assert isinstance(upstream, Upstream)
        request = errand.visit.request
        self._errand, self._upstream = errand, upstream
        whole = request.length == 0
        upstream.begin(self, request.method, self._head_inwards(request, errand), bool(request.upgrade), whole)
        if self._outward_full:  # of an attempt before
            upstream.hold(True)
        if not whole and self._upstream is upstream:
            self._await_body(request.body())

    def _head_inwards(self, request: Request, errand: Errand) -> bytes:
        lease, request_id = self.lease, errand.asked.id.encode()
        if lease is None or lease.way is not errand.way or not lease.is_for(request):
            return request_head(request.method, errand.target, inward(request, errand.way, request_id))
        lease.block = lease.block or lines(inward(request, errand.way, b""))
        return b"".join((request.method, b" ", errand.target, b" HTTP/1.1", lease.block, request_id, b"\r\n\r\n"))

    # ---- what a program answers

    def preliminary(self, answer: Answer) -> None:
        if self._errand is not None and self.takes_chunks:
            self.transport.write(answer_head(answer.status, answer.reason, outward(answer, self._errand.way)))

    def answered(self, answer: Answer, first: bytes) -> None:
        errand, request = self._errand, self.request
        assert errand is not None
        assert request is not None
        errand.status = answer.status
        head = [b"HTTP/1.1 %d %b" % (answer.status, answer.reason), outward_block(answer, errand.way)]
        if answer.status == 101:
            self._switched = True
            head.append(b"\r\nConnection: Upgrade\r\nUpgrade: " + answer.upgrade)
        else:
            if answer.chunked and not request.old:
                head.append(b"\r\nTransfer-Encoding: chunked")
            elif answer.length is None:
                request.keeps_alive = False
            if not request.keeps_alive or self._body is not None:
                request.keeps_alive = False
                head.append(b"\r\nConnection: close")
            elif request.old:
                head.append(b"\r\nConnection: keep-alive")
        head += (b"\r\n\r\n", first)
        errand.sent += len(first)
        self.transport.write(b"".join(head))
        if self._switched:
            self._send_what_waits()

    def carried(self, data: bytes) -> None:
        if self._errand is not None:
            self._errand.sent += len(data)
        self.moved_at = time.monotonic()
        self._pieces = self._pieces + 1 if self.transport.get_write_buffer_size() else 0
        self.transport.write(data)

    def completed(self, body: Body | None) -> None:
        del body  # its trailers are out, in its last chunk
        self._upstream = None
        self._end_errand()
        if self._switched:
            self.transport.close()
        else:
            self._finished(keep=True)

    def failed(self, why: str, begun: bool) -> None:
        errand, upstream, self._upstream = self._errand, self._upstream, None
        if begun or errand is None:
            self._end_errand()
            self.transport.abort()
            return
        if upstream is not None and upstream.heard:
            errand.visit.fresh = True  # the program has the request: it is not asked again
        self.gate.unanswered(self, errand, why)

    def _end_errand(self) -> None:
        if self._errand is not None:
            errand, self._errand = self._errand, None
            self.gate.ended(self, errand)

    def again(self) -> None:
        """The errand ended without an answer and is begun anew."""
        self._errand = None

    # ---- answers of our own

    def reply(self, status: int, fields: list[tuple[bytes, bytes]], content: bytes, last: bool = False) -> None:
        request = self.request
        self._let_go()
        if self._errand is not None:
            self._errand.status, self._errand.sent = status, len(content)
            self._end_errand()
        elif request is not None and self._body is None and request.length != 0:
            self._body = request.body()  # nobody has begun to read it
        keep = request is not None and request.keeps_alive and not last and self._body is None
        fields = [*fields, (b"Content-Length", b"%d" % len(content))]
        if not keep:
            fields.append((b"Connection", b"close"))
        head = answer_head(status, REASONS.get(status, b"Unknown"), fields)
        self.transport.write(head if request is not None and request.method == b"HEAD" else head + content)
        if request is None:
            self._linger(unread=True)
        else:
            self._finished(keep)

    # ---- to the API and the agents' surface

    def to_surface(self, target: Target) -> None:
        request = self.request
        assert request is not None
        handler = self._handler
        if handler is None:
            handler = self._handler = self.gate.surfaces()
            handler.on_answered = self._surface_answered
            inner = InnerTransport(
                self.transport, self.source, self._surface_closes, self.inward_full, self._surface_writes
            )
            handler.connection_made(inner)
        handler.target = target
        self._at_surface = True
        body = request.body()
        handler.data_received(surface_head(request))
        if is_tunnel(request) and self._at_surface:
            self._switched = True
            self._send_what_waits()
        elif self._at_surface:
            self._await_body(body)

    def _surface_answered(self, keep: bool) -> None:
        self._at_surface = False
        if self._switched:
            self.transport.close()
        elif keep and self._body is not None:  # the client has not heard that the connection ends: it is read on
            self._draining = True
            asyncio.get_running_loop().call_later(LINGER_S, self._not_drained, self.request)
        else:
            self._finished(keep)

    def _not_drained(self, request: Request | None) -> None:
        if self._draining and self.request is request:
            self.transport.abort()

    def _surface_writes(self) -> None:
        self.moved_at = time.monotonic()

    def _surface_closes(self) -> None:
        handler, self._handler = self._handler, None
        if handler is not None:
            asyncio.get_running_loop().call_soon(handler.connection_lost, None)
        if self._at_surface:
            self._at_surface = False
            self._linger(self._body is not None)

    # ---- time

    def sweep(self, now: float) -> None:
        """Ends what takes too long, and forgets what is no longer good."""
        if self.lease is not None and now > self.lease.ends_at:
            self.lease = None
        silent = now - self.moved_at
        if self.request is None:
            if self._buffer and not self._outward_full and now - self.head_since > HEAD_S:
                self._buffer = b""
                self.gate.malformed(self, Malformed("the head of the request did not come in time", 408))
                return
            limit = STALL_S if self.transport.get_write_buffer_size() else KEPT_S
        elif not self._switched and (self._body is not None or self.transport.get_write_buffer_size()):
            limit = STALL_S
        else:
            limit = SILENCE_S
        if silent > limit:
            self.transport.abort()

    def waiting(self) -> int:
        """Bytes that are kept for a reader, outside or inside, with what they cost beside themselves."""
        inward = self._upstream.transport.get_write_buffer_size() if self._upstream is not None else 0
        outward = self.transport.get_write_buffer_size()
        return outward + PIECE_COST * min(self._pieces, outward) + inward + len(self._buffer)

    def is_idle(self) -> bool:
        return self.request is None and not self._buffer


def source_of(transport: asyncio.Transport) -> bytes:
    peer = transport.get_extra_info("peername")
    if isinstance(peer, tuple) and peer:
        return str(peer[0]).encode()
    sandbox_id = sandbox_of(peer)
    return b"unknown" if sandbox_id is None else b"sandbox " + sandbox_id.encode()


def surface_head(request: Request) -> bytes:
    """As aiohttp is to read it: what was understood, in one spelling. It must not see a tunnel where we see none."""
    fields = [(b"Host", request.host), *request.fields]
    if not is_tunnel(request):
        fields = [each for each in fields if each[0].lower() != b"upgrade"]
    head = request_head(request.method, request.target, fields)
    return head.replace(b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", 1) if request.old else head


def is_tunnel(request: Request) -> bool:
    """To the surface, which speaks WebSocket and nothing else."""
    return request.upgrade == b"websocket"
