"""One request of a client that speaks HTTP/2, and its answer: to a program by HTTP/1.1 or (gRPC) by HTTP/2, to the API
or the agents' surface in memory.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from atoll.edge.routing import Target
from atoll.wire.http1 import Answer, Body, Chunks, Field, Malformed, Request, last_chunk, request_head

from .errand import Errand, Lease
from .fields import HOP_BY_HOP, inward, outward
from .grpc import Call, is_grpc
from .memory import connect_surface
from .upstream import Upstream

if TYPE_CHECKING:
    from .h2_client import H2Client


class Stream:
    takes_chunks = False
    multiplexes = True
    inside: tuple[str, int] | None = None

    def __init__(self, client: H2Client, number: int, ended: bool) -> None:
        self.client = client
        self.number = number
        self.gate = client.gate
        self.source, self.scheme = client.source, client.scheme
        self.deciding: asyncio.Task[None] | None = None
        self.moved_at = time.monotonic()
        self._request: Request | None = None
        self._errand: Errand | None = None
        self._way: Upstream | Call | None = None
        self._inward = bytearray()
        """Of the body: it is not known where to, or whoever that is does not read. Bounded by the window."""
        self._inward_full = self._told_all = False
        self._unacknowledged = 0
        self._left: int | None = None
        """Of the body, where its length was said."""
        self.has_ended = ended
        """The client has sent all."""
        self._trailers: list[Field] = []
        self._chunked = False
        self._head: list[Field] | None = None
        """Of the answer, to be sent."""
        self._waiting = bytearray()
        """For the client's window."""
        self._headed = self._complete = self._held = self.over = False
        self._answer_trailers: list[Field] = []

    @property
    def lease(self) -> Lease | None:
        """Of the connection."""
        return None if self._request is None or is_grpc(self._request.fields) else self.client.lease

    @lease.setter
    def lease(self, lease: Lease) -> None:
        self.client.lease = lease

    def begin(self, request: Request) -> None:
        self._request, self._left = request, request.length
        self.gate.dispatch(self, request)

    # ---- from the client

    def received(self, data: bytes, counted: int) -> None:
        """`counted`: as flow control has it. Raises `Malformed`."""
        self.moved_at = time.monotonic()
        self._unacknowledged += counted
        if self._left is not None:
            if self._left < len(data):
                raise Malformed("a body that is longer than was said")
            self._left -= len(data)
        self._inward += data
        self._pass_inward()

    def ended(self, trailers: list[Field]) -> None:
        """Raises `Malformed`."""
        if self._left:  # the library looks only where no trailers follow
            raise Malformed("a body of another length than was said")
        self.has_ended, self._trailers = True, trailers
        self._pass_inward()

    def was_reset(self) -> None:
        """By the client, or with its connection, or by us."""
        self.over = True
        self._be_deaf()
        if self.deciding is not None:
            self.deciding.cancel()
        self._let_go()
        self._end_errand()

    def _pass_inward(self) -> None:
        way = self._way
        if way is None or self._inward_full:
            return
        if self._inward:
            data, self._inward = bytes(self._inward), bytearray()
            if self._errand is not None:
                self._errand.received += len(data)
            way.send(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)
        if self.has_ended and not self._told_all and self._way is way:
            self._told_all = True
            self._end_in(way)
        if not self._inward_full:
            self._acknowledge()

    def _end_in(self, way: Upstream | Call) -> None:
        if isinstance(way, Call):
            way.end(self._trailers)
            return
        if self._chunked:
            way.send(last_chunk(self._trailers))
        way.whole = True

    def _acknowledge(self) -> None:
        count, self._unacknowledged = self._unacknowledged, 0
        self.client.acknowledge(self.number, count)

    def _be_deaf(self) -> None:
        """What nobody takes any more is not held against the other streams."""
        self._inward.clear()
        self._acknowledge()

    def inward_full(self, full: bool) -> None:
        self._inward_full = full
        if not full and not self.over:
            self._pass_inward()

    # ---- to a program, or to a surface

    def attach(self, upstream: Upstream | Call, errand: Errand) -> None:
        self._errand = errand
        request, request_id = errand.visit.request, errand.asked.id.encode()
        fields = inward(request, errand.way, request_id)
        if isinstance(upstream, Call):
            self._way, self._told_all = upstream, False
            upstream.begin(self, request.method, errand.target, self.scheme, fields)
            self._pass_inward()
        else:
            self._ask(upstream, request, request_head(request.method, errand.target, fields))

    def to_surface(self, target: Target) -> None:
        request = self._request
        assert request is not None
        fields = [(b"Host", request.host), *request.fields]
        if request.length is None:
            fields.append((b"Transfer-Encoding", b"chunked"))
        upstream = connect_surface(self.gate.surfaces, target, self.client.transport, self.source)
        self._ask(upstream, request, request_head(request.method, request.target, fields))

    def _ask(self, upstream: Upstream, request: Request, head: bytes) -> None:
        self._way = upstream
        self._inward_full, self._chunked = False, request.length is None
        self._told_all = whole = request.length == 0
        upstream.begin(self, request.method, head, upgrade=False, whole=whole)
        self._pass_inward()

    # ---- what is answered

    def preliminary(self, answer: Answer) -> None:
        if not self.over:
            self.client.send_headers(self.number, _head(answer.status, self._outward(answer)), end=False)

    def answered(self, answer: Answer, first: bytes) -> None:
        if self._errand is not None:
            self._errand.status = answer.status
        self._head = _head(answer.status, self._outward(answer))
        self._headed = True
        if first:
            self.carried(first)
        else:
            self.client.due(self.number)

    def carried(self, data: bytes) -> None:
        if self._errand is not None:
            self._errand.sent += len(data)
        self.moved_at = time.monotonic()
        self._waiting += data
        if len(self._waiting) > self.client.high_water():
            self.pump()
        else:
            self.client.due(self.number)

    def completed(self, body: Body | None) -> None:
        self._way = None
        self._complete = True
        if isinstance(body, Chunks):
            self._answer_trailers = body.trailers
        self.client.due(self.number)

    def ended_with(self, trailers: list[Field]) -> None:
        """The answer of a gRPC server."""
        self._answer_trailers = trailers
        self.completed(None)

    def failed(self, why: str, begun: bool) -> None:
        errand, way, self._way = self._errand, self._way, None
        if begun or self._headed or errand is None:
            self._break_off()
        else:
            if isinstance(way, Upstream) and way.heard:
                errand.visit.fresh = True  # the program has the request: it is not asked again
            self.gate.unanswered(self, errand, why)

    def again(self) -> None:
        self._errand = None

    def reply(self, status: int, fields: list[tuple[bytes, bytes]], content: bytes, last: bool = False) -> None:
        del last  # the other streams go on
        self._let_go()
        self._be_deaf()
        if self.over:
            return
        if self._headed:
            self._break_off()
            return
        if self._errand is not None:
            self._errand.status, self._errand.sent = status, len(content)
        self._head = _head(status, fields)
        self._headed = self._complete = True
        if self._request is None or self._request.method != b"HEAD":
            self._waiting[:] = content
        self.client.due(self.number)

    def _outward(self, answer: Answer) -> list[Field]:
        if self._errand is not None:
            return outward(answer, self._errand.way)
        return [field for field in answer.fields if field[0].lower() not in HOP_BY_HOP]

    def pump(self) -> None:
        """As much as the client's window takes."""
        if self.over:
            return
        if self._head is not None:
            bare = self._complete and not self._waiting and not self._answer_trailers
            head, self._head = self._head, None
            if not self.client.send_headers(self.number, head, end=bare):
                return
            if bare:
                self._finish()
                return
        sent = self.client.send_data(self.number, self._waiting)
        if sent:
            del self._waiting[:sent]
            self.moved_at = time.monotonic()
        if self.over:
            return
        if self._complete and not self._waiting:
            if self.client.send_end(self.number, self._answer_trailers):
                self._finish()
            return
        self._hold_back()

    def _hold_back(self) -> None:
        size, high = len(self._waiting), self.client.high_water()
        if self._way is not None and not self._held and size >= high:
            self._held = True
            self._way.hold(True)
        elif self._held and size <= high // 4:
            self._held = False
            if self._way is not None:
                self._way.hold(False)

    def _finish(self) -> None:
        self.over = True
        self._be_deaf()
        self.client.finished(self.number, told_all=self.has_ended)
        self._end_errand()

    def _break_off(self) -> None:
        if not self.over:
            self.over = True
            self._be_deaf()
            self.client.reset(self.number)
        self._end_errand()

    def _let_go(self) -> None:
        if self._way is not None:
            way, self._way = self._way, None
            way.leave()

    def _end_errand(self) -> None:
        if self._errand is not None:
            errand, self._errand = self._errand, None
            self.gate.ended(self, errand)

    def waiting(self) -> int:
        """Bytes that are kept for a reader, outside or inside."""
        return len(self._waiting) + len(self._inward) + (0 if self._way is None else self._way.waiting())

    def waits(self) -> bool:
        """For the client."""
        return bool(self._waiting) or not self.has_ended


def _head(status: int, fields: list[Field]) -> list[Field]:
    return [(b":status", b"%d" % status), *fields]
