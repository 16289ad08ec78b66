"""What the kernel tells this daemon: connections that begin and end, packets that were refused.

The sockets are opened in the fabric while there is still the right to; receiving needs none. When events come faster
than they are read the kernel drops some and says so once; what they would have said is lost, traffic is not.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass

from atoll.core.packet_policy import LOG_GROUP
from atoll.wire import ctnetlink, netlink, nflog

log = logging.getLogger(__name__)

SO_RCVBUFFORCE = 33
BUFFER = 16 * 1024 * 1024
"""About 60,000 events, of which a connection makes seven."""
DATAGRAM = 65_536
AT_ONCE = 256
"""Datagrams that are read before others have a turn."""


@dataclass(frozen=True)
class KernelSockets:
    connections: socket.socket
    refusals: socket.socket

    def close(self) -> None:
        self.connections.close()
        self.refusals.close()


def open_sockets() -> KernelSockets:
    """In the network namespace of the calling thread; needs CAP_NET_ADMIN."""
    groups = (ctnetlink.GROUP_NEW, ctnetlink.GROUP_UPDATE, ctnetlink.GROUP_DESTROY)
    with contextlib.ExitStack() as undo:
        connections = undo.enter_context(_netfilter_socket(sum(1 << group - 1 for group in groups)))
        refusals = undo.enter_context(_netfilter_socket(0))
        for request in nflog.bind(LOG_GROUP):
            if code := _ask(refusals, request):
                raise OSError(code, f"nflog group {LOG_GROUP}: {os.strerror(code)}")
        undo.pop_all()
    for sock in (connections, refusals):
        sock.setblocking(False)
    return KernelSockets(connections, refusals)


def _ask(sock: socket.socket, request: bytes) -> int:
    """The error's number; 0 when it was done. Packets that come before the answer are not told of."""
    sock.send(request)
    while (outcome := netlink.outcome(sock.recv(DATAGRAM))) is None:
        pass
    return outcome


def _netfilter_socket(groups: int) -> socket.socket:
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, netlink.NETLINK_NETFILTER)
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
        sock.bind((0, groups))
    except OSError:
        sock.close()
        raise
    return sock


class Reading:
    """Datagrams of one socket to a function, until closed."""

    def __init__(self, sock: socket.socket, receive: Callable[[bytes], None], lost: Callable[[], None]) -> None:
        self._socket = sock
        self._receive = receive
        self._lost = lost
        asyncio.get_running_loop().add_reader(sock, self._readable)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()

    def _readable(self) -> None:
        for _ in range(AT_ONCE):
            try:
                datagram = self._socket.recv(DATAGRAM)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self._lost()
                continue
            try:
                self._receive(datagram)
            except Exception:
                log.exception("an event of the kernel was not understood")
