"""What a sandbox can do to itself stays its own: the host and the neighbours remain usable, every result is bounded."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

pytestmark = [pytest.mark.root, pytest.mark.timeout(180)]


@pytest.fixture
def box(stack):
    with stack.box() as made:
        yield made


@pytest.fixture(scope="module")
def neighbour(stack):
    with stack.box() as made:
        made.python("1")
        yield made


@pytest.fixture(autouse=True)
def the_others_stay_usable(stack, neighbour):
    yield
    assert neighbour.python("print(6 * 7)", timeout=20)["stdout"] == "42\n"
    assert stack.api("GET", "/v1/sandboxes").status_code == 200


def edge_memory(stack) -> int:
    (pid,) = stack.installation.pids("edge")
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) >> 10


def test_a_print_of_one_gibibyte_is_cut_and_costs_no_memory(stack, box):
    before = edge_memory(stack)
    result = box.run("yes 0123456789abcdef0123456789abcdef | head -c 1073741824", timeout=120)
    assert result["exit_code"] == 0
    assert len(result["stdout"]) < 16 << 20
    assert "truncated" in result["stdout"]
    assert edge_memory(stack) - before < 200


def test_a_print_of_one_gibibyte_in_a_cell_is_cut(box):
    result = box.python("chunk = 'x' * (1 << 20)\nfor _ in range(1024): print(chunk)", timeout=120)
    assert result["success"]
    assert len(result["stdout"]) < 16 << 20


def test_a_fork_bomb_meets_its_limit(box):
    result = box.run("b() { b | b & b; }; b; sleep 2", timeout=4)
    assert result["exit_code"] != 0 or "Resource temporarily unavailable" in result["stderr"]
    box.run("pkill -9 -u user", timeout=20)
    assert box.python("print('back')", timeout=30)["stdout"] == "back\n"


def test_the_number_of_processes_is_bounded(box):
    code = """
import os, time
n = 0
try:
    for n in range(5000):
        if os.fork() == 0:
            time.sleep(30); os._exit(0)
except OSError as error:
    print(n, error.errno)
"""
    n, errno = map(int, box.run(f"python3 - <<'END' | head -1\n{code}\nEND", timeout=20)["stdout"].split())
    assert n < 1024
    assert errno == 11


def test_an_endless_loop_ends_at_its_timeout_and_the_context_lives(box):
    box.python("kept = 1")
    result = box.python("while True: pass", timeout=2)
    assert not result["success"]
    assert result["exit_code"] != 0
    assert box.python("print(kept)")["stdout"] == "1\n"


def test_a_loop_that_swallows_interrupts_is_killed_and_the_next_call_works(box):
    result = box.python("while True:\n  try:\n    while True: pass\n  except BaseException: pass", timeout=2)
    assert not result["success"]
    assert box.python("print('anew')")["stdout"] == "anew\n"


def test_a_command_that_ignores_signals_ends_at_its_timeout(box):
    result = box.run("trap '' TERM INT; while true; do sleep 1; done", timeout=2)
    assert result["exit_code"] == 124
    assert result["execution_time"] < 8


def test_the_disk_is_full_at_its_limit_and_the_hosts_is_not(stack, box):
    image = stack.installation.places.data / "node" / "disks" / f"{box.id}.img"
    box.sh("fallocate -l 9700M /workspace/reserved")  # reserves blocks of the image, none of the host
    result = box.run("dd if=/dev/zero of=/workspace/big bs=1M count=2000", timeout=60)
    assert result["exit_code"] != 0
    assert "No space left" in result["stderr"]
    assert image.stat().st_blocks * 512 < 1 << 30
    assert box.run("rm /workspace/big /workspace/reserved")["exit_code"] == 0
    assert box.sh("echo works > /workspace/x; cat /workspace/x") == "works"


def test_eating_the_memory_ends_the_eater_only(box):
    result = box.python("hog = bytearray(3 << 30); print(len(hog))", timeout=60)
    assert not result["success"]
    assert box.python("print('alive')", timeout=30)["stdout"] == "alive\n"


def test_memory_of_a_command_is_bounded(box):
    result = box.run("python3 -c 'x = bytearray(4 << 30)'", timeout=60)
    assert result["exit_code"] != 0
    assert box.sh("echo alive") == "alive"


def test_shared_memory_counts_too(box):
    result = box.run("dd if=/dev/zero of=/dev/shm/x bs=1M count=4000; rm -f /dev/shm/x", timeout=60)
    assert "No space left" in result["stderr"] or result["exit_code"] != 0
    assert box.sh("echo alive") == "alive"


def test_open_files_are_bounded(box):
    code = """
import os
fds = []
try:
    while True:
        fds.append(os.open('/dev/null', 0))
except OSError as error:
    print(len(fds), error.errno)
"""
    count, errno = map(int, box.python(code)["stdout"].split())
    assert count < 4096
    assert errno == 24


@pytest.mark.parametrize("path", ["/workspace/../../../../etc/shadow", "/etc/shadow", "/workspace/link"])
def test_no_path_leads_to_what_the_user_may_not_read(box, path):
    box.run("ln -sfn /etc/shadow /workspace/link")
    response = box.agent("GET", "/files/read", params={"path": path})
    assert response.status_code in (403, 404)
    assert response.json()["code"] in ("PATH_NOT_ALLOWED", "FILE_NOT_FOUND")


def test_an_absolute_link_stays_inside(box):
    secret = Path("/etc/atoll-test-secret")
    secret.write_text("host")
    try:
        box.run(f"ln -s {secret} /workspace/escape; ln -s / /workspace/root")
        for path in ("/workspace/escape", f"/workspace/root{secret}", f"/proc/1/root{secret}"):
            assert box.agent("GET", "/files/read", params={"path": path}).status_code in (403, 404)
    finally:
        secret.unlink()


def test_a_fifo_or_an_endless_device_does_not_hang_the_agent(box):
    box.run("mkfifo /workspace/fifo")
    for path in ("/workspace/fifo", "/dev/zero", "/proc/self/pagemap"):
        assert box.agent("GET", "/files/read", params={"path": path}, timeout=20).status_code < 500
    assert box.sh("echo alive") == "alive"


ODD_DISKS = {
    "hosts is a pipe": "sudo rm /etc/hosts; sudo mkfifo /etc/hosts",
    "hosts is a link to memory": "sudo ln -sf /proc/1/mem /etc/hosts",
    "passwd is a pipe": "sudo mv /etc/passwd /etc/passwd-; sudo mkfifo /etc/passwd",
    "passwd is a directory": "sudo mv /etc/passwd /etc/passwd-; sudo mkdir /etc/passwd",
    "tmp leads nowhere": "sudo mv /tmp /tmp-; sudo ln -s /nowhere /tmp",
    "the disk is full": "fallocate -l 9700M /workspace/a; dd if=/dev/zero of=/workspace/b bs=1M count=2000",
}


@pytest.mark.parametrize("command", ODD_DISKS.values(), ids=ODD_DISKS.keys())
def test_what_a_sandbox_does_to_its_disk_does_not_keep_it_from_starting_again(box, command):
    box.run(command)
    assert box.control("POST", "/stop").status_code == 200
    assert box.control("POST", "/start").status_code == 200
    box.token = box.control("POST", "/token/refresh").json()["auth_token"]
    assert box.sh("echo alive") == "alive"


def test_a_program_cannot_lie_in_the_agents_stream(box):
    """Frame headers printed by a program are output, not frames."""
    result = box.run(r"printf 'J\0\0\0\002{}E\377\377\377\377'; exit 3")
    assert result["exit_code"] == 3
    assert result["stdout"].startswith("J\0\0\0\x02{}E")


def test_destroying_a_sandbox_under_attack_leaves_nothing(stack):
    with stack.box() as victim:
        victim.run("nohup bash -c 'while true; do sleep 0.01 & done' >/dev/null 2>&1 &")
        pid = stack.host_pid(victim)
    assert not os.path.exists(f"/proc/{pid}")
    assert not (stack.installation.places.run / "s" / f"{victim.id}.sock").exists()
