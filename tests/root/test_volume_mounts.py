"""Volumes of a real installation that come and go while a sandbox runs, and their quotas."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from atoll.core.ids import new_sandbox_id
from stack import Box, Stack

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

NOVITA = {"X-Novita-SDK-Name": "sdk_py"}


class Volumes:
    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.made: list[str] = []

    def ask(self, method: str, path: str, **more: object):
        headers = {"X-API-Key": self.stack.installation.api_key, **NOVITA}
        return self.stack.client.request(method, path, headers=headers, **more)

    def create(self, **quotas: int) -> dict[str, object]:
        answer = self.ask("POST", "/volumes", json={"name": f"v-{new_sandbox_id()}", **quotas})
        assert answer.status_code == 201, answer.text
        self.made.append(answer.json()["volumeID"])
        return answer.json()

    def mount(self, box: Box, volume: dict[str, object], path: str):
        return self.ask("POST", f"/sandboxes/{box.id}/volume-mounts", json={"name": volume["name"], "path": path})

    def unmount(self, box: Box, path: str, force: bool = False):
        params = {"path": path, **({"force": "true"} if force else {})}
        return self.ask("DELETE", f"/sandboxes/{box.id}/volume-mounts", params=params)

    def resize(self, volume: dict[str, object], **quotas: int):
        return self.ask("PATCH", f"/volumes/{volume['volumeID']}", json=quotas)


@pytest.fixture(scope="module")
def volumes(stack) -> Iterator[Volumes]:
    made = Volumes(stack)
    yield made
    for each in made.made:
        made.ask("DELETE", f"/volumes/{each}")


@pytest.fixture
def box(stack) -> Iterator[Box]:
    with stack.box("base") as made:
        yield made


def ok(answer) -> dict[str, object]:
    assert answer.status_code < 300, (answer.status_code, answer.text)
    return answer.json()


def test_it_appears_in_a_sandbox_that_runs_and_is_shared(stack, volumes, box):
    volume = volumes.create()
    box.sh("until cp /mnt/a/b/f /tmp/seen; do :; done >/dev/null 2>&1 &")
    found = ok(volumes.mount(box, volume, "/mnt/a/b"))
    assert found["volumeMounts"] == [{"name": volume["name"], "path": "/mnt/a/b"}]
    with stack.box("busybox") as other:
        ok(volumes.mount(other, volume, "/srv/v"))
        body = {"command": "sh", "args": ["-c", "id -u; echo hello > /srv/v/f"], "workdir": "/"}
        assert other.agent("POST", "/commands/run", json=body).json()["stdout"] == "1000\n"
    assert box.sh("cat /mnt/a/b/f; stat -c %U /mnt/a/b/f /mnt/a/b; until cat /tmp/seen 2>/dev/null; do :; done") == (
        "hello\nuser\nuser\nhello"
    )
    assert ok(volumes.mount(box, volume, "/mnt/a/b")) == ok(volumes.ask("GET", f"/sandboxes/{box.id}"))
    assert volumes.ask("DELETE", f"/volumes/{volume['volumeID']}").status_code == 409


def test_what_is_in_use_stays_and_goes_by_force(volumes, box):
    volume = volumes.create()
    ok(volumes.mount(box, volume, "/mnt/v"))
    for use in ("cd /mnt/v", "exec 3>/mnt/v/open"):
        box.sh(f"{use}; sleep 1000 >/dev/null 2>&1 &")
        refused = volumes.unmount(box, "/mnt/v")
        assert (refused.status_code, "force" in refused.json()["message"]) == (409, True)
        assert box.sh("pkill sleep; until ! pgrep sleep >/dev/null; do :; done; ls -d /mnt/v") == "/mnt/v"
    box.sh("exec 3>/mnt/v/open; sleep 1000 >/dev/null 2>&1 &")
    assert "volumeMounts" not in ok(volumes.unmount(box, "/mnt/v", force=True))
    assert box.sh("ls /mnt/v | wc -l; grep -c /mnt/v /proc/mounts || true") == "0\n0"
    assert volumes.resize(volume, quotaSizeGiB=20).status_code == 409  # a program has a file of it open
    box.sh("pkill sleep")
    assert volumes.unmount(box, "/mnt/v").status_code == 400


def test_one_whose_files_somebody_has_open_cannot_be_deleted_so_what_it_takes_is_never_forgotten(volumes, box):
    volume = volumes.create()
    ok(volumes.mount(box, volume, "/mnt/v"))
    box.sh("exec 3>/mnt/v/open; sleep 1000 >/dev/null 2>&1 &")
    ok(volumes.unmount(box, "/mnt/v", force=True))
    refused = volumes.ask("DELETE", f"/volumes/{volume['volumeID']}")
    assert (refused.status_code, "open" in refused.json()["message"]) == (409, True)
    ok(volumes.mount(box, volume, "/mnt/v"))
    assert box.sh("ls /mnt/v; pkill sleep") == "open"
    ok(volumes.unmount(box, "/mnt/v", force=True))
    assert volumes.ask("DELETE", f"/volumes/{volume['volumeID']}").status_code == 204


def test_a_path_that_the_sandbox_has_made_otherwise_is_refused(volumes, box):
    volume = volumes.create()
    box.sh("cd /home/user; ln -s /etc link; ln -s /proc/self/root magic; touch file; ln -s /nowhere dangling; "
           "mkdir real")  # fmt: skip
    before = box.sh("sudo cat /proc/1/mountinfo")
    for path in ("link", "link/x", "magic/x", "file", "file/x", "dangling", "dangling/x"):
        answer = volumes.mount(box, volume, f"/home/user/{path}")
        assert (answer.status_code, "no directory" in answer.text) == (400, True), (path, answer.text)
    for path in ("/proc/x", "/dev/shm/x", "/sys", "/.atoll/x", "/", "relative", "/home/user/../x"):
        assert volumes.mount(box, volume, path).status_code == 400, path
    assert box.sh("sudo cat /proc/1/mountinfo") == before
    assert ok(volumes.mount(box, volume, "/home/user/real"))


def test_a_mount_goes_with_the_directories_on_its_way_and_no_other_is_taken_for_it(volumes, box):
    one, two = volumes.create(), volumes.create()
    ok(volumes.mount(box, one, "/home/user/a/v"))
    box.sh("mv /home/user/a /home/user/b; mkdir -p /home/user/a/v; echo mine > /home/user/a/v/f")
    moved = volumes.unmount(box, "/home/user/a/v")
    assert (moved.status_code, "moved inside" in moved.text) == (409, True)
    assert volumes.unmount(box, "/home/user/a/v", force=True).status_code == 409
    assert volumes.mount(box, two, "/home/user/b/v/inside").status_code == 400  # in the first one's files
    assert box.sh("cat /home/user/a/v/f; grep -c 'user/b/v ' /proc/mounts") == "mine\n1"
    box.sh("rm -r /home/user/a; mv /home/user/b /home/user/a")
    ok(volumes.unmount(box, "/home/user/a/v"))


def test_one_that_is_paused_is_refused(volumes, box):
    volume = volumes.create()
    ok(volumes.mount(box, volume, "/mnt/v"))
    box.control("POST", "/pause")
    assert volumes.mount(box, volume, "/mnt/w").status_code == 409
    assert volumes.unmount(box, "/mnt/v", force=True).status_code == 409
    box.control("POST", "/resume")
    ok(volumes.unmount(box, "/mnt/v"))


def test_a_volume_ends_at_its_size_and_its_number_of_files(volumes, box):
    volume = volumes.create(quotaSizeGiB=1, quotaInodes=1000)
    assert (volume["quotaSizeGiB"], volume["quotaInodes"]) == (1, 1000)
    ok(volumes.mount(box, volume, "/mnt/v"))
    assert box.run("fallocate -l 1100M /mnt/v/big")["stderr"].strip().endswith("No space left on device")
    box.sh("rm -f /mnt/v/big; fallocate -l 900M /mnt/v/big")
    filled = box.run("cd /mnt/v; i=0; while : > f$i; do i=$((i+1)); done; echo $i")
    assert 1000 - 1 <= int(filled["stdout"]) < 1000 + 8 * 16
    assert "No space left on device" in filled["stderr"]


def test_a_volume_grows_with_what_it_holds_while_nobody_has_it(volumes, box):
    volume = volumes.create(quotaSizeGiB=1, quotaInodes=1000)
    ok(volumes.mount(box, volume, "/mnt/v"))
    box.sh("echo kept > /mnt/v/f; fallocate -l 900M /mnt/v/big")
    assert volumes.resize(volume, quotaSizeGiB=3, quotaInodes=3000).status_code == 409
    ok(volumes.unmount(box, "/mnt/v"))
    grown = ok(volumes.resize(volume, quotaSizeGiB=3, quotaInodes=3000))
    assert (grown["quotaSizeGiB"], grown["quotaInodes"]) == (3, 3000)
    assert grown["usedSizeBytes"] > 0
    for wrong in ({"quotaSizeGiB": 2}, {"quotaInodes": 3001}, {"quotaSizeGiB": 4, "quotaInodes": 4001}):
        assert volumes.resize(volume, **wrong).status_code == 400, wrong
    ok(volumes.mount(box, volume, "/mnt/v"))
    assert box.sh("cat /mnt/v/f; fallocate -l 1900M /mnt/v/more; df -k /mnt/v | tail -1").startswith("kept\n")
    assert 3000 <= int(box.sh("df -i /mnt/v | tail -1").split()[1]) < 3000 + 24 * 16
