from __future__ import annotations

import itertools

import pytest

from atoll.core.limits import Limits
from atoll.core.template import Template
from atoll.node.handles import Handle, HandleState
from atoll.node.recover import ACTIONS, Action, Found, plan

TEMPLATE = Template(name="base", digest="d", layers=())


def handle(state: HandleState, sandbox_id: str = "a") -> Handle:
    return Handle(
        id=sandbox_id,
        incarnation=1,
        state=state,
        template=TEMPLATE,
        limits=Limits(),
        hostname="h",
        wrapped_key="",
        engine={"pid": 1, "start_time": 1},
    )


def test_every_state_has_an_action_alive_or_not() -> None:
    assert set(ACTIONS) == set(itertools.product(HandleState, (True, False)))


@pytest.mark.parametrize("state", [state for state in HandleState if state is not HandleState.CREATING])
def test_only_a_creation_or_a_destruction_ever_costs_a_disk(state: HandleState) -> None:
    actions = {ACTIONS[state, True], ACTIONS[state, False]}
    assert (Action.CLEAN in actions) == (state is HandleState.DESTROYING)


@pytest.mark.parametrize("state", [HandleState.RUNNING, HandleState.PAUSED])
def test_a_living_sandbox_is_adopted(state: HandleState) -> None:
    assert plan([handle(state)], Found(alive={"a"})).actions == {"a": Action.ADOPT}


@pytest.mark.parametrize("state", [HandleState.RUNNING, HandleState.PAUSED])
def test_a_process_that_only_has_the_engines_word_is_not_the_one_in_the_handle(state: HandleState) -> None:
    assert plan([handle(state)], Found(alive=(), engine={"a"})).actions == {"a": Action.END}


def test_a_stopped_sandbox_that_the_engine_still_runs_is_ended() -> None:
    assert plan([handle(HandleState.STOPPED)], Found(alive=(), engine={"a"})).actions == {"a": Action.END}


def test_what_the_engine_runs_without_a_handle_is_a_stranger() -> None:
    assert plan([], Found(alive=(), engine={"x"})).strangers == {"x"}


def test_disks_without_a_handle_are_strays_unless_their_handle_cannot_be_read() -> None:
    found = Found(alive=(), disks={"a", "x", "y"})
    assert plan([handle(HandleState.STOPPED)], found, unreadable={"y"}).stray_disks == {"x"}


def test_sockets_of_all_but_adopted_sandboxes_are_strays() -> None:
    handles = [handle(HandleState.RUNNING), handle(HandleState.STOPPED, "b")]
    assert plan(handles, Found(alive={"a"}, sockets={"a", "b", "x"})).stray_sockets == {"b", "x"}
