"""One call of the API as data, and its answer; and the rules by which a call is repeated.

`exchange` is a generator: it says what to do next and is told what came of it, so that the sync and the async client
differ in nothing but how they send and how they sleep.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from atoll import __version__

from .errors import AGENT, AtollError, AuthenticationError, NetworkError, Row, ServerError, error_of, retry_after_s
from .read import Json, mapping

USER_AGENT = f"atoll-python/{__version__}"
PIECE = 256 * 1024
"""Of a file on its way."""


class Repeat(Enum):
    """What a call may be repeated after."""

    ALWAYS = "always"
    """It reads, or doing it twice is as good as once."""
    REFUSED = "refused"
    """Only what says that nothing was done: a 429 or 503 of the control plane, or no connection at all."""
    NEVER = "never"
    """It runs somebody's program."""


@dataclass(frozen=True)
class Request:
    """`path` is below the base URL; a body is `json` or `content`."""

    method: str
    path: str
    params: tuple[tuple[str, str], ...] = ()
    json: Any = None  # Any: JSON values
    content: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    timeout: float | None = None
    """Seconds without an answer or a byte of it; None: the client's."""
    repeat: Repeat = Repeat.ALWAYS

    def body(self) -> bytes | None:
        return self.content if self.json is None else json.dumps(self.json, separators=(",", ":")).encode()


@dataclass(frozen=True)
class Answer:
    """The head of an answer, and its body when that was read."""

    status: int
    headers: Mapping[str, str]
    """Lower-case names."""
    body: bytes = b""

    def json(self) -> Json:
        """Raises ServerError when the body is no JSON object."""
        try:
            value = json.loads(self.body)
        except (ValueError, RecursionError) as error:
            raise self._strange() from error
        if not isinstance(value, dict):
            raise self._strange()
        return value

    def _strange(self) -> ServerError:
        return ServerError(
            "The server's answer is not what Atoll answers; is the base URL right?",
            status_code=self.status,
            request_id=self.headers.get("x-request-id"),
        )


@dataclass(frozen=True)
class Failure:
    """No answer. `sent` is False when not a byte of the request can have arrived."""

    error: NetworkError
    sent: bool
    timed_out: bool = False


Outcome = Answer | Failure


# ---- what is repeated


@dataclass(frozen=True)
class Patience:
    """How often and how long. Seconds."""

    retries: int = 3
    first_wait: float = 0.2
    longest_wait: float = 8.0
    longest_asked: float = 60.0
    """A server that asks for more than this is not waited for."""


BUSY = frozenset((429, 503))
PASSING = frozenset((429, 502, 503, 504))
REPEATED: dict[Repeat, tuple[frozenset[int], bool, bool]] = {
    Repeat.ALWAYS: (PASSING, True, True),
    Repeat.REFUSED: (BUSY, True, False),
    Repeat.NEVER: (frozenset(), False, False),
}
"""Statuses; whether no connection; whether a connection that broke. What ran out of time is never repeated."""


def is_repeated(repeat: Repeat, outcome: Outcome) -> bool:
    statuses, unconnected, broken = REPEATED[repeat]
    if isinstance(outcome, Answer):
        return outcome.status in statuses
    return not outcome.timed_out and (broken if outcome.sent else unconnected)


def wait_before(number: int, outcome: Outcome, patience: Patience, chance: float) -> float | None:
    """Seconds before retry `number` (from 0); None: no more. `chance` is from 0 to 1."""
    if number >= patience.retries:
        return None
    asked = retry_after_s(outcome.headers, _details(outcome)) if isinstance(outcome, Answer) else None
    if asked is not None:
        return asked + chance * patience.first_wait if asked <= patience.longest_asked else None
    longest: float = min(patience.longest_wait, patience.first_wait * 2**number)
    return longest * (0.5 + chance / 2)


def _details(answer: Answer) -> Json:
    try:
        content = mapping(json.loads(answer.body))
    except (ValueError, RecursionError):
        return {}
    return mapping(content.get("details")) or mapping(mapping(content.get("error")).get("details"))


# ---- a call, with its repetitions


@dataclass(frozen=True)
class Send:
    request: Request


@dataclass(frozen=True)
class Wait:
    seconds: float


Exchange = Generator[Send | Wait, Outcome | None, Answer]


def exchange(request: Request, table: tuple[Row, ...], patience: Patience, chance: Callable[[], float]) -> Exchange:
    """Ends with a success; raises the error that the last outcome is. Redirections are errors: nobody is followed."""
    number, lost = 0, False
    while True:
        outcome = yield Send(request)
        assert outcome is not None
        if isinstance(outcome, Answer) and (outcome.status < 300 or (lost and _is_gone(request, outcome))):
            return outcome
        wait = wait_before(number, outcome, patience, chance()) if is_repeated(request.repeat, outcome) else None
        if wait is None:
            raise to_error(outcome, table)
        number += 1
        lost = lost or _may_be_done(outcome)
        yield Wait(wait)


def _may_be_done(outcome: Outcome) -> bool:
    return outcome.sent if isinstance(outcome, Failure) else outcome.status in (502, 504)


def _is_gone(request: Request, answer: Answer) -> bool:
    """Of a deletion whose answer was lost, the next one finds nothing."""
    return request.method == "DELETE" and answer.status == 404


def to_error(outcome: Outcome, table: tuple[Row, ...]) -> AtollError:
    if isinstance(outcome, Failure):
        return outcome.error
    return error_of(table, outcome.status, outcome.headers, outcome.body)


def wants_new_token(error: AtollError, table: tuple[Row, ...]) -> bool:
    """The sandbox's token is refused before anything is done, so any call may be sent again with a new one."""
    return table is AGENT and isinstance(error, AuthenticationError)
