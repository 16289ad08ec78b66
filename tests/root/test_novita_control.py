"""Novita's control plane and its clients' way into a sandbox, call by call, against a real installation."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from atoll.wire import connect
from stack import Stack, until

pytestmark = pytest.mark.root

BOOT_ID = "cat /proc/sys/kernel/random/boot_id"
SDK = {
    "User-Agent": "novita-sandbox-python-sdk/2.1.1",
    "X-Novita-SDK-Name": "sdk_py",
    "X-Novita-SDK-Version": "2.1.1",
    "publisher": "Novita",
}


@dataclass
class Sandbox:
    """As a client holds one: `headers` is all that it sends inwards."""

    api: httpx.Client
    url: str
    id: str
    headers: dict[str, str]

    def call(self, method: str, path: str = "", **arguments: Any) -> httpx.Response:
        return self.api.request(method, f"/sandboxes/{self.id}{path}", **arguments)

    def detail(self) -> dict[str, Any]:
        return dict(self.call("GET").json())

    def is_running(self) -> bool:
        return httpx.get(f"{self.url}/health", headers=self.headers).status_code != 502

    def run(self, command: str) -> str:
        """The client's RPC: JSON in many lines, in an envelope that says that it is not compressed."""
        process = {"cmd": "/bin/bash", "args": ["-l", "-c", command]}
        raw = json.dumps({"process": process}, indent=2).encode()
        more = {"content-type": connect.STREAM_TYPE, "connect-content-encoding": "identity"}
        headers = {**SDK, **self.headers, **more, "connect-protocol-version": "1", "connect-timeout-ms": "60000"}
        envelope = b"\0" + len(raw).to_bytes(4, "big") + raw
        answer = httpx.post(f"{self.url}/process.Process/Start", content=envelope, headers=headers, timeout=60)
        assert answer.status_code == 200, answer.text
        events = [connect.parse(each.payload) for each in connect.EnvelopeReader().feed(answer.content)]
        pieces = [
            event["event"]["data"]["stdout"] for event in events if "stdout" in event.get("event", {}).get("data", {})
        ]
        return b"".join(map(base64.b64decode, pieces)).decode().strip()


@pytest.fixture(scope="module")
def api(stack: Stack) -> Iterator[httpx.Client]:
    headers = {**SDK, "X-API-KEY": stack.installation.api_key}
    with httpx.Client(base_url=stack.url, headers=headers, timeout=60) as client:
        yield client


Make = Callable[..., Sandbox]


@pytest.fixture(scope="module")
def make(stack: Stack, api: httpx.Client) -> Iterator[Make]:
    made: list[Sandbox] = []

    def create(template: str = "base", **fields: Any) -> Sandbox:
        body = {"templateID": template, "timeout": 300, "metadata": {}, "envVars": {}, "secure": True, **fields}
        answer = api.post("/sandboxes", json=body)
        assert answer.status_code == 201, answer.text
        given = answer.json()
        naming = {"Novita-Sandbox-Id": given["sandboxID"], "Novita-Sandbox-Port": "49983"}
        headers = {**naming, "X-Access-Token": given["envdAccessToken"]}
        made.append(Sandbox(api, stack.url, given["sandboxID"], headers))
        return made[-1]

    yield create
    for sandbox in made:
        sandbox.call("DELETE")


@pytest.fixture(scope="module")
def box(make: Make) -> Sandbox:
    """For tests that leave it as it was."""
    return make("novita/base", envVars={"COLOUR": "blue"})


# ---- the way in


def test_what_create_gives_names_the_sandbox(box: Sandbox):
    assert box.is_running()
    assert box.run("echo $COLOUR $E2B_SANDBOX $E2B_SANDBOX_ID") == f"blue true {box.id}"


def test_what_connect_gives_is_a_token_alone(box: Sandbox, api: httpx.Client):
    leaked = {"Novita-Sandbox-Id": box.id, "Novita-Sandbox-Port": "49983"}
    again = api.post(f"/sandboxes/{box.id}/connect", json={"timeout": 300}, headers=leaked)
    assert again.status_code == 200
    other = Sandbox(api, box.url, box.id, {"X-Access-Token": again.json()["envdAccessToken"]})
    assert other.is_running()
    assert other.run("echo $E2B_SANDBOX_ID") == box.id
    message = json.dumps({"path": "/home/user/sub"}, indent=2)
    headers = {**SDK, **other.headers, "content-type": "application/json", "content-encoding": "identity"}
    made = httpx.post(f"{box.url}/filesystem.Filesystem/MakeDir", content=message, headers=headers)
    assert (made.status_code, made.json()["entry"]["path"]) == (200, "/home/user/sub")
    written = httpx.post(f"{box.url}/files", params={"path": "a.txt"}, files={"file": b"told"}, headers=other.headers)
    assert (written.status_code, other.run("cat a.txt")) == (200, "told")


@pytest.mark.parametrize("token", ["", "atoll_at_" + "a" * 20 + "_" + "0" * 64, "x"])
def test_a_token_of_nobody_opens_nothing(box: Sandbox, token: str):
    answer = httpx.post(f"{box.url}/process.Process/List", json={}, headers={"X-Access-Token": token} if token else {})
    assert answer.status_code in (401, 404)
    assert "pid" not in answer.text


def test_a_program_is_reached_by_the_fields_of_novitas_clients(box: Sandbox):
    box.run("nohup python3 -m http.server 3000 >/dev/null 2>&1 &")
    headers = {"Novita-Sandbox-Id": box.id, "Novita-Sandbox-Port": "3000"}
    until(lambda: httpx.get(f"{box.url}/", headers=headers).status_code == 200, "it listens")


def test_who_is_gone_is_not_found_by_its_token(make: Make):
    sandbox = make()
    alone = Sandbox(sandbox.api, sandbox.url, sandbox.id, {"X-Access-Token": sandbox.headers["X-Access-Token"]})
    assert [sandbox.call("DELETE").status_code for _ in range(2)] == [204, 404]
    assert not sandbox.is_running()
    assert not alone.is_running()
    gone = httpx.get(f"{alone.url}/health", headers=alone.headers)
    assert "was not found" in gone.json()["message"]


# ---- its life


def test_pause_keeps_what_runs_and_reset_does_not(make: Make):
    sandbox = make(autoPause=True, autoResume={"enabled": False})
    sandbox.run("echo kept > note; nohup sleep 1000 >/dev/null 2>&1 &")
    boot = sandbox.run(BOOT_ID)
    assert [sandbox.call("POST", "/pause").status_code for _ in range(2)] == [204, 409]
    assert not sandbox.is_running()
    assert sandbox.call("POST", "/connect", json={"timeout": 60}).status_code == 201
    assert sandbox.run(f"pgrep -x sleep >/dev/null && {BOOT_ID}") == boot
    assert sandbox.call("POST", "/reset", json={"resume": True, "timeout": 150}).status_code == 200
    note, new_boot = sandbox.run(f"pgrep -x sleep; cat note; {BOOT_ID}").split()
    assert (note, new_boot == boot) == ("kept", False)


def test_reset_can_leave_it_shut_and_at_rest(make: Make):
    sandbox = make()
    answer = sandbox.call("POST", "/reset", json={"resume": False, "allowPublicTraffic": False})
    assert (answer.status_code, bool(answer.json()["trafficAccessToken"])) == (200, True)
    assert sandbox.detail()["state"] == "paused"
    assert sandbox.call("POST", "/connect", json={"timeout": 60}).status_code == 201
    refused = httpx.get(sandbox.url, headers={"Novita-Sandbox-Id": sandbox.id, "Novita-Sandbox-Port": "3000"})
    assert (refused.status_code, "traffic access token" in refused.json()["message"]) == (403, True)


@pytest.mark.long
@pytest.mark.timeout(90)
def test_one_that_nobody_uses_ends_after_its_idle_timeout_and_one_in_use_does_not(make: Make):
    left, used = (make(metadata={"idle_timeout": "30"}) for _ in range(2))
    begun = time.monotonic()

    def is_over() -> bool:
        assert used.run("echo here") == "here"
        return left.call("GET").status_code == 404

    until(is_over, "its end", 60)
    assert time.monotonic() - begun >= 30


def test_memory_is_plugged_while_it_runs(box: Sandbox):
    before = box.detail()["memoryMB"]
    assert box.call("POST", "/hotplug-memory", json={"requested_size_mib": 512}).status_code == 204
    assert box.detail()["memoryMB"] == before + 512
    assert box.call("POST", "/hotplug-memory", json={"requested_size_mib": 0}).status_code == 204
    assert box.detail()["memoryMB"] == before
    too_much = box.call("POST", "/hotplug-memory", json={"requested_size_mib": 10**6})
    assert (too_much.status_code, "memory_mib" in too_much.json()["message"]) == (400, True)


def test_a_volume_is_mounted_while_it_runs(make: Make, api: httpx.Client):
    sandbox = make()
    volume = api.post("/volumes", json={"name": "novita", "quotaSizeGiB": 1, "quotaInodes": 1000}).json()
    try:
        assert (volume["quotaSizeGiB"], volume["quotaInodes"] >= 1000) == (1, True)
        mounted = sandbox.call("POST", "/volume-mounts", json={"name": "novita", "path": "/mnt/data"})
        assert mounted.json()["volumeMounts"] == [{"name": "novita", "path": "/mnt/data"}]
        assert sandbox.run("echo here > /mnt/data/file; cat /mnt/data/file") == "here"
        assert api.delete(f"/volumes/{volume['volumeID']}").status_code == 409
        gone = sandbox.call("DELETE", "/volume-mounts", params={"path": "/mnt/data", "force": "true"})
        assert (gone.status_code, "volumeMounts" in gone.json()) == (200, False)
        assert sandbox.run("cat /mnt/data/file 2>&1 | tail -1").endswith("No such file or directory")
        grown = api.patch(f"/volumes/{volume['volumeID']}", json={"quotaSizeGiB": 2, "quotaInodes": 2000})
        assert (grown.status_code, grown.json()["quotaSizeGiB"]) == (200, 2)
    finally:
        sandbox.call("DELETE")
        assert api.delete(f"/volumes/{volume['volumeID']}").status_code == 204


def test_its_network_can_be_changed(box: Sandbox):
    changed = box.call("PUT", "/network", json={"allowOut": ["1.1.1.1"], "denyOut": ["0.0.0.0/0"]})
    assert changed.status_code == 204
    assert box.detail()["network"] == {"allowOut": ["1.1.1.1"], "denyOut": ["0.0.0.0/0"]}
    wrong = box.call("PUT", "/network", json={"denyOut": ["a.example"]})
    assert (wrong.status_code, wrong.json()["message"]) == (400, "invalid denied CIDR a.example")
    assert box.call("PUT", "/network", json={}).status_code == 204
    assert "network" not in box.detail()


@pytest.mark.parametrize("call", ["clone", "commit", "snapshots"])
def test_a_copy_of_its_memory_is_refused_whole(box: Sandbox, call: str):
    refused = box.call("POST", f"/{call}", json={"count": 2, "strict": True})
    assert (refused.status_code, "native engine" in refused.json()["message"]) == (501, True)
    assert refused.headers["Should-Retry"] == "false"
    assert box.is_running()


# ---- what there is


def test_quota_events_and_templates(make: Make, api: httpx.Client):
    sandbox = make(metadata={"who": "novita"})
    quota = api.get("/sandboxes/quota").json()
    assert quota["usage"]["concurrentInstances"] >= 1
    assert quota["limit"].keys() >= {"concurrentInstances", "maxLengthHours", "diskMb", "maxVcpu", "maxRamMb"}
    sandbox.call("POST", "/timeout", json={"timeout": 100})
    query = {"sandboxID": sandbox.id, "events": "create,timeout", "orderAsc": "true"}
    found = api.get("/sandboxes/events", params=query).json()
    assert [(each["eventName"], each["templateID"]) for each in found["items"]] == [
        ("create", "base"),
        ("timeout", "base"),
    ]
    shown = api.get("/v2/templates", params={"template_type": "template_build", "page": 1, "limit": 1}).json()
    assert (len(shown["templates"]), shown["total"] >= 3, shown["page"], shown["limit"]) == (1, True, 1, 1)
    (listed,) = api.get("/v2/sandboxes", params={"metadata": "who=novita", "state": "running"}).json()
    assert listed["sandboxID"] == sandbox.id


def test_a_secret_is_a_placeholder_inside(make: Make, api: httpx.Client):
    body = {"name": "root.key", "value": "sk-hush", "hosts": ["*.example.com"], "description": "for tests"}
    told = api.post("/secrets", json=body)
    assert told.status_code == 201
    try:
        sandbox = make(secrets={"API_KEY": "root.key"})
        assert sandbox.run("echo $API_KEY") == told.json()["placeholder"]
        assert sandbox.run("env | grep -c sk-hush") == "0"
        assert api.put("/secrets/root.key", json={"value": "sk-2", "hosts": ["a.example.com"]}).status_code == 200
        assert [each["name"] for each in api.get("/secrets").json()["secrets"]] == ["root.key"]
    finally:
        assert api.delete("/secrets/root.key").json() == {"deleted": "root.key"}
    assert api.get("/secrets/root.key").status_code == 404


def test_errors_are_in_the_form_its_client_reads(api: httpx.Client):
    missing = api.post(f"/sandboxes/{'a' * 20}/reset", json={"resume": True})
    assert (missing.status_code, missing.json()["code"]) == (404, 404)
    unknown = api.post("/sandboxes", json={"templateID": "novita/nothing"})
    assert (unknown.status_code, unknown.json()["message"]) == (404, "template 'nothing' not found")
    nobody = api.get("/sandboxes/quota", headers={"X-API-KEY": "nvta_nobody"})
    assert (nobody.status_code, nobody.json()["code"]) == (401, 401)
