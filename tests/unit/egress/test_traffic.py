"""What the kernel's events become, by a clock that stands still."""

from __future__ import annotations

import ipaddress
from dataclasses import replace

import pytest

from atoll.core.blocklist import DEFAULT_BLOCKLIST
from atoll.core.egress import Entry, Kind, NameSource, Outcome
from atoll.core.policy import CLOSED, OPEN, Policy, parse
from atoll.core.scan import ADDRESSES
from atoll.egress import traffic as module
from atoll.egress.totals import Totals
from atoll.egress.traffic import NS, Owners, Traffic
from atoll.wire.ctnetlink import ASSURED, SEEN_REPLY, TIME_WAIT, Change, Count, Tracked
from atoll.wire.nflog import Logged

ONE, TWO = "a" * 20, "b" * 20
ADDRESS, OTHER = ipaddress.ip_address("100.96.0.2"), ipaddress.ip_address("100.96.0.3")
SIX = ipaddress.ip_address("fd00::2")
WEB = ipaddress.ip_address("203.0.113.10")
VIP = ipaddress.ip_address("192.0.0.8")
START = 1_800_000_000


class Clock:
    def __init__(self) -> None:
        self.now = float(START)

    def __call__(self) -> float:
        return self.now


class FakeLog:
    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.totals = Totals()

    def write(self, entry: Entry) -> None:
        self.entries.append(entry)


class Names:
    def name_of(self, sandbox_id: str, address: object) -> str | None:
        return "example.com" if (sandbox_id, address) == (ONE, WEB) else None


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def log():
    return FakeLog()


@pytest.fixture
def punished():
    return []


@pytest.fixture
def traffic(clock, log, punished):
    made = Traffic(
        log=log,
        names=Names(),
        blocked=lambda: DEFAULT_BLOCKLIST,
        opened=(),
        punish=lambda *punish: punished.append(punish),
        now=clock,
    )
    made.put(ONE, (ADDRESS, SIX), OPEN)
    clock.now += 1
    return made


def tracked(change: Change, began: float = START + 1, **more) -> Tracked:
    usual = Tracked(
        change=change,
        id=b"\0\0\0\1",
        protocol="tcp",
        source=ADDRESS.packed,
        destination=WEB.packed,
        port=443,
        answerer=WEB.packed,
        status=SEEN_REPLY | ASSURED,
        tcp_state=None,
        out=Count(2, 60 + 52 + 7),
        back=Count(2, 60 + 52 + 8),
        started_ns=int(began * NS),
        stopped_ns=int((began + 120) * NS),
    )
    return replace(usual, **more)


def over(**more) -> Tracked:
    return tracked(Change.DESTROY, **more)


def refused(prefix: str, **more) -> Logged:
    return replace(Logged(prefix, ADDRESS.packed, WEB.packed, "tcp", 80), **more)


# ---- connections


def test_a_connection_is_an_entry(traffic, log):
    traffic.tracked(over())
    assert log.entries == [
        Entry(
            at=START + 1,
            sandbox_id=ONE,
            kind=Kind.CONNECTION,
            verdict=Outcome.ALLOWED,
            rule="default",
            protocol="tcp",
            address="203.0.113.10",
            port=443,
            name="example.com",
            name_from=NameSource.DNS,
            bytes_out=7,
            bytes_in=8,
            duration_s=120.0,
        )
    ]


def test_it_took_until_it_was_closed_not_until_it_was_forgotten(traffic, log, clock):
    clock.now = START + 4
    traffic.tracked(tracked(Change.UPDATE, tcp_state=TIME_WAIT))
    clock.now = START + 9
    traffic.tracked(tracked(Change.UPDATE, tcp_state=TIME_WAIT))
    traffic.tracked(over())
    assert log.entries[0].duration_s == 3.0


def test_one_that_was_closed_says_nothing_about_the_next_with_its_number(traffic, log, clock):
    traffic.tracked(tracked(Change.UPDATE, tcp_state=TIME_WAIT))
    traffic.tracked(over())
    traffic.tracked(over())
    assert [entry.duration_s for entry in log.entries] == [0.0, 120.0]


@pytest.mark.parametrize(
    ("protocol", "status", "verdict"),
    [
        ("tcp", SEEN_REPLY | ASSURED, Outcome.ALLOWED),
        ("tcp", SEEN_REPLY, Outcome.FAILED),
        ("tcp", 0, Outcome.FAILED),
        ("udp", SEEN_REPLY, Outcome.ALLOWED),
        ("udp", 0, Outcome.FAILED),
        ("icmp", SEEN_REPLY, Outcome.ALLOWED),
        ("icmp", 0, Outcome.FAILED),
    ],
)
def test_where_nobody_answered_it_failed(traffic, log, protocol, status, verdict):
    traffic.tracked(over(protocol=protocol, status=status))
    assert log.entries[0].verdict is verdict


@pytest.mark.parametrize(
    ("policy", "rule"),
    [
        (parse({"allow_out": ["203.0.113.0/24"], "deny_out": ["0.0.0.0/0"]}), "allow_out: 203.0.113.0/24"),
        (parse({"deny_out": ["198.51.100.0/24"]}), "default"),
        (CLOSED, "default"),  # it was let out, whatever the reason: nothing that refuses may stand there
    ],
)
def test_the_rule_is_the_one_that_allowed_it(traffic, log, clock, policy, rule):
    traffic.put(ONE, (ADDRESS,), policy)
    traffic.tracked(over(began=clock.now + 1))
    assert log.entries[0].rule == rule


def test_what_was_translated_is_left_to_the_daemons_other_parts(traffic, log):
    traffic.tracked(over(answerer=VIP.packed))
    assert log.entries == []


@pytest.mark.parametrize("source", [OTHER.packed, ipaddress.ip_address("100.64.0.1").packed])
def test_connections_of_nobody_are_nobodys(traffic, log, punished, source):
    """The daemon's own are among them."""
    for number in range(200):
        traffic.tracked(tracked(Change.NEW, source=source, port=number))
    traffic.tracked(over(source=source))
    assert (log.entries, punished) == ([], [])


def test_an_ipv6_connection_is_the_same_sandboxs(traffic, log):
    web = ipaddress.ip_address("2001:db8::10")
    traffic.tracked(over(source=SIX.packed, destination=web.packed, answerer=web.packed))
    assert (log.entries[0].sandbox_id, log.entries[0].address) == (ONE, "2001:db8::10")


def test_of_closed_ones_that_are_never_forgotten_memory_is_bounded(traffic, monkeypatch):
    monkeypatch.setattr(module, "MAX_ENDED", 10)
    for number in range(20):
        traffic.tracked(tracked(Change.UPDATE, tcp_state=TIME_WAIT, id=bytes([number])))
    assert len(traffic._ended) == 10


# ---- whose it was


@pytest.fixture
def owners(clock):
    return Owners(lambda: int(clock.now * NS))


def at(owners: Owners, second: float) -> tuple[str, Policy | None] | None:
    life = owners.at(ADDRESS.packed, int(second * NS))
    return (life.sandbox_id, life.policy) if life else None


def test_a_late_event_is_about_the_one_who_had_the_address_then(owners, clock):
    for sandbox_id, policy in ((ONE, OPEN), (ONE, CLOSED), (TWO, OPEN)):
        clock.now += 10
        owners.put(sandbox_id, (ADDRESS,), policy)
        if sandbox_id == ONE and policy is CLOSED:
            clock.now += 5
            owners.forget(ONE, (ADDRESS,))
    assert [at(owners, START + second) for second in (12, 22, 27, 36)] == [
        (ONE, OPEN), (ONE, CLOSED), None, (TWO, OPEN),
    ]  # fmt: skip


def test_what_began_before_this_daemon_is_the_first_ones_that_it_heard_of(owners, clock):
    clock.now += 5
    owners.put(ONE, (ADDRESS,), OPEN)
    assert at(owners, START - 100) == (ONE, OPEN)
    assert at(owners, START + 2) is None


def test_a_late_goodbye_does_not_take_the_address_from_the_next(owners, clock):
    owners.put(ONE, (ADDRESS,), OPEN)
    clock.now += 1
    owners.put(TWO, (ADDRESS,), OPEN)
    owners.forget(ONE, (ADDRESS,))
    assert owners.now(ADDRESS.packed).sandbox_id == TWO


def test_who_is_gone_is_remembered_for_a_while_and_not_for_ever(owners, clock):
    owners.put(ONE, (ADDRESS,), OPEN)
    clock.now += 10
    owners.forget(ONE, (ADDRESS,))
    assert owners.now(ADDRESS.packed) is None
    assert at(owners, START + 5) == (ONE, OPEN)
    clock.now += module.REMEMBERED_S + 1
    owners.put(TWO, (OTHER,), OPEN)
    assert at(owners, START + 5) is None


def test_of_many_policies_the_last_few_are_remembered(owners, clock):
    for _ in range(1000):
        clock.now += 1
        owners.put(ONE, (ADDRESS,), OPEN)
    assert len(owners._lives[ADDRESS.packed]) == module.REMEMBERED_LIVES


# ---- refusals


@pytest.mark.parametrize(
    ("policy", "logged", "rule"),
    [
        (CLOSED, refused("deny"), "internet_access: false"),
        (parse({"deny_out": ["203.0.113.0/24"]}), refused("deny"), "deny_out: 203.0.113.0/24"),
        (OPEN, refused("never", destination=ipaddress.ip_address("10.1.2.3").packed), "never: private"),
        (OPEN, refused("blocklist", port=25), "blocklist: tcp/25"),
        (OPEN, refused("deny"), "deny"),  # the policy has changed in between
        (CLOSED, refused("rate"), "rate"),
        (CLOSED, refused("connections"), "connections"),
        (OPEN, refused("bad\0\x1b[31m"), "bad??[31m"),
    ],
)
def test_a_refusal_says_the_rule(traffic, log, clock, policy, logged, rule):
    traffic.put(ONE, (ADDRESS,), policy)
    traffic.refused(logged)
    (entry,) = log.entries
    assert (entry.verdict, entry.rule, entry.at) == (Outcome.DENIED, rule, clock.now)
    assert (entry.name, entry.bytes_in, entry.duration_s) == (
        "example.com" if logged.destination == WEB.packed else "",
        0,
        0,
    )


def test_of_a_refusal_on_the_way_to_us_nobody_knows_where_it_wanted_to_go(traffic, log, punished):
    for _ in range(200):
        traffic.refused(refused("rate", destination=VIP.packed, port=1080))
    entry = log.entries[0]
    assert (entry.rule, entry.address, entry.port) == ("rate", "", 0)
    assert entry.detail == "on its way to the proxy or the resolver"


def test_a_refusal_of_nobody_is_nothing(traffic, log):
    traffic.refused(refused("deny", source=OTHER.packed))
    traffic.forget(ONE, (ADDRESS, SIX))
    traffic.refused(refused("deny"))
    assert log.entries == []


# ---- scans


def knock(traffic: Traffic, number: int, **more) -> None:
    destination = ipaddress.ip_address(int(WEB) + number).packed
    traffic.tracked(tracked(Change.NEW, destination=destination, **{"answerer": destination, **more}))


def test_many_addresses_are_a_scan_that_is_punished_and_logged(traffic, log, punished):
    for number in range(ADDRESSES + 1):
        knock(traffic, number)
    assert punished == [(ONE, "scan", 60, "more than 100 addresses within 10 s")]
    (entry,) = log.entries
    assert (entry.kind, entry.verdict, entry.rule) == (Kind.EVENT, Outcome.DENIED, "scan")
    assert entry.detail == "more than 100 addresses within 10 s; new connections are refused for 60 s"


def test_connections_that_the_proxy_takes_count_as_well(traffic, punished):
    for number in range(ADDRESSES + 1):
        knock(traffic, number, answerer=VIP.packed)
    assert len(punished) == 1


def test_questions_that_the_resolver_takes_do_not(traffic, punished):
    for number in range(ADDRESSES + 1):
        knock(traffic, number, answerer=VIP.packed, port=53, protocol="udp")
    assert punished == []


def test_refusals_count_as_well(traffic, punished):
    for number in range(ADDRESSES + 1):
        traffic.refused(refused("never", destination=ipaddress.ip_address(f"10.0.0.{number}").packed))
    assert len(punished) == 1


def test_what_is_refused_for_scanning_does_not_prolong_it(traffic, punished):
    for number in range(3 * ADDRESSES):
        traffic.refused(
            refused("scan", destination=ipaddress.ip_address(f"203.0.{number // 256}.{number % 256}").packed)
        )
    assert punished == []


# ---- gaps


def test_lost_events_are_counted_and_said_once_a_minute(traffic, log, clock, caplog):
    for _ in range(5):
        traffic.events_lost()
    clock.now += 61
    traffic.events_lost()
    assert log.totals.to_wire()["lost"] == 6
    assert caplog.text.count("has gaps") == 2
