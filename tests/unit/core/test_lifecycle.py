import pytest

from atoll.core.errors import Conflict
from atoll.core.lifecycle import TRANSITIONS, Event, State, step

PAIRS = [(state, event) for state in State for event in Event]
GONE_EVENTS = (Event.DELETE, Event.EXPIRE, Event.LOST)


@pytest.mark.parametrize(("state", "event"), PAIRS)
def test_every_pair_is_in_the_table_or_a_conflict_that_names_the_state(state: State, event: Event):
    if (state, event) in TRANSITIONS:
        assert step(state, event) is TRANSITIONS[state, event]
    else:
        with pytest.raises(Conflict, match=state.value) as caught:
            step(state, event)
        assert caught.value.details == {"state": state.value, "event": event.value}


EXPECTED = {  # said a second time, so that a slip in the table is noticed
    State.CREATING: {Event.CREATED: "running", Event.CREATE_FAILED: "deleted"},
    State.RUNNING: {
        Event.CREATED: "running",
        Event.PAUSE: "paused",
        Event.RESUME: "running",
        Event.START: "running",
        Event.STOP: "stopped",
        Event.EXITED: "error",
        Event.FOUND_RUNNING: "running",
        Event.FOUND_PAUSED: "paused",
        Event.FOUND_STOPPED: "stopped",
    },
    State.PAUSED: {
        Event.PAUSE: "paused",
        Event.RESUME: "running",
        Event.STOP: "stopped",
        Event.EXITED: "error",
        Event.FOUND_RUNNING: "running",
        Event.FOUND_PAUSED: "paused",
        Event.FOUND_STOPPED: "stopped",
    },
    State.STOPPED: {
        Event.STOP: "stopped",
        Event.START: "running",
        Event.EXITED: "stopped",
        Event.FOUND_RUNNING: "running",
        Event.FOUND_PAUSED: "paused",
        Event.FOUND_STOPPED: "stopped",
    },
    State.ERROR: {
        Event.STOP: "stopped",
        Event.START: "running",
        Event.EXITED: "error",
        Event.FOUND_RUNNING: "running",
        Event.FOUND_PAUSED: "paused",
        Event.FOUND_STOPPED: "error",
    },
    State.DELETED: {Event.CREATE_FAILED: "deleted", Event.EXITED: "deleted"},
}


def test_the_table_is_what_we_mean():
    expected = {
        (state, event): State(after)
        for state, events in EXPECTED.items()
        for event, after in {**events, **dict.fromkeys(GONE_EVENTS, "deleted")}.items()
    }
    assert expected == TRANSITIONS


@pytest.mark.parametrize("event", GONE_EVENTS)
@pytest.mark.parametrize("state", list(State))
def test_every_state_can_end(state: State, event: Event):
    assert step(state, event) is State.DELETED


def test_nothing_leaves_deleted():
    assert {after for (state, _), after in TRANSITIONS.items() if state is State.DELETED} == {State.DELETED}
