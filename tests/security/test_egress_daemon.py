"""The egress daemon reads bytes of sandboxes, servers and resolvers; who takes it over has got little."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from atoll.core.settings import egress_id

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

INTRUDER = """
import json, os, socket, sys
from pathlib import Path
from atoll import confinement
run, data, user, box = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
confinement.drop(user=user)
def connect(path):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(path))
TRIES = {
    **{name: lambda name=name: connect(run / f"{name}.sock") for name in ("launcher", "node", "server", "dial")},
    "agent": lambda: connect(run / "s" / f"{box}.sock"),
    "token key": lambda: (data / "server" / "token.key").read_bytes(),
    "authority": lambda: (data / "egress" / "ca.key").read_bytes(),
    "database": lambda: (data / "server" / "atoll.db").read_bytes(),
    "shadow": lambda: Path("/etc/shadow").read_bytes(),
    "rename": lambda: os.rename(run / "node.sock", run / "gone.sock"),
    "look": lambda: os.listdir(run),
    "make": lambda: (data / "egress" / "x").write_bytes(b""),
    "trace": lambda: open(f"/proc/{os.getppid()}/mem", "rb"),
    "root again": lambda: os.setuid(0),
}
def outcome(work):
    try:
        work()
    except PermissionError:
        return "refused"
    except OSError as error:
        return str(error)
    return "done"
print(json.dumps({name: outcome(work) for name, work in TRIES.items()}))
"""


@pytest.fixture
def daemon(online) -> dict[str, str]:
    (pid,) = online.installation.pids("egress")
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t") for line in status if ":\t" in line)


def test_it_is_a_user_that_is_nobody_else(online, daemon):
    user = egress_id(online.installation.places.installation)
    assert {*daemon["Uid"].split(), *daemon["Gid"].split()} == {str(user)}
    assert daemon["Groups"].strip() == ""
    assert {daemon[f"Cap{each}"].strip("0") for each in ("Eff", "Prm", "Inh", "Amb", "Bnd")} == {""}


def test_with_its_rights_nothing_of_the_installation_is_reached(online):
    places = online.installation.places
    with online.box() as box:
        assert places.agent_socket(box.id).exists()
        words = [str(places.run), str(places.data), str(egress_id(places.installation)), box.id]
        command = [sys.executable, "-c", INTRUDER, *words]
        told = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ).stdout
    assert set(json.loads(told).values()) == {"refused"}, told


def test_its_log_is_its_own_and_its_authoritys_key_is_not(online):
    places = online.installation.places
    user = egress_id(places.installation)
    assert {path.stat().st_uid for path in (places.data / "egress" / "logs").rglob("*")} <= {user}
    assert (places.data / "egress" / "ca.key").stat().st_uid == 0
