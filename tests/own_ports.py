"""Ports for programs of a test that stand for a sandbox's: the edge has a use of its own for some of those that the
kernel chooses from."""

from __future__ import annotations

import socket

from atoll.edge.routing import AGENT_PORT, CODE_PORT, E2B_AGENT_PORT


def bound() -> socket.socket:
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    if sock.getsockname()[1] not in (AGENT_PORT, E2B_AGENT_PORT, CODE_PORT):
        return sock
    with sock:  # while it is held the kernel chooses another
        return bound()
