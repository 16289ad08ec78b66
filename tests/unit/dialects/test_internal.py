import asyncio
import json

import httpx
import pytest

from atoll.testing.plane import Plane

Client = httpx.AsyncClient


async def create(client: Client) -> str:
    return (await client.post("/v1/sandboxes", json={"template_name": "base"})).json()["id"]


async def test_a_route_is_found_and_a_missing_one_is_404(client: Client):
    box = await create(client)
    route = (await client.get(f"/internal/routes/{box}")).json()
    told = {"id", "incarnation", "state", "socket", "workdir", "python", "internet_access", "inbound_auth"}
    told |= {"web_port", "traffic_digest", "masked_host", "https_ports", "auto_resume", "dialect"}
    assert set(route) == told | {"key", "calls_per_minute"}
    assert (await client.get("/internal/routes/nope")).status_code == 404


async def test_the_stream_is_ndjson_and_ends_with_the_server(client: Client, plane: Plane):
    box = await create(client)
    plane.services.uses.record([], [])
    reading = asyncio.create_task(client.get("/internal/routes"))
    while not plane.services.routes._followers:  # noqa: ASYNC110
        await asyncio.sleep(0)
    await client.post(f"/v1/sandboxes/{box}/pause")
    await asyncio.sleep(0)
    lines: list[dict] = []

    async def end_when_read() -> None:
        plane.services.routes.close()
        lines.extend(json.loads(line) for line in (await reading).text.splitlines())

    await end_when_read()
    assert lines[0]["id"] == box
    assert any(line.get("ready") for line in lines)
    assert lines[-1]["state"] == "paused"


async def test_activity_is_taken_in_for_known_sandboxes(client: Client, plane: Plane):
    box = await create(client)
    plane.clock.advance(100)
    entries = [{"id": box, "last_call_at": plane.clock.now(), "open": 2}, {"id": "gone", "last_call_at": 1, "open": 1}]
    assert (await client.post("/internal/activity", json={"activity": entries})).status_code == 200
    assert plane.services.uses.of(box).open == 2
    assert plane.services.uses.of(box).last_call_at == plane.clock.now()
    assert plane.services.uses.of("gone").open == 0


@pytest.mark.parametrize("raw", [b"", b"{}", b"[]", b'{"activity": [{"id": 1}]}'])
async def test_bad_activity_is_400(client: Client, raw: bytes):
    assert (await client.post("/internal/activity", content=raw)).status_code == 400


async def test_traffic_resumes_what_asked_for_it_and_is_told_the_route(client: Client, plane: Plane):
    body = {"template_name": "base", "auto_resume": True}
    box = (await client.post("/v1/sandboxes", json=body)).json()["id"]
    await client.post(f"/v1/sandboxes/{box}/pause")
    answer = await client.post(f"/internal/sandboxes/{box}/resume")
    assert (answer.status_code, answer.json()["state"]) == (200, "running")
    assert answer.json() == (await client.get(f"/internal/routes/{box}")).json()


async def test_traffic_resumes_nothing_else(client: Client):
    box = await create(client)
    await client.post(f"/v1/sandboxes/{box}/pause")
    assert (await client.post(f"/internal/sandboxes/{box}/resume")).status_code == 409
    assert (await client.get(f"/v1/sandboxes/{box}")).json()["status"] == "paused"
    assert (await client.post(f"/internal/sandboxes/{'a' * 20}/resume")).status_code == 404


async def test_a_key_is_allowed_on_its_own_sandboxes_only(client: Client, plane: Plane):
    box = await create(client)

    async def allowed(credential: str, sandbox: str) -> bool:
        body = {"credential": credential, "sandbox": sandbox}
        return (await client.post("/internal/authenticate", json=body)).json()["allowed"]

    assert await allowed(plane.key, box)
    assert not await allowed(plane.key, "a" * 20)
    assert not await allowed(plane.key, "../x")
    assert not await allowed("e2b_" + "0" * 40, box)
    assert not await allowed("", box)
