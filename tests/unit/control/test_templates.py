from __future__ import annotations

import pytest

from atoll.core.errors import NotFound, Unavailable
from atoll.core.template import Template, Unbuilt
from atoll.testing.plane import Plane


async def missing(plane: Plane, known: Unbuilt) -> NotFound | Unavailable:
    plane.node.unbuilt = [known]
    plane.clock.advance(1)
    with pytest.raises((NotFound, Unavailable)) as caught:
        await plane.services.templates.find("heavy")
    return caught.value


async def test_a_template_that_is_being_built_is_to_be_asked_for_again(plane: Plane):
    error = await missing(plane, Unbuilt("heavy", 42))
    assert isinstance(error, Unavailable)
    assert "42 % are done" in error.message
    assert error.details["percent"] == 42


@pytest.mark.parametrize("known", [Unbuilt("heavy"), Unbuilt("heavy", failure="/secret/path: no space")])
async def test_one_that_is_not_built_says_what_builds_it_and_nothing_of_the_machine(plane: Plane, known: Unbuilt):
    error = await missing(plane, known)
    assert isinstance(error, NotFound)
    assert "atoll template build heavy" in error.message
    assert "secret" not in error.message


async def test_one_that_nobody_knows_is_not_found(plane: Plane):
    error = await missing(plane, Unbuilt("another", 42))
    assert error.message == "Template 'heavy' not found"


async def test_it_is_there_without_a_restart_when_it_is_built(plane: Plane):
    await missing(plane, Unbuilt("heavy", 99))
    plane.node.unbuilt = []
    plane.node.templates.append(Template("heavy", "digest", ("/layer",)))
    plane.clock.advance(1)
    assert (await plane.services.templates.find("heavy")).name == "heavy"
