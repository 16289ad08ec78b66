"""E2B's control plane by the unmodified `e2b` package, against a real installation."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from e2b import (
    AsyncSandbox,
    AuthenticationException,
    Sandbox,
    SandboxException,
    SandboxNotFoundException,
    SandboxQuery,
    SandboxState,
    Template,
)

from names import DOMAIN
from stack import Stack, until

pytestmark = pytest.mark.root

Make = Callable[..., Sandbox]
BOOT_ID = "cat /proc/sys/kernel/random/boot_id"


@pytest.fixture(scope="module")
def account(stack) -> dict[str, str]:
    """What E2B_API_KEY, E2B_API_URL and E2B_SANDBOX_URL say."""
    return {"api_key": stack.installation.api_key, "api_url": stack.url, "sandbox_url": stack.url}


@pytest.fixture
def make(account) -> Iterator[Make]:
    made: list[Sandbox] = []

    def create(template: str = "base", **fields: Any) -> Sandbox:
        made.append(Sandbox.create(template, **fields, **account))
        return made[-1]

    yield create
    for sandbox in made:
        sandbox.kill()


def said(sandbox: Sandbox, command: str, **more: Any) -> str:
    return str(sandbox.commands.run(command, **more).stdout).strip()


# ---- its life


def test_it_is_made_found_used_and_killed(make, account):
    sandbox = make(metadata={"user": "ann"}, envs={"COLOUR": "blue"}, timeout=120)
    assert said(sandbox, "echo $COLOUR $E2B_SANDBOX $E2B_SANDBOX_ID $E2B_TEMPLATE_ID") == (
        f"blue true {sandbox.sandbox_id} base"
    )
    assert said(sandbox, "cd /run/e2b; cat .E2B_SANDBOX; echo; cat .E2B_SANDBOX_ID; echo; cat .E2B_TEMPLATE_ID") == (
        f"true\n{sandbox.sandbox_id}\nbase"
    )
    info = sandbox.get_info()
    assert (info.sandbox_id, info.template_id, info.metadata) == (sandbox.sandbox_id, "base", {"user": "ann"})
    assert (info.cpu_count, info.memory_mb, info.state) == (2, 2048, SandboxState.RUNNING)
    assert 110 < (info.end_at - info.started_at).total_seconds() <= 121
    assert sandbox.is_running()
    assert sandbox.kill() is True
    assert sandbox.kill() is False
    assert not sandbox.is_running()
    with pytest.raises(SandboxNotFoundException):
        Sandbox.connect(sandbox.sandbox_id, **account)


def test_an_async_client_does_the_same(account):
    async def live() -> None:
        sandbox = await AsyncSandbox.create("base", **account)
        try:
            assert (await sandbox.commands.run("echo $E2B_SANDBOX")).stdout == "true\n"
            await sandbox.pause()
            await sandbox.connect()
            assert (await sandbox.get_info()).state is SandboxState.RUNNING
        finally:
            assert await sandbox.kill()

    asyncio.run(live())


def test_a_pause_keeps_every_process_and_connect_brings_them_back(make, account):
    sandbox = make(envs={"KEPT": "yes"})
    job = sandbox.commands.run("sleep 1000", background=True)
    until(lambda: said(sandbox, f"cat /proc/{job.pid}/comm") == "sleep", "it is that program")
    boot = said(sandbox, BOOT_ID)
    assert sandbox.pause() is True
    assert sandbox.pause() is False
    assert sandbox.get_info().state is SandboxState.PAUSED
    assert not sandbox.is_running()
    again = Sandbox.connect(sandbox.sandbox_id, timeout=300, **account)
    assert said(again, f"cat /proc/{job.pid}/comm; echo $KEPT; {BOOT_ID}") == f"sleep\nyes\n{boot}"


def test_a_pause_of_the_filesystem_alone_is_a_cold_start_later(make, account):
    sandbox = make(envs={"KEPT": "yes"})
    sandbox.commands.run("sleep 1000", background=True)
    said(sandbox, "echo written > note")
    boot = said(sandbox, BOOT_ID)
    assert sandbox.pause(keep_memory=False) is True
    assert sandbox.get_info().state is SandboxState.PAUSED
    again = Sandbox.connect(sandbox.sandbox_id, **account)
    note, kept, id_file, new_boot = said(
        again, f"cat note; echo $KEPT; cat /run/e2b/.E2B_SANDBOX_ID; echo; {BOOT_ID}"
    ).split("\n")
    assert (note, kept, id_file) == ("written", "yes", sandbox.sandbox_id)
    assert new_boot != boot
    assert again.commands.run("pgrep -x sleep || true").stdout == ""


def test_its_boot_is_its_own_and_not_the_hosts(make):
    first, second = make(), make()
    with open("/proc/sys/kernel/random/boot_id") as file:
        host = file.read().strip()
    boots = {said(first, BOOT_ID), said(second, BOOT_ID), host}
    assert len(boots) == 3
    assert said(first, f"{BOOT_ID} > /dev/null && ls -A /dev/shm") == ""
    assert first.commands.run("echo x > /proc/sys/kernel/random/boot_id || true", user="root").stderr


def test_a_timeout_of_nothing_ends_it(make):
    sandbox = make()
    sandbox.set_timeout(0)
    assert not sandbox.is_running()
    with pytest.raises(SandboxNotFoundException):
        sandbox.get_info()


def test_a_timeout_kills(make):
    sandbox = make(timeout=1)
    until(lambda: not sandbox.is_running(), "its second is over")
    with pytest.raises(SandboxNotFoundException):
        sandbox.set_timeout(10)


def test_traffic_wakes_what_its_timeout_has_paused(make, stack):
    sandbox = make(timeout=60, lifecycle={"on_timeout": "pause", "auto_resume": True})
    sandbox.commands.run("python3 -m http.server 3000", background=True)
    headers = {"E2b-Sandbox-Id": sandbox.sandbox_id, "E2b-Sandbox-Port": "3000"}
    until(lambda: httpx.get(stack.url, headers=headers).status_code == 200, "it listens")
    sandbox.set_timeout(3)
    until(lambda: sandbox.get_info().state is SandboxState.PAUSED, "its seconds are over")
    assert httpx.get(stack.url, headers=headers, timeout=30).status_code == 200
    assert sandbox.get_info().state is SandboxState.RUNNING
    until(lambda: sandbox.get_info().state is SandboxState.PAUSED, "its seconds are over again")
    assert said(sandbox, "echo here") == "here"


def test_connect_never_shortens_and_set_timeout_may(make, account):
    sandbox = make(timeout=1000)
    end = sandbox.get_info().end_at
    Sandbox.connect(sandbox.sandbox_id, timeout=10, **account)
    assert sandbox.get_info().end_at >= end
    sandbox.set_timeout(10)
    assert sandbox.get_info().end_at < end


# ---- found again


def test_lists_find_by_state_and_metadata_in_pages(make, account):
    tag = {"who": "a&b =ü%", "run": str(time.monotonic_ns())}
    boxes = [make(metadata=tag) for _ in range(3)]
    boxes[0].pause()

    def found(limit: int = 100, **query: Any) -> list[str]:
        pages, ids = Sandbox.list(query=SandboxQuery(metadata=tag, **query), limit=limit, **account), []
        while pages.has_next:
            ids += [each.sandbox_id for each in pages.next_items()]
        return ids

    ids = [box.sandbox_id for box in boxes]
    assert found() == found(limit=1) == ids[::-1]
    assert found(state=[SandboxState.PAUSED]) == ids[:1]
    assert found(state=[SandboxState.RUNNING]) == ids[:0:-1]


def test_metrics_are_there(make):
    sandbox = make()
    sandbox.commands.run("head -c 20000000 /dev/urandom > big")
    metric = sandbox.get_metrics()[-1]
    assert (metric.cpu_count, metric.mem_total, metric.disk_total) == (2, 2048 << 20, 10240 << 20)
    assert 0 < metric.mem_used < metric.mem_total
    assert metric.mem_cache > 0
    assert 0 < metric.disk_used < metric.disk_total
    assert 0 <= metric.cpu_used_pct <= 100


def test_templates_exist_or_do_not(account, code_interpreter_v1):
    opts = {"api_key": account["api_key"], "api_url": account["api_url"]}
    assert Template.exists("base", **opts)
    assert Template.exists(code_interpreter_v1, **opts)
    assert not Template.exists("none", **opts)


# ---- refused


def test_copies_of_what_runs_are_refused_and_the_message_is_shown(make):
    sandbox = make()
    with pytest.raises(SandboxException, match=r"501: The native engine cannot copy the memory .* microVM"):
        sandbox.create_snapshot()
    with pytest.raises(SandboxException, match="microVM"):
        sandbox.fork()
    assert sandbox.is_running()


def test_wrong_keys_and_templates_are_said(account):
    with pytest.raises(AuthenticationException):
        Sandbox.create("base", **{**account, "api_key": "e2b_" + "0" * 40})
    with pytest.raises(SandboxException, match="template 'none' not found"):
        Sandbox.create("none", **account)


def test_the_same_idempotency_key_is_the_same_sandbox(make, account):
    key = f"order-{time.monotonic_ns()}"
    first, again = make(idempotency_key=key), make(idempotency_key=key)
    assert first.sandbox_id == again.sandbox_id
    with pytest.raises(SandboxException, match="422"):
        Sandbox.create("base", metadata={"another": "request"}, idempotency_key=key, **account)


# ---- the network's other side


def test_ports_are_public_unless_a_token_is_asked_for(make, stack):
    sandbox = make(network={"allow_public_traffic": False})
    sandbox.commands.run("python3 -m http.server 3000", background=True)
    headers = {"E2b-Sandbox-Id": sandbox.sandbox_id, "E2b-Sandbox-Port": "3000"}
    refused = httpx.get(stack.url, headers=headers)
    assert refused.status_code == 403
    assert "'e2b-traffic-access-token' is missing" in refused.json()["message"]
    let_in = {**headers, "e2b-traffic-access-token": sandbox.traffic_access_token}
    until(lambda: httpx.get(stack.url, headers=let_in).status_code == 200, "the program listens")


def test_rules_can_be_changed_while_it_runs(make):
    sandbox = make()
    sandbox.update_network({"deny_out": ["0.0.0.0/0"], "allow_out": ["1.1.1.1"]})
    shown = sandbox.get_info().network
    assert (shown["deny_out"], shown["allow_out"]) == (["0.0.0.0/0"], ["1.1.1.1"])
    with pytest.raises(SandboxException, match=r"invalid denied CIDR example\.com"):
        sandbox.update_network({"deny_out": ["example.com"]})


# ---- the older generation, and by name


def test_the_first_generation_is_served_too(stack):
    headers = {"X-API-KEY": stack.installation.api_key}
    with httpx.Client(base_url=stack.url, headers=headers, timeout=60) as client:
        made = client.post("/sandboxes", json={"templateID": "base", "secure": True, "timeout": 60}).json()
        path = f"/sandboxes/{made['sandboxID']}"
        leaked = {"Novita-Sandbox-Id": made["sandboxID"], "Novita-Sandbox-Port": "49983"}
        again = client.post(f"{path}/connect", json={"timeout": 60}, headers=leaked)
        assert (again.status_code, again.json()) == (200, made)
        assert made["sandboxID"] in [each["sandboxID"] for each in client.get("/sandboxes").json()]
        assert client.get(f"/v2{path}/logs").json()["logs"][0]["message"] == "sandbox.create: ok"
        assert client.post(f"{path}/timeout", json={"timeout": 0}).status_code == 204
        gone = client.get(path)
        assert (gone.status_code, gone.json()["code"]) == (404, 404)
        unknown = client.get("/v2/nothing")
        assert (unknown.status_code, unknown.json()["code"]) == (404, 404)


BY_NAME = """
import json, urllib.request
from e2b import Sandbox
sandbox = Sandbox.create("code-interpreter")
try:
    print(sandbox.commands.run("echo $E2B_SANDBOX").stdout.strip())
    server = sandbox.commands.run("python3 -m http.server 3000", background=True)
    url = "https://" + sandbox.get_host(3000)
    while True:
        try:
            print(urllib.request.urlopen(url, timeout=30).status)
            break
        except urllib.error.HTTPError as error:
            assert error.code == 502, error
finally:
    print(sandbox.kill())
try:
    urllib.request.urlopen(url, timeout=30)
except urllib.error.HTTPError as error:
    print(error.code, json.load(error)["message"])
"""


def test_a_domain_and_a_key_are_all_it_takes(named_stack: Stack, names):
    authority = str(named_stack.installation.places.tls / "ca.pem")
    said = names.python(
        BY_NAME,
        E2B_DOMAIN=f"{DOMAIN}:{named_stack.port}",
        E2B_API_KEY=named_stack.installation.api_key,
        SSL_CERT_FILE=authority,
    )
    assert said.splitlines() == ["true", "200", "True", "502 The sandbox was not found"]
