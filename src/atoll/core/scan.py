"""Who tries many addresses, or many ports of one, within a short time: looking for what is open. Pure.

Memory is bounded: of a sandbox it is a scan before more is remembered than the two limits multiplied.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field

ADDRESSES, PORTS, WITHIN_S = 100, 50, 10.0
PUNISHED_S = 60
MAX_WATCHED = 20_000
"""Sandboxes; the one that was quiet for longest is forgotten."""


@dataclass
class _Seen:
    at: float
    ports: OrderedDict[int, float] = field(default_factory=OrderedDict)


class ScanDetector:
    def __init__(self, addresses: int = ADDRESSES, ports: int = PORTS, within_s: float = WITHIN_S) -> None:
        self._addresses, self._ports, self._within_s = addresses, ports, within_s
        self._watched: OrderedDict[str, OrderedDict[Hashable, _Seen]] = OrderedDict()

    def tried(self, sandbox_id: str, address: Hashable, port: int, now: float) -> str | None:
        """What it is, as the log says it, when this attempt makes it a scan; counting then begins anew."""
        seen = self._watched.setdefault(sandbox_id, OrderedDict())
        self._watched.move_to_end(sandbox_id)
        if len(self._watched) > MAX_WATCHED:
            self._watched.popitem(last=False)
        found = self._count(seen, address, port, now)
        if found is not None:
            del self._watched[sandbox_id]
        return found

    def forget(self, sandbox_id: str) -> None:
        self._watched.pop(sandbox_id, None)

    def _count(self, seen: OrderedDict[Hashable, _Seen], address: Hashable, port: int, now: float) -> str | None:
        here = seen.setdefault(address, _Seen(now))
        here.at = now
        here.ports[port] = now
        seen.move_to_end(address)
        here.ports.move_to_end(port)
        since = now - self._within_s
        while next(iter(seen.values())).at <= since:
            seen.popitem(last=False)
        while next(iter(here.ports.values())) <= since:
            here.ports.popitem(last=False)
        if len(seen) > self._addresses:
            return f"more than {self._addresses} addresses within {self._within_s:g} s"
        if len(here.ports) > self._ports:
            return f"more than {self._ports} ports of one address within {self._within_s:g} s"
        return None
