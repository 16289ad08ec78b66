"""The use cases of a sandbox's life.

Order of things, so that a process killed anywhere leaves nothing that reconciliation does not find:
- it is known here before the node is asked to make anything, has a row when it is there, and the row goes when the node
  has nothing left (until then it is a tombstone); what the node was making when we ended it undoes;
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
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from atoll.core import clocks
from atoll.core.audit import ATOLL, Caller
from atoll.core.errors import AtollError, Conflict, NotFound
from atoll.core.ids import is_sandbox_id, new_sandbox_id
from atoll.core.ingress import check_link_seconds, link_port, new_token, with_token
from atoll.core.lifecycle import EXECUTING, Event, State, step
from atoll.core.limits import Limits, sized
from atoll.core.metadata import check_metadata
from atoll.core.order import CreateOrder, check_env, check_machine, check_region_name
from atoll.core.policy import Policy, given_form
from atoll.core.ports import Admit, Clock, Node, Placement, SandboxFilter, Store
from atoll.core.quota import UNLIMITED, Quota, check_quota, used_by
from atoll.core.sandbox import OnTimeout, Sandbox, moved
from atoll.core.secrets import PLACEHOLDER_PREFIX, SecretUse, check_variables, new_placeholder
from atoll.core.settings import Clocks
from atoll.core.template import Template

from .acts import RESTS, Act, birth_of, pause, resume, stop, stop_again
from .capacity import Room
from .deadline import UNDO_S, deadline
from .held import Held
from .journal import Journal, Operation
from .network import summary
from .paging import DEFAULT_LIMIT, MAX_LIMIT, cursor_after, position
from .policies import Policies
from .routes import Routes
from .secret_values import SecretValues
from .templates import Templates
from .tokens import Token, TokenIssuer
from .turns import Turns
from .uses import Uses
from .volumes import Volumes

log = logging.getLogger(__name__)

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
        volumes: Volumes,
        values: SecretValues,
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
        self._volumes = volumes
        self._values = values
        self._room = Room(clock)
        self.turns = Turns()
        self.policies = Policies(store, placement, values, self.turns)
        self._waking: dict[str, asyncio.Task[Sandbox]] = {}

    # ---- asked for by a caller

    async def create(self, caller: Caller, order: CreateOrder, waits: Waits = always) -> tuple[Sandbox, Token]:
        async with self._journal.operation(caller, "sandbox.create") as operation, deadline("create"):
            node, sandbox = await self._admit(caller, order)
            operation.sandbox_id, operation.template = sandbox.id, sandbox.template
            async with self.turns(sandbox.id):
                sandbox = await self._bear(node, sandbox, operation, order, waits)
        return sandbox, self._tokens.issue(sandbox.id)

    async def list(
        self,
        caller: Caller,
        state: State | None = None,
        region: str | None = None,
        cursor: str | None = None,
        limit: int = DEFAULT_LIMIT,
        *,
        states: Collection[State] = (),
        metadata: Mapping[str, str] = {},
        template: str | None = None,
        created_after: float | None = None,
        oldest_first: bool = False,
    ) -> Page:
        """Newest first. `states`: any of these (empty: every one); `metadata`: all of these pairs."""
        async with self._journal.operation(caller, "sandbox.list"):
            where = SandboxFilter(
                caller.principal.organization_id,
                state,
                region,
                tuple(states),
                check_metadata(metadata),
                template,
                created_after,
            )
            after = position(cursor) if cursor else None
            if region is not None:
                check_region_name(region)
            limit = min(limit, MAX_LIMIT)
            found = await self._store.sandboxes.list(where, after, limit + 1, oldest_first)
            more = len(found) > limit
            return Page(found[:limit], cursor_after(found[limit - 1]) if more else None)

    async def get(self, caller: Caller, sandbox_id: str) -> Sandbox:
        async with self._journal.operation(caller, "sandbox.get", sandbox_id):
            return await self._owned(caller, sandbox_id)

    async def delete(self, caller: Caller, sandbox_id: str) -> Sandbox:
        async with self._journal.operation(caller, "sandbox.delete", sandbox_id):
            return await self.end(await self._owned(caller, sandbox_id), Event.DELETE)

    async def pause(self, caller: Caller, sandbox_id: str) -> Sandbox:
        return await self._move(caller, sandbox_id, Event.PAUSE, pause)

    async def resume(self, caller: Caller, sandbox_id: str) -> Sandbox:
        return await self._move(caller, sandbox_id, Event.RESUME, resume)

    async def rest(self, caller: Caller, sandbox_id: str, memory: bool) -> Sandbox:
        """Pauses it, or stops it where its memory is not to be kept. One that does not run is a Conflict."""
        event, act = RESTS[OnTimeout.PAUSE if memory else OnTimeout.STOP]
        return await self._move(caller, sandbox_id, event, act, only_from=State.RUNNING)

    async def connect(
        self,
        caller: Caller,
        sandbox_id: str,
        timeout_s: int,
        *,
        memory: bool = True,
        only_resting: bool = False,
        on_timeout: OnTimeout | None = None,
        policy: Policy | None = None,
        ingress: Mapping[str, Any] = {},  # Any: `core.ingress.changes`
    ) -> tuple[Sandbox, bool]:
        """It runs, and for at least `timeout_s` from now on; True when it did not before.

        Without `memory` one that is paused begins a new life on its disk. `only_resting`: one that runs is a Conflict.
        `policy` and `ingress` as in `set_network`: they hold before it goes on.
        """
        async with (
            self._journal.operation(caller, "sandbox.connect", sandbox_id) as operation,
            deadline("connect"),
        ):
            operation.detail = str(timeout_s)[:32]
            clocks.check_timeout(timeout_s, 0.0, self._clocks)
            await self._check_made(caller, sandbox_id, Event.RESUME)
            async with self.turns(sandbox_id):
                old = await self._renetworked(await self._owned(caller, sandbox_id), policy, ingress)
                if old.state is not State.RUNNING:
                    return await self._rouse(old, memory, timeout_s, on_timeout or old.on_timeout), True
                if only_resting:
                    raise _cannot(Event.RESUME, old)
                self._uses.touch(sandbox_id)
                if old.timeout_s is None:  # it has no end of that kind, which is longer than any
                    return old, False
                now = self._clock.now()
                seconds = clocks.longer(old, timeout_s, now)
                return await self._commit(old, replace(old, timeout_s=seconds, timeout_from=now), operation), False

    async def run_for(self, caller: Caller, sandbox_id: str, timeout_s: int, shorten: bool = True) -> Sandbox:
        """From now on. 0: its timeout is over, and what that means for it happens before this returns. One that does
        not run is a Conflict."""
        async with (
            self._journal.operation(caller, "sandbox.set_timeout", sandbox_id) as operation,
            deadline("set_timeout"),
            self.turns(sandbox_id),
        ):
            operation.detail = str(timeout_s)[:32]
            old = await self._owned(caller, sandbox_id)
            if old.state is not State.RUNNING:
                raise _cannot(Event.EXPIRE, old)
            now = self._clock.now()
            seconds = timeout_s if shorten else clocks.longer(old, timeout_s, now)
            if seconds == 0:
                return await self.expire(old, clocks.End.TIMEOUT)
            clocks.check_timeout(seconds, 0.0, self._clocks)
            return await self._commit(old, replace(old, timeout_s=seconds, timeout_from=now), operation)

    async def stop(self, caller: Caller, sandbox_id: str) -> Sandbox:
        return await self._move(caller, sandbox_id, Event.STOP, stop)

    async def start(self, caller: Caller, sandbox_id: str) -> Sandbox:
        return await self._move(caller, sandbox_id, Event.START, self._start)

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
            return await self._commit(old, replace(old, timeout_s=timeout_s, timeout_from=now), operation)

    async def set_network(
        self,
        caller: Caller,
        sandbox_id: str,
        policy: Policy | None,
        ingress: Mapping[str, Any] = {},  # Any: `core.ingress.changes`
        only_running: bool = False,
    ) -> Sandbox:
        """Replaces the whole policy (None: it stays), of a paused sandbox too unless `only_running`. What the new one
        forbids is cut when this returns. Of the ingress only what is named here changes."""
        async with (
            self._journal.operation(caller, "sandbox.set_network", sandbox_id) as operation,
            deadline("set_network"),
            self.turns(sandbox_id),
        ):
            operation.detail = summary(policy, ingress)
            old = await self._owned(caller, sandbox_id)
            if only_running and old.state is not State.RUNNING:
                raise Conflict(f"the sandbox is {old.state.value}", state=old.state.value, event="set_network")
            if old.state not in (State.RUNNING, State.PAUSED):
                raise Conflict(f"the sandbox is {old.state.value}: only one that runs or is paused can be changed")
            return await self._renetworked(old, policy, ingress)

    @contextlib.asynccontextmanager
    async def hold(self, caller: Caller, sandbox_id: str, name: str, detail: str) -> AsyncIterator[Held]:
        """One operation on a sandbox that is made, with its turn taken: written to the audit, and with a deadline."""
        async with (
            self._journal.operation(caller, f"sandbox.{name}", sandbox_id) as operation,
            deadline(name.replace("_", " ")),
        ):
            operation.detail = detail
            found = await self._owned(caller, sandbox_id)
            if found.state is State.CREATING:
                raise Conflict(
                    f"the sandbox is {found.state.value}: try again when it runs", state=found.state.value, event=name
                )
            async with self.turns(sandbox_id):
                found = await self._owned(caller, sandbox_id)
                yield Held(
                    found, self._placement.node(found.node_id), self._advanced, self._renetworked, self._commit_if
                )

    async def _advanced(self, old: Sandbox, event: Event, changes: Mapping[str, Any]) -> Sandbox:  # Any: `_advance`
        acts: dict[Event, Act] = {Event.STOP: stop, Event.START: self._start}
        return await self._advance(old, event, acts[event], **changes)

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

    async def check_owned(self, caller: Caller, sandbox_id: str) -> None:
        """Raises NotFound."""
        await self._owned(caller, sandbox_id)

    def access_token(self, sandbox: Sandbox) -> str:
        """`core.access`."""
        return self._tokens.access(sandbox.id)

    def placeholder(self, organization_id: int, secret: str) -> str:
        """What stands for a secret of that name in sandboxes that are made with `told_placeholders`."""
        return self._tokens.placeholder(organization_id, secret)

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

    async def expire(self, old: Sandbox, end: clocks.End) -> Sandbox:
        """One of its clocks has run out; called with the sandbox's turn taken."""
        if old.state is State.RUNNING and old.on_timeout in RESTS:
            event, act = RESTS[old.on_timeout]
            return await self._advance(old, event, act)
        return await self.end(old, Event.EXPIRE, end.value)

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
            await node.set_network(sandbox.id, sandbox.incarnation, await self._values.policy_form(sandbox))

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
        if order.idle_timeout_s is not None:
            clocks.check_idle_timeout(order.idle_timeout_s)
        check_metadata(order.metadata)
        check_variables(order.secrets, order.env)
        check_env({**order.env, **dict.fromkeys(order.secrets, PLACEHOLDER_PREFIX)})
        await self._values.check(caller.principal.organization_id, given_form(order.policy), order.secrets)
        template = await self._templates.find(order.template)
        limits = sized(template.limits, order.size, template.min_size, template.max_size)
        node = self._placement.place(template.name, order.region)
        check_machine(order.machine, node.node_id)
        await self._room.check(node)
        volumes = await self._volumes.mounts(caller, order.volumes)
        await self._volumes.check_node(node, volumes)
        return node, replace(self._draft(caller, order, template, limits, node), volumes=volumes)

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
            idle_timeout_s=order.idle_timeout_s,
            agent_per_minute=caller.principal.rates.agent,
            inbound_auth=order.inbound_auth,
            ingress=with_token(order.ingress, new_token()),
            dialect=order.dialect,
            on_timeout=order.on_timeout,
            metadata=dict(order.metadata),
            secrets=tuple(self._stand_in(caller, order, variable) for variable in order.secrets),
        )

    def _stand_in(self, caller: Caller, order: CreateOrder, variable: str) -> SecretUse:
        name = order.secrets[variable]
        if order.told_placeholders:
            return SecretUse(variable, name, self.placeholder(caller.principal.organization_id, name))
        return SecretUse(variable, name, new_placeholder())

    async def _bear(
        self, node: Node, sandbox: Sandbox, operation: Operation, order: CreateOrder, waits: Waits
    ) -> Sandbox:
        await self._store.sandboxes.begin(sandbox, _admission(operation.caller.principal.quota, sandbox))
        try:
            socket = await node.create(birth_of(sandbox, await self._values.network(sandbox), order))
            if not await waits():
                raise Conflict("the caller has left")
            born = moved(sandbox, step(sandbox.state, Event.CREATED), self._clock.now())
            return await self._commit(sandbox, replace(born, socket=socket), operation)
        except BaseException:
            await asyncio.shield(self._undo(node, sandbox))
            raise

    async def _renetworked(self, old: Sandbox, policy: Policy | None, ingress: Mapping[str, Any]) -> Sandbox:
        """Called with its turn taken. Of one that only has its disk the row alone changes: its start brings it."""
        if policy is None and not ingress:
            return old
        new = replace(old, ingress=with_token(replace(old.ingress, **ingress), new_token()))
        if policy is None:
            return await self._commit(old, new)
        new = _with_policy(new, policy)
        if old.state in (State.RUNNING, State.PAUSED):
            return await self._set_policy(self._placement.node(old.node_id), old, new)
        await self._values.check(new.organization_id, new.network, {})
        return await self._commit(old, new)

    async def _set_policy(self, node: Node, old: Sandbox, new: Sandbox) -> Sandbox:
        await self._values.check(new.organization_id, new.network, {})
        try:
            told = await self._values.policy_form(new)
            await node.set_network(new.id, new.incarnation, told)
            done = await self._commit(old, new)
        except BaseException:
            await asyncio.shield(self.policies.restore(node, old))
            raise
        if await self._values.policy_form(new) != told:  # a secret changed before the row said that it is used
            await self.policies.restore(node, done)
        return done

    async def _start(self, node: Node, sandbox: Sandbox) -> Sandbox:
        """A new life. The variables given at creation are the node's to keep: we have never stored them."""
        reborn = replace(sandbox, incarnation=sandbox.incarnation + 1)
        birth = birth_of(reborn, await self._values.network(reborn))
        try:
            return replace(reborn, socket=await node.start(birth))
        except BaseException:
            await asyncio.shield(stop_again(node, reborn))
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

    async def _move(
        self, caller: Caller, sandbox_id: str, event: Event, act: Act, only_from: State | None = None
    ) -> Sandbox:
        async with (
            self._journal.operation(caller, f"sandbox.{event.value}", sandbox_id) as operation,
            deadline(event.value),
        ):
            await self._check_made(caller, sandbox_id, event)
            async with self.turns(sandbox_id):
                old = await self._owned(caller, sandbox_id)
                if only_from not in (None, old.state):
                    raise _cannot(event, old)
                return await self._advance(old, event, act, operation)

    async def _rouse(self, old: Sandbox, memory: bool, timeout_s: int, on_timeout: OnTimeout) -> Sandbox:
        if old.state is State.PAUSED and not memory:
            old = await self._advance(old, Event.STOP, stop)
        event, act = (Event.RESUME, resume) if old.state is State.PAUSED else (Event.START, self._start)
        if old.timeout_s is None:  # as above
            return await self._advance(old, event, act)
        return await self._advance(old, event, act, timeout_s=timeout_s, on_timeout=on_timeout)

    async def _check_made(self, caller: Caller, sandbox_id: str, event: Event) -> None:
        """Whoever finds one that is being created hears so at once, instead of waiting until it is there. Called before
        its turn is taken; where nobody has that, nothing is being done."""
        if not self.turns(sandbox_id).locked():
            return
        found = await self._owned(caller, sandbox_id)
        if found.state is State.CREATING:
            step(found.state, event)

    async def _advance(
        self,
        old: Sandbox,
        event: Event,
        act: Act,
        operation: Operation | None = None,
        **changes: Any,  # Any: fields of a sandbox that change with its state
    ) -> Sandbox:
        state = step(old.state, event)
        if state is old.state:
            return old
        done = await act(self._placement.node(old.node_id), old)
        now = self._clock.now()
        if state in EXECUTING and (clocks.rests(old) or changes):
            changes["timeout_from"] = now
        return await self._commit(old, replace(moved(done, state, now), last_activity_at=now, **changes), operation)

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
            return await self._advance(await self._known(sandbox_id), Event.RESUME, resume, operation)

    def _woken(self, sandbox_id: str, done: asyncio.Task[Sandbox]) -> None:
        self._waking.pop(sandbox_id, None)
        if not done.cancelled():
            done.exception()  # seen, also when every caller has left

    async def _commit(
        self, old: Sandbox, new: Sandbox, operation: Operation | None = None, admit: Admit | None = None
    ) -> Sandbox:
        """`operation`: it has succeeded with this, and its entry in the audit is written together with it."""
        use = self._uses.of(old.id)
        new = replace(new, check_at=clocks.next_check(new, use, self._clocks, self._clock.now()))
        entry = operation.entry() if operation else None
        if not await self._store.sandboxes.replace(old, new, admit=admit, entry=entry):
            await self._lost_race(new)
        if operation:
            operation.written = entry
        await self._routes.publish(new)
        return new

    async def _commit_if(self, old: Sandbox, new: Sandbox, admit: Admit | None) -> Sandbox:
        return await self._commit(old, new, admit=admit)

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
            await self._commit(expected, moved(new, state, self._clock.now(), reason), operation)

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


def _admission(quota: Quota, sandbox: Sandbox) -> Admit | None:
    if quota == UNLIMITED:  # nothing is counted for it
        return None
    return lambda used: check_quota(quota, used, used_by(sandbox.limits))


def check_wakes(sandbox: Sandbox) -> None:
    if sandbox.state is not State.PAUSED:
        raise Conflict(f"the sandbox is {sandbox.state.value}; traffic resumes only one that is paused")
    if not sandbox.ingress.auto_resume:
        raise Conflict("the sandbox is paused, and was created without auto_resume: resume it by the API")


def _cannot(event: Event, sandbox: Sandbox) -> Conflict:
    state = sandbox.state.value
    return Conflict(f"cannot {event.value} a sandbox that is {state}", state=state, event=event.value)


def _no_such_sandbox(sandbox_id: str) -> NotFound:
    return NotFound(f"Sandbox '{sandbox_id[:64]}' not found", sandbox_id=sandbox_id[:64])


def _with_policy(sandbox: Sandbox, policy: Policy) -> Sandbox:
    return replace(sandbox, internet_access=policy.internet_access, network=given_form(policy, secrets=True))
