"""The system calls a sandbox may make: an allow-list, compiled once by libseccomp into BPF.

Everything not named is refused: with EPERM when it is known and would give power over the host's
kernel (`REFUSED`), else with ENOSYS, so that a C library that tries something newer falls back.
The default answer is ENOSYS also for `clone3`, whose flags a filter cannot read: libraries then use
`clone`, whose flags we check. Nested namespaces are refused: they add kernel surface and gain a
sandbox nothing. Native asynchronous I/O (`io_setup`) is left out because its quota (fs.aio-max-nr) is
one for the whole host: a single sandbox could take it all.

The names are the kernel's; the grouping is by what a program needs them for.
"""

from __future__ import annotations

import ctypes
import errno
import os
import tempfile
from typing import Any

FILES = """
access chdir chmod chown chown32 close close_range copy_file_range creat dup dup2 dup3 faccessat faccessat2 fadvise64
fadvise64_64 fallocate fchdir fchmod fchmodat fchmodat2 fchown fchownat fcntl fdatasync fgetxattr flistxattr flock
fremovexattr fsetxattr fstat fstatfs fsync ftruncate futimesat getcwd getdents getdents64 getxattr getxattrat
inotify_add_watch inotify_init inotify_init1 inotify_rm_watch lchown lgetxattr link linkat listxattr listxattrat
llistxattr lremovexattr lseek lsetxattr lstat mkdir mkdirat mknod mknodat newfstatat open openat openat2 pread64 preadv
preadv2 pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv removexattr removexattrat rename renameat
renameat2 rmdir sendfile setxattr setxattrat splice stat statfs statx symlink symlinkat sync sync_file_range syncfs tee
truncate umask unlink unlinkat utime utimensat utimes vmsplice write writev cachestat statmount listmount
name_to_handle_at
"""
MEMORY = """
brk get_mempolicy madvise mbind memfd_create memfd_secret mincore mlock mlock2 mlockall mmap mprotect mremap msync
munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect process_madvise process_mrelease set_mempolicy
set_mempolicy_home_node map_shadow_stack mseal remap_file_pages membarrier
"""
PROCESSES = """
arch_prctl capget capset execve execveat exit exit_group fork futex futex_requeue futex_wait futex_waitv futex_wake
get_robust_list get_thread_area getcpu getegid geteuid getgid getgroups getpgid getpgrp getpid getppid getpriority
getresgid getresuid getrlimit getrusage getsid gettid getuid ioprio_get ioprio_set kcmp kill landlock_add_rule
landlock_create_ruleset landlock_restrict_self modify_ldt pidfd_getfd pidfd_open pidfd_send_signal pause prctl
process_vm_readv process_vm_writev ptrace restart_syscall rseq rt_sigaction rt_sigpending rt_sigprocmask
rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_tgsigqueueinfo sched_get_priority_max
sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval
sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield seccomp set_robust_list set_thread_area
set_tid_address setfsgid setfsuid setgid setgroups setpgid setpriority setregid setresgid setresuid setreuid
setsid setuid sigaltstack signalfd signalfd4 sysinfo tgkill time times tkill uname vfork wait4 waitid chroot
lsm_get_self_attr lsm_list_modules
"""
WAITING = """
alarm clock_getres clock_gettime clock_nanosleep epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait
epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 getitimer gettimeofday nanosleep pipe pipe2 poll ppoll pselect6
select setitimer timer_create timer_delete timer_getoverrun timer_gettime timer_settime timerfd_create timerfd_gettime
timerfd_settime getrandom ioctl
"""
SOCKETS = """
accept accept4 bind connect getpeername getsockname getsockopt listen recvfrom recvmmsg recvmsg sendmmsg sendmsg sendto
setsockopt shutdown socketpair
"""
IPC = """
mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedsend mq_unlink msgctl msgget msgrcv msgsnd semctl semget semop
semtimedop shmat shmctl shmdt shmget
"""
REFUSED = """
acct add_key bpf clock_adjtime clock_settime delete_module fanotify_init finit_module fsconfig fsmount fsopen fspick
get_kernel_syms init_module io_uring_enter io_uring_register io_uring_setup ioperm iopl kexec_file_load kexec_load
keyctl lookup_dcookie mount mount_setattr move_mount nfsservctl open_by_handle_at open_tree perf_event_open pivot_root
query_module quotactl quotactl_fd reboot request_key setdomainname sethostname setns settimeofday swapoff swapon syslog
umount umount2 unshare userfaultfd uselib vhangup
"""

NAMESPACE_FLAGS = 0x7E020080
"""CLONE_NEW{NS,CGROUP,UTS,IPC,USER,PID,NET,TIME}: none may be in `clone`'s first argument."""

AF_UNIX, AF_INET, AF_INET6, AF_NETLINK = 1, 2, 10, 16
SOCKET_FAMILIES = (AF_UNIX, AF_INET, AF_INET6, AF_NETLINK)
"""The rest (VSOCK, ALG, PACKET …) is EAFNOSUPPORT."""
SOCKET_TYPE = 0xF
"""The bits of `socket`'s second argument that are not flags."""
INTERNET_TYPES = (1, 2)
INTERNET_PROTOCOLS = (0, 1, 6, 17, 58)
"""Whatever the type says, ICMP, TCP, UDP, ICMPv6."""
INTERNET_REFUSED = (33, 115, 132, 136, 256, 262)
"""DCCP, L2TP, SCTP, UDP-Lite, SMC, MPTCP: opening one would load its module into the host's kernel."""
NETLINK_PROTOCOLS = (0, 4, 15, 16)
"""ROUTE, SOCK_DIAG, KOBJECT_UEVENT, GENERIC: what `ip`, `ss` and C libraries ask."""

RESOURCES = range(16)
RLIMIT_CORE = 4
LOW_32_BITS = 0xFFFFFFFF
"""Of a register that the kernel reads as an int: the upper half is the caller's, and must not decide."""

PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0x40000, 0xFFFFFFFF)
"""Linux, with or without ADDR_NO_RANDOMIZE (debuggers), and the query."""

_ALLOW = 0x7FFF0000
_KILL_PROCESS = 0x80000000
_ERRNO = 0x00050000
_SAY_DONE = _ERRNO | 0
"""Not carried out, yet answered with 0."""
_EQ, _MASKED_EQ, _NE = 4, 7, 1
_ATTRIBUTE_BADARCH = 2


class SeccompUnavailable(RuntimeError):
    pass


class _Compare(ctypes.Structure):
    _fields_ = (("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64))


def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    except OSError as error:
        raise SeccompUnavailable("libseccomp is missing: apt-get install libseccomp2") from error
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_init.argtypes = [ctypes.c_uint32]
    library.seccomp_release.argtypes = [ctypes.c_void_p]
    library.seccomp_attr_set.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32]
    library.seccomp_rule_add_array.argtypes = [
        ctypes.c_void_p,
        ctypes.c_uint32,
        ctypes.c_int,
        ctypes.c_uint,
        ctypes.POINTER(_Compare),
    ]
    library.seccomp_export_bpf.argtypes = [ctypes.c_void_p, ctypes.c_int]
    return library


class _Filter:
    def __init__(self) -> None:
        self.library = _library()
        self.context = self.library.seccomp_init(_ERRNO | errno.ENOSYS)
        if not self.context:
            raise SeccompUnavailable("seccomp_init failed")
        self._checked("BADARCH", self.library.seccomp_attr_set(self.context, _ATTRIBUTE_BADARCH, _KILL_PROCESS))

    def rule(self, action: int, name: str, *compares: tuple[int, int, int, int]) -> None:
        number = self.library.seccomp_syscall_resolve_name(name.encode())
        if number < 0:  # not a call of this architecture, or newer than this libseccomp: stays ENOSYS
            return
        array = (_Compare * max(1, len(compares)))(*(_Compare(*c) for c in compares))
        self._checked(name, self.library.seccomp_rule_add_array(self.context, action, number, len(compares), array))

    def export(self) -> bytes:
        with tempfile.TemporaryFile() as file:
            self._checked("export", self.library.seccomp_export_bpf(self.context, file.fileno()))
            file.seek(0)
            return file.read()

    def close(self) -> None:
        self.library.seccomp_release(self.context)

    def _checked(self, what: str, result: Any) -> None:
        if result != 0:
            raise SeccompUnavailable(f"libseccomp refused {what}: {os.strerror(-result)}")


def compile_filter() -> bytes:
    """BPF for the running architecture; every other one kills the process."""
    rules = _Filter()
    try:
        for group in (FILES, MEMORY, PROCESSES, WAITING, SOCKETS, IPC):
            for name in sorted(set(group.split())):
                rules.rule(_ALLOW, name)
        for name in REFUSED.split():
            rules.rule(_ERRNO | errno.EPERM, name)
        rules.rule(_ALLOW, "clone", (0, _MASKED_EQ, NAMESPACE_FLAGS, 0))
        _add_sockets(rules)
        _add_resource_limits(rules)
        for persona in PERSONALITIES:
            rules.rule(_ALLOW, "personality", (0, _EQ, persona, 0))
        return rules.export()
    finally:
        rules.close()


def _add_sockets(rules: _Filter) -> None:
    unsupported = _ERRNO | errno.EPROTONOSUPPORT
    rules.rule(_ALLOW, "socket", (0, _EQ, AF_UNIX, 0))
    for family in (AF_INET, AF_INET6):
        of_family = (0, _EQ, family, 0)
        for kind in range(SOCKET_TYPE + 1):
            of_kind = (1, _MASKED_EQ, SOCKET_TYPE, kind)
            if kind not in INTERNET_TYPES:
                rules.rule(_ERRNO | errno.EPERM, "socket", of_family, of_kind)
                continue
            for protocol in INTERNET_PROTOCOLS:
                rules.rule(_ALLOW, "socket", of_family, of_kind, (2, _EQ, protocol, 0))
            for protocol in INTERNET_REFUSED:
                rules.rule(unsupported, "socket", of_family, of_kind, (2, _EQ, protocol, 0))
    for protocol in range(32):
        action = _ALLOW if protocol in NETLINK_PROTOCOLS else unsupported
        rules.rule(action, "socket", (0, _EQ, AF_NETLINK, 0), (2, _EQ, protocol, 0))
    for family in range(46):
        if family not in SOCKET_FAMILIES:
            rules.rule(_ERRNO | errno.EAFNOSUPPORT, "socket", (0, _EQ, family, 0))


def _add_resource_limits(rules: _Filter) -> None:
    """All but the size of core dumps, which stays 1 (`privileges.set_limits`) whatever is asked for. The request is
    answered as done, since sudo and shells make it as a matter of course and complain about a refusal."""
    for resource in RESOURCES:
        if resource == RLIMIT_CORE:
            continue
        rules.rule(_ALLOW, "setrlimit", (0, _MASKED_EQ, LOW_32_BITS, resource))
        rules.rule(_ALLOW, "prlimit64", (1, _MASKED_EQ, LOW_32_BITS, resource))
    of_core = (1, _MASKED_EQ, LOW_32_BITS, RLIMIT_CORE)
    rules.rule(_SAY_DONE, "setrlimit", (0, _MASKED_EQ, LOW_32_BITS, RLIMIT_CORE))
    rules.rule(_SAY_DONE, "prlimit64", of_core, (2, _NE, 0, 0))
    rules.rule(_ALLOW, "prlimit64", of_core, (2, _EQ, 0, 0))
