"""When does a sandbox end by itself? A table of pure functions; times are Unix seconds.

| clock      | applies to                                    | end                                    | a limit of 0 |
|------------|-----------------------------------------------|----------------------------------------|--------------|
| timeout    | one that was given a timeout, in every state; | when it was set + `timeout_seconds`    | –            |
|            | by `on_timeout` only while it runs            |                                        |              |
| inactivity | a running one without a timeout, nothing open | last activity + 1 h                    | never        |
|            | and nothing started by a call running         |                                        |              |
| idle       | a running one that was given an idle timeout, | last activity + `idle_timeout_s` + 6 s | –            |
|            | nothing open                                  |                                        |              |
| max life   | a running one                                 | when it has run 24 h in all; where the | never        |
|            |                                               | timeout begins anew, since it began    |              |
| kept       | a paused, stopped or failed one               | entry into that state + 30 days        | never        |

- A timeout runs by the wall clock, also while the sandbox is paused or stopped: an `expires_at` that was told stays
  true until somebody sets another. Who wants to keep a paused sandbox longer sets a longer timeout.
- With another `on_timeout` than `delete` both clocks look at the present run alone: what rests is kept, and when it
  goes on its time begins anew.
- Max life counts running time only, so its end is unknown while the sandbox is paused.
- `expires_at` is the earliest end as things stand now; a call moves the ends of inactivity and of idleness on.
- The idle timeout asks for connections alone: what runs inside while nobody is connected does not put it off.
- Open connections are the edge's word. What runs inside is the sandbox's own word, so it can put off the inactivity
  end only: max life comes in any case.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from .errors import InvalidInput
from .lifecycle import EXECUTING, KEPT
from .sandbox import OnTimeout, Sandbox
from .settings import Clocks

MAX_TIMEOUT_S = 2**31 - 1
MIN_IDLE_TIMEOUT_S = 30
HEARD_WITHIN_S = 6.0
"""The edge tells what it sees every 5 s. Whoever has connected meanwhile must not lose the sandbox under his hands."""
LOOKS_PER_IDLE_PERIOD = 4
"""How often an idle sandbox is asked whether something runs in it, within one inactivity period: what has just
ended is then kept for at least 3/4 of the period, so its owner finds the results."""


@dataclass(frozen=True)
class Use:
    """What was seen of a sandbox's use since the row was written."""

    last_call_at: float = 0.0
    open: int = 0
    live: int = 0


UNUSED = Use()


class End(StrEnum):
    TIMEOUT = "timeout"
    IDLE = "idle"
    INACTIVITY = "inactivity"
    MAX_LIFE = "max_life"
    KEPT = "kept"


def _timeout(sandbox: Sandbox, use: Use, clocks: Clocks) -> float | None:
    if sandbox.timeout_s is None or (rests(sandbox) and sandbox.state not in EXECUTING):
        return None
    return sandbox.timeout_from + sandbox.timeout_s


def _inactivity(sandbox: Sandbox, use: Use, clocks: Clocks) -> float | None:
    if not clocks.inactivity_s or sandbox.timeout_s is not None or sandbox.state not in EXECUTING:
        return None
    return None if use.open or use.live else idle_since(sandbox, use) + clocks.inactivity_s


def _idle(sandbox: Sandbox, use: Use, clocks: Clocks) -> float | None:
    if sandbox.idle_timeout_s is None or sandbox.state not in EXECUTING or use.open:
        return None
    return idle_since(sandbox, use) + sandbox.idle_timeout_s + HEARD_WITHIN_S


def _max_life(sandbox: Sandbox, use: Use, clocks: Clocks) -> float | None:
    if not clocks.max_life_s or sandbox.state not in EXECUTING:
        return None
    return sandbox.state_since + clocks.max_life_s - (0.0 if rests(sandbox) else sandbox.ran_s)


def _kept(sandbox: Sandbox, use: Use, clocks: Clocks) -> float | None:
    return sandbox.state_since + clocks.keep_stopped_s if clocks.keep_stopped_s and sandbox.state in KEPT else None


def rests(sandbox: Sandbox) -> bool:
    """Whether its clocks stand still while it does not run, and begin anew when it goes on."""
    return sandbox.on_timeout is not OnTimeout.DELETE


ENDS: dict[End, Callable[[Sandbox, Use, Clocks], float | None]] = {
    End.TIMEOUT: _timeout,
    End.IDLE: _idle,
    End.INACTIVITY: _inactivity,
    End.MAX_LIFE: _max_life,
    End.KEPT: _kept,
}


def ends(sandbox: Sandbox, use: Use, clocks: Clocks) -> dict[End, float]:
    known = {end: rule(sandbox, use, clocks) for end, rule in ENDS.items()}
    return {end: at for end, at in known.items() if at is not None}


def expires_at(sandbox: Sandbox, use: Use, clocks: Clocks) -> float | None:
    return min(ends(sandbox, use, clocks).values(), default=None)


def due(sandbox: Sandbox, use: Use, clocks: Clocks, now: float) -> End | None:
    """The clock that has run out first, or None."""
    over = {end: at for end, at in ends(sandbox, use, clocks).items() if at <= now}
    return min(over, key=over.__getitem__, default=None)


def idle_since(sandbox: Sandbox, use: Use) -> float:
    return max(sandbox.last_activity_at, use.last_call_at)


def next_check(sandbox: Sandbox, use: Use, clocks: Clocks, now: float) -> float | None:
    """When to look at this sandbox again. Never later than its end, whatever is open or runs at present."""
    times = list(ends(sandbox, use, clocks).values())
    if _inactivity(sandbox, UNUSED, clocks) is not None:
        times.append(now + clocks.inactivity_s / LOOKS_PER_IDLE_PERIOD)
    if sandbox.idle_timeout_s is not None and sandbox.state in EXECUTING:
        times.append(now + sandbox.idle_timeout_s)
    return min(times, default=None)


def longer(sandbox: Sandbox, timeout_s: int, now: float) -> int:
    """The timeout from now on that ends no earlier than the one in force."""
    left_s = 0 if sandbox.timeout_s is None else math.ceil(sandbox.timeout_from + sandbox.timeout_s - now)
    return max(timeout_s, left_s)


def check_idle_timeout(idle_timeout_s: int) -> None:
    if not MIN_IDLE_TIMEOUT_S <= idle_timeout_s <= MAX_TIMEOUT_S:
        raise InvalidInput(
            f"an idle timeout is {MIN_IDLE_TIMEOUT_S} to {MAX_TIMEOUT_S} seconds", field="idle_timeout_seconds"
        )


def check_timeout(timeout_s: int, ran_s: float, clocks: Clocks) -> None:
    """Refuses a timeout that ends after the maximum life would. What is left of it counts in whole minutes begun, so
    that asking for the whole life right after the birth is not refused for the seconds in between."""
    if not 0 < timeout_s <= MAX_TIMEOUT_S:
        raise InvalidInput(f"timeout_seconds must be a whole number from 1 to {MAX_TIMEOUT_S}", field="timeout_seconds")
    if not clocks.max_life_s:
        return
    left_s = max(0, math.ceil((clocks.max_life_s - ran_s) / 60) * 60) if ran_s else clocks.max_life_s
    if timeout_s > left_s:
        raise InvalidInput(
            f"timeout_seconds is beyond the maximum life of a sandbox: {left_s} s are left",
            field="timeout_seconds",
            maximum=left_s,
        )
