"""Connections that the kernel diverted: accepted, recognised, read until their name is known, judged, sent on or reset.

One listening socket. A sandbox is known by the address that the connection comes from; how many of its connections may
be without a name at one time is bounded, for each and for all, so that who opens many and says nothing harms itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import resource
import socket
import time
from collections import defaultdict
from collections.abc import Callable, Sequence

from atoll.core.egress import NameSource, Outcome
from atoll.core.errors import AtollError
from atoll.core.names import normal
from atoll.core.uplink import PROXY_PORT
from atoll.wire.client_hello import ClientHelloSniffer, Event, Tls
from atoll.wire.sniffing import NEED_MORE, Malformed

from . import mitm, tls_flow
from .connection import RESET, Broken, Connection, Facts, Refusal, original_destination
from .decision import MALFORMED, NO_NAME, VIP, Surroundings, still_allowed
from .http_flow import HttpFlow
from .memory import TcpMemory, held, too_greedy
from .outward import hurry_if_near, tune
from .pump import Pipes, Pump
from .sandboxes import Known
from .services import Services
from .shares import Allowance, Places
from .streams import turn

log = logging.getLogger(__name__)

BACKLOG = 4096
ACCEPTS_IN_A_TURN = 64
CUTS_IN_A_TURN = 20
LIVE_OF_ONE, LIVE_PART = 4096, 2
"""The kernel lets a sandbox have 2,048, but forgets one that was closed later than we do."""
UNNAMED_IN_ALL, UNNAMED_OF_ONE, UNNAMED_PART = 8192, 256, 16
REQUESTS_PER_S, REQUESTS_BURST = 500.0, 1000.0
"""Of plain HTTP, by one sandbox; one that asks faster waits. Each costs us a verdict and an entry of the log."""
NAME_S = 10.0
"""To show a name."""
SPEAK_FIRST_S = 2.0
"""To say anything, where none is needed: in some protocols the server begins."""
IDLE_S, HALF_CLOSED_S = 3600.0, 300.0
SWEEP_S = 30.0
RELIEVE_S = 0.5
OUT_OF_DESCRIPTORS = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
PAUSE_S = 0.2
HTTP_PORT, TLS_PORT = 80, 443
HANDSHAKE = b"\x16"
HELLO_AT_ONCE = 2048
"""All of an ordinary hello; in records of one byte it is half a millisecond's work."""
CUT = "cut: "
CONNECTIONS = "connections"
OTHER_FILES = 1000
"""That are open for something else than connections, which have two each."""


def _capacity() -> int:
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(1, (most - OTHER_FILES) // 2)


def listen(address: str, port: int = PROXY_PORT) -> socket.socket:
    listener = socket.create_server((address, port), backlog=BACKLOG)
    listener.setblocking(False)
    return listener


class Proxy:
    def __init__(self, services: Services, pipes: Pipes, memory: TcpMemory) -> None:
        self._services = services
        self._pump = Pump(pipes)
        self._places = Places(_capacity(), LIVE_OF_ONE, LIVE_PART)
        self._unnamed = Places(UNNAMED_IN_ALL, UNNAMED_OF_ONE, UNNAMED_PART)
        self._talks = Places(mitm.MAX_TALKS, mitm.MAX_TALKS_OF_ONE, mitm.TALKS_PART)
        self._requests: dict[str, Allowance] = {}
        self._live: defaultdict[str, set[Connection]] = defaultdict(set)
        self._ending: set[asyncio.Task[None]] = set()
        self._listener: socket.socket | None = None
        self._memory = memory
        self._looking: list[asyncio.Task[None]] = []

    def __len__(self) -> int:
        return sum(map(len, self._live.values()))

    def start(self, listener: socket.socket) -> None:
        self._listener = listener
        asyncio.get_running_loop().add_reader(listener, self._accept, listener)
        self._looking = [asyncio.create_task(self._sweep()), asyncio.create_task(self._watch_memory())]

    def stop_listening(self) -> None:
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None

    async def close(self) -> None:
        self.stop_listening()
        for task in self._looking:
            task.cancel()
        everything = [each for some in self._live.values() for each in some]
        await self._cut(everything, "the daemon ends")
        await _ended(everything)
        await asyncio.gather(*self._ending)
        await self._pump.close()

    async def policy_replaced(self, sandbox_id: str) -> None:
        """When it returns, nothing goes on that the new policy forbids; the log hears of it soon."""
        known = self._services.sandboxes.by_id(sandbox_id)
        if known is None:
            return
        surroundings = Surroundings(self._services.opened, self._services.blocked(), self._services.domain)
        verdicts: dict[Facts, bool] = {}
        forbidden = []
        for each in self._live.get(sandbox_id, ()):
            if (facts := each.facts) is None:
                if not each.may_still_be_allowed():
                    forbidden.append(each)
                continue
            if facts not in verdicts:
                verdicts[facts] = still_allowed(known.policy, surroundings, *facts)
            if not verdicts[facts]:
                forbidden.append(each)
        await self._cut(forbidden, "the policy was replaced")

    async def forget(self, ids: Sequence[str]) -> None:
        """When it returns, their entries are written too."""
        for sandbox_id in ids:
            self._requests.pop(sandbox_id, None)
        gone = [each for sandbox_id in ids for each in self._live.get(sandbox_id, ())]
        await self._cut(gone, "the sandbox is gone")
        await _ended(gone)

    async def _cut(self, connections: Sequence[Connection], why: str) -> None:
        """When this returns, the other sides have been told and nothing gets there any more. The sandbox's sides hear
        of it right afterwards, a few in each turn: a reset is 20 µs of the kernel's, and there may be thousands."""
        for each in connections:
            each.detail = each.detail or f"{CUT}{why}"
            each.reset_outside()
        unfinished = [each for each in connections if not each.is_whole]
        for each in unfinished:
            _cancel(each)
        await _ended(unfinished)
        if connections:
            task = asyncio.create_task(self._end(connections))
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    async def _end(self, connections: Sequence[Connection]) -> None:
        for step in (Connection.reset_inside, _cancel):
            for number, each in enumerate(connections):
                if number % CUTS_IN_A_TURN == 0:
                    await asyncio.sleep(0)
                step(each)
            await self._pump.release(way for each in connections for way in each.ways)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            now = time.monotonic()
            idle = [
                each
                for some in self._live.values()
                for each in some
                if each.idle_s(now) > (HALF_CLOSED_S if each.half_closed else IDLE_S)
            ]
            await self._cut(idle, "silent for too long")

    async def _watch_memory(self) -> None:
        while True:
            await asyncio.sleep(RELIEVE_S)
            excess = self._memory.in_use() - self._memory.limit
            if excess > 0:
                await self._relieve(excess)

    async def _relieve(self, excess: int) -> None:
        holdings: dict[str, list[tuple[int, Connection]]] = {}
        for sandbox_id, some in list(self._live.items()):
            holdings[sandbox_id] = [(held(each.client) + held(each.upstream), each) for each in some]
            await asyncio.sleep(0)
        greedy = too_greedy(holdings, excess, self._memory.limit)
        await self._cut(greedy, "it held too much of the host's memory for connections")

    # ---- accepting

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(ACCEPTS_IN_A_TURN):
            try:
                client, peer = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in OUT_OF_DESCRIPTORS:
                    log.warning("a connection has to wait: %s", error)
                    self._accept_later(listener)
                    return
                continue
            known = self._services.sandboxes.by_address(peer[0])
            if known is None:
                _reset(client)
            else:
                self._begin(client, known)

    def _accept_later(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(listener)

        def again() -> None:
            if listener is self._listener:
                loop.add_reader(listener, self._accept, listener)

        loop.call_later(PAUSE_S, again)

    def _begin(self, client: socket.socket, known: Known) -> None:
        client.setblocking(False)
        try:
            tune(client)
            hurry_if_near(client)
            address, port = original_destination(client)
        except OSError:  # it has left, or never was diverted
            _reset(client)
            return
        requests = self._requests.setdefault(known.id, Allowance(REQUESTS_PER_S, REQUESTS_BURST, time.monotonic()))
        connection = Connection(client, known.id, address, port, self._services, self._pump, requests)
        if not self._admit(known.id):
            connection.verdict, connection.rule = Outcome.DENIED, CONNECTIONS
            connection.close(False)
            connection.write_entry()
            return
        self._live[known.id].add(connection)
        connection.task = asyncio.create_task(self._serve(connection))

    def _admit(self, sandbox_id: str) -> bool:
        if not self._places.take(sandbox_id):
            return False
        if self._unnamed.take(sandbox_id):
            return True
        self._places.give_back(sandbox_id)
        return False

    # ---- one connection

    async def _serve(self, connection: Connection) -> None:
        naming = asyncio.timeout(NAME_S)
        unnamed = [connection.sandbox_id]

        def named() -> None:
            if unnamed:
                self._unnamed.give_back(unnamed.pop())
                naming.reschedule(None)

        clean = False
        try:
            async with naming:
                await self._converse(connection, named)
            clean = True
        except Refusal as refusal:
            if not connection.logged:
                connection.verdict, connection.rule, connection.detail = Outcome.DENIED, refusal.rule, refusal.detail
        except TimeoutError:
            connection.verdict, connection.rule = Outcome.DENIED, NO_NAME
            connection.detail = f"none was shown within {NAME_S:.0f} s"
        except Broken:
            pass
        except AtollError as error:
            connection.verdict, connection.detail = Outcome.FAILED, error.message
        except asyncio.CancelledError:
            pass  # nobody but `_cut` cancels it, and it waits for nothing but this end
        except Exception:
            log.exception("a connection of %s failed", connection.sandbox_id)
            connection.verdict, connection.detail = Outcome.FAILED, "an error of the proxy"
        connection.ending = True
        if connection.onward is None and connection.verdict is Outcome.ALLOWED:
            connection.verdict, connection.rule = Outcome.DENIED, NO_NAME
            connection.detail = connection.detail or "gone before one was shown"
        if unnamed:
            self._unnamed.give_back(unnamed.pop())
        await connection.release()
        connection.close(clean)
        self._places.give_back(connection.sandbox_id)
        self._forget(connection)
        if not connection.logged:
            connection.write_entry()

    def _forget(self, connection: Connection) -> None:
        living = self._live[connection.sandbox_id]
        living.discard(connection)
        if not living:
            del self._live[connection.sandbox_id]

    async def _converse(self, connection: Connection, named: Callable[[], None]) -> None:
        """`named` is called as soon as the name is known, or that there is none."""
        to_ingress = connection.address == VIP
        if not to_ingress and connection.port not in (HTTP_PORT, TLS_PORT):
            named()
            connection.take(connection.decide(None), None, NameSource.SNI)
            await tls_flow.carry(connection, b"")
            return
        first = await _first_bytes(connection)
        if first and (first[:1] != HANDSHAKE if to_ingress else connection.port == HTTP_PORT):
            await HttpFlow(connection, self._transformed).run(first, named)
            return
        hello, raw = await _hello(connection, first)
        named()
        name = normal(hello.name) if hello is not None and hello.name is not None else None
        ech = hello is not None and hello.ech
        connection.name_from = NameSource.SNI if name is not None else None
        onward = connection.decide(name, ech)
        connection.take(onward, name, NameSource.SNI, ech)
        if onward.transform is not None:
            await self._transformed(connection, raw, True)
        else:
            await tls_flow.carry(connection, raw)

    async def _transformed(self, connection: Connection, received: bytes, tls: bool) -> None:
        onward = connection.onward
        assert onward is not None
        assert onward.transform is not None
        if not self._talks.take(connection.sandbox_id):
            raise Refusal(CONNECTIONS, "too many connections with header rules")
        try:
            carried = await mitm.serve(
                mitm.Visit(
                    sock=connection.client,
                    received=received,
                    tls=tls,
                    transform=onward.transform,
                    dial=lambda: connection.dial(onward),
                    on_request=lambda method, path: connection.write_request(
                        method, path, onward.rule, Outcome.ALLOWED
                    ),
                ),
                self._services.authority,
                self._services.upstream_tls,
            )
        finally:
            self._talks.give_back(connection.sandbox_id)
        connection.sent += carried.bytes_out
        connection.received += carried.bytes_in
        connection.detail = carried.detail
        if carried.end is mitm.End.FAILED:
            connection.verdict = Outcome.FAILED
        elif carried.end is mitm.End.MALFORMED:
            raise Refusal(MALFORMED, carried.detail)
        elif carried.end is mitm.End.DENIED:
            raise Refusal(carried.rule, carried.detail)


def _cancel(connection: Connection) -> None:
    if connection.task is not None and not connection.ending:
        connection.task.cancel()


async def _ended(connections: Sequence[Connection]) -> None:
    tasks = [each.task for each in connections if each.task is not None]
    if tasks:
        await asyncio.wait(tasks)


async def _first_bytes(connection: Connection) -> bytes:
    """b"" from a client that ends at once, or that says nothing where no name is needed. Raises `Refusal`."""
    try:
        connection.decide(None)
    except Refusal:
        data = await connection.receive()
        if not data:
            raise Refusal(NO_NAME, "closed before one was shown") from None
        return data
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(SPEAK_FIRST_S):
            return await connection.receive()
    return b""


async def _hello(connection: Connection, first: bytes) -> tuple[Tls | None, bytes]:
    """And all that was read. None: it is not TLS, or has ended before it could be told."""
    sniffer = ClientHelloSniffer()
    data = first
    while data:
        event = await _sniffed(sniffer, data)
        if isinstance(event, Tls):
            return event, sniffer.take_rest()
        if isinstance(event, Malformed):
            raise Refusal(MALFORMED, event.why)
        if event is not NEED_MORE:
            break
        data = await connection.receive()
    return None, sniffer.take_rest()


async def _sniffed(sniffer: ClientHelloSniffer, data: bytes) -> Event:
    """What arrived together may be thousands of records; others have their turn."""
    sniffer.receive(data[:HELLO_AT_ONCE])
    event = sniffer.next_event()
    for start in range(HELLO_AT_ONCE, len(data), HELLO_AT_ONCE):
        if event is NEED_MORE:
            await turn()
        sniffer.receive(data[start : start + HELLO_AT_ONCE])
        event = sniffer.next_event()
    return event


def _reset(client: socket.socket) -> None:
    with contextlib.suppress(OSError):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    client.close()
