from __future__ import annotations

import pytest

from atoll.edge.routing import (
    AgentSurface,
    ControlPlane,
    Landing,
    NoSuchSandbox,
    Target,
    TokenSocket,
    Unknown,
    changed_sandbox,
    classify,
)

ID = "a1" * 10

CASES: list[tuple[str, Target]] = [
    ("/", Landing()),
    ("/health", ControlPlane()),
    ("/health/", Unknown()),
    ("/v1/sandboxes", ControlPlane()),
    ("/v1/", ControlPlane()),
    ("/v1", Unknown()),
    ("/v1/files/a..b", ControlPlane()),
    ("/v1/templates/1.2", ControlPlane()),
    ("/v1/../internal/routes", Unknown()),
    ("/v1/%2e%2e/internal/routes", Unknown()),
    ("/v1/%2E./internal/routes", Unknown()),
    ("/v1/x%2f..%2f..%2finternal", Unknown()),
    ("/v1/..%5cinternal", Unknown()),
    ("/v1/./sandboxes", Unknown()),
    ("/internal/routes", Unknown()),
    ("/internal/authenticate", Unknown()),
    ("/%69nternal/routes", Unknown()),
    ("//internal/routes", Unknown()),
    ("http://other/v1/sandboxes", Unknown()),
    ("*", Unknown()),
    ("", Unknown()),
    (f"/s/{ID}", AgentSurface(ID, "/")),
    (f"/s/{ID}/", AgentSurface(ID, "/")),
    (f"/s/{ID}/files/read", AgentSurface(ID, "/files/read")),
    (f"/s/{ID}/internal/routes", AgentSurface(ID, "/internal/routes")),
    ("/s/", NoSuchSandbox("")),
    ("/s/short/health", NoSuchSandbox("short")),
    (f"/s/{ID.upper()}/health", NoSuchSandbox(ID.upper())),
    (f"/s/{'x' * 99}/health", NoSuchSandbox("x" * 64)),
    ("/terminal", TokenSocket("/terminal")),
    ("/execute/stream", TokenSocket("/execute/stream")),
    ("/files/watch", TokenSocket("/files/watch")),
    ("/execute", Unknown()),
    ("/terminal/x", Unknown()),
]


@pytest.mark.parametrize(("path", "target"), CASES)
def test_path_goes_where_the_table_says(path: str, target: Target) -> None:
    assert classify("127.0.0.1:8080", {}, path) == target


@pytest.mark.parametrize(
    ("method", "path", "sandbox"),
    [
        ("POST", f"/v1/sandboxes/{ID}/pause", ID),
        ("DELETE", f"/v1/sandboxes/{ID}", ID),
        ("GET", f"/v1/sandboxes/{ID}", None),
        ("PUT", f"/v1/sandboxes/{ID}/timeout", None),
        ("POST", f"/v1/sandboxes/{ID}/token/refresh", None),
        ("POST", "/v1/sandboxes", None),
    ],
)
def test_only_calls_that_change_a_route_name_a_sandbox(method: str, path: str, sandbox: str | None) -> None:
    assert changed_sandbox(method, path) == sandbox
