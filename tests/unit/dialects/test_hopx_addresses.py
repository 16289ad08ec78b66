"""Where sandboxes are said to be, and who may reach their ports."""

from __future__ import annotations

import re

import httpx
import pytest

from atoll.dialects.hopx.render import Addresses
from atoll.edge.routing import AGENT_PORT, SUFFIX, AgentSurface, Names, Port, WebHost, classify

ID = "a1" * 10
CLIENTS = re.compile(r"^(?:\d+-)?([^.]+)\.(.+\.vms\.hopx\.dev)$")
"""What the clients match `public_host` with, less its scheme and last slash."""


def test_without_a_domain_everything_is_a_path() -> None:
    at = Addresses("http://127.0.0.1:8080")
    assert at.agent(ID) == at.direct(ID) == f"http://127.0.0.1:8080/s/{ID}"
    assert at.port(ID, 8000) == f"http://127.0.0.1:8080/s/{ID}/8000/"


@pytest.mark.parametrize("public_url", ["https://d.test:8443", "https://d.test", "http://d.test:80"])
def test_with_a_domain_clients_find_the_names_of_ports(public_url: str) -> None:
    scheme, _, rest = public_url.partition("://")
    at = Addresses(public_url, "d.test")
    assert at.agent(ID) == f"{scheme}://7777-{ID}.{rest}/x.vms.hopx.dev"
    assert at.direct(ID) == f"{scheme}://{ID}.{rest}"
    assert at.port(ID, 8000) == f"{scheme}://8000-{ID}.{rest}/"
    match = CLIENTS.match(at.agent(ID).partition("://")[2])
    assert match is not None
    assert f"https://8080-{match[1]}.{match[2]}/" == f"https://8080-{ID}.{rest}/x.vms.hopx.dev/"


@pytest.mark.parametrize("names", [Names(), Names("d.test")])
def test_the_edge_understands_what_is_said(names: Names) -> None:
    at = Addresses("https://d.test:1" if names.domain else "http://h:1", names.domain)
    for url, target in (
        (at.agent(ID) + "/execute", AgentSurface(ID, "/execute")),
        (at.port(ID, 8000), Port(ID, 8000, "/", "" if names.domain else f"/s/{ID}/8000")),
        (at.link(ID, 3000, "x"), Port(ID, 3000, "/", "" if names.domain else f"/s/{ID}/3000")),
        (at.direct(ID) + "/health", WebHost(ID, "/health") if names.domain else AgentSurface(ID, "/health")),
    ):
        host, slash, path = url.partition("?")[0].partition("://")[2].partition("/")
        assert classify(host, slash + path, names) == target
    assert (AGENT_PORT, SUFFIX) == (7777, "/x.vms.hopx.dev")


def test_a_link_to_no_port_is_to_the_sandboxs_own_host() -> None:
    url = httpx.URL(Addresses("https://d.test:1", "d.test").link(ID, 0, "x.y.z"))
    assert classify(url.netloc.decode(), url.path, Names("d.test")) == WebHost(ID, "/")
    assert url.params["atoll_link"] == "x.y.z"


@pytest.mark.parametrize("label", [f"8000-{ID}", ID, f"7777-{ID}"])
def test_the_region_may_stand_as_one_more_label(label: str) -> None:
    names = Names("d.test", "eu-1")
    found = classify(f"{label}.eu-1.d.test:1", "/a", names)
    assert isinstance(found, Port | WebHost | AgentSurface)
    assert found == classify(f"{label}.d.test:1", "/a", names)


async def test_ports_are_for_the_owner_unless_said_otherwise(client, plane) -> None:
    for given, expected in (({}, "token"), ({"inbound_auth": "public"}, "public"), ({"inbound_auth": None}, "token")):
        made = (await client.post("/v1/sandboxes", json={"template_name": "base", **given})).json()
        shown = (await client.get(f"/v1/sandboxes/{made['id']}")).json()
        assert (made["inbound_auth"], shown["inbound_auth"]) == (expected, expected)
        assert plane.services.routes.get(made["id"])["inbound_auth"] == expected


@pytest.mark.parametrize("given", ["", "PUBLIC", "none", 1, True, []])
async def test_an_unknown_word_for_who_may_reach_them_is_refused(client, given) -> None:
    response = await client.post("/v1/sandboxes", json={"template_name": "base", "inbound_auth": given})
    assert response.status_code == 400
    assert response.json()["details"]["field"] == "inbound_auth"
