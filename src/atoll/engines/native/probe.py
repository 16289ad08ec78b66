"""Can this host isolate? Each answer comes from trying the thing in a child process, not from reading a version.

`run_checks` gives data; the command line renders it. A required check that fails means that Atoll does not start here.
"""

from __future__ import annotations

import contextlib
import ctypes.util
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from atoll.core.check import Check
from atoll.core.limits import Limits

from . import cgroup, disk, host_limits, ids, privileges, probe_egress, seccomp, tree
from . import syscalls as sc
from .birth import enter_cgroups

CHILD_TIMEOUT_S = 30
IMAGE_MIB = 16
CAP_SYS_ADMIN = 21
PR_SET_NO_NEW_PRIVS = 38
MIN_KERNEL = (5, 19)
NEWER_KERNEL = "install a newer kernel: Debian 12's (6.1), Ubuntu 22.04's HWE (6.8) or later"

NAMESPACES = {
    "user": sc.CLONE_NEWUSER,
    "mount": sc.CLONE_NEWNS,
    "pid": sc.CLONE_NEWPID,
    "network": sc.CLONE_NEWNET,
    "ipc": sc.CLONE_NEWIPC,
    "uts": sc.CLONE_NEWUTS,
    "cgroup": sc.CLONE_NEWCGROUP,
}

TOOLS = {  # program: the package that has it
    "mmdebstrap": "mmdebstrap",
    "mkfs.ext4": "e2fsprogs",
    "apt-get": "apt",
    "gcc": "gcc libc6-dev",
    "nft": "nftables",
    "unshare": "util-linux",
    "setpriv": "util-linux",
}


class Failed(Exception):
    """Said in the operator's terms."""


def run_checks(data_dir: Path) -> list[Check]:
    checks = [_root(), _kernel()]
    if not checks[0].ok:
        return checks  # nothing below can be tried
    checks += [_namespace(name, flag) for name, flag in NAMESPACES.items()]
    checks += [_nested(), _limits()]
    checks += [*_storage(data_dir), _cgroups(), _seccomp(), *(_tool(name, package) for name, package in TOOLS.items())]
    checks += _way_out()
    return [*checks, _memory(), _disk(data_dir), _kvm()]


def _root() -> Check:
    ok = os.geteuid() == 0 and bool(privileges.own_bounding_set() & 1 << CAP_SYS_ADMIN)
    detail = "uid 0" if ok else f"uid {os.geteuid()}, without the power to make namespaces"
    return Check("root", ok, detail, "run as root: sudo …; in a container, one that is privileged")


def _kernel() -> Check:
    release = platform.release()
    version = tuple(int(part) for part in release.split("-")[0].split(".")[:2] if part.isdigit())
    return Check("kernel", version >= MIN_KERNEL, release, NEWER_KERNEL)


def _namespace(name: str, flag: int) -> Check:
    error = _in_child(lambda: sc.unshare(flag))
    return Check(f"{name} namespace", error is None, error or "made", NEWER_KERNEL)


def _nested() -> Check:
    error = _in_child(_nest)
    fix = "look at sysctl user.max_user_namespaces and kernel.apparmor_restrict_unprivileged_userns"
    return Check("nested user namespace", error is None, error or "made", fix)


def _nest() -> None:
    """As the slot helper does: who is root of a template's namespace only makes a sandbox's, and has power in it."""
    with _slice() as userns_fd:
        sc.setns(userns_fd, sc.CLONE_NEWUSER)
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    sc.unshare(sc.CLONE_NEWNET)
    sc.unshare(sc.CLONE_NEWUSER)
    sc.unshare(sc.CLONE_NEWUTS)
    sc.sethostname("probe")


def _limits() -> Check:
    error = _in_child(host_limits.set_own)
    fix = "raise it before Atoll starts (a service: LimitNOFILE=, LimitCORE=), or leave it CAP_SYS_RESOURCE"
    return Check("own limits", error is None, error or "high enough", fix)


def _cgroups() -> Check:
    fix = "boot with systemd.unified_cgroup_hierarchy=1, or mount the cpu, memory and pids controllers (writable)"
    try:
        version, error = _try_cgroups()
    except (cgroup.CgroupUnavailable, OSError) as refused:
        return Check("cgroups", False, str(refused), fix)
    return Check("cgroups", error is None, error or f"v{version}: {', '.join(cgroup.CONTROLLERS)}", fix)


def _try_cgroups() -> tuple[int, str | None]:
    """A group like a sandbox's, with a process in it."""
    groups = cgroup.Cgroups(f"probe-{os.getpid()}")
    group = groups.of("probe")
    try:
        group.create(Limits())
        error = _in_child(lambda: _enter(group))
    finally:
        removed = group.remove()
        groups.remove()
    return groups.version, error if removed else "a group cannot be removed"


def _enter(group: cgroup.Cgroup) -> None:
    group.attach(os.getpid())
    enter_cgroups(group.doors(os.geteuid()))
    if os.getpid() not in group.pids():
        raise Failed("a process cannot be moved into a group")


def _seccomp() -> Check:
    if ctypes.util.find_library("seccomp") is None:
        return Check("seccomp", False, "libseccomp is missing", "apt-get install libseccomp2")
    error = _in_child(_filtered)
    return Check("seccomp", error is None, error or "filter compiled and in force", NEWER_KERNEL)


def _filtered() -> None:
    program = seccomp.compile_filter()
    sc.prctl(PR_SET_NO_NEW_PRIVS, 1)
    sc.seccomp_filter(program)


def _tool(name: str, package: str) -> Check:
    place = shutil.which(name)
    return Check(name, place is not None, place or "not found", f"apt-get install {package}")


def _way_out() -> list[Check]:
    """Not required: an installation may run without one."""
    without = "; or run without a way out: --uplink none"
    found = ((name, _in_child(work), fix) for name, work, fix in probe_egress.TRIED)
    return [Check(name, error is None, error or "works", fix + without, required=False) for name, error, fix in found]


def _memory() -> Check:
    fields = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    available_mib = next(int(words[1]) for words in fields if words[0] == "MemAvailable:") // 1024
    return Check("memory", available_mib >= 2048, f"{available_mib} MiB free", "2 GiB free are wanted", required=False)


def _disk(data_dir: Path) -> Check:
    place = next(parent for parent in (data_dir, *data_dir.parents) if parent.is_dir())
    free_gib = shutil.disk_usage(place).free / 2**30
    fix = f"the templates take 3 GiB; choose another place with --data-dir, or free some below {place}"
    return Check("disk", free_gib >= 8, f"{free_gib:.0f} GiB free in {place}", fix, required=False)


def _kvm() -> Check:
    there = Path("/dev/kvm").exists()
    return Check("/dev/kvm", there, "present, not used yet" if there else "not present, not used yet", required=False)


def port_free(host: str, port: int) -> Check:
    try:
        socket.create_server((host, port)).close()
    except OSError as error:
        reason = (error.strerror or str(error)).partition(" (while")[0]  # asks for the address only, which is there
        fix = "choose another with --listen, unless Atoll is what listens there"
        return Check("port", False, f"{host}:{port}: {reason}", fix, required=False)
    return Check("port", True, f"{host}:{port} is free", required=False)


# ---- disks: one child goes through the steps of a birth, and the first that fails names itself


STEPS = {
    "ext4 image": "apt-get install e2fsprogs",
    "loop device": "modprobe loop; in a container: pass /dev/loop-control and the loop devices in",
    "file-system encryption": "a kernel with CONFIG_FS_ENCRYPTION and ext4 is needed",
    "idmapped mount on ext4": NEWER_KERNEL,
    "overlay on idmapped layers": NEWER_KERNEL,
}


def _storage(data_dir: Path) -> list[Check]:
    place = next(parent for parent in (data_dir, *data_dir.parents) if parent.is_dir())
    with tempfile.TemporaryDirectory(prefix=".atoll-probe-", dir=place) as directory:
        reached = Path(directory) / "reached"
        error = _in_child(lambda: _go_through(Path(directory), reached))
        done = reached.read_text().split("\n")[:-1] if reached.exists() else []
    checks = []
    for step, fix in STEPS.items():
        if step in done:
            checks.append(Check(step, True, "made"))
        else:
            checks.append(Check(step, False, error or "did not finish", fix))
            error = "not tried: a step before it failed"
    return checks


def _go_through(directory: Path, reached: Path) -> None:
    sc.unshare(sc.CLONE_NEWNS)
    sc.mount(None, "/", None, sc.MS_REC | sc.MS_PRIVATE)
    with reached.open("w", buffering=1) as report, _slice() as userns_fd:
        image = directory / "probe.ext4"
        _make_image(image)
        print("ext4 image", file=report)
        mount = disk.mount_image(str(image))
        print("loop device", file=report)
        disk.unseal(mount, os.urandom(disk.KEY_BYTES))
        print("file-system encryption", file=report)
        sc.mount_setattr(mount, sc.MOUNT_ATTR_IDMAP, userns_fd=userns_fd)
        _attach(mount, directory / "disk")
        print("idmapped mount on ext4", file=report)
        _overlay(directory, userns_fd)
        print("overlay on idmapped layers", file=report)


def _make_image(image: Path) -> None:
    with image.open("wb") as file:
        file.truncate(IMAGE_MIB * 2**20)
    argv = ["mkfs.ext4", "-q", "-F", "-O", "encrypt", str(image)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=CHILD_TIMEOUT_S, check=False)
    if done.returncode != 0:
        raise Failed(done.stderr.strip())


def _attach(mount: int, target: Path) -> None:
    target.mkdir()
    sc.attach_mount(mount, str(target))
    os.close(mount)


def _overlay(directory: Path, userns_fd: int) -> None:
    (directory / "template").mkdir()
    lower = sc.clone_mount(str(directory / "template"))
    sc.mount_setattr(lower, sc.MOUNT_ATTR_IDMAP | sc.MOUNT_ATTR_RDONLY, userns_fd=userns_fd)
    _attach(lower, directory / "lower")
    sealed = directory / "disk" / disk.SEALED
    options = [("lowerdir", directory / "lower"), ("upperdir", sealed / "upper"), ("workdir", sealed / "work")]
    with tree.file_ids(ids.FIRST):
        overlay = sc.new_filesystem("overlay", [("source", "atoll"), *((name, str(path)) for name, path in options)])
        _attach(sc.create_mount(overlay, "overlay"), directory / "root")
        (directory / "root" / "written").write_text("by the sandbox's root")


@contextlib.contextmanager
def _slice() -> Iterator[int]:
    """A user namespace like a sandbox's; the descriptor keeps it when the child that made it is gone."""
    made_read, made_write = os.pipe()
    child = os.fork()
    if child == 0:
        sc.unshare(sc.CLONE_NEWUSER)
        os.write(made_write, b"1")
        signal.pause()
    try:
        os.read(made_read, 1)
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{child}/{name}").write_text(f"0 {ids.FIRST} {ids.SLICE}")
        descriptor = os.open(f"/proc/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _in_child(work: Callable[[], None]) -> str | None:
    """None when it worked, else why not. Whatever it changed ends with the child."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        _run_and_exit(work, write)
    os.close(write)
    with os.fdopen(read, "rb") as answer:
        text = answer.read().decode(errors="replace")
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return f"ended by {signal.Signals(os.WTERMSIG(status)).name}"
    return text or None


def _run_and_exit(work: Callable[[], None], write: int) -> None:
    signal.alarm(CHILD_TIMEOUT_S)
    try:
        work()
    except (OSError, Failed, RuntimeError, ValueError) as error:
        os.write(write, str(error).encode()[:4000])
    except BaseException:
        os.write(write, repr(sys.exc_info()[1]).encode()[:4000])
    os._exit(0)
