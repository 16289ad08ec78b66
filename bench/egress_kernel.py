"""What a policy costs in the kernel alone: no sandbox is born, its link and its rules are made as the launcher does.

In a thread of its own, which enters network namespaces and is not brought back.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from atoll.core.packet_policy import compile_policy
from atoll.core.policy import OPEN, parse
from atoll.core.uplink import parse_uplink
from atoll.engines.native.network import NETNS_DIRECTORY, Fabric, remove_fabric
from atoll.engines.native.rules import Limits
from atoll.engines.native.uplink import UplinkSetup
from atoll.testing.internet import BULK, Internet

RULES, MANY, SAMPLES, CONNECTIONS = 100, 1000, 50, 2000
SERVER, PORT = BULK, 4001
INSTALLATION = "be9c0001"


def bench_kernel(report: Any) -> None:  # Any: the bench's report
    """Two transactions a sandbox are compared: with no rules and with a hundred, beside none and a thousand others."""
    ruled = compile_policy(parse({"deny_out": [f"64.{number}.0.0/24" for number in range(RULES)]}))
    denying = compile_policy(parse({"deny_out": [SERVER]}))
    with fabric() as (made, box):
        made.connect(5, box)
        links = itertools.count(10)
        for beside in (0, MANY):
            for _ in range(beside):
                made.open(next(links), box, ruled)
            took = {policy: [timed(lambda p=policy: made.open(next(links), box, p)) for _ in range(SAMPLES)]
                    for policy in (OPEN_PACKETS, ruled)}  # fmt: skip
            report.put(f"egress: {RULES} rules in the kernel, beside {beside}", took[ruled], "ms", took[OPEN_PACKETS])
        made.open(5, box, OPEN_PACKETS)
        connections = list(connected(made, box))
        cut = timed(lambda: made.govern(5, box, denying))
        assert all(ended(each) for each in connections)
        report.put(f"egress: an update that cuts {CONNECTIONS:,} connections", [cut], "ms")


OPEN_PACKETS = compile_policy(OPEN)


def timed(work: Callable[[], object]) -> float:
    before = time.perf_counter()
    work()
    return (time.perf_counter() - before) * 1000


def listening() -> socket.socket:
    """Nobody accepts: what is measured shares this process with no server."""
    return socket.create_server((SERVER, PORT), backlog=CONNECTIONS)


def connected(made: Fabric, box: int) -> Iterator[socket.socket]:
    with made.visiting(box):
        for _ in range(CONNECTIONS):
            yield socket.create_connection((SERVER, PORT), timeout=10)


def ended(connection: socket.socket) -> bool:
    connection.setblocking(False)
    with connection:
        try:
            return connection.recv(1) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True


@contextlib.contextmanager
def fabric() -> Iterator[tuple[Fabric, int]]:
    """With an uplink into a small internet, and a network namespace as a sandbox has it."""
    name = f"{INSTALLATION}-box"
    with contextlib.ExitStack() as undo:
        net = undo.enter_context(Internet(suffix="kernel"))
        undo.enter_context(net.far(listening))
        run = Path(undo.enter_context(tempfile.TemporaryDirectory())) / INSTALLATION
        run.mkdir()
        subprocess.run(["ip", "netns", "add", name], check=True)
        undo.callback(subprocess.run, ["ip", "netns", "del", name], check=True)
        box = os.open(NETNS_DIRECTORY / name, os.O_RDONLY | os.O_CLOEXEC)
        undo.callback(os.close, box)
        made = Fabric(INSTALLATION)
        undo.callback(made.close)
        undo.callback(remove_fabric, INSTALLATION)
        uplink = UplinkSetup(made, run, parse_uplink(net.uplink), (), Limits(0, 0, 0))
        undo.callback(uplink.tear_down)
        uplink.set_up()
        yield made, box


def in_a_thread(work: Callable[[], None]) -> None:
    failed: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
