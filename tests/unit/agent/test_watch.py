from __future__ import annotations

import asyncio
import os
import struct
from contextlib import asynccontextmanager

from atoll.agent.users import User, Users
from atoll.agent.watch import IN_CREATE, IN_ISDIR, Notice, Watch, parse_notices


@asynccontextmanager
async def watching(agent, path, recursive: bool = True, attributes: bool = False):
    query = {"path": str(path), "recursive": "1" if recursive else "0", "attributes": "1" if attributes else "0"}
    async with agent.stream("GET", "/files/watch", query=query) as stream:
        assert await stream.next_json() == {"type": "ready"}
        yield stream


async def events_until(stream, path, event) -> list[tuple[str, str]]:
    seen = []
    while (str(path), event) not in seen:
        told = await stream.next_json()
        seen.append((told["path"], told["event"]))
    return seen


def test_notices_are_parsed():
    name = b"file\0\0\0\0"
    raw = struct.pack("iIII", 1, IN_CREATE | IN_ISDIR, 7, len(name)) + name + struct.pack("iIII", 2, IN_CREATE, 0, 0)
    first, second = parse_notices(raw)
    assert first == Notice(1, IN_CREATE | IN_ISDIR, 7, "file")
    assert first.is_directory
    assert second == Notice(2, IN_CREATE, 0, "")


async def test_changes_are_told(agent, tmp_path):
    (tmp_path / "f").write_text("")
    async with watching(agent, tmp_path) as stream:
        (tmp_path / "new").write_text("x")
        seen = await events_until(stream, tmp_path / "new", "modified")
        assert seen[0] == (f"{tmp_path}/new", "created")
        (tmp_path / "f").unlink()
        assert await events_until(stream, tmp_path / "f", "deleted")


async def test_a_change_of_mode_is_told_though_the_file_is_gone_meanwhile(tmp_path):
    (tmp_path / "f").write_text("")
    told: asyncio.Queue[dict[str, object]] = asyncio.Queue()
    me = User("me", os.getuid(), os.getgid(), (), "/", "/bin/sh")
    watch = Watch(Users(switching=False), me, str(tmp_path), False, told.put_nowait, attributes=True)
    await watch.start()
    (tmp_path / "f").chmod(0o600)
    (tmp_path / "f").unlink()
    assert [(await told.get())["event"] for _ in range(2)] == ["attributes", "deleted"]
    watch.close()


async def test_the_end_of_a_watched_directory_is_no_change_of_its_attributes(agent, tmp_path):
    (tmp_path / "d").mkdir()
    async with watching(agent, tmp_path, attributes=True) as stream:
        (tmp_path / "d").rmdir()
        seen = await events_until(stream, tmp_path / "d", "deleted")
    assert [event for _, event in seen] == ["deleted"]


async def test_a_rename_tells_both_names(agent, tmp_path):
    (tmp_path / "a").write_text("")
    async with watching(agent, tmp_path) as stream:
        (tmp_path / "a").rename(tmp_path / "b")
        told = await stream.next_json()
    expected = {"type": "event", "path": f"{tmp_path}/b", "event": "renamed", "from": f"{tmp_path}/a"}
    assert told == {**expected, "is_directory": False}


async def test_moving_in_is_created_and_moving_out_is_deleted(agent, tmp_path):
    (tmp_path / "w").mkdir()
    (tmp_path / "f").write_text("")
    async with watching(agent, tmp_path / "w") as stream:
        (tmp_path / "f").rename(tmp_path / "w/f")
        assert (await stream.next_json())["event"] == "created"
        (tmp_path / "w/f").rename(tmp_path / "f")
        assert (await stream.next_json())["event"] == "deleted"


async def test_new_directories_are_watched_too_and_nothing_in_them_is_missed_or_told_twice(agent, tmp_path):
    async with watching(agent, tmp_path) as stream:
        (tmp_path / "a/b/c").mkdir(parents=True)
        (tmp_path / "a/b/c/f").touch()
        seen = await events_until(stream, tmp_path / "a/b/c/f", "created")
        (tmp_path / "a/b/c/g").touch()
        seen += await events_until(stream, tmp_path / "a/b/c/g", "created")
    created = [path for path, event in seen if event == "created"]
    assert sorted(created) == [f"{tmp_path}/a{rest}" for rest in ("", "/b", "/b/c", "/b/c/f", "/b/c/g")]


async def test_a_directory_that_was_there_is_watched_and_keeps_its_watch_when_renamed(agent, tmp_path):
    (tmp_path / "a/b").mkdir(parents=True)
    async with watching(agent, tmp_path) as stream:
        (tmp_path / "a").rename(tmp_path / "z")
        await events_until(stream, tmp_path / "z", "renamed")
        (tmp_path / "z/b/f").touch()
        assert await events_until(stream, tmp_path / "z/b/f", "created") == [(f"{tmp_path}/z/b/f", "created")]


async def test_without_recursion_only_the_directory_itself_counts(agent, tmp_path):
    (tmp_path / "sub").mkdir()
    async with watching(agent, tmp_path, recursive=False) as stream:
        (tmp_path / "sub/f").touch()
        (tmp_path / "g").touch()
        assert (await stream.next_json())["path"] == f"{tmp_path}/g"


async def test_an_upload_is_seen_as_the_file_and_not_as_our_temporary_one(agent, tmp_path):
    async with watching(agent, tmp_path) as stream:
        for expected in ("created", "modified"):
            await agent.request("PUT", "/files/content", b"x", query={"path": f"{tmp_path}/f"})
            told = await stream.next_json()
            assert (told["path"], told["event"]) == (f"{tmp_path}/f", expected)


async def test_a_single_file_can_be_watched(agent, tmp_path):
    (tmp_path / "f").write_text("")
    async with watching(agent, tmp_path / "f") as stream:
        (tmp_path / "f").write_text("x")
        assert (await stream.next_json())["event"] == "modified"
        (tmp_path / "f").unlink()
        assert (await events_until(stream, tmp_path / "f", "deleted"))[-1][0] == f"{tmp_path}/f"


async def test_a_name_that_is_not_utf8_is_told(agent, tmp_path):
    async with watching(agent, tmp_path) as stream:
        path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff")
        os.close(os.open(path, os.O_CREAT))
        assert (await stream.next_json())["path"] == path


async def test_an_ended_watch_leaves_no_descriptor(agent, tmp_path):
    async def descriptors() -> int:
        return (await agent.request("GET", "/stats")).json()["open_files"]

    before = await descriptors()
    for _ in range(5):
        async with watching(agent, tmp_path):
            pass
    assert await descriptors() <= before + 1
