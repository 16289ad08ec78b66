"""The kernel's memory for TCP is one for the whole host. A sandbox that lets many answers wait holds what everybody
needs, so when too much of it is in use, those who hold most through us lose the connections that hold most.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

SO_MEMINFO = 55
MEMINFO = struct.Struct("=9I")
RECEIVED, QUEUED = 0, 5
"""Places in it: what waits to be read, and what waits to be sent or acknowledged."""
PART = 2
"""Above a half of where the kernel feels pressure itself, which slows everybody down, we make room: as long as what
passes through us is a half of that. If it is less, others hold it, and our ends would not help."""


class TcpMemory:
    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._sockstat = proc / "net/sockstat"
        self._page = os.sysconf("SC_PAGE_SIZE")
        self.limit = _pressure(proc, self._page) // PART

    def in_use(self) -> int:
        """Bytes, of all sockets of the host."""
        for line in self._sockstat.read_text().splitlines():
            if line.startswith("TCP: "):
                words = line.split()
                return int(words[words.index("mem") + 1]) * self._page
        return 0


def _pressure(proc: Path, page: int) -> int:
    """Bytes above which the kernel feels it. Shown in the host's own network namespace only; in another one, as in a
    container, what the kernel takes where nobody has said otherwise."""
    try:
        return int((proc / "sys/net/ipv4/tcp_mem").read_text().split()[1]) * page
    except FileNotFoundError:
        return os.sysconf("SC_PHYS_PAGES") * page // 16


def held(sock: socket.socket | None) -> int:
    """0 of one that is closed."""
    if sock is None:
        return 0
    try:
        found = MEMINFO.unpack(sock.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, MEMINFO.size))
    except OSError:
        return 0
    return int(found[RECEIVED] + found[QUEUED])


def too_greedy(holdings: Mapping[str, Sequence[tuple[int, T]]], excess: int, limit: int) -> list[T]:
    """Whose end frees `excess` bytes: always the largest of whoever holds most by then."""
    left = {who: sorted(some, key=lambda each: each[0]) for who, some in holdings.items()}
    sums = {who: sum(size for size, _ in some) for who, some in left.items()}
    excess = min(excess, sum(sums.values()) - limit // PART)
    found = []
    while excess > 0:
        most = max(sums, key=sums.__getitem__)
        size, each = left[most].pop()
        sums[most] -= size
        excess -= size
        found.append(each)
    return found
