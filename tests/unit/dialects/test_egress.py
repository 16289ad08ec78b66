"""The log of outbound traffic over the API, with a real control plane and a fake node."""

from __future__ import annotations

import sqlite3

import httpx
import pytest

from atoll.core.errors import NotFound
from atoll.dialects.egress import METRICS, prometheus
from atoll.egress.totals import Counters
from atoll.testing.plane import Plane

Client = httpx.AsyncClient
TOTALS = {"connections": 4, "failed": 1, "denied": 2, "questions": 3, "bytes_out": 10, "bytes_in": 20, "lost": 0,
          "by_rule": {"default": 4, "never": 2}, "refused_packets": {"never": 7}}  # fmt: skip


@pytest.fixture
async def sandbox_id(client: Client, plane: Plane) -> str:
    answer = await client.post("/v1/sandboxes", json={"template_name": "base"})
    made = str(answer.json()["id"])
    plane.node.logged[made] = [{"at": float(number), "rule": "default"} for number in range(5)]
    plane.node.totals = TOTALS
    return made


async def read(client: Client, sandbox_id: str, query: str = "") -> httpx.Response:
    return await client.get(f"/v1/sandboxes/{sandbox_id}/egress{query}")


@pytest.mark.parametrize(
    ("query", "numbers", "cursor"),
    [
        ("", [1, 2, 3, 4, 5], 5),
        ("?limit=2", [1, 2], 2),
        ("?after=3", [4, 5], 5),
        ("?after=-2&limit=1000", [4, 5], 5),
        ("?after=5&wait=30", [], 5),
    ],
)
async def test_a_page_is_what_follows(client, sandbox_id, query, numbers, cursor):
    body = (await read(client, sandbox_id, query)).json()
    assert [entry["seq"] for entry in body["entries"]] == numbers
    assert body["cursor"] == cursor
    assert body["request_id"].startswith("req_")


@pytest.mark.parametrize(
    "query",
    ["?after=x", "?after=1.5", "?after=--1", "?after=" + "9" * 16, "?limit=0", "?limit=1001", "?limit=-1", "?wait=31",
     "?wait=-1", "?wait=nan", "?wait=inf", "?wait=soon"],
)  # fmt: skip
async def test_what_is_no_question_is_refused(client, sandbox_id, query):
    answer = await read(client, sandbox_id, query)
    assert answer.status_code == 400
    assert answer.json()["error"]["details"]["field"] == query[1:].partition("=")[0]


async def test_a_log_is_there_when_its_sandbox_is_gone(client, sandbox_id):
    assert (await client.delete(f"/v1/sandboxes/{sandbox_id}")).status_code == 200
    assert (await client.get(f"/v1/sandboxes/{sandbox_id}")).status_code == 404
    assert len((await read(client, sandbox_id)).json()["entries"]) == 5
    assert (await client.get(f"/v1/sandboxes/{sandbox_id}/egress/totals")).json()["connections"] == 4


@pytest.mark.parametrize("gone", [True, False])
async def test_another_organisations_log_is_not_there(client, sandbox_id, plane, tmp_path, gone):
    if gone:
        await client.delete(f"/v1/sandboxes/{sandbox_id}")
    with sqlite3.connect(tmp_path / "atoll.db") as database:
        database.execute("UPDATE api_keys SET organization_id = 2 WHERE id IN (SELECT key_id FROM audit)")
        database.execute("UPDATE sandboxes SET organization_id = 2")
    database.close()
    _, key = await plane.services.keys.create(plane.caller, "somebody else")
    for path in ("", "/totals"):
        answer = await client.get(f"/v1/sandboxes/{sandbox_id}/egress{path}", headers={"X-API-Key": key})
        assert answer.status_code == 404
    assert ("egress_log", sandbox_id) not in plane.node.calls


@pytest.mark.parametrize("sandbox_id", ["x", "a" * 20, "..%2f..%2fetc"])
async def test_who_was_never_asked_for_has_no_log(client, plane, sandbox_id):
    plane.node.logged[sandbox_id] = [{"at": 1.0}]
    assert (await read(client, sandbox_id)).status_code == 404
    assert plane.node.calls == []


@pytest.mark.parametrize("path", ["/v1/sandboxes/x/egress", "/v1/sandboxes/x/egress/totals", "/v1/metrics"])
async def test_without_a_key_nothing_is_told(client, path):
    assert (await client.get(path, headers={"X-API-Key": ""})).status_code == 401


async def test_totals_of_a_sandbox(client, sandbox_id):
    body = (await client.get(f"/v1/sandboxes/{sandbox_id}/egress/totals")).json()
    assert body.pop("request_id")
    assert body == TOTALS


async def test_metrics_are_prometheus_text(client, plane):
    plane.node.totals = TOTALS
    answer = await client.get("/v1/metrics")
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    lines = answer.text.splitlines()
    assert "atoll_egress_connections_total 4" in lines
    assert 'atoll_egress_entries_total{rule="never"} 2' in lines
    assert 'atoll_egress_refused_packets_total{rule="never"} 7' in lines
    assert answer.text.endswith("\n")
    assert all(line.startswith(("# HELP atoll_egress_", "# TYPE atoll_egress_", "atoll_egress_")) for line in lines)


async def test_where_nothing_goes_out_there_are_no_figures_and_no_logs(client, sandbox_id, plane):
    for method in ("egress_totals", "egress_log"):
        plane.node.fail(method, NotFound("this installation has no way out"))
    assert (await client.get("/v1/metrics")).text == ""
    assert (await read(client, sandbox_id)).status_code == 404


async def test_while_the_node_is_away_it_is_said(client, sandbox_id, plane):
    plane.placement.connected = False
    assert (await read(client, sandbox_id)).status_code == 503
    assert (await client.get("/v1/metrics")).text == ""


def test_every_counter_has_a_metric():
    assert [name for name, _, _ in METRICS] + ["by_rule"] == sorted(Counters().to_wire(), key=_order)


def _order(name: str) -> int:
    return [*(each for each, _, _ in METRICS), "by_rule"].index(name)


def test_no_rule_breaks_a_line():
    assert 'atoll_egress_entries_total{rule="a_b_c_d"} 1\n' in list(prometheus({"by_rule": {'a"b\\c\nd': 1}}))
