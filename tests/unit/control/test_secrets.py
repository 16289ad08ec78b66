"""Secrets: who may use which, what the node is told and when, what nobody is told."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

from atoll.core.audit import Caller
from atoll.core.errors import CapacityExceeded, Conflict, InvalidInput, NotFound, Unavailable
from atoll.core.keys import Principal
from atoll.core.lifecycle import State
from atoll.core.order import CreateOrder
from atoll.core.policy import CLOSED, from_wire, parse, to_wire
from atoll.core.sandbox import Sandbox
from atoll.core.secrets import Secret
from atoll.testing.plane import Plane, open_plane

STRANGER = Caller(Principal("key_other", 2))
RULED = parse({"rules": {"api.example": [{"transform": {"headers": {"X-Key": "Bearer ${e2b.secrets.key}"}}}]}})


async def make(plane: Plane, name: str = "key", value: str = "value-1", **more: Any) -> Secret:
    return await plane.services.secrets.create(plane.caller, name, value, **more)


async def create(plane: Plane, **order: Any) -> Sandbox:
    sandbox, _ = await plane.services.sandboxes.create(plane.caller, CreateOrder("base", **order))
    return sandbox


def told(plane: Plane, box: Sandbox) -> dict[str, str]:
    """Values that the node has for a sandbox."""
    return {each.name: each.value for each in from_wire(plane.node.policies[box.id]).secrets}


async def audited(plane: Plane) -> list[tuple[str, str, str | None]]:
    rows = await plane.store.audit.list(100)
    return [(row.operation, row.outcome, row.detail) for row in rows if row.operation.startswith("secret.")][::-1]


# ---- the objects


async def test_one_is_made_listed_changed_and_deleted(plane: Plane) -> None:
    made = await make(plane, hosts=["API.example"], description="d", metadata={"a": "b"})
    assert (made.name, made.version, made.hosts, made.metadata) == ("key", 1, ("api.example",), {"a": "b"})
    secrets = plane.services.secrets
    assert await secrets.get(plane.caller, "key") == made == await secrets.get(plane.caller, made.id)
    plane.clock.advance(5)
    changed = await secrets.update(plane.caller, made.id, description="e")
    assert (changed.version, changed.description, changed.hosts) == (1, "e", made.hosts)
    assert changed.updated_at == made.updated_at + 5
    assert (await secrets.update(plane.caller, "key", value="value-2", hosts=[])).version == 2
    assert (await secrets.get(plane.caller, "key")).hosts == ()
    assert (await secrets.delete(plane.caller, "key")).id == made.id
    assert (await secrets.list(plane.caller)).secrets == []
    for call in (secrets.get, secrets.update, secrets.delete):
        with pytest.raises(NotFound, match="key"):
            await call(plane.caller, "key")


async def test_pages_follow_one_another(plane: Plane) -> None:
    for n in range(5):
        plane.clock.advance(1)
        await make(plane, f"s{n}")
    seen: list[str] = []
    cursor: str | None = None
    while True:
        page = await plane.services.secrets.list(plane.caller, cursor, 2)
        seen += [each.name for each in page.secrets]
        if (cursor := page.next_cursor) is None:
            break
    assert seen == ["s4", "s3", "s2", "s1", "s0"]
    with pytest.raises(InvalidInput):
        await plane.services.secrets.list(plane.caller, "WzEuMCwiYSJd")


async def test_another_organization_sees_nothing_and_may_use_the_name(plane: Plane) -> None:
    made = await make(plane)
    secrets = plane.services.secrets
    for name in ("key", made.id):
        for call in (secrets.get, secrets.update, secrets.delete):
            with pytest.raises(NotFound):
                await call(STRANGER, name)
    assert (await secrets.list(STRANGER)).secrets == []
    with pytest.raises(NotFound, match="key"):
        await plane.services.sandboxes.create(STRANGER, CreateOrder("base", policy=RULED))
    await secrets.create(STRANGER, "key", "theirs")
    theirs, _ = await plane.services.sandboxes.create(STRANGER, CreateOrder("base", policy=RULED))
    ours = await create(plane, policy=RULED)
    assert (told(plane, theirs), told(plane, ours)) == ({"key": "theirs"}, {"key": "value-1"})
    await secrets.update(STRANGER, "key", value="theirs-2")
    assert (told(plane, theirs), told(plane, ours)) == ({"key": "theirs-2"}, {"key": "value-1"})


async def test_a_name_is_taken_once_and_there_is_a_limit(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    await make(plane)
    with pytest.raises(Conflict, match="key"):
        await make(plane)
    monkeypatch.setattr("atoll.core.secrets.MAX_SECRETS", 2)
    await make(plane, "second")
    with pytest.raises(CapacityExceeded) as caught:
        await make(plane, "third")
    assert caught.value.details["resource"] == "secrets"


@pytest.mark.parametrize(
    "wrong",
    [{"name": "a b"}, {"value": "a\nb"}, {"hosts": ["*"]}, {"description": "\ud800"}, {"metadata": {"": "x"}}],
)
async def test_what_is_not_valid_makes_and_changes_nothing(plane: Plane, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        await make(plane, **wrong)
    assert (await plane.services.secrets.list(plane.caller)).secrets == []
    made = await make(plane)
    if "name" not in wrong:
        with pytest.raises(InvalidInput):
            await plane.services.secrets.update(plane.caller, "key", **wrong)
        assert await plane.services.secrets.get(plane.caller, "key") == made


async def test_each_operation_has_a_row_in_the_audit_and_no_value_is_anywhere(
    plane: Plane, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    await make(plane, hosts=["api.example"])
    await create(plane, policy=RULED, secrets={"KEY": "key"})
    await plane.services.secrets.update(plane.caller, "key", value="value-2")
    with pytest.raises(InvalidInput) as caught:
        await plane.services.secrets.update(plane.caller, "key", value="value-3\n")
    plane.node.fail("set_network")
    await plane.services.secrets.delete(plane.caller, "key")
    assert await audited(plane) == [
        ("secret.create", "ok", "key"),
        ("secret.update", "ok", "key version=2"),
        ("secret.update", "invalid_input", "key"),
        ("secret.delete", "ok", "key"),
    ]
    content = b"".join(path.read_bytes() for path in tmp_path.iterdir()).decode("latin-1")
    assert "value-" not in content + caplog.text + caught.value.message


# ---- sandboxes that use one


async def test_a_rule_is_kept_as_given_and_told_with_the_value(plane: Plane) -> None:
    await make(plane)
    box = await create(plane, policy=RULED)
    assert told(plane, box) == {"key": "value-1"}
    row = await plane.store.sandboxes.get(box.id)
    assert row is not None
    assert parse(row.network) == RULED
    assert "secrets" not in row.network
    (birth,) = plane.node.births
    assert "value-1" not in repr(birth)


async def test_a_variable_holds_a_placeholder_which_the_node_can_replace(plane: Plane) -> None:
    await make(plane, hosts=["api.example"])
    box = await create(plane, secrets={"API_KEY": "key", "SAME": "key"}, env={"PLAIN": "x"})
    env = plane.node.births[-1].env
    words = {use.variable: use.placeholder for use in box.secrets}
    assert env == {"PLAIN": "x", **words}
    assert len(set(words.values())) == 2
    (sent,) = from_wire(plane.node.policies[box.id]).secrets
    assert set(sent.placeholders) == set(words.values())
    other = await create(plane, secrets={"API_KEY": "key"})
    assert {use.placeholder for use in other.secrets}.isdisjoint(words.values())


@pytest.mark.parametrize(
    ("order", "error", "names"),
    [
        ({"policy": RULED}, NotFound, "key"),
        ({"secrets": {"A": "nothing"}}, NotFound, "nothing"),
        ({"secrets": {"A": "bare"}}, InvalidInput, "bare"),
        ({"secrets": {"A": "hosted"}, "env": {"A": "x"}}, InvalidInput, "A"),
        ({"secrets": {"A=B": "hosted"}}, InvalidInput, "variable"),
        ({"secrets": {"A": "a b"}}, InvalidInput, "A"),
        (
            {"policy": parse({"rules": {"c.example": [{"transform": {"headers": {"X": "${e2b.secrets.hosted}"}}}]}})},
            InvalidInput,
            "hosted",
        ),
    ],
)
async def test_what_cannot_be_used_is_named_and_makes_nothing(
    plane: Plane, order: dict[str, Any], error: type[Exception], names: str
) -> None:
    await make(plane, "bare")
    await make(plane, "hosted", hosts=["api.example"])
    with pytest.raises(error, match=names):
        await create(plane, **order)
    assert plane.node.births == []
    assert (await plane.services.sandboxes.list(plane.caller)).sandboxes == []


async def test_a_policy_that_needs_what_is_not_there_changes_nothing(plane: Plane) -> None:
    box = await create(plane, policy=CLOSED)
    with pytest.raises(NotFound, match="key"):
        await plane.services.sandboxes.set_network(plane.caller, box.id, RULED)
    assert plane.node.policies[box.id] == to_wire(CLOSED)
    await make(plane)
    await plane.services.sandboxes.set_network(plane.caller, box.id, RULED)
    assert told(plane, box) == {"key": "value-1"}


async def test_a_change_reaches_those_that_use_it_and_nobody_else(plane: Plane) -> None:
    await make(plane, hosts=["api.example"])
    ruled, paused, stopped = [await create(plane, policy=RULED) for _ in range(3)]
    by_variable = await create(plane, secrets={"KEY": "key"})
    await create(plane)
    await plane.services.sandboxes.pause(plane.caller, paused.id)
    await plane.services.sandboxes.stop(plane.caller, stopped.id)
    plane.node.calls.clear()
    await plane.services.secrets.update(plane.caller, "key", value="value-2")
    assert sorted(plane.node.calls) == sorted(("set_network", each.id) for each in (ruled, paused, by_variable))
    assert {told(plane, each)["key"] for each in (ruled, paused, by_variable)} == {"value-2"}
    await plane.services.sandboxes.start(plane.caller, stopped.id)
    assert told(plane, stopped) == {"key": "value-2"}
    plane.node.calls.clear()
    await plane.services.secrets.update(plane.caller, "key", description="only words")
    assert plane.node.calls == []


async def test_a_change_reaches_all_of_many(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atoll.control.policies.LOOKED_AT_ONCE", 2)
    await make(plane)
    boxes = [await create(plane, policy=RULED if n % 2 else CLOSED) for n in range(9)]
    await plane.services.secrets.update(plane.caller, "key", value="value-2")
    assert [told(plane, each) for each in boxes] == [{"key": "value-2"} if n % 2 else {} for n in range(9)]


async def test_a_deleted_secret_is_taken_from_those_that_use_it_and_one_of_its_name_comes_back(plane: Plane) -> None:
    await make(plane)
    box = await create(plane, policy=RULED)
    await plane.services.secrets.delete(plane.caller, "key")
    assert told(plane, box) == {}
    assert from_wire(plane.node.policies[box.id]).treatments["api.example"].missing == ("key",)
    with pytest.raises(NotFound):
        await create(plane, policy=RULED)
    await make(plane, value="value-9")
    assert told(plane, box) == {"key": "value-9"}


async def test_hosts_that_go_take_the_right_with_them(plane: Plane) -> None:
    await make(plane, hosts=["api.example"])
    box = await create(plane, policy=RULED, secrets={"KEY": "key"})
    await plane.services.secrets.update(plane.caller, "key", hosts=["other.example"])
    treatments = from_wire(plane.node.policies[box.id]).treatments
    assert treatments["api.example"].missing == ("key",)
    assert [word for word, _ in treatments["other.example"].swaps] == [box.secrets[0].placeholder]


async def test_a_change_while_a_sandbox_is_made_reaches_it(plane: Plane) -> None:
    await make(plane)
    gate = plane.node.hold("create")
    making = asyncio.create_task(create(plane, policy=RULED))
    await plane.node.entered.wait()
    changing = asyncio.create_task(plane.services.secrets.update(plane.caller, "key", value="value-2"))
    await asyncio.sleep(0)
    gate.set()
    box = await making
    await changing
    assert told(plane, box) == {"key": "value-2"}


async def test_a_change_while_a_policy_that_uses_it_is_set_reaches_it(plane: Plane) -> None:
    await make(plane)
    box = await create(plane)
    gate = plane.node.hold("set_network")
    setting = asyncio.create_task(plane.services.sandboxes.set_network(plane.caller, box.id, RULED))
    await plane.node.entered.wait()
    await plane.services.secrets.update(plane.caller, "key", value="value-2")
    gate.set()
    await setting
    assert told(plane, box) == {"key": "value-2"}


async def test_a_node_that_is_away_is_told_when_it_connects(plane: Plane, caplog: pytest.LogCaptureFixture) -> None:
    await make(plane)
    box = await create(plane, policy=RULED)
    await plane.services.node_connected(plane.node)
    plane.node.calls.clear()
    await plane.services.node_connected(plane.node)
    assert ("set_network", box.id) not in plane.node.calls
    plane.node.fail("set_network", Unavailable("away"))
    await plane.services.secrets.update(plane.caller, "key", value="value-2")
    assert told(plane, box) == {"key": "value-1"}
    assert box.id in caplog.text
    plane.node.mend("set_network")
    await plane.services.node_connected(plane.node)
    assert told(plane, box) == {"key": "value-2"}


async def test_a_restarted_server_knows_them(tmp_path: Path) -> None:
    first = await open_plane(tmp_path)
    await make(first, hosts=["api.example"])
    box = await create(first, policy=RULED, secrets={"KEY": "key"})
    first.close()
    second = await open_plane(tmp_path, first.node)
    try:
        assert (await second.services.secrets.get(second.caller, "key")).hosts == ("api.example",)
        row = await second.store.sandboxes.get(box.id)
        assert row is not None
        assert row.secrets == box.secrets
        assert row.state is State.RUNNING
        second.node.calls.clear()
        await second.services.node_connected(second.node)
        assert ("set_network", box.id) not in second.node.calls
    finally:
        second.close()
