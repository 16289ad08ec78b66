"""What is done to a sandbox that runs, in truth: a new life on its disk, more memory, and what survives our own end."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import pytest

from atoll.testing.installation import Installation, borrow_templates
from stack import Box, Stack, templates_dir, until

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

MIB = 1024 * 1024
NOVITA = {"X-Novita-SDK-Name": "sdk_py"}


def ask(stack: Stack, method: str, path: str, **more: object):
    headers = {"X-API-Key": stack.installation.api_key, **NOVITA}
    return stack.client.request(method, path, headers=headers, **more)


def done(answer) -> dict[str, object]:
    assert answer.status_code < 300, (answer.status_code, answer.text)
    return answer.json() if answer.content else {}


def plug(stack: Stack, box: Box, mib: int):
    return ask(stack, "POST", f"/sandboxes/{box.id}/hotplug-memory", json={"requested_size_mib": mib})


def memory_mib(stack: Stack, box: Box) -> tuple[int, int]:
    """As the control plane says and as the sandbox's own agent does."""
    shown = done(ask(stack, "GET", f"/sandboxes/{box.id}"))["memoryMB"]
    return int(str(shown)), int(box.agent("GET", "/system").json()["hardware"]["memory_mb"])


def hold(box: Box, mib: int) -> dict[str, object]:
    """A program that has so much of its own at once."""
    return box.run(f"head -c {mib}M /dev/zero | tail -n 1 | wc -c")


# ---- memory


def test_a_program_beyond_the_old_limit_lives_after_memory_was_added(stack):
    with stack.box("base", memory_mb=256) as box:
        running = box.sh("sleep 1000 >/dev/null 2>&1 & echo $!")
        assert hold(box, 300)["stdout"].strip() == "0"
        done(plug(stack, box, 256))
        assert hold(box, 300)["stdout"].strip() == str(300 * MIB)
        assert memory_mib(stack, box) == (512, 512)
        box.sh(f"kill -0 {running}")


def test_memory_is_taken_back_and_never_from_under_a_program(stack):
    with stack.box("base", memory_mb=256) as box:
        done(plug(stack, box, 256))
        box.run("(head -c 300M /dev/zero; sleep 1000) | tail -n 1 >/dev/null & "
                "until grep -q 'VmRSS:.*3[0-9]\\{5\\} kB' /proc/$(pgrep -n tail)/status; do :; done")  # fmt: skip
        refused = plug(stack, box, 0)
        assert (refused.status_code, "in use" in refused.text) == (409, True)
        assert memory_mib(stack, box) == (512, 512)
        box.sh("pgrep tail && pkill tail && until ! pgrep tail; do :; done")
        done(plug(stack, box, 0))
        assert memory_mib(stack, box) == (256, 256)
        assert hold(box, 300)["stdout"].strip() == "0"


def test_more_than_the_template_may_have_is_refused_and_changes_nothing(stack):
    with stack.box("busybox", memory_mb=256) as box:
        for mib, status in ((1 << 20, 400), (-1, 400)):
            answer = plug(stack, box, mib)
            assert status <= answer.status_code < 500, answer.text
        box.control("POST", "/pause")
        assert plug(stack, box, 1).status_code == 409
        box.control("POST", "/resume")
        assert memory_mib(stack, box) == (256, 256)


# ---- reset


def test_a_reset_ends_all_that_ran_and_keeps_the_disk_and_the_id(stack):
    with stack.box("base", env_vars={"GIVEN": "once"}) as box:
        box.sh("echo kept > /home/user/f; echo lost > /dev/shm/f; sleep 1000 >/dev/null 2>&1 &")
        before = box.sh("cat /proc/sys/kernel/random/boot_id")
        assert done(ask(stack, "POST", f"/sandboxes/{box.id}/reset", json={"resume": True, "timeout": 150})) == {}
        assert box.sh("cat /home/user/f; ls /dev/shm; pgrep sleep | wc -l; echo $GIVEN") == "kept\n0\nonce"
        assert box.sh("cat /proc/sys/kernel/random/boot_id") != before


def test_one_that_was_paused_is_reset_without_a_life_and_starts_when_somebody_connects(stack):
    with stack.box("busybox") as box:
        pid = stack.host_pid(box)
        box.control("POST", "/pause")
        done(ask(stack, "POST", f"/sandboxes/{box.id}/reset", json={"resume": False}))
        assert not Path(f"/proc/{pid}").exists()
        assert done(ask(stack, "GET", f"/sandboxes/{box.id}"))["state"] == "paused"
        done(ask(stack, "POST", f"/sandboxes/{box.id}/connect", json={"timeout": 60}))
        assert stack.host_pid(box) != pid
        assert box.state() == "running"


def test_a_reset_may_close_its_ports_to_strangers(stack):
    with stack.box("busybox") as box:
        answer = done(ask(stack, "POST", f"/sandboxes/{box.id}/reset", json={"allowPublicTraffic": False}))
        assert len(str(answer["trafficAccessToken"])) > 20


# ---- our own end


def test_all_of_it_is_known_when_every_part_of_ours_was_replaced(tmp_path):
    borrow_templates(templates_dir(), tmp_path)
    with Installation(tmp_path, "--templates", "base") as installation:
        stack = Stack(installation)
        for name in ("one", "two"):
            done(ask(stack, "POST", "/volumes", json={"name": name}))
        box = stack.create("base", memory_mb=256)
        mounts = f"/sandboxes/{box.id}/volume-mounts"
        for name in ("one", "two"):
            done(ask(stack, "POST", mounts, json={"name": name, "path": f"/mnt/{name}"}))
        done(plug(stack, box, 256))
        box.sh("echo of-one > /mnt/one/f")
        replaced(installation, "server", "node", "launcher")
        until(lambda: ask(stack, "GET", f"/sandboxes/{box.id}").status_code == 200, "the server answers")
        until(lambda: ask(stack, "DELETE", mounts, params={"path": "/mnt/two"}).status_code == 200, "it is taken out")
        assert box.sh("cat /mnt/one/f; grep -c ' /mnt/two ' /proc/mounts || true") == "of-one\n0"
        box.control("POST", "/stop")
        box.control("POST", "/start")
        assert box.sh("cat /mnt/one/f; grep -c ' /mnt/two ' /proc/mounts || true") == "of-one\n0"
        assert memory_mib(stack, box) == (512, 512)
        assert [each["name"] for each in done(ask(stack, "GET", f"/sandboxes/{box.id}"))["volumeMounts"]] == ["one"]
        stack.client.close()
    shutil.rmtree(installation.places.run, ignore_errors=True)  # the log of the launcher that was killed


def replaced(installation: Installation, *roles: str) -> None:
    before = {role: installation.pids(role) for role in roles}
    for pid in (pid for pids in before.values() for pid in pids):
        os.kill(pid, signal.SIGKILL)
    for role, pids in before.items():
        until(lambda role=role, pids=pids: set(installation.pids(role)) - set(pids), f"there is another {role}")


def test_the_record_of_a_sandbox_names_no_key(stack):
    with stack.box("busybox") as box:
        record = json.loads((stack.installation.places.run / "launcher" / f"{box.id}.json").read_text())
        assert not {"key", "volumes"} & record.keys()
