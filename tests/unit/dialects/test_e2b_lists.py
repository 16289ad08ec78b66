"""E2B's lists of sandboxes, and what is told of one over time."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from atoll.testing.plane import Plane
from e2b_wire import Client, check_error, create, three_times


async def _ids(client: Client, path: str = "/v2/sandboxes", **query: object) -> list[str]:
    answer = await client.get(path, params=query)
    assert answer.status_code == 200, answer.text
    return [each["sandboxID"] for each in answer.json()]


async def _some(client: Client, plane: Plane, count: int = 3) -> list[str]:
    made = []
    for number in range(count):
        made.append((await create(client, metadata={"n": str(number)}))["sandboxID"])
        plane.clock.advance(1)
    return made


async def test_newest_first_unless_asked_otherwise(client: Client, plane: Plane):
    first, second, third = await _some(client, plane)
    assert await _ids(client) == [third, second, first]
    assert await _ids(client, order="asc") == [first, second, third]
    assert await _ids(client, order="desc") == [third, second, first]


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_pages_follow_each_other_by_the_header(client: Client, plane: Plane, order: str):
    everything = await _some(client, plane, 5)
    found: list[str] = []
    token, pages = "", 0
    while pages == 0 or token:
        answer = await client.get("/v2/sandboxes", params={"limit": 2, "order": order, "nextToken": token})
        found += [each["sandboxID"] for each in answer.json()]
        token, pages = answer.headers.get("x-next-token"), pages + 1
    assert found == (everything if order == "asc" else everything[::-1])
    assert pages == 3


@pytest.mark.parametrize("token", ["nonsense", "bnVsbA", "%%%"])
async def test_a_token_that_is_none_is_refused(client: Client, token: str):
    check_error(await client.get("/v2/sandboxes", params={"nextToken": token}), 400, "Invalid next token")


async def test_states_are_running_and_paused(client: Client, plane: Plane):
    running, frozen, cold = await _some(client, plane)
    await client.post(f"/sandboxes/{frozen}/pause")
    await client.post(f"/sandboxes/{cold}/pause", json={"memory": False})
    assert await _ids(client) == [cold, frozen, running]
    assert await _ids(client, state="running") == [running]
    assert await _ids(client, state="paused") == [cold, frozen]
    assert await _ids(client, state="paused,running") == [cold, frozen, running]
    assert await _ids(client, "/sandboxes") == [running]
    check_error(
        await client.get("/v2/sandboxes", params={"state": "stopped"}),
        400,
        "Invalid state 'stopped': running and paused are",
    )


PAIRS = [{"user": "ann"}, {"a b": "c&d=e"}, {"p%41": "q+r", "ü": "€ %"}]


@pytest.mark.parametrize("pairs", PAIRS)
async def test_metadata_is_found_through_its_three_layers(client: Client, pairs: dict[str, str]):
    made = await create(client, metadata={**pairs, "more": "x"})
    await create(client, metadata={"user": "bob"})
    for path in ("/v2/sandboxes", "/sandboxes"):
        assert await _ids(client, path, metadata=three_times(pairs)) == [made["sandboxID"]]
    assert await _ids(client, metadata=three_times({**pairs, "more": "y"})) == []
    assert len(await _ids(client, metadata="")) == 2


async def test_by_template_and_by_start(client: Client, plane: Plane):
    base = (await create(client))["sandboxID"]
    begun = datetime.fromtimestamp(plane.clock.now(), UTC)
    plane.clock.advance(1)
    code = (await create(client, templateID="code-interpreter"))["sandboxID"]
    assert await _ids(client, template="base") == [base]
    assert await _ids(client, template="code-interpreter") == [code]
    assert await _ids(client, startedAfter=begun.isoformat()) == [code]
    for text in ("soon", "2026-01-31T12:00:00"):
        check_error(
            await client.get("/v2/sandboxes", params={"startedAfter": text}),
            400,
            "startedAfter is a time like 2026-01-31T12:00:00Z",
        )


@pytest.mark.parametrize("limit", ["0", "101", "many", "-1"])
async def test_a_limit_goes_from_1_to_100(client: Client, limit: str):
    assert (await client.get("/v2/sandboxes", params={"limit": limit})).status_code == 400


# ---- over time


async def test_metrics_are_there_at_once_and_grow(client: Client, plane: Plane):
    made = await create(client)
    path = f"/sandboxes/{made['sandboxID']}/metrics"
    begun = int(plane.clock.now())
    for seconds in (0, 5, 5):
        plane.clock.advance(seconds)
        plane.node.cpu_seconds[made["sandboxID"]] = plane.clock.now() - begun
        await plane.services.measures.round()
    shown = (await client.get(path)).json()
    assert [each["timestampUnix"] - begun for each in shown] == [0, 5, 10]
    assert [each["cpuUsedPct"] for each in shown] == [0, 50, 50]
    assert shown[0].keys() == {
        *("timestamp", "timestampUnix", "cpuCount", "cpuUsedPct", "memUsed", "memTotal", "memCache"),
        *("diskUsed", "diskTotal"),
    }
    assert (shown[0]["memTotal"], shown[0]["diskTotal"]) == (2048 << 20, 10240 << 20)
    some = (await client.get(path, params={"start": begun + 1, "end": begun + 5})).json()
    assert [each["timestampUnix"] - begun for each in some] == [5]
    in_milliseconds = {"start": (begun + 1) * 1000, "end": (begun + 5) * 1000}  # clients before 2.12
    assert (await client.get(path, params=in_milliseconds)).json() == some
    assert (await client.get(path, params={"start": begun + 5, "end": begun})).status_code == 400


async def test_metrics_of_several_at_once(client: Client, plane: Plane):
    first, second, third = await _some(client, plane)
    fourth = (await create(client))["sandboxID"]
    await client.delete(f"/sandboxes/{third}")
    await client.post(f"/sandboxes/{fourth}/pause")
    answer = await client.get("/sandboxes/metrics", params={"sandbox_ids": f"{first},{second},{third},{fourth}"})
    assert answer.json()["sandboxes"].keys() == {first, second}
    assert (await client.get("/sandboxes/metrics")).status_code == 400


async def test_logs_say_what_was_done_to_it(client: Client, plane: Plane):
    made = await create(client)
    path = f"/sandboxes/{made['sandboxID']}"
    plane.clock.advance(1)
    await client.get(path)
    await client.post(f"{path}/pause")
    plane.clock.advance(1)
    await client.post(f"{path}/pause")
    lines = (await client.get(f"/v2{path}/logs")).json()["logs"]
    assert [(each["message"], each["level"]) for each in lines] == [
        ("sandbox.create: ok", "info"),
        ("sandbox.pause: ok", "info"),
        ("sandbox.pause: conflict", "warn"),
    ]
    assert all(isinstance(value, str) for each in lines for value in each["fields"].values())
    for query, expected in [
        ({"direction": "backward", "limit": 1}, [2]),
        ({"level": "warn"}, [2]),
        ({"search": "create"}, [0]),
        ({"cursor": int(plane.clock.now() * 1000)}, [2]),
        ({"direction": "backward", "cursor": int(plane.clock.now() * 1000) - 1000}, [1, 0]),
    ]:
        found = (await client.get(f"/v2{path}/logs", params=query)).json()["logs"]
        assert found == [lines[index] for index in expected], query
    old = (await client.get(f"{path}/logs", params={"start": int(plane.clock.now() * 1000)})).json()
    assert [each["line"] for each in old["logs"]] == ["sandbox.pause: conflict"]
    assert old["logEntries"] == [lines[2]]
    assert (await client.get(f"/v2{path}/logs", params={"level": "loud"})).status_code == 400
