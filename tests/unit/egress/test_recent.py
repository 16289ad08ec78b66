from __future__ import annotations

import ipaddress

from atoll.egress.recent import MIN_KEPT_S, RecentNames


class Clock:
    time = 100.0

    def __call__(self) -> float:
        return self.time


def address(number: int) -> ipaddress.IPv4Address:
    return ipaddress.IPv4Address(0xC0000200 + number)


def test_the_last_name_of_an_address_is_told_to_its_sandbox_only():
    recent = RecentNames(Clock())
    recent.add("a", "old.example.com", [address(1)], 60)
    recent.add("a", "new.example.com", [address(1), address(2)], 60)
    assert recent.name_of("a", address(1)) == recent.name_of("a", address(2)) == "new.example.com"
    assert recent.name_of("a", address(3)) is None
    assert recent.name_of("b", address(1)) is None


def test_a_name_is_remembered_for_an_hour_or_its_ttl():
    clock = Clock()
    recent = RecentNames(clock)
    recent.add("a", "short.example.com", [address(1)], 5)
    recent.add("a", "long.example.com", [address(2)], 2 * MIN_KEPT_S)
    clock.time += MIN_KEPT_S - 1
    assert recent.name_of("a", address(1)) == "short.example.com"
    clock.time += 2
    assert recent.name_of("a", address(1)) is None
    assert recent.name_of("a", address(2)) == "long.example.com"


def test_of_one_sandbox_the_oldest_go():
    recent = RecentNames(Clock(), most_of_one=3)
    for number in range(5):
        recent.add("a", f"{number}.example.com", [address(number)], 60)
    assert [recent.name_of("a", address(number)) is not None for number in range(5)] == [False, False, True, True, True]
    assert len(recent) == 3


def test_when_there_are_too_many_the_one_with_most_loses_them():
    recent = RecentNames(Clock(), most_in_all=100)
    recent.add("modest", "example.com", [address(1)], 60)
    for number in range(200):
        recent.add("greedy", f"{number}.example.com", [address(number)], 60)
    assert recent.name_of("modest", address(1)) == "example.com"
    assert len(recent) <= 100


def test_of_a_forgotten_sandbox_nothing_is_left():
    recent = RecentNames(Clock())
    recent.add("a", "example.com", [address(1), address(2)], 60)
    recent.forget("a")
    recent.forget("never there")
    assert recent.name_of("a", address(1)) is None
    assert len(recent) == 0
