"""The server process as a whole: real store, real sockets, the edge's own client; only the node is a fake."""

import asyncio
import signal
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from atoll.core.errors import Conflict, Unavailable
from atoll.core.settings import Places, ServerSettings
from atoll.edge.server_link import ServerLink
from atoll.edge.tokens import TokenVerifier
from atoll.listening import wait_listening
from atoll.rpc import serve
from atoll.server import MAX_HELD, OneWrite
from atoll.server import serve as serve_api
from atoll.testing.node import FakeNode


@pytest.fixture
def settings(tmp_path: Path) -> ServerSettings:
    places = Places(data=tmp_path / "data", run=tmp_path / "run")
    places.data.mkdir()
    places.run.mkdir()
    return ServerSettings(places=places, public_url="http://127.0.0.1:8080/")


@asynccontextmanager
async def serving(settings: ServerSettings) -> AsyncIterator[None]:
    task = asyncio.create_task(serve_api(settings))
    await wait_listening(settings.places.server_socket, 20)
    try:
        yield
    finally:
        signal.raise_signal(signal.SIGTERM)
        async with asyncio.timeout(20):
            await task


@asynccontextmanager
async def api(settings: ServerSettings) -> AsyncIterator[httpx.AsyncClient]:
    key = settings.places.first_key.read_text().strip()
    transport = httpx.AsyncHTTPTransport(uds=str(settings.places.server_socket))
    async with httpx.AsyncClient(transport=transport, base_url="http://server", headers={"X-API-Key": key}) as client:
        yield client


async def ready(client: httpx.AsyncClient) -> None:
    async with asyncio.timeout(20):
        while not (await client.get("/health")).json()["ready"]:  # noqa: ASYNC110 (each turn is a request)
            await asyncio.sleep(0)


async def test_a_first_start_makes_private_secrets_and_a_private_socket(settings: ServerSettings):
    async with serving(settings):
        places = settings.places
        for path in (places.first_key, places.token_key, places.database, places.server_socket):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(places.database.parent.stat().st_mode) == 0o700


async def test_create_through_the_socket_and_the_edges_view_of_it(settings: ServerSettings):
    node_server = await serve(settings.places.node_socket, FakeNode().handle)
    async with serving(settings), api(settings) as client, ServerLink(settings.places.server_socket) as edge:
        await ready(client)
        stream = edge.stream_routes()
        assert (await anext(stream))["ready"]
        made = (await client.post("/v1/sandboxes", json={"template_name": "base"})).json()
        assert made["public_host"] == f"http://127.0.0.1:8080/s/{made['id']}"
        route = await anext(stream)
        assert route.pop("mark")
        assert (route["id"], route["state"]) == (made["id"], "running")
        assert await edge.fetch_route(made["id"]) == route
        assert await edge.fetch_route("a" * 20) is None
        assert TokenVerifier(settings.places.token_key).verify(made["auth_token"]).sandbox_id == made["id"]
        assert await edge.authenticate(client.headers["X-API-Key"], made["id"])
        assert not await edge.authenticate("e2b_" + "0" * 40, made["id"])
        await edge.report_activity([{"id": made["id"], "last_call_at": 1.0, "open": 1}])
        await client.delete(f"/v1/sandboxes/{made['id']}")
        gone = await anext(stream)
        assert (gone["id"], gone["removed"]) == (made["id"], True)
        await stream.aclose()
    await node_server.close()


async def test_the_edge_has_a_paused_sandbox_resumed(settings: ServerSettings):
    node = FakeNode()
    node_server = await serve(settings.places.node_socket, node.handle)
    async with serving(settings), api(settings) as client, ServerLink(settings.places.server_socket) as edge:
        await ready(client)
        order = {"template_name": "base", "auto_resume": True}
        made = (await client.post("/v1/sandboxes", json=order)).json()["id"]
        other = (await client.post("/v1/sandboxes", json={"template_name": "base"})).json()["id"]
        for each in (made, other):
            await client.post(f"/v1/sandboxes/{each}/pause")
        route = await edge.resume(made)
        assert route is not None
        assert (route["state"], route) == ("running", await edge.fetch_route(made))
        with pytest.raises(Conflict, match="auto_resume"):
            await edge.resume(other)
        assert await edge.resume("a" * 20) is None
        await client.post(f"/v1/sandboxes/{made}/pause")
        node.fail("resume")
        with pytest.raises(Unavailable):
            await edge.resume(made)
    await node_server.close()


async def test_a_stop_ends_an_open_route_stream_at_once(settings: ServerSettings):
    async with ServerLink(settings.places.server_socket) as edge:
        async with serving(settings):
            stream = edge.stream_routes()
            assert (await anext(stream))["ready"]
        assert [message async for message in stream] == []


async def test_after_a_restart_keys_tokens_and_sandboxes_are_as_before(settings: ServerSettings):
    node_server = await serve(settings.places.node_socket, FakeNode().handle)
    async with serving(settings), api(settings) as client:
        await ready(client)
        made = (await client.post("/v1/sandboxes", json={"template_name": "base"})).json()
    secrets = [path.read_text() for path in (settings.places.first_key, settings.places.token_key)]
    async with serving(settings), api(settings) as client:
        await ready(client)
        got = (await client.get(f"/v1/sandboxes/{made['id']}")).json()
        assert got["status"] == "running"
        assert (await client.get(f"/internal/routes/{made['id']}")).json()["socket"].endswith(f"{made['id']}.sock")
    assert [path.read_text() for path in (settings.places.first_key, settings.places.token_key)] == secrets
    await node_server.close()


async def test_without_a_node_the_server_serves_and_says_so(settings: ServerSettings):
    async with serving(settings), api(settings) as client:
        assert (await client.get("/health")).json()["ready"] is False
        assert (await client.get("/v1/sandboxes")).status_code == 200
        assert (await client.post("/v1/sandboxes", json={"template_name": "base"})).status_code == 503


class Wire(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.packets: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.packets.append(data)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


async def test_what_is_written_in_one_turn_of_the_loop_is_one_packet():
    wire = Wire()
    answers = OneWrite(wire)
    answers.write(b"head")
    answers.write(b"body")
    await asyncio.sleep(0)
    answers.write(b"next")
    answers.close()
    await asyncio.sleep(0)
    assert (wire.packets, wire.closed) == ([b"headbody", b"next"], True)


async def test_a_long_answer_is_not_held_back():
    wire = Wire()
    OneWrite(wire).write(bytes(MAX_HELD + 1))
    assert len(wire.packets) == 1


async def test_what_is_left_to_write_to_a_client_that_is_gone_is_dropped():
    wire = Wire()
    OneWrite(wire).write(b"head")
    wire.closed = True
    await asyncio.sleep(0)
    assert wire.packets == []
