import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from atoll.core.errors import Unavailable
from atoll.testing.node import ROOMY
from atoll.testing.plane import PUBLIC_URL, Plane

Client = httpx.AsyncClient
BODYLESS = [
    ("GET", "/v1/sandboxes"),
    ("GET", "/v1/sandboxes/x"),
    ("DELETE", "/v1/sandboxes/x"),
    *(("POST", f"/v1/sandboxes/x/{verb}") for verb in ("pause", "resume", "start", "stop", "token/refresh")),
    ("GET", "/v1/templates"),
    ("GET", "/v1/templates/x"),
    ("DELETE", "/v1/templates/x"),
]


async def create(client: Client, **body: object) -> dict:
    answer = await client.post("/v1/sandboxes", json={"template_name": "code-interpreter", **body})
    assert answer.status_code == 201, answer.text
    return answer.json()


def check_error(answer: httpx.Response, status: int, code: str) -> dict:
    assert answer.status_code == status, answer.text
    body = answer.json()
    for part in (body, body["error"]):
        assert part["code"] == code
        assert part["message"] == body["message"] != ""
        assert part["request_id"] == answer.headers["X-Request-ID"]
    assert isinstance(body["error"]["details"], dict)
    return body["error"]


# ---- shapes


async def test_health_needs_no_key(client: Client):
    answer = await client.get("/health", headers={"X-API-Key": ""})
    assert answer.status_code == 200
    assert answer.json()["status"] == "ok"


async def test_the_created_sandbox_has_every_field_in_the_type_clients_insist_on(client: Client, plane: Plane):
    body = await create(client, timeout_seconds=600)
    assert body.pop("auth_token").startswith("eyJ")
    assert datetime.fromisoformat(body.pop("token_expires_at")).tzinfo is not None
    assert body.pop("request_id").startswith("req_")
    born = datetime.fromtimestamp(plane.clock.now(), UTC)
    assert body == {
        "id": body["id"],
        "object": "sandbox",
        "status": "running",
        "template_id": "code-interpreter",
        "template_name": "code-interpreter",
        "organization_id": 1,
        "node_id": "node-1",
        "region": "local",
        "public_host": f"{PUBLIC_URL}/s/{body['id']}",
        "direct_url": f"{PUBLIC_URL}/s/{body['id']}",
        "preview_url": f"{PUBLIC_URL}/s/{body['id']}/8000/",
        "inbound_auth": "token",
        "web_port": None,
        "auto_resume": False,
        "traffic_access_token": None,
        "resources": {"vcpu": 2, "memory_mb": 2048, "disk_mb": 10240},
        "internet_access": True,
        "network": {},
        "metadata": {},
        "secrets": {},
        "live_mode": True,
        "timeout_seconds": 600,
        "expires_at": (born + timedelta(seconds=600)).isoformat(timespec="microseconds"),
        "created_at": born.isoformat(timespec="microseconds"),
    }
    got = (await client.get(f"/v1/sandboxes/{body['id']}")).json()
    assert got.pop("request_id")
    assert got == body


@pytest.mark.parametrize("field", ["template_name", "template_id"])
async def test_a_template_is_found_by_name_and_by_id(client: Client, field: str):
    answer = await client.post("/v1/sandboxes", json={field: "base"})
    assert answer.json()["template_name"] == "base"


async def test_template_id_wins(client: Client):
    answer = await client.post("/v1/sandboxes", json={"template_id": "base", "template_name": "code-interpreter"})
    assert answer.json()["template_name"] == "base"


async def test_null_means_absent_and_unknown_fields_are_ignored(client: Client, plane: Plane):
    body = await create(
        client,
        template_id=None,
        region=None,
        timeout_seconds=None,
        internet_access=None,
        env_vars=None,
        vcpu=None,
        memory_mb=None,
        disk_gb=None,
        future={"x": [1]},
    )
    assert body["timeout_seconds"] is None
    assert body["internet_access"] is True
    assert body["resources"]["vcpu"] == 2
    assert plane.node.births[-1].env == {}


async def test_variables_go_to_the_node(client: Client, plane: Plane):
    await create(client, env_vars={"A": "ü", "B": ""}, internet_access=False)
    assert plane.node.births[-1].env == {"A": "ü", "B": ""}
    assert plane.node.births[-1].internet_access is False


async def test_without_a_timeout_timeout_seconds_is_null_and_the_next_end_is_known(client: Client, plane: Plane):
    body = await create(client)
    assert body["timeout_seconds"] is None
    assert datetime.fromisoformat(body["expires_at"]).timestamp() == plane.clock.now() + 3600


async def test_the_life_of_a_sandbox(client: Client):
    path = f"/v1/sandboxes/{(await create(client))['id']}"
    for verb, status in (
        ("pause", "paused"),
        ("pause", "paused"),
        ("resume", "running"),
        ("stop", "stopped"),
        ("start", "running"),
    ):
        answer = await client.post(f"{path}/{verb}")
        assert (answer.status_code, answer.json()["status"]) == (200, status)
        assert (await client.get(path)).json()["status"] == status
    answer = await client.delete(path)
    assert answer.status_code == 200
    assert answer.json()["status"] == "deleted"
    check_error(await client.get(path), 404, "RESOURCE_NOT_FOUND")
    error = check_error(await client.delete(path), 404, "RESOURCE_NOT_FOUND")
    assert "sandbox" in error["message"].lower()
    assert "not found" in error["message"]


async def test_an_illegal_move_is_a_conflict(client: Client):
    path = f"/v1/sandboxes/{(await create(client))['id']}"
    await client.post(f"{path}/stop")
    assert "stopped" in check_error(await client.post(f"{path}/resume"), 409, "CONFLICT")["message"]


async def test_a_failed_sandbox_shows_as_error(client: Client, plane: Plane):
    body = await create(client)
    await plane.services.sandboxes.exited(body["id"], 1, "died")
    assert (await client.get(f"/v1/sandboxes/{body['id']}")).json()["status"] == "error"


async def test_set_timeout_counts_from_now(client: Client, plane: Plane):
    path = f"/v1/sandboxes/{(await create(client))['id']}"
    plane.clock.advance(100)
    answer = await client.put(f"{path}/timeout", json={"timeout_seconds": 900})
    assert answer.json()["timeout_seconds"] == 900
    got = (await client.get(path)).json()
    assert got["timeout_seconds"] == 900
    assert datetime.fromisoformat(got["expires_at"]).timestamp() == plane.clock.now() + 900


async def test_a_refreshed_token_expires_strictly_later(client: Client):
    body = await create(client)
    answer = await client.post(f"/v1/sandboxes/{body['id']}/token/refresh")
    assert set(answer.json()) == {"auth_token", "token_expires_at", "request_id"}
    before, after = (datetime.fromisoformat(it["token_expires_at"]) for it in (body, answer.json()))
    assert after > before


async def test_the_list_pages_by_an_opaque_cursor(client: Client, plane: Plane):
    made = []
    for _ in range(3):
        plane.clock.advance(1)
        made.append((await create(client))["id"])
    first = (await client.get("/v1/sandboxes", params={"limit": 2})).json()
    assert [item["id"] for item in first["data"]] == made[:0:-1]
    assert first["object"] == "list"
    assert first["has_more"] is True
    last = (await client.get("/v1/sandboxes", params={"limit": 2, "cursor": first["next_cursor"]})).json()
    assert [item["id"] for item in last["data"]] == made[:1]
    assert last["has_more"] is False
    assert last["next_cursor"] is None


async def test_the_list_filters_by_status_and_region(client: Client):
    paused, running = await create(client), await create(client)
    await client.post(f"/v1/sandboxes/{paused['id']}/pause")

    async def ids(**params: str) -> list[str]:
        return [item["id"] for item in (await client.get("/v1/sandboxes", params=params)).json()["data"]]

    assert await ids(status="paused") == [paused["id"]]
    assert await ids(status="running", region="local") == [running["id"]]
    assert await ids(region="mars") == []
    assert await ids(status="creating") == []


async def test_an_empty_list_is_a_list(client: Client):
    assert (await client.get("/v1/sandboxes")).json()["data"] == []


async def test_templates(client: Client):
    data = (await client.get("/v1/templates")).json()["data"]
    assert [item["name"] for item in data] == ["base", "busybox", "code-interpreter"]
    one = (await client.get("/v1/templates/code-interpreter")).json()
    one.pop("request_id")
    assert one == data[2]
    assert isinstance(one["id"], str)
    assert one["display_name"] == "Code Interpreter"
    assert one["features"] == ["python", "pandas"]
    assert one["tags"] == []
    assert one["is_active"] is True
    assert one["status"] == "active"
    assert one["default_resources"] == {"vcpu": 2, "memory_mb": 2048, "disk_gb": 10}
    python = (await client.get("/v1/templates", params={"language": "python"})).json()["data"]
    assert [item["name"] for item in python] == ["code-interpreter"]
    none = (await client.get("/v1/templates", params={"category": "games"})).json()["data"]
    assert none == []


async def test_a_stock_template_cannot_be_deleted(client: Client):
    check_error(await client.delete("/v1/templates/base"), 403, "FORBIDDEN")
    check_error(await client.delete("/v1/templates/nope"), 404, "RESOURCE_NOT_FOUND")


# ---- who may


@pytest.mark.parametrize(("method", "path"), [*BODYLESS, ("POST", "/v1/sandboxes"), ("PUT", "/v1/sandboxes/x/timeout")])
@pytest.mark.parametrize("key", ["", "wrong", "e2b_" + "0" * 40])
async def test_every_route_wants_a_key(client: Client, method: str, path: str, key: str):
    check_error(await client.request(method, path, headers={"X-API-Key": key}), 401, "AUTHENTICATION_REQUIRED")


async def test_the_key_is_accepted_as_a_bearer_token_and_in_every_form(client: Client, plane: Plane):
    digits = plane.key.removeprefix("e2b_")
    for form in (plane.key, f"hopx_live_{digits}", f"hopx_test_{digits}"):
        for headers in ({"X-API-Key": form}, {"X-API-Key": "", "Authorization": f"Bearer {form}"}):
            assert (await client.get("/v1/sandboxes", headers=headers)).status_code == 200


async def test_a_wrong_body_without_a_key_is_still_401(client: Client):
    answer = await client.post("/v1/sandboxes", content=b"{", headers={"X-API-Key": "wrong"})
    check_error(answer, 401, "AUTHENTICATION_REQUIRED")


# ---- bad input

BAD_CREATES = [
    b"",
    b"{",
    b"null",
    b"[]",
    b'"x"',
    b"\xff\xfe",
    b"{}",
    b'{"template_name": ""}',
    b'{"template_name": 5}',
    b'{"template_name": ["base"]}',
    b'{"template_id": true}',
    b'{"template_id": 1.5}',
    b'{"template_name": "\\ud800"}',
    b'{"template_name": "base", "timeout_seconds": -1}',
    b'{"template_name": "base", "timeout_seconds": 0}',
    b'{"template_name": "base", "timeout_seconds": "60"}',
    b'{"template_name": "base", "timeout_seconds": 1.5}',
    b'{"template_name": "base", "timeout_seconds": true}',
    b'{"template_name": "base", "timeout_seconds": 1e400}',
    b'{"template_name": "base", "timeout_seconds": NaN}',
    b'{"template_name": "base", "timeout_seconds": 99999999999999999999999999}',
    b'{"template_name": "base", "timeout_seconds": ' + b"9" * 5000 + b"}",
    b'{"template_name": "base", "timeout_seconds": 86401}',
    b'{"template_name": "base", "internet_access": "yes"}',
    b'{"template_name": "base", "env_vars": []}',
    b'{"template_name": "base", "env_vars": {"A": 1}}',
    b'{"template_name": "base", "env_vars": {"A": null}}',
    b'{"template_name": "base", "env_vars": {"A=B": "x"}}',
    b'{"template_name": "base", "env_vars": {"A": "\\u0000"}}',
    b'{"template_name": "base", "env_vars": {"A": "\\ud800"}}',
    b'{"template_name": "base", "region": 5}',
    b'{"x": ' + b"[" * 100_000,
    b'{"template_name": "' + b"x" * 8_000_000 + b'"}',
]


@pytest.mark.parametrize("raw", BAD_CREATES, ids=[str(raw[:60]) for raw in BAD_CREATES])
async def test_a_bad_create_is_400_and_makes_nothing(client: Client, plane: Plane, raw: bytes):
    check_error(await client.post("/v1/sandboxes", content=raw), 400, "INVALID_REQUEST")
    assert plane.node.births == []
    assert await plane.store.sandboxes.on_node("node-1") == []


@pytest.mark.parametrize("template", ["nope", "../../etc", "x" * 10_000, 291])
async def test_an_unknown_template_is_404(client: Client, template: object):
    check_error(await client.post("/v1/sandboxes", json={"template_id": template}), 404, "RESOURCE_NOT_FOUND")
    answer = await client.post("/v1/sandboxes", json={"template_name": str(template)})
    check_error(answer, 404, "RESOURCE_NOT_FOUND")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{}",
        b"{",
        b'{"timeout_seconds": 0}',
        b'{"timeout_seconds": -60}',
        b'{"timeout_seconds": "60"}',
        b'{"timeout_seconds": null}',
        b'{"timeout_seconds": 90000}',
    ],
)
async def test_a_bad_timeout_is_400_and_changes_nothing(client: Client, raw: bytes):
    path = f"/v1/sandboxes/{(await create(client, timeout_seconds=60))['id']}"
    check_error(await client.put(f"{path}/timeout", content=raw), 400, "INVALID_REQUEST")
    assert (await client.get(path)).json()["timeout_seconds"] == 60


@pytest.mark.parametrize(
    "params",
    [
        {"limit": "0"},
        {"limit": "-1"},
        {"limit": "x"},
        {"limit": "9" * 99},
        {"limit": "²"},
        {"status": "flying"},
        {"cursor": "x"},
    ],
)
async def test_a_bad_query_is_400(client: Client, params: dict[str, str]):
    check_error(await client.get("/v1/sandboxes", params=params), 400, "INVALID_REQUEST")


async def test_a_large_page_is_cut_to_the_maximum(client: Client):
    assert (await client.get("/v1/sandboxes", params={"limit": "999999"})).status_code == 200


@pytest.mark.parametrize(("method", "path"), BODYLESS)
async def test_an_empty_body_under_a_json_content_type_is_no_error(client: Client, method: str, path: str):
    assert (await client.request(method, path)).status_code in (200, 404)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/v1"),
        ("GET", "/v1/nothing"),
        ("GET", "/redoc"),
        ("POST", "/v1/sandboxes/x/explode"),
        ("GET", "/v1/sandboxes/"),
        ("GET", "/v1/sandboxes/%2e%2e"),
        ("GET", "/v1/sandboxes/%00"),
        ("GET", "/v1/sandboxes/%ff"),
    ],
)
async def test_unknown_routes_are_json_404_and_never_redirect(client: Client, method: str, path: str):
    check_error(await client.request(method, path), 404, "RESOURCE_NOT_FOUND")


async def test_head_is_for_none_of_its_routes(client: Client):
    assert (await client.head("/v1/sandboxes")).status_code == 405


async def test_a_wrong_method_is_json_405(client: Client):
    answer = await client.patch("/v1/sandboxes")
    assert answer.status_code == 405
    assert answer.json()["error"]["message"]


# ---- troubles of ours


async def test_a_full_host_is_the_capacity_error_of_the_contract(client: Client, plane: Plane):
    plane.node.room = replace(ROOMY, memory_available_mib=100)
    error = check_error(await client.post("/v1/sandboxes", json={"template_name": "base"}), 403, "RESOURCE_LIMIT_ERROR")
    assert "limit" in error["message"]
    assert {"limit", "current", "available"} <= error["details"].keys()


async def test_a_node_that_is_away_is_503(client: Client, plane: Plane):
    plane.placement.connected = False
    check_error(await client.post("/v1/sandboxes", json={"template_name": "base"}), 503, "SERVICE_UNAVAILABLE")


async def test_a_create_that_fails_halfway_is_503_with_nothing_left(client: Client, plane: Plane):
    plane.node.fail("create", Unavailable("create: no answer within 45.0 s"))
    check_error(await client.post("/v1/sandboxes", json={"template_name": "base"}), 503, "SERVICE_UNAVAILABLE")
    assert await plane.store.sandboxes.on_node("node-1") == []


async def test_a_bug_shows_nothing_but_its_id(client: Client, plane: Plane, caplog: pytest.LogCaptureFixture):
    def broken(*args: object) -> None:
        raise RuntimeError("/secret/path")

    plane.node.capacity = broken
    error = check_error(await client.post("/v1/sandboxes", json={"template_name": "base"}), 500, "INTERNAL_ERROR")
    assert "secret" not in json.dumps(error)
    assert error["request_id"] in caplog.text


async def test_the_edges_request_id_and_source_are_taken_over(client: Client, plane: Plane):
    headers = {"X-Request-ID": "req_edge-1", "X-Forwarded-For": "192.0.2.7"}
    assert (await client.get("/v1/templates", headers=headers)).headers["X-Request-ID"] == "req_edge-1"
    entry = (await plane.store.audit.list(1))[0]
    assert (entry.operation, entry.request_id, entry.source) == ("template.list", "req_edge-1", "192.0.2.7")


async def test_a_request_id_that_is_not_plain_is_replaced(client: Client):
    for bad in ("x" * 65, "a b", 'a"b', ""):
        answer = await client.get("/health", headers={"X-Request-ID": bad})
        assert answer.headers["X-Request-ID"].startswith("req_")


async def test_the_schema_is_served_and_names_every_route(client: Client):
    paths = (await client.get("/v1/openapi.json")).json()["paths"]
    assert {"/health", "/v1/sandboxes", "/v1/sandboxes/{sandbox_id}/token/refresh", "/v1/templates/{name}"} <= set(
        paths
    )
    assert not any(path.startswith("/internal") for path in paths)
