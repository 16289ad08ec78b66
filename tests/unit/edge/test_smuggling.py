"""What two servers could read in two ways, sent to a real edge: the program inside reads with h11, and writes down
each request that it has whole."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field

import h11
import pytest

import own_ports
from atoll.core.settings import EdgeSettings
from atoll.edge.main import serving
from fuzz.cuts import cut
from fuzz.targets.http1_request import read_stream
from tests.smuggling import Case, Passed, cases

DOMAIN = "sandboxes.test"
STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3}) ")
MARK = b"/that-is-all"


@dataclass
class Arrived:
    method: bytes
    target: bytes
    fields: list[tuple[bytes, bytes]]
    body: bytes = b""
    trailers: list[tuple[bytes, bytes]] = field(default_factory=list)

    def differs_from(self, told: Passed) -> str:
        names = {name for name, _ in self.fields}
        for what, found, wanted in (
            ("method", self.method, told.method),
            ("target", self.target, told.target),
            ("body", self.body, told.body),
            ("trailers", self.trailers, list(told.trailers)),
            ("missing", set(told.has) - set(self.fields), set()),
            ("too many", names & set(told.lacks), set()),
        ):
            if found != wanted:
                return f"{what}: {found!r} and not {wanted!r}"
        return ""


class Recorder:
    def __init__(self) -> None:
        self.arrived: list[Arrived] = []
        self.rubbish: list[str] = []

    def taken(self) -> list[Arrived]:
        arrived, self.arrived = self.arrived, []
        return arrived

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=128 * 1024)
        try:
            while (request := await self._request(connection, reader)) is not None:
                self.arrived.append(request)
                answer = h11.Response(status_code=200, headers=[("Content-Length", "2")])
                writer.write(connection.send(answer) or b"")
                writer.write(connection.send(h11.Data(b"" if request.method == b"HEAD" else b"ok")) or b"")
                writer.write(connection.send(h11.EndOfMessage()) or b"")
                connection.start_next_cycle()
        except h11.RemoteProtocolError as error:
            if reader.at_eof():
                return  # given up before its end
            self.rubbish.append(str(error))
        except ConnectionError:
            return
        finally:
            writer.close()

    async def _request(self, connection: h11.Connection, reader: asyncio.StreamReader) -> Arrived | None:
        request: Arrived | None = None
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(await reader.read(65536))
            elif isinstance(event, h11.Request):
                request = Arrived(event.method, event.target, list(event.headers))
            elif request is None:
                return None
            elif isinstance(event, h11.Data):
                request.body += event.data
            elif isinstance(event, h11.EndOfMessage):
                request.trailers = list(event.headers)
                return request
            else:
                raise h11.RemoteProtocolError(f"{event}")


@dataclass
class Site:
    """One port of a public sandbox, and the way to it."""

    recorder: Recorder
    host: bytes
    edge_port: int

    async def says(self, pieces: Iterable[bytes]) -> list[int]:
        """The status of each answer, until it closes the connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.edge_port)
        try:
            hearing = asyncio.create_task(reader.read(-1))
            for piece in pieces:
                if hearing.done():
                    break
                writer.write(piece)
                await asyncio.sleep(0)
            async with asyncio.timeout(10):
                return [int(status) for status in STATUS.findall(await hearing)]
        finally:
            writer.transport.abort()

    def last(self) -> bytes:
        return b"GET " + MARK + b" HTTP/1.1\r\nHost: " + self.host + b"\r\nConnection: close\r\n\r\n"


@pytest.fixture
async def site(places, server, kit, ports_socket) -> AsyncIterator[Site]:
    recorder = Recorder()
    program = await asyncio.start_server(recorder.serve, sock=own_ports.bound())
    port = program.sockets[0].getsockname()[1]

    server.routes[kit.SANDBOX] = kit.route(kit.SANDBOX, ports_socket, inbound_auth="public")
    async with serving(EdgeSettings(places, "127.0.0.1", 0, domain=DOMAIN)) as running:
        await running.routes.ready.wait()
        yield Site(recorder, f"{port}-{kit.SANDBOX}.{DOMAIN}".encode(), running.port)
    program.close()


async def wrong_about(site: Site, case: Case, raw: Iterable[bytes]) -> str:
    statuses = await site.says(raw)
    assert await site.says([site.last()]) == [200]
    *arrived, mark = site.recorder.taken()
    assert mark.target == MARK
    told = [] if case.at_edge else list(case.passed)
    wanted = [case.at_edge] if case.at_edge else [200] * len(told)
    if case.status:
        wanted.append(case.status)
    elif not case.closes:
        told.append(Passed(b"GET", MARK))
        wanted.append(200)
    if site.recorder.rubbish:
        return f"arrived: {site.recorder.rubbish.pop()}"
    if len(arrived) != len(told):
        return f"arrived: {[(each.method, each.target) for each in arrived]}; answered: {statuses}"
    differences = [
        difference for one, other in zip(arrived, told, strict=True) if (difference := one.differs_from(other))
    ]
    return "; ".join(differences) or (f"answered: {statuses} and not {wanted}" if statuses != wanted else "")


async def all_wrong(site: Site, some: Iterable[Case], *, in_pieces: bool) -> dict[str, str]:
    found = {}
    for case in some:
        raw = case.raw if case.status or case.closes else case.raw + site.last()
        if wrong := await wrong_about(site, case, cut(raw) if in_pieces else [raw]):
            found[case.name] = wrong
    return found


async def test_nothing_of_what_is_refused_arrives_and_what_passes_arrives_once(site):
    assert await all_wrong(site, cases(site.host), in_pieces=False) == {}


async def test_nor_when_it_comes_in_pieces(site):
    """Of a connection that closes the rest would meet nobody, and a reset could overtake the answer."""
    small = [case for case in cases(site.host) if len(case.raw) < 4096 and not case.closes]
    assert await all_wrong(site, small, in_pieces=True) == {}


async def test_the_api_answers_nothing_more_than_what_passes(site):
    """Another parser reads it behind ours: both have to be of one mind about where each request ends."""
    here = Site(site.recorder, b"localhost", site.edge_port)
    for case in cases(here.host):
        going_on = not (case.status or case.closes)
        statuses = await here.says([case.raw + here.last()] if going_on else [case.raw])
        statuses = [status for status in statuses if status != 100]
        before, last = statuses[: len(case.passed)], statuses[len(case.passed) :]
        if going_on:
            ends_there = len(before) == 1 and before[0] in (400, 405)
            assert last == [404] or (ends_there and not last), (case.name, statuses)
        elif begins_well(case):
            assert len(last) <= 1, (case.name, statuses)
        else:
            assert last == [case.status] * (case.status is not None), (case.name, statuses)
    assert site.recorder.taken() == []


def begins_well(case: Case) -> bool:
    """It is the body that is refused, when the API has the head already."""
    return case.status is not None and len(read_stream([case.raw])[0]) > len(case.passed)


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
@pytest.mark.parametrize("upgrade", [b"tcp", b"foo", b"websocket, foo", b"h2c"])
async def test_an_upgrade_that_the_api_does_not_know_is_no_way_past_the_gate(site, upgrade, version):
    here = Site(site.recorder, b"localhost", site.edge_port)
    lines = (b"Host: localhost", b"Connection: keep-alive, Upgrade", b"Upgrade: " + upgrade)
    head = b"\r\n".join([b"GET /v1/x HTTP/" + version, *lines, b"", b""])
    assert await here.says([head + b"GET /v1/x HTTP/1.1\r\nHost : localhost\r\n\r\n"]) == [404, 400]
    assert await here.says([head + here.last()]) == [404, 404]
