"""E2B's calls for one sandbox: shapes, and what they do to its life."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from atoll.core.access import ENVD_VERSION, sandbox_of
from atoll.core.errors import Unavailable
from atoll.core.ids import is_sandbox_id
from atoll.core.lifecycle import State
from atoll.core.sandbox import OnTimeout
from atoll.testing.plane import TOKEN_KEY, Plane
from e2b_wire import Client, check_error, create, detail


def _ends(shown: dict) -> datetime:
    return datetime.fromisoformat(shown["endAt"])


def _now(plane: Plane) -> datetime:
    return datetime.fromtimestamp(plane.clock.now(), UTC)


async def _state(plane: Plane, sandbox_id: str) -> State | None:
    found = await plane.store.sandboxes.get(sandbox_id)
    return found and found.state


# ---- shapes


async def test_a_new_sandbox_says_how_it_is_reached(client: Client, plane: Plane):
    made = await create(client)
    sandbox_id = made["sandboxID"]
    assert is_sandbox_id(sandbox_id)
    assert sandbox_of(TOKEN_KEY, made.pop("envdAccessToken")) == sandbox_id
    assert made == {
        "templateID": "base",
        "sandboxID": sandbox_id,
        "clientID": "node-1",
        "alias": "base",
        "envdVersion": ENVD_VERSION,
        "trafficAccessToken": None,
        "domain": None,
    }


async def test_the_detail_has_every_field_that_clients_insist_on(client: Client, plane: Plane):
    made = await create(client, timeout=60, metadata={"user": "ann"}, allow_internet_access=False)
    now = _now(plane)
    shown = await detail(client, made["sandboxID"])
    assert datetime.fromisoformat(shown.pop("startedAt")) == now
    assert _ends(shown) == now + timedelta(seconds=60)
    assert shown.pop("endAt")
    assert shown == {
        "templateID": "base",
        "alias": "base",
        "sandboxID": made["sandboxID"],
        "clientID": "node-1",
        "cpuCount": 2,
        "memoryMB": 2048,
        "diskSizeMB": 10240,
        "metadata": {"user": "ann"},
        "state": "running",
        "envdVersion": ENVD_VERSION,
        "envdAccessToken": made["envdAccessToken"],
        "domain": None,
        "allowInternetAccess": False,
        "lifecycle": {"onTimeout": "kill", "autoResume": False},
    }


@pytest.mark.parametrize(("path", "seconds"), [("/v2/sandboxes", 300), ("/sandboxes", 15)])
async def test_each_generation_has_its_own_default_timeout(client: Client, plane: Plane, path: str, seconds: int):
    made = (await client.post(path, json={"templateID": "base", "secure": True, "unknown": [1]})).json()
    assert _ends(await detail(client, made["sandboxID"])) == _now(plane) + timedelta(seconds=seconds)


async def test_what_has_no_end_ends_at_the_end_of_time(client: Client, tmp_path, plane: Plane):
    answer = await client.post("/v1/sandboxes", json={"template_name": "base"})
    shown = await detail(client, answer.json()["id"])
    assert _ends(shown) > _now(plane)


async def test_a_sandbox_is_always_secured(client: Client):
    answer = await client.post("/sandboxes", json={"templateID": "base", "secure": False})
    assert answer.json()["envdAccessToken"]


async def test_its_programs_are_told_where_they_are(client: Client, plane: Plane):
    made = await create(client, envVars={"A": "1", "E2B_TEMPLATE_ID": "mine"})
    assert plane.node.births[-1].env == {
        "E2B_SANDBOX": "true",
        "E2B_SANDBOX_ID": made["sandboxID"],
        "E2B_TEMPLATE_ID": "mine",
        "A": "1",
    }


async def test_ports_are_public_unless_it_says_otherwise(client: Client, plane: Plane):
    open_to_all = await create(client)
    closed = await create(client, network={"allowPublicTraffic": False})
    token = closed["trafficAccessToken"]
    assert len(token) > 30
    assert plane.services.routes.get(open_to_all["sandboxID"])["inbound_auth"] == "public"
    assert plane.services.routes.get(closed["sandboxID"])["inbound_auth"] == "token"
    assert plane.services.routes.get(closed["sandboxID"])["dialect"] == "e2b"
    await client.post(f"/sandboxes/{closed['sandboxID']}/pause")
    again = await client.post(f"/v2/sandboxes/{closed['sandboxID']}/connect", json={})
    assert again.json()["trafficAccessToken"] == token


# ---- refusals


REFUSED = [
    ({"templateID": "base", "timeout": 0}, 400, "Timeout must be greater than 0"),
    ({"templateID": "base", "timeout": -5}, 400, "Timeout must be greater than 0"),
    ({"templateID": "base", "timeout": 86401}, 400, "Timeout cannot be greater than 24 hours"),
    ({"templateID": "none"}, 404, "template 'none' not found"),
    ({"templateID": "base:v2"}, 404, "tag 'v2' does not exist for template 'base'"),
    ({"templateID": "two words"}, 400, "Invalid template reference: two words"),
    ({"templateID": "other/base"}, 404, "template 'other/base' not found"),
    ({}, 400, "Invalid request: templateID is required"),
    ({"templateID": 7}, 400, "Invalid request: templateID: Input should be a valid string"),
    (
        {"templateID": "base", "autoPauseMemory": False},
        400,
        "autoPauseMemory: false needs autoPause: true",
    ),
    (
        {"templateID": "base", "autoPause": True, "autoPauseMemory": False, "autoResume": {"enabled": True}},
        400,
        "autoPauseMemory: false cannot be used with autoResume: traffic resumes only what has kept its memory",
    ),
    (
        {"templateID": "base", "volumeMounts": [{"name": "data", "path": "/data"}]},
        400,
        "invalid mounts:\n- volume mount #0: volume 'data' not found",
    ),
    (
        {"templateID": "base", "iam": {"tokens": {"t": {"audience": "x", "tokenType": "JWT"}}}},
        400,
        "iam: tokenType must be JWT-SVID",
    ),
    (
        {"templateID": "base", "iam": {"tokens": {"t": {"audience": "x", "tokenType": "JWT-SVID"}}}},
        501,
        "This installation issues no identity tokens: create the sandbox without iam",
    ),
]


@pytest.mark.parametrize(("fields", "status", "message"), REFUSED)
async def test_a_create_is_refused_in_e2bs_words(client: Client, plane: Plane, fields, status, message):
    check_error(await client.post("/v2/sandboxes", json=fields), status, message)
    assert plane.node.births == []


async def test_v1_refuses_a_closed_sandbox_without_secure(client: Client):
    fields = {"templateID": "base", "secure": False, "network": {"allowPublicTraffic": False}}
    check_error(
        await client.post("/sandboxes", json=fields),
        400,
        "You cannot create a sandbox without public access unless you enable secure envd access via 'secure' flag.",
    )


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""),
        ("DELETE", ""),
        ("POST", "/pause"),
        ("POST", "/timeout"),
        ("POST", "/refreshes"),
        ("POST", "/resume"),
        ("POST", "/connect"),
        ("PUT", "/network"),
        ("GET", "/metrics"),
        ("GET", "/logs"),
        ("POST", "/snapshots"),
        ("POST", "/fork"),
    ],
)
@pytest.mark.parametrize("sandbox_id", ["a" * 20, "debug_sandbox_id"])
async def test_a_sandbox_that_is_not_there_is_said_in_e2bs_words(client: Client, method, path, sandbox_id):
    answer = await client.request(method, f"/sandboxes/{sandbox_id}{path}", json={"timeout": 5})
    check_error(answer, 404, f"Sandbox \"{sandbox_id}\" doesn't exist or you don't have access to it")


async def test_snapshots_and_forks_are_refused_and_name_what_can(client: Client):
    made = await create(client)
    for path in ("snapshots", "fork"):
        answer = await client.post(f"/sandboxes/{made['sandboxID']}/{path}", json={})
        assert answer.status_code == 501
        assert "microVM" in answer.json()["message"]
    assert (await client.get("/snapshots")).json() == []
    assert (await detail(client, made["sandboxID"]))["state"] == "running"


# ---- its end


async def test_connect_never_shortens(client: Client, plane: Plane):
    made = await create(client, timeout=600)
    path = f"/v2/sandboxes/{made['sandboxID']}/connect"
    shorter = await client.post(path, json={"timeout": 60})
    assert (shorter.status_code, shorter.json()) == (200, made)
    assert _ends(await detail(client, made["sandboxID"])) == _now(plane) + timedelta(seconds=600)
    assert (await client.post(path, json={"timeout": 900})).status_code == 200
    assert _ends(await detail(client, made["sandboxID"])) == _now(plane) + timedelta(seconds=900)


async def test_connect_leaves_one_without_an_end_as_it_is(client: Client, plane: Plane):
    sandbox_id = (await client.post("/v1/sandboxes", json={"template_name": "base"})).json()["id"]
    before = await detail(client, sandbox_id)
    assert (await client.post(f"/v2/sandboxes/{sandbox_id}/connect", json={"timeout": 5})).status_code == 200
    assert await detail(client, sandbox_id) == before
    await client.post(f"/sandboxes/{sandbox_id}/pause")
    assert (await client.post(f"/v2/sandboxes/{sandbox_id}/connect", json={"timeout": 5})).status_code == 201
    assert await detail(client, sandbox_id) == before


async def test_set_timeout_shortens_and_refreshes_do_not(client: Client, plane: Plane):
    made = await create(client, timeout=600)
    path = f"/sandboxes/{made['sandboxID']}"
    assert (await client.post(f"{path}/timeout", json={"timeout": 60})).status_code == 204
    assert _ends(await detail(client, made["sandboxID"])) == _now(plane) + timedelta(seconds=60)
    for body, seconds in (({"duration": 30}, 60), ({}, 60), ({"duration": 90}, 90)):
        assert (await client.post(f"{path}/refreshes", json=body)).status_code == 204
        assert _ends(await detail(client, made["sandboxID"])) == _now(plane) + timedelta(seconds=seconds)
    check_error(
        await client.post(f"{path}/refreshes", json={"duration": 3601}),
        400,
        "duration is a number of seconds from 0 to 3600",
    )


async def test_a_timeout_of_nothing_ends_it_now(client: Client, plane: Plane):
    made = await create(client)
    assert (await client.post(f"/sandboxes/{made['sandboxID']}/timeout", json={"timeout": 0})).status_code == 204
    assert plane.node.sandboxes == {}
    assert (await client.get(f"/sandboxes/{made['sandboxID']}")).status_code == 404


@pytest.mark.parametrize(
    ("fields", "state", "on_timeout"),
    [
        ({}, None, OnTimeout.KILL),
        ({"autoPause": True}, State.PAUSED, OnTimeout.PAUSE),
        ({"autoPause": True, "autoPauseMemory": False}, State.STOPPED, OnTimeout.STOP),
    ],
)
async def test_the_end_is_what_was_asked_for(client: Client, plane: Plane, fields, state, on_timeout):
    made = await create(client, timeout=60, **fields)
    assert (await plane.store.sandboxes.get(made["sandboxID"])).on_timeout is on_timeout
    plane.clock.advance(59)
    await plane.services.reaper.tick()
    assert await _state(plane, made["sandboxID"]) is State.RUNNING
    plane.clock.advance(1)
    await plane.services.reaper.tick()
    assert await _state(plane, made["sandboxID"]) is state


async def test_what_is_paused_has_no_timeout_and_gets_a_new_one_with_connect(client: Client, plane: Plane):
    made = await create(client, timeout=60, autoPause=True)
    path = f"/sandboxes/{made['sandboxID']}"
    await client.post(f"{path}/timeout", json={"timeout": 0})
    plane.clock.advance(3600 * 24 * 3)
    await plane.services.reaper.tick()
    shown = await detail(client, made["sandboxID"])
    assert (shown["state"], shown["pauseMode"]) == ("paused", "full")
    answer = await client.post(f"/v2{path}/connect", json={"timeout": 120})
    assert (answer.status_code, answer.json()) == (201, made)
    assert _ends(await detail(client, made["sandboxID"])) == _now(plane) + timedelta(seconds=120)


async def test_a_life_of_24_hours_begins_anew_with_each_rest(client: Client, plane: Plane):
    made = await create(client, timeout=86400, autoPause=True)
    path = f"/sandboxes/{made['sandboxID']}"
    plane.clock.advance(80_000)
    await client.post(f"{path}/pause")
    await client.post(f"/v2{path}/connect", json={"timeout": 86400})
    plane.clock.advance(80_000)
    await plane.services.reaper.tick()
    assert await _state(plane, made["sandboxID"]) is State.RUNNING
    plane.clock.advance(6_400)
    await plane.services.reaper.tick()
    assert await _state(plane, made["sandboxID"]) is State.PAUSED


# ---- pause, resume, kill


async def test_pause_once_and_then_a_conflict(client: Client, plane: Plane):
    made = await create(client)
    path = f"/sandboxes/{made['sandboxID']}/pause"
    assert (await client.post(path)).status_code == 204
    message = f"Sandbox '{made['sandboxID']}' cannot be paused while in 'paused' state"
    check_error(await client.post(path), 409, message)
    check_error(await client.post(path, json={"memory": False}), 409, message)
    assert plane.node.sandboxes[made["sandboxID"]].state is State.PAUSED


async def test_a_pause_without_memory_keeps_the_disk_alone(client: Client, plane: Plane):
    made = await create(client)
    sandbox_id = made["sandboxID"]
    assert (await client.post(f"/sandboxes/{sandbox_id}/pause", json={"memory": False})).status_code == 204
    shown = await detail(client, sandbox_id)
    assert (shown["state"], shown["pauseMode"]) == ("paused", "filesystem")
    assert (await client.post(f"/v2/sandboxes/{sandbox_id}/connect")).status_code == 201
    assert plane.node.sandboxes[sandbox_id].incarnation == 2


async def test_connect_without_memory_is_a_cold_start(client: Client, plane: Plane):
    made = await create(client)
    sandbox_id = made["sandboxID"]
    await client.post(f"/sandboxes/{sandbox_id}/pause")
    answer = await client.post(f"/v2/sandboxes/{sandbox_id}/connect", json={"memory": False})
    assert answer.status_code == 201
    assert plane.node.sandboxes[sandbox_id].incarnation == 2


async def test_v1_connect_needs_a_timeout(client: Client):
    made = await create(client)
    answer = await client.post(f"/sandboxes/{made['sandboxID']}/connect", json={})
    check_error(answer, 400, "Invalid request: timeout is required")


async def test_resume_is_for_what_rests(client: Client, plane: Plane):
    made = await create(client)
    path = f"/sandboxes/{made['sandboxID']}"
    message = f"Sandbox '{made['sandboxID']}' cannot be resumed while in 'running' state"
    check_error(await client.post(f"{path}/resume", json={"timeout": 60}), 409, message)
    await client.post(f"{path}/pause")
    answer = await client.post(f"{path}/resume", json={"timeout": 60, "autoPause": True})
    assert (answer.status_code, answer.json()) == (201, made)
    shown = await detail(client, made["sandboxID"])
    assert (shown["lifecycle"]["onTimeout"], _ends(shown)) == ("pause", _now(plane) + timedelta(seconds=60))


async def test_what_rests_has_no_timeout_to_set(client: Client):
    made = await create(client)
    path = f"/sandboxes/{made['sandboxID']}"
    await client.post(f"{path}/pause")
    message = f"Sandbox '{made['sandboxID']}' cannot be updated while in 'paused' state"
    check_error(await client.post(f"{path}/timeout", json={"timeout": 60}), 409, message)
    check_error(await client.post(f"{path}/refreshes", json={}), 409, message)
    check_error(await client.put(f"{path}/network", json={}), 409, message)


async def test_kill_ends_also_what_is_paused_and_only_once(client: Client, plane: Plane):
    for paused in (False, True):
        made = await create(client)
        path = f"/sandboxes/{made['sandboxID']}"
        if paused:
            await client.post(f"{path}/pause")
        assert (await client.delete(path)).status_code == 204
        assert (await client.delete(path)).status_code == 404
    assert plane.node.sandboxes == {}


async def test_traffic_resumes_it_with_its_old_timeout_anew(client: Client, plane: Plane):
    made = await create(client, timeout=60, autoPause=True, autoResume={"enabled": True})
    plane.clock.advance(60)
    await plane.services.reaper.tick()
    plane.clock.advance(1000)
    woken = await plane.services.sandboxes.wake(made["sandboxID"])
    assert woken.state is State.RUNNING
    assert _ends(await detail(client, made["sandboxID"])) == _now(plane) + timedelta(seconds=60)


async def test_an_end_that_the_node_cannot_bring_about_comes_later(client: Client, plane: Plane):
    made = await create(client, timeout=60, autoPause=True)
    plane.clock.advance(60)
    plane.node.fail("pause", Unavailable("away"))
    await plane.services.reaper.tick()
    assert await _state(plane, made["sandboxID"]) is State.RUNNING
    plane.node.mend("pause")
    plane.clock.advance(30)
    await plane.services.reaper.tick()
    assert await _state(plane, made["sandboxID"]) is State.PAUSED
