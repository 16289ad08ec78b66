"""`Idempotency-Key` on E2B's create."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from atoll.core.errors import Unavailable
from atoll.testing.plane import Plane, open_plane
from e2b_wire import Client, check_error

BODY = {"templateID": "base", "network": {"allowPublicTraffic": False}}
KEY = {"Idempotency-Key": "order-66"}


async def _create(client: Client, body: object = BODY, headers: dict[str, str] = KEY) -> httpx.Response:
    return await client.post("/v2/sandboxes", json=body, headers=headers)


async def test_the_same_again_is_answered_the_same_and_done_once(client: Client, plane: Plane):
    first, again = await _create(client), await _create(client)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert len(plane.node.births) == 1


async def test_another_key_or_none_is_another_sandbox(client: Client, plane: Plane):
    await _create(client)
    await _create(client, headers={"Idempotency-Key": "order-67"})
    await _create(client, headers={})
    assert len(plane.node.births) == 3


async def test_another_request_under_the_same_key_is_refused(client: Client, plane: Plane):
    await _create(client)
    check_error(
        await _create(client, {**BODY, "timeout": 5}),
        422,
        "This Idempotency-Key was used with another request. Use a new key for a new request.",
        error_code="idempotency_request_mismatch",
    )
    assert len(plane.node.births) == 1


async def test_while_the_first_is_at_work_the_second_is_told_to_come_back(client: Client, plane: Plane):
    gate = plane.node.hold("create")
    first = asyncio.create_task(_create(client))
    await plane.node.entered.wait()
    second = await _create(client)
    check_error(
        second,
        409,
        "A request with this Idempotency-Key is still being worked on. Ask again in a moment.",
        error_code="idempotency_in_progress",
    )
    assert (second.headers["Should-Retry"], second.headers["Retry-After"]) == ("true", "1")
    gate.set()
    made = await first
    assert (await _create(client)).json() == made.json()


async def test_what_failed_may_be_tried_again(client: Client, plane: Plane):
    plane.node.fail("create", Unavailable("away"))
    assert (await _create(client)).status_code == 503
    plane.node.mend("create")
    assert (await _create(client)).status_code == 201
    assert len(plane.node.sandboxes) == 1


async def test_it_is_kept_over_a_restart_and_for_a_day(client: Client, plane: Plane, tmp_path: Path):
    first = (await _create(client)).json()
    later = await open_plane(tmp_path, plane.node, clock=plane.clock)
    transport = httpx.ASGITransport(later.app)
    async with httpx.AsyncClient(
        transport=transport, base_url="http://atoll", headers={"X-API-Key": plane.key}
    ) as again:
        assert (await _create(again)).json() == first
        plane.clock.advance(24 * 3600 + 1)
        await _create(again)
    later.close()
    assert len(plane.node.births) == 2


async def test_what_a_server_left_unfinished_is_not_done_again(client: Client, plane: Plane, tmp_path: Path):
    plane.node.hold("create")
    lost = asyncio.create_task(_create(client))
    await plane.node.entered.wait()
    later = await open_plane(tmp_path, plane.node, clock=plane.clock)
    transport = httpx.ASGITransport(later.app)
    async with httpx.AsyncClient(
        transport=transport, base_url="http://atoll", headers={"X-API-Key": plane.key}
    ) as again:
        answer = await _create(again)
    later.close()
    assert (answer.status_code, answer.json()["error_code"]) == (409, "idempotency_outcome_unknown")
    assert answer.headers["Should-Retry"] == "false"
    lost.cancel()
    with pytest.raises(asyncio.CancelledError):
        await lost


async def test_the_answer_is_sealed(client: Client, plane: Plane, tmp_path: Path):
    made = (await _create(client)).json()
    assert made["trafficAccessToken"]
    kept = b"".join(path.read_bytes() for path in tmp_path.glob("atoll.db*"))
    assert b"idempotency" in kept
    assert made["trafficAccessToken"].encode() not in kept
    assert made["envdAccessToken"].encode() not in kept


@pytest.mark.parametrize("key", ["", "Upper", "with_underscore", "a" * 256])
async def test_a_key_has_its_form(client: Client, plane: Plane, key: str):
    check_error(
        await _create(client, headers={"Idempotency-Key": key}),
        400,
        "Idempotency-Key has 1 to 255 lower-case letters, digits and '-'",
    )


async def test_the_first_generation_knows_no_keys(client: Client, plane: Plane):
    for _ in range(2):
        assert (await client.post("/sandboxes", json=BODY, headers=KEY)).status_code == 201
    assert len(plane.node.births) == 2
