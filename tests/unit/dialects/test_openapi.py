"""The control plane's description is of what is there: routes, fields, errors."""

from __future__ import annotations

import httpx
import pytest
from fastapi import APIRouter
from fastapi.routing import APIRoute

from atoll import __version__
from atoll.core import ingress, policy
from atoll.core.errors import ErrorKind
from atoll.dialects import egress, internal, reference
from atoll.dialects.errors import TABLE, Dialect
from atoll.dialects.hopx import openapi as described
from atoll.dialects.hopx import parse, secrets
from atoll.dialects.hopx.routes import router as hopx
from atoll.reference.document import openapi
from described import flaws, operations, problems

DOCUMENT = openapi(described.SURFACE)
ROUTERS: tuple[APIRouter, ...] = (hopx, secrets.router, egress.router, reference.router)


def rows() -> set[tuple[str, str]]:
    routes = [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]
    return {(method, route.path) for route in routes for method in route.methods if method != "HEAD"}


def test_every_route_is_described_and_nothing_else_is():
    assert {(each.method, each.path) for each in operations(DOCUMENT).values()} == rows()


def test_what_is_between_edge_and_server_is_nobodys_business():
    inner = [route.path for route in internal.router.routes if isinstance(route, APIRoute)]
    assert inner
    assert all(path.startswith("/internal/") for path in inner)


def test_the_document_is_sound_and_its_examples_are_what_it_says():
    assert list(flaws(DOCUMENT)) == []


@pytest.mark.parametrize(
    ("model", "fields"),
    [
        (parse.CreateBody, described.CREATE_FIELDS),
        (parse.TimeoutBody, described.TIMEOUT_FIELDS),
        (parse.LinkBody, described.LINK_FIELDS),
        (parse.NetworkBody, described.INTERNET),
        (secrets.CreateSecretBody, {**described.CREATE_SECRET_FIELDS, **described.SECRET_OPTIONS}),
        (secrets.UpdateSecretBody, described.UPDATE_SECRET_FIELDS),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)
def test_the_fields_that_are_read_are_those_that_are_described(model, fields):
    assert set(model.model_fields) == set(fields)


def test_a_network_has_the_fields_that_the_core_reads():
    assert set(described.NETWORK) == {*policy.FIELDS, *ingress.NETWORK_FIELDS}


@pytest.mark.parametrize("kind", ErrorKind)
def test_an_error_is_described_as_the_table_has_it(kind: ErrorKind):
    failure, cell = described.FAILURES[kind.value], TABLE[kind][Dialect.HOPX]
    assert (failure.status, failure.code) == (cell.status, cell.code)
    assert failure.about


def test_every_operation_but_the_open_ones_says_what_becomes_of_a_wrong_key():
    for each in operations(DOCUMENT).values():
        is_open = each.operation.get("security") == []
        assert ("401" in each.operation["responses"]) is not is_open, each.id


def test_a_field_that_nobody_described_is_found():
    schema = operations(DOCUMENT)["getSandbox"].operation["responses"]["200"]["content"]["application/json"]["schema"]
    example = {**described.SANDBOX_EXAMPLE, "traffic_access_token": None, "request_id": "req_x"}
    assert problems(DOCUMENT, schema, example) == []
    assert problems(DOCUMENT, schema, {**example, "mystery": 1})
    assert problems(DOCUMENT, schema, {**example, "status": "sleeping"})
    assert problems(DOCUMENT, schema, {**example, "created_at": "2026-01-01T12:00:00"})
    assert problems(DOCUMENT, schema, {**example, "direct_url": "here"})
    assert problems(DOCUMENT, schema, {name: value for name, value in example.items() if name != "id"})


# ---- as it is served


async def test_the_document_is_served_without_a_key(client: httpx.AsyncClient):
    answer = await client.get("/v1/openapi.json", headers={"X-API-Key": ""})
    assert answer.status_code == 200
    assert answer.json() == DOCUMENT
    assert answer.json()["info"]["version"] == __version__


async def test_the_page_calls_the_installation_by_the_name_that_the_caller_used(client: httpx.AsyncClient):
    forwarded = {"X-API-Key": "", "X-Forwarded-Host": "atoll.example:8443", "X-Forwarded-Proto": "https"}
    page = (await client.get("/docs", headers=forwarded)).text
    assert "curl https://atoll.example:8443/v1/sandboxes" in page
    assert all(f'id="{each.id}"' in page for each in operations(DOCUMENT).values())


@pytest.mark.parametrize("host", ['a"><script>alert(1)</script>', "a b", "", "x" * 300, "a/../b", "[::1"])
async def test_a_name_that_is_none_is_not_repeated(client: httpx.AsyncClient, host: str):
    page = (await client.get("/docs", headers={"X-Forwarded-Host": host, "X-Forwarded-Proto": "http"})).text
    assert "curl http://127.0.0.1:8080/v1/sandboxes" in page
    assert "<script" not in page


async def test_the_page_may_load_and_run_nothing(client: httpx.AsyncClient):
    answer = await client.get("/docs")
    rules = answer.headers["Content-Security-Policy"]
    assert rules.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in rules
    assert not [
        mark for mark in ("<script", "<img", "<link", "@import", "url(", " style=", "onclick") if mark in answer.text
    ]


async def test_a_head_request_gets_the_head(client: httpx.AsyncClient):
    for path in ("/docs", "/v1/openapi.json"):
        answer = await client.head(path)
        assert (answer.status_code, answer.content) == (200, b"")
