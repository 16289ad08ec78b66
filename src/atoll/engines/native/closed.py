"""Closed TCP connections are forgotten soon: the log of outbound traffic has a line when the kernel forgets.

By itself it does so after minutes. Here the events of connection tracking are followed and what is closed is deleted
`LINGER_S` later; until then an end whose last packet was lost gets its answer. Without a launcher the kernel's own time
holds, and nothing is wrong but late.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import deque

from atoll.wire import ctnetlink, netlink

log = logging.getLogger("atoll.launcher")

LINGER_S = 1.0
MAX_WAITING = 65_536
AT_ONCE = 256
DATAGRAM = 65_536
SO_RCVBUFFORCE = 33
BUFFER = 4 * 1024 * 1024


class ClosedConnections:
    """Of the network namespace in which this is made, from now on."""

    def __init__(self, loop: asyncio.AbstractEventLoop, linger_s: float = LINGER_S) -> None:
        self._loop = loop
        self._linger_s = linger_s
        self._events = _netfilter_socket(1 << ctnetlink.GROUP_UPDATE - 1)
        self._requests = _netfilter_socket(0)
        self._waiting: deque[tuple[float, bytes]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._loop.add_reader(self._events, self._heard)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._loop.remove_reader(self._events)
        self._events.close()
        self._requests.close()

    def _heard(self) -> None:
        for _ in range(AT_ONCE):
            try:
                datagram = self._events.recv(DATAGRAM)
            except BlockingIOError:
                break
            except OSError as error:  # ENOBUFS: these the kernel forgets in its own time
                log.debug("events of connection tracking were lost: %s", error)
                continue
            if len(self._waiting) < MAX_WAITING and (closed := ctnetlink.closed_tuple(datagram)) is not None:
                self._waiting.append((self._loop.time() + self._linger_s, closed))
        self._set_timer()

    def _set_timer(self) -> None:
        if self._waiting and self._timer is None:
            self._timer = self._loop.call_at(self._waiting[0][0], self._forget)

    def _forget(self) -> None:
        self._timer = None
        now, batch = self._loop.time(), list[bytes]()
        while self._waiting and self._waiting[0][0] <= now and len(batch) < AT_ONCE:
            batch.append(ctnetlink.deletion(self._waiting.popleft()[1]))
        try:
            self._requests.send(b"".join(batch))
            while True:  # one that was gone before is an error, and no news
                self._requests.recv(DATAGRAM)
        except OSError:
            pass
        self._set_timer()


def _netfilter_socket(groups: int) -> socket.socket:
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, netlink.NETLINK_NETFILTER)
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
        sock.bind((0, groups))
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock
