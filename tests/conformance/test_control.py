"""The control plane as the real client meets it: regions, limits, rates, states, tokens, and creates that fail."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import jwt
import pytest
from click.testing import CliRunner
from hopx_ai import Sandbox
from hopx_ai.errors import (
    APIError,
    HopxError,
    NotFoundError,
    RateLimitError,
    ResourceLimitError,
    ValidationError,
)

from atoll.cli.main import cli
from atoll.testing.installation import Installation, borrow_templates
from stack import templates_dir, until

pytestmark = pytest.mark.root

REGION = "north-1"
Account = dict[str, str]
SLEEPING = "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' | grep -o 'slee[p] 1234' | wc -l"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """One of our own: what is left behind is counted here."""
    data = tmp_path_factory.mktemp("place")
    borrow_templates(templates_dir(), data)
    with Installation(data, "--templates", "busybox", "--region", REGION) as installation:
        yield installation


@pytest.fixture(scope="module")
def account(place: Installation) -> Account:
    return {"api_key": place.api_key, "base_url": place.url}


@pytest.fixture(scope="module")
def key(place: Installation) -> Callable[..., Account]:
    """Makes a key as an operator does, beside the running server."""

    def make(*options: object) -> Account:
        arguments = ["keys", "create", "limited", "--json", "--data-dir", str(place.places.data), *map(str, options)]
        made = json.loads(CliRunner().invoke(cli, arguments, catch_exceptions=False).output)
        return {"api_key": made["key"], "base_url": place.url}

    return make


@pytest.fixture
def create(account: Account) -> Iterator[Callable[..., Sandbox]]:
    made: list[Sandbox] = []

    def one(**options: object) -> Sandbox:
        made.append(Sandbox.create(**{"template": "busybox", **account, **options}))
        return made[-1]

    yield one
    for sandbox in made:
        with contextlib.suppress(NotFoundError):
            sandbox.kill()


def control(sandbox: Sandbox, verb: str) -> dict:
    """What the clients up to 0.3.0 sent for `stop()` and `start()`."""
    return sandbox._client.post(f"/v1/sandboxes/{sandbox.sandbox_id}/{verb}")


def sh(sandbox: Sandbox, command: str) -> str:
    result = sandbox.commands.run(command)
    assert result.exit_code == 0, result
    return result.stdout.strip()


def ids(sandboxes: list[Sandbox]) -> set[str]:
    return {sandbox.sandbox_id for sandbox in sandboxes}


# ---- regions


def test_a_sandbox_is_born_in_the_nodes_region_and_found_by_it(create, account):
    made = [create(), create(region=REGION)]
    assert [sandbox.get_info().region for sandbox in made] == [REGION, REGION]
    assert ids(made) <= ids(Sandbox.list(region=REGION, **account))
    assert ids(made) <= ids(Sandbox.iter(region=REGION, **account))
    assert Sandbox.list(region="south-1", **account) == []


def test_an_unknown_region_is_refused_with_the_known_ones(account):
    with pytest.raises(ValidationError, match=REGION) as caught:
        Sandbox.create(template="busybox", region="mars-7", **account)
    assert caught.value.details["regions"] == [REGION]


# ---- limits


def test_a_used_up_quota_is_a_resource_limit_until_a_sandbox_goes(create, key):
    limited = key("--max-sandboxes", 2)
    first, _ = create(**limited), create(**limited)
    with pytest.raises(ResourceLimitError, match="limit") as caught:
        create(**limited)
    error = caught.value
    assert (error.status_code, error.limit, error.current, error.available) == (403, 2, 2, 0)
    assert (error.details["cause"], error.details["resource"]) == ("quota", "sandboxes")
    first.kill()
    create(**limited)


def test_a_quota_of_memory_counts_what_sandboxes_are_allowed(create, key):
    limited = key("--max-memory", 4000)
    create(**limited)
    with pytest.raises(ResourceLimitError) as caught:
        create(**limited)
    assert (caught.value.limit, caught.value.current, caught.value.available) == (4000, 2048, 1952)


def test_a_size_asked_for_is_what_the_sandbox_has(create, account):
    client = create()._client
    with pytest.raises(ResourceLimitError) as caught:
        client.post("/v1/sandboxes", json={"template_name": "busybox", "vcpu": 999})
    assert (caught.value.limit, caught.value.details["cause"]) == (8, "size")
    with pytest.raises(ValidationError):
        client.post("/v1/sandboxes", json={"template_name": "busybox", "memory_mb": 1})
    wished = {"vcpu": 1, "memory_mb": 256, "disk_gb": 2}
    made = client.post("/v1/sandboxes", json={"template_name": "busybox", **wished})
    with Sandbox.connect(made["id"], **account) as small:
        resources = small.get_info().resources
        assert (resources.vcpu, resources.memory_mb, resources.disk_mb) == (1, 256, 2048)
        kibibytes = int(sh(small, "df -k / | tail -1 | awk '{print $2}'"))
        assert 1.9 * 2**20 < kibibytes <= 2 * 2**20
        eaten = small.commands.run("tail -c 400m /dev/zero | wc -c")
        assert "419430400" not in eaten.stdout, "400 MiB do not fit into 256"


def test_templates_say_their_sizes_and_are_filtered(account):
    (template,) = Sandbox.list_templates(category="general", language="sh", **account)
    assert (template.name, template.max_resources.vcpu, template.min_resources.memory_mb) == ("busybox", 8, 64)
    assert Sandbox.list_templates(category="games", **account) == []
    assert Sandbox.get_template("busybox", **account).default_resources.disk_gb == 10
    with pytest.raises(APIError) as caught:
        Sandbox.delete_template("busybox", **account)
    assert caught.value.status_code == 403


# ---- rates


def test_a_client_over_its_rate_waits_as_told_and_goes_on(key):
    limited = key("--calls-per-minute", 30)
    admitted, refused = until_refused(limited, "GET")
    assert 30 <= admitted <= 35, "more only by what came back meanwhile"
    told = int(refused.headers["Retry-After"])
    assert told in (1, 2), "a call comes back every two seconds, and some of that may be over"
    begun = time.monotonic() - refused.elapsed.total_seconds()
    assert Sandbox.list(**limited) == []
    assert time.monotonic() - begun > told - 1


def test_the_preset_of_hopx_is_its_documented_limits(key):
    limited = key("--rates", "hopx")
    admitted, refused = until_refused(limited, "POST")
    assert (20 <= admitted <= 22, refused.headers["X-RateLimit-Limit"]) == (True, "20")
    admitted, refused = until_refused(limited, "GET")
    assert (78 <= admitted <= 95, refused.headers["X-RateLimit-Limit"]) == (True, "100")
    client = Sandbox("a" * 20, **key("--calls-per-minute", 1), max_retries=0)
    with pytest.raises(NotFoundError):
        client.get_info()
    with pytest.raises(RateLimitError) as caught:
        client.get_info()
    assert 50 <= caught.value.retry_after <= 60


def until_refused(account: Account, method: str) -> tuple[int, httpx.Response]:
    """Calls that cost nothing else: a list, or a create without a body."""
    with httpx.Client(base_url=account["base_url"], headers={"X-API-Key": account["api_key"]}) as raw:
        for admitted in range(1000):
            answer = raw.request(method, "/v1/sandboxes")
            if answer.status_code == 429:
                return admitted, answer
    raise AssertionError("never refused")


def test_calls_to_a_sandbox_are_limited_by_the_key_that_made_it(create, key):
    made = create(**key("--agent-calls-per-minute", 5))
    url, headers = made.get_info().public_host, {"Authorization": f"Bearer {made.get_token()}"}
    statuses = [httpx.get(f"{url}/env", headers=headers).status_code for _ in range(7)]
    assert statuses == [200] * 5 + [429] * 2
    assert httpx.get(f"{url}/health").status_code == 200, "a probe of anybody costs nothing"


def test_a_changed_limit_is_in_force_at_once(place, key):
    limited = key("--calls-per-minute", 3)
    Sandbox.list(**limited)
    (listed,) = [each for each in listing(place) if each["rates"]["control"] == 3]
    options = ["--calls-per-minute", "unlimited", "--data-dir", str(place.places.data)]
    assert CliRunner().invoke(cli, ["keys", "limit", listed["id"], *options]).exit_code == 0
    for _ in range(5):
        Sandbox.list(**limited)


def listing(place: Installation) -> list[dict]:
    return json.loads(CliRunner().invoke(cli, ["keys", "list", "--json", "--data-dir", str(place.places.data)]).output)


# ---- states


@pytest.fixture
def held(place: Installation) -> Iterator[Callable[[], None]]:
    """The launcher stands still, so that no place is made; called, it goes on."""
    (launcher,) = place.pids("launcher")
    os.kill(launcher, signal.SIGSTOP)
    yield lambda: os.kill(launcher, signal.SIGCONT)
    os.kill(launcher, signal.SIGCONT)


def test_a_sandbox_is_listed_as_creating_while_its_place_is_made(create, account, held):
    making = threading.Thread(target=create)
    making.start()
    until(lambda: Sandbox.list(status="creating", **account), "it is listed")
    (listed,) = Sandbox.list(status="creating", **account)
    assert listed.get_info().status == "creating"
    with pytest.raises(HopxError, match="creating"):
        Sandbox.connect(listed.sandbox_id, **account)
    with pytest.raises(APIError, match="creating") as caught:
        listed.pause()
    assert caught.value.status_code == 409
    held()
    making.join(30)
    assert listed.get_info().status == "running"
    assert Sandbox.list(status="creating", **account) == []


def test_stop_and_start_keep_disk_id_token_and_url_and_end_processes(create, account):
    made = create(env_vars={"KEPT": "yes"})
    before, token = made.get_info(), made.get_token()
    sh(made, "echo on disk > /workspace/file; (sleep 1234 >/dev/null 2>&1 &)")
    assert sh(made, SLEEPING) == "1"
    assert control(made, "stop")["status"] == control(made, "stop")["status"] == "stopped"
    assert made.get_info().status == "stopped"
    with pytest.raises(HopxError, match="stopped"):
        Sandbox.connect(made.sandbox_id, **account)
    for verb in ("pause", "resume"):
        with pytest.raises(APIError, match="stopped") as caught:
            control(made, verb)
        assert caught.value.status_code == 409
    assert control(made, "start")["status"] == control(made, "start")["status"] == "running"
    after = made.get_info()
    assert (after.sandbox_id, after.public_host, after.created_at) == (
        before.sandbox_id,
        before.public_host,
        before.created_at,
    )
    answer = httpx.post(
        f"{after.public_host}/commands/run",
        headers={"Authorization": f"Bearer {token}"},
        json={"command": f"cat /workspace/file; echo $KEPT; {SLEEPING}"},
    )
    assert answer.json()["stdout"] == "on disk\nyes\n0\n"


def test_pause_and_resume_keep_processes(create):
    made = create()
    pid = sh(made, "(sleep 1234 >/dev/null 2>&1 & echo $!)")
    made.pause()
    made.pause()
    assert made.get_info().status == "paused"
    with pytest.raises(APIError, match="paused"):
        control(made, "start")
    made.resume()
    made.resume()
    assert sh(made, f"kill -0 {pid} && {SLEEPING}") == "1"


# ---- tokens


def test_tokens_are_signed_expire_later_each_time_and_end_with_their_sandbox(create, place):
    made, other = create(), create()
    url = f"{made.get_info().public_host}/env"

    def opens(token: str) -> int:
        return httpx.get(url, headers={"Authorization": f"Bearer {token}"}).status_code

    expiries = []
    for _ in range(5):
        fresh = control(made, "token/refresh")
        expiries.append(fresh["token_expires_at"])
    assert expiries == sorted(set(expiries))
    token = fresh["auth_token"]
    signing_key = bytes.fromhex(place.places.token_key.read_text().strip())
    claims = jwt.decode(token, signing_key, algorithms=["HS256"])
    assert claims["sub"] == made.sandbox_id
    assert 23 * 3600 < claims["exp"] - time.time() <= 24 * 3600 + 60
    assert opens(token) == 200
    head, body, signature = token.split(".")
    swapped = f"{head}.{other.get_token().split('.')[1]}.{signature}"
    for bad in (
        other.get_token(),
        swapped,
        f"{head}.{body}.",
        jwt.encode(claims, None, algorithm="none"),
        jwt.encode(claims, b"x" * 32, algorithm="HS256"),
        jwt.encode({**claims, "exp": 1}, signing_key, algorithm="HS256"),
    ):
        assert opens(bad) == 401
    made.kill()
    assert opens(token) == 404


# ---- a create that fails


def left(place: Installation) -> set[str]:
    """Of sandboxes, not of slots made ahead: handles, disks, sockets, control groups."""
    data, run = place.places.data / "node", place.places.run
    found = {*data.glob("sandboxes/*"), *data.glob("disks/*.img"), *run.glob("s/*.sock")}
    groups = {path for path in Path("/sys/fs/cgroup").glob(f"**/atoll-{place.places.installation}*/*") if path.is_dir()}
    return {str(path) for path in found | groups if "slot" not in path.name}


def test_a_client_that_leaves_during_create_leaves_nothing(place, account, held):
    """It would ask again and never learn of the first."""
    for sandbox in Sandbox.list(**account):
        sandbox.kill()
    until(lambda: not any(".json" in path for path in left(place)), "the earlier ones are swept")
    before = left(place)
    headers = {"X-API-Key": account["api_key"]}
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{place.url}/v1/sandboxes", json={"template_name": "busybox"}, headers=headers, timeout=4)
    (sandbox,) = Sandbox.list(**account)
    held()
    until(lambda: Sandbox.list(**account) == [], "the unwanted one is gone")
    until(lambda: left(place) <= before, "nothing of it is left")
    with pytest.raises(NotFoundError):
        sandbox.get_info()


@pytest.mark.long
def test_a_node_that_hangs_is_an_answer_in_time_and_leaves_nothing(place, account, held):
    before, begun = left(place), time.monotonic()
    headers = {"X-API-Key": account["api_key"]}
    answer = httpx.post(f"{place.url}/v1/sandboxes", json={"template_name": "busybox"}, headers=headers, timeout=60)
    assert answer.status_code == 503
    assert time.monotonic() - begun < 50
    assert Sandbox.list(**account) == []
    held()
    until(lambda: left(place) <= before, "nothing of it is left", timeout_s=60)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/health", 200),
        ("GET", "/v1/sandboxes", 200),
        ("GET", "/v1/nothing", 404),
        ("GET", "/nothing", 404),
        ("PATCH", "/v1/sandboxes", 405),
        ("POST", "/v1/sandboxes", 400),
        ("GET", "/s/aaaaaaaaaaaaaaaaaaaa/info", 401),
    ],
)
def test_every_answer_says_its_request_id(place, method, path, status):
    answer = httpx.request(method, place.url + path, headers={"X-API-Key": place.api_key})
    assert (answer.status_code, answer.json()["request_id"]) == (status, answer.headers["X-Request-ID"])
