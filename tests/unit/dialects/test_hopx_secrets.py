"""`/v1/secrets`, and `secrets` of a create: shapes, errors, and no value in any answer."""

from __future__ import annotations

import httpx
import pytest

from atoll.core.policy import from_wire
from atoll.testing.plane import Plane

from .test_hopx_routes import check_error, create

Client = httpx.AsyncClient
GIVEN = {"name": "key", "value": "value-1", "hosts": ["api.example"], "description": "d", "metadata": {"a": "b"}}
FIELDS = {
    *("id", "object", "name", "version", "hosts", "description", "metadata", "created_at", "updated_at", "request_id"),
}


async def make(client: Client, **changes: object) -> dict:
    answer = await client.post("/v1/secrets", json=GIVEN | changes)
    assert answer.status_code == 201, answer.text
    assert "value-" not in answer.text
    return dict(answer.json())


async def test_one_is_made_shown_listed_changed_and_deleted(client: Client):
    made = await make(client)
    assert set(made) == FIELDS
    assert made["object"] == "secret"
    assert {name: made[name] for name in GIVEN if name != "value"} == {n: v for n, v in GIVEN.items() if n != "value"}
    for name in ("key", made["id"]):
        got = (await client.get(f"/v1/secrets/{name}")).json()
        assert {**got, "request_id": made["request_id"]} == made
    listed = (await client.get("/v1/secrets")).json()
    assert (listed["object"], listed["url"], listed["has_more"], listed["next_cursor"]) == (
        *("list", "/v1/secrets", False, None),
    )
    assert [each["name"] for each in listed["data"]] == ["key"]
    changed = (await client.put("/v1/secrets/key", json={"value": "value-2"})).json()
    assert (changed["version"], changed["hosts"], changed["description"]) == (2, ["api.example"], "d")
    changed = (await client.put("/v1/secrets/key", json={"hosts": [], "metadata": {}, "value": None})).json()
    assert (changed["version"], changed["hosts"], changed["metadata"]) == (2, [], {})
    gone = (await client.delete("/v1/secrets/key")).json()
    assert {**gone, "request_id": ""} == {
        "id": made["id"],
        "object": "secret",
        "name": "key",
        "deleted": True,
        "request_id": "",
    }
    check_error(await client.get("/v1/secrets/key"), 404, "RESOURCE_NOT_FOUND")


async def test_the_list_pages(client: Client, plane: Plane):
    for n in range(3):
        plane.clock.advance(1)
        await make(client, name=f"s{n}")
    first = (await client.get("/v1/secrets", params={"limit": 2})).json()
    assert ([each["name"] for each in first["data"]], first["has_more"]) == (["s2", "s1"], True)
    query = {"limit": 2, "cursor": first["next_cursor"]}
    assert [each["name"] for each in (await client.get("/v1/secrets", params=query)).json()["data"]] == ["s0"]
    check_error(await client.get("/v1/secrets", params={"cursor": "x"}), 400, "INVALID_REQUEST")
    check_error(await client.get("/v1/secrets", params={"limit": "0"}), 400, "INVALID_REQUEST")


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": None},
        {"name": "a b"},
        {"value": None},
        {"value": 5},
        {"value": "value-3\n"},
        {"hosts": "api.example"},
        {"hosts": ["*"]},
        {"host": ["api.example"]},
        {"metadata": {"a": 1}},
    ],
)
async def test_what_is_wrong_is_400_and_is_not_quoted(client: Client, wrong: dict):
    answer = await client.post("/v1/secrets", json=GIVEN | wrong)
    check_error(answer, 400, "INVALID_REQUEST")
    assert "value-" not in answer.text
    assert (await client.get("/v1/secrets")).json()["data"] == []


@pytest.mark.parametrize("raw", [b"[", b"[]", b'{"value": "value-1', b'{"name": "key", "value": {"value-1": 1}}'])
async def test_a_body_that_cannot_be_read_is_400_and_is_not_quoted(client: Client, raw: bytes):
    await make(client)
    for answer in (await client.post("/v1/secrets", content=raw), await client.put("/v1/secrets/key", content=raw)):
        check_error(answer, 400, "INVALID_REQUEST")
        assert "value-1" not in answer.text


async def test_a_name_that_is_taken_is_409_and_a_full_house_is_403(client: Client, monkeypatch: pytest.MonkeyPatch):
    await make(client)
    check_error(await client.post("/v1/secrets", json=GIVEN), 409, "CONFLICT")
    monkeypatch.setattr("atoll.core.secrets.MAX_SECRETS", 1)
    answer = await client.post("/v1/secrets", json=GIVEN | {"name": "second"})
    assert check_error(answer, 403, "RESOURCE_LIMIT_ERROR")["details"]["resource"] == "secrets"


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_one_that_is_not_there_is_404(client: Client, method: str):
    for name in ("nothing", "sec_" + "0" * 24, "%2e%2e", "x" * 500):
        check_error(await client.request(method, f"/v1/secrets/{name}"), 404, "RESOURCE_NOT_FOUND")


@pytest.mark.parametrize(
    ("method", "path"), [("GET", ""), ("POST", ""), ("GET", "/key"), ("PUT", "/key"), ("DELETE", "/key")]
)
async def test_every_route_wants_a_key(client: Client, method: str, path: str):
    answer = await client.request(method, f"/v1/secrets{path}", headers={"X-API-Key": "e2b_" + "0" * 40})
    check_error(answer, 401, "AUTHENTICATION_REQUIRED")


async def test_a_sandbox_shows_the_names_of_its_secrets_and_rules_as_given(client: Client, plane: Plane):
    await make(client)
    rules = {"api.example": [{"transform": {"headers": {"X-Key": "Bearer ${e2b.secrets.key}"}}}]}
    made = await create(client, secrets={"API_KEY": "key"}, network={"rules": rules})
    (word,) = plane.node.births[-1].env.values()
    for body in (made, (await client.get(f"/v1/sandboxes/{made['id']}")).json()):
        assert body["secrets"] == {"API_KEY": "key"}
        assert body["network"] == {"rules": rules}
        assert "value-1" not in str(body)
        assert word not in str(body)
    assert from_wire(plane.node.policies[made["id"]]).treatments["api.example"].headers == (
        *(("X-Key", "Bearer value-1"),),
    )
    changed = await client.put(f"/v1/sandboxes/{made['id']}/network", json={"rules": rules})
    assert changed.json()["network"] == {"rules": rules}
    assert changed.json()["secrets"] == {"API_KEY": "key"}


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"secrets": {"A": "nothing"}}, 404, "RESOURCE_NOT_FOUND"),
        ({"secrets": {"A": "bare"}}, 400, "INVALID_REQUEST"),
        ({"secrets": {"A": 1}}, 400, "INVALID_REQUEST"),
        ({"secrets": ["bare"]}, 400, "INVALID_REQUEST"),
        ({"secrets": {"A": "key"}, "env_vars": {"A": "x"}}, 400, "INVALID_REQUEST"),
        (
            {"network": {"rules": {"a.example": [{"transform": {"headers": {"X": "${atoll.secrets.nothing}"}}}]}}},
            404,
            "RESOURCE_NOT_FOUND",
        ),
    ],
)
async def test_a_create_that_needs_what_is_not_there_makes_nothing(
    client: Client, plane: Plane, body: dict, status: int, code: str
):
    await make(client)
    await make(client, name="bare", hosts=None)
    check_error(await client.post("/v1/sandboxes", json={"template_name": "base", **body}), status, code)
    assert plane.node.births == []
