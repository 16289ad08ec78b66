"""HTTP/2 from clients to programs that speak HTTP/1.1: with a real client, and with hostile frames."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import gc
import json
import ssl
import time
from collections.abc import AsyncIterator

import httpx
import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    RequestReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.settings import SettingCodes

import own_ports
from atoll.agent import ports
from atoll.core.access import access_token
from atoll.core.settings import EdgeSettings, TlsFiles
from atoll.edge.certificates import Files, ensure
from atoll.edge.gate import h2_link
from atoll.edge.gate.client import KEPT_S, STALL_S
from atoll.edge.gate.gate import Gate
from atoll.edge.gate.grpc import Connection
from atoll.edge.main import serving
from atoll.wire.http2 import Frames, Kind

DOMAIN = "d.test"
PREFACE_AND_SETTINGS = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Files:
    made = Files(tmp_path_factory.mktemp("tls"))
    ensure(made, DOMAIN, "local", datetime.datetime.now(datetime.UTC))
    return made


class Program:
    """HTTP/1.1 by hand, so that the tests say every byte."""

    def __init__(self) -> None:
        self.port = 0
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []
        self.trailers: list[bytes] = []
        self.gone = asyncio.Event()
        self.release = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.heads.append(head)
                await self._answer(head, reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.gone.set()
        finally:
            writer.close()

    async def _answer(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path, low = head.split(b" ")[1], head.lower()
        if path == b"/early":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        if b"transfer-encoding: chunked" in low:
            body = b""
            while size := int((await reader.readline()).strip(), 16):
                body += (await reader.readexactly(size + 2))[:-2]
            end = await reader.readuntil(b"\r\n")
            while end[-4:] not in (b"\r\n", b"\r\n\r\n"):
                end += await reader.readuntil(b"\r\n")
            self.trailers.append(end)
        elif b"content-length: " in low:
            body = await reader.readexactly(int(low.split(b"content-length: ")[1].split(b"\r\n")[0]))
        else:
            body = b""
        self.bodies.append(body)
        if path == b"/early":
            return
        if path == b"/trailers":
            said = b"Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 6\r\n\r\n"
        elif path == b"/slow":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na")
            released, closed = asyncio.create_task(self.release.wait()), asyncio.create_task(reader.read(1))
            await asyncio.wait((released, closed), return_when=asyncio.FIRST_COMPLETED)
            released.cancel()
            if closed.done():
                raise ConnectionError
            closed.cancel()
            await asyncio.wait((released, closed))
            writer.write(b"b")
            return
        elif path == b"/broken":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nabc")
            await writer.drain()
            writer.transport.abort()
            raise ConnectionError
        elif path == b"/big":
            said = b"Content-Length: 5000000\r\n\r\n" + b"x" * 5_000_000
        else:
            said = b"Content-Length: 2\r\nX-App: Yes\r\nConnection: keep-alive\r\nSet-Cookie: a=1\r\n\r\nok"
        writer.write(b"HTTP/1.1 200 OK\r\n" + said)
        await writer.drain()


@pytest.fixture
async def program() -> AsyncIterator[Program]:
    made = Program()
    server = await asyncio.start_server(made.serve, sock=own_ports.bound())
    made.port = server.sockets[0].getsockname()[1]
    yield made
    server.close()


@pytest.fixture(autouse=True)
async def nothing_goes_unheard() -> AsyncIterator[None]:
    """No callback and no task ends with an error that nobody takes."""
    unheard: list[dict] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: unheard.append(context))
    yield
    gc.collect(1)
    assert [each for each in unheard if not isinstance(each.get("exception"), ConnectionError)] == []


def open_inside(gates: list[Gate]) -> int:
    """Requests to programs that are under way."""
    return sum(each.open for gate in gates for each in gate._links._ports.values())


async def until(condition) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


@pytest.fixture
async def port(places, server, kit, files, ports_socket, gates) -> AsyncIterator[int]:
    server.routes[kit.SANDBOX] = kit.route(kit.SANDBOX, ports_socket)
    settings = EdgeSettings(places, "127.0.0.1", 0, domain=DOMAIN, tls=TlsFiles(files.cert, files.key))
    async with serving(settings) as running:
        await running.routes.ready.wait()
        yield running.port


@pytest.fixture
async def web(port, files, kit, program) -> AsyncIterator[httpx.AsyncClient]:
    trusting = ssl.create_default_context(cafile=str(files.ca))
    headers = {"X-API-Key": kit.API_KEY, "Host": f"{program.port}-{kit.SANDBOX}.{DOMAIN}"}
    async with httpx.AsyncClient(
        http2=True, verify=trusting, base_url=f"https://localhost:{port}", headers=headers, timeout=20
    ) as client:
        yield client


async def test_a_control_plane_answer_without_a_body_is_not_relayed_before_the_table_knows(web, kit, server):
    """Its head is the whole answer: the client goes on with that, and nobody listens to the handler any more."""
    server.sends("POST", f"/v1/sandboxes/{kit.SANDBOX}/pause", b"", 204)
    server.tells_routes.clear()
    call = asyncio.create_task(web.post(f"/v1/sandboxes/{kit.SANDBOX}/pause", headers={"Host": DOMAIN}))
    await server.route_asked.wait()
    assert not (await asyncio.wait({call}, timeout=0.2))[0]
    server.tells_routes.set()
    assert (await call).status_code == 204


async def test_a_program_of_http_1_is_reached_and_sees_no_credential(web, program, kit):
    answer = await web.get("/a?b=c", headers={"X-Mine": "1", "Cookie": "x=1; y=2"})
    assert (answer.http_version, answer.status_code, answer.text) == ("HTTP/2", 200, "ok")
    assert answer.headers["x-app"] == "Yes"
    assert "connection" not in answer.headers
    head = program.heads[0]
    assert head.startswith(b"GET /a?b=c HTTP/1.1\r\nHost: %d-" % program.port)
    assert b"x-mine: 1\r\n" in head
    assert b"Cookie: x=1; y=2\r\n" in head
    assert b"X-Forwarded-Proto: https\r\n" in head
    assert kit.API_KEY.encode() not in head
    assert b"transfer-encoding" not in head.lower()


async def test_bodies_with_and_without_a_length(web, program):
    data = bytes(range(256)) * 4096

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(data), 10_000):
            yield data[at : at + 10_000]

    assert (await web.post("/", content=data)).text == "ok"
    assert (await web.post("/", content=pieces())).text == "ok"
    assert program.bodies == [data, data]
    assert b"content-length: 1048576" in program.heads[0].lower()
    assert b"Transfer-Encoding: chunked" in program.heads[1]


async def test_many_at_once_on_one_connection_and_a_big_one(web, program):
    program.release.set()
    answers = await asyncio.gather(*(web.get("/slow" if n % 2 else "/big") for n in range(20)))
    assert [len(answer.content) for answer in answers] == [2 if n % 2 else 5_000_000 for n in range(20)]


async def test_a_slow_one_holds_up_no_other(web, program):
    slow = asyncio.create_task(web.get("/slow"))
    assert (await web.get("/")).text == "ok"
    assert not slow.done()
    program.release.set()
    assert (await slow).text == "ab"


async def test_head_and_refusals(web, kit, program, monkeypatch):
    monkeypatch.setattr(ports, "WAITS_S", (0.0,))
    assert (await web.head("/")).content == b""
    refused = await web.get("/", headers={"X-API-Key": ""})
    assert (refused.status_code, refused.json()["code"]) == (401, "INVALID_TOKEN")
    refused = await web.post("/", headers={"X-API-Key": ""}, content=b"x" * 300_000)
    assert refused.status_code == 401
    nowhere = await web.get("/", headers={"Host": f"1-{kit.SANDBOX}.{DOMAIN}"})
    assert (nowhere.status_code, nowhere.json()["code"]) == (502, "PORT_CLOSED")
    assert (await web.get("/")).text == "ok"
    assert len(program.heads) == 2


async def test_the_api_and_the_agents_surface(web, kit, agent, places):
    assert (await web.get("/", headers={"Host": DOMAIN})).json()["name"] == "atoll"
    answer = await web.get(f"/s/{kit.SANDBOX}/health", headers={"Host": DOMAIN})
    assert answer.headers["x-request-id"].startswith("req_")
    refused = await web.get("/nothing", headers={"Host": DOMAIN})
    assert (refused.status_code, refused.json()["code"]) == (404, "ROUTE_NOT_FOUND")


async def test_an_answer_that_breaks_off_is_no_whole_one(web):
    with pytest.raises(httpx.RemoteProtocolError):
        await web.get("/broken")
    assert (await web.get("/")).text == "ok"


async def test_a_client_that_leaves_is_a_close_inside(web, program):
    async with web.stream("GET", "/slow") as answer:
        assert await anext(answer.aiter_raw()) == b"a"
        assert not program.gone.is_set()
    await web.aclose()
    async with asyncio.timeout(5):
        await program.gone.wait()


async def test_a_client_of_http_1_keeps_it(port, files, kit, program):
    trusting = ssl.create_default_context(cafile=str(files.ca))
    async with httpx.AsyncClient(verify=trusting, base_url=f"https://localhost:{port}") as client:
        answer = await client.get(
            "/", headers={"X-API-Key": kit.API_KEY, "Host": f"{program.port}-{kit.SANDBOX}.{DOMAIN}"}
        )
    assert (answer.http_version, answer.text) == ("HTTP/1.1", "ok")


# ---- by hand


class Hand:
    """A client that says what the tests want, well-formed or not."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        config = H2Configuration(
            validate_outbound_headers=False, normalize_outbound_headers=False, header_encoding=None
        )
        self.conn = H2Connection(config)
        self.conn.initiate_connection()

    def ask(self, fields: list[tuple[bytes, bytes]], end: bool = True) -> int:
        number = self.conn.get_next_available_stream_id()
        self.conn.send_headers(number, fields, end_stream=end)
        return number

    async def send(self) -> None:
        self.writer.write(self.conn.data_to_send())
        await self.writer.drain()

    async def more(self) -> list[object]:
        """What comes next."""
        async with asyncio.timeout(10):
            data = await self.reader.read(65536)
        assert data
        events = self.conn.receive_data(data)
        self.writer.write(self.conn.data_to_send())
        return events

    async def events(self, *until: type) -> list[object]:
        """Up to the first of a kind, or to the end of the connection."""
        seen: list[object] = []
        async with asyncio.timeout(10):
            while not any(isinstance(event, until) for event in seen):
                data = await self.reader.read(65536)
                if not data:
                    return seen
                seen += self.conn.receive_data(data)
                self.writer.write(self.conn.data_to_send())
        return seen


@pytest.fixture
async def hand(port, files) -> AsyncIterator[Hand]:
    trusting = ssl.create_default_context(cafile=str(files.ca))
    trusting.set_alpn_protocols(["h2"])
    reader, writer = await asyncio.open_connection("localhost", port, ssl=trusting)
    assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "h2"
    yield Hand(reader, writer)
    writer.transport.abort()


def head_of(program: Program, kit, *more: tuple[bytes, bytes], path: bytes = b"/") -> list[tuple[bytes, bytes]]:
    return [
        (b":method", b"POST"),
        (b":scheme", b"https"),
        (b":authority", f"{program.port}-{kit.SANDBOX}.{DOMAIN}".encode()),
        (b":path", path),
        (b"x-api-key", kit.API_KEY.encode()),
        *more,
    ]


async def test_trailers_pass_both_ways(hand, program, kit):
    hand.ask(head_of(program, kit, path=b"/trailers"))
    await hand.send()
    events = await hand.events(StreamEnded)
    assert b"".join(event.data for event in events if isinstance(event, DataReceived)) == b"abc"
    (trailers,) = [event.headers for event in events if isinstance(event, TrailersReceived)]
    assert trailers == [(b"x-sum", b"6")]


SMUGGLED = {
    "line end in a value": (b"x-a", b"b\r\nTransfer-Encoding: chunked"),
    "line feed in a value": (b"x-a", b"b\nX: y"),
    "NUL in a value": (b"x-a", b"b\0c"),
    "line end in a name": (b"x-a\r\nx", b"b"),
    "colon in a name": (b"x-a: b\r\nx", b"c"),
    "blank in a name": (b"x a", b"b"),
    "transfer-encoding": (b"transfer-encoding", b"chunked"),
    "connection": (b"connection", b"keep-alive"),
    "upgrade": (b"upgrade", b"h2c"),
    "another length": (b"content-length", b"5"),
    "transfer_encoding": (b"transfer_encoding", b"chunked"),
    "another host": (b"host", b"x.test"),
    "upper case": (b"X-A", b"b"),
}


@pytest.mark.parametrize("field", SMUGGLED.values(), ids=SMUGGLED)
async def test_a_field_that_http_1_could_not_carry_reaches_nobody(hand, program, kit, field):
    hand.ask(head_of(program, kit, field))
    await hand.send()
    events = await hand.events(ResponseReceived, StreamReset, ConnectionTerminated)
    statuses = [dict(event.headers)[b":status"] for event in events if isinstance(event, ResponseReceived)]
    assert all(status[:1] == b"4" for status in statuses)
    assert program.heads == []


@pytest.mark.parametrize("path", [b"", b"x", b"/a b", b"/a\r\nX: y", b"/a#b", b"http://x/", b"*", b"/\0"])
async def test_a_path_that_is_none_reaches_nobody(hand, program, kit, path):
    hand.ask(head_of(program, kit, path=path))
    await hand.send()
    events = await hand.events(ResponseReceived, StreamReset, ConnectionTerminated)
    statuses = [dict(event.headers)[b":status"] for event in events if isinstance(event, ResponseReceived)]
    assert all(status == b"400" for status in statuses)
    assert program.heads == []


async def test_a_body_longer_than_its_length_is_refused(hand, program, kit):
    number = hand.ask(head_of(program, kit, (b"content-length", b"3")), end=False)
    hand.conn.send_data(number, b"abcGET /evil HTTP/1.1\r\n\r\n", end_stream=True)
    await hand.send()
    await hand.events(ConnectionTerminated)
    assert all(b"evil" not in head for head in program.heads)
    assert all(b"evil" not in body for body in program.bodies)


async def test_streams_that_are_begun_and_reset_without_end_end_the_connection(hand, program, kit):
    with contextlib.suppress(ConnectionError):
        for _ in range(2000):
            number = hand.ask(head_of(program, kit, path=b"/slow"))
            hand.conn.reset_stream(number)
            await hand.send()
    with contextlib.suppress(ConnectionError):
        events = await hand.events(ConnectionTerminated)
        assert any(isinstance(event, ConnectionTerminated) for event in events)
    assert len(program.heads) < 1000


async def test_frames_that_only_cost_us_work_end_the_connection(hand):
    for _ in range(3000):
        hand.conn.ping(b"12345678")
    await hand.send()
    assert any(isinstance(event, ConnectionTerminated) for event in await hand.events(ConnectionTerminated))


async def test_a_client_that_opens_no_window_costs_a_bounded_buffer(hand, program, kit):
    hand.conn.update_settings({4: 0})
    hand.ask(head_of(program, kit, path=b"/big"))
    await hand.send()
    events = await hand.events(ResponseReceived)
    assert any(isinstance(event, ResponseReceived) for event in events)
    await asyncio.sleep(0.2)  # whatever would be read meanwhile
    assert json.dumps([type(event).__name__ for event in events]).count("DataReceived") == 0


# ---- smuggling


async def test_a_body_that_trailers_end_before_its_length_leaves_no_connection_behind(hand, program, kit):
    """The next request, of anybody, would be read as the rest of it."""
    number = hand.ask(head_of(program, kit, (b"content-length", b"100"), path=b"/early"), end=False)
    hand.conn.send_data(number, b"x" * 10)
    hand.conn.send_headers(number, [(b"x-sum", b"1")], end_stream=True)
    await hand.send()
    await hand.events(StreamReset, ConnectionTerminated)
    hand.ask(head_of(program, kit, path=b"/next"))
    await hand.send()
    events = await hand.events(StreamEnded)
    assert b"".join(event.data for event in events if isinstance(event, DataReceived)) == b"ok"
    assert program.heads[-1].startswith(b"POST /next ")
    assert program.bodies == [b""]


async def test_trailers_of_a_request_pass_but_for_what_only_we_say(hand, program, kit):
    number = hand.ask(head_of(program, kit), end=False)
    hand.conn.send_data(number, b"abc")
    ours = [(b"x_forwarded_for", b"1.2.3.4"), (b"x-atoll-a", b"b"), (b"content-type", b"a/b"), (b"x-api_key", b"k")]
    hand.conn.send_headers(number, [(b"x-sum", b"6"), *ours], end_stream=True)
    await hand.send()
    await hand.events(StreamEnded)
    assert program.bodies == [b"abc"]
    assert program.trailers == [b"x-sum: 6\r\n\r\n"]


@pytest.mark.parametrize("length", [b"00", b"03", b"+3", b"3,3", b"9" * 19, b""])
async def test_a_length_is_a_number_as_http_1_has_it(hand, program, kit, length):
    number = hand.ask(head_of(program, kit, (b"content-length", length)), end=False)
    hand.conn.send_data(number, b"abc", end_stream=True)
    await hand.send()
    events = await hand.events(StreamEnded, StreamReset, ConnectionTerminated)
    assert all(dict(event.headers)[b":status"] == b"400" for event in events if isinstance(event, ResponseReceived))
    assert program.heads == []


@pytest.mark.parametrize("more", [[], [(b":protocol", b"websocket")]])
async def test_there_are_no_tunnels(hand, program, kit, more):
    fields = [field for field in head_of(program, kit) if more or field[0] not in (b":path", b":scheme")]
    hand.ask([(b":method", b"CONNECT"), *more, *fields[1:]], end=False)
    await hand.send()
    events = await hand.events(StreamEnded, StreamReset, ConnectionTerminated)
    assert all(dict(event.headers)[b":status"] == b"405" for event in events if isinstance(event, ResponseReceived))
    assert program.heads == []


async def test_grpc_for_browsers_goes_to_a_program_of_http_1(hand, program, kit):
    hand.ask(head_of(program, kit, (b"content-type", b"application/grpc-web+proto")))
    await hand.send()
    (answer,) = [each for each in await hand.events(StreamEnded) if isinstance(each, ResponseReceived)]
    assert dict(answer.headers)[b":status"] == b"200"


# ---- windows and settings


async def test_bodies_that_nobody_took_hold_up_no_other(hand, program, kit):
    await hand.send()
    await hand.more()
    for _ in range(50):
        number = hand.ask(head_of(program, kit), end=False)
        for _ in range(3):
            hand.conn.send_data(number, b"x" * 16_000)
        hand.conn.reset_stream(number)
        await hand.send()
        while hand.conn.outbound_flow_control_window < 48_000:
            await hand.more()
    number = hand.ask(head_of(program, kit), end=False)
    left = 3_000_000
    while left:
        room = min(left, 16_000, hand.conn.local_flow_control_window(number))
        if room:
            hand.conn.send_data(number, b"x" * room)
            left -= room
        await hand.send()
        if not room:
            await hand.more()
    hand.conn.end_stream(number)
    await hand.send()
    await hand.events(StreamEnded)
    assert len(program.bodies[-1]) == 3_000_000


async def test_windows_that_a_setting_opens_are_used(hand, program, kit):
    hand.conn.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 0})
    hand.ask(head_of(program, kit))
    await hand.send()
    await hand.events(ResponseReceived)
    hand.conn.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 1000})
    await hand.send()
    events = await hand.events(StreamEnded)
    assert b"".join(event.data for event in events if isinstance(event, DataReceived)) == b"ok"


async def test_windows_opened_in_small_steps_are_no_flood(hand, program, kit):
    number = hand.ask(head_of(program, kit, path=b"/big"))
    await hand.send()
    size = taken = 0
    while size < 5_000_000:
        events = await hand.more()
        assert [each for each in events if isinstance(each, ConnectionTerminated | StreamReset)] == []
        for event in events:
            if isinstance(event, DataReceived):
                size += len(event.data)
        while taken + 2048 <= size < 5_000_000:
            taken += 2048
            hand.conn.increment_flow_control_window(2048)
            hand.conn.increment_flow_control_window(2048, number)
        await hand.send()


async def test_a_client_that_says_goodbye_gets_its_answer(hand, program, kit):
    hand.ask(head_of(program, kit, path=b"/slow"))
    await hand.send()
    await hand.events(ResponseReceived)
    hand.writer.write(frame(7, bytes(8)))
    hand.conn.ping(b"12345678")
    await hand.send()
    await hand.more()
    program.release.set()
    events = await hand.events(ConnectionTerminated)
    assert any(isinstance(event, StreamEnded) for event in events)


async def test_what_we_remember_of_fields_is_ours_to_say(hand, program, kit):
    hand.conn.update_settings({SettingCodes.HEADER_TABLE_SIZE: 2**31})
    hand.ask(head_of(program, kit))
    await hand.send()
    await hand.events(StreamEnded)
    assert hand.conn.decoder.header_table_size == 4096


async def test_settings_that_nobody_knows_are_not_kept(hand, gates, program, kit):
    await hand.send()
    for start in range(16, 40_000, 2000):
        hand.writer.write(frame(4, b"".join(each.to_bytes(2) + bytes(4) for each in range(start, start + 2000)), 0))
    hand.ask(head_of(program, kit))
    await hand.send()
    assert any(isinstance(event, StreamEnded) for event in await hand.events(StreamEnded))
    (client,) = gates[0].crowd._clients
    assert len(client.conn.remote_settings) < 10


# ---- floods


def frame(kind: int, body: bytes = b"", stream: int = 0, flags: int = 0) -> bytes:
    return len(body).to_bytes(3) + bytes((kind, flags)) + stream.to_bytes(4) + body


OF_A_CLOSED_STREAM = {
    "windows": frame(8, b"\0\0\0\1", 1),
    "resets": frame(3, bytes(4), 1),
    "priorities": frame(2, bytes(5), 1),
    "frames of no known kind": frame(0x42, b"", 1),
}


@pytest.mark.parametrize("flood", OF_A_CLOSED_STREAM.values(), ids=OF_A_CLOSED_STREAM)
async def test_frames_for_a_stream_that_is_over_are_counted(hand, program, kit, flood):
    hand.ask(head_of(program, kit))
    await hand.send()
    await hand.events(StreamEnded)
    with contextlib.suppress(ConnectionError):
        hand.writer.write(flood * 5000)
        events = await hand.events(ConnectionTerminated)
        assert any(isinstance(event, ConnectionTerminated) for event in events)


async def test_a_frame_that_would_be_too_large_is_not_awaited(hand):
    await hand.send()
    hand.writer.write(b"\xff\xff\xff\0\0\0\0\0\1")
    assert any(isinstance(event, ConnectionTerminated) for event in await hand.events(ConnectionTerminated))


async def test_a_head_that_never_ends_is_not_awaited(hand):
    await hand.send()
    hand.writer.write(frame(1, bytes(16_000), 1) + frame(9, bytes(16_000), 1) * 4)
    assert any(isinstance(event, ConnectionTerminated) for event in await hand.events(ConnectionTerminated))


async def test_a_refused_request_that_is_taken_back_at_once_ends_nothing_else(hand, program, kit):
    hand.ask(head_of(program, kit, path=b"/slow"))
    await hand.send()
    await hand.events(ResponseReceived)
    bad = hand.ask(head_of(program, kit, path=b"/a b"))
    hand.conn.reset_stream(bad)
    again = hand.ask(head_of(program, kit, path=b"/a b"), end=False)
    hand.conn.send_data(again, b"x")
    hand.conn.reset_stream(again)
    await hand.send()
    program.release.set()
    events = await hand.events(StreamEnded, ConnectionTerminated)
    assert any(isinstance(event, StreamEnded) and event.stream_id == 1 for event in events)


async def test_resets_that_a_client_provokes_are_counted_as_its_own(hand, program, kit):
    """Windows that it opens too far (CVE-2025-8671)."""
    writer, frames = hand.writer, Frames(from_client=False)
    await hand.send()
    with contextlib.suppress(ConnectionError):
        for number in range(1, 2001, 2):
            head = hand.conn.encoder.encode(head_of(program, kit, path=b"/slow"))
            writer.write(frame(1, head, number, 5) + frame(8, b"\x7f\xff\xff\xff", number))
        await writer.drain()
        kinds: set[int] = set()
        while Kind.GOAWAY not in kinds and (data := await hand.reader.read(65536)):
            frames.feed(data)
            while (each := frames.next()) is not None:
                kinds.add(each.kind)
        assert Kind.GOAWAY in kinds
    assert len(program.heads) < 500


async def test_many_who_take_nothing_cost_a_bounded_buffer(hand, gates, program, kit):
    hand.conn.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 0})
    for _ in range(50):
        hand.ask(head_of(program, kit, path=b"/big"))
    await hand.send()
    heads = 0
    while heads < 50:
        heads += sum(isinstance(event, ResponseReceived) for event in await hand.more())
    for _ in range(50):
        hand.conn.ping(b"12345678")
        await hand.send()
        await hand.more()
    (client,) = gates[0].crowd._clients
    assert client.waiting() < 2_000_000
    hand.writer.transport.abort()
    await until(lambda: open_inside(gates) == 0)


async def test_a_client_that_is_gone_leaves_nothing_inside(hand, gates, program, kit):
    for _ in range(20):
        hand.ask(head_of(program, kit, path=b"/slow"))
        hand.ask(head_of(program, kit), end=False)
    await hand.send()
    await until(lambda: open_inside(gates) == 40)
    hand.writer.transport.abort()
    await program.gone.wait()
    await until(lambda: open_inside(gates) == 0 and not gates[0].crowd._clients)


async def test_who_reads_nothing_is_ended_all_the_same(hand, gates, program, kit, monkeypatch):
    monkeypatch.setattr(h2_link, "CLOSING_S", 0.05)
    hand.writer.transport.pause_reading()
    hand.conn.increment_flow_control_window(2**30)
    hand.conn.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 2**30})
    for _ in range(10):
        hand.ask(head_of(program, kit, path=b"/big"))
    await hand.send()
    await until(lambda: gates[0].crowd._clients and next(iter(gates[0].crowd._clients))._paused)
    hand.writer.write(b"\xff\xff\xff\0\0\0\0\0\1")
    await until(lambda: not gates[0].crowd._clients)


async def test_what_takes_too_long_is_ended(hand, gates, program, kit):
    hand.conn.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 0})
    stuck = hand.ask(head_of(program, kit))
    await hand.send()
    await hand.events(ResponseReceived)
    gates[0].crowd.sweep(time.monotonic() + STALL_S + 1)
    events = await hand.events(StreamReset, ConnectionTerminated)
    assert any(isinstance(event, StreamReset) and event.stream_id == stuck for event in events)
    assert open_inside(gates) == 0
    gates[0].crowd.sweep(time.monotonic() + KEPT_S + 1)
    assert any(isinstance(event, ConnectionTerminated) for event in await hand.events(ConnectionTerminated))


class Ear(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.written, self.reads, self.closed = b"", True, False

    def write(self, data: bytes) -> None:
        self.written += data

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close

    def get_write_buffer_size(self) -> int:
        return len(self.written)


async def test_many_frames_at_once_leave_others_their_turn():
    """A program's, which has the edge's loop for itself as long as they are read."""
    ear, connection = Ear(), Connection(lambda gone: None)
    connection.connection_made(ear)
    connection.data_received(SETTINGS + frame(6, bytes(8)) * 500)
    pong = frame(6, bytes(8), flags=1)
    assert ear.written.count(pong) < 100
    assert not ear.reads
    await until(lambda: ear.reads)
    assert ear.written.count(pong) == 500
    connection.connection_lost(None)


# ---- programs of HTTP/2 (gRPC)


class Server:
    """Of HTTP/2 in the clear, by hand."""

    def __init__(self) -> None:
        self.port = self.connections = 0
        self.script = answer_well
        self.closed = asyncio.Event()
        self.release = asyncio.Event()
        self.seen: list[object] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        config = H2Configuration(
            client_side=False,
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
            header_encoding=None,
        )
        conn = H2Connection(config)
        conn.initiate_connection()
        with contextlib.suppress(ConnectionError):
            await self.script(self, reader, writer, conn)
        self.closed.set()
        writer.close()

    async def requests(self, reader, writer, conn) -> AsyncIterator[object]:
        while True:
            writer.write(conn.data_to_send())
            data = await reader.read(65536)
            if not data:
                return
            for event in conn.receive_data(data):
                self.seen.append(event)
                if isinstance(event, RequestReceived):
                    yield event
            writer.write(conn.data_to_send())


GRPC_HEAD = [(b":status", b"200"), (b"content-type", b"application/grpc")]


async def answer_well(server, reader, writer, conn) -> None:
    async for event in server.requests(reader, writer, conn):
        conn.send_headers(event.stream_id, GRPC_HEAD)
        conn.send_data(event.stream_id, b"hello")
        conn.send_headers(event.stream_id, [(b"grpc-status", b"0")], end_stream=True)


@pytest.fixture
async def grpc_server() -> AsyncIterator[Server]:
    made = Server()
    server = await asyncio.start_server(made.serve, sock=own_ports.bound())
    made.port = server.sockets[0].getsockname()[1]
    yield made
    server.close()


def call_of(server: Server, kit) -> list[tuple[bytes, bytes]]:
    return head_of(server, kit, (b"content-type", b"application/grpc"), (b"te", b"trailers"))


async def test_a_call_and_its_trailers(hand, grpc_server, kit):
    hand.ask(call_of(grpc_server, kit))
    await hand.send()
    events = await hand.events(StreamEnded)
    assert b"".join(event.data for event in events if isinstance(event, DataReceived)) == b"hello"
    (trailers,) = [event.headers for event in events if isinstance(event, TrailersReceived)]
    assert trailers == [(b"grpc-status", b"0")]


async def test_a_failure_without_messages_is_one_head(hand, grpc_server, kit):
    """Clients in Go take it in no other way."""

    async def script(server, reader, writer, conn) -> None:
        async for event in server.requests(reader, writer, conn):
            conn.send_headers(event.stream_id, [*GRPC_HEAD, (b"grpc-status", b"12")], end_stream=True)

    grpc_server.script = script
    hand.ask(call_of(grpc_server, kit))
    await hand.send()
    (answer,) = [each for each in await hand.events(StreamEnded) if isinstance(each, ResponseReceived)]
    assert (b"grpc-status", b"12") in answer.headers
    assert answer.stream_ended is not None


async def test_calls_at_once_share_connections(hand, grpc_server, kit, gates):
    for _ in range(60):
        hand.ask(call_of(grpc_server, kit))
    await hand.send()
    ended = 0
    while ended < 60:
        ended += sum(isinstance(event, StreamEnded) for event in await hand.more())
    assert grpc_server.connections == 1
    assert open_inside(gates) == 0


async def test_a_call_that_its_client_takes_back_is_taken_back_inside(hand, grpc_server, kit, gates):
    async def script(server, reader, writer, conn) -> None:
        async for event in server.requests(reader, writer, conn):
            conn.send_headers(event.stream_id, GRPC_HEAD)

    grpc_server.script = script
    number = hand.ask(call_of(grpc_server, kit), end=False)
    await hand.send()
    await hand.events(ResponseReceived)
    hand.conn.reset_stream(number, 8)
    await hand.send()
    await until(lambda: any(isinstance(event, StreamReset) for event in grpc_server.seen))
    assert open_inside(gates) == 0


async def test_an_execution_that_its_client_takes_back_is_taken_back_inside(hand, gates, server, agent, kit):
    """Its connection goes on, so nothing else says that nobody listens."""
    agent.streams("POST", "/contexts/default-python/execute", kit.frame({"type": "start"}), asyncio.Event())
    server.publish(kit.route(kit.SANDBOX, agent.socket, incarnation=2))
    await until(lambda: gates[0]._finder.routes.table.get(kit.SANDBOX).socket == str(agent.socket))
    body, token = b'{"code": "1"}', access_token(bytes.fromhex(kit.KEY), kit.SANDBOX).encode()
    asked = {
        b":method": b"POST",
        b":scheme": b"https",
        b":authority": f"49999-{kit.SANDBOX}.{DOMAIN}".encode(),
        b":path": b"/execute",
        b"x-access-token": token,
    }
    number = hand.ask(list(asked.items()), end=False)
    hand.conn.send_data(number, body, end_stream=True)
    await hand.send()
    await hand.events(DataReceived)
    hand.conn.reset_stream(number, 8)
    await hand.send()
    await asyncio.wait_for(agent.left.wait(), 5)


async def test_a_server_that_shuts_down_ends_its_calls_well(hand, grpc_server, kit):
    async def script(server, reader, writer, conn) -> None:
        async for event in server.requests(reader, writer, conn):
            writer.write(frame(7, b"\x7f\xff\xff\xff" + bytes(4)))
            conn.send_headers(event.stream_id, GRPC_HEAD)
            writer.write(conn.data_to_send())
            await server.release.wait()
            conn.send_headers(event.stream_id, [(b"grpc-status", b"0")], end_stream=True)

    grpc_server.script = script
    hand.ask(call_of(grpc_server, kit))
    await hand.send()
    await hand.events(ResponseReceived)
    hand.ask(call_of(grpc_server, kit))  # on another connection
    await hand.send()
    await hand.events(ResponseReceived)
    grpc_server.release.set()
    ended = 0
    while ended < 2:
        ended += sum(isinstance(event, StreamEnded) for event in await hand.more())
    assert grpc_server.connections == 2


SETTINGS = frame(4)


def says(*words: bytes, close: bool = False):
    """After the request."""

    async def script(server, reader, writer, conn) -> None:
        await reader.readuntil(b"SM\r\n\r\n")
        for each in words:
            writer.write(each)
        if not close:
            await reader.read()

    return script


async def pushes(server, reader, writer, conn) -> None:
    conn.remote_settings = conn.local_settings
    async for event in server.requests(reader, writer, conn):
        writer.write(conn.data_to_send() + frame(5, b"\0\0\0\2" + b"\x82\x84\x86", event.stream_id, 4))


def answers(*fields: tuple[bytes, bytes], trailers: list[tuple[bytes, bytes]] | None = None):
    async def script(server, reader, writer, conn) -> None:
        async for event in server.requests(reader, writer, conn):
            conn.send_headers(event.stream_id, list(fields))
            if trailers is not None:
                writer.write(conn.data_to_send())
                block = conn.encoder.encode(trailers)
                writer.write(frame(1, block, event.stream_id, 5))

    return script


HOSTILE = {
    "speaks HTTP/1.1": says(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    "closes": says(close=True),
    "closes after its settings": says(SETTINGS, close=True),
    "takes no calls": says(SETTINGS, frame(7, bytes(8))),
    "resets": says(SETTINGS, frame(3, bytes(4), 1)),
    "has a frame too large": says(SETTINGS, b"\xff\xff\xff\0\0\0\0\0\1"),
    "has a head without end": says(SETTINGS, frame(1, bytes(16_000), 1), *[frame(9, bytes(16_000), 1)] * 4),
    "floods with pings": says(SETTINGS, frame(6, bytes(8)) * 5000),
    "floods with settings": says(SETTINGS * 5000),
    "floods with preliminary answers": says(SETTINGS, frame(1, b"\x08\x03103", 1, 4) * 50),
    "overflows its window": says(SETTINGS, frame(1, b"\x88", 1, 4), frame(0, bytes(16_000), 1) * 200),
    "opens our window too far": says(SETTINGS, frame(8, b"\x7f\xff\xff\xff") * 2),
    "pushes": pushes,
    "has no status": answers((b"content-type", b"application/grpc")),
    "switches": answers((b":status", b"101")),
    "has a field of one connection": answers(*GRPC_HEAD, (b"connection", b"close")),
    "has a line end in a field": answers(*GRPC_HEAD, (b"x-a", b"b\r\nx: y")),
    "has upper case in trailers": answers(*GRPC_HEAD, trailers=[(b"Grpc-Status", b"0")]),
    "has a pseudo-header in trailers": answers(*GRPC_HEAD, trailers=[(b":status", b"200")]),
}


@pytest.mark.parametrize("script", HOSTILE.values(), ids=HOSTILE)
async def test_a_hostile_server_fails_its_own_call_and_no_other(hand, program, grpc_server, kit, gates, script):
    grpc_server.script = script
    hand.conn.increment_flow_control_window(2**20)
    failing = hand.ask(call_of(grpc_server, kit))
    await hand.send()
    events = await hand.events(StreamEnded, StreamReset, ConnectionTerminated)
    assert not any(isinstance(event, ConnectionTerminated) for event in events)
    first = next((event for event in events if isinstance(event, ResponseReceived)), None)
    was_reset = any(isinstance(event, StreamReset) and event.stream_id == failing for event in events)
    assert was_reset or (first is not None and dict(first.headers)[b":status"] == b"502")
    hand.ask(head_of(program, kit))
    await hand.send()
    assert any(isinstance(event, StreamEnded) for event in await hand.events(StreamEnded))
    await until(lambda: open_inside(gates) == 0)
