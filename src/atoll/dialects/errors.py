"""One table: what each kind of error looks like in each dialect.

HopX's clients repeat a request that is answered with 429 or 5xx (the JS client: any 5xx), up to four times, so only
kinds that mean "nothing has happened, try again" are there. A capacity error is a 403 whose message says "limit": that
is how the Python client knows it. The surface that HopX serves inside sandboxes has kinds of its own, in
`edge/hopx/errors.py`.

E2B's clients go by the status; few of its errors have a code. What it calls by the cause of an error rather than by its
kind, and which answers may be repeated, is in `e2b/errors.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from atoll.core.errors import ErrorKind


class Dialect(StrEnum):
    HOPX = "hopx"
    E2B = "e2b"


@dataclass(frozen=True)
class Cell:
    status: int
    code: str


_K, _HOPX, _E2B = ErrorKind, Dialect.HOPX, Dialect.E2B

TABLE: dict[ErrorKind, dict[Dialect, Cell]] = {
    _K.INVALID_INPUT: {_HOPX: Cell(400, "INVALID_REQUEST"), _E2B: Cell(400, "")},
    _K.AUTHENTICATION_FAILED: {_HOPX: Cell(401, "AUTHENTICATION_REQUIRED"), _E2B: Cell(401, "")},
    _K.PERMISSION_DENIED: {_HOPX: Cell(403, "FORBIDDEN"), _E2B: Cell(403, "")},
    _K.NOT_FOUND: {_HOPX: Cell(404, "RESOURCE_NOT_FOUND"), _E2B: Cell(404, "")},
    _K.CONFLICT: {_HOPX: Cell(409, "CONFLICT"), _E2B: Cell(409, "")},
    _K.CAPACITY_EXCEEDED: {_HOPX: Cell(403, "RESOURCE_LIMIT_ERROR"), _E2B: Cell(429, "")},
    _K.RATE_LIMITED: {_HOPX: Cell(429, "RATE_LIMIT_EXCEEDED"), _E2B: Cell(429, "")},
    _K.UNAVAILABLE: {_HOPX: Cell(503, "SERVICE_UNAVAILABLE"), _E2B: Cell(503, "")},
    _K.UNSUPPORTED: {_HOPX: Cell(400, "NOT_SUPPORTED"), _E2B: Cell(501, "")},  # HopX's JS client repeats a 501
    _K.INTERNAL: {_HOPX: Cell(500, "INTERNAL_ERROR"), _E2B: Cell(500, "internal_server_error")},
}


def cell(kind: ErrorKind, dialect: Dialect) -> Cell:
    return TABLE[kind][dialect]
