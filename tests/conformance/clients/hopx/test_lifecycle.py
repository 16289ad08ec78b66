"""The life of a sandbox, and what the control plane says of it."""

from __future__ import annotations

import json
import os
import re
from datetime import UTC, datetime, timedelta

import hopx_ai
import httpx
import pytest
from package import VERSION
from talk import IMPOSSIBLE_ID, gone, shell
from waiting import until

covers = pytest.mark.covers
PLACE = json.loads(os.environ["ATOLL_CONFORMANCE"])


def ids(found):
    return [each.sandbox_id for each in found]


@covers("Sandbox.create", "Sandbox.get_info")
def test_a_new_sandbox_says_what_it_is(sandbox, kind):
    info = sandbox.get_info()
    assert info.sandbox_id == sandbox.sandbox_id
    assert info.status == "running"
    assert (info.template_id, info.template_name) == ("code-interpreter", "code-interpreter")
    assert int(info.organization_id) >= 0
    if info.resources is None:
        assert (kind, VERSION) == ("async", "0.1.12"), "which does not read them"
        return
    assert (info.resources.vcpu, info.resources.memory_mb, info.resources.disk_mb) == (2, 2048, 10240)
    assert info.region == "local"
    assert info.node_id
    assert info.public_host.startswith("http")
    assert (
        datetime.now(UTC) - timedelta(minutes=5) < _moment(info.created_at) < datetime.now(UTC) + timedelta(minutes=1)
    )
    assert info.started_at is None, "no version of the client fills it"
    assert info.end_at == getattr(info, "expires_at", None), "the old name of the same"


@covers("Sandbox.create", "SandboxInfo.direct_url")
def test_a_new_sandbox_says_its_addresses_and_rules(sandbox, own):
    info = sandbox.get_info()
    assert info.direct_url.startswith("http")
    assert info.preview_url.startswith("http")
    assert info.internet_access is True
    assert info.live_mode is True
    assert info.timeout_seconds is None
    limited = own(timeout_seconds=300, internet_access=False).get_info()
    assert (limited.timeout_seconds, limited.internet_access) == (300, False)
    left = limited.expires_at - datetime.now(UTC)
    assert timedelta(seconds=280) < left <= timedelta(seconds=300)
    assert limited.end_at == limited.expires_at


def _moment(value):
    """Old versions leave it a string."""
    return value if isinstance(value, datetime) else datetime.fromisoformat(value)


@covers("Sandbox.create")
def test_create_takes_a_template_by_id_and_a_region(own):
    info = own(template=None, template_id="base", region="local").get_info()
    assert (info.template_name, info.region) == ("base", "local")


@covers("Sandbox.create")
def test_create_refuses_a_region_that_is_not_there(client, account):
    with pytest.raises(hopx_ai.ValidationError, match="local"):
        client.create(template="base", region="nowhere-1", **account)


@covers("Sandbox.create")
def test_create_gives_the_variables_to_whatever_runs(own):
    made = own(template="code-interpreter", env_vars={"GREETING": "hei", "EMPTY": ""})
    assert shell(made, 'echo "$GREETING[$EMPTY]"') == "hei[]"
    assert made.run_code("import os; print(os.environ['GREETING'])").stdout == "hei\n"


@covers("Sandbox.create")
def test_without_internet_access_nothing_is_reached(own):
    made = own(internet_access=False)
    assert shell(made, "curl -s --max-time 3 http://192.0.2.1/ >/dev/null; echo $?") in ("6", "7", "28")


@covers("Sandbox.create")
def test_a_sandbox_ends_when_its_time_is_over(own):
    made = own(timeout_seconds=1)
    until(lambda: gone(made), "its end")


@covers("Sandbox.list", "Sandbox.iter")
def test_list_and_iter_choose(sandbox, client, account):
    here = sandbox.sandbox_id
    assert here in ids(client.list(**account))
    for choose in (client.list, client.iter):
        assert here in ids(choose(status="running", **account))
        assert here not in ids(choose(status="paused", **account))
        assert here in ids(choose(region="local", **account))
        assert ids(choose(region="elsewhere", **account)) == []


@covers("Sandbox.list")
def test_list_gives_no_more_than_its_limit(sandbox, own, client, account):
    own(template="base")
    assert len(client.list(limit=1, **account)) == 1
    assert len(client.list(limit=2, **account)) == 2


@covers("Sandbox.connect")
def test_connect_gives_the_same_sandbox(sandbox, client, account):
    shell(sandbox, "echo yes > /workspace/connected")
    again = client.connect(sandbox.sandbox_id, **account)
    assert shell(again, "cat /workspace/connected") == "yes"


@covers("Sandbox.connect")
def test_connect_finds_it_and_nothing_else(sandbox, client, account):
    assert client.connect(sandbox.sandbox_id, **account).get_info().sandbox_id == sandbox.sandbox_id
    with pytest.raises(hopx_ai.NotFoundError):
        client.connect(IMPOSSIBLE_ID, **account)


@covers("Sandbox")
def test_an_object_is_a_handle_that_asks_nobody(sandbox, client, account):
    made = client(sandbox.sandbox_id, timeout=20, max_retries=0, **account)
    assert made.get_info().status == "running"
    with pytest.raises(hopx_ai.NotFoundError):
        client(IMPOSSIBLE_ID, **account).get_info()


@covers("Sandbox.pause", "Sandbox.resume")
def test_pause_and_resume_say_so(own):
    made = own()
    made.pause()
    assert made.get_info().status == "paused"
    made.pause()
    made.resume()
    assert made.get_info().status == "running"
    made.resume()


@covers("Sandbox.pause", "Sandbox.resume", "HopxError")
def test_pause_freezes_and_resume_goes_on(own):
    made = own(template="code-interpreter")
    shell(made, "nohup sh -c 'while :; do echo x >> /workspace/ticks; sleep 0.01; done' >/dev/null 2>&1 & echo $!")
    made.run_code("kept = 41")
    made.pause()
    with pytest.raises(hopx_ai.HopxError, match=r"paused|409") as caught:
        made.run_code("print(1)")
    assert isinstance(caught.value, hopx_ai.AgentError)
    made.resume()
    assert made.run_code("print(kept + 1)").stdout == "42\n"
    before = int(shell(made, "wc -l < /workspace/ticks"))
    until(lambda: int(shell(made, "wc -l < /workspace/ticks")) > before, "the next tick")


@covers("Sandbox.pause", "Sandbox.connect")
def test_connect_wakes_a_paused_one(own, client, account, kind):
    if kind == "async":
        pytest.skip("the async client's connect asks whether it is there, and no more")
    made = own()
    made.pause()
    assert client.connect(made.sandbox_id, **account).get_info().status == "running"


@covers("Sandbox.stop", "Sandbox.start")
def test_stop_keeps_the_disk_and_start_goes_on(own):
    made = own()
    shell(made, "echo kept > /workspace/kept; nohup sleep 616 >/dev/null 2>&1 & true")
    made.stop()
    assert made.get_info().status == "stopped"
    made.start()
    assert made.get_info().status == "running"
    assert shell(made, "cat /workspace/kept; pgrep -fc 'sleep 61[6]' || true") == "kept\n0"


@covers("Sandbox.stop", "Sandbox.start")
def test_stop_and_start_say_so(own):
    made = own()
    made.stop()
    assert made.get_info().status == "stopped"
    made.start()
    assert made.get_info().status == "running"


@covers("Sandbox.kill", "NotFoundError")
def test_kill_is_for_ever(own):
    made = own()
    made.kill()
    for call in (made.get_info, made.pause, made.kill):
        with pytest.raises(hopx_ai.NotFoundError) as caught:
            call()
        assert caught.value.status_code == 404


def test_a_with_block_kills_at_its_end(client, account):
    with client.create(template="base", **account) as made:
        assert made.get_info().status == "running"
    with pytest.raises(hopx_ai.NotFoundError):
        made.get_info()


@covers("Sandbox.set_timeout", "SandboxInfo.expires_at")
def test_set_timeout_moves_the_end(own):
    made = own()
    made.set_timeout(600)
    info = made.get_info()
    assert info.timeout_seconds == 600
    assert timedelta(seconds=590) < info.expires_at - datetime.now(UTC) <= timedelta(seconds=600)
    for wrong in (0, -1, 10**7):
        with pytest.raises(hopx_ai.ValidationError):
            made.set_timeout(wrong)
    made.set_timeout(seconds=1)
    until(lambda: gone(made), "its end")


@covers("Sandbox.get_time_to_expiry", "Sandbox.is_expiring_soon", "Sandbox.get_expiry_info")
def test_the_end_is_known_beforehand(own):
    made = own()
    assert made.get_time_to_expiry() > 600, "it ends when nobody uses it"
    assert not made.is_expiring_soon()
    made.set_timeout(600)
    assert 590 <= made.get_time_to_expiry() <= 600
    assert not made.is_expiring_soon()
    assert made.is_expiring_soon(threshold_seconds=700)
    found = made.get_expiry_info()
    assert (found.has_timeout, found.is_expired, found.is_expiring_soon) == (True, False, False)
    assert 590 <= found.time_to_expiry <= 600
    assert found.expires_at == made.get_info().expires_at
    assert made.get_expiry_info(expiring_soon_threshold=700).is_expiring_soon


@covers("Sandbox.is_healthy", "Sandbox.ensure_healthy")
def test_health_follows_the_sandbox(own):
    made = own()
    assert made.is_healthy() is True
    made.ensure_healthy()
    made.pause()
    assert made.is_healthy() is False
    with pytest.raises(hopx_ai.HopxError) as caught:
        made.ensure_healthy()
    assert caught.value.code == "sandbox_unhealthy"
    made.kill()
    with pytest.raises(hopx_ai.NotFoundError):
        made.ensure_healthy()


@covers("Sandbox.health_check")
def test_health_of_the_service_needs_no_key(client, account):
    assert client.health_check(base_url=account["base_url"])["status"] == "ok"


@covers("Sandbox.get_token", "Sandbox.refresh_token")
def test_a_refreshed_token_is_another_and_works(sandbox):
    before = sandbox.get_token()
    sandbox.refresh_token()
    assert sandbox.get_token() != before
    assert sandbox.run_code("print(1)").stdout == "1\n"


@covers("Sandbox.refresh_token")
def test_a_token_can_be_refreshed(sandbox):
    sandbox.refresh_token()
    assert shell(sandbox, "echo 1") == "1"


@covers("Sandbox.debug")
def test_debug_needs_the_agent_only(sandbox, client):
    token, url = sandbox.get_token(), sandbox.get_info().public_host
    direct = client.debug(url, token, sandbox.sandbox_id)
    assert direct.run_code("print('direct')").stdout == "direct\n"
    with_words = client.debug(agent_url=url, jwt_token=token, sandbox_id=f"{sandbox.sandbox_id}-debugged")
    assert with_words.run_code("print('direct')").stdout == "direct\n"


@covers("Sandbox.list_templates", "Sandbox.get_template")
def test_templates_are_listed_and_found(client, account):
    found = {each.name: each for each in client.list_templates(**account)}
    assert {"base", "code-interpreter", "busybox"} <= set(found)
    in_python = client.list_templates(language="python", **account)
    assert {each.language for each in in_python} == {"python"}
    assert "code-interpreter" in {each.name for each in in_python}
    category = found["base"].category
    assert {each.category for each in client.list_templates(category=category, **account)} == {category}
    assert client.list_templates(category="no-such-category", **account) == []
    template = client.get_template(name="code-interpreter", **account)
    assert (template.id, template.name, template.language) == ("code-interpreter", "code-interpreter", "python")
    assert template.display_name
    assert template.description
    assert template.is_active is True
    assert (template.icon, template.docs_url, template.popularity_score) == (None, None, None), "stock ones have none"
    for size in (template.default_resources, template.min_resources, template.max_resources):
        assert size.vcpu >= 1
        assert size.memory_mb >= 1
        assert size.disk_gb >= 1
    assert template.default_resources.memory_mb == 2048
    assert "python" in " ".join(template.features + template.tags).lower()
    with pytest.raises(hopx_ai.NotFoundError):
        client.get_template("no-such-template", **account)


@covers("Sandbox.get_template", "SandboxTemplate.status")
def test_a_template_says_where_it_comes_from(client, account):
    template = client.get_template("base", **account)
    assert template.status == "active"
    assert template.is_public is True
    assert template.object == "template"
    assert template.request_id
    assert template.organization_id is None, "stock templates are nobody's"
    assert template.build_id is None
    assert template.created_at is None or template.created_at <= datetime.now(UTC)
    assert template.updated_at is None or template.updated_at <= datetime.now(UTC)


@covers("Sandbox.delete_template", "APIError")
def test_a_stock_template_is_not_deleted(client, account):
    with pytest.raises(hopx_ai.APIError) as caught:
        client.delete_template(template_id="base", **account)
    assert type(caught.value) is hopx_ai.APIError
    assert caught.value.status_code == 403
    with pytest.raises(hopx_ai.NotFoundError):
        client.delete_template("no-such-template", **account)
    assert client.get_template("base", **account).is_active


def test_two_sandboxes_see_nothing_of_each_other(sandbox, own, client, kind):
    other = own(template="code-interpreter")
    shell(sandbox, "echo secret > /workspace/secret.txt; (exec -a hidden-name sleep 30 >/dev/null 2>&1 &)")
    sandbox.run_code("private = 1")
    assert shell(other, "ls /workspace; ps -ef | grep -c '[h]idden-name' || true") == "0"
    assert "NameError" in other.run_code("private").stderr
    sandbox.env.set("PRIVATE", "1")
    assert other.env.get("PRIVATE") is None
    if kind == "sync":
        with pytest.raises(hopx_ai.AgentError):
            client.debug(other.get_info().public_host, sandbox.get_token(), "another").run_code("1")


@covers("Sandbox.get_preview_url", "Sandbox.agent_url")
def test_where_there_is_a_domain_ports_have_addresses(make, client):
    """The names below the domain are nobody's here, so the request is taken to where they would lead."""
    made = make(client, template="code-interpreter", base_url=PLACE["named_url"], api_key=PLACE["named_key"])
    url, agent = made.get_preview_url(port=8080), made.agent_url
    assert re.fullmatch(rf"https://8080-{made.sandbox_id}\.[^/]+/x\.vms\.hopx\.dev/", url)
    assert agent == url.replace("https://8080-", "https://7777-")
    assert made.get_preview_url() == agent
    host = agent.removeprefix("https://").partition("/")[0]
    answer = httpx.get(f"{PLACE['named_url']}/x.vms.hopx.dev/health", headers={"Host": host})
    assert answer.json()["status"] == "healthy"


def test_without_a_domain_the_client_finds_no_preview_url(sandbox):
    with pytest.raises(hopx_ai.HopxError):
        sandbox.get_preview_url(8080)
