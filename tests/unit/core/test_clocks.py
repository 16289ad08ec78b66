from dataclasses import replace

import pytest

from atoll.core.clocks import (
    HEARD_WITHIN_S,
    UNUSED,
    End,
    Use,
    check_idle_timeout,
    check_timeout,
    due,
    ends,
    expires_at,
    longer,
    next_check,
)
from atoll.core.errors import InvalidInput
from atoll.core.lifecycle import State
from atoll.core.limits import Limits
from atoll.core.sandbox import OnTimeout, Sandbox, moved
from atoll.core.settings import Clocks

HOUR, DAY = 3600, 86400
T0 = 1_000_000.0
DEFAULT = Clocks()
OFF = Clocks(0, 0, 0)


def sandbox(**changes: object) -> Sandbox:
    made = Sandbox(
        id="a" * 20,
        incarnation=1,
        node_id="n",
        state=State.RUNNING,
        organization_id=1,
        key_id="k",
        template="t",
        template_digest="d",
        workdir="/w",
        python=True,
        limits=Limits(),
        region="local",
        internet_access=True,
        created_at=T0,
        state_since=T0,
        last_activity_at=T0,
        timeout_from=T0,
    )
    return replace(made, **changes)


STATES_KEPT = (State.PAUSED, State.STOPPED, State.ERROR)

TABLE = [  # row, use, settings, (earliest end after T0, which)
    ("fresh, no timeout: inactivity", {}, UNUSED, DEFAULT, (HOUR, End.INACTIVITY)),
    ("called: an hour from the call", {}, Use(T0 + 600), DEFAULT, (HOUR + 600, End.INACTIVITY)),
    ("open connection: max life", {}, Use(T0, open=1), DEFAULT, (DAY, End.MAX_LIFE)),
    ("something runs: max life", {}, Use(T0, live=2), DEFAULT, (DAY, End.MAX_LIFE)),
    ("a timeout of its own: no inactivity", {"timeout_s": 2 * HOUR}, UNUSED, DEFAULT, (2 * HOUR, End.TIMEOUT)),
    (
        "timeout counts from when it was set",
        {"timeout_s": 60, "timeout_from": T0 + 100},
        UNUSED,
        DEFAULT,
        (160, End.TIMEOUT),
    ),
    ("open does not hold a timeout", {"timeout_s": 60}, Use(T0, open=9, live=9), DEFAULT, (60, End.TIMEOUT)),
    ("has run 23 h before", {"ran_s": 23 * HOUR, "timeout_s": DAY}, UNUSED, DEFAULT, (HOUR, End.MAX_LIFE)),
    *((f"{s}: kept 30 days", {"state": s}, UNUSED, DEFAULT, (30 * DAY, End.KEPT)) for s in STATES_KEPT),
    *(
        (f"{s}: the timeout goes on", {"state": s, "timeout_s": 9}, UNUSED, DEFAULT, (9, End.TIMEOUT))
        for s in STATES_KEPT
    ),
    ("everything off", {}, UNUSED, OFF, None),
    ("everything off, paused", {"state": State.PAUSED}, UNUSED, OFF, None),
    ("everything off but a timeout", {"timeout_s": 5}, UNUSED, OFF, (5, End.TIMEOUT)),
    ("inactivity off", {}, UNUSED, Clocks(inactivity_s=0), (DAY, End.MAX_LIFE)),
    ("creating", {"state": State.CREATING}, UNUSED, DEFAULT, None),
    *(
        row
        for on in (OnTimeout.KILL, OnTimeout.PAUSE, OnTimeout.STOP)
        for row in (
            (f"{on}: it runs", {"on_timeout": on, "timeout_s": 9}, UNUSED, DEFAULT, (9, End.TIMEOUT)),
            (
                f"{on}: only this run counts",
                {"on_timeout": on, "timeout_s": 2 * DAY, "ran_s": 23 * HOUR},
                UNUSED,
                DEFAULT,
                (DAY, End.MAX_LIFE),
            ),
            *(
                (
                    f"{on}, {s}: what rests has no timeout",
                    {"on_timeout": on, "state": s, "timeout_s": 9},
                    UNUSED,
                    DEFAULT,
                    (30 * DAY, End.KEPT),
                )
                for s in STATES_KEPT
            ),
        )
    ),
]


@pytest.mark.parametrize(("row", "use", "settings", "end"), [t[1:] for t in TABLE], ids=[t[0] for t in TABLE])
def test_the_table_of_ends(row: dict, use: Use, settings: Clocks, end: tuple[float, End] | None):
    box = sandbox(**row)
    if end is None:
        assert expires_at(box, use, settings) is None
        assert due(box, use, settings, T0 + 1000 * DAY) is None
        return
    after_s, which = end
    assert expires_at(box, use, settings) == T0 + after_s
    assert due(box, use, settings, T0 + after_s - 0.001) is None
    assert due(box, use, settings, T0 + after_s) is which


def test_paused_time_does_not_count_as_life():
    box = moved(sandbox(timeout_s=10 * DAY), State.PAUSED, T0 + 2 * HOUR)
    box = moved(box, State.RUNNING, T0 + 50 * HOUR)
    assert box.ran_s == 2 * HOUR
    assert expires_at(box, UNUSED, DEFAULT) == T0 + 72 * HOUR


def test_a_clock_set_back_never_shortens_the_time_run():
    assert moved(sandbox(ran_s=5.0), State.PAUSED, T0 - 100).ran_s == 5.0


def test_an_idle_sandbox_is_asked_before_its_end():
    assert next_check(sandbox(), UNUSED, DEFAULT, T0) == T0 + HOUR / 4


def test_something_open_is_looked_at_again_and_not_only_at_the_end_of_life():
    assert next_check(sandbox(), Use(T0, open=1), DEFAULT, T0 + 100) == T0 + 100 + HOUR / 4


def test_with_a_timeout_the_next_look_is_its_end():
    assert next_check(sandbox(timeout_s=300), Use(T0, open=1), DEFAULT, T0) == T0 + 300


@pytest.mark.parametrize(
    ("asked", "now", "expected"), [(5, T0, 100), (200, T0, 200), (5, T0 + 99.5, 5), (1, T0 + 98.5, 2)]
)
def test_a_longer_timeout_ends_no_earlier_than_the_one_in_force(asked: int, now: float, expected: int):
    assert longer(sandbox(timeout_s=100), asked, now) == expected


def test_no_clock_no_look():
    assert next_check(sandbox(), UNUSED, OFF, T0) is None


@pytest.mark.parametrize("timeout_s", [0, -1, 2**31, 10**30])
def test_a_timeout_out_of_range_is_invalid(timeout_s: int):
    with pytest.raises(InvalidInput):
        check_timeout(timeout_s, 0.0, OFF)


@pytest.mark.parametrize(
    ("timeout_s", "ran_s", "legal"),
    [
        (DAY, 0.0, True),
        (DAY + 1, 0.0, False),
        (DAY, 3.0, True),  # in the first minute the whole life may be asked for
        (DAY + 1, 3.0, False),
        (DAY, 61.0, False),
        (HOUR, 23 * HOUR, True),
        (HOUR + 61, 23 * HOUR, False),
        (1, 25 * HOUR, False),
    ],
)
def test_a_timeout_beyond_the_maximum_life_is_invalid(timeout_s: int, ran_s: float, legal: bool):
    if legal:
        check_timeout(timeout_s, ran_s, DEFAULT)
    else:
        with pytest.raises(InvalidInput, match="maximum life"):
            check_timeout(timeout_s, ran_s, DEFAULT)


def test_without_a_maximum_life_a_long_timeout_is_legal():
    check_timeout(100 * DAY, 99.0, OFF)


def test_an_idle_timeout_asks_for_connections_alone():
    box = sandbox(timeout_s=HOUR, idle_timeout_s=60)
    assert expires_at(box, UNUSED, DEFAULT) == T0 + 60 + HEARD_WITHIN_S
    assert expires_at(box, Use(last_call_at=T0 + 30), DEFAULT) == T0 + 90 + HEARD_WITHIN_S
    assert due(box, Use(last_call_at=T0, live=3), DEFAULT, T0 + 60 + HEARD_WITHIN_S) is End.IDLE
    connected = Use(last_call_at=T0, open=1)
    assert due(box, connected, DEFAULT, T0 + 70) is None
    assert expires_at(box, connected, DEFAULT) == T0 + HOUR


def test_an_idle_one_is_looked_at_in_time_whenever_its_last_connection_closes():
    box = sandbox(timeout_s=HOUR, idle_timeout_s=60)
    looked_at = T0 + 100
    assert next_check(box, Use(last_call_at=T0, open=1), DEFAULT, looked_at) == looked_at + 60


def test_what_rests_is_never_idle():
    box = sandbox(state=State.PAUSED, idle_timeout_s=60, on_timeout=OnTimeout.PAUSE)
    assert End.IDLE not in ends(box, UNUSED, DEFAULT)


@pytest.mark.parametrize("seconds", [0, -1, 29, 2**31])
def test_an_idle_timeout_has_bounds(seconds):
    with pytest.raises(InvalidInput):
        check_idle_timeout(seconds)
