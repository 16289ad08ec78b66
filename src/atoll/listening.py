"""Wait until somebody listens on a Unix socket: inotify tells when its name appears, nothing looks again and again."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

from atoll.core.errors import Unavailable

_libc = ctypes.CDLL(None, use_errno=True)
_IN_CREATE, _IN_MOVED_TO = 0x100, 0x80
_BOUND_NOT_LISTENING_S = 0.002  # a name made by bind(2) itself refuses for some microseconds until listen(2)


async def wait_listening(path: Path, timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            with _arrivals(path.parent) as arrived:
                while not await listens(path):
                    await _next(arrived, path)
    except TimeoutError as error:
        raise Unavailable(f"nobody listens on {path.name} after {timeout_s:.0f} s") from error


async def listens(path: Path) -> bool:
    try:
        _, writer = await asyncio.open_unix_connection(str(path))
    except OSError:
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True


async def _next(arrived: asyncio.Event, path: Path) -> None:
    """A name that is there and refuses is about to listen or left over by a dead process: look once more soon."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_BOUND_NOT_LISTENING_S if path.exists() else None):
            await arrived.wait()
    arrived.clear()


@contextlib.contextmanager
def _arrivals(directory: Path) -> Iterator[asyncio.Event]:
    arrived = asyncio.Event()
    descriptor = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), "inotify_init1")
    loop = asyncio.get_running_loop()
    try:
        if _libc.inotify_add_watch(descriptor, os.fsencode(directory), _IN_CREATE | _IN_MOVED_TO) < 0:
            raise OSError(ctypes.get_errno(), "inotify_add_watch", str(directory))
        loop.add_reader(descriptor, _drain, descriptor, arrived)
        yield arrived
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def _drain(descriptor: int, arrived: asyncio.Event) -> None:
    os.read(descriptor, 4096)
    arrived.set()
