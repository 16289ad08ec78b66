"""Facts of the contract that no member of the client shows: by hand."""

from __future__ import annotations

import base64
import json
import uuid

import httpx
import pytest
from talk import IMPOSSIBLE_ID, URL, routed, said
from waiting import until

covers = pytest.mark.covers


@pytest.fixture(scope="session")
def made(make, loop):
    import e2b

    return make(e2b.Sandbox)


@pytest.fixture
def envd(made):
    """The agent's port, as its client speaks to it."""
    headers = {**routed(made, 49983), "X-Access-Token": made._envd_access_token}
    with httpx.Client(base_url=URL, headers=headers, timeout=30) as client:
        yield client


# ---- control plane: what only old clients and other programs call


@covers("6 POST /sandboxes: 15 s, and POST /sandboxes/{id}/connect", "22.2 two generations")
def test_the_first_generation(api):
    found = api.post("/sandboxes", json={"templateID": "base", "unknownField": 1})
    assert found.status_code == 201
    answer = found.json()
    assert {"templateID", "sandboxID", "clientID", "envdVersion", "envdAccessToken"} <= answer.keys()
    path = f"/sandboxes/{answer['sandboxID']}"
    detail = api.get(path).json()
    assert _seconds(detail) <= 15
    assert api.post(f"{path}/connect", json={"timeout": 60}).status_code == 200
    assert api.post(f"{path}/connect", json={}).status_code == 400
    assert api.post(f"{path}/resume", json={"timeout": 60}).status_code == 409
    assert api.post(f"{path}/pause").status_code == 204
    assert api.post(f"{path}/pause").status_code == 409
    assert api.post(f"{path}/connect", json={"timeout": 60}).status_code == 201
    assert api.delete(path).status_code == 204
    assert api.delete(path).status_code == 404


def _seconds(detail):
    from datetime import datetime

    start, end = (datetime.fromisoformat(detail[name]) for name in ("startedAt", "endAt"))
    return (end - start).total_seconds()


@covers("6 resume, refreshes, lists and metrics of several, logs v1 and v2")
def test_calls_that_no_client_of_today_makes(api, made):
    path = f"/sandboxes/{made.sandbox_id}"
    assert api.post(f"{path}/refreshes", json={"duration": 60}).status_code == 204
    assert made.sandbox_id in [each["sandboxID"] for each in api.get("/sandboxes").json()]
    metrics = api.get("/sandboxes/metrics", params={"sandbox_ids": made.sandbox_id}).json()
    assert metrics["sandboxes"][made.sandbox_id]["cpuCount"] == 2
    first = api.get(f"{path}/logs", params={"limit": 5}).json()
    assert first["logs"][0].keys() == {"timestamp", "line"}
    (entry, *_) = api.get(f"/v2{path}/logs", params={"limit": 1, "direction": "forward", "level": "info"}).json()[
        "logs"
    ]
    assert {"timestamp", "message", "level", "fields"} <= entry.keys()


@covers("6 every field that lists and details promise")
def test_fields(api, made):
    required = {"templateID", "sandboxID", "clientID", "startedAt", "endAt", "cpuCount", "memoryMB", "diskSizeMB"}
    required |= {"state", "envdVersion"}
    assert required <= api.get("/v2/sandboxes").json()[0].keys()
    assert required | {"envdAccessToken"} <= api.get(f"/sandboxes/{made.sandbox_id}").json().keys()


@covers("5 unknown routes: 404 in the dialect's shape", "5 errors: code, message")
def test_an_unknown_route(api):
    found = api.get("/v2/no-such-thing")
    assert (found.status_code, found.json()["code"], bool(found.json()["message"])) == (404, 404, True)


@covers("5 paging: limit from 1 to 100, Invalid next token")
@pytest.mark.parametrize("query", [{"limit": "0"}, {"limit": "101"}, {"nextToken": "nonsense"}])
def test_pages_that_are_refused(api, query):
    found = api.get("/v2/sandboxes", params=query)
    assert found.status_code == 400
    if "nextToken" in query:
        assert found.json()["message"] == "Invalid next token"


@covers("18 Should-Retry stands with every error")
def test_errors_say_whether_to_repeat(api):
    for path in ("/sandboxes/" + IMPOSSIBLE_ID, "/v2/sandboxes?limit=0"):
        assert api.get(path).headers["Should-Retry"] == "false"


REFUSED = {
    "Timeout must be greater than 0": {"timeout": 0},
    "Timeout cannot be greater than": {"timeout": 10**8},
    "autoPauseMemory": {"autoPauseMemory": False},
    "unless you enable secure envd access via 'secure' flag": {
        "network": {"allowPublicTraffic": False},
        "secure": False,
    },
    "- volume mount #0: volume 'x' not found": {"volumeMounts": [{"name": "x", "path": "/mnt/x"}]},
}


@covers("6.2 refusals at create, with their sentences")
@pytest.mark.parametrize("sentence", REFUSED)
def test_sandboxes_that_are_refused(api, sentence):
    for path in ("/sandboxes",) if "secure" in REFUSED[sentence] else ("/v2/sandboxes", "/sandboxes"):
        found = api.post(path, json={"templateID": "base", **REFUSED[sentence]})
        assert found.status_code == 400
        assert sentence in found.json()["message"]


@covers("5 Idempotency-Key: the same answer, 422 for another body")
def test_the_same_idempotency_key(api):
    headers, order = {"Idempotency-Key": str(uuid.uuid4())}, {"templateID": "base", "timeout": 60}
    first, again = (api.post("/v2/sandboxes", json=order, headers=headers) for _ in range(2))
    assert (first.status_code, first.json()) == (201, again.json())
    other = api.post("/v2/sandboxes", json={**order, "metadata": {"a": "b"}}, headers=headers)
    assert (other.status_code, other.json()["error_code"]) == (422, "idempotency_request_mismatch")
    assert api.delete(f"/sandboxes/{first.json()['sandboxID']}").status_code == 204


@covers("5 Idempotency-Key: the forms that are refused")
def test_idempotency_keys_that_are_none(api):
    found = api.post("/v2/sandboxes", json={"templateID": "base"}, headers={"Idempotency-Key": "NOT this"})
    assert found.status_code == 400


@covers("8 templates: lists v1 and v2, one, its builds")
def test_templates(api):
    for path in ("/templates", "/v2/templates"):
        assert "base" in [name for each in api.get(path).json() for name in each["names"]]
    found = api.get("/templates/base").json()
    assert uuid.UUID(found["builds"][0]["buildID"])


@covers("2.1 keys are e2b_ and hex digits", "5 Bearer is accepted beside X-API-KEY")
def test_keys(api):
    key = api.headers["X-API-KEY"]
    digits = key.rpartition("_")[2]
    assert int(digits, 16) >= 0
    assert httpx.get(f"{URL}/sandboxes", headers={"Authorization": f"Bearer e2b_{digits}"}).status_code == 200
    assert httpx.get(f"{URL}/sandboxes", headers={"X-API-KEY": f"e2b_{digits}"}).status_code == 200
    assert httpx.get(f"{URL}/sandboxes").status_code == 401


# ---- the way in


@covers("4.1 the token alone leads to the sandbox", "22.13 X-Access-Token alone")
def test_the_token_alone(made):
    found = httpx.get(f"{URL}/metrics", headers={"X-Access-Token": made._envd_access_token})
    assert (found.status_code, found.json()["cpu_count"]) == (200, 2)


@covers("4.1 only one of the two headers: 400")
@pytest.mark.parametrize("left", ["E2b-Sandbox-Id", "E2b-Sandbox-Port"])
def test_half_of_the_headers(made, left):
    headers = routed(made, 3000)
    assert httpx.get(f"{URL}/x", headers={left: headers[left]}).status_code == 400


@covers("4.2 nothing listens: 502 port is not open", "22.9 texts of refusals are part of the interface")
def test_a_port_without_a_program(made):
    found = httpx.get(URL, headers=routed(made, 3999), timeout=30)
    assert found.status_code == 502
    wanted = {"sandboxId": made.sandbox_id, "message": "The sandbox is running but port is not open", "port": 3999}
    assert {**wanted, "code": 502}.items() <= found.json().items()


@covers("4.2 an unknown sandbox: 502 with id and code")
def test_a_sandbox_that_is_not_there(made):
    unknown = "".join(reversed(made.sandbox_id))
    found = httpx.get(URL, headers={"E2b-Sandbox-Id": unknown, "E2b-Sandbox-Port": "3000"})
    assert found.status_code == 502
    assert found.json() == {"sandboxId": unknown, "message": "The sandbox was not found", "code": 502}


@covers("4.3 programs on 127.0.0.1 are reached from outside", "22.17 programs on 127.0.0.1")
def test_a_program_on_the_inner_address(made):
    server = made.commands.run("exec python3 -m http.server 3111 --bind 127.0.0.1", background=True)
    until(lambda: httpx.get(URL, headers=routed(made, 3111)).status_code == 200, "it listens")
    server.kill()


@covers("4.2 routes that are the agent's own: 404")
@pytest.mark.parametrize("path", ["init", "freeze", "unfreeze", "collapse", "fsfreeze", "fsthaw", "upgrade"])
def test_inner_routes(envd, path):
    assert envd.post(f"/{path}", json={}).status_code == 404


# ---- the agent


@covers("12 health, metrics, envs", "GET /health")
def test_small_routes(envd, made):
    assert httpx.get(f"{URL}/health", headers=routed(made, 49983)).status_code == 204
    assert {"ts", "cpu_count", "mem_total", "disk_total"} <= envd.get("/metrics").json().keys()
    assert envd.get("/envs").json()["E2B_SANDBOX"] == "true"


@covers("12 no token: 401 with its sentence")
def test_without_a_token(made):
    for path in ("/metrics", "/envs"):
        found = httpx.get(f"{URL}{path}", headers=routed(made, 49983))
        message = "unauthorized access, please provide a valid access token or method signing if supported"
        assert (found.status_code, found.json()) == (401, {"code": 401, "message": message})


@covers("12.2 ranges, Content-Disposition, Accept-Encoding")
def test_parts_of_a_file(envd, made):
    made.files.write("/home/user/digits.txt", "0123456789")
    query = {"path": "/home/user/digits.txt"}
    part = envd.get("/files", params=query, headers={"Range": "bytes=2-4"})
    assert (part.status_code, part.text) == (206, "234")
    whole = envd.get("/files", params=query, headers={"Accept-Encoding": "gzip"})
    assert whole.text == "0123456789"
    assert whole.headers["Content-Disposition"].startswith("inline; filename=")
    assert "Accept-Encoding" in whole.headers["Vary"]
    refused = envd.get("/files", params=query, headers={"Accept-Encoding": "br, identity;q=0"})
    assert refused.status_code == 406


@covers("12.3 several files in one form, duplicates 400")
def test_forms(envd):
    files = [("file", ("/home/user/form/1", b"1")), ("other", ("x", b"-")), ("file", ("/home/user/form/2", b"2"))]
    found = envd.post("/files", files=files)
    assert [each["path"] for each in found.json()] == ["/home/user/form/1", "/home/user/form/2"]
    assert envd.post("/files", files=[files[0], files[0]]).status_code == 400


@covers("12 POST /files/compose")
def test_compose(envd, made):
    for name in "ab":
        made.files.write(f"/home/user/{name}.part", name)
    body = {"source_paths": ["/home/user/a.part", "/home/user/b.part"], "destination": "/home/user/whole"}
    assert envd.post("/files/compose", json={**body, "username": "user"}).status_code == 200
    assert made.files.read("/home/user/whole") == "ab"


def unary(envd, method, message, **headers):
    return envd.post(f"/{method}", content=json.dumps(message), headers={"Content-Type": "application/json", **headers})


@covers("13 errors of calls: code, message, status")
def test_errors_of_calls(envd):
    found = unary(envd, "filesystem.Filesystem/Stat", {"path": "/none"})
    assert (found.status_code, found.json()["code"]) == (404, "not_found")
    found = unary(envd, "process.Process/SendSignal", {"process": {"pid": 999999}, "signal": "SIGNAL_SIGTERM"})
    assert (found.status_code, found.json()["code"]) == (404, "not_found")
    assert unary(envd, "process.Process/None", {}).status_code == 404


@covers("13 messages: lowerCamelCase and snake_case, unknown fields, sizes as strings")
def test_messages(envd):
    found = unary(envd, "filesystem.Filesystem/Stat", {"path": "/etc/hostname", "unknown": 1}).json()["entry"]
    assert isinstance(found["size"], str)
    assert found["type"] == "FILE_TYPE_FILE"
    made = unary(envd, "filesystem.Filesystem/CreateWatcher", {"path": "/tmp", "include_entry": True}).json()
    assert unary(envd, "filesystem.Filesystem/RemoveWatcher", {"watcher_id": made["watcherId"]}).json() == {}


def stream(envd, method, *messages, **headers):
    """Envelopes: flags, and what is in them."""
    pieces = [json.dumps(message).encode() for message in messages]
    body = b"".join(b"\0" + len(piece).to_bytes(4, "big") + piece for piece in pieces)
    found = envd.post(f"/{method}", content=body, headers={"Content-Type": "application/connect+json", **headers})
    assert found.status_code == 200
    content, envelopes = found.content, []
    while content:
        size = int.from_bytes(content[1:5], "big")
        envelopes.append((content[0], json.loads(content[5 : 5 + size])))
        content = content[5 + size :]
    return envelopes


def command(line):
    return {"process": {"cmd": "/bin/bash", "args": ["-l", "-c", line]}, "stdin": False}


@covers("13 streams: envelopes, status 200, an end that says how")
def test_a_stream_of_envelopes(envd):
    first, *data, end, last = stream(envd, "process.Process/Start", command("echo hi"))
    assert "pid" in first[1]["event"]["start"]
    assert base64.b64decode(data[0][1]["event"]["data"]["stdout"]) == b"hi\n"
    assert end[1]["event"]["end"]["status"] == "exit status 0"
    assert last == (2, {})
    ((flags, failed),) = stream(envd, "process.Process/Connect", {"process": {"pid": 999999}})
    assert (flags, failed["error"]["code"]) == (2, "not_found")


@covers("14 stdin as a stream")
def test_a_stream_of_input(envd, made):
    running = made.commands.run("head -n 2", background=True, stdin=True)
    data = [{"data": {"input": {"stdin": base64.b64encode(line).decode()}}} for line in (b"one\n", b"two\n")]
    begin = {"start": {"process": {"pid": running.pid}}}
    assert stream(envd, "process.Process/StreamInput", begin, {"keepalive": {}}, *data) == [(0, {}), (2, {})]
    assert running.wait().stdout == "one\ntwo\n"


@covers("13 Connect-Timeout-Ms: deadline_exceeded")
def test_a_deadline(envd):
    *_, (flags, last) = stream(envd, "process.Process/Start", command("sleep 60"), **{"Connect-Timeout-Ms": "300"})
    assert (flags, last["error"]["code"]) == (2, "deadline_exceeded")


@covers("13 Keepalive-Ping-Interval", "14 keepalive events")
def test_keepalives(envd):
    found = stream(envd, "process.Process/Start", command("sleep 4"), **{"Keepalive-Ping-Interval": "1"})
    assert "keepalive" in found[1][1]["event"]


@covers("14 signals: TERM and KILL")
def test_signals(envd, made):
    running = made.commands.run("trap 'echo caught; exit 5' TERM; sleep 30 & wait", background=True)
    until(
        lambda: said(made, f"grep -c '^SigCgt:.*[4567cdef]...$' /proc/{running.pid}/status || true") == "1", "its trap"
    )
    body = {"process": {"pid": running.pid}, "signal": "SIGNAL_SIGTERM"}
    assert unary(envd, "process.Process/SendSignal", body).status_code == 200
    import e2b

    with pytest.raises(e2b.CommandExitException):
        running.wait()
    other = unary(envd, "process.Process/SendSignal", {**body, "signal": "SIGNAL_UNSPECIFIED"})
    assert other.json()["code"] == "unimplemented"


# ---- inside


@covers("4 the same surface inside: 127.0.0.1:49983")
def test_the_surface_inside(made):
    assert said(made, "curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:49983/health") == "204"
