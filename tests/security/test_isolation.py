"""What root inside a sandbox must not be able to do: one promise a test."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def box(stack):
    with stack.box() as made:
        yield made


@pytest.fixture(scope="module")
def other(stack):
    with stack.box() as made:
        yield made


def status_field(box, pid: str, name: str) -> str:
    return box.sh(f"sudo awk '/^{name}:/ {{print $2}}' /proc/{pid}/status")


def host_fact(stack, box, name: str) -> str:
    return os.readlink(f"/proc/{stack.host_pid(box)}/ns/{name}")


@pytest.mark.parametrize("name", ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"])
def test_every_namespace_differs_from_the_hosts_and_the_neighbours(stack, box, other, name):
    seen = {host_fact(stack, box, name), host_fact(stack, other, name), os.readlink(f"/proc/self/ns/{name}")}
    assert len(seen) == 3


def test_root_inside_is_an_unprivileged_id_outside(stack, box):
    uid = int(Path(f"/proc/{stack.host_pid(box)}/status").read_text().split("Uid:")[1].split()[0])
    assert uid >= 0x7000_0000
    assert box.sh("sudo id -u") == "0"


def test_the_neighbours_ids_do_not_overlap(stack, box, other):
    maps = [Path(f"/proc/{stack.host_pid(b)}/uid_map").read_text().split() for b in (box, other)]
    assert all(m[0] == "0" and m[2] == "65536" for m in maps)
    assert abs(int(maps[0][1]) - int(maps[1][1])) >= 65536


def test_the_bounding_set_has_ten_capabilities(box):
    assert status_field(box, "1", "CapBnd") == "00000000800404fb"
    assert status_field(box, "self", "CapBnd") == "00000000800404fb"


def test_the_filter_is_on_for_every_process(box):
    assert set(box.sh("sudo cat /proc/[0-9]*/status | awk '/^Seccomp:/ {print $2}'").split()) == {"2"}


REFUSED = {
    "mount a file system": "mount -t tmpfs none /mnt",
    "unmount proc": "umount /proc",
    "remount proc sys writable": "mount -o remount,rw /proc/sys",
    "make a device node": "mknod /tmp/sda b 8 0",
    "make a user namespace": "unshare -U true",
    "make a network namespace": "unshare -n true",
    "change the host name": "hostname changed",
    "take the link down": "ip link set eth0 down",
    "add an address": "ip addr add 192.0.2.1/24 dev eth0",
    "add a route": "ip route add 192.0.2.0/24 dev eth0",
    "write a kernel parameter": "echo 1 > /proc/sys/kernel/panic",
    "load a kernel module": "python3 -c 'import ctypes; exit(ctypes.CDLL(None).syscall(313, 0, b\"\", 0) != 0)'",
    "open a raw socket": "python3 -c 'import socket; socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)'",
    "open a packet socket": "python3 -c 'import socket; socket.socket(socket.AF_PACKET, socket.SOCK_RAW)'",
    "open a vsock": "python3 -c 'import socket; socket.socket(40, socket.SOCK_STREAM)'",
    "trace PID 1": "head -c1 /proc/1/mem",
    "read the agent's memory map": "cat /proc/1/maps",
    "read the agent's environment": "cat /proc/1/environ",
    "list the agent's descriptors": "ls /proc/1/fd",
    "read the kernel log": "dmesg",
    "read kernel memory": "head -c1 /proc/kcore | wc -c | grep 1",  # masked by an empty file, where there is one
    "press sysrq": "echo h > /proc/sysrq-trigger",
    "raise the open-files limit": "bash -c 'ulimit -Hn 1000000'",
    "write the agent's runtime": "touch /.atoll/x",
    "write the shared device directory": "rm /dev/null",
    "load the SCTP module": "python3 -c 'import socket; socket.socket(socket.AF_INET, socket.SOCK_STREAM, 132)'",
    "load the DCCP module": "python3 -c 'import socket; socket.socket(socket.AF_INET, 6)'",
    "talk to netfilter": "python3 -c 'import socket; socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)'",
    "set up native asynchronous I/O": "python3 -c 'import ctypes; exit(ctypes.CDLL(None).syscall(206, 1, 0) != 0)'",
    "reach the reboot call": "python3 -c 'import ctypes; exit(ctypes.CDLL(None).reboot(0) != 0)'",
    "set the clock": "date -s 2001-01-01",
}


@pytest.mark.parametrize("command", REFUSED.values(), ids=REFUSED.keys())
def test_root_cannot(box, command):
    result = box.run(f"sudo bash -c {command!r}" if '"' not in command and "'" not in command else f"sudo {command}")
    assert result["exit_code"] != 0, result


@pytest.mark.parametrize("signal", [0, 9])
def test_an_ordinary_user_cannot_signal_pid_1(box, signal):
    """From a cell: while a program is being started PID 1 has its user's real id, for the microseconds of a fork, and
    what it is sent then is only ignored."""
    assert "PermissionError" in box.python(f"import os; os.kill(1, {signal})")["stderr"]


def test_a_signal_sent_while_programs_are_started_does_not_end_pid_1(stack, box):
    before = stack.host_pid(box)
    box.run("for i in $(seq 20); do (while :; do /bin/kill -9 1 2>/dev/null; done) & done; sleep 0.5; kill $(jobs -p)")
    for _ in range(20):
        assert box.sh("echo alive") == "alive"
    assert stack.host_pid(box) == before


def test_root_cannot_end_pid_1_with_any_signal_from_inside(box):
    box.run("sudo bash -c 'for s in $(seq 1 31); do kill -$s 1; done'")
    assert box.sh("echo alive") == "alive"


def test_sudo_works_without_a_password(box):
    assert box.sh("sudo -n whoami") == "root"


def test_no_descriptor_of_the_host_is_inherited(box):
    """Of each process inside, root sees sockets, pipes, event descriptors and files of the sandbox – no host path."""
    code = """
import os
for pid in filter(str.isdigit, os.listdir('/proc')):
    try:
        for fd in os.listdir(f'/proc/{pid}/fd'):
            print(os.readlink(f'/proc/{pid}/fd/{fd}'))
    except OSError: pass
"""
    seen = set(box.sh(f"sudo python3 - <<'END'\n{code}\nEND").splitlines())
    files = {s for s in seen if s.startswith("/") and not s.startswith(("/proc", "/dev/null", "/dev/pts"))}
    assert files <= {"/usr/bin/bash"}, files


def test_the_agents_descriptors_seen_from_the_host_lead_nowhere(stack, box):
    directory = f"/proc/{stack.host_pid(box)}/fd"
    targets = set()
    for fd in os.listdir(directory):
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            targets.add(os.readlink(f"{directory}/{fd}"))
    assert targets
    allowed = ("socket:", "pipe:", "anon_inode:", "/dev/null", "/proc", "/workspace", "/")
    assert all(t.startswith(allowed) for t in targets), targets
    assert not any("atoll/" in t and ".img" in t for t in targets)


@pytest.mark.parametrize("path", ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/kallsyms", "/proc/slabinfo"])
def test_system_wide_files_of_proc_are_empty_or_missing(box, path):
    assert box.run(f"test -e {path} && sudo head -c 1 {path} | wc -c | grep -qx 1")["exit_code"] != 0


def test_a_sandbox_sees_its_own_processes_only(stack, box, other):
    other.run("nohup sleep 4321 >/dev/null 2>&1 &")
    assert "4321" in other.sh("ps aux")
    assert "4321" not in box.sh("ps aux")
    assert "atoll.compose" not in box.sh("ps aux")


def test_a_sandbox_does_not_see_anothers_files(box, other):
    other.sh("echo secret > /tmp/only-there; echo secret > /workspace/only-there")
    assert box.run("ls /tmp/only-there")["exit_code"] != 0
    assert box.run("ls /workspace/only-there")["exit_code"] != 0


def test_a_sandbox_cannot_reach_another_ones_port(box, other):
    other.run("nohup python3 -m http.server 8000 >/dev/null 2>&1 &")
    address = other.sh("hostname -I").split()[0]
    other.sh("for i in $(seq 100); do curl -s -o /dev/null localhost:8000 && break; sleep 0.05; done")
    assert other.run(f"curl -s -o /dev/null -m 3 http://{address}:8000")["exit_code"] == 0
    assert box.run(f"curl -s -o /dev/null -m 3 http://{address}:8000")["exit_code"] != 0


def test_the_host_cannot_be_reached_from_inside(stack, box):
    port = stack.installation.url.rpartition(":")[2]
    for address in ("127.0.0.1", "169.254.1.1", "100.96.0.1"):
        assert box.run(f"curl -s -o /dev/null -m 3 http://{address}:{port}/health")["exit_code"] != 0


COULD_NOT_CONNECT = 7
"""Of curl; 28 when its time is over."""


def test_there_is_no_way_out_and_it_is_refused_at_once(box):
    result = box.run("curl -s -m 5 http://192.0.2.1")
    assert result["exit_code"] == COULD_NOT_CONNECT, result
    assert result["execution_time"] < 1


def test_a_crash_starts_no_program_of_the_host(box):
    """A core limit of 1 is what keeps the kernel from running its core_pattern, and nobody inside can change it."""
    limits = box.sh("sudo bash -c 'ulimit -c unlimited; ulimit -c 0; prlimit --core=0:0; grep core /proc/self/limits'")
    assert limits.split()[4:6] == ["1", "1"]


def test_a_device_of_the_host_cannot_be_opened(box):
    assert box.run("ls /dev/vda /dev/sda /dev/kvm /dev/loop0 /dev/mem 2>/dev/null")["stdout"].strip() == ""


def test_the_sandbox_is_in_its_own_cgroup_and_does_not_see_where(box):
    assert all(line.endswith(":/") for line in box.sh("cat /proc/self/cgroup").splitlines())


def test_what_is_written_is_not_in_the_image_in_clear(stack, box):
    marker = "plaintext-marker-7f3a"
    box.sh(f"for i in $(seq 2000); do echo {marker}; done > /workspace/file; mkdir /workspace/{marker}; sync")
    image = stack.installation.places.data / "node" / "disks" / f"{box.id}.img"
    assert b"sealed" in data_of(image)  # we do read what is there
    assert marker.encode() not in data_of(image)


def data_of(image: Path) -> bytes:
    """The parts of a sparse file that hold data."""
    with image.open("rb") as file:
        parts, position, end = [], 0, image.stat().st_size
        while position < end:
            try:
                start = os.lseek(file.fileno(), position, os.SEEK_DATA)
            except OSError:
                break
            position = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            file.seek(start)
            parts.append(file.read(position - start))
    return b"".join(parts)


def test_two_sandboxes_share_no_randomness(box, other):
    code = """
import numpy, random, secrets, uuid
print(random.random(), uuid.uuid4(), secrets.token_hex(8), numpy.random.rand())
"""
    assert not set(box.python(code)["stdout"].split()) & set(other.python(code)["stdout"].split())
