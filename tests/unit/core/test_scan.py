from __future__ import annotations

import pytest

from atoll.core.scan import MAX_WATCHED, ScanDetector

MANY_ADDRESSES = "more than 100 addresses within 10 s"
MANY_PORTS = "more than 50 ports of one address within 10 s"


@pytest.fixture
def detector():
    return ScanDetector()


def tried(detector: ScanDetector, attempts, sandbox_id: str = "one") -> list[str]:
    """Of (address, port, time)."""
    return [found for attempt in attempts if (found := detector.tried(sandbox_id, *attempt))]


def test_a_hundred_addresses_are_no_scan_and_one_more_is(detector):
    assert tried(detector, [(number, 80, number / 100) for number in range(100)]) == []
    assert tried(detector, [(100, 80, 1.0)]) == [MANY_ADDRESSES]


def test_fifty_ports_of_one_address_are_no_scan_and_one_more_is(detector):
    assert tried(detector, [("a", port, 1.0) for port in range(50)]) == []
    assert tried(detector, [("a", 50, 1.0)]) == [MANY_PORTS]


def test_the_same_again_counts_once(detector):
    assert tried(detector, [(number % 100, 80, number / 1000) for number in range(9000)]) == []


def test_fifty_ports_of_each_of_a_hundred_addresses_are_no_scan(detector):
    assert tried(detector, [(number // 50, number % 50, 1.0) for number in range(5000)]) == []


@pytest.mark.parametrize(("pace_s", "found"), [(0.1001, []), (0.0999, [MANY_ADDRESSES])])
def test_the_window_slides_over_addresses(detector, pace_s, found):
    assert tried(detector, [(number, 80, number * pace_s) for number in range(101)]) == found


@pytest.mark.parametrize(("pace_s", "found"), [(0.2001, []), (0.1999, [MANY_PORTS])])
def test_the_window_slides_over_ports(detector, pace_s, found):
    assert tried(detector, [("a", number, number * pace_s) for number in range(51)]) == found


def test_after_a_scan_counting_begins_anew(detector):
    assert tried(detector, [(number, 80, 1.0) for number in range(202)]) == [MANY_ADDRESSES] * 2


def test_sandboxes_are_counted_apart(detector):
    assert tried(detector, [(number, 80, 1.0) for number in range(100)]) == []
    assert tried(detector, [(number, 80, 1.0) for number in range(100, 200)], "two") == []


def test_a_forgotten_sandbox_has_done_nothing(detector):
    tried(detector, [(number, 80, 1.0) for number in range(100)])
    detector.forget("one")
    assert tried(detector, [(number, 80, 1.0) for number in range(100, 200)]) == []


def test_memory_is_bounded(detector):
    for number in range(MAX_WATCHED + 10):
        detector.tried(str(number), "a", 80, 1.0)
    assert len(detector._watched) == MAX_WATCHED
    for number in range(100_000):
        detector.tried("one", number % 90, number % 45, number * 0.05)
    assert sum(len(seen.ports) for seen in detector._watched["one"].values()) <= 100 * 51
