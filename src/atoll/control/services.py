"""The control plane, put together. Nothing here starts by itself; `atoll.server` runs the loops."""

from __future__ import annotations

from dataclasses import dataclass

from atoll.core.ports import Clock, Node, Placement, Store
from atoll.core.settings import Clocks

from .capacity import Room
from .egress_log import EgressLog
from .events import Events
from .history import History
from .idempotency import Idempotency
from .journal import Journal
from .keys import Keys
from .measures import Measures
from .memory import Memory
from .mounts import Mounts
from .quotas import Quotas
from .rates import RateLimiter
from .reaper import Reaper
from .reconcile import Reconciler
from .resets import Resets
from .routes import Routes
from .sandboxes import Sandboxes
from .secret_values import SecretValues
from .secrets import Secrets
from .templates import Templates
from .tokens import TokenIssuer
from .uses import Uses
from .volumes import Volumes


@dataclass(frozen=True)
class Services:
    store: Store
    clock: Clock
    placement: Placement
    keys: Keys
    rates: RateLimiter
    templates: Templates
    sandboxes: Sandboxes
    secrets: Secrets
    volumes: Volumes
    resets: Resets
    memory: Memory
    mounts: Mounts
    events: Events
    quotas: Quotas
    egress: EgressLog
    history: History
    idempotency: Idempotency
    measures: Measures
    routes: Routes
    uses: Uses
    reaper: Reaper
    reconciler: Reconciler

    async def load(self) -> None:
        """After a start: the edge gets routes at once, also while the node is still away."""
        self.routes.load(await self.store.sandboxes.executing_or_kept())
        await self.reaper.recompute()

    async def node_connected(self, node: Node) -> None:
        await self.reconciler.run(node)


def build(store: Store, placement: Placement, clock: Clock, token_key: bytes, limits: Clocks) -> Services:
    journal, routes, uses = Journal(store, clock), Routes(), Uses(clock)
    templates, tokens = Templates(placement, clock, journal), TokenIssuer(token_key, clock)
    volumes = Volumes(store, placement, clock, journal, tokens)
    values = SecretValues(store)
    sandboxes = Sandboxes(
        store=store,
        placement=placement,
        clock=clock,
        limits=limits,
        templates=templates,
        journal=journal,
        routes=routes,
        tokens=tokens,
        uses=uses,
        volumes=volumes,
        values=values,
    )
    reaper = Reaper(
        store=store,
        placement=placement,
        clock=clock,
        limits=limits,
        sandboxes=sandboxes,
        uses=uses,
        journal=journal,
    )
    return Services(
        store=store,
        clock=clock,
        placement=placement,
        keys=Keys(store, clock, journal),
        rates=RateLimiter(clock),
        templates=templates,
        sandboxes=sandboxes,
        secrets=Secrets(store, clock, journal, sandboxes.policies),
        volumes=volumes,
        resets=Resets(sandboxes, values, clock, limits),
        memory=Memory(store, sandboxes, templates, Room(clock)),
        mounts=Mounts(sandboxes, volumes),
        events=Events(store, clock, journal),
        quotas=Quotas(store, placement, journal, limits),
        egress=EgressLog(store, placement, journal),
        history=History(store, sandboxes, journal),
        idempotency=Idempotency(store, clock),
        measures=Measures(store, placement, clock, sandboxes, routes),
        routes=routes,
        uses=uses,
        reaper=reaper,
        reconciler=Reconciler(store, sandboxes, values),
    )
