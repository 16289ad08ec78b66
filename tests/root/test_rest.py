"""Every operation of both descriptions, once, against a real installation: what is sent and what is answered."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator

import httpx
import pytest

from atoll.dialects.hopx.openapi import SURFACE as CONTROL
from atoll.edge.hopx.openapi import SURFACE as AGENT
from atoll.reference.document import openapi
from atoll.reference.reading import Chapter, curl
from described import Driver, operations, problems
from names import DOMAIN

pytestmark = pytest.mark.root
WEBSOCKETS = ("executeStream", "terminal", "watchFiles", "connectProcess")
CLOSED = {"allow_out": ["example.com"], "deny_out": ["ALL_TRAFFIC"]}


@pytest.fixture(scope="module")
def client(stack) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=stack.url, timeout=60) as made:
        yield made


def driver_of(client: httpx.Client, document: dict, prefix: str = "", **headers: str) -> Driver:
    return Driver(document, client, prefix, {name.replace("_", "-"): value for name, value in headers.items()})


def test_the_control_plane_answers_as_it_describes_itself(stack, client: httpx.Client):
    document = client.get("/v1/openapi.json").json()
    assert document == openapi(CONTROL)
    call = driver_of(client, document, X_API_Key=stack.installation.api_key)
    order = {
        "template_name": "code-interpreter",
        "timeout_seconds": 600,
        "network": {**CLOSED, "allow_public_traffic": False, "https_ports": [8443]},
        "env_vars": {"A": "b"},
        "metadata": {"user": "ann"},
        "web_port": 3000,
        "disk_gb": 2,
    }
    made = call("createSandbox", json=order).json()
    box = made["id"]
    try:
        call("getSandbox", box)
        call("listSandboxes", query={"status": "running", "metadata": "user=ann", "limit": 1})
        for verb in ("pause", "resume", "stop", "start"):
            call(f"{verb}Sandbox", box)
        call("setTimeout", box, json={"timeout_seconds": 900})
        call("setNetwork", box, json={"internet_access": False})
        call("refreshToken", box)
        call("makeLink", box, json={"port": 8000, "seconds": 60})
        call("readEgressLog", box, query={"limit": 5})
        call("readEgressTotals", box)
    finally:
        call("deleteSandbox", box)
    call("createSecret", json={"name": "REST", "value": "x1", "hosts": ["api.example.com"], "metadata": {"a": "b"}})
    try:
        call("listSecrets", query={"limit": 5})
        call("updateSecret", "REST", json={"value": "x2", "description": "a key"})
        call("getSecret", "REST")
    finally:
        call("deleteSecret", "REST")
    call("listTemplates", query={"language": "python"})
    call("getTemplate", "busybox")
    call("deleteTemplate", "busybox")
    for name in ("health", "metrics", "openapi", "docs"):
        call(name)
    assert set(call.done) == set(operations(document))


def test_the_control_plane_refuses_as_it_describes_itself(stack, client: httpx.Client):
    call = driver_of(client, openapi(CONTROL), X_API_Key=stack.installation.api_key)
    nobody = driver_of(client, openapi(CONTROL))
    assert nobody("listSandboxes").status_code == 401
    assert call("getSandbox", "a" * 20).status_code == 404
    assert call("createSandbox", json={}).status_code == 400
    assert call("createSandbox", json={"template_name": "no-such"}).status_code == 404
    assert call("createSandbox", json={"template_name": "busybox", "vcpu": 999}).status_code == 403
    with stack.box("busybox") as box:
        box.control("POST", "/stop")
        assert call("pauseSandbox", box.id).status_code == 409


def test_the_agent_surface_answers_as_it_describes_itself(stack, client: httpx.Client):
    document = client.get("/v1/agent.openapi.json").json()
    assert document == openapi(AGENT)
    with stack.box() as box:
        call = driver_of(client, document, f"/s/{box.id}", Authorization=f"Bearer {box.token}")
        code = {"code": "print(1); 6 * 7", "env": {"A": "b"}, "timeout": 20, "working_dir": "/workspace"}
        for name in ("execute", "executeRich", "executeIpython"):
            assert call(name, json=code).json()["result"] == "42"
        call("execute", json={"code": "import matplotlib.pyplot as p; p.plot([1]); p.show()"})
        call("execute", json={"code": "1/0"})
        call("execute", json={"code": "echo 1", "language": "bash"})
        call("runCommand", json={"command": "echo", "args": ["42"]})
        started = call("executeBackground", json={"code": "import time; time.sleep(60)", "name": "nap"}).json()
        other = call("runCommandInBackground", json={"command": "sleep 60", "timeout": 60}).json()
        third = call("runCommandInBackground", json={"command": "sleep 60"}).json()
        call("executeAsync", json={"code": "1", "callback_url": "http://example.com/done"})
        call("listBackground")
        call("getBackground", started["process_id"])
        call("listProcesses")
        call("killBackground", started["process_id"])
        call("killByQuery", query={"process_id": other["process_id"]})
        call("killProcess", third["pid"])
        call("listSessions")
        _drive_files(call)
        call("replaceEnv", json={"env_vars": {"A": "1", "B": "2"}})
        call("mergeEnv", json={"env_vars": {"A": None}, "merge": True})
        call("removeEnv", "B")
        call("getEnv")
        call("clearEnv")
        for name in ("agentHealth", "root", "ping", "agentInfo", "system", "metrics", "metricsSnapshot"):
            call(name)
        for name in ("metricsPrometheus", "cache", "cacheStats", "clearCache"):
            call(name)
        for name in WEBSOCKETS:  # what they say is in tests/unit/edge/test_sockets.py
            assert call(name).status_code == 426
        assert set(call.done) | {"metricsStream"} == set(operations(document))
        assert driver_of(client, document, f"/s/{box.id}")("agentHealth").json() == {"status": "healthy"}


def _drive_files(call: Driver) -> None:
    call("writeFile", json={"path": "/workspace/a.txt", "content": "aGk=", "encoding": "base64", "mode": "0600"})
    call("uploadFile", data={"path": "/workspace/b.txt"}, files={"file": ("b.txt", b"hello")})
    call("makeDirectory", json={"path": "out"})
    assert call("readFile", query={"path": "/workspace/a.txt"}).json()["content"] == "hi"
    assert call("downloadFile", query={"path": "/workspace/b.txt"}).content == b"hello"
    assert call("downloadFile", query={"path": "/workspace/b.txt"}, Range="bytes=1-2").content == b"el"
    call("listFiles", query={"path": "/workspace"})
    call("fileExists", query={"path": "/workspace/a.txt"})
    call("fileExists", query={"path": "/nowhere"})
    call("removeFile", query={"path": "/workspace/a.txt"})
    call("removeFileByBody", json={"path": "/workspace/b.txt"})


def test_the_agent_surface_refuses_as_it_describes_itself(stack, client: httpx.Client):
    with stack.box("busybox") as box:
        call = driver_of(client, openapi(AGENT), f"/s/{box.id}", Authorization=f"Bearer {box.token}")
        assert driver_of(client, openapi(AGENT), f"/s/{box.id}")("getEnv").status_code == 401
        assert call("readFile", query={"path": "/nowhere"}).status_code == 404
        assert call("listFiles", query={"path": "/etc/passwd"}).status_code == 400
        assert call("writeFile", json={"path": "/etc/passwd", "content": ""}).status_code == 403
        assert call("execute", json={"code": "1", "language": "cobol"}).status_code == 400
        assert call("killProcess", "nobody").status_code == 404
        box.control("POST", "/stop")
        assert call("ping").status_code == 409


def test_figures_come_as_events_that_the_description_knows(stack, client: httpx.Client):
    document = openapi(AGENT)
    with (
        stack.box("busybox") as box,
        client.stream(
            "GET", f"/v1/sandboxes/{box.id}/metrics/stream", headers={"Authorization": f"Bearer {box.token}"}
        ) as events,
    ):
        assert events.headers["Content-Type"] == "text/event-stream"
        line = next(line for line in events.iter_lines() if line)
    assert problems(document, document["components"]["schemas"]["Metrics"], json.loads(line[len("data: ") :])) == []


def test_the_log_of_the_way_out_is_as_described(online):
    with httpx.Client(base_url=online.url, timeout=60) as client, online.box() as box:
        box.run("curl -s -m 5 http://echo.test/; curl -s -m 5 http://10.0.0.1/; getent hosts no.such.name")
        call = driver_of(client, openapi(CONTROL), X_API_Key=online.installation.api_key)
        kinds, cursor = set(), 0
        while not {"question", "connection"} <= kinds:
            page = call("readEgressLog", box.id, query={"after": cursor, "wait": 10}).json()
            assert page["entries"], f"only {kinds}"
            kinds, cursor = kinds | {entry["kind"] for entry in page["entries"]}, page["cursor"]
        assert call("readEgressTotals", box.id).json()["questions"] > 0
        assert "atoll_egress_questions_total" in call("metrics").text


def test_the_examples_of_the_reference_work_as_they_stand(stack, tmp_path):
    """In the order of a reader, with the words in capitals filled in."""
    control, agent = openapi(CONTROL), openapi(AGENT)
    (tmp_path / "data.csv").write_text("a,b\n")
    with stack.box() as box:
        called = f"{stack.url}/s/{box.id}"
        asked = [(control, stack.url, id) for id in ("createSandbox", "listSandboxes", "getSandbox", "getTemplate")]
        asked += [(control, stack.url, id) for id in ("setTimeout", "setNetwork", "makeLink", "refreshToken", "health")]
        asked += [(agent, called, id) for id in ("execute", "runCommand", "writeFile", "uploadFile", "readFile")]
        asked += [(agent, called, id) for id in ("listFiles", "fileExists", "removeFile", "replaceEnv", "ping")]
        asked.append((control, stack.url, "deleteSandbox"))
        for document, address, id in asked:
            line = curl(document, chapter_of(document, id), address).replace("SANDBOX_ID", box.id)
            variables = {"TOKEN": box.token, "ATOLL_API_KEY": stack.installation.api_key, "PATH": os.environ["PATH"]}
            done = subprocess.run(
                ["sh", "-c", line.replace("curl ", "curl -sS --fail-with-body ", 1)],
                capture_output=True,
                text=True,
                env=variables,
                cwd=tmp_path,
            )
            assert done.returncode == 0, (line, done.stdout, done.stderr)
            made = json.loads(done.stdout)
            if id == "createSandbox":
                stack.api("DELETE", f"/v1/sandboxes/{made['id']}")


def chapter_of(document: dict, id: str) -> Chapter:
    described = operations(document)[id]
    return Chapter(described.method, described.path, id, described.operation)


def test_the_page_is_there_and_names_the_callers_own_host(stack, client: httpx.Client):
    for path, example in (("/docs", "/v1/sandboxes"), ("/docs/agent", "/s/SANDBOX_ID/execute")):
        page = client.get(path)
        assert page.headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert f"curl {stack.url}{example}" in page.text


def test_with_a_domain_the_page_names_it_and_is_on_no_sandboxs_host(named_stack):
    place = named_stack.installation.url.removeprefix("https://")
    authority = named_stack.installation.places.tls / "ca.pem"
    _, port = place.split(":")

    def page(host: str, path: str) -> str:
        command = ["curl", "-sS", "--cacert", str(authority), "--resolve", f"{host}:{port}:127.0.0.1"]
        return subprocess.run([*command, f"https://{host}:{port}{path}"], capture_output=True, text=True).stdout

    for path, example in (("/docs", "/v1/sandboxes"), ("/docs/agent", "/s/SANDBOX_ID/execute")):
        assert f"curl https://{place}{example}" in page(DOMAIN, path)
        assert "SANDBOX_NOT_FOUND" in page(f"anything.{DOMAIN}", path)
