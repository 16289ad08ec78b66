"""A policy: replaced as a whole, the same in the row and on the node whatever fails, never in clear on disk."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from atoll.control.network import summary
from atoll.core.errors import Conflict, InternalError, NotFound, Unavailable
from atoll.core.keys import Principal
from atoll.core.lifecycle import State
from atoll.core.order import CreateOrder
from atoll.core.policy import CLOSED, OPEN, Policy, parse
from atoll.core.sandbox import Sandbox
from atoll.testing.plane import Plane

RULED = parse(
    {
        "allow_out": ["1.1.1.1", "*.example.com"],
        "deny_out": ["0.0.0.0/0"],
        "rules": {"api.example.com": [{"transform": {"headers": {"X-Key": "header-secret"}}}]},
        "egress_proxy": {"address": "proxy.example.com:1080", "username": "me", "password": "proxy-secret"},
    }
)


async def create(plane: Plane, policy: Policy = OPEN) -> Sandbox:
    sandbox, _ = await plane.services.sandboxes.create(plane.caller, CreateOrder("base", policy=policy))
    return sandbox


async def replace_policy(plane: Plane, box: Sandbox, policy: Policy) -> Sandbox:
    return await plane.services.sandboxes.set_network(plane.caller, box.id, policy)


async def stored(plane: Plane, box: Sandbox) -> Sandbox:
    found = await plane.store.sandboxes.get(box.id)
    assert found is not None
    return found


async def agrees(plane: Plane, box: Sandbox, policy: Policy) -> None:
    row = await stored(plane, box)
    assert parse(row.network, row.internet_access) == policy
    assert plane.node.policies[box.id] == row.policy_form


async def audited(plane: Plane, operation: str) -> list[tuple[str, str | None]]:
    return [(row.outcome, row.detail) for row in await plane.store.audit.list(100) if row.operation == operation]


async def test_a_create_hands_the_whole_policy_to_the_node_and_keeps_it(plane: Plane) -> None:
    box = await create(plane, RULED)
    (birth,) = plane.node.births
    assert parse(birth.network, birth.internet_access) == RULED
    await agrees(plane, box, RULED)


async def test_nothing_of_a_policy_is_readable_in_the_database(plane: Plane, tmp_path: Path) -> None:
    await replace_policy(plane, await create(plane, RULED), RULED)
    content = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    for secret in (b"header-secret", b"proxy-secret", b"example.com"):
        assert secret not in content


async def test_a_change_replaces_everything(plane: Plane) -> None:
    box = await create(plane, RULED)
    await replace_policy(plane, box, CLOSED)
    await agrees(plane, box, CLOSED)
    await replace_policy(plane, box, OPEN)
    await agrees(plane, box, OPEN)


async def test_the_audit_tells_what_kind_of_change_it_was_and_no_secret(plane: Plane) -> None:
    box = await create(plane)
    await replace_policy(plane, box, RULED)
    ((outcome, detail),) = await audited(plane, "sandbox.set_network")
    assert outcome == "ok"
    assert detail is not None
    assert detail.startswith("internet_access=true allow_out=2 deny_out=1 rules=1 egress_proxy sha256=")


def test_the_digest_differs_with_what_is_public_and_not_with_secrets() -> None:
    other_secret = parse({"egress_proxy": {"address": "p.example:1", "username": "u", "password": "a"}})
    same = parse({"egress_proxy": {"address": "p.example:1", "username": "u", "password": "b"}})
    assert summary(other_secret) == summary(same)
    assert summary(parse({"deny_out": ["1.1.1.1"]})) != summary(parse({"deny_out": ["1.1.1.2"]}))


async def test_a_new_life_begins_with_the_policy_of_the_old_one(plane: Plane) -> None:
    service, box = plane.services.sandboxes, await create(plane)
    await replace_policy(plane, box, RULED)
    await service.stop(plane.caller, box.id)
    await service.start(plane.caller, box.id)
    assert parse(plane.node.births[-1].network, plane.node.births[-1].internet_access) == RULED


async def test_a_paused_one_can_be_changed_and_stays_paused(plane: Plane) -> None:
    box = await create(plane)
    await plane.services.sandboxes.pause(plane.caller, box.id)
    assert (await replace_policy(plane, box, CLOSED)).state is State.PAUSED
    await agrees(plane, box, CLOSED)


async def test_one_that_is_stopped_is_a_conflict_and_keeps_its_policy(plane: Plane) -> None:
    box = await create(plane)
    await plane.services.sandboxes.stop(plane.caller, box.id)
    with pytest.raises(Conflict, match="stopped"):
        await replace_policy(plane, box, CLOSED)
    await agrees(plane, box, OPEN)


async def test_somebody_elses_is_not_found(plane: Plane) -> None:
    box = await create(plane)
    stranger = replace(plane.caller, principal=Principal("k", 2))
    with pytest.raises(NotFound):
        await plane.services.sandboxes.set_network(stranger, box.id, CLOSED)
    await agrees(plane, box, OPEN)


@pytest.mark.parametrize("error", [InternalError("no netlink"), Unavailable("no answer")])
async def test_a_change_that_the_node_does_not_make_changes_nothing(plane: Plane, error: Exception) -> None:
    box = await create(plane)
    plane.node.fail("set_network", error)
    with pytest.raises(type(error)):
        await replace_policy(plane, box, CLOSED)
    await agrees(plane, box, OPEN)


async def test_a_change_that_cannot_be_stored_is_taken_back_on_the_node(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = await create(plane)

    async def full(*_: object, **__: object) -> bool:
        raise OperationalError("UPDATE", {}, Exception("database or disk is full"))

    with monkeypatch.context() as broken:
        broken.setattr(plane.store.sandboxes, "replace", full)
        with pytest.raises(OperationalError):
            await replace_policy(plane, box, CLOSED)
    assert [call for call, _ in plane.node.calls].count("set_network") == 2
    await agrees(plane, box, OPEN)


async def node_has_it_and_the_row_does_not(plane: Plane, box: Sandbox) -> None:
    """Killed between the two."""
    await plane.node.set_network(box.id, box.incarnation, {"internet_access": False})


async def node_forgot_it(plane: Plane, box: Sandbox) -> None:
    await plane.store.sandboxes.replace(await stored(plane, box), replace(box, internet_access=False))


@pytest.mark.parametrize(
    ("cut", "expected"),
    [(node_has_it_and_the_row_does_not, OPEN), (node_forgot_it, CLOSED)],
    ids=lambda it: str(it)[:30],
)
@pytest.mark.parametrize("paused", [False, True])
async def test_a_change_that_was_cut_off_is_settled_when_the_node_connects(
    plane: Plane, cut: Callable[[Plane, Sandbox], Awaitable[None]], expected: Policy, paused: bool
) -> None:
    box = await create(plane)
    if paused:
        box = await plane.services.sandboxes.pause(plane.caller, box.id)
    await cut(plane, box)
    await plane.services.node_connected(plane.node)
    await agrees(plane, box, expected)
    assert await audited(plane, "sandbox.set_network") == [("ok", "restored")]


async def test_where_both_agree_nothing_is_said_to_the_node(plane: Plane) -> None:
    await create(plane, RULED)
    await plane.services.node_connected(plane.node)
    assert ("set_network" in dict(plane.node.calls)) is False


async def test_the_route_says_whether_anything_is_allowed_at_all(plane: Plane) -> None:
    def route(box: Sandbox) -> bool:
        found = plane.services.routes.get(box.id)
        assert found is not None
        return bool(found["internet_access"])

    box = await create(plane, RULED)
    assert route(box)
    await replace_policy(plane, box, parse({"deny_out": ["0.0.0.0/0"]}))
    assert not route(box)
    await replace_policy(plane, box, parse({"allow_out": ["1.1.1.1"]}, internet_access=False))
    assert route(box)


async def test_a_punishment_is_audited(plane: Plane) -> None:
    box = await create(plane)
    await plane.services.sandboxes.punished(box.id, "scan: 101 addresses")
    assert await audited(plane, "sandbox.punish") == [("ok", "scan: 101 addresses")]
