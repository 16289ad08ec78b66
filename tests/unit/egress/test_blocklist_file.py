from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import threading

import pytest

from atoll.core.blocklist import DEFAULT_BLOCKLIST, BlockList, parse_blocklist
from atoll.egress import blocklist_file as module
from atoll.egress.blocklist_file import BlockListFile, kernel_part


@pytest.fixture
def path(tmp_path):
    return tmp_path / "blocklist.txt"


def test_without_a_file_the_built_in_lines_count(path):
    assert BlockListFile(path).current == DEFAULT_BLOCKLIST


def test_the_operators_lines_add_to_the_built_in_ones(path):
    path.write_text("evil.example\n203.0.113.0/24 # theirs\ntcp/6667\n")
    current = BlockListFile(path).current
    assert current.name("www.evil.example") == "evil.example"
    assert current.name("nicehash.com") == "nicehash.com"
    assert current.destination(ipaddress.ip_address("203.0.113.9"), "tcp", 80) == "203.0.113.0/24"
    assert {("tcp", 6667), ("tcp", 25)} <= current.ports


def test_a_change_is_told_once_and_the_loss_of_the_file_too(path):
    told = []
    file = BlockListFile(path, told.append)
    file.reload()
    assert told == []
    path.write_text("evil.example\n")
    file.reload()
    file.reload()
    assert [each.name("evil.example") for each in told] == ["evil.example"]
    path.unlink()
    file.reload()
    assert told[1:] == [DEFAULT_BLOCKLIST]


def test_a_file_that_was_replaced_by_one_as_old_and_long_is_read(path):
    path.write_text("aaaa.example\n")
    file = BlockListFile(path)
    other = path.with_suffix(".new")
    other.write_text("bbbb.example\n")
    was = path.stat()
    os.utime(other, ns=(was.st_atime_ns, was.st_mtime_ns))
    other.rename(path)
    file.reload()
    assert file.current.name("bbbb.example")


@pytest.mark.parametrize(
    "bad", [b"fine.example\n!?\n", b"\xff\xfe\n", b"a.example\n" * 100_001], ids=lambda each: each[:9]
)
def test_a_bad_file_keeps_the_last_good_list_and_is_said_once(path, bad, caplog):
    path.write_text("evil.example\n")
    told = []
    file = BlockListFile(path, told.append)
    path.write_bytes(bad)
    with caplog.at_level(logging.WARNING):
        file.reload()
        file.reload()
    assert file.current.name("evil.example")
    assert not file.current.name("fine.example")
    assert (told, file.faults, len(caplog.records)) == ([], 1, 1)
    path.write_text("good.example\n")
    file.reload()
    assert file.current.name("good.example")


def test_the_number_of_the_bad_line_is_said(path, caplog):
    path.write_text("a.example\n\n-bad-\n")
    BlockListFile(path)
    assert "line 3" in caplog.text


def test_a_file_beyond_its_limit_is_not_read(path, monkeypatch):
    monkeypatch.setattr(module, "MAX_BYTES", 10)
    path.write_text("evil.example\n")
    file = BlockListFile(path)
    assert (file.current, file.faults) == (DEFAULT_BLOCKLIST, 1)


async def test_a_change_is_seen_by_itself(path, monkeypatch):
    assert module.POLL_S < 1.0
    monkeypatch.setattr(module, "POLL_S", 0.01)
    seen = asyncio.get_running_loop().create_future()
    file = BlockListFile(path, seen.set_result)
    watching = asyncio.create_task(file.watch())
    path.write_text("evil.example\n")
    assert (await seen).name("evil.example")
    watching.cancel()


def test_the_kernel_gets_networks_and_ports():
    part = kernel_part(DEFAULT_BLOCKLIST)
    assert part["networks"] == []
    assert {"tcp/25", "tcp/445", "udp/137"} <= set(part["ports"])


async def test_a_long_file_is_understood_while_the_traffic_goes_on(path, monkeypatch):
    file = BlockListFile(path)
    loop, begun, gone_on = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    def understand(lines):
        loop.call_soon_threadsafe(begun.set)
        assert gone_on.wait(5), "nothing else had its turn"
        return parse_blocklist(lines)

    monkeypatch.setattr(module, "POLL_S", 0)
    monkeypatch.setattr(module, "parse_blocklist", understand)
    told: asyncio.Queue[BlockList] = asyncio.Queue()
    file._changed = told.put_nowait
    path.write_text("evil.example\n")
    watching = asyncio.create_task(file.watch())
    try:
        async with asyncio.timeout(10):
            await begun.wait()
            gone_on.set()
            assert (await told.get()).name("evil.example")
    finally:
        watching.cancel()
