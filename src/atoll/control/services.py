"""The control plane, put together. Nothing here starts by itself; `atoll.server` runs the loops."""

from __future__ import annotations

from dataclasses import dataclass

from atoll.core.ports import Clock, Node, Placement, Store
from atoll.core.settings import Clocks

from .egress_log import EgressLog
from .journal import Journal
from .keys import Keys
from .rates import RateLimiter
from .reaper import Reaper
from .reconcile import Reconciler
from .routes import Routes
from .sandboxes import Sandboxes
from .templates import Templates
from .tokens import TokenIssuer
from .uses import Uses


@dataclass(frozen=True)
class Services:
    store: Store
    clock: Clock
    placement: Placement
    keys: Keys
    rates: RateLimiter
    templates: Templates
    sandboxes: Sandboxes
    egress: EgressLog
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
    templates = Templates(placement, clock, journal)
    sandboxes = Sandboxes(
        store=store,
        placement=placement,
        clock=clock,
        limits=limits,
        templates=templates,
        journal=journal,
        routes=routes,
        tokens=TokenIssuer(token_key, clock),
        uses=uses,
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
        egress=EgressLog(store, placement, journal),
        routes=routes,
        uses=uses,
        reaper=reaper,
        reconciler=Reconciler(store, sandboxes),
    )
