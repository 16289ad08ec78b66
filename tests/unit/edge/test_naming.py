"""Ports that are named by fields or tokens, E2B's answers, traffic tokens, masked hosts, TLS inside, signed links."""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import json
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import jwt
import pytest

import own_ports
from atoll.core.settings import EdgeSettings
from atoll.edge.access_log import FLUSH_S
from atoll.edge.certificates import Files, ensure
from atoll.edge.main import serving

TRAFFIC = "a-traffic-token"
DIGEST = hashlib.sha256(TRAFFIC.encode()).hexdigest()
DOMAIN = "sandboxes.test"


class Inside:
    """What a request looks like when it arrives: its head is the answer's body."""

    def __init__(self) -> None:
        self.port = self.tls_port = 0
        self.heads: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                self.heads.append(head)
                said = head.encode("latin-1")
                fields = b"Set-Cookie: a=1\r\nClear-Site-Data: *\r\n"
                writer.write(b"HTTP/1.1 200 OK\r\n%bContent-Length: %d\r\n\r\n%b" % (fields, len(said), said))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Files:
    made = Files(tmp_path_factory.mktemp("tls"))
    ensure(made, DOMAIN, "local", datetime.datetime.now(datetime.UTC))
    return made


@pytest.fixture
async def inside(agent, ports_socket, files) -> AsyncIterator[Inside]:
    made = Inside()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.cert, files.key)
    plain = await asyncio.start_server(made.serve, sock=own_ports.bound())
    tls = await asyncio.start_server(made.serve, sock=own_ports.bound(), ssl=context)
    made.port, made.tls_port = (each.sockets[0].getsockname()[1] for each in (plain, tls))
    yield made
    plain.close()
    tls.close()


class Edge:
    def __init__(self, port: int, session: aiohttp.ClientSession) -> None:
        self.origin = f"http://127.0.0.1:{port}"
        self._session = session

    @asynccontextmanager
    async def get(self, path: str = "/", **headers: str) -> AsyncIterator[aiohttp.ClientResponse]:
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self._session.get(self.origin + path, headers=fields, allow_redirects=False) as response:
            yield response

    async def json(self, path: str = "/", **headers: str) -> tuple[int, dict]:
        async with self.get(path, **headers) as response:
            return response.status, await response.json(content_type=None)


@pytest.fixture
def offered() -> dict:
    """More of the sandbox's route."""
    return {}


@pytest.fixture
async def edge(places, server, kit, inside, ports_socket, offered) -> AsyncIterator[Edge]:
    ours = {"https_ports": [inside.tls_port], "web_port": inside.port}
    told = {name: ours.get(name, value) for name, value in offered.items()}
    server.routes[kit.SANDBOX] = kit.route(kit.SANDBOX, ports_socket, **told)
    async with serving(EdgeSettings(places, "127.0.0.1", 0, domain=DOMAIN)) as running:
        await running.routes.ready.wait()
        async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
            yield Edge(running.port, session)


def at(port: int, kit, **more: str) -> dict[str, str]:
    return {"Host": f"{port}-{kit.SANDBOX}.{DOMAIN}", **more}


PUBLIC = {"inbound_auth": "public", "dialect": "e2b"}
SECURED = {"inbound_auth": "public", "dialect": "e2b", "traffic_digest": DIGEST}


# ---- named by fields


@pytest.mark.parametrize("offered", [PUBLIC])
@pytest.mark.parametrize("vendor", ["E2b", "Novita"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", f"sandbox.{DOMAIN}", DOMAIN])
async def test_fields_name_a_port_on_a_shared_host_and_stay_outside(edge, inside, kit, vendor, host):
    named = {f"{vendor}-Sandbox-Id": kit.SANDBOX, f"{vendor}-Sandbox-Port": str(inside.port)}
    async with edge.get("/a?b", Host=host, **named) as response:
        assert response.status == 200
        assert response.headers["Content-Security-Policy"].startswith("sandbox")
        assert "Set-Cookie" not in response.headers
        assert "Clear-Site-Data" not in response.headers
    (head,) = inside.heads
    assert head.startswith("GET /a?b HTTP/1.1\r\n")
    assert "sandbox-id" not in head.lower()
    assert "sandbox-port" not in head.lower()


@pytest.mark.parametrize("offered", [PUBLIC])
async def test_fields_do_not_count_on_a_sandboxs_own_host(edge, inside, kit):
    named = {"E2b-Sandbox-Id": kit.OTHER, "E2b-Sandbox-Port": "1"}
    async with edge.get("/", **at(inside.port, kit), **named) as response:
        assert response.status == 200


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({"E2b-Sandbox-Id": "a" * 20}, "missing header"),
        ({"E2b-Sandbox-Port": "80"}, "missing header"),
        ({"E2b-Sandbox-Id": "A b", "E2b-Sandbox-Port": "80"}, "Invalid sandbox ID"),
        ({"E2b-Sandbox-Id": "a" * 20, "E2b-Sandbox-Port": "0"}, "Invalid sandbox port"),
        ({"E2b-Sandbox-Id": "a" * 20, "E2b-Sandbox-Port": "65536"}, "Invalid sandbox port"),
    ],
)
async def test_what_names_no_sandbox_is_said_so(edge, named, message):
    assert await edge.json(Host="127.0.0.1", **named) == (400, {"message": message, "code": 400})


@pytest.mark.parametrize("offered", [PUBLIC])
async def test_a_call_of_the_control_plane_that_carries_them_by_mistake_is_still_one(edge, server, inside, kit):
    server.answers("GET", "/v1/sandboxes", {"data": []})
    named = {"Novita-Sandbox-Id": kit.SANDBOX, "Novita-Sandbox-Port": str(inside.port), "X-API-Key": kit.API_KEY}
    assert await edge.json("/v1/sandboxes", Host="127.0.0.1", **named) == (200, {"data": []})
    assert inside.heads == []


@pytest.mark.parametrize("offered", [PUBLIC])
async def test_a_port_and_an_id_in_the_first_label_are_enough_below_localhost(edge, inside, kit):
    async with edge.get("/", Host=f"{inside.port}-{kit.SANDBOX}.localhost:3000") as response:
        assert response.status == 200


# ---- E2B's answers


@pytest.mark.parametrize("port", [3000, 49983, 49999])
async def test_a_sandbox_that_is_not_there(edge, kit, port):
    named = {"E2b-Sandbox-Id": "z" * 20, "E2b-Sandbox-Port": str(port)}
    wanted = {"sandboxId": "z" * 20, "message": "The sandbox was not found", "code": 502}
    for headers in (named, {"Host": f"{port}-{'z' * 20}.{DOMAIN}"}):
        assert await edge.json("/health", **headers, X_API_Key=kit.API_KEY) == (502, wanted)


async def test_by_a_path_or_its_own_name_it_is_not_there_in_our_words(edge, kit):
    for path, headers in ((f"/s/{'z' * 20}/3000/", {}), ("/", {"Host": f"{'z' * 20}.{DOMAIN}"})):
        status, said = await edge.json(path, **headers, X_API_Key=kit.API_KEY)
        assert (status, said["code"]) == (404, "SANDBOX_NOT_FOUND")


@pytest.mark.parametrize("offered", [{**PUBLIC, "state": "paused"}])
async def test_a_sandbox_that_is_paused_and_is_not_to_be_resumed(edge, inside, kit):
    wanted = {"sandboxId": kit.SANDBOX, "message": "The sandbox was not found", "code": 502}
    assert await edge.json("/", **at(inside.port, kit)) == (502, wanted)


@pytest.mark.parametrize("offered", [PUBLIC])
async def test_a_port_that_is_not_open(edge, kit):
    wanted = {
        "sandboxId": kit.SANDBOX,
        "message": "The sandbox is running but port is not open",
        "port": 1,
        "code": 502,
    }
    assert await edge.json("/", **at(1, kit)) == (502, wanted)


@pytest.mark.parametrize("offered", [SECURED])
async def test_a_traffic_token_is_asked_for_and_stays_outside(edge, inside, kit):
    said = "Sandbox is secured with traffic access token. "
    missing = {"sandboxId": kit.SANDBOX, "message": said + "Token header 'e2b-traffic-access-token' is missing"}
    wrong = {
        "sandboxId": kit.SANDBOX,
        "message": said + "Provided token in header 'e2b-traffic-access-token' is invalid",
    }
    assert await edge.json("/", **at(inside.port, kit)) == (403, missing | {"code": 403})
    refused = await edge.json("/", **at(inside.port, kit), E2B_Traffic_Access_Token="other")
    assert refused == (403, wrong | {"code": 403})
    assert inside.heads == []
    async with edge.get("/", **at(inside.port, kit), E2B_Traffic_Access_Token=TRAFFIC) as response:
        assert response.status == 200
    assert TRAFFIC not in inside.heads[0]


@pytest.mark.parametrize("offered", [PUBLIC])
async def test_more_connections_than_a_sandbox_may_have(edge, inside, kit, monkeypatch):
    monkeypatch.setattr("atoll.edge.gate.upstream.Ports.__init__.__defaults__", (0,), raising=False)
    wanted = {
        "sandboxId": kit.SANDBOX,
        "message": "Too many connections to this sandbox at once",
        "connectionLimit": 0,
        "code": 429,
    }
    assert await edge.json("/", **at(inside.port, kit)) == (429, wanted)
    assert inside.heads == []


@pytest.mark.parametrize("offered", [PUBLIC])
async def test_a_browser_gets_a_page(edge, kit):
    async with edge.get("/", **at(1, kit), Accept="text/html,*/*") as response:
        page = await response.text()
        assert response.content_type == "text/html"
        assert "script" not in page
        assert 'http-equiv="refresh"' in page
        assert "Nothing listens at port 1" in page


# ---- the way in


@pytest.mark.parametrize("offered", [{**PUBLIC, "masked_host": "${PORT}-x.example.com"}])
async def test_a_masked_host_is_what_the_program_sees(edge, inside, kit):
    for _ in range(2):  # on a connection that is kept, too
        async with edge.get("/", **at(inside.port, kit)) as response:
            assert response.status == 200
    for head in inside.heads:
        assert f"\r\nHost: {inside.port}-x.example.com\r\n" in head
        assert f"\r\nX-Forwarded-Host: {inside.port}-{kit.SANDBOX}.{DOMAIN}\r\n" in head


@pytest.mark.parametrize("offered", [{**PUBLIC, "https_ports": True}])
async def test_a_port_of_tls_is_reached_by_tls(edge, inside, kit):
    for _ in range(2):
        async with edge.get("/", **at(inside.tls_port, kit)) as response:
            assert response.status == 200
    assert len(inside.heads) == 2


@pytest.mark.parametrize("offered", [{**PUBLIC, "https_ports": True}])
async def test_without_the_word_a_port_of_tls_is_no_http(edge, inside, kit, server, ports_socket):
    server.publish(kit.route(kit.SANDBOX, ports_socket, incarnation=2, **PUBLIC))
    status, said = await edge.json("/", **at(inside.tls_port, kit))
    assert (status, said["sandboxId"]) == (502, kit.SANDBOX)


@pytest.mark.parametrize("offered", [PUBLIC | {"web_port": True}])
async def test_the_own_host_serves_the_port_that_was_chosen(edge, inside, kit):
    async with edge.get("/", Host=f"{kit.SANDBOX}.{DOMAIN}") as response:
        assert response.status == 200
    assert len(inside.heads) == 1


# ---- auto-resume


@pytest.mark.parametrize("offered", [PUBLIC | {"state": "paused", "auto_resume": True}])
async def test_traffic_resumes_what_is_to_be_resumed(edge, inside, kit, server, ports_socket):
    asked = []

    async def resume(seen):
        asked.append(seen)
        server.routes[kit.SANDBOX] = kit.route(kit.SANDBOX, ports_socket, **PUBLIC, auto_resume=True)
        return aiohttp.web.json_response(server.routes[kit.SANDBOX])

    server.on("POST", f"/internal/sandboxes/{kit.SANDBOX}/resume", resume)
    async with edge.get("/", **at(inside.port, kit)) as response:
        assert response.status == 200
    assert len(asked) == 1


@pytest.mark.parametrize("offered", [{"state": "paused", "auto_resume": True, "dialect": "e2b"}])
async def test_only_who_may_enter_resumes_it(edge, inside, kit, server):
    status, _ = await edge.json("/", **at(inside.port, kit))
    assert status == 401
    assert server.asked("POST", f"/internal/sandboxes/{kit.SANDBOX}/resume") == []


@pytest.mark.parametrize("offered", [PUBLIC | {"state": "paused", "auto_resume": True}])
async def test_one_that_is_on_its_way_says_so(edge, inside, kit, server):
    server.answers("POST", f"/internal/sandboxes/{kit.SANDBOX}/resume", {"error": "it is being paused"}, 409)
    wanted = {
        "sandboxId": kit.SANDBOX,
        "message": "The sandbox is still transitioning. Try again in a moment.",
        "code": 409,
    }
    assert await edge.json("/", **at(inside.port, kit)) == (409, wanted)


# ---- signed links


def link(kit, port: int, seconds: float = 60, key: str | None = None, aud: str = "atoll-link", **more: object) -> str:
    claims = {"sub": kit.SANDBOX, "aud": aud, "port": port, "exp": time.time() + seconds, **more}
    return jwt.encode(claims, bytes.fromhex(key or kit.KEY), algorithm="HS256")


async def test_a_link_becomes_a_cookie_that_opens_this_port_alone(edge, inside, kit):
    path = f"/a?x=1&atoll_link={link(kit, inside.port)}&y=2"
    async with edge.get(path, **at(inside.port, kit)) as response:
        assert (response.status, response.headers["Location"]) == (303, "/a?x=1&y=2")
        cookie = response.headers["Set-Cookie"]
        assert response.headers["Cache-Control"] == "no-store"
    assert inside.heads == []
    pair, *attributes = cookie.split("; ")
    assert {"Path=/", "HttpOnly", "SameSite=Lax"} <= set(attributes)
    assert not any(each.startswith("Domain") for each in attributes)
    async with edge.get("/a", **at(inside.port, kit), Cookie=f"mine=1; {pair}") as response:
        assert response.status == 200
    assert "\r\nCookie: mine=1\r\n" in inside.heads[0]
    assert "atoll_door" not in inside.heads[0]
    async with edge.get("/a", **at(inside.tls_port, kit), Cookie=pair) as response:
        assert response.status == 401
    async with edge.get(f"/s/{kit.SANDBOX}/{inside.port}/", Cookie=pair, Host=DOMAIN) as response:
        assert response.status == 200  # the same port, by its path


@pytest.mark.parametrize(
    ("asks", "status"),
    [
        ({}, 200),
        ({"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, 200),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, 200),
        ({"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors", "Origin": "OWN"}, 200),
        ({"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors", "Origin": "OWN BEHIND TLS"}, 200),
        ({"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}, 401),
        ({"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}, 401),
        ({"Origin": f"http://8000-{'b' * 20}.{DOMAIN}"}, 401),
        ({"Origin": "null"}, 401),
        (
            {
                "Sec-Fetch-Site": "same-site",
                "Sec-Fetch-Mode": "navigate",
                "Sec-Fetch-Dest": "document",
                "Origin": f"http://8000-{'b' * 20}.{DOMAIN}",
            },
            401,
        ),
    ],
)
async def test_the_cookie_counts_for_the_persons_own_steps_and_pages_of_the_same_origin(
    edge, inside, kit, asks, status
):
    async with edge.get(f"/?atoll_link={link(kit, inside.port)}", **at(inside.port, kit)) as response:
        cookie = {"Cookie": response.headers["Set-Cookie"].split("; ")[0]}
    host = at(inside.port, kit)["Host"]
    own = {"OWN": f"http://{host}", "OWN BEHIND TLS": f"https://{host}"}
    asks = {name: own.get(value, value) for name, value in asks.items()}
    for _ in range(2):  # also on a connection where it has counted before
        async with edge.get("/", **at(inside.port, kit), **cookie) as response:
            assert response.status == 200
        async with edge.get("/", **at(inside.port, kit), **cookie, **asks) as response:
            assert response.status == status


async def test_by_path_the_cookie_is_for_the_path(edge, inside, kit):
    mount = f"/s/{kit.SANDBOX}/{inside.port}"
    async with edge.get(f"{mount}/a?atoll_link={link(kit, inside.port)}") as response:
        assert (response.status, response.headers["Location"]) == (303, f"{mount}/a")
        assert f"Path={mount}/" in response.headers["Set-Cookie"].split("; ")


@pytest.mark.parametrize(
    "wrong",
    [
        {"seconds": -1},
        {"key": "00" * 32},
        {"aud": "atoll-door"},
        {"sub": "b" * 20},
        {"port": 1},
    ],
)
async def test_a_link_that_is_wrong_opens_nothing_and_does_not_go_in(edge, inside, kit, wrong):
    path = f"/?atoll_link={link(kit, **({'port': inside.port} | wrong))}"
    async with edge.get(path, **at(inside.port, kit), X_API_Key=kit.API_KEY) as response:
        assert response.status == 401
        assert "Set-Cookie" not in response.headers
    assert inside.heads == []


async def test_a_link_is_no_cookie_and_no_token(edge, inside, kit):
    token = link(kit, inside.port)
    for shown in ({"Cookie": f"atoll_door={token}"}, {"Authorization": f"Bearer {token}"}):
        async with edge.get("/", **at(inside.port, kit), **shown) as response:
            assert response.status == 401
    assert inside.heads == []


async def test_the_api_takes_no_cookie(edge, inside, kit, server):
    async with edge.get(f"/?atoll_link={link(kit, inside.port)}", **at(inside.port, kit)) as response:
        pair = response.headers["Set-Cookie"].split("; ")[0]
    async with edge.get(f"/s/{kit.SANDBOX}/files/list?path=/", Cookie=pair, Host=DOMAIN) as response:
        assert response.status == 401
    async with edge.get("/files/list?path=/", Cookie=pair, Host=f"{kit.SANDBOX}.{DOMAIN}") as response:
        assert response.status == 401


async def test_refusals_are_in_the_access_log_with_sandbox_and_port(edge, inside, kit, places):
    places.access_log.parent.mkdir()
    async with edge.get("/", **at(inside.port, kit)) as response:
        assert response.status == 401
    await asyncio.sleep(FLUSH_S + 0.1)
    line = json.loads(places.access_log.read_text())
    assert (line["sandbox"], line["port"], line["status"]) == (kit.SANDBOX, inside.port, 401)
