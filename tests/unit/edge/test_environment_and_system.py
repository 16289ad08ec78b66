from __future__ import annotations

import json

import pytest
from packaging.version import Version

from atoll.edge.cpu_usage import CpuUsage
from atoll.edge.hopx import metrics_stream
from atoll.edge.hopx.system import nearly_slowest

HEALTH = {"status": "ok", "version": "0.1.0", "uptime_s": 10.0, "python": True}
STATS = {
    "uptime_s": 10.0,
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
    "executing": 1,
    "failures_total": 3,
    "vcpus": 2,
}
ABOUT = {
    "os": {"name": "Debian GNU/Linux", "id": "debian", "version_id": "12", "pretty_name": "Debian GNU/Linux 12"},
    "kernel": "6.1.0",
    "arch": "aarch64",
    "hostname": "box",
    "timezone": "UTC",
    "cpu_model": "A CPU",
    "vcpus": 2,
    "memory_limit_bytes": 2 * 2**30,
    "disk_total_bytes": 10 * 2**30,
    "addresses": ["100.96.0.2"],
    "user": "user",
    "home": "/home/user",
    "shell": "/bin/bash",
    "path": "/bin",
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
    agent.answers("GET", "/system", ABOUT)
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
    assert body["agent_version"] == body["version"] == "3.1.0+atoll.0.1.0"
    assert Version(body["agent_version"]) >= Version("3.1.0")
    assert (body["os"], body["os_name"], body["os_version"]) == ("linux", "Debian GNU/Linux", "12")
    assert (body["arch"], body["vm_ip"], body["kernel"]) == ("aarch64", "100.96.0.2", "6.1.0")


async def test_system_is_the_sandboxs_own(client, agent) -> None:
    agent.answers("GET", "/system", ABOUT)
    _, body = await client.call("GET", "/system")
    assert body["os"]["name"] == "Debian GNU/Linux 12"
    assert body["hardware"] == {"cpu_cores": 2, "cpu_model": "A CPU", "memory_mb": 2048, "disk_mb": 10240}
    assert body["network"] == {"addresses": ["100.96.0.2"], "internet_access": False}
    assert body["environment"]["workdir"] == "/workspace"
    assert {"code_execution", "async_webhooks"} <= set(body["capabilities"])


async def test_a_broken_agents_facts_are_empty_not_an_error(client, agent) -> None:
    agent.answers("GET", "/health", {"status": 1, "version": 2, "uptime_s": "x"})
    agent.answers("GET", "/system", {"os": [], "arch": 7, "addresses": {"a": 1}, "vcpus": "many"})
    for path in ("/info", "/system"):
        status, _ = await client.call("GET", path)
        assert status == 200


@pytest.mark.parametrize("path", ["/metrics", "/metrics/snapshot"])
async def test_metrics(path, client, agent) -> None:
    agent.answers("GET", "/health", HEALTH)
    agent.answers("GET", "/stats", STATS)
    _, body = await client.call("GET", path)
    assert body["system"]["cpu"]["seconds"] == 5.0
    assert (body["active_executions"], body["error_count"]) == (1, 5)
    assert body["system"]["memory"]["usage_percent"] == 25.0
    assert body["system"]["disk"]["usage_percent"] == 25.0
    assert body["process"]["count"] == 3
    assert (body["total_requests"], body["total_errors"], body["total_executions"]) == (11, 2, 10)
    assert body["requests_total"] == {path: 1}
    assert body["cache"]["size"] == 0
    assert body["uptime_seconds"] == 10.0


@pytest.mark.parametrize(
    ("readings", "share"),
    [
        ([(0.0, 1.0)], None),
        ([(0.0, 1.0), (0.05, 2.0)], None),
        ([(0.0, 1.0), (0.5, 1.25)], 0.5),
        ([(0.0, 1.0), (0.5, 1.25), (0.55, 1.275)], 0.5),
        ([(0.0, 1.0), (0.5, 1.0), (1.0, 2.0)], 2.0),
        ([(0.0, 1.0), (10.5, 9.0)], None),
        ([(0.0, 1.0), (10.5, 9.0), (10.7, 9.2)], 1.0),
        ([(0.0, 5.0), (1.0, 4.0)], 0.0),
    ],
)
def test_use_of_the_processor_is_that_of_the_last_moments(readings, share) -> None:
    usage = CpuUsage()
    found = [usage.add(at, seconds) for at, seconds in readings][-1]
    assert found == (None if share is None else pytest.approx(share))


async def test_the_first_question_for_figures_takes_two_readings(client, agent) -> None:
    for seconds in (5.0, 6.0, 7.0):
        agent.answers("GET", "/stats", {**STATS, "cpu_seconds": seconds})
    _, body = await client.call("GET", "/metrics")
    assert len(agent.asked("GET", "/stats")) == 2
    assert body["system"]["cpu"]["usage_percent"] > 0
    await client.call("GET", "/metrics")
    assert len(agent.asked("GET", "/stats")) == 3, "a reading that is fresh enough is used again"


async def test_figures_as_events_until_the_client_leaves(client, agent, kit, origin, monkeypatch) -> None:
    monkeypatch.setattr(metrics_stream, "EVERY_S", 0.01)
    agent.answers("GET", "/stats", STATS)
    url = f"{origin}/v1/sandboxes/{kit.SANDBOX}/metrics/stream"
    async with client.session.get(url, headers={"X-API-Key": kit.API_KEY}) as answer:
        assert (answer.status, answer.content_type) == (200, "text/event-stream")
        for _ in range(3):
            line, blank = await answer.content.readline(), await answer.content.readline()
            assert line.startswith(b"data: ")
            assert json.loads(line[6:])["process"]["count"] == 3
            assert blank == b"\n"
    async with client.session.get(url) as refused:
        assert refused.status == 401


async def test_prometheus(client, agent) -> None:
    agent.answers("GET", "/stats", {**STATS, "evil\nname": 1})
    async with client.session.get(client.url("/metrics/prometheus"), headers=client.headers(None)) as answer:
        lines = (await answer.text()).splitlines()
    assert "atoll_sandbox_processes 3" in lines
    assert len(lines) == len(STATS)


@pytest.mark.parametrize("path", ["/cache", "/cache/stats"])
async def test_cache_has_its_keys_twice_and_by_kind(path, client, agent) -> None:
    kinds = {"go": {"bytes": 30, "entries": 2}, "pip": {"bytes": 12, "entries": 1}, "evil": {"bytes": 5}}
    found = {"hits": 3, "misses": 1, "bytes": 42, "entries": 3, "kinds": kinds, "complete": True}
    agent.answers("GET", "/cache", found)
    _, stats = await client.call("GET", path)
    expected = {"hits": 3, "misses": 1, "hit_rate": 0.75, "size": 42, "count": 3, "enabled": True, "complete": True}
    assert expected.items() <= stats.items()
    assert expected.items() <= stats["cache"].items()
    assert stats["go"] == {"size": 30, "count": 2}
    assert stats["npm"] == {"size": 0, "count": 0}
    assert "evil" not in stats


@pytest.mark.parametrize("found", [{}, {"hits": "x", "misses": -1, "kinds": [], "bytes": None}, {"kinds": {"go": 7}}])
async def test_a_broken_agents_cache_is_empty(found, client, agent) -> None:
    agent.answers("GET", "/cache", found)
    status, stats = await client.call("GET", "/cache/stats")
    assert (status, stats["hit_rate"], stats["size"], stats["go"]) == (200, 0.0, 0, {"size": 0, "count": 0})


async def test_clearing_the_cache_says_how_much_went(client, agent) -> None:
    agent.answers("DELETE", "/cache", {"removed": 7})
    _, cleared = await client.call("POST", "/cache/clear")
    assert (cleared["entries_removed"], cleared["message"]) == (7, "7 cached files removed")


async def test_metrics_show_the_caches_totals(client, agent) -> None:
    agent.answers("GET", "/health", HEALTH)
    agent.answers("GET", "/stats", {**STATS, "cache_hits": 1, "cache_misses": 3, "cache_bytes": 9, "cache_entries": 2})
    _, body = await client.call("GET", "/metrics/snapshot")
    expected = {"enabled": True, "hits": 1, "misses": 3, "hit_rate": 0.25, "size": 9, "count": 2}
    assert body["cache"] == expected


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
        assert (status, body["code"]) == (400, "DESKTOP_NOT_AVAILABLE")
        assert body["missing_dependencies"] == body["details"]["missing_dependencies"] != []


async def test_unknown_route_and_wrong_method(client) -> None:
    status, body = await client.call("GET", "/nope")
    assert (status, body["code"]) == (404, "ROUTE_NOT_FOUND")
    assert "not found" not in body["message"], "clients would take it for a missing file"
    status, body = await client.call("GET", "/execute")
    assert (status, body["code"]) == (405, "METHOD_NOT_ALLOWED")


@pytest.mark.parametrize(
    ("count", "expected"), [(0, 0.0), (1, 1.0), (2, 2.0), (19, 19.0), (20, 19.0), (100, 95.0), (101, 96.0)]
)
def test_95_of_a_hundred_calls_are_not_longer(count, expected) -> None:
    assert nearly_slowest([float(n) for n in range(count, 0, -1)]) == expected


async def test_the_figures_that_javascript_types_declare(client, agent) -> None:
    agent.answers("GET", "/stats", STATS)
    await client.call("GET", "/ping")
    _, body = await client.call("GET", "/metrics/snapshot")
    memory, disk = body["system"]["memory"], body["system"]["disk"]
    assert (memory["total"], memory["used"], memory["free"]) == (400, 100, 300)
    assert (disk["total"], disk["used"], disk["free"]) == (1000, 250, 750)
    assert body["process"]["running"] == 1
    assert body["p95_duration_ms"] > 0
