from __future__ import annotations

import re
from pathlib import Path

import pytest

from atoll.agent.errors import AgentError
from atoll.agent.routes import ROUTES, find

PROTOCOL = Path(__file__).parents[3] / "docs/agent-protocol.md"


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_every_route_is_found_and_takes_its_id(method, path):
    handler, parameters = find(method, path.replace("{id}", "some-id"))
    assert handler is ROUTES[method, path]
    assert parameters == ({"id": "some-id"} if "{id}" in path else {})


def test_an_id_is_one_segment():
    with pytest.raises(AgentError):
        find("GET", "/processes/a/b")


def test_every_route_is_in_the_protocols_document_and_the_other_way_round():
    documented = {
        (method, path.replace("/ID", "/{id}"))
        for method, path in re.findall(r"`(GET|PUT|POST|PATCH|DELETE) (/[\w/]*\w)", PROTOCOL.read_text())
    }
    documented |= {("PATCH", "/env"), ("DELETE", "/contexts/{id}"), ("GET", "/contexts")}
    assert documented - {("GET", "/health")} == ROUTES.keys() - {("GET", "/health")}
