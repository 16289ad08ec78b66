"""Who gives way when the kernel's memory for TCP runs short."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.egress.memory import PART, TcpMemory, held, too_greedy

SOCKSTAT = """sockets: used 263
TCP: inuse 9 orphan 0 tw 0 alloc 12 mem 1000
UDP: inuse 1 mem 7
"""


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    for name, text in (("net/sockstat", SOCKSTAT), ("sys/net/ipv4/tcp_mem", "300\t400\t600\n")):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_what_is_in_use_and_how_much_may_be(proc):
    memory, page = TcpMemory(proc), os.sysconf("SC_PAGE_SIZE")
    assert memory.in_use() == 1000 * page
    assert memory.limit == 400 // PART * page


def test_in_a_container_it_is_what_the_kernel_takes_by_itself(proc):
    (proc / "sys/net/ipv4/tcp_mem").unlink()
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert TcpMemory(proc).limit == total // 16 // PART


def test_the_kernels_figures_are_read():
    assert TcpMemory().limit > 0
    assert TcpMemory().in_use() >= 0


def test_what_waits_in_a_socket_is_held():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as near:
        far, _ = server.accept()
        with far:
            assert held(near) == held(far) == held(None) == 0
            near.sendall(bytes(100_000))
            assert held(near) + held(far) >= 100_000
        closed = near.dup()
        closed.close()
        assert held(closed) == 0


def test_the_largest_of_the_greediest_go_first():
    holdings = {"a": [(5, "a5"), (90, "a90")], "b": [(60, "b60")], "c": [(1, "c1")]}
    assert too_greedy(holdings, 1, 0) == ["a90"]
    assert too_greedy(holdings, 91, 0) == ["a90", "b60"]
    assert too_greedy(holdings, 10_000, 0) == ["a90", "b60", "a5", "c1"]


def test_nobody_goes_when_others_hold_it():
    assert too_greedy({"a": [(100, "x")]}, 10_000, 200) == []
    assert too_greedy({}, 10_000, 0) == []


@given(
    st.dictionaries(st.sampled_from("abc"), st.lists(st.integers(0, 1000), max_size=8)),
    st.integers(1, 5000),
    st.integers(0, 3000),
)
def test_no_more_go_than_have_to(sizes, excess, limit):
    holdings = {who: [(size, (who, place, size)) for place, size in enumerate(some)] for who, some in sizes.items()}
    total = sum(map(sum, sizes.values()))
    needed = min(excess, total - limit // PART)
    gone = too_greedy(holdings, excess, limit)
    freed = sum(size for *_, size in gone)
    assert freed >= needed or len(gone) == sum(map(len, sizes.values()))
    assert not gone or freed - gone[-1][2] < needed
    assert len(set(gone)) == len(gone)
