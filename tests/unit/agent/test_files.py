from __future__ import annotations

import os
import random
import stat
from pathlib import Path

import pytest

from atoll.agent.errors import AgentError
from atoll.agent.files import checked_mode, checked_path

PATHS = ["/files/stat", "/files/list", "/files/content", "/files/watch"]


async def put(agent, path, data: bytes, **query: str):
    return await agent.request("PUT", "/files/content", data, query={"path": str(path), **query})


async def get(agent, path, **options):
    return await agent.request("GET", "/files/content", query={"path": str(path)}, **options)


def temporaries(directory: Path) -> list[str]:
    return [name for name in os.listdir(directory) if name.startswith(".atoll-")]


@pytest.mark.parametrize("path", [None, "", "relative", "../x", "/a\0b", "/" + "x" * 5000, 1])
def test_bad_paths_are_invalid(path):
    with pytest.raises(AgentError) as error:
        checked_path(path)
    assert error.value.kind == "invalid"


def test_a_path_is_normalised():
    assert checked_path("//a/../b//c/") == "/b/c"


def test_modes_are_octal():
    assert checked_mode("0644") == 0o644
    assert checked_mode(None) is None
    for wrong in ("rw", "9", "10000", "-1"):
        with pytest.raises(AgentError):
            checked_mode(wrong)


@pytest.mark.parametrize("route", PATHS)
async def test_a_missing_path_is_not_found(agent, route):
    reply = await agent.request("GET", route, query={"path": "/no/such/thing"})
    assert (reply.status, reply.json()["kind"]) == (404, "not_found")


@pytest.mark.parametrize("size", [0, 1, 65_536, 65_537, 3_000_000])
async def test_bytes_come_back_as_they_were_written(agent, tmp_path, size):
    data = os.urandom(size)
    reply = await put(agent, tmp_path / "f", data)
    assert reply.json()["entry"].items() >= {"name": "f", "type": "file", "size": size, "mode": 0o644}.items()
    answer = await get(agent, tmp_path / "f")
    assert (answer.status, answer.body) == (200, data)
    assert temporaries(tmp_path) == []


async def test_two_large_reads_on_one_connection(agent, tmp_path):
    (tmp_path / "f").write_bytes(b"x" * 500_000)
    async with agent.connect() as connection:
        for _ in range(2):
            reply = await connection.request("GET", "/files/content", query={"path": str(tmp_path / "f")})
            assert len(reply.body) == 500_000


@pytest.mark.parametrize("size", [1000, 200_000])
async def test_a_range_is_honoured(agent, tmp_path, size):
    data = os.urandom(size)
    (tmp_path / "f").write_bytes(data)
    reply = await get(agent, tmp_path / "f", headers={"Range": "bytes=10-19"})
    assert (reply.status, reply.body) == (206, data[10:20])
    assert reply.headers["content-range"] == f"bytes 10-19/{size}"
    reply = await get(agent, tmp_path / "f", headers={"Range": f"bytes={size}-"})
    assert (reply.status, reply.json()["kind"]) == (416, "invalid")


async def test_a_file_of_proc_is_read_whatever_size_it_claims(agent):
    assert b"Cpus_allowed" in (await get(agent, "/proc/self/status")).body


async def test_a_fifo_a_device_and_a_directory_are_refused_at_once(agent, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for path, kind in [(tmp_path / "fifo", "not_regular"), ("/dev/zero", "not_regular"), (tmp_path, "is_a_directory")]:
        reply = await get(agent, path)
        assert (reply.status, reply.json()["kind"]) == (409, kind)
        reply = await put(agent, path, b"x")
        assert (reply.status, reply.json()["kind"]) == (409, kind)


async def test_the_parents_of_a_written_file_are_made(agent, tmp_path):
    assert (await put(agent, tmp_path / "a/b/c/f", b"x", mode="0600")).status == 200
    assert stat.S_IMODE((tmp_path / "a/b/c/f").stat().st_mode) == 0o600


async def test_a_parent_that_is_a_file_is_an_error(agent, tmp_path):
    (tmp_path / "file").write_text("")
    reply = await put(agent, tmp_path / "file/x", b"x")
    assert (reply.status, reply.json()["kind"]) == (409, "not_a_directory")


async def test_a_replaced_file_keeps_its_mode_unless_told(agent, tmp_path):
    (tmp_path / "f").write_text("old")
    (tmp_path / "f").chmod(0o751)
    assert (await put(agent, tmp_path / "f", b"new")).json()["entry"]["mode"] == 0o751
    assert (await put(agent, tmp_path / "f", b"new", mode="0640")).json()["entry"]["mode"] == 0o640


async def test_a_reader_of_the_old_file_never_sees_half_of_the_new_one(agent, tmp_path):
    (tmp_path / "f").write_text("old")
    with (tmp_path / "f").open() as held:
        async with agent.connect() as connection:
            connection.send_head("PUT", f"/files/content?path={tmp_path}/f", {"Content-Length": "6"})
            connection.writer.write(b"new")
            await agent.request("GET", "/health")
            assert (tmp_path / "f").read_text() == "old"
            connection.writer.write(b"est")
            assert (await connection.read_reply()).status == 200
        assert held.read() == "old"
    assert (tmp_path / "f").read_text() == "newest"


async def test_an_upload_that_breaks_off_leaves_nothing(agent, tmp_path):
    async with agent.stream("GET", "/files/watch", query={"path": str(tmp_path)}) as watching:
        await watching.next_json()
        (tmp_path / "f").write_text("old")
        async with agent.connect() as connection:
            connection.send_head("PUT", f"/files/content?path={tmp_path}/f", {"Content-Length": "1000"})
            connection.writer.write(b"half")
            await connection.writer.drain()
    await agent.request("GET", "/health")
    await agent.request("GET", "/health")
    assert (tmp_path / "f").read_text() == "old"
    assert temporaries(tmp_path) == []


async def test_a_symlink_is_written_through(agent, tmp_path):
    (tmp_path / "target").write_text("old")
    (tmp_path / "link").symlink_to("target")
    entry = (await put(agent, tmp_path / "link", b"new")).json()["entry"]
    assert (entry["path"], entry["name"]) == (str(tmp_path / "link"), "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "new"


async def test_a_symlink_loop_is_invalid(agent, tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    assert (await get(agent, tmp_path / "loop")).status == 400
    assert (await put(agent, tmp_path / "loop", b"")).status == 400


async def test_a_file_that_cannot_be_made_is_named_as_it_was_asked_for(agent):
    reply = await put(agent, Path("/proc/no-such-file"), b"data")
    assert reply.status != 200
    assert b"/proc/no-such-file" in reply.body
    assert b".atoll-" not in reply.body


async def test_more_links_than_can_be_followed_are_refused_as_such(agent, tmp_path):
    for number in range(1500):
        (tmp_path / f"l{number}").symlink_to(f"l{number + 1}")
    reply = await put(agent, tmp_path / "l0", b"data")
    assert (reply.status, reply.json()["kind"]) == (400, "invalid")
    assert not (tmp_path / "l1500").exists()


async def test_without_overwrite_an_existing_file_stays(agent, tmp_path):
    assert (await put(agent, tmp_path / "f", b"first", overwrite="0")).status == 200
    reply = await put(agent, tmp_path / "f", b"second", overwrite="0")
    assert (reply.status, reply.json()["kind"]) == (409, "exists")
    assert (tmp_path / "f").read_text() == "first"


async def test_a_chunked_upload_is_written(agent, tmp_path):
    async with agent.connect() as connection:
        connection.send_head("PUT", f"/files/content?path={tmp_path}/f", {"Transfer-Encoding": "chunked"})
        connection.writer.write(b"3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n")
        assert (await connection.read_reply()).status == 200
    assert (tmp_path / "f").read_text() == "abcdef"


@pytest.mark.parametrize("piece", [1, 70_000, 5_000_000])
async def test_a_chunked_upload_is_exact_however_it_is_cut(piece, agent, tmp_path):
    data = random.Random(piece).randbytes(min(3_000_000, 3000 * piece))
    async with agent.connect() as connection:
        connection.send_head("PUT", f"/files/content?path={tmp_path}/f", {"Transfer-Encoding": "chunked"})
        for at in range(0, len(data), piece):
            part = data[at : at + piece]
            connection.writer.write(b"%x\r\n%b\r\n" % (len(part), part))
            await connection.writer.drain()
        connection.writer.write(b"0\r\n\r\n")
        assert (await connection.read_reply()).json()["entry"]["size"] == len(data)
        assert (await connection.request("GET", "/health")).status == 200
    assert (tmp_path / "f").read_bytes() == data


async def test_a_malformed_chunk_after_much_content_is_refused(agent, tmp_path):
    async with agent.connect() as connection:
        connection.send_head("PUT", f"/files/content?path={tmp_path}/f", {"Transfer-Encoding": "chunked"})
        connection.writer.write(b"100000\r\n" + b"x" * 0x100000 + b"\r\nno number\r\n")
        assert (await connection.read_reply()).status == 400
    assert list(tmp_path.iterdir()) == []


async def test_large_transfers_cost_no_memory(agent, tmp_path):
    before = agent.memory_kib()
    data = b"x" * 1_000_000
    async with agent.connect() as connection:
        connection.send_head("PUT", f"/files/content?path={tmp_path}/f", {"Content-Length": str(100 * len(data))})
        for _ in range(100):
            connection.writer.write(data)
            await connection.writer.drain()
        assert (await connection.read_reply()).json()["entry"]["size"] == 100_000_000
        connection.send_head("GET", f"/files/content?path={tmp_path}/f", {})
        await connection.read_head()
        left = 100_000_000
        while left:
            left -= len(await connection.reader.read(min(left, 1_000_000)))
    assert agent.memory_kib() - before < 8192


async def test_stat_follows_symlinks_unless_told(agent, tmp_path):
    (tmp_path / "f").write_text("text")
    (tmp_path / "link").symlink_to("f")
    query = {"path": str(tmp_path / "link")}
    entry = (await agent.request("GET", "/files/stat", query=query)).json()["entry"]
    assert (entry["type"], entry["size"], entry["target"]) == ("file", 4, None)
    entry = (await agent.request("GET", "/files/stat", query={**query, "follow": "0"})).json()["entry"]
    assert (entry["type"], entry["target"]) == ("symlink", "f")
    entry = (await agent.request("GET", "/files/stat", query={"path": "/"})).json()["entry"]
    assert (entry["name"], entry["path"], entry["type"], entry["user"]) == ("/", "/", "directory", "root")


async def test_a_listing_is_sorted_and_as_deep_as_asked(agent, tmp_path):
    (tmp_path / "b/c/d").mkdir(parents=True)
    (tmp_path / "a").write_text("")
    os.mkfifo(tmp_path / "z")
    (tmp_path / "b/link").symlink_to("/")

    async def names(depth: str) -> list[str]:
        reply = await agent.request("GET", "/files/list", query={"path": str(tmp_path), "depth": depth})
        return [os.path.relpath(entry["path"], tmp_path) for entry in reply.json()["entries"]]

    assert await names("1") == ["a", "b", "z"]
    assert await names("2") == ["a", "b", "b/c", "b/link", "z"]
    assert await names("3") == ["a", "b", "b/c", "b/c/d", "b/link", "z"]


async def test_listing_what_is_no_directory(agent, tmp_path):
    (tmp_path / "f").write_text("")
    for path, depth, status in [(tmp_path / "f", "1", 409), (tmp_path, "0", 400), (tmp_path, "x", 400)]:
        reply = await agent.request("GET", "/files/list", query={"path": str(path), "depth": depth})
        assert reply.status == status


async def test_an_empty_directory_is_an_empty_list(agent, tmp_path):
    reply = await agent.request("GET", "/files/list", query={"path": str(tmp_path)})
    assert (reply.json(), reply.headers["content-type"]) == ({"entries": []}, "application/json")


async def test_a_name_that_is_not_utf8_round_trips(agent, tmp_path):
    (Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))).write_bytes(b"x")
    (entry,) = (await agent.request("GET", "/files/list", query={"path": str(tmp_path)})).json()["entries"]
    assert (await get(agent, entry["path"])).body == b"x"


async def test_mkdir_makes_parents_and_takes_what_is_there(agent, tmp_path):
    deep = tmp_path.joinpath(*["d" * 50] * 30)
    for _ in range(2):
        reply = await agent.request("POST", "/files/mkdir", {"path": str(deep)})
        assert (reply.status, reply.json()["entry"]["type"]) == (200, "directory")
    (tmp_path / "file").write_text("")
    reply = await agent.request("POST", "/files/mkdir", {"path": str(tmp_path / "file")})
    assert (reply.status, reply.json()["kind"]) == (409, "exists")


async def test_removal_is_recursive_and_never_follows(agent, tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/file").write_text("")
    (tmp_path / "tree/a/b").mkdir(parents=True)
    (tmp_path / "tree/a/link").symlink_to(tmp_path / "kept")
    (tmp_path / "tree/f").write_text("")
    reply = await agent.request("DELETE", "/files", query={"path": str(tmp_path / "tree")})
    assert reply.json() == {"removed": 5}
    assert (tmp_path / "kept/file").exists()
    (tmp_path / "link").symlink_to(tmp_path / "kept")
    assert (await agent.request("DELETE", "/files", query={"path": str(tmp_path / "link")})).json() == {"removed": 1}
    assert (tmp_path / "kept/file").exists()
    assert (await agent.request("DELETE", "/files", query={"path": str(tmp_path / "tree")})).status == 404
    assert (await agent.request("DELETE", "/files", query={"path": "/"})).status == 400


async def test_a_move_renames_and_replaces(agent, tmp_path):
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").write_text("b")
    body = {"from": str(tmp_path / "a"), "to": str(tmp_path / "new/b")}
    assert (await agent.request("POST", "/files/move", body)).json()["entry"]["path"] == body["to"]
    assert (tmp_path / "new/b").read_text() == "a"
    assert (await agent.request("POST", "/files/move", body)).status == 404
    (tmp_path / "d/x").mkdir(parents=True)
    body = {"from": str(tmp_path / "new"), "to": str(tmp_path / "d")}
    reply = await agent.request("POST", "/files/move", body)
    assert (reply.status, reply.json()["kind"]) == (409, "exists")


@pytest.mark.skipif(os.stat("/dev/shm").st_dev == os.stat("/tmp").st_dev, reason="needs two file systems")
async def test_a_move_between_file_systems_copies(agent, tmp_path):
    source = Path("/dev/shm") / f"atoll-test-{os.getpid()}"
    (source / "sub").mkdir(parents=True)
    (source / "sub/f").write_text("x")
    reply = await agent.request("POST", "/files/move", {"from": str(source), "to": str(tmp_path / "moved")})
    assert reply.status == 200
    assert (tmp_path / "moved/sub/f").read_text() == "x"
    assert not source.exists()
