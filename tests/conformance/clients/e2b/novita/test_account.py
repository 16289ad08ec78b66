"""`Novita(…)`: one object with an account for all calls. It makes the sync client's objects."""

from __future__ import annotations

import e2b
import pytest
from novita_sandbox import code_interpreter, desktop
from place import PLACE
from talk import URL, pages, said

covers = pytest.mark.covers

CALLS = ("create", "beta_create", "connect", "get", "list", "kill", "set_timeout", "get_info", "get_metrics", "pause")
CALLS += (
    "beta_pause",
    "reset",
    "set_network",
    "list_snapshots",
    "delete_snapshot",
    "get_quota",
    "get_events",
    "resize",
)
PARTS = {"sandbox": "base", "code_interpreter": "code-interpreter-v1"}
"""Those with the same calls, and what they make sandboxes of."""


@pytest.fixture
def account(monkeypatch):
    for name in ("API_KEY", "API_URL", "SANDBOX_URL"):
        monkeypatch.delenv(f"NOVITA_{name}")
    return e2b.Novita(
        api_key=PLACE["key"],
        api_url=URL,
        sandbox_url=URL,
        domain="sandboxes.example.com",
        request_timeout=30,
        headers={"X-Mine": "1"},
    )


@covers("Novita", "Novita.create", "Novita.connect", "Novita.get")
def test_an_account_is_kept(account):
    made = account.create("base", timeout=60)
    assert said(made, "echo by the account") == "by the account"
    for again in (account.connect(made.sandbox_id), account.get(sandbox_id=made.sandbox_id)):
        assert again.get_info().sandbox_id == made.sandbox_id
        assert again.get_host(80) == f"80-{made.sandbox_id}.sandboxes.example.com"
    assert made.kill() is True


@covers("Novita")
def test_every_option_of_an_account(proxy):
    address, asked = proxy
    more = {"X-Mine-Too": "1"}
    account = e2b.Novita(
        api_key=PLACE["key"],
        api_url=URL,
        sandbox_url=URL,
        domain="sandboxes.example.com",
        request_timeout=30,
        headers={"X-Mine": "1"},
        debug=False,
        access_token="is not looked at",
        extra_sandbox_headers=more,
        proxy=address,
    )
    assert account.template.exists("base")
    assert asked


@pytest.mark.parametrize(
    "part", [pytest.param(each, marks=covers(*(f"Novita.{each}.{call}" for call in CALLS))) for each in PARTS]
)
def test_calls_on_sandboxes(account, part):
    calls = getattr(account, part)
    made = calls.create(timeout=60)
    try:
        info = calls.get_info(sandbox_id=made.sandbox_id)
        assert (info.sandbox_id, info.template_id) == (made.sandbox_id, PARTS[part])
        assert type(calls.connect(sandbox_id=made.sandbox_id)) is type(calls.get(sandbox_id=made.sandbox_id))
        assert made.sandbox_id in [each.sandbox_id for each in pages(calls.list())]
        assert calls.get_metrics(sandbox_id=made.sandbox_id)[-1].cpu_count == info.cpu_count
        calls.set_timeout(sandbox_id=made.sandbox_id, timeout=500)
        calls.set_network(sandbox_id=made.sandbox_id, deny_out=["1.1.1.1"])
        calls.resize(sandbox_id=made.sandbox_id, memory_mib=128)
        changed = calls.get_info(made.sandbox_id)
        assert changed.end_at > info.end_at
        assert changed.network["deny_out"] == ["1.1.1.1"]
        assert changed.memory_mb == info.memory_mb + 128
        calls.pause(sandbox_id=made.sandbox_id)
        assert calls.get_info(made.sandbox_id).state is e2b.SandboxState.PAUSED
        calls.connect(made.sandbox_id)
        calls.beta_pause(sandbox_id=made.sandbox_id)
        assert calls.reset(sandbox_id=made.sandbox_id) is True
        assert said(made, "echo there") == "there"
        assert list(pages(calls.list_snapshots())) == []
        assert calls.delete_snapshot(snapshot_id="no-such-snapshot") is False
        assert calls.get_quota().usage.concurrent_instances >= 1
        assert calls.get_events(sandbox_id=made.sandbox_id).total >= 5
    finally:
        assert calls.kill(sandbox_id=made.sandbox_id) is True
    other = calls.beta_create(timeout=60)
    assert calls.kill(other.sandbox_id) is True


@covers(*(f"Novita.template.{call}" for call in ("list", "get", "delete", "exists", "alias_exists", "get_tags")))
def test_calls_on_templates(account):
    calls = account.template
    assert "base" in [name for each in calls.list() for name in each.names]
    assert calls.exists(name="base")
    assert calls.alias_exists(alias="base")
    assert calls.get(template_id="base").names == ["base"]
    assert [each.tag for each in calls.get_tags(template_id="base")] == ["default"]
    assert calls.delete(template_id="no-such-template") is False


@covers(*(f"Novita.volume.{call}" for call in ("create", "connect", "get_info", "list", "update_quota", "destroy")))
def test_calls_on_volumes(account, named):
    calls = account.volume
    made = calls.create(name=named("vol"))
    assert calls.connect(volume_id=made.volume_id).name == made.name
    assert calls.get_info(volume_id=made.volume_id).name == made.name
    assert made.name in [each.name for each in calls.list()]
    assert calls.update_quota(volume_id=made.volume_id, quota_size_gib=20).quota_size_gib == 20
    assert calls.destroy(volume_id=made.volume_id) is True


@covers(*(f"Novita.secret.{call}" for call in ("create", "list", "get", "update", "delete")))
def test_calls_on_secrets(account, named):
    calls, name = account.secret, named("key")
    made = calls.create(name=name, value="hush", hosts=["api.example.com"], description="mine")
    assert calls.get(name=name) == made
    assert name in [each.name for each in calls.list()]
    assert calls.update(name=name, value="x", hosts=["www.example.com"], description="yours").description == "yours"
    assert calls.delete(name=name) == name


PUBLIC = ("Sandbox", "AsyncSandbox", "Context", "Execution", "ExecutionError", "Result", "MIMEType", "Logs")


@covers(*(f"Novita.code_interpreter.{name}" for name in (*PUBLIC, "OutputMessage")), "Novita.desktop.Sandbox")
def test_the_classes_of_other_modules(account):
    for name in (*PUBLIC, "OutputMessage"):
        assert getattr(account.code_interpreter, name) is getattr(code_interpreter, name)
    assert account.desktop.Sandbox is desktop.Sandbox
