import ctypes
import os
import resource
import struct

import pytest

from atoll.engines.native import seccomp

GROUPS = (seccomp.FILES, seccomp.MEMORY, seccomp.PROCESSES, seccomp.WAITING, seccomp.SOCKETS, seccomp.IPC)


def allowed() -> set[str]:
    return {name for group in GROUPS for name in group.split()}


def test_nothing_is_both_allowed_and_refused():
    assert not allowed() & set(seccomp.REFUSED.split())


@pytest.mark.parametrize("name", ["mount", "bpf", "unshare", "setns", "io_uring_setup", "keyctl", "userfaultfd"])
def test_a_call_with_power_over_the_kernel_is_refused(name):
    assert name in seccomp.REFUSED.split()


def test_calls_with_checked_arguments_are_in_no_unconditional_list():
    assert not allowed() & {"clone", "clone3", "socket", "personality"}


def test_the_filter_compiles_to_whole_instructions():
    program = seccomp.compile_filter()
    assert len(program) % 8 == 0
    assert 100 < len(program) // 8 < 4096  # the kernel's maximum


def run_filtered(action, prepare=lambda: None) -> int:
    """The errno of `action` in a forked child under the filter, 0 when it succeeds."""
    from atoll.engines.native import syscalls as sc

    program = seccomp.compile_filter()
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            prepare()
            sc.prctl(38, 1)  # PR_SET_NO_NEW_PRIVS: lets an unprivileged test load a filter
            sc.seccomp_filter(program)
            action(sc)
            code = 0
        except OSError as error:
            code = error.errno or 98
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        (lambda sc: os.getpid(), 0),
        (lambda sc: __import__("subprocess").run(["/bin/true"], check=True), 0),
        (lambda sc: sc.unshare(sc.CLONE_NEWUSER), 1),
        (lambda sc: sc.mount("none", "/mnt", "tmpfs", 0), 1),
        (lambda sc: __import__("socket").socket(40, 1), 97),
        (lambda sc: __import__("socket").socket(17, 3), 97),
        (lambda sc: sc._checked("clone3", sc.libc.syscall(435, None, 0)), 38),
        (lambda sc: sc._checked("clone", sc.libc.syscall(56, 0x10000000 | 17, None, None, None, None)), 1),
        (lambda sc: sc._checked("io_uring", sc.libc.syscall(425, 1, None)), 1),
        (lambda sc: sc._checked("io_setup", sc.libc.syscall(206, 1, None)), 38),
        (lambda sc: __import__("socket").socket(2, 1), 0),
        (lambda sc: __import__("socket").socket(10, 2 | 0o2000000), 0),
        (lambda sc: __import__("socket").socket(16, 3, 0), 0),
        (lambda sc: __import__("socket").socket(2, 1, 132), 93),
        (lambda sc: __import__("socket").socket(2, 6), 1),
        (lambda sc: __import__("socket").socket(16, 3, 12), 93),
    ],
    ids=[
        *("getpid", "subprocess", "unshare", "mount", "vsock", "packet", "clone3", "clone-newuser", "io_uring"),
        *("io_setup", "tcp", "udp6-with-a-flag", "route-netlink", "sctp", "dccp", "netfilter-netlink"),
    ],
)
def test_the_kernel_enforces_it(action, expected):
    assert run_filtered(action) in ({expected, 38} if expected == 1 else {expected})


def test_the_exported_program_is_for_this_architecture():
    # BPF starts by loading the architecture: LD|W|ABS from offset 4 of seccomp_data.
    code, _jt, _jf, k = struct.unpack_from("=HBBI", seccomp.compile_filter())
    assert (code, k) == (0x20, 4)


CORE, FILES_OPEN = 4, 7


@pytest.mark.parametrize("upper_half", [0, 1 << 32], ids=["plain", "with-bits-that-the-kernel-ignores"])
@pytest.mark.parametrize("call", ["setrlimit", "prlimit64"])
def test_the_limit_of_core_dumps_stays_and_the_others_can_be_lowered(call, upper_half):
    def lower(sc):
        for limit in (CORE, FILES_OPEN):
            number, value = ctypes.c_long(limit | upper_half), struct.pack("QQ", 0, 0)
            arguments = (160, number, value) if call == "setrlimit" else (302, 0, number, value, None)
            sc._checked(call, sc.libc.syscall(*arguments))
        if resource.getrlimit(resource.RLIMIT_CORE) != (1, 1) or resource.getrlimit(resource.RLIMIT_NOFILE) != (0, 0):
            raise OSError(97, "not as it should be")

    assert run_filtered(lower, prepare=lambda: resource.setrlimit(resource.RLIMIT_CORE, (1, 1))) == 0
