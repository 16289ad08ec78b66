import pytest

from atoll.core import rates
from atoll.core.rates import GENEROUS, PRESETS, Buckets, Rates

T = 1_700_000_000.0


def draw(buckets: Buckets, now: float, **limits: int) -> tuple[bool, int]:
    found = buckets.draw(limits, now)
    assert found is not None
    return found.retry_after_s == 0, found.remaining


def test_a_minutes_calls_may_come_at_once_and_the_next_is_refused():
    buckets = Buckets()
    assert [draw(buckets, T, k=3) for _ in range(4)] == [(True, 2), (True, 1), (True, 0), (False, 0)]


def test_a_bucket_fills_evenly_and_a_refusal_takes_nothing():
    buckets = Buckets()
    for _ in range(20):
        assert draw(buckets, T, k=20)[0]
    for _ in range(100):
        assert not draw(buckets, T + 2.9, k=20)[0]
    assert draw(buckets, T + 3, k=20)[0]
    assert not draw(buckets, T + 3, k=20)[0]


def test_a_bucket_holds_no_more_than_a_minutes_calls():
    buckets = Buckets()
    draw(buckets, T, k=5)
    assert draw(buckets, T + 10**6, k=5) == (True, 4)


@pytest.mark.parametrize(("limit", "seconds"), [(20, 3), (1, 60), (60, 1), (60_000, 1), (100, 1)])
def test_who_comes_back_when_told_is_admitted(limit: int, seconds: int):
    buckets = Buckets()
    for _ in range(limit):
        buckets.draw({"k": limit}, T)
    refused = buckets.draw({"k": limit}, T)
    assert refused is not None
    assert refused.retry_after_s == seconds
    assert draw(buckets, T + seconds, k=limit)[0]


def test_of_two_buckets_an_empty_one_keeps_the_other_as_it_is():
    buckets = Buckets()
    assert draw(buckets, T, calls=10, creates=1) == (True, 0)
    assert draw(buckets, T, calls=10, creates=1) == (False, 0)
    assert draw(buckets, T, calls=10) == (True, 8)


def test_the_reset_is_when_it_is_full_again():
    found = Buckets().draw({"k": 60}, T)
    assert found is not None
    assert found.full_at == T + 1


def test_a_limit_that_was_lowered_is_in_force_at_once():
    buckets = Buckets()
    draw(buckets, T, k=1000)
    assert draw(buckets, T, k=2) == (True, 1)


def test_a_clock_that_was_set_back_fills_nothing_and_blocks_nobody_for_long():
    buckets = Buckets()
    draw(buckets, T, k=1)
    assert not draw(buckets, T - 3600, k=1)[0]
    assert draw(buckets, T - 3600 + 60, k=1)[0]


def test_buckets_are_bounded_in_number(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rates, "MAX_BUCKETS", 3)
    buckets = Buckets()
    for name in ("a", "b", "c", "a", "d", "e"):
        buckets.draw({name: 5}, T)
    assert len(buckets) == 3
    assert draw(buckets, T, a=5) == (True, 2), "the ones used last are kept"
    assert draw(buckets, T, b=5) == (True, 4)


def test_without_limits_there_is_nothing_to_say():
    assert Buckets().draw({}, T) is None


def test_rates_cross_the_wire_and_what_is_missing_is_generous():
    for preset in PRESETS.values():
        assert Rates.from_wire(preset.to_wire()) == preset
    assert Rates.from_wire({}) == GENEROUS
    assert Rates.from_wire({"agent": 5}) == Rates(GENEROUS.control, GENEROUS.create, 5)


def test_the_preset_is_what_hopx_documents():
    assert PRESETS["hopx"] == Rates(control=100, create=20, agent=300)
