"""What the host's kernel counts once for everybody: a sandbox that takes all it gets leaves the others, and root of
the host, what they need."""

from __future__ import annotations

import subprocess
import sys

import pytest

from atoll.egress.memory import TcpMemory
from atoll.engines.native.cgroup import MOST_TCP_MIB, detect_version
from stack import until

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

CEILING = {"inotify instances": 128, "timers": 16_384, "terminals": 128}
TAKE = {
    "inotify instances": "libc.inotify_init() >= 0",
    "timers": "libc.timer_create(1, None, ctypes.byref(place)) == 0",
    "terminals": "os.open('/dev/ptmx', os.O_RDWR | os.O_NOCTTY) >= 0",
}
"""One more, in Python; it is kept until the process ends."""


def script(name: str, most: int) -> str:
    return f"""
import ctypes, os
libc, place, taken = ctypes.CDLL(None), ctypes.c_void_p(), 0
try:
    while taken < {most} and {TAKE[name]}:
        taken += 1
except OSError:
    pass
print(taken, flush=True)
"""


@pytest.fixture(scope="module")
def neighbour(stack):
    with stack.box() as made:
        yield made


@pytest.mark.parametrize("name", TAKE)
def test_one_sandbox_cannot_take_all(stack, neighbour, name):
    with stack.box() as greedy:
        greedy.sh(f"cat > /tmp/take.py <<'END'\n{script(name, 100_000)}\nimport time; time.sleep(90)\nEND")
        taken = [take(greedy, user) for user in ("root", "nobody")]  # the ceiling is the sandbox's, not each user's
        assert 0 < sum(taken) <= CEILING[name]
        assert neighbour.sh(f"python3 - <<'END'\n{script(name, 5)}\nEND") == "5"
        command = [sys.executable, "-c", script(name, 5)]
        assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "5\n"


def take(box, user: str) -> int:
    box.run(f"nohup sudo -u {user} python3 /tmp/take.py > /tmp/taken-by-{user} 2>&1 &")

    def number() -> str:
        return str(box.run(f"cat /tmp/taken-by-{user}")["stdout"])

    until(number, "it has taken what it gets", timeout_s=40)
    return int(number())


def test_a_socket_bound_to_the_link_leaves_no_neighbour_that_the_kernel_could_not_drop(stack):
    """The table of neighbours has one size (1,024) for all network namespaces; one that waits cannot be dropped. The
    gateway's own entry is permanent, and the kernel counts those in nobody's limit."""
    code = """
import socket
for number in range(100):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.setsockopt(socket.SOL_SOCKET, 25, b'eth0')  # SO_BINDTODEVICE
        try: s.sendto(b'x', (f'10.0.0.{number}', 9))
        except OSError: pass
"""
    with stack.box() as box:
        shown = box.sh(f"python3 - <<'END'\n{code}\nEND\nip neigh show dev eth0")
        states = {line.split()[-1] for line in shown.splitlines() if not line.startswith("169.254.0.1 ")}
        assert states <= {"FAILED"}


WAITING = """
import socket, time
server, kept = socket.create_server(('127.0.0.1', 0), backlog=4096), []
for _ in range(500):
    near = socket.create_connection(server.getsockname())
    kept += [near, server.accept()[0]]
for each in kept:
    each.setblocking(False)
    try:
        while each.send(bytes(1 << 20)):
            pass
    except BlockingIOError:
        pass
print(len(kept), flush=True)
time.sleep(90)
"""


def test_what_waits_in_a_sandboxs_sockets_is_bounded(stack):
    """The kernel's memory for TCP is one for the whole host. Each socket is granted some kilobytes in any case."""
    memory, most_mib = TcpMemory(), 3 * MOST_TCP_MIB if detect_version() == 1 else 2 * 1024
    with stack.box() as greedy:
        greedy.sh(f"cat > /tmp/wait.py <<'END'\n{WAITING}\nEND")
        before = memory.in_use()
        greedy.run("nohup python3 /tmp/wait.py > /tmp/connected 2>&1 &")
        until(lambda: greedy.run("cat /tmp/connected")["stdout"], "all of its connections hold what they get", 60)
        assert memory.in_use() - before < most_mib << 20
