"""The log as the daemon has it: written by a thread, read while it grows."""

from __future__ import annotations

import asyncio
import logging
import shutil
import threading

import pytest

from atoll.core.egress import Entry, Kind, Outcome
from atoll.egress import log as module
from atoll.egress.log import Log

ONE, TWO = "a" * 20, "b" * 20


def entry(sandbox_id: str = ONE, rule: str = "default") -> Entry:
    return Entry(1.0, sandbox_id, Kind.CONNECTION, Outcome.ALLOWED, rule, protocol="tcp", bytes_in=5)


@pytest.fixture
async def log(tmp_path):
    made = Log(tmp_path / "logs")
    running = asyncio.create_task(made.run())
    yield made
    running.cancel()
    await made.close()


async def test_what_was_written_is_read_at_once(log):
    log.write(entry())
    page = await log.read(ONE)
    assert [each["seq"] for each in page.entries] == [1]
    assert page.cursor == 1


async def test_it_is_on_disk_without_being_asked_for(log, tmp_path):
    with log._told(ONE) as written:
        log.write(entry())
        async with asyncio.timeout(5):
            await written.wait()
    assert (tmp_path / "logs" / f"{ONE}.jsonl").read_bytes().count(b"\n") == 1


async def test_a_reader_waits_for_what_comes(log):
    reading = asyncio.create_task(log.read(ONE, wait_s=20))
    other = asyncio.create_task(log.read(TWO, wait_s=20))
    await asyncio.sleep(0)
    log.write(entry())
    async with asyncio.timeout(5):
        assert len((await reading).entries) == 1
    assert not other.done()
    log.write(entry(TWO))
    await other


async def test_a_reader_who_waits_long_enough_gets_an_empty_page(log):
    log.write(entry())
    page = await log.read(ONE, after=1, wait_s=0.01)
    assert (page.entries, page.cursor) == ([], 1)
    assert log._readers == {}


async def test_the_end_writes_what_is_left(tmp_path):
    log = Log(tmp_path / "logs")
    log.write(entry())
    await log.close()
    again = Log(tmp_path / "logs")
    assert len((await again.read(ONE)).entries) == 1
    await again.close()


async def test_a_full_disk_is_said_once_and_in_the_log_when_there_is_room_again(log, tmp_path, caplog):
    directory = tmp_path / "logs"
    shutil.rmtree(directory)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            log.write(entry())
            await log.flush()
        assert caplog.text.count("traffic goes on") == 1
        directory.mkdir()
        log.write(entry())
        page = await log.read(ONE)
    assert [each["rule"] for each in page.entries] == ["log", "default"]
    assert page.entries[0]["detail"] == "3 entries could not be written"
    assert log.totals.to_wire(ONE)["lost"] == 3
    assert "can be written again" in caplog.text


async def test_one_that_floods_does_not_take_what_others_have(tmp_path, monkeypatch):
    """While the disk takes nothing at all."""
    monkeypatch.setattr(module, "MAX_PENDING_OF_ONE", 10)
    log, stuck = Log(tmp_path / "logs"), threading.Event()
    log._thread.submit(stuck.wait)
    for _ in range(25):
        log.write(entry())
    log.write(entry(TWO))
    stuck.set()
    assert len((await log.read(TWO)).entries) == 1
    assert [each["rule"] for each in (await log.read(ONE)).entries] == ["log", *["default"] * 10]
    assert log.totals.to_wire(ONE)["lost"] == 15
    await log.close()


async def test_a_reader_who_leaves_while_it_is_written_takes_nothing_along(tmp_path):
    log, stuck = Log(tmp_path / "logs"), threading.Event()
    log._thread.submit(stuck.wait)
    log.write(entry())
    reading = asyncio.create_task(log.read(ONE))
    await asyncio.sleep(0)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    stuck.set()
    assert len((await log.read(ONE)).entries) == 1
    await log.close()
    assert log._waiting == 0


async def test_what_waits_in_all_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MAX_PENDING", 10)
    log = Log(tmp_path / "logs")
    for number in range(15):
        log.write(entry(f"{number:020}"))
    assert log.totals.to_wire()["lost"] == 5
    await log.flush()
    log.write(entry())
    assert log.totals.to_wire()["lost"] == 5
    await log.close()


async def test_what_is_written_is_counted(log):
    log.write(entry(rule="allow_out: 1.1.1.1"))
    log.write(entry(TWO))
    assert log.totals.to_wire(ONE)["by_rule"] == {"allow_out: 1.1.1.1": 1}
    assert log.totals.to_wire()["by_rule"] == {"allow_out": 1, "default": 1}
