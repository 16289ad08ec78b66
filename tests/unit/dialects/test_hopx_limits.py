"""What a caller may use, and how often it may ask, as HopX's clients read it; and what every answer carries."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace

import httpx
import pytest

from atoll.core.audit import ATOLL
from atoll.core.quota import Quota
from atoll.core.rates import GENEROUS, PRESETS, Rates
from atoll.testing.node import ROOMY
from atoll.testing.plane import Plane

Client = httpx.AsyncClient
BASE = {"template_name": "base"}


async def create(client: Client, **body: object) -> httpx.Response:
    return await client.post("/v1/sandboxes", json={**BASE, **body})


async def key_with(plane: Plane, quota: Quota | None = None, rates: Rates = GENEROUS) -> dict[str, str]:
    _, text = await plane.services.keys.create(ATOLL, "limited", quota or Quota(), rates)
    return {"X-API-Key": text}


def limit_error(answer: httpx.Response) -> dict:
    assert answer.status_code == 403, answer.text
    error = answer.json()["error"]
    assert error["code"] == "RESOURCE_LIMIT_ERROR"
    assert "limit" in error["message"]
    details = error["details"]
    assert details["upgrade_url"] is None
    assert all(isinstance(details[name], int) for name in ("limit", "current", "available"))
    return details


# ---- the three causes of a resource limit


async def test_a_full_host(client: Client, plane: Plane):
    plane.node.room = replace(ROOMY, disk_available_mib=100)
    details = limit_error(await create(client))
    assert (details["cause"], details["resource"], details["available"]) == ("host_full", "disk_mib", 0)


async def test_a_used_up_quota(client: Client, plane: Plane):
    headers = await key_with(plane, Quota(sandboxes=1))
    async with httpx.AsyncClient(transport=client._transport, base_url="http://atoll", headers=headers) as own:
        made = (await create(own)).json()["id"]
        details = limit_error(await create(own))
        assert details == {
            "cause": "quota",
            "resource": "sandboxes",
            "limit": 1,
            "current": 1,
            "available": 0,
            "requested": 1,
            "upgrade_url": None,
        }
        await own.delete(f"/v1/sandboxes/{made}")
        assert (await create(own)).status_code == 201


@pytest.mark.parametrize(
    ("asked", "resource", "limit"),
    [({"vcpu": 9}, "vcpu", 8), ({"memory_mb": 16385}, "memory_mib", 16384), ({"disk_gb": 101}, "disk_mib", 102400)],
)
async def test_a_size_above_the_templates_maximum(client: Client, asked: dict, resource: str, limit: int):
    details = limit_error(await create(client, **asked))
    assert (details["cause"], details["resource"], details["limit"]) == ("size", resource, limit)


async def test_a_size_within_the_maximum_is_honoured(client: Client, plane: Plane):
    made = (await create(client, vcpu=1, memory_mb=512, disk_gb=2)).json()
    assert made["resources"] == {"vcpu": 1, "memory_mb": 512, "disk_mb": 2048}
    assert plane.node.births[-1].limits.memory_mib == 512


@pytest.mark.parametrize(
    "asked",
    [{"vcpu": 0}, {"vcpu": -1}, {"memory_mb": 1}, {"disk_gb": 0}]
    + [{name: bad} for name in ("vcpu", "memory_mb", "disk_gb") for bad in ("1", 1.5, True, [], {})],
    ids=str,
)
async def test_a_size_below_the_minimum_or_of_a_wrong_type_is_400(client: Client, plane: Plane, asked: dict):
    assert (await create(client, **asked)).status_code == 400
    assert plane.node.births == []


async def test_templates_say_what_may_be_asked_for(client: Client):
    one = (await client.get("/v1/templates/base")).json()
    assert one["min_resources"] == {"vcpu": 1, "memory_mb": 128, "disk_gb": 1}
    assert one["max_resources"] == {"vcpu": 8, "memory_mb": 16384, "disk_gb": 100}


async def test_an_unknown_region_is_400_and_names_the_known(client: Client):
    answer = await create(client, region="mars-1")
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert "local" in error["message"]
    assert error["details"]["regions"] == ["local"]
    assert (await create(client, region="local")).json()["region"] == "local"


# ---- rates


@pytest.fixture
async def slow(client: Client, plane: Plane) -> AsyncIterator[Client]:
    headers = await key_with(plane, rates=PRESETS["hopx"])
    async with httpx.AsyncClient(transport=client._transport, base_url="http://atoll", headers=headers) as own:
        yield own


async def test_the_calls_of_a_minute_and_then_a_429_with_everything_that_clients_read(slow: Client, plane: Plane):
    for left in range(99, -1, -1):
        answer = await slow.get("/v1/templates")
        assert answer.status_code == 200
        assert answer.headers["X-RateLimit-Remaining"] == str(left)
    refused = await slow.get("/v1/templates")
    assert refused.status_code == 429
    body = refused.json()
    assert body["error"]["code"] == body["code"] == "RATE_LIMIT_EXCEEDED"
    assert body["error"]["details"]["retry_after_seconds"] == body["retry_after"] == 1
    assert refused.headers["Retry-After"] == "1"
    assert refused.headers["X-RateLimit-Limit"] == "100"
    assert refused.headers["X-RateLimit-Remaining"] == "0"
    assert plane.clock.now() < int(refused.headers["X-RateLimit-Reset"]) <= plane.clock.now() + 61
    plane.clock.advance(1)
    assert (await slow.get("/v1/templates")).status_code == 200


async def test_the_twenty_first_creation_of_a_minute_is_refused_before_anything_happened(slow: Client, plane: Plane):
    for _ in range(20):
        assert (await create(slow)).status_code == 201
    births = len(plane.node.births)
    refused = await create(slow)
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "3")
    assert refused.headers["X-RateLimit-Limit"] == "20"
    assert len(plane.node.births) == births
    assert (await slow.get("/v1/sandboxes")).status_code == 200, "other calls are still let in"
    plane.clock.advance(3)
    assert (await create(slow)).status_code == 201


async def test_over_its_rate_not_even_the_body_is_looked_at(slow: Client):
    for _ in range(20):
        await slow.post("/v1/sandboxes", content=b"{")
    assert (await slow.post("/v1/sandboxes", content=b"{")).status_code == 429


async def test_errors_of_a_limited_key_carry_its_rate_too(slow: Client):
    answer = await slow.get("/v1/sandboxes/nope")
    assert (answer.status_code, answer.headers["X-RateLimit-Remaining"]) == (404, "99")


async def test_keys_do_not_use_up_each_others_rates(slow: Client, client: Client):
    for _ in range(101):
        await slow.get("/v1/templates")
    assert (await client.get("/v1/templates")).status_code == 200


async def test_a_change_of_a_keys_rate_is_in_force_at_once(client: Client, plane: Plane):
    key_id = plane.caller.principal.key_id
    await plane.services.keys.limit(ATOLL, key_id, {}, {"control": 1})
    assert (await client.get("/v1/templates")).status_code == 200
    assert (await client.get("/v1/templates")).status_code == 429
    await plane.services.keys.limit(ATOLL, key_id, {}, {"control": None, "create": None})
    answer = await client.get("/v1/templates")
    assert answer.status_code == 200
    assert not [name for name in answer.headers if name.startswith("x-ratelimit")], "an unlimited key has no rate"


async def test_the_agents_limit_goes_to_the_edge_with_the_route(slow: Client, plane: Plane):
    made = (await create(slow)).json()["id"]
    route = plane.services.routes.get(made)
    assert route["calls_per_minute"] == 300
    assert route["key"].startswith("key_")


# ---- every answer has an id

ANSWERS = {
    "health": ("GET", "/health", 200),
    "list": ("GET", "/v1/sandboxes", 200),
    "create": ("POST", "/v1/sandboxes", 201),
    "templates": ("GET", "/v1/templates", 200),
    "template": ("GET", "/v1/templates/base", 200),
    "a sandbox that is not": ("GET", "/v1/sandboxes/nope", 404),
    "delete of a template": ("DELETE", "/v1/templates/base", 403),
    "bad query": ("GET", "/v1/sandboxes?limit=0", 400),
    "no route": ("GET", "/v1/nothing", 404),
    "wrong method": ("PATCH", "/v1/sandboxes", 405),
}


@pytest.mark.parametrize(("method", "path", "status"), ANSWERS.values(), ids=ANSWERS.keys())
async def test_every_answer_says_its_request_id_twice(client: Client, method: str, path: str, status: int):
    answer = await client.request(method, path, json=BASE)
    assert answer.status_code == status
    assert answer.json()["request_id"] == answer.headers["X-Request-ID"]
    assert answer.headers["X-Request-ID"].startswith("req_")


async def test_every_operation_on_a_sandbox_says_its_request_id(client: Client):
    path = f"/v1/sandboxes/{(await create(client)).json()['id']}"
    for method, rest in (
        ("GET", ""),
        ("POST", "/pause"),
        ("POST", "/resume"),
        ("POST", "/stop"),
        ("POST", "/start"),
        ("POST", "/token/refresh"),
        ("PUT", "/timeout"),
        ("DELETE", ""),
    ):
        answer = await client.request(method, path + rest, json={"timeout_seconds": 60})
        assert answer.status_code == 200, rest
        assert answer.json()["request_id"] == answer.headers["X-Request-ID"]


async def test_no_key_is_an_answer_with_an_id_too(client: Client):
    answer = await client.get("/v1/sandboxes", headers={"X-API-Key": "no"})
    assert answer.json()["request_id"] == answer.headers["X-Request-ID"]


# ---- lists and states


async def test_a_sandbox_is_listed_as_creating_before_its_place_exists(client: Client, plane: Plane):
    gate = plane.node.hold("create")
    making = asyncio.create_task(create(client))
    await plane.node.entered.wait()
    (listed,) = (await client.get("/v1/sandboxes", params={"status": "creating"})).json()["data"]
    assert listed["status"] == "creating"
    assert (await client.get(f"/v1/sandboxes/{listed['id']}")).json()["status"] == "creating"
    refused = await client.post(f"/v1/sandboxes/{listed['id']}/pause")
    assert refused.status_code == 409
    assert refused.json()["error"]["details"] == {"state": "creating", "event": "pause"}
    assert plane.node.sandboxes == {}
    gate.set()
    assert (await making).json()["id"] == listed["id"]


async def test_pages_are_stable_while_sandboxes_come_and_go(client: Client, plane: Plane):
    made = [(await create(client)).json()["id"] for _ in range(9)]  # all in the same moment
    seen: list[str] = []
    cursor = None
    for turn in range(4):
        params = {"limit": "2", **({"cursor": cursor} if cursor else {})}
        page = (await client.get("/v1/sandboxes", params=params)).json()
        ids = [item["id"] for item in page["data"]]
        seen += ids
        assert page["has_more"] is (page["next_cursor"] is not None)
        cursor = page["next_cursor"]
        if turn % 2:
            await client.delete(f"/v1/sandboxes/{ids[-1]}")  # what the cursor stands on
        plane.clock.advance(1)
        await create(client)
        if turn == 0:
            later = next(item for item in made if item not in seen)
            await client.delete(f"/v1/sandboxes/{later}")
    assert cursor is None
    assert len(seen) == len(set(seen)) == 8
    assert set(made) - set(seen) == {later}


@pytest.mark.parametrize(
    "params",
    [
        *({"limit": bad} for bad in ("0", "-1", "1.5", "x", "²", "1e3")),
        *({"status": bad} for bad in ("Running", "flying", "running,paused")),
        *({"region": bad} for bad in ("a b", "x" * 65, "ü", "../x", "\0")),
        *({"cursor": bad} for bad in ("x", "e30", "W10", "bnVsbA", "WzEsICJ4Il0", "=", "ü", "WzFlOTk5LCAiYSJd")),
    ],
    ids=str,
)
async def test_a_bad_query_is_400(client: Client, params: dict[str, str]):
    answer = await client.get("/v1/sandboxes", params=params)
    assert answer.status_code == 400, answer.text


# ---- variables


def env_of(count: int, size: int) -> dict[str, str]:
    """`count` variables that are `size` bytes together, as the limit counts them."""
    names = [f"V{n:06}" for n in range(count)]
    each, more = divmod(size - count * (7 + 2), count)
    return {name: "\x01" * (each + (n < more)) for n, name in enumerate(names)}


async def test_a_thousand_variables_of_a_mebibyte_in_json_six_times_as_long(client: Client, plane: Plane):
    env = env_of(1000, 1024 * 1024)
    assert len(json.dumps(env)) > 5 * 2**20
    assert (await create(client, env_vars=env)).status_code == 201
    assert plane.node.births[-1].env == env


@pytest.mark.parametrize(
    "env",
    [env_of(1001, 20_000), env_of(1000, 1024 * 1024 + 1), {"A": "x" * 131072}, {"": "x"}, {"A=B": ""}, {"A": "\0"}],
    ids=["too many", "a byte too much", "one too long", "no name", "equals", "NUL"],
)
async def test_variables_beyond_the_limits_are_400(client: Client, plane: Plane, env: dict[str, str]):
    answer = await create(client, env_vars=env)
    assert answer.status_code == 400
    assert answer.json()["error"]["details"] == {"field": "env_vars"}
    assert plane.node.births == []


async def test_expires_at_says_the_same_everywhere(client: Client, plane: Plane):
    made = (await create(client, timeout_seconds=600)).json()
    path = f"/v1/sandboxes/{made['id']}"
    told = [made["expires_at"], (await client.get(path)).json()["expires_at"]]
    told += [item["expires_at"] for item in (await client.get("/v1/sandboxes")).json()["data"]]
    assert len(set(told)) == 1
    plane.clock.advance(10)
    changed = (await client.put(f"{path}/timeout", json={"timeout_seconds": 60})).json()
    assert changed["expires_at"] == (await client.get(path)).json()["expires_at"] < made["expires_at"]
    await client.post(f"{path}/pause")
    assert (await client.get(path)).json()["expires_at"] == changed["expires_at"], "it stays true while paused"
