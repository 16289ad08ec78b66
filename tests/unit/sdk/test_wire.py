"""What each method sends: method, path, body. The same in both forms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from script import Said

from atoll import ALL_TRAFFIC, Network

RUN = {"language": "python", "timeout": 60, "workdir": "/workspace"}
AGENT = "/s/sb1"
V1 = "/v1/sandboxes/sb1"

CALLS: dict[str, tuple[Callable[[Any], Any], str, Any]] = {
    "get_info": (lambda box: box.get_info(), f"GET {V1}", None),
    "start": (lambda box: box.start(), f"POST {V1}/start", None),
    "stop": (lambda box: box.stop(), f"POST {V1}/stop", None),
    "pause": (lambda box: box.pause(), f"POST {V1}/pause", None),
    "resume": (lambda box: box.resume(), f"POST {V1}/resume", None),
    "kill": (lambda box: box.kill(), f"DELETE {V1}", None),
    "set_timeout": (lambda box: box.set_timeout(60), f"PUT {V1}/timeout", {"timeout_seconds": 60}),
    "refresh_token": (lambda box: box.refresh_token(), f"POST {V1}/token/refresh", None),
    "create_link": (lambda box: box.create_link(8000, 600), f"POST {V1}/links", {"port": 8000, "seconds": 600}),
    "create_link of the web port": (lambda box: box.create_link(), f"POST {V1}/links", {"seconds": 3600}),
    "update_network": (
        lambda box: box.update_network(Network(allow_out=("a.example",), deny_out=[ALL_TRAFFIC])),
        f"PUT {V1}/network",
        {"allow_out": ["a.example"], "deny_out": ["0.0.0.0/0"]},
    ),
    "update_network of nothing": (lambda box: box.update_network(), f"PUT {V1}/network", {}),
    "update_network off": (
        lambda box: box.update_network(internet_access=False),
        f"PUT {V1}/network",
        {"internet_access": False},
    ),
    "get_egress_log": (lambda box: box.get_egress_log(-5, 10), f"GET {V1}/egress?after=-5&limit=10", None),
    "get_egress_log waiting": (
        lambda box: box.get_egress_log(7, wait=2),
        f"GET {V1}/egress?after=7&limit=100&wait=2",
        None,
    ),
    "get_egress_totals": (lambda box: box.get_egress_totals(), f"GET {V1}/egress/totals", None),
    "run_code": (lambda box: box.run_code("1"), f"POST {AGENT}/execute", {"code": "1", **RUN}),
    "run_code with all": (
        lambda box: box.run_code("1", language="bash", timeout=5, env={"A": "b"}, working_dir="/tmp"),
        f"POST {AGENT}/execute",
        {"code": "1", "language": "bash", "timeout": 5, "env": {"A": "b"}, "workdir": "/tmp"},
    ),
    "run_code by the other name": (
        lambda box: box.run_code("1", timeout_seconds=7),
        f"POST {AGENT}/execute",
        {"code": "1", **RUN, "timeout": 7},
    ),
    "run_ipython": (
        lambda box: box.run_ipython("1"),
        f"POST {AGENT}/execute/ipython",
        {"code": "1", "language": "python", "timeout": 60},
    ),
    "run_code_background": (
        lambda box: box.run_code_background("1", name="n"),
        f"POST {AGENT}/execute/background",
        {"code": "1", **RUN, "timeout": 300, "name": "n"},
    ),
    "run_code_async": (
        lambda box: box.run_code_async("1", "https://a.example", callback_headers={"X": "y"}),
        f"POST {AGENT}/execute/async",
        {
            "code": "1",
            **RUN,
            "timeout": 1800,
            "callback_url": "https://a.example",
            "callback_headers": {"X": "y"},
        },
    ),
    "list_processes": (lambda box: box.list_processes(), f"GET {AGENT}/execute/processes", None),
    "get_process": (lambda box: box.get_process("p/1"), f"GET {AGENT}/execute/processes/p%2F1", None),
    "kill_process": (lambda box: box.kill_process("p1"), f"POST {AGENT}/execute/kill/p1", None),
    "list_system_processes": (lambda box: box.list_system_processes(), f"GET {AGENT}/processes", None),
    "get_agent_info": (lambda box: box.get_agent_info(), f"GET {AGENT}/info", None),
    "get_agent_metrics": (lambda box: box.get_agent_metrics(), f"GET {AGENT}/metrics/snapshot", None),
    "get_metrics_snapshot": (lambda box: box.get_metrics_snapshot(), f"GET {AGENT}/metrics/snapshot", None),
    "get_jupyter_sessions": (lambda box: box.get_jupyter_sessions(), f"GET {AGENT}/jupyter/sessions", None),
    "is_healthy": (lambda box: box.is_healthy(), f"GET {AGENT}/health", None),
    "commands.run": (
        lambda box: box.commands.run("ls"),
        f"POST {AGENT}/commands/run",
        {"command": "bash", "args": ["-c", "ls"], "timeout": 120, "workdir": "/workspace", "name": "ls"},
    ),
    "commands.run in the background": (
        lambda box: box.commands.run("ls", background=True, env={"A": "b"}),
        f"POST {AGENT}/commands/background",
        {
            "command": "bash",
            "args": ["-c", "ls"],
            "timeout": 120,
            "workdir": "/workspace",
            "name": "ls",
            "env": {"A": "b"},
        },
    ),
    "files.read": (lambda box: box.files.read("/a b&c"), f"GET {AGENT}/files/read?path=%2Fa+b%26c", None),
    "files.read_bytes": (lambda box: box.files.read_bytes("/a"), f"GET {AGENT}/files/download?path=%2Fa", None),
    "files.write": (
        lambda box: box.files.write("/a", "é", mode="0600"),
        f"POST {AGENT}/files/write",
        {"path": "/a", "mode": "0600", "content": "w6k=", "encoding": "base64"},
    ),
    "files.list": (lambda box: box.files.list(), f"GET {AGENT}/files/list?path=%2Fworkspace", None),
    "files.exists": (lambda box: box.files.exists("/a"), f"GET {AGENT}/files/exists?path=%2Fa", None),
    "files.remove": (lambda box: box.files.remove("/a"), f"DELETE {AGENT}/files/remove?path=%2Fa", None),
    "files.mkdir": (lambda box: box.files.mkdir("/a"), f"POST {AGENT}/files/mkdir", {"path": "/a"}),
    "env.get_all": (lambda box: box.env.get_all(), f"GET {AGENT}/env", None),
    "env.set_all": (lambda box: box.env.set_all({"A": "b"}), f"PUT {AGENT}/env", {"env_vars": {"A": "b"}}),
    "env.update": (
        lambda box: box.env.update({"A": "b"}),
        f"PATCH {AGENT}/env",
        {"env_vars": {"A": "b"}, "merge": True},
    ),
    "env.delete": (lambda box: box.env.delete("A"), f"PATCH {AGENT}/env", {"env_vars": {"A": None}, "merge": True}),
    "cache.stats": (lambda box: box.cache.stats(), f"GET {AGENT}/cache/stats", None),
    "cache.clear": (lambda box: box.cache.clear(), f"POST {AGENT}/cache/clear", None),
    "desktop.click": (
        lambda box: box.desktop.click(1, 2),
        f"POST {AGENT}/desktop/mouse/click",
        {"x": 1, "y": 2, "button": "left", "clicks": 1},
    ),
    "desktop.capture_window": (
        lambda box: box.desktop.capture_window(7),
        f"GET {AGENT}/desktop/x11/capture_window?window_id=7",
        None,
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_method_sends(form, server, account, name):
    call, line, body = CALLS[name]
    form.run(lambda: call(form.sandbox("sb1", **account)))
    assert (server.lines[-1], server.last.body) == (line, body)
    key, token = server.last.headers.get("x-api-key"), server.last.headers.get("authorization")
    assert (key, token) == (("key", None) if line.split()[1].startswith("/v1") else (None, _token(name)))
    assert server.last.headers["user-agent"].startswith("atoll-python/")


def _token(name: str) -> str | None:
    return None if name == "is_healthy" else "Bearer t"


CLASS_CALLS: dict[str, tuple[Callable[[Any, Any], Any], str, Any]] = {
    "list": (
        lambda form, to: form.sandbox.list(status="running", region="here", metadata={"a": "b c", "d": "e"}, **to),
        "GET /v1/sandboxes?limit=100&status=running&region=here&metadata=a%3Db%2Bc%26d%3De",
        None,
    ),
    "iter": (lambda form, to: form.sandbox.iter(**to), "GET /v1/sandboxes?limit=100", None),
    "list_info": (lambda form, to: form.sandbox.list_info(limit=3, **to), "GET /v1/sandboxes?limit=3", None),
    "iter_info": (
        lambda form, to: form.sandbox.iter_info(status="paused", **to),
        "GET /v1/sandboxes?limit=100&status=paused",
        None,
    ),
    "list_templates": (
        lambda form, to: form.sandbox.list_templates(category="c", language="l", **to),
        "GET /v1/templates?category=c&language=l",
        None,
    ),
    "get_template": (lambda form, to: form.sandbox.get_template("a/b", **to), "GET /v1/templates/a%2Fb", None),
    "delete_template": (lambda form, to: form.sandbox.delete_template("t", **to), "DELETE /v1/templates/t", None),
    "health_check": (lambda form, to: form.sandbox.health_check(base_url=to["base_url"]), "GET /health", None),
    "secrets.create": (
        lambda form, to: form.secrets.create("n", "v", hosts=("h",), metadata={"a": "b"}, **to),
        "POST /v1/secrets",
        {"name": "n", "value": "v", "hosts": ["h"], "metadata": {"a": "b"}},
    ),
    "secrets.get": (lambda form, to: form.secrets.get("n", **to), "GET /v1/secrets/n", None),
    "secrets.list": (lambda form, to: form.secrets.list(limit=2, **to), "GET /v1/secrets?limit=2", None),
    "secrets.iter": (lambda form, to: form.secrets.iter(**to), "GET /v1/secrets?limit=100", None),
    "secrets.update": (
        lambda form, to: form.secrets.update("n", value="w", **to),
        "PUT /v1/secrets/n",
        {"value": "w"},
    ),
    "secrets.delete": (lambda form, to: form.secrets.delete("n", **to), "DELETE /v1/secrets/n", None),
}


@pytest.mark.parametrize("name", CLASS_CALLS)
def test_a_class_method_sends(form, server, account, name):
    call, line, body = CLASS_CALLS[name]
    form.run(lambda: call(form, account))
    assert (server.lines, server.last.body) == ([line], body)
    assert server.last.headers.get("x-api-key") == (None if name == "health_check" else "key")


MADE = {"id": "sb1", "auth_token": "t", "token_expires_at": "2999-01-01T00:00:00Z", "direct_url": "http://x/s/sb1"}


def test_create_sends_only_what_is_said(form, server, account):
    server.answers = [Said(MADE, 201)]
    assert form.run(lambda: form.sandbox.create("busybox", **account)).sandbox_id == "sb1"
    assert (server.lines, server.last.body) == (["POST /v1/sandboxes"], {"template_name": "busybox"})


def test_create_sends_all_that_is_said(form, server, account):
    said = {
        "region": "here",
        "timeout_seconds": 60,
        "internet_access": False,
        "allow_internet_access": False,
        "env_vars": {"A": "b"},
        "metadata": {"u": "a"},
        "secrets": {"K": "k"},
        "inbound_auth": "public",
        "web_port": 80,
        "auto_resume": True,
        "vcpu": 1,
        "memory_mb": 512,
        "disk_gb": 2,
    }
    server.answers = [Said(MADE, 201)]
    network = {"deny_out": (ALL_TRAFFIC,), "mask_request_host": None}
    form.run(lambda: form.sandbox.create(template_id="7", network=network, **said, **account))
    assert server.last.body == {"template_id": "7", **said, "network": {"deny_out": [ALL_TRAFFIC]}}


def test_the_first_call_after_create_needs_no_other(form, server, account):
    server.answers = [Said(MADE, 201), Said({"stdout": "x"})]

    async def both():
        box = await form.sandbox.create("busybox", **account)
        return await box.run_code("1")

    result = form.run(both) if form.name == "async" else form.sandbox.create("busybox", **account).run_code("1")
    assert (result.stdout, server.lines) == ("x", ["POST /v1/sandboxes", "POST /s/sb1/execute"])


def test_connect_resumes_a_paused_one_and_gets_a_token(form, server, account):
    server.answers = [Said({"id": "sb1", "status": "paused"})]
    form.run(lambda: form.sandbox.connect("sb1", **account))
    assert server.lines == [f"GET {V1}", f"POST {V1}/resume", f"POST {V1}/token/refresh"]


def test_properties_and_the_constructor_send_nothing(form, server, account):
    box = form.sandbox("sb1", **account)
    parts = [name for name, member in vars(form.sandbox).items() if isinstance(member, property)]
    assert {"files", "commands", "env", "cache", "terminal", "desktop", "agent_url"} <= {*parts}
    for name in (*parts, "sandbox_id"):
        assert getattr(box, name)
    assert box.agent_url == f"{server.url}/s/sb1"
    assert server.heard == []


def test_iter_goes_from_page_to_page(form, server, account):
    server.answers = [
        Said({"data": [{"id": "a"}, {"id": "b"}], "has_more": True, "next_cursor": "c1"}),
        Said({"data": [{"id": "c"}], "has_more": True, "next_cursor": None}),
    ]
    found = form.run(lambda: form.sandbox.iter(**account))
    assert [each.sandbox_id for each in found] == ["a", "b", "c"]
    assert server.lines == ["GET /v1/sandboxes?limit=100", "GET /v1/sandboxes?limit=100&cursor=c1"]


def test_upload_and_download_pass_the_file_on_as_it_is(form, server, account, tmp_path):
    data = bytes(range(256)) * 4096
    (tmp_path / "a").write_bytes(data)
    progress: list[tuple[int, int | None]] = []
    box = form.sandbox("sb1", **account)
    form.run(lambda: box.files.upload(tmp_path / "a", "/w/a", on_progress=lambda *now: progress.append(now)))
    assert server.lines[-1] == f"POST {AGENT}/files/upload"
    assert data in server.last.raw
    assert b'name="path"\r\n\r\n/w/a\r\n' in server.last.raw.partition(data)[0]
    assert server.last.headers["content-length"] == str(len(server.last.raw))
    assert progress[-1] == (len(data), len(data))
    server.answers = [Said(data)]
    form.run(lambda: box.files.download("/w/a", tmp_path / "b"))
    assert (tmp_path / "b").read_bytes() == data
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a", "b"]


def test_a_download_that_breaks_off_leaves_nothing(form, server, account, tmp_path):
    box = form.sandbox("sb1", **account)
    (tmp_path / "b").write_text("old")
    server.answers = [Said({"auth_token": "t"}), Said(b"half", headers={"Content-Length": "8", "Connection": "close"})]
    with pytest.raises(Exception, match="connection broke"):
        form.run(lambda: box.files.download("/w/a", tmp_path / "b"))
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("b", "old")]


def test_large_contents_are_sent_in_pieces(form, server, account):
    box = form.sandbox("sb1", **account)
    form.run(lambda: box.files.write_bytes("/w/a", b"x" * (8 * 1024 * 1024 + 1), mode="0755"))
    assert server.lines[-2:] == [f"POST {AGENT}/files/upload", f"POST {AGENT}/commands/run"]
    assert server.last.body["args"] == ["-c", "chmod 0755 -- /w/a"]
