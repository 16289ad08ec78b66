from __future__ import annotations

from dataclasses import dataclass

from .keys import SYSTEM, Principal


@dataclass(frozen=True)
class Caller:
    """Who asks, in which request, from where."""

    principal: Principal
    request_id: str | None = None
    source: str | None = None


ATOLL = Caller(SYSTEM)


@dataclass(frozen=True)
class AuditEntry:
    """One control-plane operation: who asked what, from where, and how it ended."""

    at: float
    key_id: str
    operation: str
    outcome: str
    """`ok`, or the error's kind."""
    sandbox_id: str | None = None
    request_id: str | None = None
    source: str | None = None
    detail: str | None = None
    template: str | None = None
    """Of a create: what the sandbox is made from."""
