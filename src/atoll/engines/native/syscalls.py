"""System calls that Python does not offer, through ctypes. Each raises OSError with the call's name.

Standard library only, and Python 3.9 syntax: the zygotes load this file with the template's interpreter.
"""

from __future__ import annotations

import array
import ctypes
import json
import os
import socket
import struct
from collections.abc import Sequence
from functools import cache
from typing import Any

libc = ctypes.CDLL(None, use_errno=True)

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_BIND = 4096
MS_REMOUNT_RO = 1 | 32
MS_REC = 16384
MS_PRIVATE = 1 << 18
MS_SHARED = 1 << 20
MNT_DETACH = 2
CLONE_VM = 0x00000100
SIGCHLD = 17

AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000
OPEN_TREE_CLONE = 1
OPEN_TREE_CLOEXEC = os.O_CLOEXEC
MOVE_MOUNT_F_EMPTY_PATH = 4
MOVE_MOUNT_T_EMPTY_PATH = 0x40
FSOPEN_CLOEXEC = 1
FSMOUNT_CLOEXEC = 1
FSCONFIG_SET_FLAG = 0
FSCONFIG_SET_STRING = 1
FSCONFIG_CMD_CREATE = 6
MOUNT_ATTR_RDONLY = 1
MOUNT_ATTR_NOSUID = 2
MOUNT_ATTR_NODEV = 4
MOUNT_ATTR_NOEXEC = 8
MOUNT_ATTR_IDMAP = 0x100000

RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_NAME = 15
PR_CAPBSET_READ = 23
PR_CAPBSET_DROP = 24
PR_SET_CHILD_SUBREAPER = 36
SECCOMP_SET_MODE_FILTER = 1
KEYCTL_JOIN_SESSION_KEYRING = 1

# The calls added since 5.1 carry the same number everywhere; the older ones do not.
_COMMON = {
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "close_range": 436,
    "openat2": 437,
    "mount_setattr": 442,
}
_BY_MACHINE = {
    "x86_64": {"clone": 56, "pivot_root": 155, "capset": 126, "seccomp": 317, "keyctl": 250},
    "aarch64": {"clone": 220, "pivot_root": 41, "capset": 91, "seccomp": 277, "keyctl": 219},
}
MACHINE = os.uname().machine
NUMBERS = {**_COMMON, **_BY_MACHINE.get(MACHINE, {})}


def _call(name: str, *args: Any) -> int:
    result = libc.syscall(NUMBERS[name], *[ctypes.c_long(a) if isinstance(a, int) else a for a in args])
    return _checked(name, int(result))


def _checked(name: str, result: int) -> int:
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result


def unshare(flags: int) -> None:
    _checked("unshare", libc.unshare(flags))


def setns(fd: int, flags: int) -> None:
    _checked("setns", libc.setns(fd, flags))


def prctl(option: int, argument: int = 0) -> int:
    zero = ctypes.c_ulong(0)
    return _checked("prctl", libc.prctl(option, ctypes.c_ulong(argument), zero, zero, zero))


def sethostname(name: str) -> None:
    data = name.encode()
    _checked("sethostname", libc.sethostname(data, len(data)))


def clone_process(flags: int) -> int:
    """fork() with namespace flags. Only for a single-threaded process: libc's own fork handlers do not run."""
    api = ctypes.pythonapi
    api.PyOS_BeforeFork()
    pid = libc.syscall(NUMBERS["clone"], ctypes.c_long(flags | SIGCHLD), None, None, None, None)
    number = ctypes.get_errno()
    if pid == 0:
        api.PyOS_AfterFork_Child()
        return 0
    api.PyOS_AfterFork_Parent()
    if pid < 0:
        raise OSError(number, f"clone: {os.strerror(number)}")
    return int(pid)


def clone_waiting(flags: int, seconds: int) -> int:
    """A child in new namespaces that only sleeps, for so long at most: it is there to be looked at, and to be killed.

    It shares our memory, so nothing is copied for it, and runs the C library's `sleep` on a stack of its own, never
    Python. One at a time: the stack is one."""
    entry, stack = ctypes.cast(libc.sleep, ctypes.c_void_p), ctypes.c_void_p(_top_of_stack())
    return _checked("clone", libc.clone(entry, stack, flags | CLONE_VM | SIGCHLD, ctypes.c_void_p(seconds)))


@cache
def _stack() -> Any:
    return ctypes.create_string_buffer(16 * 1024)


def _top_of_stack() -> int:
    """As both processors want it: a multiple of 16."""
    return ctypes.addressof(_stack()) + len(_stack()) & ~15


def mount(source: str | None, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    encoded = [None if word is None else word.encode() for word in (source, target, kind, data)]
    result = libc.mount(encoded[0], encoded[1], encoded[2], ctypes.c_ulong(flags), encoded[3])
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"mount {kind or ''} on {target}: {os.strerror(number)}")


def umount(target: str, flags: int = MNT_DETACH) -> None:
    _checked(f"umount {target}", libc.umount2(target.encode(), flags))


def pivot_root(new_root: str, put_old: str) -> None:
    _call("pivot_root", new_root.encode(), put_old.encode())


def open_tree(dirfd: int, path: str, flags: int) -> int:
    try:
        return _call("open_tree", dirfd, path.encode(), flags | OPEN_TREE_CLOEXEC)
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror} ({path})") from error


def clone_mount(path: str, *, recursive: bool = False, dirfd: int = AT_FDCWD) -> int:
    return open_tree(dirfd, path, OPEN_TREE_CLONE | (AT_RECURSIVE if recursive else 0))


def attach_mount(mount_fd: int, target: str, dirfd: int = AT_FDCWD) -> None:
    _call("move_mount", mount_fd, b"", dirfd, target.encode(), MOVE_MOUNT_F_EMPTY_PATH)


def attach_mount_at(mount_fd: int, target_fd: int) -> None:
    _call("move_mount", mount_fd, b"", target_fd, b"", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH)


def mount_setattr(mount_fd: int, attributes: int, *, userns_fd: int = 0, recursive: bool = False) -> None:
    attr = struct.pack("=QQQQ", attributes, 0, 0, userns_fd)
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    _call("mount_setattr", mount_fd, b"", flags, attr, len(attr))


def new_filesystem(kind: str, options: Sequence[tuple[str, str | None]]) -> int:
    """fsopen + fsconfig: a configured context; `create_mount` makes the superblock."""
    fs = _call("fsopen", kind.encode(), FSOPEN_CLOEXEC)
    try:
        for key, value in options:
            command = FSCONFIG_SET_FLAG if value is None else FSCONFIG_SET_STRING
            _call("fsconfig", fs, command, key.encode(), None if value is None else value.encode(), 0)
    except OSError as error:
        raise _with_log(fs, kind, error) from error
    return fs


def create_mount(fs: int, kind: str, attributes: int = 0) -> int:
    """Closes `fs`; returns a detached mount."""
    try:
        _call("fsconfig", fs, FSCONFIG_CMD_CREATE, None, None, 0)
        return _call("fsmount", fs, FSMOUNT_CLOEXEC, attributes)
    except OSError as error:
        raise _with_log(fs, kind, error) from error
    finally:
        os.close(fs)


def _with_log(fs: int, kind: str, error: OSError) -> OSError:
    """The kernel says why in the context's log; errno alone rarely helps."""
    try:
        log = os.read(fs, 4096).decode(errors="replace").strip()
    except OSError:
        log = ""
    return OSError(error.errno, f"{kind}: {error.strerror}{': ' + log if log else ''}")


def openat2(dirfd: int, path: str, flags: int, resolve: int, mode: int = 0) -> int:
    how = struct.pack("=QQQ", flags | os.O_CLOEXEC, mode, resolve)
    return _call("openat2", dirfd, path.encode(), how, len(how))


def close_range(first: int, last: int = 0xFFFFFFFF) -> None:
    _call("close_range", first, last, 0)


def capset(permitted: int, inheritable: int = 0) -> None:
    header = struct.pack("=Ii", 0x20080522, 0)
    low, high = permitted & 0xFFFFFFFF, permitted >> 32
    inh_low, inh_high = inheritable & 0xFFFFFFFF, inheritable >> 32
    _call("capset", header, struct.pack("=IIIIII", low, low, inh_low, high, high, inh_high))


def setfsids(uid: int, gid: int) -> None:
    libc.setfsgid(gid)
    libc.setfsuid(uid)


def seccomp_filter(program: bytes) -> None:
    buffer = ctypes.create_string_buffer(program, len(program))
    fprog = struct.pack("@HxxxxxxP", len(program) // 8, ctypes.addressof(buffer))
    _call("seccomp", SECCOMP_SET_MODE_FILTER, 0, fprog)


def new_session_keyring() -> None:
    _call("keyctl", KEYCTL_JOIN_SESSION_KEYRING, None)


def send_message(sock: socket.socket, message: Any, fds: Sequence[int] = ()) -> None:
    """One JSON packet with descriptors, on a SOCK_SEQPACKET socket."""
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    sock.sendmsg([json.dumps(message).encode()], ancillary)


def receive_message(sock: socket.socket, max_fds: int = 16) -> tuple[Any | None, list[int]]:
    """None when the peer has closed. ValueError or RecursionError for what is no JSON; nothing is left open then.
    Received descriptors are close-on-exec."""
    size = socket.CMSG_SPACE(max_fds * 4)
    data, ancillary, _flags, _address = sock.recvmsg(256 * 1024, size, socket.MSG_CMSG_CLOEXEC)
    fds: list[int] = []
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.extend(struct.unpack(f"={len(payload) // 4}i", payload[: len(payload) // 4 * 4]))
    if not data:
        return None, fds
    try:
        return json.loads(data), fds
    except BaseException:
        for fd in fds:
            os.close(fd)
        raise
