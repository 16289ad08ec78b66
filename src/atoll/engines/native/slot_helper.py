"""In U_T: makes the two namespaces of a slot that must belong to U_T, and hands them back.

    ← {"inner_base": first id of the slice, counted in U_T}    → {"ok": true} + [user namespace, network namespace]

The writer of an id map has to be in the namespace's parent, which is why the launcher cannot do it.
Trusted code only; started by `spawn` on the agent's runtime.
"""

from __future__ import annotations

import os
import signal
import socket

from . import syscalls as sc

SLICE = 65_536


def main() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    control = socket.socket(fileno=3)
    sc.unshare(sc.CLONE_NEWNET)
    home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    sc.send_message(control, {"ready": True})
    while True:
        request, _ = sc.receive_message(control)
        if request is None:
            return
        try:
            fds = (new_user_namespace(int(request["inner_base"])), new_network_namespace(home))
        except OSError as error:
            sc.send_message(control, {"ok": False, "error": str(error)})
            continue
        sc.send_message(control, {"ok": True}, fds)
        for fd in fds:
            os.close(fd)


def new_user_namespace(inner_base: int) -> int:
    hold_r, hold_w = os.pipe()
    pid = sc.clone_process(sc.CLONE_NEWUSER)
    if pid == 0:
        os.close(hold_w)
        os.read(hold_r, 1)
        os._exit(0)
    os.close(hold_r)
    try:
        line = f"0 {inner_base} {SLICE}".encode()
        for name in ("uid_map", "gid_map"):
            fd = os.open(f"/proc/{pid}/{name}", os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(fd, line)
            finally:
                os.close(fd)
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(hold_w)
        os.waitpid(pid, 0)


def new_network_namespace(home: int) -> int:
    sc.unshare(sc.CLONE_NEWNET)
    try:
        return os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        sc.setns(home, sc.CLONE_NEWNET)


if __name__ == "__main__":
    main()
