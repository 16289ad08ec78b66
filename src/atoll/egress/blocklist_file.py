"""The operator's own lines of the block list: a file that is read again when it has changed.

A file with a bad line changes nothing: the last good one stays in force, and the log says which line it is, once. No
file is an empty one.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from atoll.core.blocklist import DEFAULT_BLOCKLIST, NOTHING_BLOCKED, BlockList, parse_blocklist
from atoll.core.errors import InvalidInput

POLL_S = 0.5
MAX_BYTES = 16 * 1024 * 1024

log = logging.getLogger(__name__)

Stamp = tuple[int, int, int, int]
UNSEEN = (0, 0, 0, 0)


class BlockListFile:
    def __init__(
        self, path: Path, changed: Callable[[BlockList], None] = lambda _: None, name: Path | None = None
    ) -> None:
        """`changed` is told of each list that comes into force after the first. `name`: what people call the file."""
        self._path, self._name = path, name or path
        self._changed = changed
        self._stamp: Stamp | None = None
        self.current = DEFAULT_BLOCKLIST
        self.faults = 0
        """How often the file could not be used."""
        if (found := self._read_if_new()) is not None:
            self.current = found

    async def watch(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(POLL_S)
            self._take(await asyncio.to_thread(self._read_if_new))  # a long one takes a second to understand

    def reload(self) -> None:
        self._take(self._read_if_new())

    def _take(self, found: BlockList | None) -> None:
        if found is None:
            return
        self.current = found
        self._changed(found)

    def _read_if_new(self) -> BlockList | None:
        """None: there is nothing new, or nothing good."""
        stamp = self._look()
        if stamp == self._stamp:
            return None
        self._stamp = stamp
        try:
            found = DEFAULT_BLOCKLIST | (self._read() if stamp is not None else NOTHING_BLOCKED)
        except PermissionError:
            self._refuse("everybody must be able to read it: chmod a+r")
            return None
        except (InvalidInput, OSError, UnicodeError) as error:
            self._refuse(getattr(error, "strerror", None) or str(error))
            return None
        return found if found != self.current else None

    def _refuse(self, why: str) -> None:
        self.faults += 1
        log.warning("%s is not used, the last good block list stays in force: %s", self._name, why)

    def _look(self) -> Stamp | None:
        """None: there is no file."""
        try:
            status = os.stat(self._path)
        except FileNotFoundError:
            return None
        except OSError:
            return UNSEEN
        return status.st_ctime_ns, status.st_mtime_ns, status.st_size, status.st_ino

    def _read(self) -> BlockList:
        with self._path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise InvalidInput(f"it is longer than {MAX_BYTES} bytes")
        return parse_blocklist(content.decode().splitlines())


def kernel_part(blocked: BlockList) -> dict[str, Any]:
    """What is refused without a name being known, for the kernel's sets."""
    return {
        "networks": [str(network) for network in blocked.networks],
        "ports": [f"{protocol}/{port}" for protocol, port in sorted(blocked.ports)],
    }
