"""How a sandbox's ports are reached, from the create call to the edge's route, and what changes while it runs."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import httpx
import pytest

from atoll.core.ingress import Dialect
from atoll.core.order import CreateOrder
from atoll.core.sandbox import InboundAuth
from atoll.edge.routes import Route
from atoll.testing.plane import Plane

from .test_hopx_routes import check_error, create

Client = httpx.AsyncClient

NETWORK = {
    "allow_public_traffic": False,
    "mask_request_host": "${PORT}-x.example.com",
    "https_ports": [8443],
}


def route(plane: Plane, sandbox_id: str) -> Route:
    found = plane.services.routes.get(sandbox_id)
    assert found is not None
    return Route.from_wire(found)


async def put(client: Client, sandbox_id: str, body: object) -> httpx.Response:
    return await client.put(f"/v1/sandboxes/{sandbox_id}/network", json=body)


async def test_what_was_given_comes_back_and_reaches_the_edge(client: Client, plane: Plane):
    made = await create(client, web_port=3000, auto_resume=True, network={**NETWORK, "deny_out": ["1.0.0.0/8"]})
    assert made["preview_url"].endswith(f"/s/{made['id']}/3000/")
    for shown in (made, (await client.get(f"/v1/sandboxes/{made['id']}")).json()):
        assert shown["network"] == {**NETWORK, "deny_out": ["1.0.0.0/8"]}
        assert (shown["web_port"], shown["auto_resume"]) == (3000, True)
    found = route(plane, made["id"])
    assert (found.web_port, found.auto_resume, found.dialect) == (3000, True, "hopx")
    assert (found.masked_host, found.https_ports) == ("${PORT}-x.example.com", {8443})
    assert plane.node.births[-1].network == {"deny_out": ["1.0.0.0/8"]}, "the node has nothing to do with it"


async def test_by_default_nothing_is_special(client: Client, plane: Plane):
    made = await create(client)
    assert (made["network"], made["web_port"], made["auto_resume"]) == ({}, None, False)
    assert made["traffic_access_token"] is None
    found = route(plane, made["id"])
    assert (found.public, found.traffic_digest, found.dialect) == (False, "", "hopx")


async def test_a_traffic_token_is_shown_to_its_owner_and_its_digest_told_to_the_edge(client: Client, plane: Plane):
    made = await create(client, network={"allow_public_traffic": False})
    token = made["traffic_access_token"]
    assert route(plane, made["id"]).traffic_digest == hashlib.sha256(token.encode()).hexdigest()
    assert token not in str(plane.services.routes.get(made["id"]))
    other = await create(client, network={"allow_public_traffic": False})
    assert other["traffic_access_token"] != token
    assert token not in (await client.get("/v1/sandboxes")).text


async def test_a_traffic_token_lives_as_long_as_its_sandbox(client: Client):
    made = await create(client, network={"allow_public_traffic": False})
    path, token = f"/v1/sandboxes/{made['id']}", made["traffic_access_token"]
    for action in ("pause", "resume", "stop", "start"):
        assert (await client.post(f"{path}/{action}")).json()["traffic_access_token"] == token
    assert (await client.get(path)).json()["traffic_access_token"] == token


@pytest.mark.parametrize(
    ("auth", "public", "is_open", "has_token"),
    [
        ("public", None, True, False),
        ("public", True, True, False),
        ("public", False, False, True),
        ("token", None, False, False),
        ("token", True, False, False),
        ("token", False, False, True),
        (None, True, False, False),
        (None, False, False, True),
    ],
)
async def test_the_stricter_of_two_words_counts(
    client: Client, plane: Plane, auth: str | None, public: bool | None, is_open: bool, has_token: bool
):
    made = await create(client, inbound_auth=auth, network={"allow_public_traffic": public})
    found = route(plane, made["id"])
    assert (found.public, bool(found.traffic_digest)) == (is_open, has_token)
    assert bool(made["traffic_access_token"]) is has_token
    assert made["inbound_auth"] == (auth or "token")


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        ({"allow_public_traffic": "no"}, "allow_public_traffic is true or false"),
        ({"mask_request_host": "-https://abcd"}, "mask request host is not valid: -https://abcd"),
        ({"mask_request_host": 1}, "mask_request_host is a text"),
        ({"https_ports": [0]}, "each of https_ports is a number from 1 to 65535"),
        ({"https_ports": "8443"}, "https_ports is a list of up to 100 ports"),
        ({"allowPublicTraffic": False}, "Invalid request: network has no field 'allowPublicTraffic'"),
        ({"web_port": 3000}, "Invalid request: network has no field 'web_port'"),
        ({"auto_resume": True}, "Invalid request: network has no field 'auto_resume'"),
        ({"traffic_token": "mine"}, "Invalid request: network has no field 'traffic_token'"),
    ],
    ids=lambda it: str(it)[:30],
)
async def test_what_cannot_be_is_400_with_the_reason_and_changes_nothing(
    client: Client, plane: Plane, network: dict, reason: str
):
    made = await create(client, network=NETWORK)
    before = plane.services.routes.get(made["id"])
    answers = [await client.post("/v1/sandboxes", json={"template_name": "base", "network": network})]
    answers.append(await put(client, made["id"], network))
    for answer in answers:
        assert check_error(answer, 400, "INVALID_REQUEST")["message"].startswith(reason)
    assert plane.services.routes.get(made["id"]) == before
    assert len(plane.node.sandboxes) == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [("web_port", 0), ("web_port", 65536), ("web_port", "80"), ("web_port", True), ("auto_resume", "yes")],
)
async def test_a_field_beside_network_is_checked_too(client: Client, field: str, value: object):
    answer = await client.post("/v1/sandboxes", json={"template_name": "base", field: value})
    assert check_error(answer, 400, "INVALID_REQUEST")["details"]["field"] == field


# ---- while it runs


async def test_a_new_policy_leaves_the_ingress_as_it_is(client: Client, plane: Plane):
    made = await create(client, network=NETWORK)
    before = plane.services.routes.get(made["id"])
    assert (await put(client, made["id"], {})).json()["network"] == NETWORK
    changed = (await put(client, made["id"], {"deny_out": ["1.0.0.0/8"], "https_ports": None})).json()
    assert changed["network"] == {**NETWORK, "deny_out": ["1.0.0.0/8"]}
    assert changed["traffic_access_token"] == made["traffic_access_token"]
    assert plane.services.routes.get(made["id"]) == before


async def test_a_change_of_the_ingress_alone_leaves_the_policy_as_it_is(client: Client, plane: Plane):
    made = await create(client, internet_access=False, network={"allow_out": ["1.1.1.1"]})
    changed = (await put(client, made["id"], NETWORK)).json()
    assert changed["network"] == {**NETWORK, "allow_out": ["1.1.1.1"]}
    assert changed["internet_access"] is False
    assert plane.node.policies[made["id"]] == {"internet_access": False, "allow_out": ["1.1.1.1"]}
    found = route(plane, made["id"])
    assert (found.masked_host, found.https_ports) == ("${PORT}-x.example.com", {8443})
    assert found.traffic_digest == hashlib.sha256(changed["traffic_access_token"].encode()).hexdigest()


async def test_both_change_at_once_and_empty_values_clear(client: Client, plane: Plane):
    made = await create(client, network={**NETWORK, "allow_out": ["1.1.1.1"]})
    cleared = {"mask_request_host": "", "https_ports": [], "deny_out": ["1.0.0.0/8"]}
    changed = (await put(client, made["id"], cleared)).json()
    assert changed["network"] == {"allow_public_traffic": False, "deny_out": ["1.0.0.0/8"]}
    assert plane.node.policies[made["id"]] == {"internet_access": True, "deny_out": ["1.0.0.0/8"]}
    assert (route(plane, made["id"]).masked_host, route(plane, made["id"]).https_ports) == ("", frozenset())


async def test_a_public_sandbox_is_closed_and_opened_again_with_the_same_token(client: Client, plane: Plane):
    made = await create(client, inbound_auth="public")
    path = made["id"]
    assert route(plane, path).public
    closed = (await put(client, path, {"allow_public_traffic": False})).json()
    assert not route(plane, path).public
    opened = (await put(client, path, {"allow_public_traffic": True})).json()
    assert (route(plane, path).public, route(plane, path).traffic_digest) == (True, "")
    assert (opened["network"], opened["traffic_access_token"]) == ({}, None)
    again = (await put(client, path, {"allow_public_traffic": False})).json()
    assert again["traffic_access_token"] == closed["traffic_access_token"] is not None


async def test_the_audit_says_what_changed_and_no_secret(client: Client, plane: Plane):
    made = await create(client)
    answer = await put(client, made["id"], {**NETWORK, "deny_out": ["1.0.0.0/8"]})
    await put(client, made["id"], {"https_ports": []})
    rows = [row.detail or "" for row in await plane.store.audit.list(100) if row.operation == "sandbox.set_network"]
    assert rows[0] == "https_ports=0"
    assert rows[1].startswith("internet_access=true deny_out=1 sha256=")
    assert rows[1].endswith(" allow_public_traffic=false mask_request_host https_ports=1")
    assert answer.json()["traffic_access_token"] not in "".join(rows)


async def test_another_apis_sandbox_is_open_unless_it_says_otherwise_and_is_told_apart(plane: Plane):
    """What the other dialects will order."""
    order = CreateOrder("base", inbound_auth=InboundAuth.PUBLIC, dialect=Dialect.E2B)
    box, _ = await plane.services.sandboxes.create(plane.caller, order)
    assert (route(plane, box.id).public, route(plane, box.id).dialect) == (True, "e2b")
    closed = replace(order, ingress=replace(order.ingress, allow_public_traffic=False))
    box, _ = await plane.services.sandboxes.create(plane.caller, closed)
    found = route(plane, box.id)
    assert (found.public, found.traffic_digest) == (
        False,
        hashlib.sha256(box.ingress.traffic_token.encode()).hexdigest(),
    )
