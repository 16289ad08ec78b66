"""`atoll up`: node, server and edge as children, started together, each replaced when it dies.

The supervisor owns the public listening socket: while an edge is replaced, connections wait in its queue instead of
being refused. Sandboxes and the launcher are nobody's children here; they end only by a clean stop.

    SIGTERM, SIGINT   stop: edge, server, every sandbox (disks kept), node; status 0
    SIGHUP            node and server are replaced by new ones, sandboxes and the edge's streams go on
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import shutil
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from atoll import background, compose
from atoll.core.errors import AtollError, Conflict, Unavailable
from atoll.core.settings import Places
from atoll.listening import wait_listening
from atoll.node.backoff import Backoff
from atoll.node.launcher_process import python_command, python_environment
from atoll.rpc import RpcClient

log = logging.getLogger(__name__)

READY_TIMEOUT_S = 60.0
START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 15.0
STOP_ALL_TIMEOUT_S = 120.0
ASK_AGAIN_S = 0.02
RENEW_EVERY_S = 12 * 3600.0
BACKLOG = 1024


@dataclass(frozen=True)
class ChildSpec:
    name: str
    command: list[str]
    environment: Mapping[str, str]
    ready: Callable[[], Awaitable[None]]
    """Returns when the process serves."""
    pass_fds: tuple[int, ...] = ()


@dataclass
class Child:
    """One role, whichever process plays it at the moment."""

    spec: ChildSpec
    process: asyncio.subprocess.Process | None = None
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    _stopping: bool = False
    _replacing: bool = False

    async def keep(self) -> None:
        """Runs it again whenever it ends, until `stop`."""
        backoff, clock = Backoff(), asyncio.get_running_loop().time
        while not self._stopping:
            started_at = clock()
            status = await self._live()
            self.ready.clear()
            if self._stopping:
                return
            delay_s = 0.0 if self._replacing else backoff.after(clock() - started_at)
            if not self._replacing:
                log.error("%s ended with status %s; another is started in %.0f s", self.spec.name, status, delay_s)
            self._replacing = False
            await asyncio.sleep(delay_s)

    async def replace(self) -> None:
        """Returns when a new process serves."""
        if self.process is None:
            return
        self._replacing = True
        self.ready.clear()
        await self._end()
        await self.ready.wait()

    async def stop(self) -> None:
        self._stopping = True
        await self._end()

    async def _live(self) -> int:
        self.process = await asyncio.create_subprocess_exec(
            *self.spec.command,
            env=dict(self.spec.environment),
            stdin=asyncio.subprocess.DEVNULL,
            pass_fds=self.spec.pass_fds,
            start_new_session=True,  # a terminal's Ctrl-C is for the supervisor, which stops them in order
        )
        log.info("%s started, pid %d", self.spec.name, self.process.pid)
        ready = asyncio.create_task(self._await_ready(self.process))
        try:
            return await self.process.wait()
        finally:
            ready.cancel()
            await asyncio.gather(ready, return_exceptions=True)

    async def _await_ready(self, process: asyncio.subprocess.Process) -> None:
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                await self.spec.ready()
        except (AtollError, TimeoutError, OSError):
            log.exception("%s does not get ready and is ended", self.spec.name)
            _signal(process, signal.SIGKILL)
        else:
            self.ready.set()

    async def _end(self) -> None:
        process = self.process
        if process is None:
            return
        _signal(process, signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await process.wait()
        except TimeoutError:
            log.warning("%s does not end and is killed", self.spec.name)
            _signal(process, signal.SIGKILL)
            await process.wait()


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)


class Supervisor:
    def __init__(
        self,
        specs: list[ChildSpec],
        serving: Callable[[], Awaitable[None]],
        stop_sandboxes: Callable[[], Awaitable[None]],
    ) -> None:
        """`specs` from the back to the front: node, server, edge. `serving` returns when they work together."""
        self._children = [Child(spec) for spec in specs]
        self._serving = serving
        self._stop_sandboxes = stop_sandboxes
        self._keeping: list[asyncio.Task[None]] = []
        self._stop = asyncio.Event()
        self._upgrade = asyncio.Event()

    def request_stop(self) -> None:
        self._stop.set()

    def request_upgrade(self) -> None:
        self._upgrade.set()

    async def run(self, announce: Callable[[], None]) -> None:
        try:
            if await self._start():
                announce()
                await self._serve()
        finally:
            await self._shut_down()

    async def _start(self) -> bool:
        """All at once: each waits by itself for what it needs, and most of the time goes to imports."""
        self._keeping += [asyncio.create_task(child.keep()) for child in self._children]
        ready = asyncio.gather(*(child.ready.wait() for child in self._children))
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                return await self._unless_stopped(ready) and await self._unless_stopped(self._serving())
        except TimeoutError as error:
            raise Unavailable(f"Atoll does not serve after {START_TIMEOUT_S:.0f} s; the log says why") from error

    async def _serve(self) -> None:
        while await self._unless_stopped(self._upgrade.wait()):
            self._upgrade.clear()
            for child in self._children[:-1]:  # all but the edge, which carries the traffic
                if not await self._unless_stopped(child.replace()):
                    return
            log.info("node and server are replaced")

    async def _unless_stopped(self, work: Awaitable[object]) -> bool:
        """False when the stop came first."""
        wanted, stopped = asyncio.ensure_future(work), asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait((wanted, stopped), return_when=asyncio.FIRST_COMPLETED)
            return wanted.done() and not stopped.done()
        finally:
            for task in (wanted, stopped):
                task.cancel()
            await asyncio.gather(wanted, stopped, return_exceptions=True)

    async def _shut_down(self) -> None:
        *others, node = reversed(self._children)
        for child in others:
            await child.stop()
        if node.ready.is_set():
            try:
                await self._stop_sandboxes()
            except AtollError as error:
                log.error("the sandboxes could not be stopped: %s", error)
        await node.stop()
        for task in self._keeping:
            task.cancel()
        await asyncio.gather(*self._keeping, return_exceptions=True)


# ---- an installation


async def supervise(
    config: compose.Config,
    listener: socket.socket,
    announce: Callable[[], None],
    tell: Callable[[str], None],
    verbose: bool = False,
) -> None:
    """`announce` is called once, when it serves; `tell` with what becomes of the templates that are built then."""
    specs = installation(config, listener, "INFO" if verbose else "WARNING")
    address = listener.getsockname()
    supervisor = Supervisor(specs, lambda: serves(*address), lambda: stop_sandboxes(config.places))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, supervisor.request_stop)
    loop.add_signal_handler(signal.SIGHUP, supervisor.request_upgrade)
    listener.listen(BACKLOG)
    beside = [asyncio.create_task(renew_certificate(config))]

    def serving() -> None:
        announce()
        beside.append(asyncio.create_task(background.build(config.places, config.background_templates, tell)))

    try:
        await supervisor.run(serving)
    finally:
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)


async def renew_certificate(config: compose.Config) -> None:
    """Before its end, however long we serve; the edge notices the new one."""
    while True:
        await asyncio.sleep(RENEW_EVERY_S)
        try:
            compose.prepare_tls(config)
        except (AtollError, OSError) as error:
            log.error("the certificate is not renewed: %s", error)


def installation(config: compose.Config, listener: socket.socket, log_level: str) -> list[ChildSpec]:
    host, port = listener.getsockname()
    server = config.server(config.public_url(host, port))
    edge = config.edge(port, listener.fileno())
    places = config.places

    def spec(role: str, settings: object, ready: Callable[[], Awaitable[None]], *fds: int) -> ChildSpec:
        variables = {
            compose.SETTINGS_VARIABLE: compose.encode_settings(settings),
            compose.PARENT_VARIABLE: str(os.getpid()),
            compose.LOG_LEVEL_VARIABLE: log_level,
        }
        return ChildSpec(role, python_command("atoll.compose", role), python_environment() | variables, ready, fds)

    return [
        spec("node", config.node(), lambda: wait_listening(places.node_socket, READY_TIMEOUT_S)),
        spec("server", server, lambda: wait_listening(places.server_socket, READY_TIMEOUT_S)),
        spec("edge", edge, lambda: answers(host, port), listener.fileno()),
    ]


async def answers(host: str, port: int) -> None:
    """An edge serves: the listener queues a request until one does. What it answers is not the edge's fault."""
    await _ask_health(host, port)


async def serves(host: str, port: int) -> None:
    """Edge, server and node work together. No event crosses three processes, so this asks until it is so."""
    while True:
        with contextlib.suppress(OSError):  # an edge that died over it
            if _says_ready(await _ask_health(host, port)):
                return
        await asyncio.sleep(ASK_AGAIN_S)


def _says_ready(answer: bytes) -> bool:
    head, _, body = answer.partition(b"\r\n\r\n")
    try:
        return head.split(b" ")[1:2] == [b"200"] and json.loads(body)["ready"] is True
    except (ValueError, KeyError, TypeError):
        return False


async def _ask_health(host: str, port: int) -> bytes:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(f"GET /health HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n".encode())
        return await reader.read()
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def stop_sandboxes(places: Places) -> None:
    client = await RpcClient.connect(places.node_socket)
    try:
        await client.call("stop_all", {}, STOP_ALL_TIMEOUT_S)
    finally:
        await client.close()


def bind(host: str, port: int) -> socket.socket:
    """Bound, so that the port is known and ours; nobody is let into its queue before `supervise`."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise Conflict(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
    return listener


@contextlib.contextmanager
def data_lock(places: Places) -> Iterator[None]:
    """One `atoll up` for each data directory."""
    make_directories(places)
    with (places.data / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Conflict(f"Atoll is running on {places.data} already") from error
        yield


def make_directories(places: Places) -> None:
    places.data.mkdir(parents=True, exist_ok=True, mode=0o755)
    places.run.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    places.run.mkdir(exist_ok=True, mode=0o700)


def local_url(host: str, port: int) -> str:
    """For this machine, where plain HTTP is spoken whatever our name is."""
    return f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}"  # noqa: S104 - compared, not bound


def publish(config: compose.Config, url: str, here: str) -> None:
    """Where to find us, for `atoll ps` and for whoever asked with --print-env."""
    write_private(config.places.run / compose.URL_FILE, here + "\n")
    if config.print_env is not None:
        key = compose.first_key(config.places) or ""
        trust = f"SSL_CERT_FILE={config.authority}\n" if config.authority else ""
        write_private(config.print_env, f"ATOLL_BASE_URL={url}\nATOLL_API_KEY={key}\n{trust}")


def withdraw(places: Places) -> None:
    """RUN goes with the installation, but for logs that say something; not while a launcher or a sandbox lives."""
    (places.run / compose.URL_FILE).unlink(missing_ok=True)
    living = any(_somebody_listens(path) for path in (places.launcher_socket, places.egress_socket))
    if living or any((places.run / "launcher").glob("*.json")):
        return
    logs = {path: path.read_text(errors="replace") for path in places.run.glob("*.log")}
    shutil.rmtree(places.run, ignore_errors=True)
    for path, told in logs.items():
        if told:
            places.run.mkdir(mode=0o700, exist_ok=True)
            write_private(path, told)


def _somebody_listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


def write_private(path: Path, text: str) -> None:
    """Appears complete and readable by its owner only."""
    staging = path.with_name(f".{path.name}.{os.getpid()}")
    staging.unlink(missing_ok=True)
    descriptor = os.open(staging, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    staging.rename(path)
