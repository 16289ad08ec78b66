"""Start the launcher, or the egress daemon, so that it outlives us: own session, no death signal, nothing inherited but
its log."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import struct
import subprocess
import sys
from pathlib import Path

import atoll
from atoll.core.errors import Unavailable
from atoll.core.settings import EgressSettings, Places
from atoll.listening import wait_listening

log = logging.getLogger(__name__)

MODULE = "atoll.engines.native.launcher"
START_TIMEOUT_S = 20.0
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def python_command(module: str, *arguments: str) -> list[str]:
    """-P: the current directory is not a place to import from."""
    return [sys.executable, "-P", "-m", module, *arguments]


def python_environment() -> dict[str, str]:
    """Ours alone: what the operator's shell exports reaches neither the launcher nor anything born from it."""
    package = Path(next(iter(atoll.__path__)))
    return {"PATH": PATH, "LANG": "C.UTF-8", "PYTHONPATH": str(package.parent), "PYTHONUNBUFFERED": "1"}


def launcher_command(
    places: Places, uplink: str = "none", open_ranges: str = "", egress: EgressSettings | None = None
) -> list[str]:
    place = ("--socket", places.launcher_socket, "--run", places.run, "--installation", places.installation)
    network = ("--uplink", uplink, f"--open-ranges={open_ranges}")
    limits = egress or EgressSettings()
    rates = (f"--egress-rate={limits.rate}", f"--egress-burst={limits.burst}", f"--egress-mbit={limits.mbit}")
    return python_command(MODULE, *map(str, place), *network, *rates)


async def start_launcher(places: Places, command: list[str] | None = None) -> subprocess.Popen[bytes]:
    return await start_daemon("launcher", places.launcher_socket, command or launcher_command(places))


async def start_daemon(name: str, path: Path, command: list[str]) -> subprocess.Popen[bytes]:
    """Returns when it listens on `path`. The process is the caller's to reap, never to end; one that nobody waits for
    any longer before it listens is ended here."""
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    log_file = path.with_name(f"{name}.log")
    with log_file.open("ab") as output:
        process = subprocess.Popen(  # noqa: ASYNC220 - an asyncio subprocess would be killed with our event loop
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=python_environment(),
            cwd="/",
            start_new_session=True,
        )
    listening = asyncio.ensure_future(wait_listening(path, START_TIMEOUT_S))
    ended = asyncio.ensure_future(_ended(process))
    try:
        await asyncio.wait((listening, ended), return_when=asyncio.FIRST_COMPLETED)
        if ended.done():
            raise Unavailable(f"the {name} ended with status {process.wait()}; see {log_file}")
        await listening
    except BaseException:
        process.kill()
        process.wait()
        raise
    finally:
        for task in (listening, ended):
            task.cancel()
        await asyncio.gather(listening, ended, return_exceptions=True)
    return process


async def _ended(process: subprocess.Popen[bytes]) -> None:
    """By pidfd: an asyncio subprocess would kill the launcher when our event loop ends."""
    ended = asyncio.Event()
    pidfd = os.pidfd_open(process.pid)
    loop = asyncio.get_running_loop()
    loop.add_reader(pidfd, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(pidfd)
        os.close(pidfd)


def kill_listener(path: Path) -> None:
    """End a daemon that listens and does not answer. Sandboxes do not depend on it."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
        client.settimeout(1)
        client.connect(str(path))
        pid, _, _ = struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
        log.warning("process %d behind %s does not answer and is ended", pid, path.name)
        os.kill(pid, signal.SIGKILL)
