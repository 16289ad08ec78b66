"""The agent surface's description is of what is there: rows, fields, errors."""

from __future__ import annotations

import pytest

from atoll.edge.hopx import openapi as described
from atoll.edge.hopx import surface
from atoll.edge.hopx.errors import TABLE, Kind
from atoll.edge.hopx.webhooks import State
from atoll.edge.routing import Names, NoSuchSandbox, Port, WebHost, classify
from atoll.reference.document import openapi
from described import flaws, operations

DOCUMENT = openapi(described.SURFACE)
SANDBOX = "a" * 20


def as_row(path: str) -> str:
    return "/".join("*" if part.startswith("{") else part for part in path.split("/"))


def test_every_row_is_described_and_nothing_else_is():
    rows = {(method, path) for path, methods in surface.ROUTES.items() for method in methods}
    assert {(each.method, as_row(each.path)) for each in operations(DOCUMENT).values()} == rows


def test_the_open_operations_are_those_that_need_no_token():
    opened = {
        (each.method, each.path) for each in operations(DOCUMENT).values() if each.operation.get("security") == []
    }
    assert opened == surface.WITHOUT_TOKEN


def test_the_document_is_sound_and_its_examples_are_what_it_says():
    assert list(flaws(DOCUMENT)) == []


@pytest.mark.parametrize("kind", Kind)
def test_an_error_is_described_as_the_table_has_it(kind: Kind):
    failure, cell = described.FAILURES[kind.value], TABLE[kind]
    assert (failure.status, failure.code) == (cell.status, cell.code)
    assert failure.about


def test_a_callback_has_the_states_that_there_are():
    assert set(described.CALLBACK["properties"]["status"]["enum"]) == set(State)


# ---- as it is served


async def test_document_and_page_are_served_without_a_token(session, origin):
    async with session.get(f"{origin}/v1/agent.openapi.json") as answer:
        assert answer.status == 200
        assert await answer.json() == DOCUMENT
    async with session.get(f"{origin}/docs/agent") as answer:
        page = await answer.text()
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'sha256-")
    assert f"curl {origin}/s/SANDBOX_ID/execute" in page
    assert "<script" not in page
    async with session.post(f"{origin}/docs/agent") as answer:
        assert answer.status == 405


async def test_the_landing_page_leads_to_the_reference(session, origin):
    async with session.get(origin, headers={"Accept": "text/html"}) as answer:
        assert "href=/docs>" in await answer.text()


@pytest.mark.parametrize("path", ["/docs", "/docs/agent", "/v1/openapi.json", "/v1/agent.openapi.json"])
def test_below_a_sandboxs_host_the_reference_is_not_there(path: str):
    """What is there is the program's own, and its pages must not pass for ours."""
    assert classify(f"8000-{SANDBOX}.localhost", path) == Port(SANDBOX, 8000, path)
    assert classify(f"{SANDBOX}.d.test", path, Names("d.test")) == WebHost(SANDBOX, path)
    assert classify("anything.d.test", path, Names("d.test")) == NoSuchSandbox("anything")
