"""Who gets to the code interpreter, and what is said to others."""

from __future__ import annotations

import hashlib
import json

import pytest

from atoll.core.access import access_token

UNAUTHORIZED = "unauthorized access, please provide a valid access token or method signing if supported"
EXECUTE = "/contexts/default-python/execute"
TOKEN = ("X-Access-Token",)
TRAFFIC = "t" * 32


@pytest.fixture
def public(server, kit):
    """As E2B's clients make sandboxes."""
    server.publish(server.routes[kit.SANDBOX] | {"inbound_auth": "public"})


@pytest.fixture
def guarded(server, kit):
    """With `allowPublicTraffic: false`."""
    digest = hashlib.sha256(TRAFFIC.encode()).hexdigest()
    server.publish(server.routes[kit.SANDBOX] | {"inbound_auth": "public", "traffic_digest": digest})


@pytest.fixture(autouse=True)
def answers(agent, kit, start):
    agent.streams("POST", EXECUTE, start, kit.cell_end())
    agent.answers("GET", "/contexts", {"contexts": []})
    agent.answers("GET", "/health", {})


async def status_of(code, method, path, **more):
    return (await code.asked(method, path, **more))[0]


# ---- the access token


async def test_code_runs_for_the_tokens_holder_alone(code, agent, kit, public):
    key = bytes.fromhex(kit.KEY)
    shown = [
        {},
        {"X-Access-Token": ""},
        {"X-Access-Token": "x"},
        {"X-Access-Token": access_token(key, kit.OTHER)},
        {"X-Access-Token": access_token(bytes(32), kit.SANDBOX)},
        {"X-Access-Token": kit.token_for(kit.SANDBOX, lifetime_s=-5)},
        {"X-API-Key": kit.API_KEY},
        {"Authorization": f"Bearer {kit.token_for(kit.SANDBOX)}"},
    ]
    for headers in shown:
        status, said = await code.asked("POST", "/execute", without=TOKEN, headers=headers, json={"code": "1"})
        assert (status, json.loads(said)) == (401, {"code": 401, "message": UNAUTHORIZED}), headers
    assert agent.seen == []
    assert (await code.execute())[-1] == {"type": "end_of_execution"}
    own = {"X-Access-Token": kit.token_for(kit.SANDBOX)}
    assert await status_of(code, "POST", "/execute", headers=own, json={"code": "1"}) == 200


async def test_two_tokens_are_none(code, agent, token, public):
    named = [(name, value) for name, value in code.headers.items() if name != "X-Access-Token"]
    headers = [*named, ("X-Access-Token", token), ("X-Access-Token", token)]
    async with code.session.post(code.origin + "/execute", headers=headers, json={"code": "1"}) as response:
        assert response.status == 401
    assert agent.seen == []


async def test_contexts_of_a_public_sandbox_need_no_token_but_no_wrong_one_either(code, public):
    """E2B's clients send none there."""
    assert await status_of(code, "GET", "/contexts", without=TOKEN) == 200
    assert await status_of(code, "GET", "/contexts") == 200
    assert await status_of(code, "GET", "/contexts", headers={"X-Access-Token": "wrong"}) == 401


async def test_contexts_of_any_other_sandbox_need_what_its_ports_need_or_the_token(code, agent, kit):
    for headers in ({}, {"X-API-Key": "e2b_" + "1" * 40}, {"E2B-Traffic-Access-Token": TRAFFIC}):
        assert await status_of(code, "GET", "/contexts", without=TOKEN, headers=headers) == 401
    assert agent.seen == []
    for headers in ({"X-API-Key": kit.API_KEY}, {"Authorization": f"Bearer {kit.token_for(kit.SANDBOX)}"}):
        assert await status_of(code, "GET", "/contexts", without=TOKEN, headers=headers) == 200
    assert await status_of(code, "GET", "/contexts") == 200


# ---- the traffic token


@pytest.mark.parametrize(("method", "path"), [("POST", "/execute"), ("GET", "/contexts"), ("GET", "/health")])
async def test_the_traffic_token_guards_all_of_it(code, agent, guarded, method, path):
    more = {"json": {"code": "1"}} if method == "POST" else {}
    for shown in ({}, {"E2B-Traffic-Access-Token": TRAFFIC[:-1]}):
        status, said = await code.asked(method, path, headers=shown, **more)
        assert status == 403
        assert "Sandbox is secured with traffic access token." in json.loads(said)["message"]
    assert agent.seen == []
    assert await status_of(code, method, path, headers={"E2B-Traffic-Access-Token": TRAFFIC}, **more) == 200


async def test_the_traffic_token_alone_runs_no_code(code, agent, guarded):
    shown = {"E2B-Traffic-Access-Token": TRAFFIC}
    assert await status_of(code, "POST", "/execute", without=TOKEN, headers=shown, json={"code": "1"}) == 401
    assert await status_of(code, "GET", "/contexts", without=TOKEN, headers=shown) == 200


# ---- the way


@pytest.mark.parametrize("names", ["E2b", "Novita"])
async def test_fields_of_either_kind_lead_there(code, token, kit, public, names):
    headers = {f"{names}-Sandbox-Id": kit.SANDBOX, f"{names}-Sandbox-Port": "49999", "X-Access-Token": token}
    async with code.session.post(code.origin + "/execute", headers=headers, json={"code": "1"}) as response:
        assert response.status == 200


async def test_its_own_host_its_path_and_the_token_alone(code, kit):
    names = ("E2b-Sandbox-Id", "E2b-Sandbox-Port")
    own = {"Host": f"49999-{kit.SANDBOX}.localhost"}
    order = {"code": "1"}
    assert await status_of(code, "POST", "/execute", without=names, headers=own, json=order) == 200
    assert await status_of(code, "POST", f"/s/{kit.SANDBOX}/49999/execute", without=names, json=order) == 200
    assert await status_of(code, "POST", "/execute", without=names, json=order) == 200
    assert await status_of(code, "GET", "/contexts", without=names) == 200
    wrong = {"X-Access-Token": access_token(bytes(32), kit.SANDBOX)}
    assert await status_of(code, "POST", "/execute", without=names, headers=wrong, json=order) == 401


async def test_health(code):
    assert await code.asked("GET", "/health", without=TOKEN) == (200, '"OK"')
    async with code.request("HEAD", "/health", without=TOKEN) as response:
        assert (response.status, await response.read()) == (200, b"")


@pytest.mark.parametrize("path", ["/", "/envs", "/execute/", "/contexts/", "/contexts/a/b", "/contexts/a/restart/"])
async def test_other_routes_are_not_there(code, agent, path):
    assert await code.asked("POST", path) == (404, '{"detail":"Not Found"}')
    assert agent.seen == []


async def test_other_methods_are_refused(code):
    async with code.request("GET", "/execute") as response:
        assert (response.status, response.headers["Allow"]) == (405, "POST, OPTIONS")


async def test_browsers_ask_first_and_need_no_token_for_that(code):
    async with code.request("OPTIONS", "/execute", without=TOKEN) as response:
        assert response.status == 204
        assert "POST" in response.headers["Access-Control-Allow-Methods"]
        assert response.headers["Access-Control-Allow-Origin"] == "*"


# ---- sandboxes that are not there


async def test_one_that_nobody_knows(code, kit):
    for method, path in (("GET", "/health"), ("POST", "/execute"), ("GET", "/contexts")):
        status, said = await code.asked(method, path, headers={"E2b-Sandbox-Id": kit.OTHER})
        assert status == 502
        assert json.loads(said)["message"] == "The sandbox was not found"


async def test_one_that_is_paused_is_resumed_for_who_may_and_by_no_probe(code, server, kit, public, resumable):
    assert await status_of(code, "GET", "/health", without=TOKEN) == 502
    assert await status_of(code, "POST", "/execute", without=TOKEN, json={"code": "1"}) == 401
    assert server.asked("POST", f"/internal/sandboxes/{kit.SANDBOX}/resume") == []
    assert await status_of(code, "POST", "/execute", json={"code": "1"}) == 200


async def test_one_that_is_paused_and_stays_so(code, server, kit):
    server.publish(server.routes[kit.SANDBOX] | {"state": "paused"})
    status, said = await code.asked("POST", "/execute", json={"code": "1"})
    assert (status, json.loads(said)["message"]) == (502, "The sandbox was not found")


async def test_calls_beyond_the_rate_are_told_when_to_come_again(code, server, kit):
    server.publish(server.routes[kit.SANDBOX] | {"key": "key_a", "calls_per_minute": 1})
    assert await status_of(code, "GET", "/contexts") == 200
    async with code.request("GET", "/contexts") as response:
        assert response.status == 429
        assert int(response.headers["Retry-After"]) > 0


async def test_a_call_is_activity_and_a_probe_is_none(code, edge, kit, public):
    edge.activity.take()
    await code.asked("GET", "/health", without=TOKEN)
    assert edge.activity.take() == []
    await code.asked("GET", "/contexts", without=TOKEN)
    assert [each["id"] for each in edge.activity.take()] == [kit.SANDBOX]
