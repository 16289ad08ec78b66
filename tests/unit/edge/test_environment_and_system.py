from __future__ import annotations

import pytest

HEALTH = {"status": "ok", "version": "0.1.0", "uptime_s": 10.0, "python": True}
STATS = {
    "cpu_seconds": 5.0,
    "memory_bytes": 100,
    "memory_limit_bytes": 400,
    "processes": 3,
    "open_files": 9,
    "disk_total_bytes": 1000,
    "disk_free_bytes": 750,
    "load1": 0.5,
    "requests_total": 11,
    "errors_total": 2,
    "processes_started_total": 4,
    "cells_total": 6,
}


async def test_environment_is_shown_unmasked(client, agent) -> None:
    agent.answers("GET", "/env", {"env": {"PATH": "/bin", "API_KEY": "secret"}})
    status, body = await client.call("GET", "/env")
    assert body.pop("timestamp").endswith("Z")
    assert (status, body) == (200, {"env_vars": {"PATH": "/bin", "API_KEY": "secret"}, "count": 2})


@pytest.mark.parametrize(
    ("method", "sent", "agent_method", "agent_env"),
    [
        ("PUT", {"env_vars": {"A": "1"}}, "PUT", {"A": "1"}),
        ("PATCH", {"env_vars": {"A": "1", "B": None}, "merge": True}, "PATCH", {"A": "1", "B": None}),
        ("PATCH", {"env_vars": {"A": "1"}, "merge": False}, "PUT", {"A": "1"}),
        ("DELETE", None, "PUT", {}),
    ],
)
async def test_every_change_answers_the_whole_environment(method, sent, agent_method, agent_env, client, agent) -> None:
    agent.answers(agent_method, "/env", {})
    agent.answers("GET", "/env", {"env": {"HOME": "/root", "A": "1"}})
    status, body = await client.call(method, "/env", sent)
    assert (status, body["env_vars"]) == (200, {"HOME": "/root", "A": "1"})
    assert agent.asked(agent_method, "/env")[0].json == {"env": agent_env}


@pytest.mark.parametrize(
    ("method", "bad"),
    [
        ("PUT", {}),
        ("PUT", {"env_vars": None, "x": 1}),
        ("PUT", {"env_vars": {"A": None}}),
        ("PUT", {"env_vars": {"A": 1}}),
        ("PATCH", {"env_vars": {"": "1"}}),
        ("PATCH", {"env_vars": {"A=": "1"}}),
        ("PATCH", {"env_vars": ["A"]}),
    ],
)
async def test_bad_environment_is_400(method, bad, client, agent) -> None:
    status, _ = await client.call(method, "/env", bad)
    assert status == 400
    assert not agent.seen


async def test_health_with_a_token_has_details(client, agent, kit) -> None:
    agent.answers("GET", "/health", HEALTH)
    status, body = await client.call("GET", "/health")
    assert (status, body["status"], body["vm_id"], body["uptime"]) == (200, "healthy", kit.SANDBOX, 10.0)
    assert body["features"]["languages"] == ["python", "javascript", "bash", "go"]
    assert body["active_streams"] == 0


async def test_info(client, agent, kit) -> None:
    agent.answers("GET", "/health", HEALTH)
    _, body = await client.call("GET", "/info")
    expected = {
        "vm_id",
        "agent",
        "agent_version",
        "os",
        "arch",
        "go_version",
        "vm_ip",
        "vm_port",
        "start_time",
        "uptime",
    }
    assert expected | {"endpoints", "features", "version", "platform", "ip", "port"} <= body.keys()
    assert body["agent_version"] == "0.1.0"


@pytest.mark.parametrize("path", ["/metrics", "/metrics/snapshot"])
async def test_metrics(path, client, agent) -> None:
    agent.answers("GET", "/health", HEALTH)
    agent.answers("GET", "/stats", STATS)
    _, body = await client.call("GET", path)
    assert body["system"]["cpu"]["usage_percent"] == 50.0
    assert body["system"]["memory"]["usage_percent"] == 25.0
    assert body["system"]["disk"]["usage_percent"] == 25.0
    assert body["process"]["count"] == 3
    assert (body["total_requests"], body["total_errors"], body["total_executions"]) == (11, 2, 10)
    assert body["requests_total"] == {path: 1}
    assert body["cache"]["size"] == 0
    assert body["uptime_seconds"] == 10.0


async def test_prometheus(client, agent) -> None:
    agent.answers("GET", "/stats", {**STATS, "evil\nname": 1})
    async with client.session.get(client.url("/metrics/prometheus"), headers=client.headers(None)) as answer:
        lines = (await answer.text()).splitlines()
    assert "atoll_sandbox_processes 3" in lines
    assert len(lines) == len(STATS)


async def test_cache_has_its_keys(client) -> None:
    _, stats = await client.call("GET", "/cache/stats")
    assert {"hits", "misses", "hit_rate", "size", "count", "cache"} <= stats.keys()
    status, cleared = await client.call("POST", "/cache/clear")
    assert (status, cleared["entries_removed"]) == (200, 0)


async def test_jupyter_sessions_are_the_contexts(client, agent) -> None:
    context = {"id": "default", "language": "python", "cwd": "/workspace", "status": "busy", "pid": 9}
    agent.answers("GET", "/contexts", {"contexts": [context]})
    _, body = await client.call("GET", "/jupyter/sessions")
    (session,) = body["sessions"]
    assert (session["kernel_id"], session["execution_state"], session["connections"]) == ("default", "busy", 1)
    assert "last_activity" in session


async def test_desktop_is_not_there(client) -> None:
    for method, path in [("GET", "/desktop/vnc/status"), ("POST", "/desktop/mouse/click")]:
        status, body = await client.call(method, path)
        assert (status, body["code"]) == (501, "DESKTOP_NOT_AVAILABLE")
        assert body["missing_dependencies"] == body["details"]["missing_dependencies"] != []


async def test_unknown_route_and_wrong_method(client) -> None:
    status, body = await client.call("GET", "/nope")
    assert (status, body["code"]) == (404, "ROUTE_NOT_FOUND")
    assert "not found" not in body["message"], "clients would take it for a missing file"
    status, body = await client.call("GET", "/execute")
    assert (status, body["code"]) == (405, "METHOD_NOT_ALLOWED")
