"""What needs root: an agent that acts as the users of its requests."""

from __future__ import annotations

import asyncio
import os
import resource
import stat
import tempfile
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]
UID = 1000


@pytest.fixture
def reachable():
    """A directory of root's that others may enter; `tmp_path` lies below one that they may not."""
    with tempfile.TemporaryDirectory(prefix="atoll-test-") as path:
        os.chmod(path, 0o755)
        yield Path(path)


@pytest.fixture
def place(reachable):
    """A directory that uid 1000 may reach and write."""
    home = reachable / "home"
    home.mkdir()
    os.chown(home, UID, UID)
    return home


@pytest.fixture
def root_agent(start_agent, place):
    return start_agent(switch_users=True, workdir=str(place), lineflush="/nonexistent")


async def status_of(agent, user: str) -> dict[str, list[str]]:
    result = await agent.run("cat", "/proc/self/status", user=user)
    return {
        name: rest.split() for name, _, rest in (line.partition(":") for line in result.stdout.decode().splitlines())
    }


async def test_a_program_has_the_users_ids_and_no_capability(root_agent):
    status = await status_of(root_agent, "1000")
    assert status["Uid"] == status["Gid"] == [str(UID)] * 4
    assert "0" not in status["Groups"]
    assert {status[name][0].strip("0") for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {""}


async def test_root_stays_root_and_the_agent_too(root_agent):
    assert (await status_of(root_agent, "root"))["Uid"] == ["0"] * 4
    lines = Path(f"/proc/{root_agent.pid}/status").read_text()
    assert "Uid:\t0\t0\t0\t0" in lines
    assert "Gid:\t0\t0\t0\t0" in lines


async def test_a_program_that_cannot_be_started_leaves_the_agent_root(root_agent):
    assert (await root_agent.request("POST", "/processes", {"argv": ["no-such"], "user": "1000"})).status == 404
    assert "Uid:\t0\t0\t0\t0" in Path(f"/proc/{root_agent.pid}/status").read_text()


async def test_a_terminal_belongs_to_the_user(root_agent):
    result = await root_agent.run("sh", "-c", "stat -c %u $(tty)", user="1000", pty={"cols": 80, "rows": 24})
    assert result.stdout.strip() == str(UID).encode()


async def test_files_are_read_and_written_with_the_users_rights(root_agent, place, reachable):
    (place / "secret").write_text("x")
    (place / "secret").chmod(0o600)
    (reachable / "closed").mkdir(mode=0o755)

    async def call(method: str, path: Path, body: bytes | None = None, user: str = "1000") -> int:
        query = {"path": str(path), "user": user}
        return (await root_agent.request(method, "/files/content", body, query=query)).status

    assert await call("GET", place / "secret") == 403
    assert await call("GET", place / "secret", user="root") == 200
    assert await call("PUT", place / "secret", b"y") == 403
    assert await call("PUT", reachable / "closed/f", b"y") == 403
    assert await call("PUT", place / "mine", b"y") == 200
    assert (place / "mine").stat().st_uid == UID
    reply = await root_agent.request("DELETE", "/files", query={"path": str(reachable / "closed"), "user": "1000"})
    assert reply.status == 403


async def test_anothers_writable_file_is_written_in_place_and_keeps_its_owner(root_agent, place):
    (place / "shared").write_text("old, and longer")
    (place / "shared").chmod(0o4666)
    inode = (place / "shared").stat().st_ino
    query = {"path": str(place / "shared"), "user": "1000"}
    assert (await root_agent.request("PUT", "/files/content", b"new", query=query)).status == 200
    after = (place / "shared").stat()
    assert (after.st_ino, after.st_uid, (place / "shared").read_text()) == (inode, 0, "new")
    assert not after.st_mode & stat.S_ISUID


async def test_root_gives_a_replaced_file_its_owner_back(root_agent, place):
    (place / "f").write_text("old")
    os.chown(place / "f", UID, UID)
    query = {"path": str(place / "f"), "user": "root"}
    assert (await root_agent.request("PUT", "/files/content", b"new", query=query)).status == 200
    assert (place / "f").stat().st_uid == UID


async def test_the_users_directory_stands_in_for_one_root_made(root_agent, place):
    result = await root_agent.run("stat", "-c", "%u", ".", user="1000", cwd=str(place / "new"))
    assert result.stdout == b"1000\n"


async def test_the_time_limit_reaches_a_daemon_of_another_user(start_agent, place):
    """Without CAP_SYS_PTRACE, as in a sandbox, its environment can only be read with its own ids."""
    prefix = ("setpriv", "--bounding-set=-sys_ptrace")
    root_agent = start_agent(prefix=prefix, switch_users=True, workdir=str(place), lineflush="/nonexistent")
    script = "(setsid sh -c 'echo $$; exec sleep 1000' &); sleep 1000"
    spec = {"argv": ["bash", "-c", script], "user": "1000", "timeout_s": 2}
    async with root_agent.stream("POST", "/processes", spec) as stream:
        await stream.next_json()
        fd = os.pidfd_open(int(await stream.until(b"\n")))
        await stream.rest()
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(fd, ended.set)
    await ended.wait()
    asyncio.get_running_loop().remove_reader(fd)
    os.close(fd)


async def test_a_user_at_the_process_limit_gets_too_many_and_the_agent_lives(start_agent, place):
    agent = start_agent(switch_users=True, workdir=str(place))
    assert (await agent.request("GET", "/health")).status == 200
    resource.prlimit(agent.pid, resource.RLIMIT_NPROC, (1, 1))
    first = await agent.request("POST", "/processes", {"argv": ["sleep", "1000"], "user": "nobody", "attach": False})
    second = await agent.request("POST", "/processes", {"argv": ["true"], "user": "nobody"})
    assert {first.status, second.status} <= {200, 429}
    assert (second.status, second.json()["kind"]) == (429, "too_many")
    assert (await agent.request("GET", "/health")).status == 200
    if first.status == 200:
        await agent.request("POST", f"/processes/{first.json()['process']['id']}/signal", {"signal": "SIGKILL"})


async def test_a_watch_needs_the_users_rights(root_agent, reachable):
    (reachable / "closed").mkdir(mode=0o700)
    query = {"path": str(reachable / "closed"), "user": "1000"}
    assert (await root_agent.request("GET", "/files/watch", query=query)).status == 403
