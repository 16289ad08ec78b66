from atoll.control.uses import Report, Uses
from atoll.core.clocks import Use
from atoll.testing.clock import FakeClock


def test_what_was_never_heard_of_counts_as_used_at_the_start():
    clock = FakeClock(100.0)
    uses = Uses(clock)
    clock.advance(50)
    assert uses.of("a") == Use(last_call_at=100.0)


def test_reports_move_forward_and_never_into_the_future():
    uses = Uses(FakeClock(100.0))
    uses.record([Report("a", 90.0, 1)], ["a"])
    assert uses.of("a") == Use(100.0, open=1)
    uses.record([Report("a", 1e12, -3)], ["a"])
    assert uses.of("a") == Use(100.0, open=0)


def test_of_a_sandbox_that_is_gone_nothing_is_kept():
    uses = Uses(FakeClock())
    uses.record([Report("gone", 1.0, 7)], ["other"])
    assert uses.of("gone").open == 0


def test_something_running_is_use_and_silence_is_not():
    clock = FakeClock(100.0)
    uses = Uses(clock)
    clock.advance(10)
    assert uses.set_live("a", None) == Use(100.0, live=1)
    assert uses.set_live("a", 2) == Use(110.0, live=2)
    clock.advance(10)
    assert uses.set_live("a", 0) == Use(110.0, live=0)
