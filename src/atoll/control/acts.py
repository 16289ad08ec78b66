"""What a node is asked for: a birth, and the changes of state."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable

from atoll.core.errors import AtollError
from atoll.core.lifecycle import Event
from atoll.core.order import CreateOrder, announced
from atoll.core.policy import Wire
from atoll.core.ports import Birth, Node
from atoll.core.sandbox import OnTimeout, Sandbox

from .deadline import UNDO_S, deadline

Act = Callable[[Node, Sandbox], Awaitable[Sandbox]]


def birth_of(sandbox: Sandbox, network: Wire, order: CreateOrder | None = None) -> Birth:
    return Birth(
        id=sandbox.id,
        incarnation=sandbox.incarnation,
        template=sandbox.template,
        limits=sandbox.limits,
        env=_environment(sandbox, order) if order else {},
        internet_access=sandbox.internet_access,
        network=network,
        volumes=sandbox.volumes if order else (),
    )


def _environment(sandbox: Sandbox, order: CreateOrder) -> dict[str, str]:
    placeholders = {each.variable: each.placeholder for each in sandbox.secrets}
    return {**announced(sandbox.dialect, sandbox.id, sandbox.template), **order.env, **placeholders}


async def pause(node: Node, sandbox: Sandbox) -> Sandbox:
    await node.pause(sandbox.id, sandbox.incarnation)
    return sandbox


async def resume(node: Node, sandbox: Sandbox) -> Sandbox:
    await node.resume(sandbox.id, sandbox.incarnation)
    return sandbox


async def stop(node: Node, sandbox: Sandbox) -> Sandbox:
    await node.stop(sandbox.id, sandbox.incarnation)
    return sandbox


async def stop_again(node: Node, reborn: Sandbox) -> None:
    """When nobody answers, reconciliation takes up what runs."""
    with contextlib.suppress(AtollError):
        async with deadline("stop", UNDO_S):
            await node.stop(reborn.id, reborn.incarnation)


RESTS: dict[OnTimeout, tuple[Event, Act]] = {
    OnTimeout.PAUSE: (Event.PAUSE, pause),
    OnTimeout.STOP: (Event.STOP, stop),
}
"""How a sandbox that runs is put to rest instead of being deleted."""
