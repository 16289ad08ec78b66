"""A sandbox that is whole and nobody's yet: PID 1 isolated, the interpreter inside; no name, no way out.

It can be made ahead, and waits for its identity on its birth channel. It ends when that is closed, so a launcher that
is gone leaves none behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atoll.core.errors import InternalError, Unsupported
from atoll.core.limits import Limits

from . import syscalls as sc
from .cgroup import Cgroup, Cgroups
from .ids import Slice
from .slot import Berth, Slot, open_berth
from .zygotes import MAX_ERROR, Generation, TemplateSpec, close_all, has_ended, readable

BIRTH_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Newborn:
    name: str
    """Of its cgroup, for life."""
    generation: Generation
    ids: Slice
    limits: Limits
    cgroup: Cgroup
    socket_path: Path
    pid: int
    start_time: int
    pidfd: int
    channel: socket.socket

    @property
    def alive(self) -> bool:
        return not has_ended(self.pidfd)

    def fits(self, spec: TemplateSpec | None, limits: Limits) -> bool:
        """Whether it lives and is what is asked for. It has been born, so it is as good when its generation has been
        followed by another of the same template, for want of ids."""
        return self.generation.spec == spec and self.limits == limits and self.alive

    def name_host(self, hostname: str, own_uts: int) -> None:
        """Its UTS namespace belongs to an ancestor, so nobody inside can. `own_uts`: where the caller goes back to."""
        sc.setns(self.pidfd, sc.CLONE_NEWUTS)
        try:
            sc.sethostname(hostname)
        finally:
            sc.setns(own_uts, sc.CLONE_NEWUTS)

    async def identify(self, hostname: str, nameservers: Sequence[str], config: Mapping[str, Any]) -> None:
        """Last: from here on it works for somebody. Returns when its agent serves under its name. `config`, with all
        its variables, may be too large for a packet."""
        with os.fdopen(os.memfd_create("identity", os.MFD_CLOEXEC), "w+") as file:
            json.dump(config, file)
            file.seek(0)
            sc.send_message(self.channel, {"hostname": hostname, "nameservers": nameservers}, [file.fileno()])
        await expect_ready(self.channel, "identity")

    async def rehearse(self) -> None:
        """What its first caller would else wait for: an interpreter of its own, and pages that the first answer touches
        and all later ones find there."""
        sc.send_message(self.channel, {"rehearse": True})
        await expect_ready(self.channel, "rehearsal")
        async with asyncio.timeout(BIRTH_TIMEOUT_S):
            reader, writer = await asyncio.open_unix_connection(str(self.socket_path))
            with contextlib.closing(writer):
                writer.write(b"GET /health HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n")
                await reader.read()

    async def end(self) -> None:
        """One that was nobody's."""
        self.channel.close()
        await _end(self.pidfd, self.generation)
        os.close(self.pidfd)
        await self.cgroup.destroy()
        self.socket_path.unlink(missing_ok=True)


class Channels:
    """The socket pairs of one birth: PID 1 and the launcher, the seed's joiner and the launcher, PID 1 and the seed."""

    def __init__(self) -> None:
        self.birth, self.birth_inside = _pair()
        self.join, self.join_inside = _pair()
        self.seed, self.seed_inside = _pair()

    def close(self) -> None:
        for sock in vars(self).values():
            sock.close()


def _pair() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)


async def bear(
    name: str, slot: Slot, limits: Limits, config: Mapping[str, Any], sockets: Path, cgroups: Cgroups
) -> Newborn:
    """`config`: the agent's, as far as it is known. Raises `Unavailable` when a zygote has ended; the slot stays the
    caller's to discard when this fails."""
    async with contextlib.AsyncExitStack() as undo:
        undo.push_async_callback(cgroups.of(name).destroy)
        berth = open_berth(name, limits, sockets / f"{name}.sock", cgroups, slot.ids.generation)
        undo.callback((sockets / f"{name}.sock").unlink, missing_ok=True)
        with contextlib.closing(berth):
            channels = Channels()
            undo.callback(channels.close)
            pid = await _clone_agent(slot, berth, {"limits": limits.to_wire(), "config": config}, channels)
            pidfd = os.pidfd_open(pid)
            undo.callback(os.close, pidfd)
            undo.push_async_callback(_end, pidfd, slot.generation)
            start_time = start_time_of(pid)
            berth.cgroup.attach(pid)
            sc.send_message(channels.birth, {"go": True})
            if config["python"]:
                await _join(slot, berth, limits, channels, pidfd)
            else:
                await expect_ready(channels.birth, "birth")
        channel = channels.birth.dup()
        slot.close()
        channels.close()
        undo.pop_all()
    return Newborn(
        name=name,
        generation=slot.generation,
        ids=slot.ids,
        limits=limits,
        cgroup=berth.cgroup,
        socket_path=sockets / f"{name}.sock",
        pid=pid,
        start_time=start_time,
        pidfd=pidfd,
        channel=channel,
    )


async def _clone_agent(slot: Slot, berth: Berth, message: dict[str, Any], channels: Channels) -> int:
    fds = [slot.netns_fd, slot.userns_fd, slot.tree_fd, berth.listening.fileno()]
    fds += [channels.seed_inside.fileno(), channels.birth_inside.fileno(), *berth.cgroup_doors]
    answer, _ = await slot.generation.agent.request(message, fds)
    channels.birth_inside.close()
    return int(answer["pid"])


async def _join(slot: Slot, berth: Berth, limits: Limits, channels: Channels, pidfd: int) -> None:
    """The interpreter is forked while PID 1 is still being set up, and enters when it is ready."""
    if slot.generation.interpreter is None:
        raise Unsupported(f"template {slot.generation.spec.name!r} has no Python")
    fds = [pidfd, slot.userns_fd, channels.seed.fileno(), channels.join_inside.fileno(), *berth.cgroup_doors]
    answer, _ = await slot.generation.interpreter.request({"limits": limits.to_wire()}, fds)
    channels.join_inside.close()
    berth.cgroup.attach(int(answer["pid"]))
    await expect_ready(channels.birth, "birth")
    sc.send_message(channels.join, {"go": True})
    await expect_ready(channels.join, "join")


async def _end(pidfd: int, generation: Generation) -> None:
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    await generation.see_end(lambda: readable(pidfd))


async def expect_ready(sock: socket.socket, what: str) -> None:
    """A seed that runs a template's files may say anything, and send along what it likes."""
    async with asyncio.timeout(BIRTH_TIMEOUT_S):
        await readable(sock.fileno())
    try:
        message, fds = sc.receive_message(sock)
    except (ValueError, RecursionError):
        message, fds = {"error": "it answers what is no JSON"}, []
    close_all(fds)
    if not isinstance(message, dict) or "ready" not in message:
        why = message.get("error") if isinstance(message, dict) else "the newborn ended"
        raise InternalError(f"{what} failed: {str(why)[:MAX_ERROR]}")


def start_time_of(pid: int) -> int:
    """Clock ticks since boot: with the pid it names one process for ever."""
    text = Path(f"/proc/{pid}/stat").read_text()
    return int(text.rpartition(")")[2].split()[19])
