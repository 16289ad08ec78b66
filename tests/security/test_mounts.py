"""Volumes mounted while hostile programs run: nothing but the volume appears, nowhere but below the path asked for."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from atoll.core.ids import new_sandbox_id
from stack import Box, Stack

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

TURNS = 12
SWAP = """
import ctypes, os
libc = ctypes.CDLL(None)
home = b"/home/user/"
os.makedirs(home + b"way/x", exist_ok=True)
for name, target in ((b"link", b"/proc"), (b"root", b"/"), (b"tmp", b"/dev/shm")):
    os.symlink(target, home + name)
print("ready", flush=True)
while True:
    for other in (b"link", b"root", b"tmp"):
        for _ in range(2):
            libc.renameat2(-100, home + b"way", -100, home + other, 2)
"""


def mounts(pid: int) -> list[tuple[str, str]]:
    """Mount points, and what of the file system is mounted there."""
    lines = Path(f"/proc/{pid}/mountinfo").read_text().splitlines()
    return sorted((line.split()[4], line.split()[3]) for line in lines)


def volume_mounts(stack: Stack, method: str, box: Box, **more: object):
    headers = {"X-API-Key": stack.installation.api_key}
    return stack.client.request(method, f"/sandboxes/{box.id}/volume-mounts", headers=headers, **more)


@pytest.fixture
def volume(stack) -> Iterator[str]:
    made = stack.api("POST", "/volumes", json={"name": f"v-{new_sandbox_id()}"}).json()
    yield made["name"]
    stack.api("DELETE", f"/volumes/{made['volumeID']}")


def test_whoever_swaps_directories_and_links_meanwhile_gets_it_nowhere_else(stack, volume):
    with stack.box() as box, stack.box() as neighbour:
        pid, other_pid = stack.host_pid(box), stack.host_pid(neighbour)
        before, beside = mounts(pid), mounts(other_pid)
        started = box.run(f"cat > /tmp/swap.py <<'X'{SWAP}X\n(python3 /tmp/swap.py > /tmp/out 2>&1 &) ; "
                          "until grep -q ready /tmp/out; do :; done")  # fmt: skip
        assert started["exit_code"] == 0, started
        path, seen = "/home/user/way/x", set()
        for _ in range(2 * TURNS):  # every second one is refused
            answer = volume_mounts(stack, "POST", box, json={"name": volume, "path": path})
            seen.add(answer.status_code)
            new = [each for each in mounts(pid) if each not in before]
            assert all(root == "/sealed/files" and point.startswith("/home/user/") for point, root in new), new
            if answer.status_code < 300:
                assert len(new) == 1, new
                while volume_mounts(stack, "DELETE", box, params={"path": path, "force": "true"}).status_code != 200:
                    assert [each for each in before if each not in mounts(pid)] == []
        assert seen <= {200, 400, 409}
        assert 200 in seen
        box.run("pkill -f swap.py")
        assert (mounts(pid), mounts(other_pid)) == (before, beside)
        assert not [point for point, root in mounts(os.getpid()) if root == "/sealed/files"]


def test_root_inside_neither_undoes_nor_moves_nor_remounts_it(stack, volume):
    with stack.box() as box:
        assert volume_mounts(stack, "POST", box, json={"name": volume, "path": "/mnt/v"}).status_code == 200
        before = mounts(stack.host_pid(box))
        for attempt in (
            "umount /mnt/v",
            "umount -l /mnt/v",
            "mount --move /mnt/v /tmp",
            "mount -o remount,bind,suid,dev /mnt/v",
            "mount --bind /mnt/v /tmp",
            "mount --make-shared /mnt/v",
            "rmdir /mnt/v",
            "mv /mnt/v /mnt/w",
            "unshare -Urm umount /mnt/v",
        ):
            assert box.run(f"sudo {attempt}")["exit_code"] != 0, attempt
        assert mounts(stack.host_pid(box)) == before


def test_it_has_the_attributes_of_one_that_was_there_from_birth_and_is_shared_with_no_namespace(stack, volume):
    with stack.box() as box:
        volume_mounts(stack, "POST", box, json={"name": volume, "path": "/mnt/v"})
        info = Path(f"/proc/{stack.host_pid(box)}/mountinfo").read_text().splitlines()
        (line,) = [line for line in info if line.split()[4] == "/mnt/v"]
        assert {"nosuid", "nodev", "idmapped"} <= set(line.split()[5].split(","))
        assert not [each for each in info if "shared:" in each or "master:" in each], info
        assert (
            box.sh("cp /bin/id /mnt/v/id; sudo chown root /mnt/v/id; sudo chmod 4755 /mnt/v/id; /mnt/v/id -u") == "1000"
        )
        assert box.run("sudo mknod /mnt/v/d c 1 3")["exit_code"] != 0


def test_no_descriptor_and_no_process_of_the_host_stays_behind(stack, volume):
    with stack.box() as box:
        launcher = stack.installation.pids("launcher")[0]
        before, namespace = descriptors(launcher), os.readlink(f"/proc/{launcher}/ns/mnt")
        for _ in range(TURNS):
            assert volume_mounts(stack, "POST", box, json={"name": volume, "path": "/mnt/v"}).status_code == 200
            assert volume_mounts(stack, "DELETE", box, params={"path": "/mnt/v"}).status_code == 200
        assert os.readlink(f"/proc/{launcher}/ns/mnt") == namespace
        assert descriptors(launcher) < before + TURNS, "it opens and closes some for other sandboxes meanwhile"
        assert zombies(launcher) < TURNS, "the last one may not have been reaped yet"


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def zombies(pid: int) -> int:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return sum(map(is_zombie, children))


def is_zombie(pid: str) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return False
