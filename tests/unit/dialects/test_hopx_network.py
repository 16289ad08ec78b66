"""`network` of a create, and `PUT …/network`: the fields, what comes back, what is refused and in which words."""

from __future__ import annotations

import httpx
import pytest

from atoll.core.policy import parse
from atoll.testing.plane import Plane

from .test_hopx_routes import check_error, create

Client = httpx.AsyncClient

NETWORK = {
    "allow_out": ["1.1.1.1", "*.example.com"],
    "deny_out": ["0.0.0.0/0"],
    "rules": {"api.example.com": [{"transform": {"headers": {"X-Key": "as given"}}}]},
    "dns_servers": ["9.9.9.9"],
    "dns": "open",
    "ech": "refuse",
    "inspect": True,
}
PROXY = {
    "address": "proxy.example.com:1080",
    "username": "me",
    "password": "proxy-secret",
    "tls": {"enabled": True, "server_name": "p.example.com", "ca_cert": "certificate-of-proxy"},
}
DOMAIN_WITHOUT_DENY_ALL = (
    "When specifying allowed domains in allow out, you must include 'ALL_TRAFFIC' in deny out to block all "
    "other traffic."
)
REFUSED = [
    ({"deny_out": ["example.com"]}, "invalid denied CIDR example.com"),
    ({"deny_out": ["0.0.0.0"]}, "invalid denied CIDR 0.0.0.0"),
    ({"deny_out": ["::"]}, "invalid denied CIDR ::"),
    ({"allow_out": ["a b"]}, "invalid allowed address a b"),
    ({"allow_out": ["example.com"]}, DOMAIN_WITHOUT_DENY_ALL),
    ({"allow_out": ["example.com"], "deny_out": ["1.0.0.0/8"]}, DOMAIN_WITHOUT_DENY_ALL),
    ({"rules": {f"d{n}.example": [] for n in range(11)}}, "Network rules can have at most 10 domains."),
    ({"rules": {"not a name": []}}, 'Rule domain "not a name" is not a valid domain name.'),
    (
        {"rules": {"a.example": [{"transform": {"headers": {"A": "${e2b.nope}"}}}]}},
        "Network transform header contains a malformed E2B placeholder.",
    ),
]


async def put(client: Client, sandbox_id: str, body: object) -> httpx.Response:
    return await client.put(f"/v1/sandboxes/{sandbox_id}/network", json=body)


async def test_what_was_given_comes_back_from_create_get_and_list(client: Client, plane: Plane):
    made = await create(client, network=NETWORK)
    assert made["network"] == NETWORK
    assert (await client.get(f"/v1/sandboxes/{made['id']}")).json()["network"] == NETWORK
    (listed,) = (await client.get("/v1/sandboxes")).json()["data"]
    assert listed["network"] == NETWORK
    assert parse(plane.node.births[-1].network) == parse(NETWORK)


async def test_the_proxys_secrets_go_to_the_node_and_never_come_back(client: Client, plane: Plane):
    answer = await client.post("/v1/sandboxes", json={"template_name": "base", "network": {"egress_proxy": PROXY}})
    assert plane.node.births[-1].network["egress_proxy"] == PROXY
    path = f"/v1/sandboxes/{answer.json()['id']}"
    answers = [answer, await client.get(path), await client.get("/v1/sandboxes"), await client.post(f"{path}/pause")]
    answers.append(await client.put(f"{path}/network", json={"egress_proxy": PROXY}))
    for each in answers:
        assert "proxy-secret" not in each.text
        assert "certificate-of-proxy" not in each.text
    assert answers[-1].json()["network"] == {
        "egress_proxy": {
            "address": "proxy.example.com:1080",
            "username": "me",
            "tls": {"enabled": True, "server_name": "p.example.com"},
        }
    }


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({}, True),
        ({"internet_access": None, "allow_internet_access": None}, True),
        ({"allow_internet_access": True}, True),
        ({"allow_internet_access": False}, False),
        ({"internet_access": False}, False),
        ({"internet_access": True, "allow_internet_access": False}, False),
        ({"internet_access": False, "allow_internet_access": True}, False),
    ],
)
async def test_false_in_either_name_switches_access_off(client: Client, flags: dict, expected: bool):
    made = await create(client, **flags)
    assert made["internet_access"] is expected
    other = await create(client)
    assert (await put(client, other["id"], flags)).json()["internet_access"] is expected


async def test_null_is_absent(client: Client):
    assert (await create(client, network=None))["network"] == {}
    assert (await create(client, network=dict.fromkeys(NETWORK)))["network"] == {}


async def test_without_access_a_domain_may_be_allowed(client: Client):
    made = await create(client, internet_access=False, network={"allow_out": ["example.com"]})
    assert made["network"] == {"allow_out": ["example.com"]}


@pytest.mark.parametrize(("network", "message"), REFUSED, ids=lambda it: str(it)[:30])
async def test_what_cannot_be_is_refused_in_the_agreed_words(client: Client, plane: Plane, network: dict, message: str):
    made = await create(client, network=NETWORK)
    answers = [await client.post("/v1/sandboxes", json={"template_name": "base", "network": network})]
    answers.append(await put(client, made["id"], network))
    for answer in answers:
        assert check_error(answer, 400, "INVALID_REQUEST")["message"] == message
    assert (await client.get(f"/v1/sandboxes/{made['id']}")).json()["network"] == NETWORK
    assert len(plane.node.sandboxes) == 1


@pytest.mark.parametrize("network", [[], "open", {"allow_out": "1.1.1.1"}, {"allow_out": [1]}, {"inspect": "yes"}])
async def test_wrong_types_are_400(client: Client, network: object):
    answer = await client.post("/v1/sandboxes", json={"template_name": "base", "network": network})
    check_error(answer, 400, "INVALID_REQUEST")


async def test_put_replaces_the_whole_and_an_empty_object_clears(client: Client, plane: Plane):
    made = await create(client, network=NETWORK, internet_access=False)
    answer = await put(client, made["id"], {"deny_out": ["1.0.0.0/8"]})
    assert answer.status_code == 200
    assert (answer.json()["network"], answer.json()["internet_access"]) == ({"deny_out": ["1.0.0.0/8"]}, True)
    assert plane.node.policies[made["id"]] == {"internet_access": True, "deny_out": ["1.0.0.0/8"]}
    assert (await put(client, made["id"], {})).json()["network"] == {}
    assert plane.node.policies[made["id"]] == {"internet_access": True}


async def test_put_needs_one_that_is_there_and_runs_or_is_paused(client: Client):
    check_error(await put(client, "x" * 20, {}), 404, "RESOURCE_NOT_FOUND")
    made = await create(client)
    path = f"/v1/sandboxes/{made['id']}"
    await client.post(f"{path}/pause")
    assert (await put(client, made["id"], {})).json()["status"] == "paused"
    await client.post(f"{path}/stop")
    check_error(await put(client, made["id"], {}), 409, "CONFLICT")


async def test_what_would_open_everything_by_mistake_is_400(client: Client):
    made = await create(client)
    nothing = await client.put(f"/v1/sandboxes/{made['id']}/network", content=b"")
    check_error(nothing, 400, "INVALID_REQUEST")
    for misspelt in ({"denyOut": ["0.0.0.0/0"]}, {"deny": ["0.0.0.0/0"]}):
        check_error(await put(client, made["id"], misspelt), 400, "INVALID_REQUEST")
        order = {"template_name": "code-interpreter", "network": misspelt}
        check_error(await client.post("/v1/sandboxes", json=order), 400, "INVALID_REQUEST")


async def test_a_body_that_is_no_object_is_400(client: Client):
    made = await create(client)
    for body in ([], "x", 7):
        check_error(await put(client, made["id"], body), 400, "INVALID_REQUEST")
