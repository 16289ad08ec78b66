"""What an operation writes, it writes in one transaction: its effect and its entry in the audit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from atoll.core.errors import Unavailable
from atoll.core.order import CreateOrder
from atoll.testing.plane import Plane

MOVES = [("pause", "resume"), ("stop", "start")]


@contextmanager
def commits(plane: Plane) -> Iterator[list[str]]:
    found: list[str] = []
    connection = plane.store._engine.raw_connection().driver_connection
    connection.set_trace_callback(lambda statement: found.append(statement) if statement == "COMMIT" else None)
    yield found
    connection.set_trace_callback(None)


async def test_a_create_is_one_commit(plane: Plane) -> None:
    with commits(plane) as found:
        await plane.services.sandboxes.create(plane.caller, CreateOrder("base", metadata={"a": "b"}))
    assert len(found) == 1


@pytest.mark.parametrize("verbs", MOVES)
async def test_a_change_of_state_is_one_commit(plane: Plane, verbs: tuple[str, ...]) -> None:
    made, _ = await plane.services.sandboxes.create(plane.caller, CreateOrder("base"))
    for verb in (*verbs, verbs[0]):
        with commits(plane) as found:
            await getattr(plane.services.sandboxes, verb)(plane.caller, made.id)
        assert len(found) == 1, verb
    with commits(plane) as found:
        await plane.services.sandboxes.set_timeout(plane.caller, made.id, 60)
    assert len(found) == 1


async def test_one_that_fails_after_its_commit_is_no_success_in_the_audit(plane: Plane) -> None:
    async def fails(_: object) -> None:
        plane.services.routes.publish = real
        raise Unavailable("broken")

    real, plane.services.routes.publish = plane.services.routes.publish, fails
    with pytest.raises(Unavailable):
        await plane.services.sandboxes.create(plane.caller, CreateOrder("base"))
    entries = [each for each in await plane.store.audit.list(9) if each.operation == "sandbox.create"]
    assert [each.outcome for each in entries] == ["unavailable"]
    assert plane.node.sandboxes == {}
    assert (await plane.services.sandboxes.list(plane.caller)).sandboxes == []


async def test_a_move_that_changes_nothing_is_in_the_audit_too(plane: Plane) -> None:
    made, _ = await plane.services.sandboxes.create(plane.caller, CreateOrder("base"))
    for _ in range(2):
        await plane.services.sandboxes.pause(plane.caller, made.id)
    entries = [each.outcome for each in await plane.store.audit.list(9) if each.operation == "sandbox.pause"]
    assert entries == ["ok", "ok"]
