"""E2B's network fields: its names, our rules."""

from __future__ import annotations

import pytest

from atoll.testing.plane import Plane
from e2b_wire import Client, check_error, create, detail

ALL = "0.0.0.0/0"
NO_ALL_TRAFFIC = (
    "When specifying allowed domains in allow out, you must include 'ALL_TRAFFIC' in deny out to block all other "
    "traffic."
)
GIVEN = {
    "allowOut": ["example.com", "1.1.1.1"],
    "denyOut": [ALL],
    "rules": {"example.com": [{"transform": {"headers": {"X-Team": "blue"}}}]},
    "allowPublicTraffic": False,
    "maskRequestHost": "localhost:${PORT}",
    "httpsPorts": [8443],
    "dnsServers": ["9.9.9.9"],
    "egressProxy": {
        "address": "proxy.example.com:1080",
        "username": "u",
        "password": "p",
        "tls": {"enabled": True, "serverName": "proxy.example.com"},
    },
}


async def test_everything_is_understood_and_shown_again_without_secrets(client: Client, plane: Plane):
    made = await create(client, network=GIVEN)
    shown = (await detail(client, made["sandboxID"]))["network"]
    proxy = {name: value for name, value in GIVEN["egressProxy"].items() if name != "password"}
    assert shown == {**GIVEN, "egressProxy": proxy}
    assert plane.node.policies[made["sandboxID"]]["egress_proxy"]["password"] == "p"


REFUSED = [
    ({"denyOut": ["example.com"]}, "invalid denied CIDR example.com"),
    ({"denyOut": ["0.0.0.0"]}, "invalid denied CIDR 0.0.0.0"),
    ({"allowOut": ["not a thing"]}, "invalid allowed address not a thing"),
    ({"allowOut": ["example.com"]}, NO_ALL_TRAFFIC),
    ({"maskRequestHost": "-https://abcd"}, "mask request host is not valid: -https://abcd"),
    ({"rules": {f"{n}.example.com": [] for n in range(11)}}, "Network rules can have at most 10 domains."),
    ({"rules": {"no name": []}}, 'Rule domain "no name" is not a valid domain name.'),
    (
        {"rules": {"example.com": [{"transform": {"headers": {"A": "${e2b.secrets.}"}}}]}},
        "Network transform header contains a malformed E2B placeholder.",
    ),
    ({"egressProxy": {"address": "nowhere"}}, "Invalid egress proxy config: the address is not host:port"),
]


@pytest.mark.parametrize(("network", "message"), REFUSED)
async def test_what_is_wrong_is_said_in_e2bs_words(client: Client, plane: Plane, network: dict, message: str):
    check_error(await client.post("/v2/sandboxes", json={"templateID": "base", "network": network}), 400, message)
    assert plane.node.births == []
    if "maskRequestHost" not in network:
        made = await create(client)
        check_error(await client.put(f"/sandboxes/{made['sandboxID']}/network", json=network), 400, message)


async def test_an_update_replaces_what_goes_out_and_leaves_what_comes_in(client: Client, plane: Plane):
    made = await create(client, network=GIVEN, allow_internet_access=False)
    path = f"/sandboxes/{made['sandboxID']}"
    assert (await client.put(f"{path}/network", json={"denyOut": ["1.2.3.4"], "later": 1})).status_code == 204
    shown = await detail(client, made["sandboxID"])
    inward = {name: GIVEN[name] for name in ("allowPublicTraffic", "maskRequestHost", "httpsPorts")}
    assert shown["network"] == {"denyOut": ["1.2.3.4"], **inward}
    assert shown["allowInternetAccess"] is None
    assert (await client.put(f"{path}/network", json={})).status_code == 204
    assert (await detail(client, made["sandboxID"]))["network"] == inward
    assert plane.node.policies[made["sandboxID"]] == {"internet_access": True}


@pytest.mark.parametrize(("given", "held"), [(False, False), (True, True), (None, True)])
async def test_internet_access_is_the_one_field_in_snake_case(client: Client, plane: Plane, given, held):
    made = await create(client, allow_internet_access=given, network={"allowOut": ["1.1.1.1"]})
    assert plane.node.policies[made["sandboxID"]] == {"internet_access": held, "allow_out": ["1.1.1.1"]}
    await client.put(f"/sandboxes/{made['sandboxID']}/network", json={"allow_internet_access": given})
    assert plane.node.policies[made["sandboxID"]] == {"internet_access": held}
