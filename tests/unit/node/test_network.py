"""A sandbox's policy on its node: in the handle (sealed), in the kernel and at the daemon, from birth to end."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from atoll.core.errors import Conflict, InternalError, InvalidInput, NotFound, Unavailable
from atoll.core.packet_policy import KernelPolicy, compile_policy
from atoll.core.policy import CLOSED, OPEN, Policy, fingerprint, from_wire, parse, to_wire
from atoll.node import trust
from atoll.node.handles import HandleState
from atoll.node.main import order_from
from atoll.node.sandboxes import Order, Sandboxes

from .conftest import House, order

RULED = parse(
    {
        "allow_out": ["1.1.1.0/24", "*.example.com"],
        "deny_out": ["0.0.0.0/0"],
        "egress_proxy": {"address": "proxy.example.com:1080", "username": "me", "password": "proxy-secret"},
    }
)


def in_force(house: House, sandboxes: Sandboxes, asked: Order, policy: Policy) -> None:
    """The same everywhere."""
    assert KernelPolicy.from_wire(house.launcher.egress[asked.id]) == compile_policy(policy)
    assert from_wire(house.egress.known[asked.id].policy) == policy
    assert sandboxes.policy(asked.id) == policy
    (listed,) = sandboxes.list()["sandboxes"]
    assert listed["policy"] == fingerprint(to_wire(policy))


@pytest.mark.parametrize("policy", [OPEN, CLOSED, RULED])
async def test_it_is_in_force_when_create_answers(sandboxes: Sandboxes, house: House, policy: Policy) -> None:
    asked = order(policy=policy)
    await sandboxes.create(asked)
    in_force(house, sandboxes, asked, policy)
    assert house.egress.known[asked.id].address == "100.96.0.1"


async def test_nothing_of_it_is_readable_on_disk(sandboxes: Sandboxes, house: House) -> None:
    asked = order(policy=RULED)
    await sandboxes.create(asked)
    (handle,) = house.handles
    for secret in (b"proxy-secret", b"example.com"):
        assert secret not in handle.to_json()


@pytest.mark.parametrize(("before", "after"), [(OPEN, RULED), (RULED, CLOSED), (CLOSED, OPEN)])
async def test_a_change_replaces_it_everywhere(
    sandboxes: Sandboxes, house: House, before: Policy, after: Policy
) -> None:
    asked = order(policy=before)
    await sandboxes.create(asked)
    await sandboxes.set_network(asked.id, 1, after)
    in_force(house, sandboxes, asked, after)


async def test_it_survives_the_node(sandboxes: Sandboxes, house: House) -> None:
    asked = order(policy=OPEN)
    await sandboxes.create(asked)
    await sandboxes.set_network(asked.id, 1, RULED)
    await house.leave()
    house.egress.known.clear()
    house.launcher.egress.clear()
    in_force(house, await house.node(), asked, RULED)


async def test_a_change_that_was_only_written_down_is_made_by_the_next_node(sandboxes: Sandboxes, house: House) -> None:
    asked = order(policy=OPEN)
    await sandboxes.create(asked)
    house.launcher.failing.add("set_egress")
    with pytest.raises(InternalError):
        await sandboxes.set_network(asked.id, 1, CLOSED)
    await house.leave()
    house.launcher.failing.clear()
    in_force(house, await house.node(), asked, CLOSED)


async def test_pause_and_resume_change_nothing_and_a_paused_one_can_be_changed(
    sandboxes: Sandboxes, house: House
) -> None:
    asked = order(policy=OPEN)
    await sandboxes.create(asked)
    await sandboxes.pause(asked.id, 1)
    await sandboxes.set_network(asked.id, 1, RULED)
    in_force(house, sandboxes, asked, RULED)
    await sandboxes.resume(asked.id, 1)
    in_force(house, sandboxes, asked, RULED)


async def test_a_stopped_one_is_forgotten_and_cannot_be_changed(sandboxes: Sandboxes, house: House) -> None:
    asked = order(policy=RULED)
    await sandboxes.create(asked)
    await sandboxes.stop(asked.id, 1)
    assert house.egress.known == {}
    with pytest.raises(Conflict, match="stopped"):
        await sandboxes.set_network(asked.id, 1, OPEN)
    assert sandboxes.policy(asked.id) == RULED


async def test_a_start_brings_the_servers_word(sandboxes: Sandboxes, house: House) -> None:
    asked = order(policy=OPEN)
    await sandboxes.create(asked)
    await sandboxes.stop(asked.id, 1)
    await sandboxes.start(order(incarnation=2, id=asked.id, policy=RULED))
    in_force(house, sandboxes, asked, RULED)


async def test_a_destroyed_one_is_forgotten(sandboxes: Sandboxes, house: House) -> None:
    asked = order(policy=OPEN)
    await sandboxes.create(asked)
    await sandboxes.destroy(asked.id, 1)
    assert (house.egress.known, house.launcher.egress) == ({}, {})


async def test_a_create_whose_policy_the_daemon_does_not_take_leaves_nothing(
    sandboxes: Sandboxes, house: House
) -> None:
    house.egress.failure = InvalidInput("not a policy")
    with pytest.raises(InvalidInput):
        await sandboxes.create(order(policy=RULED))
    await sandboxes.settle()
    assert (list(house.handles), house.disks.ids(), house.launcher.egress) == ([], set(), {})


async def test_one_that_is_not_there_or_has_another_life(sandboxes: Sandboxes) -> None:
    with pytest.raises(NotFound):
        await sandboxes.set_network("a" * 20, 1, OPEN)
    asked = order(incarnation=2, policy=OPEN)
    await sandboxes.create(asked)
    with pytest.raises(Conflict):
        await sandboxes.set_network(asked.id, 1, CLOSED)
    assert sandboxes.policy(asked.id) == OPEN


async def test_changes_of_one_sandbox_take_turns(sandboxes: Sandboxes, house: House) -> None:
    asked = order(policy=OPEN)
    await sandboxes.create(asked)
    policies = [parse({"deny_out": [f"1.1.1.{number}"]}) for number in range(8)]
    await asyncio.gather(*(sandboxes.set_network(asked.id, 1, policy) for policy in policies))
    in_force(house, sandboxes, asked, policies[-1])


async def test_a_handle_from_before_there_were_policies_says_what_it_said(sandboxes: Sandboxes, house: House) -> None:
    asked = order(policy=OPEN)
    await sandboxes.create(asked)
    (handle,) = house.handles
    assert (handle.state, handle.internet_access, handle.wrapped_policy) == (HandleState.RUNNING, True, "")


@pytest.mark.parametrize("given", [None, "open", {"internet_access": False}])
def test_an_order_without_a_policy_allows_nothing(given: object) -> None:
    made = order_from({"id": "a" * 20, "incarnation": 1, "template": "base", "policy": given})
    assert made.policy == CLOSED


@pytest.mark.parametrize("given", [{"deny_out": ["a.example"]}, {"allow_out": 7}])
def test_an_order_with_a_policy_that_is_none_is_refused(given: object) -> None:
    with pytest.raises(InvalidInput):
        order_from({"id": "a" * 20, "incarnation": 1, "template": "base", "policy": given})


# ---- the trust store inside, which follows header rules

HEADERS = parse({"rules": {"a.example": [{"transform": {"headers": {"X": "y"}}}]}})
TRUSTED = {"certificate": "PEM", "hash": "01234567"}


@pytest.fixture
def renewed(house: House, monkeypatch: pytest.MonkeyPatch) -> list[trust.Trust | None]:
    """What agents would have been told: here they are processes of this machine, whose trust store is no test's."""
    told: list[trust.Trust | None] = []

    async def update(_: Path, wanted: trust.Trust | None) -> None:
        told.append(wanted)

    monkeypatch.setattr(trust, "update", update)
    monkeypatch.setattr(trust, "for_policy", lambda policy, _: TRUSTED if policy.treatments else None)
    house.egress.authority = Path("/ca.pem")
    return told


async def test_rules_that_come_and_go_bring_and_take_the_authority(
    sandboxes: Sandboxes, renewed: list[trust.Trust | None]
) -> None:
    asked = order(policy=OPEN)
    await sandboxes.create(asked)
    for policy in (RULED, HEADERS, HEADERS, OPEN, CLOSED):
        await sandboxes.set_network(asked.id, 1, policy)
    assert renewed == [TRUSTED, TRUSTED, None]


async def test_while_it_is_paused_its_agent_is_left_alone_and_told_when_it_goes_on(
    sandboxes: Sandboxes, renewed: list[trust.Trust | None]
) -> None:
    asked = order(policy=OPEN)
    await sandboxes.create(asked)
    await sandboxes.pause(asked.id, 1)
    await sandboxes.set_network(asked.id, 1, HEADERS)
    await sandboxes.set_network(asked.id, 1, OPEN)
    assert renewed == []
    await sandboxes.resume(asked.id, 1)
    await sandboxes.pause(asked.id, 1)
    await sandboxes.resume(asked.id, 1)
    assert renewed == [None]


async def test_an_agent_that_does_not_do_it_keeps_no_policy_from_holding_and_is_told_again_by_the_next_node(
    sandboxes: Sandboxes, house: House, renewed: list[trust.Trust | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = order(policy=OPEN)
    await sandboxes.create(asked)

    async def silent(*_: object) -> None:
        raise Unavailable("no answer")

    with monkeypatch.context() as hung:
        hung.setattr(trust, "update", silent)
        await sandboxes.set_network(asked.id, 1, HEADERS)
    in_force(house, sandboxes, asked, HEADERS)
    await house.leave()
    await house.node()
    assert renewed == [TRUSTED]
