"""The class that everything hangs on."""

from __future__ import annotations

import builtins
from collections.abc import AsyncGenerator, Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, TypeVar

from atoll.sdk._aio import Opening, opening
from atoll.sdk._core import agent, control, models
from atoll.sdk._core.config import account
from atoll.sdk._core.errors import (
    AtollError,
    NotFoundError,
    SandboxErrorMetadata,
    SandboxExpiredError,
    TemplateNotFoundError,
)
from atoll.sdk._core.models import EgressLog, ExecutionResult, ExpiryInfo, Link, SandboxInfo, Template
from atoll.sdk._core.network import Network
from atoll.sdk._core.read import Json, objects, text
from atoll.sdk._core.request import Patience, Request
from atoll.sdk._core.suggest import likeliest
from atoll.sdk._core.token import Token, token_of

from .cache import AsyncCache
from .client import RETRIES, TIMEOUT_S, AsyncAgent, AsyncControl
from .commands import AsyncCommands
from .desktop import AsyncDesktop
from .env import AsyncEnvironmentVariables
from .files import AsyncFiles
from .programs import AsyncPrograms
from .streams import run_stream
from .terminal import AsyncTerminal

S = TypeVar("S", bound="AsyncSandbox")


class AsyncSandbox:
    """A sandbox: an isolated Linux machine of its own, for code that you do not trust.

    Every method can raise AtollError; its subclasses say why. `api_key` and `base_url` are taken from ATOLL_API_KEY
    and ATOLL_BASE_URL (or HopX's and E2B's names) where they are not given. Making the object and touching its
    properties sends nothing.

    >>> async with AsyncSandbox.create("code-interpreter") as box:
    ...     result = await box.run_code("print(6 * 7)")
    ...     print(result.stdout, end="")
    42
    """

    def __init__(
        self,
        sandbox_id: str,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        timeout: int = TIMEOUT_S,
        max_retries: int = RETRIES,
    ) -> None:
        """An object for a sandbox that is there already. `timeout` in seconds, and `max_retries`, are of each call.

        >>> box = AsyncSandbox(sandbox.sandbox_id)
        >>> (await box.get_info()).status
        'running'
        """
        self.sandbox_id = sandbox_id
        self._control = AsyncControl(account(api_key, base_url), timeout, Patience(retries=max_retries))
        self._agent = AsyncAgent(self._control, sandbox_id)
        self._direct_url: str | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.sandbox_id!r})"

    # ---- making and finding

    @classmethod
    def create(
        cls: type[S],
        template: str | None = None,
        *,
        template_id: str | None = None,
        region: str | None = None,
        timeout_seconds: int | None = None,
        internet_access: bool | None = None,
        env_vars: Mapping[str, str] | None = None,
        allow_internet_access: bool | None = None,
        network: Network | Mapping[str, Any] | None = None,  # Any: JSON values
        metadata: Mapping[str, str] | None = None,
        secrets: Mapping[str, str] | None = None,
        inbound_auth: str | None = None,
        web_port: int | None = None,
        auto_resume: bool | None = None,
        vcpu: int | None = None,
        memory_mb: int | None = None,
        disk_gb: int | None = None,
        api_key: str | None = None,
        base_url: str | None = None,
    ) -> Opening[S]:
        """Makes a sandbox; it runs when this returns. A `with` statement ends it at its end.

        `timeout_seconds`: then it is deleted. `internet_access` (or `allow_internet_access`): False closes its way
        out; `network` says more ([networking](networking.md)). `metadata`: your own labels, which `list` can filter
        by. `secrets`: environment name → name of a secret ([secrets](secrets.md)). `inbound_auth`, `web_port`,
        `auto_resume`: who reaches its ports ([ingress](ingress.md)). `vcpu`, `memory_mb`, `disk_gb`: another size
        than the template's.

        Raises TemplateNotFoundError, ValidationError, ResourceLimitError (no room), AuthenticationError.

        >>> box = await AsyncSandbox.create("busybox", timeout_seconds=600, metadata={"user": "ann"})
        >>> (await box.get_info()).metadata["user"]
        'ann'
        >>> await box.kill()
        """
        order = control.create(
            template,
            template_id,
            network,
            region=region,
            timeout_seconds=timeout_seconds,
            internet_access=internet_access,
            allow_internet_access=allow_internet_access,
            env_vars=None if env_vars is None else dict(env_vars),
            metadata=None if metadata is None else dict(metadata),
            secrets=None if secrets is None else dict(secrets),
            inbound_auth=inbound_auth,
            web_port=web_port,
            auto_resume=auto_resume,
            vcpu=vcpu,
            memory_mb=memory_mb,
            disk_gb=disk_gb,
        )
        return opening(cls._create(order, template, api_key, base_url))

    @classmethod
    async def _create(
        cls: type[S], order: Request, template: str | None, api_key: str | None, base_url: str | None
    ) -> S:
        plane = AsyncControl.of(api_key, base_url)
        try:
            data = await plane.call(order)
        except NotFoundError as error:
            if template is None or "template" not in error.message.lower():
                raise
            raise await cls._no_template(template, plane, error) from error
        return cls._of(data, api_key, base_url)

    @staticmethod
    async def _no_template(name: str, plane: AsyncControl, error: NotFoundError) -> TemplateNotFoundError:
        data = await plane.call(control.list_templates(None, None))
        there = [text(each.get("name")) for each in objects(data.get("data"))]
        more = {"code": error.code, "request_id": error.request_id, "status_code": error.status_code}
        return TemplateNotFoundError(name, there, likeliest(name, there), **more)

    @classmethod
    def _of(cls: type[S], data: Json, api_key: str | None, base_url: str | None) -> S:
        found = cls(text(data.get("id")), api_key=api_key, base_url=base_url)
        found._agent.keep(token_of(data))
        found._direct_url = text(data.get("direct_url"))
        return found

    @classmethod
    async def connect(cls: type[S], sandbox_id: str, *, api_key: str | None = None, base_url: str | None = None) -> S:
        """Finds a sandbox that is there already, resumes it when it is paused, and gets a token for it.

        Raises NotFoundError, and AtollError for one that neither runs nor is paused.

        >>> box = await AsyncSandbox.connect(sandbox.sandbox_id)
        >>> (await box.commands.run("echo here")).stdout
        'here\\n'
        """
        found = cls(sandbox_id, api_key=api_key, base_url=base_url)
        info = await found.get_info()
        if info.status == "paused":
            await found.resume()
        elif info.status != "running":
            raise AtollError(f"Sandbox {sandbox_id} is {info.status}; start() runs a stopped one", code=info.status)
        await found.refresh_token()
        return found

    @classmethod
    def debug(cls: type[S], agent_url: str, jwt_token: str, sandbox_id: str = "debug") -> S:
        """An object for an agent at a URL, with its token, without the control plane.

        >>> box = AsyncSandbox.debug(sandbox.agent_url, await sandbox.get_token(), sandbox.sandbox_id)
        >>> (await box.run_code("1 + 1")).result
        '2'
        """
        found = cls(sandbox_id)
        found._agent = AsyncAgent(found._control, sandbox_id, account(None, agent_url).base_url, Token(jwt_token))
        return found

    @classmethod
    async def iter(
        cls: type[S],
        *,
        status: str | None = None,
        region: str | None = None,
        metadata: Mapping[str, str] | None = None,
        api_key: str | None = None,
        base_url: str | None = None,
    ) -> AsyncGenerator[S, None]:
        """All sandboxes of the key, page by page: of a `status` (running, paused, stopped), with all of `metadata`.

        >>> sandbox.sandbox_id in [box.sandbox_id async for box in AsyncSandbox.iter(status="running")]
        True
        """
        plane = AsyncControl.of(api_key, base_url)
        async for data in plane.each(lambda at: control.list_sandboxes(status, region, control.PAGE, at, metadata)):
            yield cls._of(data, api_key, base_url)

    @classmethod
    async def iter_info(
        cls,
        *,
        status: str | None = None,
        region: str | None = None,
        metadata: Mapping[str, str] | None = None,
        api_key: str | None = None,
        base_url: str | None = None,
    ) -> AsyncGenerator[SandboxInfo, None]:
        """As `iter`, with all that is known of each, and no further calls.

        >>> [info.status async for info in AsyncSandbox.iter_info(metadata={"name": "example"})]
        ['running']
        """
        plane = AsyncControl.of(api_key, base_url)
        async for data in plane.each(lambda at: control.list_sandboxes(status, region, control.PAGE, at, metadata)):
            yield models.sandbox_info(data)

    @classmethod
    async def list(
        cls: type[S],
        *,
        status: str | None = None,
        region: str | None = None,
        limit: int = 100,
        metadata: Mapping[str, str] | None = None,
        api_key: str | None = None,
        base_url: str | None = None,
    ) -> builtins.list[S]:
        """The newest sandboxes of the key, at most `limit`.

        >>> [box.sandbox_id for box in await AsyncSandbox.list(metadata={"name": "example"})] == [sandbox.sandbox_id]
        True
        """
        plane = AsyncControl.of(api_key, base_url)
        page = await plane.call(control.list_sandboxes(status, region, limit, None, metadata))
        return [cls._of(data, api_key, base_url) for data in objects(page.get("data"))]

    @classmethod
    async def list_info(
        cls,
        *,
        status: str | None = None,
        region: str | None = None,
        limit: int = 100,
        metadata: Mapping[str, str] | None = None,
        api_key: str | None = None,
        base_url: str | None = None,
    ) -> builtins.list[SandboxInfo]:
        """As `list`, with all that is known of each in one call.

        >>> [info.template_name for info in await AsyncSandbox.list_info(metadata={"name": "example"})]
        ['code-interpreter']
        """
        plane = AsyncControl.of(api_key, base_url)
        page = await plane.call(control.list_sandboxes(status, region, limit, None, metadata))
        return [models.sandbox_info(data) for data in objects(page.get("data"))]

    @classmethod
    async def list_templates(
        cls,
        *,
        category: str | None = None,
        language: str | None = None,
        api_key: str | None = None,
        base_url: str | None = None,
    ) -> builtins.list[Template]:
        """What sandboxes can be made of.

        >>> "busybox" in [template.name for template in await AsyncSandbox.list_templates()]
        True
        """
        data = await AsyncControl.of(api_key, base_url).call(control.list_templates(category, language))
        return [models.template(each) for each in objects(data.get("data"))]

    @classmethod
    async def get_template(cls, name: str, *, api_key: str | None = None, base_url: str | None = None) -> Template:
        """One template, by its name or id. Raises NotFoundError.

        >>> (await AsyncSandbox.get_template("code-interpreter")).language
        'python'
        """
        return models.template(await AsyncControl.of(api_key, base_url).call(control.get_template(name)))

    @classmethod
    async def delete_template(
        cls, template_id: str, *, api_key: str | None = None, base_url: str | None = None
    ) -> dict[str, Any]:  # Any: JSON values
        """Deletes a template of yours. The stock templates are refused.

        >>> try:
        ...     await AsyncSandbox.delete_template("busybox")
        ... except APIError as error:
        ...     print(error.status_code)
        403
        """
        return await AsyncControl.of(api_key, base_url).call(control.delete_template(template_id))

    @classmethod
    async def health_check(cls, *, base_url: str | None = None) -> dict[str, Any]:  # Any: JSON values
        """Whether the server is there; needs no key. Raises NetworkError.

        >>> (await AsyncSandbox.health_check())["status"]
        'ok'
        """
        return await AsyncControl.of(None, base_url).call_without_key(control.health())

    # ---- its life

    async def get_info(self) -> SandboxInfo:
        """All that the control plane knows of it.

        >>> (await sandbox.get_info()).status
        'running'
        """
        return models.sandbox_info(await self._facts())

    async def _facts(self) -> Json:
        data = await self._control.call(control.get(self.sandbox_id))
        self._direct_url = text(data.get("direct_url"))
        return data

    async def start(self) -> None:
        """Starts a stopped sandbox: its files are as they were, its programs begin anew.

        >>> async with AsyncSandbox.create("busybox") as box:
        ...     await box.stop()
        ...     await box.start()
        """
        await self._control.call(control.act(self.sandbox_id, "start"))

    async def stop(self) -> None:
        """Ends all its programs and keeps its disk.

        >>> async with AsyncSandbox.create("busybox") as box:
        ...     await box.stop()
        ...     print((await box.get_info()).status)
        stopped
        """
        await self._control.call(control.act(self.sandbox_id, "stop"))

    async def pause(self) -> None:
        """Freezes it: its memory stays, its programs stand still.

        >>> async with AsyncSandbox.create("busybox") as box:
        ...     await box.pause()
        ...     print((await box.get_info()).status)
        ...     await box.resume()
        paused
        """
        await self._control.call(control.act(self.sandbox_id, "pause"))

    async def resume(self) -> None:
        """Goes on with a paused sandbox.

        >>> async with AsyncSandbox.create("busybox") as box:
        ...     await box.pause()
        ...     await box.resume()
        ...     print((await box.get_info()).status)
        running
        """
        await self._control.call(control.act(self.sandbox_id, "resume"))

    async def kill(self) -> None:
        """Deletes it, with its disk. Raises NotFoundError when it is gone already.

        >>> box = await AsyncSandbox.create("busybox")
        >>> await box.kill()
        """
        await self._control.call(control.delete(self.sandbox_id))

    async def __aenter__(self: S) -> S:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Deletes it. One that is gone is all right, and no failure hides the block's own."""
        try:
            await self.kill()
        except NotFoundError:
            pass
        except AtollError:
            if error is None:
                raise

    async def set_timeout(self, seconds: int) -> None:
        """Sets when it is deleted: so many seconds from now.

        >>> await sandbox.set_timeout(3600)
        """
        await self._control.call(control.set_timeout(self.sandbox_id, seconds))

    async def get_expiry_info(self, expiring_soon_threshold: int = 300) -> ExpiryInfo:
        """When it ends; the threshold is in seconds.

        >>> await sandbox.set_timeout(3600)
        >>> expiry = await sandbox.get_expiry_info()
        >>> expiry.has_timeout, expiry.is_expiring_soon
        (True, False)
        """
        info = await self.get_info()
        return models.expiry_info(info.expires_at, datetime.now(UTC), expiring_soon_threshold)

    async def get_time_to_expiry(self) -> int | None:
        """Seconds until it ends; None without an end.

        >>> await sandbox.set_timeout(3600)
        >>> 3500 < await sandbox.get_time_to_expiry() <= 3600
        True
        """
        return (await self.get_expiry_info()).time_to_expiry

    async def is_expiring_soon(self, threshold_seconds: int = 300) -> bool:
        """Whether it ends within so many seconds.

        >>> await sandbox.set_timeout(3600)
        >>> await sandbox.is_expiring_soon(), await sandbox.is_expiring_soon(4000)
        (False, True)
        """
        return (await self.get_expiry_info(threshold_seconds)).is_expiring_soon

    async def is_healthy(self) -> bool:
        """Whether its agent answers. Never raises.

        >>> await sandbox.is_healthy()
        True
        """
        return await self._agent.is_healthy()

    async def ensure_healthy(self) -> None:
        """Raises SandboxExpiredError or AtollError when it cannot be used.

        >>> await sandbox.ensure_healthy()
        """
        info = await self.get_info()
        expiry = models.expiry_info(info.expires_at, datetime.now(UTC), 0)
        if expiry.is_expired:
            raise SandboxExpiredError(
                f"Sandbox {self.sandbox_id} has expired",
                SandboxErrorMetadata(
                    sandbox_id=self.sandbox_id,
                    created_at=info.created_at.isoformat() if info.created_at else None,
                    expires_at=info.expires_at.isoformat() if info.expires_at else None,
                    time_to_live=0,
                    status=info.status,
                ),
                code="sandbox_expired",
            )
        if info.status != "running" or not await self.is_healthy():
            raise AtollError(
                f"Sandbox {self.sandbox_id} is {info.status} and does not answer", code="sandbox_unhealthy"
            )

    # ---- code

    async def run_code(
        self,
        code: str,
        *,
        language: str = "python",
        timeout: float = 60,
        env: Mapping[str, str] | None = None,
        working_dir: str = "/workspace",
        preflight: bool = False,
        timeout_seconds: float | None = None,
    ) -> ExecutionResult:
        """Runs code and returns what came of it, also when it failed. Variables stay for the next call.

        `language`: python, javascript, bash, go. `timeout` (seconds): then it is ended, and the exit code is 124;
        `timeout_seconds` is another name for it. `preflight`: `ensure_healthy` first. It is never sent twice.

        >>> _ = await sandbox.run_code("x = 6")
        >>> result = await sandbox.run_code("print('hi'); x * 7")
        >>> result.stdout, result.result
        ('hi\\n', '42')
        >>> (await sandbox.run_code("1 / 0")).success
        False
        """
        if preflight:
            await self.ensure_healthy()
        limit = timeout if timeout_seconds is None else timeout_seconds
        order = agent.execute("/execute", code, language, limit, env, working_dir)
        return models.execution_result(await self._agent.call(order))

    async def run_ipython(
        self, code: str, *, timeout: float = 60, env: Mapping[str, str] | None = None
    ) -> ExecutionResult:
        """Runs Python code, as `run_code` does.

        >>> (await sandbox.run_ipython("6 * 7")).result
        '42'
        """
        order = agent.execute("/execute/ipython", code, "python", timeout, env, None)
        return models.execution_result(await self._agent.call(order))

    def run_code_stream(
        self,
        code: str,
        *,
        language: str = "python",
        timeout: float = 60,
        env: Mapping[str, str] | None = None,
        working_dir: str = "/workspace",
    ) -> AsyncGenerator[dict[str, Any], None]:  # Any: JSON values
        """Runs code and gives its output as it comes. Leaving the loop ends the run.

        Messages: `{"type": "stdout"|"stderr", "data"}`, `{"type": "display", "mime", "data"}`, at the end
        `{"type": "result", "exit_code", "execution_time"}` and `{"type": "complete", "success"}`.

        >>> async for message in sandbox.run_code_stream("for n in range(3): print(n, flush=True)"):
        ...     if message["type"] == "stdout":
        ...         print(message["data"], end="")
        0
        1
        2
        """
        return run_stream(self._agent, code, language, timeout, env, working_dir)

    async def run_code_background(
        self,
        code: str,
        *,
        language: str = "python",
        timeout: float = 300,
        env: Mapping[str, str] | None = None,
        working_dir: str = "/workspace",
        name: str | None = None,
    ) -> dict[str, Any]:  # Any: JSON values
        """Starts code and returns at once: `process_id` is what `list_processes` and `kill_process` know it by.

        >>> started = await sandbox.run_code_background("import time; time.sleep(60)", name="sleeper")
        >>> "sleeper" in [process["name"] for process in await sandbox.list_processes()]
        True
        >>> _ = await sandbox.kill_process(started["process_id"])
        """
        return await self._agent.call(agent.execute_background(code, language, timeout, env, working_dir, name))

    async def run_code_async(
        self,
        code: str,
        callback_url: str,
        *,
        language: str = "python",
        timeout: float = 1800,
        env: Mapping[str, str] | None = None,
        working_dir: str = "/workspace",
        callback_headers: Mapping[str, str] | None = None,
        callback_signature_secret: str | None = None,
    ) -> dict[str, Any]:  # Any: JSON values
        """Starts code whose result is sent to a URL when it has ended; public addresses only.

        >>> started = await sandbox.run_code_async("print(42)", "https://example.com/done")
        >>> started["status"]
        'queued'
        """
        order = agent.execute_async(
            code, callback_url, language, timeout, env, working_dir, callback_headers, callback_signature_secret
        )
        return await self._agent.call(order)

    async def list_processes(self) -> builtins.list[dict[str, Any]]:  # Any: JSON values
        """What was started in the background, with the end of its output.

        >>> started = await sandbox.run_code_background("print('done')")
        >>> started["process_id"] in [process["process_id"] for process in await sandbox.list_processes()]
        True
        """
        return objects((await self._agent.call(agent.get("/execute/processes"))).get("processes"))

    async def get_process(self, process_id: str) -> dict[str, Any]:  # Any: JSON values
        """One that was started in the background, with up to 1 MiB of its output.

        >>> started = await sandbox.run_code_background("print('done')", name="quick")
        >>> (await sandbox.get_process(started["process_id"]))["name"]
        'quick'
        """
        return await self._agent.call(agent.process(process_id))

    async def list_system_processes(self) -> builtins.list[dict[str, Any]]:  # Any: JSON values
        """All that runs in the sandbox.

        >>> all(process["pid"] > 0 for process in await sandbox.list_system_processes())
        True
        """
        return objects((await self._agent.call(agent.get("/processes"))).get("processes"))

    async def kill_process(self, process_id: str) -> dict[str, Any]:  # Any: JSON values
        """Ends one that was started in the background, with all that it has started.

        >>> started = await sandbox.run_code_background("import time; time.sleep(60)")
        >>> (await sandbox.kill_process(started["process_id"]))["status"]
        'killed'
        """
        return await self._agent.call(agent.kill_process(process_id))

    # ---- what it says of itself

    async def get_agent_info(self) -> dict[str, Any]:  # Any: JSON values
        """What its agent is, and what it can.

        >>> "features" in await sandbox.get_agent_info()
        True
        """
        return await self._agent.call(agent.get("/info"))

    async def get_agent_metrics(self) -> dict[str, Any]:  # Any: JSON values
        """Counters, and the use of processor, memory and disk.

        >>> (await sandbox.get_agent_metrics())["system"]["memory"]["used_bytes"] > 0
        True
        """
        return await self._agent.call(agent.get("/metrics/snapshot"))

    async def get_metrics_snapshot(self) -> dict[str, Any]:  # Any: JSON values
        """The same as `get_agent_metrics`.

        >>> (await sandbox.get_metrics_snapshot())["uptime_seconds"] >= 0
        True
        """
        return await self.get_agent_metrics()

    async def get_jupyter_sessions(self) -> builtins.list[dict[str, Any]]:  # Any: JSON values
        """Its interpreters that keep variables.

        >>> _ = await sandbox.run_code("x = 1")
        >>> len(await sandbox.get_jupyter_sessions()) >= 1
        True
        """
        return objects((await self._agent.call(agent.get("/jupyter/sessions"))).get("sessions"))

    async def get_token(self) -> str:
        """The token for its agent and its ports; a new one when the old one has run out.

        >>> (await sandbox.get_token()).count(".")
        2
        """
        return await self._agent.token()

    async def refresh_token(self) -> None:
        """Gets a new token. Old ones stay good until they run out.

        >>> await sandbox.refresh_token()
        """
        await self._agent.refresh()

    # ---- its network

    @property
    def agent_url(self) -> str:
        """Where its agent answers.

        >>> sandbox.agent_url.endswith(f"/s/{sandbox.sandbox_id}")
        True
        """
        return self._agent.url

    async def get_preview_url(self, port: int = 7777) -> str:
        """The URL of a program that listens on a port in it. Who may open it: [ingress](ingress.md).

        >>> url = await sandbox.get_preview_url(8000)
        >>> sandbox.sandbox_id in url
        True
        """
        if self._direct_url is None:
            await self._facts()
        return agent.port_url(self._control.account.base_url, self.sandbox_id, self._direct_url, port)

    async def get_host(self, port: int) -> str:
        """The same without the scheme, for `f"https://{host}"`; without a domain there is a path in it.

        >>> (await sandbox.get_preview_url(8000)).endswith(await sandbox.get_host(8000) + "/")
        True
        """
        return agent.host_of(await self.get_preview_url(port))

    async def create_link(self, port: int | None = None, seconds: int = 3600) -> Link:
        """A URL that opens one port in a browser, for so long (60 s to 7 days). Without a port: the web port.

        >>> link = await sandbox.create_link(8000, seconds=600)
        >>> link.port
        8000
        """
        return models.link(await self._control.call(control.create_link(self.sandbox_id, port, seconds)))

    async def update_network(
        self,
        network: Network | Mapping[str, Any] | None = None,  # Any: JSON values
        *,
        internet_access: bool | None = None,
        allow_internet_access: bool | None = None,
    ) -> SandboxInfo:
        """Replaces what it may reach, while it runs: what is left out is cleared, and open connections are cut.

        >>> async with AsyncSandbox.create("busybox") as box:
        ...     info = await box.update_network({"allow_out": ["192.0.2.7"], "deny_out": [ALL_TRAFFIC]})
        ...     print(info.network["allow_out"])
        ['192.0.2.7']
        """
        access = {"internet_access": internet_access, "allow_internet_access": allow_internet_access}
        order = control.set_network(self.sandbox_id, network, **access)
        return models.sandbox_info(await self._control.call(order))

    async def get_egress_log(self, after: int = 0, limit: int = 100, wait: float = 0) -> EgressLog:
        """What it did with its way out: entries after a cursor (below 0: the last so many).

        `wait`: seconds for which the server may wait while there is none.

        >>> log = await sandbox.get_egress_log(limit=10)
        >>> log.cursor >= 0
        True
        """
        return models.egress_log(await self._control.call(control.egress_log(self.sandbox_id, after, limit, wait)))

    async def get_egress_totals(self) -> dict[str, Any]:  # Any: JSON values
        """Counters of its outbound traffic.

        >>> totals = await sandbox.get_egress_totals()
        >>> totals["connections"] >= 0
        True
        """
        totals = await self._control.call(control.egress_totals(self.sandbox_id))
        return {name: value for name, value in totals.items() if name != "request_id"}

    # ---- its parts

    @property
    def files(self) -> AsyncFiles:
        """Its files.

        >>> await sandbox.files.exists("/workspace")
        True
        """
        return AsyncFiles(self._agent)

    @property
    def commands(self) -> AsyncCommands:
        """Shell commands.

        >>> (await sandbox.commands.run("echo hi")).stdout
        'hi\\n'
        """
        return AsyncCommands(self._agent)

    @property
    def programs(self) -> AsyncPrograms:
        """Programs with their standard streams as bytes, and terminals that can be left.

        >>> async with await sandbox.programs.start(["wc", "-c"], stdin=True) as program:
        ...     await program.write(b"hello")
        ...     await program.end_input()
        ...     print([piece.data async for piece in program])
        [b'5\\n']
        """
        return AsyncPrograms(self._agent)

    @property
    def env(self) -> AsyncEnvironmentVariables:
        """Its environment variables.

        >>> await sandbox.env.get("HOME")
        '/home/user'
        """
        return AsyncEnvironmentVariables(self._agent)

    @property
    def cache(self) -> AsyncCache:
        """Its cache.

        >>> "hits" in await sandbox.cache.stats()
        True
        """
        return AsyncCache(self._agent)

    @property
    def terminal(self) -> AsyncTerminal:
        """Terminals.

        >>> async with await sandbox.terminal.connect() as session:
        ...     await session.send_input("exit\\n")
        """
        return AsyncTerminal(self._agent)

    @property
    def desktop(self) -> AsyncDesktop:
        """Its desktop, if the template has one.

        >>> (await desktop_sandbox.desktop.get_display()).resolution
        '1280x720'
        """
        return AsyncDesktop(self._agent)
