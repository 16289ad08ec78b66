"""The pictures of the documents are what the code says now, and anybody can look at them."""

from __future__ import annotations

import typing
from xml.etree import ElementTree

import pytest

from atoll.core.lifecycle import TRANSITIONS, Event, State
from atoll.edge import routing
from scripts import pictures

SVG = "{http://www.w3.org/2000/svg}"


def words(name: str) -> list[str]:
    return ["".join(each.itertext()) for each in ElementTree.fromstring(pictures.ALL[name]()).iter(f"{SVG}text")]


@pytest.mark.parametrize("name", pictures.ALL)
def test_a_picture_is_as_the_code_is(name: str):
    assert pictures.place(name).read_text() == pictures.ALL[name](), "run ./scripts/docs"


def test_no_picture_is_left_of_what_is_not_drawn_any_more():
    assert {path.stem for path in pictures.PICTURES.iterdir()} == set(pictures.ALL)


@pytest.mark.parametrize("name", pictures.ALL)
def test_a_picture_loads_nothing_and_says_what_it_shows(name: str):
    drawn = pictures.ALL[name]()
    tree = ElementTree.fromstring(drawn)
    assert tree.findtext(f"{SVG}title")
    assert tree.findtext(f"{SVG}desc")
    assert not [each for each in ("href", "url(", "<image", "<script", "@import", "<foreignObject") if each in drawn]
    assert "prefers-color-scheme: dark" in drawn


def test_the_life_of_a_sandbox_has_every_state_and_event():
    shown = " ".join(words("lifecycle"))
    assert not [state for state in State if state.value not in shown]
    assert not [event for event in Event if event.value not in shown]


def test_what_is_said_to_lead_from_every_state_to_its_end_does():
    assert {Event.DELETE, Event.EXPIRE, Event.LOST} == pictures.FROM_EVERYWHERE
    assert all(TRANSITIONS[state, event] is State.DELETED for state in State for event in pictures.FROM_EVERYWHERE)


def test_every_way_of_a_request_is_drawn_or_left_out_on_purpose():
    targets = {each.__name__ for each in typing.get_args(routing.Target)}
    asked = {pictures.target_of(*each) for each in pictures.ASKED}
    assert asked == set(pictures.TARGETS)
    assert targets | {"E2B's ControlPlane"} == asked | set(pictures.LEFT_OUT)


def test_each_question_about_the_way_out_decides_although_later_ones_would():
    rules = [pictures.verdict(question).rule for question in pictures.DECIDED]
    assert rules == [
        "never: private",
        "blocklist: 203.0.113.66/32",
        "allow_out: 203.0.113.10",
        "allow_out: api.example.com",
        "deny_out: 0.0.0.0/0",
    ]


def test_a_room_imports_only_those_to_its_right():
    order = pictures._outer_first(pictures._allowed())
    allowed = pictures._allowed()
    assert all(order.index(name) < order.index(other) for name in order for other in allowed[name])
