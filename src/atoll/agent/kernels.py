"""Contexts of other languages than Python: Jupyter kernels, each started and spoken to by a *bridge*
(`runner/kernel.py`), which to the agent looks like any other context process.

What is different for the agent is here: which language is meant, how long such a thing may take, the directory
that a kernel has for itself, and the time between the bridge's birth and the kernel's first cell.
"""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
from typing import Final

from . import trees
from .errors import AgentError, Kind, invalid
from .http_server import JsonObject
from .users import User, Users

PYTHON: Final = "python"
START_TIMEOUT_S: Final = 60.0
SCRATCH_PARENT: Final = "/tmp"  # noqa: S108  the sandbox's own
REMOVALS: Final = 16  # of a directory into which processes that are just ending still write
MAX_LANGUAGE: Final = 64
MAX_MESSAGE: Final = 4096  # of the bridge's, which is as hostile as the code it runs
MAX_LAST_WORDS: Final = 2048

PIECES: Final = os.O_DIRECT
"""Of a pipe: each write arrives by itself (up to 4 KiB), so a caller sees the pieces that the kernel has sent."""

_PYTHON_GRACE_S: Final = 1.0
_KERNEL_GRACE_S: Final = 5.0  # it hears of an interrupt by one more process, and some end their work slowly
_REFUSALS: Final = {kind.value: kind for kind in (Kind.UNSUPPORTED, Kind.TOO_MANY, Kind.INTERNAL)}


def language_of(value: object) -> str:
    """A request's `language`; absent, it is Python. Raises `invalid`."""
    if value is None:
        return PYTHON
    name = value.strip().lower() if isinstance(value, str) else ""
    if not name or len(name) > MAX_LANGUAGE or not name.isprintable():
        raise invalid(f"a language is a name of 1 to {MAX_LANGUAGE} characters")
    return name


def interrupt_grace_s(language: str) -> float:
    """What a cell has between the interrupt and the kill."""
    return _PYTHON_GRACE_S if language == PYTHON else _KERNEL_GRACE_S


class Launch:
    """From the bridge's birth until its kernel takes cells, or never will."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.takes_env = False
        """It can set variables for one execution."""
        self._over: asyncio.Future[None] = loop.create_future()
        self._over.add_done_callback(_seen)
        self._deadline = loop.call_later(START_TIMEOUT_S, self._late)
        self._last_words = bytearray()

    @property
    def pending(self) -> bool:
        return not self._over.done()

    async def over(self) -> None:
        """Raises why there is no kernel."""
        await asyncio.shield(self._over)

    def heard(self, message: object) -> None:
        if not isinstance(message, dict):
            return
        if message.get("type") == "ready":
            self.takes_env = message.get("env") is True
            self._end(None)
        elif message.get("type") == "refused":
            kind = _REFUSALS.get(str(message.get("kind")), Kind.INTERNAL)
            self._end(AgentError(kind, str(message.get("message"))[:MAX_MESSAGE]))

    def printed(self, data: bytes) -> None:
        self._last_words += data
        del self._last_words[:-MAX_LAST_WORDS]

    def died(self, death: JsonObject) -> None:
        words = self._last_words.decode("utf-8", "replace").strip()
        reason = f"the kernel did not start: {death['value']}"
        self._end(AgentError(Kind.INTERNAL, f"{reason}\n{words}" if words else reason))

    def _late(self) -> None:
        self._end(AgentError(Kind.INTERNAL, f"the kernel did not start within {START_TIMEOUT_S:g} s"))

    def _end(self, error: AgentError | None) -> None:
        self._deadline.cancel()
        if self._over.done():
            return
        self._last_words.clear()
        if error is None:
            self._over.set_result(None)
        else:
            self._over.set_exception(error)


def _seen(over: asyncio.Future[None]) -> None:
    """Whoever waited may have left; asyncio would log an exception that nobody looked at."""
    if not over.cancelled():
        over.exception()


def make_directory(users: Users, user: User) -> str:
    """Where a kernel's connection file and its temporary files lie, readable by its user alone."""
    path = os.path.join(SCRATCH_PARENT, f"atoll-kernel-{secrets.token_hex(8)}")
    with users.acting_as(user):
        os.mkdir(path, 0o700)
    return path


async def remove_directory(users: Users, path: str) -> None:
    """As root, and again while something that ends just now puts files there."""
    root = users.lookup("root")
    for _ in range(REMOVALS):
        try:
            await trees.in_steps(users, root, trees.remove(path))
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
                return
            if not os.path.lexists(path):
                return
        else:
            return
