"""Births that are cut off, and what a sandbox's programs can do to an interpreter that is still root's."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from atoll.core.errors import AtollError, Conflict, Unavailable
from atoll.core.packet_policy import REFUSE_ALL
from atoll.node.slots import agent_config
from atoll.rpc import RpcClient
from atoll.storage import disks, keys, templates
from atoll.testing.installation import Installation, borrow_templates
from stack import Box, Stack, templates_dir, until

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def installation(tmp_path_factory):
    data = tmp_path_factory.mktemp("births")
    borrow_templates(templates_dir(), data)
    with Installation(data, "--templates", "base") as made:
        stack = Stack(made)
        with stack.box("base"):
            pass  # its template is announced
        stack.client.close()
        yield made


class Caller:
    """Asks the launcher as the node does."""

    def __init__(self, client: RpcClient, installation: Installation) -> None:
        self.call = client.call
        self.places = installation.places
        self.launcher = installation.pids("launcher")[0]
        self._template = templates.load(installation.places.data, "base")

    def order(self, name: str, **more: Any) -> dict[str, Any]:
        image = self.places.data / "node" / "disks" / f"{name}.img"
        images, limits = self.places.data / "node" / "images", self._template.limits
        disks.copy_image(disks.base_image(images, limits.disk_mib), image)
        return {
            "id": name,
            "slot": name,
            "template": f"{self._template.name}.{self._template.digest[:12]}",
            "disk": str(image),
            "key": keys.new_disk_key().hex(),
            "limits": limits.to_wire(),
            "config": agent_config(self._template),
            "hostname": name,
            "socket": str(self.places.run / "s" / f"{name}.sock"),
            "egress": REFUSE_ALL.to_wire(),
            "nameservers": [],
            **more,
        }

    def group(self, name: str) -> Path:
        parent = Path("/sys/fs/cgroup/pids")
        return (parent if parent.exists() else parent.parent) / f"atoll-{self.places.installation}" / name

    def left_of(self, name: str) -> list[Path]:
        run = self.places.run
        places = [run / "launcher" / f"{name}.json", run / "b" / f"{name}.sock", run / "s" / f"{name}.sock"]
        return [place for place in (*places, self.group(name)) if place.exists()]

    def mounts_of(self, image: str) -> int:
        """Loop devices that the image is on."""
        backing = Path("/sys/block").glob("loop*/loop/backing_file")
        found = 0
        for each in backing:
            with contextlib.suppress(OSError):
                found += each.read_text().strip() == image
        return found

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.launcher}/fd"))


@pytest.fixture
async def caller(installation) -> AsyncIterator[Caller]:
    client = await RpcClient.connect(installation.places.launcher_socket)
    yield Caller(client, installation)
    await client.close()


async def test_one_that_is_destroyed_while_it_is_born_does_not_live(caller):
    birth = asyncio.create_task(caller.call("create", caller.order("early", slot=None)))
    await asyncio.sleep(0)
    await caller.call("destroy", {"id": "early", "behind": True})
    with pytest.raises(Unavailable):
        await birth
    assert caller.left_of("early") == []
    assert "early" not in [each["id"] for each in (await caller.call("hello"))["sandboxes"]]


async def test_one_is_not_born_twice(caller):
    order = caller.order("twin", slot=None)
    answers = await asyncio.gather(*(caller.call("create", order) for _ in range(2)), return_exceptions=True)
    assert sorted(map(type, answers), key=str) == [Conflict, dict]
    await caller.call("destroy", {"id": "twin"})
    assert caller.left_of("twin") == []


async def test_what_an_earlier_node_waited_for_is_nobodys(caller):
    births = [
        asyncio.create_task(caller.call("prepare", caller.order("ahead"))),
        asyncio.create_task(caller.call("create", caller.order("late", slot=None))),
    ]
    await asyncio.sleep(0)
    await caller.call("hello")
    for birth in births:
        with pytest.raises(Unavailable):
            await birth
    assert [caller.left_of(name) for name in ("ahead", "late")] == [[], []]


async def test_one_that_is_discarded_while_it_is_made_ahead_is_gone(caller):
    birth = asyncio.create_task(caller.call("prepare", caller.order("unwanted")))
    await asyncio.sleep(0)
    await caller.call("discard", {"slot": "unwanted"})
    with pytest.raises(Unavailable):
        await birth
    assert caller.left_of("unwanted") == []


async def test_a_disk_is_never_in_two_sandboxes(caller):
    order = caller.order("moved")
    await caller.call("prepare", order)
    assert caller.mounts_of(order["disk"]) == 1
    other = {**order, "limits": {**order["limits"], "memory_mib": 600}}
    await caller.call("create", {**other, "id": "second", "socket": order["socket"].replace("moved", "second")})
    assert caller.mounts_of(order["disk"]) == 1
    assert not caller.group("moved").exists()
    await caller.call("destroy", {"id": "second"})
    assert caller.mounts_of(order["disk"]) == 0


async def test_births_that_fail_leave_no_descriptor_and_no_link(caller):
    async def fail(number: int) -> None:
        order = caller.order(f"failed{number}")
        await caller.call("prepare", order)
        broken = {**order, "socket": "/nowhere/at/all.sock"}
        with pytest.raises(AtollError):
            await caller.call("create", broken)
        with pytest.raises(AtollError):
            await caller.call("create", {**broken, "slot": None, "disk": "/nowhere.img"})
        await caller.call("swept", {"id": order["id"]})
        assert caller.left_of(order["id"]) == []

    await caller.call("hello")
    await fail(0)
    before = caller.descriptors()
    for number in range(1, 6):
        await fail(number)
    until(lambda: caller.descriptors() <= before, "none is left")


HOSTILE = """
import os
with open("/tmp/caught", "a") as file:
    print(os.getuid(), __file__, file=file)
"""


PROBE = """
for d in /workspace ~ /tmp ~/.local/lib/python3*/site-packages $(python3 -m site --user-site); do
    mkdir -p $d
    for m in json socket traceback codecs usercustomize sitecustomize; do cp /tmp/hostile.py $d/$m.py; done
    echo 'import usercustomize' > $d/x.pth
done
rm -f /tmp/caught
for p in 1 2 3; do
    grep ^Uid: /proc/$p/status
    for f in fd/3 mem maps cwd/etc/passwd root/etc/passwd environ; do
        for who in '' sudo; do $who head -c1 /proc/$p/$f >/dev/null 2>&1 && echo reached $who $p $f; done
    done
    kill -STOP $p 2>/dev/null && echo stopped $p
    kill -9 $p 2>/dev/null && echo killed $p
done
"""


def made_ahead(stack: Stack) -> Box:
    """With interpreters that wait for their first cell."""
    run = stack.installation.places.run
    for _ in range(50):
        box = stack.create("base", env_vars={"PYTHONPATH": "/workspace", "PYTHONSTARTUP": "/workspace/json.py"})
        if json.loads((run / "launcher" / f"{box.id}.json").read_text())["cgroup"] != box.id:
            return box
        box.kill()
        until(lambda: any((run / "b").glob("slot*.sock")), "one made ahead")
    raise AssertionError("none was made ahead")


def test_a_first_context_is_out_of_reach_and_runs_nothing_of_the_users_as_root(installation):
    """It is root's until its first cell, which comes after all that a program could have prepared."""
    stack = Stack(installation)
    with contextlib.closing(stack.client):
        box = made_ahead(stack)
        box.run(f"cat > /tmp/hostile.py <<'END'{HOSTILE}END")
        seen = box.run(PROBE)["stdout"].splitlines()
        assert [line.split() for line in seen] == [["Uid:", *["0"] * 4]] * 3
        ids = box.python("import os; print(os.getresuid(), os.getresgid(), os.getpid())")["stdout"]
        assert ids == "(1000, 1000, 1000) (1000, 1000, 1000) 3\n"
        caught = box.run("cat /tmp/caught")["stdout"].splitlines()
        assert [line for line in caught if not line.startswith("1000 ")] == []
        rights = "[line.split()[1] for line in open('/proc/self/status') if line.startswith(('CapPrm', 'CapEff'))]"
        assert box.python(f"print({rights})")["stdout"] == f"{['0' * 16] * 2}\n"
        assert box.python("print(open('/proc/self/oom_score_adj').read())")["stdout"].strip() == "600"
        box.kill()


def test_all_of_a_sandbox_goes_before_programs_of_the_host_when_memory_runs_out(installation):
    stack = Stack(installation)
    with contextlib.closing(stack.client), stack.box("base") as box:
        inside = box.sh("cat /proc/*/oom_score_adj").split()
        assert inside
        assert all(int(each) >= 100 for each in inside)
        for role in ("launcher", "node"):
            for pid in installation.pids(role):
                assert int(Path(f"/proc/{pid}/oom_score_adj").read_text()) < 100
