from __future__ import annotations

import pytest

from atoll.egress.shares import Allowance, Places


def test_an_allowance_is_a_burst_and_then_a_rate():
    allowance = Allowance(per_s=10, burst=5, at=0.0)
    assert [allowance.take(0.0) for _ in range(6)] == [True] * 5 + [False]
    assert [allowance.take(0.1) for _ in range(2)] == [True, False]
    assert sum(allowance.take(1000.0) for _ in range(20)) == 5


def test_a_clock_that_was_set_back_fills_nothing():
    allowance = Allowance(per_s=10, burst=1, at=100.0)
    assert allowance.take(100.0)
    assert not allowance.take(50.0)


def test_who_takes_later_waits_in_line():
    allowance = Allowance(per_s=10, burst=1, at=0.0)
    assert [allowance.take_later(0.0) for _ in range(3)] == pytest.approx([0.0, 0.1, 0.2])
    assert not allowance.take(0.25)
    assert allowance.take(0.35)


def test_what_cost_more_is_paid_for_afterwards():
    allowance = Allowance(per_s=10, burst=5, at=0.0)
    assert allowance.take(0.0)
    allowance.spend(5)
    assert not allowance.take(0.1)
    assert allowance.take(0.25)
    allowance.spend(1000)
    assert allowance.take(1.0)


def test_one_has_no_more_than_its_part():
    places = Places(in_all=4096, of_one=64)
    assert sum(places.take("a") for _ in range(1000)) == 64


@pytest.mark.parametrize("greedy", [1, 10, 100, 1000, 4000])
def test_however_many_take_all_they_get_one_that_comes_late_gets_a_place(greedy):
    places = Places(in_all=4096, of_one=64)
    for _ in range(65):
        for who in range(greedy):
            places.take(str(who))
    assert places.take("late")


def test_places_come_back():
    places = Places(in_all=40, of_one=2, part=2)
    for _ in range(100):
        assert places.take("a")
        assert places.take("a")
        assert not places.take("a")
        places.give_back("a")
        places.give_back("a")


def test_there_are_never_more_than_there_are():
    places = Places(in_all=10, of_one=2)
    assert sum(places.take(str(who)) for who in range(50)) == 10
