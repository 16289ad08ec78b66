"""Errors in E2B's words, and which of them its clients repeat."""

from __future__ import annotations

from dataclasses import replace

import pytest

from atoll.core.errors import BY_KIND, ErrorKind, Unavailable
from atoll.core.rates import GENEROUS
from atoll.dialects.e2b.errors import CAUSES, refusal
from atoll.testing.node import ROOMY
from atoll.testing.plane import Plane
from e2b_wire import Client, check_error, create


@pytest.mark.parametrize("kind", list(ErrorKind))
@pytest.mark.parametrize("cause", [None, *CAUSES])
def test_every_error_says_whether_to_repeat_it(kind: ErrorKind, cause: str | None):
    found = refusal(BY_KIND[kind]("why", **({"cause": cause} if cause else {})))
    assert found.content["code"] == found.status
    assert found.content["message"] == "why"
    repeats = found.headers["Should-Retry"] == "true"
    assert ("Retry-After" in found.headers) is repeats
    if repeats and cause is None:
        assert kind in (ErrorKind.RATE_LIMITED, ErrorKind.UNAVAILABLE)


@pytest.mark.parametrize("headers", [{"X-API-Key": ""}, {"X-API-Key": "e2b_" + "0" * 40}])
async def test_without_a_key_nothing_is_answered(client: Client, headers: dict[str, str]):
    for method, path in [("GET", "/v2/sandboxes"), ("POST", "/v2/sandboxes"), ("GET", "/templates"), ("GET", "/x")]:
        answer = await client.request(method, path, headers=headers)
        if path == "/x":
            assert answer.status_code == 404
        else:
            assert (answer.status_code, answer.json()["code"]) == (401, 401)
            assert "API key" in answer.json()["message"]


async def test_a_bearer_is_as_good_as_the_other_header(client: Client, plane: Plane):
    headers = {"X-API-Key": "", "Authorization": f"Bearer {plane.key}", "X-Team-ID": "any"}
    assert (await client.get("/v2/sandboxes", headers=headers)).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/none", 404),
        ("GET", "/v3/templates/x/y", 404),
        ("GET", "/sandboxes/x/y/z", 404),
        ("PATCH", "/sandboxes", 405),
        ("GET", "/sandboxes/", 404),
    ],
)
async def test_unknown_routes_are_refused_in_its_shape(client: Client, method: str, path: str, status: int):
    answer = await client.request(method, path)
    assert answer.status_code == status
    assert answer.json().keys() == {"code", "message"}
    assert answer.json()["code"] == status


async def test_what_is_no_json_is_refused(client: Client):
    for raw in (b"{", b"[]", b"\xff", b"null"):
        answer = await client.post("/v2/sandboxes", content=raw)
        assert (answer.status_code, answer.headers["Should-Retry"]) == (400, "false"), raw


async def test_a_quota_is_a_429_that_is_not_repeated(client: Client, plane: Plane):
    await plane.services.keys.limit(plane.caller, plane.caller.principal.key_id, {"sandboxes": 1}, {})
    await create(client)
    answer = await client.post("/v2/sandboxes", json={"templateID": "base"})
    assert answer.status_code == 429
    assert answer.json()["message"].startswith("you have reached the maximum number of concurrent E2B sandboxes (1)")
    assert answer.headers["Should-Retry"] == "false"
    assert "Retry-After" not in answer.headers


async def test_a_rate_is_a_429_that_is_repeated(client: Client, plane: Plane):
    rates = replace(GENEROUS, create=1).to_wire()
    await plane.services.keys.limit(plane.caller, plane.caller.principal.key_id, {}, rates)
    await create(client)
    answer = await client.post("/v2/sandboxes", json={"templateID": "base"})
    assert (answer.status_code, answer.headers["Should-Retry"]) == (429, "true")
    assert answer.headers.get_list("Retry-After") == ["60"]


async def test_a_full_host_says_so_before_anything_is_made(client: Client, plane: Plane):
    plane.node.room = replace(ROOMY, memory_available_mib=10)
    answer = await client.post("/v2/sandboxes", json={"templateID": "base"})
    assert (answer.status_code, answer.json()["error_code"]) == (503, "sandbox_capacity_unavailable")
    assert plane.node.births == []


async def test_a_node_that_is_away_may_be_asked_again_and_nothing_is_left(client: Client, plane: Plane):
    plane.node.fail("create", Unavailable("the node does not answer"))
    answer = await client.post("/v2/sandboxes", json={"templateID": "base"})
    check_error(answer, 503, "the node does not answer")
    assert (answer.headers["Should-Retry"], answer.headers["Retry-After"]) == ("true", "1")
    assert (await client.get("/v2/sandboxes")).json() == []


async def test_hopx_is_told_in_its_own_words(client: Client):
    assert (await client.get("/v1/none")).json()["code"] == "RESOURCE_NOT_FOUND"
