"""Programs in a sandbox, reached through the edge: a real edge, the agent's real port handlers, real servers inside."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
import pytest
from aiohttp import web

import own_ports
from atoll.agent.handlers import ports as handlers
from atoll.agent.http_server import Counters, Request
from atoll.agent.http_server import listen as agent_listen
from atoll.core.access import access_token
from atoll.core.settings import EdgeSettings
from atoll.edge.gate import fields
from atoll.edge.gate import gate as ingress
from atoll.edge.main import serving

DOMAIN = "sandboxes.test"


@dataclass
class Inside:
    """What listens in the sandbox, and what has reached it."""

    socket_path: str
    seen: list[web.Request] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    left: asyncio.Event = field(default_factory=asyncio.Event)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    listening: list[int] | None = None
    port: int = 0


async def echo(inside: Inside, request: web.Request) -> web.StreamResponse:
    inside.seen.append(request)
    inside.bodies.append(await request.read())
    return web.json_response(
        {
            "method": request.method,
            "target": request.raw_path,
            "headers": [[name, value] for name, value in request.headers.items()],
            "size": len(inside.bodies[-1]),
        },
        headers={"X-App": "yes"},
    )


async def events(inside: Inside, request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    await response.write(b"data: 1\n\n")
    try:
        await inside.go_on.wait()
    except asyncio.CancelledError:
        inside.left.set()
        raise
    await response.write(b"data: 2\n\n")
    return response


async def shout(inside: Inside, request: web.Request) -> web.StreamResponse:
    ws = web.WebSocketResponse(protocols=("chat",))
    await ws.prepare(request)
    try:
        async for message in ws:
            if message.data == "bye":
                await ws.close(code=4001, message=b"as you wish")
            elif isinstance(message.data, str):
                await ws.send_str(message.data.upper())
            else:
                await ws.send_bytes(message.data)
    finally:
        inside.left.set()
    return ws


async def cookies(inside: Inside, request: web.Request) -> web.StreamResponse:
    inside.seen.append(request)
    response = web.Response(text="x")
    for text in ("a=1; Path=/; HttpOnly", "b=2; Domain=test", "c=3; Path=/sub"):
        response.headers.add("Set-Cookie", text)
    response.headers["Service-Worker-Allowed"] = "/"
    response.headers["Clear-Site-Data"] = '"*"'
    response.headers["Location"] = "/login"
    return response


async def partial(inside: Inside, request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b"x" * 10)
    request.transport.close()  # type: ignore[union-attr]
    return response


async def ranged(inside: Inside, request: web.Request) -> web.StreamResponse:
    del inside
    return web.FileResponse(__file__)


ROUTES = {
    "/events": events,
    "/ws": shout,
    "/cookies": cookies,
    "/partial": partial,
    "/file": ranged,
}


@asynccontextmanager
async def program(inside: Inside) -> AsyncIterator[int]:
    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        return await ROUTES.get(request.path, echo)(inside, request)  # type: ignore[arg-type]

    async def whole(app: web.Request) -> web.StreamResponse:
        return await handle(app)

    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{tail:.*}", whole)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.SockSite(runner, own_ports.bound()).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@pytest.fixture
async def inside(agent, places) -> AsyncIterator[Inside]:
    """The agent's place in the route is taken by its port handlers."""
    made = Inside(str(places.run / "ports.sock"))

    async def dispatch(request: Request) -> object:
        if request.path == "/ports":
            if made.listening is not None:
                return {"ports": [{"port": port, "address": "127.0.0.1"} for port in made.listening]}
            return await handlers.listing(None, request)  # type: ignore[arg-type]
        request.parameters = {"id": request.path.split("/")[2]}
        return await handlers.connect(None, request)  # type: ignore[arg-type]

    sock = socket.socket(socket.AF_UNIX)
    sock.bind(made.socket_path)
    server = await agent_listen(sock, dispatch, Counters())  # type: ignore[arg-type]
    async with program(made) as made.port:
        yield made
    server.close()


@pytest.fixture
async def edge(places, server, kit, inside):
    server.routes[kit.SANDBOX] = kit.route(kit.SANDBOX, inside.socket_path)
    server.routes[kit.OTHER] = kit.route(kit.OTHER, places.run / "nobody.sock", inbound_auth="public")
    async with serving(EdgeSettings(places, "127.0.0.1", 0, domain=DOMAIN, region="here")) as running:
        await running.routes.ready.wait()
        yield running


@dataclass
class Visitor:
    session: aiohttp.ClientSession
    origin: str
    base: str
    headers: dict[str, str]

    def get(self, path: str = "/", **more):
        return self.ask("GET", path, **more)

    def ask(self, method: str, path: str, headers: dict[str, str] | None = None, **more):
        return self.session.request(
            method,
            self.origin + self.base + path,
            headers=self.headers | (headers or {}),
            allow_redirects=False,
            **more,
        )


@pytest.fixture
def visitor(session, origin, kit, inside) -> Visitor:
    return Visitor(session, origin, f"/s/{kit.SANDBOX}/{inside.port}", {"X-API-Key": kit.API_KEY})


def at_host(visitor: Visitor, label: str, **headers: str) -> Visitor:
    return Visitor(visitor.session, visitor.origin, "", visitor.headers | {"Host": f"{label}.{DOMAIN}:1"} | headers)


async def test_a_path_leads_to_the_port(visitor, inside):
    async with visitor.get("/a/b?c=%20d&e", headers={"X-Mine": "1"}) as response:
        assert response.status == 200
        assert response.headers["X-App"] == "yes"
        heard = await response.json()
    assert heard["target"] == "/a/b?c=%20d&e"
    assert ["X-Mine", "1"] in heard["headers"]


async def test_a_host_leads_to_the_port_with_and_without_region_and_suffix(visitor, inside, kit):
    for label in (f"{inside.port}-{kit.SANDBOX}", f"{inside.port}-{kit.SANDBOX}.here"):
        for path, target in (("/x?y", "/x?y"), ("/x.vms.hopx.dev/x?y", "/x?y"), ("/x.vms.hopx.dev", "/")):
            async with at_host(visitor, label).get(path) as response:
                heard = await response.json()
                assert heard["target"] == target
                assert ["Host", f"{label}.{DOMAIN}:1"] in heard["headers"]


async def test_the_agents_port_is_its_surface(visitor, kit, inside):
    for path, host in ((f"/s/{kit.SANDBOX}/7777/info", None), ("/x.vms.hopx.dev/info", f"7777-{kit.SANDBOX}.{DOMAIN}")):
        headers = {"Host": host} if host else {}
        async with visitor.session.get(visitor.origin + path, headers=headers) as response:
            assert (response.status, (await response.json())["code"]) == (401, "INVALID_TOKEN")


async def test_a_name_below_the_domain_is_never_the_control_plane(visitor, server, inside):
    for host in (f"cpi.{DOMAIN}", f"8000-short.{DOMAIN}", f"a.b.c.{DOMAIN}"):
        async with visitor.session.get(f"{visitor.origin}/v1/sandboxes", headers={"Host": host}) as response:
            assert response.status == 404
    assert not server.asked("GET", "/v1/sandboxes")


@pytest.mark.parametrize("port", ["0", "08000", "65536", "99999999999999999999"])
async def test_what_is_no_port_is_said_so(visitor, kit, port):
    async with visitor.session.get(f"{visitor.origin}/s/{kit.SANDBOX}/{port}/") as response:
        assert (response.status, (await response.json())["code"]) == (404, "NO_SUCH_PORT")


async def test_the_path_without_its_slash_leads_to_the_one_with_it(visitor):
    async with visitor.get("?a=b") as response:
        assert (response.status, response.headers["Location"]) == (308, f"{visitor.base}/?a=b")


# ---- who gets in


async def test_without_a_credential_nobody_gets_in(visitor, inside):
    async with visitor.session.get(visitor.origin + visitor.base + "/") as response:
        assert (response.status, (await response.json())["code"]) == (401, "INVALID_TOKEN")
        assert response.headers["WWW-Authenticate"] == "Bearer"
    async with visitor.session.get(visitor.origin + visitor.base + "/", headers={"Accept": "text/html"}) as response:
        assert response.status == 401
        assert response.content_type == "text/html"
        assert "API key" in await response.text()
    assert not inside.seen


async def test_a_wrong_key_and_the_token_of_another_sandbox_are_refused(visitor, inside, kit):
    for headers in (
        {"X-API-Key": "e2b_" + "1" * 40},
        {"Authorization": "Bearer e2b_" + "1" * 40},
        {"Authorization": f"Bearer {kit.token_for(kit.OTHER)}"},
        {"Authorization": f"Bearer {kit.token_for(kit.SANDBOX, lifetime_s=-1)}"},
        {"Authorization": f"Bearer {kit.token_for(kit.SANDBOX, key='00' * 32)}"},
        {"X-API-Key": "anything"},
    ):
        async with visitor.session.get(visitor.origin + visitor.base + "/", headers=headers) as response:
            assert response.status == 401, headers
    assert not inside.seen


@pytest.mark.parametrize("sent", ["key as X-API-Key", "key as bearer", "token as bearer", "token as X-API-Key", "both"])
async def test_the_credential_that_opened_is_not_seen_inside(visitor, inside, kit, sent):
    key, token = kit.API_KEY, kit.token_for(kit.SANDBOX)
    headers = {
        "key as X-API-Key": {"X-API-Key": key},
        "key as bearer": {"Authorization": f"Bearer {key}"},
        "token as bearer": {"Authorization": f"bearer  {token}"},
        "token as X-API-Key": {"X-API-Key": token},
        "both": {"X-API-Key": key, "Authorization": f"Bearer {token}"},
    }[sent]
    async with visitor.session.get(visitor.origin + visitor.base + "/", headers=headers) as response:
        arrived = await response.text()
    assert key not in arrived
    assert token not in arrived
    assert response.status == 200


async def test_what_is_the_programs_own_is_left_alone(visitor, kit):
    for own in ("Bearer of.the.app", "Basic dTpw", "Bearer " + "x" * 40):
        async with visitor.get("/", headers={"Authorization": own}) as response:
            assert ["Authorization", own] in (await response.json())["headers"]
    headers = {"Authorization": f"Bearer {kit.token_for(kit.SANDBOX)}", "X-API-Key": "the-apps"}
    async with visitor.session.get(visitor.origin + visitor.base + "/", headers=headers) as response:
        assert ["X-API-Key", "the-apps"] in (await response.json())["headers"]


async def test_an_access_token_of_ours_opens_no_port_and_is_not_seen_inside(visitor, inside, kit):
    for sandbox_id in (kit.SANDBOX, kit.OTHER):
        token = access_token(bytes.fromhex(kit.KEY), sandbox_id)
        async with visitor.get("/", headers={"X-Access-Token": token}) as response:
            assert response.status == 200
            assert token not in await response.text()
    seen = len(inside.seen)
    headers = {"X-Access-Token": access_token(bytes.fromhex(kit.KEY), kit.SANDBOX)}
    async with visitor.session.get(visitor.origin + visitor.base + "/", headers=headers) as response:
        assert response.status == 401
    assert len(inside.seen) == seen
    async with visitor.get("/", headers={"X-Access-Token": "the-programs"}) as response:
        assert ["X-Access-Token", "the-programs"] in (await response.json())["headers"]


async def test_a_token_for_another_sandbox_does_not_get_in_beside_a_good_key(visitor, kit):
    other = kit.token_for(kit.OTHER)
    async with visitor.get("/", headers={"Authorization": f"Bearer {other}"}) as response:
        assert other not in await response.text()


async def test_two_credentials_of_one_name_are_refused(visitor, inside, kit):
    port = int(visitor.origin.rpartition(":")[2])
    keys = f"X-API-Key: {kit.API_KEY}\r\nX-API-Key: b\r\n"
    raw = await raw_exchange(port, f"GET {visitor.base}/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{keys}\r\n")
    assert raw.startswith(b"HTTP/1.1 400 ")
    assert not inside.seen


async def test_a_public_sandbox_is_open_and_still_sees_no_credential_of_ours(visitor, server, inside, kit, edge):
    server.publish(kit.route(kit.SANDBOX, inside.socket_path, inbound_auth="public"))
    await edge.routes.refresh(kit.SANDBOX)
    async with visitor.session.get(visitor.origin + visitor.base + "/") as response:
        assert response.status == 200
    async with visitor.get("/") as response:
        assert kit.API_KEY not in await response.text()
    async with visitor.session.get(f"{visitor.origin}/s/{kit.SANDBOX}/info") as response:
        assert response.status == 401  # its agent is not


async def test_an_unknown_word_for_who_gets_in_means_nobody(visitor, server, inside, kit, edge):
    server.publish(kit.route(kit.SANDBOX, inside.socket_path, inbound_auth="Public"))
    await edge.routes.refresh(kit.SANDBOX)
    async with visitor.session.get(visitor.origin + visitor.base + "/") as response:
        assert response.status == 401


# ---- the sandbox's own host


async def test_the_own_host_is_the_agents_for_its_token_and_else_the_programs(visitor, inside, kit):
    inside.listening = [inside.port]
    async with at_host(visitor, kit.SANDBOX).get("/health") as response:
        assert (await response.json())["target"] == "/health"
    bearer = {"Authorization": f"Bearer {kit.token_for(kit.SANDBOX)}"}
    mine = Visitor(visitor.session, visitor.origin, "", {"Host": f"{kit.SANDBOX}.{DOMAIN}"} | bearer)
    async with mine.get("/jupyter/sessions") as response:  # which the stand-in for the agent does not have
        assert response.headers.get("X-App") is None
    async with mine.get("/") as response:
        assert (await response.json())["target"] == "/"


async def test_several_ports_and_no_web_port_are_listed(visitor, inside, kit):
    inside.listening = [3000, 5173]
    async with at_host(visitor, kit.SANDBOX).get("/") as response:
        body = await response.json()
        assert (response.status, body["code"], body["details"]["listening"]) == (404, "NO_WEB_PORT", [3000, 5173])
    async with at_host(visitor, kit.SANDBOX, Accept="text/html").get("/") as response:
        assert "3000, 5173" in await response.text()


@pytest.mark.parametrize(
    ("listening", "port"), [([], 8000), ([8000], 8000), ([22, 8000], 8000), ([5000], 5000), ([1, 2], None)]
)
def test_the_web_port(listening, port):
    assert ingress.web_port(listening) == port


# ---- what passes


async def test_hops_before_us_are_not_believed_and_ours_is_told(visitor):
    lies = {"X-Forwarded-For": "6.6.6.6", "X_Forwarded_Proto": "https", "Forwarded": "for=6.6.6.6", "X-Real-IP": "6"}
    async with visitor.get("/", headers={**lies, "Connection": "close, X-Hop", "X-Hop": "1"}) as response:
        headers = {name.lower(): value for name, value in (await response.json())["headers"]}
    assert headers["x-forwarded-for"] == "127.0.0.1"
    assert headers["x-forwarded-proto"] == "http"
    assert headers["x-forwarded-host"] == visitor.origin.removeprefix("http://")
    assert headers["x-forwarded-prefix"] == visitor.base
    assert not {"x_forwarded_proto", "forwarded", "x-real-ip", "x-hop"} & headers.keys()


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"])
async def test_methods_and_bodies_pass(visitor, inside, method):
    async with visitor.ask(method, "/", data=b"body") as response:
        heard = await response.json()
        assert (heard["method"], heard["size"]) == (method, 4)


async def test_trace_and_connect_do_not_pass(visitor, inside):
    async with visitor.ask("TRACE", "/") as response:
        assert response.status == 405
    assert not inside.seen


async def test_a_chunked_upload_and_its_size_pass(visitor, inside):
    async def parts() -> AsyncIterator[bytes]:
        for _ in range(300):
            yield b"0123456789" * 1000

    async with visitor.ask("POST", "/", data=parts()) as response:
        assert (await response.json())["size"] == 3_000_000
    assert inside.seen[0].headers["Transfer-Encoding"] == "chunked"
    assert "Content-Length" not in inside.seen[0].headers


async def test_head_and_range(visitor):
    size = os.path.getsize(__file__)
    async with visitor.ask("HEAD", "/file") as response:
        assert response.headers["Content-Length"] == str(size)
        assert await response.read() == b""
    async with visitor.get("/file", headers={"Range": "bytes=3-9"}) as response:
        assert (response.status, response.headers["Content-Range"]) == (206, f"bytes 3-9/{size}")
        assert len(await response.read()) == 7


async def test_an_event_arrives_before_the_next_is_made(visitor, inside):
    async with visitor.get("/events") as response:
        assert await response.content.readuntil(b"\n\n") == b"data: 1\n\n"
        inside.go_on.set()
        assert await response.content.read() == b"data: 2\n\n"


async def test_a_client_that_leaves_is_a_client_that_leaves_inside(visitor, inside):
    async with visitor.get("/events") as response:
        await response.content.readuntil(b"\n\n")
        response.close()
    async with asyncio.timeout(5):
        await inside.left.wait()


async def test_half_an_answer_is_not_passed_for_a_whole_one(visitor):
    async with visitor.get("/partial") as response:
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()


async def test_a_target_is_passed_as_it_was_written(visitor, origin, kit, inside):
    port = int(origin.rpartition(":")[2])
    for path in ("//a//b", "/a/%2e%2e/b", "/%C3%A9?x=%2F", "/a;b=c"):
        await raw_exchange(
            port,
            f"GET {visitor.base}{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-API-Key: {kit.API_KEY}\r\n\r\n",
        )
        assert inside.seen[-1].raw_path == path


# ---- WebSockets


async def test_a_websocket_passes_text_bytes_subprotocol_and_close_code(visitor, inside):
    url = visitor.origin + visitor.base + "/ws"
    async with visitor.session.ws_connect(url, headers=visitor.headers, protocols=("chat",), compress=15) as ws:
        assert ws.protocol == "chat"
        assert ws.compress
        await ws.send_str("hello" * 1000)
        assert await ws.receive_str() == "HELLO" * 1000
        await ws.send_bytes(b"\0\xff" * 500_000)
        assert await ws.receive_bytes() == b"\0\xff" * 500_000
        await ws.ping()
        await ws.send_str("bye")
        message = await ws.receive()
        assert (message.type, message.data, message.extra) == (aiohttp.WSMsgType.CLOSE, 4001, "as you wish")


async def test_a_websocket_that_the_client_drops_ends_inside(visitor, inside):
    ws = await visitor.session.ws_connect(visitor.origin + visitor.base + "/ws", headers=visitor.headers)
    await ws.send_str("x")
    await ws.receive()
    ws._conn.transport.abort()
    async with asyncio.timeout(5):
        await inside.left.wait()
    await ws.close()


async def test_a_websocket_needs_a_credential(visitor, inside):
    with pytest.raises(aiohttp.WSServerHandshakeError, match="401"):
        await visitor.session.ws_connect(visitor.origin + visitor.base + "/ws")


# ---- ends


async def test_a_closed_port_is_told_after_five_tries(visitor, kit):
    with own_ports.bound() as unused:
        url = f"{visitor.origin}/s/{kit.SANDBOX}/{unused.getsockname()[1]}/"
        begun = asyncio.get_running_loop().time()
        async with visitor.session.get(url, headers=visitor.headers) as response:
            assert (response.status, (await response.json())["code"]) == (502, "PORT_CLOSED")
        assert 1.5 < asyncio.get_running_loop().time() - begun < 3


async def test_a_port_that_opens_meanwhile_is_reached(visitor, kit):
    with own_ports.bound() as late:
        url = f"{visitor.origin}/s/{kit.SANDBOX}/{late.getsockname()[1]}/"

        async def answer() -> None:
            late.listen()
            late.setblocking(False)
            connection, _ = await asyncio.get_running_loop().sock_accept(late)
            with connection:
                await asyncio.get_running_loop().sock_recv(connection, 4096)
                await asyncio.get_running_loop().sock_sendall(connection, b"HTTP/1.0 200 OK\r\n\r\nlate")

        asked = asyncio.create_task(fetch(visitor, url))
        await asyncio.sleep(0.3)  # the first tries are over
        await answer()
        assert await asked == (200, b"late")


async def fetch(visitor: Visitor, url: str) -> tuple[int, bytes]:
    async with visitor.session.get(url, headers=visitor.headers) as response:
        return response.status, await response.read()


async def test_a_deleted_sandbox_ends_open_answers_and_tunnels(visitor, server, inside, kit):
    ws = await visitor.session.ws_connect(visitor.origin + visitor.base + "/ws", headers=visitor.headers)
    async with visitor.get("/events") as response:
        await response.content.readuntil(b"\n\n")
        server.publish({"id": kit.SANDBOX, "removed": True})
        async with asyncio.timeout(5):
            with pytest.raises(aiohttp.ClientError):
                await response.content.read()
            assert (await ws.receive()).type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSE)
    async with visitor.get("/") as response:
        assert response.status == 404


@pytest.mark.parametrize("state", ["paused", "stopped"])
async def test_a_sandbox_that_does_not_run_says_so(visitor, server, inside, kit, edge, state):
    server.publish(kit.route(kit.SANDBOX, inside.socket_path, state=state))
    await edge.routes.refresh(kit.SANDBOX)
    async with visitor.get("/", headers={"Accept": "text/html"}) as response:
        assert response.status == 409
        page = await response.text()
    assert state in page
    assert 'http-equiv="refresh"' in page


async def test_what_is_in_use_counts_as_activity(visitor, inside, edge, kit):
    async with visitor.get("/events") as response:
        await response.content.readuntil(b"\n\n")
        assert edge.activity.open_calls(kit.SANDBOX) == 1
    inside.go_on.set()


async def test_more_connections_than_allowed_are_refused(visitor, inside, monkeypatch):
    monkeypatch.setattr("atoll.edge.gate.upstream.Ports.__init__.__defaults__", (1,), raising=False)
    async with visitor.get("/events") as response:
        await response.content.readuntil(b"\n\n")
        async with visitor.get("/") as refused:
            assert (refused.status, (await refused.json())["code"]) == (503, "TOO_MANY_CONNECTIONS")
    inside.go_on.set()


# ---- origins


async def test_by_path_an_answer_is_confined(visitor, inside):
    async with visitor.get("/cookies") as response:
        headers = response.headers
        assert headers["Content-Security-Policy"].startswith("sandbox ")
        assert "allow-same-origin" not in headers["Content-Security-Policy"]
        assert not {"Service-Worker-Allowed", "Clear-Site-Data"} & set(headers)
        assert headers.getall("Set-Cookie") == [
            f"atoll-a=1; HttpOnly; Path={visitor.base}/",
            f"atoll-c=3; Path={visitor.base}/sub",
        ]
        assert headers["Location"] == f"{visitor.base}/login"
    async with visitor.get("/", headers={"Cookie": "session=of-another; atoll-a=1; b=2"}) as response:
        assert ["Cookie", "a=1"] in (await response.json())["headers"]


async def test_by_host_an_answer_keeps_what_is_its_own(visitor, inside, kit):
    async with at_host(visitor, f"{inside.port}-{kit.SANDBOX}").get("/cookies") as response:
        assert "Content-Security-Policy" not in response.headers
        assert response.headers.getall("Set-Cookie") == ["a=1; Path=/; HttpOnly", "c=3; Path=/sub"]
        assert response.headers["Location"] == "/login"


@pytest.mark.parametrize(
    ("location", "below"),
    [
        ("/a?b#c", "/m/a?b#c"),
        ("a", "a"),
        ("//evil.test/", "//evil.test/"),
        ("/\\evil.test", "/\\evil.test"),
        ("http://h:1/a", "/m/a"),
        ("http://h:1", "/m/"),
        ("http://h:2/a", "http://h:2/a"),
        ("http://[", "http://["),
    ],
)
def test_where_an_answer_points_by_path(location, below):
    assert fields.below(location, "/m", "h:1") == below


# ---- smuggling

SMUGGLED = {
    "length and chunked": "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /evil HTTP/1.1\r\n\r\n",
    "two lengths": "Content-Length: 0\r\nContent-Length: 30\r\n\r\nGET /evil HTTP/1.1\r\n\r\n",
    "list of lengths": "Content-Length: 0, 30\r\n\r\n",
    "signed length": "Content-Length: +5\r\n\r\n12345",
    "chunked twice": "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "not last chunked": "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "folded header": "X-A: b\r\n c: d\r\n\r\n",
    "blank before the colon": "Content-Length : 5\r\n\r\n12345",
    "bare line feed": "X-A: b\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "bare carriage return": "X-A: b\rTransfer-Encoding: chunked\r\n\r\n",
    "NUL": "X-A: \0\r\n\r\n",
    "two hosts": "Host: y\r\n\r\n",
    "bad chunk size": "Transfer-Encoding: chunked\r\n\r\n0x5\r\nabcde\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("rest", SMUGGLED.values(), ids=SMUGGLED.keys())
async def test_a_request_with_two_readings_reaches_nobody(visitor, inside, kit, rest):
    port = int(visitor.origin.rpartition(":")[2])
    head = f"POST {visitor.base}/ HTTP/1.1\r\nHost: x\r\nX-API-Key: {kit.API_KEY}\r\n"
    answer = await raw_exchange(port, head + rest)
    assert answer.split(b" ")[1] == b"400", answer
    assert not inside.bodies


async def raw_exchange(port: int, text: str) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(text.encode())
        async with asyncio.timeout(5):
            return await reader.read()
    finally:
        writer.close()


# ---- programs that misbehave

BROKEN = {
    "nothing": b"",
    "no HTTP": b"SSH-2.0-OpenSSH\r\n",
    "an upgrade that nobody asked for": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "preliminary answers for ever": b"HTTP/1.1 103 Early Hints\r\n\r\n" * 17
    + b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "an endless head": b"HTTP/1.1 200 OK\r\nX: " + b"a" * 200_000,
}


@pytest.mark.parametrize("said", BROKEN.values(), ids=BROKEN.keys())
async def test_a_program_that_speaks_no_http_is_told(visitor, kit, said):
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(said)
        writer.close()

    server = await asyncio.start_server(speak, sock=own_ports.bound())
    url = f"{visitor.origin}/s/{kit.SANDBOX}/{server.sockets[0].getsockname()[1]}/"
    async with visitor.session.get(url, headers=visitor.headers) as response:
        assert (response.status, (await response.json())["code"]) == (502, "BROKEN_ANSWER")
    server.close()


async def test_bytes_that_are_no_text_in_a_header_do_not_break_the_answer(visitor, kit):
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(
            b"HTTP/1.1 103 Early Hints\r\n\r\n" * 16 + b"HTTP/1.1 200 K\xff\r\nX-A: \xe9\r\nContent-Length: 2\r\n\r\nok"
        )
        writer.close()

    server = await asyncio.start_server(speak, sock=own_ports.bound())
    url = f"{visitor.origin}/s/{kit.SANDBOX}/{server.sockets[0].getsockname()[1]}/"
    assert await fetch(visitor, url) == (200, b"ok")
    server.close()
