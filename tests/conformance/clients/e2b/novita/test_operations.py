"""What Novita's package has beside E2B's: operations on a sandbox while it is there, and on the account."""

from __future__ import annotations

import time

import e2b
import httpx
import pytest
from place import PLACE
from talk import BOOT_ID, IMPOSSIBLE_ID, URL, routed, said
from waiting import until

covers = pytest.mark.covers


def memory_mib(sandbox):
    return sandbox.get_info().memory_mb, sandbox.get_metrics()[-1].mem_total >> 20


# ---- made


@covers("Sandbox.create")
def test_create_takes_what_was_once_its_own_parameter(own):
    made = own(auto_pause=True, timeout=1)
    until(lambda: made.get_info().state is e2b.SandboxState.PAUSED, "its end")
    assert made.get_info().lifecycle == {"on_timeout": "pause", "auto_resume": False}


@covers("Sandbox.create", "21 a machine that is not there is refused")
def test_create_on_a_machine(client):
    with pytest.raises(e2b.SandboxException, match="elsewhere"):
        client.create(node_id="elsewhere")


@covers("Sandbox.beta_create")
def test_the_earlier_create(client, volumes, make, named):
    volume = volumes.create(named("vol"))
    made = client.beta_create(
        "base", timeout=60, auto_pause=True, metadata={"a": "b"}, envs={"X": "1"}, secure=True,
        volume_mounts={"/mnt/v": volume._subject},
    )  # fmt: skip
    assert said(made, "echo $X; mountpoint -q /mnt/v && echo there") == "1\nthere"
    assert made.get_info().volume_mounts == [{"name": volume.name, "path": "/mnt/v"}]
    made.kill()


# ---- paused


@covers("Sandbox.pause", "Sandbox.beta_pause")
def test_a_pause_that_is_waited_for(own, client):
    made = own()
    made.beta_pause(sync=True)
    assert made.is_running() is False
    client.connect(made.sandbox_id)
    for pause in (client.pause, client.beta_pause):
        pause(made.sandbox_id, sync=True)
        assert made.is_running() is False
        made.connect(timeout=60)


# ---- reached again


@covers("21.2 after a connect the token alone leads to the sandbox")
def test_connect_tells_the_token_alone(own, client):
    made = own()
    again = client.connect(made.sandbox_id)
    sent = again.connection_config.sandbox_headers
    assert {name for name in sent if "sandbox-id" in name.lower()} == set()
    assert said(again, "echo there") == "there"


@covers("Sandbox.connect")
def test_connect_may_change_who_gets_in(own, client):
    made = own()
    assert made.traffic_access_token is None
    again = client.connect(made.sandbox_id, secure=True, allow_public_traffic=False)
    token = again.traffic_access_token
    assert token
    again.commands.run("python3 -m http.server 3000", background=True)
    inside = {**routed(made, 3000), "e2b-traffic-access-token": token}
    until(lambda: httpx.get(URL, headers=inside).status_code == 200, "it listens")
    assert httpx.get(URL, headers=routed(made, 3000)).status_code == 403
    made.connect(network={"allow_public_traffic": True})
    assert httpx.get(URL, headers=routed(made, 3000)).status_code == 200


# ---- reset


@covers("Sandbox.reset", "21.4 a reset: another boot_id, no process, the same disk and id")
def test_reset_begins_anew(own, client):
    made = own(envs={"KEPT": "yes"}, metadata={"who": "ann"})
    boot = said(made, BOOT_ID)
    said(made, "touch /home/user/mine")
    made.commands.run("sleep 1000", background=True)
    assert made.reset(resume=True, timeout=200) is True
    assert made.is_running() is True
    assert said(made, "echo $KEPT; ls /home/user; pgrep -c sleep || true") == "yes\nmine\n0"
    assert said(made, BOOT_ID) != boot
    assert made.get_info().metadata == {"who": "ann"}
    assert client.reset(sandbox_id=made.sandbox_id) is True
    assert said(made, "echo there") == "there"


@covers("Sandbox.reset")
def test_reset_may_leave_it_paused(own, client):
    made = own()
    assert client.reset(made.sandbox_id, resume=False) is True
    assert made.get_info().state is e2b.SandboxState.PAUSED
    client.connect(made.sandbox_id)
    assert said(made, "echo there") == "there"


@covers("Sandbox.reset")
def test_reset_may_change_who_gets_in(own):
    made = own()
    assert made.reset(secure=True, allow_public_traffic=False) is True
    assert made.traffic_access_token
    assert httpx.get(URL, headers=routed(made, 3000)).status_code == 403
    assert made.reset(network={"allow_public_traffic": True, "deny_out": [e2b.ALL_TRAFFIC]}) is True
    assert httpx.get(URL, headers=routed(made, 3000), timeout=30).status_code == 502
    assert made.get_info().network["deny_out"] == ["0.0.0.0/0"]


@covers("21.4 operations on an unknown sandbox: 404")
def test_operations_on_nothing(client):
    for call in (client.reset, client.set_network):
        with pytest.raises(e2b.NotFoundException):
            call(IMPOSSIBLE_ID)


@pytest.mark.refused
@covers("21.4 operations on an unknown sandbox: 404")
def test_copies_of_nothing(client):
    for call in (client.commit, client.clone):
        with pytest.raises(e2b.NotFoundException):
            call(IMPOSSIBLE_ID)


# ---- memory


@covers("Sandbox.hotplug_memory", "21.4 memory is added to what it had, and given back")
def test_memory_is_added(own):
    made = own()
    assert memory_mib(made) == (2048, 2048)
    made.hotplug_memory(requested_size_mib=256)
    assert memory_mib(made) == (2304, 2304)
    made.hotplug_memory(0)
    assert memory_mib(made) == (2048, 2048)


@covers("Sandbox.resize")
def test_memory_is_added_by_its_later_name(own):
    made = own()
    made.resize(memory_mib=512)
    assert memory_mib(made) == (2560, 2560)


# ---- the way out


@covers("Sandbox.set_network", "21.4 PUT …/network replaces the lists")
def test_the_lists_are_replaced(own, client):
    made = own()
    made.set_network(allow_out=["192.0.2.0/24"], deny_out=[e2b.ALL_TRAFFIC])
    found = made.get_info().network
    assert (found["allow_out"], found["deny_out"]) == (["192.0.2.0/24"], ["0.0.0.0/0"])
    client.set_network(sandbox_id=made.sandbox_id, allow_out=[], deny_out=["1.1.1.1"])
    assert made.get_info().network["deny_out"] == ["1.1.1.1"]


# ---- copies


@pytest.mark.refused
@covers("21.4 copies of memory are refused with a message that names an engine which can")
def test_copies_are_refused(own, client):
    made = own()
    for call in (
        lambda: client.clone(made.sandbox_id, 2, strict=True),
        lambda: made.commit(alias="mine"),
        lambda: client.commit(made.sandbox_id),
        made.create_snapshot,
    ):
        with pytest.raises(e2b.SandboxException, match=r"501.*engine"):
            call()
    assert said(made, "echo unharmed") == "unharmed"


# ---- the account


@covers("Sandbox.get_quota", "21.4 GET /sandboxes/quota: limits and use")
def test_the_quota_counts_sandboxes(own, client):
    own()
    found, none = client.get_quota(), client.get_quota(api_key=PLACE["poor_key"])
    assert found.usage.concurrent_instances >= 1
    assert found.usage.concurrent_vcpu == 2 * found.usage.concurrent_instances
    assert found.usage.concurrent_ram_mb >= 2048 * found.usage.concurrent_instances
    assert (none.limit.concurrent_instances, none.usage.concurrent_instances) == (0, 0)
    limit = found.limit
    assert limit.concurrent_instances >= found.usage.concurrent_instances
    assert limit.concurrent_vcpu >= found.usage.concurrent_vcpu
    assert limit.concurrent_ram_mb >= found.usage.concurrent_ram_mb
    assert limit.max_length_hours > 0
    assert limit.disk_mb >= 10240
    assert limit.max_vcpu >= 2
    assert limit.max_ram_mb >= 2048


@covers("Sandbox.get_events", "21.4 GET /sandboxes/events: what happened, filtered and in pages")
def test_events_tell_what_happened(own, client):
    made = own()
    made.pause()
    made.connect()
    made.kill()
    known = {"sandbox_id": made.sandbox_id, "order_asc": True}
    found = client.get_events(**known)
    assert [each.event_name for each in found.items] == ["create", "pause", "connect", "delete"]
    assert (found.total, found.has_more) == (4, False)
    first = found.items[0]
    assert (first.sandbox_id, first.template_id, first.template_name) == (made.sandbox_id, "base", "base")
    assert (first.state, first.error_msg, first.status_code) == ("success", "", 201)
    assert abs(first.record_at - time.time()) < 600
    assert first.event_id
    page = client.get_events(**known, offset=1, limit=2)
    assert [each.event_name for each in page.items] == ["pause", "connect"]
    assert (page.total, page.has_more) == (4, True)
    chosen = client.get_events(sandbox_id=made.sandbox_id, events="pause,delete", template_id="base", state="success")
    assert [each.event_name for each in chosen.items] == ["delete", "pause"]
    now = int(time.time())
    assert client.get_events(**known, start_time=now - 7200, end_time=now - 3600).items == []


# ---- templates


@covers("Template.list", "TemplateList.items", "21.4 GET /v2/templates: pages with their number")
def test_templates_in_pages(templates):
    found = templates.list(template_type="template_build", page=1, limit=100)
    assert found.page == 1
    assert found.limit == 100
    assert found.total == len(found.items) >= 2
    assert found.total_pages == 1
    (base,) = [each for each in found.items if "base" in each.names]
    assert base.template_id
    assert base.build_id
    assert "base" in base.aliases
    assert (base.template_type, base.build_status) == ("template_build", "ready")
    assert base.build_count >= 1
    assert (base.cpu_count, base.memory_mb, base.disk_size_mb) == (2, 2048, 10240)
    assert base.spawn_count >= 0
    assert base.envd_version
    assert base.public in (True, False)
    assert not base.metadata
    assert base.created_at <= base.updated_at
    assert (base.last_spawned_at, base.created_by) == (None, None) or base.last_spawned_at
    assert templates.list(template_type="snapshot_template").items == []


@covers("Template.get")
def test_one_template(templates):
    assert "base" in templates.get("base").aliases
    assert templates.get(template_id="base").template_id == "base"


@covers("Template.delete", "21.4 DELETE /templates/{id}: templates of the installation stay")
def test_templates_of_the_installation_stay(templates):
    assert templates.delete(template_id="no-such-template") is False
    with pytest.raises(e2b.SandboxException):
        templates.delete("base")
    assert templates.exists("base")
