"""The use cases of a sandbox's life.

Order of things, so that a process killed anywhere leaves nothing that reconciliation does not find:
- a row is there before the node is asked to make anything, and goes when the node has nothing left (until then it is a
  tombstone);
- the node acts, then the row says so, by compare-and-set on (id, state, incarnation), then the route, then the answer;
- operations on one sandbox take turns. Only a delete does not wait: whoever then fails its compare-and-set has lost the
  sandbox, and sweeps what it may just have made.

Clients repeat a request that is answered with 429 or 5xx, or not within a minute. So such an answer is given only when
nothing has happened yet, when everything was undone, or when doing it again does no harm; and every operation that
waits for the node has a deadline. A sandbox whose creator has left before it was ready is undone as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from atoll.core import clocks
from atoll.core.audit import ATOLL, Caller
from atoll.core.errors import AtollError, Conflict, NotFound
from atoll.core.ids import is_sandbox_id, new_sandbox_id
from atoll.core.ingress import check_link_seconds, link_port, new_token, with_token
from atoll.core.lifecycle import Event, State, step
from atoll.core.limits import Limits, sized
from atoll.core.order import CreateOrder, check_env, check_region_name
from atoll.core.policy import Policy, given_form
from atoll.core.ports import Birth, Clock, Node, Placement, SandboxFilter, Store
from atoll.core.quota import UNLIMITED, Quota, check_quota, used_by
from atoll.core.sandbox import Sandbox, moved
from atoll.core.settings import Clocks
from atoll.core.template import Template

from .capacity import Room
from .deadline import UNDO_S, deadline
from .journal import Journal
from .network import summary
from .paging import DEFAULT_LIMIT, MAX_LIMIT, cursor_after, position
from .routes import Routes
from .templates import Templates
from .tokens import Token, TokenIssuer
from .turns import Turns
from .uses import Uses

log = logging.getLogger(__name__)

Act = Callable[[Node, Sandbox], Awaitable[Sandbox]]
Waits = Callable[[], Awaitable[bool]]
"""Whether the caller is still there to hear the answer."""


async def always() -> bool:
    return True


@dataclass(frozen=True)
class Page:
    sandboxes: Sequence[Sandbox]
    next_cursor: str | None


class Sandboxes:
    def __init__(
        self,
        *,
        store: Store,
        placement: Placement,
        clock: Clock,
        limits: Clocks,
        templates: Templates,
        journal: Journal,
        routes: Routes,
        tokens: TokenIssuer,
        uses: Uses,
    ) -> None:
        self._store = store
        self._placement = placement
        self._clock = clock
        self._clocks = limits
        self._templates = templates
        self._journal = journal
        self._routes = routes
        self._tokens = tokens
        self._uses = uses
        self._room = Room(clock)
        self.turns = Turns()
        self._waking: dict[str, asyncio.Task[Sandbox]] = {}

    # ---- asked for by a caller

    async def create(self, caller: Caller, order: CreateOrder, waits: Waits = always) -> tuple[Sandbox, Token]:
        async with self._journal.operation(caller, "sandbox.create") as operation, deadline("create"):
            node, sandbox = await self._admit(caller, order)
            operation.sandbox_id = sandbox.id
            async with self.turns(sandbox.id):
                sandbox = await self._bear(node, sandbox, caller, order, waits)
        return sandbox, self._tokens.issue(sandbox.id)

    async def list(
        self,
        caller: Caller,
        state: State | None = None,
        region: str | None = None,
        cursor: str | None = None,
        limit: int = DEFAULT_LIMIT,
    ) -> Page:
        async with self._journal.operation(caller, "sandbox.list"):
            where = SandboxFilter(caller.principal.organization_id, state, region)
            after = position(cursor) if cursor else None
            if region is not None:
                check_region_name(region)
            limit = min(limit, MAX_LIMIT)
            found = await self._store.sandboxes.list(where, after, limit + 1)
            more = len(found) > limit
            return Page(found[:limit], cursor_after(found[limit - 1]) if more else None)

    async def get(self, caller: Caller, sandbox_id: str) -> Sandbox:
        async with self._journal.operation(caller, "sandbox.get", sandbox_id):
            return await self._owned(caller, sandbox_id)

    async def delete(self, caller: Caller, sandbox_id: str) -> Sandbox:
        async with self._journal.operation(caller, "sandbox.delete", sandbox_id):
            return await self.end(await self._owned(caller, sandbox_id), Event.DELETE)

    async def pause(self, caller: Caller, sandbox_id: str) -> Sandbox:
        return await self._move(caller, sandbox_id, Event.PAUSE, _pause)

    async def resume(self, caller: Caller, sandbox_id: str) -> Sandbox:
        return await self._move(caller, sandbox_id, Event.RESUME, _resume)

    async def stop(self, caller: Caller, sandbox_id: str) -> Sandbox:
        return await self._move(caller, sandbox_id, Event.STOP, _stop)

    async def start(self, caller: Caller, sandbox_id: str) -> Sandbox:
        return await self._move(caller, sandbox_id, Event.START, _start)

    async def set_timeout(self, caller: Caller, sandbox_id: str, timeout_s: int) -> Sandbox:
        async with (
            self._journal.operation(caller, "sandbox.set_timeout", sandbox_id) as operation,
            deadline("set_timeout"),
            self.turns(sandbox_id),
        ):
            operation.detail = str(timeout_s)[:32]
            old = await self._owned(caller, sandbox_id)
            now = self._clock.now()
            clocks.check_timeout(timeout_s, old.ran_until(now), self._clocks)
            return await self._commit(old, replace(old, timeout_s=timeout_s, timeout_from=now))

    async def set_network(
        self,
        caller: Caller,
        sandbox_id: str,
        policy: Policy | None,
        ingress: Mapping[str, Any] = {},  # Any: `core.ingress.changes`
    ) -> Sandbox:
        """Replaces the whole policy (None: it stays), of a paused sandbox too. What the new one forbids is cut when
        this returns. Of the ingress only what is named here changes."""
        async with (
            self._journal.operation(caller, "sandbox.set_network", sandbox_id) as operation,
            deadline("set_network"),
            self.turns(sandbox_id),
        ):
            operation.detail = summary(policy, ingress)
            old = await self._owned(caller, sandbox_id)
            if old.state not in (State.RUNNING, State.PAUSED):
                raise Conflict(f"the sandbox is {old.state.value}: only one that runs or is paused can be changed")
            new = replace(old, ingress=with_token(replace(old.ingress, **ingress), new_token()))
            if policy is None:
                return await self._commit(old, new)
            return await self._set_policy(self._placement.node(old.node_id), old, _with_policy(new, policy))

    async def refresh_token(self, caller: Caller, sandbox_id: str) -> Token:
        async with self._journal.operation(caller, "sandbox.refresh_token", sandbox_id):
            await self._owned(caller, sandbox_id)
            self._uses.touch(sandbox_id)
            return self._tokens.issue(sandbox_id)

    async def link(
        self, caller: Caller, sandbox_id: str, port: int | None, seconds: int, has_own_host: bool
    ) -> tuple[Token, int, Sandbox]:
        """A key for a browser, for one port (`core.ingress.link_port`) and a while."""
        async with self._journal.operation(caller, "sandbox.link", sandbox_id) as operation:
            check_link_seconds(seconds)
            found = await self._owned(caller, sandbox_id)
            port = link_port(found.ingress, port, has_own_host)
            operation.detail = f"port={port} seconds={seconds}"
            return self._tokens.link(sandbox_id, port, seconds), port, found

    async def owns(self, organization_id: int, sandbox_id: str) -> bool:
        found = await self._store.sandboxes.get(sandbox_id) if is_sandbox_id(sandbox_id) else None
        return found is not None and found.state is not State.DELETED and found.organization_id == organization_id

    def expires_at(self, sandbox: Sandbox) -> float | None:
        return clocks.expires_at(sandbox, self._uses.of(sandbox.id), self._clocks)

    # ---- happens by itself

    async def wake(self, sandbox_id: str) -> Sandbox:
        """Traffic has come for it. However many tell so at once, it is resumed once, and all wait for that; also when
        the first of them leaves."""
        task = self._waking.get(sandbox_id)
        if task is None:
            task = self._waking[sandbox_id] = asyncio.create_task(self._wake(sandbox_id))
            task.add_done_callback(lambda done: self._woken(sandbox_id, done))
        return await asyncio.shield(task)

    async def exited(self, sandbox_id: str, incarnation: int, reason: str) -> None:
        """The node noticed that PID 1 is gone."""
        async with self.turns(sandbox_id):
            old = await self._store.sandboxes.get(sandbox_id)
            if old is None or old.incarnation != incarnation or old.state is State.CREATING:
                return
            await self._observe(old, Event.EXITED, reason)

    async def observed(self, old: Sandbox, event: Event, incarnation: int) -> None:
        """The node says what it has; called with the sandbox's turn taken."""
        await self._observe(replace(old, incarnation=incarnation), event, "", expected=old)

    async def end(self, old: Sandbox, event: Event, reason: str = "") -> Sandbox:
        """From the first write on the sandbox is gone for everybody. What the node then fails to do is done later, by
        the reaper or at reconciliation."""
        node = self._placement.node(old.node_id)
        gone = await self._entomb(old, event, reason)
        await self._bury(node, gone)
        return gone

    async def bury_again(self, tombstone: Sandbox) -> None:
        await self._bury(self._placement.node(tombstone.node_id), tombstone)

    async def give_up(self, sandbox_id: str) -> None:
        """A create that could neither be finished nor be undone, since the store failed."""
        async with self.turns(sandbox_id):
            found = await self._store.sandboxes.get(sandbox_id)
            if found is not None and found.state is State.CREATING:
                node = self._placement.node(found.node_id)
                await self._bury(node, await self._entomb(found, Event.CREATE_FAILED, "cut off"))

    async def clear(self, node: Node, old: Sandbox, event: Event, reason: str) -> None:
        """At reconciliation, when `node` is not in use yet. What it was still busy making is destroyed after that."""
        await self._bury(node, await self._entomb(old, event, reason))

    async def vanish(self, old: Sandbox, event: Event, reason: str) -> None:
        """The node has nothing of it, and will not get anything."""
        await self._entomb(old, event, reason)
        await self._store.sandboxes.purge(old.id)

    async def enforce(self, node: Node, sandbox: Sandbox) -> None:
        """At reconciliation: the node has another policy than the row, so a change was cut off half-way."""
        async with self._journal.operation(ATOLL, "sandbox.set_network", sandbox.id) as operation:
            operation.detail = "restored"
            await node.set_network(sandbox.id, sandbox.incarnation, sandbox.policy_form)

    async def punished(self, sandbox_id: str, detail: str) -> None:
        """The node refuses its new connections for a while."""
        async with self._journal.operation(ATOLL, "sandbox.punish", sandbox_id) as operation:
            operation.detail = detail

    async def write_look(self, old: Sandbox) -> None:
        """After a look at the clocks: remembers the use seen, and when to look again."""
        use, now = self._uses.of(old.id), self._clock.now()
        seen = replace(old, last_activity_at=max(old.last_activity_at, use.last_call_at))
        await self._store.sandboxes.replace(
            old, replace(seen, check_at=clocks.next_check(seen, use, self._clocks, now))
        )

    # ---- steps

    async def _admit(self, caller: Caller, order: CreateOrder) -> tuple[Node, Sandbox]:
        if order.timeout_s is not None:
            clocks.check_timeout(order.timeout_s, 0.0, self._clocks)
        check_env(order.env)
        template = await self._templates.find(order.template)
        limits = sized(template.limits, order.size, template.min_size, template.max_size)
        node = self._placement.place(template.name, order.region)
        await self._room.check(node)
        return node, self._draft(caller, order, template, limits, node)

    def _draft(self, caller: Caller, order: CreateOrder, template: Template, limits: Limits, node: Node) -> Sandbox:
        now = self._clock.now()
        return Sandbox(
            id=new_sandbox_id(),
            incarnation=1,
            node_id=node.node_id,
            state=State.CREATING,
            organization_id=caller.principal.organization_id,
            key_id=caller.principal.key_id,
            template=template.name,
            template_digest=template.digest,
            workdir=template.workdir,
            python=template.python is not None,
            limits=limits,
            region=node.region,
            internet_access=order.policy.internet_access,
            network=given_form(order.policy, secrets=True),
            created_at=now,
            state_since=now,
            last_activity_at=now,
            timeout_s=order.timeout_s,
            timeout_from=now,
            agent_per_minute=caller.principal.rates.agent,
            inbound_auth=order.inbound_auth,
            ingress=with_token(order.ingress, new_token()),
            dialect=order.dialect,
            metadata=dict(order.metadata),
        )

    async def _bear(self, node: Node, sandbox: Sandbox, caller: Caller, order: CreateOrder, waits: Waits) -> Sandbox:
        await self._insert(sandbox, caller.principal.quota)
        try:
            socket = await node.create(_birth(sandbox, order))
            if not await waits():
                raise Conflict("the caller has left")
            born = moved(sandbox, step(sandbox.state, Event.CREATED), self._clock.now())
            return await self._commit(sandbox, replace(born, socket=socket))
        except BaseException:
            await asyncio.shield(self._undo(node, sandbox))
            raise

    async def _insert(self, sandbox: Sandbox, quota: Quota) -> None:
        if quota == UNLIMITED:  # nothing is counted for it
            await self._store.sandboxes.insert(sandbox)
        else:
            more = used_by(sandbox.limits)
            await self._store.sandboxes.insert_if(sandbox, lambda used: check_quota(quota, used, more))

    async def _set_policy(self, node: Node, old: Sandbox, new: Sandbox) -> Sandbox:
        try:
            await node.set_network(new.id, new.incarnation, new.policy_form)
            return await self._commit(old, new)
        except BaseException:
            await asyncio.shield(_restore_policy(node, old))
            raise

    async def _undo(self, node: Node, sandbox: Sandbox) -> None:
        """Of a create that failed nothing is left; or a tombstone or an unfinished row, which the reaper takes up."""
        try:
            current = await self._store.sandboxes.get(sandbox.id)
            if current is None:
                return
            event = Event.CREATE_FAILED if current.state is State.CREATING else Event.DELETE
            sandbox = await self._entomb(current, event, "create failed")
        except NotFound:
            return
        except Exception:  # the store's; what was made goes nevertheless
            log.exception("the row of %s is left for later", sandbox.id)
        await self._bury(node, sandbox)

    async def _move(self, caller: Caller, sandbox_id: str, event: Event, act: Act) -> Sandbox:
        async with self._journal.operation(caller, f"sandbox.{event.value}", sandbox_id), deadline(event.value):
            await self._check_made(caller, sandbox_id, event)
            async with self.turns(sandbox_id):
                return await self._take_turn(caller, sandbox_id, event, act)

    async def _check_made(self, caller: Caller, sandbox_id: str, event: Event) -> None:
        """Whoever finds one that is being created hears so at once, instead of waiting until it is there."""
        found = await self._owned(caller, sandbox_id)
        if found.state is State.CREATING:
            step(found.state, event)

    async def _take_turn(self, caller: Caller, sandbox_id: str, event: Event, act: Act) -> Sandbox:
        return await self._advance(await self._owned(caller, sandbox_id), event, act)

    async def _advance(self, old: Sandbox, event: Event, act: Act) -> Sandbox:
        state = step(old.state, event)
        if state is old.state:
            return old
        done = await act(self._placement.node(old.node_id), old)
        now = self._clock.now()
        return await self._commit(old, replace(moved(done, state, now), last_activity_at=now))

    async def _wake(self, sandbox_id: str) -> Sandbox:
        """What is refused leaves no row in the audit: whoever asks for a URL could write there."""
        found = await self._known(sandbox_id)
        if found.state is State.RUNNING:
            return found
        check_wakes(found)
        async with (
            self._journal.operation(ATOLL, "sandbox.resume", sandbox_id) as operation,
            deadline("resume"),
            self.turns(sandbox_id),
        ):
            operation.detail = "traffic"
            return await self._advance(await self._known(sandbox_id), Event.RESUME, _resume)

    def _woken(self, sandbox_id: str, done: asyncio.Task[Sandbox]) -> None:
        self._waking.pop(sandbox_id, None)
        if not done.cancelled():
            done.exception()  # seen, also when every caller has left

    async def _commit(self, old: Sandbox, new: Sandbox) -> Sandbox:
        use = self._uses.of(old.id)
        new = replace(new, check_at=clocks.next_check(new, use, self._clocks, self._clock.now()))
        if not await self._store.sandboxes.replace(old, new):
            await self._lost_race(new)
        await self._routes.publish(new)
        return new

    async def _lost_race(self, new: Sandbox) -> None:
        """A delete came first; what was just made or started must not outlive it."""
        current = await self._store.sandboxes.get(new.id)
        if current is not None and current.state is not State.DELETED:
            raise Conflict(f"the sandbox is {current.state.value} by now", state=current.state.value)
        await self._bury(self._placement.node(new.node_id), replace(new, state=State.DELETED))
        raise _no_such_sandbox(new.id)

    async def _observe(self, new: Sandbox, event: Event, reason: str, expected: Sandbox | None = None) -> None:
        expected = expected or new
        state = step(new.state, event)
        if state is expected.state and new.incarnation == expected.incarnation:
            return
        async with self._journal.operation(ATOLL, f"sandbox.{event.value}", new.id) as operation:
            operation.detail = reason or None
            await self._commit(expected, moved(new, state, self._clock.now(), reason))

    async def _entomb(self, old: Sandbox, event: Event, reason: str) -> Sandbox:
        """Wins over every other operation: tries again with whatever state it finds."""
        current: Sandbox | None = old
        while current is not None and (current is old or current.state is not State.DELETED):
            gone = moved(current, step(current.state, event), self._clock.now(), reason)
            if await self._store.sandboxes.replace(current, gone):
                await self._routes.publish(gone)
                self._uses.forget(gone.id)
                self._tokens.forget(gone.id)
                return gone
            current = await self._store.sandboxes.get(old.id)
            event = Event.DELETE
        raise _no_such_sandbox(old.id)

    async def _bury(self, node: Node, tombstone: Sandbox) -> None:
        """Never fails: the sandbox is gone for everybody already, and what is left of it has its tombstone."""
        try:
            async with deadline("destroy", UNDO_S):
                await node.destroy(tombstone.id, tombstone.incarnation)
            await self._store.sandboxes.purge(tombstone.id)
        except AtollError as error:
            log.warning("sandbox %s is destroyed later: %s", tombstone.id, error.message)
        except Exception:
            log.exception("sandbox %s is destroyed later", tombstone.id)

    async def _owned(self, caller: Caller, sandbox_id: str) -> Sandbox:
        found = await self._known(sandbox_id)
        if found.organization_id != caller.principal.organization_id:
            raise _no_such_sandbox(sandbox_id)
        return found

    async def _known(self, sandbox_id: str) -> Sandbox:
        found = await self._store.sandboxes.get(sandbox_id) if is_sandbox_id(sandbox_id) else None
        if found is None or found.state is State.DELETED:
            raise _no_such_sandbox(sandbox_id)
        return found


def check_wakes(sandbox: Sandbox) -> None:
    if sandbox.state is not State.PAUSED:
        raise Conflict(f"the sandbox is {sandbox.state.value}; traffic resumes only one that is paused")
    if not sandbox.ingress.auto_resume:
        raise Conflict("the sandbox is paused, and was created without auto_resume: resume it by the API")


def _no_such_sandbox(sandbox_id: str) -> NotFound:
    return NotFound(f"Sandbox '{sandbox_id[:64]}' not found", sandbox_id=sandbox_id[:64])


def _with_policy(sandbox: Sandbox, policy: Policy) -> Sandbox:
    return replace(sandbox, internet_access=policy.internet_access, network=given_form(policy, secrets=True))


def _birth(sandbox: Sandbox, order: CreateOrder | None = None) -> Birth:
    return Birth(
        id=sandbox.id,
        incarnation=sandbox.incarnation,
        template=sandbox.template,
        limits=sandbox.limits,
        env=order.env if order else {},
        internet_access=sandbox.internet_access,
        network=sandbox.network,
    )


async def _restore_policy(node: Node, sandbox: Sandbox) -> None:
    """When nobody answers, reconciliation finds the difference."""
    try:
        async with deadline("set_network", UNDO_S):
            await node.set_network(sandbox.id, sandbox.incarnation, sandbox.policy_form)
    except AtollError as error:
        log.warning("the policy of %s is restored when its node connects: %s", sandbox.id, error.message)


async def _pause(node: Node, sandbox: Sandbox) -> Sandbox:
    await node.pause(sandbox.id, sandbox.incarnation)
    return sandbox


async def _resume(node: Node, sandbox: Sandbox) -> Sandbox:
    await node.resume(sandbox.id, sandbox.incarnation)
    return sandbox


async def _stop(node: Node, sandbox: Sandbox) -> Sandbox:
    await node.stop(sandbox.id, sandbox.incarnation)
    return sandbox


async def _start(node: Node, sandbox: Sandbox) -> Sandbox:
    """A new life. The variables given at creation are the node's to keep: we have never stored them."""
    reborn = replace(sandbox, incarnation=sandbox.incarnation + 1)
    try:
        return replace(reborn, socket=await node.start(_birth(reborn)))
    except BaseException:
        await asyncio.shield(_stop_again(node, reborn))
        raise


async def _stop_again(node: Node, reborn: Sandbox) -> None:
    """When nobody answers, reconciliation takes up what runs."""
    with contextlib.suppress(AtollError):
        async with deadline("stop", UNDO_S):
            await node.stop(reborn.id, reborn.incarnation)
