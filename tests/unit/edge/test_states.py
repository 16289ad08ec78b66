"""Which answer a sandbox gives that is not simply running."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import WSMsgType


async def test_unknown_sandbox_is_404_with_the_words_clients_look_for(client, kit) -> None:
    client.sandbox, client.token = kit.OTHER, kit.token_for(kit.OTHER)
    status, body = await client.call("POST", "/execute", {"code": "1"})
    assert (status, body["code"]) == (404, "SANDBOX_NOT_FOUND")
    assert "sandbox" in body["message"].lower()
    assert "not found" in body["message"]


async def test_sandbox_unknown_to_the_table_is_asked_for(client, kit, server, agent) -> None:
    agent.answers("GET", "/env", {"env": {"A": "1"}})
    server.routes[kit.OTHER] = kit.route(kit.OTHER, agent.socket)
    client.sandbox, client.token = kit.OTHER, kit.token_for(kit.OTHER)
    status, _ = await client.call("GET", "/env")
    assert status == 200


@pytest.mark.parametrize(("state", "code"), [("paused", "SANDBOX_PAUSED"), ("stopped", "SANDBOX_STOPPED")])
async def test_sandbox_that_does_not_run_is_409_and_never_dialled(state, code, client, kit, server, agent) -> None:
    server.publish(kit.route(kit.SANDBOX, agent.socket, state=state))
    server.routes[kit.SANDBOX]["state"] = state
    server.answers("POST", f"/v1/sandboxes/{kit.SANDBOX}/pause", {})
    await pause(client, kit)
    status, body = await client.call("POST", "/execute", {"code": "1"})
    assert (status, body["code"]) == (409, code)
    assert not agent.seen


async def pause(client, kit) -> None:
    async with client.session.post(f"{client.origin}/v1/sandboxes/{kit.SANDBOX}/pause") as answer:
        assert answer.status == 200


async def test_control_plane_answer_is_not_relayed_before_the_table_knows(client, kit, server, agent) -> None:
    """The server's stream is silent here: only the edge's own question can tell."""
    agent.answers("GET", "/env", {"env": {"A": "1"}})
    server.answers("POST", f"/v1/sandboxes/{kit.SANDBOX}/pause", {})
    server.routes[kit.SANDBOX] = kit.route(kit.SANDBOX, agent.socket, state="paused")
    await pause(client, kit)
    assert (await client.call("GET", "/env"))[0] == 409
    server.routes[kit.SANDBOX] = kit.route(kit.SANDBOX, agent.socket)
    assert (await client.call("GET", "/env"))[0] == 200, "a table that says no is behind"


async def test_dead_socket_is_404_although_the_table_says_running(client, kit, server, tmp_path) -> None:
    server.routes[kit.OTHER] = kit.route(kit.OTHER, tmp_path / "nobody.sock")
    client.sandbox, client.token = kit.OTHER, kit.token_for(kit.OTHER)
    status, body = await client.call("GET", "/env")
    assert (status, body["code"]) == (404, "SANDBOX_NOT_FOUND")


async def test_dead_socket_of_a_stopped_sandbox_is_409(client, kit, server, tmp_path) -> None:
    socket = tmp_path / "nobody.sock"
    server.routes[kit.OTHER] = kit.route(kit.OTHER, socket)
    client.sandbox, client.token = kit.OTHER, kit.token_for(kit.OTHER)
    await client.call("GET", "/env")
    server.routes[kit.OTHER] = kit.route(kit.OTHER, socket, state="stopped")
    status, body = await client.call("GET", "/env")
    assert (status, body["code"]) == (409, "SANDBOX_STOPPED")


async def test_removed_sandbox_is_gone_at_once(client, kit, server) -> None:
    server.answers("DELETE", f"/v1/sandboxes/{kit.SANDBOX}", {})
    del server.routes[kit.SANDBOX]
    async with client.session.delete(f"{client.origin}/v1/sandboxes/{kit.SANDBOX}") as answer:
        assert answer.status == 200
    status, body = await client.call("GET", "/env")
    assert (status, body["code"]) == (404, "SANDBOX_NOT_FOUND")


async def test_known_sandbox_answers_while_the_server_is_away(client, server, agent) -> None:
    agent.answers("GET", "/env", {"env": {"A": "1"}})
    server.streamed[0].put_nowait(None)
    server.reactions.clear()
    assert (await client.call("GET", "/env"))[0] == 200


async def test_odd_ids_are_404(session, origin) -> None:
    async with session.get(f"{origin}/s/short/health") as answer:
        assert answer.status == 404
        assert "not found" in (await answer.json())["message"]


async def test_what_still_streams_ends_when_the_sandbox_is_removed(client, kit, server, agent) -> None:
    never = asyncio.Event()
    agent.streams("POST", "/contexts/default/execute", kit.out("early"), never)
    async with client.ws("/execute/stream") as ws:
        await ws.send_json({"type": "execute", "code": "x"})
        assert (await ws.receive_json(timeout=5))["data"] == "early"
        server.publish({"id": kit.SANDBOX, "removed": True})
        assert (await ws.receive_json(timeout=5))["code"] == "SANDBOX_NOT_FOUND"
        assert (await ws.receive(timeout=5)).type is WSMsgType.CLOSE


async def test_a_call_that_waits_is_answered_when_the_sandbox_is_removed(client, kit, server, agent) -> None:
    never = asyncio.Event()
    agent.streams("POST", "/contexts/default/execute", never)
    agent.streams("GET", "/env", never)
    for method, path, json in (("POST", "/execute", {"code": "x", "language": "python"}), ("GET", "/env", None)):
        server.publish(kit.route(kit.SANDBOX, agent.socket))
        agent.arrived.clear()
        call = asyncio.create_task(client.call(method, path, json=json))
        await agent.arrived.wait()
        server.publish({"id": kit.SANDBOX, "removed": True})
        status, body = await asyncio.wait_for(call, 5)
        assert (status, body["code"]) == (404, "SANDBOX_NOT_FOUND")
