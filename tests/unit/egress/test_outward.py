from __future__ import annotations

import ipaddress
import socket
from types import SimpleNamespace

import pytest

from atoll.core.blocklist import NOTHING_BLOCKED, parse_blocklist
from atoll.core.errors import PermissionDenied, Unavailable
from atoll.core.policy import parse
from atoll.egress import outward

LOOPBACK = ipaddress.ip_network("127.0.0.0/8")


class Resolver:
    def __init__(self, *addresses: str) -> None:
        self.asked: list[tuple[str, object]] = []
        self._addresses = [ipaddress.ip_address(each) for each in addresses]

    async def addresses(self, name, servers=None):
        self.asked.append((name, servers))
        return self._addresses


def services(resolver, opened=(LOOPBACK,), blocked=NOTHING_BLOCKED):
    return SimpleNamespace(resolver=resolver, opened=opened, blocked=lambda: blocked)


@pytest.fixture
def port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


async def test_a_name_is_asked_for_once_and_its_address_is_dialled(port):
    resolver = Resolver("127.0.0.1")
    sock, address = await outward.connect_name("a.test", port, services(resolver), ("9.9.9.9",))
    with sock:
        assert sock.getpeername() == ("127.0.0.1", port)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert str(address) == "127.0.0.1"
    assert resolver.asked == [("a.test", ("9.9.9.9",))]


async def test_an_address_is_not_asked_for(port):
    resolver = Resolver()
    sock, _ = await outward.connect_name("127.0.0.1", port, services(resolver))
    sock.close()
    assert resolver.asked == []


@pytest.mark.parametrize(
    ("blocked", "opened", "rule"),
    [
        (NOTHING_BLOCKED, (), "never: loopback"),
        (parse_blocklist(["127.0.0.0/8"]), (LOOPBACK,), "blocklist: 127.0.0.0/8"),
    ],
)
async def test_what_is_never_reached_or_blocked_is_refused(port, blocked, opened, rule):
    with pytest.raises(PermissionDenied) as refused:
        await outward.connect_name("a.test", port, services(Resolver("127.0.0.1"), opened, blocked))
    assert refused.value.details["rule"] == rule


async def test_a_policy_counts_where_it_is_given(port):
    policy = parse({"deny_out": ["127.0.0.1"]})
    with pytest.raises(PermissionDenied):
        await outward.connect_name("a.test", port, services(Resolver("127.0.0.1")), policy=policy)


async def test_forbidden_addresses_among_others_are_left_out(port):
    found = services(Resolver("10.0.0.1", "127.0.0.1"))
    sock, address = await outward.connect_name("a.test", port, found)
    sock.close()
    assert str(address) == "127.0.0.1"


async def test_the_next_address_is_tried_when_one_refuses(port):
    sock, address = await outward.connect_name("a.test", port, services(Resolver("127.0.0.9", "127.0.0.1")))
    sock.close()
    assert str(address) == "127.0.0.1"


async def test_nobody_there_is_unavailable(port):
    with pytest.raises(Unavailable, match=r"no connection to 127.0.0.9 port \d+: Connection refused"):
        await outward.connect_name("a.test", port, services(Resolver("127.0.0.9")))


async def test_only_resolvers_that_a_sandbox_might_reach_are_asked(port):
    """A policy names them, and the daemon is inside."""
    resolver = Resolver("127.0.0.1")
    servers = ("10.0.0.53", "169.254.169.254", "203.0.113.9", "9.9.9.9")
    there = services(resolver, blocked=parse_blocklist(["203.0.113.0/24"]))
    sock, _ = await outward.connect_name("a.test", port, there, servers)
    sock.close()
    assert resolver.asked == [("a.test", ("9.9.9.9",))]
