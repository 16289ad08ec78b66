"""The unmodified `hopx-ai` package against our control plane, over a real socket; nothing here needs an agent."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
import uvicorn

from atoll.control import sandboxes
from atoll.core.audit import ATOLL
from atoll.core.quota import UNLIMITED, Quota
from atoll.core.rates import GENEROUS, Rates
from atoll.testing.clock import RealClock
from atoll.testing.node import ROOMY, FakeNode
from atoll.testing.plane import Plane, open_plane

hopx_ai = pytest.importorskip("hopx_ai")

from hopx_ai import AsyncSandbox, Sandbox  # noqa: E402
from hopx_ai.errors import (  # noqa: E402
    APIError,
    AuthenticationError,
    HopxError,
    NotFoundError,
    RateLimitError,
    ResourceLimitError,
    TemplateNotFoundError,
    ValidationError,
)


class Served:
    """The app on a free port of 127.0.0.1, in a thread with a loop of its own: the SDK blocks."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        self.node = FakeNode()
        self.plane: Plane
        self.loop: asyncio.AbstractEventLoop
        self.url = ""

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.plane = await open_plane(self._directory, self.node, clock=RealClock())
        self._server = _Quiet(
            uvicorn.Config(self.plane.app, host="127.0.0.1", port=0, lifespan="off", ws="none", log_level="error"),
            self._announce,
        )
        await self._server.serve()
        self.plane.close()

    def _announce(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._ready.set()

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(20)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(20)

    def make_key(self, quota: Quota = UNLIMITED, rates: Rates = GENEROUS) -> str:
        making = self.plane.services.keys.create(ATOLL, "limited", quota, rates)
        return asyncio.run_coroutine_threadsafe(making, self.loop).result(20)[1]

    @property
    def access(self) -> dict[str, str]:
        return {"api_key": self.plane.key, "base_url": self.url}


class _Quiet(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, announce) -> None:
        super().__init__(config)
        self._announce = announce

    async def startup(self, sockets=None) -> None:
        await super().startup(sockets)
        self._announce(self.servers[0].sockets[0].getsockname()[1])


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    served = Served(tmp_path_factory.mktemp("served"))
    served.start()
    yield served
    served.stop()


@pytest.fixture(autouse=True)
async def _closed(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """The SDK leaves its HTTP clients to the garbage collector; an open socket there is a warning, and so an error."""
    opened: list[httpx.Client | httpx.AsyncClient] = []

    def record(kind: type[httpx.Client | httpx.AsyncClient]) -> None:
        make = kind.__init__

        def recorded(self, *args, **kwargs) -> None:
            make(self, *args, **kwargs)
            opened.append(self)

        monkeypatch.setattr(kind, "__init__", recorded)

    record(httpx.Client)
    record(httpx.AsyncClient)
    yield
    for client in opened:
        if isinstance(client, httpx.AsyncClient):
            await client.aclose()
        else:
            client.close()


@pytest.fixture(autouse=True)
def _roomy(served: Served) -> Iterator[None]:
    yield
    served.node.room = ROOMY


@pytest.fixture
def sandbox(served: Served) -> Iterator[Sandbox]:
    made = Sandbox.create(template="code-interpreter", timeout_seconds=600, **served.access)
    yield made
    with contextlib.suppress(NotFoundError):
        made.kill()


def test_create_and_get_info(sandbox: Sandbox, served: Served):
    info = sandbox.get_info()
    assert info.sandbox_id == sandbox.sandbox_id
    assert info.status == "running"
    assert info.template_name == "code-interpreter"
    assert info.public_host.endswith(f"/s/{sandbox.sandbox_id}")
    assert info.timeout_seconds == 600
    assert info.resources.vcpu == 2
    assert info.resources.memory_mb == 2048
    assert info.resources.disk_mb == 10240
    assert info.organization_id == 1
    assert info.created_at.tzinfo is not None


def test_create_by_template_id(served: Served):
    made = Sandbox.create(template_id="base", **served.access)
    assert made.get_info().timeout_seconds is None
    made.kill()


def test_the_token_is_cached_and_refreshes_to_a_later_one(sandbox: Sandbox):
    first = sandbox.get_token()
    assert first.startswith("eyJ")
    sandbox.refresh_token()
    assert sandbox.get_token() != first


def test_set_timeout_shows_in_info_and_expiry(sandbox: Sandbox):
    sandbox.set_timeout(1200)
    assert sandbox.get_info().timeout_seconds == 1200
    assert 1190 <= sandbox.get_time_to_expiry() <= 1200
    expiry = sandbox.get_expiry_info()
    assert expiry.has_timeout
    assert not expiry.is_expired
    assert not sandbox.is_expiring_soon()
    assert (expiry.expires_at - datetime.now(UTC)).total_seconds() > 1100


def test_a_timeout_beyond_the_maximum_life_is_a_validation_error(sandbox: Sandbox):
    with pytest.raises(ValidationError) as caught:
        sandbox.set_timeout(25 * 3600)
    assert caught.value.request_id
    assert caught.value.code == "INVALID_REQUEST"


def test_pause_connect_resume(sandbox: Sandbox, served: Served):
    sandbox.pause()
    assert sandbox.get_info().status == "paused"
    again = Sandbox.connect(sandbox.sandbox_id, **served.access)
    assert again.get_info().status == "running"
    sandbox.pause()
    sandbox.resume()
    assert sandbox.get_info().status == "running"


def test_a_stopped_one_cannot_be_connected(sandbox: Sandbox, served: Served):
    sandbox._client.post(f"/v1/sandboxes/{sandbox.sandbox_id}/stop")
    with pytest.raises(HopxError, match="stopped"):
        Sandbox.connect(sandbox.sandbox_id, **served.access)


def test_kill_then_everything_is_not_found(served: Served):
    made = Sandbox.create(template="base", **served.access)
    made.kill()
    for act in (made.get_info, made.kill, made.pause):
        with pytest.raises(NotFoundError):
            act()
    with pytest.raises(NotFoundError):
        Sandbox.connect(made.sandbox_id, **served.access)


def test_the_context_manager_kills(served: Served):
    with Sandbox.create(template="base", **served.access) as made:
        assert made.sandbox_id in served.node.sandboxes
    assert made.sandbox_id not in served.node.sandboxes


def test_list_and_iter_see_each_sandbox_once(served: Served):
    made = {Sandbox.create(template="base", **served.access).sandbox_id for _ in range(3)}
    assert {found.sandbox_id for found in Sandbox.list(**served.access)} == made
    assert len(Sandbox.list(limit=2, **served.access)) == 2
    assert len(Sandbox.list(status="running", **served.access)) == 3
    assert Sandbox.list(status="paused", **served.access) == []
    iterated = [found.sandbox_id for found in Sandbox.iter(**served.access)]
    assert sorted(iterated) == sorted(made)
    for found in Sandbox.list(**served.access):
        found.kill()


def test_iter_follows_the_cursor_over_many_pages(served: Served, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sandboxes, "MAX_LIMIT", 2)  # the SDK always asks for 100
    made = {Sandbox.create(template="base", **served.access).sandbox_id for _ in range(5)}
    iterated = list(Sandbox.iter(status="running", **served.access))
    assert len(iterated) == 5
    assert {found.sandbox_id for found in iterated} == made
    for found in iterated:
        found.kill()


def test_templates(served: Served):
    templates = {template.name: template for template in Sandbox.list_templates(**served.access)}
    assert set(templates) == {"base", "busybox", "code-interpreter"}
    assert templates["code-interpreter"].language == "python"
    assert templates["base"].is_active is True
    one = Sandbox.get_template("code-interpreter", **served.access)
    assert one == templates["code-interpreter"].model_copy(update={"request_id": one.request_id})
    assert one.default_resources.memory_mb == 2048
    with pytest.raises(NotFoundError):
        Sandbox.get_template("nope", **served.access)
    with pytest.raises(APIError) as caught:
        Sandbox.delete_template("base", **served.access)
    assert caught.value.status_code == 403
    assert not isinstance(caught.value, ResourceLimitError)


def test_an_unknown_template_suggests_a_close_one(served: Served):
    with pytest.raises(TemplateNotFoundError) as caught:
        Sandbox.create(template="code-interpretr", **served.access)
    assert caught.value.suggested_template == "code-interpreter"
    with pytest.raises(NotFoundError):
        Sandbox.create(template_id="291", **served.access)


def test_a_wrong_key(served: Served):
    with pytest.raises(AuthenticationError):
        Sandbox.create(template="base", api_key="hopx_live_x.y", base_url=served.url)


def test_the_same_key_in_hopx_form(served: Served):
    key = served.plane.key.replace("e2b_", "hopx_live_")
    Sandbox.create(template="base", api_key=key, base_url=served.url).kill()


def test_a_negative_timeout(served: Served):
    with pytest.raises(ValidationError):
        Sandbox.create(template="base", timeout_seconds=-1, **served.access)


def test_a_full_host_is_a_resource_limit(served: Served):
    served.node.room = replace(ROOMY, memory_available_mib=100)
    served.plane.services.sandboxes._room._known.clear()
    with pytest.raises(ResourceLimitError) as caught:
        Sandbox.create(template="base", **served.access)
    assert caught.value.limit == ROOMY.memory_total_mib - ROOMY.memory_reserve_mib
    assert caught.value.available == 0
    served.plane.services.sandboxes._room._known.clear()


def test_health_check(served: Served):
    assert Sandbox.health_check(base_url=served.url)["status"] == "ok"


async def test_the_async_client(served: Served):
    made = await AsyncSandbox.create(template="base", timeout_seconds=300, **served.access)
    info = await made.get_info()
    assert (info.status, info.timeout_seconds) == ("running", 300)
    await made.set_timeout(600)
    assert (await made.get_info()).timeout_seconds == 600
    await made.pause()
    assert (await made.get_info()).status == "paused"
    await made.resume()
    await made.refresh_token()
    again = await AsyncSandbox.connect(made.sandbox_id, **served.access)
    assert (await again.get_info()).status == "running"
    assert [found.sandbox_id for found in await AsyncSandbox.list(**served.access)] == [made.sandbox_id]
    assert [found.sandbox_id async for found in AsyncSandbox.iter(**served.access)] == [made.sandbox_id]
    assert {template.name for template in await AsyncSandbox.list_templates(**served.access)} >= {"base"}
    await made.kill()
    with pytest.raises(NotFoundError):
        await made.get_info()
    with pytest.raises(TemplateNotFoundError):
        await AsyncSandbox.create(template="cod-interpreter", **served.access)


async def test_a_client_that_leaves_during_create_leaves_no_sandbox(served: Served):
    """It would ask again, and never learn of the first."""
    plane, node = served.plane, served.node
    loop = served.loop
    gate = node.hold("create")
    async with httpx.AsyncClient(base_url=served.url, headers={"X-API-Key": plane.key}) as client:
        asking = asyncio.create_task(client.post("/v1/sandboxes", json={"template_name": "base"}))
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(node.entered.wait(), loop))
        asking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asking
    loop.call_soon_threadsafe(_release, node, gate)
    destroyed = ("destroy", next(name for call, name in reversed(node.calls) if call == "create"))
    async with asyncio.timeout(10):
        while destroyed not in node.calls or node.sandboxes or Sandbox.list(**served.access):  # noqa: ASYNC110
            await asyncio.sleep(0)


def _release(node: FakeNode, gate: asyncio.Event) -> None:
    gate.set()
    node._gates.pop("create")


def test_an_unknown_region_is_a_validation_error_that_names_the_known(served: Served):
    with pytest.raises(ValidationError, match="local") as caught:
        Sandbox.create(template="base", region="mars", **served.access)
    assert caught.value.details["regions"] == ["local"]


def test_a_client_over_its_rate_waits_as_it_is_told_and_goes_on(served: Served, monkeypatch: pytest.MonkeyPatch):
    access = {"api_key": served.make_key(rates=Rates(control=1, create=None, agent=None)), "base_url": served.url}
    waited: list[float] = []

    def wait(seconds: float) -> None:
        waited.append(seconds)
        served.plane.clock.advance(seconds)

    monkeypatch.setattr("time.sleep", wait)
    for _ in range(3):
        assert Sandbox.list(**access) == []
    assert [50 < each <= 60 for each in waited] == [True, True]


def test_a_client_that_may_not_wait_gets_a_rate_limit_error(served: Served):
    key = served.make_key(rates=Rates(control=1, create=None, agent=None))
    client = Sandbox("a" * 20, api_key=key, base_url=served.url, max_retries=0)
    with pytest.raises(NotFoundError):
        client.get_info()
    with pytest.raises(RateLimitError) as caught:
        client.get_info()
    assert 55 <= caught.value.retry_after <= 60
    assert caught.value.request_id.startswith("req_")


def test_a_used_up_quota_is_a_resource_limit(served: Served):
    access = {"api_key": served.make_key(quota=Quota(sandboxes=1)), "base_url": served.url}
    with Sandbox.create(template="base", **access), pytest.raises(ResourceLimitError) as caught:
        Sandbox.create(template="base", **access)
    assert (caught.value.limit, caught.value.current, caught.value.available) == (1, 1, 0)
    assert caught.value.upgrade_url is None
