"""The egress daemon as the node sees it: started so that it outlives us, told which sandboxes there are.

What was told is kept here, in memory, and told anew to each daemon that we connect to. While there is none, whatever
the kernel sends to it is refused; so a daemon that cannot be reached is no reason to refuse a sandbox or a change.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import subprocess
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import atoll
from atoll.core.errors import AtollError, NotFound, Unavailable
from atoll.core.settings import NodeSettings
from atoll.core.uplink import Way
from atoll.rpc import RpcClient

from .backoff import Backoff
from .launcher_process import kill_listener, python_command, start_daemon

log = logging.getLogger(__name__)

MODULE = "atoll.egress.main"
HELLO_TIMEOUT_S = 5.0
SYNC_TIMEOUT_S = 30.0
PUT_TIMEOUT_S = 5.0
SHUTDOWN_TIMEOUT_S = 10.0
AT_ONCE = 64

Facts = dict[str, Any]  # Any: JSON values
OnEvent = Callable[[str, Facts], None]


@dataclass(frozen=True)
class Outbound:
    """One sandbox, as the daemon is told."""

    id: str
    address: str
    policy: Facts = field(repr=False)
    """`core.policy.to_wire`: with its secrets."""
    address6: str | None = None

    def to_wire(self) -> Facts:
        wire: Facts = {"id": self.id, "address": self.address, "policy": self.policy}
        return wire | ({"address6": self.address6} if self.address6 else {})


class Egress(Protocol):
    """What happens to the outbound traffic that the kernel does not decide on alone."""

    @property
    def authority(self) -> Path | None:
        """The certificate that sandboxes with header rules trust; None where nothing gets out."""
        ...

    async def put(self, sandbox: Outbound) -> None:
        """When it returns the policy holds, and what it forbids is cut."""
        ...

    def forget(self, sandbox_id: str) -> None: ...

    async def ask(self, method: str, params: Facts, timeout_s: float = 30.0) -> Facts: ...


class NoEgress:
    """Of an installation without an uplink: nothing gets out, so nothing is decided."""

    authority: Path | None = None

    async def put(self, sandbox: Outbound) -> None:
        return

    def forget(self, sandbox_id: str) -> None:
        return

    async def ask(self, method: str, params: Facts, timeout_s: float = 30.0) -> Facts:
        raise NotFound("this installation has no way out: it runs with --uplink none")

    async def open(self) -> None:
        return

    async def shutdown(self) -> None:
        return

    async def close(self) -> None:
        return


class EgressProcess:
    """Implements `Egress`."""

    def __init__(
        self,
        path: Path,
        command: list[str],
        version: str,
        on_event: OnEvent,
        fabric: Path | None = None,
        authority: Path | None = None,
    ) -> None:
        """`fabric`: the network namespace that it has to be in, when there is one."""
        self.authority = authority
        self._path = path
        self._command = command
        self._version = version
        self._on_event = on_event
        self._fabric = fabric
        self._known: dict[str, Outbound] = {}
        self._client: RpcClient | None = None
        self._started: list[subprocess.Popen[bytes]] = []
        self._keeping: asyncio.Task[None] | None = None
        self._telling: set[asyncio.Task[None]] = set()

    # ---- Egress

    async def put(self, sandbox: Outbound) -> None:
        self._known[sandbox.id] = sandbox
        if self._client is None:
            return
        try:
            await self._client.call("put", sandbox.to_wire(), PUT_TIMEOUT_S)
        except Unavailable as error:
            log.warning("the egress daemon did not take the policy of %s: %s", sandbox.id, error.message)
            await self._end_unheard()

    def forget(self, sandbox_id: str) -> None:
        if self._known.pop(sandbox_id, None) is None or self._client is None:
            return
        task = asyncio.create_task(self._tell_forgotten(self._client, sandbox_id))
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def ask(self, method: str, params: Facts, timeout_s: float = 30.0) -> Facts:
        if self._client is None:
            raise Unavailable("the egress daemon is being started; try again in a moment")
        return await self._client.call(method, params, timeout_s)

    # ---- its life

    async def open(self) -> None:
        """Returns when one works, or when that has failed for the first time; it is tried again until `close`."""
        await self._try_connect()
        self._keeping = asyncio.create_task(self._keep())

    async def shutdown(self) -> None:
        """Ends it, also one that we were just getting to know: nothing runs any more that it would be there for."""
        await self._stop_keeping()
        client, self._client = self._client, None
        with contextlib.suppress(Unavailable):
            await self._shut_down(client or await RpcClient.connect(self._path))
        await asyncio.to_thread(self._wait_started)

    async def close(self) -> None:
        """The daemon stays."""
        await self._stop_keeping()
        client, self._client = self._client, None
        if client is not None:
            await client.close()
        await asyncio.gather(*self._telling, return_exceptions=True)

    async def _keep(self) -> None:
        backoff, clock = Backoff(), asyncio.get_running_loop().time
        while True:
            connected_at = clock()
            if self._client is not None:
                await self._client.wait_closed()
                self._client = None
            delay_s = backoff.after(clock() - connected_at)
            log.warning("the egress daemon is gone; another is started in %.0f s", delay_s)
            await asyncio.sleep(delay_s)
            await self._try_connect()

    async def _try_connect(self) -> None:
        try:
            await self._connect()
        except (AtollError, OSError) as error:
            log.error("the egress daemon cannot be used, so what needs it is refused: %s", error)
        except Exception:
            log.exception("the egress daemon cannot be used, so what needs it is refused")

    async def _connect(self) -> None:
        self._reap()
        client = await self._greet()
        if client is None:
            self._started.append(await start_daemon("egress", self._path, self._command))
            client = await self._greet()
        if client is None:
            raise Unavailable("the egress daemon that was just started is of another version or in another place")
        try:
            self._on_event("blocklist", await client.call("blocklist", {}, HELLO_TIMEOUT_S))
            await self._sync(client)
        except BaseException:
            await client.close()
            raise
        self._client = client

    async def _sync(self, client: RpcClient) -> None:
        """One by one: together they could be more than a line of the rpc holds. What changes meanwhile is told too."""
        told: dict[str, Outbound] | None = None
        while told != self._known:
            news = [each for each in self._known.values() if told is None or told.get(each.id) != each]
            told = dict(self._known)
            for some in _parts(news):
                await asyncio.gather(*(_put_or_leave(client, each) for each in some))
            await client.call("sync", {"ids": list(told)}, SYNC_TIMEOUT_S)

    async def _greet(self) -> RpcClient | None:
        """None: there is none that we can work with, and it no longer holds the socket."""
        try:
            client = await RpcClient.connect(self._path, self._on_event)
        except Unavailable:
            return None
        try:
            hello = await client.call("hello", {}, HELLO_TIMEOUT_S)
        except Unavailable:
            await client.close()
            kill_listener(self._path)
            return None
        if hello["version"] == self._version and self._is_in_place(int(hello["pid"])):
            return client
        log.info("the egress daemon is of version %s, ours is %s: it is replaced", hello["version"], self._version)
        await self._shut_down(client)
        return None

    def _is_in_place(self, pid: int) -> bool:
        if self._fabric is None:
            return True
        try:
            return os.path.samestat(os.stat(self._fabric), os.stat(f"/proc/{pid}/ns/net"))
        except OSError:
            return False

    async def _shut_down(self, client: RpcClient) -> None:
        try:
            await client.call("shutdown", {}, SHUTDOWN_TIMEOUT_S)
            async with asyncio.timeout(SHUTDOWN_TIMEOUT_S):
                await client.wait_closed()
        except Unavailable:
            pass  # it may be gone before its answer is
        except (AtollError, TimeoutError) as error:
            log.warning("the egress daemon does not end in order: %s", error)
            kill_listener(self._path)
        finally:
            await client.close()

    async def _end_unheard(self) -> None:
        """It may go on by the old policy, so it has to end; `_keep` starts another."""
        client = self._client
        if client is not None and client.connected:
            kill_listener(self._path)
            await client.close()

    async def _tell_forgotten(self, client: RpcClient, sandbox_id: str) -> None:
        try:
            await client.call("forget", {"id": sandbox_id}, PUT_TIMEOUT_S)
        except AtollError as error:
            log.warning("the egress daemon did not hear of the end of %s: %s", sandbox_id, error.message)

    async def _stop_keeping(self) -> None:
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)
            self._keeping = None

    def _reap(self) -> None:
        self._started = [process for process in self._started if process.poll() is None]

    def _wait_started(self) -> None:
        """Only those that are ours to reap; one that an earlier node started is reaped by init."""
        for process in self._started:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(SHUTDOWN_TIMEOUT_S)
        self._reap()


async def _put_or_leave(client: RpcClient, sandbox: Outbound) -> None:
    """One that it does not take is refused everything; the others do not suffer."""
    try:
        await client.call("put", sandbox.to_wire(), SYNC_TIMEOUT_S)
    except Unavailable:
        raise
    except AtollError as error:
        log.error("the egress daemon does not take the policy of %s: %s", sandbox.id, error.message)


def _parts(sandboxes: list[Outbound]) -> Iterator[list[Outbound]]:
    for start in range(0, len(sandboxes), AT_ONCE):
        yield sandboxes[start : start + AT_ONCE]


def egress_process(settings: NodeSettings, on_event: OnEvent) -> EgressProcess | NoEgress:
    if settings.uplink.way is Way.NONE:
        return NoEgress()
    places, version = settings.places, egress_version(settings)
    return EgressProcess(
        places.egress_socket,
        [*egress_command(settings), "--version", version],
        version,
        on_event,
        fabric=Path("/run/netns") / f"atoll-{places.installation}",
        authority=places.data / "egress" / "ca.pem",
    )


def egress_command(settings: NodeSettings) -> list[str]:
    places, egress = settings.places, settings.egress
    words = {
        "socket": places.egress_socket,
        "run": places.run,
        "data": places.data,
        "installation": places.installation,
        "uplink": settings.uplink,
        "nameservers": ",".join(egress.nameservers),
        "open-ranges": settings.open_ranges,
        "domain": egress.domain or "",
        "log-mib": egress.log_mib,
    }
    authorities = [f"--egress-ca={path}" for path in egress.authorities]
    return python_command(MODULE, *(f"--{name}={value}" for name, value in words.items()), *authorities)


def egress_version(settings: NodeSettings) -> str:
    """What tells a running daemon from the one wanted: the release, a digest of its code, and what it is told."""
    package = Path(next(iter(atoll.__path__)))
    digest = hashlib.sha256()
    for path in sorted(_code(package)):
        digest.update(path.name.encode() + path.read_bytes())
    digest.update("\0".join(egress_command(settings)).encode())
    return f"{atoll.__version__}+{digest.hexdigest()[:12]}"


def _code(package: Path) -> Iterable[Path]:
    yield package / "rpc.py"
    yield package / "confinement.py"
    for room in ("egress", "core", "wire"):
        yield from (package / room).glob("*.py")
