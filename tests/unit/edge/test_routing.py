from __future__ import annotations

import pytest

from atoll.edge.routing import (
    AgentSurface,
    ControlPlane,
    Landing,
    Names,
    Naming,
    NoSuchPort,
    NoSuchSandbox,
    Port,
    Reference,
    Target,
    TokenPort,
    TokenSocket,
    Unknown,
    WebHost,
    changed_sandbox,
    classify,
)

ID = "a1" * 10

CASES: list[tuple[str, Target]] = [
    ("/", Landing()),
    ("/health", ControlPlane()),
    ("/docs", ControlPlane()),
    ("/docs/", Unknown()),
    ("/docs/agent", Reference(is_page=True)),
    ("/v1/agent.openapi.json", Reference(is_page=False)),
    ("/v1/openapi.json", ControlPlane()),
    ("/health/", Unknown()),
    ("/v1/sandboxes", ControlPlane()),
    ("/v1/", ControlPlane()),
    (f"/v1/sandboxes/{ID}/metrics/stream", AgentSurface(ID, "/metrics/stream")),
    (f"/v1/sandboxes/{ID}/metrics/stream/", ControlPlane()),
    (f"/v1/sandboxes/{ID}/metrics", ControlPlane()),
    ("/v1/sandboxes/short/metrics/stream", ControlPlane()),
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
    (f"/s/{ID}/8000", Port(ID, 8000, "", f"/s/{ID}/8000")),
    (f"/s/{ID}/8000/", Port(ID, 8000, "/", f"/s/{ID}/8000")),
    (f"/s/{ID}/8000/../x", Port(ID, 8000, "/../x", f"/s/{ID}/8000")),
    (f"/s/{ID}/7777", AgentSurface(ID, "/")),
    (f"/s/{ID}/7777/execute", AgentSurface(ID, "/execute")),
    (f"/s/{ID}/8000x/", AgentSurface(ID, "/8000x/")),
    (f"/s/{ID}/0/", NoSuchPort("0")),
    (f"/s/{ID}/080/", NoSuchPort("080")),
    (f"/s/{ID}/65536/", NoSuchPort("65536")),
    (f"/s/{ID}/{'9' * 99}/", NoSuchPort("9" * 64)),
    (f"/s/{ID}/٣/", AgentSurface(ID, "/٣/")),
    ("/terminal", TokenSocket("/terminal")),
    ("/execute/stream", TokenSocket("/execute/stream")),
    ("/files/watch", TokenSocket("/files/watch")),
    ("/execute", Unknown()),
    ("/terminal/x", Unknown()),
]


@pytest.mark.parametrize(("path", "target"), CASES)
def test_path_goes_where_the_table_says(path: str, target: Target) -> None:
    assert classify("127.0.0.1:8080", path) == target


@pytest.mark.parametrize(
    ("method", "path", "sandbox"),
    [
        ("POST", f"/v1/sandboxes/{ID}/pause", ID),
        ("DELETE", f"/v1/sandboxes/{ID}", ID),
        ("GET", f"/v1/sandboxes/{ID}", None),
        ("PUT", f"/v1/sandboxes/{ID}/timeout", None),
        ("POST", f"/v1/sandboxes/{ID}/token/refresh", None),
        ("POST", f"/v1/sandboxes/{ID}/links", None),
        ("PUT", f"/v1/sandboxes/{ID}/network", ID),
        ("POST", "/v1/sandboxes", None),
    ],
)
def test_only_calls_that_change_a_route_name_a_sandbox(method: str, path: str, sandbox: str | None) -> None:
    assert changed_sandbox(method, path) == sandbox


NAMED = Names("d.test", "eu")
HOSTS: list[tuple[str, str, Target]] = [
    (f"8000-{ID}.d.test", "/a", Port(ID, 8000, "/a")),
    (f"8000-{ID}.d.test:8443", "/a", Port(ID, 8000, "/a")),
    (f"8000-{ID}.D.TEST.", "/a", Port(ID, 8000, "/a")),
    (f"8000-{ID}.eu.d.test", "/a", Port(ID, 8000, "/a")),
    (f"8000-{ID}.us.d.test", "/a", NoSuchSandbox(f"8000-{ID}.us")),
    (f"8000-{ID}.eu.eu.d.test", "/a", NoSuchSandbox(f"8000-{ID}.eu")),
    (f"7777-{ID}.d.test", "/execute", AgentSurface(ID, "/execute")),
    (f"7777-{ID}.d.test", "/x.vms.hopx.dev/execute", AgentSurface(ID, "/execute")),
    (f"7777-{ID}.d.test", "/x.vms.hopx.dev", AgentSurface(ID, "/")),
    (f"7777-{ID}.d.test", "/v1/sandboxes", AgentSurface(ID, "/v1/sandboxes")),
    (f"8000-{ID}.d.test", "/x.vms.hopx.dev/x.vms.hopx.dev/", Port(ID, 8000, "/x.vms.hopx.dev/")),
    (f"8000-{ID}.d.test", "/x.vms.hopx.devil", Port(ID, 8000, "/x.vms.hopx.devil")),
    (f"{ID}.d.test", "/health", WebHost(ID, "/health")),
    (f"{ID}.eu.d.test", "/", WebHost(ID, "/")),
    (f"65536-{ID}.d.test", "/", NoSuchPort("65536")),
    (f"-{ID}.d.test", "/", NoSuchSandbox(f"-{ID}")),
    (f"8000--{ID}.d.test", "/", NoSuchSandbox(f"8000--{ID}")),
    (f"8000-{ID}.d.test", "*", Unknown()),
    (f"8000-{ID}.d.test", "http://d.test/v1/", Unknown()),
    ("cpi.d.test", "/v1/sandboxes", NoSuchSandbox("cpi")),
    ("eu.d.test", "/v1/sandboxes", NoSuchSandbox("eu")),
    (".d.test", "/v1/sandboxes", NoSuchSandbox("")),
    ("d.test", "/v1/sandboxes", ControlPlane()),
    ("d.test:8443", "/health", ControlPlane()),
    ("xd.test", "/health", ControlPlane()),
    ("d.test.evil.test", "/health", ControlPlane()),
    ("127.0.0.1:8080", f"/s/{ID}/80/", Port(ID, 80, "/", f"/s/{ID}/80")),
    ("", "/health", ControlPlane()),
]


E2B_CONTROL = ControlPlane(e2b=True)
NAMED_BY_MISTAKE = Naming(ID, "49983", api_key=True)
E2B_CALLS: list[tuple[str, str, Naming, Target]] = [
    ("api.d.test", "/v2/sandboxes", Naming(), E2B_CONTROL),
    ("api.d.test:8443", "/health", Naming(), ControlPlane()),
    ("d.test", "/sandboxes", Naming(), E2B_CONTROL),
    ("127.0.0.1:8080", f"/sandboxes/{ID}/timeout", Naming(api_key=True), E2B_CONTROL),
    ("sandbox.d.test", "/templates/aliases/a%2Fb", Naming(), E2B_CONTROL),
    ("d.test", "/templates/aliases/..%2F..%2Finternal", Naming(), Unknown()),
    ("d.test", f"/sandboxes/{ID}/../../internal/routes", Naming(), Unknown()),
    ("d.test", f"/sandboxes/{ID}/connect", NAMED_BY_MISTAKE, E2B_CONTROL),
    ("d.test", "/sandboxes", Naming(ID, "80", True, access_token=True), Port(ID, 80, "/sandboxes", shared=True)),
    ("d.test", "/volumes", Naming(ID, "3000"), Port(ID, 3000, "/volumes", shared=True)),
    ("d.test", "/v2/x", Naming(access_token=True), TokenPort("/v2/x")),
    (f"3000-{ID}.d.test", "/sandboxes", Naming(api_key=True), Port(ID, 3000, "/sandboxes")),
]  # fmt: skip


@pytest.mark.parametrize(("host", "path", "named", "target"), E2B_CALLS)
def test_e2bs_calls_go_where_the_table_says(host: str, path: str, named: Naming, target: Target) -> None:
    assert classify(host, path, NAMED, named) == target


def test_a_timeout_of_e2b_may_end_a_sandbox_and_ours_may_not() -> None:
    assert changed_sandbox("POST", f"/sandboxes/{ID}/timeout") == ID
    assert changed_sandbox("PUT", f"/v1/sandboxes/{ID}/timeout") is None


@pytest.mark.parametrize(("host", "path", "target"), HOSTS)
def test_host_goes_where_the_table_says(host: str, path: str, target: Target) -> None:
    assert classify(host, path, NAMED) == target


def test_without_a_domain_no_host_means_anything() -> None:
    assert classify("d.test", "/health", Names()) == ControlPlane()
