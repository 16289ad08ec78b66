"""The life of a sandbox, and what the control plane says of it."""

from __future__ import annotations

import inspect
import logging
import uuid
from datetime import UTC, datetime, timedelta

import e2b
import httpcore
import httpx
import package
import pytest
from driven import Driven
from e2b import SandboxQuery, SandboxState
from e2b.exceptions import RateLimitException
from packaging.version import Version
from place import PLACE
from talk import BOOT_ID, IMPOSSIBLE_ID, NO_SUCH_SANDBOX, URL, option_names, pages, pause, routed, said
from waiting import until

covers = pytest.mark.covers


def gone(client, sandbox_id):
    try:
        client.get_info(sandbox_id)
    except NO_SUCH_SANDBOX:
        return True
    return False


# ---- made


@covers("Sandbox.create", "Sandbox.get_info", "Sandbox.is_running", "22.1 ids are lower-case letters and digits")
def test_a_new_sandbox_says_what_it_is(sandbox):
    assert sandbox.sandbox_id.isalnum()
    assert sandbox.sandbox_id == sandbox.sandbox_id.lower()
    assert sandbox.is_running(request_timeout=30) is True
    info = sandbox.get_info()
    assert (info.sandbox_id, info.template_id, info.state) == (sandbox.sandbox_id, "base", SandboxState.RUNNING)
    assert (info.cpu_count, info.memory_mb, info.metadata) == (2, 2048, {})
    assert info.name in (None, "base")
    assert abs(datetime.now(UTC) - info.started_at) < timedelta(minutes=10)
    assert timedelta(seconds=299) < info.end_at - info.started_at < timedelta(seconds=302)


@covers("SandboxInfo.envd_version", "SandboxInfo.sandbox_domain", "19 envdVersion: every gate is open")
def test_a_new_sandbox_says_its_version_and_domain(sandbox):
    info = sandbox.get_info()
    assert tuple(map(int, info.envd_version.split("."))) >= (0, 6, 4)
    assert info.sandbox_domain is None
    assert sandbox.sandbox_domain == sandbox.connection_config.domain


@covers("SandboxInfo.envd_unresponsive_at_pause")
def test_a_running_sandbox_was_never_without_its_agent(sandbox):
    assert not sandbox.get_info().envd_unresponsive_at_pause


@covers("Sandbox.create", "20 E2B_* in the environment of every process", "20 the same in files under /run/e2b")
def test_create_gives_its_variables_to_every_process(own):
    made = own("base", envs={"GREETING": "hei", "EMPTY": ""}, metadata={"user": "ann", "a&b": "=ü%"}, timeout=120)
    assert said(made, 'echo "$GREETING[$EMPTY] $E2B_SANDBOX $E2B_SANDBOX_ID $E2B_TEMPLATE_ID"') == (
        f"hei[] true {made.sandbox_id} base"
    )
    assert said(made, "cd /run/e2b; cat .E2B_SANDBOX .E2B_SANDBOX_ID .E2B_TEMPLATE_ID | tr -d '\\n'") == (
        f"true{made.sandbox_id}base"
    )
    info = made.get_info()
    assert info.metadata == {"user": "ann", "a&b": "=ü%"}
    assert timedelta(seconds=110) < info.end_at - datetime.now(UTC) <= timedelta(seconds=120)


@covers("SandboxInfo.allow_internet_access")
def test_a_sandbox_says_that_it_has_no_internet_access(own):
    assert own(allow_internet_access=False).get_info().allow_internet_access is False


@covers("Sandbox.create", "20 user, home directory, shell, sudo, programs of base")
def test_create_without_internet_access_reaches_nothing(own):
    made = own(allow_internet_access=False, secure=True)
    assert said(made, "curl -s --max-time 3 http://192.0.2.1/ >/dev/null; echo $?") in ("6", "7", "28")
    assert said(made, "id -un; pwd; sudo id -un; echo ${BASH_VERSION%%.*}") == "user\n/home/user\nroot\n5"
    assert said(made, "command -v python3 node git curl bash sudo | wc -l") == "6"


@covers("SandboxInfo.lifecycle")
def test_a_sandbox_says_what_its_end_does(own):
    made = own(lifecycle={"on_timeout": "pause", "auto_resume": True})
    assert made.get_info().lifecycle == {"on_timeout": "pause", "auto_resume": True}


@covers("SandboxLifecycle", "20 a timeout pauses, traffic wakes")
def test_create_may_pause_at_its_end_and_wake_by_traffic(own):
    made = own(timeout=60, lifecycle={"on_timeout": "pause", "auto_resume": True})
    made.commands.run("python3 -m http.server 3000", background=True)
    until(lambda: httpx.get(URL, headers=routed(made, 3000), timeout=30).status_code == 200, "it listens")
    made.set_timeout(1)
    until(lambda: made.get_info().state is SandboxState.PAUSED, "its end")
    assert httpx.get(URL, headers=routed(made, 3000), timeout=30).status_code == 200
    assert made.get_info().state is SandboxState.RUNNING


@covers("SandboxOnTimeoutPause", "Sandbox.create", "6.2 autoPauseMemory: false keeps the disk alone")
def test_create_may_keep_its_disk_alone_at_its_end(own):
    modes = ({"action": "pause", "mode": "filesystem"}, {"action": "pause", "keep_memory": False})
    given = [mode for mode in modes if mode.keys() <= option_names("SandboxOnTimeoutPause")]
    for each in given:
        made = own(timeout=1, lifecycle={"on_timeout": each})
        until(lambda: made.get_info().state is SandboxState.PAUSED, "its end")  # noqa: B023
        made.connect()
        assert made.commands.run("true").exit_code == 0


@covers("Sandbox.beta_create")
def test_the_first_create_that_paused(client, own, make):
    made = make(
        client,
        "base",
        by="beta_create",
        timeout=60,
        auto_pause=True,
        metadata={"user": "ann"},
        envs={"A": "1"},
        secure=True,
        allow_internet_access=False,
    )
    assert (said(made, "echo $A"), made.get_info().metadata) == ("1", {"user": "ann"})
    made.set_timeout(0)
    until(lambda: made.get_info().state is SandboxState.PAUSED, "its end")


@covers("SandboxOnTimeoutKill")
def test_create_may_say_that_it_is_killed_at_its_end(own, client):
    made = own(timeout=1, lifecycle={"on_timeout": {"action": "kill"}})
    until(lambda: gone(client, made.sandbox_id), "its end")


@covers("Sandbox.create")
def test_create_with_the_same_idempotency_key_is_the_same_sandbox(own):
    key = str(uuid.uuid4())
    assert own(idempotency_key=key).sandbox_id == own(idempotency_key=key).sandbox_id
    with pytest.raises(e2b.SandboxException, match="422"):
        own(metadata={"another": "request"}, idempotency_key=key)


@covers("Sandbox.create", "Sandbox.connect")
def test_a_logger_hears_of_requests(client, own):
    heard = []
    logger = logging.Logger("mine", logging.DEBUG)
    handler = logging.Handler()
    handler.emit = lambda record: heard.append(record.getMessage())
    logger.addHandler(handler)
    made = own(logger=logger)
    said(made, "true")
    before = len(heard)
    again = client.connect(made.sandbox_id, logger=logger)
    said(again, "true")
    assert 0 < before < len(heard)


@covers("Sandbox.create", "8 unknown template: 404, template 'x' not found", "SandboxException")
def test_create_of_an_unknown_template(client):
    with pytest.raises(e2b.SandboxException, match="template 'none-such' not found"):
        client.create("none-such")


@pytest.mark.refused
def test_identity_tokens_are_refused_with_the_reason(client, secrets):
    token = secrets.iam_token(audience="sts.example.com", token_type="JWT-SVID")
    with pytest.raises(e2b.SandboxException, match="issues no identity tokens"):
        client.create(iam={"tokens": {"aws": token}})


# ---- the same parameters for every call


KEEPS_ITS_CONNECTIONS = Version(package.VERSION) < Version("2.27")
"""Whatever proxy a later call names: those of the first call of the process, or of the event loop."""


@covers("ApiParams")
def test_every_call_takes_its_account(client, apart, sandbox, proxy):
    address, asked = proxy
    options = {
        "api_key": PLACE["key"],
        "api_url": URL,
        "sandbox_url": URL,
        "domain": "sandboxes.example.com",
        "request_timeout": 30,
        "retries": 0,
        "headers": {"X-Mine": "1"},
        "api_headers": {"X-Mine-Too": "1"},
        "validate_api_key": False,
        "proxy": address,
        "http_version": "1.1",
        "integration": "mine/1.0",
    }
    known = {name: each for name, each in options.items() if name in option_names("ApiParams")}

    def use(client):
        found = client.connect(sandbox.sandbox_id, **known)
        assert found.get_host(80).startswith(f"80-{sandbox.sandbox_id}.")
        if Version(package.VERSION) >= Version("2.45"):
            assert found.get_host(80).endswith(".sandboxes.example.com")
        assert said(found, "echo through the proxy") == "through the proxy"

    if KEEPS_ITS_CONNECTIONS:
        del known["proxy"]
        use(client)
    else:
        apart(use)
        assert {"POST /process.Process/Start"} <= set(asked)
        assert any(f"/sandboxes/{sandbox.sandbox_id}" in each for each in asked)


@covers("ApiParams")
def test_debug_makes_nothing(client):
    assert client.create(debug=True).sandbox_id == "debug_sandbox_id"


@covers("E2B", "E2BClientParams")
def test_a_client_object_binds_an_account(kind, monkeypatch, loop, sandbox, proxy):
    for name in ("E2B_API_KEY", "E2B_API_URL", "E2B_SANDBOX_URL"):
        monkeypatch.delenv(name)
    address, asked = proxy
    bound = e2b.E2B(
        api_key=PLACE["key"],
        api_url=URL,
        sandbox_url=URL,
        domain="sandboxes.example.com",
        request_timeout=30,
        **_those(retries=0, http_version="1.1"),
        headers={"X-Mine": "1"},
        api_headers={"X-Mine-Too": "1"},
        validate_api_key=False,
        debug=False,
        proxy=address,
    )
    client = Driven(getattr(bound, {"sync": "Sandbox", "async": "AsyncSandbox"}[kind]), loop)
    assert client.connect(sandbox.sandbox_id).get_info().sandbox_id == sandbox.sandbox_id
    assert asked


def _those(**options):
    """The ones that this version has."""
    known = option_names("E2BClientParams") | option_names("ApiParams")
    return {name: value for name, value in options.items() if name in known}


@covers("AuthenticationException", "5 unknown key: 401")
def test_a_wrong_key_is_refused(client):
    with pytest.raises(e2b.AuthenticationException):
        client.create(api_key="e2b_" + "0" * 40)


@covers("RateLimitException")
def test_a_key_that_called_too_often(client, sandbox):
    for _ in range(2):
        try:
            client.get_info(sandbox.sandbox_id, api_key=PLACE["rare_key"], **_those(retries=0), request_timeout=5)
        except (RateLimitException, NO_SUCH_SANDBOX) as error:
            caught = error
    assert isinstance(caught, RateLimitException)


@covers("6.2 the limit of concurrent sandboxes: 429 with the number", "17 429 is a RateLimitException")
def test_a_key_whose_quota_is_used_up(client):
    with pytest.raises(RateLimitException, match=r"maximum number of concurrent E2B sandboxes \(0\)"):
        client.create(api_key=PLACE["poor_key"], **_those(retries=0))


# ---- found


def ids(found):
    return [each.sandbox_id for each in found]


@covers(
    "Sandbox.list",
    "SandboxPaginator.next_items",
    "6.1 metadata filter, encoded three times",
    "5 x-next-token",
    "22.4 x-next-token carries pagination",
)
def test_lists_choose_by_metadata_in_pages(own, client):
    tag = {"who": "a&b =ü%", "run": str(uuid.uuid4())}
    made = [own(metadata=tag).sandbox_id for _ in range(3)]
    query = SandboxQuery(metadata=tag)
    assert ids(pages(client.list(query=query))) == made[::-1]
    assert ids(pages(client.list(query=query, limit=1))) == made[::-1]
    first = client.list(query=query, limit=2)
    assert ids(first.next_items()) == made[:0:-1]
    rest = client.list(query=query, next_token=first.next_token)
    assert (ids(rest.next_items()), rest.has_next) == (made[:1], False)


@covers("SandboxPaginator.next_items")
def test_a_page_takes_its_account(client, sandbox):
    found = client.list(limit=100)
    if "opts" not in inspect.signature(found._subject.next_items).parameters:
        pytest.skip("the pages take no options")
    assert sandbox.sandbox_id in ids(found.next_items(api_key=PLACE["key"]))


@covers("Sandbox.list", "6.1 state, order, template, startedAfter")
def test_lists_choose_by_state_template_and_time(own, client):
    tag = {"run": str(uuid.uuid4())}
    made = [own(metadata=tag) for _ in range(2)]
    pause(made[0])

    def found(order=None, **query):
        more = {"order": order} if order else {}
        return ids(pages(client.list(query=SandboxQuery(metadata=tag, **query), **more)))

    both = [each.sandbox_id for each in made]
    assert found(state=[SandboxState.PAUSED]) == both[:1]
    assert found(state=[SandboxState.RUNNING]) == both[1:]
    if "order" in inspect.signature(client.list).parameters:
        assert found(order="asc") == both
        assert found(order="desc") == both[::-1]
    if hasattr(SandboxQuery(), "template"):
        assert found(template="base") == both[::-1]
        assert found(template="busybox") == []
    if hasattr(SandboxQuery(), "started_after"):
        assert found(started_after=datetime.now(UTC) - timedelta(minutes=5)) == both[::-1]
        assert found(started_after=datetime.now(UTC) + timedelta(minutes=5)) == []


@covers("Sandbox.get_info")
def test_get_info_of_an_id(sandbox, client):
    assert client.get_info(sandbox.sandbox_id).started_at == sandbox.get_info().started_at


@covers("SandboxNotFoundException")
def test_get_info_of_an_unknown_id(client):
    with pytest.raises(e2b.SandboxNotFoundException):
        client.get_info(sandbox_id=IMPOSSIBLE_ID)


@covers("6.2 unknown sandbox: 404 with its sentence")
def test_an_unknown_sandbox(client):
    sentence = f"\"{IMPOSSIBLE_ID}\" doesn't exist or you don't have access to it"
    for call in (client.get_info, client.connect):
        with pytest.raises(e2b.NotFoundException) as caught:
            call(IMPOSSIBLE_ID)
        assert sentence in str(caught.value) or "not found" in str(caught.value)
    assert client.kill(IMPOSSIBLE_ID) is False


@covers("Sandbox.get_metrics")
def test_metrics(sandbox, client):
    said(sandbox, "head -c 20000000 /dev/urandom > /home/user/big")
    for found in (sandbox.get_metrics(), client.get_metrics(sandbox.sandbox_id)):
        metric = found[-1]
        assert (metric.cpu_count, metric.mem_total, metric.disk_total) == (2, 2048 << 20, 10240 << 20)
        assert 0 < metric.mem_used < metric.mem_total
        assert 0 < metric.disk_used < metric.disk_total
        assert 0 <= metric.cpu_used_pct <= 100
        assert abs(datetime.now(UTC) - metric.timestamp) < timedelta(minutes=1)


@covers("SandboxMetrics.mem_cache")
def test_metrics_count_what_is_cached(sandbox):
    assert sandbox.get_metrics()[-1].mem_cache > 0


@covers("Sandbox.get_metrics")
def test_metrics_of_a_time(sandbox, client):
    now = datetime.now(UTC)
    long_ago = {"start": now - timedelta(hours=2), "end": now - timedelta(hours=1)}
    assert sandbox.get_metrics(**long_ago) == []
    assert client.get_metrics(sandbox_id=sandbox.sandbox_id, **long_ago) == []
    assert sandbox.get_metrics(start=now - timedelta(hours=1), end=now + timedelta(minutes=1))


# ---- its end


@covers("Sandbox.connect", "Sandbox.set_timeout", "22.5 connect never shortens, timeout may, 0 ends at once")
def test_connect_never_shortens_and_set_timeout_may(own, client):
    made = own(timeout=1000)
    end = made.get_info().end_at
    client.connect(made.sandbox_id, timeout=10)
    made.connect(timeout=10)
    assert made.get_info().end_at >= end
    made.set_timeout(500)
    assert made.get_info().end_at < end
    client.set_timeout(made.sandbox_id, 2000)
    assert made.get_info().end_at > end
    client.set_timeout(sandbox_id=made.sandbox_id, timeout=0)
    assert gone(client, made.sandbox_id)
    assert made.is_running() is False


@covers("Sandbox.connect")
def test_connect_gives_the_same_sandbox(sandbox, client):
    said(sandbox, "echo yes > /home/user/connected")
    again = client.connect(sandbox.sandbox_id)
    assert said(again, "cat connected") == "yes"
    assert again.sandbox_id == client.connect(sandbox_id=sandbox.sandbox_id, timeout=60).sandbox_id


@covers("Sandbox.kill")
def test_kill(own, client):
    first, second = own(), own()
    assert first.kill() is True
    assert first.kill() is False
    assert client.kill(sandbox_id=second.sandbox_id) is True
    assert client.kill(second.sandbox_id) is False


@covers("4.2 unknown, killed or paused: 502 was not found")
def test_a_call_to_a_killed_sandbox(own):
    made = own()
    made.kill()
    with pytest.raises(e2b.TimeoutException, match="was not found"):
        made.commands.run("true")
    with pytest.raises(e2b.TimeoutException):
        made.files.read("/etc/hostname")


@covers("SandboxNotRunningException")
def test_a_call_to_a_killed_sandbox_has_its_own_exception(own):
    made = own()
    made.kill()
    with pytest.raises(e2b.SandboxNotRunningException):
        made.commands.run("true")


CUT = () if Version(package.VERSION) >= Version("2.36") else (httpcore.RemoteProtocolError,)
"""Older versions let their HTTP library's error through."""


@covers("17 a stream that its sandbox's end cuts says so")
def test_a_command_whose_sandbox_is_killed_meanwhile(own, loop, kind):
    made = own()
    running = made.commands.run("sleep 1000", background=True)
    made.kill()
    with pytest.raises((e2b.TimeoutException, *CUT)):
        running.wait()


def test_leaving_a_with_block_kills(client):
    if not hasattr(client._subject, "__enter__") and not hasattr(client._subject, "__aenter__"):
        pytest.skip("no with block")
    with client.create() as made:
        assert said(made, "echo in") == "in"
    assert gone(client, made.sandbox_id)


# ---- paused


@covers("Sandbox.connect", "20 a pause keeps every process", "22.15 boot_id and processes survive")
def test_a_pause_keeps_every_process(own, client):
    made = own(envs={"KEPT": "yes"})
    job = made.commands.run("sleep 1000", background=True)
    boot = said(made, BOOT_ID)
    assert pause(made) is not False
    assert made.get_info().state is SandboxState.PAUSED
    assert made.is_running() is False
    again = client.connect(made.sandbox_id, timeout=300)
    assert said(again, f"cat /proc/{job.pid}/comm; echo $KEPT; {BOOT_ID}") == f"sleep\nyes\n{boot}"


@covers("Sandbox.pause", "20 a pause of the disk is a cold start: another boot_id")
def test_a_pause_of_the_disk_alone(own, client):
    made = own(envs={"KEPT": "yes"})
    boot = said(made, f"echo written > note; {BOOT_ID}")
    assert made.pause(keep_memory=False)
    made.connect()
    assert said(made, "cat note; echo $KEPT") == "written\nyes"
    second = said(made, BOOT_ID)
    assert client.pause(sandbox_id=made.sandbox_id, keep_memory=False)
    assert said(client.connect(made.sandbox_id), BOOT_ID) not in (boot, second)


@covers("Sandbox.pause")
def test_a_pause_by_mode(own, client):
    made = own()
    boot = said(made, BOOT_ID)
    assert made.pause(mode="full")
    made.connect()
    assert said(made, BOOT_ID) == boot
    assert client.pause(sandbox_id=made.sandbox_id, mode="filesystem")
    made.connect()
    assert said(made, BOOT_ID) != boot


@covers("Sandbox.pause")
def test_a_pause_may_ask_for_a_healthy_agent(own, client):
    made = own()
    assert made.pause(strict=True)
    made.connect()
    assert client.pause(sandbox_id=made.sandbox_id, strict=False)


@covers("Sandbox.pause")
def test_pausing_twice(own, client):
    made = own()
    first, second = made.pause(), client.pause(made.sandbox_id)
    assert (first, second) in ((True, False), (made.sandbox_id, made.sandbox_id), (None, made.sandbox_id))
    with pytest.raises(e2b.NotFoundException):
        client.pause(IMPOSSIBLE_ID)


@covers("Sandbox.connect")
def test_connect_may_start_a_paused_sandbox_anew(own, client):
    made = own()
    boot = said(made, BOOT_ID)
    made.pause()
    made.connect(on_resume="reboot")
    second = said(made, BOOT_ID)
    assert second != boot
    made.pause()
    assert said(client.connect(made.sandbox_id, on_resume="restore"), BOOT_ID) == second


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@covers("Sandbox.beta_pause")
def test_the_old_name_of_pause(own, client):
    made = own()
    made.beta_pause(**_accepted(made.beta_pause, keep_memory=True))
    assert made.get_info().state is SandboxState.PAUSED
    made.connect()
    client.beta_pause(sandbox_id=made.sandbox_id, **_accepted(client.beta_pause, mode="full", strict=False))
    assert made.get_info().state is SandboxState.PAUSED


def _accepted(function, **options):
    known = inspect.signature(function).parameters
    return {name: value for name, value in options.items() if name in known}


# ---- copies of what runs


@pytest.mark.refused
@covers(
    "7 a snapshot is refused with a message that names an engine which can",
)
def test_a_snapshot_is_refused_with_the_reason(sandbox, client):
    refusal = "native engine cannot copy the memory .* microVM"
    with pytest.raises(e2b.SandboxException, match=refusal):
        sandbox.create_snapshot()
    with pytest.raises(e2b.SandboxException, match=refusal):
        client.create_snapshot(sandbox.sandbox_id)
    assert sandbox.is_running()


@pytest.mark.refused
@covers("7 a fork is refused with a message that names an engine which can")
def test_a_fork_is_refused_with_the_reason(sandbox):
    with pytest.raises(e2b.SandboxException, match=r"native engine cannot copy the memory .* microVM"):
        sandbox.fork()
    assert sandbox.is_running()


@covers("Sandbox.list_snapshots", "SnapshotPaginator.next_items")
def test_there_are_no_snapshots(sandbox, client):
    found = sandbox.list_snapshots()
    assert (found.next_items(), found.has_next, found.next_token or None) == ([], False, None)
    assert list(pages(client.list_snapshots(limit=10))) == []
    more = _accepted(client.list_snapshots, sandbox_id=sandbox.sandbox_id, next_token="", name="none")
    assert list(pages(client.list_snapshots(**more))) == []


@covers("Sandbox.delete_snapshot")
def test_deleting_a_snapshot_that_is_not_there(client):
    assert client.delete_snapshot(snapshot_id="none:default") is False


# ---- addresses


@covers("Sandbox.get_host")
def test_addresses(sandbox):
    assert sandbox.get_host(port=3000) == f"3000-{sandbox.sandbox_id}.{sandbox.sandbox_domain}"
    assert sandbox.envd_api_url == URL


@covers("Sandbox.envd_direct_url", "Sandbox.connection_config")
def test_addresses_of_the_agent(sandbox):
    assert sandbox.envd_direct_url == URL
    assert sandbox.connection_config.api_key == PLACE["key"]


@covers("Sandbox.get_mcp_url")
def test_the_address_of_its_mcp_gateway(sandbox):
    assert sandbox.get_mcp_url() == f"https://{sandbox.get_host(50005)}/mcp"
