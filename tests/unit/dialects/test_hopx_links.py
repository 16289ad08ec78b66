"""`POST …/links`: a URL for a browser, as the edge will read it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from atoll.edge.tokens import LinkClaims, TokenVerifier
from atoll.server import create_app
from atoll.testing.plane import PUBLIC_URL, TOKEN_KEY, Plane

from .test_hopx_routes import check_error, create

Client = httpx.AsyncClient
Read = Callable[[str], LinkClaims]
DAY = 24 * 3600


@pytest.fixture
def claims_of(tmp_path: Path, plane: Plane) -> Read:
    """Of a link's URL, by the edge's own check."""
    (tmp_path / "token.key").write_text(TOKEN_KEY.hex())
    verifier = TokenVerifier(tmp_path / "token.key", plane.clock.now)
    return lambda url: verifier.verify_link(httpx.URL(url).params["atoll_link"])


@pytest.fixture
async def named(plane: Plane):
    """A client of an installation with a domain."""
    transport = httpx.ASGITransport(create_app(plane.services, "https://d.test:8443", domain="d.test"))
    async with Client(transport=transport, base_url="http://atoll", headers={"X-API-Key": plane.key}) as client:
        yield client


async def link(client: Client, sandbox_id: str, body: object = None) -> dict:
    response = await client.post(f"/v1/sandboxes/{sandbox_id}/links", json={} if body is None else body)
    assert response.status_code == 201
    made = response.json()
    assert made.pop("request_id").startswith("req_")
    assert set(made) == {"url", "port", "expires_at"}
    return made


def place(url: str) -> str:
    return url.partition("?")[0]


async def test_a_link_to_a_port_by_path(client: Client, plane: Plane, claims_of: Read):
    box = (await create(client))["id"]
    made = await link(client, box, {"port": 3000, "seconds": 120})
    until = plane.clock.now() + 120
    assert place(made["url"]) == f"{PUBLIC_URL}/s/{box}/3000/"
    assert claims_of(made["url"]) == LinkClaims(box, 3000, until)
    assert (made["port"], datetime.fromisoformat(made["expires_at"])) == (3000, datetime.fromtimestamp(until, UTC))


@pytest.mark.parametrize(("web_port", "expected"), [(None, 8000), (5173, 5173)])
async def test_without_a_port_it_is_the_web_port(client: Client, claims_of: Read, web_port: int | None, expected: int):
    box = (await create(client, web_port=web_port))["id"]
    made = await link(client, box)
    assert place(made["url"]) == f"{PUBLIC_URL}/s/{box}/{expected}/"
    assert (made["port"], claims_of(made["url"]).port) == (expected, expected)


async def test_a_link_to_a_port_by_name(named: Client, claims_of: Read):
    box = (await create(named))["id"]
    made = await link(named, box, {"port": 3000})
    assert place(made["url"]) == f"https://3000-{box}.d.test:8443/"
    assert (made["port"], claims_of(made["url"]).port) == (3000, 3000)


@pytest.mark.parametrize("web_port", [None, 5173])
async def test_where_the_sandbox_has_a_host_the_web_port_is_what_that_serves(
    named: Client, claims_of: Read, web_port: int | None
):
    box = (await create(named, web_port=web_port))["id"]
    made = await link(named, box)
    assert place(made["url"]) == f"https://{box}.d.test:8443/"
    assert (made["port"], claims_of(made["url"]).port) == (web_port, 0)


@pytest.mark.parametrize(("given", "seconds"), [({}, 3600), ({"seconds": 60}, 60), ({"seconds": 7 * DAY}, 7 * DAY)])
async def test_how_long_it_opens(client: Client, plane: Plane, claims_of: Read, given: dict, seconds: int):
    made = await link(client, (await create(client))["id"], given)
    assert claims_of(made["url"]).expires_at == plane.clock.now() + seconds


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"port": 0}, "port"),
        ({"port": 65536}, "port"),
        ({"port": "8000"}, "port"),
        ({"port": True}, "port"),
        ({"port": 7777}, "port"),
        ({"seconds": 59}, "seconds"),
        ({"seconds": 7 * DAY + 1}, "seconds"),
        ({"seconds": "60"}, "seconds"),
        ({"second": 60}, "second"),
    ],
)
async def test_what_cannot_be_is_400(client: Client, given: dict, field: str):
    box = (await create(client))["id"]
    answer = await client.post(f"/v1/sandboxes/{box}/links", json=given)
    assert check_error(answer, 400, "INVALID_REQUEST")["details"]["field"] == field


async def test_only_who_may_use_the_sandbox_gets_one(client: Client, plane: Plane):
    box = (await create(client))["id"]
    check_error(await client.post("/v1/sandboxes/nope/links"), 404, "RESOURCE_NOT_FOUND")
    for wrong in ("", "e2b_" + "0" * 40):
        answer = await client.post(f"/v1/sandboxes/{box}/links", headers={"X-API-Key": wrong})
        check_error(answer, 401, "AUTHENTICATION_REQUIRED")
    await client.delete(f"/v1/sandboxes/{box}")
    check_error(await client.post(f"/v1/sandboxes/{box}/links"), 404, "RESOURCE_NOT_FOUND")


async def test_the_audit_says_for_which_port_and_how_long_and_not_the_link(client: Client, plane: Plane):
    box = (await create(client))["id"]
    made = await link(client, box, {"port": 3000})
    row = (await plane.store.audit.list(1))[0]
    assert (row.operation, row.outcome, row.sandbox_id) == ("sandbox.link", "ok", box)
    assert row.detail == "port=3000 seconds=3600"
    assert made["url"].partition("=")[2] not in str(row)
