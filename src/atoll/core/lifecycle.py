"""Is it executing? One table, one `step`.

                 ┌──────────┐ created  ┌─────────┐ pause   ┌────────┐
                 │ creating ├─────────▶│ running │────────▶│ paused │
                 └────┬─────┘          │         │◀────────│        │
         create_failed│                └┬──┬─────┘  resume └┬──┬────┘
                      │       stop │exited │ ▲             │  │
                      │     ┌──────┘  │    │ │ start  stop │  │exited
                      │     ▼         ▼    │ │             │  │
                      │  ┌─────────┐ ┌─────┴─┴─┐           │  │
                      │  │ stopped │ │  error  │◀──────────┼──┘
                      │  └────▲────┘ └─────────┘           │
                      ▼       └────────────────────────────┘
                 ┌─────────┐
                 │ deleted │ ◀── delete, expire, lost: from every state
                 └─────────┘

- `stopped` and `error` keep the disk; `start` gives it a new life. `error` says that the processes ended unasked.
- `expire` is an end by one of the clocks; `lost` is the word of a node that it does not have the sandbox.
- `deleted` is a tombstone: for every caller the sandbox is gone, for us something may be left to clean on its node.
- Asking for a state that is reached already is a success (a client repeats a request whose answer it lost).
- A late event (an exit noticed after a stop) changes nothing.
- `found_…` is what a node reports at reconciliation: its word on what executes counts, whatever was last written here.

Snapshot, resize or fork are no states: they are operations on a sandbox that executes or does not.
"""

from __future__ import annotations

from enum import StrEnum

from .errors import Conflict


class State(StrEnum):
    CREATING = "creating"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"
    ERROR = "error"
    DELETED = "deleted"


class Event(StrEnum):
    CREATED = "created"
    CREATE_FAILED = "create_failed"
    PAUSE = "pause"
    RESUME = "resume"
    STOP = "stop"
    START = "start"
    EXITED = "exited"
    EXPIRE = "expire"
    LOST = "lost"
    FOUND_RUNNING = "found_running"
    FOUND_PAUSED = "found_paused"
    FOUND_STOPPED = "found_stopped"
    DELETE = "delete"


_S, _E = State, Event

TRANSITIONS: dict[tuple[State, Event], State] = {
    (_S.CREATING, _E.CREATED): _S.RUNNING,
    (_S.CREATING, _E.CREATE_FAILED): _S.DELETED,
    (_S.RUNNING, _E.CREATED): _S.RUNNING,
    (_S.RUNNING, _E.PAUSE): _S.PAUSED,
    (_S.RUNNING, _E.RESUME): _S.RUNNING,
    (_S.RUNNING, _E.START): _S.RUNNING,
    (_S.RUNNING, _E.STOP): _S.STOPPED,
    (_S.RUNNING, _E.EXITED): _S.ERROR,
    (_S.PAUSED, _E.PAUSE): _S.PAUSED,
    (_S.PAUSED, _E.RESUME): _S.RUNNING,
    (_S.PAUSED, _E.STOP): _S.STOPPED,
    (_S.PAUSED, _E.EXITED): _S.ERROR,
    (_S.STOPPED, _E.STOP): _S.STOPPED,
    (_S.STOPPED, _E.START): _S.RUNNING,
    (_S.STOPPED, _E.EXITED): _S.STOPPED,
    (_S.ERROR, _E.STOP): _S.STOPPED,
    (_S.ERROR, _E.START): _S.RUNNING,
    (_S.ERROR, _E.EXITED): _S.ERROR,
    (_S.DELETED, _E.CREATE_FAILED): _S.DELETED,
    (_S.DELETED, _E.EXITED): _S.DELETED,
    **{(state, _E.FOUND_RUNNING): _S.RUNNING for state in (_S.RUNNING, _S.PAUSED, _S.STOPPED, _S.ERROR)},
    **{(state, _E.FOUND_PAUSED): _S.PAUSED for state in (_S.RUNNING, _S.PAUSED, _S.STOPPED, _S.ERROR)},
    **{(state, _E.FOUND_STOPPED): _S.STOPPED for state in (_S.RUNNING, _S.PAUSED, _S.STOPPED)},
    (_S.ERROR, _E.FOUND_STOPPED): _S.ERROR,
    **{(state, event): _S.DELETED for state in State for event in (_E.DELETE, _E.EXPIRE, _E.LOST)},
}

EXECUTING = frozenset({State.RUNNING})
KEPT = frozenset({State.PAUSED, State.STOPPED, State.ERROR})


def step(state: State, event: Event) -> State:
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise Conflict(
            f"cannot {event.value} a sandbox that is {state.value}", state=state.value, event=event.value
        ) from None
