"""What to do with each sandbox when the node or the engine starts again: a decision over what was saved and what is.

Every process of ours may be killed between any two steps. A handle is saved before the effect, so its state says what
was being done; whether PID 1 lives says how far it came. Together they name exactly one action.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from .handles import Handle, HandleState


class Action(StrEnum):
    ADOPT = "adopt"
    """Goes on as if nothing had happened; the saved state is applied again (pause and resume are idempotent)."""
    END = "end"
    """Its processes and its socket go, its disk is kept, it becomes stopped."""
    CLEAN = "clean"
    """All of it goes, the disk too."""
    KEEP = "keep"
    """Already as it should be."""


ACTIONS: dict[tuple[HandleState, bool], Action] = {
    # (saved state, does PID 1 live?)
    (HandleState.CREATING, True): Action.CLEAN,
    (HandleState.CREATING, False): Action.CLEAN,
    (HandleState.STARTING, True): Action.END,
    (HandleState.STARTING, False): Action.END,
    (HandleState.RUNNING, True): Action.ADOPT,
    (HandleState.RUNNING, False): Action.END,
    (HandleState.PAUSED, True): Action.ADOPT,
    (HandleState.PAUSED, False): Action.END,
    (HandleState.STOPPING, True): Action.END,
    (HandleState.STOPPING, False): Action.END,
    (HandleState.STOPPED, True): Action.END,
    (HandleState.STOPPED, False): Action.KEEP,
    (HandleState.DESTROYING, True): Action.CLEAN,
    (HandleState.DESTROYING, False): Action.CLEAN,
}


@dataclass(frozen=True)
class Found:
    """What is on the machine."""

    alive: Collection[str]
    """Ids whose handle names a living process."""
    engine: Collection[str] = ()
    """Ids that the engine lists."""
    disks: Collection[str] = ()
    sockets: Collection[str] = ()


@dataclass(frozen=True)
class Plan:
    actions: Mapping[str, Action]
    """One for every saved handle."""
    strangers: frozenset[str]
    """The engine runs them and no handle says why: nobody could ever reach or end them."""
    stray_disks: frozenset[str]
    stray_sockets: frozenset[str]


def plan(handles: Iterable[Handle], found: Found, unreadable: Collection[str] = ()) -> Plan:
    saved = list(handles)
    states = {handle.id: handle.state for handle in saved}
    actions = {handle.id: _action(handle, found) for handle in saved}
    adopted = {sandbox_id for sandbox_id, action in actions.items() if action is Action.ADOPT}
    return Plan(
        actions=actions,
        strangers=frozenset(found.engine) - states.keys(),
        stray_disks=frozenset(found.disks) - states.keys() - frozenset(unreadable),
        stray_sockets=frozenset(found.sockets) - adopted,
    )


def _action(handle: Handle, found: Found) -> Action:
    """A keeper is made anew in some milliseconds when it is asked for."""
    if handle.keeper:
        return Action.CLEAN
    return ACTIONS[handle.state, _lives(handle.id, handle.state, found)]


def _lives(sandbox_id: str, state: HandleState, found: Found) -> bool:
    """The handle of a running sandbox names its PID 1; for the rest only the engine can say whether something runs."""
    names_pid = state in (HandleState.RUNNING, HandleState.PAUSED)
    return sandbox_id in (found.alive if names_pid else found.engine)
