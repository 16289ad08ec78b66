"""Connections outward: real sockets on loopback, which these tests declare open, and a nameserver of their own."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from atoll.core.errors import PermissionDenied, Unavailable
from atoll.core.uplink import NO_UPLINK, Uplink, Way
from atoll.egress import dial
from atoll.egress.dial import Dialer, Outside, in_namespace, is_own, reachable, why

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)


class Nameserver(asyncio.DatagramProtocol):
    """Answers each question for a name with the next of its answers; the last one stays."""

    def __init__(self) -> None:
        self.answers: dict[str, list[list[str]]] = {}
        self.asked: list[str] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.port = transport.get_extra_info("sockname")[1]

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        query = dns.message.from_wire(data)
        (question,) = query.question
        name, kind = question.name.to_text().rstrip("."), question.rdtype.name
        self.asked.append(f"{name} {kind}")
        reply = dns.message.make_response(query)
        reply.flags |= dns.flags.RA
        told = self.answers.get(name)
        if told is None:
            reply.set_rcode(dns.rcode.NXDOMAIN)
        else:
            found = told.pop(0) if len(told) > 1 and kind == "A" else told[0]
            fitting = [each for each in found if (":" in each) == (kind == "AAAA")]
            if fitting:
                reply.answer.append(dns.rrset.from_text(question.name, 60, "IN", kind, *fitting))
        self.transport.sendto(reply.to_wire(), addr)


@pytest.fixture
async def nameserver():
    transport, server = await asyncio.get_running_loop().create_datagram_endpoint(Nameserver, ("127.0.0.1", 0))
    yield server
    transport.close()


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


def outside(nameserver: Nameserver, opened=LOOPBACK) -> Outside:
    return Outside(nameservers=("127.0.0.1",), dns_port=nameserver.port, opened=opened)


async def test_a_name_is_resolved_and_its_address_connected_to(nameserver, listener):
    nameserver.answers["app.example"] = [["127.0.0.1"]]
    port = listener.getsockname()[1]
    with await Dialer(outside(nameserver)).dial("app.example", port) as sock:
        assert sock.getpeername() == ("127.0.0.1", port)
        assert sock.getblocking() is False
    assert nameserver.asked == ["app.example A"], "asked once: a second answer could be another one"


async def test_a_name_that_changes_its_mind_is_checked_each_time(nameserver, listener):
    nameserver.answers["rebind.example"] = [["127.0.0.1"], ["10.0.0.1"]]
    dialer = Dialer(outside(nameserver))
    (await dialer.dial("rebind.example", listener.getsockname()[1])).close()
    with pytest.raises(PermissionDenied, match="private"):
        await dialer.dial("rebind.example", listener.getsockname()[1])


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("127.0.0.1", "loopback"),
        ("::1", "loopback"),
        ("::ffff:127.0.0.1", "loopback"),
        ("::ffff:a9fe:a9fe", "metadata"),
        ("64:ff9b::a00:1", "private"),
        ("169.254.169.254", "metadata"),
        ("10.1.2.3", "private"),
        ("fd00::1", "unique local"),
        ("0.0.0.0", "this host"),
        ("255.255.255.255", "broadcast"),
        ("inside.example", "private"),
        ("inside6.example", "link-local"),
    ],
)
async def test_what_is_never_reachable_is_refused_before_any_packet(host, reason, nameserver, monkeypatch):
    nameserver.answers |= {"inside.example": [["192.168.1.1"]], "inside6.example": [["fe80::1"]]}
    monkeypatch.setattr(dial, "connect", lambda *_: pytest.fail("a connection was tried"))
    with pytest.raises(PermissionDenied, match=reason) as refused:
        await Dialer(outside(nameserver, opened=())).dial(host, 80)
    assert "192.168.1.1" not in refused.value.message, "what a name is inside is nobody's business"


def test_of_several_addresses_only_the_allowed_are_left():
    found = [ipaddress.ip_address(text) for text in ("10.0.0.1", "203.0.113.1", "127.0.0.1")]
    assert reachable("a.example", found, ()) == [found[1]]
    assert why(ipaddress.ip_address("::ffff:10.0.0.1")) == "private"


async def test_this_hosts_own_public_address_is_refused(nameserver, monkeypatch):
    """A machine need not have one. The kernel's answer for loopback is the same once the table does not list it."""
    monkeypatch.setattr(dial, "is_never_reachable", lambda address, opened: False)
    with pytest.raises(PermissionDenied, match="this host's own"):
        await Dialer(outside(nameserver, opened=())).dial("127.0.0.1", 80)


def test_an_address_of_somebody_else_is_not_own():
    assert is_own(ipaddress.ip_address("127.0.0.1"))
    assert not is_own(ipaddress.ip_address("203.0.113.77"))


async def test_a_name_that_is_not_there_may_be_tried_again(nameserver):
    with pytest.raises(Unavailable, match="no host"):
        await Dialer(outside(nameserver)).dial("nowhere.example", 80)
    nameserver.answers["empty.example"] = [[]]
    with pytest.raises(Unavailable, match="no address"):
        await Dialer(outside(nameserver)).dial("empty.example", 80)
    assert nameserver.asked[-2:] == ["empty.example A", "empty.example AAAA"]


async def test_nobody_listening_may_be_tried_again_and_the_next_address_is(nameserver, listener):
    nameserver.answers["two.example"] = [["127.0.0.2", "127.0.0.1"]]
    with await Dialer(outside(nameserver)).dial("two.example", listener.getsockname()[1]) as sock:
        assert sock.getpeername()[0] == "127.0.0.1"
    port = listener.getsockname()[1]
    listener.close()
    with pytest.raises(Unavailable, match=f"no connection to 127.0.0.1 port {port}"):
        await Dialer(outside(nameserver)).dial("127.0.0.1", port)


async def test_without_a_way_out_nothing_is_dialled():
    with pytest.raises(PermissionDenied, match="--uplink none"):
        await Dialer(Outside.of(NO_UPLINK, ())).dial("203.0.113.1", 80)


def test_where_connections_start():
    assert Outside.of(Uplink(Way.AUTO), LOOPBACK) == Outside(opened=LOOPBACK)
    assert Outside.of(Uplink(Way.INTERFACE, "eth0"), ()) == Outside()
    there = Outside.of(Uplink(Way.NETNS, "out"), ())
    assert (there.namespace, there.nameservers) == (Path("/run/netns/out"), ("8.8.8.8", "1.1.1.1"))


async def test_a_caller_that_left_leaves_no_socket_open(listener):
    entered, go = asyncio.Event(), threading.Event()
    loop, made = asyncio.get_running_loop(), []

    def step() -> socket.socket:
        loop.call_soon_threadsafe(entered.set)
        go.wait()
        made.append(socket.create_connection(listener.getsockname()))
        return made[0]

    task = asyncio.create_task(in_namespace(None, step))
    await entered.wait()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    go.set()
    accepted, _ = await asyncio.to_thread(listener.accept)
    assert await asyncio.to_thread(accepted.recv, 1) == b""
    accepted.close()


async def test_a_namespace_that_is_gone_says_so():
    with pytest.raises(Unavailable, match="no network namespace 'gone'"):
        await in_namespace(Path("/run/netns/gone"), lambda: None)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
async def test_a_step_runs_in_the_other_namespace_and_nothing_else_does(tmp_path):
    """A namespace held by a process of its own; its links are none of ours."""
    holder = subprocess.Popen(  # noqa: ASYNC220 - it echoes at once
        ["unshare", "--net", "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        holder.stdin.write(b"\n")
        holder.stdin.flush()
        holder.stdout.read(1)
        other = Path(f"/proc/{holder.pid}/ns/net")
        before = os.stat("/proc/self/ns/net").st_ino
        inside = await in_namespace(other, lambda: os.stat("/proc/thread-self/ns/net").st_ino)
        assert inside == other.stat().st_ino != before
        assert await asyncio.to_thread(lambda: os.stat("/proc/thread-self/ns/net").st_ino) == before
    finally:
        holder.stdin.close()
        holder.wait()
        holder.stdout.close()
