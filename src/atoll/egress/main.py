"""The egress daemon: what sandboxes send by name goes out through here, and what they do is written down.

It is started by the node with all powers of root, enters the fabric, opens what needs a power, and becomes a user that
is nobody else on the host; only then it answers. It outlives the node, which tells it anew of every sandbox when it is
back. Who was not told of is nobody, and gets nowhere.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import ipaddress
import logging
import os
import pkgutil
import resource
import signal
import ssl
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from socket import socket
from typing import Any

import dns.rdtypes

from atoll import confinement
from atoll.core.blocklist import BlockList
from atoll.core.errors import AtollError, InvalidInput
from atoll.core.ids import is_sandbox_id
from atoll.core.names import normal
from atoll.core.policy import from_wire
from atoll.core.reach import Address, Network, parse_open_ranges
from atoll.core.settings import egress_id
from atoll.core.uplink import DNS_PORT, PROXY_ADDRESS, PROXY_PORT
from atoll.rpc import Connection, Params, RpcServer, listening_socket

from . import dns_server, kernel_events, mitm, streams
from .authority import Authority
from .blocklist_file import BlockListFile, kernel_part
from .dial import NETNS_DIRECTORY, enter_namespace
from .log import Log
from .log_files import MIB, LogLimits
from .memory import TcpMemory
from .proxy import Proxy, listen
from .pump import Pipes
from .recent import RecentNames
from .resolver import NAMESERVERS, Resolver
from .sandboxes import Known, Sandboxes
from .services import Services
from .traffic import Traffic

log = logging.getLogger("atoll.egress")

OPEN_FILES = 262_144
"""A connection that is carried has two."""
BLOCKLIST = "blocklist.txt"
LATE = ("encodings.idna", "encodings.punycode", "stringprep", "concurrent.futures.thread")
SWITCH_S = 0.001
"""How long one thread lets the other wait; a refusal has ten milliseconds."""
MAX_READ_WAIT_S = 30.0


@dataclass(frozen=True)
class Settings:
    socket: Path
    run: Path
    data: Path
    installation: str
    version: str
    nameservers: tuple[str, ...]
    opened: tuple[Network, ...]
    domain: str | None
    log_bytes: int
    authorities: tuple[Path, ...]


def parse(argv: Sequence[str]) -> Settings:
    parser = argparse.ArgumentParser(prog="atoll-egress")
    for name in ("socket", "run", "data"):
        parser.add_argument(f"--{name}", required=True, type=Path)
    parser.add_argument("--installation", required=True)
    parser.add_argument("--version", required=True, help="what `hello` answers")
    parser.add_argument("--uplink", default="auto", help="part of the version; the fabric leads there")
    parser.add_argument("--nameservers", default=",".join(NAMESERVERS))
    parser.add_argument("--open-ranges", default="")
    parser.add_argument("--domain", default="")
    parser.add_argument("--log-mib", type=int, default=1024)
    parser.add_argument("--egress-ca", action="append", default=[], type=Path)
    given = parser.parse_args(argv)
    return Settings(
        socket=given.socket,
        run=given.run,
        data=given.data,
        installation=given.installation,
        version=given.version,
        nameservers=tuple(str(ipaddress.ip_address(each)) for each in given.nameservers.split(",") if each),
        opened=parse_open_ranges(given.open_ranges),
        domain=normal(given.domain) if given.domain else None,
        log_bytes=given.log_mib * MIB,
        authorities=tuple(given.egress_ca),
    )


@dataclass
class Opened:
    """What is made while there are powers to make it."""

    proxy: socket
    dns: tuple[socket, socket]
    kernel: kernel_events.KernelSockets
    pipes: Pipes
    memory: TcpMemory
    authority: Authority
    upstream_tls: ssl.SSLContext
    proxy_tls: ssl.SSLContext
    listening: socket
    place: Path
    """DATA/egress, of which it may read what it knows the name of."""
    logs: Path
    ingress: Path


def prepare(settings: Settings) -> Opened:
    """Enters the fabric, and is somebody else afterwards: nothing is left of root. What it may reach of Atoll's files
    it reaches by directories that are open."""
    place = settings.data / "egress"
    user = egress_id(settings.installation)
    confinement.passage(place, user)
    confinement.passage(settings.run / "ingress", user)
    _give(place / "logs", user)
    _import_what_comes_late()
    _raise_open_files()
    memory = TcpMemory()  # its limits are shown in the host's namespace only
    enter_namespace(NETNS_DIRECTORY / f"atoll-{settings.installation}")
    opened = Opened(
        proxy=listen(PROXY_ADDRESS, PROXY_PORT),
        dns=dns_server.listen(PROXY_ADDRESS, DNS_PORT),
        kernel=kernel_events.open_sockets(),
        pipes=Pipes(),
        memory=memory,
        authority=Authority.ensure(place, settings.installation),
        upstream_tls=streams.trusting(settings.authorities, mitm.PROTOCOLS),
        proxy_tls=streams.trusting(settings.authorities),
        listening=listening_socket(settings.socket, 0o600),
        place=_kept_open(place),
        logs=_kept_open(place / "logs"),
        ingress=_kept_open(settings.run / "ingress"),
    )
    confinement.drop(user=user)
    if left := _capabilities():
        raise SystemExit(f"the egress daemon does not run with powers over the host (capabilities {left:#x})")
    confinement.write_only_below(opened.logs)
    return opened


def _give(directory: Path, user: int) -> None:
    """With all that an earlier version left in it as root."""
    directory.mkdir(mode=0o700, exist_ok=True)
    for _, names, files, fd in os.fwalk(directory, follow_symlinks=False):
        for name in (*names, *files, "."):
            os.chown(name, user, user, dir_fd=fd, follow_symlinks=False)


def _kept_open(directory: Path) -> Path:
    """As it is reached by who could not come there."""
    return Path(f"/proc/self/fd/{os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)}")


def _import_what_comes_late() -> None:
    """The code may lie where only root can read it."""
    for name in LATE:
        importlib.import_module(name)
    for module in pkgutil.walk_packages(dns.rdtypes.__path__, "dns.rdtypes."):
        importlib.import_module(module.name)


def _raise_open_files() -> None:
    most = int(Path("/proc/sys/fs/nr_open").read_text())
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # without the power: what there is has to do
        hard = max(hard, min(most, OPEN_FILES))
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _capabilities() -> int:
    """Effective, permitted, inheritable or ambient."""
    lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    sets = {words[0]: int(words[1], 16) for words in lines if words and words[0].startswith("Cap")}
    return sets["CapEff:"] | sets["CapPrm:"] | sets["CapInh:"] | sets["CapAmb:"]


class Daemon:
    def __init__(self, settings: Settings, opened: Opened) -> None:
        """In the running loop."""
        self.stopping = asyncio.Event()
        self._settings = settings
        self._opened = opened
        self._server = RpcServer(self._answer)
        known_as = settings.data / "egress" / BLOCKLIST
        self._file = BlockListFile(opened.place / BLOCKLIST, self._blocklist_changed, known_as)
        self.services = services = Services(
            sandboxes=Sandboxes(),
            resolver=Resolver(settings.nameservers),
            log=Log(opened.logs, LogLimits(total_bytes=settings.log_bytes)),
            recent=RecentNames(),
            blocked=lambda: self._file.current,
            opened=settings.opened,
            domain=settings.domain,
            ingress_socket=opened.ingress / "edge.sock",
            authority=opened.authority,
            upstream_tls=opened.upstream_tls,
            proxy_tls=opened.proxy_tls,
        )
        self._traffic = Traffic(
            log=services.log,
            names=services.recent,
            blocked=services.blocked,
            opened=services.opened,
            punish=self._punish,
        )
        self._dns = dns_server.DnsServer(services)
        self._proxy = Proxy(services, opened.pipes, opened.memory)
        self._methods: dict[str, Callable[[Params], Awaitable[Params]]] = {
            "hello": self._hello,
            "put": self._put,
            "forget": self._forget,
            "sync": self._sync,
            "log": self._log,
            "totals": self._totals,
            "blocklist": self._blocklist,
            "shutdown": self._shutdown,
        }

    async def run(self) -> None:
        """Until `stopping` is set."""
        readings = self._traffic.listen(self._opened.kernel)
        self._dns.start(*self._opened.dns)
        self._proxy.start(self._opened.proxy)
        tasks = [asyncio.create_task(each) for each in (self.services.log.run(), self._file.watch())]
        await self._server.serve(self._opened.listening)
        try:
            await self.stopping.wait()
        finally:
            await self._proxy.close()
            await self._dns.close()
            await self.services.resolver.close()
            for reading in readings:
                reading.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self.services.log.close()
            await self._server.close()

    # ---- rpc

    async def _answer(self, method: str, params: Params, connection: Connection) -> Params:
        handler = self._methods.get(method)
        if handler is None:
            raise InvalidInput(f"the egress daemon has no method {method[:64]!r}")
        return await handler(params)

    async def _hello(self, params: Params) -> Params:
        return {"version": self._settings.version, "pid": os.getpid()}

    async def _put(self, params: Params) -> Params:
        sandbox_id = _id(params)
        policy = from_wire(params["policy"])
        known = Known(sandbox_id, _address(params["address"]), policy, _address(params.get("address6")) or None)
        self.services.sandboxes.put(known)
        self._traffic.put(sandbox_id, _addresses(known), policy)
        await self._proxy.policy_replaced(sandbox_id)
        return {}

    async def _forget(self, params: Params) -> Params:
        await self._leave([_id(params)])
        return {}

    async def _sync(self, params: Params) -> Params:
        ids = params.get("ids")
        if not isinstance(ids, list):
            raise InvalidInput("sync names all ids that there are")
        await self._leave(self.services.sandboxes.others(set(ids)))
        return {}

    async def _leave(self, ids: Sequence[str]) -> None:
        """All at once in the registry; what they still have open ends before this returns."""
        for sandbox_id in ids:
            known = self.services.sandboxes.forget(sandbox_id)
            self._dns.forget(sandbox_id)
            self.services.recent.forget(sandbox_id)
            if known is not None:
                self._traffic.forget(sandbox_id, _addresses(known))
        await self._proxy.forget(ids)
        await self.services.log.flush()

    async def _log(self, params: Params) -> Params:
        sandbox_id = _id(params)
        after, limit = int(params.get("after", 0)), int(params.get("limit", 1000))
        wait_s = min(float(params.get("wait_s", 0.0)), MAX_READ_WAIT_S)
        reading = asyncio.ensure_future(self.services.log.read(sandbox_id, after, limit, wait_s))
        stopping = asyncio.ensure_future(self.stopping.wait())  # a waiting reader does not hold up the end
        try:
            await asyncio.wait((reading, stopping), return_when=asyncio.FIRST_COMPLETED)
            if not reading.done():
                return {"entries": [], "cursor": after}
            page = reading.result()
        finally:
            reading.cancel()
            stopping.cancel()
        return {"entries": list(page.entries), "cursor": page.cursor}

    async def _totals(self, params: Params) -> Params:
        return self.services.log.totals.to_wire(params.get("id"))

    async def _blocklist(self, params: Params) -> Params:
        return kernel_part(self._file.current)

    async def _shutdown(self, params: Params) -> Params:
        self._proxy.stop_listening()
        self.stopping.set()
        return {}

    # ---- events

    def _blocklist_changed(self, blocked: BlockList) -> None:
        self._server.broadcast("blocklist", kernel_part(blocked))

    def _punish(self, sandbox_id: str, rule: str, seconds: int, detail: str) -> None:
        self._server.broadcast("punish", {"id": sandbox_id, "rule": rule, "seconds": seconds, "detail": detail})


def _id(params: Params) -> str:
    sandbox_id = params.get("id")
    if not isinstance(sandbox_id, str) or not is_sandbox_id(sandbox_id):
        raise InvalidInput("not a sandbox id", field="id")
    return sandbox_id


def _address(text: Any) -> str:  # Any: a JSON value
    """In plain form, as sockets give it."""
    if text is None:
        return ""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError as error:
        raise InvalidInput(f"not an address: {error}", field="address") from error


def _addresses(known: Known) -> tuple[Address, ...]:
    return tuple(ipaddress.ip_address(each) for each in known.addresses)


async def _serve(settings: Settings, opened: Opened) -> None:
    daemon = Daemon(settings, opened)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, daemon.stopping.set)
    await daemon.run()


def main(argv: Sequence[str] | None = None) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    sys.setswitchinterval(SWITCH_S)
    try:
        settings = parse(sys.argv[1:] if argv is None else argv)
        opened = prepare(settings)
    except (AtollError, OSError, ValueError) as error:
        raise SystemExit(f"the egress daemon cannot start: {error}") from error
    asyncio.run(_serve(settings, opened))


if __name__ == "__main__":
    main()
